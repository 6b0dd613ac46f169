"""Convolution with max-pooling on a CPU as matrix products, and where a traced step of one unit uses it.

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

import math
import operator
from collections.abc import Sequence
from functools import reduce
from itertools import pairwise, product
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx
from torch.nn.functional import pad

aten = torch.ops.aten


class Plan(NamedTuple):
    """A convolution and the pooling after it. Pairs are height and width."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    pool: tuple[int, int]
    outputs: tuple[int, int]  # height and width after pooling

    @property
    def step(self) -> tuple[int, int]:
        """Distance between windows of all phases, in pixels."""
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
    """Compute a pooled convolution, and what its gradient needs."""
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
    """Compute the gradients of x, weight and bias, those that are wanted."""
    columns, matrix, phases, largest = kept
    by_map = gradient.permute(1, 2, 3, 0).contiguous().flatten(1)
    by_phase = _route_to_argmax(by_map, phases, largest).flatten(0, 1)
    of_x = of_weight = None
    if wanted[1]:
        of_weight = _placed((by_phase @ columns.t()).view(matrix.shape), weight.shape, plan).sum((0, 1))
    if wanted[0]:
        of_x = _sum_columns(matrix.flatten(0, 2).flatten(1).t() @ by_phase, x.shape, plan)
    return of_x, of_weight, by_map.sum(1) if wanted[2] else None


def _columns(x: Tensor, plan: Plan) -> Tensor:
    """Return the pixels of each window as a column: [channels * rows * columns of a window, outputs * batch]."""
    (down, across), (n, m), (high, wide) = plan.step, plan.steps, plan.outputs
    x = x.permute(1, 2, 3, 0)
    # Pad to whole steps; negative padding cuts off what no window reaches.
    (top, left) = plan.padding
    bottom = (high + n - 1) * down - x.shape[1] - top
    right = (wide + m - 1) * across - x.shape[2] - left
    if any((top, left, bottom, right)):
        x = pad(x, (0, 0, left, right, top, bottom))
    x = x.contiguous().unflatten(2, (-1, across)).unflatten(1, (-1, down))  # c, H, down, W, across, b
    windows = x.unfold(1, n, 1).unfold(3, m, 1)  # c, high, down, wide, across, b, n, m
    return windows.permute(0, 6, 2, 7, 4, 1, 3, 5).reshape(x.shape[0] * plan.window, -1)


def _sum_columns(columns: Tensor, shape: Sequence[int], plan: Plan) -> Tensor:
    """Return the gradient of an image from that of its columns: the transpose of `_columns`."""
    (down, across), (n, m), (high, wide) = plan.step, plan.steps, plan.outputs
    batch, channels, height, width = shape
    parts = columns.view(channels, n, down, m, across, high, wide, batch).permute(0, 1, 3, 5, 2, 6, 4, 7)
    image = columns.new_zeros(channels, high + n - 1, down, wide + m - 1, across, batch)
    for i, j in product(range(n), range(m)):
        image[:, i : i + high, :, j : j + wide] += parts[:, i, j]
    image = image.flatten(3, 4).flatten(1, 2)
    (top, left) = plan.padding
    image = pad(image, (0, 0, -left, width + left - image.shape[2], -top, height + top - image.shape[1]))
    return image.permute(3, 0, 1, 2)


def _spread(weight: Tensor, plan: Plan) -> Tensor:
    """Return the kernel at its place in the window, for each phase: [*pool, out, in, *window]."""
    window = [n * step for n, step in zip(plan.steps, plan.step, strict=True)]
    matrix = weight.new_zeros(*plan.pool, *weight.shape[:2], *window)
    _placed(matrix, weight.shape, plan).copy_(weight)
    return matrix


def _placed(matrix: Tensor, shape: Sequence[int], plan: Plan) -> Tensor:
    """Return the view of `_spread`'s matrix that is the kernel, [*pool, *shape]: each phase lies a stride further."""
    of_phase = [matrix.stride(i) + plan.stride[i] * matrix.stride(4 + i) for i in range(2)]
    return matrix.as_strided((*plan.pool, *shape), (*of_phase, *matrix.stride()[2:]))


