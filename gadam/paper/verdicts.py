"""Verdicts on the claims of the paper, by rule: what numbers over a few seeds decide, and what they leave open.

The rules are pure functions from numbers to a `Verdict`. They know nothing of datasets or sections; what a claim
means, its margin m and the paper's own size d are stated where the claim is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import nan
from statistics import NormalDist

import numpy as np
from scipy import stats

from gadam.config import InputError
from gadam.paper.statistics import (
    LEVEL,
    Interval,
    accuracy_interval,
    accuracy_prediction,
    bonferroni,
    deviation_interval,
    least_half_width,
    mean_interval,
    moments,
    paired_interval,
    prediction_interval,
    student,
    unpaired_interval,
)

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
CHANCE = 0.8
"""Probability with which the seeds that we ask for would decide."""

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
    "number minus m; not reproduced if it is with 95 % confidence below.",
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
    """Numbers of independent runs.

    Attributes:
        values: paired differences, one for each seed (ours minus the other), or our own numbers.
        others: the other method's numbers where runs are not paired: then `values` are ours, and the difference of
            the means is judged. A single number is that of a method that draws nothing. None: nothing to compare.
        rows: test rows of one run, if these are accuracies in percent or differences of such; None for what else.
        collapsed: places in `values` of runs that collapsed, see `collapsed`.
        others_collapsed: the same in `others`.
    """

    values: tuple[float, ...]
    others: tuple[float, ...] | None = None
    rows: int | None = None
    collapsed: frozenset[int] = frozenset()
    others_collapsed: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        for name, numbers in (("values", self.values), ("others", self.others or ())):
            if wrong := [number for number in numbers if not math.isfinite(number)]:
                raise InputError(f"evidence: {name} hold {wrong[0]}; every run must have a finite number")
        if self.rows is not None and self.rows < 1:
            raise InputError(f"evidence: rows={self.rows} must be at least 1, or None")

    def apart(self, later: Evidence | None = None) -> Evidence:
        """Return the same without the runs that collapsed, or of which a later look says so."""
        seen = later or self
        values = tuple(one for place, one in enumerate(self.values) if place not in seen.collapsed)
        others = self.others and tuple(
            one for place, one in enumerate(self.others) if place not in seen.others_collapsed
        )
        return Evidence(values, others, self.rows)

    def turned(self) -> Evidence:
        """Return the same of theirs minus ours."""
        others = None if self.others is None else tuple(-one for one in self.others)
        return replace(self, values=tuple(-one for one in self.values), others=others)

    @property
    def count_collapsed(self) -> int:
        """The number of runs that collapsed."""
        return len(self.collapsed) + len(self.others_collapsed)


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

    def agrees(self, other: Verdict) -> bool:
        """Tell whether another verdict is the same for the same reason."""
        return (self.mark, self.reason) == (other.mark, other.reason)


Rule = Callable[[Evidence], Verdict]
Shown = tuple[float, float, float, str]
"""A number, its interval, and what this is in words."""


def greater(now: Evidence, margin: float, size: float | None = None, *, level: float = LEVEL) -> Verdict:
    """Judge "A is greater than B" by the interval of the difference (rule 1).

    Args:
        now: paired differences, or the numbers of both.
        margin: the difference that matters least, above 0.
        size: the paper's own difference, above 0; None where it states none.
        level: of the interval; above 0.95 where several hold together.
    """
    _check(margin, size)
    if _are_too_few(now):
        return _power(now, 2, _center(now))
    shown = _difference(now, level)
    _, low, high, _ = shown
    if high < 0:
        return Verdict(NOT_REPRODUCED, OPPOSITE, *shown)
    if low > 0 and (size is None or high >= size / 2):
        return Verdict(REPRODUCED, "", *shown)
    if size is None:
        narrow = _difference(now, 2 * level - 1)
        if _is_within(narrow, margin):
            return Verdict(NOT_REPRODUCED, "no difference", *narrow)
    elif high < size / 2 and not too_small(margin, size):
        return Verdict(NOT_REPRODUCED, SMALLER, *shown, "above 0 is shown" if low > 0 else "direction open")
    none, full = seeds_needed(now, margin, size)
    cases = {"there is no effect": none, "it is as large as the paper's": full}
    needed = [f"{_about(count)} if {case}" for case, count in cases.items() if count is not None]
    decides = _here(now, ", ".join(needed) or "more than a million whatever the effect")
    if too_small(margin, size):
        decides += "; the paper's is below two margins, too small to be told from half of it"
    return Verdict(UNDECIDED, POWER, *shown, decides)


def value(now: Evidence, paper: float, margin: float) -> Verdict:
    """Judge "the method gives this number" by our mean and by where one further run would lie (rule 2).

    The paper's number is one run of the paper's: that one run varies is no reason to call it wrong.
    """
    _check(margin, own=now)
    if _are_too_few(now):
        return _power(now, MANY, *_alone(now))
    ours, low, high = _mean(now, LEVEL)
    if paper - margin <= low and high <= paper + margin:
        return Verdict(REPRODUCED, "", ours, low, high, f"95 % of the mean{_scale(now)}")
    low, high = _further(now, 0.98)
    if not low <= paper <= high and abs(ours - paper) > margin:
        reason = "higher" if ours > paper else "lower"
        return Verdict(NOT_REPRODUCED, reason, ours, low, high, f"98 % of one further run{_scale(now)}")
    low, high = _further(now, LEVEL)
    shown = ours, low, high, f"95 % of one further run{_scale(now)}"
    reach = max(high - ours, ours - low)
    if low <= paper <= high and reach <= 1.5 * margin:
        return Verdict(REPRODUCED, "", *shown)
    if len(now.values) >= MANY:
        return Verdict(COMPATIBLE, "", *shown, f"one run varies by ±{reach:.2g}: no number of seeds tells more")
    return Verdict(UNDECIDED, POWER, *shown, _here(now, f"{MANY} or more"))


def reaches(now: Evidence, paper: float, margin: float) -> Verdict:
    """Judge "GADAM reaches this number": more is as good (rule 2)."""
    _check(margin, own=now)
    if _are_too_few(now):
        return _power(now, 2, *_alone(now))
    ours, low, high = _mean(now, NARROW)
    shown = ours, low, high, f"95 % to either side, of the mean{_scale(now)}"
    if low >= paper - margin:
        return Verdict(REPRODUCED, REACHED, *shown)
    if high < paper - margin:
        return Verdict(NOT_REPRODUCED, "lower", *shown)
    needed = _about(_seeds(_spread(now), margin, NARROW, CHANCE))
    return Verdict(UNDECIDED, POWER, *shown, _here(now, f"{needed} if it is just reached"))


def within(now: Evidence, margin: float) -> Verdict:
    """Judge "there is no difference" by two one-sided tests against the margin (rule 3)."""
    _check(margin)
    if _are_too_few(now):
        return _power(now, 2, _center(now))
    narrow = _difference(now, NARROW)
    if _is_within(narrow, margin):
        return Verdict(REPRODUCED, "", *narrow)
    # The 95 % interval, not that of 90 %: with a spread far above the margin the latter lies outside by chance in up
    # to 10 % of cases.
    shown = _difference(now, LEVEL)
    if shown[1] > margin or shown[2] < -margin:
        return Verdict(NOT_REPRODUCED, "outside the margin", *shown)
    needed = _about(seeds_needed(now, margin, None)[0])
    return Verdict(UNDECIDED, POWER, *narrow, _here(now, f"{needed} if there is no difference"))


def always(violations: int, trials: int) -> Verdict:
    """Judge "always" or "never" by the runs that violate it; a trial is one independent run (rule 3)."""
    if not 0 <= violations <= trials:
        raise InputError(f"always: violations={violations} must be at least 0 and at most trials={trials}")
    words = "share of runs that violate it, 95 %"
    if violations:
        exact = stats.binomtest(violations, trials).proportion_ci(LEVEL, method="exact")
        bounds = float(exact.low), float(exact.high)
        return Verdict(NOT_REPRODUCED, "a violation", violations / trials, *bounds, f"{words} (exact)")
    bounds = (0.0, 1 - (1 - LEVEL) ** (1 / trials)) if trials else (nan, nan)
    shown = bounds[0], *bounds, f"{words} below (exact)"
    if trials >= CLEAN:
        return Verdict(REPRODUCED, "", *shown)
    return Verdict(UNDECIDED, POWER, *shown, f"{trials} runs here; {CLEAN} or more without a violation")


def varies_more(ours: Sequence[float], other: Sequence[float]) -> Verdict:
    """Judge "the other varies more than ours" by the logarithms of deviations from the median (rule 1).

    The number shown is log10 of the ratio of typical deviations: 0.3 if the other varies twice as much.
    """
    difference, low, high = deviation_interval(other, ours)
    shown = difference, low, high, "log10 of the ratio of deviations, 95 % (Levene, on logs)"
    count = min(len(ours), len(other))
    if count < MANY:
        return Verdict(UNDECIDED, POWER, *shown, f"{count} seeds here; {MANY} or more a side")
    if math.isnan(low):
        return Verdict(UNDECIDED, POWER, *shown, "neither varies at all")
    if low > 0:
        return Verdict(REPRODUCED, "", *shown)
    if high < 0:
        return Verdict(NOT_REPRODUCED, OPPOSITE, *shown)
    spread = (high - low) / 2 / student(LEVEL, 2 * (count - 2)) * math.sqrt(count)
    needed = _about(_seeds(spread, math.log10(2), LEVEL, CHANCE))
    return Verdict(UNDECIDED, POWER, *shown, f"{count} seeds here; {needed} if it varies twice as much")


def weakest(several: Sequence[Evidence]) -> Verdict:
    """Judge "each of these differences is above 0" by intervals that hold together (rule 1).

    The one shown is the weakest: with the lowest lower bound, or, of what is opposite, with the lowest upper one.
    """
    if not several:
        raise InputError("weakest: several is empty; there must be one difference or more")
    if any(_are_too_few(one) for one in several):
        return _power(min(several, key=lambda one: len(one.values)), 2)
    found = [_difference(one, bonferroni(LEVEL, len(several))) for one in several]
    below = [one for one in found if one[2] < 0]
    weak = min(below, key=lambda one: one[2]) if below else min(found, key=lambda one: one[1])
    shown = *weak[:3], f"the weakest of {len(several)}, simultaneous: {weak[3]}"
    if below:
        return Verdict(NOT_REPRODUCED, OPPOSITE, *shown)
    if weak[1] > 0:
        return Verdict(REPRODUCED, "", *shown)
    now = several[found.index(weak)]
    return Verdict(UNDECIDED, POWER, *shown, _here(now, f"with {4 * len(now.values)} its interval is half as wide"))


def at_budget(
    rule: Rule, now: Evidence, before: Evidence, *, share: float, share_before: float, margin: float
) -> Verdict:
    """Judge at less than the paper's budget: the verdict must be the same for the trend to the whole of it (rule 4).

    The trend is a line in the logarithm of the budget through both looks, carried on run by run. It may bend, so it is
    moved by half a margin, either way, for each factor between the looks that is still ahead.

    Args:
        rule: gives the verdict on evidence: `partial(greater, margin=0.2, size=0.3)`.
        now: what there is at `share` of the budget.
        before: the same runs at `share_before`, in the same order.
        share: of the whole budget, above 0; at 1 or more the rule just applies.
        share_before: at most half of `share`.
        margin: that of the claim, above 0.
    """
    if share >= 1:
        return rule(now)
    _check(margin)
    # A look far enough back, or the logarithm of what is left would multiply mere noise. The tolerance is rounding.
    if not 0 < share_before <= share / 2 * (1 + 1e-9):
        raise InputError(f"budget: share_before={share_before} must be above 0 and at most half of share={share}")
    counts = [(len(look.values), len(look.others or ())) for look in (before, now)]
    if counts[0] != counts[1]:
        raise InputError(
            f"budget: before={counts[0]} numbers (values, others), now={counts[1]}; they must be those of the same runs"
        )
    verdict = rule(now)
    # More training would not take back what GADAM has reached, and what is open now is open for another reason.
    if verdict.mark == UNDECIDED or verdict.reason == REACHED:
        return verdict
    ahead = math.log(1 / share) / math.log(share / share_before)
    away = ahead * margin / 2
    # Moved with the verdict nothing changes, but "smaller than claimed" would become "opposite": only up.
    moves = (away,) if verdict.reason == SMALLER else (-away, away)
    for move in moves:
        whole = rule(_carried_on(now, before, ahead, move))
        if not whole.agrees(verdict):
            decides = f"{share:.2g} of the budget says: {verdict}; its trend to the whole may say: {whole}"
            return replace(verdict, mark=UNDECIDED, reason=BUDGET, decides=decides)
    return verdict


def at_half(rule: Rule, now: Evidence, half: Evidence) -> Verdict:
    """Judge at a reduced size, of images for instance: the verdict must be the same at half of it (rule 4)."""
    verdict, smaller = rule(now), rule(half)
    if verdict.mark == UNDECIDED or verdict.agrees(smaller):
        return verdict
    if {verdict.mark, smaller.mark} == {REPRODUCED, COMPATIBLE}:  # only the numbers of runs differ
        return replace(verdict, mark=COMPATIBLE)
    decides = f"this size says: {verdict}; half of it says: {smaller}"
    return replace(verdict, mark=UNDECIDED, reason=BUDGET, decides=decides)


def margin_of(dataset: str, rows: int, decimals: int = 2) -> float:
    """Return the margin of an accuracy in points: the dataset's, never below one test row or one unit of rounding.

    Args:
        dataset: a key of `MARGINS`.
        rows: test rows of one run.
        decimals: with how many the paper prints the number.
    """
    if dataset not in MARGINS:
        raise InputError(f"margin: dataset={dataset!r} must be one of {', '.join(MARGINS)}")
    if rows < 1:
        raise InputError(f"margin: rows={rows} must be at least 1")
    return max(MARGINS[dataset], 100 / rows, 10.0**-decimals)


def too_small(margin: float, size: float | None) -> bool:
    """Tell whether the paper's difference is below two margins: no seeds of ours could tell it from half of it."""
    return size is not None and size < 2 * margin * (1 - 1e-9)  # 99.28 - 99.08 is a little off 0.2


