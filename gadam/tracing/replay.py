"""A simplified program whose random numbers are drawn before: from the units' streams and in the program's order.

What is left needs no generators, so it can run without Python. On a CPU its operators are called by TorchScript's
interpreter. That saves part of what calling them costs, and lets threads train shards side by side: Python would
let one of them at a time call an operator, and those of a small network are called more often than they compute. On a
GPU it can be captured (`gadam.training.cuda_graph`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor, fx

from gadam.randomness import draw


class PredrawnProgram:
    """Called like the program that it was made from: generators, then tensors.

    Attributes:
        body: the program, with what is drawn as its last inputs.
    """

    def __init__(self, program: fx.GraphModule) -> None:
        """Take the draws out.

        Args:
            program: simplified, its first input the generators.

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
        self.body: Callable[..., tuple[Tensor, ...]] = fx.GraphModule(program, graph).forward

    def __call__(self, streams: Generator | Sequence[Generator], *flat: Tensor) -> tuple[Tensor, ...]:
        """Draw, and run it."""
        return self.body(*flat, *self.draw(streams))

    def draw(self, streams: Generator | Sequence[Generator]) -> list[Tensor]:
        """The random numbers of one call."""
        return [draw(name, streams, like, *rest, **named) for name, like, rest, named in self._draws]


def compiled(
    program: fx.GraphModule, streams: Generator | Sequence[Generator], flat: Sequence[Tensor]
) -> PredrawnProgram:
    """A program for a CPU without Python.

    Args:
        program: simplified, its first input the generators.
        streams: generators to try it with.
        flat: tensors of the shapes and types that it will be called with.

    Raises:
        NotImplementedError: what it draws depends on its inputs.
    """
    drawn = PredrawnProgram(program)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that TorchScript will get no new features
        drawn.body = torch.jit.trace(drawn.body, (*flat, *drawn.draw(streams)), check_trace=False)
    return drawn
