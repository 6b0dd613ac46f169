"""What an evolution gives: each generation to a `Callback`, and at the end a `Result`, which shows and keeps itself."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from torch import Tensor, nn

from gadam.config import GadamConfig
from gadam.population import Population


@dataclass(frozen=True)
class Generation:
    """One generation taken apart, as a callback sees it. Indices of `survivors` count parents first, then children.

    Attributes:
        number: k, from 1.
        parents: the trained parents (Section 3.2), g units.
        newborn: the children after crossover and mutation, before training (Section 3.3).
        children: the children after training.
        next: the survivors, fittest first, who form the next generation (Section 3.4).
        normalized: [g], the parents' losses in [0, 1].
        probabilities: [g] of Eq. 8.
        pairs: int64 [g, 2], the parents of each child.
        inheritance: [g] of Eq. 10.
        mutation_rates: [g] of Eq. 12.
        survivors: int64 [g].
        history: the rows of `Result.history` for this generation.
    """

    number: int
    parents: Population
    newborn: Population
    children: Population
    next: Population
    normalized: Tensor
    probabilities: Tensor
    pairs: Tensor
    inheritance: Tensor
    mutation_rates: Tensor
    survivors: Tensor
    history: pd.DataFrame


@dataclass(frozen=True)
class Result:
    """What `evolve` returns.

    Attributes:
        best: the fittest unit of the last generation, in evaluation mode, on the CPU.
        population: the last generation, fittest first.
        history: tidy, a row per unit per generation, see `evolve`.
        config: the settings.
        stopped: why it ended: "generations" (K reached), "converged" (Eq. 13), "callback" or "stop" (asked for).
        gradient_steps: optimizer steps over all units, parents and children.
        seconds: wall time.
    """

    best: nn.Module
    population: Population
    history: pd.DataFrame
    config: GadamConfig
    stopped: str
    gradient_steps: int
    seconds: float


class Callback:
    """What may be passed to `evolve`; override what is of interest."""

    def on_start(self, config: GadamConfig, population: Population) -> None:
        """The initial generation is there, untrained."""

    def on_generation(self, generation: Generation) -> bool | None:
        """A generation is complete. Return True to stop the evolution after it."""

    def on_end(self, result: Result) -> None:
        """The evolution is over."""
