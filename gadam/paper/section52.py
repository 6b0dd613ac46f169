"""Section 5.2: what generations and the size of the population do to LeNet-5 on MNIST (figures 3, 4 and 5).

Claims are decided at the deepest complete scale, see `gadam.paper.mnist`; but several sizes of the population have runs
at one scale only, which decides what is said of them. A look at less of a run is one after fewer generations: after two
of five, and after four of the ten of figure 3. In "standard" the paper's budget has five generations, Table 1's, and
the tenth of it ten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gadam.paper import mnist, statistics
from gadam.paper.claims import Arms, Claim
from gadam.paper.drawing import BLUE, GREEN, GREY, PURPLE, ROLE_COLOURS, add_legend, curve_by, labelled
from gadam.paper.mnist import PROFILES
from gadam.paper.runs import Run
from gadam.paper.statistics import accuracy_interval, mean_interval
from gadam.paper.units import first, source_of
from gadam.paper.verdicts import LOSS_MARGIN, Evidence

STABLE = LOSS_MARGIN
"""What we call stable: a change of less than this share of the loss."""
ADOPTION_MARGIN = 0.1
"""What we call no significant impact on the adoption rate, which lies between 0 and 1."""
SCALE_COLOURS = {"tenth": PURPLE}
"""Other scales are green."""
FROM_TO = 2, 20
"""The paper's populations."""


def runs(profile: str, data: str) -> list[Run]:
    """GADAM with the paper's population for the most generations, and with each other population for K."""
    scales = mnist.scales(profile)
    return [run for scale in scales for size in PROFILES[scale]["sizes"] for run in mnist.gadam_runs(scale, data, size)]


RUNS = (runs,)


def scale_of_populations(profile: str) -> str:
    """Where figure 4 and the right of figure 5 are taken from: the deepest scale with several populations."""
    return next(scale for scale in mnist.scales(profile) if len(PROFILES[scale]["sizes"]) > 1)


KEY = ["g", "seed", "generation"]


def generations(rows: pd.DataFrame, scale: str) -> pd.DataFrame:
    """What figures 3 to 5 show: a row per population g, seed and generation.

    "parent mean", "parent spread", "parent best" are the mean, standard deviation and minimum of the parents' losses on
    the generation's new validation batch; the same for "child" and "survivor". `adopted` is the share of children among
    the survivors, `accuracy` the test accuracy (%) of the fittest unit.
    """
    arms = [mnist.gadam_arm(scale, size) for size in PROFILES[scale]["sizes"]]
    units, fittest = (mnist.select(rows, kind, *arms) for kind in ("unit", "checkpoint"))
    units = units.astype({"loss_survival": float, "survived": bool})
    survivors = units[units["survived"]].assign(adopted=lambda one: one["role"] == "child")
    parents, children = (units[units["role"] == role] for role in ("parent", "child"))
    found = {
        f"{role} {name}": group.groupby(KEY)["loss_survival"].agg(how)
        for role, group in {"parent": parents, "child": children, "survivor": survivors}.items()
        for name, how in {"mean": "mean", "spread": "std", "best": "min"}.items()
    }
    found["adopted"] = survivors.groupby(KEY)["adopted"].mean()
    fittest = fittest.set_index(KEY)[["test_correct", "test_rows"]].astype(float)
    found |= {"accuracy": 100 * fittest["test_correct"] / fittest["test_rows"], "test_rows": fittest["test_rows"]}
    return pd.DataFrame(found).reset_index().astype(dict.fromkeys(KEY, int))


def adoption(frame: pd.DataFrame, until: int) -> pd.DataFrame:
    """The mean adoption rate of the first so many generations, from `generations`: g, seed, adopted."""
    return frame[frame["generation"] <= until].groupby(["g", "seed"])["adopted"].mean().reset_index()


MEANS = {
    "survivor mean": "mean loss", "survivor spread": "spread of loss", "survivor best": "lowest loss",
    "accuracy": "test accuracy, %", "adopted": "adoption rate",
}  # fmt: skip


