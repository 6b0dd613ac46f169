"""Section 5.1: LeNet-5 on MNIST by GADAM and by six optimizers, beside other methods (Table 1, figure 2b).

The paper gives no learning rates. The one that its numbers suggest is 0.001 for all: with it, AdaDelta has hardly begun
after 80,000 steps. So every optimizer has two settings, that one ("evident") and the one of a grid with the lowest loss
on training images held out ("tuned"), and the grid's cost is in the table. GADAM and its control have the evident one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from gadam.paper import comparison, mnist, seeds_of
from gadam.paper.baselines.dbn import deep_belief_net
from gadam.paper.baselines.gcforest import GcForestSettings
from gadam.paper.claims import OURS, Arms, Claim, own, paired, unpaired
from gadam.paper.comparison import EQUAL_COMPUTE, FEWER_STEPS, FOREST, GCFOREST, SVM
from gadam.paper.drawing import BLUE, BROWN, GREEN, GREY, ORANGE, PINK, PURPLE, curve_by, draw_curve
from gadam.paper.mnist import ADAM, BEST_OF_G, EVIDENT, GADAM
from gadam.paper.published import TABLE1
from gadam.paper.runs import Row, Run, arm_runs, run_function
from gadam.paper.statistics import accuracy_interval, mean_interval, named
from gadam.paper.units import by_seed, first, source_of, where
from gadam.paper.verdicts import LOSS_MARGIN, MANY, RATIO, Evidence, margin_of

RMSPROP, GD, DECAYED = "RMSProp", "LeNet-5 (GD)", "Adam, decaying rate"
NETS = {
    ADAM: ("adam", 0.2), "SGD": ("sgd", 0.2), "SGDM": ("sgdm", 0.2), RMSPROP: ("rmsprop", 0.2),
    "AdaGrad": ("adagrad", 0.2), "AdaDelta": ("adadelta", 0.2), GD: ("sgd", 0.0), BEST_OF_G: ("adam", 0.2),
    DECAYED: ("adam", 0.2),
}  # fmt: skip
"""Each method without evolution: its optimizer's name for `GadamConfig`, and the dropout of its LeNet-5."""
OPTIMIZERS = [method for method in NETS if method not in (GD, BEST_OF_G, DECAYED)]
SINGLE = [*OPTIMIZERS, GD]
PRINTED = [method for method in OPTIMIZERS if method in TABLE1]
DBN = "Deep Belief Net"
OTHERS = (GCFOREST, DBN, FOREST, SVM)
RATES = "mnist/rates"
"""The arm of the learning-rate grid: a rate is known once all of it is there."""

CONVERGED = 0.95
"""The share of the whole fall of the training loss that we call convergence; the paper gives no measure."""
EARLY = 1_000
"""Steps in which, the paper says, GADAM, Adam and RMSProp converge."""
EARLY_LOOKS = (100, 200, 400, 800, 1_600, 3_200, 6_400)
"""Steps after which units are also scored, before GADAM's first generation ends."""

_WHOLE: dict[str, Any] = {
    "rates": (1e-4, 1e-3, 1e-2, 1e-1, 1.0), "rate_seeds": (100, 101, 102), "tuned_seeds": 5, "rows": None,
    "dbn": {"hidden": (500, 500, 2_000), "pretraining_epochs": 10, "epochs": 20},
}  # fmt: skip
_SMALL: dict[str, Any] = {
    "rates": (1e-3, 1e-1), "rate_seeds": (100,), "tuned_seeds": 2, "seeds": dict.fromkeys(OTHERS, 2),
}  # fmt: skip
_WINDOWS = ((7, 7), (10, 10), (13, 13))
PROFILES: dict[str, dict[str, Any]] = {
    "smoke": _SMALL | {
        "rows": 500, "trees": 10,
        "gcforest": {"forests": 1, "trees": 5, "max_levels": 1, "windows": ((14, 14),), "stride": 7, "scan_trees": 3},
        "dbn": {"hidden": (32,), "pretraining_epochs": 1, "epochs": 1},
    },
    "quick": _SMALL | {
        "rows": 2_000, "trees": 100,
        "gcforest": {"forests": 1, "trees": 20, "max_levels": 2, "windows": ((10, 10),), "stride": 6, "scan_trees": 10,
                     "scan_pieces": 10_000},
        "dbn": {"hidden": (128, 128), "pretraining_epochs": 3, "epochs": 10},
    },
    "standard": _WHOLE | {
        "seeds": {GCFOREST: 1, DBN: 3, FOREST: 5, SVM: 1}, "trees": 500,
        "gcforest": {"forests": 1, "trees": 100, "max_levels": 4, "windows": _WINDOWS, "stride": 3, "scan_trees": 20,
                     "scan_pieces": 100_000},
    },
    "paper": _WHOLE | {
        "tuned_seeds": 10, "seeds": dict.fromkeys(OTHERS, 10), "trees": 2_000,
        "gcforest": {"forests": 4, "trees": 500, "windows": _WINDOWS, "stride": 2, "scan_trees": 500,
                     "scan_pieces": 1_000_000},
    },
}  # fmt: skip
"""The learning-rate grid, compared on development seeds at the smallest scale; `tuned_seeds`: reported ones of what it
finds, and of the decaying rate; and the methods below LeNet-5 in Table 1: on `rows` training images, drawn by the seed,
with so many seeds."""


