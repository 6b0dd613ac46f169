"""Report: what a notebook talks to. It asks for runs, and leaves tables, figures and claims behind."""

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
from gadam.paper.report import figures, page, scoreboard, store, tables
from gadam.paper.report.page import Shown
from gadam.paper.report.paths import ARCHIVED, check, choices, reports_root, write_atomic
from gadam.paper.report.plan import Source, data_of, duration, expected
from gadam.paper.report.store import Stored
from gadam.paper.report.workers import compute
from gadam.paper.runs import Run
from gadam.validation import check_path

SECTION_VARIABLE = "GADAM_SECTION"  # set by `reproduce` for the notebook it executes
RECOMPUTE_VARIABLE = "GADAM_RECOMPUTE"  # set by `reproduce` where nothing may come from the archive


@dataclass
class Report:
    """The report of one profile; make it with `Report.open`.

    Attributes:
        profile: smoke, quick, standard or paper.
        data: auto, real or standin: what the notebook was asked for.
        folder: where everything goes.
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
        """The report of a profile, in `<folder>/<profile>`; default `$GADAM_REPORTS`, or `reports` of the project."""
        data = data_of(profile, data)
        if folder is not None:
            check_path("folder", folder)
        figures.use_style()
        return cls(profile, data, Path(folder or reports_root()) / profile)

    def rows(self, runs: Sequence[Run], *, workers: int | None = None) -> pd.DataFrame:
        """Each row of each run, in order. Which runs of each arm are there stands in `arms` afterwards.

        In a profile that is archived the runs are read, from the store or else from the archive; what is missing is
        said and left out. In the others those not stored are computed. See `compute`.
        """
        if strange := [run for run in runs if not isinstance(run, Run)]:
            raise InputError(f"runs: has a {type(strange[0]).__name__} among them, must be a list of Run")
        if self.profile in ARCHIVED:
            source = Source(self.profile, recompute=bool(os.environ.get(RECOMPUTE_VARIABLE)))
            found = [one for run in runs if (one := source.find(run)[0])]
            self._say_missing(runs, found)
        else:
            found = compute(runs, workers)
        there = {one.run.key for one in found}
        self.arms.add([run for run in runs if run.key not in self._counted], lambda run: run.key in there)
        self._counted |= {run.key for run in runs}
        self._record(found)
        frame = store.frame(found)
        if "data" in frame:
            self.seen |= _sources(frame["data"])
        return frame

    def _say_missing(self, runs: Sequence[Run], found: Sequence[Stored]) -> None:
        """What is not there, and how long it would compute."""
        missing = {run.key: run for run in runs}
        for one in found:
            missing.pop(one.run.key, None)
        if missing:
            seconds = [took for run in missing.values() if (took := expected(run)) is not None]
            unknown = f", and {len(missing) - len(seconds)} of unknown length" if len(seconds) < len(missing) else ""
            print(
                f"{len(missing)} of {len({run.key for run in runs})} runs are missing, about "
                f"{duration(sum(seconds))} of one core{unknown}; compute them: gadam reproduce "
                f"--profile {self.profile} --runs-only",
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
            caption: what the table shows.
            note: what a reader must know to read it.
            source: "real" or "stand-in"; default: the frame's column `data`, else what the rows read so far came from.
            decimals: of columns with fractions, for readers; default: four digits of a column's largest value.

        On a stand-in the caption says so, there is a column `data`, and columns named "paper…" are empty in its rows.
        """
        _check_promised("table", name, [one for section in SECTIONS.values() for one in section.tables])
        if not isinstance(frame, pd.DataFrame):
            raise InputError(f"frame: of table {name!r} is a {type(frame).__name__}, must be a pandas.DataFrame")
        plain = tables.flat(frame)
        evidence = self._evidence(source, plain)
        if "stand-in" in evidence:
            caption = f"{mark(evidence)}. {caption}"
            plain = _marked(plain)
        cells = tables.write(self.folder / "tables", name, plain, caption, note, decimals)
        exhibit = self._exhibit(name, "table", evidence, caption=caption, note=note, **asdict(cells))
        text = tables.to_markdown(cells, caption, note)
        return Shown(html=page.render("table.html.j2", exhibit=exhibit), alt=text)

    def figure(self, name: str, figure: Any, *, caption: str, alt: str, source: str | None = None) -> Shown:
        """Write a figure as PNG and SVG, and close it.

        Args:
            name: an id that a section promises.
            figure: a matplotlib figure, or what has one as its `figure`.
            caption: what the figure shows.
            alt: what there is to see, for who cannot see it.
            source: "real" or "stand-in"; default: what the rows read so far came from.

        On a stand-in the caption and the figure itself say so.
        """
        from matplotlib import pyplot

        _check_promised("figure", name, [one for section in SECTIONS.values() for one in section.figures])
        if not hasattr(figure, "figure"):
            raise InputError(f"figure: {name!r} is a {type(figure).__name__}, must be a matplotlib Figure")
        evidence = self._evidence(source)
        if "stand-in" in evidence:
            caption = f"{mark(evidence)}. {caption}"
        png = figures.save(figure, self.folder / "figures" / name, mark=figures.MARK if "stand-in" in evidence else "")
        pyplot.close(figure.figure)
        self._exhibit(name, "figure", evidence, caption=caption, alt=alt)
        return Shown(png=png, alt=alt)

    def claims(self, section: str, claims: Sequence[Claim]) -> Shown:
        """Judge the claims of a section by the runs that are there, and keep them for the scoreboard."""
        check("section", section, SECTIONS)
        if strange := [one for one in claims if not isinstance(one, Claim)]:
            raise InputError(f"claims: has a {type(strange[0]).__name__} among them, must be a list of Claim")
        if self.data == "real" and any(claim.data == "stand-in" for claim in claims):
            raise InputError("Report: a claim is on stand-in data, but the report was opened with data='real'")
        judged = scoreboard.write_claims(self.folder / "claims", section, claims, self.arms, self.profile)
        rows = scoreboard.readable(scoreboard.plain(judged))
        return Shown(html=page.render("claims.html.j2", rows=rows), alt=judged.to_string(index=False))

    def scoreboard(self) -> tuple[pd.DataFrame, Shown]:
        """The claims that the sections have left behind in this report so far, and how they look."""
        claims = scoreboard.merge(self.folder / "claims")
        rows = scoreboard.readable(scoreboard.plain(claims))
        return claims, Shown(html=page.render("claims.html.j2", rows=rows), alt=claims.to_string(index=False))

    def _evidence(self, source: str | None, frame: pd.DataFrame | None = None) -> set[str]:
        """Where a result comes from; empty where nobody said."""
        stated = set() if source is None else {source}
        column = _sources(frame["data"]) if frame is not None and "data" in frame else set()
        for one in stated | column:
            check("source", one, scoreboard.SOURCES)
        if stated and column and stated != column:
            raise InputError(f"source={source!r} is not what the column data says: {', '.join(sorted(column))}")
        stated |= column
        evidence = stated or self.seen
        if self.data == "real" and "stand-in" in evidence:
            raise InputError("Report: a result is from stand-in data, but the report was opened with data='real'")
        return evidence

    def _exhibit(self, name: str, kind: str, evidence: set[str], **content: Any) -> dict[str, Any]:
        """Keep what the page needs beside the files."""
        source = "stand-in" if "stand-in" in evidence else "real" if evidence else None
        exhibit = {"id": name, "kind": kind, "source": source, **content}
        write_atomic(
            self.folder / "exhibits" / f"{name}.json", json.dumps(exhibit, indent=1, ensure_ascii=False) + "\n"
        )
        return exhibit

    def _record(self, stored: Sequence[Stored]) -> None:
        """Note which runs the section that is being reproduced uses; for its provenance."""
        section = os.environ.get(SECTION_VARIABLE)
        if not section:
            return
        path = self.folder / "used" / f"{section}.json"
        content = json.loads(path.read_text("utf-8")) if path.is_file() else {"runs": {}, "machines": {}}
        for item in stored:
            identity = item.run.identity()
            computed = {name: item.metadata[name] for name in ("cpu_seconds", "stored")}
            facts = {
                name: value for name, value in item.metadata.items() if name not in (*computed, "seconds", "together")
            }
            machine = store.digest_of(facts)[:8]
            content["machines"][machine] = facts
            content["runs"][item.run.key] = {
                "label": item.run.label,
                **identity,
                "sources": sorted({str(row["data"]) for row in item.rows if "data" in row}),
                **computed,
                "machine": machine,
            }
        write_atomic(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def mark(evidence: set[str]) -> str:
    """What a caption starts with when a stand-in took part."""
    return "STAND-IN DATA, in part" if "real" in evidence else "STAND-IN DATA"


def _check_promised(kind: str, name: str, promised: Sequence[str]) -> None:
    if name not in promised:
        raise InputError(f"{kind}: {name!r} is promised by no section; there are {choices(name, promised)}")


def _sources(column: pd.Series[Any]) -> set[str]:
    """The sources that rows name; "none" is said of what needs no dataset."""
    return {str(value) for value in column.dropna()} - {"none"}


def _marked(frame: pd.DataFrame) -> pd.DataFrame:
    """With a column `data`, and without the paper's numbers in rows that come from a stand-in."""
    marked = frame.copy() if "data" in frame else frame.assign(data="stand-in")
    paper = [str(name) for name in marked if any(part.lower().startswith("paper") for part in str(name).split(" · "))]
    marked[paper] = marked[paper].astype(object)
    marked.loc[marked["data"] == "stand-in", paper] = None
    return marked
