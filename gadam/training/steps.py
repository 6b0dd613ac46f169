"""Steps of a shard: the traced gradients of all its units, then the optimizer's step; and two ways to take them faster.

On a CPU small networks wait for little else than Python: several steps are taken in one call, without Python in between
(`FusedSteps`). On a GPU a step is captured as a CUDA graph, whose kernels are launched at once (`CapturedSteps`).
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import torch
from torch import Generator, Tensor

from gadam.tracing.programs import Programs, difference
from gadam.tracing.replay import TORCHSCRIPT, PredrawnProgram, script
from gadam.training.optimizers import FusedAdam, Stepper, take_fused_step
from gadam.types import Batch, Tensors

FUSED = 8
"""Steps that one call takes."""
FUSING_PAYS = 500
"""Steps of a generation from which on compiling several as one pays; it takes the time of about as many."""
FUSED_OPERATORS = 500
"""Most operators of a step that is fused: compiling several of more takes minutes, and Python less of the time."""
CAPTURE_PAYS = 20
"""Steps of a generation from which on capturing one pays; it takes the time of about as many."""
WARM_UPS = 3  # libraries choose their kernels and allocate in the first calls, which a graph cannot hold

Compute = Callable[[], Tensor]
Capture = Callable[[Compute], tuple[Callable[[], None], Tensor]]
"""Takes a function that computes a step; returns one that replays it, and the tensor that its result is in."""

_compiling = threading.Lock()
_capturing = threading.Lock()


@dataclass
class Steps:
    """Takes the steps of one shard in one generation; subclasses take the same steps faster.

    Attributes:
        parameters: name -> [g, ...], which steps change in place.
        buffers: name -> [g, ...], as the last step left them.
        streams: a generator for each unit, for dropout and its kind.
        averages: moving averages of the parameters, in their order, which steps change in place; may be empty.
        weight: share by which an average moves towards its parameter at each step.
    """

    programs: Programs
    optimizer: Stepper
    parameters: Tensors
    buffers: Tensors
    streams: Sequence[Generator]
    averages: list[Tensor]
    weight: float

    def take(self, batches: Batch, factors: Tensor) -> Tensor:
        """Take a step on each of some batches, [steps, g, b, ...]. Returns the losses [g] before the last of them.

        `factors` are those of the learning rates, float64 [steps].
        """
        for *inputs, targets, factor in zip(*batches[0], batches[1], factors, strict=True):
            losses = self._step((tuple(inputs), targets), factor)
        return losses

    def _step(self, batch: Batch, factor: Tensor) -> Tensor:
        losses, gradients, self.buffers = self.programs.gradients(self.parameters, self.buffers, batch, self.streams)
        self.optimizer.step(gradients, factor)
        take_average(self.averages, list(self.parameters.values()), self.weight)
        return losses


def faster_steps(plain: Steps, batches: Batch) -> Steps:
    """Return the same steps taken faster; the plain ones unless the optimizer is Adam and all units have as many steps.

    `batches` are the first ones, [steps, g, b, ...]: several are fused, a single one is captured.
    """
    first = tuple(tensor[0] for tensor in batches[0]), batches[1][0]
    device, optimizer = batches[1].device.type, plain.optimizer
    program = plain.programs.predrawn(plain.parameters, plain.buffers, first)
    if program is None or not isinstance(optimizer, FusedAdam):
        return plain
    try:
        if len(batches[1]) == FUSED and device == "cpu" and TORCHSCRIPT and program.operators <= FUSED_OPERATORS:
            return FusedSteps(plain, program, optimizer, batches)
        if device in CAPTURES and optimizer.config.schedule == "constant":
            return CapturedSteps(plain, program, optimizer, first, CAPTURES[device])
    except RuntimeError as error:
        logging.getLogger("gadam").info("Steps are not captured or fused: %s", error)
    return plain


class FusedSteps(Steps):
    """Takes `FUSED` steps in one call, and what is left at the end of a block one by one."""

    def __init__(self, plain: Steps, program: PredrawnProgram, optimizer: FusedAdam, batches: Batch) -> None:
        """Compile the steps, unless that was done for another shard of the same shapes and any rate; nothing changes.

        `program` is of losses, gradients and buffers; `batches` are of the shapes of all that are taken in one call.

        Raises:
            RuntimeError: the steps cannot be compiled, or give other numbers then.
        """
        super().__init__(**vars(plain))
        self._program, self._optimizer = program, optimizer
        tried = [Generator(stream.device) for stream in self.streams]  # so nothing is taken from those of the units
        flat = self._flat(batches, torch.ones(FUSED, dtype=torch.float64), tried)
        key = (optimizer.settings, self.weight, *((tensor.shape, tensor.dtype) for tensor in flat))
        with _compiling, torch.no_grad():
            if key not in program.fused:
                program.fused[key] = self._compile(flat)
        self._call: Callable[..., Any] = program.fused[key]

    def take(self, batches: Batch, factors: Tensor) -> Tensor:  # noqa: D102
        if len(batches[1]) != FUSED:
            return super().take(batches, factors)
        with torch.no_grad():
            changed = self._call(*self._flat(batches, factors, self.streams))
        self.buffers = dict(zip(self.buffers, changed, strict=False))
        losses: Tensor = changed[len(self.buffers)]
        return losses

    def _compile(self, flat: Sequence[Tensor]) -> Callable[..., Any]:
        compiled = script(self._steps, [tensor.clone() for tensor in flat])
        ours, expected = ([tensor.clone() for tensor in flat] for _ in range(2))
        ours += compiled(*ours)
        expected += self._steps(*expected)
        if not all(torch.equal(a, b) for a, b in zip(ours, expected, strict=True)):
            raise RuntimeError("several in one call give other numbers")
        return compiled

    def _flat(self, batches: Batch, factors: Tensor, streams: Sequence[Generator]) -> list[Tensor]:
        """Return the inputs of the compiled steps: what they change, buffers, and each step's batch and draws."""
        *lists, ages = self._optimizer.tensors
        flat = [*chain(*lists), *self.averages, ages, self._optimizer.rate * factors, *self.buffers.values()]
        for tensors in zip(*batches[0], batches[1], strict=True):
            flat += [*tensors, *self._program.draw(streams)]
        return flat

    def _steps(self, *flat: Tensor) -> tuple[Tensor, ...]:
        given = iter(flat)
        *lists, _ = self._optimizer.tensors
        entries, *others = (list(islice(given, len(each))) for each in lists)
        averages, ages, rates = list(islice(given, len(self.averages))), next(given), next(given)
        buffers, rest = tuple(islice(given, len(self.buffers))), list(given)
        size = len(rest) // FUSED
        losses = rest[0]
        for step in range(FUSED):
            losses, *outputs = self._program.generated(*entries, *buffers, *rest[step * size : step * size + size])
            ages += 1
            gradients, adam = outputs[: len(entries)], self._optimizer.settings
            # The step changes `entries` in place and returns the same tensors. Later uses must be of what it returned:
            # by the old names, a pass of TorchScript may take them for the values before the step.
            entries = _scripted(take_fused_step)(gradients, entries, *others, ages, rates[step], *adam)
            averages = _scripted(take_average)(averages, entries, self.weight)
            buffers = tuple(outputs[len(entries) :])
        return *buffers, losses, *entries, *averages


