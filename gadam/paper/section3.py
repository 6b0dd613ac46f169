"""Section 3: the algorithm as a diagram (figure 1), and one generation taken apart on a small real problem, YEAST."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, Patch
from torch import Tensor

from gadam.config import GadamConfig
from gadam.datasets import load
from gadam.evolution.loop import evolve
from gadam.paper import section54
from gadam.paper.drawing import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, ROLE_COLOURS, add_legend
from gadam.paper.runs import Row, Run, RunFunction, arm_runs, run_function
from gadam.result import Callback, Generation

DATASET = "yeast"
G = 8
MUTATION_RATE = 0.05  # five times the paper's, so that single mutated entries can be seen in a picture
STEPS = {"smoke": 50, "quick": 300, "standard": 300, "paper": 300}
VALIDATION_SIZE = 256


def runs(profile: str, data: str) -> list[Run]:
    """Return the run behind the table and the pictures of the units."""
    return _runs(units, "the units of one generation", profile, data)


def entry_runs(profile: str, data: str) -> list[Run]:
    """Return the run behind the picture of one child's weights."""
    return _runs(entries, "where a child's weights came from", profile, data)


RUNS = (runs, entry_runs)


def _runs(function: RunFunction, label: str, profile: str, data: str) -> list[Run]:
    config = {"steps": STEPS[profile], "validation_size": VALIDATION_SIZE}
    return arm_runs(function, function.name, None, config, DATASET, data, label=label, priority=2)


@run_function("section3/units")
def units(dataset: str, data: Any, **settings: Any) -> list[Row]:
    """Return a row per parent and child of one generation: losses, selection, lineage, mutation, survival."""
    generation, source = _one_generation(dataset, data, settings)
    drawn = torch.bincount(generation.pairs.flatten(), minlength=G)
    rows: list[Row] = []
    for line in generation.history.drop(columns="seconds").to_dict("records"):
        row, unit = {str(name): value for name, value in line.items()} | {"data": source}, int(line["unit"])
        if row["role"] == "parent":
            row |= {
                "parent_a": None, "parent_b": None, "normalized": float(generation.normalized[unit]),
                "probability": float(generation.probabilities[unit]), "times_drawn": int(drawn[unit]),
            }  # fmt: skip
        else:
            a, b = generation.pairs[unit].tolist()
            origins = torch.cat([_origins(generation, unit, name).flatten() for name in generation.newborn.parameters])
            row |= {
                "parent_a": a, "parent_b": b, "inheritance": float(generation.inheritance[unit]),
                # Eq. 9 can only be seen in entries in which the parents differ.
                "share_from_a": float((origins == 0).sum() / (origins <= 1).sum()) if a != b else 1.0,
                "mutation_rate": float(generation.mutation_rates[unit]),
                "share_mutated": float((origins == 2).double().mean()),
            }  # fmt: skip
        rows.append(row)
    return rows


@run_function("section3/entries")
def entries(dataset: str, data: Any, **settings: Any) -> list[Row]:
    """Return a row per entry of the first layer of one child of two different parents: its value and its origin."""
    generation, source = _one_generation(dataset, data, settings)
    pairs = generation.pairs.tolist()
    child = next(unit for unit, (a, b) in enumerate(pairs) if a != b)
    name = next(iter(generation.newborn.parameters))
    origins, values = _origins(generation, child, name), generation.newborn.parameters[name][child]
    return [
        {
            "child": child, "parent_a": pairs[child][0], "parent_b": pairs[child][1], "row": row, "column": column,
            "origin": int(origins[row, column]), "value": float(values[row, column]), "data": source,
        }
        for row in range(values.shape[0]) for column in range(values.shape[1])
    ]  # fmt: skip


class LastGeneration(Callback):
    """Keeps the last generation of an evolution."""

    generation: Generation

    def on_generation(self, generation: Generation) -> None:  # noqa: D102
        self.generation = generation


def _one_generation(dataset: str, data: Any, settings: dict[str, Any]) -> tuple[Generation, str]:
    """Evolve for one generation; return it, and whether the data are "real" or a "stand-in"."""
    rows, last = load(dataset, data=data), LastGeneration()
    config = GadamConfig(population_size=G, generations=1, mutation_rate=MUTATION_RATE, **settings)
    evolve(section54.maker(rows), rows.train, config, callbacks=[last], progress=False)
    return last.generation, rows.source


