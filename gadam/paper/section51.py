"""Section 5.1: LeNet-5 on MNIST by GADAM and by six optimizers, beside other methods (Table 1, figure 2b).

The paper gives no learning rates. The one that its numbers suggest is 0.001 for all: with it, AdaDelta has hardly begun
after 80,000 steps. So every optimizer has two settings, that one ("evident") and the one of a grid with the lowest loss
on training images held out ("tuned"), and the grid's cost is in the table. GADAM and its control have the evident one.

Claims are decided at the deepest complete scale, see `gadam.paper.mnist`; but "varies more" needs ten seeds, which only
a tenth of the budget has, so there the tenth comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from gadam.datasets import Dataset
from gadam.paper import mnist, seeds_of
from gadam.paper import published as paper
from gadam.paper.baselines import classical, dbn
from gadam.paper.baselines.gcforest import GcForestSettings, gcforest
from gadam.paper.claims import Arms, Claim, own, paired, unpaired
from gadam.paper.mnist import EVIDENT, GADAM
from gadam.paper.palette import BLUE, BROWN, GREEN, GREY, ORANGE, PINK, PURPLE, say_missing
from gadam.paper.runs import Rows, Run, RunFunction, dataset_config, run_function
from gadam.paper.statistics import accuracy_interval, mean_interval
from gadam.paper.units import gcforest_share
from gadam.paper.verdicts import LOSS_MARGIN, MANY, RATIO, Evidence, margin_of

ADAM, RMSPROP, BEST_OF_G, GD = "Adam", "RMSProp", "Adam, best of g", "LeNet-5 (GD)"
OPTIMIZERS = {
    "adam": ADAM, "sgd": "SGD", "sgdm": "SGDM", "rmsprop": RMSPROP, "adagrad": "AdaGrad", "adadelta": "AdaDelta",
}  # fmt: skip
NETS = {BEST_OF_G: ("adam", 0.2), GD: ("sgd", 0.0), **{label: (name, 0.2) for name, label in OPTIMIZERS.items()}}
"""Each method without evolution: its optimizer's name for `GadamConfig`, and the dropout of its LeNet-5."""
SINGLE = (*OPTIMIZERS.values(), GD)
GCFOREST, DBN, FOREST, SVM = "gcForest", "Deep Belief Net", "Random Forest", "SVM (rbf)"
OTHERS = (GCFOREST, DBN, FOREST, SVM)
RATES = "mnist/rates"
"""The arm of the learning-rate grid: a rate is known once all of it is there."""
IMAGES, TEST_ROWS = 60_000, 10_000
"""Of the whole of MNIST."""

_WHOLE: dict[str, Any] = {
    "rates": (1e-4, 1e-3, 1e-2, 1e-1, 1.0), "rate_seeds": (100, 101, 102), "rows": None,
    "dbn": {"hidden": (500, 500, 2_000), "pretraining_epochs": 10, "epochs": 20},
}  # fmt: skip
_SMALL: dict[str, Any] = {"rates": (1e-3, 1e-1), "rate_seeds": (100,), "seeds": dict.fromkeys(OTHERS, 2)}
_WINDOWS = ((7, 7), (10, 10), (13, 13))
PROFILES: dict[str, dict[str, Any]] = {
    "smoke": _SMALL | {
        "rate_scale": "smoke", "rows": 500, "forest": {"trees": 10},
        "gcforest": {"forests": 1, "trees": 5, "max_levels": 1, "windows": ((14, 14),), "stride": 7, "scan_trees": 3},
        "dbn": {"hidden": (32,), "pretraining_epochs": 1, "epochs": 1},
    },
    "quick": _SMALL | {
        "rate_scale": "quick", "rows": 3_000, "forest": {"trees": 100},
        "gcforest": {"forests": 1, "trees": 20, "max_levels": 2, "windows": ((10, 10),), "stride": 6, "scan_trees": 10,
                     "scan_pieces": 10_000},
        "dbn": {"hidden": (128, 128), "pretraining_epochs": 3, "epochs": 10},
    },
    "standard": _WHOLE | {
        "rate_scale": "tenth", "seeds": {GCFOREST: 1, DBN: 3, FOREST: 5, SVM: 1}, "forest": {"trees": 500},
        "gcforest": {"forests": 1, "trees": 100, "max_levels": 4, "windows": _WINDOWS, "stride": 3, "scan_trees": 20,
                     "scan_pieces": 100_000},
    },
    "paper": _WHOLE | {
        "rate_scale": "paper", "seeds": dict.fromkeys(OTHERS, 10), "forest": {"trees": 2_000},
        "gcforest": {"forests": 4, "trees": 500, "windows": _WINDOWS, "stride": 2, "scan_trees": 500,
                     "scan_pieces": 1_000_000},
    },
}  # fmt: skip
"""The learning-rate grid, compared on development seeds at `rate_scale` (a key of `mnist.PROFILES`); and the methods
below LeNet-5 in Table 1: on `rows` training images, drawn by the seed, with so many seeds."""


