"""The rules by hand-made numbers, and how often they are wrong on drawn ones."""

import math
from collections import Counter
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gadam.config import InputError
from gadam.paper import verdicts
from gadam.paper.verdicts import NOT_REPRODUCED, REPRODUCED, UNDECIDED, Evidence, at_budget, greater, value, weakest

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
TEN = partial(verdicts.reaches, paper=10, margin=0.5)
ALIKE = partial(verdicts.within, margin=1.0)


@pytest.mark.parametrize(
    ("rule", "now", "expected"),
    [
        (OF_ONE, five(1.0, 0.5), YES),
        (OF_ONE, five(-1.0, 0.5), OPPOSITE),
        (OF_ONE, five(0.3, 0.1), SMALLER),  # 0.176 to 0.424
        (OF_ONE, five(0.3, 0.5), POWER),  # -0.32 to 0.92
        (A_GREATER, five(0.0, 0.2), NO_DIFFERENCE),  # 90 %: -0.191 to 0.191
        (A_GREATER, five(0.0, 0.22), POWER),  # 90 %: -0.21 to 0.21
        (A_GREATER, five(1, 0.7), YES),  # 0.131 to 1.869
        (partial(A_GREATER, level=0.99), five(1, 0.7), POWER),  # t = 4.604: -0.441 to 2.441
        (partial(greater, margin=0.01), Evidence((0.05, 0.05), rows=1_000), POWER),  # one row / sqrt(2): -0.02 to 0.12
        (OF_LITTLE, five(0.1, 0.02), POWER),  # 0.075 to 0.125: above 0, but short of 0.15
        (OF_LITTLE, five(0.2, 0.02), YES),
        (ZERO, five(0.3, 0.5), YES),  # the mean: -0.321 to 0.921
        (ZERO, five(0.9, 0.4), YES),  # a further run: -0.316 to 2.116, no more than 1.5 wide
        (ZERO, five(1.0, 0.5), POWER),  # -0.521 to 2.521: 1.52 wide
        (ZERO, five(2.0, 0.3), HIGHER),  # 98 %: 0.769 to 3.231
        (partial(value, paper=10, margin=1), five(10.9, 0.15), POWER),  # outside, but within m of our mean
        (ZERO, Evidence((0.3, 0.3)), YES),
        (ZERO, ten(2.0, 1.0), (verdicts.COMPATIBLE, "")),
        (partial(value, paper=98.7, margin=0.2), Evidence((98.6,) * 3, rows=10_000), YES),  # exact: 98.35 to 98.82
        (partial(value, paper=99.2, margin=0.2), Evidence((98.6,) * 3, rows=10_000), LOWER),
        (TEN, five(9.61, 0.1), REACHED),  # the bound is 9.515 and the limit 9.5
        (TEN, five(9.45, 0.1), POWER),
        (TEN, five(9.39, 0.1), LOWER),
        (ALIKE, five(0.0, 1.0), YES),  # 90 %: -0.953 to 0.953
        (ALIKE, five(0.0, 1.1), POWER),  # 90 %: -1.049 to 1.049
        (ALIKE, five(2.0, 0.7), OUTSIDE),  # 95 %: 1.131 to 2.869
        (ALIKE, five(2.0, 0.9), POWER),  # 90 %: 1.142 to 2.858, but 95 %: 0.882 to 3.118
    ],
)
def test_rules_by_hand(rule, now, expected):
    verdict = rule(now)
    assert said(verdict) == expected
    assert verdict.ours == pytest.approx(np.mean(now.values))
    assert verdict.low <= verdict.ours <= verdict.high


def test_where_the_mean_is_short_of_the_papers_number_it_says_whether_one_run_may_reach_it():
    assert TEN(five(9.39, 0.1)).decides == ""  # 9.39 + 4.105 * 0.1
    may = TEN(five(9.2, 0.25))
    assert (said(may), may.decides) == (LOWER, "one further run may reach it (98 % of one: up to 10.23)")
    loss = verdicts.falls_to(Evidence((0.05, 0.047, 0.0452, 0.0439, 0.0485)), 0.0396, 0.00396)
    assert (said(loss), loss.decides) == (HIGHER, "one further run may reach it (98 % of one: down to 0.03685)")


HALF = 1.242  # of five runs at 95 %, in spreads


