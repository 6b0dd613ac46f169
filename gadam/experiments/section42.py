"""Section 4.2: the losses of Theorem 1, measured (Eq. 14 and 15).

The proof says that learning lowers the loss of a generation, that selecting the best g of 2g lowers it again, and that
so L^(k) keeps decreasing. It holds the fitness of a unit for one number, as if every evaluation were on the same rows;
Section 3.4 draws a new batch each time. Here the three inequalities are counted both ways, and on rows that took part
in nothing. Eq. 14 sums losses over the units; these are means over units, which compare the same for equal g.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd

from gadam.config import GadamConfig
from gadam.datasets import load, locate
from gadam.evolution import evolve
from gadam.experiments.runs import Run
from gadam.experiments.statistics import proportion_interval
from gadam.experiments.units import Part, held_out, scorer
from gadam.models import MLP_HIDDEN, mlp
from gadam.population import Population
from gadam.result import Callback, Generation

Rows = list[dict[str, Any]]

PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {"g": 4, "K": 3, "steps": {"short": 5, "letter": 5, "long": 15}, "seeds": 1},
    "quick": {"g": 10, "K": 8, "steps": {"short": 25, "letter": 25, "long": 90}, "seeds": 3},
    "paper": {"g": 10, "K": 10, "steps": {"short": 50, "letter": 400, "long": 1_000}, "seeds": 10},
}
SETTINGS = {"short": ("yeast", "YEAST"), "long": ("yeast", "YEAST, long"), "letter": ("letter", "LETTER")}
"""What is trained: the dataset, and its name for a reader."""

VALIDATION_SIZE = 256  # a quarter of YEAST's training rows
FIXED, HELD_OUT, NEW = "fixed V in T", "fixed V, held out", "new batches"
REGIMES = {
    FIXED: "one V of the training rows for all evaluations, as in the proof",
    HELD_OUT: "one V for all evaluations, which nothing is trained on",
    NEW: "a new batch of the training rows each time, as in Section 3.4",
}
INEQUALITIES = {
    "learning": "L after learning ≤ L(k)",
    "selection": "L(k+1) ≤ L after learning",
    "decrease": "L(k+1) ≤ L(k)",
}
TOLERANCE = 1e-6
"""Relative. The fixed V comes in a new order at every evaluation: the sum over its rows may differ in its last bits."""


def runs(profile: str, data: str) -> list[Run]:
    """A run per setting, regime and seed."""
    budget, planned = PROFILES[profile], []
    for setting, (dataset, label) in SETTINGS.items():
        found = locate(dataset, data=data)  # type: ignore[arg-type]
        for seed in range(budget["seeds"]):
            for regime in REGIMES:
                config = {
                    "dataset": dataset, "data": found.choice, "setting": label, "regime": regime, "seed": seed,
                    "population_size": budget["g"], "generations": budget["K"], "steps": budget["steps"][setting],
                }  # fmt: skip
                planned.append(Run(f"{__name__}:losses", config, found.hash, f"{label} · {regime} · seed {seed}"))
    return planned


def losses(dataset: str, data: Any, setting: str, regime: str, seed: int, **settings: Any) -> Rows:
    """A row per generation: its mean loss before and after learning and after selection, on V and on the test rows.

    In the regime of new batches each value is on the batch that the algorithm has at that moment: learning is judged
    on the generation's first batch, selection on its second (Sections 3.3.1 and 3.4).
    """
    rows = load(dataset, data=data, seed=seed)
    rest, chosen = held_out(rows.train, VALIDATION_SIZE, seed)
    sums = _Sums(rows.test)
    evolve(
        partial(mlp, rows.feature_shape[0], rows.class_count, MLP_HIDDEN[dataset]),
        rest if regime == HELD_OUT else rows.train,
        # A batch of as many rows as there are is all of them.
        GadamConfig(seed=seed, validation_size=VALIDATION_SIZE, **settings),
        validation=None if regime == NEW else chosen,
        callbacks=[sums],
        progress=False,
    )
    about = {"setting": setting, "regime": regime, "seed": seed, "steps": settings["steps"], "data": rows.source}
    return [about | row for row in sums.rows]


def inequalities(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with a column per inequality, of V and of the test rows ("test_…"): whether it holds.

    A generation starts from what the one before it selected, and L(k) is the loss that it was selected with, as in
    Eq. 13. The first was not selected by a loss: it has the one before learning.
    """
    frame = rows.sort_values("generation", kind="stable").reset_index(drop=True)
    for prefix in ("", "test_"):
        before, learned, selected = (frame[f"{prefix}{name}"] for name in ("before", "learned", "selected"))
        previous = selected.groupby([frame["setting"], frame["regime"], frame["seed"]]).shift().fillna(before)
        for name, (left, right) in {
            "learning": (learned, before),
            "selection": (selected, learned),
            "decrease": (selected, previous),
        }.items():
            frame[f"{prefix}{name}"] = left <= right * (1 + TOLERANCE)
    return frame


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """How often each inequality held, with 95 % intervals (Wilson), in percent of seeds × generations."""
    frame, lines = inequalities(rows), []
    for (setting, regime), group in _cells(frame):
        for name, text in INEQUALITIES.items():
            lines.append({
                "problem": setting, "steps": int(group["steps"].iloc[0]), "regime": regime, "inequality": text,
                **_share(group[name], ""), **_share(group[f"test_{name}"], " (test rows)"),
                "of": len(group), "seeds": group["seed"].nunique(), "data": group["data"].iloc[0],
            })  # fmt: skip
    return pd.DataFrame(lines)


