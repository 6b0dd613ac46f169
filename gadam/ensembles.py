"""What a population is good for beyond its fittest unit: the average of predictions, and the average of weights.

`Ensemble` averages what the units predict. `soup` averages the units themselves into one model that costs no more than
one of them (Wortsman et al., "Model soups", ICML 2022, greedy recipe); units of one evolution have ancestors in common,
which is what such an average needs.
"""

from __future__ import annotations

import copy
import logging
import time
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gadam.config import InputError
from gadam.population import Population
from gadam.randomness import global_stream
from gadam.runtime import keep_freed_memory
from gadam.tracing.programs import difference, tracing
from gadam.tracing.together import as_module, on_threads, together
from gadam.training.inputs import check_batch, check_rows
from gadam.types import Loss
from gadam.validation import check_callable

logger = logging.getLogger("gadam")

Program = Callable[[tuple[Tensor, ...]], Tensor]
Average = Literal["probabilities", "outputs"]
"""What of its units an `Ensemble` averages."""

TRACED_AT = 10
"""The call with inputs of one shape that traces: tracing takes the time of some hundred calls of a small network."""

NOTICED = 0.02
"""Seconds of a call of a network with convolutions beside which the time between its operators is not noticed."""

ROWS = 256
"""Rows that a traced program predicts at once on a CPU: what it computes of so many stays in the cache of a core."""

PROGRAMS = 32
"""Shapes of inputs for which an ensemble keeps a program; any further are predicted unit by unit."""


