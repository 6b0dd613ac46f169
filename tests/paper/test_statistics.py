import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gadam.paper.statistics import (
    accuracy_interval,
    accuracy_prediction,
    bonferroni,
    deviation_interval,
    mean_interval,
    paired_interval,
    prediction_interval,
    proportion_interval,
    unpaired_interval,
)

# Fisher's example of additional sleep: mean 1.58, 95 % interval 0.700 to 2.460 (R: t.test(sleep$extra differences)).
SLEEP = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]


def test_mean_interval_is_students():
    assert mean_interval(SLEEP) == pytest.approx((1.58, 0.7001142, 2.4598858))


def test_one_value_has_no_interval():
    mean, low, high = mean_interval([3.0])
    assert mean == 3.0
    assert np.isnan([low, high, *prediction_interval([3.0])]).all()


def test_mean_interval_covers_the_mean_in_95_of_100_cases():
    draws = np.random.default_rng(0).normal(size=(4_000, 5))
    bounds = np.array([mean_interval(row)[1:] for row in draws])
    covered = ((bounds[:, 0] <= 0) & (bounds[:, 1] >= 0)).mean()
    assert stats.binomtest(int(covered * 4_000), 4_000, 0.95).pvalue > 1e-4


def test_prediction_interval_covers_one_further_value_in_95_of_100_cases():
    draws = np.random.default_rng(1).normal(size=(4_000, 6))
    bounds = np.array([prediction_interval(row[:5]) for row in draws])
    covered = ((bounds[:, 0] <= draws[:, 5]) & (bounds[:, 1] >= draws[:, 5])).mean()
    assert stats.binomtest(int(covered * 4_000), 4_000, 0.95).pvalue > 1e-4


def test_proportion_interval_is_wilsons():
    # Newcombe (1998), Table I: 81 of 263 gives 0.2553 to 0.3662.
    assert proportion_interval(81, 263) == pytest.approx((81 / 263, 0.2553, 0.3662), abs=5e-5)
    assert proportion_interval(0, 10)[1] == 0


def test_intervals_have_the_level_asked_for():
    assert mean_interval(SLEEP, 0.9)[1] == pytest.approx(stats.ttest_1samp(SLEEP, 0).confidence_interval(0.9).low)
    half = 2.821 * np.std(SLEEP, ddof=1)  # t(9) at 99 %, of a table
    assert prediction_interval(SLEEP, 0.98)[1] - 1.58 == pytest.approx(half * 1.1**0.5, rel=1e-3)
    assert bonferroni(0.95, 5) == pytest.approx(0.99)


def test_values_that_agree_up_to_rounding_have_no_spread():
    assert mean_interval([97.1, 97.10000000000001, 97.1]) == (97.1, 97.1, 97.1)


def test_what_diverged_gives_no_error():
    assert np.isnan(mean_interval([1.0, np.inf, 2.0])[1])
    assert np.isnan(mean_interval([np.inf, np.inf])[1])


def test_accuracies_are_on_the_logit_scale():
    # By hand: mean 98.5, half width 12.706 * 0.5 points, slope of the logit 1 / (0.985 * 0.015); logit(0.985) = 4.1846.
    mean, low, high = accuracy_interval([98.0, 99.0], rows=10_000)
    away = 0.06353 / (0.985 * 0.015)
    assert mean == 98.5
    assert (low, high) == pytest.approx([100 / (1 + np.exp(-4.1846 + sign * away)) for sign in (1, -1)], abs=2e-2)


def test_far_from_both_ends_the_logit_scale_changes_little():
    values = [84.9, 85.0, 85.1, 85.2, 84.8]
    assert accuracy_interval(values, 10_000) == pytest.approx(mean_interval(values), abs=2e-3)
    low, high = prediction_interval(values)
    assert accuracy_prediction(values, 10_000) == pytest.approx((low - 0.005, high + 0.005), abs=1e-2)


def test_accuracies_that_agree_have_the_exact_interval_of_one_run():
    # All 10 rows right: the bound p has p ** 10 = 0.025.
    assert accuracy_interval([100.0] * 3, rows=10) == pytest.approx((100, 100 * 0.025**0.1, 100))
    assert accuracy_interval([0.0], rows=10) == pytest.approx((0, 0, 100 - 100 * 0.025**0.1))
    exact = stats.binomtest(81, 263).proportion_ci(0.9, method="exact")
    assert accuracy_interval([8100 / 263] * 4, 263, 0.9)[1:] == pytest.approx((100 * exact.low, 100 * exact.high))
    assert accuracy_prediction([8100 / 263] * 4, 263, 0.9) == pytest.approx((100 * exact.low, 100 * exact.high))


