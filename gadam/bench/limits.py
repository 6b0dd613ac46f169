"""What the machine allows: the least time in which the work can be done at the speed that it showed in the same run.

Counted are the floating-point operations of matrix products and convolutions, forward and backward, a multiplication
and an addition as two; activations, pooling, dropout, the loss and Adam itself are not. On a GPU also the bytes of
Adam: parameters, gradients and two moments read, parameters and moments written; activations are not. A share of 100 %
is therefore out of reach: what is missing to it is how much there is left at most, not how much could be had.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from gadam.bench.workloads import Work

SIZES = {"cpu": (1_024, 2_048), "cuda": (4_096, 8_192)}  # of the square matrices whose product is timed
TRIALS = 3
COPIED = 2**28  # float32 numbers, 1 GiB
ADAM_BYTES = 4 * (4 + 3)  # per parameter: four numbers read, three written


@dataclass
class Limits:
    """The machine at its best, so far.

    Attributes:
        flops: of a matrix product, per second; NaN before it is measured.
        bytes: copied per second, read and written both counted; NaN on a CPU.
        seen: every value of `flops`, one per call of `measure`.
    """

    device: torch.device
    flops: float = float("nan")
    bytes: float = float("nan")
    seen: list[float] = field(default_factory=list)

    def measure(self) -> None:
        """Look once more, with all threads: what else the machine does changes with time."""
        best = 0.0
        for size in SIZES.get(self.device.type, SIZES["cpu"]):
            a, b = (torch.rand(size, size, device=self.device) for _ in range(2))
            out = a @ b
            best = max(best, *(2 * size**3 / self._seconds(lambda: torch.mm(a, b, out=out)) for _ in range(TRIALS)))  # noqa: B023
        self.seen.append(best)
        self.flops = max(self.seen)
        if self.device.type == "cuda":
            source = torch.empty(COPIED, device=self.device)
            target = torch.empty_like(source)
            times = [self._seconds(lambda: target.copy_(source)) for _ in range(TRIALS)]
            speed = 2 * 4 * COPIED / min(times)
            self.bytes = speed if self.bytes != self.bytes else max(self.bytes, speed)

    def seconds(self, work: Work) -> float:
        """The least time of a step of the population."""
        units = len(work.population)
        parameters = sum(tensor[0].numel() for tensor in work.population.parameters.values())
        computing = units * flops(work) / self.flops
        moving = units * ADAM_BYTES * parameters / self.bytes if self.bytes == self.bytes else 0.0
        return max(computing, moving)

    def _seconds(self, function: object) -> float:
        assert callable(function)
        synchronise(self.device)
        start = time.perf_counter()
        function()
        synchronise(self.device)
        return time.perf_counter() - start


def flops(work: Work) -> int:
    """Floating-point operations of a training step of one unit, as PyTorch counts them."""
    # Shapes are enough to count.
    module = work.population.unit(0).to("meta").train()
    inputs, targets = (tensor[: work.batch_size].to("meta") for tensor in (work.inputs, work.targets))
    with FlopCounterMode(display=False) as counter:
        cross_entropy(module(inputs), targets).backward()
    return int(counter.get_total_flops() * work.batch_size / len(inputs))


def synchronise(device: torch.device) -> None:
    """Wait until a GPU has done what it was told; a CPU has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
