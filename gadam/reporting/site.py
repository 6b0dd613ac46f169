"""The report as one HTML page that needs nothing else: images inside, no network."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from gadam.experiments import SECTIONS
from gadam.reporting import figures, page, scoreboard, tables
from gadam.reporting.paths import write_atomic

PIXELS_PER_INCH = 104
PROFILE_TEXT = {
    "smoke": "smoke: does everything run? Budgets far too small to say anything about the paper.",
    "quick": "quick: a laptop's budget. Shorter training and fewer seeds than the paper's.",
    "paper": "paper: the paper's own budgets, at least ten seeds.",
}


def write(folder: Path, provenance: dict[str, Any]) -> Path:
    """Write `index.html` from the files that a report has so far; its path."""
    claims = scoreboard.merge(folder / "claims")
    sections = [_section(folder, name, provenance) for name in SECTIONS]
    exhibits = [exhibit for section in sections for exhibit in section["exhibits"]]
    standin = [exhibit["id"] for exhibit in exhibits if exhibit["source"] == "stand-in"]
    html = page.render(
        "index.html.j2",
        provenance=provenance,
        profile_text=PROFILE_TEXT[provenance["profile"]],
        rows=scoreboard.readable(claims),
        counts=scoreboard.counts(claims),
        rules=scoreboard.RULES,
        sections=sections,
        standin=standin or (["scoreboard"] if (claims["data"] == "stand-in").any() else []),
    )
    path = folder / "index.html"
    write_atomic(path, html)
    return path


def _section(folder: Path, name: str, provenance: dict[str, Any]) -> dict[str, Any]:
    section = SECTIONS[name]
    notebook = Path("notebooks") / section.notebook
    return {
        "name": name,
        "title": section.title,
        "notebook": notebook.as_posix() if (folder / notebook).is_file() else "",
        "executed": provenance["sections"].get(name, {}),
        "exhibits": [found for one in (*section.tables, *section.figures) if (found := _exhibit(folder, one))],
        "absent": [
            one for one in (*section.tables, *section.figures) if not (folder / "exhibits" / f"{one}.json").is_file()
        ],
    }


def _exhibit(folder: Path, name: str) -> dict[str, Any] | None:
    path = folder / "exhibits" / f"{name}.json"
    if not path.is_file():
        return None
    exhibit: dict[str, Any] = json.loads(path.read_text("utf-8"))
    place, suffixes = ("tables", tables.SUFFIXES) if exhibit["kind"] == "table" else ("figures", figures.SUFFIXES)
    exhibit["links"] = [(suffix.upper(), f"{place}/{name}.{suffix}") for suffix in suffixes]
    if exhibit["kind"] == "figure":
        png = (folder / "figures" / f"{name}.png").read_bytes()
        # The header of a PNG: its width in pixels. Shown at one scale, the letters of all figures are equally large.
        exhibit["width"] = int.from_bytes(png[16:20], "big") * PIXELS_PER_INCH // figures.DPI
        exhibit["image"] = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return exhibit
