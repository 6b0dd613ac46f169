"""What the sections share: units without evolution, scores on many rows, parts of a dataset."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

import gadam
from gadam import genetics
from gadam.config import GadamConfig, InputError
from gadam.datasets import Dataset
from gadam.ensembles import Ensemble, greedy_soup
from gadam.population import Population
from gadam.randomness import VALIDATION, stream
from gadam.result import Result
from gadam.tracing.programs import Programs
from gadam.training.shards import Record, TrainingError
from gadam.types import Loss

Part = tuple[Tensor, Tensor]
"""Inputs [n, *features] and targets [n]."""

CHUNK = 500  # rows evaluated at once: their activations stay near the processor
cross_entropy = nn.functional.cross_entropy


def independent(
    make_model: Callable[[], nn.Module], train: Part, config: GadamConfig, *, loss: Loss = cross_entropy,
    record: Record | None = None, executor: Executor | int | None = 1,
) -> Population:  # fmt: skip
    """Train the initial units that `evolve` would start from by the optimizer alone, for `config.steps` steps each.

    They come back in the order in which `evolve` numbers them. `config.steps` must be even.
    """
    if config.steps % 2:
        raise InputError(f"steps={config.steps} must be even: parents and children train equally long")
    line = replace(config, generations=1, steps=config.steps // 2)
    trained = gadam.train(make_model, train, line, loss=loss, record=record, executor=executor, progress=False)
    result = whole(trained)
    losses = torch.tensor(result.history["loss_survival"].to_numpy())
    return result.population.take(genetics.survivors(losses, len(losses)).argsort())


def scorer(template: nn.Module, singly: bool | None = None) -> Callable[[Population, Part], tuple[Tensor, Tensor]]:
    """Return a function from units of an architecture and rows to each unit's mean cross-entropy and right answers.

    Both are [g] on the CPU, float64 and int64, of units in evaluation mode. `singly` evaluates one unit after another;
    None does so on a CPU only.
    """
    programs = [Programs(template, lambda output, _: output, singly=alone) for alone in (False, True)]

    def scores(population: Population, rows: Part) -> tuple[Tensor, Tensor]:
        device = next(iter(population.parameters.values())).device
        chosen = programs[device.type == "cpu" if singly is None else singly]
        nothing = [torch.Generator(device) for _ in range(len(population))]  # to draw from: units do not, in evaluation
        losses = torch.zeros(len(population), dtype=torch.float64, device=device)
        correct = torch.zeros(len(population), dtype=torch.int64, device=device)
        for part in zip(rows[0].split(CHUNK), rows[1].split(CHUNK), strict=True):
            inputs, targets = (tensor.to(device) for tensor in part)
            outputs = chosen.losses(population.parameters, population.buffers, ((inputs,), targets), nothing)
            for unit, output in enumerate(outputs):
                losses[unit] += cross_entropy(output, targets, reduction="sum").double()
                correct[unit] += (output.argmax(1) == targets).sum()
        return losses.cpu() / len(rows[1]), correct.cpu()

    return scores


def outputs_of(model: nn.Module, inputs: Tensor) -> Tensor:
    """Evaluate a model on rows, `CHUNK` of them at once."""
    with torch.no_grad():
        return torch.cat([model(part) for part in inputs.split(CHUNK)])


def kept(population: Population, validation: Part, test: Part) -> dict[str, Any]:
    """Count right answers on test rows by what can be kept of units, the best first: that one, the vote, the soup.

    The units of the soup are chosen on `validation`; best_units, ensemble_units and soup_units say how many went in.
    """
    population = population.to("cpu")
    soup, units = greedy_soup(population, validation, cross_entropy)
    models = {"best": population.unit(0).eval(), "ensemble": Ensemble(population), "soup": soup}
    right = {name: int((outputs_of(model, test[0]).argmax(1) == test[1]).sum()) for name, model in models.items()}
    return right | {"best_units": 1, "ensemble_units": len(population), "soup_units": len(units)}


def history_rows(result: Result) -> list[dict[str, Any]]:
    """Return the history without times, as rows; nothing is None."""
    history = result.history.drop(columns=["seconds"]).astype(object)
    records = history.where(history.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in records]


def whole(result: Result) -> Result:
    """Refuse a result that was ended early: its rows would be those of a shorter run."""
    if result.stopped in ("stop", "interrupt"):
        raise TrainingError(f"the evolution was stopped in generation {len(result.history['generation'].unique())}")
    return result


def held_out(train: Part, count: int, seed: int) -> tuple[Part, Part]:
    """Split off `count` training rows that the seed draws: (the others, those)."""
    order = torch.randperm(len(train[1]), generator=stream("cpu", seed, VALIDATION))
    return (train[0][order[count:]], train[1][order[count:]]), (train[0][order[:count]], train[1][order[:count]])


def validation_size(dataset: Dataset) -> int:
    """Rows of a validation batch: the engine's 1,024, or a quarter of T, for a batch of all of T is never a new one."""
    return max(1, min(1_024, len(dataset.train[1]) // 4))


def first_rows(dataset: Dataset, rows: int | None, seed: int) -> Dataset:
    """The dataset with so many training rows, drawn by the seed; None takes all."""
    if rows is None:
        return dataset
    index = torch.randperm(len(dataset.train[1]), generator=stream("cpu", seed))[:rows]
    return replace(dataset, train=(dataset.train[0][index], dataset.train[1][index]))


def where(rows: pd.DataFrame, **values: Any) -> pd.DataFrame:
    """Return the rows in which columns have these values."""
    for column, value in values.items():
        rows = rows[rows[column] == value]
    return rows


def by_seed(rows: pd.DataFrame, column: str, seed: str = "seed") -> dict[int, float]:
    """Return the numbers of a column by seed, or by the column that stands for it."""
    return dict(zip(rows[seed].astype(int).tolist(), rows[column].astype(float).tolist(), strict=True))


def first(rows: pd.DataFrame, column: str) -> Any:
    """Return the entry of a column that is the same in all rows; None where there are none."""
    return None if rows.empty else rows[column].iloc[0]


def source_of(rows: pd.DataFrame) -> str:
    """Where the rows of a claim come from: "stand-in" if some do, else "real", as what is not there yet will be."""
    return "stand-in" if "data" in rows and rows["data"].eq("stand-in").any() else "real"
