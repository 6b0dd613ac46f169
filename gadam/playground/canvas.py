"""The frames of a journey on the landscape, fast enough to be played."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from gadam.paper.report.exhibits.section41 import contours
from gadam.paper.section41 import GLOBAL, STEPS
from gadam.plotting import BEST, COLOURS

Frame = tuple[int, str, int]
"""Generation; "parent", "child" or "survival"; step."""


class Canvas:
    """The landscape, drawn once, and the frames on it: some milliseconds each, so that they can be played."""

    def __init__(self, mirrored: bool) -> None:
        figure = Figure(figsize=(5, 5.3), dpi=120)
        self._canvas = FigureCanvasAgg(figure)
        self._ax = axis = figure.add_axes((0.135, 0.19, 0.85, 0.8))
        contours(axis, mirrored, margin=0.1)
        marks = {"start or newborn": ("o", "none", "#444444"), "parent": ("o", COLOURS["parent"], "white"),
                 "child": ("o", COLOURS["child"], "white"), "survives": ("o", "none", BEST),
                 "global minimum": ("*", BEST, "white"), "local minimum": ("x", "black", "black")}  # fmt: skip
        handles = [
            Line2D([], [], marker=marker, linestyle="", markersize=14 if marker == "*" else 9, markerfacecolor=face,
                   markeredgecolor=edge, markeredgewidth=2 if face == "none" else 1, label=name)
            for name, (marker, face, edge) in marks.items()
        ]  # fmt: skip
        figure.legend(handles=handles, loc="lower center", ncols=3, frameon=False, fontsize=9, handletextpad=0.2)
        well = -GLOBAL if mirrored else GLOBAL
        # Last in each frame and hollow: units end there, and both are to be seen.
        self._star = self._dots(np.array([[well, well]]), marker="*", s=1000, facecolor="none", edgecolor=BEST,
                                linewidth=1.8, animated=True)  # fmt: skip
        self._canvas.draw()
        self._background = self._canvas.copy_from_bbox(figure.bbox)

    def png(self, paths: pd.DataFrame, frame: Frame) -> bytes:
        """One frame, as a file."""
        number, phase, step = frame
        self._canvas.restore_region(self._background)
        now = paths[paths["generation"] == number]
        drawn: list[Any] = []
        for role in ("parent", "child"):
            if (role, phase) == ("child", "parent"):
                continue
            rows = now[(now["role"] == role) & (now["step"] <= (step if role == phase else STEPS))]
            drawn += self._paths(rows, COLOURS[role], gone=phase == "survival")
        if phase == "child":
            drawn.append(self._lineage(now))
        for artist in drawn:
            self._ax.draw_artist(artist)
            artist.remove()
        self._ax.draw_artist(self._star)
        buffer = io.BytesIO()
        Image.fromarray(np.asarray(self._canvas.buffer_rgba())).convert("RGB").save(buffer, "png", compress_level=3)
        return buffer.getvalue()

    def _paths(self, rows: pd.DataFrame, colour: str, gone: bool) -> list[Any]:
        """Lines, where they begin and where they are now; when `gone`, those that do not survive are pale."""
        ordered = rows.sort_values(["unit", "step"])
        points = ordered[["w1", "w2"]].to_numpy().reshape(ordered["unit"].nunique(), -1, 2)
        alive = ordered.groupby("unit")["survived"].first().to_numpy()
        drawn: list[Any] = []
        for some, alpha in ((points[~alive], 0.25 if gone else 1.0), (points[alive], 1.0)):
            lines = LineCollection(list(some), colors=colour, linewidths=1.8, alpha=alpha)
            drawn.append(self._ax.add_collection(lines, autolim=False))
            drawn.append(self._dots(some[:, 0], s=36, facecolor="none", edgecolor="#444444", alpha=alpha))
            drawn.append(self._dots(some[:, -1], s=60, color=colour, edgecolor="white", alpha=alpha))
        if gone:
            drawn.append(self._dots(points[alive, -1], s=190, facecolor="none", edgecolor=BEST, linewidth=2))
        return drawn

    def _lineage(self, now: pd.DataFrame) -> Any:
        """Dotted lines from where the parents ended to where their child begins."""
        ends = now[(now["role"] == "parent") & (now["step"] == STEPS)].set_index("unit")[["w1", "w2"]]
        born = now[(now["role"] == "child") & (now["step"] == 0)]
        lines = [
            (ends.loc[row[parent]].to_numpy(), (row["w1"], row["w2"]))
            for row in born.to_dict("records")
            for parent in ("parent_a", "parent_b")
        ]
        collection = LineCollection(lines, colors=COLOURS["child"], linestyles=":", linewidths=1.2)
        return self._ax.add_collection(collection, autolim=False)

    def _dots(self, points: np.ndarray, **style: Any) -> Any:
        return self._ax.scatter(points[:, 0], points[:, 1], **style)
