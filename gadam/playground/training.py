"""Choose data, model and settings, and watch a population train and evolve; Run and Stop."""

from __future__ import annotations

import math
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from html import escape
from typing import Any, NamedTuple

import ipywidgets  # type: ignore[import-untyped]
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import nn

from gadam.config import GadamConfig, InputError
from gadam.datasets import Dataset, StandInWarning, load
from gadam.display import duration, front_end, side_by_side, to_png
from gadam.evolution.loop import evolve
from gadam.live_plot import LivePlot
from gadam.models import MLP_HIDDEN, lenet5, mlp
from gadam.paper.units import validation_size
from gadam.playground.widgets import AMBER, Panel, grid, line, red_line
from gadam.plotting import LEGEND
from gadam.result import Generation, Result
from gadam.training.shards import Step
from gadam.validation import check_choice, check_whole

DATASETS = ("digits", "yeast", "adult", "letter", "mnist")
MLP, LENET = "MLP", "LeNet-5"
SIZES = {
    "smoke": {"population_size": 6, "generations": 5, "steps": 40},
    "quick": {"population_size": 10, "generations": 10, "steps": 200},
    "standard": {"population_size": 10, "generations": 10, "steps": 500},
    "paper": {"population_size": 10, "generations": 20, "steps": 1_000},
}
TEST_ROWS = 2_000  # scored after each generation
# More would fill the memory, or take long to prepare or to stop.
LIMITS = {"population_size": (2, 200), "batch_size": (1, 10_000)}
KEPT = 5  # runs that can be compared
_LOOKS = 0.2  # seconds between two moves of the bar
_made: TrainingPanel | None = None  # the last of `training_panel`


def training_panel(profile: str = "smoke", data: str = "auto") -> TrainingPanel:
    """Make a panel to train with. Where there is no front end, what its Run button does is done here, once.

    The one that this made before, which a cell that is executed again replaces, stops: no button would.

    Args:
        profile: smoke, quick, standard or paper: the sizes that the panel starts with.
        data: real, standin, or auto: real where it can be had.
    """
    global _made
    panel = TrainingPanel(profile, data)
    if _made is not None:
        _made.stop()
    _made = panel
    if front_end() != "notebook":
        panel.run()
        panel.wait()
        if panel.result is None:
            raise InputError(f"training_panel: {panel.error}")
    return panel


