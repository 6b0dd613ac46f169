import math
from collections import Counter
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gadam.config import InputError
from gadam.paper.verdicts import (
    COMPATIBLE,
    MARGINS,
    NOT_REPRODUCED,
    OPEN,
    QUOTED,
    REPRODUCED,
    RULES,
    UNDECIDED,
    Evidence,
    Verdict,
    always,
    at_budget,
    at_half,
    collapsed,
    greater,
    margin_of,
    opened,
    quoted,
    reaches,
    seeds_needed,
    too_small,
    undecided,
    value,
    varies_more,
    weakest,
    within,
)


def five(mean, spread):
    """Five runs with exactly this mean and standard deviation.

    In units of `spread`, t(4): the 95 % interval of the mean reaches 1.242 to either side, that of 90 % 0.953; the 95 %
    interval of one further run 3.041, that of 98 % 4.105.
    """
    return Evidence((mean - spread, mean - spread, mean, mean + spread, mean + spread))


def ten(mean, spread):
    """The five runs twice; t(9): the interval of one further run reaches 2.24 at 95 %, 2.79 at 98 %, times `spread`."""
    return Evidence(five(mean, spread).values * 2)


def said(verdict):
    return verdict.mark, verdict.reason


# --- Rule 1: greater ---


@pytest.mark.parametrize(
    ("mean", "spread", "size", "expected", "beside"),
    [
        (1.0, 0.5, 1.0, (REPRODUCED, ""), ""),
        (1.0, 0.5, None, (REPRODUCED, ""), ""),
        (-1.0, 0.5, 1.0, (NOT_REPRODUCED, "opposite"), ""),
        (-1.0, 0.5, None, (NOT_REPRODUCED, "opposite"), ""),
        (0.3, 0.1, 1.0, (NOT_REPRODUCED, "smaller than claimed"), "above 0 is shown"),  # 0.176 to 0.424
        (0.1, 0.2, 1.0, (NOT_REPRODUCED, "smaller than claimed"), "direction open"),  # -0.148 to 0.348
        (0.0, 0.2, None, (NOT_REPRODUCED, "no difference"), ""),  # 90 %: -0.191 to 0.191
        (0.0, 0.22, None, (UNDECIDED, "power"), None),  # 90 %: -0.21 to 0.21
        (0.3, 0.5, 1.0, (UNDECIDED, "power"), None),  # -0.32 to 0.92
        # The paper's 0.3 is below two margins: never "smaller than claimed".
        (0.05, 0.05, 0.3, (UNDECIDED, "power"), None),  # -0.012 to 0.112
        (0.1, 0.02, 0.3, (UNDECIDED, "power"), None),  # 0.075 to 0.125: above 0, but short of 0.15
        (0.2, 0.02, 0.3, (REPRODUCED, ""), ""),
        (-0.2, 0.02, 0.3, (NOT_REPRODUCED, "opposite"), ""),
    ],
)
def test_greater(mean, spread, size, expected, beside):
    verdict = greater(five(mean, spread), 0.2, size)
    assert said(verdict) == expected
    assert verdict.ours == pytest.approx(mean)
    assert beside is None or verdict.decides == beside


def test_greater_shows_the_interval_that_decides():
    verdict = greater(five(1, 0.5), 0.2)
    assert (verdict.low, verdict.high) == pytest.approx((1 - 0.621, 1 + 0.621), abs=1e-3)
    assert verdict.interval == "95 % (t), paired by seed"
    assert greater(five(0, 0.2), 0.2).interval == "90 % (t), paired by seed"


def test_several_headlines_take_a_higher_level():
    assert greater(five(1, 0.7), 0.2).mark == REPRODUCED  # 0.131 to 1.869
    assert greater(five(1, 0.7), 0.2, level=0.99).mark == UNDECIDED  # t = 4.604: -0.441 to 2.441


def test_unpaired_runs_are_judged_by_welch():
    ours, other = five(1, 0.5).values, five(0, 0.5).values
    verdict = greater(Evidence(ours, other), 0.2)
    assert (verdict.mark, verdict.interval) == (REPRODUCED, "95 % (Welch)")
    half = 2.306 * 0.5 * (2 / 5) ** 0.5  # t(8)
    assert (verdict.low, verdict.high) == pytest.approx((1 - half, 1 + half), abs=1e-3)
    assert said(greater(Evidence(other, ours), 0.2)) == (NOT_REPRODUCED, "opposite")


def test_a_method_that_draws_nothing_has_one_number():
    verdict = greater(Evidence(five(98, 0.5).values, (97.0,), 10_000), 0.2)
    assert (verdict.low, verdict.high) == pytest.approx((1 - 0.621, 1 + 0.621), abs=1e-3)
    assert verdict.interval == "95 % (t), beside one number"


