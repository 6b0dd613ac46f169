"""The figures of Section 3: one generation taken apart."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gadam.paper.palette import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, ROLE_COLOURS, say_missing


def selection(rows: pd.DataFrame) -> Figure:
    """Section 3.3.1: the probability of each parent, and who mated with whom."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    if rows.empty:
        return _without_rows(figure)
    parents, children = _role(rows, "parent"), _role(rows, "child")
    left.bar(parents["unit"], parents["probability"], color=BLUE, width=0.7)
    left.axhline(1 / len(parents), color=GREY, linestyle="--", label="uniform choice, 1/g")
    for line in parents.to_dict("records"):
        left.annotate(
            f"{line['loss_trained']:.3f}", (line["unit"], line["probability"]), ha="center", va="bottom", fontsize=9
        )
    left.set(
        xlabel="parent", ylabel="probability of selection (Eq. 8)", xticks=parents["unit"],
        title="Fitter parents are more likely\n(number on a bar: trained loss)",
    )  # fmt: skip
    left.set_ylim(0, 1.18 * float(parents["probability"].max()))
    left.grid(axis="x", visible=False)
    left.legend(loc="upper left")
    for line in children.to_dict("records"):
        for parent, share, colour in (
            ("parent_a", line["inheritance"], GREEN),
            ("parent_b", 1 - line["inheritance"], PURPLE),
        ):
            right.plot([line[parent], line["unit"]], [1, 0], color=colour, linewidth=1 + 4 * share, alpha=0.7, zorder=1)
    right.scatter(parents["unit"], [1] * len(parents), s=2_500 * parents["probability"], color=BLUE, zorder=2)
    right.scatter(children["unit"], [0] * len(children), s=300, color=ORANGE, zorder=2)
    right.set(
        xticks=parents["unit"], xlabel="unit", yticks=[0, 1], ylim=(-0.25, 1.3), yticklabels=["children", "parents"],
        title="Who mated with whom\n(disc: probability; width: share of entries, Eq. 10)",
    )  # fmt: skip
    right.grid(visible=False)
    handles = [Line2D([], [], color=GREEN, linewidth=3), Line2D([], [], color=PURPLE, linewidth=3)]
    right.legend(handles, ["first parent", "second parent"], ncols=2, loc="upper center")
    return figure


def inheritance(rows: pd.DataFrame, entries: pd.DataFrame) -> Figure:
    """Sections 3.3.2 and 3.3.3: where one child's weights came from, and all children against Eq. 10 and 12."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 4.4), layout="constrained", width_ratios=[1.1, 1, 1])
    if rows.empty or entries.empty:
        return _without_rows(figure)
    child, a, b = (int(entries[name].iloc[0]) for name in ("child", "parent_a", "parent_b"))
    origins = entries.pivot_table(index="column", columns="row", values="origin")
    colours = ListedColormap([GREEN, PURPLE, RED])
    axes[0].imshow(
        origins, cmap=colours, norm=BoundaryNorm([-0.5, 0.5, 1.5, 2.5], 3), aspect="auto", interpolation="none"
    )
    axes[0].set(
        xlabel="unit of the first hidden layer", ylabel="feature", yticks=range(len(origins)),
        title=f"First layer of child {child}: {entries.shape[0]} weights",
    )  # fmt: skip
    axes[0].grid(visible=False)
    handles = [Line2D([], [], marker="s", linestyle="", markersize=9, color=c) for c in (GREEN, PURPLE, RED)]
    labels = [f"from parent {a}", f"from parent {b}", "mutated"]
    axes[0].legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, frameon=False)
    children = _role(rows, "child")
    mixed = children[children["parent_a"] != children["parent_b"]]
    _against(
        axes[1], mixed, "inheritance", "share_from_a", "p of Eq. 10", "share of entries from the first parent", GREEN
    )
    axes[1].set_title("Crossover: a dot per child")
    _against(axes[2], children, "mutation_rate", "share_mutated", "rate of Eq. 12", "share of entries mutated", RED)
    axes[2].set_title("Mutation: a dot per child")
    return figure


def survival(rows: pd.DataFrame) -> Figure:
    """Section 3.4: each unit's loss before and after training, and who survives on the shared new batch."""
    figure, axis = plt.subplots(figsize=(9, 5), layout="constrained")
    if rows.empty:
        return _without_rows(figure)
    ordered = rows.sort_values("loss_survival").reset_index(drop=True)
    for position, line in enumerate(ordered.to_dict("records")):
        colour = ROLE_COLOURS[line["role"]]
        axis.plot([line["loss_start"], line["loss_survival"]], [position] * 2, color=colour, alpha=0.45, linewidth=2.5)
        axis.scatter(line["loss_start"], position, marker="|", s=120, color=colour)
        axis.scatter(
            line["loss_survival"], position, s=75, zorder=3, edgecolor=colour, linewidth=2,
            facecolor=colour if line["survived"] else "white",
        )  # fmt: skip
    axis.axhline(int(ordered["survived"].sum()) - 0.5, color=GREY, linestyle="--")
    axis.set(
        yticks=range(len(ordered)), yticklabels=ordered["role"] + " " + ordered["unit"].astype(str),
        xlabel="mean loss", ylabel="unit, fittest first",
    )  # fmt: skip
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    handles = [
        Line2D([], [], marker="|", linestyle="", markersize=11, color=GREY),
        *(Line2D([], [], marker="o", linestyle="", markersize=8, color=colour) for colour in ROLE_COLOURS.values()),
        Line2D([], [], marker="o", linestyle="", markersize=8, markerfacecolor="white", color=GREY),
    ]
    labels = ["before training", "parent, new batch", "child, new batch", "hollow: does not survive"]
    axis.legend(handles, labels, loc="lower right")
    return figure


def _without_rows(figure: Figure) -> Figure:
    for axis in figure.axes:
        say_missing(axis)
        axis.set(xticks=[], yticks=[])
    return figure


def _role(rows: pd.DataFrame, role: str) -> pd.DataFrame:
    return rows[rows["role"] == role]


def _against(axis: Axes, frame: pd.DataFrame, expected: str, observed: str, x: str, y: str, colour: Any) -> None:
    values = frame[[expected, observed]].astype(float)
    limits = (0.0, 1.2 * float(values.max().max()))
    axis.plot(limits, limits, color=GREY, linestyle="--", label="as the equation says")
    axis.scatter(values[expected], values[observed], color=colour, s=60, zorder=3)
    axis.set(xlabel=x, ylabel=y, xlim=limits, ylim=limits)
    axis.locator_params(nbins=6)
    axis.legend(loc="upper left")
