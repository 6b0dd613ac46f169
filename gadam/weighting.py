"""Rows of a table with weights, as `gadam.estimators` trains on them: what they weigh, repeat, and hold out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.utils.validation import _check_sample_weight
from torch import Tensor, nn

from gadam.config import InputError

_REPEATED = 10  # whole weights repeat rows while there are at most so many times as many


def weighted(loss: Callable[..., Tensor], output: Tensor, targets: Tensor) -> Tensor:
    """The weighted mean of a loss: the last column of the targets is the weight of each row, with a mean of 1."""
    wanted, weights = targets[:, :-1], targets[:, -1]
    if loss is nn.functional.cross_entropy:
        wanted = wanted[:, 0].long()
    each = loss(output, wanted, reduction="none")
    return (each.flatten(1).mean(1) * weights if each.dim() > 1 else each * weights).mean()


def row_weights(sample_weight: Any, X: np.ndarray) -> np.ndarray:  # noqa: N803
    """What each row weighs, [n_samples], 1 unless told otherwise; a ValueError says what is not a weight."""
    weights: np.ndarray = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    return weights


def prepared(
    X: np.ndarray,  # noqa: N803
    targets: np.ndarray,
    weights: np.ndarray,
    factors: np.ndarray | float = 1.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Rows that count, in an order that depends on nothing but what they hold; and what their losses are multiplied by.

    Whole weights become repeated rows, so that both are the same training, to the last bit; factors never do. What is
    the same for all rows is no weight: None.
    """
    if not (weights * factors).any():
        raise InputError("sample_weight, class_weight: every row weighs 0, at least one must weigh more")
    whole = (weights == weights.round()).all() and weights.sum() <= _REPEATED * len(weights)
    times = weights.astype(int) if whole else weights > 0
    index = np.repeat(np.arange(len(weights)), np.where(factors == 0, 0, times))
    weights = factors * (np.ones_like(weights) if whole else weights)
    content = np.ascontiguousarray(np.column_stack([X, targets, weights]), np.float64)
    bytewise = content.view(np.void(content.shape[1] * content.itemsize).dtype).ravel()
    index = index[np.argsort(bytewise[index], kind="stable")]
    chosen = weights[index]
    return X[index], targets[index], None if (chosen == chosen[0]).all() else chosen


def split(
    targets: np.ndarray, fraction: float | None, random: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray | None]:
    """Rows to train on, and rows held out: evenly in the order of the targets, so each class has about its share."""
    total = len(targets)
    fraction = 0 if fraction is None else fraction
    if isinstance(fraction, bool) or not isinstance(fraction, int | float | np.number) or not 0 <= fraction < 1:
        raise InputError(f"validation_fraction={fraction!r} is not allowed; give a number in [0, 1), or None")
    if fraction == 0:
        return np.arange(total), None
    if total < 2:
        raise InputError(
            f"validation_fraction={fraction!r} needs rows to train on too; there is n_samples=1, give None"
        )
    count = min(max(1, round(fraction * total)), total - 1)
    order = np.lexsort((random.random_sample(total), targets.reshape(total, -1)[:, 0]))
    held = np.zeros(total, dtype=bool)
    held[order[((np.arange(count) + random.random_sample()) * total / count).astype(int)]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)
