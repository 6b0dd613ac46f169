"""A traced step of one unit with our convolution where it pays, and the library's where not.

Nodes are `Any` here: of their arguments fx says only that they may be anything.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
from torch import Tensor, fx

from gadam.tracing.convolution import Plan, convolve, convolve_gradients, max_pool

aten = torch.ops.aten

# With more input channels the library is as fast: it then has enough to fill its vectors. Without pooling it is faster,
# by half to twice on a processor with AVX-512.
WIDEST = 7
# The window of all phases has zeros around each kernel: multiplying by more of them than this costs more than it saves.
LARGEST_WINDOW = 2
# A pooling over more positions goes to the library: there is a pass over memory for each.
MOST_POSITIONS = 16
# A convolution that would keep more than this goes to the library.
KEPT_BYTES = 128 * 2**20

KERNELS = (convolve, convolve_gradients, max_pool)
# Operators that take their inputs as they lie in memory, and what they return lies as they took it.
_VIEWS = (aten.reshape.default, aten.permute.default, aten.t.default, aten.transpose.int)
# Operators that take their inputs as they lie in memory, and what they return is contiguous.
_PRODUCTS = (aten.mm.default, aten.addmm.default)


def use_kernels(pure: fx.GraphModule) -> bool:
    """Put the kernels into a program without writes in place (`gadam.tracing.passes.without_writes`).

    Returns:
        Whether there was anywhere to use them.
    """
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
    """The same values, with these strides."""
    return x if x.stride() == strides else x.new_empty_strided(x.shape, strides).copy_(x)


def _keep_strides(graph: fx.Graph) -> None:
    """Operators get inputs with the strides that they were traced with, but for a few that take any.

    What the kernels return lies in memory with the batch last. Which operators the library calls, and where it copies,
    was decided when tracing, by strides: so were the operator for an attention and each `contiguous()`.
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
    """ReLU then pooling, and in the gradient pooling then ReLU: both the other way round."""
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
    """A convolution with pooling after it, and the gradients of both."""
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
    backs = [
        theirs
        for theirs in graph.find_nodes(op="call_function", target=aten.convolution_backward.default)
        if theirs.args[1:3] == (x, weight) and theirs.args[4:10] == convolution.args[3:] and theirs.args[0] is back
    ]
    if back and not backs:
        return
    with graph.inserting_before(convolution):
        ours = graph.call_function(convolve, (x, weight, bias, plan))
        out, kept = (graph.call_function(operator.getitem, (ours, i)) for i in range(2))
    out.meta["val"] = value.meta["val"]
    value.replace_all_uses_with(out)
    for theirs in backs:
        with graph.inserting_before(theirs):
            new = graph.call_function(convolve_gradients, (back.args[0], kept, x, weight, plan, theirs.args[10]))
        theirs.replace_all_uses_with(new)
        graph.erase_node(theirs)
    if back:
        graph.erase_node(back)
    for item in list(pool.users):
        graph.erase_node(item)
    graph.erase_node(pool)
    graph.erase_node(convolution)


def _replace_pool(pool: Any) -> None:
    """Forward only: the library is fast where it is told the indices."""
    size = pool.args[0].meta["val"].shape[2:] if "val" in pool.args[0].meta else ()
    if _of_pool(pool)[0] is not None and not any(n % w for n, w in zip(size, pool.args[1], strict=True)):
        pool.target = max_pool
        pool.args = (pool.args[0], tuple(pool.args[1]), any(item.args[1] == 1 for item in pool.users))


def _following_pool(convolution: Any) -> tuple[Any, Any, Any]:
    """The pooling that alone uses a convolution: its node, its values, and its gradient that alone the former needs."""
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
    """A pooling's values and its gradient (None: there is none), or twice None if it is not of the kind we take."""
    defaults: list[Any] = [None, None, (), (0, 0), (1, 1), False]
    given: list[Any] = [*pool.args, *defaults[len(pool.args) :]]
    image, window, stride, padding, dilation, rounds_up = given
    if not 1 < math.prod(window) <= MOST_POSITIONS:
        return None, None
    size = image.meta["val"].shape[2:] if "val" in image.meta else ()
    plain = (tuple(stride) or tuple(window), *map(tuple, (padding, dilation))) == (tuple(window), (0, 0), (1, 1))
    if not plain or rounds_up or len(size) != len(window):
        return None, None
    parts = {item.args[1]: item for item in pool.users}
    backs = list(parts[1].users) if 1 in parts else []
    ours = all(back.target is aten.max_pool2d_with_indices_backward.default for back in backs)
    if 0 not in parts or len(backs) > 1 or not ours:
        return None, None
    return parts[0], backs[0] if backs else None
