"""Recompute some archived runs here and hold them against the archive: is what is rendered what this code computes?

What is recomputed is compared and thrown away: it neither replaces nor joins what is rendered.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gadam.config import InputError
from gadam.paper import SECTIONS
from gadam.paper.report import machine, store
from gadam.paper.report.paths import scratch_folder, write_atomic
from gadam.paper.report.plan import Planned, Source
from gadam.paper.report.store import Stored
from gadam.paper.report.workers import Progress, RunError, compute
from gadam.paper.runs import Row, Run

BUDGET = 480.0
"""CPU seconds of a sample: about four minutes on two cores."""
LONGEST = 150.0
"""CPU seconds of one run in it at most, or the other core would wait."""
TOLERANCE = 1e-5
"""Relative, of every number; counts of right answers may differ by two test rows."""
ROWS = 2
DEVIATIONS = 4.0
OUTCOMES = ("loss", "correct", "accuracy", "found", "best", "ensemble", "soup", "selected", "learned")
"""Parts of the names of columns that say what came of a run; the others say how it went, which rounding may change."""

IDENTICAL, EQUAL, ALIKE, DIFFERENT, ABSENT = "identical", "equal", "alike", "different", "not recomputed"
WORDS = {
    IDENTICAL: "to the last bit",
    EQUAL: f"every number within {TOLERANCE:g} of itself, counts within {ROWS} test rows",
    ALIKE: f"computed on another processor or by another version of a library, which round otherwise, and training "
    f"amplifies that: within {DEVIATIONS:g} standard deviations of its seeds",
    DIFFERENT: "neither",
    ABSENT: "could not be computed here",
}


@dataclass(frozen=True)
class Compared:
    """A run of the sample.

    Attributes:
        section: whose it is.
        label: the run's.
        outcome: a key of `WORDS`.
        detail: the largest difference, or why it was not recomputed.
    """

    section: str
    label: str
    outcome: str
    detail: str = ""


def choose(lines: Sequence[Planned], budget: float = BUDGET) -> list[Planned]:
    """From every section one archived run of each kind, the cheapest, GADAM's first, as far as the budget reaches."""
    kinds: dict[str, list[Planned]] = {}
    for name, section in SECTIONS.items():
        if section.alone:  # times are never the same
            continue
        cheapest: dict[str, Planned] = {}
        for line in sorted((one for one in lines if one.section == name and one.where), key=_seconds):
            if _seconds(line) <= LONGEST:
                cheapest.setdefault(line.run.function.name, line)
        kinds[name] = sorted(cheapest.values(), key=lambda line: (not line.run.function.engine, _seconds(line)))
        kinds[name].sort(key=lambda line: "gadam" not in line.run.function.name)
    chosen, left = [], budget
    while any(kinds.values()):
        for own in kinds.values():  # in turn, so that every section has its own
            if own:
                line = own.pop(0)
                if _seconds(line) <= left:
                    chosen.append(line)
                    left -= _seconds(line)
    return chosen


def recompute(
    chosen: Sequence[Planned], source: Source, folder: Path, *, progress: Progress | None = None
) -> list[Compared]:
    """Compute the runs anew in a scratch folder below `folder`, and compare each with what is stored or archived.

    A run whose dataset cannot be had here is left out, and says why.
    """
    reasons = {name: reason for name in {_dataset(line.run) for line in chosen} if (reason := _absent(name))}
    todo = [line for line in chosen if _dataset(line.run) not in reasons]
    done: dict[str, Stored] = {}
    failed = ""
    with scratch_folder(folder) as scratch:
        try:
            compute([line.run for line in todo], root=scratch, keep_going=True, progress=progress)
        except RunError as error:
            failed = str(error)
        for line in todo:
            if found := store.read(scratch, line.run):
                done[line.run.key] = found
    results = []
    for line in chosen:
        here, there = done.get(line.run.key), source.find(line.run)[0]
        if here is None or there is None:
            why = reasons.get(_dataset(line.run)) or failed
            outcome, detail = (DIFFERENT, failed) if failed and not reasons.get(_dataset(line.run)) else (ABSENT, why)
        else:
            outcome, detail = compare(there, here, _kin(line.run, source))
        results.append(Compared(line.section, line.run.label or line.run.function.name, outcome, detail))
    return results


def compare(there: Stored, here: Stored, kin: Sequence[Sequence[Row]] = ()) -> tuple[str, str]:
    """How a run that was computed again compares with what is stored of it.

    Args:
        there: stored or archived.
        here: computed now.
        kin: the rows of runs that differ in their seed alone.

    Returns:
        A key of `WORDS`, and the largest difference in words.
    """
    if _plain(there.rows) == _plain(here.rows):
        return IDENTICAL, ""
    differences = list(_differences(there.rows, here.rows))
    if all(one.within for one in differences):
        return EQUAL, max(differences, key=lambda one: one.size).words if differences else ""
    largest = max((one for one in differences if not one.within), key=lambda one: one.size)
    other = _other(there.metadata, here.metadata)
    if other and len(there.rows) == len(here.rows) and _is_alike(here.rows, [*kin, there.rows]):
        return ALIKE, f"{largest.words}; {other}"
    return DIFFERENT, largest.words


