"""Training and test rows (Sections 5.1 and 5.4), encoded; all scales and categories are those of the training rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import torch

from gadam.datasets.parsers import CATEGORICAL, read_face, read_idx, read_table
from gadam.datasets.registry import source

Part: TypeAlias = tuple[torch.Tensor, torch.Tensor]
"""Inputs float32 [n, *features] and targets int64 [n]."""
Raw: TypeAlias = tuple[Any, torch.Tensor]
"""Images uint8 [n, height, width] or a frame of n rows, and targets int64 [n]."""

IMAGES_PER_PERSON = 10  # ORL
YEAST_TRAIN, LETTER_TRAIN = 1_038, 16_000  # the gcForest paper's protocol (arXiv 1702.08835), whose numbers Table 4 has


def split(
    name: str, contents: Mapping[str, bytes], *, seed: int, images_per_person: int, standardise: bool
) -> tuple[Part, Part]:
    """Parse, split and encode the contents of the files of a dataset: its training and its test part.

    `seed` draws the rows of YEAST and the `images_per_person` (1 to 9) for training in ORL.
    """
    random = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
    if name == "mnist":
        parts = _mnist(contents)
    elif name == "orl":
        parts = _orl(contents, images_per_person, random)
    else:
        parts = _table(name, contents, random)
    (train, targets), (test, test_targets) = parts
    inputs = (encode_images if name in ("mnist", "orl") else encode_table)(train, test, standardise)
    return (inputs[0], targets), (inputs[1], test_targets)


def _mnist(contents: Mapping[str, bytes]) -> list[Raw]:
    images, labels = (
        [read_idx(contents[f"{part}-{kind}-ubyte"], size, f"{part}-{kind}-ubyte") for part in ("train", "t10k")]
        for kind, size in (("images-idx3", 3), ("labels-idx1", 1))
    )
    return [(some, targets.long()) for some, targets in zip(images, labels, strict=True)]


def _orl(contents: Mapping[str, bytes], images_per_person: int, random: np.random.Generator) -> list[Raw]:
    faces = torch.from_numpy(np.stack([read_face(contents[file], file) for file in source("orl").files]))
    targets = torch.arange(len(source("orl").classes)).repeat_interleave(IMAGES_PER_PERSON)
    people = np.arange(len(faces)).reshape(-1, IMAGES_PER_PERSON)
    shuffled = torch.from_numpy(random.permuted(people, axis=1))
    parts = shuffled[:, :images_per_person].flatten(), shuffled[:, images_per_person:].flatten()
    return [(faces[part], targets[part]) for part in parts]


def _table(name: str, contents: Mapping[str, bytes], random: np.random.Generator) -> list[Raw]:
    tables = [read_table(name, contents[file], file) for file in source(name).files]
    if name != "adult":
        features, targets = tables[0]
        train = YEAST_TRAIN if name == "yeast" else LETTER_TRAIN
        rows = random.permutation(len(targets)) if name == "yeast" else np.arange(len(targets))
        tables = [(features.iloc[part], targets[part]) for part in (rows[:train], rows[train:])]
    return [(features, torch.from_numpy(targets)) for features, targets in tables]


def encode_images(train: torch.Tensor, test: torch.Tensor, standardise: bool = True) -> list[torch.Tensor]:
    """Standardise images by the scalar mean and standard deviation of all training pixels, after division by 255.

    uint8 [n, height, width] becomes float32 [n, 1, height, width]; all 0 if training has a single colour.
    """
    if not standardise:
        return [part.unsqueeze(1).float() / 255 for part in (train, test)]
    counts = torch.bincount(train.flatten(), minlength=256).double()  # exact, and without a float copy of the images
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = (counts @ values / counts.sum()).item()
    deviation = (counts @ (values - mean) ** 2 / counts.sum()).sqrt().item() or 1.0
    return [part.unsqueeze(1).float().div_(255).sub_(mean).div_(deviation) for part in (train, test)]


def encode_table(train: pd.DataFrame, test: pd.DataFrame, standardise: bool) -> list[torch.Tensor]:
    """Standardise numeric columns and write categorical ones one-hot: float32 [n, features], the numeric first.

    A column that is constant in `train` is 0 there; a category that `train` lacks is all zeros.
    """
    from sklearn.compose import ColumnTransformer  # here, for it takes a second, and not every dataset is a table
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    categorical = [column for column in train if column in CATEGORICAL]
    numeric = [column for column in train if column not in CATEGORICAL]
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    scaler = StandardScaler() if standardise else "passthrough"
    encoder = ColumnTransformer([("numeric", scaler, numeric), ("categorical", one_hot, categorical)])
    encoder.fit(train)
    return [torch.from_numpy(encoder.transform(part)).float() for part in (train, test)]
