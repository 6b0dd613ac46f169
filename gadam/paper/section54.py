"""Section 5.4: MLPs on YEAST, ADULT and LETTER by GADAM and by Adam, beside four other classifiers (Table 4).

The paper gives neither g, K nor the steps. A unit here is trained for 2 K times the steps of a generation along its
longest line of descent (`depths`), and so is every unit by Adam; whether more steps would help is looked up on
held-out training rows (`held_out_curve`, figure section54_budget). gcForest costs more than all else, so it has fewer
seeds, and but for "standard" and "paper" smaller forests.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import nn

from gadam.config import GadamConfig
from gadam.datasets import Dataset, load
from gadam.models import MLP_HIDDEN, mlp
from gadam.paper import comparison, published, seeds_of
from gadam.paper.baselines import classical
from gadam.paper.baselines.gcforest import GcForestSettings, gcforest
from gadam.paper.claims import Arms, Claim
from gadam.paper.comparison import FOREST, GCFOREST, KNN, SVM, Column, answers
from gadam.paper.palette import GREEN, GREY, RED
from gadam.paper.runs import Rows, Run, RunFunction, dataset_config, run_function
from gadam.paper.statistics import paired_interval
from gadam.paper.units import first_rows

DATASETS = ("yeast", "adult", "letter")
METHODS = GADAM, ADAM, ADAM_BEST, *_ = (
    "MLP (GADAM)", "MLP (Adam)", "MLP (Adam, best of g)", GCFOREST, FOREST, SVM, KNN,
)  # fmt: skip
TRAIN_ROWS = {"yeast": 1_038, "adult": 32_561, "letter": 16_000}
TEST_ROWS = {"yeast": 446, "adult": 16_281, "letter": 4_000}

FULL: dict[str, Any] = {
    "g": 10, "K": 5, "steps": {"yeast": 50, "adult": 200, "letter": 8_000}, "trees": 2_000, "train_rows": None,
    "curve": {"yeast": 2_000, "adult": 6_000, "letter": 80_000},
    "gcforest": {"forests": 4, "trees": 500, "folds": 3, "max_levels": 20},
}  # fmt: skip
PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {
        "seeds": 2, "g": 4, "K": 2, "steps": {"yeast": 20, "adult": 20, "letter": 20}, "trees": 20,
        "train_rows": 1_000, "curve": {"yeast": 160, "adult": 160, "letter": 160},
        "gcforest": {"forests": 1, "trees": 5, "folds": 3, "max_levels": 2},
        "gcforest_seeds": dict.fromkeys(DATASETS, 2),
    },
    "quick": {
        "seeds": 3, "g": 10, "K": 5, "steps": {"yeast": 50, "adult": 100, "letter": 200}, "trees": 100,
        "train_rows": 4_000, "curve": {"yeast": 1_000, "adult": 1_000, "letter": 2_000},
        "gcforest": {"forests": 1, "trees": 20, "folds": 3, "max_levels": 2},
        "gcforest_seeds": dict.fromkeys(DATASETS, 2),
    },
    "standard": FULL | {"seeds": 20, "gcforest_seeds": {"yeast": 10, "adult": 3, "letter": 3}},
    "paper": FULL | {"seeds": 10, "gcforest_seeds": dict.fromkeys(DATASETS, 10)},
}  # fmt: skip
"""`train_rows`: so many training rows only, drawn by the seed; None takes all. `gcforest_seeds`: the first so many."""


def depths(profile: str) -> dict[str, int]:
    """Return the Adam steps along the longest line of descent: 2 K times the steps of a generation, by dataset."""
    budget = PROFILES[profile]
    return {name: 2 * budget["K"] * steps for name, steps in budget["steps"].items()}


def arm(dataset: str, method: str) -> str:
    """Name the arm of a method on a dataset; the best of g is of the same runs as Adam alone."""
    return f"{dataset}/{ADAM if method == ADAM_BEST else method}"


def depends_on_seed(method: str, dataset: str, profile: str) -> bool:
    """Tell whether a method draws anything, or the seed draws its rows; else one run stands for every seed."""
    return method not in (SVM, KNN) or dataset == "yeast" or PROFILES[profile]["train_rows"] is not None


def runs(profile: str, data: str) -> list[Run]:
    """List every run behind Table 4. A method that draws nothing has one for all seeds where the split is fixed too."""
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
    """List the runs behind figure section54_budget."""
    planned = []
    for name in DATASETS:
        rows, digest = dataset_config(name, data)
        config = {**rows, "steps": PROFILES[profile]["curve"][name], "units": 3}
        label = f"{name.upper()} · held-out curve of Adam"
        planned.append(Run(held_out_curve, config, digest, label, arm=f"{name}/curve", priority=1))
    return planned


RUNS = (runs, curve_runs)


@run_function("tables/gadam")
def mlp_by_gadam(dataset: str, data: Any, seed: int, train_rows: int | None, **settings: Any) -> Rows:
    """Train MLPs by GADAM, see `comparison.run_gadam`."""
    rows = _load(dataset, data, seed, train_rows)
    return comparison.run_gadam(rows, maker(rows), GADAM, GadamConfig(seed=seed, **settings))


@run_function("tables/adam")
def mlps_by_adam(dataset: str, data: Any, seed: int, train_rows: int | None, population_size: int, steps: int) -> Rows:
    """Train as many MLPs by Adam alone, see `comparison.run_adam`."""
    rows = _load(dataset, data, seed, train_rows)
    config = GadamConfig(population_size=population_size, steps=steps, seed=seed)
    return comparison.run_adam(rows, maker(rows), (ADAM, ADAM_BEST), config)


@run_function("tables/gcforest", engine=False, settings=GcForestSettings)
def deep_forest(dataset: str, data: Any, seed: int, train_rows: int | None, **settings: Any) -> Rows:
    """Grow the cascade of gcForest; no scanning, since the columns of a table have no order."""
    rows = _load(dataset, data, seed, train_rows)
    found = gcforest(*rows.train, rows.test[0], settings=GcForestSettings(**settings), seed=seed)
    return [answers(rows, GCFOREST, seed, found.probabilities.argmax(1))]


@run_function("tables/forest", engine=False)
def random_forest(dataset: str, data: Any, seed: int, train_rows: int | None, trees: int) -> Rows:
    """Grow a random forest with scikit-learn's defaults but for the number of trees."""
    rows = _load(dataset, data, seed, train_rows)
    return [answers(rows, FOREST, seed, classical.random_forest(*rows.train, rows.test[0], trees=trees, seed=seed))]