@pytest.mark.parametrize(
    ("verdict", "low", "high", "interval"),
    [
        (A_GREATER(five(1, 0.5)), 1 - 0.5 * HALF, 1 + 0.5 * HALF, "95 % (t), paired by seed"),
        (A_GREATER(five(0, 0.2)), -0.1907, 0.1907, "90 % (t), paired by seed"),
        (A_GREATER(Evidence(five(1, 0.5).values, five(0, 0.5).values)), 0.271, 1.729, "95 % (Welch)"),  # t(8) = 2.306
        (A_GREATER(Evidence(five(98, 0.5).values, (97.0,), 10_000)), 0.379, 1.621, "95 % (t), beside one number"),
        (ZERO(five(2.0, 0.3)), 2 - 0.3 * 4.105, 2 + 0.3 * 4.105, "98 % of one further run (t)"),
        (value(Evidence((98.6,) * 3, rows=10_000), 98.7, 0.2), 98.35, 98.82, "95 % of one further run (exact)"),
        (TEN(five(9.61, 0.1)), 9.515, 9.705, "95 % to either side, of the mean (t)"),
        # Two intervals at 97.5 % each: t(4) = 3.495, 1.563 spreads to either side.
        (weakest([five(1, 0.5), five(2, 0.1)]), 0.2185, 1.7815,
         "the weakest of 2, simultaneous: 97.5 % (t), paired by seed"),
        (verdicts.always(0, 59), 0, 1 - 0.05 ** (1 / 59), "share of runs that violate it, 95 % below (exact)"),
    ],
)  # fmt: skip
def test_the_interval_that_decides_is_shown(verdict, low, high, interval):
    assert (verdict.low, verdict.high) == pytest.approx((low, high), abs=5e-3)
    assert verdict.interval == interval


# By hand: the smallest n with sqrt(n) * shift / spread at or above t(n - 1) at 97.5 % (95 % where there are two tests)
# + t(n - 1) at 80 % (90 % where both must succeed). Shift and spread 0.5: n = 10, as sqrt(10) >= 2.262 + 0.883 but
# 3 < 2.306 + 0.889; shift 1: n = 5.
@pytest.mark.parametrize(
    ("verdict", "decides"),
    [
        (OF_ONE(five(0.3, 0.5)),
         "5 seeds here; about 10 if there is no effect, about 5 if it is as large as the paper's"),
        (OF_LITTLE(five(0.1, 0.15)),
         "5 seeds here; about 5 if it is as large as the paper's; no number if there is no effect, for half of the "
         "paper's difference is below the margin"),
        (ZERO(ten(2, 1)), f"one run varies by ±{2.262 * (8 / 9) ** 0.5 * 1.1**0.5:.2g}: no number of seeds tells more"),
        (verdicts.reaches(five(9, 1), 10, 1), "5 seeds here; about 8 if it is just reached"),
        (ALIKE(five(1.5, 1)), "5 seeds here; about 11 if there is no difference"),
        # Independent spreads of 3 and 4 are one of 5; the spread is at least one test row, 2 points.
        (greater(Evidence(five(0, 3).values, five(0, 4).values), 1, 10), greater(five(0, 5), 1, 10).decides),
        (greater(Evidence((0.5,) * 5, rows=50), 1, 2.5), greater(five(0, 2), 1, 2.5).decides),
        (verdicts.always(0, 58), "58 runs here; 59 or more without a violation"),
        # Nine log deviations a side that spread by 0.432: of ten runs 0.456, and 20 is the first n with
        # sqrt(n) * 0.301 / 0.456 at or above t(n - 1) at 97.5 % + t(n - 1) at 80 %.
        (verdicts.varies_more(range(10), range(10)), "10 seeds here; about 20 if it varies twice as much"),
        (weakest([five(1, 0.7), five(2, 0.1)]), "5 seeds here; with 20 its interval is half as wide"),
    ],
)  # fmt: skip
def test_what_is_open_says_what_would_decide(verdict, decides):
    assert verdict.decides == decides


@pytest.mark.parametrize("now", [(), (1.0,)])
def test_fewer_than_two_runs_are_shown_but_decide_nothing(now):
    found = [rule(Evidence(now)) for rule in (OF_ONE, A_GREATER, ZERO, TEN, ALIKE)]
    found += [rule(Evidence((1.0, 2.0), ())) for rule in (A_GREATER, ALIKE)]
    assert {said(one) for one in [*found, weakest([five(1, 0.1), Evidence(now)])]} == {POWER}
    assert [one.ours for one in found[:5]] == pytest.approx(list(now or [math.nan]) * 5, nan_ok=True)


