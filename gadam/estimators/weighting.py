"""Rows of a table with weights: what they weigh, repeat, and hold out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Rows:
    """Rows that count, in an order that depends on nothing but what they hold.

    Attributes:
        X: [n, features].
        targets: [n] or [n, outputs].
        weights: [n], what their losses are multiplied by; None where that is the same for all.
        times: int [n], how often each is there.
    """

    X: np.ndarray
    targets: np.ndarray
    weights: np.ndarray | None
    times: np.ndarray

    def repeated(self, index: np.ndarray) -> np.ndarray:
        """Each row of the index as often as it is there."""
        return np.repeat(index, self.times[index])


def prepared(X: np.ndarray, targets: np.ndarray, weights: np.ndarray, factors: np.ndarray | float = 1.0) -> Rows:  # noqa: N803
    """The rows that weigh something.

    Whole weights, but for a factor that all of them have, say how often a row is there, so that repeated rows are the
    same training, to the last bit; factors never do.
    """
    if not (weights * factors).any():
        raise InputError("sample_weight, class_weight: every row weighs 0, at least one must weigh more")
    times = _repeats(weights)
    whole = times is not None
    times = (weights > 0).astype(int) if times is None else times
    weights = factors * (np.ones_like(weights) if whole else weights)
    content = np.ascontiguousarray(np.column_stack([X, targets, weights]), np.float64)
    bytewise = content.view(np.void(content.shape[1] * content.itemsize).dtype).ravel()
    index = np.flatnonzero(times * (weights > 0))
    index = index[np.argsort(bytewise[index], kind="stable")]
    chosen = weights[index]
    return Rows(X[index], targets[index], None if (chosen == chosen[0]).all() else chosen, times[index])


def _repeats(weights: np.ndarray) -> np.ndarray | None:
    """How often each row is there, int [n], if the weights are whole numbers that say so."""
    if (weights != weights.round()).any() or weights.max() >= 2**53:
        return None
    times = weights.astype(np.int64)
    times //= np.gcd.reduce(times)
    return times if times.sum() <= _REPEATED * len(times) else None


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
