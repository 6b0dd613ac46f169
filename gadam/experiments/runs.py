"""A run: the unit of expensive computation. A function and a config in, tidy rows out."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """What is computed once and then read: `function(**config)`, on one dataset or none.

    Attributes:
        function: "module:name" of a function that takes the config as keywords and returns rows, a list of flat dicts
            of JSON values. It must depend on nothing but its arguments and the dataset.
        config: JSON values only, every seed and size among them.
        data_hash: identifies the contents of the dataset that the function loads; "" where it loads none.
        label: what a progress line calls it. Not part of what it is.
        together: "module:name" of a function that computes several runs which differ in `seed` alone: it takes `seeds`
            in place of that and returns the rows of each. They must be those of `function` but for rounding; "" if
            there is none. Not part of what it is.
        work: how much there is to compute, in any unit in which runs of this function compare (gradient steps times
            units, rows times trees), for estimating how long it takes; None takes what the config says of sizes. Not
            part of what it is.
    """

    function: str
    config: Mapping[str, Any]
    data_hash: str = ""
    label: str = ""
    work: float | None = None
    together: str = ""

    def identity(self) -> str:
        """Canonical JSON of everything that the rows depend on, but for the code."""
        return json.dumps([self.function, dict(self.config), self.data_hash], sort_keys=True, allow_nan=False)

    def execute(self) -> list[Row]:
        """Call the function."""
        rows: list[Row] = _named(self.function)(**self.config)
        return rows

    def kin(self) -> str:
        """Equal for runs that can be computed together."""
        apart = {name: value for name, value in self.config.items() if name != "seed"}
        return replace(self, function=self.together or self.function, config=apart).identity()


def execute_together(runs: Sequence[Run]) -> list[list[Row]]:
    """The rows of each of several kin runs, computed in one call."""
    config = {name: value for name, value in runs[0].config.items() if name != "seed"}
    rows: list[list[Row]] = _named(runs[0].together)(seeds=[run.config["seed"] for run in runs], **config)
    return rows


def _named(function: str) -> Any:
    module, _, name = function.partition(":")
    return getattr(importlib.import_module(module), name)
