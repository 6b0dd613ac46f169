"""Section 4.1: many starting points, crossover and mutation on a function of two variables (figure 2a).

The paper draws its function without a formula. Ours is a sum of two tilted double wells, f(w) = h(w_1) + h(w_2)
with h(w) = (w^2 - 1)^2 - 0.3 w: four minima, of which (GLOBAL, GLOBAL) is the lowest. It is the kind that crossover
needs, in which each coordinate can be good by itself. `mirrored` turns it over, f(-w): then the values that mutation
draws, from U[0, 1), lie in the wrong wells.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor, nn

from gadam.config import GadamConfig
from gadam.evolution.loop import evolve
from gadam.paper import seeds_of
from gadam.paper.claims import Arms, Claim, paired
from gadam.paper.drawing import BLUE, GREEN, ORANGE, add_legend
from gadam.paper.runs import Row, Run, run_function
from gadam.paper.statistics import proportion_interval
from gadam.paper.units import by_seed, independent, where
from gadam.paper.verdicts import Evidence
from gadam.result import Callback, Generation
from gadam.training.shards import Step

TILT = 0.3
GLOBAL = 1.035_579  # where h has its lowest minimum
LOCAL = -0.960_150  # and its other one
RANGE = 2.0  # starting points are drawn from [-RANGE, RANGE]^2
LANDSCAPES = ("as drawn", "mirrored")
STEPS = 60
SETTINGS: dict[str, Any] = {
    "learning_rate": 0.05, "batch_size": 1, "validation_size": 1, "mode": "vectorised", "shards": 1, "steps": STEPS,
}  # fmt: skip
NOTHING = (torch.zeros(1, 1), torch.zeros(1))
"""Data for a model that needs none."""

TRIALS = {"smoke": 4, "quick": 8, "standard": 200, "paper": 400}
PORTIONS = 4  # in which the trials on a landscape are computed
G, K = 4, 3
RATES = (0.0, 0.3)  # the paper's 0.01 would change one of eight entries in a dozen generations
BUDGETS = {"Adam, 1 start": STEPS, "Adam, g starts": G * STEPS} | dict.fromkeys(
    ("GADAM, p = 0", "GADAM, p = 0.3", "Adam, 2gK starts"), 2 * G * K * STEPS
)
"""Gradient steps of each method: GADAM without and with mutation, between its controls."""
MARGIN = 5.0  # percentage points of success that matter least; ours, for the paper gives no numbers here


def landscape(first: Any, second: Any, mirrored: bool = False) -> Any:
    """The function f(w_1, w_2), on arrays or tensors."""
    sign = -1 if mirrored else 1
    return sum((w**2 - 1) ** 2 - sign * TILT * w for w in (first, second))


class Point(nn.Module):
    """A unit model that is nothing but two variables; its output is the value of the landscape.

    `start` is where it starts; None draws from [-RANGE, RANGE]^2.
    """

    def __init__(self, mirrored: bool = False, start: tuple[float, float] | None = None) -> None:
        super().__init__()
        self.mirrored = mirrored
        self.w = nn.Parameter(RANGE * (2 * torch.rand(2) - 1) if start is None else torch.tensor(start))

    def forward(self, inputs: Tensor) -> Tensor:  # noqa: D102
        height: Tensor = landscape(self.w[0], self.w[1], self.mirrored)
        return height.expand(len(inputs))


def value(output: Tensor, _: Tensor) -> Tensor:
    """The loss of a `Point`: its value."""
    return output.mean()


def arm(place: str) -> str:
    """Name the arm of the trials on a landscape."""
    return f"section41/{place}"


def runs(profile: str, data: str) -> list[Run]:
    """List the trials behind table section41_success, in portions. They need no dataset, whatever `data` says."""
    planned = []
    for (mirrored, place), portion in itertools.product(enumerate(LANDSCAPES), range(PORTIONS)):
        seeds = list(seeds_of(profile, TRIALS[profile])[portion::PORTIONS])
        label = f"{len(seeds)} trials, {place} ({portion + 1}/{PORTIONS})"
        config = {"mirrored": bool(mirrored), "seeds": seeds}
        planned.append(Run(success, config, label=label, arm=arm(place), priority=2))
    return planned


def picture_runs(profile: str, data: str) -> list[Run]:
    """Return the run behind figure2a, the same in every profile."""
    return [Run(trajectories, {}, label="trajectories of the engine", priority=2)]


RUNS = (runs, picture_runs)


@run_function("section41/success")
def success(mirrored: bool, seeds: list[int]) -> list[Row]:
    """Tell which methods find the global minimum from the same starting points, trial by trial."""
    make_model = partial(Point, mirrored)
    rows: list[Row] = []
    for seed in seeds:
        config = GadamConfig(population_size=2 * G * K, seed=seed, **SETTINGS)
        alone = independent(make_model, NOTHING, config, loss=value)
        found = _in_global_well(alone.parameters["w"], mirrored)
        outcomes = {"Adam, 1 start": found[0], "Adam, g starts": found[:G].any(), "Adam, 2gK starts": found.any()}
        for rate in RATES:
            config = GadamConfig(population_size=G, generations=K, mutation_rate=rate, seed=seed, **SETTINGS)
            result = evolve(make_model, NOTHING, config, loss=value, progress=False)
            outcomes[f"GADAM, p = {rate:g}"] = _in_global_well(result.population.parameters["w"], mirrored)[0]
        rows += [
            {"landscape": LANDSCAPES[mirrored], "method": method, "trial": seed, "found": int(hit)}
            for method, hit in outcomes.items()
        ]
    return rows


def _in_global_well(points: Tensor, mirrored: bool) -> Tensor:
    """Tell whether points [n, 2] have come to the global minimum, [n] bool."""
    target = -GLOBAL if mirrored else GLOBAL
    return ((points - target).abs() < 0.2).all(dim=1)


@run_function("section41/trajectories")
def trajectories() -> list[Row]:
    """Return the paths of figure2a: the units' positions at every step by panel, and where each child came from."""
    starts = [(-0.5, -1.6), (1.7, -0.6), (-1.8, 0.9), (0.6, 1.8), (-0.2, -0.4), (0.4, -1.9)]
    paths = journey(starts, generations=1, seed=0, mutation_rate=0.0)
    parents = paths[paths["role"] == "parent"]  # Adam, before any evolution
    panels = [
        parents[parents["unit"] == 0].assign(panel="one start", seed=0),
        parents.assign(panel="many starts", seed=0),
        _first_success("crossover", [(0.3, -1.5), (-1.5, 0.3)], rate=0.0),
        _first_success("mutation", [(0.4, -0.5), (1.7, -1.6), (0.5, -1.7), (1.6, -0.4)], rate=0.3),
    ]
    rows = pd.concat(panels).fillna({"parent_a": -1, "parent_b": -1}).astype({"parent_a": int, "parent_b": int})
    columns = ["panel", "seed", "role", "unit", "parent_a", "parent_b", "step", "w1", "w2"]
    return [{str(name): cell for name, cell in row.items()} for row in rows[columns].to_dict("records")]


