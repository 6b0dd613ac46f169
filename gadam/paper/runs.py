"""A run: the unit of expensive computation. A declared function and a config in, tidy rows out.

A run is named by what it computes: the word that its function declares, the config without what is at its default, the
hash of its data, and the versions of what is computed. Moving a file, renaming a function or adding a setting changes
none of these, so it costs no stored run; a change of results raises a version (tests/test_golden.py holds that).
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import inspect
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from gadam.config import RESULTS_VERSION, GadamConfig

Row = dict[str, Any]


@dataclass(eq=False)
class RunFunction:
    """A function whose runs are kept, made by `run_function`; calling it calls the function.

    `defaults` are those of its settings, in JSON values; `fixed` are arguments that are no part of a config.
    """

    _compute: Callable[..., list[Row]]
    name: str
    version: int
    engine: bool
    defaults: dict[str, Any]
    fixed: dict[str, Any]

    def __post_init__(self) -> None:
        functools.update_wrapper(self, self._compute)

    def __call__(self, *args: Any, **config: Any) -> list[Row]:
        """Compute the rows."""
        return self._compute(*args, **self.fixed, **config)

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickled as its name: a worker process finds it once it has imported the module that declares it.
        return _find_function, (self._compute.__module__, self.name)


RUN_FUNCTIONS: dict[str, RunFunction] = {}
"""The run functions that the modules imported so far declare, by name."""


def run_function(
    name: str, *, version: int = 1, engine: bool = True, settings: type | None = GadamConfig, **fixed: Any
) -> Callable[[Callable[..., list[Row]]], RunFunction]:
    """Declare a function of a module as one whose runs are kept.

    It takes its config as keywords, every seed and size among them, depends on nothing but them and the dataset, and
    returns rows: flat dicts of JSON values.

    Args:
        name: unique, "section/what"; never changed, for stored runs are filed under it.
        version: raised when the rows for the same config change.
        engine: whether it trains with the engine, whose results version counts then, too.
        settings: the dataclass whose fields its `**settings` are, for their defaults.
        fixed: arguments that it has beside its config, so that one function can be declared for each of several
            methods.
    """

    def declare(compute: Callable[..., list[Row]]) -> RunFunction:
        known = RUN_FUNCTIONS.get(name)
        if known is not None and known.__module__ != compute.__module__:
            raise TypeError(f"run_function: {name!r} is declared twice, by {known.__module__} and {compute.__module__}")
        RUN_FUNCTIONS[name] = RunFunction(compute, name, version, engine, _defaults(compute, settings), fixed)
        return RUN_FUNCTIONS[name]

    return declare


def _find_function(module: str, name: str) -> RunFunction:
    importlib.import_module(module)
    return RUN_FUNCTIONS[name]


def _defaults(function: Callable[..., Any], settings: type | None) -> dict[str, Any]:
    """The settings that may be left out of a config, and their values then."""
    parameters = inspect.signature(function).parameters
    found = {name: one.default for name, one in parameters.items() if one.default is not one.empty}
    if settings is not None and any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        more = [one for one in fields(settings) if one.name not in parameters and one.default is not MISSING]
        found |= {one.name: one.default for one in more}
    return dict(_plain(found))


@dataclass(frozen=True)
class Run:
    """A result that is computed once and then read: `function(**config)`, on one dataset or none.

    Attributes:
        function: a declared function, see `run_function`.
        config: JSON values only.
        data_hash: identifies the contents of the dataset that the function loads; "" where it loads none.
        label: its name in a progress line; the function's if not given. Not part of its identity; nor is what follows.
        arm: what it is a repetition of, "yeast/MLP (GADAM)": an arm decides something once all its planned runs are
            there. The function's name if not given.
        priority: runs of a lower number are computed first.
        wide: so long that it gets all cores; its rows do not depend on how many those are (see `threads`).
    """

    function: RunFunction
    config: Mapping[str, Any]
    data_hash: str = ""
    label: str = ""
    arm: str = ""
    priority: int = 0
    wide: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", self.label or self.function.name)
        object.__setattr__(self, "arm", self.arm or self.function.name)

    def identity(self) -> dict[str, Any]:
        """Everything that the rows depend on, in JSON values; settings at their default are left out."""
        config, defaults = _plain(self.config), self.function.defaults
        return {
            "run": self.function.name,
            "config": {name: config[name] for name in sorted(config) if (name, config[name]) not in defaults.items()},
            "data": self.data_hash,
            "version": self.function.version,
            "engine": RESULTS_VERSION if self.function.engine else None,
        }

    @property
    def key(self) -> str:
        """The name under which the run is stored."""
        return digest_of(self.identity())

    def kin(self) -> str:
        """A key that is equal for runs that differ in their seed alone."""
        identity = self.identity()
        identity["config"].pop("seed", None)
        return digest_of(identity)


def digest_of(content: Any) -> str:
    """SHA-256 (hex) of JSON values, whatever the order of names; that of an identity is its key."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()


def arm_runs(
    function: RunFunction, arm: str, seeds: Iterable[int] | None, config: Mapping[str, Any], dataset: str = "",
    data: str = "", *, label: str, priority: int = 0, wide: bool = False,
) -> list[Run]:  # fmt: skip
    """List the runs of an arm, one for each seed, on a dataset or on none; `data` is as for `dataset_config`.

    Without seeds it is a single run of a function that takes none.
    """
    rows, digest = dataset_config(dataset, data) if dataset else ({}, "")
    own = [({}, label)] if seeds is None else [({"seed": seed}, f"{label} · seed {seed}") for seed in seeds]
    return [Run(function, {**rows, **config, **seed}, digest, name, arm, priority, wide) for seed, name in own]


def dataset_config(name: str, data: str) -> tuple[dict[str, str], str]:
    """The part of a config that names a dataset, and the hash (SHA-256, hex) of its contents.

    `data` is "real", whose hash is known without having the files; "standin"; or "auto", real where it can be had. The
    config has "data", "real" or "standin", beside "dataset".
    """
    from gadam.datasets import locate
    from gadam.datasets.registry import source

    if data == "real":
        return {"dataset": name, "data": data}, source(name).hash
    found = locate(name, data=data)  # type: ignore[arg-type]
    return {"dataset": name, "data": found.choice}, found.hash


THREADS_VARIABLE = "GADAM_THREADS"


def threads() -> int:
    """The number of threads that a run that is `wide` may train on, set by what computes it; else one."""
    return int(os.environ.get(THREADS_VARIABLE) or 1)


def _plain(value: Any) -> Any:
    """A value as JSON reads it back: tuples are lists."""
    return json.loads(json.dumps(value, allow_nan=False))