def test_a_further_run_may_get_every_row_right():
    assert accuracy_prediction([97.0, 98.0, 99.0, 98.0, 99.0], rows=100)[1] == 100


@settings(deadline=None)
@given(
    rows=st.integers(1, 20_000), right=st.lists(st.floats(0, 1), min_size=1, max_size=12), level=st.floats(0.5, 0.999)
)
def test_no_interval_of_accuracies_leaves_0_to_100(rows, right, level):
    values = [100 * round(share * rows) / rows for share in right]
    mean, low, high = accuracy_interval(values, rows, level)
    assert 0 <= low <= mean <= high <= 100
    low, high = accuracy_prediction(values, rows, level)
    assert 0 <= low <= mean <= high <= 100


def test_few_distinct_differences_have_a_floor_of_one_test_row():
    same = [0.1] * 4  # points: of 1,000 rows one row
    assert paired_interval(same) == (0.1, 0.1, 0.1)
    assert paired_interval(same, rows=1_000) == pytest.approx((0.1, 0.05, 0.15))
    # t(8) * s / 3 is 0.077 here, one row / 3 only 0.033: the floor is below.
    wider = [0.0, 0.1, 0.2] * 3
    assert paired_interval(wider, rows=1_000) == paired_interval(wider)
    many = [0.0, 0.01, 0.02, 0.03, 0.04]
    assert paired_interval(many, rows=1_000) == paired_interval(many) == mean_interval(many)
    assert np.isnan(paired_interval([1.0], 100)[1])


def test_unpaired_runs_have_welchs_interval_with_whole_degrees_of_freedom():
    first, second = [3.1, 2.9, 3.6, 3.2], [2.0, 2.8, 1.9, 2.1]
    welch = stats.ttest_ind(first, second, equal_var=False)
    error = (np.var(first, ddof=1) / 4 + np.var(second, ddof=1) / 4) ** 0.5
    assert 5 < welch.df < 6
    half = stats.t.ppf(0.975, 5) * error
    assert unpaired_interval(first, second) == pytest.approx((1.0, 1.0 - half, 1.0 + half))


def test_unpaired_runs_of_different_number_count_as_the_smaller_side():
    first, second = [3.1, 2.9, 3.6, 3.2], [2.0, 2.8]
    error = (np.var(first, ddof=1) / 4 + np.var(second, ddof=1) / 2) ** 0.5
    difference, low, high = unpaired_interval(first, second)
    assert difference == pytest.approx(0.8)
    assert high - low == pytest.approx(2 * 12.706 * error, rel=1e-4)  # t(1) at 97.5 %


def test_unpaired_accuracies_have_the_floor_too():
    assert unpaired_interval([98.0] * 2, [97.0] * 2) == (1, 1, 1)
    assert unpaired_interval([98.0] * 2, [97.0] * 2, rows=200) == pytest.approx((1, 0.5, 1.5))
    assert np.isnan(unpaired_interval([98.0], [97.0, 97.0], rows=200)[1])


@pytest.mark.parametrize("count", [10, 11])
def test_deviations_are_compared_as_ratios(count):
    draw = np.random.default_rng(0)
    first, second = draw.normal(5, 1, count).tolist(), draw.normal(90, 1, count).tolist()
    wider = (10 * np.array(first)).tolist()
    one, ten = deviation_interval(first, second), deviation_interval(wider, second)
    assert ten == pytest.approx([bound + 1 for bound in one])
    assert deviation_interval(second, first) == pytest.approx([-one[0], -one[2], -one[1]])


def test_deviations_of_ties_count_as_half_a_step():
    # Deviations from the median 2, without the smallest: 0, 1, 1 against 0, 2, 4. A zero counts as half a step: 0.5.
    difference = deviation_interval([2.0, 2.0, 1.0, 3.0], [2.0, 2.0, 0.0, 6.0])[0]
    assert difference == pytest.approx((np.log10(0.5) - np.log10(0.5 * 2 * 4)) / 3)
    assert np.isnan(deviation_interval([1.0, 1.0, 1.0], [1.0, 1.0, 1.0])).all()
    assert np.isnan(deviation_interval([1.0, 2.0], [1.0, 2.0, 3.0])).all()


def test_deviations_of_the_longer_side_count_as_many_as_of_the_other():
    draw = np.random.default_rng(0)
    first, second = draw.normal(size=10).tolist(), draw.normal(size=20).tolist()
    # The smallest step, which only ties need, is that of all numbers; there are none.
    assert deviation_interval(first, second) == deviation_interval(first, second[:10])
