"""Training a shard (Section 3.2): each unit alone ("loop", the reference), or all in one call ("vectorised").

Nothing mixes units: Adam is elementwise, so Adam on stacked tensors is g independent Adams, and losses are summed over
units, never averaged across them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gadam.captured import CAPTURES, Captured
from gadam.config import GadamConfig
from gadam.optimizers import FusedAdam, Stepper, load_state, make_optimizer, make_stepper, state_of
from gadam.population import Population
from gadam.randomness import BATCHES, DRAWS, ROLES, stream, unit_stream
from gadam.vectorised import Batch, Loss, Programs

# Batch indices are drawn for so many steps at once, whatever the shard: a unit's stream depends on no neighbour.
BLOCK = 64
# Batches of steps to come are gathered while they take no more than this: they still are near the processor when used.
GATHERED_BYTES = 2**20

PATIENCE = 0.25
"""Seconds after which `progress` hears of a shard's steps at the latest."""

# Steps of a generation from which on capturing one of them pays; it takes the time of about as many.
CAPTURE_PAYS = 20

Progress = Callable[[int], None]
"""Told of unit-steps done since it was last told; may raise to stop the training."""


@dataclass(frozen=True)
class Shard:
    """Some units of one role in one generation: all that a worker must be told."""

    population: Population
    units: range
    role: str
    generation: int


@dataclass(frozen=True)
class Step:
    """What `record` is told after an optimizer step of some units.

    Attributes:
        generation: k, from 1.
        role: "parent" or "child".
        units: which of their role.
        number: the step within the generation, from 1.
        losses: [n], of each unit on its training batch, before the step.
        parameters: name -> [n, ...] after it, which must be copied to be kept.
    """

    generation: int
    role: str
    units: range
    number: int
    losses: Tensor
    parameters: Mapping[str, Tensor]


Record = Callable[[Step], None]


@dataclass(frozen=True)
class Trained:
    """A shard after training. Losses are means on the batches of `Data`, [n] each; seconds are the whole shard's."""

    population: Population
    loss_start: Tensor
    loss_trained: Tensor
    loss_survival: Tensor
    seconds: float


@dataclass(frozen=True)
class Data:
    """Training rows, and the two validation batches of a generation (Sections 3.3.1 and 3.4)."""

    train: Batch
    fitness: Batch
    survival: Batch


@dataclass(frozen=True)
class Trainer:
    """How the units of one architecture are trained.

    Attributes:
        config: the settings.
        loss: (output, targets) -> scalar, a mean over rows.
        programs: the vectorised programs, or None to train unit by unit.
        threads: intra-operator threads of a shard. Not for the executor to choose: sums may differ in their last bits
            with the number of threads. One, because shards side by side use the cores without waiting for each other.
    """

    config: GadamConfig
    loss: Loss
    programs: Programs | None = None
    threads: int = 1

    def train(
        self, shard: Shard, data: Data, progress: Progress | None = None, record: Record | None = None
    ) -> Trained:
        """Evaluate a shard, train it for `config.steps` steps, and evaluate it again."""
        _keep_freed_memory()
        with _intra_operator_threads(self.threads), float32_as_asked(data.train[1].device):
            start = time.perf_counter()
            loss_start = self.evaluate(shard, shard.population, data.fitness)
            train = self._train_loop if self.programs is None else self._train_vectorised
            population = train(shard, data.train, progress or (lambda _: None), record)
            loss_trained = self.evaluate(shard, population, data.fitness)
            loss_survival = self.evaluate(shard, population, data.survival)
            return Trained(population, loss_start, loss_trained, loss_survival, time.perf_counter() - start)

    def evaluate(self, shard: Shard, population: Population, batch: Batch) -> Tensor:
        """Mean loss of each unit in evaluation mode on one batch (Eq. 7 divided by the rows of V), [n]."""
        # A unit that draws even in evaluation mode draws the same at every evaluation: its fitness is comparable.
        draws = [self._stream(shard, DRAWS, unit, evaluation=1) for unit in shard.units]
        if self.programs is not None:
            return self.programs.losses(population.parameters, population.buffers, batch, draws)
        losses = []
        with torch.no_grad():
            for unit, generator in zip(population.units(), draws, strict=True):
                with unit_stream(generator):
                    losses.append(self.loss(unit(*batch[0]), batch[1]))
        return torch.stack(losses)

    def _train_loop(self, shard: Shard, rows: Batch, progress: Progress, record: Record | None) -> Population:
        trained = []
        told = _Told(progress, 1)
        for index, unit in enumerate(shard.units):
            population = shard.population.take(slice(index, index + 1))
            module = population.unit(0).train()
            learned = {name: entry for name, entry in module.named_parameters() if entry.requires_grad}
            optimizer = make_optimizer(self.config, list(learned.values()))
            load_state(optimizer, learned, {name: entry[0] for name, entry in population.moments.items()})
            draws = self._stream(shard, DRAWS, unit)
            for step, (inputs, targets) in enumerate(_gathered(rows, self._batches(shard, [unit], len(rows[1]))), 1):
                inputs, targets = tuple(tensor[0] for tensor in inputs), targets[0]
                optimizer.zero_grad()
                with unit_stream(draws):
                    loss = self.loss(module(*inputs), targets)
                loss.backward()
                optimizer.step()
                if record is not None:
                    entries = {name: entry.detach()[None] for name, entry in learned.items()}
                    alone = range(unit, unit + 1)
                    record(Step(shard.generation, shard.role, alone, step, loss.detach()[None], entries))
                told.step(last=step == self.config.steps)
            moments = {name: entry[None] for name, entry in state_of(optimizer, learned).items()}
            stacked = Population.stack([module], shard.population.template)
            trained.append(replace(stacked, moments=moments if self._carries else {}))
        return Population.join(trained)

    def _train_vectorised(self, shard: Shard, rows: Batch, progress: Progress, record: Record | None) -> Population:
        assert self.programs is not None
        learned = {name: entry.clone() for name, entry in shard.population.parameters.items()}
        buffers: Mapping[str, Tensor] = shard.population.buffers
        optimizer = make_stepper(self.config, learned, shard.population.moments)
        draws = [self._stream(shard, DRAWS, unit) for unit in shard.units]
        count = len(shard.units)
        batches = _gathered(rows, self._batches(shard, shard.units, len(rows[1])))
        captured: Captured | None = None
        told = _Told(progress, count)
        for step, batch in enumerate(batches, 1):
            if step == 1:
                captured = self._capture(optimizer, learned, buffers, batch, draws)
            if captured is not None:
                losses, buffers = captured.step(batch), captured.buffers
            else:
                losses, gradients, buffers = self.programs.gradients(learned, buffers, batch, draws)
                optimizer.step(gradients)
            if record is not None:
                record(Step(shard.generation, shard.role, shard.units, step, losses.clone(), learned))
            told.step(last=step == self.config.steps)
        moments = optimizer.state() if self._carries else {}
        return replace(shard.population, parameters=learned, buffers=buffers, moments=moments)

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
        words = (self.config.seed, purpose, shard.generation, ROLES[shard.role], unit, evaluation)
        return stream(device, *words)

    def _batches(self, shard: Shard, units: Sequence[int], rows: int) -> Iterator[Tensor]:
        """Blocks of the row numbers of batches, [steps, units, batch_size], uniform with replacement."""
        streams = [self._stream(shard, BATCHES, unit) for unit in units]
        shape = (BLOCK, self.config.batch_size)
        for done in range(0, self.config.steps, BLOCK):
            block = torch.stack([torch.randint(rows, shape, generator=s, device=s.device) for s in streams], 1)
            yield block[: self.config.steps - done]


