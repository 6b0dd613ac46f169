"""What came of the runs of Section 5.1: Table 1, the curves of figure 2b, and the claims.

Which runs decide a claim is settled before any is computed. Those at the paper's whole budget, if all arms that the
claim needs are complete there; else those at a tenth of it, if these are, with a look after two of their five
generations beside them, from which the trend to the whole budget is carried on; else none, and the claim names the arms
of the whole budget. "Varies more" needs ten seeds, which only the tenth has, so there the tenth comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from gadam.paper import mnist
from gadam.paper import published as paper
from gadam.paper.claims import Arms, Claim, Reduced, own, paired, unpaired
from gadam.paper.section51 import (
    BEST_OF_G,
    EVIDENT,
    FOREST,
    GADAM,
    GCFOREST,
    GD,
    OPTIMIZERS,
    OTHERS,
    PROFILES,
    RATES,
    SVM,
    Rows,
    arm,
    complete_scale,
    evidence_at,
    percent,
    reported,
    select,
    share_of,
    source,
    tuned_rates,
)
from gadam.paper.statistics import accuracy_interval, mean_interval
from gadam.paper.units import gcforest_share
from gadam.paper.verdicts import LOSS_MARGIN, MANY, RATIO, Evidence, margin_of

IMAGES, TEST_ROWS = 60_000, 10_000
"""Of the whole of MNIST."""


def table1(rows: pd.DataFrame, others: pd.DataFrame, profile: str, arms: Arms) -> pd.DataFrame:
    """Table 1 with the paper's values beside ours: LeNet-5 by each optimizer and setting, then the other methods.

    At the profile's first scale every method has its place, whether there are runs or not; at a smaller one those that
    are planned there.
    """
    tuned = tuned_rates(rows, profile)
    lines = []
    for scale in mnist.scales(profile):
        found, first = reported(rows, scale), scale == mnist.scales(profile)[0]
        for method, setting in _settings(first):
            rate = EVIDENT if setting == "evident" else tuned.get(method)
            group = found[(found["method"] == method) & (found["learning_rate"] == rate)]
            known = {
                "setting": setting, "steps": mnist.depth(scale), "learning rate": rate,
                "seeds": arms.count(arm(scale, method, rate)) if rate else "0",
                "gradient steps": gradient_steps(method, setting, profile, scale),
            }  # fmt: skip
            stated = paper.TABLE1.get(method, (None, None)) if first and (setting == "evident" or method == GD) else ()
            lines.append(_line(method, group, stated) | known)
    for method in OTHERS:
        group = others[others["method"] == method] if len(others) else others
        correct = group.get("test_correct", pd.Series(dtype=float)).astype(float)
        group = group.assign(accuracy=100 * correct / group["test_rows"].astype(float) if len(group) else correct)
        lines.append(_line(method, group, paper.TABLE1[method]) | {"seeds": arms.count(arm("", method))})
    columns = [
        "method", "setting", "steps", "learning rate", "paper loss", "loss", "loss low", "loss high", "paper accuracy",
        "accuracy", "low", "high", "best on record", "looks", "seeds", "gradient steps", "data",
    ]  # fmt: skip
    frame = pd.DataFrame(lines, columns=columns)
    return frame.astype(dict.fromkeys(("steps", "looks", "gradient steps"), "Int64"))


def _settings(first: bool) -> list[tuple[str, str]]:
    """The rows of LeNet-5 at the first scale of a profile, or at a smaller one."""
    adam, *others = OPTIMIZERS.values()
    if not first:
        return [(method, "evident") for method in (GADAM, adam, BEST_OF_G)]
    both = [(method, setting) for method in others for setting in ("evident", "tuned")]
    return [(GADAM, "evident"), (adam, "evident"), (adam, "tuned"), (BEST_OF_G, "evident"), *both, (GD, "tuned")]


def _line(method: str, group: pd.DataFrame, stated: tuple[float | None, ...]) -> dict[str, Any]:
    """A row of Table 1: means over seeds and their intervals; empty where there are no runs."""
    line: dict[str, Any] = {"method": method}
    if stated:
        line |= {"paper loss": stated[0], "paper accuracy": stated[1]}
    if not len(group):
        return line
    mean, low, high = accuracy_interval(group["accuracy"].tolist(), int(group["test_rows"].iloc[0]))
    line |= {"accuracy": mean, "low": low, "high": high, "data": group["data"].iloc[0]}
    if "loss" in group:
        mean, low, high = mean_interval(group["loss"].astype(float).tolist())
        line |= {
            "loss": mean, "loss low": max(0.0, low), "loss high": high, "best on record": group["record"].mean(),
            "looks": int(group["looks"].iloc[0]),
        }  # fmt: skip
    return line


def gradient_steps(method: str, setting: str, profile: str, scale: str) -> int:
    """Optimizer steps over all units behind one seed of a row, with the optimizer's whole grid where it is tuned."""
    units = mnist.PROFILES[scale]["g"] if method in (GADAM, BEST_OF_G) else 1
    chosen = PROFILES[profile]
    grid = len(chosen["rates"]) * len(chosen["rate_seeds"]) * mnist.depth(chosen["rate_scale"])
    return units * mnist.depth(scale) + (grid if setting == "tuned" else 0)


