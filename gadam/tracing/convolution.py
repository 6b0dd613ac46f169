"""Convolution with max-pooling on a CPU, for the traced step of one unit: matrix products instead of library kernels.

The library's kernels are made for wide layers. With the one input channel and few maps of a small network its weight
gradient is five times slower than the matrix product of the same size, and its pooling slower than the convolution.
Three things make the difference here:
- The batch is the last dimension in memory. Every shift of an image is then a copy of long runs, and a maximum over a
  window one of whole rows.
- A convolution and the pooling after it are one operator: "phases", the positions within a pooling window, are further
  maps of a convolution with a larger kernel and stride, and pooling is the maximum over phases. The columns of its
  matrix product are fewer (2.7 times for 5 x 5 pooled by 2).
- Pooling goes before ReLU, which then has a quarter of the work: the maximum of what is cut off below zero is what is
  cut off of the maximum, and the gradients are the same as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import pairwise, product
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad


class Plan(NamedTuple):
    """A convolution and the pooling after it. Pairs are height and width."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    pool: tuple[int, int]
    outputs: tuple[int, int]  # height and width after pooling

    @property
    def step(self) -> tuple[int, int]:
        """From window to window, in pixels."""
        return self.stride[0] * self.pool[0], self.stride[1] * self.pool[1]

    @property
    def steps(self) -> tuple[int, int]:
        """The least number of steps that a window of all phases spans."""
        reach = [k + s * (p - 1) for k, s, p in zip(self.kernel, self.stride, self.pool, strict=True)]
        return -(-reach[0] // self.step[0]), -(-reach[1] // self.step[1])

    @property
    def window(self) -> int:
        """Pixels of a window of all phases."""
        return self.steps[0] * self.step[0] * self.steps[1] * self.step[1]

    def kept(self, batch: int, channels: int, maps: int) -> int:
        """Numbers in the columns, the matrix and the phases."""
        rows, phases = channels * self.window, self.pool[0] * self.pool[1] * maps
        columns = self.outputs[0] * self.outputs[1] * batch
        return rows * columns + phases * rows + phases * columns


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, plan: Plan) -> tuple[Tensor, tuple[Tensor, ...]]:
    """A pooled convolution, and what its gradient needs."""
    columns = _columns(x, plan)
    matrix = _spread(weight, plan)
    phases = (matrix.flatten(0, 2).flatten(1) @ columns).unflatten(0, (-1, len(weight)))
    largest = phases.amax(0)
    # Not what is kept itself, because the program may write to what it gets.
    out = largest.clone() if bias is None else largest + bias[:, None]
    return out.view(-1, *plan.outputs, len(x)).permute(3, 0, 1, 2), (columns, matrix, phases, largest)


