"""The rules by hand-made numbers, and how often they are wrong on drawn ones."""

import itertools
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
    reaches,
    seeds_needed,
    too_small,
    value,
    varies_more,
    weakest,
    within,
)

YES = (REPRODUCED, "")
POWER, BUDGET, OPPOSITE = (UNDECIDED, "power"), (UNDECIDED, "budget"), (NOT_REPRODUCED, "opposite")
SMALLER, NO_DIFFERENCE = (NOT_REPRODUCED, "smaller than claimed"), (NOT_REPRODUCED, "no difference")
HIGHER, LOWER, OUTSIDE = ((NOT_REPRODUCED, reason) for reason in ("higher", "lower", "outside the margin"))
REACHED = (REPRODUCED, "reached")


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


A_GREATER = partial(greater, margin=0.2)
OF_ONE = partial(greater, margin=0.2, size=1.0)
OF_LITTLE = partial(greater, margin=0.2, size=0.3)  # below two margins: never "smaller than claimed"
ZERO = partial(value, paper=0, margin=1)
TEN = partial(reaches, paper=10, margin=0.5)
ALIKE = partial(within, margin=1.0)


@pytest.mark.parametrize(
    ("rule", "now", "expected"),
    [
        (OF_ONE, five(1.0, 0.5), YES),
        (OF_ONE, five(-1.0, 0.5), OPPOSITE),
        (OF_ONE, five(0.3, 0.1), SMALLER),  # 0.176 to 0.424
        (OF_ONE, five(0.1, 0.2), SMALLER),  # -0.148 to 0.348
        (OF_ONE, five(0.3, 0.5), POWER),  # -0.32 to 0.92
        (A_GREATER, five(1.0, 0.5), YES),
        (A_GREATER, five(-1.0, 0.5), OPPOSITE),
        (A_GREATER, five(0.0, 0.2), NO_DIFFERENCE),  # 90 %: -0.191 to 0.191
        (A_GREATER, five(0.0, 0.22), POWER),  # 90 %: -0.21 to 0.21
        (A_GREATER, five(1, 0.7), YES),  # 0.131 to 1.869
        (partial(A_GREATER, level=0.99), five(1, 0.7), POWER),  # t = 4.604: -0.441 to 2.441
        (partial(greater, margin=0.01), Evidence((0.05, 0.05), rows=1_000), POWER),  # one row / sqrt(2): -0.02 to 0.12
        (OF_LITTLE, five(0.05, 0.05), POWER),  # -0.012 to 0.112
        (OF_LITTLE, five(0.1, 0.02), POWER),  # 0.075 to 0.125: above 0, but short of 0.15
        (OF_LITTLE, five(0.2, 0.02), YES),
        (OF_LITTLE, five(-0.2, 0.02), OPPOSITE),
        (ZERO, five(0.3, 0.5), YES),  # the mean: -0.321 to 0.921
        (ZERO, five(0.9, 0.4), YES),  # a further run: -0.316 to 2.116, no more than 1.5 wide
        (ZERO, five(1.0, 0.5), POWER),  # -0.521 to 2.521: 1.52 wide
        (ZERO, five(2.0, 0.3), HIGHER),  # 98 %: 0.769 to 3.231
        (ZERO, five(-2.0, 0.3), LOWER),
        (ZERO, five(0.9, 0.15), POWER),  # outside, but within m of our mean
        (ZERO, five(2.0, 1.0), POWER),
        (ZERO, ten(2.0, 1.0), (COMPATIBLE, "")),
        (ZERO, ten(2.0, 0.3), HIGHER),
        (partial(value, paper=98.7, margin=0.2), Evidence((98.6,) * 3, rows=10_000), YES),  # exact: 98.35 to 98.82
        (partial(value, paper=99.2, margin=0.2), Evidence((98.6,) * 3, rows=10_000), LOWER),
        (TEN, five(9.61, 0.1), REACHED),  # the bound is 9.515 and the limit 9.5
        (TEN, five(20.0, 0.1), REACHED),
        (TEN, five(9.55, 0.1), POWER),
        (TEN, five(9.45, 0.1), POWER),
        (TEN, five(9.39, 0.1), LOWER),
        (ALIKE, five(0.0, 1.0), YES),  # 90 %: -0.953 to 0.953
        (ALIKE, five(0.0, 1.1), POWER),  # 90 %: -1.049 to 1.049
        (ALIKE, five(2.0, 0.7), OUTSIDE),  # 95 %: 1.131 to 2.869
        (ALIKE, five(-2.0, 0.7), OUTSIDE),
        (ALIKE, five(2.0, 0.9), POWER),  # 90 %: 1.142 to 2.858, but 95 %: 0.882 to 3.118
    ],
)
def test_rules_by_hand(rule, now, expected):
    verdict = rule(now)
    assert said(verdict) == expected
    assert verdict.ours == pytest.approx(np.mean(now.values))
    assert verdict.low <= verdict.ours <= verdict.high


