"""`Result`, `Generation` and `Callback`: the outcome of an evolution, and how to follow one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import Tensor, nn

from gadam import plotting, storage
from gadam.config import GadamConfig, InputError
from gadam.display import html_image, html_table, to_png
from gadam.ensembles import Average, Ensemble, greedy_soup, not_taken
from gadam.population import Population, copy_module, outline, to_entries
from gadam.training.batches import call_in_parts
from gadam.training.fit import as_taken
from gadam.training.inputs import read_tensor
from gadam.types import Loss, Rows, Targets
from gadam.validation import check_whole, read_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KIND, CHECKPOINT = "result", "checkpoint"  # the kinds of files
FACTS = ("stopped", "gradient_steps", "seconds", "targets", "restored")


@dataclass(frozen=True)
class Offspring:
    """Children before their training, and what chose their parents and entries.

    Attributes:
        newborn: the children after crossover and mutation, before training (Section 3.3).
        normalized: [g], the parents' losses in [0, 1].
        probabilities: [g] of Eq. 8.
        pairs: int64 [children, 2], the parents of each child.
        inheritance: [children] of Eq. 10.
        mutation_rates: [children] of Eq. 12.
    """

    newborn: Population
    normalized: Tensor
    probabilities: Tensor
    pairs: Tensor
    inheritance: Tensor
    mutation_rates: Tensor


@dataclass(frozen=True)
class Generation(Offspring):
    """A complete generation, as a callback gets it; with what `Offspring` has.

    Attributes:
        number: k, from 1.
        parents: the trained parents (Section 3.2), g units.
        children: the children after training.
        next: the survivors, fittest first, who form the next generation (Section 3.4).
        survivors: int64 [g], which those are: parents are counted first, then children.
        history: the rows of `Result.history` for this generation.
    """

    number: int
    parents: Population
    children: Population
    next: Population
    survivors: Tensor
    history: pd.DataFrame


@dataclass(frozen=True)
class Result:
    """The outcome of `evolve`.

    Example:
        >>> result.best(inputs), result.ensemble()(inputs), result.soup((inputs, targets))(inputs)
        >>> result.save("first.safetensors")
        >>> gadam.load_result("first.safetensors", make_model).history

    Attributes:
        best: the fittest unit of the last generation, in evaluation mode, on the CPU; with `restore_best` the best one
            ever by the fixed validation rows.
        population: the last generation, fittest first.
        history: tidy, a row per unit per generation, see `evolve`.
        config: the settings.
        stopped: why it ended: "generations" (K reached), "converged" (Eq. 13), "callback", "stop" (asked for) or
            "interrupt" (SIGINT).
        gradient_steps: optimizer steps over all units, parents and children, of the complete generations (and of units
            as they are); and a third of one for each batch of rows that a teacher predicted.
        seconds: wall time.
        targets: "classes" if the targets of the training were classes, and the outputs no probabilities yet; else
            "values" (or labels that are independent).
        restored: whether `best` is one of all generations, by `restore_best`, and perhaps not in `population`.
        teachers: the parents of the last generation, where it was taught and they are not among it (with "half" the
            fitter half of them has taught); else None.
    """

    best: nn.Module
    population: Population
    history: pd.DataFrame
    config: GadamConfig
    stopped: str
    gradient_steps: int
    seconds: float
    targets: Targets = "classes"
    restored: bool = False
    teachers: Population | None = None

    def predict(self, inputs: Any, *, chunk: int = 1_024) -> Tensor:
        """Predict by the best unit: probabilities [n, classes] of classes, else its outputs [n, ...]; on the CPU.

        `inputs` are [n, *features], a tensor, an array or a frame, or a tuple of such, computed `chunk` rows at once.
        """
        check_whole("chunk", chunk, 1)
        given = tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)
        read = [read_tensor("predict", "inputs", each).cpu() for each in given]
        model = copy_module(self.best).cpu().eval()
        try:
            with torch.no_grad():
                output = call_in_parts(model, as_taken(model, read), chunk)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            raise not_taken(self.best, read, error) from error
        classes = self.targets == "classes" and isinstance(output, Tensor) and output.dim() > 1
        return output.softmax(1) if classes else output

    def ensemble(self, average: Average | None = None) -> Ensemble:
        """Return the average prediction of all units of the last generation, as a module; None goes by `targets`.

        Of a generation that was taught and has replaced its teachers, it is the average of these.
        """
        units = self.population if self.teachers is None else self.teachers
        return Ensemble(units, average or ("probabilities" if self.targets == "classes" else "outputs"))

    def soup(self, data: Rows, loss: Loss | None = None, *, chunk: int = 1_024) -> nn.Module:
        """Average the weights of those units that improve the average, see `gadam.ensembles.greedy_soup`.

        `loss` is that of the training; None takes cross-entropy, if `targets` are classes.
        """
        if loss is None and self.targets == "values":
            raise InputError("soup: loss=None takes cross-entropy, which is for classes; give the loss of the training")
        loss = nn.functional.cross_entropy if loss is None else loss
        return greedy_soup(self.population, data, loss, chunk=chunk)[0]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the result to one file, by custom `.safetensors`, for `gadam.load_result`; see `gadam.storage`.

        The folder is made, and a result that is there is replaced; an error or an interruption leaves it as it was.

        Raises:
            InputError: something that is no result is at `path`, or it cannot be written.
        """
        target = read_path("path", path)
        if target.exists():
            try:
                storage.read(target, KIND)
            except InputError as error:
                raise InputError(f"{error}; give another path") from None
        template = self.population.template
        facts = {
            "model": type(template).__name__, "outline": outline(template), "config": self.config.as_json(),
            "history": storage.from_frame(self.history), **{name: getattr(self, name) for name in FACTS},
        }  # fmt: skip
        best = to_entries(Population.stack([self.best], template), "best/") if self.restored else {}
        teachers = to_entries(self.teachers, "teachers/") if self.teachers is not None else {}
        storage.write(target, KIND, facts, to_entries(self.population) | best | teachers)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the losses by generation, see `gadam.plotting.plot_losses`."""
        return plotting.plot_losses(self.history, ax=ax)

    def plot_family(self, ax: Axes | None = None, unit: int = 0) -> Axes:
        """Draw the family tree of a unit, 0 the best, see `gadam.plotting.plot_family`."""
        return plotting.plot_family(self.history, ax=ax, unit=unit)

    def plot_adoption(self, ax: Axes | None = None) -> Axes:
        """Draw the share of children that survived, see `gadam.plotting.plot_adoption`."""
        return plotting.plot_adoption(self.history, ax=ax)

    def plot_rates(self, ax: Axes | None = None) -> Axes:
        """Draw the loss by learning rate, where that is a range, see `gadam.plotting.plot_rates`."""
        return plotting.plot_rates(self.history, ax=ax)

    def __repr__(self) -> str:
        return (
            f"Result({type(self.best).__name__}, {len(self.population)} units, {self._generations()}, "
            f"best loss {self._best_loss()}, {self.gradient_steps:,} gradient steps, {self.seconds:.1f} s)"
        )

    def _repr_html_(self) -> str:
        """Return a small table and the losses, for Jupyter."""
        rows = {
            "model": type(self.best).__name__,
            "units": f"{len(self.population):,}",
            "generations": self._generations(),
            "best loss on the last validation batch": self._best_loss(),
            "gradient steps": f"{self.gradient_steps:,}",
            "seconds": f"{self.seconds:.1f}",
        }
        table = html_table(rows, "Result of an evolution")
        if self.history.empty:  # stopped before the first generation was complete: there is nothing to draw
            return f"<div>{table}</div>"
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5, 3), layout="constrained")  # pyplot would keep it, and might show it again
        self.plot(figure.add_subplot())
        alt = f"Loss of every unit in each generation; the lowest of the last is {self._best_loss()}"
        return f"<div>{table}{html_image(to_png(figure, 90), alt)}</div>"

    def _generations(self) -> str:
        complete = self.history["generation"].nunique()
        return f"{complete} of {self.config.generations} (stopped: {self.stopped})"

    def _best_loss(self) -> str:
        if self.history.empty:  # no loss of the initial units is known
            return "–"
        last = self.history[self.history["generation"] == self.history["generation"].max()]
        return f"{last.loc[last['survived'], 'loss_survival'].min():.4g}"


class Callback:
    """Follows an evolution; override what is of interest, and pass an instance to `evolve`."""

    def on_start(self, config: GadamConfig, population: Population) -> None:
        """Receive the initial generation, untrained."""

    def on_resume(self, history: pd.DataFrame) -> None:
        """Receive the generations that a checkpoint holds, after `on_start`; see `Result.history`."""

    def on_generation(self, generation: Generation) -> bool | None:
        """Receive a complete generation. Return True to stop the evolution after it."""

    def on_end(self, result: Result) -> None:
        """Receive the result."""
