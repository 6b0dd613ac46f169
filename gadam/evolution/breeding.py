"""What makes the next generation of trained units: breeding (Section 3.3), survival (Section 3.4), and its history."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import pandas as pd
import torch
from torch import Generator, Tensor

from gadam import genetics
from gadam.config import GadamConfig
from gadam.population import Population
from gadam.randomness import GENETICS, stream
from gadam.result import Generation
from gadam.training.shards import LOSSES, Part, Trained, TrainingError

logger = logging.getLogger("gadam")

HISTORY = {
    "generation": "int64", "role": "str", "unit": "int64", "parent_a": "Int64", "parent_b": "Int64",
    "loss_start": "float64", "loss_trained": "float64", "loss_survival": "float64", "survived": "bool",
    "steps": "int64", "seconds": "float64",
}  # fmt: skip
"""The columns of `Result.history` and their types."""


def no_history() -> pd.DataFrame:
    """The history before the first generation is complete."""
    return pd.DataFrame({column: pd.Series(dtype=kind) for column, kind in HISTORY.items()})


@dataclass(frozen=True)
class Bred:
    """The newborn children of a generation, and what chose their parents and entries; see `Generation`."""

    newborn: Population
    normalized: Tensor
    probabilities: Tensor
    pairs: Tensor
    inheritance: Tensor
    mutation_rates: Tensor


def breed(parents: Population, fitness: Tensor, config: GadamConfig, draw: Generator) -> Bred:
    """Selection, crossover and mutation (Section 3.3): g children of trained parents.

    Args:
        parents: g units.
        fitness: [g], their mean losses on the validation batch (Eq. 7 divided by the rows of V).
        config: the settings.
        draw: the stream.
    """
    normalized = genetics.normalize_losses(fitness)
    probabilities = genetics.selection_probabilities(normalized, eligible=fitness.isfinite())
    pairs = genetics.select_parents(probabilities, config.population_size, generator=draw)
    inheritance = genetics.inheritance_probabilities(normalized, pairs)
    rates = genetics.mutation_rates(config.mutation_rate, probabilities, pairs)
    before = draw.get_state()
    crossed = genetics.crossover(parents.parameters, pairs, inheritance, generator=draw)
    moments: dict[str, Tensor] = {}
    # Moments that are carried go with their entry: the same draws for each kind of state.
    for state in dict.fromkeys(name.partition("/")[0] for name in parents.moments):
        entries = {name: parents.moments[f"{state}/{name}"] for name in parents.parameters}
        if state == "step":
            mixed = genetics.inherit(entries, pairs, inheritance)
        else:
            again = Generator(draw.device).set_state(before)
            mixed = genetics.crossover(entries, pairs, inheritance, generator=again)
        moments |= {f"{state}/{name}": entry for name, entry in mixed.items()}
    mutated = genetics.mutate(crossed, rates, generator=draw, distribution=config.mutation)
    buffers = genetics.inherit(parents.buffers, pairs, inheritance)
    newborn = replace(parents, parameters=mutated, buffers=buffers, moments=moments)
    return Bred(newborn, normalized, probabilities, pairs, inheritance, rates)


def trained(parts: Sequence[Part], first: int = 0, units: int = sys.maxsize) -> list[Trained]:
    """Of the parts of a role, which are trained, so many units in a row; by default all."""
    found, before = [], 0
    for part in parts:
        assert isinstance(part, Trained)
        low, high = max(first - before, 0), min(first + units - before, len(part.population))
        if (low, high) == (0, len(part.population)):
            found.append(part)
        elif low < high:
            found.append(part.take(slice(low, high)))
        before += len(part.population)
    return found


def breed_trained(parents: Sequence[Trained], config: GadamConfig, number: int) -> Bred:
    """`breed` for the trained parents of a generation, with its stream."""
    population = Population.join([part.population for part in parents])
    fitness = torch.cat([part.loss_trained for part in parents]).double()
    _check_finite(fitness, number, config)
    return breed(population, fitness, config, stream(fitness.device, config.seed, GENETICS, number))


def survive(
    number: int, parents: Sequence[Trained], children: Sequence[Trained], bred: Bred, config: GadamConfig
) -> tuple[Generation, Tensor]:
    """Survival (Section 3.4). Returns the generation, and what those who survive lose on the new batch, [g]."""
    g = config.population_size
    rows = pd.concat(
        [_rows(number, "parent", parents, config.steps), _rows(number, "child", children, config.steps)],
        ignore_index=True,
    )
    rows.loc[g:, "parent_a"], rows.loc[g:, "parent_b"] = bred.pairs[:, 0].tolist(), bred.pairs[:, 1].tolist()
    losses = torch.cat([part.loss_survival for part in (*parents, *children)]).double()
    survivors = genetics.survivors(losses, g)
    finite = _check_finite(losses[survivors], number, config)
    if finite < g:
        logger.warning("generation %d: %d diverged units are replaced by copies of the fittest", number, g - finite)
        survivors = survivors[torch.arange(g, device=survivors.device) % finite]
    rows.loc[survivors.tolist(), "survived"] = True
    populations = [Population.join([part.population for part in parts]) for parts in (parents, children)]
    following = Population.choose(populations, survivors.tolist())
    generation = Generation(
        number=number, parents=populations[0], children=populations[1], next=following, survivors=survivors,
        history=rows, **vars(bred),
    )  # fmt: skip
    return generation, losses[survivors]


def _check_finite(losses: Tensor, number: int, config: GadamConfig) -> int:
    """How many losses are finite; TrainingError if none is."""
    finite = int(losses.isfinite().sum())
    if not finite:
        raise TrainingError(
            f"generation {number}: every unit has a loss that is NaN or infinite; a learning rate below "
            f"{config.learning_rate:g} may help"
        )
    return finite


def initial_losses(generation: Generation) -> Tensor:
    """What Eq. 13 compares the first generation with: the initial units were selected by no loss; before training."""
    rows = generation.history
    losses = rows.loc[rows["role"] == "parent", "loss_start"].to_numpy()
    return torch.tensor(losses, device=generation.survivors.device)


def _rows(number: int, role: str, parts: Sequence[Trained], steps: int) -> pd.DataFrame:
    """The history of one role, still without lineage and survival."""
    sizes = [len(part.population) for part in parts]
    columns: dict[str, Any] = {
        "generation": number,
        "role": role,
        "unit": range(sum(sizes)),
        "parent_a": pd.NA,
        "parent_b": pd.NA,
        **{name: torch.cat([getattr(part, name) for part in parts]).double().tolist() for name in LOSSES},
        "survived": False,
        "steps": steps,
        "seconds": list(chain.from_iterable([part.seconds / n] * n for part, n in zip(parts, sizes, strict=True))),
    }
    return pd.DataFrame(columns).astype(HISTORY)
