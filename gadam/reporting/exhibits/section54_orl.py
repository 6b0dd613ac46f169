"""The figures of Section 5.4: faces of ORL."""

from __future__ import annotations

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gadam.reporting.exhibits.palette import BLUE, GREY, ORANGE, RED


def accuracies(rows: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """Accuracy of each method: every split, the mean with its interval, and the paper's value; a panel per images.

    Args:
        rows: columns images, method, accuracy, a row per split.
        table: columns images, method, paper, ours, low, high, data; the paper's values are left out on a stand-in.
    """
    numbers = list(dict.fromkeys(table["images"]))
    figure, axes = plt.subplots(1, len(numbers), figsize=(11, 4), layout="constrained", sharex=True, sharey=True)
    for axis, images in zip(axes, numbers, strict=True):
        lines = table[table["images"] == images].reset_index(drop=True)
        for position, line in enumerate(lines.to_dict("records")):
            splits = rows[(rows["images"] == images) & (rows["method"] == line["method"])]["accuracy"]
            # Below the interval, which would hide them.
            axis.scatter(splits, [position + 0.28] * len(splits), color=GREY, s=22, alpha=0.7, linewidth=0)
            axis.plot([line["low"], line["high"]], [position] * 2, color=BLUE, linewidth=3)
            axis.scatter(line["ours"], position, color=BLUE, s=60, zorder=3)
            if line["data"] == "real":
                axis.scatter(line["paper"], position, color=RED, marker="x", s=60, linewidth=2, zorder=4)
        axis.set(title=f"{images} images a person", yticks=range(len(lines)), yticklabels=lines["method"])
        axis.margins(x=0.06, y=0.08)
    lowest = min(rows["accuracy"].min(), table["paper"].min(), table["low"].min())
    axes[0].set_xlim(max(-2, lowest - 3), 102)
    axes[0].invert_yaxis()
    figure.supxlabel("test accuracy, %")
    handles = {
        "one split": Line2D([], [], color=GREY, marker="o", linestyle="", markersize=5, alpha=0.7),
        "mean of splits, 95 % interval": Line2D([], [], color=BLUE, marker="o", linewidth=3),
        "paper": Line2D([], [], color=RED, marker="x", linestyle="", markersize=8, markeredgewidth=2),
    }
    if not (table["data"] == "real").any():
        del handles["paper"]
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=3, frameon=False)
    return figure


def budget(rows: pd.DataFrame, depth: int) -> Figure:
    """Adam on training faces and on others held out, against steps, and the depth that Table 3 uses.

    Args:
        rows: columns images, unit, step, loss, accuracy.
        depth: steps of a unit in Table 3.
    """
    numbers = list(dict.fromkeys(rows["images"]))
    figure, axes = plt.subplots(1, len(numbers), figsize=(11, 3.8), layout="constrained", sharey=True)
    for axis, images in zip(axes, numbers, strict=True):
        by_step = rows[rows["images"] == images].groupby("step")
        right, loss = by_step["accuracy"].agg(["mean", "min", "max"]), by_step["loss"].mean()
        axis.fill_between(right.index, right["min"], right["max"], color=BLUE, alpha=0.2, linewidth=0)
        axis.plot(right.index, right["mean"], color=BLUE)
        axis.axvline(depth, color=RED, linestyle="--")
        axis.set(title=f"{images} images a person", xlabel="Adam steps", ylim=(0, 102))
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
