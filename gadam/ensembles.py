"""Two ways to use a whole population: the average of its predictions, and the average of its weights."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gadam.config import InputError
from gadam.display import describe_error, first_line, warn
from gadam.population import Population, copy_module
from gadam.runtime import process_lock
from gadam.tracing.programs import Programs, difference, is_tracing, suits_singly
from gadam.training.batches import call_in_parts
from gadam.training.fit import fit_rows
from gadam.training.inputs import read_rows
from gadam.training.python_state import changed_by
from gadam.types import Loss, Rows
from gadam.validation import check_callable, check_choice, check_kind, check_whole

logger = logging.getLogger("gadam")

Average = Literal["probabilities", "outputs"]
"""Predictions of units that an `Ensemble` averages."""

_A_POPULATION = "a gadam.Population (of a Result)"
SHAPES = 32
"""Shapes of inputs for which an ensemble keeps a traced program; for any further the modules are called."""


class Ensemble(nn.Module):
    """The average prediction of a population. For prediction only: it has no gradient.

    It is a module with the units' stacked tensors as its own, so `to`, `state_dict` and `load_state_dict` work. The
    units are in evaluation mode whatever the ensemble's mode is.

    The first call with inputs of a shape traces a program, which takes a fraction of a second (the first time in a
    process some seconds), and compares it with the modules. The program computes all units in one call; on a CPU those
    with convolutions, which gain nothing from that, one after another. Where it gives something else, or the model
    cannot be traced, the modules themselves are called at every call.

    Example:
        >>> gadam.Ensemble(result.population)(inputs)
    """

    def __init__(self, population: Population, average: Average = "probabilities") -> None:
        """Copy the units.

        Args:
            population: the units. One that has diverged, with NaN or infinities among its weights, is left out while
                there are others, with a warning.
            average: "probabilities" for classification, the mean of the softmax over the classes, dimension 1 of the
                output of a unit ([n, classes] or [n, classes, ...], as `cross_entropy` takes it); "outputs" for
                regression and everything else, the mean of the outputs as they are.
        """
        super().__init__()
        check_kind("population", population, Population, _A_POPULATION)
        check_choice("average", average, get_args(Average))
        if not len(population):
            raise InputError("population: has no units, must have at least one")
        self.average = average
        population = _sound(population)
        self.stacked = _as_module(population)
        template = copy_module(population.template).eval()
        self._template = (template,)  # in a tuple, because its values are no part of the ensemble
        self._singly_on_cpu = suits_singly(template, torch.device("cpu"))
        self._programs = {
            singly: Programs(template, _output, singly=singly, evaluates=True) for singly in (False, True)
        }
        self._traced: dict[Any, bool] = {}  # the key: shapes, types and device of the inputs
        self.eval()

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the average over the units.

        Args:
            inputs: as for a unit, [n, ...] each.

        Returns:
            [n, ...]. With "probabilities" these are probabilities, which sum to 1 over dimension 1, and no logits:
            `argmax(1)` gives the class; for a loss take `nll_loss(ensemble(x).log(), y)`, never `cross_entropy`.

        Raises:
            InputError: as in `units`; or the average is of probabilities and the model has one output a row.
        """
        outputs = self.units(*inputs)
        if self.average == "outputs":
            return outputs.mean(0)
        if outputs.dim() < 3:
            raise InputError(
                f'average="probabilities": the model gives shape {list(outputs.shape[1:])}, not [n, classes]; give a '
                'single row as row[None], or for a model with one output average="outputs"'
            )
        if outputs.shape[2] == 1:
            raise InputError('average="probabilities": the model has one output; give average="outputs"')
        return outputs.softmax(2).mean(0)

    @torch.no_grad()
    def units(self, *inputs: Tensor) -> Tensor:
        """Return the output of each unit, [g, n, ...].

        Raises:
            InputError: the model does not take the inputs, or returns something other than a tensor.
        """
        for tensor in inputs:
            if not isinstance(tensor, Tensor):
                raise InputError(f"inputs: has a {type(tensor).__name__} among them, must be torch.Tensor")
        if is_tracing():  # or exporting: each asks for the modules
            return self._by_modules(inputs)
        key = tuple((tensor.shape, tensor.dtype, tensor.device) for tensor in inputs)
        if key not in self._traced and len(self._traced) < SHAPES:
            with process_lock:  # other threads would change what is watched
                if key not in self._traced:
                    self._traced[key] = self._can_trace(inputs)
        return self._by_program(inputs) if self._traced.get(key) else self._by_modules(inputs)

    def _can_trace(self, inputs: tuple[Tensor, ...]) -> bool:
        self._by_modules(inputs)  # the first call may set things up, which then do not move any more
        moves = changed_by(lambda: self._by_modules(inputs), self._template[0], None)
        expected = self._by_modules(inputs)
        others = tuple(t.flip(0) / 2 if t.is_floating_point() else t.flip(0) for t in inputs)
        try:
            reason = f"{moves} changes from call to call" if moves else ""
            reason = reason or difference([self._by_program(inputs).contiguous()], [expected])
            # Compare on other rows too: the trace may have kept a number that it read from the first ones.
            reason = reason or difference([self._by_program(others).contiguous()], [self._by_modules(others)])
        except Exception as error:
            reason = describe_error(error)
        if reason:
            logger.info("An ensemble predicts without a traced program: %s", reason)
        return not reason

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return dict(self.stacked.named_parameters()), dict(self.stacked.named_buffers())

    def _by_program(self, inputs: tuple[Tensor, ...]) -> Tensor:
        device = inputs[0].device
        programs = self._programs[self._singly_on_cpu and device.type == "cpu"]
        # Streams to draw from, which only a model that draws in evaluation does: that is found to differ.
        streams = [torch.Generator(device)] * len(next(self.stacked.parameters()))
        inputs = tuple(tensor.clone() for tensor in inputs)  # the module may write to them
        return programs.losses(*self._state(), (inputs, inputs[0]), streams)  # the targets are not looked at

    def _by_modules(self, inputs: tuple[Tensor, ...]) -> Tensor:
        (template,), (parameters, buffers) = self._template, self._state()
        outputs = []
        for unit in range(len(next(self.stacked.parameters()))):
            state = {name: tensor[unit] for name, tensor in parameters.items()}
            state |= {name: tensor[unit].clone() for name, tensor in buffers.items()}  # the module may write to them
            try:
                with process_lock:  # the template holds the tensors of the unit that is called
                    outputs.append(_call(template, state, tuple(tensor.clone() for tensor in inputs)))
            except (torch.OutOfMemoryError, InputError):
                raise
            except (RuntimeError, TypeError, ValueError, IndexError) as error:
                raise not_taken(template, inputs, error) from error
        if not isinstance(outputs[0], Tensor):
            model, kind = type(template).__name__, type(outputs[0]).__name__
            raise InputError(f"Ensemble: {model} returns a {kind}, must return a tensor to be averaged")
        return torch.stack(outputs)

    def extra_repr(self) -> str:  # noqa: D102
        units = len(next(self.stacked.parameters()))
        return f"{units} x {type(self._template[0]).__name__}, average={self.average!r}"