def max_pool(x: Tensor, window: tuple[int, int], indexed: bool) -> tuple[Tensor, Tensor | None]:
    """Compute the maximum over windows and, if wanted, its index in the image: of equals the first, as the library."""
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
    for (row, column), (next_row, next_column) in pairwise(product(range(high), range(wide))):
        later = later & (x[:, :, row::high, column::wide] != largest)
        index.add_(later, alpha=(next_row - row) * width + next_column - column)
    return largest, index


def _route_to_argmax(gradient: Tensor, phases: Tensor, largest: Tensor) -> Tensor:
    """Return the gradient where the first of the largest is, and zeros elsewhere."""
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


# --- Where a traced step uses it. Nodes are `Any`: of their arguments fx says only that they may be anything. ---

WIDEST = 7
"""Most input channels: with more the library is as fast, for it then has enough to fill its vectors."""
LARGEST_WINDOW = 2
"""Largest window of all phases, in kernels: multiplying by more zeros around each kernel costs more than it saves."""
MOST_POSITIONS = 16
"""Most positions of a pooling: there is a pass over memory for each."""
KEPT_BYTES = 128 * 2**20
"""Most bytes that a convolution may keep for its gradient."""

KERNELS = (convolve, convolve_gradients, max_pool)
# Operators that take their inputs as they lie in memory, and what they return lies as they took it.
_VIEWS = (aten.reshape.default, aten.permute.default, aten.t.default, aten.transpose.int)
# Operators that take their inputs as they lie in memory, and what they return is contiguous.
_PRODUCTS = (aten.mm.default, aten.addmm.default)


def use_convolution(pure: fx.GraphModule) -> bool:
    """Put our convolution into a traced step of one unit, without writes, wherever it pays; tell whether it did."""
    graph = pure.graph
    for pool in graph.find_nodes(op="call_function", target=aten.max_pool2d_with_indices.default):
        _pool_before_relu(graph, pool)
    for convolution in graph.find_nodes(op="call_function", target=aten.convolution.default):
        _replace_convolution(graph, convolution)
    for pool in graph.find_nodes(op="call_function", target=aten.max_pool2d_with_indices.default):
        _replace_pool(pool)
    if not any(node.target in KERNELS for node in graph.nodes):
        return False
    _keep_strides(graph)
    graph.lint()
    pure.recompile()
    return True


def strided(x: Tensor, strides: tuple[int, ...]) -> Tensor:
    """Return the same values with these strides."""
    return x if x.stride() == strides else x.new_empty_strided(x.shape, strides).copy_(x)


def _keep_strides(graph: fx.Graph) -> None:
    """Give operators inputs with the strides that they were traced with, but for a few that take any.

    What our convolution returns lies in memory with the batch last. Which operators the library calls, and where it
    copies, was decided when tracing, by strides: so were the operator for an attention and each `contiguous()`.
    """
    loose: set[Any] = set()
    restored: dict[Any, Any] = {}
    for node in list(graph.nodes):
        if node.target in (aten.view.default, aten._unsafe_view.default) and node.args[0] in loose:
            node.target = aten.reshape.default
        sources = [source for source in node.all_input_nodes if source in loose]
        if node.target in KERNELS or (sources and (node.target is operator.getitem or _follows(node.target))):
            loose.add(node)
        elif node.target not in _PRODUCTS:
            for source in sources:
                if source not in restored:
                    with graph.inserting_before(node):
                        strides = tuple(source.meta["val"].stride())
                        restored[source] = graph.call_function(strided, (source, strides))
                node.replace_input_with(source, restored[source])


def _follows(target: Any) -> bool:
    tags = getattr(target, "tags", ())
    pointwise = torch.Tag.pointwise in tags and torch.Tag.nondeterministic_seeded not in tags
    return pointwise or target in _VIEWS


def _pool_before_relu(graph: fx.Graph, pool: Any) -> None:
    """Exchange ReLU and the pooling after it, and in the gradient the pooling and the ReLU after it."""
    relu = pool.args[0]
    value, back = _of_pool(pool)
    if value is None or relu.target is not aten.relu.default:
        return
    source = relu.args[0]
    mask: Any = next(iter(back.users)) if back and len(back.users) == 1 else None
    if set(relu.users) != {pool, back, mask} - {None}:
        return
    if back and (mask is None or mask.target is not aten.threshold_backward.default or mask.args[1:] != (relu, 0)):
        return
    pool.replace_input_with(relu, source)
    with graph.inserting_after(value):
        after = graph.call_function(aten.relu.default, (value,))
    after.meta["val"] = value.meta["val"]
    value.replace_all_uses_with(after, delete_user_cb=lambda user: user is not after)
    if back:
        with graph.inserting_before(back):
            masked = graph.call_function(aten.threshold_backward.default, (back.args[0], after, 0))
        masked.meta["val"] = after.meta["val"]
        back.args = (masked, source, *back.args[2:])
        mask.replace_all_uses_with(back)
        graph.erase_node(mask)
    graph.erase_node(relu)


