"""LeNet-5 on MNIST by GADAM and by each optimizer of Table 1: the runs behind Sections 5.1 and 5.2."""

from __future__ import annotations

import functools
import threading
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from gadam.config import GadamConfig
from gadam.datasets import Dataset, load
from gadam.evolution.loop import evolve_seeds
from gadam.models import lenet5
from gadam.paper import seeds_of
from gadam.paper.runs import Rows, Run, RunFunction, dataset_config, run_function, threads
from gadam.paper.units import Part, first_rows, held_out, independent, kept, scorer, whole
from gadam.population import Population
from gadam.result import Callback, Generation
from gadam.training.shards import Step

DATASET = "mnist"
RATIO = 1.12
"""From one point of a training-loss curve to the next, in steps; each is the mean since the one before."""


PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {
        "seeds": 2, "g": 3, "K": 1, "longest": 2, "sizes": {2: 2, 3: 2}, "steps": 6, "batch_size": 16,
        "validation_size": 64, "train_rows": 1_500, "test_rows": 500, "held": 250, "checkpoints": 1,
    },
    "quick": {
        "seeds": 3, "g": 6, "K": 2, "longest": 4, "sizes": {2: 3, 4: 3, 6: 3, 8: 3}, "steps": 20, "batch_size": 32,
        "validation_size": 256, "train_rows": None, "test_rows": 5_000, "held": 1_000, "checkpoints": 1,
    },
    "standard": {
        "seeds": 5, "g": 10, "K": 5, "longest": 10, "sizes": {10: 5}, "steps": 8_000, "batch_size": 128,
        "validation_size": 1_024, "train_rows": None, "test_rows": None, "held": 5_000, "checkpoints": 5,
    },
    "tenth": {
        "seeds": 10, "g": 10, "K": 5, "longest": 10, "sizes": {2: 3, 5: 3, 10: 10, 20: 3}, "steps": 800,
        "batch_size": 128, "validation_size": 1_024, "train_rows": None, "test_rows": None, "held": 5_000,
        "checkpoints": 5,
    },
    "paper": {
        "seeds": 10, "g": 10, "K": 5, "longest": 10, "sizes": dict.fromkeys(range(2, 21, 2), 10), "steps": 8_000,
        "batch_size": 128, "validation_size": 1_024, "train_rows": None, "test_rows": None, "held": 5_000,
        "checkpoints": 5,
    },
}  # fmt: skip
"""`longest`: generations of figure 3; `sizes`: populations of figure 4, and their seeds; `held`: training images for
choosing among `checkpoints`, evenly spaced and the same for every method. "tenth" is no profile of its own: "standard"
has two scales, the paper's budget and a tenth of it."""

PAPER_STEPS = 80_000
SCALES = {"standard": ("standard", "tenth")}


def scales(profile: str) -> tuple[str, ...]:
    """The keys of `PROFILES` that a profile computes, the deepest first."""
    return SCALES.get(profile, (profile,))


def seeds(scale: str, count: int) -> range:
    """The reported seeds of a scale, the first so many."""
    profile = next((name for name, several in SCALES.items() if scale in several), scale)
    return seeds_of(profile, count)


def depth(scale: str) -> int:
    """Steps of a unit along its longest line of descent in K generations, and of a unit without evolution."""
    return 2 * int(PROFILES[scale]["K"]) * int(PROFILES[scale]["steps"])


def budget_share(scale: str, steps: int) -> float:
    """The share of Section 5.1's training that so many steps are: 80,000 batches of 128 images."""
    return steps * int(PROFILES[scale]["batch_size"]) / (PAPER_STEPS * 128)


@functools.lru_cache(maxsize=1)
def images(dataset: str, data: Any) -> Dataset:
    """The dataset, parsed once by a process: a worker has many runs on it."""
    return load(dataset, data=data)


def checkpoints(scale: str) -> list[int]:
    """The depths at which every method is looked at, whole generations of GADAM's, the last at the end."""
    budget = PROFILES[scale]
    chosen = {round(budget["K"] * (place + 1) / budget["checkpoints"]) for place in range(budget["checkpoints"])}
    return [2 * number * budget["steps"] for number in sorted(chosen)]


def gadam_arm(scale: str, size: int, learning_rate: float) -> str:
    """What the seeds of `gadam_run` are repetitions of."""
    return f"mnist/{scale}/GADAM, g = {size}/{learning_rate:g}"


def gadam_run(scale: str, data: str, seed: int, size: int, generations: int, learning_rate: float) -> Run:
    """LeNet-5 by GADAM."""
    budget = PROFILES[scale]
    settings = {
        "population_size": size, "generations": generations, "steps": budget["steps"], "learning_rate": learning_rate,
        "validation_size": budget["validation_size"], "seed": seed,
    }  # fmt: skip
    label = f"MNIST · GADAM, g = {size}, K = {generations}, {budget['steps']:,} steps each · seed {seed}"
    also = {"arm": gadam_arm(scale, size, learning_rate), "priority": 7 if scale == "standard" else 4}
    steps = 2 * size * generations * budget["steps"]
    return _run(lenet_by_gadam, scale, data, label, steps, settings, **also)


