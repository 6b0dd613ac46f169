"""Simplify traced programs: the same values from half as many operators.

A small network spends more time on calling operators than in them. `vmap` and `grad` leave reshapes that change
nothing, products by 1, one comparison three times, constants made anew at each step, and matrix products followed by a
copy of their transpose. Each rule here takes out one kind; none changes a value by more than an operator's rounding.

Nodes are `Any` here: of their arguments fx says only that they may be anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.func import functionalize
from torch.fx.experimental.proxy_tensor import make_fx

from gadam.randomness import is_random

aten = torch.ops.aten

KEPT_BYTES = 2**24
"""Most bytes of a constant that is kept; a larger one is made anew at each step."""

_RESHAPES = (aten.view.default, aten._unsafe_view.default, aten.reshape.default, aten.expand.default)
# Operators that go by the shape of their input, whatever its values are.
_FILLED = (aten.ones_like.default, aten.zeros_like.default, aten.full_like.default, aten.new_zeros.default,
           aten.new_ones.default, aten.new_full.default)  # fmt: skip
_PRODUCTS = (aten.bmm.default, aten.mm.default)
# Operators whose result may be overwritten: its memory is new, or for `add_` a product's (`_add_in_product`).
_NEW = (aten.add.Tensor, aten.addmm.default, aten.baddbmm.default, aten.bmm.default, aten.mm.default, aten.mul.Tensor,
        Tensor.add_)  # fmt: skip
# Operators on single entries, and what writes the result over the first argument.
_OVERWRITE = {
    aten.relu.default: (torch.relu_, None), aten.sigmoid.default: (torch.sigmoid_, None),
    aten.tanh.default: (torch.tanh_, None),
    aten.threshold_backward.default: (aten.threshold_backward.grad_input, "grad_input"),
}  # fmt: skip
# PyTorch's own functions of the same name are called in half the time of an operator of `torch.ops`.
_QUICK = {
    aten.add.Tensor: torch.add, aten.baddbmm.default: torch.baddbmm, aten.bmm.default: torch.bmm,
    aten.addmm.default: torch.addmm, aten.clone.default: torch.clone, aten.div.Tensor: torch.div,
    aten.expand.default: Tensor.expand, aten.gather.default: torch.gather, aten.mm.default: torch.mm,
    aten.mul.Tensor: torch.mul, aten.ne.Scalar: torch.ne, aten.neg.default: torch.neg, aten.relu.default: torch.relu,
    aten.scatter_add.default: torch.scatter_add, aten.sigmoid.default: torch.sigmoid, aten.sub.Tensor: torch.sub,
    aten.sum.default: torch.sum, aten.sum.dim_IntList: torch.sum, aten.t.default: torch.t,
    aten.tanh.default: torch.tanh, aten.transpose.int: torch.transpose, aten.unsqueeze.default: torch.unsqueeze,
    aten.view.default: Tensor.view, aten.where.self: torch.where, aten._log_softmax.default: torch._log_softmax,
    aten._log_softmax_backward_data.default: torch._log_softmax_backward_data,
}  # fmt: skip


def without_writes(traced: fx.GraphModule, inputs: Sequence[Tensor]) -> fx.GraphModule | None:
    """Return the program without writes in place, so that values may be moved, left out or computed anew.

    It runs once more on what it was traced with, and draws from the global generator. None if it writes to its inputs.
    """
    pure = make_fx(functionalize(traced, remove="mutations"))(*inputs)
    writes = (getattr(getattr(node.target, "_schema", None), "is_mutable", False) for node in pure.graph.nodes)
    return None if any(writes) else pure


def simplify(pure: fx.GraphModule) -> None:
    """Take out of a program without writes what it can do without; changes it in place."""
    graph = pure.graph
    for node in graph.find_nodes(op="call_function", target=aten.native_dropout.default):
        _open_dropout(graph, node)
    for node in list(graph.nodes):
        if node.op == "call_function":
            _drop(node)
    _merge_equal(graph)
    _keep_constants(pure)
    for node in list(graph.nodes):
        if node.target is aten.clone.default:
            _transpose_before_product(graph, node)
    for node in list(graph.nodes):
        if node.target is aten.add.Tensor:
            _add_in_product(node)
    _own_results(graph)
    graph.eliminate_dead_code()
    for node in graph.nodes:
        if node.target in _OVERWRITE:
            _overwrite(node)
    for node in graph.nodes:
        node.target = _QUICK.get(node.target, node.target)
    graph.lint()
    pure.recompile()


def _open_dropout(graph: fx.Graph, dropout: Any) -> None:
    """Replace the fused dropout of a GPU by a mask and products: what is drawn then depends on no input."""
    x, rate, train = dropout.args
    if train is False:
        return
    value = x.meta["val"]

    def call(target: Any, *args: Any, like: Any = value, **options: Any) -> Any:
        node = graph.call_function(target, args, options)
        node.meta["val"] = like
        return node

    with graph.inserting_before(dropout):
        zero = call(aten.scalar_tensor.default, 0.0, like=value.new_empty(()), dtype=value.dtype, device=value.device)
        zeros = call(aten.expand.default, zero, list(value.shape), like=value.new_empty(()).expand(value.shape))
        mask = call(aten.bernoulli.p, zeros, 1 - rate)
        scaled = call(aten.mul.Tensor, call(aten.mul.Tensor, x, mask), 1 / (1 - rate) if rate < 1 else 0.0)
        parts = scaled, call(aten.ne.Scalar, mask, 0, like=value.new_empty(value.shape, dtype=torch.bool))
    for item in list(dropout.users):
        item.replace_all_uses_with(parts[item.args[1]])
        graph.erase_node(item)
    graph.erase_node(dropout)


def _drop(node: Any) -> None:
    """Drop a reshape to the shape that is there, and a product by 1."""
    source = node.args[0] if node.args else None
    if not isinstance(source, fx.Node):
        return
    same = node.target in _RESHAPES and _layout(node) == _layout(source)
    if _is_transpose(node) and _is_transpose(source):
        source, same = source.args[0], True
    if node.target in (aten.mul.Scalar, aten.mul.Tensor) and type(node.args[1]) in (int, float):
        same = node.args[1] == 1 and _dtype(node) == _dtype(source)
    if same:
        node.replace_all_uses_with(source)
        node.graph.erase_node(node)


def _merge_equal(graph: fx.Graph) -> None:
    """Merge operators with the same arguments into one."""
    met: dict[str, Any] = {}
    for node in list(graph.nodes):
        if node.op != "call_function" or is_random(node.target, node.args, node.kwargs):
            continue
        first = met.setdefault(f"{node.target} {node.args} {node.kwargs}", node)
        if first is not node:
            node.replace_all_uses_with(first)
            graph.erase_node(node)


def _keep_constants(pure: fx.GraphModule) -> None:
    """Compute once what depends on no input."""
    graph, values = pure.graph, dict[Any, Any]()

    def known(source: Any) -> Any:
        value = source.meta["val"]
        return values[source] if source in values else torch.empty(value.shape, dtype=value.dtype, device=value.device)

    for node in graph.nodes:
        if node.op != "call_function" or is_random(node.target, node.args, node.kwargs):
            continue
        filled = node.target in _FILLED and all("val" in source.meta for source in node.all_input_nodes)
        if filled or all(source in values for source in node.all_input_nodes):
            values[node] = node.target(*fx.map_arg(node.args, known), **fx.map_arg(node.kwargs, known))
    for node, value in values.items():
        small = isinstance(value, Tensor) and value.untyped_storage().nbytes() <= KEPT_BYTES
        if small and not all(user in values for user in node.users):
            name = f"constant_{node.name}"
            pure.register_buffer(name, value, persistent=False)
            with graph.inserting_before(node):
                kept = graph.get_attr(name)
            kept.meta["val"] = node.meta["val"]
            node.replace_all_uses_with(kept)


def _transpose_before_product(graph: fx.Graph, clone: Any) -> None:
    """Replace the contiguous transpose of a product by the product of the transposes: no copy."""
    turned: Any = clone.args[0]
    product: Any = turned.args[0] if turned.op == "call_function" and turned.args else turned
    if product.target not in _PRODUCTS or clone.kwargs.get("memory_format") is not torch.contiguous_format:
        return
    if not _is_transpose(turned) or len(product.users) > 1:
        return
    with graph.inserting_before(clone):
        ours = graph.call_function(product.target, tuple(_transposed(graph, side) for side in reversed(product.args)))
    ours.meta["val"] = clone.meta["val"]
    clone.replace_all_uses_with(ours)


def _transposed(graph: fx.Graph, side: Any) -> Any:
    if _is_transpose(side):
        return side.args[0]
    node = graph.call_function(aten.transpose.int, (side, -2, -1))
    node.meta["val"] = side.meta["val"].mT
    return node


def _is_transpose(node: Any) -> bool:
    """Tell whether a node transposes matrices, in a batch or alone."""
    rank = len(_shape(node)) if "val" in node.meta and isinstance(node.meta["val"], Tensor) else 0
    if node.target is aten.t.default:
        return rank == 2
    return node.target is aten.transpose.int and {dim % rank for dim in node.args[1:]} == {rank - 2, rank - 1}


def _add_in_product(add: Any) -> None:
    """Write a sum over the product of matrices that it is of: one operator for both would copy the other side first."""
    if len(add.args) != 2 or add.kwargs or not all(isinstance(side, fx.Node) for side in add.args):
        return
    for product, other in (add.args, reversed(add.args)):
        alone = product.target is aten.bmm.default and list(product.users) == [add] and product is not other
        if alone and _dtype(other) == _dtype(product) == _dtype(add) and _shape(product) == _shape(add):
            add.target, add.args = Tensor.add_, (product, other)
            return


def _overwrite(node: Any) -> None:
    """Write a result over its argument where nobody else reads that: it is still in the cache."""
    source = node.args[0]
    alone = source.target in _NEW and list(source.users) == [node] and node.args.count(source) == 1
    if alone and _layout(node) == _layout(source) and _dtype(node) == _dtype(source):
        node.target, out = _OVERWRITE[node.target]
        node.kwargs = {out: source} if out else {}


def _own_results(graph: fx.Graph) -> None:
    """Give each result memory of its own, so that who gets it may write to it."""
    output: Any = graph.output_node()
    (given,) = output.args
    met, results = set[Any](), list[Any]()
    with graph.inserting_before(output):
        for result in (given,) if isinstance(given, fx.Node) else given:
            base = result
            while isinstance(base, fx.Node) and _is_view(base):
                base = base.args[0]
            if isinstance(base, fx.Node) and (base in met or base.op != "call_function"):
                copy = graph.call_function(aten.clone.default, (result,))
                copy.meta["val"] = result.meta["val"]
                result = copy
            met.add(base)
            results.append(result)
    output.args = (results[0] if isinstance(given, fx.Node) else tuple(results),)


def _is_view(node: Any) -> bool:
    returns: Any = getattr(getattr(node.target, "_schema", None), "returns", ())
    shares = bool(returns) and returns[0].alias_info is not None
    # A reshape may or may not.
    return node.op == "call_function" and (shares or node.target in _RESHAPES or node.target is aten.contiguous.default)


def _layout(node: Any) -> Any:
    """Return where the entries lie: the shape, and the strides of dimensions that have any length."""
    value = node.meta.get("val")
    if not isinstance(value, Tensor):
        return node  # equal to nothing else
    return value.shape, [stride for size, stride in zip(value.shape, value.stride(), strict=True) if size > 1]


def _shape(node: Any) -> Any:
    return node.meta["val"].shape


def _dtype(node: Any) -> Any:
    value = node.meta.get("val")
    return value.dtype if isinstance(value, Tensor) else node
