"""The figure of Section 4.2: the loss of a generation through learning and selection."""

from __future__ import annotations

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gadam.paper import section42
from gadam.paper.palette import BLUE, ORANGE, say_missing

LINES = {"": (BLUE, "on V, which selection sees"), "test_": (ORANGE, "on test rows, which nothing sees")}
STAGES = {"before": -1.0, "learned": -0.5, "selected": 0.0}
"""Where a value of generation k lies on the axis, from k."""


def losses(rows: pd.DataFrame) -> Figure:
    """L(k) before learning, after it and after selection, on V and on test rows; a column per problem."""
    labels = [label for _, label in section42.SETTINGS.values()]
    figure, axes = plt.subplots(
        len(section42.REGIMES),
        len(labels),
        figsize=(11.5, 9),
        layout="constrained",
        sharex=True,
        sharey="col",
        squeeze=False,
    )
    frame = section42.inequalities(rows)
    for line, regime in zip(axes, section42.REGIMES, strict=True):
        for axis, label in zip(line, labels, strict=True):
            group = section42.cell(frame, label, regime)
            if group.empty:
                say_missing(axis)
                axis.grid(visible=False)
                continue
            for prefix, (colour, text) in LINES.items():
                _path(axis, group, prefix, colour, text)
            falls = f"L(k+1) ≤ L(k): V {group['decrease'].sum()}, test {group['test_decrease'].sum()} of {len(group)}"
            axis.text(0.98, 0.97, falls, transform=axis.transAxes, ha="right", va="top", fontsize=9.5)
            axis.margins(y=0.12)
        line[0].set_ylabel(f"{regime}\nmean loss of a unit")
    for axis, label in zip(axes[0], labels, strict=True):
        group = frame[(frame["setting"] == label) & (frame["generation"] == 1)]
        axis.set_title(label)
        if len(group):
            axis.set_title(f"{label}: {int(group['steps'].iloc[0])} steps a generation")
            # Where the first learning takes nearly all of the loss, all that follows would be a flat line.
            axis.set_ylim(top=min(1.1 * group["before"].max(), 1.35 * group["test_learned"].max()))
    generations = int(frame["generation"].max()) if len(frame) else 0
    for axis in axes[-1]:
        axis.set(xlabel="generations completed", xticks=range(0, generations + 1, max(1, generations // 5)))
    seeds = frame["seed"].nunique()
    figure.legend(
        [Line2D([], [], color=colour) for colour, _ in LINES.values()], [text for _, text in LINES.values()],
        loc="outside upper center", ncols=2, frameon=False,
        title=f"mean of {seeds or 'all'} seed{'s' * (seeds != 1)}, band from the lowest to the highest; "
        "disc: before learning, ring: after it",
    )  # fmt: skip
    return figure


def _path(axis: Axes, group: pd.DataFrame, prefix: str, colour: tuple[float, ...], label: str) -> None:
    """Through the values in their order; where a generation starts on another batch than the last ended, it jumps."""
    points = pd.concat(
        pd.DataFrame({"place": group["generation"] + shift, "order": order, "loss": group[f"{prefix}{stage}"]})
        for order, (stage, shift) in zip((1, 2, 0), STAGES.items(), strict=True)
    )
    path = points.groupby(["place", "order"])["loss"].agg(["mean", "min", "max"]).reset_index()
    axis.fill_between(path["place"], path["min"], path["max"], color=colour, alpha=0.2, linewidth=0)
    axis.plot(path["place"], path["mean"], color=colour, linewidth=1.4, label=label)
    for order, face in ((1, colour), (2, "white")):
        stage = path[path["order"] == order]
        axis.scatter(stage["place"], stage["mean"], s=22, color=face, edgecolor=colour, linewidth=1.3, zorder=3)
