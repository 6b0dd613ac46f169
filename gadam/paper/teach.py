"""Beyond the paper: does a population that teaches one network beat the same steps spent otherwise?

Every method returns one network for the same number of optimizer steps over all its units, forward passes of teachers
among them; a tenth of the training rows is held out, and chooses. What a method leaves open (a rate, a decay) is
searched for on development seeds (`search`, `chosen`), with as many trials each. `gadam.teach` is asked as it is.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

import gadam
from gadam.config import GadamConfig
from gadam.datasets import Dataset, load
from gadam.ensembles import Ensemble
from gadam.evolution.teach import TEACH, TEACHER_SHARE
from gadam.models import lenet5
from gadam.paper import comparison, drawing, mnist, section54, section54_orl, seeds_of, statistics
from gadam.paper.claims import Arms
from gadam.paper.comparison import Cell, Column
from gadam.paper.drawing import BLUE, BROWN, GREEN, GREY, ORANGE, PINK, RED
from gadam.paper.runs import Row, Run, arm_runs, run_function, threads
from gadam.paper.statistics import LEVEL, accuracy_interval, mean_interval, p_values, partial_conjunction
from gadam.paper.units import Part, cross_entropy, first, held_out, outputs_of, scorer, where, whole
from gadam.paper.verdicts import better_or_worse, margin_of
from gadam.population import Population
from gadam.training.shards import Step

RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
TAUGHT, LONG, LONG_DRAWN, BEST, BEST_DRAWN, GADAM = (
    "teach", "long run, tuned", "long run, drawn rate", "best of ten, tuned", "best of ten, drawn rates", "GADAM, tuned"
)  # fmt: skip
LONG_CONSTANT, BEST_CONSTANT, ALONE, TAUGHT_CHOSEN = (
    "long run, constant rate, tuned", "best of ten, constant rate, tuned", "self-distillation, tuned", "teach, tuned",
)  # fmt: skip
LONG_ALL = "long run, tuned, on all rows"
"""The tuned long run without a held-out tenth, which it needs no more once its rate and decay are found."""
VOTES = {"vote of teach's eight": (TAUGHT, 8), "vote of the half that taught": (TAUGHT, 4), "vote of ten": (BEST, 10)}
"""Votes, of which method's units, and of how many of them: the best by held-out rows."""
_LONG: dict[str, Any] = {"by": "train", "population_size": 1, "schedule": "cosine", "average": 0.01}
_TEACH: dict[str, Any] = {"by": "teach", "teacher_share": TEACHER_SHARE, **TEACH}
_DRAWN: dict[str, Any] = {"learning_rate": TEACH["learning_rate"], "weight_decay": TEACH["weight_decay"]}
METHODS: dict[str, dict[str, Any]] = {
    TAUGHT: _TEACH,
    TAUGHT_CHOSEN: _TEACH,
    ALONE: _TEACH | {"teacher_share": 0.5, "population_size": 1},
    LONG: _LONG,
    LONG_DRAWN: _LONG | _DRAWN,
    LONG_ALL: _LONG | {"all_rows": True},
    **{f"long run at {rate:g}": _LONG | _DRAWN | {"learning_rate": rate} for rate in RATES},
    LONG_CONSTANT: {"by": "looks", "population_size": 1},
    BEST: _LONG | {"population_size": 10},
    BEST_DRAWN: _LONG | _DRAWN | {"population_size": 10},
    BEST_CONSTANT: {"by": "train", "population_size": 10},
    GADAM: {"by": "evolve", "population_size": 10},
}  # fmt: skip
"""How each spends its steps: `by`, and settings of `GadamConfig`."""
TUNED = tuple(name for name in METHODS if name.endswith("tuned"))
CURVES = {TAUGHT: RED, TAUGHT_CHOSEN: PINK, LONG: BLUE, LONG_DRAWN: GREY, BEST: GREEN, BEST_DRAWN: BROWN, GADAM: ORANGE}
"""Methods that are trained at every total, and their colours; the others at the primary total only."""
IMAGES = (TAUGHT, LONG, LONG_DRAWN, BEST)
"""Methods on MNIST and ORL."""
FACES = {"images": 7, "shrink": 4}
CLAIMS = {
    LONG_DRAWN: ("better", "Better than one long run whose learning rate is drawn as well"),
    LONG: ("not worse", "Not worse than one long run whose rate and decay were searched for"),
}
NOT_COMPUTED = "undecided (not computed)"
LOOKS = 40
SETTINGS = ("learning_rate", "weight_decay", "generations")
"""What is searched for, and kept in the rows."""

