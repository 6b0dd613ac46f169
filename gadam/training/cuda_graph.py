"""Capture the steps of a shard on a GPU as a CUDA graph: all kernels of a step are launched at once.

A graph reads and writes the same memory each time. So batches and random numbers are copied to where it reads them, and
parameters, buffers and Adam's state change where they are.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import torch
from torch import Tensor

from gadam.randomness import kept_streams
from gadam.tracing.programs import difference
from gadam.tracing.replay import PredrawnProgram
from gadam.training.optimizers import FusedAdam, take_average
from gadam.training.steps import Steps
from gadam.types import Batch

Compute = Callable[[], Tensor]
Capture = Callable[[Compute], tuple[Callable[[], None], Tensor]]
"""From what computes a step to what repeats it, and to the memory of its result."""

CAPTURE_PAYS = 20
"""Steps of a generation from which on capturing one pays; it takes the time of about as many."""
_capturing = threading.Lock()
WARM_UPS = 3  # libraries choose their kernels and allocate in the first calls, which a graph cannot hold


def cuda_graph(compute: Compute) -> tuple[Callable[[], None], Tensor]:
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


CAPTURES: dict[str, Capture] = {"cuda": cuda_graph}
"""Functions that capture, by the type of device."""


class CapturedSteps(Steps):
    """Takes each step by replaying a graph of it."""

    def __init__(
        self, plain: Steps, program: PredrawnProgram, optimizer: FusedAdam, batch: Batch, capture: Capture
    ) -> None:
        """Capture a step, and compare what it does once with the same step uncaptured; nothing changes.

        Args:
            plain: the steps uncaptured.
            program: of losses, gradients and buffers.
            optimizer: that of `plain`.
            batch: of the shapes of every batch to come.
            capture: how.

        Raises:
            RuntimeError: it cannot be captured, or does something else then.
        """
        super().__init__(**vars(plain))
        self._program, learned = program, self.parameters
        self.buffers = {name: buffer.clone() for name, buffer in self.buffers.items()}
        self._inputs = [tensor.clone() for tensor in (*batch[0], batch[1])]
        with kept_streams(self.streams):
            self._drawn = program.draw(self.streams)

        def compute() -> Tensor:
            outputs = program.body(*learned.values(), *self.buffers.values(), *self._inputs, *self._drawn)
            optimizer.step(dict(zip(learned, outputs[1:], strict=False)))
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

    def _step(self, batch: Batch) -> Tensor:
        """One step. Returns the losses in memory that the next step writes to."""
        given = (*batch[0], batch[1], *self._program.draw(self.streams))
        with torch.no_grad():
            for place, tensor in zip((*self._inputs, *self._drawn), given, strict=True):
                place.copy_(tensor)
            self._replay()
        return self._losses


def capture_steps(plain: Steps, batch: Batch) -> Steps | None:
    """Return steps that replay a graph, on a GPU, by Adam for units of one age, where the program can be captured."""
    capture = CAPTURES.get(batch[1].device.type)
    if capture is None or not isinstance(plain.optimizer, FusedAdam) or not plain.optimizer.rates.is_constant:
        return None
    program = plain.programs.predrawn(plain.parameters, plain.buffers, batch)
    if program is None:
        return None
    try:
        return CapturedSteps(plain, program, plain.optimizer, batch, capture)
    except RuntimeError as error:
        logging.getLogger("gadam").info("Steps are not captured in a CUDA graph: %s", error)
        return None