def note(rows: pd.DataFrame, profile: str, arms: Arms) -> str:
    """What a reader of Table 1 must know."""
    budget, chosen, tuned = mnist.PROFILES[profile], PROFILES[profile], tuned_rates(rows, profile)
    depths = [f"{mnist.depth(scale):,} ({percent(scale)})" for scale in mnist.scales(profile)]
    edge = [method for method, rate in tuned.items() if rate in (min(chosen["rates"]), max(chosen["rates"]))]
    found = (
        f"At the edge of the grid: {', '.join(edge) or 'none'}."
        if tuned
        else f"Of the grid's runs {arms.count(RATES)} are there."
    )
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
    """Training loss by step: method, setting, learning_rate, steps, seeds, step, mean, low and high over seeds.

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
                if len(chosen):
                    about = {
                        "method": method, "setting": setting, "learning_rate": rate, "steps": mnist.depth(scale),
                        "seeds": arms.count(arm(scale, method, rate)),
                    }  # fmt: skip
                    lines += [about | point for point in _points(chosen)]
                    break
    columns = ["method", "setting", "learning_rate", "steps", "seeds", "step", "loss", "low", "high"]
    return pd.DataFrame(lines, columns=columns)


def _points(chosen: pd.DataFrame) -> Rows:
    found = []
    for step, group in chosen.groupby("step"):
        mean, low, high = mean_interval(group["loss"].astype(float).tolist())
        found.append({"step": step, "loss": mean, "low": low, "high": high})
    return found


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
        f"Loss on the training batch over {longest:,} steps, {percent(scale)}"
        + (f" ({', '.join(also)})" if also else "")
        + ". Each point is the mean since the point before, both axes are logarithmic; mean over seeds with its 95 % "
        + f"interval{'; seeds: ' if missing else ''}{', '.join(missing)}. GADAM: g = {budget['g']} units, batches of "
        f"{budget['batch_size']} images. Right: each optimizer with its best learning rate."
    )


CONVERGED = 0.95
"""The share of the whole fall of the training loss that we call convergence; the paper gives no measure."""
EARLY = 1_000
"""Steps in which, the paper says, GADAM, Adam and RMSProp converge."""


def claims(rows: pd.DataFrame, others: pd.DataFrame, profile: str, arms: Arms) -> list[Claim]:
    """Each number of Table 1, and what Section 5.1 says of accuracy, stability and convergence; evident settings."""
    numbers = _Numbers(rows, others, profile, arms)
    found = [*_of_table1(numbers), *_of_accuracy(numbers), *_of_variation(numbers), *_of_convergence(numbers)]
    return [Claim(**{"section": "section51", "exhibit": "table1", "data": source(rows), **one}) for one in found]


@dataclass
class _Numbers:
    """The numbers that claims are about, by seed: with the evident learning rate, LeNet-5 (GD) with the tuned one."""

    rows: pd.DataFrame
    others: pd.DataFrame
    profile: str
    arms: Arms
    tuned: Mapping[str, float] = field(init=False)
    _found: dict[tuple[str, int], pd.DataFrame] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tuned = tuned_rates(self.rows, self.profile)

    def arm(self, method: str, scale: str) -> str:
        """Of the runs that a claim about the method needs; the grid's, as long as it has not found the rate."""
        if method == GD and method not in self.tuned:
            return RATES
        return arm(scale, method, self.tuned[GD] if method == GD else EVIDENT)

    def scale(self, *methods: str, scales: Sequence[str] = ()) -> str:
        """Where the runs of a claim about these methods are taken from; by default the deepest scale is the first."""
        deepest_first = mnist.scales(self.profile)
        return complete_scale(
            scales or deepest_first, self.arms, lambda scale: [self.arm(method, scale) for method in methods],
            otherwise=deepest_first[0],
        )  # fmt: skip

    def budget(self, method: str, scale: str) -> float:
        """The share of the paper's training that a method has at a scale; of trees and images, if it is no LeNet-5."""
        chosen = PROFILES[self.profile]
        if method not in OTHERS:
            return share_of(scale)
        trees = {
            GCFOREST: gcforest_share(chosen["gcforest"]),
            FOREST: chosen["forest"]["trees"] / PROFILES["paper"]["forest"]["trees"],
        }
        return float(trees.get(method, 1.0) * min(1.0, (chosen["rows"] or IMAGES) / IMAGES))

    def reduced_elsewhere(self, method: str, scale: str) -> bool:
        """Whether the paper quotes the method from others, and we run less of it."""
        return method in (GD, *OTHERS) and self.budget(method, scale) < 1

    def by_seed(self, method: str, name: str, scale: str, until: int) -> dict[int, float]:
        """A column of `results`, or the accuracy of another method, whatever its scale."""
        if method in OTHERS:
            group = self.others[self.others["method"] == method]
            values = 100 * group["test_correct"].astype(float) / group["test_rows"].astype(float)
        else:
            if (scale, until) not in self._found:
                self._found[scale, until] = reported(self.rows, scale, until)
            found = self._found[scale, until]
            rate = self.tuned[GD] if method == GD else EVIDENT
            group = found[(found["method"] == method) & (found["learning_rate"] == rate)]
            values = group[name].astype(float)
        return dict(zip(group["seed"].astype(int).tolist(), values.tolist(), strict=True))

    def test_rows(self, method: str) -> int:
        """Of one run."""
        rows = self.others if method in OTHERS else self.rows
        return int(rows.loc[rows["method"] == method, "test_rows"].dropna().iloc[0])


