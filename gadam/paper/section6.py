"""Section 6: what was decided where the paper leaves it open, and what the other reading would have given.

Each other reading, and each part of GADAM left out, is trained on YEAST and LETTER with the MLPs of Section 5.4, from
the seeds of the default reading, so differences of test accuracy are paired. What is known of the paper without
computing is in `fidelity`.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from gadam.config import GadamConfig
from gadam.datasets import Dataset, load
from gadam.evolution.loop import evolve
from gadam.models import MLP_HIDDEN, mlp
from gadam.paper import fidelity, seeds_of
from gadam.paper.claims import Arms, paired
from gadam.paper.runs import Rows, Run, dataset_config, run_function
from gadam.paper.statistics import paired_interval
from gadam.paper.units import held_out, independent, scorer, whole
from gadam.population import Population
from gadam.randomness import VALIDATION, stream


@dataclass(frozen=True)
class Reading:
    """A way to train that differs from the default in one thing.

    Attributes:
        label: what a reader calls it.
        settings: of `GadamConfig`, where they differ.
        kind: "reading" of what the paper leaves open, "ablation" of a part of GADAM, or "control" without evolution.
    """

    label: str
    settings: dict[str, Any] = field(default_factory=dict)
    kind: str = "reading"


DEFAULT = "default"
READINGS = {
    DEFAULT: Reading("default readings"),
    "standard_normal": Reading("initial entries from N(0, 1)", {"initialisation": "standard_normal"}),
    "carry": Reading("Adam's moments carried", {"moments": "carry"}),
    "normal": Reading("mutation from N(0, 0.1²)", {"mutation": "normal"}),
    "held_out": Reading("validation rows held out (4/5 trained on)"),
    "no_mutation": Reading("no mutation", {"mutation_rate": 0.0}, "ablation"),
    "one_start": Reading("all units start alike", {}, "ablation"),
    "small": Reading("5 units", {"population_size": 5}, "ablation"),
    "large": Reading("20 units", {"population_size": 20}, "ablation"),
    "adam": Reading("2 K steps of Adam each, no evolution", {}, "control"),
}
DATASETS = ("yeast", "letter")
HELD_OUT = 5  # one in so many training rows, where validation rows are held out

PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {"seeds": {"yeast": 2, "letter": 2}, "g": 3, "K": 1, "steps": {"yeast": 5, "letter": 5}},
    "quick": {
        "seeds": {"yeast": 3, "letter": 2}, "g": 10, "K": 5, "steps": {"yeast": 50, "letter": 60},
    },
    "standard": {
        "seeds": {"yeast": 10, "letter": 10}, "g": 10, "K": 5, "steps": {"yeast": 50, "letter": 800},
    },
    "paper": {
        "seeds": {"yeast": 10, "letter": 10}, "g": 10, "K": 5, "steps": {"yeast": 50, "letter": 8_000},
    },
}  # fmt: skip


def arm(dataset: str, reading: str) -> str:
    """What the seeds of a reading are repetitions of."""
    return f"section6/{dataset}/{reading}"


def runs(profile: str, data: str) -> list[Run]:
    """Each reading with each seed on each dataset."""
    budget = PROFILES[profile]
    planned = []
    for name in DATASETS:
        rows, digest = dataset_config(name, data)
        for key, reading in READINGS.items():
            size = {"population_size": budget["g"], "generations": budget["K"], "steps": budget["steps"][name]}
            size |= {setting: value for setting, value in reading.settings.items() if setting in size}
            for seed in seeds_of(profile, budget["seeds"][name]):
                config = {**rows, "reading": key, "seed": seed, **size}
                label = f"{name.upper()} · {reading.label} · seed {seed}"
                planned.append(Run(trained, config, digest, label, arm(name, key), priority=2))
    return planned


@run_function("readings/trained")
def trained(dataset: str, data: Any, reading: str, seed: int, **settings: Any) -> Rows:
    """The test accuracy of the unit that a reading ends with."""
    rows = load(dataset, data=data, seed=seed)
    config = GadamConfig(**{**settings, **READINGS[reading].settings, "seed": seed})
    make_model = partial(_mlp, rows)
    if reading == "adam":
        chosen, steps = _best_of_independent(rows, config)
    else:
        train, validation = rows.train, None
        if reading == "held_out":
            train, validation = held_out(rows.train, len(rows.train[1]) // HELD_OUT, seed)
        if reading == "one_start":
            make_model = partial(copy.deepcopy, Population.make(make_model, 1, seed=seed).unit(0))
        result = whole(evolve(make_model, train, config, validation=validation, progress=False))
        chosen, steps = result.population.take(slice(0, 1)), result.gradient_steps
    loss, correct = scorer(chosen.template)(chosen, rows.test)
    total = len(rows.test[1])
    return [{
        "dataset": rows.name, "data": rows.source, "reading": reading, "seed": seed, "correct": int(correct[0]),
        "test_rows": total, "accuracy": 100 * int(correct[0]) / total, "loss": float(loss[0]), "gradient_steps": steps,
    }]  # fmt: skip


def effects(rows: pd.DataFrame, arms: Arms) -> pd.DataFrame:
    """Test accuracy of each reading, and minus that of the default, paired by seed, with 95 % interval; percent."""
    lines = []
    for dataset, (key, reading) in itertools.product(DATASETS, READINGS.items()):
        own, default = _runs_of(rows, dataset, key), _runs_of(rows, dataset, DEFAULT)
        differences = paired(_accuracies(own), _accuracies(default)).values if key != DEFAULT else ()
        test_rows = int(own["test_rows"].iloc[0]) if len(own) else None
        mean, low, high = paired_interval(differences, test_rows) if differences else (np.nan,) * 3
        lines.append({
            "dataset": dataset.upper(), "kind": reading.kind, "reading": reading.label,
            "accuracy": own["accuracy"].mean() if len(own) else np.nan, "difference": mean, "low": low, "high": high,
            "seeds": arms.count(arm(dataset, key)),
            "gradient steps": int(own["gradient_steps"].iloc[0]) if len(own) else pd.NA,
            "data": own["data"].iloc[0] if len(own) else None,
        })  # fmt: skip
    return pd.DataFrame(lines).astype({"gradient steps": "Int64"})


def note(profile: str) -> str:
    """What a reader of the effects must know."""
    budget, full = PROFILES[profile], PROFILES["paper"]
    depths = ", ".join(
        f"{name.upper()} {2 * budget['K'] * steps:,} ({steps * budget['K'] / (full['steps'][name] * full['K']):.1%})"
        for name, steps in budget["steps"].items()
    )
    others = " and ".join(
        f"{reading.label} ({reading.settings['population_size'] / budget['g']:.2g} times as many)"
        for reading in READINGS.values() if not equal_steps(reading)
    )  # fmt: skip
    return (
        "difference, low, high: mean over seeds, paired, and 95 % interval (t). Steps along a line of descent, and "
        f"their share of profile paper's: {depths}; what helps early in training need not help at its end. Gradient "
        f"steps are equal throughout but for {others}; held-out validation leaves four fifths of the rows to train on."
    )


def equal_steps(reading: Reading) -> bool:
    """Whether a reading takes as many gradient steps as the default: one of another population does not."""
    return "population_size" not in reading.settings


def ambiguities(rows: pd.DataFrame, arms: Arms) -> pd.DataFrame:
    """What the paper leaves open: our default, the switch, and the measured effect of the other reading or why none."""
    measured = {(line["dataset"], line["reading"]): line for line in effects(rows, arms).to_dict("records")}
    lines = []
    for one in fidelity.AMBIGUITIES:
        found, source = one.elsewhere or f"not measured: {one.unmeasured}", None
        if one.reading:
            cells = [measured[name.upper(), READINGS[one.reading].label] for name in DATASETS]
            complete = [arms.complete(arm(name, DEFAULT), arm(name, one.reading)) for name in DATASETS]
            found = "; ".join(map(_effect, cells, complete))
            source = next((cell["data"] for cell in cells if cell["data"]), None)
        lines.append({
            "where": one.where, "what is open": one.question, "our default": one.default, "switch": one.switch or None,
            "effect of the other reading": found, "data": source,
        })  # fmt: skip
    return pd.DataFrame(lines)


def _effect(cell: dict[Hashable, Any], complete: bool) -> str:
    """The difference in words; of all seeds or none."""
    if not complete:
        return f"{cell['dataset']} not computed yet"
    return f"{cell['dataset']} {cell['difference']:+.2f} [{cell['low']:+.2f}, {cell['high']:+.2f}]"


def _runs_of(rows: pd.DataFrame, dataset: str, reading: str) -> pd.DataFrame:
    return rows if rows.empty else rows[(rows["dataset"] == dataset) & (rows["reading"] == reading)]


def _accuracies(rows: pd.DataFrame) -> dict[int, float]:
    """By seed."""
    return {} if rows.empty else dict(zip(rows["seed"].tolist(), rows["accuracy"].tolist(), strict=True))


def _best_of_independent(rows: Dataset, config: GadamConfig) -> tuple[Population, int]:
    """As many steps as GADAM's without evolution: g units by Adam, and the best on a validation batch from T."""
    steps = 2 * config.generations * config.steps
    population = independent(partial(_mlp, rows), rows.train, replace(config, steps=steps))
    index = torch.randperm(len(rows.train[1]), generator=stream("cpu", config.seed, VALIDATION))
    index = index[: config.validation_size]
    losses, _ = scorer(population.template)(population, (rows.train[0][index], rows.train[1][index]))
    best = int(losses.argmin())
    return population.take(slice(best, best + 1)), steps * len(population)


def _mlp(rows: Dataset) -> nn.Module:
    return mlp(rows.feature_shape[0], rows.class_count, MLP_HIDDEN[rows.name])


RUNS = (runs,)
