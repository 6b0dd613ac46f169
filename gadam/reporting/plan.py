"""What a reproduction would compute and how long that would take; computes nothing.

How long a run takes is known from runs that this machine computed before, in any profile and by any version of the
code: of the same function, with the same words in its config (dataset, model, method), scaled by their work.
"""

from __future__ import annotations

import heapq
import importlib
import inspect
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from gadam.experiments import PROFILES, SECTIONS
from gadam.experiments.runs import Run
from gadam.reporting import machine, store
from gadam.reporting.paths import runs_root
from gadam.reporting.report import DATA_CHOICES, check
from gadam.reporting.store import Stored
from gadam.reporting.workers import worker_count

# Settings that a run's time is about proportional to, by the names that the sections give them.
SIZES = ("population_size", "generations", "steps", "units", "forests", "trees", "trials", "epochs", "seeds")


@dataclass(frozen=True)
class Planned:
    """A run of a section.

    Attributes:
        section: whose it is; the first of those that want it.
        run: the run.
        stored: whether it needs no computing.
        seconds: that it took, or would take; None where nothing is known.
    """

    section: str
    run: Run
    stored: bool
    seconds: float | None


@dataclass(frozen=True)
class Timed:
    """A run of the store, as evidence of how long such runs take here."""

    function: str
    config: Mapping[str, Any]
    work: float | None
    seconds: float


def all_runs(name: str, profile: str, data: str) -> list[Run]:
    """Every run of a section that is known before any was computed, once.

    Those of its public functions named `runs` or `..._runs` that take nothing but `profile` and `data`, or less.
    """
    given = {"profile": profile, "data": data}
    module = importlib.import_module(f"gadam.experiments.{name}")
    own = [one for one in vars(module).values() if inspect.isfunction(one) and one.__module__ == module.__name__]
    lists = [one for one in own if f"_{one.__name__}".endswith("_runs") and not one.__name__.startswith("_")]
    found: dict[str, Run] = {}
    for function in sorted(lists, key=lambda one: one.__name__ != "runs"):
        wanted = inspect.signature(function).parameters
        if wanted.keys() <= given.keys():
            found |= {run.identity(): run for run in function(**{one: given[one] for one in wanted})}
    return list(found.values())


def later_runs(name: str) -> Callable[[str, str, pd.DataFrame], list[Run]] | None:
    """A section's function that names further runs once it is given the rows of `all_runs`, if it has one."""
    module = importlib.import_module(f"gadam.experiments.{name}")
    function: Callable[[str, str, pd.DataFrame], list[Run]] | None = getattr(module, "later_runs", None)
    return function


def sections_of(only: str | None) -> list[str]:
    """The sections to execute for a section's name, an exhibit's id, or None for all."""
    names = {name: (name, *section.tables, *section.figures) for name, section in SECTIONS.items()}
    if only is None:
        return list(names)
    check("only", only, [one for several in names.values() for one in several])
    return [name for name, several in names.items() if only in several]


def planned(profile: str, only: str | None = None, data: str = "auto", root: Path | None = None) -> list[Planned]:
    """Every run of the chosen sections, once: whether it is stored, and its seconds."""
    check("profile", profile, PROFILES)
    check("data", data, DATA_CHOICES)
    folder = root or runs_root()
    known = timed(folder)
    found: dict[str, Planned] = {}

    def add(name: str, runs: list[Run]) -> list[Stored | None]:
        own = [store.read(folder, key, run) for key, run in zip(store.keys(runs), runs, strict=True)]
        for run, stored in zip(runs, own, strict=True):
            seconds = float(stored.metadata["seconds"]) if stored else estimate(run, known)
            found.setdefault(run.identity(), Planned(name, run, stored is not None, seconds))
        return own

    for name in sections_of(only):
        computed = add(name, all_runs(name, profile, data))
        further = later_runs(name)
        if further and all(computed):
            add(name, further(profile, data, store.frame([one for one in computed if one])))
    return list(found.values())


def timed(folder: Path) -> list[Timed]:
    """The runs in a store that a machine like this one computed; what cannot be read is left out."""
    here = machine.describe()
    found = []
    for path in sorted(folder.glob("[!.]*.json")):
        try:
            content = json.loads(path.read_bytes())
            (function, config, _), metadata = content["identity"], content["metadata"]
            if all(metadata[name] == here[name] for name in ("cpu", "gpu")):
                found.append(Timed(function, config, metadata.get("work"), float(metadata["seconds"])))
        except (ValueError, KeyError, TypeError, OSError):
            continue
    return found


