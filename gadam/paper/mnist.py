"""LeNet-5 on MNIST: the trainings that Sections 5.1 and 5.2 share, and the scale at which they decide a claim.

A scale is a depth of training: a profile has one, but "standard" has two, the paper's budget and a tenth of it. Which
one decides a claim is settled before anything is computed: the deepest at which all arms that the claim needs are
complete. At less than the paper's budget a look after half of it or less stands beside the end, so that the trend can
be carried on to the whole.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pandas as pd
import torch

from gadam.config import GadamConfig
from gadam.datasets import Dataset, load
from gadam.evolution.loop import evolve
from gadam.models import lenet5
from gadam.paper import seeds_of
from gadam.paper.claims import Arms, Claim, Reduced
from gadam.paper.runs import Row, Run, RunFunction, arm_runs, run_function, threads
from gadam.paper.units import Part, first_rows, held_out, history_rows, independent, kept, scorer, whole
from gadam.paper.verdicts import Evidence
from gadam.population import Population
from gadam.result import Callback, Generation
from gadam.training.shards import Step

DATASET = "mnist"
GADAM, ADAM, BEST_OF_G = "GADAM", "Adam", "Adam, best of g"
EVIDENT = 1e-3
"""The learning rate that the paper's numbers suggest; it states none."""
PAPER_STEPS = 80_000

_WHOLE: dict[str, Any] = {
    "g": 10, "K": 5, "longest": 10, "steps": 8_000, "batch_size": 128, "validation_size": 1_024, "train_rows": None,
    "test_rows": None, "held": 5_000, "first_look": 1,
}  # fmt: skip
PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {
        "seeds": 2, "g": 3, "K": 1, "longest": 2, "sizes": {2: 2, 3: 2}, "steps": 6, "batch_size": 16,
        "validation_size": 64, "train_rows": 1_500, "test_rows": 500, "held": 250, "first_look": 1,
    },
    "quick": {
        "seeds": 2, "g": 6, "K": 2, "longest": 4, "sizes": {2: 2, 6: 2}, "steps": 20, "batch_size": 32,
        "validation_size": 256, "train_rows": None, "test_rows": 2_000, "held": 500, "first_look": 2,
    },
    "standard": _WHOLE | {"seeds": 10, "sizes": {10: 10}, "longest": 5},
    "tenth": _WHOLE | {"seeds": 10, "sizes": dict.fromkeys((2, 5, 10, 20), 10), "steps": 800},
    "paper": _WHOLE | {"seeds": 10, "sizes": dict.fromkeys(range(2, 21, 2), 10)},
}  # fmt: skip
"""By scale. `steps`: of a role in a generation; `K`: generations of Table 1, `longest`: of figure 3; `sizes`:
populations of figure 4, and their seeds; `held`: training images for choosing among looks, after each generation from
`first_look` on."""
SCALES = {"standard": ("standard", "tenth")}

COLUMNS = (
    "arm", "method", "learning_rate", "seed", "kind", "g", "unit", "step", "data", "held_loss", "test_loss",
    "validation_loss", "test_correct", "test_rows", "loss", "generation", "role", "loss_start", "loss_survival",
    "survived",
)  # fmt: skip
"""Of the rows, those that are read in Sections 5.1 and 5.2; runs that are missing may leave some out."""
RATIO = 1.12
"""From one point of a training-loss curve to the next, in steps; each is the mean since the one before."""
LONG = 500_000
"""Steps over all units from which on a run gets all cores: one of them would take hours."""


def scales(profile: str) -> tuple[str, ...]:
    """The scales that a profile computes, the deepest first."""
    return SCALES.get(profile, (profile,))


def depth(scale: str) -> int:
    """Steps of a unit along its longest line of descent in K generations, and of a unit without evolution."""
    return 2 * int(PROFILES[scale]["K"]) * int(PROFILES[scale]["steps"])


def checkpoints(scale: str) -> list[int]:
    """Steps after which every method is looked at: ends of GADAM's generations, the last at the end."""
    budget = PROFILES[scale]
    return [2 * number * budget["steps"] for number in range(budget["first_look"], budget["K"] + 1)]


def budget_share(scale: str, steps: int | None = None) -> float:
    """The share of the paper's training, 80,000 batches of 128 images, that a unit has after `steps`; default: all."""
    return (depth(scale) if steps is None else steps) * int(PROFILES[scale]["batch_size"]) / (PAPER_STEPS * 128)


def percent(scale: str) -> str:
    """The share of the paper's budget in words."""
    share = budget_share(scale)
    return f"{100 * share:.2g} % of the paper's budget" if share < 1 else "the paper's budget"


def complete_scale(profile: str, arms: Arms, needed: Callable[[str], Sequence[str]]) -> str:
    """The deepest scale of which all arms needed are there; else the deepest."""
    complete = (scale for scale in scales(profile) if arms.complete(*needed(scale)))
    return next(complete, scales(profile)[0])


