"""The work that every contestant is given: an architecture, rows, initial weights and batches.

Rows are generated, of the shapes of the paper's datasets: the time of a step does not depend on their values. Batches
are those of gadam's own streams: gadam draws them while it is timed, and the others find them ready.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor, nn

from gadam.config import GadamConfig
from gadam.models import MLP_HIDDEN, lenet5, mlp, orl_cnn
from gadam.population import Population
from gadam.randomness import BATCHES, ROLES, stream
from gadam.training.batches import Batches

Weights: TypeAlias = Mapping[str, Tensor]
Ready: TypeAlias = tuple[Callable[[int], Weights], str]

SEED = 0
ROLE, GENERATION = "parent", 1  # whose streams the batches are from


@dataclass(frozen=True)
class Workload:
    """An architecture, the rows it is trained on, and the population sizes that are measured if none are asked for."""

    title: str
    make_model: Callable[[], nn.Module]
    shape: tuple[int, ...]  # of one input
    classes: int
    rows: int
    units: tuple[int, ...] = (1, 10, 100)


def workloads(device: torch.device) -> dict[str, Workload]:
    """Every workload by its name. The CNN for ORL has its full size on a GPU only: on a CPU its step takes seconds."""
    size = (112, 92) if device.type == "cuda" else (28, 23)
    hidden = MLP_HIDDEN["letter"]
    layers = "-".join(map(str, (16, *hidden, 26)))
    faces = partial(orl_cnn, image_size=size)
    return {
        "mlp": Workload(f"MLP {layers} (LETTER)", partial(mlp, 16, 26, hidden), (16,), 26, 16_000),
        "lenet": Workload("LeNet-5 (MNIST)", lenet5, (1, 28, 28), 10, 8_192),
        "orl": Workload(f"CNN for ORL, {size[0]} x {size[1]}", faces, (1, *size), 40, 280, (1, 10)),
    }


@dataclass(frozen=True, eq=False)
class Work:
    """A workload for a population: initial weights, inputs float32 [rows, *shape] and targets int64 [rows]."""

    population: Population
    inputs: Tensor
    targets: Tensor
    batch_size: int

    @property
    def device(self) -> torch.device:
        """Where the rows and the weights are."""
        return self.targets.device

    @functools.cache  # noqa: B019
    def batches(self, steps: int) -> Tensor:
        """Row numbers of the batches, int64 [steps, g, batch_size]; fewer steps have the first ones."""
        words = [(SEED, BATCHES, GENERATION, ROLES[ROLE], unit, 0) for unit in range(len(self.population))]
        states = torch.stack([stream(self.device, *each).get_state() for each in words])
        config = GadamConfig(steps=steps, batch_size=self.batch_size)
        return torch.cat([*Batches(((self.inputs,), self.targets), states, 0, config)])


def make_work(workload: Workload, units: int, device: torch.device, batch_size: int = 128) -> Work:
    """Draw rows and initial weights for a population of `units`."""
    generator = torch.Generator().manual_seed(SEED)
    inputs = torch.rand(workload.rows, *workload.shape, generator=generator)
    targets = torch.randint(workload.classes, (workload.rows,), generator=generator)
    population = Population.make(workload.make_model, units, seed=SEED, device=device)
    return Work(population, inputs.to(device), targets.to(device), batch_size)
