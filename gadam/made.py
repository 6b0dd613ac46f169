"""Make modules by `make_model`, and refuse those whose copies cannot be trained as units, each with its own tensors."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from gadam.config import InputError
from gadam.display import describe_error
from gadam.types import MakeModel


def make_module(make_model: MakeModel) -> nn.Module:
    """Call `make_model`; an InputError where it fails, or returns what cannot be trained as one of several."""
    try:
        module = make_model()
    except InputError:
        raise
    except Exception as error:
        name = getattr(make_model, "__name__", "it")
        raise InputError(f"make_model: {name}() failed ({describe_error(error)})") from error
    kind = type(module).__name__
    if not isinstance(module, nn.Module):
        raise InputError(f"make_model: returned {kind}, must return a torch.nn.Module")
    if any(isinstance(m, torch.jit.ScriptModule) or type(m).__name__ == "OptimizedModule" for m in module.modules()):
        raise InputError(
            f"make_model: {kind} is compiled or scripted, must be the module itself: its step is compiled here"
        )
    for name, tensor in module.named_parameters():
        if tensor._backward_hooks or getattr(tensor, "_post_accumulate_grad_hooks", None):
            raise InputError(
                f"make_model: {name} of {kind} has a hook, which copies do not have; must be without, for instance "
                "with what the hook does in the loss"
            )
    for name, entry in (*module.named_parameters(), *module.named_buffers()):
        if entry.layout is not torch.strided:
            raise InputError(
                f"make_model: {name} of {kind} is sparse, must be dense (.to_dense()) or a plain attribute"
            )
    if any(tensor.is_meta for tensor in module.parameters()):
        raise InputError(f"make_model: {kind} is on the meta device, must have values; make it on the CPU")
    if any(is_lazy(tensor) for tensor in (*module.parameters(), *module.buffers())):
        raise InputError(f"make_model: {kind} is lazy, must have its shapes; call it once on some rows first")
    return module


def check_copies(argument: str, modules: Sequence[nn.Module]) -> None:
    """Refuse modules with state that each unit needs for itself, and that copies would share or lack.

    These are tensors outside of parameters and buffers that differ from unit to unit, memory that parameters share, and
    hooks that hold the module.
    """
    model = type(modules[0]).__name__
    first, *others = (_plain_tensors(module) for module in modules)
    for other in others:
        for name in first.keys() & other.keys():
            one, another = first[name], other[name]
            if one.shape != another.shape or not bool(((one == another) | ((one != one) & (another != another))).all()):
                raise InputError(
                    f"{argument}: {name} of {model} differs from unit to unit and is no parameter or buffer, so units "
                    "would not have their own; must be made by register_buffer"
                )
    places: dict[int, tuple[str, bool]] = {}
    for name, parameter in modules[0].named_parameters():
        tied, learned = places.setdefault(parameter.data_ptr(), (name, parameter.requires_grad))
        if parameter.numel() and tied != name and (learned or parameter.requires_grad):
            raise InputError(
                f"{argument}: {tied} and {name} of {model} share memory, which units would not; must be the same "
                "Parameter, or forward must use the one for both"
            )
    parts = {*modules[0].modules()}
    for part in parts:
        for hook in (*part._forward_pre_hooks.values(), *part._forward_hooks.values()):
            if any(isinstance(each, nn.Module) and each in parts for each in closed_over(hook).values()):
                raise InputError(
                    f"{argument}: a hook of {type(part).__name__} closes over {model} or a part of it, of which units "
                    "are copies; must be a method of the module, or in forward"
                )


def closed_over(function: Any) -> dict[str, Any]:
    """Return what a function closes over, by name, as far as that has a value."""
    found, code = {}, getattr(function, "__code__", None)
    for name, cell in zip(code.co_freevars if code else (), getattr(function, "__closure__", None) or (), strict=False):
        with suppress(ValueError):  # not filled yet
            found[name] = cell.cell_contents
    return found


def _plain_tensors(module: nn.Module) -> dict[str, Any]:
    """Return the tensors and arrays that modules have as plain attributes, but what is computed from parameters."""
    found: dict[str, Any] = {}
    for path, part in module.named_modules():
        for name, value in vars(part).items():
            tensor = isinstance(value, Tensor) and value.grad_fn is None and value.layout is torch.strided
            array = isinstance(value, np.ndarray) and value.dtype.kind in "biufc"
            if (tensor or array) and not is_computed(part, name):
                found[f"{path}.{name}".lstrip(".")] = value
    return found


def is_computed(module: nn.Module, name: str) -> bool:
    """Tell whether spectral_norm, weight_norm or pruning compute an attribute at each call, from a parameter."""
    return any(f"{name}_{end}" in module._parameters for end in ("orig", "g"))