class TrainingPanel(Panel):
    """The widgets, and the thread that trains.

    Attributes:
        controls: the widgets of the settings, by name.
        runs: the last five that completed a generation, for comparison.
        result: what `gadam.evolve` returned; None before the first training, while one goes on, and after one that
            failed. A run that does not come so far, as with a setting that is not allowed, leaves the one before.
        error: what went wrong in the last run; empty where nothing did.
    """

    def __init__(self, profile: str = "smoke", data: str = "auto") -> None:
        check_choice("profile", profile, SIZES)
        check_choice("data", data, ("auto", "real", "standin"))
        super().__init__()
        self.result: Result | None = None
        self.error = ""
        self._data, self._stop = data, threading.Event()
        self._thread: threading.Thread | None = None
        self.controls = _controls(profile)
        self.controls["dataset"].observe(self._offer_models, "value")
        self.run_button = ipywidgets.Button(description="Run", icon="play", button_style="success")
        self.stop_button = ipywidgets.Button(description="Stop", icon="stop", disabled=True)
        self.run_button.on_click(self.run)
        self.stop_button.on_click(self.stop)
        self.bar, self.left = ipywidgets.IntProgress(layout={"width": "16em"}), ipywidgets.HTML()
        self.runs: list[PastRun] = []
        self.past = ipywidgets.HTML(layout={"width": "100%"})
        self.about, self.status = ipywidgets.HTML(), ipywidgets.HTML(line("Press Run."))
        row = [self.run_button, self.stop_button, self.bar, self.left]
        buttons = ipywidgets.HBox(row, layout={"flex_flow": "row wrap"})
        self.children = (grid(*self.controls.values()), buttons, self.status, self.about, self.picture, self.past)

    @property
    def running(self) -> bool:
        """Whether a training goes on."""
        return self._thread is not None and self._thread.is_alive()

    def run(self, _: Any = None) -> None:
        """Train with the settings as they are, in a thread of its own; does nothing while a training goes on."""
        if self.running:
            return
        self.error, self._stop = "", threading.Event()
        settings = {name: control.value for name, control in self.controls.items()}
        chosen = settings.pop("dataset"), settings.pop("model")
        try:
            config = GadamConfig(**settings)
            for name, limits in LIMITS.items():
                check_whole(self.controls[name].description, settings[name], *limits)
        except InputError as error:
            self.error, self.status.value = str(error), red_line(error)
            return
        self.run_button.disabled, self.stop_button.disabled = True, False
        self._thread = threading.Thread(target=self._run, args=(*chosen, config), name="gadam-playground", daemon=True)
        self._thread.start()

    def stop(self, _: Any = None) -> None:
        """End the training within its current steps; `result` is then that of the generations that were complete."""
        if self.running:
            self.status.value = line("Stopping …")  # before it may be over, which says more
            self._stop.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until no training goes on; False if one still does after so many seconds."""
        if self._thread is not None:
            self._thread.join(seconds)
        return not self.running

    def _run(self, dataset: str, model: str, config: GadamConfig) -> None:
        """The thread: whatever goes wrong is said in the panel."""
        try:
            self.status.value = line(self._train(dataset, model, config))
        except Exception as error:
            self.error = str(error) or type(error).__name__
            self.status.value = red_line(error)
        finally:
            self.left.value = ""
            self.run_button.disabled, self.stop_button.disabled = False, True

    def _train(self, dataset: str, model: str, config: GadamConfig) -> str:
        """Train, and return what to say in the end."""
        self.status.value = line(f"Loading {dataset} …")
        loaded, missing = load_dataset(dataset, self._data)
        if self._stop.is_set():
            self.error = "stopped before the training began"
            return f"Stopped before the training began; there is no result of {dataset}."
        self.result, self.picture.value, self.bar.value = None, "", 0
        self.about.value = line(_describe(loaded, model)) + (line(missing, AMBER) if missing else "")
        config = replace(config, validation_size=validation_size(loaded))
        self.bar.max = 2 * config.generations * config.steps * config.population_size
        self.status.value = line("Preparing the first step, which can take some seconds …")
        watch = _Watch(self, loaded, config.generations)
        self.result = evolve(
            make_model(model, loaded), loaded.train, config, callbacks=[watch], record=watch.on_step, progress=False,
            stop=self._stop,
        )  # fmt: skip
        if len(watch.scores):
            self.runs = [*self.runs, PastRun(dataset, model, self._data, self.result, watch.scores)][-KEPT:]
            self.past.value = describe_runs(self.runs)
        return _outcome(self.result)

    def _offer_models(self, change: Any) -> None:
        self.controls["model"].options = [MLP, LENET] if change["new"] == "mnist" else [MLP]


class _Watch(LivePlot):
    """Moves a panel's bar by the steps of all units; says which generation goes on; shows pictures after each."""

    def __init__(self, panel: TrainingPanel, dataset: Dataset, generations: int) -> None:
        super().__init__((dataset.test[0][:TEST_ROWS], dataset.test[1][:TEST_ROWS]))
        self._panel, self._of = panel, generations
        self._done, self._moved, self._lock = 0, 0.0, threading.Lock()
        self._began = math.nan  # at the first step

    def on_step(self, step: Step) -> None:
        with self._lock:  # shards are trained side by side
            if not self._done:  # before it, units are made and traced
                self._say(1)
                self._began = time.monotonic()
            self._done += len(step.units)
            if time.monotonic() - self._moved > _LOOKS or self._done == self._panel.bar.max:
                self._panel.bar.value, self._moved = self._done, time.monotonic()
                left = (self._moved - self._began) * (self._panel.bar.max / self._done - 1)
                self._panel.left.value = line(f"about {duration(left)} left") if left > 1 else ""

    def on_generation(self, generation: Generation) -> None:
        super().on_generation(generation)
        self._say(generation.number + 1)

    def _say(self, number: int) -> None:
        if number <= self._of and not self._panel._stop.is_set():
            self._panel.status.value = line(f"Generation {number} of {self._of} …")

    def _present(self) -> None:
        self._panel.picture.value = side_by_side(self.pictures())

    def on_end(self, result: Result) -> None:
        """All pictures have been shown."""


class PastRun(NamedTuple):
    """A training that is over, as it was asked for, with the test accuracies after each generation."""

    dataset: str
    model: str
    data: str
    result: Result
    scores: pd.DataFrame

    def code(self) -> str:
        """Return five lines that train the same."""
        default = GadamConfig()
        changed = {name: value for name, value in vars(self.result.config).items() if value != getattr(default, name)}
        settings = ", ".join(f"{name}={value!r}" for name, value in changed.items())
        return (
            "import gadam\nfrom gadam.playground.training import load_dataset, make_model\n"
            f"data, _ = load_dataset({self.dataset!r}, {self.data!r})\n"
            f"config = gadam.GadamConfig({settings})\n"
            f"result = gadam.evolve(make_model({self.model!r}, data), data.train, config)"
        )