def claims(rows: pd.DataFrame, profile: str) -> pd.DataFrame:
    """What the proof says of every generation, as shares of the generations seen; all problems together.

    The paper's V is part of T, so the regime with V held out is no claim of its.
    """
    frame, lines = inequalities(rows), []
    texts = {
        "learning": "Learning never raises the loss of a generation (proof of Theorem 1)",
        "selection": "Selection never raises the loss of a generation (Eq. 15)",
        "decrease": "L(k) keeps decreasing (proof of Theorem 1)",
    }
    for regime, where in ((FIXED, "all evaluated on one fixed V"), (NEW, "each on a new batch, as in Section 3.4")):
        group = frame[frame["regime"] == regime]
        for name, text in texts.items():
            share, low, high = proportion_interval(int(group[name].sum()), len(group))
            lines.append({
                "claim": f"{text}; {where}", "section": "section42", "exhibit": "section42_theorem", "kind": "value",
                "paper": 1.0, "ours": share, "low": low, "high": high,
                "interval": "share of seeds × generations, 95 % (Wilson)", "budget": None,
                "seeds": PROFILES[profile]["seeds"],
                "data": _source(group),
            })  # fmt: skip
    return pd.DataFrame([*lines, _finite(frame[frame["regime"] == NEW], profile)])


def _finite(rows: pd.DataFrame, profile: str) -> dict[str, Any]:
    """The theorem itself: how many runs met Eq. 13 with θ = 0, which the proof needs, in the generations they had."""
    runs = [group.sort_values("generation")["selected"] for _, group in rows.groupby(["setting", "seed"])]
    met = sum(bool((losses.diff() == 0).any()) for losses in runs)
    share, low, high = proportion_interval(met, len(runs))
    return {
        "claim": "GADAM converges in a finite number of evolution rounds (Theorem 1); ours: the share of runs that met "
        f"Eq. 13 with θ = 0 in {PROFILES[profile]['K']} generations",
        "section": "section42", "exhibit": "section42_theorem", "kind": "open", "paper": "finite", "ours": share,
        "low": low, "high": high, "interval": f"share of {len(runs)} runs, 95 % (Wilson)", "budget": None,
        "seeds": PROFILES[profile]["seeds"], "data": _source(rows),
    }  # fmt: skip


def _source(rows: pd.DataFrame) -> str:
    return "stand-in" if "stand-in" in set(rows["data"]) else "real"


class _Sums(Callback):
    """Keeps the mean losses of each generation; the parents' before learning on test rows are the last selected's."""

    def __init__(self, test: Part) -> None:
        self.rows: Rows = []
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


def _share(holds: pd.Series[bool], where: str) -> dict[str, float]:
    share, low, high = (100 * bound for bound in proportion_interval(int(holds.sum()), len(holds)))
    return {f"holds, %{where}": share, f"low{where}": low, f"high{where}": high}


def _cells(frame: pd.DataFrame) -> list[tuple[tuple[str, str], pd.DataFrame]]:
    """The rows of each setting and regime, in the order of the table."""
    groups = {(str(key[0]), str(key[1])): group for key, group in frame.groupby(["setting", "regime"])}
    return [((label, regime), groups[label, regime]) for _, label in SETTINGS.values() for regime in REGIMES]