def seeds_needed(now: Evidence, margin: float, size: float | None) -> tuple[int | None, int | None]:
    """Return the seeds that decide "A is greater" with 80 % probability, if there is no effect and if it is `size`.

    By the spread of the runs alone: an effect that was seen by chance would promise too much. Unpaired runs: so many
    for each method. None where no number of seeds would, or where there is nothing to tell from: no spread (fewer
    than two runs), no size.
    """
    spread = _spread(now)
    if math.isnan(spread):
        return None, None
    if size is None:
        # Both one-sided tests must succeed: each fails half as often.
        return _seeds(spread, margin, NARROW, (1 + CHANCE) / 2), None
    none = None if too_small(margin, size) else _seeds(spread, size / 2, LEVEL, CHANCE)
    return none, _seeds(spread, size, LEVEL, CHANCE)


def collapsed(values: Sequence[float], dataset: str) -> frozenset[int]:
    """Find the runs that collapsed: below the others' median, and nearer to always saying one class than to it.

    Args:
        values: accuracies in percent. Where half of them or more collapsed, none is told apart.
        dataset: a key of `FREQUENT`.

    Returns:
        Their places in `values`.
    """
    chance, found = FREQUENT[dataset], set()
    for place, one in enumerate(values):
        others = [*values[:place], *values[place + 1 :]]
        if others and abs(one - chance) < float(np.median(others)) - one:
            found.add(place)
    return frozenset(found)


