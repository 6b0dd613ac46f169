"""Section 5.1: LeNet-5 on MNIST by GADAM and by six optimizers, beside other methods (Table 1, figure 2b).

The paper gives no learning rates. The one that its numbers suggest is 0.001 for all: with it, AdaDelta has hardly begun
after 80,000 steps. So every optimizer has two settings, that one ("evident") and the one of a grid with the lowest loss
on training images held out ("tuned"), and the grid's cost is in the table. GADAM is tuned as the Adam inside it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from gadam.baselines import classical, dbn
from gadam.baselines.gcforest import GcForestSettings, gcforest
from gadam.datasets import locate
from gadam.experiments import mnist
from gadam.experiments.runs import Run
from gadam.experiments.units import first_rows

Rows = list[dict[str, Any]]

EVIDENT = 1e-3
GADAM, BEST_OF_G, GD = "GADAM", "Adam, best of g", "LeNet-5 (GD)"
OPTIMIZERS = {
    "adam": "Adam", "sgd": "SGD", "sgdm": "SGDM", "rmsprop": "RMSProp", "adagrad": "AdaGrad", "adadelta": "AdaDelta",
}  # fmt: skip
GCFOREST, DBN, FOREST, SVM = "gcForest", "Deep Belief Net", "Random Forest", "SVM (rbf)"
OTHERS = (GCFOREST, DBN, FOREST, SVM)

PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {
        "rates": (1e-3, 1e-1), "rows": 500, "seeds": 2,
        "forest": {"trees": 10},
        "gcforest": {"forests": 1, "trees": 5, "max_levels": 1, "windows": ((14, 14),), "stride": 7, "scan_trees": 3},
        "dbn": {"hidden": (32,), "pretraining_epochs": 1, "epochs": 1},
    },
    "quick": {
        "rates": (1e-3, 1e-2, 1e-1, 1.0), "rows": 5_000, "seeds": 2,
        "forest": {"trees": 100},
        "gcforest": {"forests": 1, "trees": 50, "max_levels": 3, "windows": ((10, 10),), "stride": 6, "scan_trees": 10,
                     "scan_pieces": 20_000},
        "dbn": {"hidden": (256, 256), "pretraining_epochs": 5, "epochs": 20},
    },
    "paper": {
        "rates": (1e-4, 1e-3, 1e-2, 1e-1, 1.0), "rows": None, "seeds": 10,
        "forest": {"trees": 2_000},
        "gcforest": {"forests": 4, "trees": 500, "windows": ((7, 7), (10, 10), (13, 13)), "stride": 2,
                     "scan_trees": 500, "scan_pieces": 1_000_000},
        "dbn": {"hidden": (500, 500, 2_000), "pretraining_epochs": 10, "epochs": 20},
    },
}  # fmt: skip
"""The learning-rate grid, and the methods below LeNet-5 in Table 1: on so many training images, drawn by the seed."""


def runs(profile: str, data: str) -> list[Run]:
    """Every run behind Table 1 that is known at the start; see `later_runs`."""
    return [*lenet_runs(profile, data), *other_runs(profile, data)]


def lenet_runs(profile: str, data: str) -> list[Run]:
    """GADAM with the evident learning rate and its control, and each optimizer with each rate of the grid.

    The first K generations of GADAM are Table 1's; Section 5.2 looks at all of them.
    """
    return [*_evolved_runs(profile, data, EVIDENT, mnist.PROFILES[profile]["longest"]), *_grid_runs(profile, data)]


def later_runs(profile: str, data: str, rows: pd.DataFrame) -> list[Run]:
    """GADAM and its control with the learning rate that the rows of `lenet_runs` find for Adam, if it is another."""
    rate = tuned_rates(results(rows, profile))["Adam"]
    return [] if rate == EVIDENT else _evolved_runs(profile, data, rate, mnist.PROFILES[profile]["K"])


def _evolved_runs(profile: str, data: str, learning_rate: float, generations: int) -> list[Run]:
    """GADAM with a learning rate, and the best of g Adam runs at the same compute."""
    budget = mnist.PROFILES[profile]
    settings = {"optimizer": "adam", "learning_rate": learning_rate, "dropout": 0.2}
    planned = []
    for seed in range(budget["seeds"]):
        planned.append(mnist.gadam_run(profile, data, seed, budget["g"], generations, learning_rate))
        planned.append(
            mnist.optimizer_run(profile, data, BEST_OF_G, seed=seed, population_size=budget["g"], **settings)
        )
    return planned


def _grid_runs(profile: str, data: str) -> list[Run]:
    """Each optimizer with each learning rate of the grid, all seeds at once."""
    budget, grid = mnist.PROFILES[profile], PROFILES[profile]["rates"]
    named = [*((name, label, 0.2) for name, label in OPTIMIZERS.items()), ("sgd", GD, 0.0)]
    return [
        mnist.optimizer_run(
            profile, data, label, seed=0, population_size=budget["seeds"], optimizer=name, learning_rate=rate,
            dropout=dropout,
        )
        for name, label, dropout in named for rate in grid
    ]  # fmt: skip


def other_runs(profile: str, data: str) -> list[Run]:
    """The methods that are no LeNet-5."""
    budget = PROFILES[profile]
    found = locate(mnist.DATASET, data=data)  # type: ignore[arg-type]
    settings: dict[str, dict[str, Any]] = {
        GCFOREST: budget["gcforest"], DBN: budget["dbn"], FOREST: budget["forest"], SVM: {},
    }  # fmt: skip
    planned = []
    for method, seed in ((method, seed) for method in OTHERS for seed in range(budget["seeds"])):
        drawn = 0 if method == SVM and budget["rows"] is None else seed
        config = {
            "dataset": mnist.DATASET, "data": found.choice, "method": method, "seed": drawn, "rows": budget["rows"],
            "test_rows": mnist.PROFILES[profile]["test_rows"], "settings": settings[method],
        }  # fmt: skip
        planned.append(Run(f"{__name__}:other", config, found.hash, f"MNIST · {method} · seed {drawn}"))
    return list({run.identity(): run for run in planned}.values())


def other(
    dataset: str, data: Any, method: str, seed: int, rows: int | None, test_rows: int | None, settings: dict[str, Any]
) -> Rows:
    """A method that is no LeNet-5: right answers on the test images."""
    images = first_rows(mnist.images(dataset, data), rows, seed)
    (inputs, targets), (test_inputs, test_targets) = images.train, (part[:test_rows] for part in images.test)
    if method == GCFOREST:
        chosen = GcForestSettings(**{**settings, "windows": tuple(map(tuple, settings["windows"]))})
        predicted = gcforest(inputs, targets, test_inputs, settings=chosen, seed=seed).probabilities.argmax(1)
    elif method == DBN:
        scaled = dbn.to_unit_range(inputs, test_inputs)
        predicted = dbn.deep_belief_net(scaled[0], targets, scaled[1], seed=seed, **settings).argmax(1)
    elif method == FOREST:
        predicted = classical.random_forest(inputs, targets, test_inputs, seed=seed, **settings)
    else:
        predicted = classical.svm(inputs, targets, test_inputs)
    correct = int((predicted == test_targets).sum())
    return [{
        "method": method, "seed": seed, "test_correct": correct, "test_rows": len(test_targets),
        "images": len(targets), "data": images.source,
    }]  # fmt: skip


def results(rows: pd.DataFrame, profile: str) -> pd.DataFrame:
    """A row per method, learning rate and repetition of LeNet-5: the checkpoint of the lowest loss on images held out.

    For "Adam, best of g" the g units' checkpoints are candidates together.

    Returns:
        Columns method, learning_rate, repetition, held_loss, loss and accuracy (test, %), record_loss and record (the
        lowest test loss and the highest test accuracy of any look: what the paper reports), looks, images, data.
    """
    found = rows[(rows["kind"] == "checkpoint") & rows["step"].isin(mnist.checkpoints(profile))].copy()
    found["repetition"] = found["seed"].where(found["method"].isin([GADAM, BEST_OF_G]), found["unit"]).astype(int)
    found["accuracy"] = 100 * found["test_correct"].astype(float) / found["test_rows"].astype(float)
    found["held_loss"] = found["held_loss"].astype(float).fillna(np.inf)
    chosen = found.loc[found.groupby(CELL)["held_loss"].idxmin()]
    record = found.groupby(CELL).agg(
        record=("accuracy", "max"), record_loss=("test_loss", "min"), looks=("accuracy", "size")
    )
    columns = [*CELL, "held_loss", "test_loss", "accuracy", "images", "data"]
    return chosen[columns].rename(columns={"test_loss": "loss"}).merge(record.reset_index(), on=CELL)


CELL = ["method", "learning_rate", "repetition"]


def tuned_rates(found: pd.DataFrame) -> dict[str, float]:
    """For each method the learning rate with the lowest mean loss on images held out."""
    means = found.pivot_table(index="method", columns="learning_rate", values="held_loss")
    best = {str(method): float(rate) for method, rate in means.idxmin(axis=1).items()}
    return best | {GADAM: best["Adam"], BEST_OF_G: best["Adam"]}
