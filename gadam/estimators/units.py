"""Modules that an estimator evolves: a perceptron, a user's own, or those of the last fit; and its rescaling."""

from __future__ import annotations

from functools import partial
from itertools import chain, islice, zip_longest
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gadam.config import InputError
from gadam.models import mlp
from gadam.population import Population, first_difference, outline
from gadam.randomness import seeded
from gadam.types import MakeModel
from gadam.validation import check_whole


def fresh_units(make_model: Any, hidden_layer_sizes: Any, features: int, outputs: int) -> MakeModel:
    """Return a factory of the modules of `make_model`, or where it is None of multilayer perceptrons."""
    if make_model is None:
        sizes = np.ravel(np.asarray(hidden_layer_sizes, dtype=object)).tolist()
        for size in sizes:
            check_whole("hidden_layer_sizes", size, 1)
        return partial(mlp, features, outputs, [int(size) for size in sizes])
    wanted = "must be a function of (features, outputs) that returns a new module at each call"
    if isinstance(make_model, nn.Module) or not callable(make_model):
        raise InputError(f"make_model: is a {type(make_model).__name__}, {wanted}")
    function = getattr(make_model, "func", make_model)  # of a partial
    name = getattr(function, "__name__", type(function).__name__)
    with seeded(0), torch.no_grad():
        try:
            module = make_model(features, outputs)
        except TypeError as error:
            raise InputError(f"make_model: {name} {wanted}: {error}") from error
        try:
            given = list(module.eval()(torch.zeros(2, features)).shape)
        except Exception:  # told where units are made and tried on the rows
            given = [2, outputs]
    if given != [2, outputs]:
        raise InputError(
            f"make_model: {name} gives {given} for 2 rows of {features} features, must give [2, {outputs}]"
        )
    return partial(make_model, features, outputs)


def continue_units(population: Population, count: int, fresh: MakeModel) -> MakeModel:
    """Return a factory of the `count` fittest units of a population, in training mode, and after them of fresh ones."""
    with seeded(0):
        unit, other = fresh(), fresh()  # parts that differ between them show values
        parts = zip_longest(*map(outline, (population.template, unit, other)))
        if first_difference(unit.state_dict(), population.template.state_dict()) or any(
            there != here == again for there, here, again in parts
        ):
            raise InputError(
                "warm_start=True: the units of the last fit have other parts than hidden_layer_sizes or "
                "make_model now ask for; leave those as they were, or set warm_start=False"
            )
    return partial(
        next, chain((unit.train() for unit in islice(population.to("cpu").units(), count)), iter(fresh, None))
    )


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
