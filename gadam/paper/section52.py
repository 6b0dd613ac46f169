"""Section 5.2: what generations and the size of the population do to LeNet-5 on MNIST (figures 3, 4 and 5).

Which runs decide a claim is settled before any is computed, as in `gadam.paper.section51_results`: those of the
paper's whole budget, if they are complete, else those of a tenth of it. Several sizes of the population have runs at
one scale only, which decides what is said of them. A look at less of a run is one after fewer generations: after two
of five, and after four of the ten of figure 3.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from gadam.paper import mnist
from gadam.paper.claims import Arms, Claim, Reduced
from gadam.paper.runs import Run
from gadam.paper.section51 import EVIDENT, GADAM, arm, complete_scale, evidence_at, percent, select, share_of, source
from gadam.paper.statistics import accuracy_interval, mean_interval
from gadam.paper.verdicts import LOSS_MARGIN, Evidence

STABLE = LOSS_MARGIN
"""What we call stable: a change of less than this share of the loss."""
ADOPTION_MARGIN = 0.1
"""What we call no significant impact on the adoption rate, which lies between 0 and 1."""
FROM_TO = 2, 20
"""The paper's populations."""


def runs(profile: str, data: str) -> list[Run]:
    """GADAM with the paper's population for the most generations, and with each other population for K."""
    return [
        mnist.gadam_run(scale, data, seed, size, budget["longest"] if size == budget["g"] else budget["K"], EVIDENT)
        for scale in mnist.scales(profile)
        for budget in [mnist.PROFILES[scale]]
        for size, count in budget["sizes"].items()
        for seed in mnist.seeds(scale, count)
    ]


def scale_of_generations(profile: str, arms: Arms) -> str:
    """Where figure 3 and the left of figure 5 are taken from: the deepest scale of which there are any runs."""
    scales = mnist.scales(profile)
    return next((scale for scale in scales if arms.get(arm(scale, GADAM), (0, 0))[0]), scales[0])


def scale_of_populations(profile: str) -> str:
    """Where figure 4 and the right of figure 5 are taken from: the deepest scale with several populations."""
    return next(scale for scale in mnist.scales(profile) if len(mnist.PROFILES[scale]["sizes"]) > 1)


def units(rows: pd.DataFrame, scale: str) -> pd.DataFrame:
    """The histories: a row per unit, generation, seed and population, with its size `g`."""
    frame = _of_all_sizes(rows, scale, "unit")
    whole = ["g", "seed", "generation", "unit"]
    frame[whole] = frame[whole].astype(int)
    losses = ["loss_start", "loss_trained", "loss_survival"]
    frame[losses] = frame[losses].astype(float)
    frame["survived"] = frame["survived"].astype(bool)
    return frame[[*whole, "role", *losses, "survived", "data"]]


def _of_all_sizes(rows: pd.DataFrame, scale: str, kind: str) -> pd.DataFrame:
    sizes = [select(rows, scale, GADAM, kind, size=size) for size in mnist.PROFILES[scale]["sizes"]]
    return pd.concat([one for one in sizes if len(one)] or sizes[:1], ignore_index=True)


def generations(rows: pd.DataFrame, scale: str) -> pd.DataFrame:
    """Figure 3: by generation and role the units' mean, spread and lowest loss on the new batch, a row per seed."""
    frame = units(rows, scale)
    frame = frame[frame["g"] == mnist.PROFILES[scale]["g"]]
    grouped = frame.groupby(["generation", "role", "seed"])["loss_survival"]
    return grouped.agg(mean="mean", spread="std", best="min").reset_index()


def accuracies(rows: pd.DataFrame, scale: str) -> pd.DataFrame:
    """Test accuracy in percent of the fittest unit of each generation: g, generation, seed, accuracy, test_rows."""
    frame = _of_all_sizes(rows, scale, "checkpoint")
    accuracy = 100 * frame["test_correct"].astype(float) / frame["test_rows"].astype(float)
    whole = frame[["g", "generation", "seed", "test_rows"]].astype(int)
    return whole.assign(accuracy=accuracy)[["g", "generation", "seed", "accuracy", "test_rows"]]


