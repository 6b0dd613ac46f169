"""Section 5.2: what generations and the size of the population do to LeNet-5 on MNIST (figures 3, 4 and 5)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from gadam.experiments import mnist
from gadam.experiments.runs import Run
from gadam.experiments.section51 import EVIDENT
from gadam.experiments.statistics import mean_interval

Rows = list[dict[str, Any]]

STABLE = 0.1
"""What we call stable: a change of less than this share of the loss of the first generation's parents."""
ADOPTION_MARGIN = 0.1
"""What we call no significant impact on the adoption rate, which lies between 0 and 1."""


def runs(profile: str, data: str) -> list[Run]:
    """GADAM with the paper's population for the most generations, and with each other population for K."""
    budget = mnist.PROFILES[profile]
    return [
        mnist.gadam_run(profile, data, seed, size, budget["longest"] if size == budget["g"] else budget["K"], EVIDENT)
        for size in sorted({*budget["sizes"], budget["g"]})
        for seed in range(budget["seeds"])
    ]


def units(rows: pd.DataFrame) -> pd.DataFrame:
    """The histories: a row per unit, generation, seed and population, with its size `g`."""
    frame = rows[rows["kind"] == "unit"].copy()
    whole = ["seed", "generation", "unit"]
    frame[whole] = frame[whole].astype(int)
    losses = ["loss_start", "loss_trained", "loss_survival"]
    frame[losses] = frame[losses].astype(float)
    frame["survived"] = frame["survived"].astype(bool)
    return frame[["g", *whole, "role", *losses, "survived", "data"]]


def generations(rows: pd.DataFrame, profile: str) -> pd.DataFrame:
    """Figure 3: by generation and role the units' mean, spread and lowest loss on the new batch, a row per seed."""
    frame = units(rows)
    frame = frame[frame["g"] == mnist.PROFILES[profile]["g"]]
    grouped = frame.groupby(["generation", "role", "seed"])["loss_survival"]
    return grouped.agg(mean="mean", spread="std", best="min").reset_index()


