"""Training of a shard (Section 3.2): each unit alone ("loop", the reference), or all in one call ("vectorised")."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from gadam.config import GadamConfig
from gadam.population import AVERAGE, Population, averaged, learned_of, only_read, without_averages
from gadam.randomness import BATCHES, DRAWS, ROLES, stream, unit_stream
from gadam.runtime import float32_as_asked, intra_operator_threads, keep_freed_memory
from gadam.tracing.programs import Programs
from gadam.training.batches import BLOCK, Batches, call_in_parts, fixed_rows, gather_batches, restore_stream, take_rows
from gadam.training.optimizers import load_state, make_optimizer, make_stepper, rates_of, schedule, state_of
from gadam.training.shards import Data, Progress, Record, Shard, Step, TrainingError, is_out_of_memory
from gadam.training.steps import CAPTURE_PAYS, FUSED, FUSING_PAYS, Steps, faster_steps, take_average
from gadam.types import Batch, Loss

THREADS = 1
"""Intra-operator threads of a shard, not for the executor to choose: sums may differ in their last bits with them. One,
because shards side by side use the cores without waiting for each other."""
VALIDATED_AT_ONCE = 1_000  # rows: their activations stay near the processor
REPORT_SECONDS = 0.25
"""Seconds after which steps are reported to `progress` before a block of them is full: as often as a person looks."""


@dataclass(frozen=True)
class Trainer:
    """Trains shards of one architecture: each unit by an optimizer of its own (Eq. 6), on batches of its own.

    Attributes:
        config: the settings.
        loss: (output, targets) -> scalar, a mean over rows.
        seeds: seed of each population that is trained together. Units are numbered seed by seed, with
            `config.units_of(role, generation)` of each.
        programs: the traced programs, or None to train each unit by plain PyTorch.
        validates: whether trained units are evaluated on the fixed rows, see `fixed_rows`.
        backward_draws: whether a backward pass draws random numbers, as a hook may.
    """

    config: GadamConfig
    loss: Loss
    seeds: tuple[int, ...]
    programs: Programs | None = None
    validates: bool = False
    backward_draws: bool = False

    @property
    def way(self) -> str:
        """Way of training: "loop" (plain PyTorch), or traced: "unit by unit", or "vectorised", all in one call."""
        return "loop" if self.programs is None else "unit by unit" if self.programs.singly else "vectorised"

    def by_seed(self, some: Shard | Step) -> list[tuple[int, slice]]:
        """Split units by seed: the place of each seed in `seeds`, and the slice of `some.units` that it has."""
        size, units = self.config.units_of(some.role, some.generation), some.units
        firsts = [units.start, *range(units.start // size * size + size, units.stop, size), units.stop]
        return [(low // size, slice(low - units.start, high - units.start)) for low, high in pairwise(firsts)]

    def train(self, shard: Shard, data: Data, progress: Progress | None = None, record: Record | None = None) -> Shard:
        """Evaluate a shard, train it for the steps of its role, and evaluate it again.

        `shard` may be fresh or in the middle of its training. Where `progress` asks for a pause, the shard is returned
        as it is then, and training it again goes on: the result is bit by bit that of a training without a pause.
        """
        if (steps := self.config.steps_of(shard.role)) != self.config.steps:
            own = replace(self.config, steps=steps, child_steps=None)
            return replace(self, config=own).train(shard, data, progress, record)
        keep_freed_memory()
        device = data.train[1].device
        current = torch.cuda.device(device) if device.type == "cuda" else nullcontext()  # for new CUDA streams
        with intra_operator_threads(THREADS), torch.enable_grad(), float32_as_asked(device), current:
            start = time.perf_counter()
            if shard.steps is None:
                shard = self._begin(shard, data)
            train = self._train_loop if self.programs is None else self._train_vectorised
            shard = train(shard, data.train, _Reporter(progress or (lambda _: None)), record)
            if not bool((shard.tensors["steps"] < self.config.steps).any()):
                # Unless they are carried, moments end here, before breeding: so the optimizer's state starts at zero in
                # the children of these units, and in the parents of the next generation.
                units = averaged(shard.population)
                units = units if self.config.moments == "carry" else units.without_moments()
                shard = replace(shard, population=units)
                shard = replace(
                    shard, batches=None, draws=None,
                    loss_trained=self._evaluate(shard, data.held_out, data.fitness),
                    loss_survival=self._evaluate(shard, data.held_out, data.survival),
                    loss_validation=self._validate(shard, data.held_out) if self.validates else None,
                )  # fmt: skip
            spent = (time.perf_counter() - start) / len(shard.units)
            return replace(shard, seconds=shard.tensors["seconds"] + spent)

    def _begin(self, shard: Shard, data: Data) -> Shard:
        """Return a fresh shard with its streams and its loss at the start, before the first step."""
        batches, draws = (
            torch.stack([self._stream(shard, purpose, unit).get_state() for unit in shard.units])
            for purpose in (BATCHES, DRAWS)
        )
        return replace(
            shard, steps=torch.zeros(len(shard.units), dtype=torch.int64), batches=batches, draws=draws,
            loss_start=self._evaluate(shard, data.held_out, data.fitness),
            seconds=torch.zeros(len(shard.units), dtype=torch.float64),
        )  # fmt: skip

    def _evaluate(self, shard: Shard, rows: Batch, index: Tensor) -> Tensor:
        """Mean loss of each unit in evaluation mode on its seed's batch (Eq. 7 divided by the rows of V), [n].

        `index`, int64 [seeds, batch], has the numbers of rows, see `Data`.
        """
        # A unit that draws even in evaluation mode draws the same at every evaluation: its fitness is comparable.
        draws = [self._stream(shard, DRAWS, unit, evaluation=1) for unit in shard.units]
        losses = []
        for seed, own in self.by_seed(shard):
            units, batch = shard.population.take(own), take_rows(rows, index[seed])
            if self.programs is None:
                losses.append(self._losses(units, batch, draws[own], len(batch[1])))
            else:
                losses.append(self.programs.losses(units.parameters, units.buffers, batch, draws[own]))
        return torch.cat(losses)

    def _validate(self, shard: Shard, rows: Batch) -> Tensor:
        draws = [self._stream(shard, DRAWS, unit, evaluation=2) for unit in shard.units]
        return self._losses(shard.population, fixed_rows(rows), draws, VALIDATED_AT_ONCE)

    def _losses(self, units: Population, rows: Batch, draws: Sequence[torch.Generator], at_once: int) -> Tensor:
        """Loss of each unit in evaluation mode over all of some rows, [n]; outputs are computed for so many at once."""
        losses = []
        for unit, generator in zip(units.units(), draws, strict=True):
            with torch.no_grad(), unit_stream(generator):
                output = call_in_parts(unit, rows[0], at_once)
                losses.append(self.loss(output, rows[1].clone()).detach())
        return torch.stack(losses)

    def _train_loop(self, shard: Shard, rows: Batch, reporter: _Reporter, record: Record | None) -> Shard:
        """Train each unit alone, by plain PyTorch."""
        populations, factors = [], schedule(self.config).tolist()
        steps, batch_states, draw_states = (shard.tensors[name].clone() for name in ("steps", "batches", "draws"))
        for index in range(len(shard.units)):
            alone = shard.take(slice(index, index + 1))
            population, taken = alone.population, alone.steps_taken
            averages = self._averages(population, taken)
            if reporter.paused or taken == self.config.steps:
                populations.append(replace(population, moments={**population.moments, **averages}))
                continue
            module = population.unit(0).train()
            learned = learned_of(module)
            rate, decay = (float(one) for one in rates_of(self.config, population.rates))
            optimizer = make_optimizer(self.config, list(learned.values()), decay=decay)
            moments = without_averages(population.moments)
            load_state(optimizer, learned, {name: entry[0] for name, entry in moments.items()})
            draws = restore_stream(rows, draw_states[index])
            batches = Batches(rows, alone.tensors["batches"], taken, self.config)
            for step, (inputs, targets) in enumerate(self._gathered(alone, rows, batches), taken + 1):
                inputs, targets = tuple(tensor[0, 0] for tensor in inputs), targets[0, 0]
                optimizer.zero_grad()
                with unit_stream(draws):
                    loss = self.loss(module(*inputs), targets)
                with unit_stream(draws) if self.backward_draws else nullcontext():
                    loss.backward()
                optimizer.param_groups[0]["lr"] = rate * factors[step - 1]
                optimizer.step()
                with torch.no_grad():
                    take_average(list(averages.values()), [entry[None] for entry in learned.values()], self._weight)
                steps[index] = step
                if record is not None:
                    entries = {name: entry.detach()[None] for name, entry in learned.items()}
                    _tell(record, Step(shard.generation, shard.role, alone.units, step, loss.detach()[None], entries))
                if reporter.step(1, 1, last=step == self.config.steps):
                    break
            batch_states[index], draw_states[index] = batches.states(int(steps[index]))[0], draws.get_state()
            moments = {name: entry[None] for name, entry in state_of(optimizer, learned).items()} | averages
            stacked = Population.stack([module], shard.population.template)
            populations.append(replace(stacked, moments=moments, rates=population.rates))
        return replace(shard, population=_join(populations), steps=steps, batches=batch_states, draws=draw_states)

    def _train_vectorised(self, shard: Shard, rows: Batch, reporter: _Reporter, record: Record | None) -> Shard:
        """Train all units by one traced program of a step, called again and again."""
        assert self.programs is not None
        begun = shard.tensors
        learned = {name: entry.clone() for name, entry in shard.population.parameters.items()}
        step = first = int(begun["steps"][0])
        factors, moments = schedule(self.config), without_averages(shard.population.moments)
        optimizer = make_stepper(self.config, learned, moments, shard.population.rates)
        averages = self._averages(shard.population, first)
        draws = [restore_stream(rows, state) for state in begun["draws"]]
        batches = Batches(rows, begun["batches"], first, self.config)
        buffers = shard.population.buffers
        steps = Steps(self.programs, optimizer, learned, buffers, draws, list(averages.values()), self._weight)
        fuses = record is None and self.config.steps >= FUSING_PAYS
        for several in self._gathered(shard, rows, batches, FUSED if fuses else 1):
            if step == first and self.config.steps >= CAPTURE_PAYS:
                steps = faster_steps(steps, several)
            losses = steps.take(several, factors[step : step + len(several[1])])
            step += len(several[1])
            if record is not None:
                _tell(record, Step(shard.generation, shard.role, shard.units, step, losses.clone(), learned))
            if reporter.step(len(shard.units), len(several[1]), last=step == self.config.steps):
                break
        moments = optimizer.state() | averages
        population = replace(shard.population, parameters=learned, buffers=steps.buffers, moments=moments)
        return replace(
            shard, population=population, steps=torch.full_like(begun["steps"], step), batches=batches.states(step),
            draws=torch.stack([stream.get_state() for stream in draws]),
        )  # fmt: skip

    def _gathered(self, shard: Shard, rows: Batch, batches: Batches, steps: int = 1) -> Iterator[Batch]:
        """Yield batches of `steps` steps, with each unit's own targets where there are several sets, see `Data`."""
        count, sets = len(rows[0][0]), len(rows[1]) // len(rows[0][0])
        everyone = len(self.seeds) * self.config.units_of(shard.role, shard.generation)
        firsts = torch.tensor([unit * sets // everyone * count for unit in shard.units], device=rows[1].device)
        return gather_batches(rows, batches, steps, of=firsts if sets > 1 else None)

    @property
    def _weight(self) -> float:
        """Share by which averages move towards the weights at each step: their time constant is average * steps."""
        return 1 / (1 + self.config.average * self.config.steps)

    def _averages(self, population: Population, taken: int) -> dict[str, Tensor]:
        """Return the moving averages of the weights, "average/<name>" -> [n, ...]; they start from fresh weights."""
        if not self.config.average:
            return {}
        fresh = {f"{AVERAGE}/{name}": entry for name, entry in population.parameters.items()}
        return {name: (population.moments[name] if taken else entry).clone() for name, entry in fresh.items()}

    def _stream(self, shard: Shard, purpose: int, unit: int, evaluation: int = 0) -> torch.Generator:
        device = next(iter(shard.population.parameters.values())).device
        place, own = divmod(unit, self.config.units_of(shard.role, shard.generation))
        return stream(device, self.seeds[place], purpose, shard.generation, ROLES[shard.role], own, evaluation)


def train_or_halve(
    trainer: Trainer, shard: Shard, data: Data, progress: Progress | None = None, record: Record | None = None
) -> list[Shard]:
    """Call `Trainer.train`; if that runs out of memory, do so with the halves of the shard one after the other.

    Raises:
        TrainingError: a single unit runs out of memory.
    """
    try:
        return [trainer.train(shard, data, progress, record)]
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    # Here, and not above: the error's frames hold what was allocated.
    first, last = shard.units[0], shard.units[-1]
    if first == last:
        raise TrainingError(f"too little memory to train unit {first} alone; give a smaller batch_size")
    warnings.warn(
        f"too little memory to train units {first} to {last} at once: they are trained in two halves", stacklevel=2
    )
    middle = len(shard.units) // 2
    halves = (shard.take(slice(0, middle)), shard.take(slice(middle, None)))
    return [part for half in halves for part in train_or_halve(trainer, half, data, progress, record)]


def _tell(record: Record, step: Step) -> None:
    with only_read(TrainingError, "record: it", step.parameters):
        record(step)


class _Reporter:
    """Reports a shard's steps: a block of them at a time, slow ones more often.

    Attributes:
        paused: whether the training is to pause.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._pending, self._since = 0, time.perf_counter()
        self.paused = False

    def step(self, units: int, steps: int, *, last: bool) -> bool:
        """Count `steps` of each of `units`, and report if it is time. Returns `paused`."""
        self._pending += steps
        now = time.perf_counter()
        if last or self._pending >= BLOCK or now - self._since > REPORT_SECONDS:
            self.paused = bool(self._progress(self._pending * units))
            self._pending, self._since = 0, now
        return self.paused


def _join(populations: Sequence[Population]) -> Population:
    """Join populations; moments that only some have become zeros in the others, which is what optimizers start from."""
    zeros = {name: torch.zeros_like(entry) for each in populations for name, entry in each.moments.items()}
    return Population.join([replace(each, moments=zeros | dict(each.moments)) for each in populations])
