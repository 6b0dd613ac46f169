"""A population: g unit models of one architecture as one set of tensors with a leading unit dimension."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from gadam.config import InputError
from gadam.display import describe_error, describe_tensor, html_table, shown
from gadam.randomness import INITIALISATION, global_stream, stream_seed
from gadam.validation import check_whole


@dataclass(frozen=True)
class Population:
    """Unit models, stacked: every parameter has shape [g, *shape]. Frozen: every method returns a new population.

    Example:
        >>> population = gadam.Population.make(make_model, size=10)
        >>> population.unit(0)(inputs)

    Attributes:
        template: a module of the architecture; its own values are not used.
        parameters: what the optimizer learns and genetics mixes: name -> [g, *shape]. Tied parameters appear once.
        buffers: all else that a unit carries, frozen parameters among it: name -> [g, *shape].
        moments: the optimizer's state where it is kept: "<state>/<parameter>" -> [g, *shape] or [g].
    """

    template: nn.Module
    parameters: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]
    moments: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def make(
        cls,
        make_model: Callable[[], nn.Module],
        size: int,
        *,
        seed: int = 0,
        initialisation: str = "module",
        device: torch.device | str = "cpu",
    ) -> Population:
        """Make fresh units (Section 3.1), each initialised from a stream of its own.

        Args:
            make_model: returns a new module; called `size` times with torch's global generator seeded for the unit.
            size: g, the number of units.
            seed: the seed of the streams.
            initialisation: "module" or "standard_normal", see `GadamConfig`.
            device: where the tensors live.

        Raises:
            InputError: what `make_model` returns is no module, has nothing to learn, or differs in shape between calls;
                or another argument is not allowed.
        """
        check_whole("size", size, 1)
        check_whole("seed", seed, 0)
        if initialisation not in ("module", "standard_normal"):
            raise InputError(f"initialisation={initialisation!r} is not a choice; there are module, standard_normal")
        if isinstance(make_model, nn.Module) or not callable(make_model):
            kind = type(make_model).__name__
            raise InputError(f"make_model: is a {kind}, must be a function that returns a new module at each call")
        modules: list[nn.Module] = []
        for unit in range(size):
            with global_stream(stream_seed(seed, INITIALISATION, unit)):
                module = _made(make_model)
                if not isinstance(module, nn.Module):
                    raise InputError(f"make_model: returned {type(module).__name__}, must return a torch.nn.Module")
                if any(is_lazy(tensor) for tensor in (*module.parameters(), *module.buffers())):
                    kind = type(module).__name__
                    raise InputError(
                        f"make_model: {kind} is lazy, must have its shapes; call it once on some rows first"
                    )
                if initialisation == "standard_normal":
                    for parameter in _learned(module).values():
                        nn.init.normal_(parameter)
            modules.append(module)
        if not _learned(modules[0]):
            raise InputError(f"make_model: {type(modules[0]).__name__} has no parameter that requires a gradient")
        if len(set(modules)) < size:
            raise InputError("make_model: returned the same module twice, must return a new one at each call")
        return cls.stack(modules).to(device)

    @classmethod
    def stack(cls, modules: Sequence[nn.Module], template: nn.Module | None = None) -> Population:
        """Stack modules, which must agree in names, shapes and what is frozen. Values are copied.

        Args:
            modules: the units.
            template: a module of the architecture; None copies the first unit, which must not have been called for
                that: a module that keeps what it computed (`self.features = ...`) cannot be copied.

        Raises:
            InputError: there are none, or one is no module or of another architecture.
        """
        _check_each("modules", modules, nn.Module, "torch.nn.Module")
        template = copy.deepcopy(modules[0]) if template is None else template
        return cls(template, _stack(map(_learned, modules)), _stack(map(_carried, modules)))

    @classmethod
    def join(cls, populations: Sequence[Population]) -> Population:
        """Join the units of several populations, in order; a single one is returned as it is.

        Raises:
            InputError: there are none, or one is no population or of another architecture.
        """
        _check_each("populations", populations, Population, "gadam.Population")
        first = populations[0]
        if len(populations) == 1:
            return first

        def join(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
            for part in parts[1:]:
                _check_alike(parts[0], part)
            return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

        return replace(
            first,
            parameters=join([population.parameters for population in populations]),
            buffers=join([population.buffers for population in populations]),
            moments=join([population.moments for population in populations]),
        )

    @classmethod
    def choose(cls, populations: Sequence[Population], units: Sequence[int]) -> Population:
        """Choose units of several populations, numbered through them in order; each is copied once."""

        def choose(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
            rows = {name: [row for part in parts for row in part[name].unbind()] for name in parts[0]}
            return {name: torch.stack([each[unit] for unit in units]) for name, each in rows.items()}

        return replace(
            populations[0],
            parameters=choose([population.parameters for population in populations]),
            buffers=choose([population.buffers for population in populations]),
            moments=choose([population.moments for population in populations]),
        )

    def __len__(self) -> int:
        return len(next(iter(self.parameters.values())))

    def __getstate__(self) -> dict[str, Any]:
        """Pickle would write all the memory that a slice is part of: a worker gets its own units only."""

        def own(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {n: t.clone() if t.untyped_storage().nbytes() > t.nbytes else t for n, t in tensors.items()}

        return self.__dict__ | {name: own(getattr(self, name)) for name in ("parameters", "buffers", "moments")}

    def __repr__(self) -> str:
        entries = sum(tensor[0].numel() for tensor in self.parameters.values())
        return f"Population({len(self)} x {type(self.template).__name__}, {entries:,} learned entries each)"

    def _repr_html_(self) -> str:
        """Return the small table that Jupyter shows."""
        entries = sum(tensor[0].numel() for tensor in self.parameters.values())
        tensors = [*self.parameters.values(), *self.buffers.values(), *self.moments.values()]
        shapes = {name: describe_tensor(tensor[0]) for name, tensor in list(self.parameters.items())[:SHOWN]}
        left = len(self.parameters) - len(shapes)
        return html_table(
            {"units": f"{len(self):,}", "model": type(self.template).__name__}
            | {"learned entries of each": f"{entries:,}"}
            | {"bytes of all": f"{sum(tensor.nbytes for tensor in tensors):,}"}
            | shapes
            | ({"...": f"{left:,} more parameters"} if left else {}),
            "Population",
        )

    def take(self, units: slice | Tensor) -> Population:
        """Take some of the units: a slice shares memory, an int64 [n] index copies and may repeat.

        Raises:
            InputError: `units` is neither, or there is no such unit.
        """
        if not isinstance(units, slice):
            if not (isinstance(units, Tensor) and units.dtype == torch.int64 and units.dim() == 1):
                kind = describe_tensor(units) if isinstance(units, Tensor) else f"a {type(units).__name__}"
                raise InputError(f"units: is {kind}, must be a slice or int64 [n]")
            # On a GPU a number that is none of a unit would end every further computation of the process.
            low, high = (int(units.min()), int(units.max())) if len(units) else (0, -1)
            if low < -len(self) or high >= len(self):
                raise InputError(f"units: range from {low} to {high}, must lie in {-len(self)} to {len(self) - 1}")
        return self._map(lambda tensor: tensor[units])

    def to(self, device: torch.device | str) -> Population:
        """Return the population on another device.

        Raises:
            InputError: there is no such device.
        """
        chosen = _device(device)
        moved = self._map(lambda tensor: tensor.to(chosen))
        return replace(moved, template=copy.deepcopy(self.template).to(chosen))

    def shards(self, count: int) -> list[Population]:
        """Cut into at most `count` parts of nearly equal size, in order."""
        check_whole("count", count, 1)
        bounds = [round(part * len(self) / count) for part in range(count + 1)]
        return [self.take(slice(low, high)) for low, high in pairwise(bounds) if low < high]

    def unit(self, index: int) -> nn.Module:
        """Return one unit as a module, in evaluation mode; it shares no memory with the population."""
        check_whole("index", index, -len(self), len(self) - 1)
        module = copy.deepcopy(self.template).eval()
        own = _learned(module) | _carried(module)
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_((self.parameters if name in self.parameters else self.buffers)[name][index])
        return module

    def units(self) -> Iterator[nn.Module]:
        """Yield each unit as a module."""
        return (self.unit(index) for index in range(len(self)))

    def _map(self, function: Callable[[Tensor], Tensor]) -> Population:
        def apply(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: function(tensor) for name, tensor in tensors.items()}

        return replace(
            self, parameters=apply(self.parameters), buffers=apply(self.buffers), moments=apply(self.moments)
        )


SHOWN = 20
"""Most parameters in the table that Jupyter shows."""


def outline(module: nn.Module) -> list[str]:
    """Return the module and its parts with their settings, a line each: it tells models of the same shapes apart."""
    return [re.sub(r" at 0x[0-9a-fA-F]+", "", line.strip()) for line in str(module).splitlines()]


def _check_each(name: str, values: Any, kind: type, wanted: str) -> None:
    """Refuse anything but a list of a kind, with at least one."""
    if not isinstance(values, Sequence | nn.ModuleList):
        raise InputError(f"{name}: is a {type(values).__name__}, must be a list of {wanted}")
    if not values:
        raise InputError(f"{name}: are none, must be at least one")
    for each in values:
        if not isinstance(each, kind):
            raise InputError(f"{name}: has a {type(each).__name__} among them, must be a list of {wanted}")


def _check_alike(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    """Refuse entries of two populations that are not of one architecture."""
    for name in {**one, **other}:
        a, b = one.get(name), other.get(name)
        if a is None or b is None or a.shape[1:] != b.shape[1:] or a.dtype != b.dtype:
            raise InputError(
                f"populations: {name} is {describe_tensor(a, 1)} in one and {describe_tensor(b, 1)} in another, "
                "must be the same"
            )


def _device(device: torch.device | str) -> torch.device:
    try:
        chosen = torch.device(device)
        if chosen.type == "cuda" and (chosen.index or 0) >= (gpus := torch.cuda.device_count()):
            raise RuntimeError(f"there are {gpus} GPUs")
    except (RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[0].split(". ")[0]
        raise InputError(f'device={shown(device)} cannot be used ({reason}); give "cpu" or "cuda"') from None
    return chosen


def _learned(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters that are trained, tied ones once."""
    return {name: tensor for name, tensor in module.named_parameters() if tensor.requires_grad}


def _carried(module: nn.Module) -> dict[str, Tensor]:
    """Return frozen parameters and buffers."""
    frozen = {name: tensor for name, tensor in module.named_parameters() if not tensor.requires_grad}
    return frozen | dict(module.named_buffers())


def _made(make_model: Callable[[], nn.Module]) -> nn.Module:
    try:
        return make_model()
    except InputError:
        raise
    except Exception as error:
        name = getattr(make_model, "__name__", "it")
        raise InputError(f"make_model: {name}() failed ({describe_error(error)})") from error


def _stack(units: Iterator[dict[str, Tensor]]) -> dict[str, Tensor]:
    first, *others = list(units)
    for other in others:
        for name in first | other:  # in order, so that the same mistake is always told with the same words
            a, b = first.get(name), other.get(name)
            if a is None or b is None or a.shape != b.shape or a.dtype != b.dtype:
                raise InputError(
                    f"make_model: {name} is {describe_tensor(a)} in one call and {describe_tensor(b)} in another, "
                    "must be the same"
                )
    # Contiguous whatever the modules' memory formats: the fused optimizers and the traced programs count on it.
    return {name: torch.stack([unit[name].detach() for unit in (first, *others)]).contiguous() for name in first}
