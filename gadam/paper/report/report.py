"""Report: the object that a notebook talks to. It asks for runs, and leaves tables, figures and claims behind."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from gadam.config import InputError
from gadam.paper import SECTIONS
from gadam.paper.claims import Arms, Claim
from gadam.paper.report import figures, page, provenance, scoreboard, store, tables
from gadam.paper.report.page import Shown
from gadam.paper.report.paths import ARCHIVED, check, choices, reports_root, write_atomic
from gadam.paper.report.plan import Source, data_of, estimate
from gadam.paper.report.store import Stored
from gadam.paper.report.workers import compute, duration
from gadam.paper.runs import Run
from gadam.validation import check_path

SECTION_VARIABLE = "GADAM_SECTION"  # set by `reproduce` for the notebook it executes
RECOMPUTE_VARIABLE = "GADAM_RECOMPUTE"  # set by `reproduce` where nothing may come from the archive


@dataclass
class Report:
    """The report of one profile; make it with `Report.open`.

    Attributes:
        profile: smoke, quick, standard or paper.
        data: auto, real or standin: the choice that the notebook was given.
        folder: for everything that it writes.
        seen: the sources ("real", "stand-in") of the rows that were read through this report.
        arms: how many runs of each arm are there, and how many are planned, of all that were asked for.
    """

    profile: str
    data: str
    folder: Path
    seen: set[str] = field(default_factory=set)
    arms: Arms = field(default_factory=Arms)
    _counted: set[str] = field(default_factory=set)

    @classmethod
    def open(cls, profile: str, *, data: str = "auto", folder: Path | None = None) -> Report:
        """Open the report of a profile, in `<folder>/<profile>`; default `$GADAM_REPORTS`, or `reports/out`."""
        data = data_of(profile, data)
        if folder is not None:
            check_path("folder", folder)
        figures.use_style()
        return cls(profile, data, Path(folder or reports_root()) / profile)

    def rows(self, runs: Sequence[Run], *, workers: int | None = None) -> pd.DataFrame:
        """Return each row of each run, in order. Which runs of each arm are there stands in `arms` afterwards.

        In a profile that is archived the runs are read, from the store or else from the archive; what is missing is
        said and left out. In the others those not stored are computed. See `compute`.
        """
        if strange := [run for run in runs if not isinstance(run, Run)]:
            raise InputError(f"runs: has a {type(strange[0]).__name__} among them, must be a list of Run")
        if self.profile in ARCHIVED:
            source = Source(self.profile, recompute=bool(os.environ.get(RECOMPUTE_VARIABLE)))
            found = [one for run in runs if (one := source.find(run)[0])]
        else:
            found = compute(runs, workers)
        there = {one.run.key for one in found}
        self._say_missing({run.key: run for run in runs if run.key not in there}, found)
        self.arms.add([run for run in runs if run.key not in self._counted], lambda run: run.key in there)
        self._counted |= {run.key for run in runs}
        if section := os.environ.get(SECTION_VARIABLE):
            provenance.note_runs(self.folder, section, found)
        frame = store.frame(found)
        if "data" in frame:
            self.seen |= _sources(frame["data"])
        return frame

    def _say_missing(self, missing: dict[str, Run], found: Sequence[Stored]) -> None:
        if missing:
            known = [
                seconds for seconds in estimate(list(missing.values()), found, self.profile) if seconds is not None
            ]
            unknown = f", and {len(missing) - len(known)} of unknown length" if len(known) < len(missing) else ""
            total = len(missing) + len({one.run.key for one in found})
            print(
                f"{len(missing)} of {total} runs are missing, about {duration(sum(known))} of one core{unknown}; "
                f"compute them: gadam reproduce --profile {self.profile} --runs-only",
                flush=True,
            )

    def table(
        self,
        name: str,
        frame: pd.DataFrame,
        *,
        caption: str,
        note: str = "",
        source: str | None = None,
        decimals: int | None = None,
    ) -> Shown:
        """Write a table as CSV, Markdown and LaTeX.

        Args:
            name: an id that a section promises.
            frame: as a reader should see it; an index with a name becomes a column.
            caption: the content of the table in words.
            note: more that a reader must know.
            source: "real" or "stand-in"; default: the frame's column `data`, else the sources of the rows read so far.
            decimals: of columns with fractions, for readers; default: four digits of a column's largest value.

        On a stand-in the caption says so, there is a column `data`, and columns named "paper…" are empty in its rows.
        """
        _check_promised("table", name, [one for section in SECTIONS.values() for one in section.tables])
        if not isinstance(frame, pd.DataFrame):
            raise InputError(f"frame: of table {name!r} is a {type(frame).__name__}, must be a pandas.DataFrame")
        plain = tables.flat(frame)
        evidence = self._evidence(source, plain)
        caption = mark(evidence) + caption
        if "stand-in" in evidence:
            plain = _marked(plain)
        cells = tables.write(self.folder / "tables", name, plain, caption, note, decimals)
        exhibit = self._exhibit(name, "table", evidence, caption=caption, note=note, **asdict(cells))
        text = tables.to_markdown(cells, caption, note)
        return Shown(html=page.render("table.html.j2", exhibit=exhibit), alt=text)

    def figure(self, name: str, figure: Any, *, caption: str, alt: str, source: str | None = None) -> Shown:
        """Write a figure as PNG and SVG, and close it.

        Args:
            name: an id that a section promises.
            figure: a matplotlib figure, or an object that has one as its `figure`.
            caption: the content of the figure in words.
            alt: a description for who cannot see it.
            source: "real" or "stand-in"; default: the sources of the rows read so far.

        On a stand-in the caption and the figure itself say so.
        """
        from matplotlib import pyplot

        _check_promised("figure", name, [one for section in SECTIONS.values() for one in section.figures])
        if not hasattr(figure, "figure"):
            raise InputError(f"figure: {name!r} is a {type(figure).__name__}, must be a matplotlib Figure")
        evidence = self._evidence(source)
        png = figures.save(figure, self.folder / "figures" / name, mark=figures.MARK if "stand-in" in evidence else "")
        pyplot.close(figure.figure)
        self._exhibit(name, "figure", evidence, caption=mark(evidence) + caption, alt=alt)
        return Shown(png=png, alt=alt)

    def claims(self, section: str, claims: Sequence[Claim]) -> Shown:
        """Judge the claims of a section by the runs that are there, and keep them for the scoreboard."""
        check("section", section, SECTIONS)
        if strange := [one for one in claims if not isinstance(one, Claim)]:
            raise InputError(f"claims: has a {type(strange[0]).__name__} among them, must be a list of Claim")
        self._refuse_standin({claim.data for claim in claims})
        return _shown(scoreboard.write_claims(self.folder / "claims", section, claims, self.arms, self.profile))

    def scoreboard(self) -> tuple[pd.DataFrame, Shown]:
        """Return the claims that the sections have left behind in this report so far, and how they look."""
        claims = scoreboard.merge(self.folder / "claims")
        return claims, _shown(claims)

    def _evidence(self, source: str | None, frame: pd.DataFrame | None = None) -> set[str]:
        """The sources behind a result; empty where nobody said."""
        stated = set() if source is None else {source}
        column = _sources(frame["data"]) if frame is not None and "data" in frame else set()
        for one in stated | column:
            check("source", one, scoreboard.SOURCES)
        if stated and column and stated != column:
            raise InputError(f"source={source!r} is not what the column data says: {', '.join(sorted(column))}")
        evidence = stated | column or self.seen
        self._refuse_standin(evidence)
        return evidence

    def _refuse_standin(self, sources: set[str]) -> None:
        if self.data == "real" and "stand-in" in sources:
            raise InputError("Report: a result is from stand-in data, but the report was opened with data='real'")

    def _exhibit(self, name: str, kind: str, evidence: set[str], **content: Any) -> dict[str, Any]:
        """Keep what the page needs beside the files."""
        source = "stand-in" if "stand-in" in evidence else "real" if evidence else None
        exhibit = {"id": name, "kind": kind, "source": source, **content}
        text = json.dumps(exhibit, indent=1, ensure_ascii=False)
        write_atomic(self.folder / "exhibits" / f"{name}.json", text + "\n")
        return exhibit


def _shown(claims: pd.DataFrame) -> Shown:
    rows = scoreboard.readable(scoreboard.plain(claims))
    return Shown(html=page.render("claims.html.j2", rows=rows), alt=claims.to_string(index=False))


def mark(evidence: set[str]) -> str:
    """The start of a caption where a stand-in took part."""
    if "stand-in" not in evidence:
        return ""
    return "STAND-IN DATA, in part. " if "real" in evidence else "STAND-IN DATA. "


def _check_promised(kind: str, name: str, promised: Sequence[str]) -> None:
    if name not in promised:
        raise InputError(f"{kind}: {name!r} is promised by no section; there are {choices(name, promised)}")


def _sources(column: pd.Series[Any]) -> set[str]:
    """The sources that rows name; "none" is said of what needs no dataset."""
    return {str(value) for value in column.dropna()} - {"none"}


def _marked(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with a column `data`, and without the paper's numbers in rows that come from a stand-in."""
    marked = frame.copy() if "data" in frame else frame.assign(data="stand-in")
    paper = [str(name) for name in marked if any(part.lower().startswith("paper") for part in str(name).split(" · "))]
    marked[paper] = marked[paper].astype(object)
    marked.loc[marked["data"] == "stand-in", paper] = None
    return marked