def _replace_convolution(graph: fx.Graph, convolution: Any) -> None:
    """Replace a convolution with pooling after it, and the gradients of both."""
    x, weight, bias, stride, padding, dilation, transposed, _, groups = convolution.args
    image, kernel = (node.meta.get("val") for node in (x, weight))
    if image is None or kernel is None or image.dtype not in (torch.float32, torch.float64):
        return
    if image.dim() != 4 or transposed or groups != 1 or any(step != 1 for step in dilation):
        return
    pool, value, back = _following_pool(convolution)
    if not pool or image.shape[1] > WIDEST:
        return
    window, outputs = pool.args[1], value.meta["val"].shape[2:]
    plan = Plan(tuple(kernel.shape[2:]), tuple(stride), tuple(padding), tuple(window), tuple(outputs))
    if plan.window > LARGEST_WINDOW * math.prod(plan.kernel):
        return
    if plan.kept(len(image), image.shape[1], len(kernel)) * image.itemsize > KEPT_BYTES:
        return
    theirs: Any = next(iter(back.users)) if back else None  # the gradient of the convolution
    if back and (theirs.args[:3], theirs.args[4:10]) != ((back, x, weight), convolution.args[3:]):
        return
    with graph.inserting_before(convolution):
        ours = graph.call_function(convolve, (x, weight, bias, plan))
        out, kept = (graph.call_function(operator.getitem, (ours, i)) for i in range(2))
    out.meta["val"] = value.meta["val"]
    value.replace_all_uses_with(out)
    if back:
        with graph.inserting_before(theirs):
            new = graph.call_function(convolve_gradients, (back.args[0], kept, x, weight, plan, theirs.args[10]))
        theirs.replace_all_uses_with(new)
    for node in (*((theirs, back) if back else ()), *pool.users, pool, convolution):
        graph.erase_node(node)


def _replace_pool(pool: Any) -> None:
    """Replace the forward pass of a pooling; backward the library is fast, for it is told the indices."""
    size = pool.args[0].meta["val"].shape[2:] if "val" in pool.args[0].meta else ()
    if _of_pool(pool)[0] is not None and not any(n % w for n, w in zip(size, pool.args[1], strict=True)):
        pool.target = max_pool
        pool.args = (pool.args[0], tuple(pool.args[1]), any(item.args[1] == 1 for item in pool.users))


def _following_pool(convolution: Any) -> tuple[Any, Any, Any]:
    """Find the pooling that alone uses a convolution: its node, its values, and the gradient that only it needs."""
    for pool in convolution.users:
        if pool.target is not aten.max_pool2d_with_indices.default:
            continue
        value, back = _of_pool(pool)
        if value is None or set(convolution.users) != {pool, back} - {None}:
            break
        if back and [user.target for user in back.users] != [aten.convolution_backward.default]:
            break
        return pool, value, back
    return None, None, None


def _of_pool(pool: Any) -> tuple[Any, Any]:
    """Find a pooling's values and its gradient, None without one; twice None if the pooling is not of our kind."""
    defaults: list[Any] = [None, None, (), (0, 0), (1, 1), False]
    given: list[Any] = [*pool.args, *defaults[len(pool.args) :]]
    image, window, stride, padding, dilation, rounds_up = given
    size = image.meta["val"].shape[2:] if "val" in image.meta else ()
    plain = (tuple(stride) or tuple(window), *map(tuple, (padding, dilation))) == (tuple(window), (0, 0), (1, 1))
    few = 1 < math.prod(window) <= MOST_POSITIONS
    if not (plain and few) or rounds_up or len(size) != len(window):
        return None, None
    parts = {item.args[1]: item for item in pool.users}
    backs = list(parts[1].users) if 1 in parts else []
    ours = all(back.target is aten.max_pool2d_with_indices_backward.default for back in backs)
    if 0 not in parts or len(backs) > 1 or not ours:
        return None, None
    return parts[0], backs[0] if backs else None
