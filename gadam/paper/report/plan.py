"""List the runs of a reproduction: which of them are there, and how long the others would take. Computes nothing."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from gadam.paper import PROFILES, SECTIONS, import_sections
from gadam.paper.report import archive, store
from gadam.paper.report.archive import Archive
from gadam.paper.report.paths import ARCHIVED, archive_path, check, runs_root
from gadam.paper.report.workers import duration, worker_count
from gadam.paper.runs import Run

DATA_CHOICES = ("auto", "real", "standin")


@dataclass(frozen=True)
class Planned:
    """A run of a section.

    Attributes:
        section: the first of those that want it.
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
        root: folder of the store; default `$GADAM_RUNS`, or `reports/runs`.
        recompute: nothing is taken from the archive.
    """

    def __init__(self, profile: str, root: Path | None = None, recompute: bool = False) -> None:
        self.folder = root or runs_root()
        self.archive = archive.read(archive_path(profile)) if profile in ARCHIVED and not recompute else Archive()

    def find(self, run: Run) -> tuple[store.Stored | None, str]:
        """Return the run, or None, and where it was."""
        if stored := store.read(self.folder, run):
            return stored, "stored"
        found = self.archive.find(run)
        return found, "archived" if found else ""


def all_runs(name: str, profile: str, data: str) -> list[Run]:
    """Return every run that the functions in `RUNS` of a section's module list, once."""
    given = {"profile": profile, "data": data_of(profile, data)}
    found: dict[str, Run] = {}
    for function in import_sections()[name].RUNS:
        wanted = inspect.signature(function).parameters
        found |= {run.key: run for run in function(**{one: given[one] for one in wanted})}
    return list(found.values())


def later_runs(name: str) -> Callable[[str, str, pd.DataFrame], list[Run]] | None:
    """A section's function that lists further runs once it is given the rows of `all_runs`, if it has one."""
    return getattr(import_sections()[name], "later_runs", None)


def data_of(profile: str, data: str) -> str:
    """Return the choice of data that a profile makes of one: archived profiles are of the real data alone.

    Raises:
        InputError: the choice is not allowed.
    """
    check("profile", profile, PROFILES)
    check("data", data, DATA_CHOICES if profile not in ARCHIVED else ("auto", "real"))
    return "real" if profile in ARCHIVED else data


def sections_of(only: str | None) -> list[str]:
    """Return the sections to execute for a section's name, an exhibit's id, or None for all."""
    names = {name: (name, *section.tables, *section.figures) for name, section in SECTIONS.items()}
    if only is not None:
        check("only", only, [one for several in names.values() for one in several])
    return [name for name, several in names.items() if only is None or only in several]


def planned(
    profile: str, only: str | None = None, data: str = "auto", root: Path | None = None, recompute: bool = False
) -> list[Planned]:
    """Return every run of the chosen sections, once: whether it is there, and its seconds."""
    data = data_of(profile, data)
    source = Source(profile, root, recompute)
    lines: dict[str, Planned] = {}
    there: list[store.Stored] = []

    def add(name: str, runs: list[Run]) -> list[store.Stored]:
        found = [(run, *source.find(run)) for run in runs]
        for run, stored, where in found:
            lines.setdefault(run.key, Planned(name, run, where, stored.metadata["cpu_seconds"] if stored else None))
        return [stored for _, stored, _ in found if stored]

    for name in sections_of(only):
        own = add(name, all_runs(name, profile, data))
        if further := later_runs(name):
            own += add(name, further(profile, data, store.frame(own)))
        there += own
    missing = [line for line in lines.values() if not line.where]
    for line, seconds in zip(missing, estimate([line.run for line in missing], there, profile), strict=True):
        lines[line.run.key] = replace(line, seconds=seconds)
    return list(lines.values())


