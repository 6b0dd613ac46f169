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
    """History, losses, stop reason and best unit of one seed; its units are in `EvolutionState.population`.

    Attributes:
        history: the rows of `Result.history` for complete generations.
        losses: losses of the last two generations that were selected, which Eq. 13 compares: [g] each, none before the
            first is complete. While only one is, the other losses are the initial units', before training.
        stopped: "callback" or "converged"; "" if it is not over, or only because there are no more generations.
        best: the unit with the lowest loss on the fixed rows ever, a population of one; None without such rows.
        best_loss: that loss.
        teachers: the parents of the last generation, if they have taught it and are not among it; else None.
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
        generation: number of the generation under way, from 1; 0 where nothing evolves.
        population: the units that it began with, seed by seed: the survivors of the generation before, fittest first,
            or the initial units. Once all is over, the result's.
        shards: shards of the role that is being trained, in order; none between parents and children.
        seeds: one state for each seed.
        shard_count: number of shards that a role is cut into.
        parents: the trained parents, from their training's end to survival; before that None.
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
        """True once all units of the role are trained."""
        return all(shard.is_trained for shard in self.shards)

    def units_as_they_are(self) -> Population:
        """Return the parents without moments: amid their training or, while the children are trained, after it."""
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
    """Return JSON values and tensors, for `gadam.storage`.

    Names in the file are older than those here: "courses" are `seeds`, "parts" are `shards`.
    """
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
            # "initial" parents, before their training, are slices of `state.population` and not written again. "fresh"
            # are children before theirs, "begun" units amid it, "trained" after it; `from_file` reads these alike.
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
