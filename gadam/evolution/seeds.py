"""Populations of several seeds that are trained together as one: what happens to each of them apart.

They never meet: each is bred, selected and judged by itself (Sections 3.3 and 3.4), on batches of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import torch
from torch import Tensor

from gadam import genetics
from gadam.config import GadamConfig
from gadam.evolution.breeding import Bred, breed_trained, initial_losses, survive, trained
from gadam.evolution.state import Course, Standing
from gadam.population import Population
from gadam.randomness import VALIDATION, stream
from gadam.result import Callback
from gadam.training.plan import cut
from gadam.training.shards import Part, Record, Step
from gadam.training.trainer import Trainer


def of_seed(population: Population, place: int, g: int) -> Population:
    """One seed's units; a copy where there are others, whose memory it would keep."""
    return population if len(population) == g else population.take(torch.arange(place * g, place * g + g))


def batches(rows: int, number: int, configs: Sequence[GadamConfig], device: torch.device) -> tuple[Tensor, Tensor]:
    """The validation batches of a generation: numbers of distinct rows, at most of all there are; see `Data`."""
    draws = [stream(device, own.seed, VALIDATION, number) for own in configs]

    def batch() -> Tensor:
        drawn = [torch.randperm(rows, generator=draw, device=device) for draw in draws]
        return torch.stack(drawn).squeeze(0)[..., : configs[0].validation_size]

    return batch(), batch()


def breed_each(parents: Sequence[Part], configs: Sequence[GadamConfig], number: int) -> list[Bred]:
    """The children of each seed."""
    return [
        breed_trained(trained(parents, place * own.population_size, own.population_size), own, number)
        for place, own in enumerate(configs)
    ]


def survive_each(
    standing: Standing,
    bred: Sequence[Bred],
    configs: Sequence[GadamConfig],
    stopped: Sequence[str],
    callbacks: Sequence[Sequence[Callback]],
) -> Standing:
    """The next generation; of a seed that is over its last one, which stays what it was."""
    number, following, courses = standing.generation, [], []
    for place, (own, course) in enumerate(zip(configs, standing.courses, strict=True)):
        g = own.population_size
        if stopped[place]:
            following.append(of_seed(standing.population, place, g))
            courses.append(replace(course, stopped=stopped[place]))
            continue
        parents, children = (trained(parts, place * g, g) for parts in (standing.parents, standing.parts))
        generation, selected = survive(number, parents, children, bred[place], own)
        wants_stop = [callback.on_generation(generation) for callback in callbacks[place]]
        following.append(generation.next)
        courses.append(
            Course(
                history=pd.concat([course.history, generation.history][number == 1 :], ignore_index=True),
                losses=[*(course.losses or [initial_losses(generation)]), selected][-2:],
                stopped="callback" if any(wants_stop) else "",
            )
        )
    population = Population.join(following)
    parts = cut(population, standing.shards, "parent", number + 1)
    return Standing(number + 1, population, parts, courses, standing.shards)


def over(standing: Standing, config: GadamConfig) -> list[str]:
    """Of each seed why its evolution is over, or "" if it is not."""

    def why(course: Course) -> str:
        if course.stopped:
            return course.stopped
        if standing.generation > config.generations:
            return "generations"
        if len(course.losses) < 2:
            return ""
        previous, selected = course.losses
        return "converged" if genetics.has_converged(previous, selected, config.threshold) else ""

    return [why(course) for course in standing.courses]


def record_each(records: Sequence[Record | None], trainer: Trainer) -> Record | None:
    """What tells each seed's record of its own units."""
    if trainer.seeds is None or not any(records):
        return records[0]

    def told(step: Step) -> None:
        for place, own in trainer.by_seed(step.units):
            if (record := records[place]) is not None:
                entries = {name: entry[own] for name, entry in step.parameters.items()}
                first = step.units[own].start - place * trainer.config.population_size
                units = range(first, first + len(step.units[own]))
                record(replace(step, units=units, losses=step.losses[own], parameters=entries))

    return told