def _first_success(panel: str, starts: list[tuple[float, float]], rate: float) -> pd.DataFrame:
    """Return the paths of the first seed for which a child ends in the global minimum: the parents' and that child's.

    Table section41_success says how often that happens.
    """
    for seed in itertools.count():
        paths = journey(starts, generations=1, seed=seed, mutation_rate=rate)
        ends = where(paths, role="child", step=STEPS)
        hits = _in_global_well(torch.tensor(ends[["w1", "w2"]].to_numpy()), False)
        if hits.any():
            unit = int(hits.int().argmax())
            break
    return paths[(paths["role"] == "parent") | (paths["unit"] == unit)].assign(panel=panel, seed=seed)


def journey(starts: Sequence[tuple[float, float]], *, mirrored: bool = False, **settings: Any) -> pd.DataFrame:
    """Evolve points from at least two starts, and tell where every unit is at each step of each generation.

    `settings` are of `GadamConfig`, beside `SETTINGS`: generations, seed, mutation_rate, …

    Returns:
        Tidy: generation, role, unit, parent_a, parent_b (missing for parents), survived, step (0 where it starts),
        w1, w2.
    """
    watch, remaining = _Watch(starts), iter(starts)
    evolve(
        lambda: Point(mirrored, next(remaining)), NOTHING,
        GadamConfig(population_size=len(starts), **SETTINGS, **settings), loss=value, callbacks=[watch],
        record=watch.on_step, progress=False, device="cpu", executor=1,
    )  # fmt: skip
    return pd.concat(watch.frames, ignore_index=True)


