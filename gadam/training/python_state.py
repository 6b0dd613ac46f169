"""Find what a call changes outside of its tensors: counters, caches, generators. A trace would freeze all of it."""

from __future__ import annotations

import dis
import functools
import itertools
import logging
import random
import threading
import types
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gadam.made import closed_over, is_computed
from gadam.runtime import process_lock

MOST_VALUES = 10_000  # a container of more is taken to be data
MOST_IN_ALL = 200_000
DEEPEST = 8
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
SHARED = ("Python's random", "numpy.random")  # the generators that every thread draws from
ATTEMPTS = 4
_SIMPLE = (str, bytes, bool, int, float, complex, type(None))


def changed_by(call: Callable[[], object], module: nn.Module, loss: Any) -> str:
    """Return the name of a Python value that a call of a module and a loss changes; "" if it changes none.

    Another thread may draw from the generators that all share meanwhile, so a call is repeated where these alone moved.
    """
    before = PythonState(module, loss)
    for _ in range(ATTEMPTS):
        call()
        after = PythonState(module, loss)
        name = before.difference(after)
        if name not in SHARED:
            break
        before = after
    return name


class PythonState:
    """The Python values that a call of a module and a loss may read or write, as they are now.

    Of a module its attributes, but neither parameters nor buffers, which training carries; of a function what it
    closes over and the globals that it names; the generators of Python and NumPy.
    """

    def __init__(self, module: nn.Module, loss: Any) -> None:
        """Take a snapshot."""
        with process_lock:  # nobody makes units now, for which both would be seeded
            self._values: dict[str, Any] = {
                SHARED[0]: random.getstate(),
                SHARED[1]: _plain(np.random.get_state(legacy=True)),  # noqa: NPY002
            }
        self._seen: dict[int, Any] = {}  # kept, so that no other object gets the number of one that is gone
        self._walk("loss", loss, 0, tensors=True)
        self._walk(type(module).__name__, module, 0)

    def difference(self, later: PythonState) -> str:
        """Return the name of a value that is another one later; "" if all are the same."""
        for name, value in self._values.items():
            if name in later._values and not _same(value, later._values[name]):
                return name
        return next(iter(later._values.keys() - self._values.keys()), "")

    def _walk(self, name: str, thing: Any, depth: int, *, tensors: bool = False) -> None:
        if isinstance(thing, _SIMPLE):
            self._values[name] = thing
            return
        if id(thing) in self._seen or depth > DEEPEST or len(self._values) > MOST_IN_ALL:
            return
        if isinstance(thing, torch.jit.ScriptModule | logging.Logger | threading.Thread):  # two lead to all there is
            return
        self._seen[id(thing)] = thing
        state_of = next((state_of for kind, state_of in _STATES.items() if isinstance(thing, kind)), None)
        if state_of is not None:
            self._values[name] = state_of(thing)
        elif isinstance(thing, types.BuiltinFunctionType | types.MethodWrapperType):
            self._walk(name, thing.__self__, depth + 1, tensors=tensors)
        elif isinstance(thing, Mapping):
            self._parts(name, thing, depth, tensors)
        elif isinstance(thing, Sequence | Set):
            self._parts(name, dict(enumerate(thing)) if len(thing) <= MOST_VALUES else {}, depth, tensors)
        elif isinstance(thing, nn.Module):
            for path, part in thing.named_modules():
                own = {k: v for k, v in vars(part).items() if k not in _OF_EVERY_MODULE and not is_computed(part, k)}
                if tensors:
                    own |= {**part._parameters, **part._buffers}
                for hooks in (part._forward_pre_hooks, part._forward_hooks, part._backward_hooks):
                    own |= {f"hook {number}": hook for number, hook in hooks.items()}
                self._parts(f"{name}.{path}".rstrip("."), own, depth, tensors)
                self._class(f"{name}.{path}".rstrip("."), type(part), depth)
        elif isinstance(thing, functools.partial):
            self._parts(name, {"func": thing.func, "args": thing.args, **thing.keywords}, depth, tensors)
        elif isinstance(thing, types.MethodType):
            self._walk(name, thing.__self__, depth + 1, tensors=tensors)
            self._code(name, thing.__func__, depth)
        elif isinstance(thing, types.FunctionType):
            self._code(name, thing, depth)
        elif not isinstance(thing, type | types.ModuleType):
            self._parts(name, getattr(thing, "__dict__", {}), depth, tensors)
            self._class(name, type(thing), depth)

    def _parts(self, name: str, parts: Mapping[Any, Any], depth: int, tensors: bool) -> None:
        self._values[f"the number of parts of {name}"] = len(parts)
        if len(parts) <= MOST_VALUES:
            for key, value in list(parts.items()):
                self._walk(f"{name}.{key}", value, depth + 1, tensors=tensors)

    def _class(self, name: str, kind: type, depth: int) -> None:
        """Walk through attributes and methods of a user's class and of those that it inherits from."""
        for each in kind.__mro__:
            if _is_of_a_library(each.__module__) or id(each) in self._seen:
                continue
            self._seen[id(each)] = each
            own = {
                key: value
                for key, value in vars(each).items()
                if key[:2] != "__" and not isinstance(value, property | classmethod | staticmethod | types.FunctionType)
            }
            self._parts(f"{name}'s class {each.__name__}", own, depth, tensors=False)
            for key, value in vars(each).items():
                self._code(f"{name}.{key}", getattr(value, "__func__", value), depth)

    def _code(self, name: str, function: Any, depth: int) -> None:
        """Walk through what a user's function closes over, its defaults, and the globals that it names."""
        if not isinstance(function, types.FunctionType) or _is_of_a_library(function.__module__):
            return
        read: dict[Any, Any] = {**dict(enumerate(function.__defaults__ or ())), **closed_over(function)}
        known = function.__globals__
        read |= {key: known[key] for key in _globals_of(function.__code__) if key in known}
        for key, value in read.items():
            if not isinstance(value, type | types.ModuleType):
                self._walk(f"{name}: {key}", value, depth + 1, tensors=True)


