"""What the paper did, section by section: which runs, with which budget; runs in, tidy frames out."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType

from gadam.validation import check_choice

PROFILES = ("smoke", "quick", "standard", "paper")
ARCHIVED = ("standard", "paper")
"""Profiles that are rendered from runs computed before; nothing of them is computed unasked."""
DATA_CHOICES = ("auto", "real", "standin")
FIRST_SEED = {"smoke": 0, "quick": 0, "standard": 200, "tenth": 200, "paper": 0}
"""The seeds of quick have been seen while the package was made, and 100 to 102 are for choosing rates and presets.
"tenth" is a scale of standard, see `gadam.paper.mnist`."""


def seeds_of(profile: str, count: int) -> range:
    """The seeds that a profile, or a scale, reports: the first so many."""
    return range(FIRST_SEED[profile], FIRST_SEED[profile] + count)


@dataclass(frozen=True)
class Section:
    """A notebook and the ids of the exhibits that it promises to leave behind."""

    title: str
    notebook: str
    tables: tuple[str, ...]
    figures: tuple[str, ...]
    alone: bool = False  # it measures time, so nothing else of ours may compute beside it
    last: bool = False  # it reads what the other sections leave behind


SECTIONS = {
    "section3": Section(
        "Section 3: one generation taken apart", "section3_method.ipynb", ("section3_units",),
        ("figure1", "section3_selection", "section3_inheritance", "section3_survival")),
    "section41": Section(
        "Section 4.1: many starts, crossover and mutation on a landscape", "section41_landscape.ipynb",
        ("section41_success",), ("figure2a",)),
    "section42": Section(
        "Section 4.2: does the loss keep decreasing?", "section42_convergence.ipynb",
        ("section42_theorem",), ("section42_losses",)),
    "section43": Section(
        "Section 4.3: what threads, processes and a cluster exchange", "section43_communication.ipynb",
        ("section43_bytes",), ("section43_growth",)),
    "section51": Section("Section 5.1: LeNet-5 on MNIST", "section51_lenet.ipynb", ("table1",), ("figure2b",)),
    "section52": Section(
        "Section 5.2: generations and population size", "section52_settings.ipynb",
        ("section52_settings",), ("figure3", "figure4", "figure5")),
    "section53": Section(
        "Section 5.3: time of a generation against threads", "section53_threads.ipynb",
        ("section53_threads",), ("figure6",), alone=True),
    "section54_orl": Section(
        "Section 5.4: faces of ORL", "section54_orl.ipynb",
        ("table3",), ("section54_orl_accuracy", "section54_orl_budget")),
    "section54": Section(
        "Section 5.4: YEAST, ADULT and LETTER", "section54_tables.ipynb",
        ("table4",), ("section54_differences", "section54_budget")),
    "beyond": Section(
        "Beyond the paper: the population kept", "beyond_population.ipynb", ("beyond_kept",), ("beyond_above_best",)),
    "teach": Section(
        "Beyond the paper: one network, taught by a population", "beyond_teach.ipynb",
        ("teach_claims", "teach_differences", "teach_totals", "teach_accuracy", "teach_loss", "teach_search"),
        ("teach_budget",)),
    "section6": Section(
        "Section 6: the scoreboard, and how faithful all this is", "section6_fidelity.ipynb",
        ("section6_scoreboard", "section6_equations", "section6_ambiguities", "section6_effects", "section6_values"),
        ("section6_readings",), last=True),
}  # fmt: skip
OWNERS = {one: name for name, section in SECTIONS.items() for one in (*section.tables, *section.figures)}
"""The section of each exhibit."""


def import_sections() -> dict[str, ModuleType]:
    """The module of each section, by name; importing them declares their run functions."""
    return {name: importlib.import_module(f"{__name__}.{name}") for name in SECTIONS}


def data_of(profile: str, data: str) -> str:
    """Return the choice of data that a profile makes of one: archived profiles are of the real data alone.

    Raises:
        InputError: the profile or the choice is not allowed.
    """
    check_choice("profile", profile, PROFILES)
    check_choice("data", data, DATA_CHOICES if profile not in ARCHIVED else ("auto", "real"))
    return "real" if profile in ARCHIVED else data


def sections_of(only: str | None) -> list[str]:
    """Return the sections to execute for a section's name, its notebook's, an exhibit's id, or None for all."""
    if only is None:
        return list(SECTIONS)
    only = only.rpartition("/")[2].removesuffix(".ipynb")
    owners = {
        one: name for name, section in SECTIONS.items()
        for one in (name, *section.tables, *section.figures, section.notebook.removesuffix(".ipynb"))
    }  # fmt: skip
    check_choice("only", only, owners)
    return [owners[only]]