def take_average(averages: list[Tensor], entries: list[Tensor], weight: float) -> list[Tensor]:
    """Move exponential averages of parameters towards them, in place, and return them; there may be none."""
    if len(averages) > 0:
        torch._foreach_lerp_(averages, entries, weight)
    return averages


@functools.cache
def _scripted(function: Callable[..., list[Tensor]]) -> Callable[..., list[Tensor]]:
    """Compile a function by itself: a trace leaves out what returns no tensor, but not a script."""
    return torch.jit.script(function)


class CapturedSteps(Steps):
    """Takes each step by replaying a graph of it.

    A graph reads and writes the same memory each time. So batches and random numbers are copied to where it reads them,
    and parameters, buffers and Adam's state change where they are.
    """

    def __init__(
        self, plain: Steps, program: PredrawnProgram, optimizer: FusedAdam, batch: Batch, capture: Capture
    ) -> None:
        """Capture a step, and compare what it does once with the same step uncaptured; nothing changes.

        `program` is of losses, gradients and buffers; `batch` is of the shapes of every batch to come.

        Raises:
            RuntimeError: it cannot be captured, or does something else then.
        """
        super().__init__(**vars(plain))
        self._program, learned = program, self.parameters
        self.buffers = {name: buffer.clone() for name, buffer in self.buffers.items()}
        self._inputs = [tensor.clone() for tensor in (*batch[0], batch[1])]
        self._drawn = program.draw([Generator(stream.device) for stream in self.streams])  # not from the units' own
        factor = torch.ones((), dtype=torch.float64)

        def compute() -> Tensor:
            outputs = program.body(*learned.values(), *self.buffers.values(), *self._inputs, *self._drawn)
            optimizer.step(dict(zip(learned, outputs[1:], strict=False)), factor)
            take_average(self.averages, list(learned.values()), self.weight)
            for buffer, new in zip(self.buffers.values(), outputs[1 + len(learned) :], strict=True):
                buffer.copy_(new)
            return outputs[0]

        changed = [*learned.values(), *self.averages, *self.buffers.values(), *optimizer.state().values()]
        before = [tensor.clone() for tensor in changed]

        def restore() -> None:
            for tensor, value in zip(changed, before, strict=True):
                tensor.copy_(value)

        with torch.no_grad():
            try:
                expected = [compute().clone(), *(tensor.clone() for tensor in changed)]
                restore()
                self._replay, self._losses = capture(compute)
                restore()
                self._replay()
                reason = difference([self._losses, *changed], expected)
            finally:
                restore()
        if reason:
            raise RuntimeError(f"a captured step is not the step itself: {reason}")

    def _step(self, batch: Batch, factor: Tensor) -> Tensor:
        """One step; the rates are constant. Returns the losses in memory that the next step writes to."""
        given = (*batch[0], batch[1], *self._program.draw(self.streams))
        with torch.no_grad():
            for place, tensor in zip((*self._inputs, *self._drawn), given, strict=True):
                place.copy_(tensor)
            self._replay()
        return self._losses


def _capture_cuda_graph(compute: Compute) -> tuple[Callable[[], None], Tensor]:
    """Capture a computation; it runs a few times before. What other threads do meanwhile does not disturb it."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            compute()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with _capturing, torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
        result = compute()
    return graph.replay, result


CAPTURES: dict[str, Capture] = {"cuda": _capture_cuda_graph}
"""Functions that capture, by the type of device."""
