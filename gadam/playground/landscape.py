"""The landscape of Section 4.1 (figure2a), alive: place starting points, and play the generations step by step."""

from __future__ import annotations

import io
import math
import re
from functools import partial
from itertools import product
from typing import Any

import ipywidgets  # type: ignore[import-untyped]
import numpy as np
import pandas as pd
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from gadam.config import InputError
from gadam.display import front_end, side_by_side
from gadam.paper.section41 import GLOBAL, LANDSCAPES, RANGE, STEPS, contours, journey
from gadam.playground.widgets import Panel, grid, line, red_line
from gadam.plotting import BEST, COLOURS
from gadam.validation import check_choice

EVERY = 4  # steps between two frames
INTERVAL = 100  # milliseconds of a frame
MOST = 30  # starts
GENERATIONS = {"smoke": 3, "quick": 5, "standard": 10, "paper": 10}
PICTURE = "Contours of the landscape with the paths of parents and children"
Frame = tuple[int, str, int]
"""Generation; "parent", "child" or "survival"; step."""


def landscape_panel(profile: str = "smoke") -> LandscapePanel:
    """Make a panel to play on the landscape; where there is no front end it stands at the last frame."""
    check_choice("profile", profile, GENERATIONS)
    return LandscapePanel(GENERATIONS[profile])


class LandscapePanel(Panel):
    """The widgets; what they show is computed anew when a setting changes, and then only drawn.

    Attributes:
        controls: the widgets of the settings, by name.
        slider: which frame is shown.
        journey: see `gadam.paper.section41.journey`; empty where the settings are not allowed.
    """

    def __init__(self, generations: int = 3) -> None:
        super().__init__()
        number, choice = ipywidgets.BoundedIntText, ipywidgets.Dropdown
        slide = partial(ipywidgets.FloatSlider, continuous_update=False, step=0.1)
        self.controls = {
            "landscape": choice(options=LANDSCAPES, description="landscape"),
            "starts": number(4, min=2, max=MOST, description="starts g"),
            "generations": number(generations, min=1, max=20, description="generations K"),
            "first": slide(0.0, min=-RANGE, max=RANGE, description="centre, w1"),
            "second": slide(0.0, min=-RANGE, max=RANGE, description="centre, w2"),
            "spread": slide(RANGE, min=0.0, max=RANGE, description="spread"),
            "mutation_rate": slide(0.3, min=0.0, max=1.0, description="mutation rate p"),
            "mutation": choice(options=["uniform", "normal"], description="mutation"),
            "seed": number(0, min=0, max=9_999, description="seed"),
            "points": ipywidgets.Text(description="or at points", placeholder="-1 2, 0.5 0.5", continuous_update=False),
        }
        for control in self.controls.values():
            control.observe(self.place, "value")
        self.play = ipywidgets.Play(interval=INTERVAL, show_repeat=False)
        self.slider = ipywidgets.IntSlider(description="frame", layout={"width": "24em"})
        ipywidgets.jslink((self.play, "value"), (self.slider, "value"))
        self.slider.observe(lambda _: self.draw(), "value")
        self.status = ipywidgets.HTML()
        player = ipywidgets.HBox([self.play, self.slider], layout={"flex_flow": "row wrap"})
        self.children = (grid(*self.controls.values()), player, self.status, self.picture)
        self.place()

    def place(self, _: Any = None) -> None:
        """Place the starts and evolve from them."""
        chosen = {name: control.value for name, control in self.controls.items()}
        mirrored, text = chosen.pop("landscape") == "mirrored", chosen.pop("points").strip()
        drawn = {name: chosen.pop(name) for name in ("starts", "first", "second", "spread")}
        for name in drawn:
            self.controls[name].disabled = bool(text)  # the points say it all
        try:
            points = read_points(text) if text else starting_points(**drawn, seed=chosen["seed"])
            self.journey = journey(points, mirrored=mirrored, **chosen)
        except Exception as error:
            self.journey = pd.DataFrame()
            self.status.value, self.picture.value = red_line(error), ""
            return
        self._frames = frames(chosen["generations"])
        self._canvas = Canvas(mirrored)
        last = len(self._frames) - 1
        self.play.max = self.slider.max = last
        self.play.value = self.slider.value = 0 if front_end() == "notebook" else last
        self.draw()

    def draw(self) -> None:
        """Show the slider's frame."""
        if self.journey.empty:
            return
        frame = self._frames[self.slider.value]
        self.picture.value = side_by_side({PICTURE: self._canvas.png(self.journey, frame)})
        self.status.value = line(describe(self.journey, frame))


def starting_points(starts: int, first: float, second: float, spread: float, seed: int) -> list[tuple[float, float]]:
    """Draw starting points uniformly from a square around a centre, inside the picture."""
    draws = 2 * torch.rand(starts, 2, generator=torch.Generator().manual_seed(seed)) - 1
    points = (torch.tensor([first, second]) + spread * draws).clamp(-RANGE, RANGE)
    return [(w1, w2) for w1, w2 in points.tolist()]


