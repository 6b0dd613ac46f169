"""What came of the runs of Section 5.1: Table 1, the curves of figure 2b, and the claims."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from gadam.experiments import mnist, paper
from gadam.experiments.section51 import (
    BEST_OF_G,
    EVIDENT,
    FOREST,
    GADAM,
    GCFOREST,
    GD,
    OPTIMIZERS,
    OTHERS,
    PROFILES,
    SVM,
    Rows,
    results,
    tuned_rates,
)
from gadam.experiments.statistics import (
    difference_interval,
    mean_interval,
    prediction_interval,
    proportion_interval,
    spread_interval,
)
from gadam.experiments.units import gcforest_share


def table1(found: pd.DataFrame, others: pd.DataFrame, profile: str) -> pd.DataFrame:
    """Table 1 with the paper's values beside ours: LeNet-5 by each optimizer and setting, then the other methods."""
    tuned = tuned_rates(found)
    lines = []
    for method in (GADAM, "Adam", BEST_OF_G, *list(OPTIMIZERS.values())[1:], GD):
        for setting in ("evident", "tuned"):
            if (method, setting) == (GD, "evident"):
                continue
            rate = EVIDENT if setting == "evident" else tuned[method]
            group = found[(found["method"] == method) & (found["learning_rate"] == rate)]
            lines.append(_line(method, setting, rate, group, profile))
    for method in OTHERS:
        group = others[others["method"] == method]
        share = group["test_correct"].astype(float) / group["test_rows"].astype(float)
        accuracy = _interval((100 * share).tolist(), group)
        lines.append({
            "method": method, "paper accuracy": paper.TABLE1[method][1], "accuracy": accuracy[0],
            "low": max(0, accuracy[1]), "high": min(100, accuracy[2]), "seeds": len(group),
            "training images": int(group["images"].iloc[0]),
            "data": group["data"].iloc[0],
        })  # fmt: skip
    columns = [
        "method", "setting", "learning rate", "paper loss", "loss", "loss low", "loss high", "paper accuracy",
        "accuracy", "low", "high", "best on record", "looks", "seeds", "gradient steps", "training images", "data",
    ]  # fmt: skip
    frame = pd.DataFrame(lines)[columns]
    whole = ["gradient steps", "training images", "seeds", "looks"]
    return frame.astype(dict.fromkeys(whole, "Int64"))


def note(found: pd.DataFrame, profile: str) -> str:
    """What a reader of Table 1 must know."""
    budget, rows, rates = mnist.PROFILES[profile], PROFILES[profile]["rows"], PROFILES[profile]["rates"]
    share = mnist.budget_share(profile, mnist.depth(profile))
    edge = [
        method for method, rate in tuned_rates(found).items()
        if rate in (min(rates), max(rates)) and method not in (GADAM, BEST_OF_G)
    ]  # fmt: skip
    early = "" if share >= 1 else f"This is {share:.2%} of the paper's training: it decides nothing about its numbers. "
    return early + (
        f"A unit had {mnist.depth(profile):,} batches of {budget['batch_size']} images (the paper: 80,000 of 128); "
        f"GADAM g = {budget['g']}, K = {budget['K']}, {budget['steps']:,} steps per generation. "
        "loss, accuracy (%): mean over seeds and its 95 % interval, at the look with the lowest loss on images "
        "held out (GADAM: of the unit that survival ranks first; best of g: among all its units). best on record: the "
        "highest of its looks at the test images, the paper's way of choosing. "
        f"evident: learning rate 0.001, beside which the paper's values stand; tuned: best of "
        f"{', '.join(f'{rate:g}' for rate in rates)} by held-out loss, the steps of one repetition's grid counted; "
        f"GADAM takes Adam's. At the edge of the grid: {', '.join(edge) or 'none'}. gradient steps: of all units of "
        "one repetition. From LeNet-5 (GD) on the paper quotes; here all are run"
        + (f", the last four methods on {rows:,} training images." if rows else ".")
    )


def _line(method: str, setting: str, rate: float, group: pd.DataFrame, profile: str) -> dict[str, Any]:
    """A row of Table 1 for LeNet-5; the paper's values stand beside the evident setting, which it seems to be."""
    loss, accuracy = mean_interval(group["loss"].tolist()), mean_interval(group["accuracy"].tolist())
    stated = paper.TABLE1.get(method, (None, None)) if setting == "evident" or method == GD else (None, None)
    return {
        "method": method, "setting": setting, "learning rate": rate, "paper loss": stated[0], "loss": loss[0],
        "loss low": max(0, loss[1]), "loss high": loss[2], "paper accuracy": stated[1], "accuracy": accuracy[0],
        "low": max(0, accuracy[1]), "high": min(100, accuracy[2]), "best on record": group["record"].mean(),
        "looks": int(group["looks"].iloc[0]), "seeds": len(group),
        "gradient steps": gradient_steps(method, setting, profile), "training images": int(group["images"].iloc[0]),
        "data": group["data"].iloc[0],
    }  # fmt: skip


