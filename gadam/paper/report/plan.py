"""Which runs a reproduction has, which of them are there, and how long the others would take; computes nothing.

How long a run takes is known where it was computed before, here or behind the archive, or one that differs in its seed
alone; else by the pace of its kind, measured for a minute on one core of an AMD EPYC of 2021.
"""

from __future__ import annotations

import heapq
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from gadam.paper import PROFILES, SECTIONS, import_sections
from gadam.paper.report import archive, store
from gadam.paper.report.archive import Archive
from gadam.paper.report.paths import ARCHIVED, archive_path, check, runs_root
from gadam.paper.report.workers import worker_count
from gadam.paper.runs import Run

DATA_CHOICES = ("auto", "real", "standin")


@dataclass(frozen=True)
class Planned:
    """A run of a section.

    Attributes:
        section: whose it is; the first of those that want it.
        run: the run.
        where: "stored", "archived" or "" where it is missing.
        seconds: CPU seconds that it took, or would take; None where nothing is known.
    """

    section: str
    run: Run
    where: str
    seconds: float | None


class Source:
    """Where the runs of a profile are read: the store's folder, then the archive of the profile.

    Args:
        profile: whose archive.
        root: the folder of the store; default `$GADAM_RUNS`, or `reports/runs`.
        recompute: nothing is taken from the archive.
    """

    def __init__(self, profile: str, root: Path | None = None, recompute: bool = False) -> None:
        self.folder = root or runs_root()
        self.archive = archive.read(archive_path(profile)) if profile in ARCHIVED and not recompute else Archive()

    def find(self, run: Run) -> tuple[store.Stored | None, str]:
        """The run, and where it was."""
        if stored := store.read(self.folder, run):
            return stored, "stored"
        found = self.archive.find(run)
        return found, "archived" if found else ""


def all_runs(name: str, profile: str, data: str) -> list[Run]:
    """Every run of a section that is known before any was computed, once.

    Those of its public functions named `runs` or `..._runs` that take nothing but `profile` and `data`, or less.
    """
    given = {"profile": profile, "data": data_of(profile, data)}
    module = import_sections()[name]
    own = [one for one in vars(module).values() if inspect.isfunction(one) and one.__module__ == module.__name__]
    lists = [one for one in own if f"_{one.__name__}".endswith("_runs") and not one.__name__.startswith("_")]
    found: dict[str, Run] = {}
    for function in sorted(lists, key=lambda one: one.__name__ != "runs"):
        wanted = inspect.signature(function).parameters
        if wanted.keys() <= given.keys():
            found |= {run.key: run for run in function(**{one: given[one] for one in wanted})}
    return list(found.values())


def data_of(profile: str, data: str) -> str:
    """What a profile means by a choice of data: those that are archived are of the real data alone.

    Raises:
        InputError: the choice is not allowed.
    """
    check("profile", profile, PROFILES)
    check("data", data, DATA_CHOICES if profile not in ARCHIVED else ("auto", "real"))
    return "real" if profile in ARCHIVED else data


def later_runs(name: str) -> Callable[[str, str, pd.DataFrame], list[Run]] | None:
    """A section's function that names further runs once it is given the rows of `all_runs`, if it has one."""
    function: Callable[[str, str, pd.DataFrame], list[Run]] | None = getattr(
        import_sections()[name], "later_runs", None
    )
    return function


def sections_of(only: str | None) -> list[str]:
    """The sections to execute for a section's name, an exhibit's id, or None for all."""
    names = {name: (name, *section.tables, *section.figures) for name, section in SECTIONS.items()}
    if only is None:
        return list(names)
    check("only", only, [one for several in names.values() for one in several])
    return [name for name, several in names.items() if only in several]


def planned(
    profile: str, only: str | None = None, data: str = "auto", root: Path | None = None, recompute: bool = False
) -> list[Planned]:
    """Every run of the chosen sections, once: whether it is there, and its seconds."""
    data = data_of(profile, data)
    source = Source(profile, root, recompute)
    found: dict[str, Planned] = {}
    known: dict[str, float] = {}  # by kin: seconds of a run that differs in its seed alone

    def add(name: str, runs: list[Run]) -> list[store.Stored]:
        there = []
        for run in runs:
            stored, where = source.find(run)
            seconds = None if stored is None else float(stored.metadata["cpu_seconds"])
            if stored is not None and seconds is not None:
                there.append(stored)
                known[run.kin()] = seconds
            found.setdefault(run.key, Planned(name, run, where, seconds))
        return there

    for name in sections_of(only):
        there = add(name, all_runs(name, profile, data))
        if further := later_runs(name):
            add(name, further(profile, data, store.frame(there)))
    return [
        one if one.where else Planned(one.section, one.run, "", known.get(one.run.kin()) or expected(one.run))
        for one in found.values()
    ]


def expected(run: Run) -> float | None:
    """CPU seconds that a run would take, by the pace of its kind; None where that was not measured."""
    pace = PACES.get(run.function.name)
    return None if pace is None else pace(run.config)


def _steps(config: Mapping[str, Any]) -> int:
    """Steps over all units: of parents and children in each generation, or of units without evolution."""
    generations = 2 * int(config["generations"]) if "generations" in config else 1
    return int(config.get("population_size") or config["units"]) * generations * int(config["steps"])


def _of_tables(yeast: float, adult: float, letter: float) -> Callable[[Mapping[str, Any]], float]:
    """Seconds by dataset, where all else is that of profile standard."""
    return lambda config: {"yeast": yeast, "adult": adult, "letter": letter}[config["dataset"]]