def populations(rows: pd.DataFrame, scale: str, generation: int | None = None) -> pd.DataFrame:
    """Figure 4: by population size the survivors of a generation (K): mean, spread and lowest loss, a row per seed."""
    frame = units(rows, scale)
    last = frame[(frame["generation"] == (generation or mnist.PROFILES[scale]["K"])) & frame["survived"]]
    grouped = last.groupby(["g", "seed"])["loss_survival"]
    return grouped.agg(mean="mean", spread="std", best="min").reset_index()


def adoption(rows: pd.DataFrame, scale: str) -> pd.DataFrame:
    """Figure 5: the share of children among the survivors: g, generation, seed, adopted in [0, 1]."""
    frame = units(rows, scale)
    survivors = frame[frame["survived"]]
    share = (survivors["role"] == "child").groupby([survivors[name] for name in ("g", "generation", "seed")]).mean()
    return share.rename("adopted").reset_index()


def adoption_by_size(adopted: pd.DataFrame, until: int) -> pd.DataFrame:
    """The mean adoption rate of the first so many generations: g, seed, adopted."""
    return adopted[adopted["generation"] <= until].groupby(["g", "seed"])["adopted"].mean().reset_index()


def summary(rows: pd.DataFrame, profile: str, arms: Arms) -> pd.DataFrame:
    """Table section52_settings: what figures 4 and 5 show by depth and population, with 95 % intervals over seeds."""
    lines = []
    for scale in mnist.scales(profile):
        budget = mnist.PROFILES[scale]
        frame = populations(rows, scale).merge(
            adoption_by_size(adoption(rows, scale), budget["K"]), on=["g", "seed"]
        ).merge(accuracies(rows, scale).query("generation == @budget['K']"), on=["g", "seed"])  # fmt: skip
        for size in budget["sizes"]:
            group = frame[frame["g"] == size]
            lines.append({
                "steps": mnist.depth(scale), "g": size, **_means(group),
                "seeds": arms.count(mnist.gadam_arm(scale, size, EVIDENT)),
                "gradient steps": 2 * size * budget["K"] * budget["steps"],
                "data": source(rows) if len(group) else None,
            })  # fmt: skip
    return pd.DataFrame(lines)


def _means(group: pd.DataFrame) -> dict[str, float | None]:
    """Means over seeds and their intervals; empty where there are none."""
    found: dict[str, float | None] = {}
    for name, text in (
        ("mean", "mean loss"), ("spread", "spread of loss"), ("best", "lowest loss"),
        ("accuracy", "test accuracy, %"), ("adopted", "adoption rate"),
    ):  # fmt: skip
        values = group[name].dropna().tolist()
        interval: tuple[float | None, ...] = (None, None, None)
        if values and name == "accuracy":
            interval = accuracy_interval(values, int(group["test_rows"].iloc[0]))
        elif values:
            mean, low, high = mean_interval(values)
            interval = mean, max(low, 0.0), min(high, 1.0) if name == "adopted" else high
        found |= dict(zip((text, f"{text} · low", f"{text} · high"), interval, strict=True))
    return found


def captions(profile: str, arms: Arms) -> dict[str, str]:
    """What the figures and the table show, by id: which scale, how many seeds."""
    aged, sized = scale_of_generations(profile, arms), scale_of_populations(profile)
    last = mnist.PROFILES[sized]["K"]
    several = ", ".join(
        f"g = {size}: {arms.count(mnist.gadam_arm(sized, size, EVIDENT))}" for size in mnist.PROFILES[sized]["sizes"]
    )
    return {
        "figure3": f"Parents and children by generation: loss on the shared new validation batch after training, and "
        f"test accuracy of the fittest unit. {_trained(aged)}; seeds: {arms.count(arm(aged, GADAM))}.",
        "figure4": f"The survivors of generation {last} by the size of the population; g units cost g times as much. "
        f"{_trained(sized)}; seeds: {several}.",
        "figure5": "Child adoption rate: the share of children among the g units that survive a generation. Left: "
        f"{_trained(aged)}; seeds: {arms.count(arm(aged, GADAM))}. Right: "
        + ("the same" if aged == sized else _trained(sized))
        + f"; seeds: {several}.",
        "section52_settings": f"The survivors of generation {last} by steps of a unit and population size, with 95 % "
        "intervals over seeds.",
    }


