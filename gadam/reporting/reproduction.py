"""reproduce(): every run, then every notebook, then the scoreboard, the provenance and the page."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from gadam.arguments import check_path
from gadam.config import InputError
from gadam.experiments import PROFILES, SECTIONS
from gadam.experiments.runs import Run
from gadam.reporting import figures, notebooks, provenance, reference, scoreboard, site, store, tables
from gadam.reporting.cluster import check_scheduler
from gadam.reporting.paths import (
    alone_in,
    project_root,
    remove_stale,
    reports_root,
    require_writable,
    runs_root,
    scratch_folder,
    write_atomic,
)
from gadam.reporting.plan import all_runs, later_runs, sections_of
from gadam.reporting.report import DATA_CHOICES, SECTION_VARIABLE, check
from gadam.reporting.workers import compute, worker_count

HOUR = 60 * 60
LIMITS = {"smoke": HOUR / 2, "quick": 4 * HOUR, "paper": 30 * 24 * HOUR}  # seconds for a notebook, on a slow machine


def reproduce(
    profile: str = "quick",
    only: str | None = None,
    data: str = "auto",
    folder: Path | None = None,
    scheduler: str | None = None,
) -> Path:
    """Regenerate the tables and figures of the paper.

    Args:
        profile: smoke (minutes), quick (a laptop) or paper (the paper's budgets).
        only: a section ("section54") or an exhibit ("table4"), whose section is then executed; default all. What the
            other sections left behind before stays in the report.
        data: real, standin, or auto: real where it can be had.
        folder: the root of the reports; default `$GADAM_REPORTS`, or `reports` of the project.
        scheduler: address of a dask scheduler whose workers compute the runs, "tcp://host:8786"; default this machine.

    A notebook may take as long as `LIMITS` says, or `$GADAM_NOTEBOOK_SECONDS`. What a section leaves behind replaces
    what it left before once its notebook is through, so one that fails costs nothing. Of two reproductions into one
    folder the second waits for the first.

    Returns:
        The page, `<folder>/<profile>/index.html`.

    Raises:
        InputError: an argument is not allowed, or the real data is not there; nothing was executed.
        ReportError: a notebook failed or did not leave behind what it promises, or a file could not be written; one
            line.
    """
    from gadam.datasets.files import data_folder  # here, for it brings scikit-learn, which workers may not need

    check("profile", profile, PROFILES)
    check("data", data, DATA_CHOICES)
    chosen = sections_of(only)
    root = Path(folder).absolute() if folder else reports_root()
    report = root / profile
    environment = {"GADAM_RUNS": str(runs_root()), "GADAM_DATA": str(data_folder())}
    limit = _limit(profile)
    if data == "real":
        _require_data(chosen, profile)
    require_writable(report, "GADAM_REPORTS")
    stop = threading.Event()

    def execute(name: str) -> None:
        section = SECTIONS[name]
        with scratch_folder(report) as scratch:
            new = scratch / profile
            if section.last and (report / "claims").is_dir():
                shutil.copytree(report / "claims", new / "claims", ignore=shutil.ignore_patterns(f"{name}.csv", ".*"))
            seconds = notebooks.execute(
                project_root() / "notebooks" / section.notebook,
                report / "notebooks" / section.notebook,
                {"profile": profile, "data": data},
                limit=limit,
                promised=promised(new, name),
                environment={**environment, "GADAM_REPORTS": str(scratch), SECTION_VARIABLE: name},
                prefix=f"{name}: ",
                stop=stop,
            )
            provenance.note_execution(new, name, data, seconds)
            _publish(new, report, name)
        print(f"{section.title} … {seconds:.0f} s", flush=True)

    with alone_in(report):
        remove_stale(report)
        compute_runs(profile, only, data, scheduler)
        for group in ([name for name in chosen if SECTIONS[name].last == last] for last in (False, True)):
            with ThreadPoolExecutor(worker_count(None)) as pool:
                try:
                    for done in as_completed([pool.submit(execute, name) for name in group]):
                        done.result()
                except BaseException:
                    stop.set()  # the other notebooks end now, not when they are done
                    pool.shutdown(cancel_futures=True)
                    raise
        page = write_page(profile, root)
    print(f"report: {page}", flush=True)
    return page


def _publish(new: Path, report: Path, name: str) -> None:
    """Rename what a section wrote into the report; claims only its own, and none if it makes none any more."""
    claims = Path("claims", f"{name}.csv")
    if not (new / claims).exists():
        (report / claims).unlink(missing_ok=True)
    for path in sorted(path for path in new.rglob("[!.]*") if path.is_file()):
        place = path.relative_to(new)
        if place.parts[0] != claims.parts[0] or place == claims:
            (report / place).parent.mkdir(exist_ok=True)
            path.replace(report / place)


def write_page(profile: str, folder: Path | None = None) -> Path:
    """Write scoreboard, provenance, API reference and page from what the notebooks left behind; executes nothing."""
    check("profile", profile, PROFILES)
    if folder is not None:
        check_path("folder", folder)
    report = (Path(folder).absolute() if folder else reports_root()) / profile
    write_atomic(report / "scoreboard.csv", tables.to_csv(scoreboard.merge(report / "claims")))
    content = provenance.collect(report, profile)
    provenance.write(report, content)
    reference.write(report)
    return site.write(report, content)


def compute_runs(
    profile: str = "quick", only: str | None = None, data: str = "auto", scheduler: str | None = None
) -> int:
    """Compute and store the runs of the sections, without their notebooks: neither Jupyter nor papermill is needed.

    So a machine with a GPU computes, and another renders: copy the run store (`$GADAM_RUNS`) there and `reproduce`.

    Args:
        profile: see `reproduce`.
        only: see `reproduce`.
        data: see `reproduce`.
        scheduler: see `reproduce`.

    Returns:
        How many runs the sections have.
    """
    check("profile", profile, PROFILES)
    check("data", data, DATA_CHOICES)
    if scheduler is not None:
        check_scheduler(scheduler)
    done: set[str] = set()

    def add(runs: Iterable[Run], workers: int | None) -> None:
        missing = {identity: run for run in runs if (identity := run.identity()) not in done}
        if missing:
            compute(list(missing.values()), workers, scheduler=scheduler)
            done.update(missing)

    chosen = sections_of(only)
    alone = [name for name in chosen if SECTIONS[name].alone]
    together = [name for name in chosen if name not in alone]
    first = {name: all_runs(name, profile, data) for name in chosen}
    add([run for name in together for run in first[name]], None)
    for name in together:
        if further := later_runs(name):
            add(further(profile, data, store.frame(compute(first[name]))), None)
    for name in alone:
        add(first[name], 1)
    return len(done)


def promised(report: Path, name: str) -> list[Path]:
    """The files of every exhibit that a section promises."""
    section = SECTIONS[name]
    return [
        *(report / "tables" / f"{one}.{suffix}" for one in section.tables for suffix in tables.SUFFIXES),
        *(report / "figures" / f"{one}.{suffix}" for one in section.figures for suffix in figures.SUFFIXES),
    ]


def _require_data(sections: list[str], profile: str) -> None:
    """Naming a section's runs looks up the hash of its data, and fails where there is none."""
    for name in sections:
        all_runs(name, profile, "real")


def _limit(profile: str) -> float:
    given = os.environ.get("GADAM_NOTEBOOK_SECONDS")
    try:
        limit = float(given) if given else LIMITS[profile]
    except ValueError:
        limit = float("nan")
    if not limit > 0:  # not NaN either
        raise InputError(f"GADAM_NOTEBOOK_SECONDS={given!r} is not allowed; it must be a number of seconds, above 0")
    return limit
