"""The report as one HTML page that needs nothing else: images inside, no network. And pages for notebooks and guide."""

from __future__ import annotations

import base64
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import pyplot

from gadam.paper import PROFILES, SECTIONS, Section, answer
from gadam.paper.claims import OURS
from gadam.paper.report import figures, notebooks, page, provenance, reference, sample, scoreboard, tables
from gadam.paper.report.paths import notebooks_folder, read_json, reports_root, write_atomic, write_json
from gadam.paper.verdicts import RULES
from gadam.validation import check_choice

PIXELS_PER_INCH = 104
REFERENCE = "api/gadam.html"
GUIDE = ("reproduce", "engine", "cluster", "checkpoints", "speed", "data")
"""Pages of the guide, in the order in which one needs them."""
PROFILE_TEXT = {
    "smoke": "smoke: does everything run? Budgets far too small to say anything about the paper.",
    "quick": "quick: a laptop's budget. Shorter training and fewer seeds than the paper's.",
    "standard": "standard: many seeds, at the paper's own budgets where some nights of computing reach.",
    "paper": "paper: the paper's own budgets, at least ten seeds.",
}


def write_page(profile: str, root: Path | None = None) -> Path:
    """Write scoreboard, provenance, API reference, guide and page from what the notebooks left; executes nothing.

    `root` is the folder of the reports; default `$GADAM_REPORTS`, or `reports/out`. Returns the page.
    """
    check_choice("profile", profile, PROFILES)
    folder = (root or reports_root()) / profile
    claims = scoreboard.merge(folder / "claims")
    write_atomic(folder / "scoreboard.csv", tables.to_csv(claims))
    write_atomic(folder / "runs.csv", tables.to_csv(provenance.runs_used(folder)))
    opening = _answer(folder, claims)
    content = provenance.collect(folder, profile)
    write_json(folder / "provenance.json", content)
    reference.write(folder)
    sections = [_section(folder, name, claims) for name in SECTIONS]
    standin = [one["id"] for section in sections for one in section["exhibits"] if one["source"] == "stand-in"]
    recomputed = read_json(folder / "sample.json") if (folder / "sample.json").is_file() else []
    html = page.render(
        "index.html.j2",
        provenance=content,
        profile_text=PROFILE_TEXT[profile],
        marks=scoreboard.counts(claims),
        reasons=scoreboard.reasons(claims),
        headlines=scoreboard.readable(scoreboard.headlines(claims)),
        rules=RULES,
        rules_stated=scoreboard.STATED,
        answer=opening,
        sample=sample.describe(recomputed) if recomputed else None,
        sections=sections,
        reference=REFERENCE if (folder / REFERENCE).is_file() else "",
        guide={name: link for name in GUIDE if (link := _guide_page(folder, name))},
        standin=standin or (["scoreboard"] if (claims["data"] == "stand-in").any() else []),
    )
    write_atomic(folder / "index.html", html)
    return folder / "index.html"


def _answer(folder: Path, claims: pd.DataFrame) -> dict[str, Any] | None:
    """The page's first sentences and picture, its numbers beside the other tables; None without headlines."""
    headlines, theirs = scoreboard.headlines(claims), claims[claims["paper"] != OURS]
    said = answer.sentences(headlines, scoreboard.counts(theirs), scoreboard.reasons(theirs).get("not computed", 0))
    if not said:
        return None
    accuracies = answer.collect(folder / "tables")
    write_atomic(folder / "tables" / "answer.csv", tables.to_csv(accuracies))
    figures.use_style()
    drawn = answer.picture(accuracies)
    standin = bool((headlines["data"] == "stand-in").any())
    figures.save(drawn, folder / "figures" / "answer", mark=figures.MARK if standin else "")
    pyplot.close(drawn)
    shown = {
        "id": "answer", "kind": "figure", "source": "stand-in" if standin else "real", "alt": answer.ALT,
        "caption": ("STAND-IN DATA. " if standin else "") + answer.CAPTION,
    }  # fmt: skip
    return {"sentences": said, "picture": shown | _image(folder, "answer")}


