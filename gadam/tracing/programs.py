"""Train a whole shard in one call: the step of one unit, vectorised by `torch.func` and traced once.

The trace is a straight line of tensor operators without Python in between. Random operators in it are rewritten to draw
for each unit from the unit's own stream, so the numbers are those that the unit would draw alone. Where one call for
all gains nothing, convolutions on a CPU, the step of one unit is traced and called for each (`singly`).
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor, fx, nn
from torch.func import functional_call, grad, vmap
from torch.fx.experimental.proxy_tensor import get_proxy_mode, make_fx
from torch.overrides import TorchFunctionMode

from gadam.display import describe_error
from gadam.population import copy_module
from gadam.randomness import can_draw, draw, global_stream, is_random
from gadam.runtime import process_lock, quiet_tracing
from gadam.tracing.convolution import use_convolution
from gadam.tracing.passes import simplify, without_writes
from gadam.tracing.replay import PredrawnProgram
from gadam.types import Batch, Loss, Streams, Tensors

Program = Callable[..., tuple[Tensor, ...]]
"""Takes generators, then tensors. A traced module's `forward` is one, which has no hooks."""


def is_tracing() -> bool:
    """Tell whether this thread traces a program: what it calls becomes part of that, and cannot be traced by itself."""
    return torch.compiler.is_compiling() or get_proxy_mode() is not None