def runs(profile: str, data: str) -> list[Run]:
    """Every run behind Table 1 that is known at the start; see `later_runs`.

    Of GADAM's runs Table 1 takes the first K generations and Section 5.2 all. Adam alone with the evident rate is the
    first unit of its best of g.
    """
    chosen, scales, found = PROFILES[profile], mnist.scales(profile), []
    for method, rate in itertools.product(SINGLE, chosen["rates"]):
        found += _lenet_runs(scales[-1], data, method, rate, chosen["rate_seeds"], of_grid=True)
    seeds = {scale: seeds_of(scale, mnist.PROFILES[scale]["seeds"]) for scale in scales}
    for scale in scales:
        found += mnist.gadam_runs(scale, data)
        found += _lenet_runs(scale, data, BEST_OF_G, EVIDENT, seeds[scale])
    for method in OPTIMIZERS:
        if method != ADAM:
            found += _lenet_runs(scales[0], data, method, EVIDENT, seeds[scales[0]])
    found += _lenet_runs(scales[0], data, DECAYED, EVIDENT, seeds_of(profile, chosen["tuned_seeds"]))
    return found + _other_runs(profile, data)


RUNS = (runs,)


def later_runs(profile: str, data: str, rows: pd.DataFrame) -> list[Run]:
    """Each single optimizer with the rate that the grid's rows find best, where that is not the evident one."""
    seeds = seeds_of(profile, PROFILES[profile]["tuned_seeds"])
    return [
        run
        for method, rate in tuned_rates(rows, profile).items() if rate != EVIDENT or method == GD
        for run in _lenet_runs(mnist.scales(profile)[0], data, method, rate, seeds)
    ]  # fmt: skip


def _lenet_runs(
    scale: str, data: str, method: str, rate: float, seeds: Iterable[int], of_grid: bool = False
) -> list[Run]:
    """LeNet-5s without evolution, as deep as GADAM's in K generations."""
    (optimizer, dropout), steps, budget = NETS[method], mnist.depth(scale), mnist.PROFILES[scale]
    units = budget["g"] if method == BEST_OF_G else 1
    settings = {
        "method": method, "looks": mnist.checkpoints(scale), "steps": steps, "optimizer": optimizer,
        "learning_rate": rate, "dropout": dropout, "population_size": units,
    }  # fmt: skip
    if method == DECAYED:
        settings["schedule"] = "cosine"
    if method == BEST_OF_G:
        settings["validation_size"] = budget["validation_size"]
    if not of_grid:
        settings["early"] = [step for step in EARLY_LOOKS if step < mnist.checkpoints(scale)[0]]
    return mnist.lenet_runs(
        mnist.lenets_by_optimizer, RATES if of_grid else arm(scale, method, rate), scale, data, seeds, settings,
        units * steps,
        label=f"MNIST · {method} at {rate:g}, {steps:,} steps",
        priority=3 if method != BEST_OF_G else 7 if scale == "standard" else 4,
    )  # fmt: skip


