"""Checks of arguments that several public functions take; each failure is a one-line `InputError` that names it."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from numbers import Integral, Real
from pathlib import Path
from types import UnionType
from typing import Any

from gadam.display import shown


class InputError(ValueError):
    """An argument cannot be used; the message is one line that names it and says what is allowed."""


def check_whole(name: str, value: Any, low: int, high: int | None = None) -> None:
    """Refuse anything but a whole number from `low` on, up to `high` if given."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not (whole and low <= value and (high is None or value <= high)):
        wanted = f"at least {low}" if high is None else f"from {low} to {high}"
        raise InputError(f"{name}={shown(value)} must be {'' if whole else 'a whole number, '}{wanted}")


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Refuse anything but one of several words, and say which of them was probably meant."""
    if value not in (words := list(choices)):
        near = get_close_matches(str(value), words)
        meant = f"; did you mean {' or '.join(near)}?" if near else ""
        raise InputError(f"{name}={shown(value)} must be one of {', '.join(words)}{meant}")


def check_number(name: str, value: Any, fits: Callable[[Any], bool], words: str) -> None:
    """Refuse anything but a number that fits; `words` say which do."""
    if isinstance(value, bool) or not isinstance(value, Real) or not fits(value):
        raise InputError(f"{name}={shown(value)} must be {words}")


def check_share(name: str, value: Any) -> None:
    """Refuse anything but a number in [0, 1]."""
    check_number(name, value, lambda share: 0 <= share <= 1, "a number in [0, 1]")


def check_kind(name: str, value: Any, kind: type | UnionType, words: str) -> None:
    """Refuse anything but an instance of a type."""
    if not isinstance(value, kind):
        raise InputError(f"{name}: is a {type(value).__name__}, must be {words}")


def expand(name: str, value: str) -> Path:
    """Return an absolute path, with "~" followed."""
    try:
        return Path(value).expanduser().absolute()
    except RuntimeError:
        raise InputError(f"{name}={shown(value)}: the home folder is not known; must be an absolute path") from None


def read_path(name: str, value: Any, *, folder: bool = False) -> Path:
    """Return the path of a file or a folder, there or not, as an absolute one, with "~" and links followed."""
    if not isinstance(value, str | os.PathLike) or not str(value) or "\0" in str(value):
        raise InputError(f"{name}={shown(value)} must be a path: text, or a pathlib.Path")
    try:
        path = Path(value).expanduser().resolve()
        wrong = path.exists() and not (path.is_dir() if folder else path.is_file())
    except (OSError, RuntimeError) as error:  # a loop of links, no home folder, no right to look
        raise InputError(f"{name}={str(value)!r} must be a path that can be followed: {error}") from None
    if wrong:
        raise InputError(f"{name}={str(value)!r} is no {'folder' if folder else 'regular file'}; give another path")
    return path


def read_seeds(seeds: Any) -> list[int]:
    """Return distinct seeds, at least one; of arrays and tensors too."""
    if hasattr(seeds, "tolist"):
        seeds = seeds.tolist()
    if isinstance(seeds, str) or not isinstance(seeds, Sequence) or not len(seeds):
        raise InputError(f"seeds={shown(seeds)} must be a list of whole numbers, at least one, such as list(range(3))")
    for seed in seeds:
        check_whole("seeds", seed, 0, 2**63 - 1)
    if len(set(seeds)) < len(seeds):
        raise InputError(f"seeds={shown(seeds)} must be distinct")
    return [int(seed) for seed in seeds]


def check_callable(name: str, value: Any, *arguments: str) -> None:
    """Refuse anything that cannot be called with as many arguments as are named here.

    A class counts as a function of no arguments only: `nn.CrossEntropyLoss` was given in place of
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
        return  # a function written in C need not say what it takes