HALF = 1.242  # of five runs at 95 %, in spreads


@pytest.mark.parametrize(
    ("verdict", "low", "high", "interval"),
    [
        (A_GREATER(five(1, 0.5)), 1 - 0.5 * HALF, 1 + 0.5 * HALF, "95 % (t), paired by seed"),
        (A_GREATER(five(0, 0.2)), -0.1907, 0.1907, "90 % (t), paired by seed"),
        (A_GREATER(Evidence(five(1, 0.5).values, five(0, 0.5).values)), 0.271, 1.729, "95 % (Welch)"),  # t(8) = 2.306
        (A_GREATER(Evidence(five(98, 0.5).values, (97.0,), 10_000)), 0.379, 1.621, "95 % (t), beside one number"),
        (A_GREATER(Evidence((0.1, 0.1), rows=1_000)), 0.0293, 0.1707, "95 % (t), paired by seed"),
        (ZERO(five(0.3, 0.5)), 0.3 - 0.5 * HALF, 0.3 + 0.5 * HALF, "95 % of the mean (t)"),
        (ZERO(five(0.9, 0.4)), 0.9 - 0.4 * 3.041, 0.9 + 0.4 * 3.041, "95 % of one further run (t)"),
        (ZERO(five(2.0, 0.3)), 2 - 0.3 * 4.105, 2 + 0.3 * 4.105, "98 % of one further run (t)"),
        (value(Evidence((98.6,) * 3, rows=10_000), 98.7, 0.2), 98.35, 98.82, "95 % of one further run (exact)"),
        (value(Evidence((98.6,), rows=10_000), 98.6, 0.2), 98.35, 98.82, "95 % over the test rows of one run (exact)"),
        (TEN(five(9.61, 0.1)), 9.515, 9.705, "95 % to either side, of the mean (t)"),
        # Two intervals at 97.5 % each: t(4) = 3.495, 1.563 spreads to either side.
        (weakest([five(1, 0.5), five(2, 0.1)]), 0.2185, 1.7815,
         "the weakest of 2, simultaneous: 97.5 % (t), paired by seed"),
        (always(1, 10), 1 - 0.975**0.1, 0.445, "share of runs that violate it, 95 % (exact)"),
        (always(0, 59), 0, 1 - 0.05 ** (1 / 59), "share of runs that violate it, 95 % below (exact)"),
    ],
)  # fmt: skip
def test_the_interval_that_decides_is_shown(verdict, low, high, interval):
    assert (verdict.low, verdict.high) == pytest.approx((low, high), abs=5e-3)
    assert verdict.interval == interval


# By hand, spread 0.5: sqrt(10) >= 2.262 + 0.883 but 3 < 2.306 + 0.889, and 2 sqrt(5) >= 2.776 + 0.941 but not 4.
@pytest.mark.parametrize(
    ("verdict", "decides"),
    [
        (OF_ONE(five(0.3, 0.5)),
         "5 seeds here; about 10 if there is no effect, about 5 if it is as large as the paper's"),
        (OF_ONE(five(0.3, 0.1)), "above 0 is shown"),
        (OF_ONE(five(0.1, 0.2)), "direction open"),
        (ZERO(ten(2, 1)), f"one run varies by ±{2.262 * (8 / 9) ** 0.5 * 1.1**0.5:.2g}: no number of seeds tells more"),
        (ZERO(five(2, 1)), "5 seeds here; 10 or more"),
        # Spread 1, 1 away: sqrt(8) = 2.83 >= 1.895 + 0.896, sqrt(7) = 2.65 < 1.943 + 0.906.
        (reaches(five(9, 1), 10, 1), "5 seeds here; about 8 if it is just reached"),
        (ALIKE(five(1.5, 1)), "5 seeds here; about 11 if there is no difference"),
        (always(0, 58), "58 runs here; 59 or more without a violation"),
        (A_GREATER(Evidence((1.0,))), "1 seeds here; 2 or more"),
    ],
)  # fmt: skip
def test_what_is_open_says_what_would_decide(verdict, decides):
    assert verdict.decides == decides


