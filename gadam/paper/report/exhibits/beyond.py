"""The figure of what goes beyond the paper: the last generation kept."""

from __future__ import annotations

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gadam.paper.palette import BLUE, ORANGE, say_missing


def above_best(table: pd.DataFrame) -> Figure:
    """What the vote and the soup have above the best unit, with intervals, a line per dataset.

    A panel for ORL, whose intervals are much wider, and one for the others, each with a scale of its own.

    Args:
        table: columns dataset, prediction by, above best, from, to; NaN in the lines of the best unit itself, and where
            nothing is there.
    """
    ways = list(dict.fromkeys(table["prediction by"]))[1:]
    names = list(dict.fromkeys(table["dataset"]))
    panels = [[name for name in names if name.startswith("ORL") == faces] for faces in (False, True)]
    panels = [panel for panel in panels if panel]
    heights = [len(panel) + 0.8 for panel in panels]
    figure, axes = plt.subplots(
        len(panels), figsize=(8, 0.55 * sum(heights) + 1.6), layout="constrained", height_ratios=heights, squeeze=False
    )
    colours = dict(zip(ways, (BLUE, ORANGE), strict=True))
    for axis, panel in zip(axes[:, 0], panels, strict=True):
        for (way, colour), shift in zip(colours.items(), (-0.14, 0.14), strict=True):
            lines = table[table["dataset"].isin(panel) & (table["prediction by"] == way)].dropna(subset="above best")
            places = [panel.index(dataset) + shift for dataset in lines["dataset"]]
            axis.hlines(places, lines["from"], lines["to"], color=colour, linewidth=3)
            axis.scatter(lines["above best"], places, color=colour, s=50, zorder=3)
        if table[table["dataset"].isin(panel)]["accuracy"].isna().all():
            say_missing(axis)
        else:
            axis.axvline(0, color="black", linewidth=1)
        axis.set(yticks=range(len(panel)), yticklabels=panel, ylim=(len(panel) - 0.5, -0.5))
    axes[-1, 0].set_xlabel(
        "test accuracy above that of the best unit,\npercentage points (mean over seeds, 95 % interval)"
    )
    handles = [Line2D([], [], color=colour, linewidth=3, marker="o") for colour in colours.values()]
    figure.legend(handles, colours.keys(), loc="outside upper center", ncols=2, frameon=False)
    return figure
