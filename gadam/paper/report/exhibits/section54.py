"""The figures of Section 5.4: tables."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from gadam.paper.palette import BLUE, GREEN, GREY, RED, say_missing


def differences(frame: pd.DataFrame) -> Figure:
    """MLP (GADAM) minus each other method, with intervals, a panel per dataset.

    Args:
        frame: columns dataset, method, difference, low, high, seeds, complete; NaN where nothing is there. What is not
            complete is grey, with its seeds beside it.
    """
    datasets = list(dict.fromkeys(frame["dataset"]))
    figure, axes = plt.subplots(1, len(datasets), figsize=(11, 3.6), layout="constrained", sharey=True)
    for axis, dataset in zip(axes, datasets, strict=True):
        lines = frame[frame["dataset"] == dataset].reset_index(drop=True)
        for position, line in enumerate(lines.to_dict("records")):
            colour = GREY
            if line["complete"]:
                colour = GREEN if line["low"] > 0 else RED if line["high"] < 0 else GREY
            axis.plot([line["low"], line["high"]], [position] * 2, color=colour, linewidth=3)
            axis.scatter(line["difference"], position, color=colour, s=60, zorder=3)
            if not line["complete"] and pd.notna(line["difference"]):
                axis.annotate(
                    f"{line['seeds']} runs", (line["difference"], position), xytext=(0, 6), textcoords="offset points",
                    ha="center", fontsize=8, color=GREY, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
                )  # fmt: skip
        if lines["difference"].isna().all():
            say_missing(axis)
        else:
            axis.axvline(0, color="black", linewidth=1)
        axis.set(title=dataset, yticks=range(len(lines)), yticklabels=lines["method"])
        axis.margins(x=0.15)
        axis.set_ylim(len(lines) - 0.5, -0.5)
    seeds = [int(count) for count in frame.loc[frame["complete"], "seeds"]]
    over = f" of {' to '.join(str(one) for one in sorted({min(seeds), max(seeds)}))} seeds" if seeds else ""
    figure.supxlabel(
        f"MLP (GADAM) minus the method: test accuracy, percentage points (mean{over}, 95 % interval)", fontsize=11
    )
    handles = [Line2D([], [], color=colour, linewidth=3) for colour in (GREEN, GREY, RED)]
    figure.legend(
        handles, ["GADAM better", "cannot tell", "GADAM worse"], loc="outside upper center", ncols=3, frameon=False
    )
    return figure


def budget(rows: pd.DataFrame, depths: Mapping[str, int]) -> Figure:
    """Accuracy of Adam on held-out training rows against steps, and the depth that Table 4 uses."""
    rows = rows.reindex(columns=["dataset", "unit", "step", "accuracy"])  # there may be none
    datasets = list(depths)
    figure, axes = plt.subplots(1, len(datasets), figsize=(11, 3.6), layout="constrained")
    for axis, dataset in zip(axes, datasets, strict=True):
        axis.set(title=dataset.upper(), xlabel="Adam steps")
        found = rows[rows["dataset"] == dataset]
        if found.empty:
            axis.set_yticks([])
            say_missing(axis)
            continue
        curve = found.groupby("step")["accuracy"].agg(["mean", "min", "max"])
        axis.fill_between(curve.index, curve["min"], curve["max"], color=BLUE, alpha=0.25)
        axis.plot(curve.index, curve["mean"], color=BLUE)
        axis.axvline(depths[dataset], color=RED, linestyle="--")
    axes[0].set_ylabel("accuracy on held-out\ntraining rows, %")
    handles = {
        "lowest to highest": Patch(color=BLUE, alpha=0.25),
        "mean": Line2D([], [], color=BLUE),
        "steps used": Line2D([], [], color=RED, linestyle="--"),
    }
    units = rows["unit"].nunique()
    figure.legend(
        handles.values(), handles.keys(), loc="outside upper center", ncols=3, frameon=False,
        title=f"{units} units" if units else None,
    )  # fmt: skip
    return figure
