"""Section 4.3: the bytes that workers exchange in a generation, against O(k · g · |w|).

Threads share memory: nothing moves. A process or a server is sent what is the same for all of an evolution once, the
rows above all, and then units: `Counting` does that and counts. Parents and children are trained, each
unit goes out and comes back, so parameters alone are 2 · 2g · |w| floats of four bytes in a generation (`floor`).

The paper's k is "the required training epochs": steps of Adam. Nothing is exchanged between two steps, so the measured
exponent of k is a test of "exist merely in the crossover step". O(k · g · |w|) is then a bound that is not tight.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import nn

from gadam.config import GadamConfig
from gadam.datasets import load
from gadam.evolution.loop import evolve
from gadam.models import lenet5, mlp
from gadam.paper import section54, seeds_of
from gadam.paper.claims import Claim
from gadam.paper.drawing import BLUE, GREEN, GREY, ORANGE, RED, add_legend, labelled
from gadam.paper.runs import Row, Run, arm_runs, run_function
from gadam.paper.statistics import mean_interval
from gadam.paper.units import Part, source_of
from gadam.paper.verdicts import Evidence
from gadam.randomness import stream

T = TypeVar("T")

FACTORS = {"g": ("units g", "g"), "entries": ("entries |w|", "width"), "steps": ("Adam steps k", "steps")}
"""What is varied alone around `BASE` -> its name for a reader, and the setting that varies it."""
BASE = {"g": 4, "width": 64, "steps": 1}
SIZES: dict[str, dict[str, tuple[int, ...]]] = {
    "smoke": {"g": (2, 4, 8), "width": (32, 64, 128), "steps": (1, 4, 16)},
    "quick": {"g": (2, 4, 8, 16), "width": (64, 128, 256, 512), "steps": (1, 4, 16, 64)},
    "standard": {"g": (2, 4, 8, 16, 32), "width": (64, 128, 256, 512, 1_024), "steps": (1, 8, 64, 512)},
    "paper": {"g": (2, 4, 8, 16, 32), "width": (64, 128, 256, 512, 1_024), "steps": (1, 8, 64, 512, 5_000)},
}
SEEDS = 2  # bytes do not depend on the seed; two show it
MARGIN = 0.1  # of a power
GENERATION_STEPS = 8_000  # of a unit on MNIST: 80,000 along a line of descent, five times parents and children


def problems_of(profile: str) -> tuple[str, ...]:
    """Name the problems of Section 5 on which bytes are counted, with g = 10."""
    return ("yeast",) if profile == "smoke" else ("yeast", "letter", "mnist")


def arm(name: str) -> str:
    """Name the arm of a problem, or that which the seeds of a point of the growth curves are repetitions of."""
    return f"section43/{name}"


def runs(profile: str, data: str) -> list[Run]:
    """List a run per point of the growth curves and seed; they need no dataset."""
    points = {name: point for factor in FACTORS for name, point in _points(profile, factor).items()}  # the base once
    planned, seeds = [], seeds_of(profile, SEEDS)
    for name, point in points.items():
        planned += arm_runs(growing, arm(name), seeds, point, label=f"bytes at {name}", priority=2)
    return planned


def problem_runs(profile: str, data: str) -> list[Run]:
    """List the runs behind table section43_bytes."""
    planned = []
    for name in problems_of(profile):
        label = f"bytes of a generation on {name.upper()}"
        planned += arm_runs(problem, arm(name), None, {}, name, data, label=label, priority=2)
    return planned


RUNS = (runs, problem_runs)


def _points(profile: str, factor: str) -> dict[str, dict[str, int]]:
    """Return the points of a curve, by their names."""
    _, varied = FACTORS[factor]
    points = [BASE | {varied: size} for size in SIZES[profile][varied]]
    return {", ".join(f"{name} = {size}" for name, size in point.items()): point for point in points}


@run_function("section43/growing", version=5)
def growing(g: int, width: int, steps: int, seed: int) -> list[Row]:
    """Count the bytes of one generation of MLPs with two hidden layers of some width, on 500 generated rows."""
    draw = stream("cpu", seed)
    rows = torch.randn(500, 16, generator=draw), torch.randint(10, (500,), generator=draw)
    counted = exchanged(partial(mlp, 16, 10, (width, width)), rows, g=g, steps=steps, batch_size=16, seed=seed)
    return [{"width": width, "seed": seed, "data": "none", **counted}]


@run_function("section43/problem", version=5)
def problem(dataset: str, data: Any) -> list[Row]:
    """Count the bytes of one generation of g = 10 units on a problem of Section 5; one step, since none sends any."""
    rows = load(dataset, data=data)
    images = len(rows.feature_shape) > 1
    counted = exchanged(lenet5 if images else section54.maker(rows), rows.train, g=10, steps=1, batch_size=128, seed=0)
    about = {"dataset": dataset, "model": "LeNet-5" if images else "MLP", "rows": len(rows.train[1])}
    return [{**about, "data": rows.source, **counted}]


def exchanged(
    make_model: Callable[[], nn.Module], rows: Part, *, g: int, steps: int, batch_size: int, seed: int
) -> dict[str, int]:
    """Count the bytes of one generation in which every unit is a shard, trained by a process of its own.

    Returns:
        g, steps, entries (|w|), messages, and the bytes: population (shards out and back, with all that goes with
        them), floor; and what each of g workers is sent once, before the first generation: train_data (the rows to
        train and judge on), rest (the model, the loss and the settings).
    """
    counting = Counting()
    config = GadamConfig(
        population_size=g, generations=1, steps=steps, batch_size=batch_size, validation_size=128, seed=seed, shards=g,
        mode="loop",
    )  # fmt: skip
    result = evolve(make_model, rows, config, executor=counting, device="cpu", progress=False)
    entries = sum(tensor[0].numel() for tensor in result.population.parameters.values())
    row_bytes = sum(tensor.nbytes for tensor in rows)
    return {
        "g": g, "steps": steps, "entries": entries, "messages": counting.messages, "population": counting.population,
        "train_data": g * row_bytes, "rest": g * (counting.common - row_bytes), "floor": 2 * 2 * g * entries * 4,
    }  # fmt: skip


class Counting(Executor):
    """Runs every task at once on what came out of pickle, as a process of its own would, and counts.

    `population` are the bytes of tasks and answers, `messages` their number; `common` are the bytes that a worker is
    sent once.
    """

    def __init__(self) -> None:
        self.messages = self.population = self.common = 0

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Call `gadam.parallel.workers.work` on copies of its arguments; the future holds a copy of its answer."""
        token, common, task = args
        self.common = Path(common).stat().st_size
        task = pickle.dumps((*pickle.loads(task)[:-1], math.inf))  # seconds: no report before the end, however slow
        future: Future[T] = Future()
        future.set_result(self._sent(fn(token, common, self._sent(task))))
        return future

    def _sent(self, thing: T) -> T:
        message = pickle.dumps(thing, pickle.HIGHEST_PROTOCOL)
        self.messages += 1
        self.population += len(message)
        return pickle.loads(message)


