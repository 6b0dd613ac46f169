"""`LivePlot`: an evolution to look at while it goes on, in a notebook or in a terminal."""

from __future__ import annotations

import base64
import io
import sys
from collections.abc import Callable, Mapping
from html import escape
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from gadam.config import GadamConfig, InputError
from gadam.plotting import BEST, by_generation, plot_adoption, plot_family, plot_losses
from gadam.population import Population
from gadam.result import Callback, Generation, Result
from gadam.training.inputs import check_batch
from gadam.validation import check_callable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROWS = 1_000  # scored at once
VOTE = "#cc78bc"


def front_end() -> Literal["terminal", "batch", "notebook"]:
    """Who looks at what is displayed: a terminal or a script, a notebook that a program executes, or a person's.

    What executes a notebook for nobody (papermill, nbconvert, nbval) says that nobody there can be asked for input.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    kernel = getattr(shell, "kernel", None)
    if kernel is None:
        return "terminal"
    message = kernel.get_parent("shell").get("content", {})
    return "notebook" if message.get("allow_stdin", True) else "batch"  # what a widget sends does not say


def side_by_side(pictures: Mapping[str, bytes]) -> str:
    """HTML of PNGs by what they show: two in a row where the letters in them stay legible so, else one."""
    images = (
        f'<img alt="{escape(alt)}" style="flex:1 1 400px; min-width:0; max-width:min(100%, 600px); height:auto" '
        f'src="data:image/png;base64,{base64.b64encode(png).decode()}">'
        for alt, png in pictures.items()
    )
    style = "display:flex; flex-wrap:wrap; align-items:flex-start; max-width:1190px"
    return f'<div style="{style}">{"".join(images)}</div>'


class LivePlot(Callback):
    """Shows the evolution as it goes: `evolve(..., callbacks=[LivePlot()])`.

    In a notebook pictures that are drawn again after each generation: losses, the family of the fittest unit, adoption
    of children. In a terminal one line for each generation. Where a program executes the notebook, the last ones alone.

    Args:
        test: inputs [n, *features] and targets int64 [n]: scores the accuracy on them of the fittest unit and of the
            vote, the mean of the survivors' softmax, after each generation.
        show: takes each figure as PNG instead; called in the thread of `evolve`.

    Raises:
        InputError: an argument cannot be used; whether `test` fits the model is seen when the evolution starts.

    Attributes:
        history: the generations so far.
        scores: a row per generation with the columns generation, best and vote, in [0, 1]; empty without `test`.
    """

    def __init__(
        self,
        test: tuple[Tensor | tuple[Tensor, ...], Tensor] | None = None,
        *,
        show: Callable[[bytes], None] | None = None,
    ) -> None:
        if test is not None:
            check_batch("test", test, torch.device("cpu"))
        if show is not None:
            check_callable("show", show, "png")
        self.history = pd.DataFrame()
        self.scores = pd.DataFrame(columns=["generation", "best", "vote"])
        self._test, self._show = test, show
        self._generations = 1
        self._display: Any = None

    def on_start(self, config: GadamConfig, population: Population) -> None:  # noqa: D102
        self.history, self.scores = self.history.iloc[:0], self.scores.iloc[:0]
        self._generations, self._display = config.generations, None
        self._looks = front_end()
        if self._test is not None:
            device = next(iter(population.parameters.values())).device
            self._rows = check_batch("test", self._test, device)
            try:
                output = population.unit(0)(*(each[:1] for each in self._rows[0]))
            except Exception as error:
                reason = str(error).partition("\n")[0]
                raise InputError(f"test: the model could not take these inputs: {reason}") from error
            classes = isinstance(output, Tensor) and output.dim() == 2 and output.shape[1] > 1
            if not classes or self._rows[1].dim() != 1:
                raise InputError("test: scored by accuracy, so the model must return [n, classes], targets be [n]")
            low, high = (int(end) for end in self._rows[1].aminmax())
            if low < 0 or high >= output.shape[1]:
                raise InputError(
                    f"test: targets range from {low} to {high}, must lie in 0 to {output.shape[1] - 1} for a model "
                    f"with {output.shape[1]} outputs"
                )

    def on_resume(self, history: pd.DataFrame) -> None:  # noqa: D102
        self.history = history  # what was right on the test rows is not known of them

    def on_generation(self, generation: Generation) -> None:  # noqa: D102
        frames = [frame for frame in (self.history, generation.history) if len(frame)]
        self.history = pd.concat(frames, ignore_index=True)
        if self._test is not None:
            self.scores.loc[len(self.scores)] = [generation.number, *accuracies(generation.next, *self._rows)]
        self._present()

    def _present(self) -> None:
        if self._show is not None:
            self._show(self.png())
        elif self._looks == "notebook":
            self._redraw()
        elif self._looks == "terminal":
            tqdm.write(self._line())

    def on_end(self, result: Result) -> None:  # noqa: D102
        # In a notebook too where no generation was missing: a checkpoint had them all.
        if self._show is None and self._looks != "terminal" and self._display is None and len(self.history):
            self._redraw()

    def figure(self) -> Figure:
        """The figure of the generations so far, which pyplot does not know of.

        Raises:
            InputError: there are none yet.
        """
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10, 6.8))
        figure.subplots_adjust(left=0.08, right=0.985, bottom=0.075, top=0.955, wspace=0.19, hspace=0.33)
        below = "losses" if self._test is None else "accuracy"
        self._draw(figure.subplot_mosaic([["losses", "family"], [below, "adoption"]]))
        return figure

    def png(self) -> bytes:
        """The figure of the generations so far, as a file."""
        return _png(self.figure(), dpi=110)

    def pictures(self) -> dict[str, bytes]:
        """The parts of the figure, each as a file, by title: legible where the whole would be too small.

        Raises:
            InputError: there are no generations yet.
        """
        from matplotlib.figure import Figure

        names = ["losses", "family", *(["accuracy"] if self._test is not None else []), "adoption"]
        figures = {name: Figure(figsize=(4.6, 3.4)) for name in names}
        axes = {name: figure.add_axes((0.155, 0.145, 0.825, 0.765)) for name, figure in figures.items()}
        self._draw(axes)
        return {axes[name].get_title(): _png(figure, dpi=130) for name, figure in figures.items()}

    def _draw(self, axes: Mapping[str, Axes]) -> None:
        if self.history.empty:
            raise InputError(
                "LivePlot: has seen no generation yet; give it to gadam.evolve(..., callbacks=[...]) first"
            )
        plot_losses(self.history, axes["losses"])
        plot_family(self.history, axes["family"])
        plot_adoption(self.history, axes["adoption"])
        if self._test is not None:
            for column, colour, name in (("best", BEST, "the fittest"), ("vote", VOTE, "the vote of all")):
                values = 100 * self.scores[column]
                axes["accuracy"].plot(self.scores["generation"], values, color=colour, marker="o", label=name)
            axes["accuracy"].legend(fontsize=8, framealpha=0.8)
            by_generation(axes["accuracy"], self.history, "test accuracy, %", "Right on the test rows")
        # Room for what is to come, so that little moves as it fills; of a long run not for all of it.
        last = min(self._generations, max(10, 2 * int(self.history["generation"].max())))
        for ax in axes.values():
            ax.set_xlim(0.5, last + 0.5)

    def _redraw(self) -> None:
        from IPython.display import HTML, display

        page = HTML(f"{side_by_side(self.pictures())}<p>{self._line()}</p>")
        if self._display is None:
            self._display = display(page, display_id=True)
        else:
            self._display.update(page)

    def _line(self) -> str:
        """The last generation in words."""
        number = self.history["generation"].iloc[-1]
        survivors = self.history[(self.history["generation"] == number) & self.history["survived"]]
        children = (survivors["role"] == "child").sum()
        text = f"generation {number}/{self._generations}: best loss {survivors['loss_survival'].min():.4g}, "
        text += f"{children} of {len(survivors)} survivors are children"
        if len(self.scores):
            best, vote = self.scores.iloc[-1][["best", "vote"]]
            text += f", test accuracy {best:.1%} (vote {vote:.1%})"
        return text


def _png(figure: Figure, dpi: int) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


@torch.no_grad()
def accuracies(population: Population, inputs: tuple[Tensor, ...], targets: Tensor) -> tuple[float, float]:
    """Share of rows that the first unit gets right, and the vote: the mean of all units' softmax.

    Args:
        population: units whose output is logits [n, classes].
        inputs: each [n, *features], on the population's device.
        targets: int64 [n].
    """
    units = list(population.units())
    right = torch.zeros(2, dtype=torch.int64, device=targets.device)
    for rows in torch.arange(len(targets), device=targets.device).split(ROWS):
        votes = torch.stack([unit(*(each[rows] for each in inputs)).softmax(1) for unit in units])
        guesses = torch.stack([votes[0], votes.mean(0)]).argmax(2)
        right += (guesses == targets[rows]).sum(1)
    best, vote = (right.double() / len(targets)).tolist()
    return best, vote