def summary(rows: pd.DataFrame, profile: str, arms: Arms) -> pd.DataFrame:
    """Table section52_settings: what figures 4 and 5 show by depth and population, with 95 % intervals over seeds."""
    lines = []
    for scale in mnist.scales(profile):
        budget, frame = PROFILES[scale], generations(rows, scale)
        last = frame[frame["generation"] == budget["K"]].drop(columns="adopted")
        last = last.merge(adoption(frame, budget["K"]), on=["g", "seed"])
        for size in budget["sizes"]:
            group, line = last[last["g"] == size], {"steps": mnist.depth(scale), "g": size}
            for name, text in MEANS.items():
                mean, low, high = _interval(group, name)
                bounds = max(low, 0.0), min(high, 1.0) if name == "adopted" else high
                line |= statistics.named((mean, *bounds), text, f"{text} · low", f"{text} · high")
            seeds, steps = arms.count(mnist.gadam_arm(scale, size)), 2 * size * budget["K"] * budget["steps"]
            source = source_of(rows) if len(group) else None
            lines.append(line | {"seeds": seeds, "gradient steps": steps, "data": source})
    return pd.DataFrame(lines)


def _interval(group: pd.DataFrame, name: str) -> tuple[float, float, float]:
    """The mean over seeds and its 95 % interval."""
    values = group[name].dropna().tolist()
    return accuracy_interval(values, first(group, "test_rows")) if name == "accuracy" else mean_interval(values)


def trained(*scales: str) -> str:
    """How much the units of scales train, for captions."""
    depths = []
    for budget, share in ((PROFILES[scale], mnist.percent(scale)) for scale in scales):
        several = f"{budget['K']} of {budget['longest']}" if budget["longest"] > budget["K"] else budget["K"]
        depths.append(f"{budget['steps']:,} ({share} in {several} generations)")
    batch = f"Steps of {PROFILES[scales[0]]['batch_size']} images for parents and for children of each generation"
    return f"{batch}: {' or '.join(depths)}"


def figure3(rows: pd.DataFrame, profile: str) -> Figure:
    """Loss of parents and children by generation, a panel per scale, and the test accuracy of the fittest unit."""
    frames = _by_scale(rows, profile)
    figure, (*losses, accuracies) = _panels(1 + len(frames))
    drawn = [axis for axis, frame in zip(losses, frames.values(), strict=True) if len(frame)]
    for axis, (scale, frame) in zip(losses, frames.items(), strict=True):
        for role, name in (("parent", "parents"), ("child", "children")) if len(frame) else ():
            means, colour = frame.groupby("generation").mean(), ROLE_COLOURS[role]
            mean, spread, best = (means[f"{role} {one}"] for one in ("mean", "spread", "best"))
            low, high = (mean - spread).clip(lower=best), mean + spread
            axis.fill_between(means.index, low, high, color=colour, alpha=0.18, linewidth=0)
            _line(axis, frame, "generation", f"{role} mean", colour, label=f"{name}, mean")
            axis.plot(means.index, best, color=colour, linestyle="--", label=f"{name}, lowest")
        axis.set(xlabel="generation", title=f"Parents and children, {PROFILES[scale]['steps']:,} steps each")
        if axis in drawn:
            axis.set(yscale="log", xticks=sorted(frame["generation"].unique()))
            axis.sharey(drawn[0]) if axis is not drawn[0] else add_legend(figure, labelled(axis), ncols=4)
    losses[0].set_ylabel("loss on the generation's new validation batch")
    _draw_by_scale(accuracies, frames, "accuracy")
    accuracies.set(xlabel="generation", ylabel="test accuracy, %", title="Fittest unit of each generation")
    return figure


def _by_scale(rows: pd.DataFrame, profile: str) -> dict[str, pd.DataFrame]:
    """The generations of the paper's population at each scale of a profile; perhaps none yet."""
    frames = {scale: generations(rows, scale) for scale in mnist.scales(profile)}
    return {scale: frame[frame["g"] == PROFILES[scale]["g"]] for scale, frame in frames.items()}


def _draw_by_scale(axis: Axes, frames: Mapping[str, pd.DataFrame], name: str) -> None:
    """A line by generation for each scale of which there is anything."""
    for scale, frame in frames.items():
        if len(frame):
            label = f"{PROFILES[scale]['steps']:,} steps each"
            _line(axis, frame, "generation", name, SCALE_COLOURS.get(scale, GREEN), label=label)
    if axis.lines:
        axis.legend(fontsize=9)


