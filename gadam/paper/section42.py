"""Section 4.2: the losses of Theorem 1, measured (Eq. 14 and 15).

The proof says that learning lowers the loss of a generation, that selecting the best g of 2g lowers it again, and that
so L^(k) keeps decreasing. It holds the fitness of a unit for one number, as if every evaluation were on the same rows;
Section 3.4 draws a new batch each time. Here the three inequalities are counted both ways, and on rows that took part
in nothing. Eq. 14 sums losses over the units; these are means over units, which compare the same for equal g.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from gadam.config import GadamConfig
from gadam.datasets import load
from gadam.evolution.loop import evolve
from gadam.paper import section54, seeds_of
from gadam.paper.claims import Arms, Claim
from gadam.paper.drawing import BLUE, ORANGE, add_legend, draw_curve
from gadam.paper.runs import Row, Run, arm_runs, run_function
from gadam.paper.statistics import named, proportion_interval
from gadam.paper.units import Part, first, held_out, scorer, source_of, where
from gadam.population import Population
from gadam.result import Callback, Generation

PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {"g": 4, "K": 3, "steps": {"short": 5, "letter": 5, "long": 15}, "seeds": 1},
    "quick": {"g": 10, "K": 8, "steps": {"short": 25, "letter": 25, "long": 50}, "seeds": 2},
    "standard": {"g": 10, "K": 10, "steps": {"short": 50, "letter": 400, "long": 1_000}, "seeds": 60},
    "paper": {"g": 10, "K": 10, "steps": {"short": 50, "letter": 400, "long": 1_000}, "seeds": 10},
}
PROBLEMS = {"YEAST": ("yeast", "short"), "YEAST, long": ("yeast", "long"), "LETTER": ("letter", "letter")}
"""A problem's name for a reader -> its dataset, and which steps."""
VALIDATION_SIZE = 256  # a quarter of YEAST's training rows
FIXED = "fixed V in T"  # one V of the training rows for all evaluations, as in the proof
HELD_OUT = "fixed V, held out"  # one V for all evaluations, which nothing is trained on
NEW = "new batches"  # a new batch of the training rows each time, as in Section 3.4
REGIMES = (FIXED, HELD_OUT, NEW)
INEQUALITIES = {
    "learning": "L after learning ≤ L(k)",
    "selection": "L(k+1) ≤ L after learning",
    "decrease": "L(k+1) ≤ L(k)",
}
HELD = "runs in which it always holds"
TOLERANCE = 1e-6
"""Relative. The fixed V comes in a new order at every evaluation: the sum over its rows may differ in its last bits."""
RUN = ["setting", "regime", "seed"]
"""Columns that tell runs apart."""


def arm(problem: str, regime: str) -> str:
    """Name the arm that the seeds of a problem and a regime are repetitions of."""
    return f"section42/{problem}/{regime}"


def runs(profile: str, data: str) -> list[Run]:
    """List a run per problem, seed and regime."""
    budget, planned = PROFILES[profile], []
    seeds = seeds_of(profile, budget["seeds"])
    for (problem, (dataset, steps)), regime in itertools.product(PROBLEMS.items(), REGIMES):
        size = {"population_size": budget["g"], "generations": budget["K"], "steps": budget["steps"][steps]}
        config, label = {"setting": problem, "regime": regime, **size}, f"{problem} · {regime}"
        planned += arm_runs(losses, arm(problem, regime), seeds, config, dataset, data, label=label, priority=2)
    return planned


RUNS = (runs,)


@run_function("section42/losses", version=2)
def losses(dataset: str, data: Any, setting: str, regime: str, seed: int, **settings: Any) -> list[Row]:
    """Return a row per generation: its mean loss before learning, after it and after selection, on V and on test rows.

    With new batches each value is on the batch that the algorithm has at that moment: learning is judged on the
    generation's first batch, selection on its second (Sections 3.3.1 and 3.4).
    """
    rows = load(dataset, data=data, seed=seed)
    rest, chosen = held_out(rows.train, VALIDATION_SIZE, seed)
    means = _Means(rows.test)
    train, validation = rest if regime == HELD_OUT else rows.train, None if regime == NEW else chosen
    config = GadamConfig(seed=seed, validation_size=VALIDATION_SIZE, **settings)  # a batch as large as V is all of V
    evolve(section54.maker(rows), train, config, validation=validation, callbacks=[means], progress=False)
    about = {"setting": setting, "regime": regime, "seed": seed, "steps": settings["steps"], "data": rows.source}
    return [about | row for row in means.rows]