def test_what_is_open_says_how_many_seeds_would_decide():
    # By hand, spread 0.5: sqrt(10) >= 2.262 + 0.883 but 3 < 2.306 + 0.889, and 2 sqrt(5) >= 2.776 + 0.941 but not 4.
    assert seeds_needed(five(0.3, 0.5), 0.2, 1.0) == (10, 5)
    expected = "5 seeds here; about 10 if there is no effect, about 5 if it is as large as the paper's"
    assert greater(five(0.3, 0.5), 0.2, 1.0).decides == expected
    assert "too small to be told" in greater(five(0.1, 0.02), 0.2, 0.3).decides


def test_seeds_needed():
    observed = [seeds_needed(five(mean, 0.5), 0.2, 1.0) for mean in (-3.0, 0.0, 7.0)]
    assert len(set(observed)) == 1, "the effect that was seen promises nothing"
    assert seeds_needed(five(0, 0.05), 0.2, 0.3)[0] is None, "no seeds tell a small size from half of it"
    # Equivalence within 1, spread 1: sqrt(n) >= t(0.95) + t(0.9): 10.09 = 3.176 ** 2 < 11 = 3.317 ** 2: 1.812 + 1.372.
    assert seeds_needed(five(0, 1), 1.0, None) == (11, None)
    assert seeds_needed(Evidence((1.0,)), 0.2, 1.0) == (None, None)
    assert seeds_needed(five(0, 1e6), 0.2, 1.0) == (None, None)
    assert seeds_needed(Evidence((0.5, 0.5)), 0.2, 1.0) == (2, 2)
    assert seeds_needed(Evidence((0.5, 0.5), rows=50), 1.0, 8.0) == seeds_needed(five(0, 2.0), 1.0, 8.0)
    pair = Evidence(five(0, 3.0).values, five(0, 4.0).values)
    assert seeds_needed(pair, 1.0, 5.0) == seeds_needed(five(0, 5.0), 1.0, 5.0)
    assert "more than a million" in greater(five(0, 1e6), 0.2, 1.0).decides


@pytest.mark.parametrize("rule", [partial(greater, margin=0.2), partial(within, margin=0.2)])
@pytest.mark.parametrize(
    "now", [Evidence(()), Evidence((1.0,)), Evidence((1.0,), (0.0, 1.0)), Evidence((1.0, 2.0), ())]
)
def test_fewer_than_two_runs_decide_nothing(rule, now):
    assert said(rule(now)) == (UNDECIDED, "power")
    assert "2 or more" in rule(now).decides


def test_few_distinct_differences_decide_less():
    now = Evidence((0.1, 0.1), rows=1_000)  # one row each: 0.1 / sqrt(2) to either side
    assert (greater(now, 0.2).low, greater(now, 0.2).high) == pytest.approx((0.0293, 0.1707), abs=1e-4)
    assert greater(Evidence((0.05, 0.05), rows=1_000), 0.01).mark == UNDECIDED


@given(
    values=st.lists(st.floats(-100, 100), min_size=2, max_size=8),
    margin=st.floats(0.01, 10),
    size=st.none() | st.floats(0.01, 10),
    power=st.integers(-20, 20),
)
@settings(deadline=None)
def test_the_scale_does_not_matter(values, margin, size, power):
    factor = 2.0**power  # exact
    scaled = Evidence(tuple(factor * one for one in values))
    now, others = Evidence(tuple(values)), None if size is None else factor * size
    assert said(greater(scaled, factor * margin, others)) == said(greater(now, margin, size))
    assert said(within(scaled, factor * margin)) == said(within(now, margin))
    for rule in (value, reaches):
        assert said(rule(scaled, factor * 3, factor * margin)) == said(rule(now, 3, margin))


@given(values=st.lists(st.floats(-100, 100), min_size=2, max_size=12), margin=st.floats(0.01, 50))
@settings(deadline=None)
def test_what_is_mirrored_has_the_mirrored_verdict(values, margin):
    now, mirrored = Evidence(tuple(values)), Evidence(tuple(-one for one in values))
    mirror = {
        (REPRODUCED, ""): (NOT_REPRODUCED, "opposite"),
        (NOT_REPRODUCED, "opposite"): (REPRODUCED, ""),
        (NOT_REPRODUCED, "higher"): (NOT_REPRODUCED, "lower"),
        (NOT_REPRODUCED, "lower"): (NOT_REPRODUCED, "higher"),
    }
    verdict = said(greater(now, margin))
    assert said(greater(mirrored, margin)) == mirror.get(verdict, verdict)
    assert said(within(mirrored, margin)) == said(within(now, margin))
    verdict = said(value(now, 5, margin))
    mirror.pop((REPRODUCED, ""))
    assert said(value(mirrored, -5, margin)) == mirror.get(verdict, verdict)


# --- Rule 2: value and reaches ---