def _check(margin: float, size: float | None = None, own: Evidence | None = None) -> None:
    for name, number in (("margin", margin), ("size", size)):
        if number is not None and not 0 < number < math.inf:
            raise InputError(f"verdict: {name}={number} must be a number above 0")
    if own is not None and own.others is not None:
        raise InputError("verdict: others must be None where our own numbers are judged, not a difference")


def _are_too_few(now: Evidence) -> bool:
    return len(now.values) < 2 or now.others == ()


def _power(now: Evidence, needed: int, ours: float = nan, low: float = nan, high: float = nan) -> Verdict:
    """The verdict on fewer than two runs."""
    words = "" if math.isnan(low) else "95 % over the test rows of one run (exact)"
    return Verdict(UNDECIDED, POWER, ours, low, high, words, _here(now, f"{needed} or more"))


def _here(now: Evidence, needed: str) -> str:
    return f"{len(now.values)} seeds here; {needed}"


def _center(now: Evidence) -> float:
    """Mean of the differences, or difference of the means; NaN where there is none."""
    if not now.values or now.others == ():
        return nan
    return float(np.mean(now.values) - (0 if now.others is None else np.mean(now.others)))


def _alone(now: Evidence) -> Interval:
    """The number of a single run, of accuracies with its interval; NaN where there is none."""
    return _mean(now, LEVEL) if now.values else (nan, nan, nan)