def gradient_steps(method: str, setting: str, profile: str) -> int:
    """Optimizer steps over all units behind one repetition of a row, the grid's among them where it is tuned."""
    units = mnist.PROFILES[profile]["g"] if method in (GADAM, BEST_OF_G) else 1
    steps = units * mnist.depth(profile)
    grid = len(PROFILES[profile]["rates"]) * mnist.depth(profile)
    if setting == "evident":
        return steps
    return steps + grid if units > 1 else grid


def curves(rows: pd.DataFrame, profile: str) -> pd.DataFrame:
    """Training loss by step: method, setting, step, mean, low and high over the repetitions."""
    tuned = tuned_rates(results(rows, profile))
    found = rows[(rows["kind"] == "curve") & (rows["step"] <= mnist.depth(profile))]
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
    groups = {str(method): _chosen(group, str(method)) for method, group in found.groupby("method")}
    share = mnist.budget_share(profile, mnist.depth(profile))
    accuracies = {method: group["accuracy"].tolist() for method, group in groups.items()}
    budgets = dict.fromkeys(groups, share)
    for method, group in others.groupby("method"):
        right = 100 * group["test_correct"].astype(float) / group["test_rows"].astype(float)
        accuracies[str(method)] = right.tolist()
        budgets[str(method)] = min(1.0, float(group["images"].iloc[0]) / 60_000)
    budgets[GCFOREST] *= gcforest_share(PROFILES[profile]["gcforest"])
    budgets[FOREST] *= PROFILES[profile]["forest"]["trees"] / PROFILES["paper"]["forest"]["trees"]
    seeds = {method: len(values) for method, values in accuracies.items()}
    if seeds[SVM] == 1:
        seeds[SVM] = seeds[GADAM]  # it draws nothing: every seed would give the same
    common = {"section": "section51", "exhibit": "table1", "data": found["data"].iloc[0], "item": ""}
    lines: Rows = []

    def add(text: str, kind: str, theirs: Any, ours: tuple[float, float, float], interval: str, **also: Any) -> None:
        lines.append({
            **common, "claim": text, "kind": kind, "paper": theirs, "ours": ours[0], "low": ours[1], "high": ours[2],
            "interval": interval, "budget": share, "seeds": seeds[GADAM], **also,
        })  # fmt: skip

    for method, (loss, accuracy) in paper.TABLE1.items():
        one = {"budget": budgets[method], "seeds": seeds[method]}
        lenet = groups.get(method)
        if loss is not None and lenet is not None:
            text = f"{method} reaches an average loss of {loss} on MNIST (best on record)"
            ours = _further(lenet["record_loss"].tolist(), lenet)
            add(text, "value", loss, ours, FURTHER, item=f"table1/{method}/loss", **one)
        text = f"{method} reaches {accuracy} % on MNIST" + " (best on record)" * (lenet is not None)
        values = accuracies[method] if lenet is None else lenet["record"].tolist()
        ours = _further(values, others[others["method"] == method])
        add(text, "value", accuracy, ours, FURTHER, item=f"table1/{method}/accuracy", **one)
    compared = {method: f"{paper.TABLE1[GADAM][1] - pair[1]:+.2f}" for method, pair in paper.TABLE1.items()}
    compared[BEST_OF_G] = "no claim: our control"
    for method, theirs in compared.items():
        if method != GADAM:
            text = f"LeNet-5 by GADAM is more accurate than {method} on MNIST{_compute(method, groups)}"
            also = {"budget": min(share, budgets[method]), "seeds": min(seeds[GADAM], seeds[method])}
            add(text, "greater", theirs, _difference(accuracies[GADAM], accuracies[method]), POINTS, **also)
    for other in ("Adam", "SGD", "RMSProp", "AdaGrad", "AdaDelta"):
        ratio = spread_interval(accuracies[other], accuracies[GADAM])
        text = f"{other} varies more from one initialisation to the next than GADAM (test accuracy)"
        add(text, "greater", "greater", ratio, "log10 of the ratio of standard deviations, 95 % (F)")
    return pd.DataFrame([*lines, *_convergence(rows, profile, common | {"exhibit": "figure2b"})])