def optimizer_arm(scale: str, method: str, learning_rate: float) -> str:
    """What the seeds of `optimizer_run` are repetitions of."""
    return f"mnist/{scale}/{method}/{learning_rate:g}"


def optimizer_run(scale: str, data: str, method: str, priority: int = 3, **settings: Any) -> Run:
    """LeNet-5s by one optimizer, as deep as GADAM's in K generations."""
    rate = settings["learning_rate"]
    steps = settings["population_size"] * depth(scale)
    label = f"MNIST · {method} at {rate:g}, {depth(scale):,} steps · seed {settings['seed']}"
    also = {"method": method, "looks": checkpoints(scale), "steps": depth(scale)}
    arm = optimizer_arm(scale, method, rate)
    return _run(lenets_by_optimizer, scale, data, label, steps, also | settings, arm=arm, priority=priority)


LONG = 500_000
"""Steps over all units from which on a run gets all cores: it would take one of them hours."""


def _run(
    function: RunFunction, scale: str, data: str, label: str, steps: int, settings: dict[str, Any], **also: Any
) -> Run:
    budget = PROFILES[scale]
    rows, digest = dataset_config(DATASET, data)
    shared = {name: budget[name] for name in ("train_rows", "test_rows", "held", "batch_size")}
    config = {**rows, **shared, **settings}
    return Run(function, config, digest, label, wide=steps > LONG, **also)


def lenets_by_gadam(
    dataset: str, data: Any, seeds: list[int], train_rows: int | None, test_rows: int | None, held: int, **settings: Any
) -> list[Rows]:
    """LeNet-5 by GADAM. For each seed rows of kind "unit" (the history), "curve" (training loss), "checkpoint", "kept".

    A checkpoint is the fittest unit of a generation, as survival on the generation's new batch ranks it (Section 3.4);
    kept is what the last generation is good for, see `gadam.paper.beyond`. Each row has `run_steps`, the steps of
    a generation. The first k generations of a run are those of a run of k generations: streams know nothing of K.
    """
    parts = _parts(dataset, data, train_rows, test_rows, held)
    config = GadamConfig(**settings)
    curves = {seed: _Curve(config, generations=config.generations) for seed in seeds}
    checkpoints = {seed: _Checkpoints(parts) for seed in seeds}
    results = evolve_seeds(
        lenet5, parts.train, config, seeds=seeds, callbacks=lambda seed: [checkpoints[seed]],
        record=lambda seed: curves[seed], progress=False, executor=threads(),
    )  # fmt: skip
    about = {
        "method": "GADAM", "g": config.population_size, "learning_rate": config.learning_rate,
        "run_steps": config.steps, "data": parts.source,
    }  # fmt: skip
    found = []
    for seed, result in zip(seeds, results, strict=True):
        history = whole(result).history.drop(columns=["seconds"]).astype(object)
        units = history.where(history.notna(), None).to_dict("records")
        rows: Rows = [{"kind": "unit", **{str(name): value for name, value in row.items()}} for row in units]
        of_the_last = {"generation": config.generations, "test_rows": len(parts.test[1])}
        rows.append({"kind": "kept", **of_the_last, **kept(result, parts.held, parts.test)})
        everything = (*rows, *curves[seed].rows(), *checkpoints[seed].rows)
        found.append([row | about | {"seed": seed} for row in everything])
    return found


@run_function("mnist/gadam", together=lenets_by_gadam)
def lenet_by_gadam(dataset: str, data: Any, seed: int, **settings: Any) -> Rows:
    """`lenets_by_gadam` for one seed."""
    return lenets_by_gadam(dataset, data, [seed], **settings)[0]


@run_function("mnist/optimizer")
def lenets_by_optimizer(
    dataset: str,
    data: Any,
    method: str,
    seed: int,
    train_rows: int | None,
    test_rows: int | None,
    held: int,
    looks: list[int],
    dropout: float,
    **settings: Any,
) -> Rows:
    """Independent LeNet-5s by one optimizer: rows of kind "curve" and "checkpoint" for each unit.

    Args:
        dataset: "mnist".
        data: "real" or "standin".
        method: what the rows call it.
        seed: of the units' streams; with GADAM's seed they start as its initial units do.
        train_rows: training images; None takes all.
        test_rows: test images, the first ones; None takes all.
        held: training images held out for choosing a checkpoint.
        looks: the steps after which a unit is evaluated.
        dropout: of the fully connected layers.
        settings: of `GadamConfig`; `steps` are all the steps of a unit, `run_steps` of each row.
    """
    parts = _parts(dataset, data, train_rows, test_rows, held)
    config = GadamConfig(seed=seed, **settings)
    make_model = partial(lenet5, dropout)
    found = _Looks(config, parts, make_model(), looks)
    independent(make_model, parts.train, config, record=found, executor=threads())
    about = {
        "method": method, "seed": seed, "learning_rate": config.learning_rate, "run_steps": config.steps,
        "data": parts.source,
    }  # fmt: skip
    looked = sorted(found.checkpoints.rows, key=lambda row: (row["unit"], row["step"]))  # whichever thread was first
    return [row | about for row in (*found.curve.rows(by_unit=True), *looked)]