def _globals_of(code: types.CodeType) -> set[str]:
    """Return the globals that a function names, and functions inside it."""
    names = {step.argval for step in dis.get_instructions(code) if step.opname.endswith("_GLOBAL")}
    return names.union(*(_globals_of(part) for part in code.co_consts if isinstance(part, types.CodeType)))


def _is_of_a_library(module: str | None) -> bool:
    return (module or "torch").partition(".")[0] in ("torch", "torchvision", "numpy", "builtins", "gadam")


def _plain(value: Any) -> str:
    """Return a generator's state as text; numpy abbreviates arrays unless they are lists."""
    if isinstance(value, Mapping):
        return str({key: _plain(part) for key, part in value.items()})
    if isinstance(value, tuple):
        return str([_plain(part) for part in value])
    return str(value.tolist() if isinstance(value, np.ndarray) else value)


_STATES: dict[type, Callable[[Any], Any]] = {
    Tensor: lambda tensor: (tensor, tensor._version),
    np.ndarray: lambda array: array.copy() if array.size <= MOST_VALUES else array.shape,
    random.SystemRandom: lambda _: object(),  # it has no state, and equals nothing later: it draws from the system
    random.Random: lambda generator: generator.getstate(),
    np.random.Generator: lambda generator: _plain(generator.bit_generator.state),
    np.random.RandomState: lambda generator: _plain(generator.get_state(legacy=True)),
    torch.Generator: lambda generator: generator.get_state(),
    itertools.count: repr,
}
"""Types that are states themselves -> the value that is kept of one."""


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, tuple) and len(a) == 2 and isinstance(a[0], Tensor):
        # The same tensor must not have been written to; where another has taken its place, as a module does that keeps
        # what it computed, the same call must have given the same.
        (one, version), (other, later) = a, b if isinstance(b, tuple) else (None, 0)
        if one is other:
            return bool(version == later)
        return isinstance(other, Tensor) and one.shape == other.shape and _same(one.detach(), other.detach())
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and bool(((a == b) | (a != a) & (b != b)).all())
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.shape == b.shape and a.tobytes() == b.tobytes()
    return type(a) is type(b) and bool(a == b or (a != a and b != b))
