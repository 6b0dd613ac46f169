"""Set up a training: check what was given, make the population, plan, and read the checkpoint."""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from typing import Any

import torch
from torch import nn
from tqdm.auto import tqdm

from gadam.config import GadamConfig, InputError
from gadam.display import front_end, shown
from gadam.evolution.breeding import no_history, units_of_seed
from gadam.evolution.checkpoint import Checkpointer, identify, stacklevel_of_caller
from gadam.evolution.state import EvolutionState, SeedState
from gadam.parallel.executors import Pool, as_pool, run_until_stopped, train_shards
from gadam.parallel.workers import cluster_size
from gadam.population import Population
from gadam.result import Callback, Result
from gadam.training.inputs import check_batch, check_fit, check_rows, resolve_device, targets_of
from gadam.training.plan import plan_training
from gadam.training.shards import Data, Record, Shard, Step, TrainingError, split_into_shards
from gadam.training.trainer import Trainer
from gadam.types import Device, Loss
from gadam.validation import check_callable, check_path


class Training:
    """A training under way: what is fixed of it, and its state.

    Attributes:
        configs: one for each seed.
        callbacks: those of each seed.
        data: the rows, and the validation batches once they are drawn.
        state: changes with each round of the training; None where it was stopped before it began.
        is_over: set where nothing is left to do.
    """

    state: EvolutionState
    data: Data

    def __init__(
        self,
        make_model: Callable[[], nn.Module],
        data: Any,
        config: GadamConfig,
        seeds: Sequence[int],
        callbacks: Sequence[Any],
        records: Sequence[Record | None],
        *,
        evolves: bool,
        loss: Loss,
        validation: Any,
        executor: Executor | int | None,
        device: Device,
        checkpoint: str | os.PathLike[str] | None,
        checkpoint_seconds: float,
        progress: bool | None,
        stop: threading.Event | None,
    ) -> None:
        """Set up a training; see `gadam.evolve` for what is given.

        Args:
            make_model: as for `evolve`.
            data: as for `evolve`.
            config: as for `evolve`; its seed does not count.
            seeds: of the populations that are trained together.
            callbacks: those of each seed.
            records: that of each seed.
            evolves: whether units evolve; else each is trained alone for as many steps as a line of descent has.
            loss: as for `evolve`, and so on.
            validation: see there.
            executor: see there.
            device: see there.
            checkpoint: see there.
            checkpoint_seconds: see there.
            progress: see there.
            stop: see there.
        """
        self._began = time.perf_counter()
        self.callbacks = [_check(make_model, loss, own, progress, stop) for own in callbacks]
        for record in records:
            if record is not None:
                check_callable("record", record, "step")
        if checkpoint is not None:
            check_path("checkpoint", checkpoint)
        on = resolve_device(device)
        train = check_batch("data", data, on)
        held_out = train if validation is None else check_batch("validation", validation, on)
        self.configs = [replace(config, seed=seed) for seed in seeds]
        seeds = [own.seed for own in self.configs]
        self._g, self._evolves, self._executor = config.population_size, evolves, executor
        self._steps = config.steps * (1 if evolves else 2 * config.generations)
        units = [
            Population.make(make_model, self._g, seed=seed, initialisation=config.initialisation, device=on)
            for seed in seeds
        ]
        population = Population.join(units)
        fresh_loss = check_fit(population, train, loss, config.batch_size)
        if validation is not None:
            try:
                check_rows(population, held_out, loss)
            except InputError as error:
                raise InputError(f"validation: {error}") from error.__cause__
        for place, of_seed in enumerate(self.callbacks):
            for callback in of_seed:
                callback.on_start(self.configs[place], units_of_seed(population, place, self._g))
        self._total = 2 * config.generations * config.steps * len(population)
        self._targets = targets_of(train[1])
        nothing = torch.empty(len(seeds), 0, dtype=torch.int64)
        self.data = Data(train, held_out, nothing, nothing)

        def plan() -> Any:
            trained = replace(config, steps=self._steps)
            return plan_training(population, train, loss, trained, self._total, seeds, cluster_size(executor))

        first = 1 if evolves else 0
        empty = [SeedState(no_history()) for _ in seeds]
        planned = run_until_stopped(stop if checkpoint is None else None, plan)
        self.is_stopped_early = planned is None
        if planned is None:
            self.state = EvolutionState(first, population, [], empty, 1)
            return
        self._trainer, count, warning = planned
        if warning:
            warnings.warn(warning, stacklevel=stacklevel_of_caller())

        def identity() -> dict[str, Any]:
            rows = [train] if validation is None else [train, held_out]
            found = identify(config, population, rows, self._trainer.way, fresh_loss)
            found["config"]["seed"] = seeds[0] if len(seeds) == 1 else seeds
            alone = f"{found['mode']}, {self._steps:,} steps of each unit without evolution"
            return found if evolves else found | {"mode": alone}

        # An executor of one's own may watch too, and can be told nothing of what was before.
        watching = [*chain.from_iterable(self.callbacks), *records, None if isinstance(executor, int) else executor]
        states = [one for one in watching if one is not None]
        self._checkpointer = Checkpointer(checkpoint, identity, population, states, checkpoint_seconds)
        kept = self._checkpointer.read()
        shards = split_into_shards(population, count, "parent", first)
        self.state = kept or EvolutionState(first, population, shards, empty, count)
        if self.state.generation - 1 > config.generations:
            raise InputError(
                f"checkpoint: {str(checkpoint)!r} holds {self.state.generation - 1} generations, config asks for "
                f"generations={config.generations}; give at least as many, or another path"
            )
        if not kept and checkpoint is not None:  # where nothing can be written is said before the training
            self._checkpointer.keep(self.state, now=True)
        self._began -= self.state.seconds
        for of_seed, seed in zip(self.callbacks, self.state.seeds, strict=True):
            for callback in of_seed if len(seed.history) else ():
                callback.on_resume(seed.history)
        self._record = _record_by_seed(records, self._trainer)
        # None: unless it is a terminal. In a notebook tqdm would show it to nobody too, who keeps a bar that stands.
        self._hidden = (None if front_end() != "batch" else True) if progress is None else not progress
        self._useful = min(torch.get_num_threads() if on.type == "cpu" else 1, count)
        self._stop, self._counting = stop, threading.Lock()
        self._pool: Pool
        self.is_over = False

    @contextmanager
    def running(self) -> Iterator[tqdm[Any]]:
        """Have a pool and a progress bar; at the end write the checkpoint, or after an error what is good of it."""
        state, units = self.state, self._g * len(self.configs)
        done = 2 * max(0, state.generation - 1) * units * self._steps + state.steps_taken()
        with self._checkpointer:
            with (
                as_pool(self._executor, self._useful) as self._pool,
                tqdm(
                    total=self._total, initial=done, unit="step", unit_scale=True, disable=self._hidden,
                    dynamic_ncols=True,
                ) as self._bar,
            ):  # fmt: skip
                try:
                    yield self._bar
                except TrainingError as error:
                    raise self._checkpointer.failed(error, self.state) from error
            self._checkpointer.end(self.state, over=self.is_over)

    def train(self) -> bool:
        """Train the units of the role under way (Section 3.2). Returns False if that was stopped before its end."""
        train_shards(
            self._pool, self._trainer, self.state.shards, self.data, self._progress, self._record, keep=self._keep,
            seconds=self._checkpointer.seconds,
        )  # fmt: skip
        return self.state.is_trained

    def advance(self, state: EvolutionState) -> None:
        """Go on from another state."""
        self.state = replace(state, seconds=time.perf_counter() - self._began)

    def results(self, stopped: Sequence[str]) -> list[Result]:
        """Make the result of each seed of its last population, and tell its callbacks."""
        results = []
        for place, (config, seed) in enumerate(zip(self.configs, self.state.seeds, strict=True)):
            population = units_of_seed(self.state.population, place, self._g)
            results.append(
                Result(
                    best=population.take(slice(0, 1)).to("cpu").unit(0), population=population, history=seed.history,
                    config=config, stopped=stopped[place] or "stop", gradient_steps=int(seed.history["steps"].sum()),
                    seconds=time.perf_counter() - self._began, targets=self._targets,
                )
            )  # fmt: skip
            for callback in self.callbacks[place]:
                callback.on_end(results[-1])
        return results

    def _progress(self, steps: int) -> bool:
        with self._counting:  # the bar's own count is not safe between threads
            self._bar.update(steps)
        return bool(self._checkpointer.signal) or (self._stop is not None and self._stop.is_set())

    def _keep(self, shards: Sequence[Shard]) -> None:
        self.advance(replace(self.state, shards=shards))
        self._checkpointer.keep(self.state)


