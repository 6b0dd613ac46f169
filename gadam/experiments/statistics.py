"""Intervals: what a number over a few seeds does and does not say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

LEVEL = 0.95


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and its 95 % interval by Student's t; NaN bounds below two values."""
    mean, spread, count = _moments(values)
    half = stats.t.ppf(0.5 + LEVEL / 2, count - 1) * spread / np.sqrt(count) if count > 1 else np.nan
    return mean, mean - half, mean + half


def prediction_interval(values: Sequence[float]) -> tuple[float, float]:
    """Where one more run lies with 95 % probability, by Student's t: the measure for a single number of the paper."""
    mean, spread, count = _moments(values)
    half = stats.t.ppf(0.5 + LEVEL / 2, count - 1) * spread * np.sqrt(1 + 1 / count) if count > 1 else np.nan
    return mean - half, mean + half


def proportion_interval(successes: int, trials: int) -> tuple[float, float, float]:
    """A share and its 95 % interval by Wilson's score, all in [0, 1]."""
    interval = stats.binomtest(successes, trials).proportion_ci(LEVEL, method="wilson")
    return successes / trials, float(interval.low), float(interval.high)


def difference_interval(first: Sequence[float], second: Sequence[float]) -> tuple[float, float, float]:
    """Difference of two means and its 95 % interval by Welch's t, for repetitions that are not paired."""
    (mean, spread, count), (other, other_spread, other_count) = _moments(first), _moments(second)
    difference = mean - other
    if min(count, other_count) < 2:
        return difference, float("nan"), float("nan")
    variances = spread**2 / count, other_spread**2 / other_count
    if sum(variances) == 0:
        return difference, difference, difference
    freedom = sum(variances) ** 2 / (variances[0] ** 2 / (count - 1) + variances[1] ** 2 / (other_count - 1))
    half = float(stats.t.ppf(0.5 + LEVEL / 2, freedom)) * sum(variances) ** 0.5
    return difference, difference - half, difference + half


def spread_interval(first: Sequence[float], second: Sequence[float]) -> tuple[float, float, float]:
    """Decimal logarithm of the ratio of two standard deviations and its 95 % interval by Fisher's F.

    NaN where a standard deviation is zero or cannot be had.
    """
    (_, spread, count), (_, other, other_count) = _moments(first), _moments(second)
    if not (spread > 0 and other > 0):
        return float("nan"), float("nan"), float("nan")
    ratio = (spread / other) ** 2
    high, low = (float(stats.f.ppf(tail, count - 1, other_count - 1)) for tail in (0.5 - LEVEL / 2, 0.5 + LEVEL / 2))
    return tuple(float(np.log10(value)) / 2 for value in (ratio, ratio / low, ratio / high))  # type: ignore[return-value]


def _moments(values: Sequence[float]) -> tuple[float, float, int]:
    array = np.asarray(values, dtype=float)
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else np.nan, len(array)