def figure4(rows: pd.DataFrame, scale: str) -> Figure:
    """The survivors' losses and the fittest unit's test accuracy by the size of the population."""
    frame = generations(rows, scale)
    frame = frame[frame["generation"] == PROFILES[scale]["K"]]
    figure, (losses, spreads, accuracies) = _panels(3)
    _line(losses, frame, "g", "survivor mean", BLUE, label="mean of the units", beside=-0.12)
    if len(frame):
        _line(losses, frame, "g", "survivor best", PURPLE, label="lowest", beside=0.12)
        losses.legend()
    _line(spreads, frame, "g", "survivor spread", GREY)
    _line(accuracies, frame, "g", "accuracy", GREEN)
    losses.set(ylabel="loss on the last validation batch", title="Units of the last generation")
    spreads.set(ylabel="standard deviation of the units' losses", title="Spread of the units")
    spreads.set_ylim(bottom=0)  # an interval by Student's t does not know that there is no less
    accuracies.set(ylabel="test accuracy, %", title="Fittest unit")
    for axis in (losses, spreads, accuracies):
        axis.set(xlabel="population size g")
    return figure


def figure5(rows: pd.DataFrame, profile: str) -> Figure:
    """The share of children among the survivors: by generation, and by population size, see `scale_of_populations`."""
    sized = scale_of_populations(profile)
    size, last, steps = (PROFILES[sized][name] for name in ("g", "K", "steps"))
    figure, (left, right) = _panels(2, sharey=True)
    left.set(xlabel="generation", ylabel="adoption rate: share of children\namong the survivors", ylim=(-0.02, 1.02))
    left.set(title=f"By generation, g = {size}")
    right.set(xlabel="population size g", title=f"By size, {steps:,} steps each, generations 1 to {last}")
    _draw_by_scale(left, _by_scale(rows, profile), "adopted")
    _line(right, adoption(generations(rows, sized), last), "g", "adopted", SCALE_COLOURS.get(sized, GREEN))
    for axis in (left, right):
        if axis.lines:
            axis.axhline(0.5, color="black", linestyle=":", linewidth=1.2)
    if left.lines:
        text, place = "as many children as parents", ("axes fraction", "data")
        left.annotate(text, (0.99, 0.51), xycoords=place, ha="right", fontsize=9)
    return figure


def _panels(count: int, **settings: Any) -> tuple[Figure, Any]:
    size = 11.5 if count == 2 else 12, 4.2
    figure, axes = plt.subplots(1, count, figsize=size, layout="constrained", **settings)
    figure.supxlabel("points and bars: mean over seeds with its 95 % interval", fontsize=10)
    return figure, axes


def _line(axis: Axes, frame: pd.DataFrame, x: str, y: str, colour: Any, label: str = "", beside: float = 0.0) -> None:
    """The mean over seeds with its 95 % interval, so far beside its place."""
    if frame.empty:
        return
    curve = curve_by(frame, x, lambda own: _interval(own, y))
    bars = curve["mean"] - curve["low"], curve["high"] - curve["mean"]
    axis.errorbar(curve.index + beside, curve["mean"], yerr=bars, color=colour, marker="o", capsize=3, label=label)
    axis.set_xticks(curve.index)


def claims(rows: pd.DataFrame, profile: str, arms: Arms) -> list[Claim]:
    """What Section 5.2 says of figures 3 to 5; changes of a loss are shares of it."""
    aged, sized = mnist.complete_scale(profile, arms, lambda one: [mnist.gadam_arm(one)]), scale_of_populations(profile)
    return sorted([*_of_generations(rows, aged), *_of_populations(rows, sized)], key=lambda one: one.exhibit)


