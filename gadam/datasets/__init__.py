"""The datasets of the paper: `load(name)` for mnist, orl, yeast, adult and letter."""

from gadam.datasets.loading import Dataset, Located, StandInWarning, fetch, load, locate, verify
from gadam.datasets.registry import NAMES, SOURCES, Source

__all__ = ["NAMES", "SOURCES", "Dataset", "Located", "Source", "StandInWarning", "fetch", "load", "locate", "verify"]
