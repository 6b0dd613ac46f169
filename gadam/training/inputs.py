"""Checks of the rows, the model, the loss and the device before training; each failure is a one-line `InputError`."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Generator, Tensor, nn

from gadam.config import InputError
from gadam.display import describe_tensor, describe_type, first_line
from gadam.population import Population
from gadam.randomness import unit_stream
from gadam.runtime import intra_operator_threads
from gadam.types import Batch, Device, Loss, Targets

_CLASS_LOSSES = (nn.functional.cross_entropy, nn.functional.nll_loss)


def resolve_device(device: Device) -> torch.device:
    """Return the device that a name stands for here, "auto" being the GPU where there is one.

    Raises:
        InputError: it cannot be used.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if isinstance(device, list | tuple):
        raise InputError(f"device={device!r}: a population is trained on one device; give one of them")
    try:
        chosen = torch.device(device)
        torch.rand(1, generator=Generator(chosen), device=chosen)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0].split(". ")[0]
        raise InputError(f'device={str(device)!r} cannot be used ({reason}); give "auto", "cpu" or "cuda"') from None
    return chosen


def targets_of(targets: Tensor) -> Targets:
    """Tell whether the targets of a training are classes or values."""
    return "values" if targets.is_floating_point() or targets.is_complex() else "classes"


def check_batch(name: str, data: Any, device: torch.device) -> Batch:
    """Read an argument (inputs, targets), inputs as a tuple, and put it on the device.

    Raises:
        InputError: it is no pair of tensors with equally many rows, or holds NaN or infinities.
    """
    if not (isinstance(data, tuple | list) and len(data) == 2):
        raise InputError(f"{name}: is a {describe_type(data)}, must be a pair (inputs, targets)")
    inputs = tuple(data[0]) if isinstance(data[0], tuple | list) else (data[0],)
    for part, tensor in [("targets", data[1])] + [("inputs", each) for each in inputs]:
        if not isinstance(tensor, Tensor):
            raise InputError(
                f"{name}: {part} are a {describe_type(tensor)}, must be a torch.Tensor (see torch.as_tensor)"
            )
        if tensor.dim() == 0 or len(tensor) == 0:
            raise InputError(f"{name}: {part} have shape {list(tensor.shape)}, must have at least one row")
        if tensor.is_floating_point() and not tensor.isfinite().all():
            bad = int((~tensor.isfinite()).flatten(1).any(1).sum() if tensor.dim() > 1 else (~tensor.isfinite()).sum())
            raise InputError(f"{name}: {part} hold NaN or infinity in {bad:,} of {len(tensor):,} rows, must be finite")
        if len(tensor) != len(data[1]):
            raise InputError(f"{name}: {len(tensor):,} rows of {part} but {len(data[1]):,} targets, must be as many")
    if not inputs:
        raise InputError(f"{name}: inputs are empty, must be a tensor or a tuple of tensors")

    def ready(tensor: Tensor) -> Tensor:
        # Whatever computed the rows is not trained; and a traced program counts on how they lie in memory.
        return tensor.detach().to(device).contiguous()

    return tuple(ready(tensor) for tensor in inputs), ready(data[1])


def check_fit(population: Population, rows: Batch, loss: Loss, batch_size: int) -> float:
    """Try one unit and the loss on a few rows and on a training batch. Returns its loss on the latter.

    Raises:
        InputError: the model does not take the inputs, the loss does not take the output, is no scalar or has no
            gradient, or a target is not among the classes.
    """
    check_rows(population, rows, loss)
    few = torch.arange(batch_size, device=rows[1].device) % len(rows[1])
    model, loss_name = type(population.template).__name__, _name(loss)
    unit = population.unit(0).train()
    # On one thread, for checkpoints tell models apart by this loss, bit by bit.
    with torch.enable_grad(), unit_stream(Generator(few.device).manual_seed(0)), intra_operator_threads(1):
        try:
            value = loss(unit(*(tensor[few] for tensor in rows[0])), rows[1][few])
        except Exception as error:
            what = f"{model} could not be trained on a batch of batch_size={batch_size} rows"
            raise InputError(f"make_model: {what}: {first_line(error)}") from error
    if not value.requires_grad:
        raise InputError(
            f"loss: {loss_name} has no gradient with respect to {model}'s parameters, must be differentiable"
        )
    return float(value.detach())


def check_rows(population: Population, rows: Batch, loss: Loss) -> None:
    """Evaluate one unit and the loss on a few rows.

    Raises:
        InputError: as in `check_fit`, for all that needs no training.
    """
    inputs, targets = tuple(tensor[:4] for tensor in rows[0]), rows[1][:4]
    given = ", ".join(_shape(tensor) for tensor in inputs)
    model, loss_name = type(population.template).__name__, _name(loss)
    with torch.no_grad(), unit_stream(Generator(targets.device).manual_seed(0)):
        try:
            output = population.unit(0)(*inputs)
        except Exception as error:
            raise InputError(f"make_model: {model} could not take inputs of {given}: {first_line(error)}") from error
        _check_classes(output, rows[1], loss)
        fit = f"output of {_shape(output)} with targets of {_shape(targets)}"
        try:
            with warnings.catch_warnings():
                # Regression losses only warn when they are about to compare every output with every target.
                warnings.filterwarnings("error", message="Using a target size")
                value = loss(output, targets)
        except Exception as error:
            raise InputError(f"loss: {loss_name} could not compare {model}'s {fit}: {first_line(error)}") from error
    if not (isinstance(value, Tensor) and value.dim() == 0 and value.is_floating_point()):
        raise InputError(f"loss: {loss_name} of {fit} gives {_shape(value)}, must give a scalar (a mean over rows)")


def _check_classes(output: Any, targets: Tensor, loss: Loss) -> None:
    classifies = loss in _CLASS_LOSSES or isinstance(loss, nn.CrossEntropyLoss | nn.NLLLoss)
    if not classifies or targets.is_floating_point() or not isinstance(output, Tensor) or output.dim() < 2:
        return
    classes = output.shape[1]
    counted = targets[targets != getattr(loss, "ignore_index", -100)]
    if counted.numel() and (counted.min() < 0 or counted.max() >= classes):
        found = f"{int(counted.min())} to {int(counted.max())}"
        raise InputError(
            f"targets: range from {found}, must lie in 0 to {classes - 1} for a model with {classes} outputs"
        )


def _shape(value: Any) -> str:
    return f"shape {describe_tensor(value)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _name(loss: Loss) -> str:
    return getattr(loss, "__name__", type(loss).__name__)
