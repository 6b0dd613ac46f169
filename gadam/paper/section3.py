"""Section 3: one generation taken apart, on a small real problem (YEAST)."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from gadam.config import GadamConfig
from gadam.datasets import load
from gadam.evolution.loop import evolve
from gadam.models import MLP_HIDDEN, mlp
from gadam.paper.runs import Rows, Run, RunFunction, dataset_config, run_function
from gadam.result import Callback, Generation

PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {"steps": 50, "validation_size": 256},
    "quick": {"steps": 300, "validation_size": 256},
    "standard": {"steps": 300, "validation_size": 256},
    "paper": {"steps": 300, "validation_size": 256},
}
DATASET = "yeast"
G = 8
MUTATION_RATE = 0.05  # five times the paper's, so that single mutated entries can be seen in a picture


def runs(profile: str, data: str) -> list[Run]:
    """The run behind the table and the pictures of the units."""
    return [_run(units, "the units of one generation", profile, data)]


def entry_runs(profile: str, data: str) -> list[Run]:
    """The run behind the picture of one child's weights."""
    return [_run(entries, "where a child's weights came from", profile, data)]


@run_function("section3/units")
def units(dataset: str, data: Any, **settings: Any) -> Rows:
    """A row per parent and child of one generation: losses, selection, lineage, mutation, survival."""
    generation, source = _one_generation(dataset, data, settings)
    rows: Rows = []
    drawn = torch.bincount(generation.pairs.flatten(), minlength=G)
    for line in generation.history.drop(columns="seconds").to_dict("records"):
        unit = int(line["unit"])
        row = {str(name): value for name, value in line.items()} | {"data": source}
        if line["role"] == "parent":
            own: dict[str, Any] = {
                "parent_a": None,
                "parent_b": None,
                "normalized": float(generation.normalized[unit]),
                "probability": float(generation.probabilities[unit]),
                "times_drawn": int(drawn[unit]),
            }
        else:
            a, b = generation.pairs[unit].tolist()
            origins = torch.cat([_origins(generation, unit, name).flatten() for name in generation.newborn.parameters])
            own = {
                "parent_a": a,
                "parent_b": b,
                "inheritance": float(generation.inheritance[unit]),
                # Eq. 9 can only be seen in entries in which the parents differ.
                "share_from_a": float((origins == 0).sum() / (origins <= 1).sum()) if a != b else 1.0,
                "mutation_rate": float(generation.mutation_rates[unit]),
                "share_mutated": float((origins == 2).double().mean()),
            }
        rows.append(row | own)
    return rows


@run_function("section3/entries")
def entries(dataset: str, data: Any, **settings: Any) -> Rows:
    """A row per entry of the first layer of one child of two different parents: its value and where it came from."""
    generation, source = _one_generation(dataset, data, settings)
    pairs = generation.pairs.tolist()
    child = next(unit for unit, (a, b) in enumerate(pairs) if a != b)
    name = next(iter(generation.newborn.parameters))
    origins, values = _origins(generation, child, name), generation.newborn.parameters[name][child]
    return [
        {
            "child": child, "parent_a": pairs[child][0], "parent_b": pairs[child][1], "row": row, "column": column,
            "origin": int(origins[row, column]), "value": float(values[row, column]), "data": source,
        }
        for row in range(values.shape[0]) for column in range(values.shape[1])
    ]  # fmt: skip


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """The units as a reader should see them: fitness, selection, lineage, mutation, survival.

    Without rows the units are named, and their cells are empty.
    """
    if rows.empty:
        rows = pd.DataFrame([{"role": role, "unit": unit} for role in ("parent", "child") for unit in range(G)])
    columns = {
        "role": "role", "unit": "unit", "loss_start": "loss before", "loss_trained": "loss trained",
        "normalized": "normalised", "probability": "P (Eq. 8)", "times_drawn": "times drawn", "parent_a": "parent a",
        "parent_b": "parent b", "inheritance": "p_ab (Eq. 10)", "share_from_a": "share from a",
        "mutation_rate": "rate (Eq. 12)", "share_mutated": "share mutated", "loss_survival": "loss, new batch",
        "survived": "survived", "data": "data",
    }  # fmt: skip
    whole = dict.fromkeys(("times_drawn", "parent_a", "parent_b"), "Int64")
    return rows.reindex(columns=list(columns)).astype(whole).rename(columns=columns)


class _Keep(Callback):
    """Keeps the generation."""

    generation: Generation

    def on_generation(self, generation: Generation) -> None:
        self.generation = generation


def _one_generation(dataset: str, data: Any, settings: dict[str, Any]) -> tuple[Generation, str]:
    rows = load(dataset, data=data)
    model = partial(mlp, rows.feature_shape[0], rows.class_count, MLP_HIDDEN[dataset])
    keep = _Keep()
    config = GadamConfig(population_size=G, generations=1, mutation_rate=MUTATION_RATE, **settings)
    evolve(model, rows.train, config, loss=nn.functional.cross_entropy, callbacks=[keep], progress=False)
    return keep.generation, rows.source


def _origins(generation: Generation, child: int, name: str) -> Tensor:
    """Where each entry of a newborn child came from: 0 parent a, 1 parent b, 2 mutation. Equal parents count as a."""
    a, b = generation.pairs[child].tolist()
    entry, parents = generation.newborn.parameters[name][child], generation.parents.parameters[name]
    return torch.where(entry == parents[a], 0, torch.where(entry == parents[b], 1, 2))


def _run(function: RunFunction, label: str, profile: str, data: str) -> Run:
    rows, digest = dataset_config(DATASET, data)
    return Run(function, {**rows, **PROFILES[profile]}, digest, label, priority=2)


RUNS = (runs, entry_runs)