@given(
    # Smaller ones would lose digits, or all, when they are scaled.
    values=st.lists(st.just(0.0) | st.floats(1e-9, 100) | st.floats(-100, -1e-9), min_size=2, max_size=8),
    margin=st.floats(0.01, 10),
    size=st.none() | st.floats(0.01, 10),
    factor=st.integers(-20, 20).map(lambda power: 2.0**power),  # exact
)
@settings(deadline=None)
def test_scale_does_not_matter_and_what_is_mirrored_has_the_mirrored_verdict(values, margin, size, factor):
    now, scaled, mirrored = (Evidence(tuple(times * one for one in values)) for times in (1, factor, -1))
    large = None if size is None else factor * size
    assert said(greater(scaled, factor * margin, large)) == said(greater(now, margin, size))
    alike = partial(verdicts.within, margin=margin)
    assert said(verdicts.within(scaled, factor * margin)) == said(alike(mirrored)) == said(alike(now))
    for rule in (value, verdicts.reaches):
        assert said(rule(scaled, factor * 3, factor * margin)) == said(rule(now, 3, margin))
    reached, fallen = verdicts.reaches(now, 3, margin), verdicts.falls_to(mirrored, -3, margin)
    assert said(fallen) == {LOWER: HIGHER}.get(said(reached), said(reached))
    assert (fallen.ours, fallen.low, fallen.high) == pytest.approx((-reached.ours, -reached.high, -reached.low))
    verdict = said(greater(now, margin))
    assert said(greater(mirrored, margin)) == {YES: OPPOSITE, OPPOSITE: YES}.get(verdict, verdict)
    verdict = said(value(now, 5, margin))
    assert said(value(mirrored, -5, margin)) == {HIGHER: LOWER, LOWER: HIGHER}.get(verdict, verdict)


STEADY = tuple(float(one) for one in range(10))
WILD = tuple(100.0 * one for one in STEADY)


@pytest.mark.parametrize(
    ("verdict", "expected", "ours"),
    [
        (verdicts.always(1, 1_000), (NOT_REPRODUCED, "a violation"), 1e-3),
        *((verdicts.always(0, trials), YES if trials > 58 else POWER, 0) for trials in (58, 59)),
        (verdicts.varies_more(STEADY, WILD), YES, 2),  # a hundred times, in log10
        (verdicts.varies_more(WILD, STEADY), OPPOSITE, -2),
        (verdicts.varies_more(STEADY, STEADY), POWER, 0),
        (verdicts.varies_more(STEADY[:9], WILD), POWER, 2),  # ten runs a side
        (verdicts.varies_more(WILD, STEADY[:9]), POWER, -2),
        (weakest([five(1, 0.5), five(2, 0.1)]), YES, 1),
        (weakest([five(1, 0.7), five(2, 0.1)]), POWER, 1),  # alone it would be above 0
        (weakest([five(1, 0.1), five(-1, 0.1), five(0, 9)]), OPPOSITE, -1),
        (verdicts.varies_more((1.0,) * 10, (1.0,) * 10), POWER, math.nan),
    ],
)
def test_rules_for_other_evidence_by_hand(verdict, expected, ours):
    assert said(verdict) == expected
    assert verdict.ours == pytest.approx(ours, nan_ok=True)


QUARTER = {"share": 0.25, "share_before": 0.125, "margin": 0.2}  # two factors of 2 are ahead: moved by 0.2
ONE, HALF_ALIKE = partial(value, paper=1.0, margin=0.2), partial(verdicts.within, margin=0.5)
REACHES_ONE = partial(verdicts.reaches, paper=1.0, margin=0.2)


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
        (A_GREATER, 0.05, 0.05, BUDGET),  # moved to 0.25, and above 0
        (partial(greater, margin=1.0), 0.0, 0.0, NO_DIFFERENCE),  # moved to 0.2 either way
        (partial(value, paper=1.0, margin=0.5), 1.0, 1.0, YES),
        (partial(value, paper=1.0, margin=0.5), 1.0, 0.8, BUDGET),  # to 1.4, moved to 1.6
        (ONE, 2.2, 2.3, HIGHER),  # to 2, moved to 1.8
        (ONE, 0.0, -0.1, LOWER),  # to 0.2, moved to 0.4
        (REACHES_ONE, 1.0, 9.0, REACHED),  # more training takes nothing
        (REACHES_ONE, 0.0, -0.1, LOWER),
        (HALF_ALIKE, 0.0, 0.0, YES),
        (HALF_ALIKE, 0.0, 0.2, BUDGET),
        (HALF_ALIKE, 2.0, 2.3, OUTSIDE),
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
    for looks in (QUARTER, QUARTER | {"share_before": 1 / 16}):
        at_budget(lambda one: (seen.append(one), verdicts.Verdict(REPRODUCED))[1], now, before, **looks)
    assert [*seen[1].values, *seen[2].values] == pytest.approx([4.8, 4.8, 5.2, 5.2])  # moved by 0.2 either way
    assert [*seen[4].values, *seen[5].values] == pytest.approx([3.9, 4.4, 4.1, 4.6])  # half of the factors are ahead
    assert seen[1].others == pytest.approx((2.0,))
    assert seen[1].rows == int(1_000 / math.hypot(3, 2))
    now, before = (Evidence(values, rows=1_000) for values in ((99.0, 99.2, 99.1), (97.0, 97.3, 97.2)))
    assert said(at_budget(partial(value, paper=99.9, margin=0.2), now, before, **QUARTER)) == BUDGET, "above 100"