_TABLES: dict[str, dict[str, Any]] = {
    "yeast": {"totals": (5_000, 10_000, 20_000, 40_000), "primary": 20_000, "seeds": 20},
    "adult": {"totals": (10_000, 20_000, 40_000, 80_000), "primary": 40_000, "seeds": 20},
    "letter": {"totals": (40_000, 100_000, 200_000, 400_000), "primary": 200_000, "seeds": 20},
}
_WHOLE: dict[str, Any] = {
    "trials": {"learning_rate": RATES, "weight_decay": (0.0, 0.03, 0.1, 0.3, 1.0)},
    "gadam": {"learning_rate": RATES, "generations": (2, 5, 10, 20, 40)},
    "search_seeds": (100, 101, 102),
    "datasets": _TABLES | {
        "mnist": {
            "totals": (100_000,), "primary": 100_000, "seeds": 10,
            "trials": {"learning_rate": (1e-3, 3e-3, 1e-2), "weight_decay": (0.1,)}, "search_seeds": (100,),
        },
        "orl": {
            "totals": (6_000,), "primary": 6_000, "seeds": 30, "hidden": 1_024,
            "trials": {"learning_rate": (3e-4, 1e-3, 3e-3, 1e-2), "weight_decay": (0.1,)},
        },
    },
}  # fmt: skip
PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {
        "trials": {"learning_rate": (1e-2,), "weight_decay": (0.0,)},
        "gadam": {"learning_rate": (1e-2,), "generations": (5,)}, "search_seeds": (100,),
        "datasets": {
            "letter": {"totals": (300,), "primary": 300, "seeds": 2},
            "mnist": {"totals": (100,), "primary": 100, "seeds": 1, "train_rows": 500, "test_rows": 100},
            "orl": {"totals": (80,), "primary": 80, "seeds": 1, "hidden": 32},
        },
    },
    "quick": {
        "trials": {"learning_rate": (1e-3, 1e-2), "weight_decay": (0.0,)},
        "gadam": {"learning_rate": (1e-3, 1e-2), "generations": (5,)}, "search_seeds": (100,),
        "datasets": {"letter": {"totals": (1_000,), "primary": 1_000, "seeds": 2}},
    },
    "standard": _WHOLE,
    "paper": _WHOLE,
}  # fmt: skip
"""`totals`: optimizer steps of all units together; at the `primary` one all methods are compared. `trials` and `gadam`:
what is searched for the tuned methods, on `search_seeds`; a dataset may have its own."""


def runs(profile: str, data: str) -> list[Run]:
    """List the trials on development seeds, and the runs of the methods for which nothing is chosen."""
    budget, found = PROFILES[profile], []
    for dataset in budget["datasets"]:
        own = _budget(profile, dataset)
        for method in _tuned(dataset):
            for trial in _trials(own, method):
                about = (own["primary"], trial, f"teach/{dataset}/search", own["search_seeds"])
                found += _runs(profile, data, dataset, method, *about)
    for dataset in budget["datasets"]:
        found += _reported(profile, data, dataset, {name: {} for name in METHODS if name not in (*TUNED, LONG_ALL)})
    return found


RUNS = (runs,)


def later_runs(profile: str, data: str, rows: pd.DataFrame) -> list[Run]:
    """List the runs of the tuned methods, with what the trials found best."""
    found = []
    for dataset in PROFILES[profile]["datasets"]:
        settings = chosen(rows, profile, dataset)
        if LONG in settings:
            settings[LONG_ALL] = settings[LONG]
        found += _reported(profile, data, dataset, settings)
    return found


def methods_of(dataset: str) -> tuple[str, ...]:
    """Return the methods that are trained on a dataset."""
    return tuple(METHODS) if dataset in _TABLES else IMAGES


def arm(dataset: str, method: str, total: int) -> str:
    """Name the arm of a method; a vote is of the same runs."""
    return f"teach/{dataset}/{VOTES.get(method, (method,))[0]}/{total}"


def _tuned(dataset: str) -> list[str]:
    """Return the methods for which something is searched on a dataset."""
    return [method for method in TUNED if method in methods_of(dataset)]


