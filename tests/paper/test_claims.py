"""Claims: which arms are there, and which rule is applied to what."""

import math
from dataclasses import replace

import pytest

from gadam.paper import verdicts
from gadam.paper.claims import HEADLINES, Arms, Claim, Reduced, Smaller, judge, judge_headline, paired
from gadam.paper.runs import Run, run_function
from gadam.paper.verdicts import COMPATIBLE, NOT_REPRODUCED, OPEN, QUOTED, REPRODUCED, UNDECIDED, Evidence

HIGH, LOW, NONE = (Evidence(tuple(centre + 0.1 * step for step in range(-3, 4))) for centre in (2.0, -2.0, 0.0))
NARROW = tuple(0.01 * step for step in range(-10, 11))


@run_function("test claims/nothing", engine=False)
def nothing(seed):
    raise AssertionError("never computed")


def never():
    raise AssertionError("evidence is asked for only once its runs are there")


def claim(**changes):
    base = {"section": "section54", "exhibit": "table4", "kind": "greater", "arms": ["a"], "margin": 0.5}
    return Claim(**{**base, "text": "A is better", "evidence": lambda: HIGH, **changes})


THERE = Arms(a=(7, 7))


def test_arms_count_what_is_there_of_what_is_planned():
    runs = [Run(nothing, {"seed": seed}, arm="a" if seed < 4 else "b") for seed in range(6)]
    arms = Arms.of([*runs, *runs], lambda run: run.config["seed"] != 1)
    assert arms == {"a": (3, 4), "b": (2, 2)}
    assert (arms.complete("a"), arms.complete("b"), arms.complete("b", "a")) == (False, True, False)
    assert (arms.count("a"), arms.count("b"), arms.count("b", "a")) == ("3 of 4", "2", "3 of 4")
    arms.add([Run(nothing, {"seed": 9}, arm="b")], lambda run: True)
    assert arms.count("b") == "3"
    assert Arms.of(runs).complete("a", "b")
    assert not arms.complete("never planned")
    assert arms.count("never planned") == arms.count() == "0"
    assert Run(nothing, {"seed": 0}).arm == "test claims/nothing"


@pytest.mark.parametrize(
    ("changes", "arms", "reason"),
    [
        ({"data": "stand-in"}, THERE, "stand-in data"),
        ({"data": "stand-in"}, Arms(), "stand-in data"),
        ({}, Arms(a=(6, 7)), "not computed"),
        ({"arms": ["a", "b"]}, THERE, "not computed"),
        ({"quoted": True, "budget": 0.1}, Arms(), "not computed"),
    ],
)
def test_without_its_runs_or_on_a_stand_in_a_claim_is_undecided_and_nobody_asks_for_numbers(changes, arms, reason):
    found = judge(claim(evidence=never, **changes), arms, "standard")
    assert (found.mark, found.reason) == (UNDECIDED, reason)
    assert math.isnan(found.ours)


def test_what_is_missing_is_said():
    assert judge(claim(evidence=never), Arms(a=(6, 7)), "paper").decides == "6 of 7 runs of a are there"


@pytest.mark.parametrize(
    ("changes", "mark", "reason"),
    [
        ({}, REPRODUCED, ""),
        ({"evidence": lambda: LOW}, NOT_REPRODUCED, "opposite"),
        ({"evidence": lambda: NONE}, NOT_REPRODUCED, "no difference"),
        ({"evidence": lambda: NONE, "size": 2.0}, NOT_REPRODUCED, "smaller than claimed"),
        ({"evidence": lambda: HIGH, "size": 20.0}, NOT_REPRODUCED, "smaller than claimed"),
        ({"kind": "value", "paper": 2.1}, REPRODUCED, ""),
        ({"kind": "value", "paper": 7}, NOT_REPRODUCED, "lower"),
        ({"kind": "value", "paper": 0.0, "margin": 0.001, "evidence": lambda: Evidence(NARROW)}, COMPATIBLE, ""),
        ({"kind": "reaches", "paper": 2.1}, REPRODUCED, "reached"),
        ({"kind": "reaches", "paper": 9.0}, NOT_REPRODUCED, "lower"),
        ({"kind": "within", "evidence": lambda: NONE}, REPRODUCED, ""),
        ({"kind": "within"}, NOT_REPRODUCED, "outside the margin"),
        ({"kind": "always", "evidence": lambda: (0, 60)}, REPRODUCED, ""),
        ({"kind": "always", "evidence": lambda: (1, 600)}, NOT_REPRODUCED, "a violation"),
        ({"kind": "varies", "evidence": lambda: (NARROW, [99 * one for one in NARROW])}, REPRODUCED, ""),
        ({"kind": "weakest", "evidence": lambda: [HIGH, HIGH]}, REPRODUCED, ""),
        ({"kind": "weakest", "evidence": lambda: [HIGH, LOW]}, NOT_REPRODUCED, "opposite"),
        ({"kind": "open", "evidence": lambda: (1.0, 0.5, 1.5, "least and most")}, OPEN, ""),
        ({"evidence": lambda: Smaller(HIGH, HIGH)}, REPRODUCED, ""),
        ({"evidence": lambda: Smaller(HIGH, NONE)}, UNDECIDED, "budget"),
    ],
)
def test_each_kind_has_its_rule(changes, mark, reason):
    found = judge(claim(**changes), THERE, "standard")
    assert (found.mark, found.reason) == (mark, reason)
    smoke = judge(claim(**changes), THERE, "smoke")
    assert (smoke.mark, smoke.reason, smoke.ours, smoke.decides) == (UNDECIDED, "profile smoke", found.ours, "")


