"""Programs whose random numbers are drawn before they run: from the units' streams, in the program's order.

What is left needs no generators, so it can run without Python. On a CPU its operators are called by TorchScript's
interpreter. That saves part of what calling them costs, and lets threads train shards side by side: Python would
let one of them at a time call an operator, and those of a small network are called more often than they compute. On a
GPU it can be captured (`gadam.training.steps`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any

import torch
from torch import Generator, Tensor, fx

from gadam.randomness import draw
from gadam.runtime import quiet_tracing

_compiled: dict[Any, tuple[Callable[..., Any], dict[Any, Callable[..., Any]]]] = {}


class PredrawnProgram:
    """A program whose random numbers are drawn before; called like the original: generators, then tensors.

    Attributes:
        operators: how many it calls.
        generated: the program as Python, with what is drawn as its last inputs.
        body: the same, or what it was compiled to.
        fused: several calls of it with the optimizer's steps in between, by what they depend on.
    """

    def __init__(self, program: fx.GraphModule) -> None:
        """Take the draws out of a program, whose first input are the generators.

        Raises:
            NotImplementedError: what it draws depends on its inputs.
        """
        graph = fx.Graph()
        self._draws: list[tuple[str, Any, list[Any], dict[str, Any]]] = []
        graph.output(graph.graph_copy(program.graph, {}))
        streams, *inputs = [node for node in graph.nodes if node.op == "placeholder"]
        for node in [node for node in graph.nodes if node.target is draw]:
            name, _, like, *rest = node.args
            if isinstance(like, fx.Node):
                if like.op != "get_attr":
                    raise NotImplementedError(f"what {name} draws depends on the inputs")
                like = getattr(program, str(like.target))
            self._draws.append((name, like, rest, dict(node.kwargs)))
            with graph.inserting_after(inputs[-1]):
                inputs.append(graph.placeholder(f"drawn_{len(self._draws)}"))
            node.replace_all_uses_with(inputs[-1])
            graph.erase_node(node)
        graph.erase_node(streams)
        # Tensors that draws were `like` go: they are memory that nothing was written to, so never twice the same.
        graph.eliminate_dead_code()
        self.fused: dict[Any, Callable[..., Any]] = {}
        self._module = fx.GraphModule(program, graph)
        self.operators = len(graph.nodes)
        self.generated: Callable[..., tuple[Tensor, ...]] = self._module.forward
        self.body = self.generated

    def compile(self, flat: Sequence[Tensor]) -> None:
        """Compile the body by TorchScript; `flat` are inputs to try it with.

        Equal programs are compiled once in a process, for TorchScript never frees what it has compiled.
        """
        constants = [tensor.detach() for tensor in (*self._module.parameters(), *self._module.buffers())]
        values = (sha256(each.contiguous().flatten().view(torch.uint8).numpy().data).digest() for each in constants)
        kinds = ((tensor.shape, tensor.dtype) for tensor in (*constants, *flat))
        codes = (part.code for part in self._module.modules() if isinstance(part, fx.GraphModule))
        key = (*codes, *values, *kinds)
        if key not in _compiled:
            _compiled[key] = script(self.generated, flat), self.fused
        self.body, self.fused = _compiled[key]

    def __call__(self, streams: Generator | Sequence[Generator], *flat: Tensor) -> tuple[Tensor, ...]:
        """Draw the random numbers and run the program."""
        return self.body(*flat, *self.draw(streams))

    def draw(self, streams: Generator | Sequence[Generator]) -> list[Tensor]:
        """Draw the random numbers of one call."""
        return [draw(name, streams, like, *rest, **named) for name, like, rest, named in self._draws]


TORCHSCRIPT = sys.version_info < (3, 14)
"""Whether there is TorchScript's interpreter, which PyTorch lacks from Python 3.14 on. Without it the program is called
as the Python that fx generates: the same operators, so the same bits, but threads wait for each other."""


def script(function: Callable[..., Any], flat: Sequence[Tensor]) -> Callable[..., Any]:
    """Compile a function of tensors by TorchScript, where there is one; `flat` are inputs to try it with."""
    if not TORCHSCRIPT:
        return function
    with quiet_tracing():
        compiled: Callable[..., Any] = torch.jit.trace(function, tuple(flat), check_trace=False)
    return compiled
