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
from gadam.experiments import mnist, paper
from gadam.experiments.runs import Run
from gadam.experiments.statistics import (
    difference_interval,
    mean_interval,
    prediction_interval,
    proportion_interval,
    spread_interval,
)
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
        "rates": (1e-3, 1e-2, 1e-1, 1.0), "rows": 6_000, "seeds": 2,
        "forest": {"trees": 100},
        "gcforest": {"forests": 1, "trees": 50, "max_levels": 3, "windows": ((10, 10),), "stride": 6, "scan_trees": 10,
                     "scan_pieces": 20_000},
        "dbn": {"hidden": (256, 256), "pretraining_epochs": 5, "epochs": 20},
    },
    "paper": {
        "rates": (1e-4, 1e-3, 1e-2, 1e-1, 1.0), "rows": None, "seeds": 10,
        "forest": {"trees": 2_000},
        "gcforest": {"forests": 4, "trees": 500, "windows": ((7, 7), (10, 10), (13, 13)), "stride": 2,
                     "scan_trees": 30, "scan_pieces": 1_000_000},
        "dbn": {"hidden": (500, 500, 2_000), "pretraining_epochs": 10, "epochs": 20},
    },
}  # fmt: skip
"""The learning-rate grid, and the methods below LeNet-5 in Table 1: on so many training images, drawn by the seed."""


def runs(profile: str, data: str) -> list[Run]:
    """Every run behind Table 1, but for GADAM with Adam's tuned learning rate where that is not the evident one."""
    return [*gadam_runs(profile, data, EVIDENT), *optimizer_runs(profile, data), *other_runs(profile, data)]


def gadam_runs(profile: str, data: str, learning_rate: float) -> list[Run]:
    """GADAM with a learning rate, a run for each seed; the first K generations of them are Table 1's."""
    budget = mnist.PROFILES[profile]
    return [
        mnist.gadam_run(profile, data, seed, budget["g"], budget["longest"], learning_rate)
        for seed in range(budget["seeds"])
    ]


def optimizer_runs(profile: str, data: str) -> list[Run]:
    """Each optimizer with each learning rate of the grid, all seeds at once; and g units by Adam for each seed."""
    budget, grid = mnist.PROFILES[profile], PROFILES[profile]["rates"]
    named = [*((name, label, 0.2) for name, label in OPTIMIZERS.items()), ("sgd", GD, 0.0)]
    planned = [
        mnist.optimizer_run(
            profile, data, label, seed=0, population_size=budget["seeds"], optimizer=name, learning_rate=rate,
            dropout=dropout,
        )
        for name, label, dropout in named for rate in grid
    ]  # fmt: skip
    return planned + [
        mnist.optimizer_run(
            profile, data, BEST_OF_G, seed=seed, population_size=budget["g"], optimizer="adam", learning_rate=EVIDENT,
            dropout=0.2,
        )
        for seed in range(budget["seeds"])
    ]  # fmt: skip