def claim(scale: str, text: str, numbers: Callable[[int], Any], looks: bool = True, **about: Any) -> Claim:
    """Make a claim that is decided at a scale.

    `numbers` gives its evidence for units after so many steps. Below the paper's budget it is also asked for the last
    look at half of the steps or before, unless nobody `looks` there.
    """

    def evidence() -> Any:
        now, early = numbers(depth(scale)), [look for look in checkpoints(scale) if look <= depth(scale) / 2]
        if budget_share(scale) >= 1 or not (early and looks and isinstance(now, Evidence)):
            return now
        return Reduced(now, numbers(early[-1]), budget_share(scale, early[-1]))

    return Claim(text=text, evidence=evidence, **({"budget": budget_share(scale)} | about))


def select(rows: pd.DataFrame, kind: str, *arms: str) -> pd.DataFrame:
    """The rows of a kind ("unit", "curve", "checkpoint") of the runs of some arms, with all `COLUMNS`."""
    found = rows.reindex(columns=list(COLUMNS))
    return found[(found["kind"] == kind) & found["arm"].isin(arms)]


def gadam_arm(scale: str, size: int | None = None) -> str:
    """The arm of GADAM with a population of `size`; default: that of Table 1."""
    return f"mnist/{scale}/{GADAM}, g = {size or PROFILES[scale]['g']}/{EVIDENT:g}"


def gadam_runs(scale: str, data: str, size: int | None = None) -> list[Run]:
    """LeNet-5 by GADAM with the evident rate and a population; default: Table 1's, which alone goes on after K."""
    budget = PROFILES[scale]
    size = size or int(budget["g"])
    generations = budget["longest" if size == budget["g"] else "K"]
    settings = {
        "population_size": size, "generations": generations, "steps": budget["steps"], "learning_rate": EVIDENT,
        "validation_size": budget["validation_size"],
    }  # fmt: skip
    return lenet_runs(
        lenet_by_gadam, gadam_arm(scale, size), scale, data, seeds_of(scale, budget["sizes"][size]), settings,
        2 * size * generations * budget["steps"], priority=7 if scale == "standard" else 4,
        label=f"MNIST · GADAM, g = {size}, K = {generations}, {budget['steps']:,} steps each",
    )  # fmt: skip


def lenet_runs(
    function: RunFunction, arm: str, scale: str, data: str, seeds: Iterable[int], settings: dict[str, Any], steps: int,
    **about: Any,
) -> list[Run]:  # fmt: skip
    """Trainings of LeNet-5 with the images and batches of a scale; `steps` are those of all units of one."""
    shared = {name: PROFILES[scale][name] for name in ("train_rows", "test_rows", "held", "batch_size")}
    return arm_runs(function, arm, seeds, {**shared, **settings}, DATASET, data, wide=steps > LONG, **about)


_load = lru_cache(maxsize=1)(load)  # parsed once by a process: a worker has many runs on it


def images(dataset: str, data: Any, rows: int | None, test_rows: int | None, seed: int = 0) -> Dataset:
    """The dataset with `rows` training images, drawn by the seed, and the first test images; None takes all."""
    found = first_rows(_load(dataset, data=data), rows, seed)
    return replace(found, test=(found.test[0][:test_rows], found.test[1][:test_rows]))


