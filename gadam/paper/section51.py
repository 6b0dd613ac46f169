"""Section 5.1: LeNet-5 on MNIST by GADAM and by six optimizers, beside other methods (Table 1, figure 2b).

The paper gives no learning rates. The one that its numbers suggest is 0.001 for all: with it, AdaDelta has hardly begun
after 80,000 steps. So every optimizer has two settings, that one ("evident") and the one of a grid with the lowest loss
on training images held out ("tuned"), and the grid's cost is in the table. GADAM and its control have the evident one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from gadam.paper import mnist, seeds_of
from gadam.paper.baselines import classical, dbn
from gadam.paper.baselines.gcforest import GcForestSettings, gcforest
from gadam.paper.claims import Arms, Reduced
from gadam.paper.runs import Rows, Run, RunFunction, dataset_config, run_function
from gadam.paper.units import Part, first_rows
from gadam.paper.verdicts import Evidence

EVIDENT = 1e-3
GADAM, BEST_OF_G, GD = "GADAM", "Adam, best of g", "LeNet-5 (GD)"
OPTIMIZERS = {
    "adam": "Adam", "sgd": "SGD", "sgdm": "SGDM", "rmsprop": "RMSProp", "adagrad": "AdaGrad", "adadelta": "AdaDelta",
}  # fmt: skip
GCFOREST, DBN, FOREST, SVM = "gcForest", "Deep Belief Net", "Random Forest", "SVM (rbf)"
OTHERS = (GCFOREST, DBN, FOREST, SVM)
RATES = "mnist/rates"
"""The arm of the learning-rate grid: a rate is known once all of it is there."""

PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {
        "rates": (1e-3, 1e-1), "rate_scale": "smoke", "rate_seeds": (100,), "rows": 500,
        "seeds": dict.fromkeys(OTHERS, 2),
        "forest": {"trees": 10},
        "gcforest": {"forests": 1, "trees": 5, "max_levels": 1, "windows": ((14, 14),), "stride": 7, "scan_trees": 3},
        "dbn": {"hidden": (32,), "pretraining_epochs": 1, "epochs": 1},
    },
    "quick": {
        "rates": (1e-3, 1e-1), "rate_scale": "quick", "rate_seeds": (100,), "rows": 3_000,
        "seeds": dict.fromkeys(OTHERS, 2),
        "forest": {"trees": 100},
        "gcforest": {"forests": 1, "trees": 20, "max_levels": 2, "windows": ((10, 10),), "stride": 6, "scan_trees": 10,
                     "scan_pieces": 10_000},
        "dbn": {"hidden": (128, 128), "pretraining_epochs": 3, "epochs": 10},
    },
    "standard": {
        "rates": (1e-4, 1e-3, 1e-2, 1e-1, 1.0), "rate_scale": "tenth", "rate_seeds": (100, 101, 102), "rows": None,
        "seeds": {GCFOREST: 1, DBN: 3, FOREST: 5, SVM: 1},
        "forest": {"trees": 500},
        "gcforest": {"forests": 1, "trees": 100, "max_levels": 4, "windows": ((7, 7), (10, 10), (13, 13)), "stride": 3,
                     "scan_trees": 20, "scan_pieces": 100_000},
        "dbn": {"hidden": (500, 500, 2_000), "pretraining_epochs": 10, "epochs": 20},
    },
    "paper": {
        "rates": (1e-4, 1e-3, 1e-2, 1e-1, 1.0), "rate_scale": "paper", "rate_seeds": (100, 101, 102), "rows": None,
        "seeds": dict.fromkeys(OTHERS, 10),
        "forest": {"trees": 2_000},
        "gcforest": {"forests": 4, "trees": 500, "windows": ((7, 7), (10, 10), (13, 13)), "stride": 2,
                     "scan_trees": 500, "scan_pieces": 1_000_000},
        "dbn": {"hidden": (500, 500, 2_000), "pretraining_epochs": 10, "epochs": 20},
    },
}  # fmt: skip
"""The learning-rate grid, compared on development seeds at `rate_scale` (a key of `mnist.PROFILES`); and the methods
below LeNet-5 in Table 1: on so many training images, drawn by the seed, with so many seeds."""

SINGLE = {**{label: (name, 0.2) for name, label in OPTIMIZERS.items()}, GD: ("sgd", 0.0)}
"""Each single optimizer of Table 1: its name for `GadamConfig`, and the dropout of its LeNet-5."""


def runs(profile: str, data: str) -> list[Run]:
    """Every run behind Table 1 that is known at the start; see `later_runs`."""
    return [*lenet_runs(profile, data), *other_runs(profile, data)]


def lenet_runs(profile: str, data: str) -> list[Run]:
    """The rates of each optimizer on development seeds; with the evident rate GADAM, its control and each optimizer.

    The first K generations of GADAM are Table 1's; Section 5.2 looks at all of them. Adam alone is the first unit of
    the control.
    """
    evolved = [run for scale in mnist.scales(profile) for run in _evolved_runs(scale, data)]
    evident = dict.fromkeys(OPTIMIZERS.values(), EVIDENT)
    return [*rate_runs(profile, data), *evolved, *_single_runs(profile, data, evident)]


def later_runs(profile: str, data: str, rows: pd.DataFrame) -> list[Run]:
    """Each single optimizer with the rate that the rows of `rate_runs` find best, where that is not the evident one."""
    tuned = tuned_rates(rows, profile)
    return _single_runs(
        profile, data, {method: rate for method, rate in tuned.items() if rate != EVIDENT or method == GD}
    )


def rate_runs(profile: str, data: str) -> list[Run]:
    """Each optimizer with each learning rate of the grid, on development seeds, which nothing else is reported of."""
    budget = PROFILES[profile]
    return [
        replace(_single_run(budget["rate_scale"], data, method, rate, seed), arm=RATES)
        for method in SINGLE for rate in budget["rates"] for seed in budget["rate_seeds"]
    ]  # fmt: skip


def _evolved_runs(scale: str, data: str) -> list[Run]:
    """GADAM with the evident rate for the most generations; at the compute of its first K, the best of g Adam runs."""
    budget, planned = mnist.PROFILES[scale], []
    for seed in mnist.seeds(scale, budget["seeds"]):
        planned.append(mnist.gadam_run(scale, data, seed, budget["g"], budget["longest"], EVIDENT))
        settings: dict[str, Any] = {
            "optimizer": "adam", "learning_rate": EVIDENT, "dropout": 0.2, "population_size": budget["g"],
        }  # fmt: skip
        priority = 7 if scale == "standard" else 4
        planned.append(mnist.optimizer_run(scale, data, BEST_OF_G, priority, seed=seed, **settings))
    return planned


def _single_runs(profile: str, data: str, rates: Mapping[str, float]) -> list[Run]:
    """Each of these optimizers with its rate, at the profile's depth; but for Adam's evident rate, see `lenet_runs`."""
    scale = mnist.scales(profile)[0]
    return [
        _single_run(scale, data, method, rate, seed)
        for method, rate in rates.items() if (method, rate) != (OPTIMIZERS["adam"], EVIDENT)
        for seed in mnist.seeds(scale, mnist.PROFILES[scale]["seeds"])
    ]  # fmt: skip


def _single_run(scale: str, data: str, method: str, rate: float, seed: int) -> Run:
    name, dropout = SINGLE[method]
    settings: dict[str, Any] = {
        "optimizer": name, "learning_rate": rate, "dropout": dropout, "population_size": 1,
    }  # fmt: skip
    return mnist.optimizer_run(scale, data, method, seed=seed, **settings)


def other_runs(profile: str, data: str) -> list[Run]:
    """The methods that are no LeNet-5."""
    budget = PROFILES[profile]
    rows, digest = dataset_config(mnist.DATASET, data)
    functions: dict[str, tuple[RunFunction, dict[str, Any]]] = {
        GCFOREST: (deep_forest, budget["gcforest"]), DBN: (belief_net, budget["dbn"]),
        FOREST: (random_forest, budget["forest"]), SVM: (svm, {}),
    }  # fmt: skip
    planned = []
    for method, (function, settings) in functions.items():
        for seed in seeds_of(profile, budget["seeds"][method]):
            drawn = 0 if method == SVM and budget["rows"] is None else seed  # else it draws nothing
            shared = {"seed": drawn, "rows": budget["rows"], "test_rows": mnist.PROFILES[profile]["test_rows"]}
            label = f"MNIST · {method} · seed {drawn}"
            config = {**rows, **shared, **settings}
            planned.append(Run(function, config, digest, label, arm=f"mnist/{method}", priority=6))
    return list({run.key: run for run in planned}.values())


@run_function("mnist/gcforest", engine=False, settings=GcForestSettings)
def deep_forest(
    dataset: str,
    data: Any,
    seed: int,
    rows: int | None,
    test_rows: int | None,
    windows: list[list[int]],
    **settings: Any,
) -> Rows:
    """Multi-grained scanning and a cascade: gcForest."""
    train, test, about = _images(dataset, data, seed, rows, test_rows)
    chosen = GcForestSettings(windows=tuple((height, width) for height, width in windows), **settings)
    said = gcforest(*train, test[0], settings=chosen, seed=seed)
    return [about | _right(GCFOREST, seed, said.probabilities.argmax(1), test)]


@run_function("mnist/dbn", engine=False)
def belief_net(dataset: str, data: Any, seed: int, rows: int | None, test_rows: int | None, **settings: Any) -> Rows:
    """A deep belief net on pixels between 0 and 1."""
    train, test, about = _images(dataset, data, seed, rows, test_rows)
    scaled = dbn.to_unit_range(train[0], test[0])
    predicted = dbn.deep_belief_net(scaled[0], train[1], scaled[1], seed=seed, **settings).argmax(1)
    return [about | _right(DBN, seed, predicted, test)]


@run_function("mnist/forest", engine=False)
def random_forest(dataset: str, data: Any, seed: int, rows: int | None, test_rows: int | None, trees: int) -> Rows:
    """A random forest with scikit-learn's defaults but for the number of trees."""
    train, test, about = _images(dataset, data, seed, rows, test_rows)
    return [about | _right(FOREST, seed, classical.random_forest(*train, test[0], trees=trees, seed=seed), test)]


