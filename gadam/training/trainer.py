"""Training a shard (Section 3.2): each unit alone ("loop", the reference), or all in one call ("vectorised").

Nothing mixes units: Adam is elementwise, so Adam on stacked tensors is g independent Adams, and losses are summed over
units, never averaged across them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from gadam.config import GadamConfig
from gadam.population import Population
from gadam.randomness import BATCHES, DRAWS, ROLES, stream, unit_stream
from gadam.runtime import current, float32_as_asked, intra_operator_threads, keep_freed_memory
from gadam.tracing.programs import Batch, Loss, Programs
from gadam.training.batches import BLOCK, Batches, gathered, generator, take_rows
from gadam.training.cuda_graph import CAPTURES, Captured
from gadam.training.optimizers import FusedAdam, Stepper, load_state, make_optimizer, make_stepper, state_of
from gadam.training.shards import Begun, Data, Progress, Record, Shard, Step, Trained

PATIENCE = 0.25
"""Seconds after which `progress` hears of a shard's steps at the latest."""

# Steps of a generation from which on capturing one of them pays; it takes the time of about as many.
CAPTURE_PAYS = 20


@dataclass(frozen=True)
class Trainer:
    """How the units of one architecture are trained: each by an optimizer of its own (Eq. 6), on batches of its own.

    Attributes:
        config: the settings.
        loss: (output, targets) -> scalar, a mean over rows.
        programs: the vectorised programs, or None to train unit by unit.
        seeds: whose units are trained together: the first `config.population_size` those of the first seed, and so on.
            None: all are those of `config.seed`.
        threads: intra-operator threads of a shard. Not for the executor to choose: sums may differ in their last bits
            with the number of threads. One, because shards side by side use the cores without waiting for each other.
    """

    config: GadamConfig
    loss: Loss
    programs: Programs | None = None
    seeds: tuple[int, ...] | None = None
    threads: int = 1

    def by_seed(self, units: range) -> list[tuple[int, slice]]:
        """Those of some units that are of one seed: its place among the seeds, and where they are among the units."""
        if self.seeds is None:
            return [(0, slice(None))]
        size = self.config.population_size
        firsts = [units.start, *range(units.start // size * size + size, units.stop, size), units.stop]
        return [(low // size, slice(low - units.start, high - units.start)) for low, high in pairwise(firsts)]

    @property
    def way(self) -> str:
        """How units are trained, in a word."""
        return "loop" if self.programs is None else "unit by unit" if self.programs.singly else "vectorised"

    def train(
        self,
        shard: Shard,
        data: Data,
        progress: Progress | None = None,
        record: Record | None = None,
        seconds: float | None = None,
    ) -> Trained | Shard:
        """Evaluate a shard, train it for `config.steps` steps, and evaluate it again.

        Args:
            shard: fresh, or in the middle of its training; it stays as it is.
            data: the rows.
            progress: told of steps.
            record: told of each step.
            seconds: after so many it pauses.

        Returns:
            The shard trained; or where it stands, if it paused. Going on from there gives what no pause would have.
        """
        keep_freed_memory()
        device = data.train[1].device
        with intra_operator_threads(self.threads), float32_as_asked(device), current(device):
            start = time.perf_counter()
            begun = shard.begun or self._begin(shard, data)
            told = _Told(progress or (lambda _: None), seconds)
            train = self._train_loop if self.programs is None else self._train_vectorised
            shard = train(shard, begun, data.train, told, record)
            assert shard.begun is not None
            if told.paused and bool((shard.begun.steps < self.config.steps).any()):
                spent = begun.seconds + time.perf_counter() - start
                return replace(shard, begun=replace(shard.begun, seconds=spent))
            population = shard.population if self._carries else replace(shard.population, moments={})
            loss_trained = self.evaluate(shard, population, data.held_out, data.fitness)
            loss_survival = self.evaluate(shard, population, data.held_out, data.survival)
            spent = begun.seconds + time.perf_counter() - start
            return Trained(population, begun.loss_start, loss_trained, loss_survival, spent)

    def evaluate(self, shard: Shard, population: Population, rows: Batch, index: Tensor) -> Tensor:
        """Mean loss of each unit in evaluation mode on its seed's batch (Eq. 7 divided by the rows of V), [n].

        Args:
            shard: whose streams are drawn from.
            population: its units, as they are now.
            rows: that batches are taken from.
            index: int64 [batch] or [seeds, batch], see `Data`.
        """
        # A unit that draws even in evaluation mode draws the same at every evaluation: its fitness is comparable.
        draws = [self._stream(shard, DRAWS, unit, evaluation=1) for unit in shard.units]
        return torch.cat(
            [
                self._losses(
                    population.take(own), take_rows(rows, index if index.dim() == 1 else index[seed]), draws[own]
                )
                for seed, own in self.by_seed(shard.units)
            ]
        )

    def _losses(self, population: Population, batch: Batch, draws: Sequence[torch.Generator]) -> Tensor:
        if self.programs is not None:
            return self.programs.losses(population.parameters, population.buffers, batch, draws)
        losses = []
        with torch.no_grad():
            for unit, generator in zip(population.units(), draws, strict=True):
                with unit_stream(generator):
                    losses.append(self.loss(unit(*batch[0]), batch[1]))
        return torch.stack(losses)

    def _begin(self, shard: Shard, data: Data) -> Begun:
        batches, draws = (
            torch.stack([self._stream(shard, purpose, unit).get_state() for unit in shard.units])
            for purpose in (BATCHES, DRAWS)
        )
        none = torch.zeros(len(shard.units), dtype=torch.int64)
        loss_start = self.evaluate(shard, shard.population, data.held_out, data.fitness)
        return Begun(none, batches, draws, loss_start, 0.0)

    def _train_loop(self, shard: Shard, begun: Begun, rows: Batch, told: _Told, record: Record | None) -> Shard:
        populations = []
        steps, batch_states, draw_states = begun.steps.clone(), begun.batches.clone(), begun.draws.clone()
        for index, unit in enumerate(shard.units):
            population = shard.population.take(slice(index, index + 1))
            taken = int(steps[index])
            if told.paused or taken == self.config.steps:
                populations.append(population)
                continue
            module = population.unit(0).train()
            learned = {name: entry for name, entry in module.named_parameters() if entry.requires_grad}
            optimizer = make_optimizer(self.config, list(learned.values()))
            if taken or self._carries:
                load_state(optimizer, learned, {name: entry[0] for name, entry in population.moments.items()})
            draws = generator(rows, begun.draws[index])
            batches = Batches(rows, begun.batches[index : index + 1], taken, self.config)
            for step, (inputs, targets) in enumerate(gathered(rows, batches), taken + 1):
                inputs, targets = tuple(tensor[0] for tensor in inputs), targets[0]
                optimizer.zero_grad()
                with unit_stream(draws):
                    loss = self.loss(module(*inputs), targets)
                loss.backward()
                optimizer.step()
                steps[index] = step
                if record is not None:
                    entries = {name: entry.detach()[None] for name, entry in learned.items()}
                    alone = range(unit, unit + 1)
                    record(Step(shard.generation, shard.role, alone, step, loss.detach()[None], entries))
                if told.step(1, last=step == self.config.steps):
                    break
            batch_states[index], draw_states[index] = batches.states(int(steps[index]))[0], draws.get_state()
            moments = {name: entry[None] for name, entry in state_of(optimizer, learned).items()}
            stacked = Population.stack([module], shard.population.template)
            populations.append(replace(stacked, moments=moments))
        begun = replace(begun, steps=steps, batches=batch_states, draws=draw_states)
        return replace(shard, population=_join(populations), begun=begun)

    def _train_vectorised(self, shard: Shard, begun: Begun, rows: Batch, told: _Told, record: Record | None) -> Shard:
        assert self.programs is not None
        learned = {name: entry.clone() for name, entry in shard.population.parameters.items()}
        buffers: Mapping[str, Tensor] = shard.population.buffers
        optimizer = make_stepper(self.config, learned, shard.population.moments)
        draws = [generator(rows, state) for state in begun.draws]
        count = len(shard.units)
        step = first = int(begun.steps[0])
        batches = Batches(rows, begun.batches, first, self.config)
        captured: Captured | None = None
        for step, batch in enumerate(gathered(rows, batches), first + 1):
            if step == first + 1:
                captured = self._capture(optimizer, learned, buffers, batch, draws)
            if captured is not None:
                losses, buffers = captured.step(batch), captured.buffers
            else:
                losses, gradients, buffers = self.programs.gradients(learned, buffers, batch, draws)
                optimizer.step(gradients)
            if record is not None:
                record(Step(shard.generation, shard.role, shard.units, step, losses.clone(), learned))
            if told.step(count, last=step == self.config.steps):
                break
        states = torch.stack([stream.get_state() for stream in draws])
        begun = replace(begun, steps=torch.full_like(begun.steps, step), batches=batches.states(step), draws=states)
        population = replace(shard.population, parameters=learned, buffers=buffers, moments=optimizer.state())
        return replace(shard, population=population, begun=begun)

    def _capture(
        self,
        optimizer: Stepper,
        learned: Mapping[str, Tensor],
        buffers: Mapping[str, Tensor],
        batch: Batch,
        draws: Sequence[torch.Generator],
    ) -> Captured | None:
        """The step as a CUDA graph where there is a GPU, it pays and it can be had."""
        assert self.programs is not None
        capture = CAPTURES.get(batch[1].device.type)
        if capture is None or not isinstance(optimizer, FusedAdam) or self.config.steps < CAPTURE_PAYS:
            return None
        program = self.programs.drawn(learned, buffers, batch)
        if program is None:
            return None
        try:
            return Captured(program, optimizer, learned, buffers, batch, draws, capture)
        except RuntimeError as error:
            logging.getLogger("gadam").info("Steps are not captured in a CUDA graph: %s", error)
            return None

    @property
    def _carries(self) -> bool:
        return self.config.moments == "carry"

    def _stream(self, shard: Shard, purpose: int, unit: int, evaluation: int = 0) -> torch.Generator:
        device = next(iter(shard.population.parameters.values())).device
        seed = self.config.seed
        if self.seeds is not None:
            place, unit = divmod(unit, self.config.population_size)
            seed = self.seeds[place]
        return stream(device, seed, purpose, shard.generation, ROLES[shard.role], unit, evaluation)


class _Told:
    """Tells of a shard's steps: a block of them at a time, and of slow ones as often as a person looks.

    Attributes:
        paused: whether the training is to pause.
    """

    def __init__(self, progress: Progress, seconds: float | None) -> None:
        self._progress = progress
        self._untold, self._since = 0, time.perf_counter()
        self._end = None if seconds is None else self._since + seconds
        self.paused = False

    def step(self, units: int, *, last: bool) -> bool:
        """A step of so many units is done. Returns `paused`."""
        self._untold += 1
        now = time.perf_counter()
        if last or self._untold == BLOCK or now - self._since > PATIENCE:
            asked = self._progress(self._untold * units)
            self.paused = bool(asked) or (self._end is not None and now > self._end)
            self._untold, self._since = 0, now
        return self.paused


def _join(populations: Sequence[Population]) -> Population:
    """As `Population.join`, where those that have no moments yet get zeros, which is what optimizers start from."""
    some = next((each.moments for each in populations if each.moments), {})
    zeros = {name: torch.zeros_like(entry) for name, entry in some.items()}
    return Population.join([each if each.moments else replace(each, moments=zeros) for each in populations])