@pytest.mark.parametrize(
    ("changes", "mark", "reason"),
    [
        ({}, UNDECIDED, "budget"),  # nobody looked earlier
        ({"evidence": lambda: Reduced(HIGH)}, UNDECIDED, "budget"),
        ({"evidence": lambda: Reduced(HIGH, HIGH, 0.2)}, REPRODUCED, ""),  # and it does not change
        (
            {"evidence": lambda: Reduced(HIGH, Evidence(tuple(9 + one for one in HIGH.values)), 0.2)},
            UNDECIDED,
            "budget",
        ),
        ({"evidence": lambda: Reduced(HIGH, HIGH, 0.1), "budget": 1.0}, REPRODUCED, ""),
        ({"kind": "reaches", "paper": 2.0}, REPRODUCED, "reached"),  # at any budget
        ({"kind": "reaches", "paper": 9.0}, UNDECIDED, "budget"),
        ({"evidence": lambda: Evidence((1.0,))}, UNDECIDED, "power"),
        ({"kind": "weakest", "evidence": lambda: [HIGH]}, UNDECIDED, "budget"),
        ({"kind": "varies", "evidence": lambda: (NARROW, [99 * one for one in NARROW])}, UNDECIDED, "budget"),
        ({"quoted": True}, QUOTED, ""),
        ({"quoted": True, "budget": 1.0}, REPRODUCED, ""),
    ],
)
def test_less_than_the_whole_budget_decides_only_by_its_trend(changes, mark, reason):
    found = judge(claim(**{"budget": 0.5, **changes}), THERE, "standard")
    assert (found.mark, found.reason) == (mark, reason)


def test_what_a_part_of_the_budget_says_stands_beside():
    found = judge(claim(budget=0.05), THERE, "standard")
    assert found.decides == "0.05 of the budget says: reproduced"
    found = judge(claim(budget=0.05, evidence=lambda: LOW), THERE, "standard")
    assert found.decides == "0.05 of the budget says: not reproduced (opposite)"
    shown = judge(claim(quoted=True, budget=0.05), THERE, "standard")
    assert shown.ours == pytest.approx(2)
    assert shown.low < 2 < shown.high


def test_intervals_of_headlines_hold_together():
    alone, together = judge(claim(), THERE, "standard"), judge_headline(claim(), THERE, "standard")
    assert together.low < alone.low < alone.high < together.high
    assert together.interval.startswith(f"{100 * (1 - 0.05 / len(HEADLINES)):.4g} %")
    counted = claim(kind="always", evidence=lambda: (0, 60))
    assert judge_headline(counted, THERE, "standard") == judge(counted, THERE, "standard")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"margin": None}, "'A is better' has no margin"),
        ({"kind": "value", "paper": "about 92"}, "'A is better' has no number of the paper's"),
        ({"kind": "reaches"}, "'A is better' has no number of the paper's"),
    ],
)
def test_a_claim_that_states_too_little_is_a_fault_of_ours(changes, message):
    with pytest.raises(TypeError, match=message):
        judge(claim(**changes), THERE, "standard")


def test_numbers_are_paired_by_seed_and_a_single_one_stands_for_every_seed():
    ours = {200: 3.0, 202: 5.0, 201: 4.0}
    assert paired(ours, {201: 1.0, 200: 2.5, 203: 0.0}, rows=40) == Evidence((0.5, 3.0), None, 40)
    assert paired(ours, {0: 1.0}) == Evidence((3.0, 5.0, 4.0), (1.0,))
    assert paired({200: 3.0}, {200: 1.0}) == Evidence((2.0,))
    assert paired({}, {}) == Evidence(())
    assert verdicts.greater(paired({}, {}), 1.0).reason == "power"


def test_runs_that_collapsed_are_left_out_and_told():
    def differences():
        ours, theirs = {n: 98.0 + n / 10 for n in range(6)}, {n: 97.0 + n / 9 for n in range(6)}
        return paired(ours, theirs | {3: 11.0}, 10_000, "mnist")

    def claim(evidence):
        return Claim(
            text="better", section="section51", exhibit="table1", kind="greater", evidence=evidence, arms=["a"],
            margin=0.2,
        )  # fmt: skip

    arms = Arms({"a": (6, 6)})
    verdict = judge(claim(differences), arms, "standard")
    assert verdict.mark == verdicts.REPRODUCED
    assert verdict.ours < 1.1, "and not with 87 points of the one that collapsed"
    assert verdict.decides == "without 1 run that collapsed"
    before = Reduced(differences(), Evidence(tuple(float(n) for n in range(6)), None, 10_000), 0.25)
    assert judge(replace(claim(lambda: before), budget=0.5), arms, "standard").decides.endswith("that collapsed")
