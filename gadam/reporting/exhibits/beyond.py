"""The figure of what goes beyond the paper: the last generation kept."""

from __future__ import annotations

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from gadam.reporting.exhibits.palette import BLUE, ORANGE


def above_best(table: pd.DataFrame) -> Figure:
    """What the vote and the soup have above the best unit, with intervals, a line per dataset.

    Args:
        table: columns dataset, prediction by, above best, from, to, seeds; NaN in the line of the best unit itself.
    """
    compared = table.dropna(subset="above best")
    datasets = list(dict.fromkeys(compared["dataset"]))
    figure, axis = plt.subplots(figsize=(8, 0.55 * len(datasets) + 1.6), layout="constrained")
    ways = compared.groupby("prediction by", sort=False)
    for (way, lines), colour, shift in zip(ways, (BLUE, ORANGE), (-0.14, 0.14), strict=True):
        places = [datasets.index(dataset) + shift for dataset in lines["dataset"]]
        axis.hlines(places, lines["from"], lines["to"], color=colour, linewidth=3)
        axis.scatter(lines["above best"], places, color=colour, s=50, zorder=3, label=way)
    axis.axvline(0, color="black", linewidth=1)
    axis.set(
        yticks=range(len(datasets)), yticklabels=datasets,
        xlabel="test accuracy above that of the best unit,\npercentage points (mean over seeds, 95 % interval)",
    )  # fmt: skip
    axis.invert_yaxis()
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return figure