def test_a_size_below_two_margins_and_a_hopeless_spread_are_told():
    assert "too small to be told" in OF_LITTLE(five(0.1, 0.02)).decides
    assert "more than a million" in OF_ONE(five(0, 1e6)).decides


def test_seeds_needed():
    assert {seeds_needed(five(mean, 0.5), 0.2, 1.0) for mean in (-3.0, 0.0, 7.0)} == {(10, 5)}, "whatever was seen"
    assert seeds_needed(five(0, 0.05), 0.2, 0.3)[0] is None, "no seeds tell a small size from half of it"
    # Equivalence within 1, spread 1: sqrt(n) >= t(0.95) + t(0.9): 10.09 = 3.176 ** 2 < 11 = 3.317 ** 2: 1.812 + 1.372.
    assert seeds_needed(five(0, 1), 1.0, None) == (11, None)
    assert seeds_needed(Evidence((1.0,)), 0.2, 1.0) == seeds_needed(five(0, 1e6), 0.2, 1.0) == (None, None)
    assert seeds_needed(Evidence((0.5, 0.5)), 0.2, 1.0) == (2, 2)
    assert seeds_needed(Evidence((0.5, 0.5), rows=50), 1.0, 8.0) == seeds_needed(five(0, 2.0), 1.0, 8.0)
    pair = Evidence(five(0, 3.0).values, five(0, 4.0).values)
    assert seeds_needed(pair, 1.0, 5.0) == seeds_needed(five(0, 5.0), 1.0, 5.0)


@pytest.mark.parametrize("now", [(), (1.0,)])
def test_fewer_than_two_runs_are_shown_but_decide_nothing(now):
    found = [rule(Evidence(now)) for rule in (OF_ONE, A_GREATER, ZERO, TEN, ALIKE)]
    found += [rule(Evidence((1.0, 2.0), ())) for rule in (A_GREATER, ALIKE)]
    assert {said(one) for one in [*found, weakest([five(1, 0.1), Evidence(now)])]} == {POWER}
    assert [one.ours for one in found[:5]] == pytest.approx(list(now or [math.nan]) * 5, nan_ok=True)


@given(
    values=st.lists(st.floats(-100, 100), min_size=2, max_size=8),
    margin=st.floats(0.01, 10),
    size=st.none() | st.floats(0.01, 10),
    factor=st.integers(-20, 20).map(lambda power: 2.0**power),  # exact
)
@settings(deadline=None)
def test_scale_does_not_matter_and_what_is_mirrored_has_the_mirrored_verdict(values, margin, size, factor):
    now, scaled, mirrored = (Evidence(tuple(times * one for one in values)) for times in (1, factor, -1))
    large = None if size is None else factor * size
    assert said(greater(scaled, factor * margin, large)) == said(greater(now, margin, size))
    assert said(within(scaled, factor * margin)) == said(within(mirrored, margin)) == said(within(now, margin))
    for rule in (value, reaches):
        assert said(rule(scaled, factor * 3, factor * margin)) == said(rule(now, 3, margin))
    verdict = said(greater(now, margin))
    assert said(greater(mirrored, margin)) == {YES: OPPOSITE, OPPOSITE: YES}.get(verdict, verdict)
    verdict = said(value(now, 5, margin))
    assert said(value(mirrored, -5, margin)) == {HIGHER: LOWER, LOWER: HIGHER}.get(verdict, verdict)


def test_always():
    assert said(always(1, 1_000)) == (NOT_REPRODUCED, "a violation")
    assert [said(always(0, trials)) for trials in (0, 58, 59)] == [POWER, POWER, YES]
    assert always(2, 2).high == 1


STEADY = tuple(float(one) for one in range(10))
WILD = tuple(100.0 * one for one in STEADY)


def test_varies_more_takes_ten_runs_a_side():
    assert said(varies_more(STEADY, WILD)) == YES
    assert varies_more(STEADY, WILD).ours == pytest.approx(2)  # a hundred times, in log10
    assert said(varies_more(WILD, STEADY)) == OPPOSITE
    undecided = [(STEADY, STEADY), (STEADY[:9], WILD), (STEADY, WILD[:9]), ((1.0,) * 10, (1.0,) * 10), ((1.0,), ())]
    assert {said(varies_more(*pair)) for pair in undecided} == {POWER}