def _trained(scale: str) -> str:
    budget = mnist.PROFILES[scale]
    return (
        f"{budget['steps']:,} steps of {budget['batch_size']} images for parents and for children of each generation, "
        f"{percent(scale)}"
    )


def note(profile: str) -> str:
    """What a reader of the table must know."""
    depths = " or ".join(f"{mnist.depth(scale):,} ({percent(scale)})" for scale in mnist.scales(profile))
    return (
        f"steps: of one unit, {depths}. Losses on the generation's validation batch; the lowest of more units is lower "
        "for that reason alone. adoption rate: mean of generations. gradient steps: of all units."
    )


def claims(rows: pd.DataFrame, profile: str, arms: Arms) -> list[Claim]:
    """What Section 5.2 says of figures 3 to 5; changes of a loss are shares of it."""
    found = [*_of_generations(rows, profile, arms), *_of_populations(rows, profile)]
    order = ("figure3", "figure4", "figure5")
    found.sort(key=lambda one: order.index(one["exhibit"]))
    return [Claim(**{"section": "section52", "data": source(rows), **one}) for one in found]


Values = Callable[[int], pd.Series]
"""Numbers by seed, from runs of so many of K generations."""


def _evidence(scale: str, values: Values) -> Callable[[], Evidence | Reduced]:
    def at(until: int) -> Evidence:
        return Evidence(tuple(values(until // (2 * mnist.PROFILES[scale]["steps"])).astype(float).tolist()))

    return lambda: evidence_at(scale, at)


def _of_generations(rows: pd.DataFrame, profile: str, arms: Arms) -> list[dict[str, Any]]:
    """Figure 3 and the left of figure 5."""
    scales = mnist.scales(profile)
    scale = complete_scale(scales, arms, lambda one: [arm(one, GADAM)], otherwise=scales[0])
    budget = mnist.PROFILES[scale]
    common = {"arms": [arm(scale, GADAM)], "budget": share_of(scale)}

    @cache
    def losses(role: str) -> pd.DataFrame:
        table = generations(rows, scale)
        table = table[table["role"] == role].pivot_table(index="seed", columns="generation", values="mean")
        return table.div(table[1], axis=0)

    @cache
    def adopted() -> pd.DataFrame:
        found = adoption(rows, scale)
        return found[found["g"] == budget["g"]].pivot_table(index="seed", columns="generation", values="adopted")

    def last(generation: int) -> int:
        """Where figure 3 ends that is looked at after so many of K generations."""
        return int(budget["longest"]) * generation // int(budget["K"])

    def middle(generation: int) -> int:
        return max(1, round(last(generation) / 2))

    def before_last(generation: int) -> int:
        return max(1, last(generation) - 2)

    def improves(role: str) -> Values:
        return lambda to: 1 - losses(role)[middle(to)]

    def moves(role: str) -> Values:
        return lambda to: losses(role)[last(to)] - losses(role)[before_last(to)]

    def parents(to: int) -> pd.Series:
        return 0.5 - adopted().loc[:, before_last(to) : last(to)].mean(axis=1)

    def first() -> Evidence | Reduced:
        now = Evidence(tuple((adopted()[1] - 0.5).tolist()))
        return now if share_of(scale) >= 1 else Reduced(now)  # nobody looks inside a generation

    whole, found = budget["K"], []
    aged = common | {"exhibit": "figure3", "margin": STABLE}
    for role, name in (("parent", "parents"), ("child", "children")):
        found.append(aged | {
            "text": f"The {name} first improve with the generations: lower mean loss in generation {middle(whole)} "
            "than in 1 (share of generation 1's loss)",
            "kind": "greater", "paper": "improve", "evidence": _evidence(scale, improves(role)),
            "headline": "generations" if role == "child" else "",
        })  # fmt: skip
        found.append(aged | {
            "text": f"The {name} then remain stable: generation {last(whole)} beside {before_last(whole)} "
            f"(± {STABLE:.0%} of generation 1's loss)",
            "kind": "within", "paper": "stable", "evidence": _evidence(scale, moves(role)),
        })  # fmt: skip
    survive = common | {"exhibit": "figure5", "margin": ADOPTION_MARGIN, "kind": "greater"}
    found.append(survive | {
        "text": "In the first generation most survivors are children (adoption rate minus 1/2)", "paper": "children",
        "evidence": first,
    })  # fmt: skip
    found.append(survive | {
        "text": f"In the last generations ({before_last(whole)} to {last(whole)}) most survivors are parents "
        "(1/2 minus adoption rate)",
        "paper": "parents", "evidence": _evidence(scale, parents),
    })  # fmt: skip
    return found


def _of_populations(rows: pd.DataFrame, profile: str) -> list[dict[str, Any]]:
    """Figure 4 and the right of figure 5."""
    scale = scale_of_populations(profile)
    by_size = cache(lambda generation: populations(rows, scale, generation))
    rates = cache(lambda generation: adoption_by_size(adoption(rows, scale), generation))

    def changes(name: str, sign: int = 1) -> Callable[[], Evidence | Reduced]:
        return _evidence(scale, lambda to: sign * change(by_size(to), name, relative=True))

    def rate_changes(sign: int) -> Callable[[], Evidence | Reduced]:
        return _evidence(scale, lambda to: sign * change(rates(to), "adopted"))

    common = {
        "arms": [mnist.gadam_arm(scale, size, EVIDENT) for size in mnist.PROFILES[scale]["sizes"]],
        "budget": share_of(scale),
    }  # fmt: skip
    losses = common | {"exhibit": "figure4", "margin": STABLE}
    adopted = common | {"exhibit": "figure5", "margin": ADOPTION_MARGIN}
    from_to = f"from {FROM_TO[0]} to {FROM_TO[1]}"
    return [
        losses | {
            "text": f"The mean loss of the units changes only slightly with the population (± {STABLE:.0%} {from_to})",
            "kind": "within", "paper": "slightly", "evidence": changes("mean"),
        },
        losses | {
            "text": f"The spread of the units' losses gets larger with the population (share of it, {from_to})",
            "kind": "greater", "paper": "larger", "evidence": changes("spread"),
        },
        losses | {
            "text": "With more units some are better: the lowest loss falls with the population (share of it, "
            f"{from_to})",
            "kind": "greater", "paper": "better", "evidence": changes("best", -1), "headline": "population",
        },
        adopted | {
            "text": f"The population has no significant impact on the adoption rate (± {ADOPTION_MARGIN} {from_to})",
            "kind": "within", "paper": "not significant", "evidence": rate_changes(1),
        },
        adopted | {
            "text": f"With a larger population the adoption rate is lower (its fall {from_to})",
            "kind": "greater", "paper": "lower", "evidence": rate_changes(-1),
        },
    ]  # fmt: skip


def change(frame: pd.DataFrame, name: str, relative: bool = False) -> pd.Series:
    """The change of a number from the smallest to the largest of the paper's populations, by the slope of each seed.

    Args:
        frame: columns g, seed and `name`.
        name: of the number.
        relative: as a share of the seed's mean.

    Returns:
        By seed, of those that all sizes have: least-squares slope over g, times 18.
    """
    table = frame.pivot_table(index="seed", columns="g", values=name).dropna()
    slopes = np.polyfit(table.columns.to_numpy(dtype=float), table.to_numpy().T, 1)[0]
    changes = pd.Series((FROM_TO[1] - FROM_TO[0]) * slopes, index=table.index)
    return changes / table.mean(axis=1) if relative else changes


RUNS = (runs,)
