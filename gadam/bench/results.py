"""What came of it: a table to read, files to keep, a figure."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from gadam.bench.contestants import OURS
from gadam.paper.report import figures
from gadam.paper.report.paths import write_atomic
from gadam.paper.report.tables import MISSING, to_csv

WIDTH = 120  # columns of the printed table
HEADER = ("", "ms a step", "lowest-highest", "ms a unit", "x gadam", "paired", "% of limit", "once, s")


def table(summary: pd.DataFrame, title: str) -> str:
    """One work's summary as text.

    Args:
        summary: of `gadam.bench.measure.summarise`.
        title: the line above.
    """
    lines = [HEADER]
    for row in summary.to_dict("records"):
        lines.append(
            (
                str(row["contestant"]),
                short(row["ms_per_step"]),
                between(row["low"], row["high"]),
                short(row["ms_per_unit_step"]),
                short(row["ratio"]),
                between(row["ratio_low"], row["ratio_high"]),
                short(row["limit_percent"]),
                short(row["once_seconds"]),
            )
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    ]
    notes = [f"  {row['contestant']}: {row['note']}"[:WIDTH] for row in summary.to_dict("records") if row["note"]]
    return "\n".join(["", title, *text, *notes])


def short(value: float) -> str:
    """Three digits, without an exponent; a dash for what is missing."""
    if not math.isfinite(value):
        return MISSING
    return f"{value:,.{max(0, 2 - math.floor(math.log10(value)))}f}" if value else "0"


def between(low: float, high: float) -> str:
    """A range, or a dash where there is none."""
    return f"{short(low)}-{short(high)}" if math.isfinite(low) else MISSING


def write(folder: Path, rows: pd.DataFrame, summary: pd.DataFrame, about: dict[str, Any]) -> None:
    """Write bench.csv, bench_summary.csv, bench.json and, if anything was timed, bench.png and bench.svg."""
    write_atomic(folder / "bench.csv", to_csv(rows))
    write_atomic(folder / "bench_summary.csv", to_csv(summary.drop(columns="title")))
    write_atomic(folder / "bench.json", json.dumps(about, indent=2) + "\n")
    if summary["ratio"].notna().any():
        figure = draw(summary)
        figures.save(figure, folder / "bench")
        plt.close(figure)


def draw(summary: pd.DataFrame) -> Figure:
    """Time as a multiple of gadam's on a logarithmic axis: a panel per workload, a row per contestant, a colour per g.

    Args:
        summary: of `gadam.bench.measure.summarise`, with columns workload, title and g.
    """
    figures.use_style()
    import seaborn as sns

    timed = summary[summary["ratio"].notna()]
    titles = timed.drop_duplicates("workload").set_index("workload")["title"]
    names = [name for name in timed["contestant"].unique() if name != OURS]
    sizes = sorted(timed["g"].unique())
    colours = dict(zip(sizes, sns.color_palette("colorblind", len(sizes)), strict=True))
    figure, axes = plt.subplots(
        1, len(titles), figsize=(3.6 + 4.0 * len(titles), 1.6 + 0.5 * max(1, len(names))),
        layout="constrained", sharey=True, squeeze=False,
    )  # fmt: skip
    for axis, (workload, title) in zip(axes[0], titles.items(), strict=True):
        axis.axvline(1, color="0.35", linewidth=1.2)
        for offset, size in enumerate(sizes):
            part = timed[(timed["workload"] == workload) & (timed["g"] == size) & (timed["contestant"] != OURS)]
            heights = [names.index(name) + 0.2 * (offset - (len(sizes) - 1) / 2) for name in part["contestant"]]
            axis.hlines(heights, part["ratio_low"], part["ratio_high"], color=colours[size], linewidth=2)
            axis.plot(part["ratio"], heights, "o", color=colours[size], markersize=6)
        axis.set(xscale="log", title=title, xlabel="time of a step, as a multiple of gadam's")
        low, high = axis.get_xlim()
        axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 100 * low else (1.0,)))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
    axes[0, 0].set_yticks(range(len(names)), names)
    axes[0, 0].invert_yaxis()
    dots = [Line2D([], [], marker="o", linestyle="", color=colours[size], label=f"g = {size}") for size in sizes]
    figure.legend(handles=dots, loc="outside upper right", ncols=max(1, len(sizes)), frameon=False)
    return figure