class Programs:
    """Traced programs of one architecture and loss, one for each shape met. Safe to share between threads."""

    def __init__(
        self, template: nn.Module, loss: Loss, *, singly: bool = False, training_loss: Loss | None = None,
        evaluates: bool = False,
    ) -> None:  # fmt: skip
        """Prepare to trace.

        Args:
            template: a module of the architecture.
            loss: (output, targets) -> scalar.
            singly: trace the step of one unit and call it for each unit in turn, instead of that of the whole shard.
            training_loss: the same as `loss` on training rows, from fewer operators.
            evaluates: `losses` will be called often, so that it pays to simplify and compile its programs as well.
        """
        self._template = template
        self._loss, self._training_loss = loss, training_loss or loss
        self.singly, self._evaluates = singly, evaluates
        self._traced: dict[Any, Program] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without the traced programs: other processes trace for themselves."""
        return {**vars(self), "_traced": {}}

    def gradients(
        self, parameters: Tensors, buffers: Tensors, batch: Batch, streams: Streams
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Compute losses [g], gradients and buffers after a step, of units in training mode.

        The losses are summed over units before differentiation, so no unit's gradient depends on another's. `batch` is
        of inputs ([g, b, ...], ...) and targets [g, b, ...]; dropout and its kind draw from `streams`.
        """
        outputs = (self._one_by_one if self.singly else self._call)("gradients", parameters, buffers, batch, streams)
        after = iter(outputs[1 + len(parameters) :])
        return outputs[0], dict(zip(parameters, outputs[1:], strict=False)), {name: next(after) for name in buffers}

    def predrawn(self, parameters: Tensors, buffers: Tensors, batch: Batch) -> PredrawnProgram | None:
        """Return the program of `gradients` of a whole shard, if its random numbers can be drawn before."""
        program = None if self.singly else self._program("gradients", parameters, buffers, batch)
        return program if isinstance(program, PredrawnProgram) else None

    def losses(self, parameters: Tensors, buffers: Tensors, batch: Batch, streams: Streams) -> Tensor:
        """Compute losses [g] of units in evaluation mode on one batch, inputs ([b, ...], ...), that all units share."""
        if not self.singly:
            return self._call("losses", parameters, buffers, batch, streams)[0]
        # A copy for each, for the module may write to what it is given.
        each = [tensor.repeat(len(streams), *[1] * tensor.dim()) for tensor in (*batch[0], batch[1])]
        return self._one_by_one("losses", parameters, buffers, (tuple(each[:-1]), each[-1]), streams)[0]

    def _one_by_one(
        self, kind: str, parameters: Tensors, buffers: Tensors, batch: Batch, streams: Streams
    ) -> tuple[Tensor, ...]:
        def of(unit: int, tensors: Tensors) -> Tensors:
            return {name: tensor[unit] for name, tensor in tensors.items()}

        inputs, targets = batch
        units = [
            self._call(kind, of(i, parameters), of(i, buffers), (tuple(each[i] for each in inputs), targets[i]), stream)
            for i, stream in enumerate(streams)
        ]
        return tuple(each[0][None] if len(each) == 1 else torch.stack(each) for each in zip(*units, strict=True))

    def _call(
        self, kind: str, parameters: Tensors, buffers: Tensors, batch: Batch, streams: Generator | Streams
    ) -> tuple[Tensor, ...]:
        program = self._program(kind, parameters, buffers, batch)
        with torch.no_grad():  # the program computes its gradients itself
            return program(streams, *parameters.values(), *buffers.values(), *batch[0], batch[1])

    def _program(self, kind: str, parameters: Tensors, buffers: Tensors, batch: Batch) -> Program:
        flat = (*parameters.values(), *buffers.values(), *batch[0], batch[1])
        key = (kind, *((tensor.shape, tensor.dtype, tensor.device) for tensor in flat))
        if key not in self._traced:
            with process_lock:  # tracing changes torch.nn.Module for the whole process while it lasts
                if key not in self._traced:
                    self._traced[key] = self._trace(kind, list(parameters), list(buffers), flat)
        return self._traced[key]

    def _trace(self, kind: str, learned: list[str], carried: list[str], flat: Sequence[Tensor]) -> Program:
        # A copy, because functional_call exchanges the tensors of the module that it is given.
        module = copy_module(self._template).train(kind == "gradients")
        loss = self._training_loss if kind == "gradients" else self._loss
        split, cut = len(learned), len(learned) + len(carried)

        def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor], inputs: Any, targets: Tensor) -> Any:
            # The module may write to its buffers, and may put new ones in their place: both are seen in `state`.
            state = parameters | {name: tensor.clone() for name, tensor in buffers.items()}
            output = functional_call(module, state, inputs)
            return loss(output, targets), {name: state[name] for name in carried}

        shared = kind == "losses"
        units = one if self.singly else vmap(one, in_dims=(0, 0, None, None) if shared else 0, randomness="different")

        def summed(parameters: dict[str, Tensor], *rest: Any) -> Any:
            losses, buffers = units(parameters, *rest)
            return losses.sum(), (losses, buffers)

        def program(*flat: Tensor) -> tuple[Tensor, ...]:
            parameters = dict(zip(learned, flat, strict=False))
            buffers = dict(zip(carried, flat[split:], strict=False))
            inputs, targets = flat[cut:-1], flat[-1]
            if shared:
                return (units(parameters, buffers, inputs, targets)[0],)
            gradients, (losses, buffers) = grad(summed, has_aux=True)(parameters, buffers, inputs, targets)
            # Contiguous like the parameters: the fused optimizers read both in the order in which they lie in memory.
            aligned = (gradients[name].contiguous() for name in learned)
            # And buffers as the next step expects them.
            return (losses, *aligned, *(buffers[name].contiguous() for name in carried))

        # Tracing runs the program once, and its random operators with it: not at the cost of the user's generator.
        with torch.no_grad(), global_stream(0), quiet_tracing():
            given = [tensor.clone() for tensor in flat]
            with _padding():
                traced = make_fx(program)(*given)
                written = [tensor._version > 0 for tensor in given]
                if any(written[:split]):
                    raise NotImplementedError("its forward writes to parameters")
                if any(written):  # to its inputs: let it write to copies
                    traced = make_fx(lambda *flat: program(*(tensor.clone() for tensor in flat)))(*flat)
            if _counts_by_value(traced.graph):  # the next batch may give another number
                raise NotImplementedError("how many rows or entries it goes on with depends on their values")
            kernels = self.singly and all(tensor.device.type == "cpu" for tensor in flat)
            if shared and not (kernels or self._evaluates):  # called three times a generation: not worth more
                return _draw_from_streams(traced).forward
            return _faster(traced, flat, kernels, units=0 if self.singly else len(flat[0]))


