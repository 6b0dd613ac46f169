"""What is looked at before any training, so that a mistake is told in one line and at once."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from gadam.config import InputError
from gadam.population import Population
from gadam.randomness import unit_stream
from gadam.runtime import intra_operator_threads
from gadam.tracing.programs import Batch, Loss, Programs
from gadam.training.shards import Data, Shard, Trained, is_out_of_memory
from gadam.training.trainer import Trainer

_CLASS_LOSSES = (nn.functional.cross_entropy, nn.functional.nll_loss)


def check_batch(name: str, data: Any, device: torch.device) -> Batch:
    """An argument (inputs, targets) with inputs as a tuple, on the device.

    Raises:
        InputError: it is no pair of tensors with equally many rows, or holds NaN or infinities.
    """
    if not (isinstance(data, tuple | list) and len(data) == 2):
        raise InputError(f"{name}: is a {_kind(data)}, must be a pair (inputs, targets)")
    inputs = tuple(data[0]) if isinstance(data[0], tuple | list) else (data[0],)
    for part, tensor in [("targets", data[1])] + [("inputs", each) for each in inputs]:
        if not isinstance(tensor, Tensor):
            raise InputError(f"{name}: {part} are a {_kind(tensor)}, must be a torch.Tensor (see torch.as_tensor)")
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
    """Try one unit and the loss on a few rows, and on a training batch. Returns its loss on that.

    Raises:
        InputError: the model does not take the inputs, the loss does not take the output, is no scalar or has no
            gradient, or a target is not among the classes.
    """
    check_rows(population, rows, loss)
    few = torch.arange(batch_size, device=rows[1].device) % len(rows[1])
    model, loss_name = type(population.template).__name__, _name(loss)
    unit = population.unit(0).train()
    # On one thread, for checkpoints tell models apart by this loss, bit by bit.
    with torch.enable_grad(), unit_stream(torch.Generator(few.device).manual_seed(0)), intra_operator_threads(1):
        try:
            value = loss(unit(*(tensor[few] for tensor in rows[0])), rows[1][few])
        except Exception as error:
            what = f"{model} could not be trained on a batch of batch_size={batch_size} rows"
            raise InputError(f"make_model: {what}: {_first_line(error)}") from error
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
    shown = ", ".join(_shape(tensor) for tensor in inputs)
    model, loss_name = type(population.template).__name__, _name(loss)
    with torch.no_grad(), unit_stream(torch.Generator(targets.device).manual_seed(0)):
        try:
            output = population.unit(0)(*inputs)
        except Exception as error:
            raise InputError(f"make_model: {model} could not take inputs of {shown}: {_first_line(error)}") from error
        _check_classes(output, rows[1], loss)
        fit = f"output of {_shape(output)} with targets of {_shape(targets)}"
        try:
            with warnings.catch_warnings():
                # Regression losses only warn when they are about to compare every output with every target.
                warnings.filterwarnings("error", message="Using a target size")
                value = loss(output, targets)
        except Exception as error:
            raise InputError(f"loss: {loss_name} could not compare {model}'s {fit}: {_first_line(error)}") from error
    if not (isinstance(value, Tensor) and value.dim() == 0 and value.is_floating_point()):
        raise InputError(f"loss: {loss_name} of {fit} gives {_shape(value)}, must give a scalar (a mean over rows)")


class TooManyUnitsError(Exception):
    """There is too little memory to train so many units in one call."""


def check_vectorised(shard: Population, rows: Batch, trainer: Trainer) -> str:
    """Why a vectorised step is not what the loop does, or "" if it is: one gradient step of each, on real rows.

    The step is plain gradient descent with rate 1, so that it shows the gradient itself.

    Args:
        shard: as many units as will be trained in one call, so that this traces what training needs.
        rows: the training rows.
        trainer: with programs.

    Raises:
        TooManyUnitsError: the shard does not fit.
    """
    step = replace(trainer.config, steps=1, optimizer="sgd", learning_rate=1.0, moments="fresh")
    size = trainer.config.validation_size
    some = torch.arange(min(size, len(rows[1])), device=rows[1].device)
    data = Data(rows, rows, some, some)
    few = shard.take(slice(0, min(2, len(shard))))
    if trainer.programs is not None and trainer.programs.singly:
        shard = few  # the others would go through the same program

    def trained(units: Population, programs: Programs | None) -> Trained:
        result = replace(trainer, config=step, programs=programs).train(
            Shard(units, range(len(units)), "parent", 0), data
        )
        assert isinstance(result, Trained)  # nothing asks it to pause
        return result

    try:
        ours = trained(shard, trainer.programs)
    except Exception as error:
        if is_out_of_memory(error):
            raise TooManyUnitsError(_first_line(error)) from None  # without the frames, which hold what was allocated
        return _first_line(error)
    theirs = trained(few, None)
    for name, start in few.parameters.items():
        loop, vectorised = (
            theirs.population.parameters[name] - start,
            ours.population.parameters[name][: len(few)] - start,
        )
        if _differ(vectorised, loop):
            return f"its gradient of {name} differs from the unit's own"
    for name, loop in theirs.population.buffers.items():
        if _differ(ours.population.buffers[name][: len(few)], loop):
            return f"its buffer {name} differs from the unit's own"
    if _differ(ours.loss_start[: len(few)], theirs.loss_start):
        return "its loss differs from the unit's own"
    return ""


def _differ(a: Tensor, b: Tensor) -> bool:
    """Far beyond rounding. Both may be non-finite in the same places."""
    if not a.is_floating_point():
        return not torch.equal(a, b)
    close = 1e-2 * b.nan_to_num(0, 0, 0).norm() + 1e-5
    return bool((a.nan_to_num(0, 0, 0) - b.nan_to_num(0, 0, 0)).norm() > close)


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
    if isinstance(value, Tensor):
        return f"shape {list(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    return f"a {type(value).__name__}"


def _name(loss: Loss) -> str:
    return getattr(loss, "__name__", type(loss).__name__)


def _kind(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__name__}".removeprefix("builtins.")


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