@run_function("tables/svm", engine=False)
def svm(dataset: str, data: Any, seed: int, train_rows: int | None) -> Rows:
    """Fit a support vector machine with scikit-learn's defaults on standardised features."""
    rows = _load(dataset, data, seed, train_rows)
    return [answers(rows, SVM, seed, classical.svm(*rows.train, rows.test[0]))]


@run_function("tables/neighbours", engine=False)
def nearest_neighbours(dataset: str, data: Any, seed: int, train_rows: int | None) -> Rows:
    """Ask the k = 3 nearest neighbours on standardised features."""
    rows = _load(dataset, data, seed, train_rows)
    return [answers(rows, KNN, seed, classical.nearest_neighbours(*rows.train, rows.test[0]))]


@run_function("tables/curve")
def held_out_curve(dataset: str, data: Any, steps: int, units: int) -> Rows:
    """Follow MLPs by Adam on held-out training rows, at 40 points of their training."""
    rows = load(dataset, data=data, seed=0)
    points = comparison.follow_adam(rows, maker(rows), GadamConfig(population_size=units, steps=steps), 40)
    return [{"dataset": rows.name, "data": rows.source} | point for point in points]


def maker(rows: Dataset) -> Callable[[], nn.Module]:
    """Return what makes the MLP for a dataset."""
    return partial(mlp, rows.feature_shape[0], rows.class_count, MLP_HIDDEN[rows.name])


def _load(dataset: str, data: Any, seed: int, train_rows: int | None) -> Dataset:
    return first_rows(load(dataset, data=data, seed=seed), train_rows, seed)


def table4(rows: pd.DataFrame, arms: Arms) -> pd.DataFrame:
    """Set the paper's values of Table 4 beside ours, a row per dataset and method; accuracies in percent."""
    lines = [
        {"dataset": dataset.upper(), "method": method, "seeds": arms.count(arm(dataset, method))}
        | comparison.line_of(cell, published.TABLE4, method, dataset)
        for (dataset, method, _), cell in _cells(rows).items()
    ]
    columns = ("dataset", "method", "paper", "ours", "low", "high", "interval", "seeds", "gradient steps", "data")
    return comparison.as_table(lines, columns)


def note(profile: str) -> str:
    """Say what a reader of Table 4 must know."""
    size = PROFILES[profile]["gcforest"]
    return (
        "ours, low, high: mean and 95 % interval; over seeds, or over test rows where all seeds agree and for a "
        "method that draws nothing at random on a fixed split: its one run stands for every seed. gradient steps: of "
        "all units together; 'best of g' is as many independent Adam runs as GADAM has units, at GADAM's full budget. "
        f"V: a quarter of T, at most 1,024 rows. gcForest here: at most {size['max_levels']} levels of "
        f"{size['forests']} random and {size['forests']} completely-random forests of {size['trees']} trees, "
        f"{size['folds']} folds."
    )