def _claim(
    rows: pd.DataFrame, scale: str, arms: list[str], exhibit: str, kind: str, says: str,
    numbers: Callable[[int], pd.Series], text: str, **about: Any,
) -> Claim:  # fmt: skip
    """A claim on `numbers` by seed, from so many of K generations."""

    def evidence(until: int) -> Evidence:
        return Evidence(tuple(numbers(until // (2 * PROFILES[scale]["steps"])).tolist()))

    return mnist.claim(
        scale, text, evidence, exhibit=exhibit, kind=kind, paper=says, arms=arms,
        margin=ADOPTION_MARGIN if exhibit == "figure5" else STABLE, data=source_of(rows), **about,
    )  # fmt: skip


def _of_generations(rows: pd.DataFrame, scale: str) -> list[Claim]:
    """Figure 3 and the left of figure 5."""
    budget, frame = PROFILES[scale], generations(rows, scale)
    frame = frame[frame["g"] == budget["g"]]

    def places(to: int) -> tuple[int, int, int]:
        """Of figure 3 as seen after so many of K generations: its middle, two generations before its end, its end."""
        last = int(budget["longest"]) * to // int(budget["K"])
        return (last + 1) // 2, max(1, last - 2), last

    def by_seed(name: str) -> pd.DataFrame:
        return frame.pivot_table(index="seed", columns="generation", values=name)

    def improves(role: str, to: int) -> pd.Series:
        losses = by_seed(f"{role} mean")
        return 1 - losses[places(to)[0]] / losses[1]

    def moves(role: str, to: int) -> pd.Series:
        losses, (_, before, last) = by_seed(f"{role} mean"), places(to)
        return losses[last] / losses[1] - losses[before] / losses[1]

    def parents(to: int) -> pd.Series:
        _, before, last = places(to)
        return 0.5 - by_seed("adopted").loc[:, before:last].mean(axis=1)

    (middle, before, last), claim = places(budget["K"]), partial(_claim, rows, scale, [mnist.gadam_arm(scale)])
    found = []
    for role, name in (("parent", "parents"), ("child", "children")):
        found += [
            claim("figure3", "greater", "improve", partial(improves, role),
                  f"The {name} first improve with the generations: lower mean loss in generation {middle} than in 1 "
                  "(share of generation 1's loss)", headline="generations" if role == "child" else ""),
            claim("figure3", "within", "stable", partial(moves, role),
                  f"The {name} then remain stable: generation {last} beside {before} (± {STABLE:.0%} of generation 1's "
                  "loss)"),
        ]  # fmt: skip
    return [
        *found,
        claim("figure5", "greater", "children", lambda to: by_seed("adopted")[1] - 0.5,
              "In the first generation most survivors are children (adoption rate minus 1/2)",
              looks=False),  # nobody looks inside a generation
        claim("figure5", "greater", "parents", parents,
              f"In the last generations ({before} to {last}) most survivors are parents (1/2 minus adoption rate)"),
    ]  # fmt: skip


def _of_populations(rows: pd.DataFrame, scale: str) -> list[Claim]:
    """Figure 4 and the right of figure 5."""
    frame = generations(rows, scale)

    def changes(name: str, to: int) -> pd.Series:
        return change(frame[frame["generation"] == to], f"survivor {name}", relative=True)

    def rises(to: int) -> pd.Series:
        return change(adoption(frame, to), "adopted")

    claim = partial(_claim, rows, scale, [mnist.gadam_arm(scale, size) for size in PROFILES[scale]["sizes"]])
    from_to = f"from {FROM_TO[0]} to {FROM_TO[1]}"
    return [
        claim("figure4", "within", "slightly", partial(changes, "mean"),
              f"The mean loss of the units changes only slightly with the population (± {STABLE:.0%} {from_to})"),
        claim("figure4", "greater", "larger", partial(changes, "spread"),
              f"The spread of the units' losses gets larger with the population (share of it, {from_to})"),
        claim("figure4", "greater", "better", lambda to: -changes("best", to),
              f"With more units some are better: the lowest loss falls with the population (share of it, {from_to})",
              headline="population"),
        claim("figure5", "within", "not significant", rises,
              f"The population has no significant impact on the adoption rate (± {ADOPTION_MARGIN} {from_to})"),
        claim("figure5", "greater", "lower", lambda to: -rises(to),
              f"With a larger population the adoption rate is lower (its fall {from_to})"),
    ]  # fmt: skip


def change(frame: pd.DataFrame, name: str, relative: bool = False) -> pd.Series:
    """The change of a number from the smallest to the largest of the paper's populations, by the slope of each seed.

    By seed, of those that all sizes have: the least-squares slope over g, times 18; `relative` to the seed's mean.
    """
    table = frame.pivot_table(index="seed", columns="g", values=name).dropna()
    slopes = np.polyfit(table.columns.to_numpy(dtype=float), table.to_numpy().T, 1)[0]
    changes = pd.Series((FROM_TO[1] - FROM_TO[0]) * slopes, index=table.index)
    return changes / table.mean(axis=1) if relative else changes