class Ensemble(nn.Module):
    """The average prediction of a population. For prediction only: it has no gradient.

    It is a module with the units' stacked tensors as its own, so `to`, `state_dict` and `load_state_dict` work. The
    units are in evaluation mode whatever the ensemble's mode is.

    The first calls with inputs of a shape ask one unit after another. The tenth traces all units into one call (a
    fraction of a second, the first time in a process two), and further ones use it, which changes no more than the
    rounding. It stays with one after another where that is as fast (convolutions of many rows on a CPU), where the
    model cannot be vectorised, and where what is traced does not give the same.

    On a CPU more than 256 rows are predicted in parts of so many, each of them a call in this sense, on as many threads
    as PyTorch uses; but all at once by a model that is not traced, or that tells the first 512 otherwise than in parts.
    """

    def __init__(self, population: Population, average: Average = "probabilities") -> None:
        """Copy the units.

        Args:
            population: the units.
            average: "probabilities" for classification, the mean of the softmax over the classes, dimension 1 of what a
                unit returns ([n, classes] or [n, classes, ...], as `cross_entropy` takes it); "outputs" for regression,
                or whatever else a unit returns, the mean of the outputs as they are.

        Raises:
            InputError: there is no such average, or `population` is none.
        """
        super().__init__()
        _check_population(population)
        if average not in get_args(Average):
            raise InputError(f'average={average!r} is not allowed; give "probabilities" or "outputs"')
        self.average = average
        self.stacked = as_module(population)
        # In a tuple, because the values of the template are no part of the ensemble.
        self._template = (copy.deepcopy(population.template).eval(),)
        self._size = len(population)
        self._convolves = any(isinstance(each, nn.modules.conv._ConvNd) for each in self._template[0].modules())
        self._calls: dict[Any, int] = {}
        self._programs: dict[Any, Program] = {}
        self._splits: bool | None = None
        self.eval()

    def forward(self, *inputs: Tensor) -> Tensor:
        """The average over the units.

        Args:
            inputs: what a unit takes, [n, ...] each.

        Returns:
            [n, ...]. With "probabilities" these are probabilities, which sum to 1 over dimension 1, and no logits:
            `argmax(1)` gives the class; for a loss take `nll_loss(ensemble(x).log(), y)`, never `cross_entropy`.
            Their logarithm is not returned instead because a probability is what most callers show or threshold.

        Raises:
            InputError: as in `units`; or the average is of probabilities and the model has one output a row.
        """
        return self._in_parts(self._mean, inputs, 0)

    def units(self, *inputs: Tensor) -> Tensor:
        """The output of each unit, as it is: [g, n, ...].

        Raises:
            InputError: the model does not take the inputs, or returns something other than a tensor.
        """
        return self._in_parts(self._units, inputs, 1)

    def _in_parts(self, predict: Callable[..., Tensor], inputs: tuple[Tensor, ...], dim: int) -> Tensor:
        """What is predicted for the inputs, joined along the dimension of the rows."""
        for tensor in inputs:
            if not isinstance(tensor, Tensor):
                raise InputError(f"inputs: has a {type(tensor).__name__} among them, must be torch.Tensor")
        with torch.no_grad():
            if not self._can_split(inputs):
                return predict(*inputs)
            parts = list(zip(*(tensor.split(ROWS) for tensor in inputs), strict=True))
            traced = len(inputs[0]) // ROWS  # the rest is of another shape
            return torch.cat([*on_threads(predict, parts[:traced]), *(predict(*part) for part in parts[traced:])], dim)

    def _can_split(self, inputs: tuple[Tensor, ...]) -> bool:
        """Whether there are many rows, a program for part of them, and a row is told the same whatever is beside it."""
        if not inputs or any(each.dim() == 0 or len(each) != len(inputs[0]) for each in inputs):
            return False
        if len(inputs[0]) <= ROWS or any(each.device.type != "cpu" for each in inputs):
            return False
        first, second = (tuple(each[low : low + ROWS] for each in inputs) for low in (0, ROWS))
        if self._program(first, len(inputs[0]) // ROWS) in (None, self._one_by_one):
            return False
        if self._splits is None:
            whole = self._one_by_one(tuple(each[: 2 * ROWS] for each in inputs))
            parts = [self._one_by_one(rows) for rows in (first, second)]
            fits = all(
                part.dim() > 1 and part.shape[1] == len(rows[0])
                for part, rows in zip(parts, (first, second), strict=True)
            )
            self._splits = fits and not difference([torch.cat(parts, 1)], [whole])
        return self._splits

    def _mean(self, *inputs: Tensor) -> Tensor:
        outputs = self._units(*inputs)
        if self.average == "outputs":
            return outputs.mean(0)
        if _has_one_output(outputs[0]):
            raise InputError('average="probabilities": the model has one output; give average="outputs"')
        if outputs.dim() == 3 and not outputs.is_contiguous():  # rows last, where the softmax is faster too
            return outputs.mT.softmax(1).mean(0).mT
        return outputs.softmax(2).mean(0)

    def _units(self, *inputs: Tensor) -> Tensor:
        program = self._program(inputs, 1)
        return program(inputs) if program else self._one_by_one(inputs)

    def _program(self, inputs: tuple[Tensor, ...], calls: int) -> Program | None:
        """What predicts for inputs of this shape, if it was decided before or is by so many further calls."""
        key = tuple((tensor.shape, tensor.dtype, tensor.device) for tensor in inputs)
        if key not in self._programs and (key in self._calls or len(self._calls) < PROGRAMS):
            self._calls[key] = self._calls.get(key, 0) + calls
            if self._calls[key] >= TRACED_AT:
                self._programs[key] = self._trace(inputs)
        return self._programs.get(key)

    def _one_by_one(self, inputs: tuple[Tensor, ...]) -> Tensor:
        parameters, buffers = dict(self.stacked.named_parameters()), dict(self.stacked.named_buffers())
        outputs = []
        for unit in range(self._size):
            # Of a buffer a copy, since the module may write to it.
            state = {name: tensor[unit] for name, tensor in parameters.items()}
            state |= {name: tensor[unit].clone() for name, tensor in buffers.items()}
            try:
                outputs.append(functional_call(self._template[0], state, inputs))
            except torch.OutOfMemoryError:
                raise
            except (RuntimeError, TypeError, ValueError, IndexError) as error:
                model, shapes = type(self._template[0]).__name__, [list(each.shape) for each in inputs]
                reason = str(error).partition("\n")[0]
                raise InputError(f"inputs: {model} could not take shapes {shapes}: {reason}") from error
        if not isinstance(outputs[0], Tensor):
            model, kind = type(self._template[0]).__name__, type(outputs[0]).__name__
            raise InputError(f"Ensemble: {model} returns a {kind}, must return a tensor to be averaged")
        return torch.stack(outputs)

    def _trace(self, inputs: tuple[Tensor, ...]) -> Program:
        """One call for all units, which gives the same outputs; `_one_by_one` where there is none."""
        expected = self._one_by_one(inputs)
        on_cpu = expected.device.type == "cpu"
        each = _seconds(lambda: self._one_by_one(inputs), expected.device)
        # Convolutions of several units in one call gain nothing on a CPU but the time between operators.
        if self._convolves and on_cpu and each > NOTICED:
            return self._one_by_one
        keep_freed_memory()
        parameters, buffers = dict(self.stacked.named_parameters()), dict(self.stacked.named_buffers())
        flat = (*parameters.values(), *buffers.values(), *inputs)
        fastest = None
        try:
            # Tracing runs the program, and what is random in it: not at the cost of the user's generator.
            with tracing, global_stream(0), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that vmap is slow with an operator, that TorchScript is not new
                for call in together(self._template[0], parameters, buffers, inputs):
                    if difference([call(*flat).contiguous()], [expected]):
                        continue
                    call(*flat)  # TorchScript compiles in the second call
                    seconds = _seconds(partial(call, *flat), expected.device)
                    if seconds <= each:
                        fastest, each = call, seconds
        except Exception as error:
            logger.info("An ensemble predicts unit by unit: %s: %s", type(error).__name__, error)
        if fastest is None:
            return self._one_by_one
        program, modules = fastest, list(self.stacked.modules())
        # Where the tensors are, which may be others then: to ask for them by name takes longer than to predict a row.
        places: list[tuple[Any, str]] = [(each._parameters, name) for each in modules for name in each._parameters]
        places += [(each._buffers, name) for each in modules for name in each._buffers]
        return lambda inputs: program(*(own[name] for own, name in places), *inputs)

    def _apply(self, *args: Any, **named: Any) -> Any:
        """A program is for one device and type."""
        self._calls, self._programs = {}, {}
        return super()._apply(*args, **named)

    def __getstate__(self) -> dict[str, Any]:
        """A program is not copied or pickled; it is traced again."""
        return self.__dict__ | {"_calls": {}, "_programs": {}}

    def extra_repr(self) -> str:
        """What `repr` shows of it."""
        return f"{self._size} x {type(self._template[0]).__name__}, average={self.average!r}"


def soup(
    population: Population,
    data: tuple[Tensor | tuple[Tensor, ...], Tensor],
    loss: Loss = nn.functional.cross_entropy,
    *,
    chunk: int = 1_024,
) -> nn.Module:
    """The model of `greedy_soup`."""
    return greedy_soup(population, data, loss, chunk=chunk)[0]


def greedy_soup(
    population: Population,
    data: tuple[Tensor | tuple[Tensor, ...], Tensor],
    loss: Loss = nn.functional.cross_entropy,
    *,
    chunk: int = 1_024,
) -> tuple[nn.Module, tuple[int, ...]]:
    """Average the weights of those units that do each other good: the greedy recipe of "Model soups".

    In the order of the population, fittest first, a unit's weights are added to the average if the mean loss on `data`
    does not rise by that. So the soup loses at most what the first unit loses there. A unit whose loss is not finite
    is left out. Buffers of floating point, such as the statistics of BatchNorm, are averaged like weights; others are
    those of the first unit that went in.

    Args:
        population: the units, sorted by fitness, as in `Result.population`.
        data: inputs [n, *features] (or a tuple of such) and targets [n, ...]: rows that did not train the units, and
            that the soup will not be judged by.
        loss: (output, targets) -> scalar, a mean over rows; lower is better. The one that trained the units: the
            default is none for a model with one output.
        chunk: rows that are evaluated at once, at least 1.

    Returns:
        The soup, in evaluation mode, on the CPU; and which units went in, by their place in the population.

    Raises:
        InputError: the rows or the loss do not fit, as in `evolve`; or no unit has a finite loss on the rows.
    """
    _check_population(population)
    if isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1:
        raise InputError(f"chunk={chunk!r} is not allowed; must be a whole number, at least 1")
    check_callable("loss", loss, "output", "targets")
    first = next(iter(population.parameters.values()))
    inputs, targets = rows = check_batch("data", data, first.device)
    check_rows(population, rows, loss)
    module = population.unit(0)
    # Targets that are no classes would be taken for probabilities, and the loss be 0 whatever the output.
    if loss is nn.functional.cross_entropy and targets.is_floating_point():
        with torch.no_grad():
            if _has_one_output(module(*(tensor[:1] for tensor in inputs))):
                raise InputError("loss: cross_entropy says nothing of a model with one output; give the loss of evolve")
    own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    stacked = {**population.parameters, **population.buffers}
    total = {name: torch.zeros_like(tensor[0], dtype=_wide(tensor)) for name, tensor in stacked.items()}
    chosen: list[int] = []
    lowest = float("inf")

    def fill(sums: Mapping[str, Tensor], units: list[int]) -> None:
        for name, tensor in own.items():
            averaged = stacked[name].is_floating_point() or stacked[name].is_complex()
            tensor.copy_(sums[name] / len(units) if averaged else stacked[name][units[0]])

    with torch.no_grad():
        for unit in range(len(population)):
            candidate = {name: tensor + stacked[name][unit] for name, tensor in total.items()}
            fill(candidate, [*chosen, unit])
            value = sum(
                float(loss(module(*(tensor[part] for tensor in inputs)), targets[part])) * len(targets[part])
                for part in (slice(start, start + chunk) for start in range(0, len(targets), chunk))
            ) / len(targets)
            if value <= lowest and value < float("inf"):
                total, chosen, lowest = candidate, [*chosen, unit], value
        if not chosen:
            raise InputError(f"data: none of the {len(population)} units has a finite loss on these rows")
        fill(total, chosen)
    return module.to("cpu"), tuple(chosen)


def _has_one_output(output: Tensor) -> bool:
    """Whether a model that returned this for its rows gives one number a row (or a place), and no classes."""
    return output.dim() < 2 or output.shape[1] == 1


def _check_population(population: Any) -> None:
    if not isinstance(population, Population):
        raise InputError(f"population: is a {type(population).__name__}, must be a gadam.Population (of a Result)")


def _seconds(call: Callable[[], Tensor], device: torch.device) -> float:
    """The shortest time of three calls, or of up to twenty where those are short: something else may run too."""
    spent: list[float] = []
    while len(spent) < 3 or (len(spent) < 20 and sum(spent) < NOTICED):
        started = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        spent.append(time.perf_counter() - started)
    return min(spent)


def _wide(tensor: Tensor) -> torch.dtype:
    """The type to sum in: the average of equal units is then exactly the unit."""
    return torch.promote_types(tensor.dtype, torch.float64) if tensor.is_floating_point() else tensor.dtype