def test_the_weakest_decides():
    assert said(weakest([five(1, 0.5), five(2, 0.1)])) == YES
    assert said(weakest([five(1, 0.7), five(2, 0.1)])) == POWER, "alone it would be above 0"
    opposite = weakest([five(1, 0.1), five(-1, 0.1), five(0, 9)])
    assert (*said(opposite), opposite.ours) == (*OPPOSITE, pytest.approx(-1))


QUARTER = {"share": 0.25, "share_before": 0.125, "margin": 0.2}  # two factors of 2 are ahead: moved by 0.2
ONE, HALF_ALIKE = partial(value, paper=1.0, margin=0.2), partial(within, margin=0.5)
REACHES_ONE = partial(reaches, paper=1.0, margin=0.2)


@pytest.mark.parametrize(
    ("rule", "now", "before", "expected"),
    [
        (A_GREATER, 1.0, 0.8, YES),  # the trend leads to 1.4
        (A_GREATER, 0.5, 0.6, BUDGET),  # to 0.3, and moved to 0.1
        (A_GREATER, 0.5, 0.55, YES),  # to 0.4, and moved to 0.2
        (A_GREATER, -0.5, -0.55, OPPOSITE),
        (A_GREATER, -0.5, -0.6, BUDGET),
        (OF_ONE, 0.1, 0.1, SMALLER),  # moved up to 0.3; moving down by more would say "opposite"
        (OF_ONE, 0.2, 0.15, BUDGET),  # to 0.3, moved up to 0.5
        (A_GREATER, 0.12, 0.12, POWER),
        (A_GREATER, 0.05, 0.05, BUDGET),  # moved to 0.25, and above 0
        (partial(greater, margin=1.0), 0.0, 0.0, NO_DIFFERENCE),  # moved to 0.2 either way
        (partial(value, paper=1.0, margin=0.5), 1.0, 1.0, YES),
        (partial(value, paper=1.0, margin=0.5), 1.0, 0.8, BUDGET),  # to 1.4, moved to 1.6
        (ONE, 2.2, 2.3, HIGHER),  # to 2, moved to 1.8
        (ONE, 1.7, 1.9, BUDGET),
        (ONE, 0.0, -0.1, LOWER),  # to 0.2, moved to 0.4
        (ONE, 0.3, 0.1, BUDGET),
        (REACHES_ONE, 1.0, 9.0, REACHED),  # more training takes nothing
        (REACHES_ONE, 0.0, -0.1, LOWER),
        (REACHES_ONE, 0.0, -0.4, BUDGET),
        (HALF_ALIKE, 0.0, 0.0, YES),
        (HALF_ALIKE, 0.0, 0.2, BUDGET),
        (HALF_ALIKE, 2.0, 2.3, OUTSIDE),
        (HALF_ALIKE, -2.0, -2.6, BUDGET),
    ],
)
def test_at_budget(rule, now, before, expected):
    spread = 0.3 if expected == NO_DIFFERENCE else 0.1  # which at 95 % is 0.372 around +-0.2
    now, before = five(now, spread), five(before, spread)
    verdict = at_budget(rule, now, before, **QUARTER)
    assert said(verdict) == expected
    assert ("; its trend to the whole may say: " in verdict.decides) == (expected == BUDGET)
    assert at_budget(rule, now, Evidence(()), share=1, share_before=1, margin=1) == rule(now)


def test_the_trend_is_carried_on_run_by_run_to_numbers_that_count_less():
    seen = []
    now, before = Evidence((3.0, 4.0), (1.0,), 1_000), Evidence((2.0, 3.5), (0.5,), 1_000)
    at_budget(lambda one: (seen.append(one), Verdict(REPRODUCED))[1], now, before, **QUARTER)
    assert [*seen[1].values, *seen[2].values] == pytest.approx([4.8, 4.8, 5.2, 5.2])  # moved by 0.2 either way
    assert seen[1].others == pytest.approx((2.0,))
    assert seen[1].rows == int(1_000 / math.hypot(3, 2))
    now, before = (Evidence(values, rows=1_000) for values in ((99.0, 99.2, 99.1), (97.0, 97.3, 97.2)))
    assert said(at_budget(partial(value, paper=99.9, margin=0.2), now, before, **QUARTER)) == BUDGET, "above 100"


