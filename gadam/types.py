"""Type aliases shared across the package."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

Batch: TypeAlias = tuple[tuple[Tensor, ...], Tensor]
"""Rows as the engine takes them: a tuple of inputs, [n, ...] each, and targets [n, ...]."""
Rows: TypeAlias = Any
"""Rows as users give them: a pair (inputs, targets) of tensors, arrays or frames, inputs also a tuple of such; or a
map-style dataset (`torch.utils.data.Dataset`)."""
Tensors: TypeAlias = Mapping[str, Tensor]
"""Tensors of stacked units by name, [g, ...] each; without g where there is one unit."""
Streams: TypeAlias = Sequence[torch.Generator]
"""A generator for each unit."""
MakeModel: TypeAlias = Callable[[], nn.Module]
"""Returns a new module at each call."""
Loss: TypeAlias = Callable[[Any, Tensor], Tensor]
"""(output, targets) -> scalar, a mean over rows."""
Device: TypeAlias = torch.device | str
"""Device to train on: "auto", "cpu", "cuda", "cuda:1" or a torch.device."""
Targets = Literal["classes", "values"]
"""Kind of prediction: "classes" (their logits or log-probabilities), else "values"; see `training.fit.targets_of`."""
