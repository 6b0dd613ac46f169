"""Modules that an estimator evolves: a perceptron, a user's own, or those of the last fit; and its rescaling."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import chain
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
    """Return a factory of the modules of `make_model`, or where it is None of multilayer perceptrons.

    Raises:
        InputError: an argument cannot be used, or `make_model` makes modules with another number of outputs.
    """
    if make_model is not None:
        _check_model(make_model, features, outputs)
        return partial(make_model, features, outputs)
    sizes = np.ravel(np.asarray(hidden_layer_sizes, dtype=object)).tolist()
    if not all(isinstance(size, int | np.integer) and not isinstance(size, bool) and size > 0 for size in sizes):
        raise InputError(f"hidden_layer_sizes={hidden_layer_sizes!r} must be whole numbers of at least 1")
    return partial(mlp, features, outputs, [int(size) for size in sizes])


def continue_units(population: Population, fresh: Factory) -> Factory:
    """Return a factory of the units of a population, fittest first, in training mode, and after them of fresh ones.

    Raises:
        InputError: fresh ones are of another architecture.
    """
    with global_stream(0):
        both = fresh().state_dict(), population.template.state_dict()
    wanted, there = ({name: tensor.shape for name, tensor in state.items()} for state in both)
    if wanted != there:
        raise InputError(
            "warm_start=True: the units of the last fit have other parameters than hidden_layer_sizes or make_model "
            "now ask for; leave those as they were, or set warm_start=False"
        )
    return partial(next, chain((unit.train() for unit in population.to("cpu").units()), iter(fresh, None)))


class Rescale(nn.Module):
    """Takes standardised targets [n, outputs] back to the units of y, in float64.

    Beside a mean of 1e9 float32 would have no room for what varies.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: np.ndarray, deviation: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(mean))
        self.register_buffer("deviation", torch.from_numpy(deviation))

    def forward(self, outputs: Tensor) -> Tensor:
        """Return float64 of the same shape."""
        return outputs.double() * self.deviation + self.mean


def _check_model(make: Any, features: int, outputs: int) -> None:
    """Refuse a factory that gives another shape than [n, outputs]; other faults are told where units are made."""
    wanted = "must be a function of (features, outputs)"
    if isinstance(make, nn.Module):
        raise InputError(f"make_model: is a {type(make).__name__}, {wanted} that returns a new module at each call")
    if not callable(make):
        raise InputError(f"make_model={make!r} {wanted}, or None")
    function = getattr(make, "func", make)  # of a partial
    name = getattr(function, "__name__", type(function).__name__)
    with global_stream(0), torch.no_grad():
        try:
            module = make(features, outputs)
        except TypeError as error:
            raise InputError(f"make_model: {name} {wanted}: {error}") from error
        try:
            given = module.eval()(torch.zeros(2, features))
        except Exception:
            return
    if isinstance(given, Tensor) and given.shape != (2, outputs):
        raise InputError(
            f"make_model: {name}({features}, {outputs}) gives {list(given.shape)} for 2 rows of {features} features, "
            f"must give [2, {outputs}]"
        )