def greedy_soup(
    population: Population, data: Rows, loss: Loss = nn.functional.cross_entropy, *, chunk: int = 1_024
) -> tuple[nn.Module, tuple[int, ...]]:
    """Average the weights of those units that improve the average, into one model that costs no more than a unit.

    It is the greedy recipe of Wortsman et al., "Model soups", ICML 2022; units of one evolution have ancestors in
    common, which such an average needs. In the order of the population, fittest first, a unit's weights are added to
    the average if the mean loss on `data` does not rise by that. So the loss of the soup there is at most that of the
    first unit. A unit whose loss is not finite is left out. Buffers of floating point, such as the statistics of
    BatchNorm, are averaged like weights; others are those of the first unit that went in.

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
    check_kind("population", population, Population, _A_POPULATION)
    check_whole("chunk", chunk, 1)
    check_callable("loss", loss, "output", "targets")
    stacked = {**population.parameters, **population.buffers}
    rows = read_rows("data", data, next(iter(stacked.values())).device)
    (inputs, targets), _ = fit_rows("data", population, rows, loss)
    soup = population.unit(0)
    own = {**dict(soup.named_parameters()), **dict(soup.named_buffers())}
    # The average of equal units is exactly the unit, if it is summed in float64.
    total = {
        name: torch.zeros_like(tensor[0], dtype=torch.promote_types(tensor.dtype, torch.float64))
        for name, tensor in stacked.items()
        if tensor.is_floating_point() or tensor.is_complex()
    }
    chosen: list[int] = []
    lowest = float("inf")

    def fill(sums: Mapping[str, Tensor], units: list[int]) -> None:
        for name, tensor in own.items():
            tensor.copy_(sums[name] / len(units) if name in sums else stacked[name][units[0]])

    with torch.no_grad():
        for unit in range(len(population)):
            candidate = {name: tensor + stacked[name][unit] for name, tensor in total.items()}
            fill(candidate, [*chosen, unit])
            # The loss over all rows, for a mean of the losses of chunks weighs rows otherwise where some are ignored.
            value = float(loss(call_in_parts(soup, inputs, chunk), targets.clone()))
            if value <= lowest and value < float("inf"):
                total, chosen, lowest = candidate, [*chosen, unit], value
        if not chosen:
            raise InputError(f"data: none of the {len(population)} units has a finite loss on these rows")
        fill(total, chosen)
    return soup.to("cpu"), tuple(chosen)


def not_taken(module: nn.Module, inputs: Sequence[Tensor], error: Exception) -> InputError:
    """Say that a module does not take inputs."""
    return InputError(
        f"inputs: {type(module).__name__} could not take shapes {[list(tensor.shape) for tensor in inputs]}: "
        f"{first_line(error)}; the first dimension must be that of rows (of a single one: row[None])"
    )


def _call(module: nn.Module, state: Mapping[str, Tensor], inputs: tuple[Tensor, ...]) -> Any:
    """Call a module with tensors in the place of its own: in those themselves, for it may hold them in a list too."""
    if is_tracing() or inputs[0].is_meta:
        if held := _held_in_lists(module):
            raise InputError(
                f"population: {type(module).__name__} holds a parameter in {held}, where a trace does not see it; must "
                "be a ParameterList, or an attribute of its own"
            )
        return functional_call(module, dict(state), inputs)
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if name in state:  # else the call before has made it
            tensor.data = state[name]
    return module(*inputs)


def _held_in_lists(module: nn.Module) -> str:
    """Return the name of an attribute that holds parameters or buffers of a module in a list, "" if there is none."""
    own = {id(tensor) for tensor in (*module.parameters(), *module.buffers())}
    for part in module.modules():
        for name, value in vars(part).items():
            several = value.values() if isinstance(value, dict) else value
            registered = name in ("_parameters", "_buffers") or isinstance(part, nn.RNNBase)
            if isinstance(value, list | tuple | dict) and not registered and any(id(one) in own for one in several):
                return f"{type(part).__name__}.{name}"
    return ""


def _sound(population: Population) -> Population:
    """Leave out units with weights that are not finite, unless all have such."""
    finite = torch.stack([
        entry.isfinite().reshape(len(entry), entry[0].numel()).all(1) for entry in population.parameters.values()
    ]).all(0)  # fmt: skip
    if finite.all() or not finite.any():
        return population
    left = f"{int((~finite).sum())} of {len(population)} units have diverged"
    warn(f"population: {left}, and the ensemble leaves them out")
    return population.take(finite.nonzero().flatten())


def _output(output: Any, _: Tensor) -> Any:
    """Take the output of a unit in the place of its loss."""
    return output


def _as_module(population: Population) -> nn.Module:
    """Return copies of the stacked tensors as a module, under the names that they have in a unit."""
    root = nn.Module()
    for name, tensor in {**population.parameters, **population.buffers}.items():
        *path, last = name.split(".")
        parent = root
        for part in path:
            if not hasattr(parent, part):
                parent.add_module(part, nn.Module())
            parent = parent.get_submodule(part)
        copied = tensor.detach().clone()
        if name in population.parameters:
            parent.register_parameter(last, nn.Parameter(copied, requires_grad=False))
        else:
            parent.register_buffer(last, copied)
    return root
