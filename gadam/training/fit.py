"""Check that rows, model and loss fit, and fit the rows to them; each failure is a one-line `InputError`."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.utils.checkpoint
from torch import Generator, Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from gadam.config import GadamConfig, InputError
from gadam.display import describe_tensor, first_line, warn
from gadam.population import Population, learned_of
from gadam.randomness import is_random, unit_stream
from gadam.runtime import intra_operator_threads
from gadam.training.batches import take_rows
from gadam.training.python_state import changed_by
from gadam.types import Batch, Loss, Targets

_CLASS_LOSSES = (nn.functional.cross_entropy, nn.functional.nll_loss)
_VALUE_LOSSES = (
    nn.functional.mse_loss, nn.functional.l1_loss, nn.functional.smooth_l1_loss, nn.functional.huber_loss,
)  # fmt: skip
FEW = 4
"""Rows on which model and loss are tried."""


def fit_rows(name: str, population: Population, rows: Batch, loss: Loss) -> tuple[Batch, Targets]:
    """Convert rows to what the model and the loss take, which is found by trying one unit on a few of them.

    Float inputs that the model refuses get its type, float targets that of its outputs; labels for a loss of classes
    become int64, from one-hot rows and columns too. Returns the rows, and whether targets are "classes" or "values".

    Raises:
        InputError: the model does not take the inputs, the loss does not take the output or gives no scalar, or a
            target is not among the classes. The message names the argument, unless that is "data".
    """
    try:
        return _fit_rows(name, population, rows, loss)
    except InputError as error:
        if name == "data":
            raise
        raise InputError(f"{name}: {error}") from error.__cause__


def _fit_rows(name: str, population: Population, rows: Batch, loss: Loss) -> tuple[Batch, Targets]:
    model, loss_name = type(population.template).__name__, _name(loss)
    with torch.no_grad(), unit_stream(Generator(rows[1].device).manual_seed(0)):
        rows, output = _try_model(name, population, rows)
        rows = _read_labels(output, rows, loss)
        floats = isinstance(output, Tensor) and output.is_floating_point() and rows[1].is_floating_point()
        if floats and not getattr(loss, "keeps_targets", False):
            rows = rows[0], _cast(name, "targets", rows[1], output.dtype, f"the outputs of {model}")
        few = rows[1][:FEW].clone()
        fit = f"output of {_shape(output)} with targets of {_shape(few)}"
        try:
            with _same_sizes():
                value = loss(output, few)
        except Exception as error:
            raise InputError(f"loss: {loss_name} could not compare {model}'s {fit}: {first_line(error)}") from error
        if not (isinstance(value, Tensor) and value.dim() == 0 and value.is_floating_point()):
            raise InputError(f"loss: {loss_name} of {fit} gives {_shape(value)}, must give a scalar (a mean over rows)")
        _warn_of_broadcasting(output, few, loss, value)
        return rows, targets_of(output, rows[1], loss)


class _same_sizes(TorchFunctionMode):  # noqa: N801, used like a function
    """Context manager inside which a loss of values is an error where it would compare every output with every target.

    PyTorch only warns, and filters of warnings are of all threads.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _VALUE_LOSSES:
            given: list[Tensor] = [*args[:2], *(kwargs[name] for name in ("input", "target")[len(args) :])]
            if given[0].shape != given[1].shape:
                shapes = " with ".join(str(list(one.shape)) for one in given)
                raise ValueError(f"{shapes} is compared as if both were larger; must be of one shape")
        return func(*args, **kwargs)


def _try_model(name: str, population: Population, rows: Batch) -> tuple[Batch, Any]:
    """Call a unit on a few rows; where it does not take them, on rows of its own type of floats."""
    module, model = population.unit(0), type(population.template).__name__

    def call(inputs: tuple[Tensor, ...]) -> Any:
        return module(*(tensor[:FEW].clone() for tensor in inputs))

    try:
        return rows, call(rows[0])
    except Exception as error:
        given = ", ".join(_shape(tensor[:FEW]) for tensor in rows[0])
        refused = InputError(f"make_model: {model} could not take inputs of {given}: {first_line(error)}")
        refused.__cause__ = error
    own = next((entry.dtype for entry in population.parameters.values() if entry.is_floating_point()), None)
    if own is not None and any(tensor.is_floating_point() and tensor.dtype != own for tensor in rows[0]):
        try:
            output = call(tuple(t[:FEW].to(own) if t.is_floating_point() else t for t in rows[0]))
        except Exception:
            raise refused from refused.__cause__
        cast = tuple(_cast(name, "inputs", tensor, own, f"the parameters of {model}") for tensor in rows[0])
        return (cast, rows[1]), output
    try:
        with torch.enable_grad():
            call(rows[0])
    except Exception:
        raise refused from refused.__cause__
    raise InputError(
        f"make_model: {model} differentiates in its forward, and units are evaluated without gradients; write `with "
        "torch.enable_grad():` around that part of its forward"
    )