def _budget(profile: str, dataset: str) -> dict[str, Any]:
    """Return the budget of a dataset, with what the profile says for all of them."""
    return {**PROFILES[profile], **PROFILES[profile]["datasets"][dataset]}


def _trials(budget: Mapping[str, Any], method: str) -> list[dict[str, Any]]:
    grid = budget["gadam" if method == GADAM else "trials"]
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def _reported(profile: str, data: str, dataset: str, settings: Mapping[str, dict[str, Any]]) -> list[Run]:
    """List the runs of the methods that have settings, with the reported seeds, at all totals that they are for."""
    size, found = PROFILES[profile]["datasets"][dataset], []
    seeds = seeds_of(profile, size["seeds"])
    for method in (one for one in methods_of(dataset) if one in settings):
        for total in size["totals"] if method in CURVES else (size["primary"],):
            priority = 0 if total == size["primary"] else 6
            about = (arm(dataset, method, total), seeds, priority)
            found += _runs(profile, data, dataset, method, total, settings[method] | {"details": True}, *about)
    return found


def _runs(
    profile: str, data: str, dataset: str, method: str, total: int, settings: dict[str, Any], arm: str,
    seeds: Iterable[int], priority: int = 0,
) -> list[Run]:  # fmt: skip
    size = {name: value for name, value in PROFILES[profile]["datasets"][dataset].items()
            if name in ("train_rows", "test_rows", "hidden")}  # fmt: skip
    function = {"mnist": train_lenet5, "orl": train_orl_cnn}.get(dataset, train_mlp)
    faces = FACES if dataset == "orl" else {}
    config = {**size, **faces, "method": method, "total_steps": total, **METHODS[method], **settings}
    label = f"{dataset.upper()} · {method} · {total:,} steps"
    return arm_runs(function, arm, seeds, config, dataset, data, label=label, priority=priority)


@run_function("teach/mlp")
def train_mlp(dataset: str, data: Any, seed: int, **settings: Any) -> list[Row]:
    """Train an MLP by a method, see `rows_of_method`."""
    rows = load(dataset, data=data, seed=seed)
    return rows_of_method(rows, section54.maker(rows), seed=seed, **settings)


@run_function("teach/lenet5", version=2)
def train_lenet5(
    dataset: str, data: Any, seed: int, train_rows: int | None = None, test_rows: int | None = None, **settings: Any
) -> list[Row]:
    """Train LeNet-5 by a method, see `rows_of_method`."""
    return rows_of_method(mnist.images(dataset, data, train_rows, test_rows), lenet5, seed=seed, **settings)


@run_function("teach/orl", version=2)
def train_orl_cnn(
    dataset: str, data: Any, seed: int, images: int, shrink: int, hidden: int, **settings: Any
) -> list[Row]:
    """Train the CNN for ORL by a method, see `rows_of_method`."""
    rows = section54_orl.load_faces(dataset, data, images, seed, shrink)
    return rows_of_method(rows, section54_orl.maker(rows, hidden), seed=seed, **settings)