@pytest.mark.parametrize(
    ("now", "expected", "interval"),
    [
        (five(0.3, 0.5), (REPRODUCED, ""), "95 % of the mean (t)"),  # -0.321 to 0.921, the paper's is 0 and m is 1
        (five(0.9, 0.4), (REPRODUCED, ""), "95 % of one further run (t)"),  # -0.316 to 2.116: no more than 1.5 wide
        (five(1.0, 0.5), (UNDECIDED, "power"), "95 % of one further run (t)"),  # -0.521 to 2.521: 1.52 wide
        (five(2.0, 0.3), (NOT_REPRODUCED, "higher"), "98 % of one further run (t)"),  # 0.769 to 3.231
        (five(-2.0, 0.3), (NOT_REPRODUCED, "lower"), "98 % of one further run (t)"),
        (five(0.9, 0.15), (UNDECIDED, "power"), "95 % of one further run (t)"),  # outside, but within m of our mean
        (five(2.0, 1.0), (UNDECIDED, "power"), "95 % of one further run (t)"),
        (ten(2.0, 1.0), (COMPATIBLE, ""), "95 % of one further run (t)"),
        (ten(2.0, 0.3), (NOT_REPRODUCED, "higher"), "98 % of one further run (t)"),
    ],
)
def test_value(now, expected, interval):
    verdict = value(now, 0, 1)
    assert said(verdict) == expected
    assert verdict.interval == interval
    assert verdict.low < verdict.ours < verdict.high


def test_what_is_compatible_says_how_much_one_run_varies():
    spread = np.std(ten(2, 1).values, ddof=1)
    assert value(ten(2, 1), 0, 1).decides.startswith(f"one run varies by ±{2.262 * spread * 1.1**0.5:.2g}:")
    assert value(five(2, 1), 0, 1).decides == "5 seeds here; 10 or more"


def test_accuracies_that_all_agree_are_judged_exactly():
    now = Evidence((98.6,) * 3, rows=10_000)  # a further run: 98.35 to 98.82
    assert said(value(now, 98.7, 0.2)) == (REPRODUCED, "")
    assert value(now, 98.7, 0.2).interval == "95 % of one further run (exact)"
    assert said(value(now, 99.2, 0.2)) == (NOT_REPRODUCED, "lower")


def test_a_single_run_is_shown_but_decides_nothing():
    verdict = value(Evidence((98.6,), rows=10_000), 98.6, 0.2)
    assert said(verdict) == (UNDECIDED, "power")
    assert (verdict.low, verdict.high) == pytest.approx((98.35, 98.82), abs=5e-3)
    assert math.isnan(value(Evidence((98.6,)), 98.6, 0.2).low)
    assert value(Evidence((98.6,)), 98.6, 0.2).ours == reaches(Evidence((98.6,)), 98.6, 0.2).ours == 98.6
    assert math.isnan(value(Evidence(()), 98.6, 0.2).ours)


@pytest.mark.parametrize(
    ("mean", "expected"),
    [
        (9.61, (REPRODUCED, "reached")),  # the bound is 9.515 and the limit 9.5
        (20.0, (REPRODUCED, "reached")),
        (9.55, (UNDECIDED, "power")),
        (9.45, (UNDECIDED, "power")),
        (9.39, (NOT_REPRODUCED, "lower")),
    ],
)
def test_reaches(mean, expected):
    verdict = reaches(five(mean, 0.1), 10, 0.5)
    assert said(verdict) == expected
    assert verdict.high - verdict.low == pytest.approx(0.1907, abs=1e-3)


def test_reaches_says_how_many_seeds_would_decide():
    # Spread 1, 1 away: sqrt(8) = 2.83 >= 1.895 + 0.896, sqrt(7) = 2.65 < 1.943 + 0.906.
    assert reaches(five(9, 1), 10, 1).decides == "5 seeds here; about 8 if it is just reached"


def test_no_difference_is_judged_where_our_own_numbers_are_asked_for():
    for rule in (value, reaches):
        with pytest.raises(InputError, match="others must be None"):
            rule(Evidence((1.0, 2.0), (1.0,)), 1, 1)


# --- Rule 3: within and always ---


@pytest.mark.parametrize(
    ("mean", "spread", "expected"),
    [
        (0.0, 1.0, (REPRODUCED, "")),  # 90 %: -0.953 to 0.953
        (0.0, 1.1, (UNDECIDED, "power")),  # 90 %: -1.049 to 1.049
        (2.0, 0.7, (NOT_REPRODUCED, "outside the margin")),  # 95 %: 1.131 to 2.869
        (-2.0, 0.7, (NOT_REPRODUCED, "outside the margin")),
        (2.0, 0.9, (UNDECIDED, "power")),  # 90 %: 1.142 to 2.858, but 95 %: 0.882 to 3.118
    ],
)
def test_within(mean, spread, expected):
    assert said(within(five(mean, spread), 1.0)) == expected


def test_within_says_how_many_seeds_would_decide():
    assert within(five(0, 1.1), 1.1).mark == REPRODUCED
    assert within(five(1.5, 1), 1.0).decides == "5 seeds here; about 11 if there is no difference"


