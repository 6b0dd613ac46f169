"""The figure of Section 5.1: training loss by step."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from gadam.paper.palette import BLUE, BROWN, GREEN, GREY, ORANGE, PINK, PURPLE, say_missing

LINES: dict[str, tuple[Any, Any]] = {
    "GADAM": (BLUE, "-"), "Adam": (ORANGE, "-"), "SGD": (GREEN, "--"), "SGDM": (PURPLE, "--"),
    "RMSProp": (BROWN, "-."), "AdaGrad": (PINK, ":"), "AdaDelta": (GREY, ":"),
}  # fmt: skip
"""Told apart by their dashes too."""


def training_loss(curves: pd.DataFrame) -> Figure:
    """Figure 2 of Section 5.1: the loss on the training batch, with the evident learning rate and with tuned ones.

    Args:
        curves: see `gadam.paper.section51_results.curves`; a method that is not there has no line.
    """
    figure, axes = plt.subplots(1, 2, figsize=(11.5, 5.2), layout="constrained", sharey=True, sharex=True)
    titles = {"evident": "the evident setting: learning rate 0.001", "tuned": "tuned on images held out, GADAM not"}
    for axis, (setting, title) in zip(axes, titles.items(), strict=True):
        axis.set(xscale="log", yscale="log", xlabel="step of a unit", title=title)
        chosen = curves[curves["setting"] == setting]
        for method, (colour, dashes) in LINES.items():
            line = chosen[chosen["method"] == method].sort_values("step")
            if line.empty:
                continue
            rate = float(line["learning_rate"].iloc[0])
            label = method if setting == "evident" else f"{method} ({rate:g})"
            width = 2.8 if method == "GADAM" else 1.7
            axis.plot(line["step"], line["loss"], color=colour, linestyle=dashes, linewidth=width, label=label)
            low, high = line["low"].clip(lower=1e-9), line["high"]
            axis.fill_between(line["step"], low, high, color=colour, alpha=0.15, linewidth=0)
        if chosen.empty:
            say_missing(axis)
        else:
            axis.legend(loc="lower left", ncols=2, fontsize=9)
    axes[0].set(ylabel="loss on the training batch")
    if len(curves):
        axes[0].set_ylim(float(curves["loss"].min()) / 3, min(float(curves["loss"].max()) * 1.4, 30))
    return figure