def runs(profile: str, data: str) -> list[Run]:
    """Every run behind Table 1 that is known at the start; see `later_runs`.

    The rates of each optimizer on development seeds, of which nothing else is reported. With the evident rate GADAM, of
    which Table 1 takes the first K generations and Section 5.2 all; the best of g Adam runs at the compute of those K;
    and each optimizer alone, but for Adam, which is the first unit of that control. And the other methods.
    """
    chosen, deepest = PROFILES[profile], mnist.scales(profile)[0]
    grid = [
        replace(_lenet_run(chosen["rate_scale"], data, method, rate, seed), arm=RATES)
        for method in SINGLE for rate in chosen["rates"] for seed in chosen["rate_seeds"]
    ]  # fmt: skip
    evolved = []
    for scale in mnist.scales(profile):
        budget = mnist.PROFILES[scale]
        for seed in mnist.seeds(scale, budget["seeds"]):
            evolved.append(mnist.gadam_run(scale, data, seed, budget["g"], budget["longest"]))
            evolved.append(_lenet_run(scale, data, BEST_OF_G, EVIDENT, seed))
    alone = _lenet_runs(deepest, data, dict.fromkeys((one for one in OPTIMIZERS.values() if one != ADAM), EVIDENT))
    return [*grid, *evolved, *alone, *_other_runs(profile, data)]


RUNS = (runs,)


def later_runs(profile: str, data: str, rows: pd.DataFrame) -> list[Run]:
    """Each single optimizer with the rate that the grid's rows find best, where that is not the evident one."""
    tuned = {one: rate for one, rate in tuned_rates(rows, profile).items() if rate != EVIDENT or one == GD}
    return _lenet_runs(mnist.scales(profile)[0], data, tuned)


def _lenet_runs(scale: str, data: str, rates: Mapping[str, float]) -> list[Run]:
    seeds = mnist.seeds(scale, mnist.PROFILES[scale]["seeds"])
    return [_lenet_run(scale, data, method, rate, seed) for method, rate in rates.items() for seed in seeds]


def _lenet_run(scale: str, data: str, method: str, rate: float, seed: int) -> Run:
    """LeNet-5s without evolution, as deep as GADAM's in K generations."""
    (optimizer, dropout), steps = NETS[method], mnist.depth(scale)
    units = mnist.PROFILES[scale]["g"] if method == BEST_OF_G else 1
    settings = {
        "method": method, "looks": mnist.checkpoints(scale), "steps": steps, "seed": seed, "optimizer": optimizer,
        "learning_rate": rate, "dropout": dropout, "population_size": units,
    }  # fmt: skip
    return mnist.lenet_run(
        mnist.lenets_by_optimizer, scale, data, settings, units * steps, arm=arm(scale, method, rate),
        label=f"MNIST · {method} at {rate:g}, {steps:,} steps · seed {seed}",
        priority=3 if method != BEST_OF_G else 7 if scale == "standard" else 4,
    )  # fmt: skip


def arm(scale: str, method: str, rate: float = EVIDENT) -> str:
    """The arm of a method of Table 1; Adam's with the evident rate is that of the control, whose first unit it is."""
    if method in OTHERS:
        return f"mnist/{method}"
    if method == GADAM:
        return mnist.gadam_arm(scale, mnist.PROFILES[scale]["g"], rate)
    return f"mnist/{scale}/{BEST_OF_G if (method, rate) == (ADAM, EVIDENT) else method}/{rate:g}"