@run_function("mnist/svm", engine=False)
def svm(dataset: str, data: Any, seed: int, rows: int | None, test_rows: int | None) -> Rows:
    """A support vector machine with scikit-learn's defaults."""
    train, test, about = _images(dataset, data, seed, rows, test_rows)
    return [about | _right(SVM, seed, classical.svm(*train, test[0]), test)]


def _images(
    dataset: str, data: Any, seed: int, rows: int | None, test_rows: int | None
) -> tuple[Part, Part, dict[str, Any]]:
    """Training images, the first test images, and what a row says of them."""
    found = first_rows(mnist.images(dataset, data), rows, seed)
    inputs, targets = found.test
    return found.train, (inputs[:test_rows], targets[:test_rows]), {"images": len(found.train[1]), "data": found.source}


def _right(method: str, seed: int, predicted: Tensor, test: Part) -> dict[str, Any]:
    correct = int((predicted == test[1]).sum())
    return {"method": method, "seed": seed, "test_correct": correct, "test_rows": len(test[1])}


CELL = ["method", "learning_rate", "run_steps", "seed"]
COLUMNS = (
    *CELL, "kind", "g", "unit", "step", "images", "data", "held_loss", "test_loss", "test_correct", "test_rows", "loss",
    "generation", "role", "loss_start", "loss_trained", "loss_survival", "survived",
)  # fmt: skip
"""Of the rows of LeNet-5 that are read here and in Section 5.2."""