def estimate(runs: Sequence[Run], there: Sequence[store.Stored], profile: str) -> list[float | None]:
    """CPU seconds that each run would take: as one that differs in its seed alone, else by the pace of its kind.

    The paces are those of profile standard and say nothing about the small ones.
    """
    took = {one.run.kin(): float(one.metadata["cpu_seconds"]) for one in there}
    return [took.get(run.kin()) or (expected(run) if profile in ARCHIVED else None) for run in runs]


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
    return start + pace * units * steps * (4 / config.get("shrink", 4)) ** 2


# Only for the hours of `--plan`, as long as not every kind of run is in the archive of profile standard.
PACES: dict[str, tuple[float, float]] = {
    "section42/losses": (2, 1.4e-4), "readings/trained": (2, 1.4e-4),
    "mnist/gadam": (20, 7e-3), "mnist/optimizer": (60, 7e-3), "mnist/gcforest": (3_600, 0), "mnist/dbn": (1_000, 0),
    "mnist/forest": (0, 0.5), "mnist/svm": (700, 0),
    "orl/gadam": (5, 0.018), "orl/adam": (5, 0.018), "orl/curve": (10, 0.02), "orl/forest": (0, 0.02),
    "orl/svm": (3, 0), "orl/neighbours": (1, 0), "orl/gcforest": (120, 0),
    "tables/gadam": (2, 1.4e-4), "tables/adam": (2, 1.4e-4), "tables/curve": (2, 1.6e-4), "tables/forest": (80, 0),
    "tables/svm": (70, 0), "tables/neighbours": (4, 0), "tables/gcforest": (2_000, 0),
}  # fmt: skip
"""CPU seconds of a run of profile standard by its kind: to start, and for a step of a unit or a tree."""


def describe(lines: Sequence[Planned], *, workers: int | None = None, verbose: bool = False) -> str:
    """Return the plan as text for a terminal: a line for each section, with `verbose` one for each run too."""
    count = worker_count(workers)
    text = [f"{'section':<14}{'runs':>6}{'there':>8}{'to do':>7}{'unknown':>9}{'core time':>13}{'wall time':>13}"]
    own = {name: [line for line in lines if line.section == name] for name in SECTIONS}
    for name, several in own.items():
        if several:
            text.append(_line(name, several, count))
            text += [_run_line(line) for line in several if verbose]
    text += [_line("all", lines, count), f"wall time with {count} worker{'s' * (count != 1)} ($GADAM_WORKERS)"]
    if waiting := [name for name, several in own.items() if later_runs(name) and not all(one.where for one in several)]:
        text.append(f"once these are computed, further runs may be known of: {', '.join(waiting)}")
    unknown = [line.run.function.name for line in lines if line.seconds is None]
    if unknown:
        text.append("unknown, not in the times (neither computed nor measured before):")
        text += [f"    {unknown.count(function):>4} of {function}" for function in dict.fromkeys(unknown)]
    return "\n".join(text)


def to_do(lines: Sequence[Planned], workers: int) -> tuple[float, float]:
    """Seconds of one core for the runs that are missing, and about how many with that many workers."""
    missing = [line for line in lines if not line.where and line.seconds]
    core = sum(line.seconds or 0.0 for line in missing)
    return core, max([core / workers, *(line.seconds or 0.0 for line in missing if not line.run.wide)])


def _line(name: str, lines: Sequence[Planned], workers: int) -> str:
    core, wall = to_do(lines, workers)
    there = sum(bool(line.where) for line in lines)
    unknown = sum(line.seconds is None for line in lines)
    counts = f"{name:<14}{len(lines):>6}{there:>8}{len(lines) - there:>7}{unknown or '–':>9}"
    more = "> " if unknown else ""
    return f"{counts}{more + duration(core):>13}{more + duration(wall):>13}"


def _run_line(line: Planned) -> str:
    state = "took " if line.where else "about "
    state = "unknown" if line.seconds is None else state + duration(line.seconds)
    return f"    {line.where or 'to do':<10}{state:<16}{line.run.title}"