def convolve_gradients(
    gradient: Tensor, kept: tuple[Tensor, ...], x: Tensor, weight: Tensor, plan: Plan, wanted: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of x, weight and bias, those that are wanted."""
    columns, matrix, phases, largest = kept
    by_map = gradient.permute(1, 2, 3, 0).contiguous().flatten(1)
    by_phase = _to_largest(by_map, phases, largest).flatten(0, 1)
    of_x = of_weight = None
    if wanted[1]:
        spread = (by_phase @ columns.t()).view(matrix.shape)
        of_weight = _placed(spread, weight.shape, plan).sum((0, 1))
    if wanted[0]:
        of_x = _sum_columns(matrix.flatten(0, 2).flatten(1).t() @ by_phase, x.shape, plan)
    return of_x, of_weight, by_map.sum(1) if wanted[2] else None


def _columns(x: Tensor, plan: Plan) -> Tensor:
    """[channels * rows * columns of a window, outputs * batch]."""
    (down, across), (n, m), (high, wide) = plan.step, plan.steps, plan.outputs
    x = x.permute(1, 2, 3, 0)
    # To whole steps. Negative padding cuts off what no window reaches.
    (top, left) = plan.padding
    bottom = (high + n - 1) * down - x.shape[1] - top
    right = (wide + m - 1) * across - x.shape[2] - left
    if any((top, left, bottom, right)):
        x = pad(x, (0, 0, left, right, top, bottom))
    x = x.contiguous().unflatten(2, (-1, across)).unflatten(1, (-1, down))  # c, H, down, W, across, b
    windows = x.unfold(1, n, 1).unfold(3, m, 1)  # c, high, down, wide, across, b, n, m
    return windows.permute(0, 6, 2, 7, 4, 1, 3, 5).reshape(x.shape[0] * plan.window, -1)


def _sum_columns(columns: Tensor, shape: Sequence[int], plan: Plan) -> Tensor:
    """The transpose of `_columns`: an image from the gradient of its columns."""
    (down, across), (n, m), (high, wide) = plan.step, plan.steps, plan.outputs
    batch, channels, height, width = shape
    parts = columns.view(channels, n, down, m, across, high, wide, batch).permute(0, 1, 3, 5, 2, 6, 4, 7)
    image = columns.new_zeros(channels, high + n - 1, down, wide + m - 1, across, batch)
    for i in range(n):
        for j in range(m):
            image[:, i : i + high, :, j : j + wide] += parts[:, i, j]
    image = image.flatten(3, 4).flatten(1, 2)
    (top, left) = plan.padding
    image = pad(image, (0, 0, -left, width + left - image.shape[2], -top, height + top - image.shape[1]))
    return image.permute(3, 0, 1, 2)


def _spread(weight: Tensor, plan: Plan) -> Tensor:
    """The kernel at its place in the window, for each phase: [*pool, out, in, *window]."""
    window = [n * step for n, step in zip(plan.steps, plan.step, strict=True)]
    matrix = weight.new_zeros(*plan.pool, *weight.shape[:2], *window)
    _placed(matrix, weight.shape, plan).copy_(weight)
    return matrix


def _placed(matrix: Tensor, shape: Sequence[int], plan: Plan) -> Tensor:
    """The view of `_spread`'s matrix that is the kernel, [*pool, *shape]: each phase lies a stride further on."""
    of_phase = [matrix.stride(i) + plan.stride[i] * matrix.stride(4 + i) for i in range(2)]
    return matrix.as_strided((*plan.pool, *shape), (*of_phase, *matrix.stride()[2:]))


def max_pool(x: Tensor, window: tuple[int, int], indexed: bool) -> tuple[Tensor, Tensor | None]:
    """Maximum over windows side by side and, if wanted, its index in the image: the first of equals, as the library."""
    high, wide = window
    rows = reduce(torch.maximum, (x[:, :, i::high] for i in range(high)))
    largest = reduce(torch.maximum, (rows[..., j::wide] for j in range(wide)))
    if not indexed:
        return largest, None
    height, width = x.shape[2:]
    if largest.sum().isnan():  # NaN is not equal to itself; which of them the library takes, it knows best
        return torch.ops.aten.max_pool2d_with_indices(x, window)
    down, across = (torch.arange(0, n, step, device=x.device) for n, step in ((height, high), (width, wide)))
    index = (down[:, None] * width + across).expand(largest.shape).contiguous()
    later = torch.tensor(True, device=x.device)
    places = list(product(range(high), range(wide)))
    for (row, column), (next_row, next_column) in pairwise(places):
        later = later & (x[:, :, row::high, column::wide] != largest)
        index.add_(later, alpha=(next_row - row) * width + next_column - column)
    return largest, index


def _to_largest(gradient: Tensor, phases: Tensor, largest: Tensor) -> Tensor:
    """The gradient where the first of the largest is, zeros elsewhere."""
    if not (gradient.sum() + largest.sum()).isfinite():
        # Zero times infinity would be NaN in the other places; and NaN is not equal to itself.
        first = ((phases == largest) | phases.isnan()).byte().argmax(0, keepdim=True)
        return torch.zeros_like(phases).scatter_(0, first, gradient[None])
    out = torch.eq(phases, largest, out=torch.empty_like(phases))  # ones and zeros
    rest = gradient
    for part in out[:-1]:
        part.mul_(rest)
        rest = rest - part
    out[-1] = rest
    return out