class _Parts:
    """The images of a run: for training, for choosing a checkpoint, for the test."""

    def __init__(self, images: Dataset, held: int, test_rows: int | None) -> None:
        # The same split for every seed, so that seeds differ in what the paper's runs differ in; a stand-in is small.
        self.train, self.held = held_out(images.train, min(held, len(images.train[1]) // 5), seed=0)
        self.test: Part = (images.test[0][:test_rows], images.test[1][:test_rows])
        self.source = images.source
        self.score = scorer(lenet5())


class _Curve:
    """The loss of every unit on its training batch at every step, thinned; every curve has the same points."""

    def __init__(self, config: GadamConfig, generations: int | None = None) -> None:
        """Of generations with two roles each, or of units without evolution if that is None."""
        self._steps = config.steps
        self._every = config.steps if generations is None else 2 * config.steps  # the end of each is a point too
        self._losses = torch.full((self._every * (generations or 1), config.population_size), torch.nan)

    def __call__(self, step: Step) -> None:
        if self._losses.device != step.losses.device:
            self._losses = self._losses.to(step.losses.device)
        roles = 2 * max(0, step.generation - 1) + (step.role == "child")
        self._losses[roles * self._steps + step.number - 1, step.units.start : step.units.stop] = step.losses

    def state_dict(self) -> dict[str, Any]:
        return {"losses": self._losses}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._losses = state["losses"]

    def rows(self, by_unit: bool = False) -> Rows:
        losses = self._losses.double().cpu().numpy()
        spaced = np.floor(RATIO ** np.arange(np.log(len(losses)) / np.log(RATIO) + 1)).astype(int)
        ends = np.union1d(spaced[spaced <= len(losses)], np.arange(self._every, len(losses) + 1, self._every))
        columns = losses.T if by_unit else losses.mean(axis=1)[None]
        return [
            {
                "kind": "curve",
                "step": int(end),
                "unit": unit if by_unit else None,
                "loss": float(column[start:end].mean()),
            }
            for unit, column in enumerate(columns)
            for start, end in zip((0, *ends[:-1]), ends, strict=True)
        ]


class _Checkpoints(Callback):
    """Scores on the images held out and on the test images."""

    def __init__(self, parts: _Parts) -> None:
        self.rows: Rows = []
        self._parts = parts

    def add(self, population: Population, units: range, step: int, **also: Any) -> None:
        scored: dict[str, list[Any]] = {}
        for name in ("held", "test"):
            part = getattr(self._parts, name)
            losses, correct = self._parts.score(population, part)
            scored |= {f"{name}_loss": losses.tolist(), f"{name}_correct": correct.tolist()}
            scored[f"{name}_rows"] = [len(part[1])] * len(losses)
        for place, unit in enumerate(units):
            values = {name: column[place] for name, column in scored.items()}
            known = {"step": step, "unit": unit, "images": len(self._parts.train[1])}
            self.rows.append({"kind": "checkpoint", **known, **values, **also})

    def on_generation(self, generation: Generation) -> None:
        depth = 2 * generation.number * int(generation.history["steps"].iloc[0])
        self.add(generation.next.take(slice(0, 1)), range(1), depth, generation=generation.number)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows = state["rows"]


class _Looks:
    """The curve of units without evolution, and their scores after some steps."""

    def __init__(self, config: GadamConfig, parts: _Parts, template: nn.Module, looks: list[int]) -> None:
        self.curve, self.checkpoints = _Curve(config), _Checkpoints(parts)
        self._one_at_a_time = threading.Lock()  # units may train on several threads
        self._template, self._looks = template, looks

    def __call__(self, step: Step) -> None:
        self.curve(step)
        if step.number in self._looks:
            with self._one_at_a_time:
                self.checkpoints.add(Population(self._template, step.parameters, {}), step.units, step.number)

    def state_dict(self) -> dict[str, Any]:
        return self.curve.state_dict() | self.checkpoints.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.curve.load_state_dict(state)
        self.checkpoints.load_state_dict(state)


def _parts(dataset: str, data: Any, train_rows: int | None, test_rows: int | None, held: int) -> _Parts:
    return _Parts(first_rows(images(dataset, data), train_rows, 0), held, test_rows)
