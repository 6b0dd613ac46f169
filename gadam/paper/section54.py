"""Section 5.4: MLPs on YEAST, ADULT and LETTER by GADAM and by Adam, beside three other classifiers (Table 4).

The paper gives neither g, K nor the steps. A unit here is trained for 2 K times the steps of a generation along its
longest line of descent (`depths`), and so is every unit by Adam; whether more steps would help is looked up on
held-out training rows (`held_out_curve`, figure section54_budget). gcForest costs more than all else, so it has fewer
seeds, and but for "standard" and "paper" smaller forests.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from gadam.config import GadamConfig
from gadam.datasets import Dataset, load
from gadam.evolution.loop import evolve
from gadam.models import MLP_HIDDEN, mlp
from gadam.paper import seeds_of
from gadam.paper.baselines import classical
from gadam.paper.baselines.gcforest import GcForestSettings, gcforest
from gadam.paper.runs import Rows, Run, RunFunction, dataset_config, run_function
from gadam.paper.units import KEPT, first_rows, held_out, independent, kept, scorer, validation_size, whole
from gadam.population import Population
from gadam.training.shards import Step

DATASETS = ("yeast", "adult", "letter")
GADAM, ADAM, ADAM_BEST = "MLP (GADAM)", "MLP (Adam)", "MLP (Adam, best of g)"
GCFOREST, FOREST, SVM, KNN = "gcForest", "Random Forest", "SVM (rbf)", "kNN (k=3)"
METHODS = (GADAM, ADAM, ADAM_BEST, GCFOREST, FOREST, SVM, KNN)
TRAIN_ROWS = {"yeast": 1_038, "adult": 32_561, "letter": 16_000}
TEST_ROWS = {"yeast": 446, "adult": 16_281, "letter": 4_000}

PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {
        "seeds": 2, "g": 4, "K": 2, "steps": {"yeast": 20, "adult": 20, "letter": 20}, "trees": 20,
        "train_rows": 1_000, "curve": {"yeast": 160, "adult": 160, "letter": 160},
        "gcforest": {"forests": 1, "trees": 5, "folds": 3, "max_levels": 2},
        "gcforest_seeds": {"yeast": 2, "adult": 2, "letter": 2},
    },
    "quick": {
        "seeds": 3, "g": 10, "K": 5, "steps": {"yeast": 50, "adult": 100, "letter": 200}, "trees": 100,
        "train_rows": 4_000, "curve": {"yeast": 1_000, "adult": 1_000, "letter": 2_000},
        "gcforest": {"forests": 1, "trees": 20, "folds": 3, "max_levels": 2},
        "gcforest_seeds": {"yeast": 2, "adult": 2, "letter": 2},
    },
    "standard": {
        "seeds": 20, "g": 10, "K": 5, "steps": {"yeast": 50, "adult": 200, "letter": 8_000}, "trees": 2_000,
        "train_rows": None, "curve": {"yeast": 2_000, "adult": 6_000, "letter": 80_000},
        "gcforest": {"forests": 4, "trees": 500, "folds": 3, "max_levels": 20},
        "gcforest_seeds": {"yeast": 10, "adult": 3, "letter": 3},
    },
    "paper": {
        "seeds": 10, "g": 10, "K": 5, "steps": {"yeast": 50, "adult": 200, "letter": 8_000}, "trees": 2_000,
        "train_rows": None, "curve": {"yeast": 2_000, "adult": 6_000, "letter": 80_000},
        "gcforest": {"forests": 4, "trees": 500, "folds": 3, "max_levels": 20},
        "gcforest_seeds": {"yeast": 10, "adult": 10, "letter": 10},
    },
}  # fmt: skip
"""`train_rows`: so many training rows only, drawn by the seed; None takes all. `gcforest_seeds`: the first so many."""


def depths(profile: str) -> dict[str, int]:
    """Adam steps along the longest line of descent, for each dataset: 2 K times the steps of a generation."""
    budget = PROFILES[profile]
    return {name: 2 * budget["K"] * steps for name, steps in budget["steps"].items()}


def arm(dataset: str, method: str) -> str:
    """What the seeds of a method on a dataset are repetitions of; the best of g is of the same runs as Adam alone."""
    return f"{dataset}/{ADAM if method == ADAM_BEST else method}"


def depends_on_seed(method: str, dataset: str, profile: str) -> bool:
    """Whether a method draws anything, or the seed draws its rows; else one run stands for every seed."""
    return method not in (SVM, KNN) or dataset == "yeast" or PROFILES[profile]["train_rows"] is not None


def runs(profile: str, data: str) -> list[Run]:
    """Every run behind Table 4. A method that draws nothing has one run for all seeds where the split is fixed too."""
    budget = PROFILES[profile]
    planned = []
    for name in DATASETS:
        rows, digest = dataset_config(name, data)
        population = {"population_size": budget["g"], "generations": budget["K"], "steps": budget["steps"][name]}
        control = {"population_size": budget["g"], "steps": depths(profile)[name]}
        methods: list[tuple[str, RunFunction, dict[str, Any], int]] = [
            (GADAM, mlp_by_gadam, population, budget["seeds"]),
            (ADAM, mlps_by_adam, control, budget["seeds"]),
            (FOREST, random_forest, {"trees": budget["trees"]}, budget["seeds"]),
            (SVM, svm, {}, budget["seeds"]),
            (KNN, nearest_neighbours, {}, budget["seeds"]),
            (GCFOREST, deep_forest, budget["gcforest"], budget["gcforest_seeds"][name]),
        ]
        for method, function, settings, count in methods:
            for seed in seeds_of(profile, count):
                drawn = seed if depends_on_seed(method, name, profile) else 0
                config = {**rows, "train_rows": budget["train_rows"], **settings, "seed": drawn}
                label = f"{name.upper()} · {method} · seed {drawn}"
                planned.append(Run(function, config, digest, label, arm=arm(name, method), priority=1))
    return list({run.key: run for run in planned}.values())


def curve_runs(profile: str, data: str) -> list[Run]:
    """The runs behind figure section54_budget."""
    planned = []
    for name in DATASETS:
        rows, digest = dataset_config(name, data)
        config = {**rows, "steps": PROFILES[profile]["curve"][name], "units": 3}
        label = f"{name.upper()} · held-out curve of Adam"
        planned.append(Run(held_out_curve, config, digest, label, arm=f"{name}/curve", priority=1))
    return planned


@run_function("tables/gadam")
def mlp_by_gadam(dataset: str, data: Any, seed: int, train_rows: int | None, **settings: Any) -> Rows:
    """An MLP by GADAM: the best unit of the last generation, chosen by its loss on the last validation batch.

    And a row of method `KEPT`, for what else the generation is good for, see `gadam.paper.beyond`.
    """
    rows = _load(dataset, data, seed, train_rows)
    config = GadamConfig(seed=seed, validation_size=validation_size(rows), **settings)
    result = whole(evolve(partial(_mlp, rows), rows.train, config, progress=False))
    validation = held_out(rows.train, validation_size(rows), seed)[1]
    about = {"method": KEPT, "seed": seed, "test_rows": len(rows.test[1])}
    return [
        _row(rows, GADAM, seed, result.population.take(slice(0, 1)), result.gradient_steps),
        _common(rows) | about | kept(result, validation, rows.test),
    ]


@run_function("tables/adam")
def mlps_by_adam(dataset: str, data: Any, seed: int, train_rows: int | None, population_size: int, steps: int) -> Rows:
    """Equal compute without evolution: g independent MLPs by Adam; the first, and the best on a validation batch."""
    rows = _load(dataset, data, seed, train_rows)
    config = GadamConfig(population_size=population_size, steps=steps, seed=seed)
    population = independent(partial(_mlp, rows), rows.train, config)
    losses, _ = scorer(population.template)(population, held_out(rows.train, validation_size(rows), seed)[1])
    best = int(losses.argmin())
    return [
        _row(rows, ADAM, seed, population.take(slice(0, 1)), steps),
        _row(rows, ADAM_BEST, seed, population.take(slice(best, best + 1)), population_size * steps),
    ]


@run_function("tables/gcforest", engine=False, settings=GcForestSettings)
def deep_forest(dataset: str, data: Any, seed: int, train_rows: int | None, **settings: Any) -> Rows:
    """The cascade of gcForest; no scanning, since the columns of a table have no order."""
    rows = _load(dataset, data, seed, train_rows)
    said = gcforest(*rows.train, rows.test[0], settings=GcForestSettings(**settings), seed=seed)
    return [_right(rows, GCFOREST, seed, said.probabilities.argmax(1))]


@run_function("tables/forest", engine=False)
def random_forest(dataset: str, data: Any, seed: int, train_rows: int | None, trees: int) -> Rows:
    """A random forest with scikit-learn's defaults but for the number of trees."""
    rows = _load(dataset, data, seed, train_rows)
    predicted = classical.random_forest(*rows.train, rows.test[0], trees=trees, seed=seed)
    return [_right(rows, FOREST, seed, predicted)]


