"""A simplified program on a CPU without Python: its operators are called by TorchScript's interpreter.

That saves a third of what calling them costs, and lets threads train shards side by side: Python would let one of them
at a time call an operator, and those of a small network are called more often than they compute.

Random numbers are drawn before, from the units' streams and in the program's order, and given to it as inputs.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor, fx

from gadam.randomness import draw


class Compiled:
    """Called like the program that it was made from: generators, then tensors."""

    def __init__(
        self, program: fx.GraphModule, streams_like: Generator | Sequence[Generator], flat: Sequence[Tensor]
    ) -> None:
        """Compile.

        Args:
            program: simplified, its first input the generators.
            streams_like: generators to try it with.
            flat: tensors of the shapes and types that it will be called with.

        Raises:
            NotImplementedError: what it draws depends on its inputs.
        """
        graph = fx.Graph()
        copies: dict[Any, Any] = {}
        self._draws: list[tuple[str, Any, list[Any], dict[str, Any]]] = []
        graph.output(graph.graph_copy(program.graph, copies))
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
        body = fx.GraphModule(program, graph)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that TorchScript will get no new features
            self._body = torch.jit.trace(body, (*flat, *self._drawn(streams_like)), check_trace=False).forward

    def __call__(self, streams: Generator | Sequence[Generator], *flat: Tensor) -> tuple[Tensor, ...]:
        """Run it."""
        results: tuple[Tensor, ...] = self._body(*flat, *self._drawn(streams))
        return results

    def _drawn(self, streams: Generator | Sequence[Generator]) -> list[Tensor]:
        return [draw(name, streams, like, *rest, **named) for name, like, rest, named in self._draws]