def _margin(profile: str) -> float:
    return margin_of(mnist.DATASET, mnist.PROFILES[profile]["test_rows"] or TEST_ROWS)


def _of_table1(numbers: _Numbers) -> Rows:
    """Each number of Table 1; the best on record of LeNet-5, as the paper has it."""
    found = []
    for method, (loss, accuracy) in paper.TABLE1.items():
        scale = numbers.scale(method)
        common = {
            "arms": [numbers.arm(method, scale)], "budget": numbers.budget(method, scale),
            "quoted": numbers.reduced_elsewhere(method, scale),
        }  # fmt: skip
        best = "" if method in OTHERS else " (best on record)"
        if loss is not None:
            found.append(common | {
                "text": f"{method} reaches an average loss of {loss} on MNIST{best}", "kind": "value", "paper": loss,
                "margin": max(LOSS_MARGIN * loss, 1e-4), "item": f"table1/{method}/loss",
                "evidence": _own(numbers, method, "record_loss", scale),
            })  # fmt: skip
        found.append(common | {
            "text": f"{method} reaches {accuracy} % on MNIST{best}", "kind": "reaches" if method == GADAM else "value",
            "paper": accuracy, "margin": _margin(numbers.profile), "item": f"table1/{method}/accuracy",
            "evidence": _own(numbers, method, "record", scale),
        })  # fmt: skip
    return found


def _own(numbers: _Numbers, method: str, name: str, scale: str) -> Callable[[], Evidence | Reduced]:
    """The numbers of a method itself."""

    def at(until: int) -> Evidence:
        values = tuple(numbers.by_seed(method, name, scale, until).values())
        if method == SVM and len(values) == 1:
            values *= MANY  # it draws nothing: every seed would give the same
        return own(values, numbers.test_rows(method), mnist.DATASET) if name == "record" else Evidence(values)

    if method in OTHERS:  # all of them had what they have; nobody looked before
        return lambda: at(0)
    return lambda: evidence_at(scale, at)


def _of_accuracy(numbers: _Numbers) -> Rows:
    """GADAM beside each other method of Table 1, and beside the best of as many units by Adam."""
    found = []
    for method in (*list(paper.TABLE1)[1:], BEST_OF_G):
        scale = numbers.scale(GADAM, method)
        size = None if method == BEST_OF_G else paper.TABLE1[GADAM][1] - paper.TABLE1[method][1]
        compute = "" if method in OTHERS else " (which had 1/g of its gradient steps)"
        found.append({
            "text": f"LeNet-5 by GADAM is more accurate than {method} on MNIST"
            + (" at equal compute" if method == BEST_OF_G else compute),
            "kind": "greater", "paper": "no claim: our control" if size is None else f"{size:+.2f}",
            "margin": _margin(numbers.profile), "size": None if size is None else round(size, 2),
            "arms": [numbers.arm(GADAM, scale), numbers.arm(method, scale)],
            "budget": min(share_of(scale), numbers.budget(method, scale)),
            "quoted": numbers.reduced_elsewhere(method, scale), "evidence": _difference(numbers, method, scale),
            "headline": {OPTIMIZERS["adam"]: "mnist", BEST_OF_G: "mnist, equal compute"}.get(method, ""),
        })  # fmt: skip
    return found


