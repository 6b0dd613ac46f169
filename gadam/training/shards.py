"""What is told about a training: shards of a generation, before it, in its middle and after; the rows; the steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor, nn

from gadam.population import Population
from gadam.tracing.programs import Batch


class TrainingError(RuntimeError):
    """The training cannot go on; the message is one line that says why."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is too little memory."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(said in str(error) for said in _NO_MEMORY)


# What libraries say of it in a plain RuntimeError.
_NO_MEMORY = (
    "can't allocate memory", "annot allocate memory", "ot enough memory", "out of memory", "ALLOC_FAILED", "bad_alloc",
)  # fmt: skip


Progress = Callable[[int], bool | None]
"""Told of unit-steps done since it was last told; returns True to pause the training, may raise to end it."""


@dataclass(frozen=True)
class Begun:
    """Where n units stand in the middle of a generation, beside their tensors and the optimizer's.

    Attributes:
        steps: int64 [n], optimizer steps taken in this generation.
        batches: uint8 [n, bytes], of the streams of batches, as they were before the block of the next step.
        draws: uint8 [n, bytes], of the streams that dropout and its kind draw from.
        loss_start: [n], see `Trained`.
        seconds: of training so far, of all of them.
    """

    steps: Tensor
    batches: Tensor
    draws: Tensor
    loss_start: Tensor
    seconds: float

    def to(self, device: torch.device) -> Begun:
        """The same with its losses on another device; all else is on the CPU."""
        return replace(self, loss_start=self.loss_start.to(device))


@dataclass(frozen=True)
class Shard:
    """Some units of one role in one generation: all that a worker must be told.

    Once begun, its population's moments are the optimizer's state, whether or not generations carry it on.
    """

    population: Population
    units: range
    role: str
    generation: int
    begun: Begun | None = None

    def halves(self) -> list[Shard]:
        """The shard as two, in the state that it is in."""
        cuts = (slice(0, len(self.units) // 2), slice(len(self.units) // 2, None))

        def half(cut: slice) -> Shard:
            begun = self.begun
            if begun is not None:
                tensors = {name: value[cut] for name, value in vars(begun).items() if isinstance(value, Tensor)}
                begun = replace(begun, seconds=begun.seconds / 2, **tensors)
            return replace(self, population=self.population.take(cut), units=self.units[cut], begun=begun)

        return [half(cut) for cut in cuts]

    def to(self, device: torch.device, template: nn.Module | None = None) -> Shard:
        """The shard on another device; with that template, if there is one there already."""
        begun = self.begun and self.begun.to(device)
        return replace(self, population=self.population.to(device, template), begun=begun)


@dataclass(frozen=True)
class Step:
    """What `record` is told after an optimizer step of some units.

    Attributes:
        generation: k, from 1.
        role: "parent" or "child".
        units: which of their role.
        number: the step within the generation, from 1.
        losses: [n], of each unit on its training batch, before the step.
        parameters: name -> [n, ...] after it, which must be copied to be kept.
    """

    generation: int
    role: str
    units: range
    number: int
    losses: Tensor
    parameters: Mapping[str, Tensor]


Record = Callable[[Step], None]


@dataclass(frozen=True)
class Trained:
    """A shard after training. Losses are means on the batches of `Data`, [n] each; seconds are the whole shard's."""

    population: Population
    loss_start: Tensor
    loss_trained: Tensor
    loss_survival: Tensor
    seconds: float

    def to(self, device: torch.device, template: nn.Module | None = None) -> Trained:
        """As `Shard.to`."""
        losses = {name: getattr(self, name).to(device) for name in LOSSES}
        return replace(self, population=self.population.to(device, template), **losses)

    def take(self, units: slice) -> Trained:
        """Some of the units, with their share of the time."""
        losses = {name: getattr(self, name)[units] for name in LOSSES}
        population = self.population.take(units)
        return Trained(population, **losses, seconds=self.seconds * len(population) / len(self.population))


LOSSES = ("loss_start", "loss_trained", "loss_survival")
"""Of `Trained`."""


@dataclass(frozen=True)
class Data:
    """Rows, and which of them are the two validation batches of a generation (Sections 3.3.1 and 3.4).

    Attributes:
        train: what units are trained on; for all of an evolution, as `held_out` is.
        held_out: what validation batches are drawn from.
        fitness: int64 [rows], numbers of rows of `held_out`; [seeds, rows] where units of several seeds are trained.
        survival: the same of the new batch.
    """

    train: Batch
    held_out: Batch
    fitness: Tensor
    survival: Tensor

    def of_generation(self, fitness: Tensor, survival: Tensor) -> Data:
        """The same rows with other validation batches, wherever the rows are."""
        device = self.train[1].device
        return replace(self, fitness=fitness.to(device), survival=survival.to(device))


Part: TypeAlias = Trained | Shard
"""Some units of a role: trained, or where they stand."""
