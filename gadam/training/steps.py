"""Steps of a shard, one after the other: the traced gradients of all its units, then the optimizer's step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Generator, Tensor

from gadam.tracing.programs import Programs
from gadam.training.optimizers import Stepper, take_average
from gadam.types import Batch, Tensors


@dataclass
class Steps:
    """Takes the steps of one shard in one generation; subclasses take the same steps faster.

    Attributes:
        programs: of the gradients.
        optimizer: of `parameters`.
        parameters: name -> [g, ...], which steps change in place.
        buffers: name -> [g, ...], as the last step left them.
        streams: what the units draw from, a generator each.
        averages: of the parameters, in their order, which steps change in place; may be empty.
        weight: by which an average moves towards its parameter at each step.
    """

    programs: Programs
    optimizer: Stepper
    parameters: Tensors
    buffers: Tensors
    streams: Sequence[Generator]
    averages: list[Tensor] = field(default_factory=list)
    weight: float = 0.0

    def take(self, batches: Batch) -> Tensor:
        """Take a step on each of some batches, [steps, g, b, ...]. Returns the losses [g] before the last of them."""
        for batch in zip(zip(*batches[0], strict=True), batches[1], strict=True):
            losses = self._step(batch)
        return losses

    def _step(self, batch: Batch) -> Tensor:
        losses, gradients, self.buffers = self.programs.gradients(self.parameters, self.buffers, batch, self.streams)
        self.optimizer.step(gradients)
        take_average(self.averages, list(self.parameters.values()), self.weight)
        return losses


def first_of(batches: Batch) -> Batch:
    """Return the batch of the first of several steps."""
    return tuple(tensor[0] for tensor in batches[0]), batches[1][0]
