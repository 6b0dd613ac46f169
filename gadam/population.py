"""A population: g unit models of one architecture as one set of tensors with a leading unit dimension."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from gadam.config import InputError
from gadam.display import describe_error, describe_tensor, html_table, shown
from gadam.made import check_copies, make_module
from gadam.randomness import INITIALISATION, seeded, stream_seed
from gadam.runtime import resolve_device
from gadam.types import Device, MakeModel, Tensors
from gadam.validation import check_callable, check_choice, check_whole

KINDS = ("parameters", "buffers", "moments", "rates")
SHOWN = 20
"""Most parameters in the table that Jupyter shows."""


@dataclass(frozen=True)
class Population:
    """Unit models, stacked: every parameter has shape [g, *shape]. Frozen: every method returns a new population.

    What a method cannot use it refuses by `InputError`: modules, or populations, of different architectures too.

    Example:
        >>> population = gadam.Population.make(make_model, size=10)
        >>> population.unit(0)(inputs)

    Attributes:
        template: a module of the architecture; its own values are not used.
        parameters: what the optimizer learns and genetics mixes: name -> [g, *shape]. Tied parameters appear once.
        buffers: all else that a unit carries, frozen parameters among it: name -> [g, *shape].
        moments: the optimizer's state where it is kept: "<state>/<parameter>" -> [g, *shape] or [g].
        rates: settings that each unit has of its own: "learning_rate", "weight_decay" -> float64 [g].
    """

    template: nn.Module
    parameters: Tensors
    buffers: Tensors
    moments: Tensors = field(default_factory=dict)
    rates: Tensors = field(default_factory=dict)

    @classmethod
    def make(
        cls, make_model: MakeModel, size: int, *, seed: int = 0, initialisation: str = "module", device: Device = "cpu"
    ) -> Population:
        """Make fresh units (Section 3.1), each initialised from a stream of its own.

        `make_model` returns a new module, of the same shapes at each call and with something to learn; it is called
        `size` times, with the global generators of torch, NumPy and Python seeded for the unit. `initialisation` is
        "module" or "standard_normal", see `GadamConfig`.
        """
        check_whole("size", size, 1)
        check_whole("seed", seed, 0)
        check_choice("initialisation", initialisation, ("module", "standard_normal"))
        if isinstance(make_model, nn.Module) or not callable(make_model):
            kind = type(make_model).__name__
            raise InputError(f"make_model: is a {kind}, must be a function that returns a new module at each call")
        check_callable("make_model", make_model)
        modules: list[nn.Module] = []
        for unit in range(size):
            with seeded(stream_seed(seed, INITIALISATION, unit)):
                modules.append(make_module(make_model))
                if initialisation == "standard_normal":
                    modules[-1] = copy_module(modules[-1])  # for a part of it may be one of the user's own
                    learned = learned_of(modules[-1])
                    for parameter in learned.values():
                        nn.init.normal_(parameter)
                    for name, row in padding_rows(modules[-1]):  # no gradient would ever change them
                        if name in learned:
                            nn.init.zeros_(learned[name][row])
        if not learned_of(modules[0]):
            raise InputError(f"make_model: {type(modules[0]).__name__} has no parameter that requires a gradient")
        if len(set(modules)) < size:
            raise InputError("make_model: returned the same module twice, must return a new one at each call")
        return cls._stacked(modules, None, "make_model").to(device)

    @classmethod
    def stack(cls, modules: Sequence[nn.Module], template: nn.Module | None = None) -> Population:
        """Stack modules, at least one, which must agree in names, shapes and what is frozen. Values are copied.

        `template` is a module of the architecture; None copies the first unit.
        """
        return cls._stacked(modules, template, "modules")

    @classmethod
    def _stacked(cls, modules: Sequence[nn.Module], template: nn.Module | None, argument: str) -> Population:
        _check_each(argument, modules, nn.Module)
        if template is None:
            check_copies(argument, modules)
            template = copy_module(modules[0])
            for buffer in template.buffers():
                buffer.data = buffer.data.contiguous()  # one that is expanded could not be written to
        return cls(template, _stack(argument, map(learned_of, modules)), _stack(argument, map(_carried, modules)))

    @classmethod
    def join(cls, populations: Sequence[Population]) -> Population:
        """Join the units of populations, at least one, in order; a single one is returned as it is."""
        _check_each("populations", populations, Population)
        first, *others = populations
        for other in others:
            for kind in KINDS:
                if found := first_difference(getattr(first, kind), getattr(other, kind), 1):
                    name, one, another = found
                    raise InputError(f"populations: {name} is {one} in one and {another} in another, must be the same")
        return first._map(lambda *parts: torch.cat(parts), *others) if others else first

    def __len__(self) -> int:
        return len(next(iter(self.parameters.values())))

    def __getstate__(self) -> dict[str, Any]:
        """Copy slices before they are pickled: else pickle would write all the memory that they are part of."""
        return vars(self._map(lambda t: t.clone() if t.untyped_storage().nbytes() > t.nbytes else t))

    def __repr__(self) -> str:
        entries = sum(tensor[0].numel() for tensor in self.parameters.values())
        return f"Population({len(self)} x {type(self.template).__name__}, {entries:,} learned entries each)"

    def _repr_html_(self) -> str:
        """Return the small table that Jupyter shows."""
        rows = {
            "units": f"{len(self):,}",
            "model": type(self.template).__name__,
            "learned entries of each": f"{sum(tensor[0].numel() for tensor in self.parameters.values()):,}",
            "bytes of all": f"{sum(tensor.nbytes for tensor in to_entries(self).values()):,}",
        }
        rows |= {name: describe_tensor(tensor[0]) for name, tensor in list(self.parameters.items())[:SHOWN]}
        if len(self.parameters) > SHOWN:
            rows["..."] = f"{len(self.parameters) - SHOWN:,} more parameters"
        return html_table(rows, "Population")

    def take(self, units: slice | Tensor) -> Population:
        """Take some of the units: a slice shares memory, an int64 [n] index copies and may repeat."""
        if not isinstance(units, slice):
            if not (isinstance(units, Tensor) and units.dtype == torch.int64 and units.dim() == 1):
                raise InputError(f"units: is {shown(units)}, must be a slice or a tensor, int64 [n]")
            # Checked on a GPU too, where an index out of range would end every further computation of the process.
            low, high = (int(units.min()), int(units.max())) if len(units) else (0, -1)
            if low < -len(self) or high >= len(self):
                raise InputError(f"units: range from {low} to {high}, must lie in {-len(self)} to {len(self) - 1}")
        return self._map(lambda tensor: tensor[units])

    def without_moments(self) -> Population:
        """Drop the optimizer's state: what trains these units next starts it anew."""
        return replace(self, moments={})

    def to(self, device: Device) -> Population:
        """Return the population on another device."""
        device = resolve_device(device)
        moved = self._map(lambda tensor: tensor.to(device))
        return replace(moved, template=copy_module(self.template).to(device))

    def shards(self, count: int) -> list[Population]:
        """Cut into at most `count` parts of nearly equal size, in order."""
        check_whole("count", count, 1)
        bounds = [round(part * len(self) / count) for part in range(count + 1)]
        return [self.take(slice(low, high)) for low, high in pairwise(bounds) if low < high]

    def unit(self, index: int) -> nn.Module:
        """Return one unit as a module, in evaluation mode; it shares no memory with the population."""
        check_whole("index", index, -len(self), len(self) - 1)
        module = copy_module(self.template).eval()
        own = learned_of(module) | _carried(module)
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_((self.parameters if name in self.parameters else self.buffers)[name][index])
        return module

    def units(self) -> Iterator[nn.Module]:
        """Yield each unit as a module."""
        return (self.unit(index) for index in range(len(self)))

    def _map(self, function: Callable[..., Tensor], *others: Population) -> Population:
        """Call a function with each tensor, and with those of the same name of others."""
        each = (self, *others)
        kinds: dict[str, Any] = {
            kind: {name: function(*(getattr(one, kind)[name] for one in each)) for name in getattr(self, kind)}
            for kind in KINDS
        }
        return replace(self, **kinds)