def joined(rows: pd.DataFrame, more: pd.DataFrame) -> pd.DataFrame:
    """Rows of several readings as one frame."""
    return pd.concat([rows, more], ignore_index=True)


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
        Columns method, learning_rate, repetition, held_loss, loss and accuracy (test, %), record (the highest test
        accuracy of any checkpoint, %: what the paper reports), data.
    """
    found = rows[(rows["kind"] == "checkpoint") & (rows["step"] <= mnist.depth(profile))].copy()
    found["repetition"] = found["seed"].where(found["method"].isin([GADAM, BEST_OF_G]), found["unit"]).astype(int)
    found["accuracy"] = 100 * found["test_correct"].astype(float) / found["test_rows"].astype(float)
    found["held_loss"] = found["held_loss"].astype(float).fillna(np.inf)
    chosen = found.loc[found.groupby(CELL)["held_loss"].idxmin()]
    record = found.groupby(CELL)["accuracy"].max().rename("record").reset_index()
    columns = [*CELL, "held_loss", "test_loss", "accuracy", "data"]
    return chosen[columns].rename(columns={"test_loss": "loss"}).merge(record, on=CELL)


CELL = ["method", "learning_rate", "repetition"]


def tuned_rates(found: pd.DataFrame) -> dict[str, float]:
    """For each method the learning rate with the lowest mean loss on images held out."""
    means = found.pivot_table(index="method", columns="learning_rate", values="held_loss")
    best = {str(method): float(rate) for method, rate in means.idxmin(axis=1).items()}
    return best | {GADAM: best["Adam"], BEST_OF_G: EVIDENT}


def table1(found: pd.DataFrame, others: pd.DataFrame, profile: str) -> pd.DataFrame:
    """Table 1 with the paper's values beside ours: LeNet-5 by each optimizer and setting, then the other methods."""
    tuned = tuned_rates(found)
    lines = []
    for method in (GADAM, "Adam", BEST_OF_G, *list(OPTIMIZERS.values())[1:], GD):
        for setting in ("evident", "tuned"):
            if (method, setting) in ((BEST_OF_G, "tuned"), (GD, "evident")):
                continue
            rate = EVIDENT if setting == "evident" else tuned[method]
            group = found[(found["method"] == method) & (found["learning_rate"] == rate)]
            lines.append(_line(method, setting, rate, group, profile))
    for method in OTHERS:
        group = others[others["method"] == method]
        share = group["test_correct"].astype(float) / group["test_rows"].astype(float)
        accuracy = _interval((100 * share).tolist(), group)
        lines.append({
            "method": method, "paper accuracy": paper.TABLE1[method][1], "accuracy": accuracy[0], "low": accuracy[1],
            "high": accuracy[2], "seeds": len(group), "training images": int(group["images"].iloc[0]),
            "data": group["data"].iloc[0],
        })  # fmt: skip
    columns = [
        "method", "setting", "learning rate", "paper loss", "loss", "loss low", "loss high", "paper accuracy",
        "accuracy", "low", "high", "best on record", "seeds", "gradient steps", "training images", "data",
    ]  # fmt: skip
    frame = pd.DataFrame(lines)[columns]
    whole = ["gradient steps", "training images", "seeds"]
    return frame.astype(dict.fromkeys(whole, "Int64"))


def note(profile: str) -> str:
    """What a reader of Table 1 must know."""
    budget, rows = mnist.PROFILES[profile], PROFILES[profile]["rows"]
    share = mnist.budget_share(profile, mnist.depth(profile))
    return (
        f"A unit had {mnist.depth(profile):,} batches of {budget['batch_size']} images, {share:.2%} of the "
        f"paper's 80,000 of 128; GADAM with g = {budget['g']}, K = {budget['K']}, {budget['steps']:,} steps per "
        "generation. loss, accuracy (%): mean over seeds and its 95 % interval, at the checkpoint of lowest loss on "
        f"{budget['held']:,} training images held out; best on record: chosen on the test images, as in the paper. "
        f"evident: learning rate 0.001; tuned: best of {', '.join(f'{rate:g}' for rate in PROFILES[profile]['rates'])} "
        "by held-out loss, the grid's steps counted (GADAM takes Adam's). The paper's values stand beside the evident "
        "setting. gradient steps: of all units of one repetition. The paper quotes its values from LeNet-5 (GD) on; "
        "here all are run" + (f", the last four methods on {rows:,} training images." if rows else ".")
    )


def _line(method: str, setting: str, rate: float, group: pd.DataFrame, profile: str) -> dict[str, Any]:
    """A row of Table 1 for LeNet-5; the paper's values stand beside the evident setting, which it seems to be."""
    loss, accuracy = mean_interval(group["loss"].tolist()), mean_interval(group["accuracy"].tolist())
    stated = paper.TABLE1.get(method, (None, None)) if setting == "evident" or method == GD else (None, None)
    return {
        "method": method, "setting": setting, "learning rate": rate, "paper loss": stated[0], "loss": loss[0],
        "loss low": loss[1], "loss high": loss[2], "paper accuracy": stated[1], "accuracy": accuracy[0],
        "low": accuracy[1], "high": accuracy[2], "best on record": group["record"].mean(), "seeds": len(group),
        "gradient steps": gradient_steps(method, setting, profile), "training images": mnist.training_images(profile),
        "data": group["data"].iloc[0],
    }  # fmt: skip