def test_another_reduction_must_agree_with_half_of_it():
    assert at_half(A_GREATER, five(1, 0.1), five(2, 0.3)) == A_GREATER(five(1, 0.1))
    verdict = at_half(A_GREATER, five(1, 0.1), five(-1, 0.1))
    assert said(verdict) == BUDGET
    assert verdict.decides == "this size says: reproduced; half of it says: not reproduced (opposite)"
    assert at_half(A_GREATER, five(0.1, 1), five(2, 0.1)) == A_GREATER(five(0.1, 1))
    for pair in ((ten(2.0, 1.0), five(0.3, 0.5)), (five(0.3, 0.5), ten(2.0, 1.0))):
        assert said(at_half(ZERO, *pair)) == (COMPATIBLE, "")


def test_margins():
    assert margin_of("mnist", 10_000) == MARGINS["mnist"] == 0.2
    assert (margin_of("mnist", 10_000, decimals=0), margin_of("orl", 80)) == (1, 1.25)
    small = [(0.2, 0.39), (0.1, 99.28 - 99.08), (0.1, 99.08 - 98.88), (0.2, None)]
    assert [too_small(*one) for one in small] == [True, False, False, False]


@pytest.mark.parametrize(
    ("values", "dataset", "expected"),
    [
        ([98.0, 9.8, 97.0, 98.5], "mnist", {1}),
        ([98.0, 10.0, 11.0, 97.0], "mnist", {1, 2}),
        ([85.0, 76.4, 85.3], "adult", {1}),  # nearer to always saying the one class
        ([98.0, 97.0], "mnist", set()),
        ([10.0, 10.0, 10.0, 98.0], "mnist", set()),
        ([10.0], "mnist", set()),
        ([], "mnist", set()),
    ],
)
def test_collapsed_runs_are_told_apart(values, dataset, expected):
    assert collapsed(values, dataset) == expected


