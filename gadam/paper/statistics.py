"""Intervals: what a number over a few seeds does and does not say.

Each is a number with the bounds around it, which leave two equal tails; NaN bounds below two values, unless it says
otherwise, and all NaN without any. Those of accuracies, in percent, never leave 0 to 100.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from scipy import special, stats

LEVEL = 0.95
CHANCE = 0.8
"""Probability with which the seeds that we ask for would decide."""
FEW = 5
"""Below so many distinct values, numbers of whole test rows are too coarse for their spread to be believed."""
Interval = tuple[float, float, float]
NOTHING: Interval = (math.nan, math.nan, math.nan)


def named(interval: Interval, name: str, low: str = "low", high: str = "high") -> dict[str, float]:
    """Return a number and its bounds as cells of a table's line."""
    return dict(zip((name, low, high), interval, strict=True))


def mean_interval(
    values: Sequence[float], rows: int | None = None, level: float = LEVEL, *, further: bool = False
) -> Interval:
    """Return the mean, of paired differences for instance, and its interval by Student's t.

    With `rows`, the values are differences of accuracies in percent over so many test rows. Where fewer than five of
    them are distinct, the interval then reaches at least one test row / sqrt(n) to either side. `further`: instead
    where one more run lies with probability `level`.
    """
    mean, _, count = moments(values)
    if count < 2:
        return mean, math.nan, math.nan
    half = _half_width(values, rows, level, further)
    return mean, mean - half, mean + half


def accuracy_interval(values: Sequence[float], rows: int, level: float = LEVEL, *, further: bool = False) -> Interval:
    """Return the mean accuracy and its interval, all in percent: runs with `rows` test rows each.

    Student's t on the logit scale, with the slope of the logit at the mean, so that the centre is the mean itself.
    Where all runs agree, or there is only one, the exact interval (Clopper-Pearson) over the test rows of one run.

    `further`: instead where one more run lies with probability `level`, half a test row wider to either side, for an
    accuracy stands for all that is rounded to it. Without this no interval on the logit scale would ever hold a run
    that gets every row right.
    """
    mean, spread, count = moments(values)
    if not count:
        return NOTHING
    if count == 1 or spread == 0:
        return mean, *_exact(mean, rows, level)
    low, high = _on_logit_scale(mean, _half_width(values, rows, level, further))
    more = 50 / rows if further else 0.0
    return mean, max(low - more, 0.0), min(high + more, 100.0)


def _half_width(values: Sequence[float], rows: int | None, level: float, further: bool) -> float:
    """Half the width of an interval by Student's t, of the mean or of one `further` value."""
    _, spread, count = moments(values)
    wider, narrower = (math.sqrt(1 + 1 / count), 1.0) if further else (1.0, math.sqrt(count))
    return max(student(level, count - 1) * spread * wider, least_half_width(values, rows)) / narrower


def proportion_interval(successes: int, trials: int) -> Interval:
    """Return a share and its 95 % interval by Wilson's score, all in [0, 1]."""
    if not trials:
        return NOTHING
    interval = stats.binomtest(successes, trials).proportion_ci(LEVEL, method="wilson")
    return successes / trials, float(interval.low), float(interval.high)


def unpaired_interval(
    first: Sequence[float], second: Sequence[float], rows: int | None = None, level: float = LEVEL
) -> Interval:
    """Return the difference of two means and its interval by Welch's t, made safe for few runs.

    Welch's own misses up to twice as often as it says where three runs meet twenty. So its degrees of freedom are
    rounded down where both sides have the same number of runs, and else are those of the smaller side. With `rows`,
    both are accuracies in percent over so many test rows, with the floor of `mean_interval`.
    """
    (mean, spread, count), (other, other_spread, other_count) = moments(first), moments(second)
    difference = mean - other
    if min(count, other_count) < 2:
        return difference, math.nan, math.nan
    variances = spread**2 / count, other_spread**2 / other_count
    freedom = min(count, other_count) - 1
    if count == other_count and sum(variances) > 0:
        welch = 1 / sum((variance / sum(variances)) ** 2 / (count - 1) for variance in variances)
        freedom = max(freedom, int(welch + 1e-9))
    floor = max(least_half_width(first, rows), least_half_width(second, rows)) * (1 / count + 1 / other_count) ** 0.5
    half = max(student(level, freedom) * sum(variances) ** 0.5, floor)
    return difference, difference - half, difference + half


def deviation_interval(first: Sequence[float], second: Sequence[float], level: float = LEVEL) -> Interval:
    """Return how much more the first varies, with an interval: Levene's comparison on logarithms, for heavy tails too.

    The number is the mean log10 of the absolute deviations from the median, of the first minus of the second (0.3 if
    it varies twice as much), the interval Welch's. NaN below three values a side, or where nothing varies. Of the
    longer side the first values count, as many as the other has: the median of fewer lies nearer to them.
    """
    steps = np.diff(np.unique([*first, *second]))
    steps = steps[steps > 1e-12 * np.abs([*first, *second]).max(initial=0)]  # what is less is rounding
    count = min(len(first), len(second))
    if count < 3 or not len(steps):
        return NOTHING
    # The smallest deviation says nothing of its own: with an odd count it is the median's, 0; with an even count the
    # median lies just between two values and their deviations are the same number. Half a step stands for a tie's.
    deviations = (np.sort(np.abs(np.array(one[:count]) - np.median(one[:count])))[1:] for one in (first, second))
    ours, theirs = (np.log10(np.maximum(one, steps.min() / 2)).tolist() for one in deviations)
    return unpaired_interval(ours, theirs, level=level)


