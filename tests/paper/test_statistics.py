"""Intervals against numbers from elsewhere: tables, scipy, arithmetic by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gadam.paper.statistics import (
    accuracy_interval,
    bonferroni,
    deviation_interval,
    mean_interval,
    proportion_interval,
    unpaired_interval,
)

# Fisher's example of additional sleep: mean 1.58, 95 % interval 0.700 to 2.460 (R: t.test(sleep$extra differences)).
SLEEP = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
MANY = [84.9, 85.0, 85.1, 85.2, 84.8]
FOUR, OTHER = [3.1, 2.9, 3.6, 3.2], [2.0, 2.8, 1.9, 2.1]
WELCH = stats.t.ppf(0.975, 5) * (np.var(FOUR, ddof=1) / 4 + np.var(OTHER, ddof=1) / 4) ** 0.5  # of 5.9 degrees: whole
FEWER = 12.706 * (np.var(FOUR, ddof=1) / 4 + np.var([2.0, 2.8], ddof=1) / 2) ** 0.5  # t(1): as the smaller side
NINETY = stats.ttest_1samp(SLEEP, 0).confidence_interval(0.9)
EXACT = stats.binomtest(81, 263).proportion_ci(0.9, method="exact")


@pytest.mark.parametrize(
    ("found", "expected", "tolerance"),
    [
        (mean_interval(SLEEP), (1.58, 0.7001142, 2.4598858), 1e-6),
        (mean_interval(SLEEP, level=0.9), (1.58, NINETY.low, NINETY.high), 1e-9),
        (mean_interval([97.1, 97.10000000000001, 97.1]), (97.1,) * 3, 0),  # they agree up to rounding
        # t(9) at 99 % is 2.821 in a table.
        (mean_interval(SLEEP, level=0.98, further=True)[2] - 1.58, 2.821 * np.std(SLEEP, ddof=1) * 1.1**0.5, 2e-3),
        (bonferroni(0.95, 5), 0.99, 1e-9),
        # Newcombe (1998), Table I: 81 of 263 gives 0.2553 to 0.3662.
        (proportion_interval(81, 263), (81 / 263, 0.2553, 0.3662), 5e-5),
        (proportion_interval(0, 10)[1], 0, 0),
        # By hand: half width 12.706 * 0.5 points, slope of the logit 1 / (0.985 * 0.015); logit(0.985) = 4.1846.
        (accuracy_interval([98.0, 99.0], 10_000),
         (98.5, *(100 / (1 + np.exp(-4.1846 + sign * 0.06353 / (0.985 * 0.015))) for sign in (1, -1))), 2e-2),
        # Far from both ends the logit scale changes little; a further run is half a test row wider.
        (accuracy_interval(MANY, 10_000), mean_interval(MANY), 2e-3),
        (accuracy_interval(MANY, 10_000, further=True),
         np.add(mean_interval(MANY, further=True), (0, -0.005, 0.005)), 1e-2),
        (accuracy_interval([97.0, 98.0, 99.0, 98.0, 99.0], 100, further=True)[2], 100, 0),  # it may get every row right
        # All 10 rows right: the bound p has p ** 10 = 0.025.
        (accuracy_interval([100.0] * 3, 10), (100, 100 * 0.025**0.1, 100), 1e-9),
        (accuracy_interval([0.0], 10), (0, 0, 100 - 100 * 0.025**0.1), 1e-9),
        (accuracy_interval([8100 / 263] * 4, 263, 0.9)[1:], (100 * EXACT.low, 100 * EXACT.high), 1e-9),
        (accuracy_interval([8100 / 263] * 4, 263, 0.9, further=True)[1:], (100 * EXACT.low, 100 * EXACT.high), 1e-9),
        # Differences of whole test rows: one of 1,000 rows is 0.1 points, and the floor 0.1 / sqrt(n).
        (mean_interval([0.1] * 4), (0.1,) * 3, 0),
        (mean_interval([0.1] * 4, rows=1_000), (0.1, 0.05, 0.15), 1e-9),
        (mean_interval([0.0, 0.1, 0.2] * 3, rows=1_000), mean_interval([0.0, 0.1, 0.2] * 3), 0),  # it is below
        (mean_interval([0.0, 0.01, 0.02, 0.03, 0.04], rows=10), mean_interval([0.0, 0.01, 0.02, 0.03, 0.04]), 0),
        (unpaired_interval(FOUR, OTHER), (1.0, 1.0 - WELCH, 1.0 + WELCH), 1e-9),
        (unpaired_interval(FOUR, [2.0, 2.8]), (0.8, 0.8 - FEWER, 0.8 + FEWER), 1e-3),
        (unpaired_interval([98.0] * 2, [97.0] * 2), (1, 1, 1), 0),
        (unpaired_interval([98.0] * 2, [97.0] * 2, rows=200), (1, 0.5, 1.5), 1e-9),
        (unpaired_interval([98.0] * 2, [97.0] * 4, rows=200), (1, 1 - 0.75**0.5 / 2, 1 + 0.75**0.5 / 2), 1e-9),
        # Deviations from the median 2, without the smallest: 0, 1, 1 against 0, 2, 4. A zero is half a step: 0.5.
        (deviation_interval([2.0, 2.0, 1.0, 3.0], [2.0, 2.0, 0.0, 6.0])[0],
         (np.log10(0.5) - np.log10(0.5 * 2 * 4)) / 3, 1e-9),
    ],
)  # fmt: skip
def test_intervals_by_hand_and_by_others(found, expected, tolerance):
    assert found == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize(
    "bounds",
    [
        mean_interval([3.0])[1:], mean_interval([3.0], further=True)[1:], mean_interval([1.0], 100)[1:],
        unpaired_interval([98.0], [97.0, 97.0], rows=200)[1:], deviation_interval([1.0] * 3, [1.0] * 3),
        deviation_interval([1.0, 2.0], [1.0, 2.0, 3.0]),
        mean_interval([1.0, np.inf, 2.0])[1:], mean_interval([np.inf, np.inf])[1:],  # what diverged gives no error
    ],
)  # fmt: skip
def test_too_few_runs_and_infinite_ones_have_no_interval(bounds):
    assert np.isnan(bounds).all()


@settings(deadline=None)
@given(
    rows=st.integers(1, 20_000), right=st.lists(st.floats(0, 1), min_size=1, max_size=12), level=st.floats(0.5, 0.999)
)
def test_no_interval_of_accuracies_leaves_0_to_100(rows, right, level):
    for further in (False, True):
        accuracies = [100 * round(share * rows) / rows for share in right]
        mean, low, high = accuracy_interval(accuracies, rows, level, further=further)
        assert 0 <= low <= mean <= high <= 100


@pytest.mark.parametrize("count", [10, 11])
def test_deviations_are_compared_as_ratios_of_as_many_runs(count):
    draw = np.random.default_rng(0)
    first, second = draw.normal(5, 1, count).tolist(), draw.normal(90, 1, 2 * count).tolist()
    one, ten = deviation_interval(first, second), deviation_interval([10 * value for value in first], second)
    assert ten == pytest.approx([bound + 1 for bound in one])
    assert deviation_interval(second, first) == pytest.approx([-one[0], -one[2], -one[1]])
    assert deviation_interval(first, second[:count]) == one