def as_taken(module: nn.Module, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Return inputs as a unit takes them: where it refuses their floats, of the type of its own, as in its training."""
    entries = *learned_of(module).values(), *module.parameters()  # of a unit that was frozen since, none learns
    own = next((entry.dtype for entry in entries if entry.is_floating_point()), None)
    if own is not None and any(tensor.is_floating_point() and tensor.dtype != own for tensor in inputs):
        try:
            with torch.no_grad():
                module(*(tensor[:FEW].clone() for tensor in inputs))
        except Exception:
            return [tensor.to(own) if tensor.is_floating_point() else tensor for tensor in inputs]
    return list(inputs)


def _cast(name: str, part: str, tensor: Tensor, dtype: torch.dtype, like: str) -> Tensor:
    """Return floats in another type, and warn of that; a tensor that is none, or of that type, comes back as it is."""
    if not tensor.is_floating_point() or tensor.dtype == dtype:
        return tensor
    kinds = [str(kind).removeprefix("torch.") for kind in (tensor.dtype, dtype)]
    if name != "validation":  # the user was warned of "data" already, whose rows are alike
        warn(f"{name}: {part} are {kinds[0]} and become {kinds[1]}, as are {like}")
    return tensor.to(dtype)


def _read_labels(output: Any, rows: Batch, loss: Loss) -> Batch:
    """Return rows whose labels are what the losses for classes take: int64 among the classes, or probabilities."""
    targets = rows[1]
    if not _classifies(loss) or not isinstance(output, Tensor):
        return rows
    if output.dim() < 2 or (output.shape[1] == 1 and bool((targets != 0).any())):
        raise InputError(
            f"loss: {_name(loss)} says nothing of a model with one output; give loss=, such as "
            "torch.nn.functional.mse_loss for values, or binary_cross_entropy_with_logits for yes and no"
        )
    alike = targets.shape[1:] == output.shape[1:]
    if targets.is_floating_point():
        if not alike:
            hint = "labels must be integers (targets.long())" if bool((targets == targets.round()).all()) else ""
            hint = hint or "for values give loss=, such as torch.nn.functional.mse_loss"
            raise InputError(f"loss: {_name(loss)} is for classes, but targets are {_shape(targets)}; {hint}")
        if not _sum_to_one(targets):
            raise InputError(
                f"loss: {_name(loss)} is for classes, but targets of {_shape(targets)} are no probabilities (at least "
                "0, with sum 1 in each row); for values give loss=, such as torch.nn.functional.mse_loss"
            )
        return rows
    targets = targets.long()
    if alike and targets.dim() > 1:
        one_hot = bool(((targets == 0) | (targets == 1)).all()) and bool((targets.sum(1) == 1).all())
        if not one_hot:
            raise InputError(
                f"loss: {_name(loss)} is for one class a row, but targets of {_shape(rows[1])} have several labels; "
                "give loss=, such as lambda output, targets: binary_cross_entropy_with_logits(output, targets.float())"
            )
        targets = targets.argmax(1)
    elif targets.dim() == output.dim() and targets.shape[1] == 1:  # a column of a table, images with a channel
        targets = targets[:, 0]
    classes, counted = output.shape[1], targets[targets != getattr(loss, "ignore_index", -100)]
    if not counted.numel():
        raise InputError("targets: every label is ignored; must have some that count")
    low, high = int(counted.min()), int(counted.max())
    if low < 0 or high >= classes:
        raise InputError(
            f"targets: range from {low} to {high}, must lie in 0 to {classes - 1} for a model with {classes} outputs"
        )
    return rows[0], targets


def _warn_of_broadcasting(output: Any, targets: Tensor, loss: Loss, value: Tensor) -> None:
    """Warn where a loss seems to compare the output of every row with the target of every row."""
    if not isinstance(output, Tensor) or {output.shape[1:], targets.shape[1:]} != {(), (1,)} or len(targets) < 2:
        return
    single = [float(loss(output[row : row + 1], targets[row : row + 1])) for row in range(len(targets))]
    if abs(sum(single) / len(single) - float(value)) > 1e-4 * max(1.0, abs(float(value))):
        warn(
            f"loss: {_name(loss)} seems to compare every output with every target: the model gives shape "
            f"[n{', 1' if output.dim() > 1 else ''}], targets have shape [n{', 1' if targets.dim() > 1 else ''}]; "
            "give both the same shape, such as targets[:, None]"
        )


def targets_of(output: Any, targets: Tensor, loss: Loss) -> Targets:
    """Tell whether targets are classes or values (or several labels a row, which are independent of each other).

    Classes are whole numbers, one for each place of an output that has a dimension more, with at least two classes. A
    model whose outputs are probabilities already gives values: no further softmax is taken of them.
    """
    floats = isinstance(output, Tensor) and output.is_floating_point()
    if targets.is_floating_point() or targets.is_complex() or not floats:
        return "classes" if _classifies(loss) else "values"
    per_class = output.dim() == targets.dim() + 1 and output.shape[2:] == targets.shape[1:]
    if not per_class or output.shape[1] < 2 or are_probabilities(output):
        return "values"
    counted = targets[targets != getattr(loss, "ignore_index", -100)]
    among = not counted.numel() or (int(counted.min()) >= 0 and int(counted.max()) < output.shape[1])
    return "classes" if _classifies(loss) or (among and _compares_logits(output, targets, loss)) else "values"


def _compares_logits(output: Tensor, targets: Tensor, loss: Loss) -> bool:
    """Tell whether a loss takes the outputs of a row for logits, or log-probabilities, of classes.

    With a softmax inside it depends on differences of outputs alone, so its gradient sums to 0 over the classes.
    Outputs whose `logsumexp` is 0 are log-probabilities already. A loss without a gradient counts as one of logits.
    """
    sums = output.float().logsumexp(1)
    if float(sums.abs().max()) <= max(1e-3, 4 * torch.finfo(output.dtype).eps * float(output.abs().max())):
        return True
    free = output.detach().clone().requires_grad_()
    try:
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(loss(free, targets[:FEW].clone()), free)
    except Exception:
        return True
    return not float(gradient.sum(1).abs().sum()) > 0.1 * float(gradient.abs().sum())


def are_probabilities(output: Tensor) -> bool:
    """Tell whether outputs, [n, classes, ...], are probabilities already; with all rows equal they are not."""
    return output.is_floating_point() and _sum_to_one(output) and bool((output != output[:1]).any())


def _sum_to_one(values: Tensor) -> bool:
    sums = values.sum(1)
    return bool((values >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-3)


class Tried(NamedTuple):
    """Findings of a trial step of one unit.

    Attributes:
        loss: its loss, by which a checkpoint tells another model.
        moves: name of a Python value that the step changes, which a trace would freeze; "" if there is none.
        backward_draws: whether its backward pass draws random numbers.
        unused: names of the parameters that the loss does not depend on.
    """

    loss: float
    moves: str
    backward_draws: bool
    unused: list[str]


def try_step(population: Population, rows: Batch, loss: Loss, config: GadamConfig) -> Tried:
    """Compute the gradient of one fresh unit on a training batch.

    Raises:
        InputError: the model cannot be trained on it, no parameter has a gradient, the loss has parameters of its own,
            or the model makes parameters while it is called.
    """
    few = torch.arange(config.batch_size, device=rows[1].device) % len(rows[1])
    model, loss_name = type(population.template).__name__, _name(loss)
    unit = population.unit(0).train()
    before = _entries(unit)

    def attempt() -> tuple[Any, Tensor]:
        # One thread, for checkpoints tell models apart by this loss, bit by bit.
        stream = Generator(few.device).manual_seed(0)
        with torch.enable_grad(), unit_stream(stream), intra_operator_threads(1):
            inputs, targets = take_rows(rows, few)
            try:
                output = unit(*inputs)
                return output, loss(output, targets)
            except Exception as error:
                what = f"{model} could not be trained on a batch of batch_size={config.batch_size} rows"
                raise InputError(f"make_model: {what}: {first_line(error)}") from error

    output, value = attempt()
    # A second call shows it: what the first one set up does not move any more.
    moves = changed_by(attempt, unit, loss)
    if late := sorted(_entries(unit) - before):
        raise InputError(
            f"make_model: {model} makes {late[0]} when it is called; must make it in __init__, or be called once first"
        )
    if _classifies(loss) and isinstance(output, Tensor) and are_probabilities(output):
        warn(
            f"make_model: the outputs of {model} are probabilities; must be without the softmax for cross-entropy, and "
            "the log_softmax for nll_loss"
        )
    return Tried(float(value.detach()), moves, *_check_gradients(value, learned_of(unit), loss_name, model))


def _entries(module: nn.Module) -> set[str]:
    return {name for name, _ in (*module.named_parameters(), *module.named_buffers())}


class _NoDraws(TorchDispatchMode):
    """Refuses random numbers of a part that is computed again."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if is_random(func, args, kwargs) and any(
            frame.filename == torch.utils.checkpoint.__file__ for frame in traceback.extract_stack()
        ):
            raise InputError(
                "make_model: a part of it is computed again for its gradient and draws random numbers, which would be "
                "others then; must have no torch.utils.checkpoint around dropout"
            )
        return func(*args, **(kwargs or {}))


