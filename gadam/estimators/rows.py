"""Rows of a table with weights: which count, how often, and which are held out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils.validation import _check_sample_weight
from torch import Tensor, nn

from gadam.config import InputError

REPEATED = 10
"""Whole weights repeat rows, unless that gives over so many times as many: then they multiply losses."""


@dataclass(frozen=True)
class WeightedRows:
    """Rows that weigh something, in an order that depends only on their contents.

    Whole weights say how often a row is there, so that scikit-learn's rule holds to the last bit: a weight of 2 is the
    row twice. Any other weights multiply the losses of the rows.

    Attributes:
        X: [n, features].
        targets: [n] or [n, outputs].
        times: int [n], how often each is there.
        weights: [n], what the losses are multiplied by; None where that is the same for all.
    """

    X: np.ndarray
    targets: np.ndarray
    times: np.ndarray
    weights: np.ndarray | None

    @classmethod
    def weigh(cls, X: np.ndarray, targets: np.ndarray, sample_weight: Any, factors: Any = 1.0) -> WeightedRows:  # noqa: N803
        """Weigh rows by `sample_weight`, [n] or None, and by factors of their losses, which repeat nothing."""
        weights: np.ndarray = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        if not (weights * factors).any():
            raise InputError("sample_weight, class_weight: every row weighs 0, at least one must weigh more")
        times = (weights > 0).astype(int)
        if (weights == weights.round()).all() and weights.max() < 2**53:
            whole = weights // np.gcd.reduce(weights.astype(int))
            if whole.sum() <= REPEATED * times.sum():
                times, weights = whole.astype(int), np.ones(len(whole))
        weights = weights * factors
        contents = np.ascontiguousarray(np.column_stack([X, targets, weights]), np.float64)
        bytewise = contents.view(np.void(contents.shape[1] * contents.itemsize).dtype).ravel()
        index = np.flatnonzero(times * weights)
        _, firsts, places = np.unique(bytewise[index], return_index=True, return_inverse=True)
        times = np.bincount(places.ravel(), times[index]).astype(int)  # rows that are equal are one, several times
        index = index[firsts]
        chosen = weights[index]
        return cls(X[index], targets[index], times, None if (chosen == chosen[0]).all() else chosen)

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Return inputs and targets, each row as often as it is there; for `Weighted`, weights of mean 1."""
        every = self.every()
        targets = torch.from_numpy(self.targets[every])
        if self.weights is not None:
            weights = self.weights[every] / self.weights[every].mean()
            targets = torch.column_stack([targets.float(), torch.from_numpy(weights).float()])
        return torch.from_numpy(self.X[every]), targets

    def every(self) -> np.ndarray:
        """Return the number of each row, as often as it is there."""
        return np.arange(len(self.X)).repeat(self.times)

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the weighted mean and deviation of each target, [outputs] each; a deviation of 0 becomes 1."""
        every = self.every()  # so that the last bits are those of repeated rows too
        weights = None if self.weights is None else self.weights[every]
        mean = np.average(self.targets[every], axis=0, weights=weights)
        deviation = np.sqrt(np.average((self.targets[every] - mean) ** 2, axis=0, weights=weights))
        return mean, np.where(deviation == 0, 1, deviation)

    def hold_out(self, fraction: float, random: np.random.RandomState) -> tuple[WeightedRows, WeightedRows]:
        """Draw rows to train on and rows held out, evenly in the order of the targets: of each class about its share.

        A row that is there several times is on one side with all its copies. Only where it is there at least
        1 / fraction times, or where there are too few different rows, its copies are on both.
        """
        if self.times.sum() < 2:
            raise InputError(
                f"validation_fraction={fraction!r} leaves no rows to train on (n_samples=1); give more rows, or "
                "validation_fraction=0 unless they are for a soup"
            )
        held = (fraction * self.times).astype(int)
        rest = np.flatnonzero(held == 0)
        if 0 < fraction * len(rest) < 1:
            rest = rest.repeat(self.times[rest])  # each copy by itself
        total, some = len(rest), int(not held.any())
        count = min(max(some, round(fraction * total)), total - some)
        if count:
            order = rest[np.lexsort((random.random_sample(total), self.targets[rest].reshape(total, -1)[:, 0]))]
            chosen = order[((np.arange(count) + random.random_sample()) * total / count).astype(int)]
            size = self.times if len(np.unique(rest)) == total else np.ones_like(self.times)
            np.add.at(held, chosen, size[chosen])
        missing = min(round(fraction * self.times.sum()), self.times.sum() - 1) - held.sum()
        often = np.flatnonzero((held > 0) & (held < self.times))  # rows with copies on both sides
        if missing > 0 and len(often):
            often = often[np.argsort(self.targets[often].reshape(len(often), -1)[:, 0], kind="stable")]
            more = min(missing, len(often))
            held[often[((np.arange(more) + 0.5) * len(often) / more).astype(int)]] += 1
        return replace(self, times=self.times - held), replace(self, times=held)


@dataclass(frozen=True)
class Weighted:
    """The weighted mean of a loss over rows; the last column of the targets holds their weights."""

    loss: Callable[..., Tensor]
    keeps_targets: ClassVar[bool] = True  # a type of fewer bits than theirs would round labels and weights

    def __call__(self, output: Tensor, targets: Tensor) -> Tensor:
        """Return the weighted mean, a scalar."""
        wanted, weights = targets[:, :-1], targets[:, -1]
        wanted = wanted[:, 0].long() if self.loss is nn.functional.cross_entropy else wanted.to(output.dtype)
        each = self.loss(output, wanted, reduction="none")
        return (each.reshape(len(each), -1).mean(1) * weights).mean()