@run_function("tables/svm", engine=False)
def svm(dataset: str, data: Any, seed: int, train_rows: int | None) -> Rows:
    """A support vector machine with scikit-learn's defaults on standardised features."""
    rows = _load(dataset, data, seed, train_rows)
    return [_right(rows, SVM, seed, classical.svm(*rows.train, rows.test[0]))]


@run_function("tables/neighbours", engine=False)
def nearest_neighbours(dataset: str, data: Any, seed: int, train_rows: int | None) -> Rows:
    """The k = 3 nearest neighbours on standardised features."""
    rows = _load(dataset, data, seed, train_rows)
    return [_right(rows, KNN, seed, classical.nearest_neighbours(*rows.train, rows.test[0]))]


@run_function("tables/curve")
def held_out_curve(dataset: str, data: Any, steps: int, units: int) -> Rows:
    """Accuracy of MLPs by Adam on a fifth of the training rows, held out, at 40 points of their training."""
    rows = load(dataset, data=data, seed=0)
    kept, held = held_out(rows.train, len(rows.train[1]) // 5, 0)
    points: Rows = []
    template = _mlp(rows)
    scores = scorer(template)

    def record(step: Step) -> None:
        if step.number % max(1, steps // 40) == 0:
            _, correct = scores(Population(template, step.parameters, {}), held)
            for unit, right in zip(step.units, correct.tolist(), strict=True):
                accuracy = 100 * right / len(held[1])
                points.append(_common(rows) | {"step": step.number, "unit": unit, "accuracy": accuracy})

    independent(partial(_mlp, rows), kept, GadamConfig(population_size=units, steps=steps), record=record)
    return points


def _mlp(rows: Dataset) -> nn.Module:
    return mlp(rows.feature_shape[0], rows.class_count, MLP_HIDDEN[rows.name])


def _load(dataset: str, data: Any, seed: int, train_rows: int | None) -> Dataset:
    return first_rows(load(dataset, data=data, seed=seed), train_rows, seed)


def _row(rows: Dataset, method: str, seed: int, unit: Population, gradient_steps: int) -> dict[str, Any]:
    """How many test rows a unit, the only one of its population, has right."""
    _, correct = scorer(unit.template)(unit, rows.test)
    return _answers(rows, method, seed, int(correct[0]), gradient_steps)


def _right(rows: Dataset, method: str, seed: int, predicted: Tensor) -> dict[str, Any]:
    return _answers(rows, method, seed, int((predicted == rows.test[1]).sum()), 0)


def _answers(rows: Dataset, method: str, seed: int, correct: int, gradient_steps: int) -> dict[str, Any]:
    total = len(rows.test[1])
    return _common(rows) | {
        "method": method, "seed": seed, "correct": correct, "test_rows": total, "accuracy": 100 * correct / total,
        "gradient_steps": gradient_steps,
    }  # fmt: skip


def _common(rows: Dataset) -> dict[str, Any]:
    return {"dataset": rows.name, "data": rows.source}


RUNS = (runs, curve_runs)