def _origins(generation: Generation, child: int, name: str) -> Tensor:
    """Tell where each entry of a newborn child came from: 0 parent a, 1 parent b, 2 mutation. Equal parents are a."""
    a, b = generation.pairs[child].tolist()
    entry, parents = generation.newborn.parameters[name][child], generation.parents.parameters[name]
    return torch.where(entry == parents[a], 0, torch.where(entry == parents[b], 1, 2))


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """List the units: fitness, selection, lineage, mutation, survival. Without rows their cells are empty."""
    if rows.empty:
        rows = pd.DataFrame([{"role": role, "unit": unit} for role in ("parent", "child") for unit in range(G)])
    columns = {
        "role": "role", "unit": "unit", "loss_start": "loss before", "loss_trained": "loss trained",
        "normalized": "normalised", "probability": "P (Eq. 8)", "times_drawn": "times drawn", "parent_a": "parent a",
        "parent_b": "parent b", "inheritance": "p_ab (Eq. 10)", "share_from_a": "share from a",
        "mutation_rate": "rate (Eq. 12)", "share_mutated": "share mutated", "loss_survival": "loss, new batch",
        "survived": "survived", "data": "data",
    }  # fmt: skip
    whole = dict.fromkeys(("times_drawn", "parent_a", "parent_b"), "Int64")
    return rows.reindex(columns=list(columns)).astype(whole).rename(columns=columns)


def figure_selection(rows: pd.DataFrame) -> Figure:
    """Draw Section 3.3.1: the probability of each parent, and who mated with whom."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    if rows.empty:
        return figure
    parents, children = (rows[rows["role"] == role] for role in ("parent", "child"))
    bars = left.bar(parents["unit"], parents["probability"], color=BLUE, width=0.7)
    left.bar_label(bars, [f"{loss:.3f}" for loss in parents["loss_trained"]], fontsize=9)
    left.axhline(1 / len(parents), color=GREY, linestyle="--", label="uniform choice, 1/g")
    left.set(
        xlabel="parent", ylabel="probability of selection (Eq. 8)", xticks=parents["unit"],
        title="Fitter parents are more likely\n(number on a bar: trained loss)",
    )  # fmt: skip
    left.margins(y=0.18)
    left.grid(axis="x", visible=False)
    left.legend(loc="upper left")
    for line in children.to_dict("records"):
        share = line["inheritance"]
        for parent, width, colour in (("parent_a", share, GREEN), ("parent_b", 1 - share, PURPLE)):
            right.plot([line[parent], line["unit"]], [1, 0], color=colour, linewidth=1 + 4 * width, alpha=0.7, zorder=1)
    right.scatter(parents["unit"], [1] * len(parents), s=2_500 * parents["probability"], color=BLUE, zorder=2)
    right.scatter(children["unit"], [0] * len(children), s=300, color=ORANGE, zorder=2)
    right.set(
        xticks=parents["unit"], xlabel="unit", yticks=[0, 1], ylim=(-0.25, 1.3), yticklabels=["children", "parents"],
        title="Who mated with whom\n(disc: probability; width: share of entries, Eq. 10)",
    )  # fmt: skip
    right.grid(visible=False)
    handles = [Line2D([], [], color=colour, linewidth=3) for colour in (GREEN, PURPLE)]
    right.legend(handles, ["first parent", "second parent"], ncols=2, loc="upper center")
    return figure


def figure_inheritance(rows: pd.DataFrame, entries: pd.DataFrame) -> Figure:
    """Draw Sections 3.3.2 and 3.3.3: where one child's weights came from, and all children against Eq. 10 and 12."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 4.4), layout="constrained", width_ratios=[1.1, 1, 1])
    if rows.empty or entries.empty:
        return figure
    child, a, b = entries[["child", "parent_a", "parent_b"]].iloc[0]
    origins = entries.pivot_table(index="column", columns="row", values="origin")
    colours = {f"from parent {a}": GREEN, f"from parent {b}": PURPLE, "mutated": RED}
    axes[0].imshow(origins, cmap=ListedColormap(list(colours.values())), vmin=0, vmax=2, aspect="auto")
    axes[0].set(
        xlabel="unit of the first hidden layer", ylabel="feature", yticks=range(len(origins)),
        title=f"First layer of child {child}: {len(entries)} weights",
    )  # fmt: skip
    axes[0].grid(visible=False)
    handles = [Patch(color=colour) for colour in colours.values()]
    axes[0].legend(handles, colours, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, frameon=False)
    children = rows[rows["role"] == "child"]
    mixed = children[children["parent_a"] != children["parent_b"]]
    shares = (
        (mixed, "inheritance", "share_from_a", GREEN, "p of Eq. 10", "from the first parent", "Crossover"),
        (children, "mutation_rate", "share_mutated", RED, "rate of Eq. 12", "mutated", "Mutation"),
    )
    for axis, (frame, expected, observed, colour, equation, what, title) in zip(axes[1:], shares, strict=True):
        values = frame[[expected, observed]].astype(float)
        axis.axline((0, 0), slope=1, color=GREY, linestyle="--", label="as the equation says")
        axis.scatter(values[expected], values[observed], color=colour, s=60, zorder=3)
        limits = (0.0, 1.2 * float(values.max().max()))
        axis.set(xlim=limits, ylim=limits, xlabel=equation, ylabel=f"share of entries {what}")
        axis.set_title(f"{title}: a dot per child")
        axis.legend(loc="upper left")
    return figure