FURTHER = "1 further run, 95 % (t)"
POINTS = "points, 95 % (Welch)"


def _compute(method: str, groups: Any) -> str:
    if method == BEST_OF_G:
        return " at equal compute"
    return " (which had 1/g of its gradient steps)" if method in groups else ""


def _difference(ours: list[float], theirs: list[float]) -> tuple[float, float, float]:
    """Welch's interval; against a method that draws nothing, that of our mean alone."""
    if len(theirs) > 1:
        return difference_interval(ours, theirs)
    return mean_interval([value - theirs[0] for value in ours])


def _convergence(rows: pd.DataFrame, profile: str, common: dict[str, Any]) -> Rows:
    """What Section 5.1 says of figure2b, on the training losses of the evident settings."""
    depth = mnist.depth(profile)
    found = rows[(rows["kind"] == "curve") & (rows["step"] <= depth) & (rows["learning_rate"] == EVIDENT)]
    by_method = {
        method: _by_repetition(found[found["method"] == method]) for method in (GADAM, "Adam", BEST_OF_G, "RMSProp")
    }
    share = mnist.budget_share(profile, depth)
    lines: Rows = []

    def add(text: str, ours: tuple[float, float, float], interval: str, seeds: int) -> None:
        lines.append({
            **common, "claim": text, "kind": "greater", "paper": "greater", "ours": ours[0], "low": ours[1],
            "high": ours[2], "interval": interval, "budget": share, "seeds": seeds,
        })  # fmt: skip

    for method in (GADAM, "Adam", "RMSProp"):
        losses = by_method[method]
        nothing = (float("nan"),) * 3  # a run that ends there has always fallen as far as it falls
        first, lowest = losses.iloc[0], losses.min()
        fall = (first - losses.loc[:EARLY].iloc[-1]) / (first - lowest)
        ours = mean_interval((fall - CONVERGED).tolist()) if depth > EARLY else nothing
        text = f"{method} converges in {EARLY:,} steps: {CONVERGED:.0%} of the fall of its training loss"
        add(text, ours, f"share of the fall minus {CONVERGED}, 95 % (t)", losses.shape[1])
    units = rows[(rows["kind"] == "unit") & (rows["learning_rate"] == EVIDENT)]
    units = units[units["g"] == mnist.PROFILES[profile]["g"]]
    starts = units.assign(log=np.log10(units["loss_start"].astype(float)))
    fresh = starts[(starts["generation"] == 1) & (starts["role"] == "parent")].groupby("seed")["log"].mean()
    born = starts[(starts["generation"] <= mnist.PROFILES[profile]["K"]) & (starts["role"] == "child")]
    better = (fresh - born.groupby("seed")["log"].mean()).tolist()
    text = "By evolution GADAM finds good starting points: children start lower than fresh networks"
    add(text, mean_interval(better), "log10 of validation loss, paired by seed, 95 % (t)", len(better))
    # Each loss counts for as many steps as it is the mean of.
    means = {
        method: (losses.mul(np.diff(losses.index, prepend=0), axis=0).sum() / losses.index[-1]).tolist()
        for method, losses in by_method.items()
    }
    for method, other in (("Adam", BEST_OF_G), ("RMSProp", "RMSProp")):
        text = f"GADAM converges faster than {method}: a lower mean training loss of its units over their steps"
        ours = difference_interval(means[other], means[GADAM])
        add(text, ours, f"loss, {'the same g initial units, ' * (method == 'Adam')}95 % (Welch)", len(means[GADAM]))
    return lines


def _by_repetition(rows: pd.DataFrame) -> pd.DataFrame:
    """Training loss: index step, a column per repetition, the mean of its units."""
    several = rows["method"].isin([GADAM, BEST_OF_G])
    marked = rows.assign(repetition=rows["seed"].where(several, rows["unit"]), loss=rows["loss"].astype(float))
    return marked.pivot_table(index="step", columns="repetition", values="loss", aggfunc="mean")


def _chosen(group: pd.DataFrame, method: str) -> pd.DataFrame:
    """The repetitions that claims are about: the evident learning rate, of LeNet-5 (GD) the tuned one."""
    rates = group.groupby("learning_rate")["held_loss"].mean()
    rate = rates.idxmin() if method == GD else EVIDENT
    return group[group["learning_rate"] == rate]


def _further(values: list[float], group: pd.DataFrame) -> tuple[float, float, float]:
    """Mean, and where one more run would lie; over test images where nothing was drawn."""
    if len(values) > 1:
        return float(np.mean(values)), *prediction_interval(values)
    return _interval(values, group)
