"""Section 4.3: the bytes that workers exchange in a generation, against O(k · g · |w|).

Threads share memory: nothing moves. A process or a server is sent what is the same for all of an evolution once, the
rows above all (`gadam.remote`), and then units: `Counting` does that and counts. Parents and children are trained, each
unit goes out and comes back, so parameters alone are 2 · 2g · |w| floats of four bytes in a generation (`floor`).

The paper's k is "the required training epochs": steps of Adam. Nothing is exchanged between two steps, so the measured
exponent of k is a test of "exist merely in the crossover step". O(k · g · |w|) is then a bound that is not tight.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import nn

from gadam.config import GadamConfig
from gadam.datasets import load, locate
from gadam.evolution import evolve
from gadam.experiments.runs import Run
from gadam.experiments.statistics import LEVEL
from gadam.experiments.units import Part
from gadam.models import MLP_HIDDEN, lenet5, mlp
from gadam.randomness import stream

Rows = list[dict[str, Any]]
T = TypeVar("T")

PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {"g": (2, 4, 8), "width": (32, 64, 128), "steps": (1, 4, 16), "problems": ("yeast",)},
    "quick": {
        "g": (2, 4, 8, 16), "width": (64, 128, 256, 512), "steps": (1, 4, 16, 64),
        "problems": ("yeast", "letter", "mnist"),
    },
    "paper": {
        "g": (2, 4, 8, 16, 32), "width": (64, 128, 256, 512, 1_024), "steps": (1, 8, 64, 512, 5_000),
        "problems": ("yeast", "letter", "mnist"),
    },
}  # fmt: skip
"""Each factor is varied alone, around `BASE`; the problems are those of Section 5, with g = 10."""

FACTORS = {"g": "units g", "entries": "entries |w|", "steps": "Adam steps k"}
BASE = {"g": 4, "width": 64, "steps": 1}
SEEDS = 2  # bytes do not depend on the seed; two show it
MARGIN = 0.1
GENERATION_STEPS = 8_000  # of a unit on MNIST: 80,000 along a line of descent, five times parents and children
MLP, LENET = "MLP", "LeNet-5"


def runs(profile: str, data: str) -> list[Run]:
    """A run per point of the growth curves and seed; they need no dataset."""
    budget = PROFILES[profile]
    points = [BASE | {factor: size} for factor in BASE for size in budget[factor]]
    # Each once: the base lies on every curve.
    points = [dict(point) for point in dict.fromkeys(tuple(point.items()) for point in points)]
    return [
        Run(f"{__name__}:growing", {**point, "seed": seed}, label=f"bytes at {_named(point)} · seed {seed}")
        for point in points for seed in range(SEEDS)
    ]  # fmt: skip


def problem_runs(profile: str, data: str) -> list[Run]:
    """The runs behind table section43_bytes."""
    planned = []
    for name in PROFILES[profile]["problems"]:
        found = locate(name, data=data)  # type: ignore[arg-type]
        config = {"dataset": name, "data": found.choice}
        planned.append(Run(f"{__name__}:problem", config, found.hash, f"bytes of a generation on {name.upper()}"))
    return planned


def growing(g: int, width: int, steps: int, seed: int) -> Rows:
    """The bytes of one generation of MLPs with two hidden layers of some width, on 500 generated rows."""
    draw = stream("cpu", seed)
    rows = torch.randn(500, 16, generator=draw), torch.randint(10, (500,), generator=draw)
    counted = exchanged(partial(mlp, 16, 10, (width, width)), rows, g=g, steps=steps, batch_size=16, seed=seed)
    return [{"width": width, "seed": seed, "data": "none", **counted}]


def problem(dataset: str, data: Any) -> Rows:
    """The bytes of one generation of g = 10 units on a problem of Section 5; one step, since none exchanges any."""
    rows = load(dataset, data=data)
    images = len(rows.feature_shape) > 1
    make_model: Callable[[], nn.Module] = (
        lenet5 if images else partial(mlp, rows.feature_shape[0], rows.class_count, MLP_HIDDEN[dataset])
    )
    counted = exchanged(make_model, rows.train, g=10, steps=1, batch_size=128, seed=0)
    model = LENET if images else MLP
    return [{"dataset": dataset, "model": model, "rows": len(rows.train[1]), "data": rows.source, **counted}]


def exchanged(
    make_model: Callable[[], nn.Module], rows: Part, *, g: int, steps: int, batch_size: int, seed: int
) -> dict[str, int]:
    """Bytes of one generation in which every unit is a shard, trained by a process of its own.

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
    """Runs every task at once on what came out of pickle, as a process of its own would, and counts the bytes.

    Attributes:
        messages: tasks and answers.
        population: their bytes.
        common: bytes of what a worker is sent once.
    """

    def __init__(self) -> None:
        self.messages = self.population = self.common = 0

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Call `gadam.remote.work` on copies of its arguments; the future holds a copy of its answer."""
        token, common, task = args
        self.common = Path(common).stat().st_size
        task, task_bytes = _copied(task)
        answer, answer_bytes = _copied(fn(token, common, task))
        self.messages += 2
        self.population += task_bytes + answer_bytes
        future: Future[T] = Future()
        future.set_result(answer)
        return future


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """What one generation of the problems exchanges, in megabytes."""
    frame = rows.copy()
    mega = {name: frame[name] / 1e6 for name in ("floor", "population", "train_data", "rest")}
    return pd.DataFrame({
        "problem": frame["dataset"].str.upper(), "model": frame["model"], "|w|": frame["entries"], "g": frame["g"],
        "threads, MB": 0.0, "16 g |w|, MB": mega["floor"], "population, MB": mega["population"],
        "population / (16 g |w|)": mega["population"] / mega["floor"], "training rows, once, MB": mega["train_data"],
        "rest, once, MB": mega["rest"],
        "data": frame["data"],
    })  # fmt: skip


def curve(rows: pd.DataFrame, factor: str) -> pd.DataFrame:
    """The points at which one factor varies and the others are those of `BASE`; a column `size` is the factor's."""
    others = [name for name in BASE if name != ("width" if factor == "entries" else factor)]
    chosen = rows[(rows[others] == pd.Series(BASE)[others]).all(axis=1)]
    return chosen.assign(size=chosen[factor]).sort_values(["size", "seed"]).reset_index(drop=True)


