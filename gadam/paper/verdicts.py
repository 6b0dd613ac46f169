"""Verdicts on the claims of the paper, by rule: what numbers over a few seeds decide, and what they leave open.

The rules are pure functions from numbers to a `Verdict`. They know nothing of datasets or sections; what a claim
means, its margin m and the paper's own size d are stated where the claim is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import nan
from typing import Any

import numpy as np

from gadam.config import InputError
from gadam.paper import statistics
from gadam.paper.statistics import CHANCE, LEVEL, moments, seeds_needed, student

REPRODUCED, NOT_REPRODUCED, UNDECIDED, COMPATIBLE, QUOTED, OPEN = (
    "reproduced", "not reproduced", "undecided", "compatible", "quoted", "open as stated",
)  # fmt: skip
OPPOSITE, SMALLER, BUDGET, POWER, REACHED = "opposite", "smaller than claimed", "budget", "power", "reached"

MARGINS = {"mnist": 0.2, "adult": 0.5, "letter": 0.5, "yeast": 1.0, "orl": 1.0}
"""Differences in accuracy, in points, up to which two methods are held to be as good as each other."""
FREQUENT = {"mnist": 11.35, "adult": 76.38, "letter": 4.1, "yeast": 31.2, "orl": 2.5}
"""Accuracy in percent of always saying the most frequent class: what a run that collapsed comes down to."""
LOSS_MARGIN = 0.10
"""The margin of a loss, as a share of it."""
RATIO = 1.1
"""The margin of a ratio, as a factor."""

NARROW = 2 * LEVEL - 1
"""Level of the interval for two one-sided tests at 95 % each."""
MANY = 10
"""Runs from which on more of them would tell no more about a single number of the paper, or about who varies more."""
CLEAN = 59
"""Runs without a violation that leave less than 5 % of runs with one, at 95 % confidence."""
BOTH = (1 + CHANCE) / 2
"""Power of each of two one-sided tests that must both succeed: each fails half as often."""
ONE_RUN = "95 % over the test rows of one run"

RULES = (
    "Every claim states beforehand what kind it is, its margin m and, where the paper has one, the size d of the "
    "difference. m is 0.2 points on MNIST, 0.5 on ADULT and LETTER, 1 on YEAST and ORL, never less than one test row "
    "or one unit of rounding; 10 % of a loss; a factor of 1.1 for a ratio.",
    "A is greater than B: reproduced if the 95 % interval of the difference lies above 0 and reaches d/2; not "
    "reproduced if it lies below 0 (opposite) or below d/2 (smaller than claimed), or, where the paper states no d, "
    "if the 90 % interval lies within m of 0 (no difference). A d below 2 m is too small for these seeds: it is "
    "decided only as reproduced or opposite.",
    "A value: reproduced if the 95 % interval of our mean lies within m of the paper's number, or if that number lies "
    "in the 95 % interval of one further run of ours and this reaches no further than 1.5 m to either side; not "
    "reproduced (higher, lower) if it lies outside the 98 % interval of one further run and more than m from our "
    "mean; else, with 10 runs or more, compatible: no number of seeds tells more about a single number.",
    "GADAM reaches a value: reproduced, at any budget, if the mean of our runs is with 95 % confidence at or above the "
    "number minus m, of a loss at or below the number plus m; not reproduced if with 95 % confidence it is not.",
    "No difference: reproduced if the 90 % interval of the difference lies within m of 0, not reproduced if the 95 % "
    "interval lies wholly outside.",
    "Always or never: one run that violates the claim refutes it; 59 independent runs or more without a violation "
    "reproduce it.",
    "B varies more than A: by Levene's comparison of log deviations from the median, with 10 runs or more a side.",
    "The weakest of several: intervals that hold together (Bonferroni); all must lie above 0.",
    "Less than the paper's budget decides only if the verdict, and its reason, are the same for our numbers and for "
    "their trend, by the logarithm of the steps, carried on to the whole budget and moved by m/2 either way for each "
    "factor between the two looks that is still ahead.",
    "Another reduction, such as fewer pixels, decides only if the verdict is the same at our size and at half of it.",
    "Intervals are over seeds (Student's t; Welch's where runs are not paired) for these splits and these test rows; "
    "those of accuracies are on the logit scale, or exact where all runs agree, and none leaves 0 to 100. Fewer than "
    "five distinct differences: never narrower than one test row / sqrt(n).",
    "Runs that collapse, nearer to chance than to the other runs, are counted apart.",
    "Everything else is undecided, with what would decide it: more seeds (power), or more training (budget).",
    'What the paper quotes from others, and we run reduced, is "quoted". A claim with nothing in it that could be '
    'contradicted ("finite", "minor") is "open as stated". Neither counts as reproduced.',
)
"""The rules in plain words, for readers of the report."""


@dataclass(frozen=True)
class Evidence:
    """Finite numbers of independent runs.

    Attributes:
        values: paired differences, one for each seed (ours minus the other), or our own numbers.
        others: the other method's numbers where runs are not paired: then `values` are ours, and the difference of
            the means is judged. A single number is that of a method that draws nothing. None: nothing to compare.
        rows: test rows of one run, if these are accuracies in percent or differences of such; None for what else.
        collapsed: places in `values` of runs that collapsed, see the function `collapsed`.
        others_collapsed: the same in `others`.
    """

    values: tuple[float, ...]
    others: tuple[float, ...] | None = None
    rows: int | None = None
    collapsed: frozenset[int] = frozenset()
    others_collapsed: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        for number in (*self.values, *(self.others or ())):
            if not math.isfinite(number):
                raise InputError(f"evidence: a run gave {number}; every run must give a finite number")

    def apart(self, later: Evidence | None = None) -> Evidence:
        """Drop the runs that collapsed; with `later`, those that had collapsed by then."""
        seen = later or self
        others = self.others and _without(self.others, seen.others_collapsed)
        return Evidence(_without(self.values, seen.collapsed), others, self.rows)

    def turned(self) -> Evidence:
        """Return the same of theirs minus ours."""
        others = self.others and tuple(-one for one in self.others)
        return replace(self, values=tuple(-one for one in self.values), others=others)


def _without(values: tuple[float, ...], places: frozenset[int]) -> tuple[float, ...]:
    return tuple(one for place, one in enumerate(values) if place not in places)


@dataclass(frozen=True)
class Verdict:
    """The outcome of a rule.

    Attributes:
        mark: one of the six words above.
        reason: why, in a few words: "opposite", "power"; may be empty.
        ours, low, high: our number and the interval shown beside it; NaN for none.
        interval: what that interval is: "95 % (t), paired by seed".
        decides: of what is undecided, what would decide it; of a claim with something beside its verdict, that.
    """

    mark: str
    reason: str = ""
    ours: float = nan
    low: float = nan
    high: float = nan
    interval: str = ""
    decides: str = ""

    def __str__(self) -> str:
        return f"{self.mark} ({self.reason})" if self.reason else self.mark

    def marked(self, mark: str, reason: str = "", decides: str = "") -> Verdict:
        """Return another verdict on the same numbers."""
        return replace(self, mark=mark, reason=reason, decides=decides)


Rule = Callable[[Any], Verdict]
"""From the numbers of a claim, `Evidence` for most kinds."""


def greater(now: Evidence, margin: float, size: float | None = None, *, level: float = LEVEL) -> Verdict:
    """Judge "A is greater than B" by the interval of the difference (rule 1).

    `size` is the paper's own difference, above 0, None where it states none; `level` is above 0.95 where the intervals
    of several claims hold together.
    """
    shown, small = _difference(now, level), too_small(margin, size)
    if math.isnan(shown.low):
        return _open(shown, now, "2 or more")
    if shown.high < 0:
        return shown.marked(NOT_REPRODUCED, OPPOSITE)
    if shown.low > 0 and (size is None or shown.high >= size / 2):
        beside = "the difference is less than the margin" if size is None and shown.high < margin else ""
        return shown.marked(REPRODUCED, "", beside)
    if size is None:
        narrow = _difference(now, 2 * level - 1)
        if -margin <= narrow.low and narrow.high <= margin:
            return narrow.marked(NOT_REPRODUCED, "no difference")
        cases = {"there is no effect": seeds_needed(_spread(now), margin, 2 * level - 1, BOTH)}
    else:
        if shown.high < size / 2 and not small:
            return shown.marked(NOT_REPRODUCED, SMALLER, "above 0 is shown" if shown.low > 0 else "direction open")
        half = None if small else seeds_needed(_spread(now), size / 2, level)
        cases = {"there is no effect": half, "it is as large as the paper's": seeds_needed(_spread(now), size, level)}
    needed = ", ".join(f"{_about(count)} if {case}" for case, count in cases.items() if count is not None)
    told = "; no number if there is no effect, for half of the paper's difference is below the margin" if small else ""
    return _open(shown, now, (needed or "more than a million whatever the effect") + told)


def value(now: Evidence, paper: float, margin: float) -> Verdict:
    """Judge "the method gives this number" by our mean and by where one further run would lie (rule 2).

    The paper's number is one run of the paper's: that one run varies is no reason to call it wrong.
    """
    if len(now.values) < 2:
        return _open(_own(now, LEVEL, ONE_RUN), now, f"{MANY} or more")
    mean = _own(now, LEVEL, "95 % of the mean")
    if paper - margin <= mean.low and mean.high <= paper + margin:
        return mean.marked(REPRODUCED)
    wide = _own(now, 0.98, "98 % of one further run", further=True)
    if not wide.low <= paper <= wide.high and abs(mean.ours - paper) > margin:
        return wide.marked(NOT_REPRODUCED, "higher" if mean.ours > paper else "lower")
    further = _own(now, LEVEL, "95 % of one further run", further=True)
    reach = max(further.high - further.ours, further.ours - further.low)
    if further.low <= paper <= further.high and reach <= 1.5 * margin:
        return further.marked(REPRODUCED)
    if len(now.values) >= MANY:
        within = further if further.low <= paper <= further.high else wide
        return within.marked(COMPATIBLE, "", f"one run varies by ±{reach:.2g}: no number of seeds tells more")
    return _open(further, now, f"{MANY} or more")


def reaches(now: Evidence, paper: float, margin: float) -> Verdict:
    """Judge "GADAM reaches this number": more is as good (rule 2)."""
    if len(now.values) < 2:
        return _open(_own(now, LEVEL, ONE_RUN), now, "2 or more")
    shown = _own(now, NARROW, "95 % to either side, of the mean")
    if shown.low >= paper - margin:
        return shown.marked(REPRODUCED, REACHED)
    if shown.high < paper - margin:
        further = _own(now, 0.98, "", further=True).high
        told = f"one further run may reach it (98 % of one: up to {further:.4g})" if further >= paper else ""
        return shown.marked(NOT_REPRODUCED, "lower", told)
    return _open(shown, now, f"{_about(seeds_needed(_spread(now), margin, NARROW))} if it is just reached")


def falls_to(now: Evidence, paper: float, margin: float) -> Verdict:
    """Judge "GADAM's loss falls to this number": less is as good (rule 2)."""
    found = reaches(now.turned(), -paper, margin)
    reason = "higher" if found.reason == "lower" else found.reason
    told = found.decides.replace("up to -", "down to ")
    return replace(found, reason=reason, ours=-found.ours, low=-found.high, high=-found.low, decides=told)


def within(now: Evidence, margin: float) -> Verdict:
    """Judge "there is no difference" by two one-sided tests against the margin (rule 3)."""
    narrow, wide = _difference(now, NARROW), _difference(now, LEVEL)
    if math.isnan(narrow.low):
        return _open(narrow, now, "2 or more")
    if -margin <= narrow.low and narrow.high <= margin:
        return narrow.marked(REPRODUCED)
    # The 95 % interval, not that of 90 %: with a spread far above the margin the latter lies outside by chance in up
    # to 10 % of cases.
    if wide.low > margin or wide.high < -margin:
        return wide.marked(NOT_REPRODUCED, "outside the margin")
    return _open(narrow, now, f"{_about(seeds_needed(_spread(now), margin, NARROW, BOTH))} if there is no difference")


def better_or_worse(low: float, high: float, margin: float) -> str:
    """Say what the interval of a difference in accuracy means, beyond the claims of the paper."""
    return "better" if low > 0 else "worse" if high < 0 else "not worse" if low > -margin else "undecided"


def always(violations: int, trials: int, *, level: float = LEVEL) -> Verdict:
    """Judge "always" or "never" by the runs that violate it; a trial is one independent run (rule 3)."""
    words = f"share of runs that violate it, {100 * level:.4g} %{'' if violations else ' below'} (exact)"
    shown = Verdict(REPRODUCED, "", *statistics.violation_interval(violations, trials, level), words)
    if violations:
        return shown.marked(NOT_REPRODUCED, "a violation")
    if trials >= CLEAN:
        return shown
    return shown.marked(UNDECIDED, POWER, f"{trials} runs here; {CLEAN} or more without a violation")


def varies_more(ours: Sequence[float], other: Sequence[float], *, level: float = LEVEL) -> Verdict:
    """Judge "the other varies more than ours" by the logarithms of deviations from the median (rule 1).

    The number shown is log10 of the ratio of typical deviations: 0.3 if the other varies twice as much.
    """
    numbers = _, low, high = statistics.deviation_interval(other, ours, level)
    words = f"log10 of the ratio of deviations, {100 * level:.4g} % (Levene, on logs)"
    shown = Verdict(UNDECIDED, POWER, *numbers, words)
    count = min(len(ours), len(other))
    if count < MANY:
        return replace(shown, decides=f"{count} seeds here; {MANY} or more a side")
    if math.isnan(low):
        return replace(shown, decides="neither varies at all")
    if low > 0:
        return shown.marked(REPRODUCED)
    if high < 0:
        return shown.marked(NOT_REPRODUCED, OPPOSITE)
    spread = (high - low) / 2 / student(level, 2 * (count - 2)) * math.sqrt(count)
    needed = _about(seeds_needed(spread, math.log10(2)))
    return replace(shown, decides=f"{count} seeds here; {needed} if it varies twice as much")


def weakest(several: Sequence[Evidence], *, level: float = LEVEL) -> Verdict:
    """Judge "each of these differences is above 0" by intervals that hold together (rule 1).

    The one shown is the weakest: with the lowest lower bound, or, of what is opposite, with the lowest upper one.
    """
    found = [_difference(now, statistics.bonferroni(level, len(several))) for now in several]
    if any(math.isnan(one.low) for one in found):
        return _open(Verdict(UNDECIDED), min(several, key=lambda now: len(now.values)), "2 or more")
    below = [one for one in found if one.high < 0]
    weak = min(below, key=lambda one: one.high) if below else min(found, key=lambda one: one.low)
    shown = replace(weak, interval=f"the weakest of {len(several)}, simultaneous: {weak.interval}")
    if below:
        return shown.marked(NOT_REPRODUCED, OPPOSITE)
    if weak.low > 0:
        return shown.marked(REPRODUCED)
    now = several[found.index(weak)]
    return _open(shown, now, f"with {4 * len(now.values)} its interval is half as wide")


def at_budget(
    rule: Rule, now: Any, before: Evidence | None = None, *, share: float, share_before: float = nan,
    margin: float = 0.0,
) -> Verdict:  # fmt: skip
    """Judge at less than the paper's budget: the verdict must be the same for the trend to the whole of it (rule 4).

    The trend is a line in the logarithm of the budget through both looks, carried on run by run. It may bend, so it is
    moved by half a margin, either way, for each factor between the looks that is still ahead.

    `before` are the same runs as `now`, in the same order, at most at half of `share`, or the logarithm of what is left
    would multiply mere noise; None where no trend is known. From a share of 1 on the rule just applies.
    """
    verdict = rule(now)
    # More training would not take back what GADAM has reached, and what is open now is open for another reason.
    if share >= 1 or verdict.mark == UNDECIDED or verdict.reason == REACHED:
        return verdict
    told = f"{share:.2g} of the budget says: {verdict}"
    if before is None:
        return verdict.marked(UNDECIDED, BUDGET, told)
    ahead = math.log(1 / share) / math.log(share / share_before)
    away = ahead * margin / 2
    # Moved with the verdict nothing changes, but "smaller than claimed" would become "opposite": only up.
    for move in (away,) if verdict.reason == SMALLER else (-away, away):
        whole = rule(_carried_on(now, before, ahead, move))
        if str(whole) != str(verdict):
            return verdict.marked(UNDECIDED, BUDGET, f"{told}; its trend to the whole may say: {whole}")
    return verdict


def at_half(rule: Rule, now: Evidence, half: Evidence) -> Verdict:
    """Judge at a reduced size, of images for instance: the verdict must be the same at half of it (rule 4)."""
    verdict, smaller = rule(now), rule(half)
    if verdict.mark == UNDECIDED or str(verdict) == str(smaller):
        return verdict
    if {verdict.mark, smaller.mark} == {REPRODUCED, COMPATIBLE}:  # only the numbers of runs differ
        return replace(verdict, mark=COMPATIBLE)
    if {verdict.reason, smaller.reason} == {OPPOSITE, SMALLER}:  # only how surely it is opposite
        return replace(verdict, reason=SMALLER)
    return verdict.marked(UNDECIDED, BUDGET, f"this size says: {verdict}; half of it says: {smaller}")


def margin_of(dataset: str, rows: int) -> float:
    """Return the margin of an accuracy in points: that of `MARGINS`, but at least one test row."""
    return max(MARGINS[dataset], 100 / rows)


def too_small(margin: float, size: float | None) -> bool:
    """Tell whether the paper's difference is below two margins: no seeds of ours could tell it from half of it."""
    return size is not None and size < 2 * margin * (1 - 1e-9)  # 99.28 - 99.08 is a little off 0.2


