"""reproduce(): every run, then every notebook, then the scoreboard, the provenance and the page."""

from __future__ import annotations

import json
import math
import os
import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from gadam.config import InputError
from gadam.paper import PROFILES, SECTIONS
from gadam.paper.report import (
    archive,
    figures,
    notebooks,
    paths,
    provenance,
    reference,
    sample,
    scoreboard,
    site,
    store,
    tables,
)
from gadam.paper.report.paths import ARCHIVED, ReportError, check, write_atomic
from gadam.paper.report.plan import Source, all_runs, data_of, estimate, later_runs, planned, sections_of, to_do
from gadam.paper.report.report import RECOMPUTE_VARIABLE, SECTION_VARIABLE
from gadam.paper.report.sample import Compared
from gadam.paper.report.workers import RunError, check_scheduler, compute, duration, joined, worker_count
from gadam.paper.runs import Run
from gadam.validation import check_path

HOUR = 60 * 60
LIMITS = {"smoke": HOUR / 2, "quick": 4 * HOUR, "standard": HOUR, "paper": HOUR}
"""Seconds for a notebook, on a slow machine; those of standard and paper compute nothing."""


class SampleError(ReportError):
    """Runs that were recomputed differ from the archive."""


def reproduce(
    profile: str = "standard",
    only: str | None = None,
    data: str = "auto",
    folder: Path | None = None,
    scheduler: str | None = None,
    *,
    recompute: bool = False,
) -> Path:
    """Regenerate the tables and figures of the paper.

    Profiles smoke and quick compute their runs. Profiles standard and paper are rendered from runs that were computed
    before: from the store, else from the archive; some of them are recomputed as a sample, compared and thrown away
    (see `gadam.paper.report.sample`). What is missing is left out of the exhibits, and said.

    Args:
        profile: smoke or quick (minutes: does everything run?), standard (the report) or paper (the paper's budgets).
        only: a section ("section54") or an exhibit ("table4"), whose section is then executed; default all. What the
            other sections left behind before stays in the report.
        data: real, standin, or auto: real where it can be had. Standard and paper are of the real data alone.
        folder: root of the reports; default `$GADAM_REPORTS`, or `reports/out` of the project.
        scheduler: address of a dask scheduler whose workers compute the runs, "tcp://host:8786"; default this machine.
        recompute: take nothing from the archive: compute every run, going on from those in the store.

    A notebook may take as long as `LIMITS` says, or `$GADAM_NOTEBOOK_SECONDS`. What a section leaves behind replaces
    what it left before once its notebook is through, so one that fails costs nothing. Of two reproductions into one
    folder the second waits for the first.

    Returns:
        The page, `<folder>/<profile>/index.html`.

    Raises:
        InputError: an argument is not allowed, or the real data is not there; nothing was executed.
        SampleError: a run of the sample differs from the archive; the report is there and says so.
        ReportError: a notebook failed or did not leave behind what it promises, or a file could not be written; one
            line.
    """
    data = data_of(profile, data)
    chosen = sections_of(only)
    root = Path(folder).absolute() if folder else paths.reports_root()
    report = root / profile
    rendered = profile in ARCHIVED and not recompute
    if data == "real" and not rendered:
        _require_data(chosen, profile)
    paths.require_writable(report, "GADAM_REPORTS")
    results: list[Compared] = []
    with paths.alone_in(report):
        paths.remove_stale(report)
        if rendered:
            results = _recompute_sample(profile, only, report)
        else:
            compute_runs(profile, only, data, scheduler, recompute=recompute)
        render(profile, chosen, data, root, recompute=recompute)
        page = write_page(profile, root)
    print(f"report: {page}", flush=True)
    if results:
        for one in results:
            if one.outcome in (sample.DIFFERENT, sample.ABSENT):
                print(f"{one.outcome}: {one.section}, {one.label}: {one.detail}", flush=True)
        print(summary := sample.summary(results), flush=True)
        if any(one.outcome == sample.DIFFERENT for one in results):
            raise SampleError(f"{summary}; see the page: {page}")
    return page


