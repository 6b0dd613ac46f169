"""The figure of Section 4.3: bytes of a generation against g, |w| and k."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from gadam.paper import section43
from gadam.paper.palette import BLUE, GREEN, GREY, ORANGE, RED, say_missing
from gadam.paper.report.tables import number

LINES = {
    "population": ("units, out and back (measured)", BLUE, "o-"),
    "train_data": ("training rows, once to each worker", ORANGE, "s-"),
    "rest": ("model and settings, once to each worker", GREEN, "^-"),
    "floor": ("16 g |w|: parameters alone", GREY, "--"),
}


def growth(rows: pd.DataFrame) -> Figure:
    """Bytes per generation on logarithmic axes, a panel per factor."""
    figure, axes = plt.subplots(
        1, len(section43.FACTORS), figsize=(12, 4.6), layout="constrained", sharey=True, squeeze=False
    )
    powers = section43.exponents(rows).set_index("factor")
    for axis, (factor, label) in zip(axes[0], section43.FACTORS.items(), strict=True):
        points = section43.curve(rows, factor).groupby("size")[list(LINES)].mean()
        axis.set(xlabel=label, title="units")
        if points.empty:
            say_missing(axis)
            axis.set_xticks([])
            axis.grid(visible=False)
            continue
        for name, (text, colour, style) in LINES.items():
            axis.plot(points.index, points[name], style, color=colour, label=text, markersize=6)
        if factor == "steps":
            bound = points["floor"].iloc[0] * points.index / points.index[0]
            axis.plot(points.index, bound, ":", color=RED, label="16 k g |w|: the paper's bound")
        axis.set(xscale="log", yscale="log")
        bounds = [float(powers[name][factor]) for name in ("exponent", "low", "high")]
        if not any(map(math.isnan, bounds)):
            exponent, low, high = (number(bound, 2) for bound in bounds)
            axis.set_title(f"units: exponent {exponent} [{low}, {high}]")
        axis.set_xticks(
            points.index, [f"{size:,.0f}" if size < 1_000 else f"{size / 1_000:,.0f}k" for size in points.index]
        )
        axis.minorticks_off()
    axes[0, 0].set_ylabel("bytes per generation, or once")
    handles, labels = axes[0, -1].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
    return figure