def results(rows: pd.DataFrame, scale: str, until: int | None = None) -> pd.DataFrame:
    """A row per method, rate and seed of LeNet-5: of its looks the one with the lowest loss on images held out.

    For "Adam, best of g" the looks of all g units are candidates together; "Adam" is its first unit.

    Args:
        rows: of the runs.
        scale: a key of `mnist.PROFILES`: runs of its depth.
        until: only looks after at most so many steps; None takes all of K generations.

    Returns:
        Columns method, learning_rate, run_steps, seed, held_loss, loss and accuracy (test, %), correct and test_rows,
        record_loss and record (the lowest test loss and the highest test accuracy of any look: what the paper reports),
        looks, images, data.
    """
    depth = mnist.depth(scale) if until is None else until
    steps = {GADAM: mnist.PROFILES[scale]["steps"]}
    found = _with_columns(rows)
    found = found[(found["kind"] == "checkpoint") & (found["step"] <= depth)]
    found = found[found["run_steps"] == [steps.get(method, mnist.depth(scale)) for method in found["method"]]]
    found = found[(found["method"] != GADAM) | (found["g"] == mnist.PROFILES[scale]["g"])]
    adam = found[(found["method"] == BEST_OF_G) & (found["unit"] == 0)]
    found = pd.concat([found, adam.assign(method=OPTIMIZERS["adam"])])
    found["accuracy"] = 100 * found["test_correct"].astype(float) / found["test_rows"].astype(float)
    found["held_loss"] = found["held_loss"].astype(float).fillna(np.inf)
    if found.empty:
        return pd.DataFrame(columns=[*CELL, *RESULT])
    found = found.reset_index(drop=True)
    chosen = found.loc[found.groupby(CELL)["held_loss"].idxmin()]
    record = found.groupby(CELL).agg(
        record=("accuracy", "max"), record_loss=("test_loss", "min"), looks=("accuracy", "size")
    )
    columns = [*CELL, "held_loss", "test_loss", "accuracy", "test_correct", "test_rows", "images", "data"]
    names = {"test_loss": "loss", "test_correct": "correct"}
    return chosen[columns].rename(columns=names).merge(record.reset_index(), on=CELL)


