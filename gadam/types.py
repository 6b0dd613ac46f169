"""Type aliases shared across the package."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

Batch: TypeAlias = tuple[tuple[Tensor, ...], Tensor]
"""Inputs ([n, ...], ...) and targets [n, ...]."""
Rows: TypeAlias = Any
"""What a user gives: a pair (inputs, targets) of tensors, arrays or frames, inputs also a tuple of such; or a map-style
dataset (`torch.utils.data.Dataset`)."""
Tensors: TypeAlias = Mapping[str, Tensor]
"""Of a stack of units: name -> [g, ...]."""
Streams: TypeAlias = Sequence[torch.Generator]
"""A generator for each unit."""
Loss: TypeAlias = Callable[[Any, Tensor], Tensor]
"""(output, targets) -> scalar, a mean over rows."""
Device: TypeAlias = torch.device | str
"""Where a population is trained: "auto", "cpu", "cuda", "cuda:1" or a torch.device."""
Targets = Literal["classes", "values"]
"""What the units predict: "classes", if the targets are whole numbers."""
