"""What a fitted estimator puts behind its units: their mean, and for a regressor the units of y."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn


class Mean(nn.Module):
    """The mean of what units predict, one after another: to the last bit the same at each call, unlike `Ensemble`."""

    def __init__(self, units: Iterable[nn.Module]) -> None:
        super().__init__()
        self.units = nn.ModuleList(units)

    def forward(self, inputs: Tensor) -> Tensor:
        """[n, features] -> [n, outputs]."""
        return torch.stack([unit(inputs) for unit in self.units]).mean(0)


class Rescale(nn.Module):
    """From standardised targets [n, outputs] back to the units of y, in float64.

    Beside a mean of 1e9 float32 would have no room for what varies.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: np.ndarray, deviation: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(mean))
        self.register_buffer("deviation", torch.from_numpy(deviation))

    def forward(self, outputs: Tensor) -> Tensor:
        """[n, outputs], as it is -> the same in float64."""
        return outputs.double() * self.deviation + self.mean