def accuracies(rows: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy in percent of the fittest unit of each generation: g, generation, seed, accuracy."""
    frame = rows[rows["kind"] == "checkpoint"]
    accuracy = 100 * frame["test_correct"].astype(float) / frame["test_rows"].astype(float)
    whole = frame[["g", "generation", "seed"]].astype(int)
    return whole.assign(accuracy=accuracy).reset_index(drop=True)


def populations(rows: pd.DataFrame, profile: str) -> pd.DataFrame:
    """Figure 4: by population size the survivors of generation K: mean, spread and lowest loss, a row per seed."""
    frame = units(rows)
    last = frame[(frame["generation"] == mnist.PROFILES[profile]["K"]) & frame["survived"]]
    grouped = last.groupby(["g", "seed"])["loss_survival"]
    return grouped.agg(mean="mean", spread="std", best="min").reset_index()


def adoption(rows: pd.DataFrame) -> pd.DataFrame:
    """Figure 5: the share of children among the survivors: g, generation, seed, adopted in [0, 1]."""
    frame = units(rows)
    survivors = frame[frame["survived"]]
    share = (survivors["role"] == "child").groupby([survivors[name] for name in ("g", "generation", "seed")]).mean()
    return share.rename("adopted").reset_index()


def summary(rows: pd.DataFrame, profile: str) -> pd.DataFrame:
    """Table section52_settings: by population size what figures 4 and 5 show, mean and 95 % interval over seeds."""
    budget = mnist.PROFILES[profile]
    frame = populations(rows, profile).merge(
        adoption(rows).query("generation <= @budget['K']").groupby(["g", "seed"])["adopted"].mean().reset_index(),
        on=["g", "seed"],
    )
    frame = frame.merge(accuracies(rows).query("generation == @budget['K']"), on=["g", "seed"])
    lines = []
    for size, group in frame.groupby("g"):
        line: dict[str, Any] = {"g": size}
        for name, text in (
            ("mean", "mean loss"), ("spread", "spread of loss"), ("best", "lowest loss"),
            ("accuracy", "test accuracy, %"), ("adopted", "adoption rate"),
        ):  # fmt: skip
            mean, low, high = mean_interval(group[name].tolist())
            line |= {text: mean, f"{text} · low": low, f"{text} · high": high}
        lines.append(line | {"seeds": len(group), "gradient steps": 2 * int(str(size)) * budget["K"] * budget["steps"]})
    return pd.DataFrame(lines).assign(data=rows["data"].iloc[0])


def note(profile: str) -> str:
    """What a reader of the table must know."""
    share = mnist.budget_share(profile, mnist.depth(profile))
    return (
        f"{share:.2%} of the paper's training per unit. Losses on the generation's validation batch; the lowest of "
        "more units is lower for that reason alone. adoption rate: mean of generations. gradient steps: of all units."
    )


def claims(rows: pd.DataFrame, profile: str) -> pd.DataFrame:
    """What Section 5.2 says of figures 3 to 5."""
    by_generation, by_size, adopted = generations(rows, profile), populations(rows, profile), adoption(rows)
    g, last = mnist.PROFILES[profile]["g"], mnist.PROFILES[profile]["longest"]
    share = mnist.budget_share(profile, mnist.depth(profile))
    lines: Rows = []

    def add(exhibit: str, text: str, kind: str, theirs: Any, values: np.ndarray, interval: str) -> None:
        mean, low, high = mean_interval(np.asarray(values, dtype=float).tolist())
        lines.append({
            "claim": text, "section": "section52", "exhibit": exhibit, "kind": kind, "paper": theirs, "ours": mean,
            "low": low, "high": high, "interval": f"{interval}, 95 % (t)", "budget": share, "seeds": len(values),
            "data": rows["data"].iloc[0], "item": "",
        })  # fmt: skip

    for role, name in (("parent", "parents"), ("child", "children")):
        table = by_generation[by_generation["role"] == role].pivot_table(
            index="seed", columns="generation", values="mean"
        )
        middle, before = max(1, round(last / 2)), max(1, last - 2)
        text = f"The {name} first improve with the generations: lower mean loss in generation {middle} than in 1"
        add("figure3", text, "greater", "greater", table[1] - table[middle], "loss, paired by seed")
        margin = STABLE * float(table[1].mean())
        text = (
            f"The {name} then remain stable: generation {last} beside {before} (± {STABLE:.0%} of generation 1's loss)"
        )
        add("figure3", text, "within", margin, table[last] - table[before], "loss, paired by seed")
    slopes = {name: _slopes(by_size, name) for name in ("mean", "spread", "best")}
    text = f"The mean loss of the units changes only slightly with the population (± {STABLE:.0%} from 2 to 20)"
    margin = STABLE * float(by_size["mean"].mean())
    add("figure4", text, "within", margin, 18 * slopes["mean"], "change of loss from g = 2 to 20")
    text = "The spread of the units' losses gets larger with the population"
    add("figure4", text, "greater", "greater", 18 * slopes["spread"], "change of spread from g = 2 to 20")
    text = "With more units some are better: the lowest loss falls with the population"
    add("figure4", text, "greater", "greater", -18 * slopes["best"], "fall of lowest loss from g = 2 to 20")
    by_age = adopted[adopted["g"] == g].pivot_table(index="seed", columns="generation", values="adopted")
    text = "In the first generation most survivors are children"
    add("figure5", text, "greater", "greater", by_age[1] - 0.5, "adoption rate minus 1/2")
    text = f"In the last generations ({max(1, last - 2)} to {last}) most survivors are parents"
    add("figure5", text, "greater", "greater", 0.5 - by_age.loc[:, last - 2 :].mean(axis=1), "1/2 minus adoption rate")
    first = adopted[adopted["generation"] <= mnist.PROFILES[profile]["K"]]
    rates = first.groupby(["g", "seed"])["adopted"].mean().rename("mean").reset_index()
    text = f"The population has no significant impact on the adoption rate (± {ADOPTION_MARGIN} from 2 to 20)"
    slope = _slopes(rates, "mean")
    add("figure5", text, "within", ADOPTION_MARGIN, 18 * slope, "change of adoption rate from g = 2 to 20")
    text = "With a larger population the adoption rate is lower"
    add("figure5", text, "greater", "greater", -18 * slope, "fall of adoption rate from g = 2 to 20")
    return pd.DataFrame(lines)


def _slopes(frame: pd.DataFrame, name: str) -> np.ndarray:
    """Least-squares slope over the population size, a value per seed."""
    usable = frame.dropna(subset=name)
    return np.array([np.polyfit(group["g"], group[name], 1)[0] for _, group in usable.groupby("seed")])
