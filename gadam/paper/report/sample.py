"""Recompute some archived runs here and compare: is what is rendered what this code computes?

What is recomputed is compared and thrown away: it neither replaces nor joins what is rendered.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from gadam.config import InputError
from gadam.datasets import locate
from gadam.paper import SECTIONS
from gadam.paper.report import machine
from gadam.paper.report.compare import TIMES
from gadam.paper.report.paths import ReportError, scratch_folder
from gadam.paper.report.plan import Planned
from gadam.paper.report.store import Stored
from gadam.paper.report.workers import compute
from gadam.paper.runs import Row

BUDGET = 480.0
"""CPU seconds of a sample: about four minutes on two cores."""
LONGEST = 150.0
"""CPU seconds of one run in it at most, or the other core would wait."""
TOLERANCE = 1e-5
"""Relative, of every number."""
ROWS = 2
"""By so many test rows counts of right answers may differ."""
SEEDS = 5
DEVIATIONS = 4.0
SPREAD = 0.01
"""Of a run without such seeds: by so many standard deviations of its column may a number differ."""
OUTCOMES = ("loss", "correct", "accuracy", "found", "best", "ensemble", "soup", "selected", "learned")
"""Parts of the names of columns that say what came of a run; the others say how it went, which rounding may change."""
PICKLED, PICKLES = 0.01, ("population", "rest")
"""By what share the bytes of pickled messages may differ, which versions of Python write a little longer or shorter;
and the columns that count them."""

IDENTICAL, EQUAL, ALIKE, DIFFERENT, ABSENT = "identical", "equal", "alike", "different", "not recomputed"
WORDS = {
    IDENTICAL: "to the last bit",
    EQUAL: f"every number within {TOLERANCE:g} of itself, counts within {ROWS} test rows, bytes of messages within "
    f"{PICKLED:.0%}",
    ALIKE: "computed on another processor or by other versions of libraries or operators, which round otherwise, and "
    f"training amplifies that: within {DEVIATIONS:g} standard deviations of its seeds or, where there are not five, "
    f"every number within {SPREAD:.0%} of the standard deviation of its column",
    DIFFERENT: "neither",
    ABSENT: "could not be computed here",
}


def choose(lines: Sequence[Planned], budget: float = BUDGET) -> list[Planned]:
    """Choose from every section one archived run of each kind, the cheapest, GADAM's first, within a budget."""

    def seconds(line: Planned) -> float:
        return line.seconds or 0.0

    def importance(line: Planned) -> tuple[bool, bool, float]:
        return "gadam" not in line.run.function.name, not line.run.function.engine, seconds(line)

    kinds: list[list[Planned]] = []
    for name, section in SECTIONS.items():
        cheapest: dict[str, Planned] = {}
        there = [line for line in lines if line.section == name and line.where and seconds(line) <= LONGEST]
        for line in sorted(there, key=seconds):
            cheapest.setdefault(line.run.function.name, line)
        if not section.alone:  # times are never the same
            kinds.append(sorted(cheapest.values(), key=importance))
    chosen = []
    for one in chain.from_iterable(zip_longest(*kinds)):  # in turn, so that every section has its own
        if one and seconds(one) <= budget:
            chosen.append(one)
            budget -= seconds(one)
    return chosen


def recompute(chosen: Sequence[Planned], lines: Sequence[Planned], folder: Path) -> list[dict[str, str]]:
    """Compute the chosen runs anew in a scratch folder below `folder`, and compare each with the one that is there.

    A run whose dataset cannot be had here is left out, and says why. `lines` has the seeds that it is held against.
    Returns the section and label of each run, its outcome, a key of `WORDS`, and in detail its largest difference or
    why it is absent.
    """
    absent: dict[str, str] = {}
    for line in chosen:
        try:
            if dataset := line.run.config.get("dataset"):
                locate(dataset, data="real")
        except InputError as error:
            absent[line.run.key] = str(error)
    todo = {line.run.key: line for line in chosen if line.run.key not in absent}
    failures: list[ReportError] = []
    with scratch_folder(folder) as scratch:
        seconds = {key: line.seconds or 1.0 for key, line in todo.items()}
        found = compute([line.run for line in todo.values()], root=scratch, seconds=seconds, failures=failures)
    done = {one.run.key: one for one in found}
    results = []
    for line in chosen:
        key, kin = line.run.key, line.run.kin()
        if line.stored and (here := done.get(key)):
            seeds = [one.stored for one in lines if one.stored and one.run.kin() == kin and one.run.key != key]
            outcome, detail = compare(line.stored, here, [one.rows for one in seeds])
        else:
            outcome, detail = (ABSENT, absent[key]) if key in absent else (DIFFERENT, "; ".join(map(str, failures)))
        results.append({"section": line.section, "label": line.run.label, "outcome": outcome, "detail": detail})
    return results


