"""evolve(): the generation loop of Section 3."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError, Executor
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch
from torch import Generator, Tensor, nn
from tqdm.auto import tqdm

from gadam import genetics
from gadam.checks import check_batch, check_fit, check_rows
from gadam.config import GadamConfig, InputError
from gadam.executors import as_executor, train_shards
from gadam.layout import cut, lay_out, resolve_device
from gadam.plotting.live import front_end
from gadam.population import Population
from gadam.randomness import GENETICS, VALIDATION, stream
from gadam.result import Callback, Generation, Result
from gadam.training import Data, Progress, Record, Shard, Trained, Trainer
from gadam.vectorised import Batch, Loss

logger = logging.getLogger("gadam")


def evolve(
    make_model: Callable[[], nn.Module],
    data: tuple[Tensor | tuple[Tensor, ...], Tensor],
    config: GadamConfig | None = None,
    *,
    loss: Loss = nn.functional.cross_entropy,
    validation: tuple[Tensor | tuple[Tensor, ...], Tensor] | None = None,
    executor: Executor | int | None = None,
    device: torch.device | str = "auto",
    callbacks: Iterable[Callback] = (),
    record: Record | None = None,
    progress: bool | None = None,
    stop: threading.Event | None = None,
) -> Result:
    """Train a population of unit models and evolve it, generation by generation (Section 3).

    Args:
        make_model: returns a fresh unit model, any `nn.Module` whose architecture is the same at each call. Dropout,
            BatchNorm, tied and frozen parameters are fine. Python attributes that `forward` changes are not seen.
        data: inputs [n, *features] (or a tuple of such, given to the module as its arguments) and targets [n, ...].
        config: the settings; the defaults of `GadamConfig` if None.
        loss: (output, targets) -> scalar, a mean over rows; lower is fitter.
        validation: rows from which validation batches are drawn; None draws from `data`, as the paper does (V in T).
        executor: a `concurrent.futures.Executor`, a number of threads, or None for what suits the machine.
        device: "auto" (CUDA where there is a GPU) or a torch device.
        callbacks: told of the start, of each generation and of the end.
        record: told of each step of each shard, see `gadam.training.Step`; only with threads of this process.
        progress: a bar over generations and steps; None shows it where somebody looks (a terminal, JupyterLab).
        stop: set by another thread, it ends the training at once; the result is then the last complete generation, or
            before the first is complete the initial one with an empty history.

    Returns:
        The result; its `history` has the columns generation (from 1), role ("parent" or "child"), unit (from 0 within
        its role), parent_a, parent_b (units of the same generation; missing for parents), loss_start, loss_trained
        (mean loss on the generation's validation batch before and after training), loss_survival (on the shared new
        batch), survived, steps, seconds (a unit's share of its shard's time).

    Raises:
        InputError: an argument cannot be used; one line says which and why, before any training.
    """
    config = config or GadamConfig()
    device = resolve_device(device)
    train = check_batch("data", data, device)
    held_out = train if validation is None else check_batch("validation", validation, device)
    started = time.perf_counter()
    population = Population.make(
        make_model, config.population_size, seed=config.seed, initialisation=config.initialisation, device=device
    )
    check_fit(population, train, loss, config.batch_size)
    if validation is not None:
        try:
            check_rows(population, held_out, loss)
        except InputError as error:
            raise InputError(f"validation: {error}") from error.__cause__
    total = 2 * config.generations * config.steps * config.population_size
    trainer, layout = lay_out(population, train, loss, config, total)
    callbacks = list(callbacks)
    useful = min(torch.get_num_threads(), layout) if device.type == "cpu" else 1

    for callback in callbacks:
        callback.on_start(config, population)
    history = [pd.DataFrame({column: pd.Series(dtype=kind) for column, kind in HISTORY.items()})]
    stopped = "generations"
    # The initial generation has not been selected by a loss yet; Eq. 13 takes what it has before training.
    previous: Tensor | None = None
    counting = threading.Lock()

    def progressed(steps: int) -> None:
        if stop is not None and stop.is_set():
            raise CancelledError
        with counting:  # the bar's own count is not safe between threads
            bar.update(steps)

    # None: unless it is a terminal. In a notebook tqdm would show it to nobody too, who then keeps a bar that stands.
    hidden = (None if front_end() != "batch" else True) if progress is None else not progress
    with (
        as_executor(executor, useful) as pool,
        tqdm(total=total, unit="step", unit_scale=True, disable=hidden) as bar,
    ):
        for number in range(1, config.generations + 1):
            bar.set_description(f"generation {number}/{config.generations}")
            try:
                generation, losses = _generation(
                    number, population, trainer, layout, train, held_out, pool, progressed, record
                )
            except CancelledError:
                if stop is None or not stop.is_set():
                    raise
                stopped = "stop"
                break
            population = generation.next
            history.append(generation.history)
            selected = losses[generation.survivors]
            bar.set_postfix(best=f"{selected[0]:.4g}", refresh=False)
            logger.info("generation %d/%d: best loss %.4g", number, config.generations, selected[0])
            wants_stop = [callback.on_generation(generation) for callback in callbacks]
            if previous is None:
                rows = generation.history
                previous = torch.tensor(rows.loc[rows["role"] == "parent", "loss_start"].to_numpy(), device=device)
            if any(wants_stop):
                stopped = "callback"
                break
            if number < config.generations and genetics.has_converged(previous, selected, config.threshold):
                stopped = "converged"
                break
            previous = selected

    frame = pd.concat(history[1:] or history, ignore_index=True)
    result = Result(
        best=population.take(slice(0, 1)).to("cpu").unit(0),
        population=population,
        history=frame,
        config=config,
        stopped=stopped,
        gradient_steps=int(frame["steps"].sum()),
        seconds=time.perf_counter() - started,
    )
    for callback in callbacks:
        callback.on_end(result)
    return result


def _generation(
    number: int,
    population: Population,
    trainer: Trainer,
    layout: int,
    train: Batch,
    held_out: Batch,
    pool: Executor | None,
    progress: Progress,
    record: Record | None,
) -> tuple[Generation, Tensor]:
    """Sections 3.2 to 3.4 once. Returns the generation, and what parents and children lose on the new batch, [2g]."""
    config = trainer.config
    device = train[1].device
    batches = stream(device, config.seed, VALIDATION, number)
    draw = stream(device, config.seed, GENETICS, number)
    data = Data(train, *(_validation_batch(held_out, config.validation_size, batches) for _ in range(2)))

    def trained(role: str, units: Population) -> tuple[Population, pd.DataFrame]:
        shards = cut(units, layout, role, number)
        results = train_shards(pool, trainer, shards, data, progress, record)
        return Population.join([result.population for result in results]), _rows(shards, results, config.steps)

    parents, parent_rows = trained("parent", population)
    fitness = torch.tensor(parent_rows["loss_trained"].to_numpy(), device=device)
    bred = breed(parents, fitness, config, draw)
    children, child_rows = trained("child", bred.newborn)

    child_rows["parent_a"], child_rows["parent_b"] = bred.pairs[:, 0].tolist(), bred.pairs[:, 1].tolist()
    rows = pd.concat([parent_rows, child_rows], ignore_index=True)
    rows[["parent_a", "parent_b"]] = rows[["parent_a", "parent_b"]].astype("Int64")
    losses = torch.tensor(rows["loss_survival"].to_numpy(), device=device)
    survivors = genetics.survivors(losses, config.population_size)
    rows["survived"] = False
    rows.loc[survivors.tolist(), "survived"] = True
    following = Population.choose([parents, children], survivors.tolist())
    generation = Generation(
        number=number, parents=parents, children=children, next=following, survivors=survivors,
        history=rows[list(HISTORY)], **vars(bred),
    )  # fmt: skip
    return generation, losses


HISTORY = {
    "generation": "int64", "role": "str", "unit": "int64", "parent_a": "Int64", "parent_b": "Int64",
    "loss_start": "float64", "loss_trained": "float64", "loss_survival": "float64", "survived": "bool",
    "steps": "int64", "seconds": "float64",
}  # fmt: skip
"""The columns of `Result.history` and their types."""


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


def _validation_batch(rows: Batch, size: int, generator: Generator) -> Batch:
    """Distinct rows, at most all there are."""
    inputs, targets = rows
    index = torch.randperm(len(targets), generator=generator, device=targets.device)[:size]
    return tuple(tensor[index] for tensor in inputs), targets[index]


def _rows(shards: Sequence[Shard], results: Sequence[Trained], steps: int) -> pd.DataFrame:
    """The history of one role, still without lineage and survival."""
    frames = []
    for shard, result in zip(shards, results, strict=True):
        columns: dict[str, Any] = {
            "generation": shard.generation,
            "role": shard.role,
            "unit": list(shard.units),
            "parent_a": pd.array([pd.NA] * len(shard.units), dtype="Int64"),
            "parent_b": pd.array([pd.NA] * len(shard.units), dtype="Int64"),
            "steps": steps,
            "seconds": result.seconds / len(shard.units),
        }
        for name in ("loss_start", "loss_trained", "loss_survival"):
            columns[name] = getattr(result, name).double().tolist()
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)