class _Means(Callback):
    """Keeps the mean losses of each generation; the parents' before learning on test rows are the last selected's."""

    def __init__(self, test: Part) -> None:
        self.rows: list[Row] = []
        self._test = test

    def on_start(self, config: GadamConfig, population: Population) -> None:
        self._score = scorer(population.template)
        self._before = self._on_test(population)

    def on_generation(self, generation: Generation) -> None:
        history = generation.history
        parents, survivors = history[history["role"] == "parent"], history[history["survived"]]
        selected = self._on_test(generation.next)
        self.rows.append({
            "generation": generation.number,
            "before": float(parents["loss_start"].mean()),
            "learned": float(parents["loss_trained"].mean()),
            "learned_again": float(parents["loss_survival"].mean()),  # on the batch of "selected"
            "selected": float(survivors["loss_survival"].mean()),
            # How far apart the two batches of the generation are for the same units: rounding, where V is fixed.
            "batches_differ": float((parents["loss_survival"] / parents["loss_trained"] - 1).abs().max()),
            "test_before": self._before,
            "test_learned": self._on_test(generation.parents),
            "test_selected": selected,
        })  # fmt: skip
        self._before = selected

    def _on_test(self, population: Population) -> float:
        return float(self._score(population, self._test)[0].mean())


def inequalities(rows: pd.DataFrame) -> pd.DataFrame:
    """Add a column per inequality, of V and of the test rows ("test_…"): whether it holds.

    A generation starts from what the one before it selected, and L(k) is the loss that it was selected with, as in
    Eq. 13. The first was not selected by a loss: it has the one before learning.
    """
    values = [f"{prefix}{stage}" for prefix in ("", "test_") for stage in ("before", "learned", "selected")]
    frame = rows.reindex(columns=[*RUN, "steps", "data", "generation", *values]).astype(dict.fromkeys(values, float))
    frame = frame.sort_values("generation", kind="stable").reset_index(drop=True)
    for prefix in ("", "test_"):
        before, learned, selected = (frame[f"{prefix}{name}"] for name in ("before", "learned", "selected"))
        previous = selected.groupby([frame[name] for name in RUN]).shift().fillna(before)
        frame[f"{prefix}learning"] = learned <= before * (1 + TOLERANCE)
        frame[f"{prefix}selection"] = selected <= learned * (1 + TOLERANCE)
        frame[f"{prefix}decrease"] = selected <= previous * (1 + TOLERANCE)
    return frame


def table(rows: pd.DataFrame, arms: Arms) -> pd.DataFrame:
    """How often each inequality held, and in how many runs it held in every generation.

    Shares are of seeds × generations, in percent, with 95 % intervals (Wilson).
    """
    frame, lines = inequalities(rows), []
    for problem, regime in itertools.product(PROBLEMS, REGIMES):
        group = where(frame, setting=problem, regime=regime)
        for name, text in INEQUALITIES.items():
            line: dict[str, Any] = {"problem": problem, "regime": regime, "inequality": text}
            for prefix, rows_of in (("", ""), ("test_", " (test rows)")):
                numbers = proportion_interval(int(group[f"{prefix}{name}"].sum()), len(group))
                percent = named(numbers, f"holds, %{rows_of}", f"low{rows_of}", f"high{rows_of}")
                line |= {column: 100 * share for column, share in percent.items()}
            lines.append(line | {
                "of": len(group), HELD: _held(group, name).sum() if len(group) else pd.NA,
                "seeds": arms.count(arm(problem, regime)), "data": first(group, "data"),
            })  # fmt: skip
    return pd.DataFrame(lines).astype({HELD: "Int64"})


def _held(frame: pd.DataFrame, inequality: str) -> pd.Series[bool]:
    """Whether an inequality held in all generations, by run."""
    return frame.groupby(RUN)[inequality].all()


def claims(rows: pd.DataFrame, profile: str) -> list[Claim]:
    """What the proof says of every generation; a trial is one run, whatever its problem.

    The paper's V is part of T, so the regime with V held out is no claim of its.
    """
    texts = {
        "learning": "Learning never raises the loss of a generation (proof of Theorem 1)",
        "selection": "Selection never raises the loss of a generation (Eq. 15)",
        "decrease": "L(k) keeps decreasing (proof of Theorem 1)",
    }
    places = {FIXED: "all evaluated on one fixed V", NEW: "each on a new batch, as in Section 3.4"}
    arms = {regime: [arm(problem, regime) for problem in PROBLEMS] for regime in places}
    claim = partial(Claim, exhibit="section42_theorem", data=source_of(rows))
    never = [
        claim(
            text=f"{texts[name]}; {place}", kind="always", paper=0.0, arms=arms[regime],
            evidence=partial(_violations, rows, regime, name), repetitions=_runs(rows, regime),
            headline="theorem" if (regime, name) == (NEW, "decrease") else "",
        )
        for (regime, place), name in itertools.product(places.items(), texts)
    ]  # fmt: skip
    finite = claim(
        text="GADAM converges in a finite number of evolution rounds (Theorem 1); ours: the share of runs that met "
        f"Eq. 13 with θ = 0 in {PROFILES[profile]['K']} generations",
        kind="open", paper="finite", arms=arms[NEW], evidence=partial(_converged, rows),
        repetitions=_runs(rows, NEW),
    )  # fmt: skip
    return [*never, finite]


