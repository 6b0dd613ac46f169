"""List the runs of a reproduction: which of them are there, and how long the others would take. Computes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from gadam.display import duration
from gadam.paper import ARCHIVED, SECTIONS, data_of, import_sections, sections_of
from gadam.paper.report import archive, store
from gadam.paper.report.archive import Archive
from gadam.paper.report.paths import archive_path, runs_root
from gadam.paper.report.workers import worker_count
from gadam.paper.runs import Run


@dataclass(frozen=True)
class Planned:
    """A run of a section, of the first that wants it; where it is: "stored", "archived", or "" for missing.

    `seconds` are those of CPU time that it took, or would take; None where nothing is known. `stored` is what is there.
    """

    section: str
    run: Run
    where: str
    seconds: float | None
    stored: store.Stored | None = None


class Source:
    """Where the runs of a profile are read: the store's folder, then, unless told to recompute, its archive."""

    def __init__(self, profile: str, recompute: bool = False) -> None:
        self.folder = runs_root()
        self.archive = archive.read(archive_path(profile)) if profile in ARCHIVED and not recompute else Archive()

    def find(self, run: Run) -> tuple[store.Stored | None, str]:
        """Return the run, or None, and where it was."""
        if stored := store.read(self.folder, run):
            return stored, "stored"
        found = self.archive.find(run)
        return found, "archived" if found else ""


def all_runs(name: str, profile: str, data: str) -> list[Run]:
    """Return every run that the functions in `RUNS` of a section's module list, once."""
    lists = import_sections()[name].RUNS
    return list({run.key: run for runs in lists for run in runs(profile, data_of(profile, data))}.values())


def later_runs(name: str) -> Callable[[str, str, pd.DataFrame], list[Run]] | None:
    """A section's function that lists further runs once it is given the rows of `all_runs`, if it has one."""
    return getattr(import_sections()[name], "later_runs", None)


def planned(profile: str, only: str | None = None, data: str = "auto", source: Source | None = None) -> list[Planned]:
    """Return every run of the chosen sections, once: whether it is there, and its seconds."""
    data, source = data_of(profile, data), source or Source(profile)
    lines: dict[str, Planned] = {}

    def add(name: str, runs: list[Run]) -> list[store.Stored]:
        for run in runs:
            if run.key not in lines:
                stored, where = source.find(run)
                lines[run.key] = Planned(name, run, where, stored.metadata["cpu_seconds"] if stored else None, stored)
        return [stored for run in runs if (stored := lines[run.key].stored)]

    for name in sections_of(only):
        own = add(name, all_runs(name, profile, data))
        if further := later_runs(name):
            add(name, further(profile, data, store.frame(own)))
    missing = [line.run for line in lines.values() if not line.where]
    seconds = estimate(missing, [line.stored for line in lines.values() if line.stored], profile)
    return [line if line.where else replace(line, seconds=seconds.get(key)) for key, line in lines.items()]


def estimate(runs: Sequence[Run], there: Sequence[store.Stored], profile: str) -> dict[str, float]:
    """CPU seconds that runs would take, by key, as far as that is known.

    They are those of a run that differs in its seed alone, else go by the pace of its kind. The paces are those of
    profile standard and say nothing about the small ones.
    """
    took = {one.run.kin(): float(one.metadata["cpu_seconds"]) for one in there}
    known = {run.key: took.get(run.kin(), expected(run) if profile in ARCHIVED else None) for run in runs}
    return {key: seconds for key, seconds in known.items() if seconds is not None}


def expected(run: Run) -> float | None:
    """CPU seconds that a run would take, by the pace of its kind; None where that was not measured."""
    if run.function.name not in PACES:
        return None
    start, pace = PACES[run.function.name]
    config: Mapping[str, Any] = run.config
    if "trees" in config:
        return start + pace * config["trees"]
    units = config.get("population_size") or config.get("units") or 1
    steps = 2 * config.get("generations", 0.5) * config.get("steps", 0)  # parents and children; or once
    return start + pace * config.get("total_steps", units * steps) * (4 / config.get("shrink", 4)) ** 2


# Only for the hours of `--plan`, as long as not every kind of run is in the archive of profile standard.
PACES: dict[str, tuple[float, float]] = {
    "section42/losses": (2, 1.4e-4), "readings/trained": (2, 1.4e-4),
    "mnist/gadam": (20, 7e-3), "mnist/optimizer": (60, 7e-3), "mnist/gcforest": (3_600, 0), "mnist/dbn": (1_000, 0),
    "mnist/forest": (0, 0.5), "mnist/svm": (700, 0),
    "orl/gadam": (5, 0.018), "orl/adam": (5, 0.018), "orl/curve": (10, 0.02), "orl/forest": (0, 0.02),
    "orl/svm": (3, 0), "orl/neighbours": (1, 0), "orl/gcforest": (120, 0),
    "tables/gadam": (2, 1.4e-4), "tables/adam": (2, 1.4e-4), "tables/curve": (2, 1.6e-4), "tables/forest": (80, 0),
    "tables/svm": (70, 0), "tables/neighbours": (4, 0), "tables/gcforest": (2_000, 0),
    "teach/mlp": (1, 1.8e-4), "teach/lenet5": (5, 7e-3), "teach/orl": (5, 0.018),
}  # fmt: skip
"""CPU seconds of a run of profile standard by its kind: to start, and for a step of a unit or a tree."""


def to_do(lines: Sequence[Planned], workers: int) -> tuple[float, float]:
    """Seconds of one core for the runs that are missing, and about how many with that many workers."""
    missing = [line for line in lines if not line.where and line.seconds]
    core = sum(line.seconds or 0.0 for line in missing)
    return core, max([core / workers, *(line.seconds or 0.0 for line in missing if not line.run.wide)])


def describe(lines: Sequence[Planned], verbose: bool = False) -> str:
    """Return the plan as text for a terminal: a line for each section, with `verbose` one for each run too."""
    count = worker_count()
    text = [f"{'section':<14}{'runs':>6}{'there':>8}{'to do':>7}{'unknown':>9}{'core time':>13}{'wall time':>13}"]
    own = {name: several for name in SECTIONS if (several := [line for line in lines if line.section == name])}
    for name, several in own.items():
        text.append(_line(name, several, count))
        for line in several if verbose else ():
            word = "took" if line.where else "about"
            took = "unknown" if line.seconds is None else f"{word} {duration(line.seconds)}"
            text.append(f"    {line.where or 'to do':<10}{took:<16}{line.run.label}")
    text += [_line("all", lines, count), f"wall time with {count} worker{'s' * (count != 1)} ($GADAM_WORKERS)"]
    if waiting := [name for name, several in own.items() if later_runs(name) and not all(one.where for one in several)]:
        text.append(f"once these are computed, further runs may be known of: {', '.join(waiting)}")
    return "\n".join(text)


def _line(name: str, lines: Sequence[Planned], workers: int) -> str:
    core, wall = to_do(lines, workers)
    there = sum(bool(line.where) for line in lines)
    unknown = sum(line.seconds is None for line in lines)
    counts = f"{name:<14}{len(lines):>6}{there:>8}{len(lines) - there:>7}{unknown or '–':>9}"
    more = "> " if unknown else ""
    return f"{counts}{more + duration(core):>13}{more + duration(wall):>13}"