def arm(scale: str, method: str, rate: float = EVIDENT) -> str:
    """The arm of a method of Table 1; Adam's with the evident rate is that of the control, whose first unit it is."""
    if method in OTHERS:
        return f"mnist/{method}"
    if method == GADAM:
        return mnist.gadam_arm(scale)
    return f"mnist/{scale}/{BEST_OF_G if (method, rate) == (ADAM, EVIDENT) else method}/{rate:g}"


def by_other(
    dataset: str, data: Any, seed: int, method: str, rows: int | None, test_rows: int | None, **settings: Any
) -> list[Row]:
    """The right answers of a method of `OTHERS` that has learned from `rows` training images, drawn by the seed."""
    found = mnist.images(dataset, data, rows, test_rows, seed)
    if method == DBN:
        predicted = deep_belief_net(*found.train, found.test[0], seed=seed, **settings).argmax(1)
    else:
        predicted = comparison.predict(found, method, seed, **settings)
    correct = int((predicted == found.test[1]).sum())
    about = {"images": len(found.train[1]), "data": found.source, "method": method, "seed": seed}
    return [about | {"test_correct": correct, "test_rows": len(found.test[1])}]


FUNCTIONS = {
    GCFOREST: run_function("mnist/gcforest", engine=False, settings=GcForestSettings, method=GCFOREST)(by_other),
    DBN: run_function("mnist/dbn", engine=False, method=DBN)(by_other),
    FOREST: run_function("mnist/forest", engine=False, settings=None, method=FOREST)(by_other),
    SVM: run_function("mnist/svm", engine=False, settings=None, method=SVM)(by_other),
}
"""What computes the runs of each method of `OTHERS`."""


def _other_runs(profile: str, data: str) -> list[Run]:
    budget, planned = PROFILES[profile], []
    shared = {"rows": budget["rows"], "test_rows": mnist.PROFILES[profile]["test_rows"]}
    settings = {GCFOREST: budget["gcforest"], DBN: budget["dbn"], FOREST: {"trees": budget["trees"]}, SVM: {}}
    for method, function in FUNCTIONS.items():
        draws = method != SVM or budget["rows"] is not None
        seeds = seeds_of(profile, budget["seeds"][method]) if draws else [0]
        config, label = {**shared, **settings[method]}, f"MNIST · {method}"
        planned += arm_runs(function, arm("", method), seeds, config, mnist.DATASET, data, label=label, priority=6)
    return planned


def _select(rows: pd.DataFrame, kind: str, scale: str, method: str, rate: float | None = EVIDENT) -> pd.DataFrame:
    """The rows of a kind of a method's reported runs; none without a rate. Adam's are of the first unit of its run."""
    found = mnist.select(rows, kind, arm(scale, method, rate) if rate else "")
    return found[found["unit"] == 0] if method == ADAM else found


def results(
    rows: pd.DataFrame, scale: str, method: str, rate: float | None = EVIDENT, until: int | None = None
) -> pd.DataFrame:
    """A row per reported seed of a method of Table 1: of its looks the one with the lowest loss on images held out.

    Of "Adam, best of g" each look is of the unit with the lowest loss on validation rows from T, as GADAM's is of its
    fittest. Others than LeNet-5 have one look.

    Returns:
        seed, data, test_rows; loss and accuracy (test, %) of that look, `until` limits its steps; record_loss and
        record, the lowest test loss and the highest test accuracy of any look, which is what the paper reports; and
        how many looks there are.
    """
    if method in OTHERS:
        found = rows.reindex(columns=list(mnist.COLUMNS))
        found = found[found["method"] == method]
    else:
        found = _select(rows, "checkpoint", scale, method, rate)
        found = found[found["step"] <= (until or mnist.depth(scale))]
        if method == BEST_OF_G:
            loss = found["validation_loss"].astype(float).fillna(np.inf)
            found = found.loc[loss.groupby([found["seed"], found["step"]]).idxmin()]
    found = found.drop(columns="loss").rename(columns={"test_loss": "loss"}).reset_index(drop=True)
    accuracy = 100 * found["test_correct"].astype(float) / found["test_rows"].astype(float)
    found = found.assign(accuracy=accuracy, held_loss=found["held_loss"].astype(float).fillna(np.inf))
    by_seed = found.groupby("seed")
    record = by_seed.agg(record=("accuracy", "max"), record_loss=("loss", "min"), looks=("accuracy", "size"))
    chosen = found.loc[by_seed["held_loss"].idxmin()].merge(record.reset_index(), on="seed")
    return chosen[["seed", "loss", "accuracy", "test_rows", "data", "record", "record_loss", "looks"]]