def exponents(rows: pd.DataFrame) -> pd.DataFrame:
    """By which power the bytes of the population grow with each factor: slope of logarithms, 95 % interval (t)."""
    lines = []
    for factor, label in FACTORS.items():
        # One point per size: seeds repeat it exactly and would only make the interval too narrow.
        points = curve(rows, factor).groupby("size")["population"].mean()
        x, y = np.log(points.index.to_numpy(float)), np.log(points.to_numpy(float))
        slope, low, high = _slope(x, y)
        lines.append({
            "factor": factor, "label": label, "exponent": slope, "low": low, "high": high, "points": len(x),
        })  # fmt: skip
    return pd.DataFrame(lines)


def claims(rows: pd.DataFrame, problems: pd.DataFrame) -> pd.DataFrame:
    """O(k · g · |w|), a factor at a time, "within" the margin of the power that the paper's sentence says; and "minor".

    The paper does not say beside what the costs are minor. We put them beside those of the usual way to train one
    network on several machines, which exchanges a gradient of |w| numbers at each step.
    """
    said = {
        "g": ("Communication grows linearly with g (exponent − 1)", 1.0),
        "entries": ("Communication grows linearly with |w| (exponent − 1)", 1.0),
        "steps": ("Communication exists merely between generations, whatever the steps k (exponent of k)", 0.0),
    }
    lines = []
    for line in exponents(rows).to_dict("records"):
        text, power = said[line["factor"]]
        ours, low, high = (line[name] - power for name in ("exponent", "low", "high"))
        lines.append({
            "claim": f"{text}; bytes of the population in a generation", "section": "section43",
            "exhibit": "section43_bytes", "kind": "within", "paper": MARGIN, "ours": ours, "low": low, "high": high,
            "interval": f"slope of {line['points']} points, 95 % (t)", "budget": None, "seeds": SEEDS, "data": "none",
        })  # fmt: skip
    gradients = 2 * GENERATION_STEPS * problems["g"] * problems["entries"] * 4
    share = 100 * problems["population"] / gradients
    lines.append({
        "claim": "Communication costs are minor; ours: the population's bytes as a share, in %, of those of a gradient "
        f"at each step, on {', '.join(problems['dataset'].str.upper())}, with {GENERATION_STEPS:,} steps a generation",
        "section": "section43", "exhibit": "section43_bytes", "kind": "open", "paper": "minor", "ours": share.mean(),
        "low": share.min(), "high": share.max(), "interval": "least and most of the problems", "budget": None,
        "seeds": 1, "data": "stand-in" if "stand-in" in set(problems["data"]) else "real",
    })  # fmt: skip
    return pd.DataFrame(lines)


def _named(point: dict[str, int]) -> str:
    return ", ".join(f"{name} = {size}" for name, size in point.items())


def _slope(x: Any, y: Any) -> tuple[float, float, float]:
    """Least squares, with the 95 % interval (t) of the slope; three points or more."""
    away = x - x.mean()
    slope = float(away @ y / (away @ away))
    left = y - y.mean() - slope * away
    half = float(stats.t.ppf(0.5 + LEVEL / 2, len(x) - 2) * np.sqrt(left @ left / (len(x) - 2) / (away @ away)))
    # A slope of nothing is nothing, and not the last bits of a sum, which differ between machines.
    return round(slope, 9), round(slope - half, 9), round(slope + half, 9)


def _copied(thing: T) -> tuple[T, int]:
    """What another process gets to see of a thing, and the bytes that it takes to tell."""
    message = pickle.dumps(thing, pickle.HIGHEST_PROTOCOL)
    return pickle.loads(message), len(message)