def table(rows: pd.DataFrame, profile: str) -> pd.DataFrame:
    """What one generation of each problem exchanges, in megabytes; empty cells where it was not counted."""
    names = list(problems_of(profile))
    columns = ["dataset", "model", "entries", "g", "floor", "population", "train_data", "rest", "data"]
    frame = rows.reindex(columns=columns).set_index("dataset").reindex(names)
    mega = frame[["floor", "population", "train_data", "rest"]].astype(float) / 1e6
    return pd.DataFrame({
        "problem": [name.upper() for name in names], "model": frame["model"], "|w|": frame["entries"].astype("Int64"),
        "g": frame["g"].astype("Int64"), "threads, MB": 0.0, "16 g |w|, MB": mega["floor"],
        "population, MB": mega["population"], "population / (16 g |w|)": mega["population"] / mega["floor"],
        "training rows, once, MB": mega["train_data"], "rest, once, MB": mega["rest"], "data": frame["data"],
    }).reset_index(drop=True)  # fmt: skip


def curve(rows: pd.DataFrame, factor: str) -> pd.DataFrame:
    """Average the bytes over the seeds at the points at which one factor varies, by its size."""
    others = [name for name in BASE if name != FACTORS[factor][1]]
    rows = rows.reindex(columns=[*others, factor, *LINES])
    chosen = rows[(rows[others] == pd.Series(BASE)[others]).all(axis=1)]
    return chosen.groupby(factor)[list(LINES)].mean()