class _Watch(Callback):
    """Collects where every unit is at each step."""

    def __init__(self, starts: Sequence[tuple[float, float]]) -> None:
        self.frames: list[pd.DataFrame] = []
        self._paths = {"parent": [torch.tensor(starts)], "child": []}

    def on_step(self, step: Step) -> None:
        self._paths[step.role].append(step.parameters["w"].clone())

    def on_generation(self, generation: Generation) -> None:
        self._paths["child"].insert(0, generation.newborn.parameters["w"])
        columns = ["generation", "role", "unit", "parent_a", "parent_b", "survived"]
        for role, path in self._paths.items():
            own = generation.history.loc[generation.history["role"] == role, columns]
            first, second = torch.cat(path).T.tolist()
            steps = np.repeat(np.arange(len(path)), len(own))
            self.frames.append(pd.concat([own] * len(path)).assign(step=steps, w1=first, w2=second))
        self._paths = {"parent": [generation.next.parameters["w"].clone()], "child": []}


def table(rows: pd.DataFrame, arms: Arms) -> pd.DataFrame:
    """Share of trials that found the global minimum, with a 95 % interval (Wilson), in percent."""
    lines = []
    for place, method in itertools.product(LANDSCAPES, BUDGETS):
        found = list(_found(rows, place, method).values())
        share, low, high = (100 * one for one in proportion_interval(int(sum(found)), len(found)))
        lines.append({
            "landscape": place, "method": method, "found, %": share, "low": low, "high": high,
            "trials": len(found), "portions": arms.count(arm(place)), "gradient steps": BUDGETS[method],
        })  # fmt: skip
    return pd.DataFrame(lines)


def _found(rows: pd.DataFrame, place: str, method: str) -> dict[int, float]:
    """By trial, whether a method found the global minimum, 0 or 1."""
    rows = rows.reindex(columns=["landscape", "method", "trial", "found"])
    return by_seed(where(rows, landscape=place, method=method), "found", "trial")


def claims(rows: pd.DataFrame) -> list[Claim]:
    """The three claims of Section 4.1 on each landscape, as differences of success in percentage points."""
    compared = (
        ("More starting points have a larger chance of the global optimum", "Adam, g starts", "Adam, 1 start"),
        ("Crossover lets GADAM leave local optima (beside the same starts without evolution)",
         "GADAM, p = 0", "Adam, g starts"),
        ("Mutation lets GADAM leave local optima (beside crossover alone)", "GADAM, p = 0.3", "GADAM, p = 0"),
    )  # fmt: skip
    return [
        Claim(
            text=f"{text}; landscape {place}", exhibit="section41_success", kind="greater",
            evidence=partial(_gained, rows, place, ours, other), arms=[arm(place)], paper="greater", margin=MARGIN,
            data="none", repetitions=f"{rows['trial'].nunique()} trials" if len(rows) else "",
        )
        for place, (text, ours, other) in itertools.product(LANDSCAPES, compared)
    ]  # fmt: skip


def _gained(rows: pd.DataFrame, place: str, ours: str, other: str) -> Evidence:
    """Differences of success by trial, and two trials more, one for and one against, much as Agresti and Min advise.

    Without them the interval would have no width where all trials agree, and hold too seldom where nearly all do.
    """
    found = paired(_found(rows, place, ours), _found(rows, place, other))
    return replace(found, values=tuple(100.0 * one for one in (*found.values, 1, -1)))


