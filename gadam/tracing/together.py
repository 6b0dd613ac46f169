"""What all units of a population say of the same rows, as one traced program: for predictions, without gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from gadam.population import Population
from gadam.runtime import intra_operator_threads
from gadam.tracing.passes import aten, simplify, without_writes
from gadam.tracing.replay import script

Together = Callable[..., Tensor]  # of parameters and buffers, stacked, and inputs, in order

_PRODUCTS = (torch.bmm, torch.baddbmm)


def together(
    template: nn.Module, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor], inputs: Sequence[Tensor]
) -> list[Together]:
    """Programs for inputs of these shapes that give the output of each unit, [g, n, ...], to be tried for their speed.

    Called with `gadam.tracing.programs.tracing` held and within a stream of random numbers: it runs the modules.

    Args:
        template: a module of the architecture, in evaluation mode.
        parameters: name -> [g, ...].
        buffers: name -> [g, ...]; what the module writes to them is forgotten.
        inputs: [n, ...] each, the same for all units.

    Raises:
        Exception: of any kind, where the module cannot be vectorised or traced.
    """
    names, learned = (*parameters, *buffers), len(parameters)
    module = copy.deepcopy(template)  # a module that keeps what it computed would keep traces of tracing

    def one(state: dict[str, Tensor], inputs: tuple[Tensor, ...]) -> Any:
        own = [tensor.clone() if number >= learned else tensor for number, tensor in enumerate(state.values())]
        return functional_call(module, dict(zip(state, own, strict=True)), inputs)

    def program(*flat: Tensor) -> Tensor:
        stacked = dict(zip(names, flat, strict=False))
        outputs: Tensor = vmap(one, (0, None), randomness="different")(stacked, flat[len(names) :])
        return outputs

    flat = (*parameters.values(), *buffers.values(), *inputs)
    traced = without_writes(make_fx(program)(*flat), flat)
    if traced is None:
        raise NotImplementedError("it writes to its inputs")
    simplify(traced)
    if inputs[0].device.type != "cpu":
        return [traced.forward]
    found: list[Together] = [script(traced.forward, flat)]
    if _put_rows_last(traced):
        with suppress(RuntimeError):  # a view of what is in another order now may not be possible
            found.append(script(traced.forward, flat))
    return found


def on_threads(predict: Callable[..., Tensor], parts: Sequence[tuple[Tensor, ...]]) -> list[Tensor]:
    """What is predicted for each part, in order, on as many threads as PyTorch uses.

    For the length of a call: threads that are kept would be missing in a process that is forked.
    """
    count = min(torch.get_num_threads(), len(parts))
    if count < 2:
        return [predict(*part) for part in parts]

    def several(share: Sequence[tuple[Tensor, ...]]) -> list[Tensor]:
        with intra_operator_threads(1), torch.no_grad():  # both of the thread
            return [predict(*part) for part in share]

    bounds = [number * len(parts) // count for number in range(count + 1)]
    mine, *others = [parts[low:high] for low, high in pairwise(bounds)]
    with ThreadPoolExecutor(count - 1) as pool:
        waiting = [pool.submit(several, share) for share in others]
        return [*several(mine), *(each for future in waiting for each in future.result())]


def as_module(population: Population) -> nn.Module:
    """Copies of the stacked tensors, under the names that they have in a unit."""
    root = nn.Module()
    for name, tensor in {**population.parameters, **population.buffers}.items():
        *path, last = name.split(".")
        parent = root
        for part in path:
            if not hasattr(parent, part):
                parent.add_module(part, nn.Module())
            parent = parent.get_submodule(part)
        if name in population.parameters:
            parent.register_parameter(last, nn.Parameter(tensor.detach().clone(), requires_grad=False))
        else:
            parent.register_buffer(last, tensor.detach().clone())
    return root


def _put_rows_last(traced: fx.GraphModule) -> bool:
    """Compute each product of matrices as the transpose of that of their transposes; whether there are any.

    The result then has the rows, of which there are many, next to each other in memory, and not the units of a layer,
    which rarely fill the registers of a processor: a fifth of the time of a small network. Its values are the same.
    """
    graph = traced.graph
    found = [node for node in graph.nodes if node.target in _PRODUCTS]
    for node in found:
        *bias, left, right = node.args
        with graph.inserting_before(node):
            swapped = [graph.call_function(aten.transpose.int, (each, -1, -2)) for each in (*bias, right, left)]
            product = graph.call_function(node.target, tuple(swapped), node.kwargs)
            result = graph.call_function(aten.transpose.int, (product, -1, -2))
        node.replace_all_uses_with(result)
        graph.erase_node(node)
    traced.recompile()
    return bool(found)
