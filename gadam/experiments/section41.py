"""Section 4.1: many starting points, crossover and mutation on a function of two variables (figure 2a).

The paper draws its function without a formula. Ours is a sum of two tilted double wells, f(w) = h(w_1) + h(w_2)
with h(w) = (w^2 - 1)^2 - 0.3 w: four minima, of which (GLOBAL, GLOBAL) is the lowest. It is the kind that crossover
needs, in which each coordinate can be good by itself. `mirrored` turns it over, f(-w): then the values that mutation
draws, from U[0, 1), lie in the wrong wells.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from gadam.config import GadamConfig
from gadam.evolution import evolve
from gadam.experiments.runs import Run
from gadam.experiments.statistics import mean_interval, proportion_interval
from gadam.population import Population
from gadam.result import Callback, Generation
from gadam.shards import Data, Shard
from gadam.training import Trainer
from gadam.vectorised import Programs

Rows = list[dict[str, Any]]

TILT = 0.3
GLOBAL = 1.035_579  # where h has its lowest minimum
LOCAL = -0.960_150  # and its other one
RANGE = 2.0  # starting points are drawn from [-RANGE, RANGE]^2
SETTINGS: dict[str, Any] = {
    "learning_rate": 0.05, "batch_size": 1, "validation_size": 1, "mode": "vectorised", "shards": 1,
}  # fmt: skip
STEPS = 60

PROFILES = {"smoke": {"trials": 4}, "quick": {"trials": 24}, "paper": {"trials": 400}}
G, K = 4, 3
RATES = (0.0, 0.3)
BUDGETS = {
    "Adam, 1 start": STEPS,
    "Adam, g starts": G * STEPS,
    "GADAM, p = 0": 2 * G * K * STEPS,
    "GADAM, p = 0.3": 2 * G * K * STEPS,
    "Adam, 2gK starts": 2 * G * K * STEPS,
}
"""Gradient steps of each method: GADAM with g = 4 and K = 3, without and with mutation, between its controls. The
paper's rate of 0.01 would change one of eight entries in a dozen generations."""


def landscape(first: Any, second: Any, mirrored: bool = False) -> Any:
    """The function f(w_1, w_2), on arrays or tensors."""
    sign = -1 if mirrored else 1
    return sum((w**2 - 1) ** 2 - sign * TILT * w for w in (first, second))


class Point(nn.Module):
    """A unit model that is nothing but two variables; its output is the value of the landscape.

    Args:
        mirrored: which landscape.
        start: where it starts; None draws from [-RANGE, RANGE]^2.
    """

    def __init__(self, mirrored: bool = False, start: tuple[float, float] | None = None) -> None:
        super().__init__()
        self.mirrored = mirrored
        self.w = nn.Parameter(RANGE * (2 * torch.rand(2) - 1) if start is None else torch.tensor(start))

    def forward(self, inputs: Tensor) -> Tensor:  # noqa: D102
        value: Tensor = landscape(self.w[0], self.w[1], self.mirrored)
        return value.expand(len(inputs))


def value(output: Tensor, _: Tensor) -> Tensor:
    """The loss of a `Point`: its value."""
    return output.mean()


NOTHING = (torch.zeros(1, 1), torch.zeros(1))
"""Data for a model that needs none."""


def runs(profile: str, data: str = "auto") -> list[Run]:
    """The trials behind table section41_success, in portions. They need no dataset, whatever `data` says."""
    trials, portions = PROFILES[profile]["trials"], 4
    planned = []
    for mirrored, portion in itertools.product((False, True), range(portions)):
        seeds = list(range(portion, trials, portions))
        label = f"{len(seeds)} trials, {'mirrored' if mirrored else 'as drawn'} ({portion + 1}/{portions})"
        planned.append(Run(f"{__name__}:success", {"mirrored": mirrored, "seeds": seeds}, label=label))
    return planned


def picture_runs() -> list[Run]:
    """The run behind figure2a."""
    return [Run(f"{__name__}:trajectories", {}, label="trajectories of the engine")]


def success(mirrored: bool, seeds: list[int]) -> Rows:
    """Which methods find the global minimum from the same starting points, trial by trial."""
    make_model = partial(Point, mirrored)
    programs = Programs(make_model(), value)
    rows: Rows = []
    for seed in seeds:
        found = _in_global_well(_adam(make_model, 2 * G * K, seed, programs), mirrored)
        outcomes = {
            "Adam, 1 start": found[0],
            "Adam, g starts": found[:G].any(),
            "Adam, 2gK starts": found.any(),
        }
        for rate in RATES:
            config = GadamConfig(
                population_size=G, generations=K, steps=STEPS, mutation_rate=rate, seed=seed, **SETTINGS
            )
            result = evolve(make_model, NOTHING, config, loss=value, progress=False)
            outcomes[f"GADAM, p = {rate:g}"] = _in_global_well(result.population.parameters["w"], mirrored)[0]
        rows += [
            {"landscape": "mirrored" if mirrored else "as drawn", "method": method, "trial": seed, "found": int(hit)}
            for method, hit in outcomes.items()
        ]
    return rows


def trajectories() -> Rows:
    """The paths of figure2a: for each panel the units' positions at every step, and where each child came from."""
    starts = [(-0.5, -1.6), (1.7, -0.6), (-1.8, 0.9), (0.6, 1.8), (-0.2, -0.4), (0.4, -1.9)]
    crossed, mutated = [(0.3, -1.5), (-1.5, 0.3)], [(0.4, -0.5), (1.7, -1.6), (0.5, -1.7), (1.6, -0.4)]
    return [
        *_parents(_paths("one start", starts, 0, rate=0.0), 1),
        *_parents(_paths("many starts", starts, 0, rate=0.0), len(starts)),
        *_first_success("crossover", crossed, rate=0.0),
        *_first_success("mutation", mutated, rate=0.3),
    ]


