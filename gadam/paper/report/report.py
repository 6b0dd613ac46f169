"""Report: the object that a notebook talks to. It asks for runs, and leaves tables, figures and claims behind."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import pyplot

from gadam.config import InputError
from gadam.display import duration
from gadam.paper import ARCHIVED, SECTIONS, data_of
from gadam.paper.claims import Arms, Claim
from gadam.paper.drawing import say_missing
from gadam.paper.report import figures, page, provenance, scoreboard, store, tables
from gadam.paper.report.page import Shown
from gadam.paper.report.paths import reports_root, write_json
from gadam.paper.report.plan import Source, estimate
from gadam.paper.report.store import Stored
from gadam.paper.report.workers import compute
from gadam.paper.runs import Run
from gadam.validation import check_choice

SECTION_VARIABLE = "GADAM_SECTION"  # set by `reproduce` for the notebook it executes
RECOMPUTE_VARIABLE = "GADAM_RECOMPUTE"  # set by `reproduce` where nothing may come from the archive


class Report:
    """The report of one profile, in `<folder>/<profile>`; default `$GADAM_REPORTS`, or `reports/out`.

    Attributes:
        seen: the sources ("real", "stand-in") of the rows that were read through this report.
        arms: how many runs of each arm are there, and how many are planned, of all that were asked for.
    """

    def __init__(self, profile: str, *, data: str = "auto", folder: Path | None = None) -> None:
        self.profile, self.data = profile, data_of(profile, data)
        self.folder = Path(folder or reports_root()) / profile
        self.source = Source(profile, recompute=bool(os.environ.get(RECOMPUTE_VARIABLE)))
        self.seen: set[str] = set()
        self.arms, self._asked, self._there = Arms(), dict[str, Run](), set[str]()
        figures.use_style()

    def rows(self, runs: Sequence[Run], *, workers: int | None = None) -> pd.DataFrame:
        """Return each row of each run, in order. Which runs of each arm are there stands in `arms` afterwards.

        In a profile that is archived the runs are read, from the store or else from the archive; what is missing is
        said and left out. In the others those not stored are computed. See `compute`.
        """
        if self.profile in ARCHIVED:
            found = [one for run in runs if (one := self.source.find(run)[0])]
        else:
            found = compute(runs, workers)
        self._there |= {one.run.key for one in found}
        asked = {run.key: run for run in runs}
        if missing := [run for key, run in asked.items() if key not in self._there]:
            self._say_missing(missing, found)
        self._asked |= asked
        self.arms = Arms.of(self._asked.values(), lambda run: run.key in self._there)
        if section := os.environ.get(SECTION_VARIABLE):
            provenance.note_runs(self.folder, section, found)
        frame = store.frame(found)
        self.seen |= _sources(frame)
        if self.data == "real" and "stand-in" in self.seen:
            raise InputError("data='real', but there are runs on stand-in data; open the report with data='auto'")
        return frame

    def _say_missing(self, missing: Sequence[Run], found: Sequence[Stored]) -> None:
        seconds = estimate(missing, found, self.profile)
        unknown = f", and {len(missing) - len(seconds)} of unknown length" if len(seconds) < len(missing) else ""
        print(
            f"{len(missing)} of {len(missing) + len({one.run.key for one in found})} runs are missing, about "
            f"{duration(sum(seconds.values()))} of one core{unknown}; compute them: gadam reproduce "
            f"--profile {self.profile} --runs-only",
            flush=True,
        )

    def table(
        self, name: str, frame: pd.DataFrame, *, caption: str, note: str = "", source: str | None = None,
        decimals: int | Mapping[str, int] | None = None, shown: Sequence[str] | None = None,
    ) -> Shown:  # fmt: skip
        """Write a table that a section promises as CSV, Markdown and LaTeX, without its index.

        What readers see is the columns `shown` (default: all), a value and its bounds in one; the CSV has everything.

        `source` is "real", "stand-in" or "none"; default: the frame's column `data`, else the sources of the rows read
        so far. On a stand-in the caption says so, there is a column `data`, and columns named "paper…" are empty in its
        rows. `decimals` are of columns with fractions, for readers; default: four digits of a column's largest value.
        """
        check_choice("table", name, [one for section in SECTIONS.values() for one in section.tables])
        if source is not None:
            check_choice("source", source, scoreboard.SOURCES)
        evidence = {source} if source else _sources(frame) or self.seen
        if "stand-in" in evidence:
            frame = _marked(frame)
        caption = mark(evidence) + caption
        cells = tables.write(self.folder / "tables", name, frame, caption, note, decimals, shown)
        exhibit = self._exhibit(name, "table", evidence, caption=caption, note=note, **asdict(cells))
        return Shown(page.render("table.html.j2", exhibit=exhibit), alt=tables.to_markdown(cells, caption, note))

    def figure(self, name: str, figure: Any, *, caption: str, alt: str) -> Shown:
        """Write a figure that a section promises, or an object that has one as its `figure`, as PNG and SVG; close it.

        `alt` describes it for who cannot see it. On a stand-in the caption and the figure itself say so.
        """
        check_choice("figure", name, [one for section in SECTIONS.values() for one in section.figures])
        evidence = self.seen
        say_missing(figure.figure)
        png = figures.save(figure, self.folder / "figures" / name, mark=figures.MARK if "stand-in" in evidence else "")
        pyplot.close(figure.figure)
        self._exhibit(name, "figure", evidence, caption=mark(evidence) + caption, alt=alt)
        return Shown(png=png, alt=alt)

    def claims(self, section: str, claims: Sequence[Claim]) -> Shown:
        """Judge the claims of a section by the runs that are there, and keep them for the scoreboard."""
        check_choice("section", section, SECTIONS)
        return _shown(scoreboard.write_claims(self.folder / "claims", section, claims, self.arms, self.profile))

    def scoreboard(self) -> tuple[pd.DataFrame, Shown]:
        """Return the claims that the sections have left behind in this report so far, and how they look."""
        claims = scoreboard.merge(self.folder / "claims")
        return claims, _shown(claims)

    def _exhibit(self, name: str, kind: str, evidence: set[str], **content: Any) -> dict[str, Any]:
        """Keep what the page needs beside the files."""
        source = "stand-in" if "stand-in" in evidence else "real" if evidence else None
        exhibit = {"id": name, "kind": kind, "source": source, **content}
        write_json(self.folder / "exhibits" / f"{name}.json", exhibit)
        return exhibit


def _shown(claims: pd.DataFrame) -> Shown:
    rows = scoreboard.readable(scoreboard.plain(claims))
    return Shown(page.render("claims.html.j2", rows=rows), alt=claims.to_string(index=False))


def mark(evidence: set[str]) -> str:
    """The start of a caption where a stand-in took part."""
    if "stand-in" not in evidence:
        return ""
    return "STAND-IN DATA, in part. " if "real" in evidence else "STAND-IN DATA. "


def _sources(frame: pd.DataFrame) -> set[str]:
    """The sources that rows name; "none" is said of what needs no dataset."""
    return {str(value) for value in frame["data"].dropna()} - {"none"} if "data" in frame else set()


def _marked(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with a column `data`, and without the paper's numbers in rows that come from a stand-in."""
    marked = frame.copy() if "data" in frame else frame.assign(data="stand-in")
    paper = [str(name) for name in marked if str(name).lower().startswith("paper")]
    marked[paper] = marked[paper].astype(object)
    marked.loc[marked["data"] == "stand-in", paper] = None
    return marked