PACES: dict[str, Callable[[Mapping[str, Any]], float]] = {
    "section3/units": lambda config: 3,
    "section3/entries": lambda config: 3,
    "section41/success": lambda config: 2 * len(config["seeds"]),
    "section41/trajectories": lambda config: 4,
    "section42/losses": lambda config: 2 + 1.4e-4 * _steps(config),
    "section43/growing": lambda config: 1 + 4e-4 * 2 * config["g"] * config["steps"],
    "section43/problem": lambda config: 5,
    "section53/threads": lambda config: config["repeats"] * len(config["threads"]) * config["steps"] * 0.2,
    "mnist/gadam": lambda config: 20 + 7e-3 * _steps(config),
    "mnist/optimizer": lambda config: (
        8 + 7e-3 * _steps(config) + 1.5 * config["population_size"] * len(config["looks"])
    ),
    "mnist/gcforest": lambda config: 3_600,
    "mnist/dbn": lambda config: 1_000,
    "mnist/forest": lambda config: 0.5 * config["trees"],
    "mnist/svm": lambda config: 700,
    "orl/gadam": lambda config: 5 + 0.018 * _steps(config) * (4 / config["shrink"]) ** 2,
    "orl/adam": lambda config: 5 + 0.018 * _steps(config) * (4 / config["shrink"]) ** 2,
    "orl/curve": lambda config: 10 + 0.02 * _steps(config) * (4 / config["shrink"]) ** 2,
    "orl/forest": lambda config: 0.02 * config["trees"],
    "orl/svm": lambda config: 3,
    "orl/neighbours": lambda config: 1,
    "orl/gcforest": lambda config: 120,
    "tables/gadam": lambda config: 2 + 1.4e-4 * _steps(config),
    "tables/adam": lambda config: 2 + 1.4e-4 * _steps(config),
    "tables/curve": lambda config: 2 + 1.6e-4 * _steps(config),
    "tables/forest": _of_tables(13, 150, 57),
    "tables/svm": _of_tables(0.2, 130, 6),
    "tables/neighbours": _of_tables(0.1, 7, 0.5),
    "tables/gcforest": _of_tables(105, 3_600, 1_300),
    "readings/trained": lambda config: 2 + 1.4e-4 * _steps(config),
}
"""CPU seconds of a run of profile standard, by its config: what a minute of each kind showed."""


def describe(lines: Sequence[Planned], *, workers: int | None = None, verbose: bool = False) -> str:
    """The plan as text for a terminal: a line for each section, with `verbose` one for each run too."""
    count = worker_count(workers)
    sections = {name: [line for line in lines if line.section == name] for name in SECTIONS}
    text = [f"{'section':<14}{'runs':>6}{'there':>8}{'to do':>7}{'unknown':>9}{'core time':>13}{'wall time':>13}"]
    total = [0.0, 0.0]
    for name, own in ((name, own) for name, own in sections.items() if own):
        spent = to_do(own, count)
        total = [before + more for before, more in zip(total, spent, strict=True)]
        text.append(_line(name, own, *spent))
        if verbose:
            text += [_run_line(line) for line in own]
    text.append(_line("all", lines, *total))
    text.append(f"wall time with {count} worker{'s' * (count != 1)} ($GADAM_WORKERS); side by side, the sum at most")
    if waiting := [name for name, own in sections.items() if later_runs(name) and not all(one.where for one in own)]:
        text.append(f"once these are computed, further runs may be known of: {', '.join(waiting)}")
    unknown = [line.run.function.name for line in lines if line.seconds is None]
    if unknown:
        text.append("unknown, not in the times (neither computed nor measured before):")
        text += [f"    {unknown.count(function):>4} of {function}" for function in dict.fromkeys(unknown)]
    return "\n".join(text)


def to_do(lines: Sequence[Planned], workers: int) -> tuple[float, float]:
    """Seconds of one core for the runs that are missing, and of that many workers side by side."""
    missing = sorted((line for line in lines if not line.where and line.seconds is not None), key=_order)
    free = [0.0] * max(1, min(workers, len(missing)))  # there may be billions who have nothing to do
    for line in missing:
        seconds = float(line.seconds or 0)
        if line.run.wide:  # on all cores, once the others are done
            free = [max(free) + seconds / workers] * len(free)
        else:
            heapq.heappush(free, heapq.heappop(free) + seconds)
    return sum(float(line.seconds or 0) for line in missing), max(free)


def _order(line: Planned) -> tuple[int, bool]:
    return line.run.priority, line.run.wide


def duration(seconds: float) -> str:
    """Seconds as a reader says them: "0 s", "45 s", "3 min", "2.5 h", "4.1 d"."""
    if seconds < 100:
        return f"{math.ceil(seconds)} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3_600:.1f} h" if seconds < 48 * 3_600 else f"{seconds / 86_400:,.1f} d"


def _line(name: str, lines: Sequence[Planned], core: float, wall: float) -> str:
    there = sum(bool(line.where) for line in lines)
    unknown = sum(line.seconds is None for line in lines)
    counts = f"{name:<14}{len(lines):>6}{there:>8}{len(lines) - there:>7}{unknown or '–':>9}"
    more = "> " if unknown else ""
    return f"{counts}{more + duration(core):>13}{more + duration(wall):>13}"


def _run_line(line: Planned) -> str:
    known = "unknown" if line.seconds is None else duration(line.seconds)
    state = f"took {known}" if line.where else known if line.seconds is None else f"about {known}"
    return f"    {line.where or 'to do':<10}{state:<16}{line.run.label or line.run.function.name}"