def test_always():
    assert said(always(1, 1_000)) == (NOT_REPRODUCED, "a violation")
    assert said(always(0, 58)) == (UNDECIDED, "power")
    assert always(0, 58).decides == "58 runs here; 59 or more without a violation"
    clean = always(0, 59)
    assert said(clean) == (REPRODUCED, "")
    assert clean.high == pytest.approx(1 - 0.05 ** (1 / 59))
    assert clean.high < 0.05
    assert (always(0, 0).mark, always(2, 2).high) == (UNDECIDED, 1)
    assert always(1, 10).low == pytest.approx(1 - 0.975**0.1)
    with pytest.raises(InputError, match="violations=3"):
        always(3, 2)


# --- More varied, and the weakest ---

STEADY = tuple(float(one) for one in range(10))
WILD = tuple(100.0 * one for one in STEADY)


def test_varies_more():
    verdict = varies_more(STEADY, WILD)
    assert said(verdict) == (REPRODUCED, "")
    assert verdict.ours == pytest.approx(2)  # a hundred times, in log10
    assert said(varies_more(WILD, STEADY)) == (NOT_REPRODUCED, "opposite")
    assert said(varies_more(STEADY, STEADY)) == (UNDECIDED, "power")
    assert "if it varies twice as much" in varies_more(STEADY, STEADY).decides


def test_varies_more_takes_ten_runs_a_side():
    assert said(varies_more(STEADY[:9], WILD)) == (UNDECIDED, "power")
    assert varies_more(STEADY, WILD[:9]).decides == "9 seeds here; 10 or more a side"
    assert varies_more((1.0,) * 10, (1.0,) * 10).decides == "neither varies at all"
    assert said(varies_more((1.0,), ())) == (UNDECIDED, "power")


def test_the_weakest_decides():
    # Two intervals at 97.5 % each: t(4) = 3.495, 1.563 spreads to either side.
    verdict = weakest([five(1, 0.5), five(2, 0.1)])
    assert said(verdict) == (REPRODUCED, "")
    assert (verdict.ours, verdict.low) == pytest.approx((1, 1 - 0.7815), abs=1e-3)
    assert verdict.interval == "the weakest of 2, simultaneous: 97.5 % (t), paired by seed"
    assert said(weakest([five(1, 0.7), five(2, 0.1)])) == (UNDECIDED, "power"), "alone it would be above 0"
    assert greater(five(1, 0.7), 0.2).mark == REPRODUCED
    opposite = weakest([five(1, 0.1), five(-1, 0.1), five(0, 9)])
    assert said(opposite) == (NOT_REPRODUCED, "opposite")
    assert opposite.ours == pytest.approx(-1)
    assert said(weakest([five(1, 0.1), Evidence((1.0,))])) == (UNDECIDED, "power")
    with pytest.raises(InputError, match="several is empty"):
        weakest([])


# --- Rule 4: budget ---

QUARTER = {"share": 0.25, "share_before": 0.125, "margin": 0.2}  # two factors of 2 are ahead: moved by 0.2


@pytest.mark.parametrize(
    ("rule", "now", "before", "expected"),
    [
        (partial(greater, margin=0.2), 1.0, 0.8, (REPRODUCED, "")),  # the trend leads to 1.4
        (partial(greater, margin=0.2), 0.5, 0.6, (UNDECIDED, "budget")),  # to 0.3, and moved to 0.1
        (partial(greater, margin=0.2), 0.5, 0.55, (REPRODUCED, "")),  # to 0.4, and moved to 0.2
        (partial(greater, margin=0.2), -0.5, -0.55, (NOT_REPRODUCED, "opposite")),
        (partial(greater, margin=0.2), -0.5, -0.6, (UNDECIDED, "budget")),
        (partial(greater, margin=0.2, size=1.0), 0.1, 0.1, (NOT_REPRODUCED, "smaller than claimed")),  # moved up to 0.3
        (partial(greater, margin=0.2, size=1.0), 0.2, 0.15, (UNDECIDED, "budget")),  # to 0.3, moved up to 0.5
        (partial(greater, margin=0.2), 0.12, 0.12, (UNDECIDED, "power")),
        (partial(greater, margin=0.2), 0.05, 0.05, (UNDECIDED, "budget")),  # moved to 0.25, and above 0
        (partial(value, paper=1.0, margin=0.5), 1.0, 1.0, (REPRODUCED, "")),
        (partial(value, paper=1.0, margin=0.5), 1.0, 0.8, (UNDECIDED, "budget")),  # to 1.4, moved to 1.6
        (partial(value, paper=1.0, margin=0.2), 2.2, 2.3, (NOT_REPRODUCED, "higher")),  # to 2, moved to 1.8
        (partial(value, paper=1.0, margin=0.2), 1.7, 1.9, (UNDECIDED, "budget")),
        (partial(value, paper=1.0, margin=0.2), 0.0, -0.1, (NOT_REPRODUCED, "lower")),  # to 0.2, moved to 0.4
        (partial(value, paper=1.0, margin=0.2), 0.3, 0.1, (UNDECIDED, "budget")),
        (partial(reaches, paper=1.0, margin=0.2), 1.0, 9.0, (REPRODUCED, "reached")),  # more training takes nothing
        (partial(reaches, paper=1.0, margin=0.2), 0.0, -0.1, (NOT_REPRODUCED, "lower")),
        (partial(reaches, paper=1.0, margin=0.2), 0.0, -0.4, (UNDECIDED, "budget")),
        (partial(within, margin=0.5), 0.0, 0.0, (REPRODUCED, "")),
        (partial(within, margin=0.5), 0.0, 0.2, (UNDECIDED, "budget")),
        (partial(within, margin=0.5), 2.0, 2.3, (NOT_REPRODUCED, "outside the margin")),
        (partial(within, margin=0.5), -2.0, -2.6, (UNDECIDED, "budget")),
    ],
)
def test_at_budget(rule, now, before, expected):
    assert said(at_budget(rule, five(now, 0.1), five(before, 0.1), **QUARTER)) == expected


