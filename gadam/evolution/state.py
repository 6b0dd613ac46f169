"""Complete state of an evolution: everything that a resume needs, and how it is written to a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from gadam import storage
from gadam.population import Population
from gadam.result import as_population
from gadam.training.shards import Shard

SHARD_TENSORS = ("steps", "batches", "draws", "loss_start", "loss_trained", "loss_survival", "seconds")
_KINDS = ("parameters", "buffers", "moments")
STOPPED = {"", "callback", "converged"}
"""What a seed's state may say of its end."""


@dataclass(frozen=True)
class SeedState:
    """The population of one seed so far.

    Attributes:
        history: the rows of complete generations.
        losses: of the last two selected generations, [g] each; as many as there are.
        stopped: why it is over; "" while it is not, or if it is over only because there are no more generations.
    """

    history: pd.DataFrame
    losses: Sequence[Tensor] = ()
    stopped: str = ""


@dataclass(frozen=True)
class EvolutionState:
    """The state of an evolution, of one seed or of several that are trained together.

    Attributes:
        generation: the one under way, from 1; 0 where nothing evolves.
        population: that it began with: of each seed the last complete generation, fittest first, or the initial one.
        shards: of the role that is being trained, in order.
        seeds: one state for each seed.
        shard_count: number of shards of a role.
        parents: the trained parents while the children are being trained; before that None.
        seconds: wall time so far.
    """

    generation: int
    population: Population
    shards: Sequence[Shard]
    seeds: Sequence[SeedState]
    shard_count: int
    parents: Shard | None = None
    seconds: float = 0.0

    @property
    def role(self) -> str:
        """The role that is being trained."""
        return "parent" if self.parents is None else "child"

    @property
    def is_trained(self) -> bool:
        """Whether all units of the role are trained."""
        return all(shard.is_trained for shard in self.shards)

    def steps_taken(self) -> int:
        """Optimizer steps taken in the generation under way, over all units."""
        done = 0 if self.parents is None else self.parents.steps_taken
        return done + sum(shard.steps_taken for shard in self.shards)

    def __str__(self) -> str:
        steps = [0 if shard.steps is None else int(shard.steps.min()) for shard in self.shards if not shard.is_trained]
        return f"generation {self.generation}, {self.role} units at step {min(steps, default=0):,}"


def to_file(state: EvolutionState) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return JSON values and tensors, for `gadam.storage`."""
    tensors = {
        f"courses/{place}/losses/{index}": losses
        for place, seed in enumerate(state.seeds)
        for index, losses in enumerate(seed.losses)
    }
    tensors |= _entries("population", state.population)
    facts: dict[str, Any] = {
        "generation": state.generation, "shards": state.shard_count, "seconds": state.seconds,
        "courses": [{"history": storage.from_frame(seed.history), "stopped": seed.stopped} for seed in state.seeds],
    }  # fmt: skip
    for place, shards in (("parents", [state.parents] if state.parents else []), ("parts", state.shards)):
        facts[place] = []
        for index, shard in enumerate(shards):
            word = "trained" if shard.is_trained else "fresh" if shard.steps is None else "begun"
            if word == "fresh" and shard.role == "parent":
                word = "initial"  # units of the population, which is there
            else:
                tensors |= _entries(f"{place}/{index}", shard.population)
            tensors |= {f"{place}/{index}/{name}": tensor for name, tensor in shard.tensors.items()}
            facts[place].append([word, len(shard.population)])
    return facts, tensors


def from_file(facts: Mapping[str, Any], tensors: Mapping[str, Tensor], order: Population) -> EvolutionState:
    """Return the state that `to_file` wrote, on the device of `order`, any units of the same model.

    Raises:
        InputError: it is another model.
        ValueError: it is no state of an evolution.
    """
    device = next(iter(order.parameters.values())).device
    on_cpu = ("steps", "batches", "draws", "seconds")
    there = {
        name: tensor if name.rpartition("/")[2] in on_cpu else tensor.to(device) for name, tensor in tensors.items()
    }
    population = _population(there, "population", order)
    if len(population) != len(order):
        raise ValueError(f"{len(population)} units, must be {len(order)}")
    role = "child" if facts["parents"] else "parent"

    def shards(place: str, role: str) -> list[Shard]:
        found: list[Shard] = []
        first = 0
        for index, (word, size, *seconds) in enumerate(facts[place]):
            units = range(first, first + size)
            first = units.stop
            initial = word == "initial"
            own = (
                population.take(slice(units.start, first)) if initial else _population(there, f"{place}/{index}", order)
            )
            if len(own) != size or word not in ("initial", "fresh", "begun", "trained"):
                raise ValueError(f"{len(own)} units are {word!r}, must be {size}")
            own_tensors = {n: there[key] for n in SHARD_TENSORS if (key := f"{place}/{index}/{n}") in there}
            needed = {"begun": SHARD_TENSORS[:4], "trained": SHARD_TENSORS[3:6]}.get(word, ())
            if missing := [name for name in needed if name not in own_tensors]:
                raise ValueError(f"{missing[0]} of a shard is missing")
            if needed:  # earlier versions kept no steps of trained units, and the seconds of a shard as a whole
                own_tensors.setdefault("steps", torch.full((size,), facts["identity"]["config"]["steps"]))
                own_tensors.setdefault("seconds", torch.full((size,), sum(seconds) / size, dtype=torch.float64))
            found.append(Shard(own, units, role, facts["generation"], **own_tensors))
        return found

    seeds = [
        SeedState(
            storage.to_frame(seed["history"]),
            [there[name] for index in range(2) if (name := f"courses/{place}/losses/{index}") in there],
            seed["stopped"],
        )
        for place, seed in enumerate(facts["courses"])
    ]
    if facts["generation"] < 0 or not seeds or not {seed.stopped for seed in seeds} <= STOPPED:
        raise ValueError("no training stands so")
    parents = shards("parents", "parent")
    return EvolutionState(
        generation=facts["generation"], population=population, shards=shards("parts", role), seeds=seeds,
        shard_count=facts["shards"], parents=Shard.join(parents) if parents else None, seconds=facts["seconds"],
    )  # fmt: skip


def _entries(place: str, population: Population) -> dict[str, Tensor]:
    return {f"{place}/{kind}/{name}": entry for kind in _KINDS for name, entry in getattr(population, kind).items()}


def _population(tensors: Mapping[str, Tensor], place: str, order: Population) -> Population:
    kinds = {
        kind: {
            name.removeprefix(f"{place}/{kind}/"): entry
            for name, entry in tensors.items()
            if name.startswith(f"{place}/{kind}/")
        }
        for kind in _KINDS
    }
    return as_population(kinds, order, "the checkpoint")
