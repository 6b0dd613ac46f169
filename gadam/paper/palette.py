"""Colours of every figure, safe for the colour-blind, and what stands in a panel without runs."""

from __future__ import annotations

import seaborn as sns
from matplotlib.axes import Axes

BLUE, ORANGE, GREEN, RED, PURPLE, BROWN, PINK, GREY = sns.color_palette("colorblind")[:8]
ROLE_COLOURS = {"parent": BLUE, "child": ORANGE}


def say_missing(axis: Axes) -> None:
    """Write into an empty panel that nothing of it was computed yet."""
    axis.text(0.5, 0.5, "not computed yet", transform=axis.transAxes, ha="center", va="center", color=GREY)
    axis.grid(visible=False)
    axis.tick_params(labelbottom=False)
