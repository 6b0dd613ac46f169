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


def _moments(values: Sequence[float]) -> tuple[float, float, int]:
    array = np.asarray(values, dtype=float)
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else np.nan, len(array)
