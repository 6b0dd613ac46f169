"""The claims of Section 5.1: each number of Table 1, and what its text says of accuracy, stability and convergence.

Claims are decided at the deepest complete scale, see `gadam.paper.mnist`; but "varies more" needs ten seeds, which only
a tenth of the budget has, so there the tenth comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd

from gadam.paper import comparison, mnist, section51
from gadam.paper import published as paper
from gadam.paper.claims import Arms, Claim, own, paired, unpaired
from gadam.paper.mnist import EVIDENT, GADAM
from gadam.paper.section51 import ADAM, BEST_OF_G, GD, OPTIMIZERS, OTHERS, PROFILES, RATES, RMSPROP, SVM
from gadam.paper.units import source_of
from gadam.paper.verdicts import LOSS_MARGIN, MANY, RATIO, Evidence, margin_of

CONVERGED = 0.95
"""The share of the whole fall of the training loss that we call convergence; the paper gives no measure."""
EARLY = 1_000
"""Steps in which, the paper says, GADAM, Adam and RMSProp converge."""


def claims(rows: pd.DataFrame, profile: str, arms: Arms) -> list[Claim]:
    """Each number of Table 1, and what Section 5.1 says of accuracy, stability and convergence; evident settings."""
    made = _Claims(rows, profile, arms)
    return [*made.of_table1(), *made.of_accuracy(), *made.of_variation(), *made.of_convergence()]


class _Claims:
    """Makes claims: the scale that decides each, its arms and its numbers. LeNet-5 (GD) has the tuned rate.

    `numbers` of a claim give its evidence at a scale, for units after so many steps.
    """

    def __init__(self, rows: pd.DataFrame, profile: str, arms: Arms) -> None:
        self.rows, self.profile, self.arms = rows, profile, arms
        self.gd = section51.tuned_rates(rows, profile).get(GD)
        self.tested = mnist.PROFILES[profile]["test_rows"] or 10_000
        self.margin = margin_of(mnist.DATASET, self.tested)
        self.results = cache(partial(section51.results, rows))

    def by_seed(self, method: str, name: str, scale: str, until: int) -> dict[int, float]:
        """A column of `results`."""
        found = self.results(scale, method, self.gd if method == GD else EVIDENT, until)
        return dict(zip(found["seed"].astype(int).tolist(), found[name].astype(float).tolist(), strict=True))

    def arm(self, method: str, scale: str) -> str:
        """The arm that a claim about the method needs; the grid's, as long as it has not found the rate."""
        if method != GD:
            return section51.arm(scale, method)
        return section51.arm(scale, GD, self.gd) if self.gd else RATES

    def budget(self, method: str, scale: str) -> float:
        """The share of the paper's training that a method has at a scale; of trees and images, if it is no LeNet-5."""
        if method not in OTHERS:
            return mnist.budget_share(scale)
        size = PROFILES[self.profile]
        trees = comparison.share_of_trees(method, size, PROFILES["paper"])
        return trees * min(1.0, (size["rows"] or 60_000) / 60_000)

    def claim(
        self, text: str, methods: list[str], numbers: Callable[[str, int], Any], order: Sequence[str] = (), **also: Any
    ) -> Claim:
        """A claim about some methods."""

        def needed(scale: str) -> list[str]:
            return [self.arm(method, scale) for method in methods]

        scale = mnist.complete_scale(self.profile, self.arms, needed, order)
        budgets = {method: self.budget(method, scale) for method in methods}
        about: dict[str, Any] = {
            "section": "section51", "exhibit": "table1", "arms": needed(scale), "data": source_of(self.rows),
            "budget": min(budgets.values()),
            # The paper quotes these from others, and we run less of them.
            "quoted": any(share < 1 for method, share in budgets.items() if method in (GD, *OTHERS)),
        }  # fmt: skip
        looks = about["budget"] >= mnist.budget_share(scale)  # what is reduced by more than LeNet-5 had no earlier look
        return mnist.claim(scale, text, partial(numbers, scale), looks, **about | also)

    def of_table1(self) -> Iterator[Claim]:
        """Each number of Table 1; the best on record of LeNet-5, as the paper has it."""

        def losses(method: str, scale: str, until: int) -> Evidence:
            return Evidence(tuple(self.by_seed(method, "record_loss", scale, until).values()))

        def accuracies(method: str, scale: str, until: int) -> Evidence:
            values = tuple(self.by_seed(method, "record", scale, until).values())
            # An SVM on all images draws nothing: every seed would give the same.
            return own(values * MANY if method == SVM and len(values) == 1 else values, self.tested, mnist.DATASET)

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

        for method in [*list(paper.TABLE1)[1:], BEST_OF_G]:
            about: dict[str, Any] = {"kind": "greater", "margin": self.margin}
            where = "on MNIST"
            if method == BEST_OF_G:
                where += " at equal compute"
                about |= {"paper": "no claim: our control", "headline": "mnist, equal compute"}
            else:
                where += "" if method in OTHERS else " (which had 1/g of its gradient steps)"
                size = round(paper.TABLE1[GADAM][1] - paper.TABLE1[method][1], 2)
                about |= {"paper": f"{size:+.2f}", "size": size, "headline": "mnist" if method == ADAM else ""}
            text = f"LeNet-5 by GADAM is more accurate than {method} {where}"
            yield self.claim(text, [GADAM, method], partial(difference, method), **about)

    def of_variation(self) -> Iterator[Claim]:
        """The spread of test accuracies over seeds, at the scale that has most of them."""

        def spreads(method: str, scale: str, until: int) -> tuple[list[float], ...]:
            return tuple(list(self.by_seed(one, "accuracy", scale, until).values()) for one in (GADAM, method))

        order = sorted(mnist.scales(self.profile), key=lambda scale: -mnist.PROFILES[scale]["seeds"])
        for method in (one for one in OPTIMIZERS if one in paper.TABLE1):
            yield self.claim(
                f"{method} varies more from one initialisation to the next than GADAM (test accuracy)",
                [GADAM, method], partial(spreads, method), order, kind="varies", paper="varies more",
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
                [method], partial(_early_fall, self.rows, method), **fall, **lacking,
            )  # fmt: skip
        yield self.claim(
            "By evolution GADAM finds good starting points: children start lower than fresh networks (log10 of the "
            "ratio of validation losses)",
            [GADAM], partial(_better_start, self.rows), paper="lower", **about,
        )  # fmt: skip
        for method, other, same in ((ADAM, BEST_OF_G, ", from the same g initial units"), (RMSPROP, RMSPROP, "")):
            yield self.claim(
                f"GADAM converges faster than {method}: a lower mean training loss of its units over their steps "
                f"(log10 of the ratio{same})",
                [GADAM, other], partial(_faster, self.rows, other), paper="faster",
                headline="convergence" if method == ADAM else "", **about,
            )  # fmt: skip


def _losses(rows: pd.DataFrame, scale: str, method: str, until: int) -> pd.DataFrame:
    """Training loss up to a step: index step, a column per seed, the mean of its units."""
    found = section51.select(rows, scale, method, "curve")
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
    units = mnist.select(rows, scale, GADAM, "unit")
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