def test_another_reduction_must_agree_with_half_of_it():
    assert verdicts.at_half(A_GREATER, five(1, 0.1), five(2, 0.3)) == A_GREATER(five(1, 0.1))
    verdict = verdicts.at_half(A_GREATER, five(1, 0.1), five(-1, 0.1))
    assert said(verdict) == BUDGET
    assert verdict.decides == "this size says: reproduced; half of it says: not reproduced (opposite)"
    assert verdicts.at_half(A_GREATER, five(0.1, 1), five(2, 0.1)) == A_GREATER(five(0.1, 1))
    for pair in ((ten(2.0, 1.0), five(0.3, 0.5)), (five(0.3, 0.5), ten(2.0, 1.0))):
        assert said(verdicts.at_half(ZERO, *pair)) == (verdicts.COMPATIBLE, "")
    opposite, smaller = five(-1, 0.1), five(0.1, 0.1)  # of a difference of 1
    for pair in ((opposite, smaller), (smaller, opposite)):
        assert said(verdicts.at_half(OF_ONE, *pair)) == (NOT_REPRODUCED, verdicts.SMALLER)


def test_margins():
    assert verdicts.margin_of("mnist", 10_000) == verdicts.MARGINS["mnist"] == 0.2
    assert verdicts.margin_of("orl", 80) == 1.25
    small = [(0.2, 0.39), (0.1, 99.28 - 99.08), (0.1, 99.08 - 98.88), (0.2, None)]
    assert [verdicts.too_small(*one) for one in small] == [True, False, False, False]


@pytest.mark.parametrize(
    ("values", "dataset", "expected"),
    [
        ([98.0, 10.0, 11.0, 97.0], "mnist", {1, 2}),
        ([85.0, 76.4, 85.3], "adult", {1}),  # nearer to always saying the one class
        ([98.0, 97.0], "mnist", set()),
        ([10.0, 10.0, 10.0, 98.0], "mnist", set()),
        ([], "mnist", set()),
    ],
)
def test_collapsed_runs_are_told_apart(values, dataset, expected):
    assert verdicts.collapsed(values, dataset) == expected


def test_evidence_is_finite_and_does_without_the_runs_that_collapsed():
    now = Evidence((1.0, 2.0, 3.0), (4.0, 5.0), 100, frozenset({1}), frozenset({0}))
    assert now.apart() == Evidence((1.0, 3.0), (5.0,), 100)
    assert Evidence((7.0, 8.0, 9.0), (1.0, 2.0), 100).apart(now) == Evidence((7.0, 9.0), (2.0,), 100)
    for numbers in (((1.0, math.nan),), ((1.0,), (math.inf,))):
        with pytest.raises(InputError, match=r"evidence: a run gave (nan|inf); every run must give a finite number"):
            Evidence(*numbers)


# --- How often a verdict is false: in 2.5 % of cases a side, and what 600 repetitions leave open about that ---

DRAWS = 600
NOISES = {
    "normal": lambda draw, *shape: draw.normal(size=shape),
    "heavy tails": lambda draw, *shape: draw.standard_t(3, size=shape),
}
noises = pytest.mark.parametrize("noise", NOISES)
numbers_of_seeds = pytest.mark.parametrize("seeds", [3, 10])


def drawn(noise, *shape, seed=0):
    """Noise of `DRAWS` repetitions of an experiment."""
    return NOISES[noise](np.random.default_rng([seed, *map(ord, noise), *shape]), DRAWS, *shape)