def tuned_rates(rows: pd.DataFrame, profile: str) -> dict[str, float]:
    """For each single optimizer the rate with the lowest mean loss on images held out, over the development seeds.

    Empty where the rows of the grid are not all there.
    """
    budget = PROFILES[profile]
    found = mnist.select(rows, "checkpoint", RATES)
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
    deepest, *smaller = mnist.scales(profile)
    tuned, chosen = tuned_rates(rows, profile), PROFILES[profile]
    grid = len(chosen["rates"]) * len(chosen["rate_seeds"]) * mnist.depth(mnist.scales(profile)[-1])
    single = [(deepest, method, setting) for method in OPTIMIZERS for setting in ("evident", "tuned")]
    places = [(deepest, GADAM, "evident"), *single[:2], (deepest, BEST_OF_G, "evident"), (deepest, DECAYED, "evident")]
    places += [*single[2:], (deepest, GD, "tuned")]
    places += [(scale, method, "evident") for scale in smaller for method in (GADAM, ADAM, BEST_OF_G)]
    lines = []
    for scale, method, setting in [*places, *((deepest, method, "") for method in OTHERS)]:
        rate = tuned.get(method) if setting == "tuned" else EVIDENT
        found = results(rows, scale, method, rate)
        line: dict[str, Any] = {
            "method": method, "data": first(found, "data"),
            **named(accuracy_interval(found["accuracy"].tolist(), first(found, "test_rows")), "accuracy"),
            "seeds": arms.count(arm(scale, method, rate)) if rate else "0",
        }  # fmt: skip
        if scale == deepest and (setting != "tuned" or method == GD):
            line |= {f"paper {name}": value for name, value in TABLE1.get(method, {}).items()}
        if method not in OTHERS:
            mean, low, high = mean_interval(found["loss"].astype(float).tolist())
            steps = mnist.depth(scale) * (mnist.PROFILES[scale]["g"] if method in (GADAM, BEST_OF_G) else 1)
            line |= {
                "setting": setting, "steps": mnist.depth(scale), "learning rate": rate,
                "gradient steps": steps + (grid if setting == "tuned" else 0), "loss": mean,
                "loss low": np.maximum(low, 0.0), "loss high": high, "best on record": found["record"].mean(),
                "looks": first(found, "looks"),
            }  # fmt: skip
        lines.append(line)
    columns = [
        "method", "setting", "steps", "learning rate", "paper loss", "loss", "loss low", "loss high", "paper accuracy",
        "accuracy", "low", "high", "best on record", "looks", "seeds", "gradient steps", "data",
    ]  # fmt: skip
    frame = pd.DataFrame(lines, columns=columns)
    return frame.astype(dict.fromkeys(("steps", "looks", "gradient steps"), "Int64"))


def note(rows: pd.DataFrame, profile: str) -> str:
    """The sizes behind Table 1, and the optimizers whose best rate may lie outside the grid."""
    budget, chosen = mnist.PROFILES[profile], PROFILES[profile]
    depths = " or ".join(f"{mnist.depth(scale):,} ({mnist.percent(scale)})" for scale in mnist.scales(profile))
    edges = min(chosen["rates"]), max(chosen["rates"])
    at_edge = [method for method, rate in tuned_rates(rows, profile).items() if rate in edges]
    images = f" The last four methods have {chosen['rows']:,} training images." if chosen["rows"] else ""
    held = f"{budget['held']:,} training images are held out of LeNet-5's, to choose among looks, and of no other's. "
    return (
        f"steps: batches of {budget['batch_size']} images of one unit, {depths}. GADAM: g = {budget['g']}, "
        f"K = {budget['K']}; parents and children of a generation train for 1/{2 * budget['K']} of the steps each. "
        f"tuned: best of {', '.join(f'{rate:g}' for rate in chosen['rates'])} by held-out loss after "
        f"{mnist.depth(mnist.scales(profile)[-1]):,} steps of {len(chosen['rate_seeds'])} other seeds, all of the "
        f"optimizer's grid counted; at its edge: {', '.join(at_edge) or 'none'}. {held}SVM: C = 1, gamma = 1 / "
        f"(features · variance of the pixels); the quoted one was tuned elsewhere.{images}"
    )


