"""What an evolution gives: each generation to a `Callback`, and at the end a `Result`, which shows and keeps itself."""

from __future__ import annotations

import base64
import io
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
from torch import Tensor, nn

from gadam.config import GadamConfig, InputError
from gadam.display import html_table
from gadam.ensembles import Average, Ensemble, soup
from gadam.population import Population
from gadam.types import Loss, Targets

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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
        targets: what the units predict: "classes", if the targets were whole numbers, or "values".
    """

    best: nn.Module
    population: Population
    history: pd.DataFrame
    config: GadamConfig
    stopped: str
    gradient_steps: int
    seconds: float
    targets: Targets = "classes"

    def ensemble(self, average: Average | None = None) -> Ensemble:
        """The average prediction of all units of the last generation, as a module.

        Args:
            average: "probabilities" gives probabilities, no logits; "outputs" is for regression; None takes what suits
                `targets`.
        """
        return Ensemble(self.population, average or ("probabilities" if self.targets == "classes" else "outputs"))

    def soup(
        self,
        data: tuple[Tensor | tuple[Tensor, ...], Tensor],
        loss: Loss | None = None,
        *,
        chunk: int = 1_024,
    ) -> nn.Module:
        """One model with the average weights of units that do each other good, see `gadam.ensembles.greedy_soup`.

        Args:
            data: inputs and targets to choose the units by: neither training rows nor those that judge the soup.
            loss: (output, targets) -> scalar, a mean over rows; that of `evolve`. None takes cross-entropy, if
                `targets` are classes.
            chunk: rows that are evaluated at once.

        Returns:
            A module like `best`, in evaluation mode, on the CPU; on `data` it loses at most what the first unit does.

        Raises:
            InputError: no loss is given, and the targets of the training were no classes.
        """
        if loss is None and self.targets == "values":
            raise InputError("soup: loss=None takes cross-entropy, which is for classes; give the loss of the training")
        loss = nn.functional.cross_entropy if loss is None else loss
        return soup(self.population, data, loss, chunk=chunk)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all of it to one file, for `gadam.load_result`; a result that is there is replaced.

        Raises:
            InputError: something else is there.
        """
        from gadam.saving import save

        save(self, path)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Losses by generation, see `gadam.plotting.plot_losses`."""
        from gadam.plotting import plot_losses

        return plot_losses(self.history, ax=ax)

    def plot_family(self, ax: Axes | None = None, unit: int = 0) -> Axes:
        """The family tree of a unit, 0 the best, see `gadam.plotting.plot_family`."""
        from gadam.plotting import plot_family

        return plot_family(self.history, ax=ax, unit=unit)

    def plot_adoption(self, ax: Axes | None = None) -> Axes:
        """The share of children that survived, see `gadam.plotting.plot_adoption`."""
        from gadam.plotting import plot_adoption

        return plot_adoption(self.history, ax=ax)

    def __repr__(self) -> str:
        return (
            f"Result({type(self.best).__name__}, {len(self.population)} units, {self._generations()}, "
            f"best loss {self._best_loss()}, {self.gradient_steps:,} gradient steps, {self.seconds:.1f} s)"
        )

    def _repr_html_(self) -> str:
        """What Jupyter shows: a small table and the losses."""
        table = html_table(
            {
                "model": type(self.best).__name__,
                "units": f"{len(self.population):,}",
                "generations": self._generations(),
                "best loss on the last validation batch": self._best_loss(),
                "gradient steps": f"{self.gradient_steps:,}",
                "seconds": f"{self.seconds:.1f}",
            },
            "Result of an evolution",
        )
        if self.history.empty:  # stopped before the first generation was complete: there is nothing to draw
            return f"<div>{table}</div>"
        alt = f"Loss of every unit in each generation; the lowest of the last is {self._best_loss()}"
        return f'<div>{table}<img alt="{alt}" src="data:image/png;base64,{self._png()}"></div>'

    def _generations(self) -> str:
        complete = self.history["generation"].nunique()
        return f"{complete} of {self.config.generations} (stopped: {self.stopped})"

    def _best_loss(self) -> str:
        if self.history.empty:  # no loss of the initial units is known
            return "–"
        last = self.history[self.history["generation"] == self.history["generation"].max()]
        return f"{last.loc[last['survived'], 'loss_survival'].min():.4g}"

    def _png(self) -> str:
        # Without pyplot, which would keep the figure and might show it a second time.
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5, 3), layout="constrained")
        FigureCanvasAgg(figure)
        self.plot(figure.add_subplot())
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=90)
        return base64.b64encode(file.getvalue()).decode()


class Callback:
    """What may be passed to `evolve`; override what is of interest."""

    def on_start(self, config: GadamConfig, population: Population) -> None:
        """The initial generation is there, untrained."""

    def on_resume(self, history: pd.DataFrame) -> None:
        """It goes on from a checkpoint, which holds these generations; told after `on_start`. See `Result.history`."""

    def on_generation(self, generation: Generation) -> bool | None:
        """A generation is complete. Return True to stop the evolution after it."""

    def on_end(self, result: Result) -> None:
        """The evolution is over."""