def compare(there: Stored, here: Stored, kin: Sequence[Sequence[Row]] = ()) -> tuple[str, str]:
    """Compare an archived run with its recomputation: a key of `WORDS`, and the largest difference in words.

    `kin` has the rows of runs that differ in their seed alone. Times are left out.
    """
    before, now = _without_times(there.rows), _without_times(here.rows)
    if _text(before) == _text(now):
        return IDENTICAL, ""
    if len(before) != len(now):
        return DIFFERENT, f"{len(now)} rows, archived are {len(before)}"
    differences = _differences(before, now)
    within, _, words = max(differences, key=lambda one: (not one[0], one[1]), default=(True, 0.0, ""))
    if within:
        return EQUAL, words
    other = _other(there.metadata, here.metadata)
    if other and (_is_alike(now, [*kin, before]) if len(kin) + 1 >= SEEDS else _is_near(now, before)):
        return ALIKE, f"{words}; {other}"
    return DIFFERENT, words


def _without_times(rows: Sequence[Row]) -> list[Row]:
    return [{name: value for name, value in row.items() if not TIMES.search(name)} for row in rows]


def _differences(there: Sequence[Row], here: Sequence[Row]) -> Iterator[tuple[bool, float, str]]:
    """Of each value that is another: whether it is within the tolerance, its relative size, and the words for it."""
    for place, (old, new) in enumerate(zip(there, here, strict=True), start=1):
        for name in {**old, **new}:
            a: Any = old.get(name)
            b: Any = new.get(name)
            if _text(a) == _text(b):
                continue
            size, near = math.inf, False
            if _is_number(a) and _is_number(b):
                size = abs(b - a) / max(abs(a), 1e-12)
                counts = isinstance(a, int) and isinstance(b, int) and any(part in name for part in OUTCOMES)
                near = abs(b - a) <= ROWS if counts else size <= (PICKLED if name in PICKLES else TOLERANCE)
                if name == "accuracy" and "correct" in old and "correct" in new:
                    near = near or abs(new["correct"] - old["correct"]) <= ROWS
            yield near, size, f"{name} of row {place}: {b!r}, archived is {a!r}"


def _is_alike(rows: Sequence[Row], seeds: Sequence[Sequence[Row]]) -> bool:
    """Whether all that came of a run lies within some standard deviations of its seeds."""
    if any(len(one) != len(rows) for one in seeds):
        return False
    for place, row in enumerate(rows):
        for name, value in row.items():
            others: list[Any] = [one[place].get(name) for one in seeds]
            if not any(part in name for part in OUTCOMES) or _text(value) == _text(others[-1]):
                continue
            if not all(map(_is_number, [value, *others])):
                return False
            if abs(value - np.mean(others)) > DEVIATIONS * np.std(others, ddof=1) + 1e-9:
                return False
    return True


def _is_near(rows: Sequence[Row], before: Sequence[Row]) -> bool:
    """Whether all fractions of a run lie within a share of the spread of their column, and all else is the same."""
    for name in {name for row in (*rows, *before) for name in row}:
        old: list[Any] = [row.get(name) for row in before]
        new: list[Any] = [row.get(name) for row in rows]
        spread = float(np.std([one for one in old if _is_number(one)] or [0.0]))
        for a, b in zip(old, new, strict=True):
            near = isinstance(a, float) and _is_number(a) and _is_number(b) and abs(b - a) <= SPREAD * spread
            if not near and _text(a) != _text(b):
                return False
    return True


def _other(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """The processor or library that was another one; "" if none was."""
    packages = [facts.get("packages", {}) for facts in (there, here)]
    facts = {name: (there.get(name), here.get(name)) for name in ("cpu", "gpu")}
    facts["version of the engine's operators"] = there.get("rounding", 1), here.get("rounding", 1)
    facts |= {
        name: (packages[0].get(name), packages[1].get(name)) for name in ("torch", "numpy", "scipy", "scikit-learn")
    }
    return next((f"archived by {name} {old}, here is {new}" for name, (old, new) in facts.items() if old != new), "")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _text(value: Any) -> str:
    """JSON, in which NaN equals itself."""
    return json.dumps(value)


def describe(results: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """Return what the page shows of a sample: in a line how many agree, and why some are not equal to the last bit."""
    outcomes = [one["outcome"] for one in results]
    absent, computed = outcomes.count(ABSENT), len(outcomes) - outcomes.count(ABSENT)
    text = f"{computed - outcomes.count(DIFFERENT)} of {computed} recomputed runs agree with the archive"
    why = (
        f"This is {machine.cpu_model()}: another processor, or another version of a library or operator, adds up in "
        "another order, so short runs agree up to rounding, and long trainings, which amplify it, as two seeds do."
    )
    return {
        "summary": text + (f"; {absent} could not be recomputed here" if absent else ""),
        "differs": DIFFERENT in outcomes,
        "why": why if {EQUAL, ALIKE} & set(outcomes) else "",
        "words": {outcome: words for outcome, words in WORDS.items() if outcome in outcomes},
        "runs": results,
    }