def _other_runs(profile: str, data: str) -> list[Run]:
    budget, planned = PROFILES[profile], []
    rows, digest = dataset_config(mnist.DATASET, data)
    shared = {**rows, "rows": budget["rows"], "test_rows": mnist.PROFILES[profile]["test_rows"]}
    functions: dict[str, tuple[RunFunction, dict[str, Any]]] = {
        GCFOREST: (deep_forest, budget["gcforest"]), DBN: (belief_net, budget["dbn"]),
        FOREST: (random_forest, budget["forest"]), SVM: (svm, {}),
    }  # fmt: skip
    for method, (function, settings) in functions.items():
        draws = method != SVM or budget["rows"] is not None
        for seed in seeds_of(profile, budget["seeds"][method]) if draws else [0]:
            config, label = {**shared, "seed": seed, **settings}, f"MNIST · {method} · seed {seed}"
            planned.append(Run(function, config, digest, label, arm=arm("", method), priority=6))
    return planned


@run_function("mnist/gcforest", engine=False, settings=GcForestSettings)
def deep_forest(
    dataset: str, data: Any, seed: int, rows: int | None, test_rows: int | None, windows: list[Any], **settings: Any
) -> Rows:
    """Multi-grained scanning and a cascade: gcForest."""
    found = mnist.images(dataset, data, rows, test_rows, seed)
    chosen = GcForestSettings(windows=tuple((height, width) for height, width in windows), **settings)
    said = gcforest(*found.train, found.test[0], settings=chosen, seed=seed)
    return _scored(GCFOREST, seed, said.probabilities.argmax(1), found)


@run_function("mnist/dbn", engine=False)
def belief_net(dataset: str, data: Any, seed: int, rows: int | None, test_rows: int | None, **settings: Any) -> Rows:
    """A deep belief net on pixels between 0 and 1."""
    found = mnist.images(dataset, data, rows, test_rows, seed)
    train, test = dbn.to_unit_range(found.train[0], found.test[0])
    predicted = dbn.deep_belief_net(train, found.train[1], test, seed=seed, **settings).argmax(1)
    return _scored(DBN, seed, predicted, found)


@run_function("mnist/forest", engine=False)
def random_forest(dataset: str, data: Any, seed: int, rows: int | None, test_rows: int | None, trees: int) -> Rows:
    """A random forest with scikit-learn's defaults but for the number of trees."""
    found = mnist.images(dataset, data, rows, test_rows, seed)
    predicted = classical.random_forest(*found.train, found.test[0], trees=trees, seed=seed)
    return _scored(FOREST, seed, predicted, found)


@run_function("mnist/svm", engine=False)
def svm(dataset: str, data: Any, seed: int, rows: int | None, test_rows: int | None) -> Rows:
    """A support vector machine with scikit-learn's defaults."""
    found = mnist.images(dataset, data, rows, test_rows, seed)
    return _scored(SVM, seed, classical.svm(*found.train, found.test[0]), found)


def _scored(method: str, seed: int, predicted: Tensor, found: Dataset) -> Rows:
    correct, tested = int((predicted == found.test[1]).sum()), len(found.test[1])
    about = {"images": len(found.train[1]), "data": found.source, "method": method, "seed": seed}
    return [about | {"test_correct": correct, "test_rows": tested}]


def select(rows: pd.DataFrame, scale: str, method: str, kind: str, rate: float | None = EVIDENT) -> pd.DataFrame:
    """`mnist.select`, where Adam with the evident rate is the first unit of its control."""
    if (method, rate) != (ADAM, EVIDENT):
        return mnist.select(rows, scale, method, kind, rate)
    found = mnist.select(rows, scale, BEST_OF_G, kind)
    return found[found["unit"] == 0]


RESULT = ("seed", "loss", "accuracy", "test_rows", "data", "record", "record_loss", "looks")


def results(
    rows: pd.DataFrame, scale: str, method: str, rate: float | None = EVIDENT, until: int | None = None
) -> pd.DataFrame:
    """A row per reported seed of a method of Table 1: of its looks the one with the lowest loss on images held out.

    For "Adam, best of g" the looks of all g units are candidates together. Others than LeNet-5 have one look.

    Returns:
        Columns `RESULT`: loss and accuracy (test, %) of that look, `until` limits its steps; record_loss and record,
        the lowest test loss and the highest test accuracy of any look, which is what the paper reports.
    """
    if method in OTHERS:
        found = rows.reindex(columns=list(mnist.COLUMNS))
        found = found[found["method"] == method]
    else:
        found = select(rows, scale, method, "checkpoint", rate)
        found = found[found["step"] <= (until or mnist.depth(scale))]
    if found.empty:
        return pd.DataFrame(columns=list(RESULT))
    found = found.rename(columns={"loss": "training loss", "test_loss": "loss"}).reset_index(drop=True)
    accuracy = 100 * found["test_correct"].astype(float) / found["test_rows"].astype(float)
    found = found.assign(accuracy=accuracy, held_loss=found["held_loss"].astype(float).fillna(np.inf))
    by_seed = found.groupby("seed")
    record = by_seed.agg(record=("accuracy", "max"), record_loss=("loss", "min"), looks=("accuracy", "size"))
    return found.loc[by_seed["held_loss"].idxmin()].merge(record.reset_index(), on="seed")[list(RESULT)]


