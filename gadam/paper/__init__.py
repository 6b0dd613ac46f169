"""What the paper did, section by section: which runs, with which budget; runs in, tidy frames out."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType

PROFILES = ("smoke", "quick", "standard", "paper")
FIRST_SEED = {"smoke": 0, "quick": 0, "standard": 200, "paper": 0}
"""The seeds of quick have been seen while the package was made, and 100 to 102 are for choosing rates and presets."""


def seeds_of(profile: str, count: int) -> range:
    """The seeds that a profile reports, the first so many."""
    return range(FIRST_SEED[profile], FIRST_SEED[profile] + count)


@dataclass(frozen=True)
class Section:
    """A notebook and the exhibits that it promises to leave behind.

    Attributes:
        title: with its number in the paper.
        notebook: its file.
        tables: ids of its tables.
        figures: ids of its figures.
        alone: it measures time, so nothing else of ours may compute beside it.
        last: it reads what the other sections leave behind.
    """

    title: str
    notebook: str
    tables: tuple[str, ...]
    figures: tuple[str, ...]
    alone: bool = False
    last: bool = False


SECTIONS = {
    "section3": Section(
        title="Section 3: one generation taken apart",
        notebook="section3_method.ipynb",
        tables=("section3_units",),
        figures=("figure1", "section3_selection", "section3_inheritance", "section3_survival"),
    ),
    "section41": Section(
        title="Section 4.1: many starts, crossover and mutation on a landscape",
        notebook="section41_landscape.ipynb",
        tables=("section41_success",),
        figures=("figure2a",),
    ),
    "section42": Section(
        title="Section 4.2: does the loss keep decreasing?",
        notebook="section42_convergence.ipynb",
        tables=("section42_theorem",),
        figures=("section42_losses",),
    ),
    "section43": Section(
        title="Section 4.3: what threads, processes and a cluster exchange",
        notebook="section43_communication.ipynb",
        tables=("section43_bytes",),
        figures=("section43_growth",),
    ),
    "section51": Section(
        title="Section 5.1: LeNet-5 on MNIST",
        notebook="section51_lenet.ipynb",
        tables=("table1",),
        figures=("figure2b",),
    ),
    "section52": Section(
        title="Section 5.2: generations and population size",
        notebook="section52_settings.ipynb",
        tables=("section52_settings",),
        figures=("figure3", "figure4", "figure5"),
    ),
    "section53": Section(
        title="Section 5.3: time of a generation against threads",
        notebook="section53_threads.ipynb",
        tables=("section53_threads",),
        figures=("figure6",),
        alone=True,
    ),
    "section54_orl": Section(
        title="Section 5.4: faces of ORL",
        notebook="section54_orl.ipynb",
        tables=("table3",),
        figures=("section54_orl_accuracy", "section54_orl_budget"),
    ),
    "section54": Section(
        title="Section 5.4: YEAST, ADULT and LETTER",
        notebook="section54_tables.ipynb",
        tables=("table4",),
        figures=("section54_differences", "section54_budget"),
    ),
    "beyond": Section(
        title="Beyond the paper: the population kept",
        notebook="beyond_population.ipynb",
        tables=("beyond_kept",),
        figures=("beyond_above_best",),
    ),
    "section6": Section(
        title="Section 6: the scoreboard, and how faithful all this is",
        notebook="section6_fidelity.ipynb",
        tables=(
            "section6_scoreboard",
            "section6_equations",
            "section6_ambiguities",
            "section6_effects",
            "section6_values",
        ),
        figures=("section6_readings",),
        last=True,
    ),
}


def import_sections() -> dict[str, ModuleType]:
    """The module of each section, by name; importing them declares their run functions."""
    return {name: importlib.import_module(f"{__name__}.{name}") for name in SECTIONS}
