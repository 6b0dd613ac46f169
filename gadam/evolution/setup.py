"""Set up a training: check what was given, make the population, plan, and read the checkpoint."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, replace
from itertools import chain
from typing import Any

import pandas as pd
import torch
from torch import nn
from tqdm.auto import tqdm

from gadam.config import GadamConfig, InputError
from gadam.display import front_end, shown, warn
from gadam.evolution.breeding import HISTORY, draw_rates, units_of_seed
from gadam.evolution.checkpoint import Checkpointer, identify
from gadam.evolution.interrupts import stop_interrupted_cell
from gadam.evolution.results import result_of
from gadam.evolution.state import EvolutionState, SeedState
from gadam.evolution.teaching import check_teaching, teach_rows
from gadam.parallel.executors import Pool, as_pool, check_executor, train_shards
from gadam.parallel.workers import cluster_size
from gadam.population import Population, only_read, to_entries
from gadam.randomness import ROLES
from gadam.result import Callback, Offspring, Result
from gadam.runtime import resolve_device
from gadam.training.fit import Tried, check_dtypes, fit_rows, try_step
from gadam.training.inputs import check_modes, read_rows
from gadam.training.plan import plan_training
from gadam.training.shards import Data, Record, Shard, Step, TrainingError, split_into_shards
from gadam.training.trainer import Trainer
from gadam.types import Batch, Device, Loss
from gadam.validation import check_callable, check_kind, read_path

logger = logging.getLogger("gadam")


@dataclass(eq=False)
class Training:
    """A training under way: what was given, see `gadam.evolve`, and its state.

    Attributes:
        configs: settings of each population that is trained, one for each seed; they differ in the seed alone.
        callbacks: the callbacks of each population.
        records: the `record` of each population.
        restore_best: whether `Result.best` is the best unit ever by the fixed rows.
        evolves: True for `evolve`; for `train` each unit is trained alone, for as many steps as a line of descent has.
        config: the first of `configs`, for what is the same in all.
        data: the rows, and the validation batches once they are drawn.
        state: changes with each round of the training.
        stopped: for each seed why it is over in this generation, "" if it is not.
        is_over: set where nothing is left to do.
        interrupted: what to say after SIGINT has ended it; "" if none has.
    """

    make_model: Callable[[], nn.Module]
    rows: Any
    configs: Sequence[GadamConfig]
    callbacks: Sequence[Any]
    records: Sequence[Record | None]
    _: KW_ONLY
    evolves: bool
    loss: Loss
    validation: Any
    executor: Executor | int | None
    device: Device
    checkpoint: str | os.PathLike[str] | None
    checkpoint_seconds: float
    progress: bool | None
    stop: threading.Event | None
    restore_best: bool

    def __post_init__(self) -> None:
        self._began = time.perf_counter()
        self.config = self.configs[0]
        self.stopped = [""] * len(self.configs)
        self.is_over, self.interrupted = False, ""
        self._check()
        self._steps = self.config.steps if self.evolves else self.config.steps_of_a_line
        device = resolve_device(self.device)
        train = read_rows("data", self.rows, device)
        held_out = None if self.validation is None else read_rows("validation", self.validation, device)
        population = self._make_units(device)
        tried = self._fit(population, train, held_out)
        for place, (own, callbacks) in enumerate(zip(self.configs, self.callbacks, strict=True)):
            for callback in callbacks:
                with only_read(InputError, f"callbacks: {type(callback).__name__}", to_entries(population)):
                    callback.on_start(own, units_of_seed(population, place, len(self.configs)))
        count = self._plan(population, tried)
        self._useful = min(torch.get_num_threads() if device.type == "cpu" else 1, count)
        self._resume(population, count, tried.loss)
        self._counting = threading.Lock()
        self._pool: Pool

    def _make_units(self, device: torch.device) -> Population:
        """Make the initial units of all seeds (Section 3.1)."""
        g, initialisation = self.config.population_size, self.config.initialisation
        population = Population.join([
            Population.make(self.make_model, g, seed=config.seed, initialisation=initialisation, device=device)
            for config in self.configs
        ])  # fmt: skip
        check_dtypes(population, self.config.epsilon)
        return replace(population, rates=draw_rates(self.configs, device))

    def _fit(self, population: Population, train: Batch, held_out: Batch | None) -> Tried:
        """Fit the rows to the model and the loss, and try a step."""
        train, self._targets = fit_rows("data", population, train, self.loss)
        tried = try_step(population, train, self.loss, self.config)
        if self.evolves and self.config.crossover == "teach":
            check_teaching(population, train, self.loss, self._targets)
        if held_out is not None:
            held_out, _ = fit_rows("validation", population, held_out, self.loss)
        nothing = torch.empty(len(self.configs), 0, dtype=torch.int64)
        self.data = Data(train, train if held_out is None else held_out, nothing, nothing)
        return tried

    def _plan(self, population: Population, tried: Tried) -> int:
        """Decide how to train. Returns the number of shards."""
        self._total = self._steps_before(self.config.generations + 1)
        loop = Trainer(
            replace(self.config, steps=self._steps), self.loss, tuple(own.seed for own in self.configs),
            validates=self.validation is not None, backward_draws=tried.backward_draws,
        )  # fmt: skip
        self._trainer, count, warning = plan_training(
            loop, population, self.data.train, self._total, cluster_size(self.executor), tried.moves, tried.unused
        )
        if warning:
            warn(warning)
        return count

    def _resume(self, population: Population, count: int, fresh_loss: float) -> None:
        """Read the checkpoint, or begin with the initial units."""

        def identity() -> dict[str, Any]:
            batches = [self.data.train] if self.validation is None else [self.data.train, self.data.held_out]
            mode = self._trainer.way
            if not self.evolves:
                mode += f", {self._steps:,} steps of each unit without evolution"
            found = identify(self.configs, population, batches, self._targets, mode, fresh_loss)
            return found | {"restore_best": self.restore_best}

        # A user's executor counts as one that watches: it sees the shards, and unless it has a `state_dict` it cannot
        # learn after a resume what it saw before.
        executor = None if isinstance(self.executor, int) else self.executor
        watching = [one for one in (*chain(*self.callbacks), *self.records, executor) if one is not None]
        self._checkpointer = Checkpointer(self.checkpoint, identity, population, watching, self.checkpoint_seconds)
        kept, first = self._checkpointer.read(), 1 if self.evolves else 0
        shards = split_into_shards(population, count, "parent", first)
        no_history = pd.DataFrame({column: pd.Series(dtype=kind) for column, kind in HISTORY.items()})
        empty = [SeedState(no_history) for _ in self.configs]
        self.state = kept or EvolutionState(first, population, shards, empty, count)
        if self.state.generation - 1 > self.config.generations:
            raise InputError(
                f"checkpoint: {str(self.checkpoint)!r} holds {self.state.generation - 1} generations, config asks for "
                f"generations={self.config.generations}; give at least as many, or another path"
            )
        if not kept and self.checkpoint is not None:  # where nothing can be written is said before the training
            self._checkpointer.keep(self.state, now=True)
        self._began -= self.state.seconds
        for callbacks, seed in zip(self.callbacks, self.state.seeds, strict=True):
            for callback in callbacks if len(seed.history) else ():
                callback.on_resume(seed.history)

    def _check(self) -> None:
        """Validate the arguments that are not tensors, executors or devices; make lists of the callbacks."""
        check_modes()
        stop_interrupted_cell()
        if self.evolves and self.config.population_size < 2 and self.config.crossover != "teach":
            raise InputError("config: population_size=1 leaves nothing to select from; evolve needs at least 2 units")
        if not isinstance(self.restore_best, bool):
            raise InputError(f"restore_best={shown(self.restore_best)} must be True or False")
        check_callable("loss", self.loss, "output", "targets")
        for given in self.callbacks:
            check_kind("callbacks", given, Iterable, "a list of gadam.Callback")
        self.callbacks = [list(given) for given in self.callbacks]
        for callback in chain(*self.callbacks):
            if not isinstance(callback, Callback):
                raise InputError(f"callbacks: {shown(callback)} is no gadam.Callback, must be an instance of one")
        needs = [one for one in chain(*self.callbacks) if getattr(one, "needs_validation", False)]
        if self.validation is None and (needs or self.restore_best):
            name = "restore_best=True" if self.restore_best else f"callbacks: {type(needs[0]).__name__}"
            raise InputError(f"{name} goes by rows that no unit is trained on; must have validation=(inputs, targets)")
        blind = [one for one in chain(*self.callbacks) if getattr(one, "needs_generations", False)]
        if blind and not self.evolves:
            raise InputError(
                f"callbacks: {type(blind[0]).__name__} goes by generations, which train has none of; must be left out"
            )
        check_executor(self.executor)
        for record in self.records:
            if record is not None:
                check_callable("record", record, "step")
        if self.checkpoint is not None:
            self.checkpoint = read_path("checkpoint", self.checkpoint)
        if not (self.progress is None or isinstance(self.progress, bool)):
            raise InputError(f"progress={shown(self.progress)} must be True, False or None")
        if not (self.stop is None or callable(getattr(self.stop, "is_set", None))):
            raise InputError(f"stop={shown(self.stop)} must be a threading.Event or None")

    @contextmanager
    def running(self) -> Iterator[tqdm[Any]]:
        """Open pool and progress bar. Write the checkpoint at the end; after an error, that of the last sound state."""
        done = self._steps_before(self.state.generation) + self.state.steps_taken()
        # tqdm takes None for "hide it unless it is in a terminal", but in a notebook for False. So it is hidden by True
        # where a program executes the notebook, in which a dead bar would stay.
        unasked = True if front_end() == "batch" else None
        hidden = True if sys.stderr is None else unasked if self.progress is None else not self.progress
        bar: dict[str, Any] = {"total": self._total, "initial": done, "disable": hidden, "unit": "step"}
        with self._checkpointer:
            with (
                as_pool(self.executor, self._useful) as self._pool,
                tqdm(**bar, unit_scale=True, dynamic_ncols=True) as self._bar,
            ):
                try:
                    yield self._bar
                except TrainingError as error:
                    raise self._checkpointer.failed(error, self.state) from error
            self.interrupted = self._checkpointer.end(self.state, over=self.is_over)

    def teach(self, offspring: Sequence[Offspring]) -> Data:
        """Return the rows with what the trained parents predict of them, for their children."""
        assert self.state.parents is not None
        return teach_rows(self.data, self.state.parents.of_seeds(len(offspring)), offspring, self.configs, self.loss)

    def train_shards(self, data: Data | None = None) -> bool:
        """Train the units of the role under way, `state.shards`, in their place (Section 3.2), on other rows if given.

        Returns False if that was stopped before its end.
        """
        record = None if all(each is None for each in self.records) else self._record
        train_shards(
            self._pool, self._trainer, self.state.shards, data or self.data, self._progress, record, keep=self._keep,
            seconds=self._checkpointer.seconds,
        )  # fmt: skip
        return self.state.is_trained

    def advance(self, state: EvolutionState) -> None:
        """Replace the state, and note its wall time."""
        self.state = replace(state, seconds=time.perf_counter() - self._began)

    def report_losses(self) -> None:
        """Show and log the lowest loss of the generation that has just survived, of each seed."""
        lowest = [float(seed.losses[-1][0]) for seed in self.state.seeds]
        self._bar.set_postfix(best=f"{min(lowest):.4g}", refresh=False)
        best = ", ".join(f"{loss:.4g}" for loss in lowest)
        logger.info("generation %d/%d: best loss %s", self.state.generation - 1, self.config.generations, best)

    def results(self, stopped: Sequence[str]) -> list[Result]:
        """Make the result of each seed of its last population, and tell its callbacks."""
        results = []
        # `train` that has not ended, and an evolution that is interrupted in its first generation, give the units as
        # they are; one that `stop` ends there gives the initial units.
        begins = not self.evolves or (self.interrupted != "" and self.state.generation == 1)
        self.advance(self.state)
        for place, reason in enumerate(stopped):
            result = result_of(
                self.state, place, self.configs, stopped=reason or ("interrupt" if self.interrupted else "stop"),
                targets=self._targets, rows=len(self.data.train[1]), restore_best=self.restore_best,
                as_they_are=not self.is_over and begins,
            )  # fmt: skip
            results.append(result)
            for callback in self.callbacks[place]:
                callback.on_end(result)
        return results

    def _steps_before(self, generation: int) -> int:
        """Return the steps that all units of all seeds take before a generation."""
        config, seeds = self.config, len(self.configs)
        if not self.evolves:
            return self._steps * config.population_size * seeds if generation > 0 else 0
        return seeds * sum(
            config.units_of(role, number) * config.steps_of(role)
            for number in range(1, generation) for role in ROLES
        )  # fmt: skip

    def _progress(self, steps: int) -> bool:
        with self._counting:  # the bar's own count is not safe between threads
            self._bar.update(steps)
        return bool(self._checkpointer.signal) or (self.stop is not None and self.stop.is_set())

    def _keep(self, shards: Sequence[Shard]) -> None:
        self.advance(replace(self.state, shards=shards))
        self._checkpointer.keep(self.state)

    def _record(self, step: Step) -> None:
        """Split a step by seed, and pass each part to that seed's `record`, until the seed is over."""
        for place, own in self._trainer.by_seed(step):
            if (of_seed := self.records[place]) is not None and not self.stopped[place]:
                entries = {name: entry[own] for name, entry in step.parameters.items()}
                first = step.units[own].start - place * self.config.units_of(step.role, step.generation)
                units = range(first, first + len(step.units[own]))
                of_seed(replace(step, units=units, losses=step.losses[own], parameters=entries))
