"""The figure of Section 6: what other readings of the paper change."""

from __future__ import annotations

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gadam.reporting.exhibits.palette import BLUE, GREY, ORANGE

COLOURS = {"reading": BLUE, "ablation": ORANGE, "control": GREY}
LEGEND = {
    "reading": "another reading of the paper",
    "ablation": "a part of GADAM left out",
    "control": "equal compute without evolution",
}


def readings(effects: pd.DataFrame) -> Figure:
    """Test accuracy of each other reading minus that of the default, with intervals, a panel per dataset."""
    frame = effects.dropna(subset="difference")
    datasets = list(dict.fromkeys(frame["dataset"]))
    figure, axes = plt.subplots(1, len(datasets), figsize=(11, 4.4), layout="constrained", sharey=True)
    for axis, dataset in zip(axes, datasets, strict=True):
        lines = frame[frame["dataset"] == dataset].to_dict("records")
        for position, line in enumerate(lines):
            colour = COLOURS[line["kind"]]
            axis.plot([line["low"], line["high"]], [position] * 2, color=colour, linewidth=3)
            axis.scatter(line["difference"], position, color=colour, s=60, zorder=3)
        axis.axvline(0, color="black", linewidth=1)
        axis.set(
            title=f"{dataset}, {lines[0]['seeds']} seeds", yticks=range(len(lines)),
            yticklabels=[line["reading"] for line in lines],
        )  # fmt: skip
        axis.margins(x=0.1, y=0.08)
    axes[0].invert_yaxis()
    figure.supxlabel(
        "minus the default readings: test accuracy, percentage points (mean, 95 % interval, paired by seed)"
    )
    handles = [Line2D([], [], color=colour, marker="o", linewidth=3) for colour in COLOURS.values()]
    figure.legend(handles, list(LEGEND.values()), loc="outside upper center", ncols=3, frameon=False)
    return figure
