"""Random forest, support vector machine and nearest neighbours, as scikit-learn has them.

Each is a function from training rows (float32 [n, *features], classes int64 [n]) and test rows ([m, *features]) to the
classes predicted, int64 [m]; shapes that do not fit are an `InputError`. Features are taken as they come: distances
depend on their scale, so `nearest_neighbours` and `svm` want them standardised, as `gadam.datasets.load` gives them.
Images are taken as one row of pixels each.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gadam.config import InputError


def random_forest(inputs: Tensor, targets: Tensor, test_inputs: Tensor, *, trees: int, seed: int) -> Tensor:
    """Predict by a random forest with scikit-learn's defaults but for the number of trees, at least 1."""
    from sklearn.ensemble import RandomForestClassifier

    if trees < 1:
        raise InputError(f"random_forest: trees={trees} must be at least 1")
    return _predict(RandomForestClassifier(trees, random_state=seed), inputs, targets, test_inputs)


def svm(inputs: Tensor, targets: Tensor, test_inputs: Tensor) -> Tensor:
    """Predict by a support vector machine with a Gaussian kernel and scikit-learn's defaults (C = 1, gamma "scale")."""
    from sklearn.svm import SVC

    return _predict(SVC(kernel="rbf", cache_size=1_000), inputs, targets, test_inputs)


def nearest_neighbours(inputs: Tensor, targets: Tensor, test_inputs: Tensor, *, neighbours: int = 3) -> Tensor:
    """Predict the class of most of the `neighbours` (1 to n) nearest training rows, by Euclidean distance."""
    from sklearn.neighbors import KNeighborsClassifier

    if not 1 <= neighbours <= len(inputs):
        raise InputError(f"nearest_neighbours: neighbours={neighbours} must be from 1 to the {len(inputs)} rows")
    return _predict(KNeighborsClassifier(neighbours), inputs, targets, test_inputs)


def _predict(model: Any, inputs: Tensor, targets: Tensor, test_inputs: Tensor) -> Tensor:
    check_shapes(type(model).__name__, inputs, targets, test_inputs)
    model.fit(inputs.flatten(1).numpy(), targets.numpy())
    return torch.from_numpy(model.predict(test_inputs.flatten(1).numpy()))


def check_shapes(name: str, inputs: Tensor, targets: Tensor, test_inputs: Tensor) -> None:
    """Refuse rows, targets and test rows that do not belong together."""
    if len(inputs) != len(targets) or inputs.shape[1:] != test_inputs.shape[1:] or inputs.ndim < 2:
        shapes = f"{list(inputs.shape)}, {list(targets.shape)} and {list(test_inputs.shape)}"
        raise InputError(f"{name}: inputs, targets and test_inputs have shapes {shapes}, which do not fit")
