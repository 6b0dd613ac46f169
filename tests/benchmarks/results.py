"""Results of the benchmark: a table to read, and a figure."""

from __future__ import annotations

import math

import pandas as pd
import seaborn as sns
from contestants import OURS
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

MISSING = "–"
HEADER = ("", "ms a step", "lowest-highest", "ms a unit", "x gadam", "paired", "% of limit", "once, s")


def table(summary: pd.DataFrame, title: str) -> str:
    """Write a summary of `measure.summarise` as text under a title, and the notes below."""
    lines = [HEADER]
    for row in summary.to_dict("records"):
        spread, paired = (f"{short(row[a])}-{short(row[b])}" for a, b in (("low", "high"), ("ratio_low", "ratio_high")))
        numbers = [short(row[name]) for name in ("ms_per_step", "ms_per_unit_step", "ratio", "limit_percent")]
        lines.append((row["contestant"], numbers[0], spread, numbers[1], numbers[2], paired, numbers[3],
                      short(row["once_seconds"])))  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join([line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    ]
    notes = [f"  {row['contestant']}: {row['note']}"[:120] for row in summary.to_dict("records")]
    return "\n".join(["", title, *text, *notes])


def short(value: float) -> str:
    """Write a number with three digits, without an exponent; a dash for what is missing."""
    if not math.isfinite(value):
        return MISSING
    return f"{value:,.{max(0, 2 - math.floor(math.log10(value)))}f}" if value else "0"


def draw(summary: pd.DataFrame) -> Figure:
    """Draw times as multiples of gadam's: a panel for each title, a row for each contestant, a colour for each g."""
    timed = summary[summary["ratio"].notna()]
    titles, sizes = list(timed["title"].unique()), sorted(timed["g"].unique())
    names = [name for name in timed["contestant"].unique() if name != OURS]
    colours = dict(zip(sizes, sns.color_palette("colorblind", len(sizes)), strict=True))
    size = (3.6 + 4.0 * len(titles), 1.6 + 0.5 * max(1, len(names)))
    figure, axes = plt.subplots(1, len(titles), figsize=size, layout="constrained", sharey=True, squeeze=False)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.axvline(1, color="0.35", linewidth=1.2)
        for offset, g in enumerate(sizes):
            part = timed[(timed["title"] == title) & (timed["g"] == g) & (timed["contestant"] != OURS)]
            heights = [names.index(name) + 0.2 * (offset - (len(sizes) - 1) / 2) for name in part["contestant"]]
            axis.hlines(heights, part["ratio_low"], part["ratio_high"], color=colours[g], linewidth=2)
            axis.plot(part["ratio"], heights, "o", color=colours[g], markersize=6, label=f"g = {g}")
        axis.set(xscale="log", title=title, xlabel="time of a step, as a multiple of gadam's")
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
    axes[0, 0].set_yticks(range(len(names)), names)
    axes[0, 0].invert_yaxis()
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=len(sizes), frameon=False)
    return figure