def test_evidence_without_the_runs_that_collapsed():
    now = Evidence((1.0, 2.0, 3.0), (4.0, 5.0), 100, frozenset({1}), frozenset({0}))
    assert (now.apart(), now.count_collapsed) == (Evidence((1.0, 3.0), (5.0,), 100), 2)
    assert Evidence((7.0, 8.0, 9.0), (1.0, 2.0), 100).apart(now) == Evidence((7.0, 9.0), (2.0,), 100)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        *((partial(rule, five(1, 1), margin=bad), f"margin={bad}")
          for bad in (0, -1, math.nan, math.inf)
          for rule in (greater, within, partial(value, paper=1), partial(reaches, paper=1))),
        (partial(greater, five(1, 1), 1, -1), "size=-1"),
        (partial(value, Evidence((1.0, 2.0), (1.0,)), 1, 1), "others"),
        (partial(reaches, Evidence((1.0, 2.0), (1.0,)), 1, 1), "others"),
        (partial(Evidence, (1.0, math.nan)), "values"),
        (partial(Evidence, (1.0,), (math.inf,)), "others"),
        (partial(Evidence, (1.0,), rows=0), "rows=0"),
        (partial(always, 3, 2), "violations=3"),
        (partial(weakest, []), "several"),
        (partial(margin_of, "cifar", 10_000), "dataset='cifar'"),
        (partial(margin_of, "mnist", 0), "rows=0"),
        *((partial(at_budget, A_GREATER, five(1, 1), five(1, 1), **QUARTER | {"share_before": before}), "share_before")
          for before in (0.0, 0.126, 0.5)),
        (partial(at_budget, A_GREATER, five(1, 1), ten(1, 1), **QUARTER), "same runs"),
        (partial(at_budget, A_GREATER, Evidence((1.0,) * 5, (1.0,)), five(1, 1), **QUARTER), "same runs"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named_in_one_line(call, named):
    with pytest.raises(InputError) as error:
        call()
    assert named in str(error.value)
    assert "must" in str(error.value)
    assert "\n" not in str(error.value)


def test_the_rules_are_plain_sentences():
    assert all(rule[0].isupper() and rule.endswith(".") for rule in RULES)


# --- How often a verdict is false: in 2.5 % of cases a side, and what 2,000 repetitions leave open about that ---

DRAWS = 2_000
NOISES = {
    "normal": lambda draw, *shape: draw.normal(size=shape),
    "heavy tails": lambda draw, *shape: draw.standard_t(3, size=shape),
}
CASES = list(itertools.product(NOISES, (3, 5, 10, 20)))
SIMULATIONS = []


def simulation(*cases):
    """Add a function of a case: (share of repetitions with a false verdict, limit) for each kind of falsehood."""

    def add(function):
        SIMULATIONS.extend(pytest.param(function, case, id=f"{function.__name__}{case}") for case in cases)

    return add


@pytest.mark.parametrize(("simulate", "case"), SIMULATIONS)
def test_a_verdict_is_rarely_false(simulate, case):
    for rate, limit in simulate(*case):
        assert rate <= limit + 3 * math.sqrt(limit * (1 - limit) / DRAWS)


def drawn(noise, *shape, seed=0):
    """Noise of `DRAWS` repetitions of an experiment."""
    return NOISES[noise](np.random.default_rng([seed, *map(ord, noise), *shape]), DRAWS, *shape)


def shares(verdicts):
    """How often each verdict comes up, in shares of the repetitions."""
    return Counter({verdict: count / DRAWS for verdict, count in Counter(map(said, verdicts)).items()})


def rates(rule, *numbers):
    """The same for a rule, where a row of each of the numbers is the evidence of a repetition."""
    return shares(rule(Evidence(*map(tuple, row))) for row in zip(*(one.tolist() for one in numbers), strict=True))


@simulation(*((*case, spread) for case in CASES for spread in (0.4, 4)))
def greater_than_five_margins(noise, seeds, spread):
    draws = spread * drawn(noise, seeds)
    nothing, effect = rates(OF_ONE, draws), rates(OF_ONE, draws + 1)
    return [(one, 0.025) for one in (nothing[YES], nothing[OPPOSITE], effect[SMALLER], effect[OPPOSITE])]


@simulation(*CASES)
def greater_without_a_size(noise, seeds):
    """Of an effect of two margins "no difference" is false, too."""
    draws = drawn(noise, seeds, seed=1)
    nothing, effect = (rates(partial(greater, margin=1.5), draws + shift) for shift in (0, 3))
    return [(one, 0.025) for one in (nothing[YES], nothing[OPPOSITE], effect[NO_DIFFERENCE] + effect[OPPOSITE])]


@simulation(*itertools.product(NOISES, ((3, 3, 5), (5, 5, 3), (20, 20, 1), (3, 20, 1), (10, 3, 3))))
def greater_of_unpaired_runs(noise, sides):
    """Numbers of runs and spreads differ between the two methods."""
    seeds, others, ratio = sides
    ours, other = drawn(noise, seeds, seed=2), ratio * drawn(noise, others, seed=3)
    nothing, effect = rates(OF_ONE, ours, other), rates(OF_ONE, ours + 1, other)
    return [(one, 0.025) for one in (nothing[YES], nothing[OPPOSITE], effect[SMALLER])]


def of_one_more_run(draws, margin, rows=None):
    """How often "not reproduced" comes up where the paper's number is one more run, the first of each row."""
    found = shares(value(Evidence(tuple(ours), rows=rows), paper, margin) for paper, *ours in draws.tolist())
    return found[HIGHER] + found[LOWER], 0.05


@simulation(*((*case, spread) for case in CASES for spread in (0.3, 3)))
def value_of_one_more_run_or_three_margins_away(noise, seeds, spread):
    draws = spread * drawn(noise, seeds + 1, seed=4)
    return [of_one_more_run(draws, 1), (rates(partial(value, paper=3, margin=1), draws[:, 1:])[YES], 0.05)]


@simulation(*itertools.product((3, 5, 10, 20), ((120, 0.95), (100, 0.985), (40, 0.97))))
def value_of_accuracies(seeds, size):
    """Runs get each row right independently, so that some have all right."""
    rows, share = size
    draws = 100 * np.random.default_rng(5).binomial(rows, share, size=(DRAWS, seeds + 1)) / rows
    return [of_one_more_run(draws, max(0.2, 100 / rows), rows)]


@simulation(*itertools.product(NOISES, (3, 5, 10, 20), ((99.2, 0.2), (98, 0.5))))
def value_near_100(noise, seeds, size):
    mean, spread = size
    noises = drawn(noise, seeds + 1, seed=6) / (3**0.5 if noise == "heavy tails" else 1)
    return [of_one_more_run(np.clip(mean + spread * noises, 0, 100).round(2), 0.2, 10_000)]


@simulation(*CASES)
def reaches_the_limit_itself(noise, seeds):
    """The worst case: both verdicts are false."""
    found = rates(partial(reaches, paper=1, margin=1), drawn(noise, seeds, seed=7))
    return [(found[REACHED], 0.05), (found[LOWER], 0.05)]


@simulation(*((*case, spread) for case in CASES for spread in (0.7, 10)))
def within_with_no_effect_and_with_two_margins(noise, seeds, spread):
    draws = spread * drawn(noise, seeds, seed=8)
    return [(rates(ALIKE, draws)[OUTSIDE] / 2, 0.025), (rates(ALIKE, draws + 2)[YES], 0.025)]


@simulation(*itertools.product(NOISES, ((10, 10, 0), (20, 10, 0), (21, 21, 1))))
def varies_more_where_both_vary_alike(noise, sides):
    """Also of numbers rounded to a step as large as their spread."""
    *seeds, step = sides
    ours, other = (drawn(noise, count, seed=seed) for seed, count in enumerate(seeds, start=9))
    if step:
        ours, other = (np.round(one / step) * step for one in (ours, other))
    found = shares(varies_more(*pair) for pair in zip(ours.tolist(), other.tolist(), strict=True))
    return [(found[YES], 0.025), (found[OPPOSITE], 0.025)]


@simulation(*itertools.product(NOISES, (3, 5, 10, 20), ((0, 0, 0, 0), (0, 9, 9, 9))))
def weakest_of_four(noise, seeds, effects):
    draws = drawn(noise, 4, seeds, seed=11) + np.array(effects)[:, None]
    found = shares(weakest([Evidence(tuple(one)) for one in four]) for four in draws.tolist())
    return [(found[YES], 0.025), (found[OPPOSITE], 0.025)]


def looks(noise, seeds, limit, slope, *, share, before, apart):
    """Numbers of runs at two shares of the budget: a line in its logarithm, another one for each run, to the limit.

    The limit and the slope vary from run to run by 1 and by a third of the slope; each look by `apart` on its own.
    """
    ends = limit + drawn(noise, seeds, seed=12)
    slopes = slope * (1 + drawn(noise, seeds, seed=13) / 3)
    found = [
        ends + slopes * math.log(part) + apart * drawn(noise, seeds, seed=14 + index)
        for index, part in enumerate((share, before))
    ]
    return [[Evidence(tuple(one)) for one in pair] for pair in zip(*(look.tolist() for look in found), strict=True)]


TRENDS = ((3, 0.5, 0.1, 4, 0.5), (5, 0.25, 0.125, -5, 0.1), (10, 0.5, 0.1, 4, 0.5), (20, 0.25, 0.125, -5, 0.1))


@simulation(*itertools.product(NOISES, TRENDS))
def at_budget_where_trends_are_lines(noise, trend):
    seeds, share, before, slope, apart = trend

    def at(rule, limit, margin):
        pairs = looks(noise, seeds, limit, slope, share=share, before=before, apart=apart)
        return shares(at_budget(rule, *pair, share=share, share_before=before, margin=margin) for pair in pairs)

    rule = partial(greater, margin=0.5, size=3)
    nothing, effect = at(rule, 0, 0.5), at(rule, 3, 0.5)
    return [
        (nothing[YES], 0.025), (nothing[OPPOSITE], 0.025), (effect[SMALLER] + effect[OPPOSITE], 0.025),
        (at(ALIKE, 2, 1)[YES], 0.025), (at(partial(value, paper=3, margin=1), 0, 1)[YES], 0.05),
    ]  # fmt: skip


@simulation(*CASES)
def value_at_budget_of_one_more_run_of_the_whole(noise, seeds):
    pairs, papers = looks(noise, seeds, 0, 3, share=0.25, before=0.125, apart=0.1), drawn(noise, seed=20).tolist()
    rules = [partial(value, paper=paper, margin=0.5) for paper in papers]
    found = shares(at_budget(rule, *pair, **QUARTER) for rule, pair in zip(rules, pairs, strict=True))
    return [(found[HIGHER] + found[LOWER], 0.05)]


@simulation(())
def at_budget_where_a_trend_bends_within_its_allowance():
    """The line leads half a margin for each factor beyond the limit of 0: the allowance takes it back."""
    pairs = looks("normal", 10, 1.0, -1, share=0.25, before=0.125, apart=0.1)
    found = shares(at_budget(partial(greater, margin=1.0), *pair, **QUARTER | {"margin": 1.0}) for pair in pairs)
    return [(found[YES], 0.025)]