class _padding(TorchFunctionMode):  # noqa: N801, used like a function
    """Context manager inside which no row of padding has a gradient: under `vmap` only the first unit's has none."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not nn.functional.embedding:
            return func(*args, **(kwargs or {}))
        given = _EMBEDDING.bind(*args, **(kwargs or {}))
        padding = given.arguments.pop("padding_idx", None)
        found, index = func(*given.args, **given.kwargs), given.arguments["input"]
        if padding is None:
            return found
        return torch.where((index == padding % len(given.arguments["weight"]))[..., None], found.detach(), found)


_EMBEDDING = inspect.signature(nn.functional.embedding)


def _counts_by_value(graph: fx.Graph) -> bool:
    """Tell whether the shape of what an operator returns depends on values given, as where a mask picks rows."""
    given: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder" or any(each in given for each in node.all_input_nodes):
            given.add(node)
        # The lengths of ctc_loss are numbers of the trace; one of the other three counts by its second argument.
        if torch.Tag.dynamic_output_shape not in getattr(node.target, "tags", ()) or "ctc_loss" in str(node.target):
            continue
        counts: Any = node.args[1] if node.target in _BY_SECOND else node.args[0]
        indices = [each for each in (counts if isinstance(counts, list | tuple) else [counts]) if each in given]
        if node.target is torch.ops.aten.index.Tensor:
            indices = [each for each in indices if each.meta["val"].dtype in (torch.bool, torch.uint8)]
        if indices:
            return True
    return False


_BY_SECOND = (
    torch.ops.aten.index.Tensor, torch.ops.aten.masked_select.default, torch.ops.aten.repeat_interleave.self_Tensor,
)  # fmt: skip


def suits_singly(module: nn.Module, device: torch.device) -> bool:
    """Tell whether a module is best traced for one unit, and that called for each.

    On a CPU a grouped convolution is no faster than its parts one by one, whose images still fit the caches. One by
    one, a traced step takes half the time of the loop's with LeNet-5 and two thirds with the CNN for ORL.
    """
    return device.type == "cpu" and any(isinstance(part, nn.modules.conv._ConvNd) for part in module.modules())


def _faster(traced: fx.GraphModule, flat: Sequence[Tensor], kernels: bool, units: int) -> Program:
    """Return the fastest program that gives the same: compiled, simplified, or as it was traced with `flat`.

    `kernels` says whether our convolution may be used; `units` how many generators the program takes, 0 for one that is
    no list.
    """
    device = flat[-1].device

    def streams() -> Any:
        several = [Generator(device).manual_seed(unit) for unit in range(max(1, units))]
        return several if units else several[0]

    found: list[Program] = []
    reason = "it writes to its inputs"
    try:
        ours = without_writes(traced, flat)
        if ours is not None:
            if kernels:
                use_convolution(ours)
            simplify(ours)
            ours = _draw_from_streams(ours)
            found.append(ours.forward)
            drawn = PredrawnProgram(ours)
            if device.type == "cpu":
                drawn.compile((*flat, *drawn.draw(streams())))
            found.append(drawn)
    except Exception as error:
        reason = describe_error(error)
    plain = _draw_from_streams(traced).forward
    expected = plain(streams(), *(tensor.clone() for tensor in flat))
    while found:
        fastest = found.pop()
        try:
            reason = difference(fastest(streams(), *(tensor.clone() for tensor in flat)), expected)
        except Exception as error:
            reason = describe_error(error)
        if not reason:
            return fastest
    logging.getLogger("gadam").info("A program is used as it was traced: %s", reason)
    return plain


def difference(outputs: Sequence[Tensor], expected: Sequence[Tensor]) -> str:
    """Say how two runs of a program differ beyond rounding, or "". What should not be finite is not compared."""
    scale = max((float(b.nan_to_num(0, 0, 0).norm()) for b in expected if b.is_floating_point()), default=0.0)
    for number, (a, b) in enumerate(zip(outputs, expected, strict=True)):
        if a.shape != b.shape or a.dtype != b.dtype or a.stride() != b.stride():
            return f"output {number} is of another kind"
        if not b.is_floating_point():
            if not torch.equal(a, b):
                return f"output {number} differs"
            continue
        finite = b.isfinite()
        a, b = a[finite], b[finite]
        close = 1e-8 if b.dtype is torch.float64 else 1e-3
        # A gradient may be nothing but rounding, such as that of a bias before BatchNorm.
        distance, allowed = float((a - b).norm()), close * (float(b.norm()) + 1e-2 * scale)
        if not distance <= allowed:
            return f"output {number} differs by {distance:.1e}, more than {allowed:.1e}"
    return ""


def _draw_from_streams(traced: fx.GraphModule) -> fx.GraphModule:
    """Let the random operators draw from the units' generators, which become the first input of the program."""
    graph = traced.graph
    with graph.inserting_before(next(iter(graph.nodes))):
        streams = graph.placeholder("streams")
    for node in list(graph.nodes):
        if not is_random(node.target, node.args, node.kwargs):
            continue
        if not can_draw(node.target):
            raise NotImplementedError(f"{node.target} cannot draw from a stream for each unit")
        with graph.inserting_before(node):
            ours = graph.call_function(draw, (str(node.target), streams, *node.args), node.kwargs)
        node.replace_all_uses_with(ours)
        graph.erase_node(node)
    return fx.GraphModule(traced, graph)
