"""Complete state of an evolution: everything that a resume needs, and how it is written to a file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import pandas as pd
from torch import Tensor

from gadam import storage
from gadam.population import Population, averaged, from_entries, to_entries
from gadam.training.shards import Shard

ON_CPU = ("steps", "batches", "draws", "seconds")
"""Tensors of a shard that stay on the CPU wherever it is trained."""


@dataclass(frozen=True)
class SeedState:
    """The population of one seed so far.

    Attributes:
        best: the unit with the lowest loss on the fixed rows ever, a population of one; None without such rows.
        best_loss: that loss.
        history: the rows of complete generations.
        losses: of the last two selected generations, [g] each; as many as there are.
        stopped: "callback" or "converged"; "" if it is not over, or only because there are no more generations.
        teachers: of the last generation, where they taught it and are not among it.
    """

    history: pd.DataFrame
    losses: Sequence[Tensor] = ()
    stopped: str = ""
    best: Population | None = None
    best_loss: float = math.inf
    teachers: Population | None = None


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
    def is_trained(self) -> bool:
        """Whether all units of the role are trained."""
        return all(shard.is_trained for shard in self.shards)

    def units_as_they_are(self) -> Population:
        """Return the units of the role under way, parents while the children are trained, without optimizer state."""
        if self.parents is not None:
            return self.parents.population.without_moments()
        return Population.join([averaged(shard.population).without_moments() for shard in self.shards])

    def steps_taken(self) -> int:
        """Optimizer steps taken in the generation under way, over all units."""
        return sum(shard.steps_taken for shard in (*([self.parents] if self.parents else []), *self.shards))

    def __str__(self) -> str:
        role = "child" if self.parents else "parent"
        steps = [0 if shard.steps is None else int(shard.steps.min()) for shard in self.shards if not shard.is_trained]
        return f"generation {self.generation}, {role} units at step {min(steps, default=0):,}"


def to_file(state: EvolutionState) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return JSON values and tensors, for `gadam.storage`."""
    facts: dict[str, Any] = {
        "generation": state.generation, "shards": state.shard_count, "seconds": state.seconds,
        "courses": [
            {"history": storage.from_frame(seed.history), "stopped": seed.stopped, "best_loss": repr(seed.best_loss)}
            for seed in state.seeds
        ],
    }  # fmt: skip
    tensors = to_entries(state.population, "population/")
    for number, seed in enumerate(state.seeds):
        tensors |= {f"courses/{number}/losses/{index}": losses for index, losses in enumerate(seed.losses)}
        for name, units in (("best", seed.best), ("teachers", seed.teachers)):
            tensors |= to_entries(units, f"courses/{number}/{name}/") if units is not None else {}
    for place, shards in (("parents", [state.parents] if state.parents else []), ("parts", state.shards)):
        facts[place] = []
        for index, shard in enumerate(shards):
            begun = "fresh" if shard.role == "child" else "initial"
            word = "trained" if shard.is_trained else begun if shard.steps is None else "begun"
            if word != "initial":
                tensors |= to_entries(shard.population, f"{place}/{index}/")
            tensors |= {f"{place}/{index}/{name}": tensor for name, tensor in shard.tensors.items()}
            facts[place].append([word, len(shard.population)])
    return facts, tensors


def from_file(
    facts: Mapping[str, Any], tensors: Mapping[str, Tensor], order: Population, saved: str = "the checkpoint"
) -> EvolutionState:
    """Return the state that `to_file` wrote, on the device of `order`, any units of the same model.

    `saved` names the file in errors.
    """
    device = next(iter(order.parameters.values())).device

    def units_of(place: str) -> Population:
        own = {name: tensor.to(device) for name, tensor in tensors.items() if name.startswith(place)}
        return from_entries(own, order, saved, place)

    def shards(place: str, role: str) -> list[Shard]:
        found: list[Shard] = []
        first = 0
        for index, (word, size) in enumerate(facts[place]):
            units, own = range(first, first + size), f"{place}/{index}/"
            some = population.take(slice(first, units.stop)) if word == "initial" else units_of(own)
            held: dict[str, Any] = {
                field.name: tensor if field.name in ON_CPU else tensor.to(device)
                for field in fields(Shard)
                if (tensor := tensors.get(own + field.name)) is not None
            }
            found.append(Shard(some, units, role, facts["generation"], **held))
            first = units.stop
        return found

    population = units_of("population/")
    seeds = [
        SeedState(
            storage.to_frame(seed["history"]),
            [tensors[name].to(device) for index in range(2) if (name := f"courses/{place}/losses/{index}") in tensors],
            seed["stopped"],
            units_of(f"courses/{place}/best/") if float(seed.get("best_loss", "inf")) < math.inf else None,
            float(seed.get("best_loss", "inf")),
            units_of(own) if any(name.startswith(own := f"courses/{place}/teachers/") for name in tensors) else None,
        )
        for place, seed in enumerate(facts["courses"])
    ]
    parents = shards("parents", "parent")
    return EvolutionState(
        generation=facts["generation"], population=population,
        shards=shards("parts", "child" if parents else "parent"), seeds=seeds, shard_count=facts["shards"],
        parents=Shard.join(parents) if parents else None, seconds=facts["seconds"],
    )  # fmt: skip
