"""Scaling and encoding: everything is fitted on the training part alone, then applied to both parts."""

from __future__ import annotations

import pandas as pd
import torch
from sklearn.compose import ColumnTransformer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from gadam.datasets.tables import Format


def encode_images(train: torch.Tensor, test: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Standardise images by the scalar mean and standard deviation of all training pixels, after division by 255.

    Args:
        train: uint8 [n, height, width].
        test: uint8 [m, height, width].

    Returns:
        float32 [n, 1, height, width] and [m, 1, height, width]; all 0 for training images of a single colour.
    """
    counts = torch.bincount(train.flatten(), minlength=256).double()  # exact, and without a float copy of the images
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = (counts @ values / counts.sum()).item()
    deviation = (counts @ (values - mean) ** 2 / counts.sum()).sqrt().item() or 1.0
    return _standardised(train, mean, deviation), _standardised(test, mean, deviation)


def _standardised(images: torch.Tensor, mean: float, deviation: float) -> torch.Tensor:
    return images.unsqueeze(1).float().div_(255).sub_(mean).div_(deviation)


def encode_table(train: pd.DataFrame, test: pd.DataFrame, form: Format) -> tuple[torch.Tensor, torch.Tensor]:
    """Standardise numeric columns and write categorical ones one-hot, the numeric first.

    Args:
        train: n rows.
        test: m rows; a category that `train` lacks is all zeros.
        form: which columns are numeric and which categorical.

    Returns:
        float32 [n, features] and [m, features]; a column that is constant in `train` is 0 there.
    """
    encoder = ColumnTransformer(
        [
            ("numeric", StandardScaler(), list(form.numeric)),
            ("categorical", OneHotEncoder(handle_unknown="ignore", sparse_output=False), list(form.categorical)),
        ]
    )
    encoder.fit(train)
    encoded = [torch.from_numpy(encoder.transform(part)).float() for part in (train, test)]
    return encoded[0], encoded[1]