def slopes(rows: pd.DataFrame, factor: str) -> list[float]:
    """By which power the bytes of the population grow from each point of a curve to the next.

    Bytes are counted, not drawn: seeds repeat them exactly, and only from point to point can a power vary.
    """
    points = curve(rows, factor)["population"]
    powers = np.diff(np.log(points.to_numpy(float))) / np.diff(np.log(points.index.to_numpy(float)))
    # A slope of nothing is nothing, and not the last bits of a difference, which differ between machines.
    return [round(power, 9) for power in powers.tolist()]


def claims(rows: pd.DataFrame, problems: pd.DataFrame, profile: str) -> list[Claim]:
    """O(k · g · |w|), a factor at a time, "within" the margin of the power that the paper's sentence says; and "minor".

    The paper does not say beside what the costs are minor. We put them beside those of the usual way to train one
    network on several machines, which exchanges a gradient of |w| numbers at each step.
    """
    said = {
        "g": ("Communication grows linearly with g (exponent − 1)", 1.0),
        "entries": ("Communication grows linearly with |w| (exponent − 1)", 1.0),
        "steps": ("Communication exists merely between generations, whatever the steps k (exponent of k)", 0.0),
    }
    claim = partial(Claim, exhibit="section43_bytes")
    growth = [
        claim(
            text=f"{text}; bytes of the population in a generation, from each point to the next", kind="within",
            evidence=partial(Evidence, tuple(slopes(rows, factor)), (power,)),
            arms=[arm(point) for point in _points(profile, factor)], paper=0.0, margin=MARGIN, data="none",
        )
        for factor, (text, power) in said.items()
    ]  # fmt: skip
    names = problems_of(profile)
    minor = claim(
        text="Communication costs are minor; ours: the population's bytes as a share, in %, of those of a gradient "
        f"at each step, on {', '.join(names).upper()}, with {GENERATION_STEPS:,} steps a generation",
        kind="open", evidence=partial(_beside_gradients, problems), arms=[arm(name) for name in names], paper="minor",
        data=source_of(problems),
    )  # fmt: skip
    return [*growth, minor]


def _beside_gradients(problems: pd.DataFrame) -> tuple[float, float, float, str]:
    gradients = 2 * GENERATION_STEPS * problems["g"] * problems["entries"] * 4
    share = 100 * problems["population"] / gradients
    return share.mean(), share.min(), share.max(), "least and most of the problems"


LINES: dict[str, tuple[str, Any, str]] = {
    "population": ("units, out and back (measured)", BLUE, "o-"),
    "train_data": ("training rows, once to each worker", ORANGE, "s-"),
    "rest": ("model and settings, once to each worker", GREEN, "^-"),
    "floor": ("16 g |w|: parameters alone", GREY, "--"),
}


def figure_growth(rows: pd.DataFrame) -> Figure:
    """Draw the bytes of a generation on logarithmic axes, a panel per factor, with the exponent of the units' bytes."""
    figure, axes = plt.subplots(1, len(FACTORS), figsize=(12, 4.6), layout="constrained", sharey=True)
    for axis, (factor, (label, _)) in zip(axes, FACTORS.items(), strict=True):
        points, powers = curve(rows, factor), slopes(rows, factor)
        axis.set(xlabel=label, title="units")
        if points.empty:
            continue
        for name, (text, colour, style) in LINES.items():
            axis.plot(points.index, points[name], style, color=colour, label=text, markersize=6)
        if factor == "steps":
            bound = points["floor"].iloc[0] * points.index / points.index[0]
            axis.plot(points.index, bound, ":", color=RED, label="16 k g |w|: the paper's O(k g |w|)")
        if len(powers) > 1:
            exponent, low, high = mean_interval(powers)
            axis.set_title(f"units: exponent {exponent:z.2f} [{low:z.2f}, {high:z.2f}]")
        axis.set(xscale="log", yscale="log")
        axis.set_xticks(points.index, [f"{size:,}" for size in points.index], rotation=30)
        axis.minorticks_off()
    axes[0].set_ylabel("bytes per generation, or once")
    add_legend(figure, labelled(axes[-1]))
    return figure