def evidence(*numbers):
    """A row of each of the numbers is the evidence of a repetition."""
    return [Evidence(*map(tuple, row)) for row in zip(*(one.tolist() for one in numbers), strict=True)]


def check(verdicts, *false, limit=0.025):
    """Each of these verdicts is false, so it comes up rarely; a set of them together."""
    found = Counter(map(said, verdicts))
    for one in false:
        rate = sum(found[verdict] for verdict in (one if isinstance(one, set) else {one})) / DRAWS
        assert rate <= limit + 3 * math.sqrt(limit * (1 - limit) / DRAWS), one


@noises
@numbers_of_seeds
def test_verdicts_on_drawn_numbers_are_rarely_false(noise, seeds):
    draws = drawn(noise, seeds)
    for spread in (0.4, 4):
        check(map(OF_ONE, evidence(spread * draws)), YES, OPPOSITE)
        check(map(OF_ONE, evidence(spread * draws + 1)), SMALLER, OPPOSITE)
    check(map(partial(greater, margin=1.5), evidence(draws)), YES, OPPOSITE)
    for shift, limit in ((3, 0.025), (1.5, 0.05)):
        check(map(partial(greater, margin=1.5), evidence(draws + shift)), {NO_DIFFERENCE, OPPOSITE}, limit=limit)
    for spread in (0.7, 10):
        check(map(ALIKE, evidence(spread * draws)), OUTSIDE, limit=0.05)
        check(map(ALIKE, evidence(spread * draws + 2)), YES)
    # The worst case of "reaches" is the limit itself.
    check(map(partial(verdicts.reaches, paper=1, margin=1), evidence(draws)), REACHED, LOWER, limit=0.05)
    for spread in (0.3, 3):
        check(map(partial(value, paper=3, margin=1), evidence(spread * draws)), YES, limit=0.05)
    ours, other = drawn(noise, max(seeds, 10), seed=9), drawn(noise, max(seeds, 10), seed=10)
    for step in (0.001, 1):  # rounded to a step as large as their spread, too
        check(map(verdicts.varies_more, *((one / step).round() * step for one in (ours, other))), YES, OPPOSITE)
    four = drawn(noise, 4, seeds, seed=1)
    for effects in ((0, 0, 0, 0), (0, 9, 9, 9)):
        several = [[Evidence(tuple(row)) for row in rows] for rows in (four + np.array(effects)[:, None]).tolist()]
        check(map(weakest, several), YES, OPPOSITE)


def looks(noise, seeds, limit, slope, share, before, apart):
    """Numbers of runs at two shares of the budget: a line in its logarithm, another one for each run, to the limit.

    The limit and the slope vary from run to run by 1 and by a third of the slope; each look by `apart` on its own.
    """
    ends, slopes = limit + drawn(noise, seeds, seed=12), slope * (1 + drawn(noise, seeds, seed=13) / 3)
    found = [ends + slopes * math.log(share), ends + slopes * math.log(before)]
    late, early = (one + apart * drawn(noise, seeds, seed=14 + place) for place, one in enumerate(found))
    return zip(evidence(late), evidence(early), strict=True)


@noises
@pytest.mark.parametrize(
    ("seeds", "share", "before", "slope", "apart"),
    [(3, 0.5, 0.1, 4, 0.5), (5, 0.25, 0.125, -5, 0.1), (20, 0.25, 0.125, -5, 0.1)],
)
def test_verdicts_at_less_than_the_budget_are_rarely_false_of_the_whole(noise, seeds, share, before, slope, apart):
    def at(rule, limit, margin):
        settings = {"share": share, "share_before": before, "margin": margin}
        return [at_budget(rule, *pair, **settings) for pair in looks(noise, seeds, limit, slope, share, before, apart)]

    rule = partial(greater, margin=0.5, size=3)
    check(at(rule, 0, 0.5), YES, OPPOSITE)
    check(at(rule, 3, 0.5), {SMALLER, OPPOSITE})
    check(at(ALIKE, 2, 1), YES)
    check(at(partial(value, paper=3, margin=1), 0, 1), YES, limit=0.05)
    papers = drawn(noise, seed=20).tolist()  # each is one more run of the whole budget
    pairs = looks(noise, seeds, 0, slope, share, before, apart)
    found = [
        at_budget(partial(value, paper=one, margin=0.5), *pair, share=share, share_before=before, margin=0.5)
        for one, pair in zip(papers, pairs, strict=True)
    ]
    check(found, {HIGHER, LOWER}, limit=0.05)