def curve(rows: pd.DataFrame, profile: str, method: str, rate: float | None) -> pd.DataFrame:
    """Training loss of a method by step, with its interval over seeds, at the deepest scale that has any runs."""
    for scale in mnist.scales(profile):
        found = _select(rows, "curve", scale, method, rate)
        found = found[found["step"] <= mnist.depth(scale)]
        if len(found):
            break
    return curve_by(found, "step", lambda own: mean_interval(own["loss"].tolist()))


LINES: dict[str, tuple[Any, Any]] = {
    GADAM: (BLUE, "-"), ADAM: (ORANGE, "-"), "SGD": (GREEN, "--"), "SGDM": (PURPLE, "--"),
    RMSPROP: (BROWN, "-."), "AdaGrad": (PINK, ":"), "AdaDelta": (GREY, ":"),
}  # fmt: skip
"""Told apart by their dashes too."""


def figure2b(rows: pd.DataFrame, profile: str) -> Figure:
    """Training loss with the evident learning rate and with tuned ones; a method without runs has no line."""
    figure, axes = plt.subplots(1, 2, figsize=(11.5, 5.2), layout="constrained", sharey=True, sharex=True)
    tuned = tuned_rates(rows, profile)
    panels = {
        "the evident setting: learning rate 0.001": dict.fromkeys(LINES, EVIDENT),
        "tuned on images held out, GADAM not": {GADAM: EVIDENT, **tuned} if tuned else {},
    }
    losses = []
    for axis, (title, rates) in zip(axes, panels.items(), strict=True):
        axis.set(xscale="log", yscale="log", xlabel="step of a unit", title=title)
        for method, (colour, dashes) in LINES.items():
            rate = rates.get(method)
            line = curve(rows, profile, method, rate)
            if line.empty:
                continue
            losses += line["mean"].tolist()
            label, width = method if axis is axes[0] else f"{method} ({rate:g})", 2.8 if method == GADAM else 1.7
            line = line.assign(low=line["low"].clip(lower=1e-9))
            draw_curve(axis, line, colour, linestyle=dashes, linewidth=width, label=label)
        if axis.lines:
            axis.legend(loc="lower left", ncols=2, fontsize=9)
    axes[0].set(ylabel="loss on the training batch")
    if losses:
        axes[0].set_ylim(min(losses) / 3, min(max(losses) * 1.4, 30))
    return figure


def claims(rows: pd.DataFrame, profile: str, arms: Arms) -> list[Claim]:
    """Each number of Table 1, and what Section 5.1 says of accuracy, stability and convergence; evident settings.

    Decided at the deepest complete scale, see `gadam.paper.mnist`.
    """
    made = _Claims(rows, profile, arms)
    return [*made.of_table1(), *made.of_accuracy(), *made.of_loss(), *made.of_variation(), *made.of_convergence()]