class _Told:
    """Tells of a shard's steps: a block of them at a time, and of slow ones as often as a person looks."""

    def __init__(self, progress: Progress, units: int) -> None:
        self._progress, self._units = progress, units
        self._untold, self._since = 0, time.perf_counter()

    def step(self, *, last: bool) -> None:
        self._untold += 1
        if last or self._untold == BLOCK or time.perf_counter() - self._since > PATIENCE:
            self._progress(self._untold * self._units)
            self._untold, self._since = 0, time.perf_counter()


def _gathered(rows: Batch, blocks: Iterable[Tensor]) -> Iterator[Batch]:
    """The batches of each step, [units, batch_size, ...]: those of several steps at once while they are small."""
    inputs, targets = rows
    each = sum(tensor.nbytes // max(1, len(tensor)) for tensor in (*inputs, targets))
    for block in blocks:
        several = max(1, GATHERED_BYTES // max(1, each * block[0].numel()))
        for part in block.split(several):
            index = part.flatten()
            gathered = [tensor.index_select(0, index).view(*part.shape, *tensor.shape[1:]) for tensor in inputs]
            of_step = zip(*(tensor.unbind() for tensor in gathered), strict=True)
            yield from zip(of_step, targets.index_select(0, index).view(*part.shape, *targets.shape[1:]), strict=True)


def _keep_freed_memory() -> None:
    """Let the C library keep what a step frees for the next step.

    glibc gives large blocks back to the system at once, and every step then waits for thousands of pages to be mapped
    again: a fifth of the time of a LeNet-5 step on a virtual machine. It stops where it has seen one block of nearly
    32 MB freed (`mallopt(3)`, M_MMAP_THRESHOLD, on its dynamic adjustment), be it one that was never written to.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8, device="cpu")


# One entry for each thread inside, all of them what the process had before the first came in.
_threads_before: list[int] = []
_threads_lock = threading.Lock()


@contextmanager
def _intra_operator_threads(count: int) -> Iterator[None]:
    """PyTorch's setting, put back after: it has effect in the calling thread, and threads to come start from it."""
    with _threads_lock:
        _threads_before.append(_threads_before[0] if _threads_before else torch.get_num_threads())
        torch.set_num_threads(count)
    try:
        yield
    finally:
        with _threads_lock:
            torch.set_num_threads(_threads_before.pop())


@contextmanager
def float32_as_asked(device: torch.device) -> Iterator[None]:
    """On a GPU PyTorch lets cuDNN round convolutions to TF32 unasked: inside, only if matrix products may be too.

    That is asked for by `torch.set_float32_matmul_precision("high")` or the newer `fp32_precision` settings.
    """
    try:
        exact = device.type == "cuda" and torch.get_float32_matmul_precision() == "highest"
        before = torch.backends.cudnn.allow_tf32
    except RuntimeError:  # the newer settings are in use, which PyTorch does not let one mix with these
        exact = False
    if not exact:
        yield
        return
    with _exact_lock:  # for the whole process, as long as anybody is inside
        _exact.append(_exact[0] if _exact else before)
        torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        with _exact_lock:
            before = _exact.pop()
            if not _exact:
                torch.backends.cudnn.allow_tf32 = before


# One entry for each thread inside `float32_as_asked`: what the process had before the first came in.
_exact: list[bool] = []
_exact_lock = threading.Lock()