def tuned_rates(rows: pd.DataFrame, profile: str) -> dict[str, float]:
    """For each single optimizer the rate with the lowest mean loss on images held out, over the development seeds.

    Empty where the rows of the grid are not all there.
    """
    budget = PROFILES[profile]
    found = rows.reindex(columns=list(mnist.COLUMNS))
    of_the_grid = found["seed"].isin(budget["rate_seeds"]) & (found["run_steps"] == mnist.depth(budget["rate_scale"]))
    found = found[of_the_grid & (found["kind"] == "checkpoint") & found["method"].isin(list(SINGLE))]
    found = found.assign(held_loss=found["held_loss"].astype(float).fillna(np.inf))
    lowest = found.groupby(["method", "learning_rate", "seed"])["held_loss"].min()
    if len(lowest) < len(SINGLE) * len(budget["rates"]) * len(budget["rate_seeds"]):
        return {}
    best = lowest.groupby(["method", "learning_rate"]).mean().groupby("method").idxmin()
    return {str(method): float(rate) for method, rate in best}


def table1(rows: pd.DataFrame, profile: str, arms: Arms) -> pd.DataFrame:
    """Table 1 with the paper's values beside ours: LeNet-5 by each optimizer and setting, then the other methods.

    At the profile's first scale every method has its place, whether there are runs or not; at a smaller one those that
    are planned there. Means over seeds and their intervals.
    """
    first, *smaller = mnist.scales(profile)
    tuned = tuned_rates(rows, profile)
    single = [(first, method, setting) for method in OPTIMIZERS.values() for setting in ("evident", "tuned")]
    places = [(first, GADAM, "evident"), *single[:2], (first, BEST_OF_G, "evident"), *single[2:], (first, GD, "tuned")]
    places += [(scale, method, "evident") for scale in smaller for method in (GADAM, ADAM, BEST_OF_G)]
    lines = []
    for scale, method, setting in [*places, *((first, method, "") for method in OTHERS)]:
        rate = tuned.get(method) if setting == "tuned" else EVIDENT
        line: dict[str, Any] = {"method": method, "seeds": arms.count(arm(scale, method, rate)) if rate else "0"}
        if method not in OTHERS:
            line |= {"setting": setting, "steps": mnist.depth(scale), "learning rate": rate}
            line["gradient steps"] = gradient_steps(method, setting, profile, scale)
        if scale == first and (setting != "tuned" or method == GD):
            line["paper loss"], line["paper accuracy"] = paper.TABLE1.get(method, (None, None))
        found = results(rows, scale, method, rate)
        if len(found):
            mean, low, high = accuracy_interval(found["accuracy"].tolist(), int(found["test_rows"].iloc[0]))
            line |= {"accuracy": mean, "low": low, "high": high, "data": found["data"].iloc[0]}
        if len(found) and method not in OTHERS:
            mean, low, high = mean_interval(found["loss"].astype(float).tolist())
            line |= {"loss": mean, "loss low": max(0.0, low), "loss high": high}
            line |= {"best on record": found["record"].mean(), "looks": int(found["looks"].iloc[0])}
        lines.append(line)
    columns = [
        "method", "setting", "steps", "learning rate", "paper loss", "loss", "loss low", "loss high", "paper accuracy",
        "accuracy", "low", "high", "best on record", "looks", "seeds", "gradient steps", "data",
    ]  # fmt: skip
    frame = pd.DataFrame(lines, columns=columns)
    return frame.astype(dict.fromkeys(("steps", "looks", "gradient steps"), "Int64"))