def test_no_difference_must_hold_either_way():
    verdict = at_budget(partial(greater, margin=1.0), five(0, 0.3), five(0, 0.3), **QUARTER)  # 95 %: 0.372 around +-0.2
    assert said(verdict) == (NOT_REPRODUCED, "no difference")


def test_smaller_than_claimed_is_moved_up_only():
    small = partial(greater, margin=0.2, size=1.0)
    verdict = at_budget(small, five(0.1, 0.1), five(0.1, 0.1), **QUARTER | {"margin": 0.1})  # moved to 0.2: 0.324
    assert said(verdict) == (NOT_REPRODUCED, "smaller than claimed")
    assert said(small(five(-0.2, 0.1))) == (NOT_REPRODUCED, "opposite"), "what moving down by more would say"


def test_what_this_budget_says_stands_beside():
    verdict = at_budget(partial(greater, margin=0.2), five(0.5, 0.1), five(0.6, 0.1), **QUARTER)
    assert verdict.ours == pytest.approx(0.5)
    other = "not reproduced (no difference)"  # it leads to 0.3, and moved to 0.1: 90 % 0.005 to 0.195
    assert verdict.decides == f"0.25 of the budget says: reproduced; its trend to the whole may say: {other}"


def test_runs_are_carried_on_one_by_one():
    now, before = five(1, 0.5), five(0.9, 0.45)
    # Run by run the trend is 1.2 times now; as means with the errors of both it would be wider.
    seen = []
    at_budget(lambda one: (seen.append(one), Verdict(REPRODUCED))[1], now, before, **QUARTER)
    expected = [1.2 * one + move for move in (-0.2, 0.2) for one in now.values]
    assert [*seen[1].values, *seen[2].values] == pytest.approx(expected)


def test_others_are_carried_on_too_and_rows_count_less():
    seen = []
    now, before = Evidence((3.0, 4.0), (1.0,), 1_000), Evidence((2.0, 3.0), (0.5,), 1_000)
    at_budget(lambda one: (seen.append(one), Verdict(REPRODUCED))[1], now, before, **QUARTER)
    assert seen[1].values == pytest.approx((4.8, 5.8))
    assert seen[1].others == pytest.approx((2.0,))
    assert seen[1].rows == int(1_000 / math.hypot(3, 2))


def test_a_trend_of_accuracies_may_lead_above_100():
    now, before = Evidence((99.0, 99.2, 99.1), rows=1_000), Evidence((97.0, 97.3, 97.2), rows=1_000)
    assert said(at_budget(partial(value, paper=99.9, margin=0.2), now, before, **QUARTER)) == (UNDECIDED, "budget")


def test_at_the_whole_budget_the_rule_just_applies():
    now = five(1, 0.1)
    verdict = at_budget(partial(greater, margin=0.2), now, Evidence(()), share=1, share_before=1, margin=0.2)
    assert verdict == greater(now, 0.2)


@pytest.mark.parametrize("before", [0.0, 0.126, 0.5])
def test_the_earlier_look_is_at_half_or_less(before):
    with pytest.raises(InputError, match="share_before"):
        at_budget(partial(greater, margin=0.2), five(1, 1), five(1, 1), share=0.25, share_before=before, margin=0.2)


def test_both_looks_are_at_the_same_runs():
    with pytest.raises(InputError, match="the same runs"):
        at_budget(partial(greater, margin=0.2), five(1, 1), ten(1, 1), **QUARTER)
    with pytest.raises(InputError, match="the same runs"):
        at_budget(partial(greater, margin=0.2), Evidence((1.0,) * 5, (1.0,)), five(1, 1), **QUARTER)