def _difference(numbers: _Numbers, method: str, scale: str) -> Callable[[], Evidence | Reduced]:
    """Test accuracies of GADAM's minus another's: paired by seed if that starts from the same units, else of both."""

    def at(until: int) -> Evidence:
        ours = numbers.by_seed(GADAM, "accuracy", scale, until)
        theirs = numbers.by_seed(method, "accuracy", scale, until)
        if method not in OTHERS:
            return paired(ours, theirs, numbers.test_rows(GADAM), mnist.DATASET)
        return unpaired(ours.values(), theirs.values(), numbers.test_rows(GADAM), mnist.DATASET)

    if numbers.budget(method, scale) < share_of(scale):  # the other one is reduced by more, and had no earlier look
        return lambda: Reduced(at(mnist.depth(scale)))
    return lambda: evidence_at(scale, at)


def _of_variation(numbers: _Numbers) -> Rows:
    """The spread of test accuracies over seeds."""
    found = []
    scales = sorted(mnist.scales(numbers.profile), key=lambda scale: -mnist.PROFILES[scale]["seeds"])
    for method in (one for one in OPTIMIZERS.values() if one in paper.TABLE1):
        scale = numbers.scale(GADAM, method, scales=scales)
        found.append({
            "text": f"{method} varies more from one initialisation to the next than GADAM (test accuracy)",
            "kind": "varies", "paper": "varies more", "budget": share_of(scale),
            "arms": [numbers.arm(GADAM, scale), numbers.arm(method, scale)],
            "evidence": partial(_spreads, numbers, method, scale),
            "headline": "variation" if method == OPTIMIZERS["adam"] else "",
        })  # fmt: skip
    return found


def _spreads(numbers: _Numbers, method: str, scale: str) -> tuple[list[float], ...]:
    """Test accuracies of GADAM and of another method."""
    return tuple(list(numbers.by_seed(one, "accuracy", scale, mnist.depth(scale)).values()) for one in (GADAM, method))


def _of_convergence(numbers: _Numbers) -> Rows:
    """What Section 5.1 says of figure2b, on the training losses of the evident settings."""
    adam, rmsprop = OPTIMIZERS["adam"], OPTIMIZERS["rmsprop"]
    common = {"exhibit": "figure2b", "kind": "greater"}
    found: Rows = []

    def add(
        text: str, margin: float, methods: tuple[str, ...], at: Callable[[str, int], Evidence], **also: Any
    ) -> None:
        scale = numbers.scale(*methods)
        found.append(common | {
            "text": text, "margin": margin, "budget": share_of(scale),
            "arms": [numbers.arm(method, scale) for method in methods],
            "evidence": partial(evidence_at, scale, partial(at, scale)),
        } | also)  # fmt: skip

    for method in (GADAM, adam, rmsprop):
        text = f"{method} converges in {EARLY:,} steps: {CONVERGED:.0%} of the fall of its training loss"
        # A run that ends there has always fallen as far as it falls.
        long_enough = max(mnist.depth(scale) for scale in mnist.scales(numbers.profile)) > EARLY
        also = {} if long_enough else {"arms": [f"{method} over more than {EARLY:,} steps"]}
        add(
            f"{text} (shown: the share minus {CONVERGED})", LOSS_MARGIN * (1 - CONVERGED), (method,),
            partial(_early_fall, numbers.rows, method),
            paper="converges", **also,
        )  # fmt: skip
    add(
        "By evolution GADAM finds good starting points: children start lower than fresh networks (log10 of the ratio "
        "of validation losses)",
        float(np.log10(RATIO)), (GADAM,), partial(_better_start, numbers.rows), paper="lower",
    )  # fmt: skip
    for method, other in ((adam, BEST_OF_G), (rmsprop, rmsprop)):
        same = ", from the same g initial units" if method == adam else ""
        add(
            f"GADAM converges faster than {method}: a lower mean training loss of its units over their steps (log10 of "
            f"the ratio{same})",
            float(np.log10(RATIO)), (GADAM, other),
            partial(_faster, numbers.rows, other),
            paper="faster", headline="convergence" if method == adam else "",
        )  # fmt: skip
    return found


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