def gradient_steps(method: str, setting: str, profile: str, scale: str) -> int:
    """Optimizer steps over all units behind one seed of a row, with the optimizer's whole grid where it is tuned."""
    units = mnist.PROFILES[scale]["g"] if method in (GADAM, BEST_OF_G) else 1
    chosen = PROFILES[profile]
    grid = len(chosen["rates"]) * len(chosen["rate_seeds"]) * mnist.depth(chosen["rate_scale"])
    return units * mnist.depth(scale) + (grid if setting == "tuned" else 0)


def note(rows: pd.DataFrame, profile: str, arms: Arms) -> str:
    """What a reader of Table 1 must know."""
    budget, chosen, tuned = mnist.PROFILES[profile], PROFILES[profile], tuned_rates(rows, profile)
    depths = [f"{mnist.depth(scale):,} ({mnist.percent(scale)})" for scale in mnist.scales(profile)]
    edge = [method for method, rate in tuned.items() if rate in (min(chosen["rates"]), max(chosen["rates"]))]
    found = (
        f"At the edge of the grid: {', '.join(edge) or 'none'}." if tuned
        else f"Of the grid's runs {arms.count(RATES)} are there."
    )  # fmt: skip
    return (
        f"steps: batches of {budget['batch_size']} images of one unit, {' or '.join(depths)}. GADAM: "
        f"g = {budget['g']}, K = {budget['K']}; parents and children of a generation train for "
        f"1/{2 * budget['K']} of the steps each. "
        "loss, accuracy (%): mean over seeds and its 95 % interval, at the look with the lowest loss on images "
        "held out (GADAM: of the unit that survival ranks first; best of g: among all its units). best on record: the "
        "highest of its looks at the test images, the paper's way of choosing. "
        "evident: learning rate 0.001, beside which the paper's values stand; tuned: best of "
        f"{', '.join(f'{rate:g}' for rate in chosen['rates'])} by held-out loss after "
        f"{mnist.depth(chosen['rate_scale']):,} steps of {len(chosen['rate_seeds'])} other seeds, all of the "
        f"optimizer's grid counted. {found} gradient steps: of all units behind one seed. From LeNet-5 (GD) on the "
        "paper quotes; here all are run"
        + (f", the last four methods on {chosen['rows']:,} training images." if chosen["rows"] else ".")
    )


def curves(rows: pd.DataFrame, profile: str, arms: Arms) -> pd.DataFrame:
    """Training loss by step: method, setting, learning_rate, steps, seeds, step, loss, low and high over seeds.

    Of each method at the first scale of the profile that has any runs; `seeds` says how many.
    """
    tuned = tuned_rates(rows, profile)
    lines: Rows = []
    for setting in ("evident", "tuned") if tuned else ("evident",):
        for method in (GADAM, *OPTIMIZERS.values()):
            rate = EVIDENT if setting == "evident" or method == GADAM else tuned[method]
            for scale in mnist.scales(profile):
                chosen = select(rows, scale, method, "curve", rate)
                chosen = chosen[chosen["step"] <= mnist.depth(scale)]
                about = {
                    "method": method, "setting": setting, "learning_rate": rate, "steps": mnist.depth(scale),
                    "seeds": arms.count(arm(scale, method, rate)),
                }  # fmt: skip
                for step, losses in chosen["loss"].astype(float).groupby(chosen["step"]):
                    interval = mean_interval(losses.tolist())
                    lines.append(about | {"step": step} | dict(zip(("loss", "low", "high"), interval, strict=True)))
                if len(chosen):
                    break
    columns = ["method", "setting", "learning_rate", "steps", "seeds", "step", "loss", "low", "high"]
    return pd.DataFrame(lines, columns=columns)


def curves_caption(found: pd.DataFrame, profile: str) -> str:
    """What figure 2b shows, from `curves`: which lines are shorter than the others, or have seeds missing."""
    budget, scales = mnist.PROFILES[profile], mnist.scales(profile)
    lines = found.drop_duplicates(["method", "setting"])
    longest = mnist.depth(scales[0]) if lines.empty else int(lines["steps"].max())
    scale = next(one for one in scales if mnist.depth(one) == longest)
    shorter = lines[lines["steps"] < longest].drop_duplicates("method")
    partly = lines[lines["seeds"].str.contains("of")] if len(lines) else lines
    also = [f"{row['method']} over {row['steps']:,}" for row in shorter.to_dict("records")]
    missing = [f"{row['method']} ({row['setting']}) {row['seeds']}" for row in partly.to_dict("records")]
    return (
        f"Loss on the training batch over {longest:,} steps, {mnist.percent(scale)}"
        + (f" ({', '.join(also)})" if also else "")
        + ". Each point is the mean since the point before, both axes are logarithmic; mean over seeds with its 95 % "
        + f"interval{'; seeds: ' if missing else ''}{', '.join(missing)}. GADAM: g = {budget['g']} units, batches of "
        f"{budget['batch_size']} images. Right: each optimizer with its best learning rate."
    )