def _difference(now: Evidence, level: float) -> Shown:
    words = f"{100 * level:.4g} % "
    if now.others is None:
        return *paired_interval(now.values, now.rows, level), words + "(t), paired by seed"
    if len(now.others) == 1:  # of a method that draws nothing
        differences = [one - now.others[0] for one in now.values]
        return *paired_interval(differences, now.rows, level), words + "(t), beside one number"
    return *unpaired_interval(now.values, now.others, now.rows, level), words + "(Welch)"


def _is_within(shown: Shown, margin: float) -> bool:
    return -margin <= shown[1] and shown[2] <= margin


def _mean(now: Evidence, level: float) -> Interval:
    rows = _rows_of_accuracies(now)
    return accuracy_interval(now.values, rows, level) if rows else mean_interval(now.values, level)


def _further(now: Evidence, level: float) -> tuple[float, float]:
    rows = _rows_of_accuracies(now)
    return accuracy_prediction(now.values, rows, level) if rows else prediction_interval(now.values, level)


def _scale(now: Evidence) -> str:
    if not _rows_of_accuracies(now):
        return " (t)"
    return " (exact)" if len(set(now.values)) == 1 else " (t, logit scale)"


def _rows_of_accuracies(now: Evidence) -> int | None:
    """Test rows, if the logit scale has a place for these numbers; a trend of accuracies may lead out of it."""
    return now.rows if all(0 <= one <= 100 for one in now.values) else None


