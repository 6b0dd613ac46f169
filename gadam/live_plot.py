"""`LivePlot` shows an evolution while it goes on, in a notebook or in a terminal."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm

from gadam.config import GadamConfig, InputError
from gadam.display import front_end, side_by_side, to_png
from gadam.plotting import BEST, LEGEND, by_generation, plot_adoption, plot_family, plot_losses
from gadam.population import Population
from gadam.result import Callback, Generation, Result
from gadam.training.batches import call_in_parts
from gadam.training.fit import fit_rows
from gadam.training.inputs import read_rows
from gadam.types import Rows

ROWS = 1_000  # scored at once
VOTE = "#cc78bc"


class LivePlot(Callback):
    """Shows the evolution as it goes: `evolve(..., callbacks=[LivePlot()])`.

    In a notebook pictures that are drawn again after each generation: losses, the family of the fittest unit, adoption
    of children. In a terminal one line for each generation. Where a program executes the notebook, the last ones alone.

    Args:
        test: inputs [n, *features] and targets int64 [n]: scores the accuracy on them of the fittest unit and of the
            vote, the mean of the survivors' softmax, after each generation.

    Raises:
        InputError: an argument cannot be used; whether `test` fits the model is checked when the evolution starts.

    Attributes:
        history: the generations so far.
        scores: a row per generation with the columns generation, best and vote, in [0, 1]; empty without `test`.
    """

    needs_generations = True

    def __init__(self, test: Rows | None = None) -> None:
        self._test = None if test is None else read_rows("test", test, torch.device("cpu"))
        if self._test is not None and self._test[1].is_floating_point():
            raise InputError(f"test: targets are {self._test[1].dtype}, must be whole numbers, the classes of the rows")
        self.history = pd.DataFrame()
        self.scores = pd.DataFrame(columns=["generation", "best", "vote"])
        self._generations = 1
        self._display: Any = None

    def on_start(self, config: GadamConfig, population: Population) -> None:  # noqa: D102
        self.history, self.scores = self.history.iloc[:0], self.scores.iloc[:0]
        self._generations, self._display, self._looks = config.generations, None, front_end()
        if self._test is not None:
            rows = read_rows("test", self._test, next(iter(population.parameters.values())).device)
            self._rows, _ = fit_rows("test", population, rows, cross_entropy)

    def on_resume(self, history: pd.DataFrame) -> None:  # noqa: D102
        self.history = history  # the scores of these generations are not known

    def on_generation(self, generation: Generation) -> None:  # noqa: D102
        frames = [frame for frame in (self.history, generation.history) if len(frame)]
        self.history = pd.concat(frames, ignore_index=True)
        if self._test is not None:
            self.scores.loc[len(self.scores)] = [generation.number, *accuracies(generation.next, *self._rows)]
        self._present()

    def _present(self) -> None:
        if self._looks == "notebook":
            self._redraw()
        elif self._looks == "terminal":
            tqdm.write(self._line())

    def on_end(self, result: Result) -> None:  # noqa: D102
        # In a notebook too where no generation was missing: a checkpoint had them all.
        if self._looks != "terminal" and self._display is None and len(self.history):
            self._redraw()

    def pictures(self) -> dict[str, bytes]:
        """Return pictures of the generations so far, PNGs by title.

        Raises:
            InputError: there are none yet.
        """
        from matplotlib.figure import Figure

        if self.history.empty:
            raise InputError("LivePlot: has seen no generation yet; give it to evolve(..., callbacks=[...]) first")
        names = ["losses", "family", *(["accuracy"] if self._test is not None else []), "adoption"]
        figures = {name: Figure(figsize=(4.6, 3.4)) for name in names}
        axes = {name: figure.add_axes((0.155, 0.145, 0.825, 0.765)) for name, figure in figures.items()}
        plot_losses(self.history, axes["losses"])
        plot_family(self.history, axes["family"])
        plot_adoption(self.history, axes["adoption"])
        if self._test is not None:
            for column, colour, name in (("best", BEST, "the fittest"), ("vote", VOTE, "the vote of all")):
                percent = 100 * self.scores[column]
                axes["accuracy"].plot(self.scores["generation"], percent, color=colour, marker="o", label=name)
            axes["accuracy"].legend(**LEGEND)
            by_generation(axes["accuracy"], self.history, "test accuracy, %", "Right on the test rows")
        # Room for what is to come, so that little moves as it fills; of a long run not for all of it.
        last = min(self._generations, max(10, 2 * int(self.history["generation"].max())))
        for ax in axes.values():
            ax.set_xlim(0.5, last + 0.5)
        return {axes[name].get_title(): to_png(figure, dpi=130) for name, figure in figures.items()}

    def _redraw(self) -> None:
        from IPython.display import HTML, display

        page = HTML(f"{side_by_side(self.pictures())}<p>{self._line()}</p>")
        if self._display is None:
            self._display = display(page, display_id=True)
        else:
            self._display.update(page)

    def _line(self) -> str:
        """Return the last generation in words."""
        number = self.history["generation"].iloc[-1]
        survivors = self.history[(self.history["generation"] == number) & self.history["survived"]]
        text = (
            f"generation {number}/{self._generations}: best loss {survivors['loss_survival'].min():.4g}, "
            f"{(survivors['role'] == 'child').sum()} of {len(survivors)} survivors are children"
        )
        if len(self.scores):
            best, vote = self.scores.iloc[-1][["best", "vote"]]
            text += f", test accuracy {best:.1%} (vote {vote:.1%})"
        return text


@torch.no_grad()
def accuracies(population: Population, inputs: tuple[Tensor, ...], targets: Tensor) -> tuple[float, float]:
    """Return the share of rows that the first unit gets right, and the vote: the mean of all units' softmax."""
    votes = torch.stack([call_in_parts(unit, inputs, ROWS).softmax(1) for unit in population.units()])
    best, vote = (float((vote.argmax(1) == targets).double().mean()) for vote in (votes[0], votes.mean(0)))
    return best, vote