LINES: dict[str, tuple[Any, Any]] = {
    GADAM: (BLUE, "-"), ADAM: (ORANGE, "-"), "SGD": (GREEN, "--"), "SGDM": (PURPLE, "--"),
    RMSPROP: (BROWN, "-."), "AdaGrad": (PINK, ":"), "AdaDelta": (GREY, ":"),
}  # fmt: skip
"""Told apart by their dashes too."""


def figure2b(curves: pd.DataFrame) -> Figure:
    """Training loss with the evident learning rate and with tuned ones; a method without runs has no line."""
    figure, axes = plt.subplots(1, 2, figsize=(11.5, 5.2), layout="constrained", sharey=True, sharex=True)
    titles = {"evident": "the evident setting: learning rate 0.001", "tuned": "tuned on images held out, GADAM not"}
    for axis, (setting, title) in zip(axes, titles.items(), strict=True):
        axis.set(xscale="log", yscale="log", xlabel="step of a unit", title=title)
        chosen = curves[curves["setting"] == setting]
        for method, (colour, dashes) in LINES.items():
            line = chosen[chosen["method"] == method].sort_values("step")
            if line.empty:
                continue
            label = method if setting == "evident" else f"{method} ({line['learning_rate'].iloc[0]:g})"
            width = 2.8 if method == GADAM else 1.7
            axis.plot(line["step"], line["loss"], color=colour, linestyle=dashes, linewidth=width, label=label)
            low, high = line["low"].clip(lower=1e-9), line["high"]
            axis.fill_between(line["step"], low, high, color=colour, alpha=0.15, linewidth=0)
        if chosen.empty:
            say_missing(axis)
        else:
            axis.legend(loc="lower left", ncols=2, fontsize=9)
    axes[0].set(ylabel="loss on the training batch")
    if len(curves):
        axes[0].set_ylim(float(curves["loss"].min()) / 3, min(float(curves["loss"].max()) * 1.4, 30))
    return figure


CONVERGED = 0.95
"""The share of the whole fall of the training loss that we call convergence; the paper gives no measure."""
EARLY = 1_000
"""Steps in which, the paper says, GADAM, Adam and RMSProp converge."""


def claims(rows: pd.DataFrame, profile: str, arms: Arms) -> list[Claim]:
    """Each number of Table 1, and what Section 5.1 says of accuracy, stability and convergence; evident settings."""
    made = _Claims(rows, profile, arms)
    return [*made.of_table1(), *made.of_accuracy(), *made.of_variation(), *made.of_convergence()]


