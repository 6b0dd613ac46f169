"""Where the units of an estimator come from: a perceptron, a function of one's own, or the last fit."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import signature
from itertools import chain, repeat
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gadam.config import InputError
from gadam.models import mlp
from gadam.population import Population
from gadam.randomness import global_stream

Factory = Callable[[], nn.Module]


def fresh_units(make_model: Any, hidden_layer_sizes: Any, features: int, outputs: int) -> Factory:
    """What `make_model` makes, or where it is None a multilayer perceptron.

    Raises:
        InputError: an argument cannot be used, or `make_model` makes modules with another number of outputs.
    """
    if make_model is not None:
        _check_call(make_model, features, outputs)
        _check_outputs(make_model, features, outputs)
        return partial(make_model, features, outputs)
    sizes = np.ravel(np.asarray(hidden_layer_sizes, dtype=object)).tolist()
    if not all(isinstance(size, int | np.integer) and not isinstance(size, bool) and size > 0 for size in sizes):
        raise InputError(f"hidden_layer_sizes={hidden_layer_sizes!r} must be whole numbers of at least 1")
    return partial(mlp, features, outputs, [int(size) for size in sizes])


def continued(population: Population, fresh: Factory) -> Factory:
    """The units of a population, fittest first, in training mode, and after them fresh ones.

    Raises:
        InputError: fresh ones are of another architecture.
    """
    with global_stream(0):
        wanted = _shapes(fresh())
    if wanted != _shapes(population.template):
        raise InputError(
            "warm_start=True: the units of the last fit have other parameters than hidden_layer_sizes or make_model "
            "now ask for; leave those as they were, or set warm_start=False"
        )
    units = chain((unit.train() for unit in population.to("cpu").units()), (make() for make in repeat(fresh)))
    return partial(next, units)


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}


def _name(make: Any) -> str:
    make = getattr(make, "func", make)  # of a partial
    return str(getattr(make, "__name__", type(make).__name__))


def _check_call(make: Any, features: int, outputs: int) -> None:
    wanted = "must be a function of (features, outputs)"
    if isinstance(make, nn.Module):
        raise InputError(f"make_model: is a {type(make).__name__}, {wanted} that returns a new module at each call")
    if not callable(make):
        raise InputError(f"make_model={make!r} must be a function of features and outputs, or None")
    try:
        signature(make).bind(features, outputs)
    except TypeError as error:
        raise InputError(f"make_model: {_name(make)} {wanted}: {error}") from None
    except ValueError:
        return  # what is written in C need not say what it takes


def _check_outputs(make: Callable[[int, int], nn.Module], features: int, outputs: int) -> None:
    """Refuse what gives another shape than [n, outputs]; what else may be wrong is told where units are made."""
    with global_stream(0), torch.no_grad():
        module = make(features, outputs)
        if not isinstance(module, nn.Module):
            return
        try:
            given = module.eval()(torch.zeros(2, features))
        except Exception:
            return
    if isinstance(given, Tensor) and given.shape != (2, outputs):
        raise InputError(
            f"make_model: {_name(make)}({features}, {outputs}) gives {list(given.shape)} for 2 rows of {features} "
            f"features, must give [2, {outputs}]"
        )