def read_points(text: str) -> list[tuple[float, float]]:
    """Read starting points as one writes them: "-1 2, 0.5 0.5"."""
    points = []
    for part in filter(str.strip, re.split(r"[,;\n]", text)):
        try:
            first, second = map(float, part.split())
        except ValueError:
            raise InputError(f"points: {part.strip()!r} is not two numbers, as in -1 2, 0.5 0.5") from None
        if not (math.isfinite(first) and math.isfinite(second) and max(abs(first), abs(second)) <= RANGE):
            raise InputError(f"points: {part.strip()!r} is out of the picture, give numbers in -{RANGE:g} to {RANGE:g}")
        points.append((first, second))
    if not 2 <= len(points) <= MOST:
        raise InputError(f"points: {len(points)} given, must be 2 to {MOST}")
    return points


def frames(generations: int) -> list[Frame]:
    """List what is played: parents train, children are born and train, the fittest survive; and so on."""
    one = [*product(("parent", "child"), range(0, STEPS + 1, EVERY)), ("survival", STEPS)]
    return [(number, phase, step) for number in range(1, generations + 1) for phase, step in one]


def describe(paths: pd.DataFrame, frame: Frame) -> str:
    """Say a frame in words."""
    number, phase, step = frame
    if phase == "survival":
        rows = paths[(paths["generation"] == number) & (paths["step"] == STEPS) & paths["survived"]]
        what = f"the fittest survive, {(rows['role'] == 'child').sum()} of {len(rows)} are children"
    elif phase == "child" and step == 0:
        what = "children are born: each coordinate from one of two parents, or mutated"
    else:
        what = f"{'parents' if phase == 'parent' else 'children'} train, step {step} of {STEPS}"
    return f"Generation {number} of {paths['generation'].max()}: {what}."


class Canvas:
    """The landscape, drawn once, and the frames on it: some milliseconds each, so that they can be played."""

    def __init__(self, mirrored: bool) -> None:
        figure = Figure(figsize=(5, 5.3), dpi=120)
        self._canvas = FigureCanvasAgg(figure)
        self._ax: Any = figure.add_axes((0.135, 0.19, 0.85, 0.8))
        contours(self._ax, mirrored, margin=0.1)
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
        star: dict[str, Any] = {"marker": "*", "s": 1000, "facecolor": "none", "edgecolor": BEST, "linewidth": 1.8}
        self._star = self._ax.scatter(well, well, **star, animated=True)
        self._canvas.draw()
        self._background = self._canvas.copy_from_bbox(figure.bbox)

    def png(self, paths: pd.DataFrame, frame: Frame) -> bytes:
        """Draw one frame, as a file."""
        number, phase, step = frame
        now = paths[paths["generation"] == number]
        parents, children = (now[now["role"] == role] for role in ("parent", "child"))
        gone = phase == "survival"
        drawn = self._paths(parents[parents["step"] <= (step if phase == "parent" else STEPS)], COLOURS["parent"], gone)
        if phase != "parent":
            drawn += self._paths(children[children["step"] <= step], COLOURS["child"], gone)
        if phase == "child":
            drawn.append(self._lineage(parents, children))
        self._canvas.restore_region(self._background)
        for artist in drawn:
            self._ax.draw_artist(artist)
            artist.remove()
        self._ax.draw_artist(self._star)
        buffer = io.BytesIO()
        Image.fromarray(np.asarray(self._canvas.buffer_rgba())).convert("RGB").save(buffer, "png", compress_level=3)
        return buffer.getvalue()

    def _paths(self, rows: pd.DataFrame, colour: str, gone: bool) -> list[Any]:
        """Draw lines, where they begin and where they are now; when `gone`, those that do not survive are pale."""
        ordered = rows.sort_values(["unit", "step"])
        points = ordered[["w1", "w2"]].to_numpy().reshape(ordered["unit"].nunique(), -1, 2)
        alive = ordered.groupby("unit")["survived"].first().to_numpy()
        drawn: list[Any] = []
        for some, alpha in ((points[~alive], 0.25 if gone else 1.0), (points[alive], 1.0)):
            lines = LineCollection(list(some), colors=colour, linewidths=1.8, alpha=alpha)
            drawn.append(self._ax.add_collection(lines, autolim=False))
            drawn.append(self._ax.scatter(*some[:, 0].T, s=36, facecolor="none", edgecolor="#444444", alpha=alpha))
            drawn.append(self._ax.scatter(*some[:, -1].T, s=60, color=colour, edgecolor="white", alpha=alpha))
        if gone:
            drawn.append(self._ax.scatter(*points[alive, -1].T, s=190, facecolor="none", edgecolor=BEST, linewidth=2))
        return drawn

    def _lineage(self, parents: pd.DataFrame, children: pd.DataFrame) -> Any:
        """Draw dotted lines from where the parents ended to where their child begins."""
        ends = parents[parents["step"] == STEPS].set_index("unit")[["w1", "w2"]]
        born = children[children["step"] == 0]
        lines = [
            np.stack([ends.loc[parent], place])
            for name in ("parent_a", "parent_b")
            for parent, place in zip(born[name], born[["w1", "w2"]].to_numpy(), strict=True)
        ]
        dotted = LineCollection(lines, colors=COLOURS["child"], linestyles=":", linewidths=1.2)
        return self._ax.add_collection(dotted, autolim=False)