def gradient_steps(method: str, setting: str, profile: str) -> int:
    """Optimizer steps over all units behind one repetition of a row, the grid's among them where it is tuned."""
    units = mnist.PROFILES[profile]["g"] if method in (GADAM, BEST_OF_G) else 1
    steps = units * mnist.depth(profile)
    grid = len(PROFILES[profile]["rates"]) * mnist.depth(profile)
    if setting == "evident":
        return steps
    return steps + grid if method == GADAM else grid


def curves(rows: pd.DataFrame, profile: str) -> pd.DataFrame:
    """Training loss by step: method, setting, step, mean, low and high over the repetitions."""
    tuned = tuned_rates(results(rows, profile))
    found = rows[(rows["kind"] == "curve") & (rows["step"] <= mnist.depth(profile))].copy()
    found["repetition"] = found["seed"].where(found["method"] == GADAM, found["unit"]).astype(int)
    lines = []
    for setting in ("evident", "tuned"):
        for method in (GADAM, *OPTIMIZERS.values()):
            rate = EVIDENT if setting == "evident" else tuned[method]
            chosen = found[(found["method"] == method) & (found["learning_rate"] == rate)]
            for step, group in chosen.groupby("step"):
                mean, low, high = mean_interval(group["loss"].astype(float).tolist())
                lines.append({
                    "method": method, "setting": setting, "learning_rate": rate, "step": step, "loss": mean,
                    "low": low, "high": high, "seeds": len(group),
                })  # fmt: skip
    return pd.DataFrame(lines)


def _interval(values: list[float], group: pd.DataFrame) -> tuple[float, float, float]:
    if len(values) > 1:
        return mean_interval(values)
    share = proportion_interval(int(group["test_correct"].iloc[0]), int(group["test_rows"].iloc[0]))
    return 100 * share[0], 100 * share[1], 100 * share[2]


CONVERGED = 0.95
"""The share of the whole fall of the training loss that we call convergence; the paper gives no measure."""
EARLY = 1_000
"""Steps in which, the paper says, GADAM, Adam and RMSProp converge."""


def claims(rows: pd.DataFrame, others: pd.DataFrame, profile: str) -> pd.DataFrame:
    """Each number of Table 1, and what Section 5.1 says of accuracy, convergence and stability; evident settings."""
    found = results(rows, profile)
    groups = {
        str(method): group for method, group in found.groupby("method") for group in [_chosen(group, str(method))]
    }
    share = mnist.budget_share(profile, mnist.depth(profile))
    images = {str(method): float(group["images"].iloc[0]) / 60_000 for method, group in others.groupby("method")}
    accuracies = {method: group["accuracy"].tolist() for method, group in groups.items()}
    accuracies |= {
        str(method): (100 * group["test_correct"].astype(float) / group["test_rows"].astype(float)).tolist()
        for method, group in others.groupby("method")
    }
    budgets = dict.fromkeys(groups, share) | images
    data = found["data"].iloc[0]
    lines: Rows = []

    def add(text: str, kind: str, theirs: Any, ours: tuple[float, float, float], interval: str, **also: Any) -> None:
        lines.append({
            "claim": text, "section": "section51", "exhibit": "table1", "kind": kind, "paper": theirs, "ours": ours[0],
            "low": ours[1], "high": ours[2], "interval": interval, "budget": share, "seeds": len(accuracies[GADAM]),
            "data": data, "item": "", **also,
        })  # fmt: skip

    for method, (loss, accuracy) in paper.TABLE1.items():
        one = {"budget": budgets[method], "seeds": len(accuracies[method])}
        for name, value, ours in (
            ("loss", loss, groups[method]["loss"].tolist() if method in groups else []),
            ("accuracy", accuracy, accuracies[method]),
        ):
            if value is not None:
                text = f"{method} reaches {value} {'%' if name == 'accuracy' else 'average loss'} on MNIST"
                item = f"table1/{method}/{name}"
                add(text, "value", value, _further(ours, others, method), FURTHER, item=item, **one)
    for method, (_, accuracy) in paper.TABLE1.items():
        if method != GADAM:
            difference = difference_interval(accuracies[GADAM], accuracies[method])
            also = {"budget": min(share, budgets[method])}
            text = f"LeNet-5 by GADAM is more accurate than {method} on MNIST"
            add(text, "greater", f"{paper.TABLE1[GADAM][1] - accuracy:+.2f}", difference, POINTS, **also)
    for other in ("Adam", "SGD", "RMSProp", "AdaGrad", "AdaDelta"):
        ratio = spread_interval(accuracies[other], accuracies[GADAM])
        text = f"{other} varies more from one initialisation to the next than GADAM (test accuracy)"
        add(text, "greater", "greater", ratio, "log10 of the ratio of standard deviations, 95 % (F)")
    return pd.DataFrame([*lines, *_convergence(rows, profile, data)])