def test_another_reduction_must_agree_with_half_of_it():
    rule = partial(greater, margin=0.2)
    assert at_half(rule, five(1, 0.1), five(2, 0.3)) == rule(five(1, 0.1))
    verdict = at_half(rule, five(1, 0.1), five(-1, 0.1))
    assert said(verdict) == (UNDECIDED, "budget")
    assert verdict.decides == "this size says: reproduced; half of it says: not reproduced (opposite)"
    assert at_half(rule, five(0.1, 1), five(2, 0.1)) == rule(five(0.1, 1))


# --- What is stated beforehand ---


def test_margins():
    assert margin_of("mnist", 10_000) == MARGINS["mnist"] == 0.2
    assert margin_of("mnist", 10_000, decimals=0) == 1
    assert margin_of("orl", 80) == 1.25
    with pytest.raises(InputError, match="dataset='cifar'"):
        margin_of("cifar", 10_000)
    with pytest.raises(InputError, match="rows=0"):
        margin_of("mnist", 0)


def test_too_small():
    assert too_small(0.2, 0.39)
    assert not too_small(0.1, 99.28 - 99.08)
    assert not too_small(0.1, 99.08 - 98.88)
    assert not too_small(0.2, None)


def test_collapsed_runs_are_told_apart():
    assert collapsed([98.0, 9.8, 97.0, 98.5], "mnist") == {1}
    assert collapsed([98.0, 10.0, 11.0, 97.0], "mnist") == {1, 2}
    assert collapsed([85.0, 76.4, 85.3], "adult") == {1}, "nearer to always saying the one class"
    assert not collapsed([98.0, 97.0], "mnist")
    assert not collapsed([10.0, 10.0, 10.0, 98.0], "mnist")
    assert not collapsed([10.0], "mnist")
    assert not collapsed([], "mnist")


def test_evidence_without_the_runs_that_collapsed():
    now = Evidence((1.0, 2.0, 3.0), (4.0, 5.0), 100, frozenset({1}), frozenset({0}))
    assert now.apart() == Evidence((1.0, 3.0), (5.0,), 100)
    assert now.count_collapsed == 2
    assert Evidence((7.0, 8.0, 9.0), (1.0, 2.0), 100).apart(now) == Evidence((7.0, 9.0), (2.0,), 100)


def test_what_no_rule_judges():
    assert undecided("not computed", "3 runs").decides == "3 runs"
    assert (quoted(1.0, 0.5, 2.0, "95 %").mark, opened(1.0).mark) == (QUOTED, OPEN)
    assert quoted(1.0, 0.5, 2.0, "95 %").high == 2


@pytest.mark.parametrize("margin", [0, -1, math.nan, math.inf])
def test_margins_and_sizes_are_above_0(margin):
    for rule in (greater, within, partial(value, paper=1), partial(reaches, paper=1)):
        with pytest.raises(InputError, match="margin="):
            rule(five(1, 1), margin=margin)
    with pytest.raises(InputError, match="size="):
        greater(five(1, 1), 1, margin)


def test_evidence_is_finite():
    with pytest.raises(InputError, match="values hold nan"):
        Evidence((1.0, math.nan))
    with pytest.raises(InputError, match="others hold inf"):
        Evidence((1.0,), (math.inf,))
    with pytest.raises(InputError, match="rows=0"):
        Evidence((1.0,), rows=0)


def test_the_rules_are_plain_sentences():
    assert all(rule[0].isupper() and rule.endswith(".") for rule in RULES)


# --- How often a verdict is false ---

DRAWS = 2_000
NOISES = {
    "normal": lambda draw, *shape: draw.normal(size=shape),
    "heavy tails": lambda draw, *shape: draw.standard_t(3, size=shape),
}
CASES = [(noise, seeds) for noise in NOISES for seeds in (3, 5, 10, 20)]
every_case = pytest.mark.parametrize(("noise", "seeds"), CASES)


def drawn(noise, *shape, seed=0):
    """Noise of `DRAWS` repetitions of an experiment."""
    return NOISES[noise](np.random.default_rng([seed, *map(ord, noise), *shape]), DRAWS, *shape)


def rates(rule, *numbers, **also):
    """How often each verdict comes up, in shares of the repetitions; a row of numbers for each."""
    rows = zip(*(one.tolist() for one in numbers), strict=True)
    counts = Counter(said(rule(Evidence(*map(tuple, row), **also))) for row in rows)
    return Counter({verdict: count / DRAWS for verdict, count in counts.items()})


def assert_rare(rate, limit=0.025):
    """A false verdict may come up in 2.5 % of cases a side, and in what 2,000 repetitions leave open about that."""
    assert rate <= limit + 3 * math.sqrt(limit * (1 - limit) / DRAWS)


def judged(found, *reasons):
    return sum(found[NOT_REPRODUCED, reason] for reason in reasons)


