"""Several steps of a shard in one call, without Python in between: on a CPU small networks wait for little else."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Sequence
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor

from gadam.randomness import kept_streams
from gadam.tracing.replay import TORCHSCRIPT, PredrawnProgram, script
from gadam.training.optimizers import FusedAdam, take_average, take_fused_step
from gadam.training.steps import Steps, first_of
from gadam.types import Batch

STEPS = 8
"""Steps of one call."""
FUSING_PAYS = 500
"""Steps of a generation from which on compiling several as one pays; it takes the time of about as many."""

_compiling = threading.Lock()


class FusedSteps(Steps):
    """Takes `STEPS` steps in one call, and what is left at the end of a block one by one."""

    def __init__(self, plain: Steps, program: PredrawnProgram, optimizer: FusedAdam, batches: Batch) -> None:
        """Compile the steps, unless that was done for another shard of the same shapes; nothing changes.

        Args:
            plain: the steps one by one.
            program: of losses, gradients and buffers.
            optimizer: that of `plain`.
            batches: of `STEPS` steps, [steps, g, b, ...]; of the shapes of all that will be taken in one call.

        Raises:
            RuntimeError: the steps cannot be compiled, or give other numbers then.
        """
        super().__init__(**vars(plain))
        self._program, self._optimizer = program, optimizer
        with kept_streams(self.streams):
            flat = self._flat(batches, torch.ones(STEPS, dtype=torch.float64))
        key = (optimizer.settings, self.weight, *((tensor.shape, tensor.dtype) for tensor in flat))
        with _compiling, torch.no_grad():
            if key not in program.fused:
                program.fused[key] = self._compile(flat)
        self._call: Callable[..., Any] = program.fused[key]

    def take(self, batches: Batch) -> Tensor:  # noqa: D102
        if len(batches[1]) != STEPS:
            return super().take(batches)
        with torch.no_grad():
            changed = self._call(*self._flat(batches, self._optimizer.rates.next(STEPS)))
        self.buffers = dict(zip(self.buffers, changed, strict=False))
        losses: Tensor = changed[len(self.buffers)]
        return losses

    def _compile(self, flat: Sequence[Tensor]) -> Callable[..., Any]:
        compiled = script(self._steps, [tensor.clone() for tensor in flat])
        ours, expected = ([tensor.clone() for tensor in flat] for _ in range(2))
        ours += compiled(*ours)
        expected += self._steps(*expected)
        if not all(torch.equal(a, b) for a, b in zip(ours, expected, strict=True)):
            raise RuntimeError("they give other numbers in one call")
        return compiled

    def _flat(self, batches: Batch, factors: Tensor) -> list[Tensor]:
        """Return the inputs of the compiled steps: what they change, buffers, and each step's batch and draws."""
        *lists, ages = self._optimizer.tensors
        flat = [*chain(*lists), *self.averages, ages, factors, *self.buffers.values()]
        for inputs, targets in zip(zip(*batches[0], strict=True), batches[1], strict=True):
            flat += [*inputs, targets, *self._program.draw(self.streams)]
        return flat

    def _steps(self, *flat: Tensor) -> tuple[Tensor, ...]:
        given = iter(flat)
        *lists, _ = self._optimizer.tensors
        entries, *others = (list(islice(given, len(each))) for each in lists)
        averages, ages, factors = list(islice(given, len(self.averages))), next(given), next(given)
        buffers, rest = tuple(islice(given, len(self.buffers))), list(given)
        size = len(rest) // STEPS
        losses = rest[0]
        for step in range(STEPS):
            losses, *outputs = self._program.generated(*entries, *buffers, *rest[step * size : step * size + size])
            ages += 1
            gradients, adam = outputs[: len(entries)], self._optimizer.settings
            # What it returns are the same tensors; named anew, no pass of TorchScript takes them for the old ones.
            entries = scripted(take_fused_step)(gradients, entries, *others, ages, factors[step], *adam)
            averages = scripted(take_average)(averages, entries, self.weight)
            buffers = tuple(outputs[len(entries) :])
        return *buffers, losses, *entries, *averages


@functools.cache
def scripted(function: Callable[..., list[Tensor]]) -> Callable[..., list[Tensor]]:
    """Compile a function by itself: a trace leaves out what returns no tensor, but not a script."""
    return torch.jit.script(function)


def fuse_steps(plain: Steps, batches: Batch) -> Steps | None:
    """Return steps that are taken several in one call, on a CPU with TorchScript, by Adam for units of one age.

    `batches` are the first ones, as many as they will always be but at the end of a block.
    """
    if not TORCHSCRIPT or batches[1].device.type != "cpu" or len(batches[1]) != STEPS:
        return None
    program = plain.programs.predrawn(plain.parameters, plain.buffers, first_of(batches))
    if program is None or not isinstance(plain.optimizer, FusedAdam):
        return None
    try:
        return FusedSteps(plain, program, plain.optimizer, batches)
    except RuntimeError as error:
        logging.getLogger("gadam").info("Steps are not fused: %s", error)
        return None
