"""Figure 2 of Section 4.1: paths on a landscape."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gadam.paper import section41
from gadam.paper.palette import BLUE, GREEN, ORANGE, say_missing


def landscape(rows: pd.DataFrame) -> Figure:
    """Figure 2 of Section 4.1: four panels of paths on the landscape."""
    figure, axes = plt.subplots(2, 2, figsize=(9.6, 9.4), layout="constrained", sharex=True, sharey=True)
    titles = {
        "one start": "Adam, one starting point",
        "many starts": "GADAM, several starting points",
        "crossover": "Crossover: $w_1$ from B, $w_2$ from A",
        "mutation": "Mutation: out of a local minimum",
    }
    for letter, axis, (panel, title) in zip("abcd", axes.flat, titles.items(), strict=True):
        contours(axis)
        if rows.empty:
            say_missing(axis)
        else:
            _paths(axis, rows[rows["panel"] == panel])
        axis.set_title(f"({letter}) {title}")
        axis.label_outer()
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


def contours(axis: Axes, mirrored: bool = False, margin: float = 0.0) -> None:
    """The landscape and its minima, the global one a star, with so much beyond `section41.RANGE` on every side."""
    edge = section41.RANGE + margin
    grid = np.linspace(-edge, edge, 201)
    heights = section41.landscape(grid[None, :], grid[:, None], mirrored)
    # Levels crowd at the minima, where the paths end.
    levels = heights.min() + np.ptp(heights) * np.linspace(0, 1, 16) ** 2.2
    # A picture inside the SVG: as paths the contours would be two megabytes.
    axis.contourf(grid, grid, heights, levels=levels, cmap="Greys", alpha=0.55).set_rasterized(True)
    axis.contour(grid, grid, heights, levels=levels, colors="#888888", linewidths=0.4).set_rasterized(True)
    wells = [-well if mirrored else well for well in (section41.LOCAL, section41.GLOBAL)]
    for first in wells:
        for second in wells:
            best = first == second == wells[1]
            axis.scatter(
                first, second, marker="*" if best else "x", s=260 if best else 60, zorder=2,
                color=GREEN if best else "black", linewidth=1.5, edgecolor="white" if best else None,
            )  # fmt: skip
    axis.set(xlabel="$w_1$", ylabel="$w_2$", aspect="equal")
    axis.grid(visible=False)


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