@every_case
@pytest.mark.parametrize("spread", [0.4, 4])
def test_greater_is_rarely_false(noise, seeds, spread):
    """The paper's size is 1, five margins. False is with no effect "reproduced" or "opposite", with an effect of 1
    "smaller than claimed" or "opposite".
    """
    draws = spread * drawn(noise, seeds)
    rule = partial(greater, margin=0.2, size=1)
    nothing, effect = rates(rule, draws), rates(rule, draws + 1)
    for rate in (nothing[REPRODUCED, ""], judged(nothing, "opposite"), judged(effect, "smaller than claimed")):
        assert_rare(rate)
    assert_rare(judged(effect, "opposite"))


@every_case
def test_greater_without_a_size_is_rarely_false(noise, seeds):
    """False is with no effect "reproduced" or "opposite", with one of two margins "no difference" or "opposite"."""
    draws = drawn(noise, seeds, seed=1)
    nothing, effect = (rates(partial(greater, margin=1.5), draws + shift) for shift in (0, 3))
    for rate in (nothing[REPRODUCED, ""], judged(nothing, "opposite"), judged(effect, "no difference", "opposite")):
        assert_rare(rate)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize(("seeds", "others", "ratio"), [(3, 3, 5), (5, 5, 3), (20, 20, 1), (3, 20, 1), (10, 3, 3)])
def test_unpaired_runs_are_rarely_judged_falsely(noise, seeds, others, ratio):
    """As `greater` with a size, for numbers of runs and spreads that differ between the two methods."""
    ours, other = drawn(noise, seeds, seed=2), ratio * drawn(noise, others, seed=3)
    rule = partial(greater, margin=0.2, size=1)
    nothing, effect = rates(rule, ours, other), rates(rule, ours + 1, other)
    for rate in (nothing[REPRODUCED, ""], judged(nothing, "opposite"), judged(effect, "smaller than claimed")):
        assert_rare(rate)


@every_case
@pytest.mark.parametrize("spread", [0.3, 3])
def test_value_is_rarely_false(noise, seeds, spread):
    """The margin is 1. The paper's number is one more run of the same distribution: false is "not reproduced". Or it
    lies three margins from the middle of ours, whatever the spread: false is "reproduced".
    """
    draws = spread * drawn(noise, seeds + 1, seed=4)
    found = Counter(said(value(Evidence(tuple(ours)), paper, 1)) for paper, *ours in draws.tolist())
    assert_rare(judged(found, "higher", "lower") / DRAWS, 0.05)
    assert_rare(rates(partial(value, paper=3, margin=1), draws[:, 1:])[REPRODUCED, ""], 0.05)


@pytest.mark.parametrize("seeds", [3, 5, 10, 20])
@pytest.mark.parametrize(("rows", "share"), [(120, 0.95), (100, 0.985), (40, 0.97)])
def test_value_is_rarely_false_of_accuracies(seeds, rows, share):
    """Runs that get each row right independently, so that some have all right; the paper's is one more run."""
    draws = 100 * np.random.default_rng(5).binomial(rows, share, size=(DRAWS, seeds + 1)) / rows
    margin = max(0.2, 100 / rows)
    found = Counter(said(value(Evidence(tuple(ours), rows=rows), paper, margin)) for paper, *ours in draws.tolist())
    assert_rare(judged(found, "higher", "lower") / DRAWS, 0.05)


@every_case
def test_value_is_rarely_false_near_100(noise, seeds):
    """Accuracies near 100 with the spread of seeds; the paper's is one more run."""
    for mean, spread in ((99.2, 0.2), (98, 0.5)):
        draws = np.clip(
            mean + spread * drawn(noise, seeds + 1, seed=6) / (3**0.5 if noise == "heavy tails" else 1), 0, 100
        )
        draws = draws.round(2)  # 10,000 rows
        found = Counter(said(value(Evidence(tuple(one[1:]), rows=10_000), one[0], 0.2)) for one in draws.tolist())
        assert_rare(judged(found, "higher", "lower") / DRAWS, 0.05)


@every_case
def test_reaches_is_rarely_false(noise, seeds):
    """At the limit itself, the worst case, both verdicts are false; each comes up in 5 % of cases."""
    found = rates(partial(reaches, paper=1, margin=1), drawn(noise, seeds, seed=7))
    assert_rare(found[REPRODUCED, "reached"], 0.05)
    assert_rare(judged(found, "lower"), 0.05)