class _Claims:
    """Makes claims: the scale that decides each, its arms and its numbers. LeNet-5 (GD) has the tuned rate."""

    def __init__(self, rows: pd.DataFrame, profile: str, arms: Arms) -> None:
        self.rows, self.profile, self.arms = rows, profile, arms
        self.gd = tuned_rates(rows, profile).get(GD)
        self.tested = mnist.PROFILES[profile]["test_rows"] or TEST_ROWS
        self.margin = margin_of(mnist.DATASET, self.tested)
        self.results = cache(self._results)

    def _results(self, method: str, scale: str, until: int) -> pd.DataFrame:
        return results(self.rows, scale, method, self.gd if method == GD else EVIDENT, until)

    def by_seed(self, method: str, name: str, scale: str, until: int) -> dict[int, float]:
        """A column of `results`."""
        found = self.results(method, scale, until)
        return dict(zip(found["seed"].astype(int).tolist(), found[name].astype(float).tolist(), strict=True))

    def arm(self, method: str, scale: str) -> str:
        """The arm that a claim about the method needs; the grid's, as long as it has not found the rate."""
        if method != GD:
            return arm(scale, method)
        return arm(scale, GD, self.gd) if self.gd else RATES

    def budget(self, method: str, scale: str) -> float:
        """The share of the paper's training that a method has at a scale; of trees and images, if it is no LeNet-5."""
        chosen = PROFILES[self.profile]
        if method not in OTHERS:
            return mnist.budget_share(scale)
        trees = {
            GCFOREST: gcforest_share(chosen["gcforest"]),
            FOREST: chosen["forest"]["trees"] / PROFILES["paper"]["forest"]["trees"],
        }
        return float(trees.get(method, 1.0) * min(1.0, (chosen["rows"] or IMAGES) / IMAGES))

    def claim(
        self, text: str, methods: list[str], numbers: Callable[[str, int], Any], order: Sequence[str] = (), **also: Any
    ) -> Claim:
        """A claim about some methods; `numbers` gives its evidence at a scale for units after so many steps."""
        scale = mnist.complete_scale(
            self.profile, self.arms, lambda one: [self.arm(name, one) for name in methods], order
        )
        budgets = {method: self.budget(method, scale) for method in methods}
        budget = min(budgets.values())

        common: dict[str, Any] = {
            "section": "section51", "exhibit": "table1", "arms": [self.arm(method, scale) for method in methods],
            "budget": budget, "data": mnist.source(self.rows),
            # The paper quotes these from others, and we run less of them.
            "quoted": any(share < 1 for method, share in budgets.items() if method in (GD, *OTHERS)),
        }  # fmt: skip
        looks = budget >= mnist.budget_share(scale)  # what is reduced by more than LeNet-5 had no earlier look
        return mnist.claim(scale, text, partial(numbers, scale), looks, **(common | also))

    def of_table1(self) -> Iterator[Claim]:
        """Each number of Table 1; the best on record of LeNet-5, as the paper has it."""

        def losses(method: str, scale: str, until: int) -> Evidence:
            return Evidence(tuple(self.by_seed(method, "record_loss", scale, until).values()))

        def accuracies(method: str, scale: str, until: int) -> Evidence:
            values = tuple(self.by_seed(method, "record", scale, until).values())
            if method == SVM and len(values) == 1:
                values *= MANY  # it draws nothing: every seed would give the same
            return own(values, self.tested, mnist.DATASET)

        for method, (loss, accuracy) in paper.TABLE1.items():
            best = "" if method in OTHERS else " (best on record)"
            if loss is not None:
                yield self.claim(
                    f"{method} reaches an average loss of {loss} on MNIST{best}", [method], partial(losses, method),
                    kind="value", paper=loss, margin=max(LOSS_MARGIN * loss, 1e-4), item=f"table1/{method}/loss",
                )  # fmt: skip
            yield self.claim(
                f"{method} reaches {accuracy} % on MNIST{best}", [method], partial(accuracies, method),
                kind="reaches" if method == GADAM else "value", paper=accuracy, margin=self.margin,
                item=f"table1/{method}/accuracy",
            )  # fmt: skip

    def of_accuracy(self) -> Iterator[Claim]:
        """GADAM beside each other method of Table 1, and beside the best of as many units by Adam."""

        def difference(method: str, scale: str, until: int) -> Evidence:
            """Paired by seed if the other one starts from the same units."""
            ours, theirs = (self.by_seed(one, "accuracy", scale, until) for one in (GADAM, method))
            if method in OTHERS:
                return unpaired(ours.values(), theirs.values(), self.tested, mnist.DATASET)
            return paired(ours, theirs, self.tested, mnist.DATASET)

        for method, (_, accuracy) in list(paper.TABLE1.items())[1:]:
            compute = "" if method in OTHERS else " (which had 1/g of its gradient steps)"
            size = round(paper.TABLE1[GADAM][1] - accuracy, 2)
            yield self.claim(
                f"LeNet-5 by GADAM is more accurate than {method} on MNIST{compute}", [GADAM, method],
                partial(difference, method), kind="greater", margin=self.margin, size=size, paper=f"{size:+.2f}",
                headline="mnist" if method == ADAM else "",
            )  # fmt: skip
        yield self.claim(
            f"LeNet-5 by GADAM is more accurate than {BEST_OF_G} on MNIST at equal compute", [GADAM, BEST_OF_G],
            partial(difference, BEST_OF_G), kind="greater", margin=self.margin, paper="no claim: our control",
            headline="mnist, equal compute",
        )  # fmt: skip

    def of_variation(self) -> Iterator[Claim]:
        """The spread of test accuracies over seeds, at the scale that has most of them."""

        def spreads(method: str, scale: str, until: int) -> tuple[list[float], ...]:
            return tuple(list(self.by_seed(one, "accuracy", scale, until).values()) for one in (GADAM, method))

        order = sorted(mnist.scales(self.profile), key=lambda scale: -mnist.PROFILES[scale]["seeds"])
        for method in (one for one in OPTIMIZERS.values() if one in paper.TABLE1):
            yield self.claim(
                f"{method} varies more from one initialisation to the next than GADAM (test accuracy)",
                [GADAM, method], partial(spreads, method), order, kind="varies", paper="varies more",
                headline="variation" if method == ADAM else "",
            )  # fmt: skip

    def of_convergence(self) -> Iterator[Claim]:
        """What Section 5.1 says of figure2b, on the training losses of the evident settings."""
        common: dict[str, Any] = {"exhibit": "figure2b", "kind": "greater"}
        ratio = common | {"margin": float(np.log10(RATIO))}
        # A run that ends there has always fallen as far as it falls.
        long_enough = max(mnist.depth(scale) for scale in mnist.scales(self.profile)) > EARLY
        for method in (GADAM, ADAM, RMSPROP):
            yield self.claim(
                f"{method} converges in {EARLY:,} steps: {CONVERGED:.0%} of the fall of its training loss (shown: the "
                f"share minus {CONVERGED})",
                [method], partial(_early_fall, self.rows, method), paper="converges",
                margin=LOSS_MARGIN * (1 - CONVERGED), **common,
                **({} if long_enough else {"arms": [f"{method} over more than {EARLY:,} steps"]}),
            )  # fmt: skip
        yield self.claim(
            "By evolution GADAM finds good starting points: children start lower than fresh networks (log10 of the "
            "ratio of validation losses)",
            [GADAM], partial(_better_start, self.rows), paper="lower", **ratio,
        )  # fmt: skip
        for method, other, same in ((ADAM, BEST_OF_G, ", from the same g initial units"), (RMSPROP, RMSPROP, "")):
            yield self.claim(
                f"GADAM converges faster than {method}: a lower mean training loss of its units over their steps "
                f"(log10 of the ratio{same})",
                [GADAM, other], partial(_faster, self.rows, other), paper="faster",
                headline="convergence" if method == ADAM else "", **ratio,
            )  # fmt: skip