def figure_survival(rows: pd.DataFrame) -> Figure:
    """Draw Section 3.4: each unit's loss before and after training, and who survives on the shared new batch."""
    figure, axis = plt.subplots(figsize=(9, 5), layout="constrained")
    if rows.empty:
        return figure
    ordered = rows.sort_values("loss_survival").reset_index(drop=True)
    for position, line in enumerate(ordered.to_dict("records")):
        before, after, colour = line["loss_start"], line["loss_survival"], ROLE_COLOURS[line["role"]]
        axis.plot([before, after], [position] * 2, color=colour, alpha=0.45, linewidth=2.5)
        axis.scatter(before, position, marker="|", s=120, color=colour)
        face = colour if line["survived"] else "white"
        axis.scatter(after, position, s=75, zorder=3, edgecolor=colour, linewidth=2, facecolor=face)
    axis.axhline(int(ordered["survived"].sum()) - 0.5, color=GREY, linestyle="--")
    axis.set(
        yticks=range(len(ordered)), yticklabels=ordered["role"] + " " + ordered["unit"].astype(str),
        xlabel="mean loss", ylabel="unit, fittest first",
    )  # fmt: skip
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    mark = partial(Line2D, [], [], linestyle="", markersize=9)
    handles = {
        "before training": mark(marker="|", color=GREY),
        **{f"{role}, new batch": mark(marker="o", color=colour) for role, colour in ROLE_COLOURS.items()},
        "hollow: does not survive": mark(marker="o", markerfacecolor="white", color=GREY),
    }
    axis.legend(handles.values(), handles, loc="lower right")
    return figure


KINDS: dict[str, Any] = {"units": BLUE, "learning": ORANGE, "evaluation": PURPLE, "genetics": GREEN}
BOXES = {
    "initial": (0, 1, "units", r"$\mathcal{G}^{(0)}$", "g initial models", "3.1"),
    "now": (1, 1, "units", r"$\mathcal{G}^{(k)}$", "g unit models", "3.1"),
    "learn": (2, 1, "learning", "Adam", "each unit alone, on\nbatches of its own", "3.2, Eq. 2, 6"),
    "parents": (3, 1, "units", r"$\bar{\mathcal{G}}^{(k)}$", "learned parents", "3.2"),
    "fitness": (4, 1, "evaluation", "fitness", "loss on a validation\nbatch $\\mathcal{V}$", "3.3.1, Eq. 7"),
    "selection": (5, 1, "genetics", "selection", "g pairs $\\mathcal{P}$: the\nfitter the likelier", "3.3.1, Eq. 8"),
    "crossover": (5, 0, "genetics", "crossover", "each weight from one\nof two parents", "3.3.2, Eq. 9, 10"),
    "mutation": (4, 0, "genetics", "mutation", "few weights replaced\nat random", "3.3.3, Eq. 11, 12"),
    "again": (3, 0, "learning", "Adam", "each child alone", "3.3.3"),
    "children": (2, 0, "units", r"$\tilde{\mathcal{G}}^{(k)}$", "g learned children", "3.3.3"),
    "survival": (1, 0, "evaluation", "survival", "best g of 2g on\na shared new batch", "3.4"),
    "best": (0, 0, "units", "best unit", "of the last\ngeneration", "3.4"),
}
"""Name -> column, row, kind, title, what it says below, where to read it; all but the first and last are the cycle."""
WIDTH, HEIGHT = 2.0, 1.5  # of a box
COLUMN, ROW = 2.75, 3.0  # from the middle of one box to the next