class _Claims:
    """Makes claims: the scale that decides each, its arms and its numbers. LeNet-5 (GD) has the tuned rate.

    `numbers` of a claim give its evidence at a scale, for units after so many steps.
    """

    def __init__(self, rows: pd.DataFrame, profile: str, arms: Arms) -> None:
        self.rows, self.profile, self.arms = rows, profile, arms
        self.gd = tuned_rates(rows, profile).get(GD)
        self.tested = mnist.PROFILES[profile]["test_rows"] or 10_000
        self.margin = margin_of(mnist.DATASET, self.tested)
        self.results = cache(partial(results, rows))

    def by_seed(self, method: str, name: str, scale: str, until: int) -> dict[int, float]:
        """A column of `results`."""
        return by_seed(self.results(scale, method, self.gd if method == GD else EVIDENT, until), name)

    def arm(self, method: str, scale: str) -> str:
        """The arm that a claim about the method needs; the grid's, as long as it has not found the rate."""
        if method != GD:
            return arm(scale, method)
        return arm(scale, GD, self.gd) if self.gd else RATES

    def budget(self, method: str, scale: str) -> float:
        """The share of the paper's training that a method has at a scale; of trees and images, if it is no LeNet-5."""
        if method not in OTHERS:
            return mnist.budget_share(scale)
        size = PROFILES[self.profile]
        trees = comparison.share_of_trees(method, size, PROFILES["paper"])
        return trees * min(1.0, (size["rows"] or 60_000) / 60_000)

    def claim(self, text: str, methods: list[str], numbers: Callable[[str, int], Any], **also: Any) -> Claim:
        """A claim about some methods."""

        def needed(scale: str) -> list[str]:
            return [self.arm(method, scale) for method in methods]

        scale = mnist.complete_scale(self.profile, self.arms, needed)
        budgets = {method: self.budget(method, scale) for method in methods}
        about: dict[str, Any] = {
            "exhibit": "table1", "arms": needed(scale), "data": source_of(self.rows),
            "budget": min(budgets.values()),
            # The paper quotes these from others, and we run less of them.
            "quoted": any(share < 1 for method, share in budgets.items() if method in (GD, *OTHERS)),
        }  # fmt: skip
        looks = about["budget"] >= mnist.budget_share(scale)  # what is reduced by more than LeNet-5 had no earlier look
        return mnist.claim(scale, text, partial(numbers, scale), looks, **about | also)

    def better(
        self, text: str, method: str, numbers: Callable[[str, str, int], Evidence], size: float | None, **also: Any
    ) -> Claim:
        """A claim that GADAM is better than a method, in the paper by `size`; `text` has places for it and its cost."""
        beside = EQUAL_COMPUTE if method == BEST_OF_G else "" if method in OTHERS else FEWER_STEPS
        return self.claim(
            text.format(method, beside), [GADAM, method], partial(numbers, method), kind="greater", size=size,
            paper=OURS if size is None else f"{size:+.2f}", **also,
        )  # fmt: skip

    def of_table1(self) -> Iterator[Claim]:
        """Each number of Table 1; the best on record of LeNet-5, as the paper has it."""

        def losses(method: str, scale: str, until: int) -> Evidence:
            return Evidence(tuple(self.by_seed(method, "record_loss", scale, until).values()))

        def accuracies(method: str, scale: str, until: int) -> Evidence:
            values = tuple(self.by_seed(method, "record", scale, until).values())
            # An SVM on all images draws nothing: every seed would give the same.
            return own(values * MANY if method == SVM and len(values) == 1 else values, self.tested, mnist.DATASET)

        for method, printed in TABLE1.items():
            accuracy, loss = printed["accuracy"], printed.get("loss")
            best = "" if method in OTHERS else " (best on record)"
            if loss is not None:
                yield self.claim(
                    f"{method} reaches an average loss of {loss} on MNIST{best}", [method], partial(losses, method),
                    kind="falls_to" if method == GADAM else "value", paper=loss,
                    margin=max(LOSS_MARGIN * loss, 1e-4), item=f"table1/{method}/loss",
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

        text, best = "LeNet-5 by GADAM is more accurate than {} on MNIST{}", TABLE1[GADAM]["accuracy"]
        sizes = {method: round(best - printed["accuracy"], 2) for method, printed in TABLE1.items()}
        headlines = {ADAM: "mnist", BEST_OF_G: "mnist, equal compute"}
        for method in [*list(sizes)[1:], BEST_OF_G]:
            about = {"margin": self.margin, "headline": headlines.get(method, "")}
            yield self.better(text, method, difference, sizes.get(method), **about)

    def of_loss(self) -> Iterator[Claim]:
        """GADAM's test loss beside that of each optimizer of Table 1, and of the best of as many units by Adam."""

        def ratio(method: str, scale: str, until: int) -> Evidence:
            """Logarithm of the other's test loss over GADAM's, paired by seed."""
            ours, theirs = (
                {seed: math.log10(loss) for seed, loss in self.by_seed(one, "loss", scale, until).items()}
                for one in (GADAM, method)
            )
            return paired(theirs, ours)

        text = "LeNet-5 by GADAM has a lower test loss on MNIST than {}{} (log10 of the ratio)"
        sizes = {method: round(math.log10(TABLE1[method]["loss"] / TABLE1[GADAM]["loss"]), 2) for method in PRINTED}
        for method in [*PRINTED, BEST_OF_G]:
            yield self.better(text, method, ratio, sizes.get(method), margin=math.log10(RATIO))

    def of_variation(self) -> Iterator[Claim]:
        """The spread of test accuracies over seeds."""

        def spreads(method: str, scale: str, until: int) -> tuple[list[float], ...]:
            return tuple(list(self.by_seed(one, "accuracy", scale, until).values()) for one in (GADAM, method))

        for method in PRINTED:
            yield self.claim(
                f"{method} varies more from one initialisation to the next than GADAM (test accuracy)",
                [GADAM, method], partial(spreads, method), kind="varies", paper="varies more",
                headline="variation" if method == ADAM else "",
            )  # fmt: skip

    def of_convergence(self) -> Iterator[Claim]:
        """What Section 5.1 says of figure2b, on the training losses of the evident settings."""
        about: dict[str, Any] = {"exhibit": "figure2b", "kind": "greater", "margin": float(np.log10(RATIO))}
        fall = about | {"paper": "converges", "margin": LOSS_MARGIN * (1 - CONVERGED)}
        long_enough = mnist.depth(mnist.scales(self.profile)[0]) > EARLY
        for method in (GADAM, ADAM, RMSPROP):
            # A run that ends there has always fallen as far as it falls.
            lacking = {} if long_enough else {"arms": [f"{method} over more than {EARLY:,} steps"]}
            yield self.claim(
                f"{method} converges in {EARLY:,} steps: {CONVERGED:.0%} of the fall of its training loss (shown: the "
                f"share minus {CONVERGED})",
                [method], partial(self.early_fall, method), **fall, **lacking,
            )  # fmt: skip
        yield self.claim(
            "By evolution GADAM finds good starting points: children start lower than fresh networks (log10 of the "
            "ratio of validation losses)",
            [GADAM], self.better_start, paper="lower", **about,
        )  # fmt: skip
        for method, other, same in ((ADAM, BEST_OF_G, ", from the same g initial units"), (RMSPROP, RMSPROP, "")):
            yield self.claim(
                f"GADAM converges faster than {method}: a lower mean training loss of its units over their steps "
                f"(log10 of the ratio{same})",
                [GADAM, other], partial(self.faster, other), paper="faster",
                headline="convergence" if method == ADAM else "", **about,
            )  # fmt: skip

    def losses(self, scale: str, method: str, until: int) -> pd.DataFrame:
        """Training loss up to a step: index step, a column per seed, the mean of its units."""
        found = _select(self.rows, "curve", scale, method)
        found = found[found["step"] <= until].assign(loss=lambda frame: frame["loss"].astype(float))
        return found.pivot_table(index="step", columns="seed", values="loss", aggfunc="mean")

    def early_fall(self, method: str, scale: str, until: int) -> Evidence:
        """The share of its fall up to a step that the training loss has early, minus what we call convergence."""
        losses = self.losses(scale, method, until)
        first = losses.iloc[0]
        fall = (first - losses.loc[:EARLY].iloc[-1]) / (first - losses.min())
        return Evidence(tuple((fall - CONVERGED).tolist()))

    def better_start(self, scale: str, until: int) -> Evidence:
        """Logarithm of validation loss before training, paired by seed: fresh units minus the children so far."""
        units = mnist.select(self.rows, "unit", mnist.gadam_arm(scale))
        starts = units.assign(log=np.log10(units["loss_start"].astype(float)))
        fresh = where(starts, generation=1, role="parent").groupby("seed")["log"].mean()
        generations = until // (2 * mnist.PROFILES[scale]["steps"])
        born = starts[(starts["generation"] <= generations) & (starts["role"] == "child")].groupby("seed")["log"].mean()
        return paired(fresh.to_dict(), born.to_dict())

    def faster(self, other: str, scale: str, until: int) -> Evidence:
        """Logarithm of the mean training loss over the steps, paired by seed: another method's minus GADAM's."""
        curves = [self.losses(scale, method, until) for method in (other, GADAM)]
        end = curves[0].index.intersection(curves[1].index).max()  # each point is the mean since the one before
        curves = [losses.loc[:end] for losses in curves]
        sums = [losses.mul(np.diff(losses.index, prepend=0), axis=0).sum() for losses in curves]
        return paired(*(np.log10(one / end).to_dict() for one in sums))
