"""What several public functions ask of their arguments; each is refused in one line that names it."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Sequence
from numbers import Integral
from textwrap import shorten
from typing import Any

from gadam.config import GadamConfig, InputError


def check_whole(name: str, value: Any, low: int, high: int | None = None) -> None:
    """Refuse what is not a whole number from `low` on, up to `high` where there is one."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not (whole and low <= value and (high is None or value <= high)):
        wanted = f"at least {low}" if high is None else f"from {low} to {high}"
        raise InputError(f"{name}={shown(value)} must be {'' if whole else 'a whole number, '}{wanted}")


def check_share(name: str, value: Any) -> None:
    """Refuse what is not a number in [0, 1]."""
    # A number of numpy's own type is no float, but compares like one.
    number = hasattr(value, "__float__") and not isinstance(value, bool | str)
    if not (number and 0 <= value <= 1):
        raise InputError(f"{name}={shown(value)} must be a number in [0, 1]")


def check_path(name: str, value: Any) -> None:
    """Refuse what is no path."""
    if not isinstance(value, str | os.PathLike) or not str(value) or "\0" in str(value):
        raise InputError(f"{name}={shown(value)} must be a path: text, or a pathlib.Path")


def check_seeds(seeds: Any) -> None:
    """Refuse what are no distinct seeds."""
    if isinstance(seeds, str) or not isinstance(seeds, Sequence) or not len(seeds):
        raise InputError(f"seeds={shown(seeds)} must be a list of whole numbers, at least one")
    for seed in seeds:
        check_whole("seeds", seed, 0, 2**63 - 1)
    if len(set(seeds)) < len(seeds):
        raise InputError(f"seeds={shown(seeds)} must be distinct")


def check_callable(name: str, value: Any, *arguments: str) -> None:
    """Refuse what cannot be called with as many arguments as are named here.

    A class is not taken for a function of more than nothing: `nn.CrossEntropyLoss` in the place of
    `nn.CrossEntropyLoss()`.
    """
    wanted = f"must be a function of ({', '.join(arguments)})"
    if not callable(value):
        raise InputError(f"{name}={shown(value)} {wanted}")
    called = getattr(value, "__name__", type(value).__name__)
    if isinstance(value, type) and arguments:
        raise InputError(f"{name}: {called} is a class, {wanted}, such as {called}()")
    try:
        inspect.signature(value).bind(*arguments)
    except TypeError as error:
        raise InputError(f"{name}: {called} {wanted}: {error}") from None
    except ValueError:
        return  # what is written in C need not say what it takes


def check_population(config: GadamConfig) -> None:
    """Refuse a population that cannot evolve."""
    if config.population_size < 2:
        raise InputError("config: population_size=1 leaves nothing to select from; evolve needs at least 2 units")


def check_evolve(
    make_model: Any, config: Any, loss: Any, callbacks: Iterable[Any], record: Any, progress: Any, stop: Any
) -> None:
    """Look at those arguments of `gadam.evolve` that are no tensors, executors or devices; see there.

    Raises:
        InputError: one of them cannot be used.
    """
    if callable(make_model) and not hasattr(make_model, "parameters"):  # a module is told apart where units are made
        check_callable("make_model", make_model)
    if not isinstance(config, GadamConfig):
        raise InputError(f"config: is a {type(config).__name__}, must be a gadam.GadamConfig or None")
    check_population(config)
    check_callable("loss", loss, "output", "targets")
    if not isinstance(callbacks, Iterable):
        raise InputError(f"callbacks: is a {type(callbacks).__name__}, must be a list of gadam.Callback")
    for callback in callbacks:
        if isinstance(callback, type) or not hasattr(callback, "on_generation"):
            raise InputError(f"callbacks: {shown(callback)} is no gadam.Callback, must be an instance of one")
    if record is not None:
        check_callable("record", record, "step")
    if not (progress is None or isinstance(progress, bool)):
        raise InputError(f"progress={shown(progress)} must be True, False or None")
    if not (stop is None or callable(getattr(stop, "is_set", None))):
        raise InputError(f"stop={shown(stop)} must be a threading.Event or None")


def shown(value: Any) -> str:
    """A value in at most 60 characters and one line."""
    return shorten(repr(value), 60, placeholder="...")