def describe_runs(runs: Sequence[PastRun]) -> str:
    """Return HTML: a row for each run with what differs, a picture of all, and the last one as code."""
    configs = [vars(one.result.config) for one in runs]
    varied = [name for name in configs[0] if len({repr(config[name]) for config in configs}) > 1]
    rows = [
        {
            "run": number, "data": one.dataset, "model": one.model, **{name: config[name] for name in varied},
            "generations": len(one.scores), "gradient steps": f"{one.result.gradient_steps:,}",
            "test accuracy, %": f"{100 * one.scores['best'].iloc[-1]:.1f}",
            "vote of all, %": f"{100 * one.scores['vote'].iloc[-1]:.1f}", "seconds": f"{one.result.seconds:.1f}",
        }
        for number, (one, config) in enumerate(zip(runs, configs, strict=True), start=1)
    ]  # fmt: skip
    html = pd.DataFrame(rows).to_html(index=False, border=0)
    if len(runs) > 1:
        figure = Figure(figsize=(4.6, 3.0), layout="constrained")
        ax = figure.add_subplot()
        for place, one in enumerate(runs, start=1):
            ax.plot(one.scores["generation"], 100 * one.scores["best"], marker="o", label=f"run {place}: {one.dataset}")
        ax.set(xlabel="generation", ylabel="test accuracy of the fittest, %", title="The last runs")
        ax.legend(**LEGEND)
        html += side_by_side({"Test accuracy of the last runs by generation": to_png(figure, dpi=130)})
    return f"{line('The last runs; the last one as code:')}{html}<pre>{escape(runs[-1].code())}</pre>"


@lru_cache(maxsize=2)
def load_dataset(name: str, data: Any) -> tuple[Dataset, str]:
    """Load a dataset; with it, if it is a stand-in, what to say of that. `digits` are the images of scikit-learn."""
    if name == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        inputs = torch.tensor(digits.images[:, None], dtype=torch.float32)
        targets, train = torch.tensor(digits.target, dtype=torch.int64), slice(1_437)
        inputs = (inputs - inputs[train].mean()) / inputs[train].std()
        parts = (inputs[train], targets[train]), (inputs[1_437:], targets[1_437:])
        return Dataset(name, "real", "", *parts, tuple(map(str, digits.target_names))), ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", StandInWarning)
        loaded = load(name, data=data)
    if loaded.source == "real":
        return loaded, ""
    said = [str(one.message) for one in caught if issubclass(one.category, StandInWarning)]
    asked = f"STAND-IN DATA for {name}, as asked for: nothing here may be compared with the paper."
    return loaded, said[0] if said else asked


def make_model(model: str, dataset: Dataset) -> Callable[[], nn.Module]:
    """Return what `evolve` makes units with: LeNet-5, or an MLP with the paper's hidden layers."""
    if model == LENET:
        return lenet5
    features = math.prod(dataset.feature_shape)
    return lambda: nn.Sequential(nn.Flatten(), mlp(features, dataset.class_count, _hidden(dataset)))


def _hidden(dataset: Dataset) -> tuple[int, ...]:
    return MLP_HIDDEN.get(dataset.name, MLP_HIDDEN["letter"])  # images have those of LETTER


def _controls(profile: str) -> dict[str, Any]:
    """Make the widgets of the settings. Numbers are typed, so that `GadamConfig` is what says no to them."""
    sizes, default = SIZES[profile], GadamConfig()
    number, real, choice = ipywidgets.IntText, ipywidgets.FloatText, ipywidgets.Dropdown
    return {
        "dataset": choice(options=DATASETS, description="dataset"),
        "model": choice(options=[MLP], description="model"),
        "population_size": number(sizes["population_size"], description="population g"),
        "generations": number(sizes["generations"], description="generations K"),
        "steps": number(sizes["steps"], description="steps"),
        "batch_size": number(default.batch_size, description="batch size"),
        "learning_rate": real(default.learning_rate, description="learning rate", step=0.001),
        "mutation_rate": real(default.mutation_rate, description="mutation rate p", step=0.01),
        "mutation": choice(options=["uniform", "normal"], description="mutation"),
        "moments": choice(options=["fresh", "carry"], description="Adam's moments"),
        "seed": number(0, description="seed"),
    }


def _describe(dataset: Dataset, model: str) -> str:
    rows = f"{len(dataset.train[1]):,} rows to train with, {min(TEST_ROWS, len(dataset.test[1])):,} to test with"
    layers = f" {'-'.join(map(str, _hidden(dataset)))}" if model == MLP else ""
    return f"{dataset.name}: {rows}, {dataset.class_count} classes; {model}{layers}."


def _outcome(result: Result) -> str:
    done = result.history["generation"].nunique()
    after = f"{done} of {result.config.generations} generations, {result.seconds:.1f} s"
    if result.stopped != "stop":
        return f"{'Converged' if result.stopped == 'converged' else 'Done'}: {after}."
    if done:
        return f"Stopped after {after}; the result is that of the last complete generation."
    return "Stopped before the first generation was complete: the result holds the initial units, untrained."