def differences(rows: pd.DataFrame, profile: str, arms: Arms) -> pd.DataFrame:
    """Subtract each other method from MLP (GADAM): mean and 95 % interval in points, over the seeds that both have.

    `complete` says whether all planned runs of both are there.
    """
    cells = _cells(rows)
    lines = []
    for (dataset, method, _), cell in cells.items():
        if method == GADAM:
            continue
        drawn = depends_on_seed(method, dataset, profile)
        found = comparison.above(cells[dataset, GADAM, 1], cell, TEST_ROWS[dataset], dataset, drawn)
        points = [one - (found.others or (0.0,))[0] for one in found.values]
        mean, low, high = paired_interval(points, found.rows) if points else (math.nan,) * 3
        names = arm(dataset, GADAM), arm(dataset, method)
        lines.append({
            "dataset": dataset.upper(), "method": method, "difference": mean, "low": low, "high": high,
            "seeds": str(len(points)) if arms.complete(*names) else arms.count(*names),
            "complete": arms.complete(*names), "data": comparison.first(cell, "data"),
        })  # fmt: skip
    return pd.DataFrame(lines)


def claims(rows: pd.DataFrame, profile: str) -> list[Claim]:
    """State each value of Table 4, and each "outperforms" of Section 5.4."""
    return comparison.claims_of(
        "section54", "table4", _cells(rows), [Column(name, name.upper(), name, TEST_ROWS[name]) for name in DATASETS],
        share=lambda method, dataset: budget_share(method, dataset, profile),
        arm=lambda dataset, method, _: arm(dataset, method),
        repeats=lambda method, name: 1 if depends_on_seed(method, name, profile) else PROFILES[profile]["seeds"],
    )  # fmt: skip


def budget_share(method: str, dataset: str, profile: str) -> float:
    """Return the share of profile paper's training rows, training and trees that was spent."""
    ours, full = PROFILES[profile], PROFILES["paper"]
    share = min(1.0, (ours["train_rows"] or TRAIN_ROWS[dataset]) / TRAIN_ROWS[dataset])
    if method in (GADAM, ADAM, ADAM_BEST):
        return float(share * (depths(profile)[dataset] / depths("paper")[dataset] * (ours["g"] / full["g"])))
    return share * comparison.share_of_trees(method, ours, full)


def _cells(rows: pd.DataFrame) -> comparison.Cells:
    keys = [(dataset, method, 1) for dataset in DATASETS for method in METHODS]
    return comparison.cells_of(rows.assign(shrink=1), "dataset", keys)


def differences_figure(frame: pd.DataFrame) -> Figure:
    """Draw MLP (GADAM) minus each other method, with intervals, a panel per dataset.

    Args:
        frame: of `differences`. What is not complete is grey, with its seeds beside it.
    """
    better, worse = frame["complete"] & (frame["low"] > 0), frame["complete"] & (frame["high"] < 0)
    colours = {"GADAM better": GREEN, "cannot tell": GREY, "GADAM worse": RED}
    frame = frame.assign(
        colour=[GREEN if up else RED if down else GREY for up, down in zip(better, worse, strict=True)]
    )
    frame = frame.rename(columns={"method": "label", "difference": "centre"})
    labels = list(METHODS[1:])
    figure, axes = plt.subplots(1, len(DATASETS), figsize=(11, 3.6), layout="constrained", sharey=True)
    for axis, (dataset, lines) in zip(axes, frame.groupby("dataset", sort=False), strict=True):
        comparison.draw_intervals(axis, lines, labels)
        axis.set(title=dataset)
        for line in lines[~lines["complete"]].dropna(subset="centre").to_dict("records"):
            axis.annotate(
                f"{line['seeds']} runs", (line["centre"], labels.index(line["label"])), xytext=(0, 6), ha="center",
                textcoords="offset points", fontsize=8, color=GREY,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
            )  # fmt: skip
    seeds = sorted({int(count) for count in frame.loc[frame["complete"], "seeds"]})
    over = f" of {' to '.join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))} seeds" if seeds else ""
    figure.supxlabel(f"MLP (GADAM) minus the method: test accuracy, percentage points (mean{over}, 95 % interval)")
    comparison.add_legend(figure, colours)
    return figure


def budget_figure(rows: pd.DataFrame, profile: str) -> Figure:
    """Draw the accuracy of Adam on held-out training rows against steps, and the depth that Table 4 uses."""
    panels = {name: (name.upper(), depth) for name, depth in depths(profile).items()}
    return comparison.budget_figure(rows, "dataset", panels, "accuracy on held-out\ntraining rows, %")
