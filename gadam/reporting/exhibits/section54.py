"""The figures of Section 5.4: tables."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gadam.reporting.exhibits.palette import BLUE, GREEN, GREY, RED


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
    fewest, most = int(frame["seeds"].min()), int(frame["seeds"].max())
    seeds = f"{most}" if fewest == most else f"{fewest} to {most}"
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