def _runs(rows: pd.DataFrame, regime: str) -> str:
    """The runs of all problems together, which the claims are about."""
    count = where(rows, regime=regime).groupby(["setting", "seed"]).ngroups if len(rows) else 0
    return f"{count} runs" if count else ""


def _violations(rows: pd.DataFrame, regime: str, inequality: str) -> tuple[int, int]:
    """The runs in which some generation violates an inequality, and all of them."""
    held = _held(inequalities(where(rows, regime=regime)), inequality)
    return int((~held).sum()), len(held)


def _converged(rows: pd.DataFrame) -> tuple[float, float, float, str]:
    """The share of runs that met Eq. 13 with θ = 0, which the proof needs, in the generations they had."""
    new = where(rows, regime=NEW).sort_values("generation")
    met = [bool((run["selected"].diff() == 0).any()) for _, run in new.groupby(["setting", "seed"])]
    return *proportion_interval(sum(met), len(met)), f"share of {len(met)} runs, 95 % (Wilson)"


def figure_losses(rows: pd.DataFrame) -> Figure:
    """Draw L(k) before learning, after it and after selection, on V and on test rows; a column per problem."""
    figure, axes = plt.subplots(3, len(PROBLEMS), figsize=(11.5, 8), layout="constrained", sharex=True, sharey="col")
    frame = inequalities(rows)
    for (line, regime), (column, problem) in itertools.product(zip(axes, REGIMES, strict=True), enumerate(PROBLEMS)):
        axis, group = line[column], where(frame, setting=problem, regime=regime)
        if group.empty:
            continue
        _draw_path(axis, group, "", BLUE)
        _draw_path(axis, group, "test_", ORANGE)
        falls = f"L(k+1) ≤ L(k): V {group['decrease'].sum()}, test {group['test_decrease'].sum()} of {len(group)}"
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
        axis.text(0.98, 0.97, falls, transform=axis.transAxes, ha="right", va="top", fontsize=9.5, bbox=box)
        axis.margins(y=0.12)
    for line, regime in zip(axes, REGIMES, strict=True):
        line[0].set_ylabel(f"{regime}\nmean loss of a unit")
    for top, bottom, problem in zip(axes[0], axes[-1], PROBLEMS, strict=True):
        bottom.set_xlabel("generations completed")
        bottom.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        own, first = (where(frame, setting=problem, **of) for of in ({}, {"generation": 1}))
        top.set_title(problem)
        if len(first):
            top.set_title(f"{problem}: {int(first['steps'].iloc[0])} steps a generation")
            # Where the first learning takes nearly all of the loss, all that follows would be a flat line.
            later = own.groupby(["regime", "generation"])[["learned", "test_learned"]].mean().to_numpy().max()
            begun = min(1.1 * first["before"].max(), 1.35 * first["test_learned"].max())
            top.set_ylim(bottom=max(0, top.get_ylim()[0]), top=max(begun, 1.2 * later))
    lines = {"on V, which selection sees": BLUE, "on test rows, which nothing sees": ORANGE}
    about = f"mean of seeds ({frame['seed'].nunique()}), band from the lowest to the highest; "
    handles = {text: Line2D([], [], color=colour) for text, colour in lines.items()}
    add_legend(figure, handles, 2, title=f"{about}disc: before learning, ring: after it")
    return figure


def _draw_path(axis: Axes, group: pd.DataFrame, prefix: str, colour: Any) -> None:
    """Draw losses in their order; where a generation starts on another batch than the last ended, the line jumps."""
    # A generation k begins at k - 1, has learned halfway, and is selected at k, where the next one begins.
    stages = (("selected", 0.0), ("before", -1.0), ("learned", -0.5))
    points = pd.concat(
        pd.DataFrame({"place": group["generation"] + shift, "order": order, "loss": group[f"{prefix}{stage}"]})
        for order, (stage, shift) in enumerate(stages)
    )
    path = points.groupby(["place", "order"])["loss"].agg(["mean", "min", "max"]).reset_index("order")
    draw_curve(axis, path[["mean", "min", "max"]], colour, linewidth=1.4)
    for order, face in ((1, colour), (2, "white")):
        stage = path.loc[path["order"] == order, "mean"]
        axis.scatter(stage.index, stage, s=22, color=face, edgecolor=colour, linewidth=1.3, zorder=3)
