"""One style for every figure, and files that are the same bytes for the same figure."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import matplotlib as mpl
import seaborn as sns
from matplotlib.figure import Figure

from gadam.paper.report.paths import write_atomic

DPI = 160
MARK = "STAND-IN DATA: not the paper's dataset, says nothing about the paper's numbers"
STYLE: dict[str, Any] = {
    "figure.figsize": (8.0, 4.5), "figure.dpi": 100, "font.size": 11, "axes.titlesize": 12, "axes.labelsize": 11,
    "xtick.labelsize": 10, "ytick.labelsize": 10, "legend.fontsize": 10, "axes.spines.top": False,
    "axes.spines.right": False, "lines.linewidth": 1.8, "image.cmap": "viridis",
}  # fmt: skip
METADATA = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}  # no dates and no versions
SUFFIXES = tuple(METADATA)


def use_style() -> None:
    """Draw every figure of this process in the style of the reports, whatever a matplotlibrc of the user's says."""
    mpl.rcdefaults()
    sns.set_theme(style="whitegrid", palette="colorblind", rc=STYLE)


def save(figure: Any, path: Path, *, mark: str = "") -> bytes:
    """Write `<path>.png` and `<path>.svg`, without dates, versions or random ids in them, and return the PNG.

    `figure` may be an object that has one as its `figure` (axes, a seaborn grid). `mark` is a line in red above it, in
    the files only.
    """
    canvas: Figure = figure.figure
    top = canvas.get_tightbbox().y1 / canvas.get_figheight()  # legends may stand above the axes
    line = canvas.text(0.5, top + 0.02, mark, ha="center", va="bottom", color="#b00020", weight="bold", fontsize=11)
    drawn = {}
    try:
        with mpl.rc_context({"svg.hashsalt": "gadam", "svg.fonttype": "path", "savefig.facecolor": "white"}):
            for kind, metadata in METADATA.items():
                file = io.BytesIO()
                canvas.savefig(file, format=kind, dpi=DPI, bbox_inches="tight", pad_inches=0.12, metadata=metadata)
                drawn[kind] = file.getvalue()
    finally:
        line.remove()
    for kind, content in drawn.items():
        write_atomic(path.with_name(f"{path.name}.{kind}"), content)
    return drawn["png"]