@every_case
def test_within_is_rarely_false(noise, seeds):
    """The margin is 1. False is with no effect "outside the margin", to each side, and with one of two margins
    "reproduced".
    """
    for spread in (0.7, 10):
        draws = spread * drawn(noise, seeds, seed=8)
        assert_rare(judged(rates(partial(within, margin=1), draws), "outside the margin") / 2)
        assert_rare(rates(partial(within, margin=1), draws + 2)[REPRODUCED, ""])


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize(("seeds", "step"), [((10, 10), 0), ((20, 10), 0), ((21, 21), 1)])
def test_varies_more_is_rarely_false(noise, seeds, step):
    """Both vary alike: every verdict is false. Also of numbers rounded to a step as large as their spread."""
    ours, other = (drawn(noise, count, seed=seed) for seed, count in enumerate(seeds, start=9))
    if step:
        ours, other = (np.round(one / step) * step for one in (ours, other))
    found = Counter(said(varies_more(*pair)) for pair in zip(ours.tolist(), other.tolist(), strict=True))
    assert_rare(found[REPRODUCED, ""] / DRAWS)
    assert_rare(judged(found, "opposite") / DRAWS)


@every_case
def test_the_weakest_is_rarely_false(noise, seeds):
    """Four effects. None of them there, or only one missing: false is any verdict, to each side."""
    draws = drawn(noise, 4, seeds, seed=11)
    for effects in (np.zeros(4), np.array([0, 9, 9, 9])):
        several = (draws + effects[:, None]).tolist()
        found = Counter(said(weakest([Evidence(tuple(one)) for one in four])) for four in several)
        assert_rare(found[REPRODUCED, ""] / DRAWS)
        assert_rare(judged(found, "opposite") / DRAWS)


def looks(noise, seeds, limit, slope, *, share, before, apart, seed=12):
    """Numbers of runs at two shares of the budget: a line in its logarithm, another one for each run, to the limit.

    The limit and the slope vary from run to run by 1 and by a third of the slope; each look by `apart` on its own.
    """
    ends = limit + drawn(noise, seeds, seed=seed)
    slopes = slope * (1 + drawn(noise, seeds, seed=seed + 1) / 3)
    return [
        ends + slopes * math.log(part) + apart * drawn(noise, seeds, seed=seed + 2 + index)
        for index, part in enumerate((share, before))
    ]


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize(
    ("seeds", "share", "before", "slope", "apart"),
    [(3, 0.5, 0.1, 4, 0.5), (5, 0.25, 0.125, -5, 0.1), (10, 0.5, 0.1, 4, 0.5), (20, 0.25, 0.125, -5, 0.1)],
)
def test_at_budget_is_rarely_false(noise, seeds, share, before, slope, apart):
    """Trends that are lines in the logarithm of the budget, with the limit known.

    False is of "greater" what it is at the limit: with none "reproduced" or "opposite", with one of the paper's size
    "smaller than claimed"; of "within" with two margins "reproduced"; of a value three margins away "reproduced".
    """
    budget = {"share": share, "share_before": before}
    options = {"share": share, "before": before, "apart": apart}

    def at(rule, limit, margin):
        now, earlier = looks(noise, seeds, limit, slope, **options)
        rows = zip(now.tolist(), earlier.tolist(), strict=True)
        found = Counter(
            said(at_budget(rule, Evidence(tuple(one)), Evidence(tuple(other)), margin=margin, **budget))
            for one, other in rows
        )
        return Counter({verdict: count / DRAWS for verdict, count in found.items()})

    found = at(partial(greater, margin=0.5, size=3), 0, 0.5)
    assert_rare(found[REPRODUCED, ""])
    assert_rare(judged(found, "opposite"))
    found = at(partial(greater, margin=0.5, size=3), 3, 0.5)
    assert_rare(judged(found, "smaller than claimed", "opposite"))
    assert_rare(at(partial(within, margin=1), 2, 1)[REPRODUCED, ""])
    assert_rare(at(partial(value, paper=3, margin=1), 0, 1)[REPRODUCED, ""], 0.05)


@every_case
def test_a_value_at_budget_is_rarely_false(noise, seeds):
    """The paper's number is one more run, of the whole budget: false is "not reproduced"."""
    now, earlier = looks(noise, seeds, 0, 3, share=0.25, before=0.125, apart=0.1)
    papers = drawn(noise, seed=20)
    found = Counter(
        said(at_budget(partial(value, paper=paper, margin=0.5), *map(Evidence, map(tuple, pair)), **QUARTER))
        for paper, *pair in zip(papers.tolist(), now.tolist(), earlier.tolist(), strict=True)
    )
    assert_rare(judged(found, "higher", "lower") / DRAWS, 0.05)


def test_a_trend_that_bends_within_its_allowance_is_rarely_judged_falsely():
    """The line leads half a margin for each factor beyond the limit of 0: the allowance takes it back."""
    ahead, margin = 2, 1.0
    now, earlier = looks("normal", 10, ahead * margin / 2, -1, share=0.25, before=0.125, apart=0.1)
    found = Counter(
        said(
            at_budget(partial(greater, margin=margin), *map(Evidence, map(tuple, pair)), **QUARTER | {"margin": margin})
        )
        for pair in zip(now.tolist(), earlier.tolist(), strict=True)
    )
    assert_rare(found[REPRODUCED, ""] / DRAWS)