FURTHER = "1 further run, 95 % (t)"
POINTS = "points, 95 % (Welch)"


def _convergence(rows: pd.DataFrame, profile: str, data: str) -> Rows:
    """What Section 5.1 says of figure2b, measured on the curves of the evident settings."""
    found = rows[(rows["kind"] == "curve") & (rows["step"] <= mnist.depth(profile))]
    common = {"section": "section51", "exhibit": "figure2b", "kind": "greater", "data": data, "item": ""}
    lines: Rows = []
    by_method = {method: _curves(found, method) for method in (GADAM, "Adam", "RMSProp")}
    for method, losses in by_method.items():
        early = losses.loc[:EARLY]
        fall = (early.iloc[0] - early.iloc[-1]) / (losses.iloc[0] - losses.min())
        mean, low, high = mean_interval((fall - CONVERGED).tolist())
        lines.append({
            **common,
            "claim": f"{method} converges in {EARLY:,} steps: {CONVERGED:.0%} of the fall of its training loss",
            "paper": "greater", "ours": mean, "low": low, "high": high, "seeds": losses.shape[1],
            "interval": f"share of the fall minus {CONVERGED}, 95 % (t)",
            "budget": mnist.budget_share(profile, mnist.depth(profile)),
        })  # fmt: skip
    speeds = {method: np.log10(losses.loc[:EARLY]).mean().tolist() for method, losses in by_method.items()}
    for method in ("Adam", "RMSProp"):
        mean, low, high = difference_interval(speeds[method], speeds[GADAM])
        lines.append({
            **common,
            "claim": f"GADAM converges faster than {method}: lower training loss over the first {EARLY:,} steps",
            "paper": "greater", "ours": mean, "low": low, "high": high, "seeds": len(speeds[GADAM]),
            "interval": "mean log10 loss, 95 % (Welch)",
            "budget": min(1.0, mnist.depth(profile) * mnist.PROFILES[profile]["batch_size"] / (EARLY * 128)),
        })  # fmt: skip
    return lines


def _curves(rows: pd.DataFrame, method: str) -> pd.DataFrame:
    """Training loss of the evident setting: index step, a column per repetition."""
    chosen = rows[(rows["method"] == method) & (rows["learning_rate"] == EVIDENT)]
    chosen = chosen.assign(repetition=chosen["seed"] if method == GADAM else chosen["unit"])
    return chosen.pivot_table(index="step", columns="repetition", values="loss").astype(float)


def _chosen(group: pd.DataFrame, method: str) -> pd.DataFrame:
    """The repetitions that claims are about: the evident learning rate, of LeNet-5 (GD) the tuned one."""
    rates = group.groupby("learning_rate")["held_loss"].mean()
    rate = rates.idxmin() if method == GD else EVIDENT
    return group[group["learning_rate"] == rate]


def _further(values: list[float], others: pd.DataFrame, method: str) -> tuple[float, float, float]:
    """Mean, and where one more run would lie; over test images where nothing was drawn."""
    if len(values) > 1:
        return float(np.mean(values)), *prediction_interval(values)
    return _interval(values, others[others["method"] == method])