def _section(folder: Path, name: str, claims: pd.DataFrame) -> dict[str, Any]:
    """A section as the page shows it: its notebook, its exhibits, its claims, and how many there are of each mark."""
    section, own = SECTIONS[name], claims[claims["section"] == name]
    notebook = Path("notebooks") / section.notebook
    there = (folder / notebook).is_file()
    exhibits = {one: _exhibit(folder, one) for one in (*section.figures, *section.tables)}
    return {
        "name": name,
        "title": section.title,
        "short": _short(section),
        "notebook": notebook.as_posix() if there else "",
        "notebook_page": _notebook_page(folder, notebook, section.title) if there else "",
        "claims": scoreboard.readable(scoreboard.plain(own)),
        "marks": scoreboard.counts(own),
        "exhibits": [exhibit for exhibit in exhibits.values() if exhibit],
        "absent": [one for one, exhibit in exhibits.items() if not exhibit],
    }


def _short(section: Section) -> str:
    """The name of a section in the navigation: "§ 5.1", and a word more where several have that number."""
    number = section.title.partition(":")[0]
    alone = sum(one.title.startswith(f"{number}:") for one in SECTIONS.values()) == 1
    word = section.notebook.removesuffix(".ipynb").rpartition("_")[2]
    return (number if alone else f"{number}: {word}").replace("Section", "§").replace("Beyond the paper", "Beyond")


def _guide_page(folder: Path, name: str) -> str:
    """Write a page of the guide, not executed, and its notebook into `<folder>/guide`; its link, "" if it cannot."""
    source, copy = notebooks_folder() / "guide" / f"{name}.ipynb", Path("guide") / f"{name}.ipynb"
    if not source.is_file():
        return ""
    write_atomic(folder / copy, source.read_bytes())
    has_reference = (folder / REFERENCE).is_file()
    return _notebook_page(folder, copy, f"gadam: {name}", lambda text: _within_site(text, has_reference))


def _within_site(text: str, has_reference: bool) -> str:
    """Turn the links of a guide's markdown to pages of the site; what only the source tree has stays as words."""
    text = re.sub(r"\]\((\w+)\.ipynb", r"](\1.html", text)
    if has_reference:
        text = re.sub(r"\]\(\.\./\.\./(gadam(?:/(?!__init__)\w+)*)(?:/__init__)?\.py", r"](../api/\1.html", text)
    return re.sub(r"\[([^]]+)\]\(\.\./(?!api/)[^)]*\)", r"\1", text)


def _notebook_page(folder: Path, notebook: Path, title: str, edit: Callable[[str], str] | None = None) -> str:
    """Write a notebook, its markdown edited, as HTML beside it; its link, "" where nbconvert is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the libraries below it
            from nbconvert import HTMLExporter
            from nbconvert.preprocessors import CoalesceStreamsPreprocessor
    except ImportError:
        return ""
    exporter = HTMLExporter(template_name="basic", preprocessors=[CoalesceStreamsPreprocessor(enabled=True)])
    content = notebooks.read(folder / notebook)
    for cell in content.cells:
        if edit and cell.cell_type == "markdown":
            cell.source = edit(cell.source)
    content.metadata.pop("widgets", None)  # not every program that saves notebooks writes it as nbconvert wants it
    body, _ = exporter.from_notebook_node(content)
    html = page.render("notebook.html.j2", title=title, body=body, notebook=notebook.name)
    write_atomic((folder / notebook).with_suffix(".html"), html)
    return notebook.with_suffix(".html").as_posix()


def _exhibit(folder: Path, name: str) -> dict[str, Any] | None:
    """An exhibit as the page shows it; None if it is not there yet."""
    path = folder / "exhibits" / f"{name}.json"
    if not path.is_file():
        return None
    exhibit: dict[str, Any] = read_json(path)
    suffixes = tables.SUFFIXES if exhibit["kind"] == "table" else figures.SUFFIXES
    exhibit["first"], *further = _sentences(exhibit["caption"])
    exhibit["further"] = " ".join(further)
    exhibit["links"] = [(suffix.upper(), f"{exhibit['kind']}s/{name}.{suffix}") for suffix in suffixes]
    if exhibit["kind"] == "figure":
        return exhibit | _image(folder, name)
    exhibit["sentences"] = _sentences(exhibit["note"])
    return exhibit


def _sentences(text: str) -> list[str]:
    return re.split(r"(?<=[\w)%'’]\.) (?=[^\d\s])", text)  # "Eq. 10" is one word


def _image(folder: Path, name: str) -> dict[str, Any]:
    """A figure inside the page; at one scale, so that the letters of all figures are equally large."""
    png = (folder / "figures" / f"{name}.png").read_bytes()
    width = int.from_bytes(png[16:20], "big")  # where the header of a PNG has it
    image = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return {"width": width * PIXELS_PER_INCH // figures.DPI, "image": image}
