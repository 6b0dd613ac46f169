"""reproduce(): every run, then every notebook, then the scoreboard, the provenance and the page."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from gadam.config import InputError
from gadam.datasets import locate
from gadam.datasets.files import data_folder
from gadam.display import duration
from gadam.paper import ARCHIVED, SECTIONS, data_of, sections_of
from gadam.paper.report import archive, figures, notebooks, paths, provenance, sample, store, tables
from gadam.paper.report.paths import ReportError, SampleError
from gadam.paper.report.plan import Source, planned, to_do
from gadam.paper.report.report import RECOMPUTE_VARIABLE, SECTION_VARIABLE
from gadam.paper.report.site import write_page
from gadam.paper.report.workers import compute, worker_count
from gadam.validation import check_choice

NOTEBOOK_SECONDS = 60 * 60
"""For a notebook, on a slow machine; its runs are computed before."""


def reproduce(
    profile: str = "standard", only: str | None = None, data: str = "auto", scheduler: str | None = None, *,
    recompute: bool = False,
) -> Path:  # fmt: skip
    """Regenerate the tables and figures of the paper, in `$GADAM_REPORTS`, or `reports/out` of the project.

    Profiles smoke and quick compute their runs. Profiles standard and paper are rendered from runs that were computed
    before: from the store, else from the archive; some of them are recomputed as a sample, compared and thrown away
    (see `gadam.paper.report.sample`). What is missing is left out of the exhibits, and said. What a section leaves
    behind replaces what it left before once its notebook is through, so one that fails costs nothing.

    Arguments are those of the command, see `gadam reproduce --help`. Returns the page, `index.html`.

    Raises:
        InputError: an argument is not allowed, or the real data is not there; nothing was executed.
        SampleError: a run of the sample differs from the archive; the report is there and says so.
        ReportError: a notebook failed or did not leave behind what it promises, or a file could not be written.
    """
    data, chosen = data_of(profile, data), sections_of(only)
    if scheduler is not None and profile in ARCHIVED and not recompute:
        raise InputError(f"--scheduler: the report of {profile} computes nothing there; must have --runs-only with it")
    report = paths.reports_root() / profile
    notebooks.check([paths.notebooks_folder() / SECTIONS[name].notebook for name in chosen])
    paths.prepare_folder(report, "GADAM_REPORTS")
    results: list[dict[str, str]] = []
    if profile in ARCHIVED and not recompute:
        results = _recompute_sample(profile, only, report)
    else:
        (report / "sample.json").unlink(missing_ok=True)  # of another report, held against the archive
        compute_runs(profile, only, data, scheduler, recompute=recompute)
    render(profile, chosen, data, report, recompute=recompute)
    page = write_page(profile)
    print(f"report: {page}", flush=True)
    for one in results:
        if one["outcome"] in (sample.DIFFERENT, sample.ABSENT):
            print("{outcome}: {section}, {label}: {detail}".format(**one), flush=True)
    if results:
        about = sample.describe(results)
        print(about["summary"], flush=True)
        if about["differs"]:
            raise SampleError(f"{about['summary']}; see the page: {page}")
    return page


def _recompute_sample(profile: str, only: str | None, report: Path) -> list[dict[str, str]]:
    """Recompute some of the runs that are there; says first what is there and what is missing."""
    source, workers = Source(profile), worker_count()
    lines = planned(profile, only, source=source)
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
    results = sample.recompute(sampled, lines, report) if sampled else []
    paths.write_json(report / "sample.json", results)
    return results


def render(profile: str, chosen: Sequence[str], data: str, report: Path, *, recompute: bool = False) -> None:
    """Execute the notebooks of the chosen sections into a report, side by side."""
    stop = threading.Event()
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
                paths.notebooks_folder() / section.notebook,
                report / "notebooks" / section.notebook,
                {"profile": profile, "data": data},
                limit=NOTEBOOK_SECONDS,
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
            paths.write_atomic(report / place, path.read_bytes())  # no renaming: its folder may be on another disk


def promised(report: Path, name: str) -> list[Path]:
    """The files of every exhibit that a section promises."""
    section = SECTIONS[name]
    return [
        *(report / "tables" / f"{one}.{suffix}" for one in section.tables for suffix in tables.SUFFIXES),
        *(report / "figures" / f"{one}.{suffix}" for one in section.figures for suffix in figures.SUFFIXES),
    ]


def archive_runs(profile: str = "standard", *, rendering: bool = True) -> Path:
    """Write the archive of a profile (standard, paper), and render its committed report from it, if `rendering`.

    The archive is the union of the lines that it has, as far as they are still valid, and of the runs in the store; so
    no valid run is ever lost. Lines of another version or of other data are dropped, and said. One with a damaged line
    is left as it is: a ReportError.
    """
    check_choice("profile", profile, ARCHIVED)
    path, folder = paths.archive_path(profile), paths.runs_root()
    kept = archive.read(path)
    if damaged := kept.refused.get("damaged"):
        raise ReportError(f"{path}: {damaged} of its lines are damaged; get it back: git checkout {path}")
    contents = dict(kept.lines)
    for line in planned(profile):
        if line.where == "stored":
            contents[line.run.key] = json.loads(store.path_of(folder, line.run.key).read_bytes())
    archive.write(path, contents.values())
    dropped = "".join(f", {count} dropped ({why})" for why, count in kept.refused.items())
    print(f"{path}: {len(contents):,} runs, {len(contents) - len(kept.lines)} of them new{dropped}", flush=True)
    if rendering:
        report = paths.committed_root() / profile
        paths.prepare_folder(report, "GADAM_REPORTS")
        render(profile, sections_of(None), "real", report)
        write_page(profile, paths.committed_root())
    return path


def compute_runs(
    profile: str = "standard", only: str | None = None, data: str = "auto", scheduler: str | None = None, *,
    recompute: bool = False,
) -> int:  # fmt: skip
    """Compute and store the runs of the sections, without their notebooks: neither Jupyter nor papermill is needed.

    So one machine computes, and another renders from a copy of the run store (`$GADAM_RUNS`). Runs of an archived
    profile are computed past one that fails. Arguments are those of `reproduce`; returns how many runs there are.

    Raises:
        ReportError: runs failed; the others are stored.
    """
    data, source, done = data_of(profile, data), Source(profile, recompute), set[str]()
    failures: list[ReportError] | None = [] if profile in ARCHIVED else None
    if data == "real" and profile not in ARCHIVED:  # what cannot be had is said before anything is computed
        for dataset in dict.fromkeys(one.run.config.get("dataset") for one in planned(profile, only, data, source)):
            if dataset:
                locate(str(dataset), data="real")
    # A section that measures time would measure its neighbours; it is not begun unasked where the others take hours.
    timed = (True,) if only or profile not in ARCHIVED else ()
    for alone in (False, False, *timed):  # twice: what was computed may tell of further runs
        lines = planned(profile, only, data, source)
        lines = [one for one in lines if SECTIONS[one.section].alone == alone and one.run.key not in done]
        done |= {one.run.key for one in lines}
        if runs := [one.run for one in lines if one.where != "archived"]:
            seconds = {one.run.key: one.seconds for one in lines if not one.where and one.seconds is not None}
            compute(runs, 1 if alone else None, scheduler=scheduler, seconds=seconds, failures=failures)
    if failures:
        raise ReportError(f"{len(failures)} of {len(done)} runs failed: {'; '.join(map(str, failures))}")
    return len(done)