def estimate(run: Run, known: Iterable[Timed]) -> float | None:
    """Seconds for a run: the mean of runs like it but for the seed, else the pace of the largest that can be compared.

    Runs compare that have a `work` each and the same words in their configs, or whose configs differ in `SIZES` alone.
    The largest, since short runs spend much of their time on what a long one does once.
    """
    kin = [one for one in known if one.function == run.function]
    settings = _settings(run.config)
    if equal := [one.seconds for one in kin if _settings(one.config) == settings]:
        return sum(equal) / len(equal)
    work = run.work
    if work is not None:
        paces = [(one.work, one.seconds) for one in kin if one.work and _words(one.config) == _words(run.config)]
    else:
        work = _size(settings)
        alike = [one for one in kin if _shape(_settings(one.config)) == _shape(settings)]
        paces = [(size, one.seconds) for one in alike if (size := _size(_settings(one.config)))]
    if not paces or not work:
        return None
    largest = max(size for size, _ in paces)
    seconds = [taken for size, taken in paces if size == largest]
    return work / largest * sum(seconds) / len(seconds)


def describe(lines: Sequence[Planned], *, workers: int | None = None, verbose: bool = False) -> str:
    """The plan as text for a terminal: a line for each section, with `verbose` one for each run too."""
    count = worker_count(workers)
    sections = {name: [line for line in lines if line.section == name] for name in SECTIONS}
    text = [f"{'section':<14}{'runs':>6}{'stored':>8}{'to do':>7}{'unknown':>9}{'core time':>13}{'wall time':>13}"]
    total = [0.0, 0.0]
    for name, own in ((name, own) for name, own in sections.items() if own):
        known = [line.seconds for line in own if not line.stored and line.seconds is not None]
        spent = sum(known), _wall(known, count)
        total = [before + more for before, more in zip(total, spent, strict=True)]
        text.append(_line(name, own, *spent))
        if verbose:
            text += [_run_line(line) for line in own]
    text.append(_line("all", lines, *total))
    text.append(f"wall time with {count} worker{'s' * (count != 1)} ($GADAM_WORKERS); side by side, the sum at most")
    if waiting := [name for name, own in sections.items() if later_runs(name) and not all(one.stored for one in own)]:
        text.append(f"once these are computed, further runs are known of: {', '.join(waiting)}")
    unknown = [line.run.function for line in lines if line.seconds is None]
    if unknown:
        text.append(
            "unknown, not in the times (no stored run of this machine to compare with; run profile quick first):"
        )
        text += [f"    {unknown.count(function):>4} of {function}" for function in dict.fromkeys(unknown)]
    return "\n".join(text)


def duration(seconds: float) -> str:
    """Seconds as a reader says them: "0 s", "45 s", "3 min", "2.5 h", "4.1 d"."""
    if seconds < 100:
        return f"{math.ceil(seconds)} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3_600:.1f} h" if seconds < 48 * 3_600 else f"{seconds / 86_400:,.1f} d"


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config without its seed, and without `data`, for a stand-in is as large; of seeds, how many there are."""
    kept = {name: value for name, value in config.items() if name not in ("seed", "data")}
    return kept | ({"seeds": len(kept["seeds"])} if isinstance(kept.get("seeds"), list) else {})


def _words(config: Mapping[str, Any]) -> dict[str, str]:
    """What kind of run it is: dataset, model, method."""
    return {name: value for name, value in _settings(config).items() if isinstance(value, str)}


def _shape(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, and of sizes only that they are there."""
    return {name: None if name in SIZES else value for name, value in settings.items()}


def _size(settings: Mapping[str, Any]) -> float:
    """The product of the settings that say how large a run is; 0 where there are none, or one is no number."""
    values = [value for name, value in settings.items() if name in SIZES]
    return float(math.prod(values)) if values and all(isinstance(one, int | float) for one in values) else 0.0


def _wall(seconds: Sequence[float], workers: int) -> float:
    """When the last is done, if each worker takes the next one in turn."""
    free = [0.0] * max(1, min(workers, len(seconds)))  # there may be billions who have nothing to do
    for one in seconds:
        heapq.heappush(free, heapq.heappop(free) + one)
    return max(free)


def _line(name: str, lines: Sequence[Planned], core: float, wall: float) -> str:
    stored = sum(line.stored for line in lines)
    unknown = sum(line.seconds is None for line in lines)
    counts = f"{name:<14}{len(lines):>6}{stored:>8}{len(lines) - stored:>7}{unknown or '–':>9}"
    more = "> " if unknown else ""
    return f"{counts}{more + duration(core):>13}{more + duration(wall):>13}"


def _run_line(line: Planned) -> str:
    known = "unknown" if line.seconds is None else duration(line.seconds)
    state = f"took {known}" if line.stored else known if line.seconds is None else f"about {known}"
    return f"    {'stored' if line.stored else 'to do':<8}{state:<16}{line.run.label or line.run.function}"