def _losses(rows: pd.DataFrame, scale: str, method: str, until: int) -> pd.DataFrame:
    """Training loss up to a step: index step, a column per seed, the mean of its units."""
    found = select(rows, scale, method, "curve")
    found = found[found["step"] <= until].assign(loss=lambda frame: frame["loss"].astype(float))
    return found.pivot_table(index="step", columns="seed", values="loss", aggfunc="mean")


def _early_fall(rows: pd.DataFrame, method: str, scale: str, until: int) -> Evidence:
    """The share of its fall up to a step that the training loss has behind it early, minus what we call convergence."""
    losses = _losses(rows, scale, method, until)
    first = losses.iloc[0]
    fall = (first - losses.loc[:EARLY].iloc[-1]) / (first - losses.min())
    return Evidence(tuple((fall - CONVERGED).tolist()))


def _better_start(rows: pd.DataFrame, scale: str, until: int) -> Evidence:
    """Logarithm of validation loss before training, paired by seed: fresh units minus the children so far."""
    units = select(rows, scale, GADAM, "unit")
    starts = units.assign(log=np.log10(units["loss_start"].astype(float)))
    fresh = starts[(starts["generation"] == 1) & (starts["role"] == "parent")].groupby("seed")["log"].mean()
    generations = until // (2 * mnist.PROFILES[scale]["steps"])
    born = starts[(starts["generation"] <= generations) & (starts["role"] == "child")].groupby("seed")["log"].mean()
    return paired(fresh.to_dict(), born.to_dict())


def _faster(rows: pd.DataFrame, other: str, scale: str, until: int) -> Evidence:
    """Logarithm of the mean training loss over the steps, paired by seed: another method's minus GADAM's."""
    curves = [_losses(rows, scale, method, until) for method in (other, GADAM)]
    end = curves[0].index.intersection(curves[1].index).max()  # each point is the mean since the one before
    means = []
    for losses in curves:
        losses = losses.loc[:end]
        weights = np.diff(losses.index, prepend=0)
        means.append(np.log10(losses.mul(weights, axis=0).sum() / end).to_dict())
    return paired(*means)
