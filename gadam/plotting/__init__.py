"""Figures of a result: `plot_losses`, `plot_family`, `plot_adoption`; and `LivePlot`, while it trains."""

from gadam.plotting.history import plot_adoption, plot_family, plot_losses
from gadam.plotting.live import LivePlot

__all__ = ["LivePlot", "plot_adoption", "plot_family", "plot_losses"]
