"""reproduce(): every notebook, then the scoreboard, the provenance and the page."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

from gadam.config import InputError
from gadam.experiments import PROFILES, SECTIONS
from gadam.reporting import figures, notebooks, provenance, scoreboard, site, tables
from gadam.reporting.paths import project_root, reports_root, runs_root, write_atomic
from gadam.reporting.report import DATA_CHOICES, SECTION_VARIABLE, check

HOUR = 60 * 60
LIMITS = {"smoke": HOUR / 2, "quick": 4 * HOUR, "paper": 30 * 24 * HOUR}  # seconds for a notebook, on a slow machine


def reproduce(profile: str = "quick", only: str | None = None, data: str = "auto", folder: Path | None = None) -> Path:
    """Regenerate the tables and figures of the paper.

    Args:
        profile: smoke (minutes), quick (a laptop) or paper (the paper's budgets).
        only: a section ("section54") or an exhibit ("table4"), whose section is then executed; default all. What the
            other sections left behind before stays in the report.
        data: real, standin, or auto: real where it can be had.
        folder: the root of the reports; default `$GADAM_REPORTS`, or `reports` of the project.

    A notebook may take as long as `LIMITS` says, or `$GADAM_NOTEBOOK_SECONDS`.

    Returns:
        The page, `<folder>/<profile>/index.html`.

    Raises:
        InputError: an argument is not allowed, or the real data is not there; nothing was executed.
        ReportError: a notebook failed or did not leave behind what it promises; one line.
    """
    from gadam.datasets.files import data_folder  # here, for it brings scikit-learn, which workers may not need

    check("profile", profile, PROFILES)
    check("data", data, DATA_CHOICES)
    chosen = sections_of(only)
    root = Path(folder).absolute() if folder else reports_root()
    report = root / profile
    environment = {"GADAM_REPORTS": str(root), "GADAM_RUNS": str(runs_root()), "GADAM_DATA": str(data_folder())}
    if data == "real":
        _require_data(chosen, profile)
    for position, name in enumerate(chosen, start=1):
        section = SECTIONS[name]
        line = f"[{position}/{len(chosen)}] {section.title}"
        print(line, flush=True)
        for stale in (provenance.used_path(report, name), report / "claims" / f"{name}.csv"):
            stale.unlink(missing_ok=True)
        seconds = notebooks.execute(
            project_root() / "notebooks" / section.notebook,
            report / "notebooks" / section.notebook,
            {"profile": profile, "data": data},
            limit=_limit(profile),
            promised=promised(report, name),
            environment={**environment, SECTION_VARIABLE: name},
        )
        provenance.note_execution(report, name, data, seconds)
        print(f"{line} … {seconds:.0f} s", flush=True)
    page = write_page(profile, root)
    print(f"report: {page}", flush=True)
    return page


def write_page(profile: str, folder: Path | None = None) -> Path:
    """Write scoreboard, provenance and page from what the notebooks left behind; executes nothing."""
    check("profile", profile, PROFILES)
    report = (Path(folder).absolute() if folder else reports_root()) / profile
    write_atomic(report / "scoreboard.csv", tables.to_csv(scoreboard.merge(report / "claims")))
    content = provenance.collect(report, profile)
    provenance.write(report, content)
    return site.write(report, content)


def sections_of(only: str | None) -> list[str]:
    """The sections to execute for a section's name, an exhibit's id, or None for all."""
    if only is None:
        return list(SECTIONS)
    owners = [name for name, section in SECTIONS.items() if only in (name, *section.tables, *section.figures)]
    if not owners:
        check(
            "only",
            only,
            [one for name, section in SECTIONS.items() for one in (name, *section.tables, *section.figures)],
        )
    return owners


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
        module = importlib.import_module(f"gadam.experiments.{name}")
        if hasattr(module, "runs"):
            module.runs(profile, "real")


def _limit(profile: str) -> float:
    given = os.environ.get("GADAM_NOTEBOOK_SECONDS")
    try:
        return float(given) if given else LIMITS[profile]
    except ValueError:
        raise InputError(f"GADAM_NOTEBOOK_SECONDS={given!r} is not allowed; it must be a number of seconds") from None
