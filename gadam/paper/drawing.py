"""What the figures share: colours, curves with bands, differences with intervals, panels without runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gadam.paper.statistics import Interval

BLUE, ORANGE, GREEN, RED, PURPLE, BROWN, PINK, GREY = sns.color_palette("colorblind")[:8]
"""Safe for the colour-blind."""
ROLE_COLOURS = {"parent": BLUE, "child": ORANGE}


def say_missing(figure: Figure) -> None:
    """Write into each panel in which nothing is drawn that nothing of it was computed yet."""
    for axis in figure.axes:
        if not axis.has_data():
            axis.text(0.5, 0.5, "not computed yet", transform=axis.transAxes, ha="center", va="center", color=GREY)
            axis.grid(visible=False)
            # Ticks to the left remain where they are names, or the scale of a neighbour.
            axis.tick_params(labelbottom=False)
            if axis.get_ylim() == (0, 1):
                axis.tick_params(labelleft=False)


def curve_by(rows: pd.DataFrame, column: str, interval: Callable[[pd.DataFrame], Interval]) -> pd.DataFrame:
    """Return a number and its bounds of the rows that have each value of a column, by that value."""
    found = {value: interval(own) for value, own in rows.groupby(column)}
    return pd.DataFrame.from_dict(found, orient="index", columns=["mean", "low", "high"])


def draw_curve(axis: Axes, curve: pd.DataFrame, colour: Any, **style: Any) -> Line2D:
    """Draw a line with a band around it: the first of a frame's three columns, from the second to the third."""
    middle, low, high = (curve[name] for name in curve)
    axis.fill_between(curve.index, low, high, color=colour, alpha=0.2, linewidth=0)
    if len(curve) == 1:  # where a band has no width
        axis.plot(list(curve.index) * 2, [*low, *high], color=colour, alpha=0.6)
    (line,) = axis.plot(curve.index, middle, color=colour, **style)
    return line


def draw_intervals(axis: Axes, lines: pd.DataFrame, labels: Sequence[str]) -> None:
    """Draw a dot and an interval at the height of each label, from top to bottom.

    `lines` has columns label, colour, centre, low, high, and perhaps shift, downwards; NaN where nothing is there.
    """
    places = lines["label"].map(labels.index) + lines.get("shift", 0)
    for line in lines.assign(place=places).dropna(subset="centre").to_dict("records"):
        axis.plot([line["low"], line["high"]], [line["place"]] * 2, color=line["colour"], linewidth=3)
        axis.scatter(line["centre"], line["place"], color=line["colour"], s=40, zorder=3)
    axis.margins(x=0.15)
    axis.set(yticks=range(len(labels)), yticklabels=labels, ylim=(len(labels) - 0.5, -0.5))


def differences_figure(lines: pd.DataFrame, colours: Mapping[str, Any], xlabel: str) -> Figure:
    """Draw differences with their intervals, a panel for each title in column `panel`, see `draw_intervals`.

    `colours` says what they mean.
    """
    panels = dict(list(lines.groupby("panel", sort=False)))
    labels = {title: list(dict.fromkeys(own["label"])) for title, own in panels.items()}
    most, same = max(map(len, labels.values())), len({tuple(one) for one in labels.values()}) == 1
    size = (11, 1.2 + 0.4 * most)
    figure, axes = plt.subplots(1, len(panels), figsize=size, layout="constrained", sharey=same, squeeze=False)
    for axis, (title, found) in zip(axes[0], panels.items(), strict=True):
        draw_intervals(axis, found, labels[title])
        if found["centre"].notna().any():
            axis.axvline(0, color="black", linewidth=1)
        axis.set_title(title)
    figure.supxlabel(xlabel, fontsize=11)
    dot = partial(Line2D, [], [], marker="o", linewidth=3)
    add_legend(figure, {text: dot(color=colour) for text, colour in colours.items()})
    return figure


def budget_figure(rows: pd.DataFrame, column: str, panels: Mapping[Any, tuple[str, int]], ylabel: str) -> Figure:
    """Draw Adam on held-out training rows against steps, and a dashed line at the steps that the table uses.

    `rows` are of `comparison.follow_adam`, perhaps none; a loss is drawn on an axis of its own. `panels` has the title
    and the steps for each entry of `column`.
    """
    rows = rows.reindex(columns=[column, "unit", "step", "accuracy", *rows.columns.intersection(["loss"])])
    figure, axes = plt.subplots(1, len(panels), figsize=(11, 3.8), layout="constrained")
    handles = {
        f"accuracy, mean and range of {rows['unit'].nunique()} units": Line2D([], [], color=BLUE),
        "steps used": Line2D([], [], color=RED, linestyle="--"),
    }
    for axis, (key, (title, steps)) in zip(axes, panels.items(), strict=True):
        axis.set(title=title, xlabel="Adam steps")
        found = rows[rows[column] == key].groupby("step")
        if not len(found):
            continue
        draw_curve(axis, found["accuracy"].agg(["mean", "min", "max"]), BLUE)
        axis.axvline(steps, color=RED, linestyle="--")
        axis.locator_params("x", nbins=5)
        axis.xaxis.set_major_formatter("{x:,.0f}")
        if "loss" in rows:
            losses = axis.twinx()
            (handles["training loss, mean"],) = losses.plot(found["loss"].mean(), color=ORANGE)
            losses.set(yscale="log", ylim=(1e-4, 6), ylabel="training loss" if axis is axes[-1] else "")
            losses.grid(visible=False)
    axes[0].set_ylabel(ylabel)
    add_legend(figure, handles)
    return figure


def add_legend(figure: Figure, handles: Mapping[str, Any], ncols: int = 3, below: bool = False, **also: Any) -> None:
    """Put a legend above the panels of a figure, or below them."""
    also["loc"] = "outside lower center" if below else "outside upper center"
    figure.legend(handles.values(), handles.keys(), ncols=ncols, frameon=False, **also)


def labelled(axis: Axes) -> dict[str, Any]:
    """Return what a panel shows, by its label."""
    handles, labels = axis.get_legend_handles_labels()
    return dict(zip(labels, handles, strict=True))
