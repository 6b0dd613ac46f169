"""The figure of Section 6: what other readings of the paper change."""

from __future__ import annotations

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gadam.paper.palette import BLUE, GREY, ORANGE, say_missing

COLOURS = {"reading": BLUE, "ablation": ORANGE, "control": GREY}
LEGEND = {
    "reading": "another reading of the paper",
    "ablation": "a part of GADAM left out or changed",
    "control": "equal compute without evolution",
}


def readings(effects: pd.DataFrame) -> Figure:
    """Test accuracy of each other reading minus that of the default, with intervals, a panel per dataset."""
    datasets, labels = (list(dict.fromkeys(effects[name])) for name in ("dataset", "reading"))
    labels = labels[1:]  # the first is the default
    figure, axes = plt.subplots(1, len(datasets), figsize=(11, 4.8), layout="constrained", sharey=True)
    for axis, dataset in zip(axes, datasets, strict=True):
        own = effects[(effects["dataset"] == dataset) & effects["reading"].isin(labels)]
        found = own.dropna(subset="difference")
        for line in found.to_dict("records"):
            colour, position = COLOURS[line["kind"]], labels.index(line["reading"])
            axis.plot([line["low"], line["high"]], [position] * 2, color=colour, linewidth=3)
            axis.scatter(line["difference"], position, color=colour, s=60, zorder=3)
        if found.empty:
            say_missing(axis)
            axis.set_xticks([])
        else:
            axis.axvline(0, color="black", linewidth=1)
        seeds = " or ".join(dict.fromkeys(own["seeds"]))
        axis.set(title=f"{dataset}, {seeds} seeds", yticks=range(len(labels)), yticklabels=labels)
        axis.set_ylim(len(labels) - 0.5, -0.5)
        axis.margins(x=0.1)
    figure.supxlabel(
        "minus the default readings: test accuracy, percentage points (mean, 95 % interval, paired by seed)"
    )
    handles = [Line2D([], [], color=colour, marker="o", linewidth=3) for colour in COLOURS.values()]
    figure.legend(handles, list(LEGEND.values()), loc="outside upper center", ncols=3, frameon=False)
    return figure
