"""What the paper did, section by section: which runs, with which budget; runs in, tidy frames out."""

from __future__ import annotations

from dataclasses import dataclass

PROFILES = ("smoke", "quick", "paper")


@dataclass(frozen=True)
class Section:
    """A notebook and the exhibits that it promises to leave behind."""

    title: str
    notebook: str
    tables: tuple[str, ...]
    figures: tuple[str, ...]


SECTIONS = {
    "section3": Section(
        title="Section 3: one generation taken apart",
        notebook="section3_method.ipynb",
        tables=("section3_units",),
        figures=("section3_selection", "section3_inheritance", "section3_survival"),
    ),
    "section41": Section(
        title="Section 4.1: many starts, crossover and mutation on a landscape",
        notebook="section41_landscape.ipynb",
        tables=("section41_success",),
        figures=("figure2a",),
    ),
    "section54": Section(
        title="Section 5.4: YEAST, ADULT and LETTER",
        notebook="section54_tables.ipynb",
        tables=("table4",),
        figures=("section54_differences", "section54_budget"),
    ),
}