def rows_of_method(
    rows: Dataset, make_model: Callable[[], nn.Module], *, seed: int, method: str, by: str, total_steps: int,
    teacher_share: float = TEACHER_SHARE, all_rows: bool = False, details: bool = False, **settings: Any,
) -> list[Row]:  # fmt: skip
    """Train one network by a method and score it on the test rows and on the tenth of the training rows held out.

    Further rows are of the votes of its units or teachers that `VOTES` names. `seconds` are of one core. With `details`
    rows say what one temperature, fitted on the held-out rows, makes of the loss, and there is a row for each unit
    (teachers, of teach). With `all_rows` nothing is held out of the training.

    `method` is what the rows call it, and it trains `by` "teach", "train", "evolve", or "looks": one unit, which is
    looked at on the held-out rows 40 times, of which the best counts. `total_steps` are those of the optimizer over all
    units; further settings are of `GadamConfig`.
    """
    train, held = held_out(rows.train, len(rows.train[1]) // 10, seed)
    train = rows.train if all_rows else train
    shared: dict[str, Any] = {"validation": held, "executor": threads(), "progress": False}
    settings = {name: tuple(one) if isinstance(one, list) else one for name, one in settings.items()}
    watch = _Looks(make_model(), held, total_steps) if by == "looks" else None
    started = time.process_time()
    if by == "teach":
        shared |= {"total_steps": total_steps, "teacher_share": teacher_share}
        result = gadam.teach(make_model, train, seed=seed, **settings, **shared)
    else:
        lines = 2 * settings["population_size"] * settings.get("generations", 1)
        config = GadamConfig(**{"generations": 1} | settings, seed=seed, steps=total_steps // lines)
        if by == "evolve":
            result = gadam.evolve(make_model, train, config, restore_best=True, **shared)
        else:
            result = gadam.train(make_model, train, config, record=watch, **shared)
    seconds = time.process_time() - started
    model = watch.best() if watch else whole(result).best
    about: Row = {
        "dataset": rows.name, "data": rows.source, "seed": seed, "total_steps": total_steps,
        "gradient_steps": result.gradient_steps, "seconds": round(seconds, 2),
        **{name: json_value(settings.get(name)) for name in SETTINGS},
    }  # fmt: skip
    parts = {"test": rows.test} | ({} if all_rows else {"held": held})
    found = [about | {"method": method} | _scores(model.cpu().eval(), parts, details)]
    units = (result.population if result.teachers is None else result.teachers).to("cpu")
    if len(units) == 1:
        return found
    of_units = {name: scorer(units.template)(units, part) for name, part in parts.items()}
    fittest = of_units["held"][0].argsort()
    for vote, (voting, count) in VOTES.items():
        if voting == method:
            found.append(about | {"method": vote} | _scores(Ensemble(units.take(fittest[:count])), parts, details))
    for unit, rate in enumerate(units.rates.get("learning_rate", [None] * len(units)) if details else []):
        own: Row = {"method": f"{method}: a unit", "unit": unit, "learning_rate": None if rate is None else float(rate)}
        for name, (losses, correct) in of_units.items():
            own |= {f"{name}_correct": int(correct[unit]), f"{name}_loss": _finite(losses[unit])}
            own[f"{name}_rows"] = len(parts[name][1])
        found.append(about | own)
    return found


def json_value(value: Any) -> Any:
    """Return a setting as a row keeps it: a range as text, so that trials can be grouped by it."""
    return "–".join(f"{one:g}" for one in value) if isinstance(value, tuple) else value


class _Looks:
    """Keeps the weights of one unit that had the lowest loss on held-out rows, of 40 looks."""

    def __init__(self, template: nn.Module, held: Part, steps: int) -> None:
        self._template, self._held, self._every = template, held, max(1, steps // LOOKS)
        self._score, self._lowest = scorer(template), math.inf
        self._best: dict[str, Tensor] = {}

    def __call__(self, step: Step) -> None:
        if step.number % self._every == 0:
            population = Population(self._template, step.parameters, {})
            loss = float(self._score(population, self._held)[0])
            if loss < self._lowest or not self._best:
                self._lowest, self._best = loss, {name: one.clone() for name, one in step.parameters.items()}

    def best(self) -> nn.Module:
        return Population(self._template, self._best, {}).unit(0)


def _scores(model: nn.Module, parts: Mapping[str, Part], details: bool) -> Row:
    """Right answers and mean cross-entropy on parts; a vote gives probabilities."""
    found: Row = {}
    logits: dict[str, Tensor] = {}
    for name, (inputs, targets) in parts.items():
        outputs = outputs_of(model, inputs).double()
        logits[name] = outputs.clamp_min(1e-30).log() if isinstance(model, Ensemble) else outputs
        found[f"{name}_correct"] = int((outputs.argmax(1) == targets).sum())
        found[f"{name}_loss"] = _finite(cross_entropy(logits[name], targets))
        found[f"{name}_rows"] = len(targets)
    if details and "held" in parts and found["held_loss"] is not None:

        def scaled(part: str, exponent: float) -> float:
            return float(cross_entropy(logits[part] / 10**exponent, parts[part][1]))

        exponent = float(minimize_scalar(partial(scaled, "held"), bounds=(-2, 2), method="bounded").x)
        found |= {"temperature": 10**exponent, "test_loss_scaled": _finite(scaled("test", exponent))}
    return found


def _finite(value: Tensor | float) -> float | None:
    return float(value) if math.isfinite(value) else None  # JSON has no infinity


def chosen(rows: pd.DataFrame, profile: str, dataset: str) -> dict[str, dict[str, Any]]:
    """Return the trial of each tuned method that gets most held-out rows right, over the development seeds.

    Of equals the one of lower loss. Without those of which trials are missing.
    """
    budget = _budget(profile, dataset)
    found = where(search(rows, profile), dataset=dataset)
    picked: dict[str, dict[str, Any]] = {}
    for method in _tuned(dataset):
        own, trials = found[found["method"] == method], _trials(budget, method)
        if len(own) < len(trials) or (own["seeds"] < len(budget["search_seeds"])).any():
            continue
        best = own.sort_values(["held-out accuracy", "held-out loss"], ascending=[False, True]).iloc[0]
        picked[method] = {name: type(value)(best[name]) for name, value in trials[0].items()}
    return picked


def search(rows: pd.DataFrame, profile: str) -> pd.DataFrame:
    """Return the trials on the development seeds: mean accuracy and loss on held-out rows."""
    rows = _read(rows)
    rows = rows[rows["seed"].isin(PROFILES[profile]["search_seeds"]) & rows["method"].isin(TUNED)]
    rows = rows.assign(loss=rows["held_loss"].fillna(math.inf))
    grouped = rows.groupby(["dataset", "method", *SETTINGS], dropna=False, sort=False)
    found = grouped.agg(
        correct=("held_correct", "sum"), held=("held_rows", "sum"), loss=("loss", "mean"), seeds=("seed", "nunique")
    ).reset_index()
    found["held-out accuracy"] = 100 * found.pop("correct") / found.pop("held")
    return found.rename(columns={"loss": "held-out loss"})


def search_table(rows: pd.DataFrame, profile: str) -> pd.DataFrame:
    """Show what the search found best for each tuned method, and how far apart its trials are."""
    found, lines = search(rows, profile), []
    for dataset in PROFILES[profile]["datasets"]:
        for method, setting in chosen(rows, profile, dataset).items():
            own = where(found, dataset=dataset, method=method)
            accuracy = own["held-out accuracy"]
            lines.append({
                "dataset": dataset.upper(), "method": method, "trials": len(own),
                "learning rate": setting["learning_rate"], "decay": setting.get("weight_decay"),
                "generations": setting.get("generations"), "best": accuracy.max(), "worst": accuracy.min(),
            })  # fmt: skip
    columns = ["dataset", "method", "trials", "learning rate", "decay", "generations", "best", "worst"]
    return pd.DataFrame(lines, columns=columns).astype({"generations": "Int64"})


def reported(rows: pd.DataFrame, profile: str) -> pd.DataFrame:
    """Return the rows of the reported seeds, with the accuracy in percent."""
    found = _read(rows)
    found = found[found["seed"].notna() & ~found["seed"].isin(PROFILES[profile]["search_seeds"])]
    accuracy = 100 * found["test_correct"] / found["test_rows"]
    return found.astype({"seed": int, "total_steps": int}).assign(accuracy=accuracy)


def _read(rows: pd.DataFrame) -> pd.DataFrame:
    """The columns that are read, whatever runs are missing."""
    numbers = [f"{part}_{name}" for part in ("test", "held") for name in ("correct", "rows", "loss")]
    numbers += ["test_loss_scaled", "seconds"]
    columns = ["dataset", "method", *SETTINGS, "seed", "total_steps", "gradient_steps", *numbers, "data"]
    return rows.reindex(columns=columns).astype(dict.fromkeys(numbers, float))


def cells(rows: pd.DataFrame, profile: str) -> list[Cell]:
    """Sort the reported rows at the primary totals into cells: a method or vote on a dataset."""
    found, made = reported(rows, profile), []
    for dataset, size in PROFILES[profile]["datasets"].items():
        own = where(found, dataset=dataset, total_steps=size["primary"])
        tested = int(first(own, "test_rows") or section54.TEST_ROWS.get(dataset, 100))
        column = Column(dataset, dataset.upper(), dataset, tested)
        labels, trained = {"dataset": column.name, "steps": size["primary"]}, methods_of(dataset)
        for method in (*trained, *(vote for vote, (voting, _) in VOTES.items() if voting in trained)):
            name = arm(dataset, method, size["primary"])
            made.append(Cell(column, method, name, None, own[own["method"] == method], share=1.0, labels=labels))
    return made


def accuracy_table(rows: pd.DataFrame, profile: str, arms: Arms) -> pd.DataFrame:
    """Show the test accuracy in percent of each method at the primary total, and its 95 % interval over seeds."""
    columns = ("dataset", "steps", "method", "ours", "low", "high", "seeds", "data")
    return comparison.table(cells(rows, profile), arms, columns).rename(columns={"ours": "accuracy"})


def loss_table(rows: pd.DataFrame, profile: str) -> pd.DataFrame:
    """Show the mean cross-entropy on test rows at the primary total, its 95 % interval, and seconds of one core.

    `rescaled` is the mean if one temperature for each run, fitted on held-out rows, divides its outputs; NaN where a
    run has all of these right, which sets it no bound.
    """
    lines = []
    for cell in cells(rows, profile):
        loss = mean_interval(cell.rows["test_loss"].tolist())
        certain = cell.rows["held_correct"] == cell.rows["held_rows"]
        lines.append({
            "dataset": cell.column.name, "method": cell.method, **statistics.named(loss, "loss"),
            "rescaled": math.nan if certain.any() else cell.rows["test_loss_scaled"].mean(),
            "seconds": cell.rows["seconds"].median(), "data": first(cell.rows, "data"),
        })  # fmt: skip
    return pd.DataFrame(lines)


def differences(rows: pd.DataFrame, profile: str, arms: Arms) -> pd.DataFrame:
    """Compare teach with each other method at the primary total, paired by seed; arms not complete are undecided.

    The p-values are of the t-test and of flips of signs, for the claim that was made beforehand.
    """
    found, lines = cells(rows, profile), []
    taught = {cell.column: cell for cell in found if cell.method == TAUGHT}
    for cell in (one for one in found if one.method != TAUGHT):
        ours, margin = taught[cell.column], margin_of(cell.column.dataset, cell.column.test_rows)
        _, low, high = interval = comparison.difference(ours, cell)
        claim, _ = CLAIMS.get(cell.method, ("better", ""))
        p, flips = p_values(comparison.above(ours, cell).values, -margin if claim == "not worse" else 0.0)
        if not arms.complete(ours.arm, cell.arm):
            p, flips = math.nan, math.nan
        verdict = _verdict(low, high, margin, profile, arms, ours.arm, cell.arm)
        lines.append({
            "dataset": cell.column.name, "teach minus": cell.method, **statistics.named(interval, "difference"),
            "p": p, "p, sign flips": flips, "verdict": verdict,
        })  # fmt: skip
    return pd.DataFrame(lines)


def _verdict(low: float, high: float, margin: float, profile: str, arms: Arms, *needed: str) -> str:
    if not arms.complete(*needed):
        return NOT_COMPUTED
    return "undecided (profile smoke)" if profile == "smoke" else better_or_worse(low, high, margin)


def budget_table(rows: pd.DataFrame, profile: str, arms: Arms) -> pd.DataFrame:
    """Compare teach with each other method of `CURVES` at every total, as `differences` does at the primary one."""
    lines = []
    for dataset, method in itertools.product(_tables(profile), [one for one in CURVES if one != TAUGHT]):
        found, tested = ahead(rows, profile, dataset, method), section54.TEST_ROWS[dataset]
        for total in PROFILES[profile]["datasets"][dataset]["totals"]:
            values = found.loc[total].dropna().tolist() if total in found.index else []
            _, low, high = interval = mean_interval(values, tested)
            needed = arm(dataset, TAUGHT, total), arm(dataset, method, total)
            lines.append({
                "dataset": dataset.upper(), "teach minus": method, "steps": total,
                **statistics.named(interval, "difference"),
                "verdict": _verdict(low, high, margin_of(dataset, tested), profile, arms, *needed),
            })  # fmt: skip
    return pd.DataFrame(lines)


def claims_table(differences: pd.DataFrame) -> pd.DataFrame:
    """Say on how many datasets each claim holds, allowing for their number: see `partial_conjunction`."""
    lines = []
    for method, (_, text) in CLAIMS.items():
        values = differences.loc[differences["teach minus"] == method, "p"]
        least = partial_conjunction(values.tolist())
        holds = sum(p <= 1 - LEVEL for p in least)
        lines.append({
            "claim": text, "holds on at least": holds, "of": len(values), "not computed": int(values.isna().sum()),
            "p of that": least[holds - 1] if holds else math.nan, "p of one more": (least[holds:] or [math.nan])[0],
        })  # fmt: skip
    return pd.DataFrame(lines)


def ahead(rows: pd.DataFrame, profile: str, dataset: str, method: str = LONG) -> pd.DataFrame:
    """Return by how many points teach is more accurate than another method: a row per total, a column per seed."""
    found = where(reported(rows, profile), dataset=dataset)
    ours, theirs = (
        where(found, method=method).pivot_table(index="total_steps", columns="seed", values="accuracy")
        for method in (TAUGHT, method)
    )
    return (ours - theirs).dropna(how="all")


def crossing(ahead: pd.DataFrame) -> float:
    """Return the total from which on teach is ahead in the mean of seeds; NaN if it never is, 0 if it always is.

    Between two totals the difference is taken as a line in the logarithm of the steps.
    """
    if ahead.empty:
        return math.nan
    means = ahead.mean(axis="columns")
    behind = np.flatnonzero(means.to_numpy() <= 0)
    if not len(behind):
        return 0.0
    if (last := behind[-1]) == len(means) - 1:
        return math.nan
    (x, y), (low, high) = np.log(means.index[last : last + 2]), means.iloc[last : last + 2]
    return float(np.exp(x + (y - x) * -low / (high - low)))


def budget_figure(rows: pd.DataFrame, profile: str) -> Figure:
    """Draw accuracy against the steps of all units, and against seconds of one core; bands are 95 % over seeds."""
    found, datasets = reported(rows, profile), _tables(profile)
    size = (1.5 + 3.6 * len(datasets), 7.2)
    figure, axes = plt.subplots(2, len(datasets), figsize=size, layout="constrained", sharey="col", squeeze=False)
    handles = {}
    for (top, bottom), dataset in zip(axes.T, datasets, strict=True):
        own = found[found["dataset"] == dataset]
        for axis, measure, label in (
            (top, "total_steps", "optimizer steps"), (bottom, "seconds", "seconds of one core"),
        ):  # fmt: skip
            axis.set(xscale="log", xlabel=label)
            axis.xaxis.set(
                major_locator=LogLocator(subs=(1, 2, 4)), major_formatter="{x:,.0f}", minor_locator=NullLocator()
            )
            for method, colour in CURVES.items():
                curve = _curve(own[own["method"] == method], measure)
                if len(curve):
                    front = 3 if method == TAUGHT else 2
                    handles[method] = drawing.draw_curve(axis, curve, colour, marker="o", markersize=4, zorder=front)
        top.set_title(dataset.upper())
        at = crossing(ahead(rows, profile, dataset))
        if at > 0:
            top.axvline(at, color="black", linewidth=1, linestyle=":")
    for axis in axes[:, 0]:
        axis.set_ylabel("test accuracy, %")
    if handles:
        drawing.add_legend(figure, handles, 4)
    return figure


def _curve(rows: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Mean accuracy and its interval by total of steps, or by the median of their seconds."""
    curve = drawing.curve_by(
        rows, "total_steps", lambda own: accuracy_interval(own["accuracy"].tolist(), first(own, "test_rows"))
    )
    return curve.set_axis(rows.groupby("total_steps")[measure].median())


def _tables(profile: str) -> list[str]:
    return [name for name in PROFILES[profile]["datasets"] if name in _TABLES]


def crossings(budgets: pd.DataFrame, rows: pd.DataFrame, profile: str) -> str:
    """Say for each dataset at which totals of `budget_table` teach is ahead of the tuned long run, or behind."""
    words = []
    for dataset in _tables(profile):
        own = where(budgets, dataset=dataset.upper(), **{"teach minus": LONG})
        if NOT_COMPUTED in set(own["verdict"]):
            words.append(f"{dataset.upper()}: not computed yet")
            continue
        parts = []
        for word, verdict in (("ahead", "better"), ("behind", "worse")):
            if steps := [f"{total:,}" for total in own.loc[own["verdict"] == verdict, "steps"]]:
                parts.append(f"{word} at {' and '.join(steps)} steps")
        at = crossing(ahead(rows, profile, dataset))
        parts += [f"the means cross for good at about {float(f'{at:.2g}'):,.0f}"] if at > 0 else []
        words.append(f"{dataset.upper()}: {', '.join(parts) or 'no difference shown'}")
    return "; ".join(words)