def _prepare(
    dataset: str, data: Any, train_rows: int | None, test_rows: int | None, held: int, **settings: Any
) -> tuple[Dataset, Part, GadamConfig, Row]:
    """The images without `held` of those for training, at most a fifth; those held out; the config; what rows share."""
    found = images(dataset, data, train_rows, test_rows)
    # The same ones for every seed, so that seeds differ in what the paper's runs differ in; a stand-in is small.
    train, aside = held_out(found.train, min(held, len(found.train[1]) // 5), seed=0)
    config = GadamConfig(**settings)
    about = {"learning_rate": config.learning_rate, "run_steps": config.steps, "data": found.source}
    return replace(found, train=train), aside, config, about


@run_function("mnist/gadam", version=2)
def lenet_by_gadam(dataset: str, data: Any, seed: int, **settings: Any) -> list[Row]:
    """LeNet-5 by GADAM: rows of kind "unit" (the history), "curve" (training loss), "checkpoint", "judged" and "kept".

    A checkpoint is the fittest unit of a generation, as survival on the generation's new batch ranks it (Section
    3.4); judged is every parent and child; kept is what a generation is good for, see `gadam.paper.beyond`. Each
    row has `run_steps`, the steps of a generation. The first k generations of a run are those of a run of k
    generations: streams know nothing of K.
    """
    images, aside, config, about = _prepare(dataset, data, seed=seed, **settings)
    seen = _Watch(config, images, aside, config.generations)
    result = evolve(lenet5, images.train, config, callbacks=[seen], record=seen, progress=False, executor=threads())
    rows: list[Row] = [{"kind": "unit", **row} for row in history_rows(whole(result))]
    about = {"method": GADAM, "g": config.population_size, **about, "seed": seed}
    return [row | about for row in (*rows, *seen.curve(), *seen.scores)]


@run_function("mnist/optimizer", version=2)
def lenets_by_optimizer(
    dataset: str, data: Any, method: str, seed: int, looks: list[int], dropout: float, early: Sequence[int] = (),
    **settings: Any,
) -> list[Row]:  # fmt: skip
    """Independent LeNet-5s by one optimizer: rows of kind "curve", "checkpoint" and "early" for each unit.

    `method` is what the rows call it; `looks` are the steps after which units are scored, `early` further ones, of
    which none is chosen; `steps` all those of a unit. With GADAM's seed the units start as its initial ones do. Of
    several a last row, "kept", is what they are good for together, see `gadam.paper.beyond`.
    """
    images, aside, config, about = _prepare(dataset, data, seed=seed, **settings)
    seen = _Watch(config, images, aside, looks=looks, early=early)
    units = independent(partial(lenet5, dropout), images.train, config, record=seen, executor=threads())
    about = {"method": method, "seed": seed, **about}
    scores = sorted(seen.scores, key=lambda row: (row["unit"], row["step"]))  # whichever thread was first
    several = [seen.together(seen.ranked(units))] if len(units) > 1 else []
    return [row | about for row in (*seen.curve(), *scores, *several)]


class _Watch(Callback):
    """Keeps the training loss of every unit at every step, and scores units on the images held out and for the test.

    It is both record and callback of an evolution, whose units it scores after each generation; of units without
    evolution (of 0 `generations`) it is the record alone, and scores each of them after the steps of `looks` and
    `early`. Validation rows are as many of T as GADAM's units are judged on, drawn by the seed.
    """

    def __init__(
        self, config: GadamConfig, images: Dataset, held: Part, generations: int = 0, looks: Sequence[int] = (),
        early: Sequence[int] = (),
    ) -> None:  # fmt: skip
        self.scores: list[Row] = []
        judged = held_out(images.train, min(config.validation_size, len(images.train[1])), config.seed)[1]
        self._parts = {"held": held, "test": images.test, "validation": judged}
        self._images = len(images.train[1])
        self._steps, self._evolves = config.steps, generations > 0
        self._looks = dict.fromkeys(early, "early") | dict.fromkeys(looks, "checkpoint")
        self._every = (2 if self._evolves else 1) * config.steps
        self._losses = torch.full((self._every * (generations or 1), config.population_size), torch.nan)
        self._template = lenet5()
        self._score = scorer(self._template)
        self._one_at_a_time = threading.Lock()  # units may train on several threads

    def __call__(self, step: Step) -> None:
        self._losses = self._losses.to(step.losses.device)
        roles = 2 * max(0, step.generation - 1) + (step.role == "child")
        self._losses[roles * self._steps + step.number - 1, step.units.start : step.units.stop] = step.losses
        if step.number in self._looks:
            with self._one_at_a_time:
                population = Population(self._template, step.parameters, {})
                self._look(population, step.units, step.number, kind=self._looks[step.number])

    def on_generation(self, generation: Generation) -> None:
        steps, about = generation.number * self._every, {"generation": generation.number}
        self._look(generation.next.take(slice(0, 1)), range(1), steps, kind="checkpoint", **about)
        for role, units in (("parent", generation.parents), ("child", generation.children)):
            self._look(units, range(len(units)), steps, kind="judged", role=role, **about)
        self.scores.append(self.together(generation.next) | about)

    def together(self, units: Population) -> Row:
        """What units, the best first, are good for together."""
        test = self._parts["test"]
        return {"kind": "kept", "test_rows": len(test[1]), **kept(units, self._parts["held"], test)}

    def ranked(self, units: Population) -> Population:
        """The units by their loss on the validation rows, the lowest first."""
        return units.take(self._score(units, self._parts["validation"])[0].argsort())

    def _look(self, population: Population, units: range, step: int, **also: Any) -> None:
        about = {"step": step, "images": self._images, **also}
        rows: list[Row] = [about | {"unit": unit} for unit in units]
        for name, part in self._parts.items():
            for row, loss, correct in zip(rows, *(one.tolist() for one in self._score(population, part)), strict=True):
                row |= {f"{name}_loss": loss, f"{name}_correct": correct, f"{name}_rows": len(part[1])}
        self.scores += rows

    def curve(self) -> list[Row]:
        """Mean loss since the point before, at steps `RATIO` apart; of all units together where they evolve."""
        losses = self._losses.double().cpu().numpy()
        spaced = np.floor(RATIO ** np.arange(np.log(len(losses)) / np.log(RATIO) + 1)).astype(int)
        # Every role begins anew, or what happens where children start would be lost in one mean; and its end is a point
        # too, so that curves of any length have the same ones.
        starts = np.arange(0, len(losses), self._steps)
        anew = np.add.outer(starts, [*spaced[spaced < self._steps], self._steps]).ravel()
        ends = np.union1d(spaced[spaced <= len(losses)], anew)
        units = {None: losses.mean(axis=1)} if self._evolves else dict(enumerate(losses.T))
        return [
            {"kind": "curve", "step": int(end), "unit": unit, "loss": float(column[start:end].mean())}
            for unit, column in units.items()
            for start, end in zip((0, *ends[:-1]), ends, strict=True)
        ]

    def state_dict(self) -> dict[str, Any]:
        return {"losses": self._losses, "scores": self.scores}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._losses, self.scores = state["losses"], state["scores"]
