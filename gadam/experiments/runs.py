"""A run: the unit of expensive computation. A function and a config in, tidy rows out."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Run:
    """What is computed once and then read: `function(**config)`, on one dataset or none.

    Attributes:
        function: "module:name" of a function that takes the config as keywords and returns rows, a list of flat dicts
            of JSON values. It must depend on nothing but its arguments and the dataset.
        config: JSON values only, every seed and size among them.
        data_hash: identifies the contents of the dataset that the function loads; "" where it loads none.
        label: what a progress line calls it. Not part of what it is.
        work: how much there is to compute, in any unit in which runs of this function compare (gradient steps times
            units, rows times trees), for estimating how long it takes; None takes what the config says of sizes. Not
            part of what it is.
    """

    function: str
    config: Mapping[str, Any]
    data_hash: str = ""
    label: str = ""
    work: float | None = None

    def identity(self) -> str:
        """Canonical JSON of everything that the rows depend on, but for the code."""
        return json.dumps([self.function, dict(self.config), self.data_hash], sort_keys=True, allow_nan=False)

    def execute(self) -> list[dict[str, Any]]:
        """Call the function."""
        module, _, name = self.function.partition(":")
        rows: list[dict[str, Any]] = getattr(importlib.import_module(module), name)(**self.config)
        return rows
