"""The figures of Section 5.4: faces of ORL."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gadam.paper.palette import BLUE, GREY, ORANGE, RED
from gadam.paper.report.exhibits.section54 import say_missing


def accuracies(splits: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """Accuracy of each method: every split, the mean with its interval, and the paper's value; a panel per images.

    Args:
        splits: columns images, method, pixels, accuracy, a row per split.
        table: columns images, method, pixels, paper, ours, low, high, seeds, data; NaN where nothing is there. The
            paper's values are left out on a stand-in.
    """
    numbers = list(dict.fromkeys(table["images"]))
    rows = int(table["images"].value_counts().max())
    figure, axes = plt.subplots(
        1, len(numbers), figsize=(11, 1.2 + 0.4 * rows), layout="constrained", sharex=True, sharey=True
    )
    for axis, images in zip(axes, numbers, strict=True):
        lines = table[table["images"] == images].reset_index(drop=True)
        own = splits[splits["images"] == images]
        for position, line in enumerate(lines.to_dict("records")):
            dots = own[(own["method"] == line["method"]) & (own["pixels"] == line["pixels"])]["accuracy"]
            # Below the interval, which would hide them.
            axis.scatter(dots, [position + 0.28] * len(dots), color=GREY, s=22, alpha=0.7, linewidth=0)
            axis.plot([line["low"], line["high"]], [position] * 2, color=BLUE, linewidth=3)
            axis.scatter(line["ours"], position, color=BLUE, s=60, zorder=3)
            if line["data"] == "real":
                axis.scatter(line["paper"], position, color=RED, marker="x", s=60, linewidth=2, zorder=4)
        if own.empty:
            say_missing(axis)
        axis.set(title=f"{images} images a person", yticks=range(len(lines)), yticklabels=_labels(lines))
        axis.set_ylim(len(lines) - 0.4, -0.6)
    lowest = min([100, *splits["accuracy"], *table["low"].dropna(), *table["paper"].dropna()])
    axes[0].set_xlim(max(-2, lowest - 3), 102)
    figure.supxlabel("test accuracy, %", fontsize=11)
    handles = {
        "one split": Line2D([], [], color=GREY, marker="o", linestyle="", markersize=5, alpha=0.7),
        "mean of splits, 95 % interval": Line2D([], [], color=BLUE, marker="o", linewidth=3),
        "paper": Line2D([], [], color=RED, marker="x", linestyle="", markersize=8, markeredgewidth=2),
    }
    if not (table["data"] == "real").any():
        del handles["paper"]
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=3, frameon=False)
    return figure


def _labels(lines: pd.DataFrame) -> list[str]:
    """The methods, with the pixels of those that saw images of two sizes."""
    twice = lines["method"].duplicated(keep=False)
    return [
        f"{method}, {pixels}" if one else method
        for method, pixels, one in zip(lines["method"], lines["pixels"], twice, strict=True)
    ]


def budget(rows: pd.DataFrame, images: Sequence[int], depth: int) -> Figure:
    """Adam on training faces and on others held out, against steps, and the depth that Table 3 uses.

    Args:
        rows: columns images, unit, step, loss, accuracy.
        images: of each person, a panel for each number.
        depth: steps of a unit in Table 3.
    """
    rows = rows.reindex(columns=["images", "unit", "step", "loss", "accuracy"])  # there may be none
    figure, axes = plt.subplots(1, len(images), figsize=(11, 3.8), layout="constrained", sharey=True)
    for axis, number in zip(axes, images, strict=True):
        axis.set(title=f"{number} images a person", xlabel="Adam steps", ylim=(0, 102))
        found = rows[rows["images"] == number]
        if found.empty:
            say_missing(axis)
            continue
        by_step = found.groupby("step")
        right, loss = by_step["accuracy"].agg(["mean", "min", "max"]), by_step["loss"].mean()
        axis.fill_between(right.index, right["min"], right["max"], color=BLUE, alpha=0.2, linewidth=0)
        axis.plot(right.index, right["mean"], color=BLUE)
        axis.axvline(depth, color=RED, linestyle="--")
        losses = axis.twinx()
        losses.plot(loss.index, loss, color=ORANGE)
        losses.set(yscale="log", ylim=(1e-4, 6))
        losses.grid(visible=False)
        if axis is axes[-1]:
            losses.set_ylabel("loss on training faces")
        else:
            losses.tick_params(which="both", right=False, labelright=False)
    axes[0].set_ylabel("accuracy on faces held out, %")
    handles = {
        "accuracy, mean and range of units": Line2D([], [], color=BLUE),
        "training loss, mean": Line2D([], [], color=ORANGE),
        "steps used": Line2D([], [], color=RED, linestyle="--"),
    }
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=3, frameon=False)
    return figure