def _check(make_model: Any, loss: Any, callbacks: Any, progress: Any, stop: Any) -> list[Callback]:
    """Check those arguments that are no tensors, executors or devices. Returns the callbacks as a list."""
    if callable(make_model) and not hasattr(make_model, "parameters"):  # a module is told apart where units are made
        check_callable("make_model", make_model)
    check_callable("loss", loss, "output", "targets")
    if not isinstance(callbacks, Iterable):
        raise InputError(f"callbacks: is a {type(callbacks).__name__}, must be a list of gadam.Callback")
    listed = list(callbacks)
    for callback in listed:
        if not isinstance(callback, Callback):
            raise InputError(f"callbacks: {shown(callback)} is no gadam.Callback, must be an instance of one")
    if not (progress is None or isinstance(progress, bool)):
        raise InputError(f"progress={shown(progress)} must be True, False or None")
    if not (stop is None or callable(getattr(stop, "is_set", None))):
        raise InputError(f"stop={shown(stop)} must be a threading.Event or None")
    return listed


def _record_by_seed(records: Sequence[Record | None], trainer: Trainer) -> Record | None:
    """Tell each seed's record of its own units."""
    if len(records) == 1 or not any(records):
        return records[0]

    def record(step: Step) -> None:
        for place, own in trainer.by_seed(step.units):
            if (of_seed := records[place]) is not None:
                entries = {name: entry[own] for name, entry in step.parameters.items()}
                first = step.units[own].start - place * trainer.config.population_size
                units = range(first, first + len(step.units[own]))
                of_seed(replace(step, units=units, losses=step.losses[own], parameters=entries))

    return record