def collapsed(values: Sequence[float], dataset: str) -> frozenset[int]:
    """Find the runs that collapsed: below the others' median, and nearer to always saying one class than to it.

    `values` are accuracies in percent on a dataset of `FREQUENT`; the result is places in them. Where half of them or
    more collapsed, none is told apart.
    """
    return frozenset(
        place for place, one in enumerate(values)
        if len(values) > 1 and abs(one - FREQUENT[dataset]) < np.median(np.delete(values, place)) - one
    )  # fmt: skip


def _open(shown: Verdict, now: Evidence, needed: str) -> Verdict:
    """Leave it undecided for too few runs; what would decide is `needed`."""
    interval = "" if math.isnan(shown.low) else shown.interval
    return replace(shown.marked(UNDECIDED, POWER, f"{len(now.values)} seeds here; {needed}"), interval=interval)


def _difference(now: Evidence, level: float) -> Verdict:
    """Show the mean of the differences, or the difference of the means; NaN bounds for fewer than two runs."""
    values, others, words = now.values, now.others, "(t), paired by seed"
    if others is not None and len(others) == 1:  # of a method that draws nothing
        values, others, words = tuple(one - others[0] for one in values), None, "(t), beside one number"
    if others is None:
        numbers = statistics.mean_interval(values, now.rows, level)
    else:
        numbers, words = statistics.unpaired_interval(values, others, now.rows, level), "(Welch)"
    return Verdict(UNDECIDED, POWER, *numbers, f"{100 * level:.4g} % {words}")