def figure2a(rows: pd.DataFrame) -> Figure:
    """Draw figure 2 of Section 4.1: four panels of paths on the landscape."""
    figure, axes = plt.subplots(2, 2, figsize=(9.6, 9.4), layout="constrained", sharex=True, sharey=True)
    titles = {
        "one start": "(a) Adam, one starting point",
        "many starts": "(b) GADAM, several starting points",
        "crossover": "(c) Crossover: $w_1$ from B, $w_2$ from A",
        "mutation": "(d) Mutation: out of a local minimum",
    }
    for axis, (panel, title) in zip(axes.flat, titles.items(), strict=True):
        if len(rows):
            contours(axis)
            _draw_paths(axis, rows[rows["panel"] == panel])
        axis.set_title(title)
        axis.label_outer()
    mark = partial(Line2D, [], [], linestyle="")
    handles = {
        "start": mark(marker="o", color="#555555", markersize=7),
        "path of a parent (Adam)": Line2D([], [], color=BLUE),
        "newborn child": mark(marker="o", color=ORANGE, markersize=8),
        "path of a child": Line2D([], [], color=ORANGE),
        "global minimum": mark(marker="*", color=GREEN, markersize=14),
        "local minimum": mark(marker="x", color="black", markersize=8),
    }
    add_legend(figure, handles, below=True)
    return figure


def contours(axis: Axes, mirrored: bool = False, margin: float = 0.0) -> None:
    """Draw the landscape and its minima, the global one a star, with so much beyond RANGE on every side."""
    edge = RANGE + margin
    grid = np.linspace(-edge, edge, 201)
    heights = landscape(grid[None, :], grid[:, None], mirrored)
    # Levels crowd at the minima, where the paths end.
    levels = heights.min() + np.ptp(heights) * np.linspace(0, 1, 16) ** 2.2
    # A picture inside the SVG: as paths the contours would be two megabytes.
    axis.contourf(grid, grid, heights, levels=levels, cmap="Greys", alpha=0.55).set_rasterized(True)
    axis.contour(grid, grid, heights, levels=levels, colors="#888888", linewidths=0.4).set_rasterized(True)
    low, best = (-LOCAL, -GLOBAL) if mirrored else (LOCAL, GLOBAL)
    axis.scatter([low, low, best], [low, best, low], marker="x", s=60, zorder=2, color="black", linewidth=1.5)
    axis.scatter(best, best, marker="*", s=260, zorder=2, color=GREEN, linewidth=1.5, edgecolor="white")
    axis.set(xlabel="$w_1$", ylabel="$w_2$", aspect="equal")
    axis.grid(visible=False)


def _draw_paths(axis: Axes, rows: pd.DataFrame) -> None:
    """Draw where units went; of a child also arrows from its parents' ends, A and B, to where it was born, C."""
    for (role, _), path in rows.sort_values("step").groupby(["role", "unit"]):
        child = role == "child"
        colour, face = (ORANGE, ORANGE) if child else (BLUE, "#555555")
        w1, w2 = path["w1"].to_numpy(), path["w2"].to_numpy()
        axis.plot(w1, w2, color=colour, linewidth=2, zorder=4 if child else 3)
        axis.scatter(w1[0], w2[0], s=60, color=face, zorder=5, edgecolor="white")
        axis.scatter(w1[-1], w2[-1], s=28, color=colour, zorder=5)
        if not child:
            continue
        ends = where(rows, role="parent", step=STEPS).set_index("unit")[["w1", "w2"]]
        parents = ends.loc[list(path[["parent_a", "parent_b"]].iloc[0])]
        parents = parents[~parents.round(0).duplicated()]  # those that ended in one minimum are one point
        write = partial(axis.annotate, xytext=(-16, -16), textcoords="offset points", weight="bold", fontsize=13)
        arrow = {"arrowstyle": "-|>", "color": ORANGE, "linestyle": ":", "linewidth": 1.5}
        for name, place in zip("AB", parents.itertuples(index=False, name=None), strict=False):
            write(name, place)
            axis.annotate("", (w1[0], w2[0]), place, arrowprops=arrow, zorder=4)
        write("C", (w1[0], w2[0]))
