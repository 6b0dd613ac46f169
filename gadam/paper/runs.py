"""A run: the unit of expensive computation. A declared function and a config in, tidy rows out.

A run is named by what it computes: the word that its function declares, the config without what is at its default, the
hash of its data, and the versions of what is computed. Moving a file, renaming a function or adding a setting changes
none of these, so it costs no stored run; a change of results raises a version (tests/test_golden.py holds that).
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any

from gadam.config import RESULTS_VERSION, GadamConfig

Row = dict[str, Any]
Rows = list[Row]
Together = Callable[..., list[Rows]]


class RunFunction:
    """A function whose runs are kept. Made by `run_function`; calling it calls the function.

    Attributes:
        name: the word under which its runs are kept, "mnist/gadam".
        version: raised when the function's rows for the same config change.
        engine: whether it trains with the engine, so that the engine's results version counts too.
        together: computes several runs that differ in `seed` alone: takes `seeds` in its place, and returns the rows of
            each, those of the function but for rounding. None if there is none.
        defaults: the default of each setting, in JSON values.
    """

    def __init__(
        self, compute: Callable[..., Rows], name: str, version: int, engine: bool, settings: type | None,
        together: Together | None,
    ) -> None:  # fmt: skip
        self.name, self.version, self.engine, self.together = name, version, engine, together
        self.defaults = _defaults(compute, settings)
        self._compute = compute
        functools.update_wrapper(self, compute)

    def __call__(self, *args: Any, **config: Any) -> Rows:
        """Compute the rows."""
        return self._compute(*args, **config)

    def __reduce__(self) -> str:
        # Pickled as the name in its module that it replaces, so that a worker process finds it as any function.
        return str(self._compute.__qualname__)


def run_function(
    name: str, *, version: int = 1, engine: bool = True, settings: type | None = GadamConfig,
    together: Together | None = None,
) -> Callable[[Callable[..., Rows]], RunFunction]:  # fmt: skip
    """Declare a function of a module as one whose runs are kept.

    It takes its config as keywords, every seed and size among them, depends on nothing but them and the dataset, and
    returns rows: flat dicts of JSON values.

    Args:
        name: unique, "section/what"; never changed, for stored runs are filed under it.
        version: see `RunFunction`.
        engine: see `RunFunction`; runs without it survive a change of the engine's results.
        settings: the dataclass whose fields its `**settings` are, for their defaults.
        together: see `RunFunction`.
    """

    def declare(compute: Callable[..., Rows]) -> RunFunction:
        known = RUN_FUNCTIONS.get(name)
        if known is not None and known.__module__ != compute.__module__:
            raise TypeError(f"run_function: {name!r} is declared twice, by {known.__module__} and {compute.__module__}")
        RUN_FUNCTIONS[name] = RunFunction(compute, name, version, engine, settings, together)
        return RUN_FUNCTIONS[name]

    return declare


RUN_FUNCTIONS: dict[str, RunFunction] = {}
"""The run functions that the modules imported so far declare, by name."""


def _defaults(function: Callable[..., Any], settings: type | None) -> dict[str, Any]:
    """The settings that may be left out of a config, and their values then, in JSON values."""
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
        label: its name in a progress line. Not part of its identity; nor is what follows.
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
        object.__setattr__(self, "arm", self.arm or self.function.name)

    @property
    def title(self) -> str:
        """Its label, or the function's name."""
        return self.label or self.function.name

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
        """SHA-256 (hex) of the identity: the name under which the run is stored."""
        return key_of(self.identity())

    def execute(self) -> Rows:
        """Call the function."""
        return self.function(**self.config)

    def kin(self) -> str:
        """A key that is equal for runs that differ in their seed alone."""
        identity = self.identity()
        identity["config"].pop("seed", None)
        return key_of(identity)


def key_of(identity: Mapping[str, Any]) -> str:
    """The key of an identity."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True, allow_nan=False).encode()).hexdigest()


def execute(runs: Sequence[Run]) -> list[Rows]:
    """Compute the rows of one run, or of each of several that differ in their seed alone, in one call."""
    if len(runs) == 1:
        return [runs[0].execute()]
    function, config = runs[0].function, {name: value for name, value in runs[0].config.items() if name != "seed"}
    if function.together is None:
        raise TypeError(f"{function.name} computes no runs together")
    return function.together(seeds=[run.config["seed"] for run in runs], **config)


def dataset_config(name: str, data: str) -> tuple[dict[str, str], str]:
    """The part of a config that names a dataset, and the hash of its contents.

    Args:
        name: of the dataset.
        data: "real" is the published files, whose hash is known without having them; "standin"; or "auto", real where
            it can be had.

    Returns:
        {"dataset": name, "data": "real" or "standin"}, and the SHA-256 (hex).

    Raises:
        InputError: there is no such dataset or choice, or the files that are there are damaged.
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