def _parents(paths: Rows, units: int) -> Rows:
    """The first parents alone: Adam, before any evolution."""
    return [row for row in paths if row["role"] == "parent" and row["unit"] < units]


def _first_success(panel: str, starts: list[tuple[float, float]], rate: float) -> Rows:
    """The paths of the first seed for which a child ends in the global minimum; section41_success says how often."""
    for seed in range(1_000):
        paths = _paths(panel, starts, seed, rate)
        ends = [row for row in paths if row["role"] == "child" and row["step"] == STEPS]
        for end in ends:
            if _in_global_well(torch.tensor([[end["w1"], end["w2"]]]), False)[0]:
                return [row for row in paths if row["role"] == "parent" or row["unit"] == end["unit"]]
    raise RuntimeError(f"{panel}: no child in 1,000 seeds reached the global minimum")


def _paths(panel: str, starts: list[tuple[float, float]], seed: int, rate: float) -> Rows:
    """One generation from given starts."""
    remaining = iter(starts)
    config = GadamConfig(
        population_size=len(starts), generations=1, steps=STEPS, mutation_rate=rate, seed=seed, **SETTINGS
    )
    seen: list[tuple[int, Tensor]] = []
    callback = _Keep()
    evolve(
        lambda: Point(start=next(remaining)), NOTHING, config, loss=value, callbacks=[callback], progress=False,
        record=lambda step: seen.append((step.number, step.parameters["w"].clone())),
    )  # fmt: skip
    assert callback.generation is not None
    generation = callback.generation
    begins = [torch.tensor(starts), generation.newborn.parameters["w"]]
    parents, children = ([(0, begin), *seen[part * STEPS : (part + 1) * STEPS]] for part, begin in enumerate(begins))
    rows: Rows = []
    for role, path in (("parent", parents), ("child", children)):
        for step, points in path:
            for unit, point in enumerate(points.tolist()):
                a, b = generation.pairs[unit].tolist() if role == "child" else (-1, -1)
                rows.append({
                    "panel": panel, "seed": seed, "role": role, "unit": unit, "parent_a": a, "parent_b": b,
                    "step": step, "w1": point[0], "w2": point[1],
                })  # fmt: skip
    return rows


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Share of trials that found the global minimum, with a 95 % interval (Wilson), in percent."""
    lines = []
    for (place, method), group in _cells(rows):
        share, low, high = (100 * bound for bound in proportion_interval(int(group["found"].sum()), len(group)))
        lines.append({
            "landscape": place, "method": method, "found, %": share, "low": low, "high": high, "trials": len(group),
            "gradient steps": BUDGETS[method],
        })  # fmt: skip
    return pd.DataFrame(lines)


def claims(rows: pd.DataFrame) -> pd.DataFrame:
    """The three claims of Section 4.1, as differences of success paired by trial, in percentage points."""
    found = {cell: group.set_index("trial")["found"] for cell, group in _cells(rows)}
    compared = {
        "More starting points have a larger chance of the global optimum": ("Adam, g starts", "Adam, 1 start"),
        "Crossover lets GADAM leave local optima (beside the same starts without evolution)": (
            "GADAM, p = 0",
            "Adam, g starts",
        ),
        "Mutation lets GADAM leave local optima (beside crossover alone)": ("GADAM, p = 0.3", "GADAM, p = 0"),
    }
    lines = []
    for place, (text, (ours, other)) in itertools.product(LANDSCAPES, compared.items()):
        mean, low, high = mean_interval((100 * (found[place, ours] - found[place, other])).tolist())
        lines.append({
            "claim": f"{text}; landscape {place}", "section": "section41", "exhibit": "section41_success",
            "kind": "greater", "paper": "greater", "ours": mean, "low": low, "high": high,
            "interval": "points, paired by trial, 95 % (t)", "seeds": len(found[place, ours]),
            "data": "none",
        })  # fmt: skip
    return pd.DataFrame(lines)


LANDSCAPES = ("as drawn", "mirrored")


class _Keep(Callback):
    """Keeps the last generation."""

    generation: Generation | None = None

    def on_generation(self, generation: Generation) -> None:
        self.generation = generation


def _adam(make_model: Callable[[], nn.Module], units: int, seed: int, programs: Programs) -> Tensor:
    """Where independent Adam runs end that start where GADAM's initial units of the same seed do, [units, 2]."""
    population = Population.make(make_model, units, seed=seed)
    batch = ((NOTHING[0],), NOTHING[1])
    config = GadamConfig(population_size=units, steps=STEPS, seed=seed, **SETTINGS)
    shard = Shard(population, range(units), "parent", 1)
    some = torch.zeros(1, dtype=torch.int64)
    trained = Trainer(config, value, programs).train(shard, Data(batch, batch, some, some))
    return trained.population.parameters["w"]


def _in_global_well(points: Tensor, mirrored: bool) -> Tensor:
    """Whether points [n, 2] have come to the global minimum, [n] bool."""
    target = -GLOBAL if mirrored else GLOBAL
    return ((points - target).abs() < 0.2).all(dim=1)


def _cells(rows: pd.DataFrame) -> list[tuple[tuple[str, str], pd.DataFrame]]:
    groups = {(str(key[0]), str(key[1])): group for key, group in rows.groupby(["landscape", "method"])}
    return [((place, method), groups[place, method]) for place in LANDSCAPES for method in BUDGETS]