def _spread(now: Evidence) -> float:
    """Standard deviation of one difference, never below the floor of its interval; NaN for fewer than two runs."""
    drawn = [now.values] if now.others is None or len(now.others) == 1 else [now.values, now.others]
    return math.hypot(*(max(moments(one)[1], least_half_width(one, now.rows)) for one in drawn))


def _seeds(spread: float, shift: float, level: float, power: float) -> int | None:
    """Smallest number of seeds with which an interval ends before what is `shift` away; None above a million."""
    least = (spread / shift * sum(NormalDist().inv_cdf(one) for one in (0.5 + level / 2, power))) ** 2
    if least > 1_000_000:
        return None
    count = max(2, math.ceil(least))  # as if the spread were known; it is not, which takes a few more
    # Both are quantiles of Student's t.
    while shift * math.sqrt(count) < spread * (student(level, count - 1) + student(2 * power - 1, count - 1)):
        count += 1
    return count


def _about(needed: int | None) -> str:
    return "more than a million" if needed is None else f"about {needed:,}"


def _carried_on(now: Evidence, before: Evidence, ahead: float, move: float) -> Evidence:
    """The trend to the whole budget, run by run, moved."""

    def trend(late: Sequence[float], early: Sequence[float], move: float) -> tuple[float, ...]:
        return tuple(one + (one - other) * ahead + move for one, other in zip(late, early, strict=True))

    # The trend multiplies what rounding to test rows leaves uncertain, as if there were so many fewer rows.
    rows = None if now.rows is None else max(1, int(now.rows / math.hypot(1 + ahead, ahead)))
    others = None if now.others is None else trend(now.others, before.others or (), 0.0)
    return Evidence(trend(now.values, before.values, move), others, rows)