def _check_gradients(
    value: Tensor, learned: Mapping[str, Tensor], loss_name: str, model: str
) -> tuple[bool, list[str]]:
    """Refuse a loss that no parameter of the model has a gradient of, or one with parameters of its own.

    Returns whether the backward pass draws random numbers, and the names of parameters without a gradient.
    """
    own = {id(entry) for entry in learned.values()}
    if others := [leaf for leaf in _leaves(value) if isinstance(leaf, nn.Parameter) and id(leaf) not in own]:
        raise InputError(
            f"loss: {loss_name} depends on a parameter of shape {list(others[0].shape)} that is not the model's, and "
            "would not be trained; must be a parameter of the module that make_model returns, or frozen by "
            "requires_grad_(False)"
        )
    gradients: list[Tensor | None] = [None]
    backward = unit_stream(Generator(value.device).manual_seed(0))
    if value.requires_grad:
        try:
            with backward, _NoDraws():
                gradients = list(torch.autograd.grad(value, list(learned.values()), allow_unused=True))
        except RuntimeError as error:
            raise InputError(f"make_model: {model} could not be differentiated: {first_line(error)}") from error
    if all(each is None for each in gradients):
        raise InputError(f"loss: {loss_name} has no gradient for {model}'s parameters, must be differentiable")
    for name, each in zip(learned, gradients, strict=True):
        if each is not None and each.layout is not torch.strided:
            raise InputError(f"make_model: {name} has a sparse gradient; must be dense (Embedding(..., sparse=False))")
    return backward.drew, [name for name, each in zip(learned, gradients, strict=True) if each is None]


