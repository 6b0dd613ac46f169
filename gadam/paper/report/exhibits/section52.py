"""The figures of Section 5.2: generations, size of the population, adoption of children.

Their frames are those of `gadam.paper.section52`; where one is empty, its panel says so.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gadam.paper.palette import BLUE, GREEN, GREY, PURPLE, ROLE_COLOURS, say_missing
from gadam.paper.statistics import accuracy_interval, mean_interval

NAMES = {"parent": "parents", "child": "children"}


def generations(frame: pd.DataFrame, accuracies: pd.DataFrame, size: int) -> Figure:
    """Figure 3: loss of parents and children by generation, and the test accuracy of the fittest unit."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11.5, 4.6), layout="constrained")
    for role, colour in ROLE_COLOURS.items():
        chosen = frame[frame["role"] == role]
        if chosen.empty:
            continue
        means = chosen.groupby("generation")[["mean", "spread", "best"]].mean()
        low, high = means["mean"] - means["spread"], means["mean"] + means["spread"]
        left.fill_between(means.index, low.clip(lower=means["best"]), high, color=colour, alpha=0.18, linewidth=0)
        _line(left, chosen, "generation", "mean", colour, label=f"{NAMES[role]}, mean")
        left.plot(means.index, means["best"], color=colour, linestyle="--", label=f"{NAMES[role]}, lowest")
    left.set(xlabel="generation", ylabel="loss on the generation's new validation batch", yscale="log")
    left.set_title(f"{size} parents and {size} children\n(band: ± 1 standard deviation of the units)")
    _line(right, accuracies, "generation", "accuracy", GREEN)
    right.set(xlabel="generation", ylabel="test accuracy, %", title="Fittest unit of each generation")
    if frame.empty:
        say_missing(left)
    else:
        left.legend(loc="lower left", fontsize=9)
        for axis in (left, right):
            axis.set_xticks(sorted(frame["generation"].unique()))
    _explain(figure)
    return figure


def populations(frame: pd.DataFrame, accuracies: pd.DataFrame) -> Figure:
    """Figure 4: the survivors' losses and the fittest unit's test accuracy by the size of the population."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 4.2), layout="constrained")
    _line(axes[0], frame, "g", "mean", BLUE, label="mean of the units", beside=-0.12)
    axes[0].set(ylabel="loss on the last validation batch", title="Units of the last generation")
    if len(frame):
        _line(axes[0], frame, "g", "best", PURPLE, label="lowest", beside=0.12)
        axes[0].legend()
    _line(axes[1], frame, "g", "spread", GREY)
    axes[1].set(ylabel="standard deviation of the units' losses", title="Spread of the units")
    axes[1].set_ylim(bottom=0)  # an interval by Student's t does not know that there is no less
    _line(axes[2], accuracies, "g", "accuracy", GREEN)
    axes[2].set(ylabel="test accuracy, %", title="Fittest unit")
    for axis in axes:
        axis.set(xlabel="population size g")
        if len(frame):
            axis.set_xticks(sorted(frame["g"].unique()))
    _explain(figure)
    return figure


def adoption(by_generation: pd.DataFrame, by_size: pd.DataFrame, size: int, last: int) -> Figure:
    """Figure 5: the share of children among the survivors, by generation and by population size."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11.5, 4.2), layout="constrained", sharey=True)
    _line(left, by_generation, "generation", "adopted", BLUE)
    left.set(xlabel="generation", ylabel="adoption rate: share of children\namong the survivors", ylim=(-0.02, 1.02))
    left.set(title=f"By generation, g = {size}")
    _line(right, by_size, "g", "adopted", GREEN)
    right.set(xlabel="population size g", title=f"By population size, mean of generations 1 to {last}")
    for axis, frame, x in ((left, by_generation, "generation"), (right, by_size, "g")):
        if len(frame):
            axis.set_xticks(sorted(frame[x].unique()))
            axis.axhline(0.5, color="black", linestyle=":", linewidth=1.2)
    if len(by_generation):
        left.annotate(
            "as many children as parents", (0.99, 0.51), xycoords=("axes fraction", "data"), ha="right", fontsize=9
        )
    _explain(figure)
    return figure


def _line(
    axis: Axes, frame: pd.DataFrame, x: str, y: str, colour: Any, label: str | None = None, beside: float = 0.0
) -> None:
    """The mean over seeds with its 95 % interval, so far beside its place."""
    if frame.empty:
        say_missing(axis)
        return
    points = [(place, *_interval(group, y)) for place, group in frame.groupby(x)]
    places, means, lows, highs = zip(*points, strict=True)
    below = [mean - low for mean, low in zip(means, lows, strict=True)]
    above = [high - mean for mean, high in zip(means, highs, strict=True)]
    axis.errorbar(
        np.asarray(places, dtype=float) + beside,
        means,
        yerr=[below, above],
        color=colour,
        marker="o",
        capsize=3,
        label=label,
    )


def _interval(group: pd.DataFrame, y: str) -> tuple[float, float, float]:
    values = group[y].dropna().tolist()
    return accuracy_interval(values, int(group["test_rows"].iloc[0])) if y == "accuracy" else mean_interval(values)


def _explain(figure: Figure) -> None:
    figure.supxlabel("points and bars: mean over seeds with its 95 % interval", fontsize=10)
