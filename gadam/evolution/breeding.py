"""Make the next generation from trained parents: breeding (Section 3.3), survival (Section 3.4), and its history.

Populations of several seeds are trained together as one, but never meet: each is bred, selected and judged by itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import torch
from torch import Generator, Tensor, nn

from gadam import genetics
from gadam.config import RATES as RATES_NAMES
from gadam.config import GadamConfig
from gadam.evolution.state import EvolutionState, SeedState
from gadam.population import Population, only_read, padding_rows, to_entries
from gadam.randomness import GENETICS, INITIALISATION, RATES, VALIDATION, stream, stream_seed
from gadam.result import Callback, Generation, Offspring
from gadam.training.shards import Data, Shard, TrainingError, split_into_shards

logger = logging.getLogger("gadam")

HISTORY = {
    "generation": "int64", "role": "str", "unit": "int64", "parent_a": "Int64", "parent_b": "Int64",
    "loss_start": "float64", "loss_trained": "float64", "loss_survival": "float64", "survived": "bool",
    "steps": "int64", "seconds": "float64",
}  # fmt: skip
"""Columns of `Result.history` and their types; where there are fixed rows there is `loss_validation` too."""


def draw_rates(configs: Sequence[GadamConfig], device: torch.device) -> dict[str, Tensor]:
    """Draw for each unit of the first generation, from its own stream, the settings that are ranges: [units] each."""

    def drawn(name: str, config: GadamConfig, unit: int) -> float:
        low, high = config.ranges[name]
        shares = torch.rand(len(RATES_NAMES), dtype=torch.float64, generator=stream("cpu", config.seed, RATES, unit))
        return low * (high / low) ** float(shares[RATES_NAMES.index(name)])

    return {
        name: torch.tensor(
            [drawn(name, config, unit) for config in configs for unit in range(config.population_size)],
            dtype=torch.float64, device=device,
        )
        for name in configs[0].ranges
    }  # fmt: skip


def breed(parents: Population, fitness: Tensor, config: GadamConfig, draw: Generator) -> Offspring:
    """Select, cross and mutate (Section 3.3): children of trained parents.

    `fitness`, [g], are their mean losses on the validation batch (Eq. 7 divided by the rows of V); `draw` the stream.
    """
    normalized = genetics.normalize_losses(fitness)
    probabilities = genetics.selection_probabilities(normalized, eligible=fitness.isfinite())
    pairs = genetics.select_parents(probabilities, config.children or config.population_size, generator=draw)
    # All children have the same teachers. A pair of the fittest with itself makes it the one that they start from.
    if config.parents != "pair":
        pairs = torch.full_like(pairs, int(genetics.survivors(normalized, 1)))
    inheritance = genetics.inheritance_probabilities(normalized, pairs)
    mutation_rates = genetics.mutation_rates(config.mutation_rate, probabilities, pairs)
    # Parents have no moments here unless they are carried (`Trainer.train` drops them): a child's Adam starts anew.
    copies = config.crossover == "none" or (config.crossover == "teach" and config.child_start != "crossover")
    if copies:  # of the fitter parent; a fresh child gets its weights afterwards
        parameters, moments = (
            genetics.inherit(own, pairs, inheritance) for own in (parents.parameters, parents.moments)
        )
    else:
        parameters, moments = _cross(parents, pairs, inheritance, draw)
    if config.crossover == "teach":  # what children are taught from has no mutation either
        mutation_rates = torch.zeros_like(mutation_rates)
    else:
        crossed = parameters
        parameters = genetics.mutate(crossed, mutation_rates, generator=draw, distribution=config.mutation)
        # Padding has no gradient, so no training would take back a mutation of its row.
        for name, row in padding_rows(parents.template):
            if name in crossed:
                parameters[name][:, row] = crossed[name][:, row]
    buffers, rates = (genetics.inherit(own, pairs, inheritance) for own in (parents.buffers, parents.rates))
    if config.mutate_rates:
        rates = genetics.perturb(rates, generator=draw)
    newborn = replace(parents, parameters=parameters, buffers=buffers, moments=moments, rates=rates)
    return Offspring(newborn, normalized, probabilities, pairs, inheritance, mutation_rates)


def _cross(
    parents: Population, pairs: Tensor, inheritance: Tensor, draw: Generator
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Cross parameters (Eq. 9), and the moments that go with them. Returns both, name -> [children, ...].

    Parents have moments with moments="carry" alone (else `Trainer.train` drops them). Each entry of a moment is then
    from the parent that gave that entry of the parameter, even if it mutates afterwards: each kind of state repeats the
    draws. Counts of steps, [children], are taken whole.
    """
    before = draw.get_state()
    crossed = genetics.crossover(parents.parameters, pairs, inheritance, generator=draw)
    moments: dict[str, Tensor] = {}
    for state in dict.fromkeys(name.partition("/")[0] for name in parents.moments):
        entries = {name: parents.moments[f"{state}/{name}"] for name in parents.parameters}
        if state == "step":
            mixed = genetics.inherit(entries, pairs, inheritance)
        else:
            mixed = genetics.crossover(entries, pairs, inheritance, generator=Generator(draw.device).set_state(before))
        moments |= {f"{state}/{name}": entry for name, entry in mixed.items()}
    return crossed, moments