RESULT = (
    "held_loss", "loss", "accuracy", "correct", "test_rows", "images", "data", "record", "record_loss", "looks",
)  # fmt: skip


def tuned_rates(rows: pd.DataFrame, profile: str) -> dict[str, float]:
    """For each single optimizer the rate with the lowest mean loss on images held out, over the development seeds.

    Empty where the rows of `rate_runs` are not all there.
    """
    budget = PROFILES[profile]
    found = results(rows, budget["rate_scale"])
    found = found[found["seed"].isin(budget["rate_seeds"])]
    if len(found) < len(SINGLE) * len(budget["rates"]) * len(budget["rate_seeds"]):
        return {}
    means = found.pivot_table(index="method", columns="learning_rate", values="held_loss")
    return {str(method): float(rate) for method, rate in means.idxmin(axis=1).items()}


def reported(rows: pd.DataFrame, scale: str, until: int | None = None) -> pd.DataFrame:
    """`results` of the seeds that are reported: those on which rates were chosen are left out."""
    found = results(rows, scale, until)
    return found[found["seed"].isin(mnist.seeds(scale, mnist.PROFILES[scale]["seeds"]))]


def select(
    rows: pd.DataFrame, scale: str, method: str, kind: str, rate: float = EVIDENT, size: int | None = None
) -> pd.DataFrame:
    """The rows of a kind of a method's reported seeds at a scale, with all columns even where there are none.

    Args:
        rows: of the runs.
        scale: a key of `mnist.PROFILES`.
        method: one of LeNet-5's; Adam with the evident rate is the first unit of its control.
        kind: "unit", "curve" or "checkpoint".
        rate: the learning rate.
        size: GADAM's population; default that of Table 1.
    """
    budget = mnist.PROFILES[scale]
    first = method == OPTIMIZERS["adam"] and rate == EVIDENT
    found = _with_columns(rows)
    chosen = (found["kind"] == kind) & (found["method"] == (BEST_OF_G if first else method))
    chosen &= found["run_steps"] == (budget["steps"] if method == GADAM else mnist.depth(scale))
    chosen &= (found["learning_rate"] == rate) & found["seed"].isin(mnist.seeds(scale, budget["seeds"]))
    if method == GADAM:
        chosen &= found["g"] == (size or budget["g"])
    return found[chosen & (found["unit"] == 0)] if first else found[chosen]


def _with_columns(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with every column of `COLUMNS`: runs that are missing may leave some out."""
    missing = [name for name in COLUMNS if name not in rows]
    return rows.reindex(columns=[*rows.columns, *missing]) if missing else rows


def arm(scale: str, method: str, rate: float = EVIDENT) -> str:
    """What the seeds of a method are repetitions of, LeNet-5's or another; see `select` for Adam's."""
    if method in OTHERS:
        return f"mnist/{method}"
    if method == GADAM:
        return mnist.gadam_arm(scale, mnist.PROFILES[scale]["g"], rate)
    first = method == OPTIMIZERS["adam"] and rate == EVIDENT
    return mnist.optimizer_arm(scale, BEST_OF_G if first else method, rate)


def complete_scale(scales: Sequence[str], arms: Arms, needed: Callable[[str], Sequence[str]], otherwise: str) -> str:
    """The first of some scales at which all arms that a claim needs are complete, or another one."""
    return next((scale for scale in scales if arms.complete(*needed(scale))), otherwise)


def share_of(scale: str) -> float:
    """The share of the paper's training that a unit has at a scale."""
    return mnist.budget_share(scale, mnist.depth(scale))


def percent(scale: str) -> str:
    """The same in words."""
    return f"{100 * share_of(scale):.2g} % of the paper's budget" if share_of(scale) < 1 else "the paper's budget"


def evidence_at(scale: str, numbers: Callable[[int], Evidence]) -> Evidence | Reduced:
    """The numbers at a scale; of less than the paper's budget also those of the last look at half of it or before.

    Args:
        scale: a key of `mnist.PROFILES`.
        numbers: gives them for what a unit was after so many steps, whole generations of GADAM's.
    """
    depth = mnist.depth(scale)
    now = numbers(depth)
    if share_of(scale) >= 1:
        return now
    early = [look for look in mnist.checkpoints(scale) if look <= depth / 2]
    return Reduced(now, numbers(early[-1]), mnist.budget_share(scale, early[-1])) if early else Reduced(now)


def source(rows: pd.DataFrame) -> str:
    """Where the rows come from; what is not there yet will be real."""
    return str(rows["data"].iloc[0]) if len(rows) else "real"


RUNS = (runs, lenet_runs, rate_runs, other_runs)
