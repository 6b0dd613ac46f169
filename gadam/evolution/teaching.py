"""Functional crossover: children learn what their parents, together, predict, and not only the labels.

Two networks from different starts have nothing in common entry by entry, and what they share is their function.
To train one network on the predictions of several is distillation (Hinton, Vinyals, Dean 2015; "born-again networks",
Furlanello and others 2018), and as a crossover it is known from reinforcement learning (Gangwani and Peng 2018, "Policy
Optimization by Genetic Distillation"; Bodnar and others 2020, "Proximal Distilled Evolutionary Reinforcement
Learning").
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import torch
from torch import Generator, Tensor, nn

from gadam import genetics
from gadam.config import GadamConfig, InputError
from gadam.population import Population
from gadam.randomness import DRAWS, ROLES, stream, unit_stream
from gadam.result import Offspring
from gadam.runtime import float32_as_asked, intra_operator_threads
from gadam.training.batches import call_in_parts
from gadam.training.shards import Data, Shard
from gadam.training.trainer import THREADS
from gadam.types import Batch, Loss, Targets

PREDICTED_AT_ONCE = 1_024  # rows
_PROBABILITIES = (nn.functional.cross_entropy, nn.functional.binary_cross_entropy_with_logits)


def check_teaching(population: Population, rows: Batch, loss: Loss, targets: Targets) -> None:
    """Refuse a loss that cannot compare an output with a prediction: it takes labels alone, or what no output is.

    One unit is tried on the training rows.
    """
    name = getattr(loss, "__name__", type(loss).__name__)
    wanted = "must be a cross-entropy, or one that is least where the output is the target, such as mse_loss"
    labels = InputError(f'loss: {name} takes labels and no probabilities, and crossover="teach" gives these; {wanted}')
    if isinstance(loss, nn.CrossEntropyLoss) and loss.ignore_index >= 0:
        raise InputError(
            f"loss: ignore_index={loss.ignore_index} is for labels alone; must be below 0, and so must these labels"
        )
    if getattr(loss, "label_smoothing", 0) and bool((rows[1] == getattr(loss, "ignore_index", -100)).any()):
        raise InputError("loss: label_smoothing would teach rows whose labels are ignored; must be 0, or without such")
    with torch.no_grad(), unit_stream(Generator(rows[1].device).manual_seed(0)):
        output = population.unit(0)(*(tensor[:4].clone() for tensor in rows[0]))
        if _gives_logits(loss):
            try:
                loss(output, _probabilities(output, loss))
            except Exception as error:  # a subclass may go by labels
                raise labels from error
            return
    if targets == "classes":
        raise labels
    model = type(population.template).__name__
    said = f'loss: {name} does not take the outputs of {model} as targets, as crossover="teach" does'
    if isinstance(output, Tensor) and output.is_floating_point() and not rows[1].is_floating_point():
        raise InputError(f"{said}: targets are {rows[1].dtype}, must be floats (targets.float())")
    if not isinstance(output, Tensor) or output.shape[1:] != rows[1].shape[1:] or output.dtype != rows[1].dtype:
        raise InputError(f"{said}; {wanted}")
    with torch.enable_grad():
        free = output.clone().requires_grad_()
        try:
            (gradient,) = torch.autograd.grad(loss(free, output.clone()), free)
        except Exception as error:
            raise InputError(f"{said}; {wanted}") from error
    if not gradient.isfinite().all():
        raise InputError(f"{said}: it has no gradient there; must have one (under a root add a small number)")
    if float(gradient.abs().max()) > 1e-3:
        raise InputError(f"{said}: it is not least there; {wanted}")


def teachers_of(offspring: Offspring, config: GadamConfig) -> list[list[int]]:
    """Return numbers of the parents that teach: one list for all children, or a list for each child."""
    if config.parents == "pair":
        return [sorted(set(pair)) for pair in offspring.pairs.tolist()]
    fittest = genetics.survivors(offspring.normalized, len(offspring.normalized)).tolist()
    able = [unit for unit in fittest if float(offspring.probabilities[unit]) > 0]  # Eq. 8 is 0 without a finite loss
    return [able[: teacher_count(len(fittest), config)]]


def teacher_count(units: int, config: GadamConfig) -> int:
    """Return how many of so many parents teach at most."""
    return math.ceil(units / 2) if config.parents == "half" else units


def teach_rows(
    data: Data, parents: Sequence[Shard], offspring: Sequence[Offspring], configs: Sequence[GadamConfig], loss: Loss
) -> Data:
    """Return the rows with the targets that children learn: `teach_weight` of predictions, the rest of their own.

    Predictions are the mean of the probabilities (of values: of the outputs) of the teachers, in evaluation mode. Rows
    whose labels are all ignored are left out.
    """
    inputs, labels = data.train
    sets = []
    for units, own, config in zip(parents, offspring, configs, strict=True):
        teachers = teachers_of(own, config)
        predicted: dict[int, Tensor] = {}
        for unit in sorted({unit for some in teachers for unit in some}):
            words = (config.seed, DRAWS, units.generation, ROLES["parent"], unit, 3)
            drawing = unit_stream(stream(labels.device, *words))
            with torch.no_grad(), intra_operator_threads(THREADS), float32_as_asked(labels.device), drawing:
                output = call_in_parts(units.population.unit(unit), inputs, PREDICTED_AT_ONCE)
            predicted[unit] = _probabilities(output, loss)
        given, counted = _as_predictions(labels, next(iter(predicted.values())), loss)
        kept = counted.flatten(1).any(1)
        for some in teachers:
            mean = torch.stack([predicted[unit] for unit in some]).mean(0)
            taught = config.teach_weight * mean + (1 - config.teach_weight) * given
            sets.append(taught[kept] if counted.all() else (taught * counted)[kept])
    return replace(data, train=(tuple(tensor[kept] for tensor in inputs), torch.cat(sets)))


def teaching_steps(history: pd.DataFrame, config: GadamConfig, rows: int) -> int:
    """Return the gradient steps that the teachers' forward passes are worth, a third of one for each batch."""
    if config.crossover != "teach":
        return 0
    passes = 0
    for _, generation in history.groupby("generation"):
        if config.parents == "pair":
            passes += len({*generation["parent_a"].dropna(), *generation["parent_b"].dropna()})
        else:
            passes += teacher_count(int((generation["role"] == "parent").sum()), config)
    return math.ceil(passes * rows / (3 * config.batch_size))


def _gives_logits(loss: Loss) -> bool:
    return loss in _PROBABILITIES or isinstance(loss, nn.CrossEntropyLoss | nn.BCEWithLogitsLoss)


def _probabilities(output: Tensor, loss: Loss) -> Tensor:
    if loss is nn.functional.cross_entropy or isinstance(loss, nn.CrossEntropyLoss):
        return output.softmax(1)
    return output.sigmoid() if _gives_logits(loss) else output


def _as_predictions(targets: Tensor, like: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
    """Return targets as predictions are, labels as one-hot; and which of them are not ignored, [n, 1, ...]."""
    if targets.is_floating_point():
        return targets.to(like), torch.ones(len(targets), 1, dtype=torch.bool, device=targets.device)
    counted = (targets != getattr(loss, "ignore_index", -100)).unsqueeze(1)
    return torch.zeros_like(like).scatter_(1, targets.unsqueeze(1).where(counted, 0), 1.0), counted
