import numpy as np
import pytest
from scipy import stats

from gadam.experiments.statistics import (
    difference_interval,
    mean_interval,
    prediction_interval,
    proportion_interval,
    spread_interval,
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


def test_difference_interval_is_welchs():
    first, second = [3.1, 2.9, 3.6, 3.2], [2.0, 2.8, 1.9]
    expected = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    difference, low, high = difference_interval(first, second)
    assert difference == pytest.approx(3.2 - 6.7 / 3)
    assert (low, high) == pytest.approx((expected.low, expected.high))
    assert difference_interval([1.0, 1.0], [3.0, 3.0]) == (-2, -2, -2)
    assert np.isnan(difference_interval([1.0], second)[1])


def test_spread_interval_holds_the_true_ratio_as_often_as_it_says():
    draw = np.random.default_rng(0)
    held = [
        low <= 1 <= high
        for _ in range(400)
        for _, low, high in [spread_interval(draw.normal(0, 10, 4).tolist(), draw.normal(5, 1, 6).tolist())]
    ]
    assert 0.92 < np.mean(held) < 0.98
    assert all(np.isnan(spread_interval([1.0, 1.0], [1.0, 2.0])))