def breed_seeds(
    state: EvolutionState, configs: Sequence[GadamConfig], stopped: Sequence[str], make_model: Callable[[], nn.Module]
) -> list[Offspring]:
    """Breed the children of each seed from the trained parents of all of them.

    A seed that is `stopped` has children too, which come to nothing: shards hold as many units as before.
    """
    assert state.parents is not None
    offspring = []
    for own, config, over in zip(state.parents.of_seeds(len(configs)), configs, stopped, strict=True):
        fitness = own.tensors["loss_trained"].double()
        if over:
            fitness = torch.zeros_like(fitness)  # whatever became of its units, the others go on
        _require_finite(fitness, own.tensors["loss_start"], state.generation, config)
        bred = breed(own.population, fitness, config, stream(fitness.device, config.seed, GENETICS, state.generation))
        if config.child_start == "fresh":
            fresh = Population.make(
                make_model, len(bred.newborn), initialisation=config.initialisation, device=fitness.device,
                seed=stream_seed(config.seed, INITIALISATION, state.generation),
            )  # fmt: skip
            newborn = replace(bred.newborn, parameters=fresh.parameters, buffers=fresh.buffers)
            bred = replace(bred, newborn=newborn.without_moments())
        offspring.append(bred)
    return offspring


def survive_seeds(
    state: EvolutionState, offspring: Sequence[Offspring], configs: Sequence[GadamConfig], stopped: Sequence[str],
    callbacks: Sequence[Sequence[Callback]],
) -> EvolutionState:  # fmt: skip
    """Select the next generation of each seed and tell its callbacks; a seed that is over keeps its last one."""
    assert state.parents is not None
    number = state.generation
    trained = (units.of_seeds(len(configs)) for units in (state.parents, Shard.join(state.shards)))
    following, seeds = [], []
    for place, (config, seed, parents, children) in enumerate(zip(configs, state.seeds, *trained, strict=True)):
        if stopped[place]:
            following.append(units_of_seed(state.population, place, len(configs)))
            seeds.append(replace(seed, stopped=stopped[place]))
            continue
        generation, losses = survive(parents, children, offspring[place], config)
        wants_stop = [_tell(callback, generation) for callback in callbacks[place]]
        following.append(generation.next)
        history = generation.history
        if number > 1:
            history = pd.concat([seed.history, history], ignore_index=True)
        # Eq. 13 compares the first generation with the initial units, before training.
        before = seed.losses or [parents.tensors["loss_start"].double()]
        best, best_loss = find_best(seed, [parents, children])
        ended = "callback" if any(wants_stop) else ""
        teachers = None
        if config.crossover == "teach" and config.survival == "children":  # else the fittest of them have survived
            teachers = parents.population.without_moments()
        seeds.append(SeedState(history, [before[-1], losses], ended, best, best_loss, teachers))
    population = Population.join(following)
    shards = split_into_shards(population, state.shard_count, "parent", number + 1)
    return EvolutionState(number + 1, population, shards, seeds, state.shard_count)


def find_best(seed: SeedState, shards: Sequence[Shard]) -> tuple[Population | None, float]:
    """Return the unit with the lowest loss on the fixed rows so far, and that loss."""
    best, lowest = seed.best, seed.best_loss
    for shard in shards:
        losses = shard.tensors.get("loss_validation")
        if losses is None:
            continue
        losses = losses.double().nan_to_num(torch.inf, torch.inf, torch.inf)
        if float(losses.min()) < lowest:
            unit, lowest = int(losses.argmin()), float(losses.min())
            best = shard.population.take(torch.tensor([unit], device=losses.device)).without_moments()
    return best, lowest