def copy_module(module: nn.Module) -> nn.Module:
    """Copy a module, and detached what it has computed: the weight of `weight_norm`, features that it keeps."""
    computed = [
        value
        for part in module.modules()
        for value in vars(part).values()
        if isinstance(value, Tensor) and value.grad_fn is not None
    ]
    try:
        return copy.deepcopy(module, {id(value): value.detach().clone() for value in computed})
    except Exception as error:
        raise InputError(
            f"make_model: {type(module).__name__} cannot be copied ({describe_error(error)}); must hold no open files, "
            "locks or tensors inside of other objects that were computed from parameters"
        ) from error


@contextmanager
def only_read(kind: type[Exception], who: str, *lent: Tensors) -> Iterator[None]:
    """Raise an error of this kind if tensors that are lent inside are written to: they go on to be trained."""
    entries = [entry for each in lent for entry in each.values()]
    before = [entry._version for entry in entries]
    yield
    if [entry._version for entry in entries] != before:
        raise kind(f"{who} wrote to parameters that it was given; must clone what it changes")


AVERAGE = "average"
"""Name under which averaged weights of units in training are kept beside the moments of the optimizer."""


def without_averages(moments: Tensors) -> dict[str, Tensor]:
    """Return the optimizer's own state."""
    return {name: entry for name, entry in moments.items() if name.partition("/")[0] != AVERAGE}


