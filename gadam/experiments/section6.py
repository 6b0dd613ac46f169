"""Section 6: what was decided where the paper leaves it open, and what the other reading would have given.

Each other reading, and each part of GADAM left out, is trained on YEAST and LETTER with the MLPs of Section 5.4, from
the seeds of the default reading, so differences of test accuracy are paired. What is known of the paper without
computing is in `fidelity`.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import nn

from gadam.config import GadamConfig
from gadam.datasets import Dataset, load, locate
from gadam.evolution import evolve
from gadam.experiments import fidelity
from gadam.experiments.runs import Run
from gadam.experiments.statistics import mean_interval
from gadam.experiments.units import held_out, independent, scorer
from gadam.models import MLP_HIDDEN, mlp
from gadam.population import Population
from gadam.randomness import VALIDATION, stream

Rows = list[dict[str, Any]]


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
    "adam": Reading("2 K steps of Adam each, no evolution", {}, "control"),
}
DATASETS = ("yeast", "letter")
HELD_OUT = 5  # one in so many training rows, where validation rows are held out

PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {"seeds": {"yeast": 2, "letter": 2}, "g": 3, "K": 1, "steps": {"yeast": 5, "letter": 5}},
    "quick": {
        "seeds": {"yeast": 5, "letter": 3}, "g": 10, "K": 5, "steps": {"yeast": 50, "letter": 60},
    },
    "paper": {
        "seeds": {"yeast": 10, "letter": 10}, "g": 10, "K": 5, "steps": {"yeast": 50, "letter": 8_000},
    },
}  # fmt: skip


def runs(profile: str, data: str) -> list[Run]:
    """Each reading with each seed on each dataset."""
    budget = PROFILES[profile]
    planned = []
    for name in DATASETS:
        found = locate(name, data=data)  # type: ignore[arg-type]
        source = "real" if found.source == "real" else "standin"
        size = {"population_size": budget["g"], "generations": budget["K"], "steps": budget["steps"][name]}
        for reading in READINGS:
            for seed in range(budget["seeds"][name]):
                config = {"dataset": name, "data": source, "reading": reading, "seed": seed, **size}
                label = f"{name.upper()} · {READINGS[reading].label} · seed {seed}"
                work = 2 * budget["g"] * budget["K"] * budget["steps"][name]
                planned.append(Run(f"{__name__}:trained", config, found.hash, label, work))
    return planned


def trained(dataset: str, data: Any, reading: str, seed: int, **settings: Any) -> Rows:
    """The test accuracy of the unit that a reading ends with."""
    rows = load(dataset, data=data, seed=seed)
    config = GadamConfig(seed=seed, **settings, **READINGS[reading].settings)
    make_model = partial(_mlp, rows)
    if reading == "adam":
        chosen, steps = _best_of_independent(rows, config)
    else:
        train, validation = rows.train, None
        if reading == "held_out":
            train, validation = held_out(rows.train, len(rows.train[1]) // HELD_OUT, seed)
        if reading == "one_start":
            make_model = partial(copy.deepcopy, Population.make(make_model, 1, seed=seed).unit(0))
        result = evolve(make_model, train, config, validation=validation, progress=False)
        chosen, steps = result.population.take(slice(0, 1)), result.gradient_steps
    loss, correct = scorer(chosen.template)(chosen, rows.test)
    total = len(rows.test[1])
    return [{
        "dataset": rows.name, "data": rows.source, "reading": reading, "seed": seed, "correct": int(correct[0]),
        "test_rows": total, "accuracy": 100 * int(correct[0]) / total, "loss": float(loss[0]), "gradient_steps": steps,
    }]  # fmt: skip


def effects(rows: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy of each reading, and minus that of the default, paired by seed, with 95 % interval; percent."""
    lines = []
    for dataset in DATASETS:
        own = rows[rows["dataset"] == dataset]
        spent = own.groupby("reading")["gradient_steps"].first()
        accuracy = own.pivot_table(index="seed", columns="reading", values="accuracy")
        for reading, what in READINGS.items():
            line = {
                "dataset": dataset.upper(), "kind": what.kind, "reading": what.label,
                "accuracy": accuracy[reading].mean(), "difference": None, "low": None, "high": None,
                "seeds": len(accuracy), "gradient steps": int(spent[reading]),
                "data": own["data"].iloc[0],
            }  # fmt: skip
            if reading != DEFAULT:
                differences = (accuracy[reading] - accuracy[DEFAULT]).tolist()
                line["difference"], line["low"], line["high"] = mean_interval(differences)
            lines.append(line)
    return pd.DataFrame(lines).astype({"difference": float, "low": float, "high": float})


def note(profile: str) -> str:
    """What a reader of the effects must know."""
    budget, full = PROFILES[profile], PROFILES["paper"]
    depths = ", ".join(
        f"{name.upper()} {2 * budget['K'] * steps:,} ({steps * budget['K'] / (full['steps'][name] * full['K']):.1%})"
        for name, steps in budget["steps"].items()
    )
    return (
        "difference, low, high: mean over seeds, paired, and 95 % interval (t). Steps along a line of descent, and "
        f"their share of profile paper's: {depths}; what helps early in training need not help at its end. Equal steps "
        "throughout, but for held-out validation, which leaves four fifths of the rows to train on."
    )


def ambiguities(rows: pd.DataFrame) -> pd.DataFrame:
    """What the paper leaves open: our default, the switch, and the measured effect of the other reading or why none."""
    measured = {(line["dataset"], line["reading"]): line for line in effects(rows).to_dict("records")}
    lines = []
    for one in fidelity.AMBIGUITIES:
        found = "not measured: " + one.unmeasured
        if one.reading:
            cells = [measured[name.upper(), READINGS[one.reading].label] for name in DATASETS]
            found = "; ".join(
                f"{cell['dataset']} {cell['difference']:+.2f} [{cell['low']:+.2f}, {cell['high']:+.2f}]"
                for cell in cells
            )
        elif one.elsewhere:
            found = one.elsewhere
        lines.append({
            "where": one.where, "what is open": one.question, "our default": one.default, "switch": one.switch or None,
            "effect of the other reading": found, "data": rows["data"].iloc[0] if one.reading else None,
        })  # fmt: skip
    return pd.DataFrame(lines)


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