def _own(now: Evidence, level: float, words: str, further: bool = False) -> Verdict:
    """Show our own number with the interval of its mean, or with where one further run would lie."""
    values, rows = now.values, now.rows
    if rows is not None and values and all(0 <= one <= 100 for one in values):
        numbers = statistics.accuracy_interval(values, rows, level, further=further)
        scale = "exact" if len(set(values)) == 1 else "t, logit scale"
    else:  # the logit scale has no place for others, nor for all that a trend of accuracies may lead to
        numbers, scale = statistics.mean_interval(values, level=level, further=further), "t"
    return Verdict(UNDECIDED, POWER, *numbers, f"{words} ({scale})")


def _spread(now: Evidence) -> float:
    """Standard deviation of one difference, never below the floor of its interval.

    The seeds that would decide go by it alone: an effect that was seen by chance would promise too much.
    """
    drawn = [now.values] if now.others is None or len(now.others) == 1 else [now.values, now.others]
    return math.hypot(*(max(moments(one)[1], statistics.least_half_width(one, now.rows)) for one in drawn))


def _about(needed: int | None) -> str:
    return "more than a million" if needed is None else f"about {needed:,}"


def _carried_on(now: Evidence, before: Evidence, ahead: float, move: float) -> Evidence:
    """Extrapolate each run to the whole budget, and shift it by `move`."""

    def trend(late: Sequence[float], early: Sequence[float], move: float) -> tuple[float, ...]:
        return tuple(one + (one - other) * ahead + move for one, other in zip(late, early, strict=True))

    # The trend multiplies what rounding to test rows leaves uncertain, as if there were so many fewer rows.
    rows = None if now.rows is None else max(1, int(now.rows / math.hypot(1 + ahead, ahead)))
    others = None if now.others is None else trend(now.others, before.others or (), 0.0)
    return Evidence(trend(now.values, before.values, move), others, rows)
