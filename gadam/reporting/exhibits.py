"""The figures of the sections: tidy rows in, a matplotlib figure out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gadam.experiments import section41

BLUE, ORANGE, GREEN, RED, PURPLE, BROWN, PINK, GREY = sns.color_palette("colorblind")[:8]
ROLE_COLOURS = {"parent": BLUE, "child": ORANGE}


def selection(rows: pd.DataFrame) -> Figure:
    """Section 3.3.1: the probability of each parent, and who mated with whom."""
    parents, children = _role(rows, "parent"), _role(rows, "child")
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
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
    ordered = rows.sort_values("loss_survival").reset_index(drop=True)
    figure, axis = plt.subplots(figsize=(9, 5), layout="constrained")
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


def landscape(rows: pd.DataFrame) -> Figure:
    """Figure 2 of Section 4.1: four panels of paths on the landscape."""
    figure, axes = plt.subplots(2, 2, figsize=(9.6, 9.4), layout="constrained", sharex=True, sharey=True)
    titles = {
        "one start": "Adam, one starting point",
        "many starts": "GADAM, several starting points",
        "crossover": "Crossover: $w_1$ from B, $w_2$ from A",
        "mutation": "Mutation: out of a local minimum",
    }
    grid = np.linspace(-section41.RANGE, section41.RANGE, 201)
    heights = section41.landscape(grid[None, :], grid[:, None])
    for letter, axis, (panel, title) in zip("abcd", axes.flat, titles.items(), strict=True):
        # Levels crowd at the minima, where the paths end.
        # A picture inside the SVG: as paths the contours would be two megabytes.
        axis.contourf(grid, grid, heights, levels=_levels(heights), cmap="Greys", alpha=0.55).set_rasterized(True)
        axis.contour(grid, grid, heights, levels=_levels(heights), colors="#888888", linewidths=0.4).set_rasterized(
            True
        )
        _paths(axis, rows[rows["panel"] == panel])
        for first in (section41.LOCAL, section41.GLOBAL):
            for second in (section41.LOCAL, section41.GLOBAL):
                best = first == second == section41.GLOBAL
                axis.scatter(
                    first, second, marker="*" if best else "x", s=260 if best else 60, zorder=2,
                    color=GREEN if best else "black", linewidth=1.5, edgecolor="white" if best else None,
                )  # fmt: skip
        axis.set(title=f"({letter}) {title}", aspect="equal")
        axis.grid(visible=False)
    for axis in axes[1]:
        axis.set_xlabel("$w_1$")
    for axis in axes[:, 0]:
        axis.set_ylabel("$w_2$")
    handles = [
        Line2D([], [], marker="o", linestyle="", color="#555555", markersize=7),
        Line2D([], [], color=BLUE),
        Line2D([], [], marker="o", linestyle="", color=ORANGE, markersize=8),
        Line2D([], [], color=ORANGE),
        Line2D([], [], marker="*", linestyle="", color=GREEN, markersize=14),
        Line2D([], [], marker="x", linestyle="", color="black", markersize=8),
    ]
    labels = ["start", "path of a parent (Adam)", "newborn child", "path of a child", "global minimum", "local minimum"]
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return figure


def differences(frame: pd.DataFrame) -> Figure:
    """MLP (GADAM) minus each other method, with intervals, a panel per dataset."""
    datasets = list(dict.fromkeys(frame["dataset"]))
    figure, axes = plt.subplots(1, len(datasets), figsize=(11, 3.6), layout="constrained", sharey=True)
    for axis, dataset in zip(axes, datasets, strict=True):
        lines = frame[frame["dataset"] == dataset].reset_index(drop=True)
        colours = [
            GREEN if low > 0 else RED if high < 0 else GREY
            for low, high in zip(lines["low"], lines["high"], strict=True)
        ]
        for position, (line, colour) in enumerate(zip(lines.to_dict("records"), colours, strict=True)):
            axis.plot([line["low"], line["high"]], [position] * 2, color=colour, linewidth=3)
            axis.scatter(line["difference"], position, color=colour, s=60, zorder=3)
        axis.axvline(0, color="black", linewidth=1)
        axis.set(title=dataset, yticks=range(len(lines)), yticklabels=lines["method"])
        axis.margins(x=0.1, y=0.12)
    axes[0].invert_yaxis()
    seeds = int(frame["seeds"].iloc[0])
    figure.supxlabel(
        f"MLP (GADAM) minus the method: test accuracy, percentage points (mean of {seeds} seeds, 95 % interval)"
    )
    handles = [Line2D([], [], color=colour, linewidth=3) for colour in (GREEN, GREY, RED)]
    figure.legend(
        handles, ["GADAM better", "cannot tell", "GADAM worse"], loc="outside upper center", ncols=3, frameon=False
    )
    return figure


def budget(rows: pd.DataFrame, depths: Mapping[str, int]) -> Figure:
    """Accuracy of Adam on held-out training rows against steps, and the depth that Table 4 uses."""
    datasets = list(depths)
    figure, axes = plt.subplots(1, len(datasets), figsize=(11, 3.6), layout="constrained")
    for axis, dataset in zip(axes, datasets, strict=True):
        curve = rows[rows["dataset"] == dataset].groupby("step")["accuracy"].agg(["mean", "min", "max"])
        axis.fill_between(curve.index, curve["min"], curve["max"], color=BLUE, alpha=0.25, label="lowest to highest")
        axis.plot(curve.index, curve["mean"], color=BLUE, label="mean")
        axis.axvline(depths[dataset], color=RED, linestyle="--", label="steps used")
        axis.set(title=dataset.upper(), xlabel="Adam steps")
    axes[0].set_ylabel("accuracy on held-out\ntraining rows, %")
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False,
        title=f"{rows['unit'].nunique()} units",
    )  # fmt: skip
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


def _levels(heights: np.ndarray) -> np.ndarray:
    low, high = heights.min(), heights.max()
    levels: np.ndarray = low + (high - low) * np.linspace(0, 1, 16) ** 2.2
    return levels


def _paths(axis: Axes, rows: pd.DataFrame) -> None:
    for (role, _), path in rows.groupby(["role", "unit"]):
        path = path.sort_values("step")
        child = role == "child"
        colour = ORANGE if child else BLUE
        axis.plot(path["w1"], path["w2"], color=colour, linewidth=2, zorder=4 if child else 3)
        first, last = path.iloc[0], path.iloc[-1]
        axis.scatter(first["w1"], first["w2"], s=60, color=ORANGE if child else "#555555", zorder=5, edgecolor="white")
        axis.scatter(last["w1"], last["w2"], s=28, color=colour, zorder=5)
        if child:
            _lineage(axis, rows, first)


def _lineage(axis: Axes, rows: pd.DataFrame, newborn: pd.Series[Any]) -> None:
    """Arrows from the parents' ends, A and B, to the newborn child, C."""
    ends = rows[(rows["role"] == "parent") & (rows["step"] == rows["step"].max())].set_index("unit")
    parents = ends.loc[list(dict.fromkeys((int(newborn["parent_a"]), int(newborn["parent_b"]))))]
    # Parents that ended in one minimum are one point of the picture.
    apart = parents[~parents[["w1", "w2"]].round(0).duplicated()].to_dict("records")
    target = (newborn["w1"], newborn["w2"])
    for origin in apart:
        arrow = {"arrowstyle": "-|>", "color": ORANGE, "linestyle": ":", "linewidth": 1.5}
        axis.annotate("", target, (origin["w1"], origin["w2"]), arrowprops=arrow, zorder=4)
    named = [*zip("AB", ((origin["w1"], origin["w2"]) for origin in apart), strict=False), ("C", target)]
    for name, place in named:
        axis.annotate(name, place, (-16, -16), textcoords="offset points", weight="bold", fontsize=13)
