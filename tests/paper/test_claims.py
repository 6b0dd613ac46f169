"""Claims: which arms are there, and which rule is applied to what."""

import math

import pytest

from gadam.paper import verdicts
from gadam.paper.claims import HEADLINES, Arms, Claim, Reduced, Smaller, judge, judge_headline, own, paired, unpaired
from gadam.paper.runs import Run, run_function
from gadam.paper.verdicts import COMPATIBLE, NOT_REPRODUCED, OPEN, QUOTED, REPRODUCED, UNDECIDED, Evidence

HIGH, LOW, NONE = (Evidence(tuple(centre + 0.1 * step for step in range(-3, 4))) for centre in (2.0, -2.0, 0.0))
NARROW = tuple(0.01 * step for step in range(-10, 11))
WILD = tuple(99 * one for one in NARROW)
THERE = Arms(a=(7, 7))


@run_function("test claims/nothing", engine=False)
def nothing(seed):
    raise AssertionError("never computed")


def never():
    raise AssertionError("evidence is asked for only once its runs are there")


def claim(evidence=HIGH, **changes):
    base = {"exhibit": "table4", "kind": "greater", "arms": ["a"], "margin": 0.5}
    return Claim(**{**base, "text": "A is better", "evidence": lambda: evidence, **changes})


def test_arms_count_what_is_there_of_what_is_planned():
    runs = [Run(nothing, {"seed": seed}, arm="a" if seed < 4 else "b") for seed in range(6)]
    arms = Arms.of([*runs, *runs], lambda run: run.config["seed"] != 1)
    assert arms == {"a": (3, 4), "b": (2, 2)}
    assert [arms.complete(*names) for names in ("a", "b", "ba", ["never planned"])] == [False, True, False, False]
    counts = [arms.count(*names) for names in ("a", "b", "ba", ["never planned"], "")]
    assert counts == ["3 of 4", "2", "3 of 4", "0", "0"]
    assert Arms(a=(20, 20), once=(1, 1)).count("a", "once") == "20", "the one run stands for every seed"


@pytest.mark.parametrize(
    ("changes", "arms", "reason", "decides"),
    [
        ({"data": "stand-in"}, Arms(), "stand-in data", ""),
        ({}, Arms(a=(6, 7)), "not computed", "6 of 7 runs of a are there"),
        ({"arms": ["a", "b"]}, THERE, "not computed", "0 runs of b are there"),
        ({"quoted": True, "budget": 0.1}, Arms(), "not computed", "0 runs of a are there"),
    ],
)
def test_without_its_runs_or_on_a_stand_in_nobody_asks_for_numbers(changes, arms, reason, decides):
    found = judge(claim(**{"evidence": never, **changes}), arms, "standard")
    assert (found.mark, found.reason, found.decides) == (UNDECIDED, reason, decides)
    assert math.isnan(found.ours)


HALF = {"budget": 0.5}