def averaged(population: Population) -> Population:
    """Return units with their averaged weights, where there are such, in the place of the weights themselves."""
    parameters = {name: population.moments.get(f"{AVERAGE}/{name}", e) for name, e in population.parameters.items()}
    return replace(population, parameters=parameters, moments=without_averages(population.moments))


def to_entries(population: Population, prefix: str = "") -> dict[str, Tensor]:
    """Return the tensors of a population as they are named in files: "<prefix><kind>/<name>"."""
    return {f"{prefix}{kind}/{name}": entry for kind in KINDS for name, entry in getattr(population, kind).items()}


def from_entries(entries: Tensors, order: Population, what: str, prefix: str = "") -> Population:
    """Return the population of `to_entries`, in the order of another one of the same model.

    There may be other entries in the file; where it is of another model an `InputError` calls it `what`.
    """
    kinds = {
        kind: {name.removeprefix(start): entries[name] for name in sorted(entries) if name.startswith(start)}
        for kind, start in ((kind, f"{prefix}{kind}/") for kind in KINDS)
    }
    for kind in ("parameters", "buffers"):
        if found := first_difference(getattr(order, kind), kinds[kind], 1):
            name, here, there = found
            raise InputError(
                f"make_model: {name} is {here} among the {kind} of {type(order.template).__name__}, but {there} in "
                f"{what}; must be the model that was trained"
            )
        kinds[kind] = {name: kinds[kind][name] for name in getattr(order, kind)}
    return Population(order.template, **kinds)


def first_difference(one: Tensors, other: Tensors, first: int = 0) -> tuple[str, str, str] | None:
    """Return the first name whose shape, from a dimension on, or type differs, and what it is in each."""
    for name in {**one, **other}:  # in order, so that the same mistake is always told with the same words
        here, there = describe_tensor(one.get(name), first), describe_tensor(other.get(name), first)
        if here != there:
            return name, here, there
    return None


def outline(module: nn.Module) -> list[str]:
    """Return the module and its parts with their settings, a line each: it tells models of the same shapes apart."""
    return [re.sub(r" at 0x[0-9a-fA-F]+", "", line.strip()) for line in str(module).splitlines()]


def _check_each(argument: str, values: Any, kind: type) -> None:
    """Refuse anything but a list of a kind, with at least one."""
    wanted = f"must be a list of {kind.__name__}, at least one"
    if not isinstance(values, Sequence | nn.ModuleList):
        raise InputError(f"{argument}: is a {type(values).__name__}, {wanted}")
    if wrong := [each for each in values if not isinstance(each, kind)]:
        raise InputError(f"{argument}: has a {type(wrong[0]).__name__} among them, {wanted}")
    if not values:
        raise InputError(f"{argument}: are none, {wanted}")


def learned_of(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters that are trained, tied ones once."""
    return {name: tensor for name, tensor in module.named_parameters() if tensor.requires_grad}


def _carried(module: nn.Module) -> dict[str, Tensor]:
    """Return frozen parameters and buffers."""
    frozen = {name: tensor for name, tensor in module.named_parameters() if not tensor.requires_grad}
    return frozen | dict(module.named_buffers())


def _stack(argument: str, units: Iterable[dict[str, Tensor]]) -> dict[str, Tensor]:
    first, *others = units
    for other in others:
        if found := first_difference(first, other):
            name, one, another = found
            raise InputError(f"{argument}: {name} is {one} in one unit and {another} in another, must be the same")
    # Contiguous whatever the modules' memory formats: the fused optimizers and the traced programs count on it.
    return {name: torch.stack([unit[name].detach() for unit in (first, *others)]).contiguous() for name in first}


def padding_rows(module: nn.Module) -> list[tuple[str, int]]:
    """Return the weights of embeddings that have a row for padding, and which row."""
    return [
        (f"{path}.weight".lstrip("."), part.padding_idx)
        for path, part in module.named_modules()
        if isinstance(part, nn.Embedding | nn.EmbeddingBag) and part.padding_idx is not None
    ]
