"""Two panels of widgets to play with in a notebook: an evolution that can be stopped, and a landscape that moves."""

from gadam.playground.landscape import LandscapePanel, landscape_panel
from gadam.playground.training import TrainingPanel, training_panel

__all__ = ["LandscapePanel", "TrainingPanel", "landscape_panel", "training_panel"]