def write(folder: Path, results: Sequence[Compared]) -> None:
    """Keep the comparison for the page."""
    write_atomic(folder / "sample.json", json.dumps([asdict(one) for one in results], indent=1) + "\n")


def read(folder: Path) -> list[Compared]:
    """What `write` kept; empty if there is none."""
    path = folder / "sample.json"
    try:
        return [Compared(**one) for one in json.loads(path.read_text("utf-8"))]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}); remove it, and reproduce again") from None


def summary(results: Sequence[Compared]) -> str:
    """How many agree, in one line."""
    computed = [one for one in results if one.outcome != ABSENT]
    agree = sum(one.outcome != DIFFERENT for one in computed)
    text = f"{agree} of {len(computed)} recomputed runs agree with the archive"
    if absent := len(results) - len(computed):
        text += f"; {absent} could not be recomputed here"
    return text


@dataclass(frozen=True)
class _Difference:
    words: str
    size: float
    within: bool


def _differences(there: Sequence[Row], here: Sequence[Row]) -> Iterable[_Difference]:
    if len(there) != len(here):
        yield _Difference(f"{len(here)} rows, archived are {len(there)}", math.inf, False)
        return
    for place, (old, new) in enumerate(zip(there, here, strict=True)):
        for name in {**old, **new}:
            a, b = old.get(name), new.get(name)
            if _plain(a) == _plain(b):
                continue
            words = f"{name} of row {place + 1}: {b!r}, archived is {a!r}"
            if not (_is_number(a) and _is_number(b) and math.isfinite(a) and math.isfinite(b)):  # type: ignore[arg-type]
                yield _Difference(words, math.inf, False)
                continue
            old_number, new_number = float(a), float(b)  # type: ignore[arg-type]
            size = abs(new_number - old_number) / max(abs(old_number), 1e-12)
            count = isinstance(a, int) and isinstance(b, int) and any(part in name for part in OUTCOMES)
            near = abs(new_number - old_number) <= ROWS if count else size <= TOLERANCE
            near = near or (name == "accuracy" and _count_is_near(old, new))
            yield _Difference(words, size, near)


def _count_is_near(old: Row, new: Row) -> bool:
    """Whether accuracies differ because counts of right answers do, by a row or two."""
    return "correct" in old and "correct" in new and abs(new["correct"] - old["correct"]) <= ROWS


def _is_alike(rows: Sequence[Row], seeds: Sequence[Sequence[Row]]) -> bool:
    """Whether all that came of a run lies within some standard deviations of its seeds; five of them or more."""
    if len(seeds) < 5 or any(len(one) != len(rows) for one in seeds):
        return False
    for place, row in enumerate(rows):
        for name, value in row.items():
            others = [one[place].get(name) for one in seeds]
            if not any(part in name for part in OUTCOMES) or _plain(value) == _plain(others[-1]):
                continue
            numbers = np.array([other for other in others if _is_number(other) and math.isfinite(other)])  # type: ignore[arg-type]
            if not _is_number(value) or len(numbers) < len(others):
                return False
            if not abs(value - numbers.mean()) <= DEVIATIONS * numbers.std(ddof=1) + 1e-9:  # NaN is not either
                return False
    return True


def _kin(run: Run, source: Source) -> list[list[Row]]:
    """The rows of archived runs that differ in their seed alone."""
    apart = {name: value for name, value in run.identity()["config"].items() if name != "seed"}
    own, found = run.identity(), []
    for content in source.archive.lines.values():
        identity = content["identity"]
        if identity["run"] == own["run"] and identity["data"] == own["data"]:
            settings = {name: value for name, value in identity["config"].items() if name != "seed"}
            if settings == apart and identity != own:
                found.append(store.rows_of(content))
    return found


def _other(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """What computed otherwise: another processor, other libraries; "" if nothing did."""
    if there.get("cpu") != here.get("cpu"):
        return f"archived by {there.get('cpu')}, this is {here.get('cpu')}"
    if there.get("gpu") != here.get("gpu"):
        return f"archived by {there.get('gpu') or 'no GPU'}, this is {here.get('gpu') or 'no GPU'}"
    for name in ("torch", "numpy", "scipy", "scikit-learn"):
        versions = [facts.get("packages", {}).get(name) for facts in (there, here)]
        if versions[0] != versions[1]:
            return f"archived by {name} {versions[0]}, here is {versions[1]}"
    return ""


def _dataset(run: Run) -> str:
    return str(run.config.get("dataset", ""))


def _absent(name: str) -> str:
    """Why a dataset cannot be had here; "" if it can."""
    from gadam.datasets import locate

    if not name:
        return ""
    try:
        locate(name, data="real")
    except InputError as error:
        return str(error)
    return ""


def _seconds(line: Planned) -> float:
    return line.seconds if line.seconds is not None else math.inf


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plain(value: Any) -> str:
    """As text, in which NaN equals itself."""
    return json.dumps(value)


def machine_sentence(results: Sequence[Compared]) -> str:
    """Why some are not equal to the last bit, for the page; "" if all are."""
    if any(one.outcome in (EQUAL, ALIKE) for one in results):
        return (
            f"This is {machine.cpu_model()}: another processor, or another version of a library, adds up in another "
            "order, so short runs agree up to rounding, and long trainings, which amplify it, as two of their seeds do."
        )
    return ""
