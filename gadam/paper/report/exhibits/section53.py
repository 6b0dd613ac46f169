"""Figure 6: the time of a generation against threads."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from gadam.paper import section53
from gadam.paper.palette import BLUE, GREY, ORANGE, say_missing


def threads(rows: pd.DataFrame) -> Figure:
    """Seconds, speed-up and efficiency against the number of threads; every repeat is a dot."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 4.4), layout="constrained", sharex=True)
    if rows.empty:
        for axis, name in zip(axes, ("Time", "Speed-up", "Efficiency"), strict=True):
            say_missing(axis)
            axis.set(title=name, xlabel="threads", xticks=[], yticks=[])
        return figure
    frame, cores = section53.speedups(rows), int(rows["cores"].iloc[0])
    counts = np.arange(1, int(frame["threads"].max()) + 1)
    # Ten units are dealt out whole: on 4 threads somebody trains three of them, and 5 to 9 take two rounds alike.
    ideal = np.minimum(section53.G / np.ceil(section53.G / counts), cores)
    panels = {
        "seconds": ("seconds per generation", "Time", None),
        "speedup": ("time on one thread / time", "Speed-up", ideal),
        "efficiency": ("speed-up / threads", "Efficiency", ideal / counts),
    }
    for axis, (name, (label, title, limit)) in zip(axes, panels.items(), strict=True):
        by_count = frame.groupby("threads")[name].agg(["median", "min", "max"])
        axis.fill_between(by_count.index, by_count["min"], by_count["max"], color=BLUE, alpha=0.2, linewidth=0)
        axis.plot(by_count.index, by_count["median"], color=BLUE, label="median, lowest to highest")
        axis.scatter(frame["threads"], frame[name], color=BLUE, s=14, alpha=0.6, label="one repeat", zorder=3)
        axis.axvline(cores, color=ORANGE, linestyle="--", label="cores of this machine")
        if limit is not None:
            axis.plot(counts, limit, color=GREY, linestyle=":", label=f"at best, with {section53.G} units")
        axis.set(xlabel="threads", ylabel=label, title=title, xticks=counts)
        axis.set_ylim(bottom=0)
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    return figure