def survive(parents: Shard, children: Shard, offspring: Offspring, config: GadamConfig) -> tuple[Generation, Tensor]:
    """Select the next generation (Section 3.4). Returns the generation, and its losses on the new batch, [g]."""
    number, count = parents.generation, len(parents.units)
    both = (parents, children)
    rows = pd.concat([history_rows(shard, config.steps_of(shard.role)) for shard in both], ignore_index=True)
    if config.parents == "pair":
        rows.loc[count:, "parent_a"] = offspring.pairs[:, 0].tolist()
        rows.loc[count:, "parent_b"] = offspring.pairs[:, 1].tolist()
    losses = torch.cat([shard.tensors["loss_survival"] for shard in both]).double()
    g = config.units_of("parent", number + 1)
    first = count if config.survival == "children" else 0
    survivors = first + genetics.survivors(losses[first:], g)
    finite = _require_finite(losses[survivors], parents.tensors["loss_start"], number, config)
    if finite < g:
        logger.warning("generation %d: %d diverged units are replaced by copies of the fittest", number, g - finite)
        survivors = survivors[torch.arange(g, device=survivors.device) % finite]
    rows.loc[survivors.tolist(), "survived"] = True
    generation = Generation(
        number=number, parents=parents.population, children=children.population,
        next=Population.join([parents.population, children.population]).take(survivors),
        survivors=survivors, history=rows, **vars(offspring),
    )  # fmt: skip
    return generation, losses[survivors]


def _tell(callback: Callback, generation: Generation) -> bool | None:
    lent = (generation.newborn, generation.parents, generation.children, generation.next)
    with only_read(TrainingError, f"callbacks: {type(callback).__name__}", *map(to_entries, lent)):
        return callback.on_generation(generation)


def stop_reasons(state: EvolutionState, config: GadamConfig) -> list[str]:
    """Return for each seed why its evolution is over, or "" if it is not."""

    def reason(seed: SeedState) -> str:
        if seed.stopped:
            return seed.stopped
        if state.generation > config.generations:
            return "generations"
        if len(seed.losses) < 2:
            return ""
        previous, selected = seed.losses
        if len(previous) != len(selected):  # whose sums say nothing
            return ""
        return "converged" if genetics.has_converged(previous, selected, config.threshold) else ""

    return [reason(seed) for seed in state.seeds]


def draw_validation_batches(data: Data, number: int, configs: Sequence[GadamConfig]) -> Data:
    """Draw the two validation batches of a generation, for each seed: distinct rows, at most all there are."""
    device, rows = data.held_out[1].device, len(data.held_out[1])
    draws = [stream(device, config.seed, VALIDATION, number) for config in configs]

    def batch() -> Tensor:
        drawn = [torch.randperm(rows, generator=draw, device=device) for draw in draws]
        return torch.stack(drawn)[:, : configs[0].validation_size]

    return replace(data, fitness=batch(), survival=batch())


def units_of_seed(population: Population, place: int, seeds: int) -> Population:
    """Return one seed's units. With several seeds they are copied: a slice would keep the memory of all."""
    g = len(population) // seeds
    return population if seeds == 1 else population.take(torch.arange(place * g, place * g + g))


def history_rows(shard: Shard, steps: int) -> pd.DataFrame:
    """Return the history of one seed's trained units of a role, still without lineage and survival."""
    columns: dict[str, Any] = {
        "generation": shard.generation, "role": shard.role, "unit": range(len(shard.population)),
        "parent_a": pd.NA, "parent_b": pd.NA, "survived": False, "steps": steps,
        **{name: shard.tensors[name].tolist() for name in ("loss_start", "loss_trained", "loss_survival", "seconds")},
    }  # fmt: skip
    frame = pd.DataFrame(columns)[list(HISTORY)].astype(HISTORY)
    frame = frame.assign(**{name: entry.tolist() for name, entry in shard.population.rates.items()})
    fixed = shard.tensors.get("loss_validation")
    return frame if fixed is None else frame.assign(loss_validation=fixed.double().tolist())


def _require_finite(losses: Tensor, before: Tensor, number: int, config: GadamConfig) -> int:
    """Return how many losses are finite; if none, raise TrainingError with advice by the losses before training."""
    finite = int(losses.isfinite().sum())
    if not finite:
        rate = config.learning_rate
        advice = f"a learning rate below {rate[1] if isinstance(rate, tuple) else rate} may help"
        if not before.isfinite().any():
            advice = (
                "so they were before the training: has the validation batch rows with targets that count "
                f"(validation_size={config.validation_size}), and are inputs of a size that the model takes?"
            )
        raise TrainingError(f"generation {number}: every unit has a loss that is NaN or infinite; {advice}")
    return finite
