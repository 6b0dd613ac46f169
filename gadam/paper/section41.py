"""Section 4.1: many starting points, crossover and mutation on a function of two variables (figure 2a).

The paper draws its function without a formula. Ours is a sum of two tilted double wells, f(w) = h(w_1) + h(w_2)
with h(w) = (w^2 - 1)^2 - 0.3 w: four minima, of which (GLOBAL, GLOBAL) is the lowest. It is the kind that crossover
needs, in which each coordinate can be good by itself. `mirrored` turns it over, f(-w): then the values that mutation
draws, from U[0, 1), lie in the wrong wells.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from gadam.config import GadamConfig
from gadam.evolution.loop import evolve
from gadam.paper import seeds_of
from gadam.paper.claims import Arms, Claim, paired
from gadam.paper.runs import Rows, Run, run_function
from gadam.paper.statistics import proportion_interval
from gadam.paper.verdicts import Evidence
from gadam.population import Population
from gadam.result import Callback, Generation
from gadam.tracing.programs import Programs
from gadam.training.shards import Data, Shard
from gadam.training.trainer import Trainer

TILT = 0.3
GLOBAL = 1.035_579  # where h has its lowest minimum
LOCAL = -0.960_150  # and its other one
RANGE = 2.0  # starting points are drawn from [-RANGE, RANGE]^2
SETTINGS: dict[str, Any] = {
    "learning_rate": 0.05, "batch_size": 1, "validation_size": 1, "mode": "vectorised", "shards": 1,
}  # fmt: skip
STEPS = 60

PROFILES = {"smoke": {"trials": 4}, "quick": {"trials": 24}, "standard": {"trials": 200}, "paper": {"trials": 400}}
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
LANDSCAPES = ("as drawn", "mirrored")
MARGIN = 5.0
"""Percentage points of success that matter least. Ours: the paper gives no numbers here."""


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


def arm(place: str) -> str:
    """What the portions of the trials on a landscape are repetitions of."""
    return f"section41/{place}"


def runs(profile: str, data: str = "auto") -> list[Run]:
    """The trials behind table section41_success, in portions. They need no dataset, whatever `data` says."""
    trials, portions = PROFILES[profile]["trials"], 4
    planned = []
    for mirrored, portion in itertools.product((False, True), range(portions)):
        seeds = list(seeds_of(profile, trials)[portion::portions])
        place = LANDSCAPES[mirrored]
        label = f"{len(seeds)} trials, {place} ({portion + 1}/{portions})"
        config = {"mirrored": mirrored, "seeds": seeds}
        planned.append(Run(success, config, label=label, arm=arm(place), priority=2))
    return planned


def picture_runs() -> list[Run]:
    """The run behind figure2a."""
    return [Run(trajectories, {}, label="trajectories of the engine", priority=2)]


@run_function("section41/success")
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
            {"landscape": LANDSCAPES[mirrored], "method": method, "trial": seed, "found": int(hit)}
            for method, hit in outcomes.items()
        ]
    return rows


@run_function("section41/trajectories")
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


def table(rows: pd.DataFrame, arms: Arms) -> pd.DataFrame:
    """Share of trials that found the global minimum, with a 95 % interval (Wilson), in percent."""
    lines = []
    for place, method in itertools.product(LANDSCAPES, BUDGETS):
        found = list(_found(rows, place, method).values())
        share, low, high = proportion_interval(sum(found), len(found)) if found else (np.nan,) * 3
        lines.append({
            "landscape": place, "method": method, "found, %": 100 * share, "low": 100 * low, "high": 100 * high,
            "trials": len(found), "portions": arms.count(arm(place)), "gradient steps": BUDGETS[method],
        })  # fmt: skip
    return pd.DataFrame(lines)


def claims(rows: pd.DataFrame) -> list[Claim]:
    """The three claims of Section 4.1 on each landscape, as differences of success in percentage points."""
    compared = {
        "More starting points have a larger chance of the global optimum": ("Adam, g starts", "Adam, 1 start"),
        "Crossover lets GADAM leave local optima (beside the same starts without evolution)": (
            "GADAM, p = 0",
            "Adam, g starts",
        ),
        "Mutation lets GADAM leave local optima (beside crossover alone)": ("GADAM, p = 0.3", "GADAM, p = 0"),
    }
    return [
        Claim(
            text=f"{text}; landscape {place}", section="section41", exhibit="section41_success", kind="greater",
            evidence=partial(_gained, rows, place, *methods), arms=[arm(place)], paper="greater", margin=MARGIN,
            data="none", repetitions=f"{rows['trial'].nunique()} trials" if len(rows) else "",
        )
        for place, (text, methods) in itertools.product(LANDSCAPES, compared.items())
    ]  # fmt: skip


def _gained(rows: pd.DataFrame, place: str, ours: str, other: str) -> Evidence:
    """Differences of success by trial, and two trials more, one for and one against, much as Agresti and Min advise.

    Without them the interval would have no width where all trials agree, and hold too seldom where nearly all do.
    """
    found = paired(_found(rows, place, ours), _found(rows, place, other))
    return replace(found, values=tuple(100.0 * one for one in (*found.values, 1, -1)))


def _found(rows: pd.DataFrame, place: str, method: str) -> dict[int, int]:
    """By trial, whether a method found the global minimum, 0 or 1."""
    if rows.empty:
        return {}
    own = rows[(rows["landscape"] == place) & (rows["method"] == method)]
    return dict(zip(own["trial"].tolist(), own["found"].tolist(), strict=True))


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


RUNS = (runs, picture_runs)