def _leaves(value: Tensor) -> list[Tensor]:
    """Return the tensors at the ends of the graph behind a value."""
    found, waiting, met = [], [value.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in met:
            continue
        met.add(node)
        if hasattr(node, "variable"):
            found.append(node.variable)
        waiting += [following for following, _ in node.next_functions]
    return found


def check_dtypes(population: Population, epsilon: float) -> None:
    """Refuse parameters of a type that cannot be evolved: complex, quantized, or one in which epsilon is 0."""
    for name, entry in population.parameters.items():
        kind = str(entry.dtype).removeprefix("torch.")
        if not entry.is_floating_point():
            raise InputError(f"make_model: {name} is {kind}, must be real (of complex numbers: torch.view_as_real)")
        if float(torch.tensor(epsilon, dtype=entry.dtype)) == 0:
            raise InputError(
                f"make_model: {name} is {kind}, in which epsilon={epsilon:g} is 0 and Adam divides by it; must be "
                "float32 or bfloat16, or give a larger epsilon"
            )


def _classifies(loss: Loss) -> bool:
    return loss in _CLASS_LOSSES or isinstance(loss, nn.CrossEntropyLoss | nn.NLLLoss)


def _shape(value: Any) -> str:
    return f"shape {describe_tensor(value)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _name(loss: Loss) -> str:
    return getattr(loss, "__name__", type(loss).__name__)