@pytest.mark.parametrize(
    ("evidence", "changes", "mark", "reason"),
    [
        (HIGH, {}, REPRODUCED, ""),
        (NONE, {}, NOT_REPRODUCED, "no difference"),
        (HIGH, {"size": 20.0}, NOT_REPRODUCED, "smaller than claimed"),
        (HIGH, {"kind": "value", "paper": 2.1}, REPRODUCED, ""),
        (Evidence(NARROW), {"kind": "value", "paper": 0.0, "margin": 0.001}, COMPATIBLE, ""),
        (HIGH, {"kind": "reaches", "paper": 2.1}, REPRODUCED, "reached"),
        (NONE, {"kind": "within"}, REPRODUCED, ""),
        ((0, 60), {"kind": "always"}, REPRODUCED, ""),
        ((NARROW, WILD), {"kind": "varies"}, REPRODUCED, ""),
        ([HIGH, HIGH], {"kind": "weakest"}, REPRODUCED, ""),
        ((1.0, 0.5, 1.5, "least and most"), {"kind": "open"}, OPEN, ""),
        (Smaller(HIGH, HIGH), {}, REPRODUCED, ""),
        (Smaller(HIGH, NONE), {}, UNDECIDED, "budget"),
        (Reduced(HIGH, HIGH, 0.1), {}, REPRODUCED, ""),
        # At half of the budget, where nobody looked earlier, or somebody did.
        (HIGH, HALF, UNDECIDED, "budget"),
        (Reduced(HIGH, HIGH, 0.2), HALF, REPRODUCED, ""),  # and it does not change
        (Reduced(HIGH, Evidence(tuple(9 + one for one in HIGH.values)), 0.2), HALF, UNDECIDED, "budget"),
        (HIGH, HALF | {"kind": "reaches", "paper": 2.0}, REPRODUCED, "reached"),  # at any budget
        (HIGH, {"kind": "falls_to", "paper": 2.1}, REPRODUCED, "reached"),
        (HIGH, HALF | {"kind": "falls_to", "paper": 9.0}, REPRODUCED, "reached"),
        (HIGH, HALF | {"kind": "reaches", "paper": 9.0}, UNDECIDED, "budget"),
        (Evidence((1.0,)), HALF, UNDECIDED, "power"),
        ([HIGH], HALF | {"kind": "weakest"}, UNDECIDED, "budget"),
        ((NARROW, WILD), HALF | {"kind": "varies"}, UNDECIDED, "budget"),
        (HIGH, HALF | {"quoted": True}, QUOTED, ""),
        (HIGH, {"quoted": True}, REPRODUCED, ""),
    ],
)
def test_each_kind_has_its_rule_at_each_budget(evidence, changes, mark, reason):
    found = judge(claim(evidence, **changes), THERE, "standard")
    assert (found.mark, found.reason) == (mark, reason)
    smoke = judge(claim(evidence, **changes), THERE, "smoke")
    if mark != QUOTED:
        assert (smoke.mark, smoke.reason, smoke.decides) == (UNDECIDED, "profile smoke", "")
    assert (smoke.ours, smoke.low, smoke.high) == (found.ours, found.low, found.high)


def test_intervals_of_headlines_hold_together():
    alone, together = judge(claim(), THERE, "standard"), judge_headline(claim(), THERE, "standard")
    assert together.low < alone.low < alone.high < together.high
    assert together.interval.startswith(f"{100 * (1 - 0.05 / len(HEADLINES)):.4g} %")


def test_numbers_are_paired_by_seed():
    ours = {200: 3.0, 202: 5.0, 201: 4.0}
    assert paired(ours, {201: 1.0, 200: 2.5, 203: 0.0}, rows=40) == Evidence((0.5, 3.0), None, 40)
    assert paired(ours, {200: 1.0}) == Evidence((2.0,)), "one number is that of its seed"
    assert paired({200: 3.0}, {200: 1.0}) == Evidence((2.0,))
    assert paired({}, {}) == Evidence(())
    assert Evidence((3.0, 5.0, 4.0), (1.0,)).turned() == Evidence((-3.0, -5.0, -4.0), (-1.0,))


def test_runs_that_collapsed_are_left_out_and_told():
    ours, theirs = {n: 98.0 + n / 10 for n in range(6)}, {n: 97.0 + n / 9 for n in range(6)} | {3: 11.0}
    now = paired(ours, theirs, 10_000, "mnist")
    verdict = judge(claim(now, margin=0.2), THERE, "standard")
    assert verdict.mark == REPRODUCED
    assert verdict.ours < 1.1, "and not with 87 points of the one that collapsed"
    assert verdict.decides == "without 1 run that collapsed"
    before = Reduced(now, Evidence(tuple(float(n) for n in range(6)), None, 10_000), 0.25)
    assert judge(claim(before, margin=0.2, budget=0.5), THERE, "standard").decides.endswith("that collapsed")
    assert own(theirs.values(), 10_000, "mnist").collapsed == {3}
    assert unpaired(ours.values(), theirs.values(), 10_000, "mnist").others_collapsed == {3}
    assert verdicts.greater(now, 0.2).mark != REPRODUCED
