"""Shards, units of a generation that are trained together; the rows they are trained on; and one step of theirs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gadam.population import Population
from gadam.types import Batch


class TrainingError(RuntimeError):
    """The training cannot go on; the message is one line that says why."""


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that there is too little memory."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(said in str(error) for said in _NO_MEMORY)


# Words of it in the plain RuntimeError of a library.
_NO_MEMORY = (
    "can't allocate memory", "annot allocate memory", "ot enough memory", "out of memory", "ALLOC_FAILED", "bad_alloc",
)  # fmt: skip


@dataclass(frozen=True)
class Shard:
    """Some units of one role in one generation: fresh, in the middle of their training, or trained.

    This is all that a worker is told, and all that it answers. Streams of random numbers are kept as their states.

    Attributes:
        population: n units. In the middle of a training its moments are the optimizer's state, whether or not
            generations carry it on.
        units: range of their numbers within the role, counted over all seeds: the first seed has the first
            `config.units_of(role, generation)`, and so on.
        role: "parent" or "child".
        generation: k, from 1; 0 where nothing evolves.
        steps: int64 [n], optimizer steps taken in this generation; None before the first.
        batches: uint8 [n, bytes], streams of batches, as they were before the block of the next step.
        draws: uint8 [n, bytes], streams that dropout and its kind draw from.
        loss_start: [n], mean loss on the generation's validation batch, before the training.
        loss_trained: [n], the same after it; None until it is over.
        loss_survival: [n], after it, on the new batch that parents and children are compared by.
        loss_validation: [n], after it, on the fixed rows; None where there are none.
        seconds: float64 [n], of training so far: of each unit its share of what its shard took.
    """

    population: Population
    units: range
    role: str
    generation: int
    steps: Tensor | None = None
    batches: Tensor | None = None
    draws: Tensor | None = None
    loss_start: Tensor | None = None
    loss_trained: Tensor | None = None
    loss_survival: Tensor | None = None
    loss_validation: Tensor | None = None
    seconds: Tensor | None = None

    @property
    def is_trained(self) -> bool:
        """True once the training is over."""
        return self.loss_trained is not None

    @property
    def steps_taken(self) -> int:
        """Optimizer steps taken in this generation, over all units."""
        return 0 if self.steps is None else int(self.steps.sum())

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors above, but for the population's, by name: [n, ...] each; those that are None are left out."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}

    def take(self, units: slice) -> Shard:
        """Some of the units, in the state that they are in."""
        tensors: dict[str, Any] = {name: value[units] for name, value in self.tensors.items()}
        return replace(self, population=self.population.take(units), units=self.units[units], **tensors)

    def of_seeds(self, seeds: int) -> list[Shard]:
        """Cut a shard of all units of a role into one for each seed, all of the same size."""
        size = len(self.units) // seeds
        return [self.take(slice(first, first + size)) for first in range(0, len(self.units), size)]

    @staticmethod
    def join(shards: Sequence[Shard]) -> Shard:
        """Join shards of consecutive units, all fresh, all in the middle of their training or all trained."""
        first = shards[0]
        tensors: dict[str, Any] = {name: torch.cat([getattr(one, name) for one in shards]) for name in first.tensors}
        population = Population.join([shard.population for shard in shards])
        return replace(first, population=population, units=range(first.units.start, shards[-1].units.stop), **tensors)


def split_into_shards(population: Population, count: int, role: str, generation: int) -> list[Shard]:
    """Cut the units of one role into at most `count` fresh shards of nearly equal size."""
    shards, first = [], 0
    for part in population.shards(count):
        shards.append(Shard(part, range(first, first + len(part)), role, generation))
        first += len(part)
    return shards


@dataclass(frozen=True)
class Data:
    """Rows to train on, and the two validation batches of a generation (Sections 3.3.1 and 3.4).

    Attributes:
        train: rows that units are trained on. Taught children may have several sets of targets, one after the other,
            [sets * rows, ...]: one for the units of each seed, or one for each unit.
        held_out: rows that validation batches are drawn from.
        fitness: int64 [seeds, batch], rows of `held_out` that are each seed's first batch: it gives `loss_start`,
            `loss_trained` and by that the parents' fitness.
        survival: the same for the new batch, by which parents and children are compared.
    """

    train: Batch
    held_out: Batch
    fitness: Tensor
    survival: Tensor


@dataclass(frozen=True)
class Step:
    """One optimizer step of some units, as `record` is told of it afterwards.

    Attributes:
        generation: k, from 1; 0 in `gadam.train`.
        role: "parent" or "child".
        units: range of their numbers within the role; the `record` of a seed gets that seed's alone, from 0.
        number: the step within the generation, from 1.
        losses: [n], of each unit on its training batch, before the step.
        parameters: name -> [n, ...], after the step; the next one overwrites them, so copy what is to be kept.
    """

    generation: int
    role: str
    units: range
    number: int
    losses: Tensor
    parameters: Mapping[str, Tensor]


Progress = Callable[[int], bool | None]
"""Receives the unit-steps taken since its last call; returns True to pause the training, may raise to end it."""
Record = Callable[[Step], None]
