"""The landscape of Section 4.1 (figure2a), alive: place starting points, and play the generations step by step."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import partial
from typing import Any

import ipywidgets  # type: ignore[import-untyped]
import pandas as pd
import torch
from torch import Tensor

from gadam.config import GadamConfig, InputError
from gadam.display import front_end
from gadam.evolution.loop import evolve
from gadam.paper.section41 import NOTHING, RANGE, SETTINGS, STEPS, Point, value
from gadam.playground.canvas import Canvas, Frame
from gadam.playground.widgets import Panel, grid, line, told
from gadam.result import Callback, Generation

EVERY = 4  # steps between two frames
INTERVAL = 100  # milliseconds of a frame
MOST = 30  # starts
PICTURE = "Contours of the landscape with the paths of parents and children"


def landscape_panel(profile: str = "smoke") -> LandscapePanel:
    """A panel to play on the landscape; where there is no front end it stands at the last frame.

    Args:
        profile: smoke has 3 generations, quick 5, standard and paper 10.

    Raises:
        InputError: there is no such profile.
    """
    generations = {"smoke": 3, "quick": 5, "standard": 10, "paper": 10}
    if profile not in generations:
        raise InputError(f"profile={profile!r} is not a profile; there are {', '.join(generations)}")
    return LandscapePanel(generations[profile])


class LandscapePanel(Panel):
    """The widgets; what they show is computed anew when a setting changes, and then only drawn.

    Attributes:
        controls: the widgets of the settings, by name.
        slider: which frame is shown.
        journey: see `journey`; empty where the settings are not allowed.
    """

    def __init__(self, generations: int = 3) -> None:
        super().__init__()
        number, slide = ipywidgets.BoundedIntText, partial(ipywidgets.FloatSlider, continuous_update=False, step=0.1)
        self.controls = {
            "landscape": ipywidgets.Dropdown(options=["as drawn", "mirrored"], description="landscape"),
            "starts": number(4, min=2, max=MOST, description="starts g"),
            "generations": number(generations, min=1, max=20, description="generations K"),
            "first": slide(0.0, min=-RANGE, max=RANGE, description="centre, w1"),
            "second": slide(0.0, min=-RANGE, max=RANGE, description="centre, w2"),
            "spread": slide(RANGE, min=0.0, max=RANGE, description="spread"),
            "mutation_rate": slide(0.3, min=0.0, max=1.0, description="mutation rate p"),
            "mutation": ipywidgets.Dropdown(options=["uniform", "normal"], description="mutation"),
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
        for name in ("starts", "first", "second", "spread"):
            self.controls[name].disabled = bool(text)  # the points say it all
        try:
            centre = chosen.pop("first"), chosen.pop("second")
            drawn = starting_points(chosen.pop("starts"), centre, chosen.pop("spread"), chosen["seed"])
            points = read_points(text) if text else drawn
            self.journey = journey(points, mirrored=mirrored, **chosen)
        except Exception as error:
            self.journey = pd.DataFrame()
            self.status.value, self.picture.value = told(error), ""
            return
        self._frames = frames(chosen["generations"])
        self._drawn: dict[int, bytes] = {}
        self._canvas = Canvas(mirrored)
        last = len(self._frames) - 1
        self.play.max = self.slider.max = last
        self.play.value = self.slider.value = 0 if front_end() == "notebook" else last
        self.draw()

    def draw(self) -> None:
        """Show the slider's frame."""
        if self.journey.empty:
            return
        place = self.slider.value
        if place not in self._drawn:
            self._drawn[place] = self._canvas.png(self.journey, self._frames[place])
        self.show({PICTURE: self._drawn[place]})
        self.status.value = line(describe(self.journey, self._frames[place]))


class _Watch(Callback):
    """Collects where every unit is at each step."""

    def __init__(self) -> None:
        self.steps: list[Tensor] = []
        self.frames: list[pd.DataFrame] = []
        self._origin: Tensor | None = None

    def on_start(self, config: GadamConfig, population: Any) -> None:
        self._origin = population.parameters["w"].clone()

    def on_generation(self, generation: Generation) -> None:
        half = len(self.steps) // 2
        for role, origin, path in (
            ("parent", self._origin, self.steps[:half]),
            ("child", generation.newborn.parameters["w"], self.steps[half:]),
        ):
            assert origin is not None
            rows = generation.history[generation.history["role"] == role]
            known = rows[["generation", "role", "unit", "parent_a", "parent_b", "survived"]]
            for step, points in enumerate([origin, *path]):
                here = points.tolist()
                first, second = zip(*here, strict=True)
                self.frames.append(known.assign(step=step, w1=first, w2=second))
        self.steps, self._origin = [], generation.next.parameters["w"].clone()


def starting_points(starts: int, centre: tuple[float, float], spread: float, seed: int) -> list[tuple[float, float]]:
    """Starting points drawn uniformly from a square around a centre, inside the picture."""
    draws = 2 * torch.rand(starts, 2, generator=torch.Generator().manual_seed(seed)) - 1
    points = (torch.tensor(centre) + spread * draws).clamp(-RANGE, RANGE)
    return [(first, second) for first, second in points.tolist()]


def read_points(text: str) -> list[tuple[float, float]]:
    """Starting points as one writes them: "-1 2, 0.5 0.5".

    Raises:
        InputError: it cannot be read, there are too few or too many, or one is out of the picture.
    """
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


def journey(
    starts: Sequence[tuple[float, float]],
    *,
    mirrored: bool = False,
    generations: int = 3,
    seed: int = 0,
    **settings: Any,
) -> pd.DataFrame:
    """Where every unit is at each step of each generation, by the engine.

    Args:
        starts: the initial units, at least 2.
        mirrored: which landscape.
        generations: K.
        seed: of the engine's streams.
        settings: others of `GadamConfig`.

    Returns:
        Tidy: generation, role, unit, parent_a, parent_b, survived, step (0 where it starts), w1, w2.
    """
    remaining, watch = iter(starts), _Watch()
    config = GadamConfig(
        population_size=len(starts), generations=generations, steps=STEPS, seed=seed, **SETTINGS, **settings
    )
    evolve(
        lambda: Point(mirrored, next(remaining)), NOTHING, config, loss=value, callbacks=[watch], progress=False,
        device="cpu", executor=1, record=lambda step: watch.steps.append(step.parameters["w"].clone()),
    )  # fmt: skip
    return pd.concat(watch.frames, ignore_index=True)


def frames(generations: int) -> list[Frame]:
    """What is played: parents train, children are born and train, the fittest survive; and so on."""
    steps = range(0, STEPS + 1, EVERY)
    return [
        frame
        for number in range(1, generations + 1)
        for frame in (
            *((number, role, step) for role in ("parent", "child") for step in steps),
            (number, "survival", STEPS),
        )
    ]


def describe(paths: pd.DataFrame, frame: Frame) -> str:
    """A frame in words."""
    number, phase, step = frame
    what = {"parent": f"parents train, step {step} of {STEPS}", "child": f"children train, step {step} of {STEPS}"}
    if phase == "child" and step == 0:
        what["child"] = "children are born: each coordinate from one of two parents, or mutated"
    if phase == "survival":
        rows = paths[(paths["generation"] == number) & (paths["step"] == STEPS) & paths["survived"]]
        what["survival"] = f"the fittest survive, {(rows['role'] == 'child').sum()} of {len(rows)} are children"
    return f"Generation {number} of {paths['generation'].max()}: {what[phase]}."
