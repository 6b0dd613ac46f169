"""Section 6: how faithful all this is: the equations in our code, what the paper leaves open, its numbers.

Each other reading of what is open, and each part of GADAM left out, is trained on YEAST and LETTER with the MLPs of
Section 5.4, from the seeds of the default reading, so differences of test accuracy are paired. `equations.csv` has each
formula or rule of the paper: the function that is it ("module:name") and a test of it, below `tests/`.
`ambiguities.csv` has what is open: our default; the switch, if there is one; the reading of `READINGS` that measures
another one, or else where its effect is shown, or why it was not measured.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from gadam.config import GadamConfig
from gadam.datasets import load
from gadam.evolution.loop import evolve
from gadam.paper import comparison, drawing, published, section54, section54_orl, seeds_of, statistics
from gadam.paper.claims import Arms, paired
from gadam.paper.drawing import BLUE, GREY, ORANGE
from gadam.paper.runs import Row, Run, arm_runs, run_function
from gadam.paper.statistics import mean_interval
from gadam.paper.units import by_seed, first, held_out, independent, scorer, validation_size, where, whole
from gadam.population import Population


class Reading(NamedTuple):
    """A way to train that differs from the default in one thing: its name for a reader, and settings of `GadamConfig`.

    `kind`: "reading" of what the paper leaves open, "ablation" of a part of GADAM, or "control" without evolution.
    """

    label: str
    settings: Mapping[str, Any] = MappingProxyType({})
    kind: str = "reading"

    @property
    def has_equal_steps(self) -> bool:
        """Whether it takes as many gradient steps as the default: with another population it does not."""
        return "population_size" not in self.settings


DEFAULT = "default"
READINGS = {
    DEFAULT: Reading("default readings"),
    "standard_normal": Reading("initial entries from N(0, 1)", {"initialisation": "standard_normal"}),
    "carry": Reading("Adam's moments carried", {"moments": "carry"}),
    "normal": Reading("mutation from N(0, 0.1²)", {"mutation": "normal"}),
    "held_out": Reading("validation rows held out (4/5 trained on)"),
    "no_mutation": Reading("no mutation", {"mutation_rate": 0.0}, "ablation"),
    "no_crossover": Reading("no crossover: copies of the fitter parent", {"crossover": "none"}, "ablation"),
    "selection": Reading("selection alone", {"crossover": "none", "mutation_rate": 0.0}, "ablation"),
    "one_start": Reading("all units start alike", kind="ablation"),
    "small": Reading("5 units", {"population_size": 5}, "ablation"),
    "large": Reading("20 units", {"population_size": 20}, "ablation"),
    "adam": Reading("2 K steps of Adam each, no evolution", kind="control"),
}
KINDS = {
    "reading": ("another reading of the paper", BLUE),
    "ablation": ("a part of GADAM left out or changed", ORANGE),
    "control": ("equal compute without evolution", GREY),
}
DATASETS = ("yeast", "letter")
HELD_OUT = 5  # one in so many training rows, where validation rows are held out

PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {"seeds": dict.fromkeys(DATASETS, 2), "g": 3, "K": 1, "steps": {"yeast": 5, "letter": 5}},
    "quick": {"seeds": dict.fromkeys(DATASETS, 2), "g": 10, "K": 5, "steps": {"yeast": 50, "letter": 30}},
    "standard": {"seeds": {"yeast": 60, "letter": 10}, "g": 10, "K": 5, "steps": {"yeast": 150, "letter": 800}},
    "paper": {"seeds": {"yeast": 60, "letter": 10}, "g": 10, "K": 5, "steps": {"yeast": 150, "letter": 8_000}},
}


def arm(dataset: str, reading: str) -> str:
    """Name the arm of a reading."""
    return f"section6/{dataset}/{reading}"


def runs(profile: str, data: str) -> list[Run]:
    """List each reading with each seed on each dataset."""
    budget, planned = PROFILES[profile], []
    for name, (key, reading) in itertools.product(DATASETS, READINGS.items()):
        size = {"population_size": budget["g"], "generations": budget["K"], "steps": budget["steps"][name]}
        size |= {setting: value for setting, value in reading.settings.items() if setting in size}
        seeds, label = seeds_of(profile, budget["seeds"][name]), f"{name.upper()} · {reading.label}"
        config = {"reading": key, **size}
        planned += arm_runs(trained, arm(name, key), seeds, config, name, data, label=label, priority=2)
    return planned


RUNS = (runs,)


@run_function("readings/trained", version=2)
def trained(dataset: str, data: Any, reading: str, seed: int, **settings: Any) -> list[Row]:
    """Train as a reading says, and score the unit that it ends with on the test rows."""
    rows = load(dataset, data=data, seed=seed)
    size = {"validation_size": validation_size(rows), "seed": seed}
    config = GadamConfig(**{**settings, **READINGS[reading].settings, **size})
    make_model = section54.maker(rows)
    if reading == "adam":  # as many steps as GADAM's; the best on a validation batch from T
        alone = replace(config, steps=2 * config.generations * config.steps)
        population = independent(make_model, rows.train, alone)
        losses, _ = scorer(population.template)(population, held_out(rows.train, config.validation_size, seed)[1])
        best, steps = int(losses.argmin()), alone.steps * len(population)
    else:
        train, validation = rows.train, None
        if reading == "held_out":
            train, validation = held_out(rows.train, len(rows.train[1]) // HELD_OUT, seed)
        if reading == "one_start":
            make_model = partial(copy.deepcopy, Population.make(make_model, 1, seed=seed).unit(0))
        result = whole(evolve(make_model, train, config, validation=validation, progress=False))
        population, best, steps = result.population, 0, result.gradient_steps
    chosen = population.take(slice(best, best + 1))
    loss, correct = scorer(chosen.template)(chosen, rows.test)
    row = comparison.answers(rows, "", seed, int(correct[0]), steps) | {"reading": reading, "loss": float(loss[0])}
    del row["method"]
    return [row]


def effects(rows: pd.DataFrame, arms: Arms) -> pd.DataFrame:
    """Compare each reading with the default by seed: test accuracy, difference and 95 % interval, in percent."""
    rows = rows.reindex(columns=["dataset", "reading", "seed", "accuracy", "test_rows", "gradient_steps", "data"])
    lines = []
    for dataset, (key, reading) in itertools.product(DATASETS, READINGS.items()):
        own, default = (where(rows, dataset=dataset, reading=one) for one in (key, DEFAULT))
        found = paired(by_seed(own, "accuracy"), by_seed(default, "accuracy")).values if key != DEFAULT else ()
        lines.append({
            "dataset": dataset.upper(), "kind": reading.kind, "reading": reading.label,
            "accuracy": own["accuracy"].mean(),
            **statistics.named(mean_interval(found, first(own, "test_rows")), "difference"),
            "seeds": arms.count(arm(dataset, key)), "gradient steps": first(own, "gradient_steps"),
            "data": first(own, "data"),
        })  # fmt: skip
    return pd.DataFrame(lines).astype({"accuracy": float, "gradient steps": "Int64"})


def note(profile: str) -> str:
    """Say what a reader of the effects must know."""
    steps, full = (
        {name: 2 * one["K"] * one["steps"][name] for name in DATASETS} for one in (PROFILES[profile], PROFILES["paper"])
    )
    depths = ", ".join(f"{name.upper()} {steps[name]:,} ({steps[name] / full[name]:.1%})" for name in DATASETS)
    others = " and ".join(
        f"{reading.label} ({reading.settings['population_size'] / PROFILES[profile]['g']:.2g} times as many)"
        for reading in READINGS.values() if not reading.has_equal_steps
    )  # fmt: skip
    return (
        "difference: mean over seeds, paired, and 95 % interval (t). Steps along a line of descent, and "
        f"their share of profile paper's: {depths}; what helps early in training need not help at its end. Gradient "
        f"steps are equal throughout but for {others}; held-out validation leaves four fifths of the rows to train on."
    )


def readings_figure(effects: pd.DataFrame) -> Figure:
    """Draw the test accuracy of each other reading minus that of the default, with intervals, a panel per dataset."""
    lines = effects[effects["reading"] != READINGS[DEFAULT].label]
    lines = lines.rename(columns={"dataset": "panel", "reading": "label", "difference": "centre"})
    lines["colour"] = [KINDS[kind][1] for kind in lines["kind"]]
    figure = drawing.differences_figure(
        lines, dict(KINDS.values()),
        "minus the default readings: test accuracy, percentage points (mean, 95 % interval, paired by seed)",
    )  # fmt: skip
    # Initial entries from N(0, 1) cost so much that little would be seen of the others.
    far = lines["label"] == READINGS["standard_normal"].label
    most = 1.15 * lines.loc[~far, ["low", "high"]].abs().max().max()
    for axis, (_, own) in zip(figure.axes, lines.groupby("panel", sort=False), strict=True):
        if most > 0:
            axis.set_xlim(-most, most)
        for place, line in enumerate(own.to_dict("records")):
            if abs(line["centre"]) > most:
                side = math.copysign(0.97 * most, line["centre"])
                align: dict[str, Any] = {"va": "center", "ha": "left" if side < 0 else "right"}
                axis.text(side, place, f"{line['centre']:+.1f}", backgroundcolor="white", **align)
    return figure


def _read(name: str) -> list[Any]:
    """The lines of a file beside this one, with its columns as attributes; what is empty is ""."""
    frame = pd.read_csv(Path(__file__).with_name(name), keep_default_na=False)
    return list(frame.itertuples(index=False, name="Line"))


EQUATIONS = _read("equations.csv")
AMBIGUITIES = _read("ambiguities.csv")


def equations() -> pd.DataFrame:
    """List each equation or rule of the paper, the function that is it, a test of it, and how we read it."""
    frame = pd.DataFrame(EQUATIONS).replace("", None).rename(columns={"where": "paper", "reading": "our reading"})
    return frame.assign(function=frame["function"].str.replace(":", "."))


def ambiguities(rows: pd.DataFrame, arms: Arms) -> pd.DataFrame:
    """List what the paper leaves open: our default, the switch, the effect of another reading or why it has none."""
    measured = effects(rows, arms).set_index(["reading", "dataset"])
    lines = []
    for one in AMBIGUITIES:
        found, source = one.elsewhere or f"not measured: {one.unmeasured}", None
        if one.reading:
            own = measured.loc[READINGS[one.reading].label]
            source = next((data for data in own["data"] if data), None)
            found = "; ".join(
                f"{dataset} {line['difference']:+.2f} [{line['low']:+.2f}, {line['high']:+.2f}]"
                if arms.complete(arm(name, DEFAULT), arm(name, one.reading)) else f"{dataset} not computed yet"
                for name, (dataset, line) in zip(DATASETS, own.iterrows(), strict=True)
            )  # fmt: skip
        lines.append({
            "where": one.where, "what is open": one.question, "our default": one.default, "switch": one.switch or None,
            "effect of the other reading": found, "data": source,
        })  # fmt: skip
    return pd.DataFrame(lines)


TEST_ROWS: dict[str, dict[Any, int]] = {
    "table1": {"accuracy": 10_000}, "table3": section54_orl.TEST_FACES, "table4": section54.TEST_ROWS,
}  # fmt: skip
"""Test rows of each column."""
YEAST_ROWS = 1_484
QUOTED = ("LeNet-5 (GD)", "Deep Belief Net", *comparison.QUOTED)
"""Methods whose numbers equal those that the gcForest paper (arXiv 1702.08835) prints."""
UNTUNED = "a learning rate that was not tuned? See Section 5.1"
REMARKS = {
    ("table3", "CNN (Adam)", "9"): "40 faces give multiples of 2.5 %",
    ("table4", "SVM (rbf)", "adult"): "as much as always saying “≤ 50K” (76.38): features not scaled, see Table 4",
    ("table4", "kNN (k=3)", "adult"): "less than always saying “≤ 50K” (76.38): features not scaled, see Table 4",
    ("table4", "SVM (rbf)", "letter"): "above MLP (GADAM), although the text excepts gcForest alone",
    ("table1", "AdaDelta", "accuracy"): UNTUNED,
    ("table1", "SGD", "accuracy"): UNTUNED,
}


def values() -> pd.DataFrame:
    """Ask of each accuracy of Tables 1, 3 and 4: can one run give it, and is GADAM's significantly above it."""
    lines = []
    for table, methods in published.TABLES.items():
        gadam, *_ = methods.values()
        for method, (column, rows) in itertools.product(methods, TEST_ROWS[table].items()):
            percent = methods[method][column]
            z = math.nan if methods[method] is gadam else difference_test(gadam[column], percent, rows)
            lines.append({
                "table": table, "method": method, "column": str(column), "printed": percent, "test rows": rows,
                "nearest of one run": _nearest(percent, rows),
                "one run": "possible" if attainable(percent, rows) else "impossible",
                "fewest runs": fewest_runs(percent, rows), "z below GADAM": z,
                "source": "quoted" if method in QUOTED else "own", "remark": REMARKS.get((table, method, str(column))),
            })  # fmt: skip
    return pd.DataFrame(lines)


def _nearest(percent: float, rows: int) -> float:
    """The accuracy of one run, in percent, that is nearest to another."""
    return 100 * round(percent / 100 * rows) / rows


def attainable(percent: float, rows: int) -> bool:
    """Tell whether some number of right answers among so many rows rounds to an accuracy printed with two decimals."""
    return abs(_nearest(percent, rows) - percent) <= 0.005 + 1e-9


def fewest_runs(percent: float, rows: int) -> int:
    """Return the fewest runs whose mean accuracy can round to an accuracy."""
    return next(runs for runs in range(1, 10_001) if attainable(percent, runs * rows))


def common_test_sizes(percents: list[float], largest: int) -> list[int]:
    """Return the numbers of test rows with which one run each can give all of these accuracies."""
    return [rows for rows in range(1, largest + 1) if all(attainable(percent, rows) for percent in percents)]


def difference_test(first: float, second: float, rows: int) -> float:
    """Return the z of two accuracies in percent on so many test rows each, as if independent; 1.96 is the 5 % level."""
    pooled = (first + second) / 200
    error = math.sqrt(2 * pooled * (1 - pooled) / rows)
    return (first - second) / 100 / error
