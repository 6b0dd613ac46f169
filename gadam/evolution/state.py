"""Where a training stands, and how that is written to a file (see `gadam.storage`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import pandas as pd
from torch import Tensor

from gadam import storage
from gadam.population import Population
from gadam.result import as_population
from gadam.training.shards import LOSSES, Begun, Part, Shard, Trained

_KINDS = ("parameters", "buffers", "moments")
_BEGUN = [field.name for field in fields(Begun) if field.name != "seconds"]
STOPPED = {"", "callback", "converged"}
"""What a course may say of its end."""
_PLAIN = ("generation", "shards", "seconds")


@dataclass(frozen=True)
class Course:
    """What became of one seed's population so far.

    Attributes:
        history: the rows of complete generations.
        losses: of the last two selected generations, [g] each; as many as there are.
        stopped: why it is over; "" while it is not, or if it is over only because there are no more generations.
    """

    history: pd.DataFrame
    losses: Sequence[Tensor] = ()
    stopped: str = ""


@dataclass(frozen=True)
class Standing:
    """Where a training stands: all that what is to come depends on.

    Attributes:
        generation: the one under way, from 1.
        population: that it began with: of each seed the last complete generation, fittest first, or the initial one.
        parts: of the role that is being trained, in order.
        courses: one for each seed.
        shards: that generations are cut into.
        parents: the trained parents, in order, while the children are being trained; before that empty.
        seconds: of wall time so far.
    """

    generation: int
    population: Population
    parts: Sequence[Part]
    courses: Sequence[Course]
    shards: int
    parents: Sequence[Trained] = ()
    seconds: float = 0.0

    @property
    def role(self) -> str:
        """Whose training is under way."""
        return "child" if self.parents else "parent"

    @property
    def paused(self) -> bool:
        """Whether some part is not trained."""
        return any(isinstance(part, Shard) for part in self.parts)

    def __str__(self) -> str:
        steps = [
            0 if part.begun is None else int(part.begun.steps.min()) for part in self.parts if isinstance(part, Shard)
        ]
        return f"generation {self.generation}, {self.role} units at step {min(steps, default=0):,}"


def as_written(standing: Standing) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """JSON values and tensors, for a file."""
    tensors = {
        f"courses/{number}/losses/{index}": losses
        for number, course in enumerate(standing.courses)
        for index, losses in enumerate(course.losses)
    }
    tensors |= _entries("population", standing.population)
    facts: dict[str, Any] = {name: getattr(standing, name) for name in _PLAIN}
    for place in ("parents", "parts"):
        facts[place] = []
        for index, part in enumerate(getattr(standing, place)):
            state, own, seconds = _described(part)
            if state == "fresh" and part.role == "parent":
                state = "initial"  # units of the population, which is there
            else:
                tensors |= _entries(f"{place}/{index}", part.population)
            tensors |= {f"{place}/{index}/{name}": entry for name, entry in own.items()}
            facts[place].append([state, len(part.population), seconds])
    courses = [{"history": storage.from_frame(each.history), "stopped": each.stopped} for each in standing.courses]
    return facts | {"courses": courses}, tensors


def from_written(facts: Mapping[str, Any], tensors: Mapping[str, Tensor], order: Population) -> Standing:
    """The inverse of `as_written`, on the device of `order`, any units of the same model.

    Raises:
        InputError: it is another model.
    """
    device = next(iter(order.parameters.values())).device
    there = {name: tensor if _on_cpu(name) else tensor.to(device) for name, tensor in tensors.items()}
    population = _population(there, "population", order)
    if len(population) != len(order):
        raise ValueError(f"{len(population)} units, must be {len(order)}")
    role = "child" if facts["parents"] else "parent"

    def parts(place: str) -> list[Part]:
        found: list[Part] = []
        first = 0
        for index, (state, size, seconds) in enumerate(facts[place]):
            units = range(first, first + size)
            first = units.stop
            if state == "initial":
                own = population.take(slice(units.start, units.stop))
            else:
                own = _population(there, f"{place}/{index}", order)
            if len(own) != size or state not in ("initial", "fresh", "begun", "trained"):
                raise ValueError(f"{len(own)} units are {state!r}, must be {size}")
            if state == "trained":
                found.append(
                    Trained(own, **{name: there[f"{place}/{index}/{name}"] for name in LOSSES}, seconds=seconds)
                )
                continue
            begun = None
            if state == "begun":
                begun = Begun(**{name: there[f"{place}/{index}/{name}"] for name in _BEGUN}, seconds=seconds)
            found.append(Shard(own, units, role, facts["generation"], begun))
        return found

    courses = [
        Course(
            storage.to_frame(course["history"]),
            [there[name] for index in range(2) if (name := f"courses/{number}/losses/{index}") in there],
            course["stopped"],
        )
        for number, course in enumerate(facts["courses"])
    ]
    if facts["generation"] < 0 or not courses or not {course.stopped for course in courses} <= STOPPED:
        raise ValueError("no training stands so")
    return Standing(
        population=population,
        parts=parts("parts"),
        parents=[part for part in parts("parents") if isinstance(part, Trained)],
        courses=courses,
        **{name: facts[name] for name in _PLAIN},
    )


def _described(part: Part) -> tuple[str, dict[str, Tensor], float]:
    """Of a part: its state in a word, its tensors beside those of units, its seconds."""
    if isinstance(part, Trained):
        return "trained", {name: getattr(part, name) for name in LOSSES}, part.seconds
    if part.begun is None:
        return "fresh", {}, 0.0
    return "begun", {name: getattr(part.begun, name) for name in _BEGUN}, part.begun.seconds


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


def _on_cpu(name: str) -> bool:
    return name.rpartition("/")[2] in ("steps", "batches", "draws")