def violation_interval(violations: int, trials: int, level: float = LEVEL) -> Interval:
    """Return the share of runs that violate a claim and its exact interval (Clopper-Pearson).

    Without a violation it is the bound to one side: it starts at 0 and leaves 1 - `level` above it.
    """
    if not trials:
        return NOTHING
    if not violations:
        return 0.0, 0.0, 1 - (1 - level) ** (1 / trials)
    exact = stats.binomtest(violations, trials).proportion_ci(level, method="exact")
    return violations / trials, float(exact.low), float(exact.high)


def p_values(differences: Sequence[float], least: float = 0.0) -> tuple[float, float]:
    """Return one-sided p-values that differences are above `least`: of the t-test, and of the test by sign flips."""
    shifted = np.array(differences, dtype=float) - least
    centre, spread, count = moments(shifted.tolist())
    if count < 2:
        return math.nan, math.nan
    p = float(stats.t.sf(centre / spread * math.sqrt(count), count - 1)) if spread else float(centre <= 0)
    flips = stats.permutation_test(
        (shifted,), np.mean, permutation_type="samples", alternative="greater", n_resamples=10_000, random_state=0,
        vectorized=True,
    ).pvalue  # fmt: skip
    return p, float(flips)


def partial_conjunction(p: Sequence[float]) -> list[float]:
    """Return for each k the p-value of "it holds in k cases or more", of the p-value of each case, NaN if unknown.

    (n + 1 - k) p(k), where p(k) is the k-th smallest of n (Benjamini and Heller, 2008).
    """
    known = sorted(one for one in p if not math.isnan(one))
    adjusted = (min(1.0, (len(p) + 1 - k) * one) for k, one in enumerate(known, start=1))
    return list(itertools.accumulate(adjusted, max))  # what holds in k cases holds in fewer


def seeds_needed(spread: float, shift: float, level: float = LEVEL, power: float = CHANCE) -> int | None:
    """Return the smallest number of seeds with which an interval ends before what is `shift` away.

    `spread` is the standard deviation of one difference. None above a million.
    """
    least = (spread / shift * special.ndtri([0.5 + level / 2, power]).sum()) ** 2
    if least > 1_000_000:
        return None
    count = max(2, math.ceil(least))  # as if the spread were known; it is not, which takes a few more
    # Both are quantiles of Student's t.
    while shift * math.sqrt(count) < spread * (student(level, count - 1) + student(2 * power - 1, count - 1)):
        count += 1
    return count


def bonferroni(level: float, count: int) -> float:
    """Return the level of each of `count` intervals that hold together with probability `level` or more."""
    return 1 - (1 - level) / count


@cache
def student(level: float, freedom: int) -> float:
    """Return the half width, in standard errors, of an interval by Student's t."""
    return float(special.stdtrit(freedom, 0.5 + level / 2))  # as stats.t.ppf, without its cost


def moments(values: Sequence[float]) -> tuple[float, float, int]:
    """Return mean, standard deviation and number; NaN for what cannot be had."""
    numbers = [float(value) for value in values]
    count = len(numbers)
    if count < 2:
        return (numbers[0] if numbers else math.nan), math.nan, count
    if max(numbers) - min(numbers) <= 1e-12 * max(map(abs, numbers)) < math.inf:  # all agree, up to rounding
        return numbers[0], 0.0, count
    mean = sum(numbers) / count
    squares = sum((number - mean) * (number - mean) for number in numbers)  # of what diverged inf or NaN, no error
    return mean, math.sqrt(squares / (count - 1)), count


def least_half_width(values: Sequence[float], rows: int | None) -> float:
    """Return the least half width, times sqrt(n), of an interval of these numbers: one test row in percent, or 0."""
    few = len({round(float(value), 9) for value in values}) < FEW
    return 100 / rows if rows is not None and few else 0.0


def _exact(accuracy: float, rows: int, level: float) -> tuple[float, float]:
    """Return the Clopper-Pearson interval of an accuracy in percent; a mean need not be a whole number of rows."""
    right = accuracy / 100 * rows
    low = stats.beta.ppf(0.5 - level / 2, right, rows - right + 1) if right > 1e-9 else 0.0
    high = stats.beta.ppf(0.5 + level / 2, right + 1, rows - right) if rows - right > 1e-9 else 1.0
    return 100 * float(low), 100 * float(high)


def _on_logit_scale(accuracy: float, half: float) -> tuple[float, float]:
    """Return bounds around an accuracy, in percent, that would lie `half` away if its scale had no ends."""
    share = accuracy / 100
    away = half / 100 / (share * (1 - share))
    low, high = (100 * float(special.expit(special.logit(share) + sign * away)) for sign in (-1, 1))
    return min(low, accuracy), max(high, accuracy)