def _recompute_sample(profile: str, only: str | None, report: Path) -> list[Compared]:
    """Recompute some of the runs that are there; says first what is there and what is missing."""
    source, lines, workers = Source(profile), planned(profile, only), worker_count()
    sampled, there = sample.choose(lines), sum(bool(line.where) for line in lines)
    seconds = duration(sum(line.seconds or 0 for line in sampled) / workers)
    print(f"{len(lines):,} runs: {there:,} archived, {len(sampled)} to recompute as a sample, about {seconds}, "
          f"into {report}", flush=True)  # fmt: skip
    if there < len(lines):
        unknown = sum(line.seconds is None for line in lines)
        more = f", and {unknown} of unknown length" if unknown else ""
        print(f"{len(lines) - there:,} runs are missing: about {duration(to_do(lines, workers)[1])} on {workers} "
              f"cores{more}", flush=True)  # fmt: skip
    if source.archive.refused:
        refused = ", ".join(f"{count} {why}" for why, count in source.archive.refused.items())
        print(f"refused lines of the archive, which count as missing: {refused}", flush=True)
    results = sample.recompute(sampled, lines, source, report) if sampled else []
    sample.write(report, results)
    return results


def render(profile: str, chosen: Sequence[str], data: str, root: Path, *, recompute: bool = False) -> None:
    """Execute the notebooks of the chosen sections into `<root>/<profile>`, side by side."""
    from gadam.datasets.files import data_folder  # here, for it brings scikit-learn, which workers may not need

    report, limit, stop = root / profile, _limit(profile), threading.Event()
    environment = {
        "GADAM_RUNS": str(paths.runs_root()), "GADAM_DATA": str(data_folder()),
        "GADAM_ARCHIVE": str(paths.archive_path(profile).parents[1]), RECOMPUTE_VARIABLE: "1" if recompute else "",
    }  # fmt: skip

    def execute(name: str) -> None:
        section = SECTIONS[name]
        with paths.scratch_folder(report) as scratch:
            new = scratch / profile
            if section.last and (report / "claims").is_dir():
                shutil.copytree(report / "claims", new / "claims", ignore=shutil.ignore_patterns(f"{name}.csv", ".*"))
            seconds = notebooks.execute(
                paths.project_root() / "notebooks" / section.notebook,
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

    for last in (False, True):
        with ThreadPoolExecutor(worker_count()) as pool:
            try:
                for done in as_completed([pool.submit(execute, one) for one in chosen if SECTIONS[one].last == last]):
                    done.result()
            except BaseException:
                stop.set()  # the other notebooks end now, not when they are done
                pool.shutdown(cancel_futures=True)
                raise


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


def promised(report: Path, name: str) -> list[Path]:
    """The files of every exhibit that a section promises."""
    section = SECTIONS[name]
    return [
        *(report / "tables" / f"{one}.{suffix}" for one in section.tables for suffix in tables.SUFFIXES),
        *(report / "figures" / f"{one}.{suffix}" for one in section.figures for suffix in figures.SUFFIXES),
    ]


def archive_runs(profile: str = "standard", *, rendering: bool = True) -> Path:
    """Write the archive of a profile, and render its committed report from it.

    The archive is the union of the lines that it has, as far as they are still valid, and of the runs in the store; so
    no valid run is ever lost. Lines of another version or of other data are dropped, and said.

    Args:
        profile: standard or paper.
        rendering: whether to render the report too, into `reports/<profile>` of the project.

    Returns:
        The file of the archive.

    Raises:
        ReportError: a line of the archive is damaged; it is left as it is.
    """
    check("profile", profile, ARCHIVED)
    path, folder = paths.archive_path(profile), paths.runs_root()
    kept = archive.read(path)
    if damaged := kept.refused.get("damaged"):
        raise ReportError(
            f"{path}: {damaged} of its lines are damaged; get it back before runs are added: git checkout {path}"
        )
    contents = dict(kept.lines)
    for line in planned(profile):
        if line.where == "stored":
            contents[line.run.key] = json.loads(store.path_of(folder, line.run.key).read_bytes())
    archive.write(path, contents.values())
    dropped = "".join(f", {count} dropped ({why})" for why, count in kept.refused.items())
    print(f"{path}: {len(contents):,} runs, {len(contents) - len(kept.lines)} of them new{dropped}", flush=True)
    if rendering:
        report = paths.committed_root() / profile
        with paths.alone_in(report):
            paths.remove_stale(report)
            render(profile, sections_of(None), "real", paths.committed_root())
            write_page(profile, paths.committed_root())
    return path


def write_page(profile: str, folder: Path | None = None) -> Path:
    """Write scoreboard, provenance, API reference and page from what the notebooks left behind; executes nothing."""
    check("profile", profile, PROFILES)
    if folder is not None:
        check_path("folder", folder)
    report = (Path(folder).absolute() if folder else paths.reports_root()) / profile
    write_atomic(report / "scoreboard.csv", tables.to_csv(scoreboard.merge(report / "claims")))
    content = provenance.collect(report, profile)
    write_atomic(report / "provenance.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    reference.write(report)
    return site.write(report, content)


def compute_runs(
    profile: str = "standard",
    only: str | None = None,
    data: str = "auto",
    scheduler: str | None = None,
    *,
    recompute: bool = False,
) -> int:
    """Compute and store the runs of the sections, without their notebooks: neither Jupyter nor papermill is needed.

    So a machine with a GPU computes, and another renders: copy the run store (`$GADAM_RUNS`) there and `reproduce`.
    Runs of an archived profile are computed past one that fails; those that failed are named at the end.

    Arguments are those of `reproduce`.

    Returns:
        How many runs the sections have.

    Raises:
        RunError: runs failed; the others are stored.
    """
    data = data_of(profile, data)
    if scheduler is not None:
        check_scheduler(scheduler)
    chosen = sections_of(only)
    if data == "real" and profile not in ARCHIVED:
        _require_data(chosen, profile)
    source = Source(profile, recompute=recompute)
    done: set[str] = set()
    failures: list[RunError] = []

    def add(runs: Sequence[Run], workers: int | None = None) -> None:
        wanted = {run.key: run for run in runs if run.key not in done}
        done.update(wanted)
        there = {key: found for key, run in wanted.items() if (found := source.archive.find(run))}
        missing = [run for key, run in wanted.items() if key not in there]
        known = zip(missing, estimate(missing, list(there.values()), profile), strict=True)
        seconds = {run.key: took for run, took in known if took is not None}
        try:
            compute(missing, workers, scheduler=scheduler, keep_going=profile in ARCHIVED, seconds=seconds)
        except RunError as error:
            if profile not in ARCHIVED:
                raise
            failures.append(error)

    # A section that measures time would measure its neighbours; it is not begun unasked where the others take hours.
    alone = [name for name in chosen if SECTIONS[name].alone and (only or profile not in ARCHIVED)]
    first = {name: all_runs(name, profile, data) for name in chosen if not SECTIONS[name].alone}
    add([run for runs in first.values() for run in runs])
    for name, runs in first.items():
        if further := later_runs(name):
            add(further(profile, data, store.frame([found for run in runs if (found := source.find(run)[0])])))
    for name in alone:
        add(all_runs(name, profile, data), 1)
    if failures:
        raise joined(failures)
    return len(done)


def _require_data(sections: Sequence[str], profile: str) -> None:
    """Fail now where the real data of a run cannot be had."""
    from gadam.datasets import locate

    runs = [run for name in sections for run in all_runs(name, profile, "real")]
    for dataset in dict.fromkeys(str(run.config["dataset"]) for run in runs if run.config.get("dataset")):
        locate(dataset, data="real")


def _limit(profile: str) -> float:
    given = os.environ.get("GADAM_NOTEBOOK_SECONDS")
    try:
        limit = float(given) if given else LIMITS[profile]
    except ValueError:
        limit = math.nan
    if not limit > 0:  # not NaN either
        raise InputError(f"GADAM_NOTEBOOK_SECONDS={given!r} is not allowed; it must be a number of seconds, above 0")
    return limit