def figure1() -> Figure:
    """Draw figure 1: one generation of GADAM as a cycle, with the paper's symbols, equations and sections."""
    figure, axis = plt.subplots(figsize=(13, 4.9), layout="constrained")
    for name in BOXES:
        _box(axis, name)
    for start, end in (*itertools.pairwise(BOXES), ("survival", "now")):
        _arrow(axis, start, end)
    _arrow(axis, "parents", "survival", linestyle="--")
    following = "$\\mathcal{G}^{(k+1)}$: next generation,\nunless k = K or Eq. 13"
    for column, text, side in ((2.45, "parents compete\nwith their children", "left"), (0.94, following, "right")):
        axis.text(column * COLUMN, ROW / 2, text, ha=side, va="center", fontsize=9.5)
    axis.set(
        xlim=(-0.6 * COLUMN, 5.5 * COLUMN), ylim=(-HEIGHT / 2 - 0.1, ROW + HEIGHT / 2 + 0.5), aspect="equal",
        title="One generation of GADAM: learn, mate, learn, survive",
    )  # fmt: skip
    axis.axis("off")
    handles = {name: Patch(fc=(*colour, 0.16), ec=colour, lw=1.5) for name, colour in KINDS.items()}
    add_legend(figure, handles, 4, below=True)
    return figure


def _box(axis: Axes, name: str) -> None:
    """Draw a box, pale enough for black text; above one of units a circle for each, filled where it has learned."""
    column, row, kind, title, text, where = BOXES[name]
    x, y, colour = column * COLUMN, row * ROW, KINDS[kind]
    corner, shape = (x - WIDTH / 2, y - HEIGHT / 2), "round,pad=0,rounding_size=0.18"
    axis.add_patch(FancyBboxPatch(corner, WIDTH, HEIGHT, boxstyle=shape, fc=(*colour, 0.16), ec=colour, lw=1.5))
    write = partial(axis.text, x, ha="center", va="center")
    write(y + 0.36, title, weight="bold", fontsize=15 if title.startswith("$") else 11.5)
    write(y - 0.08, text, fontsize=9)
    write(y - 0.57, where, fontsize=8.5, color="#444444", style="italic")
    if kind == "units":
        shifts = [0.0] if name == "best" else [-0.54, -0.18, 0.18, 0.54]
        face = "white" if name in ("initial", "now") else colour
        axis.scatter(
            [x + shift for shift in shifts], [y + HEIGHT / 2 + 0.24] * len(shifts), s=110, color=face, edgecolor=colour
        )


def _arrow(axis: Axes, start: str, end: str, linestyle: str = "-") -> None:
    """Draw an arrow from edge to edge of two boxes; from corner to corner where they are in no common row or column."""
    (x, y), (to_x, to_y) = ((BOXES[name][0] * COLUMN, BOXES[name][1] * ROW) for name in (start, end))
    right, up = np.sign(to_x - x) * WIDTH / 2, np.sign(to_y - y) * HEIGHT / 2
    style = {"arrowstyle": "-|>", "color": "#333333", "linewidth": 1.6, "linestyle": linestyle, "mutation_scale": 16}
    axis.annotate("", (to_x - right, to_y - up), (x + right, y + up), arrowprops=style | {"shrinkA": 2, "shrinkB": 2})
