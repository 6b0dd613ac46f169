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

import numpy as np
import pandas as pd

from gadam.config import GadamConfig
from gadam.datasets import load
from gadam.evolution.loop import evolve
from gadam.models import MLP_HIDDEN, mlp
from gadam.paper import seeds_of
from gadam.paper.claims import Arms, Claim
from gadam.paper.runs import Rows, Run, dataset_config, run_function
from gadam.paper.statistics import proportion_interval
from gadam.paper.units import Part, held_out, scorer
from gadam.population import Population
from gadam.result import Callback, Generation

PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {"g": 4, "K": 3, "steps": {"short": 5, "letter": 5, "long": 15}, "seeds": 1},
    "quick": {"g": 10, "K": 8, "steps": {"short": 25, "letter": 25, "long": 90}, "seeds": 3},
    "standard": {"g": 10, "K": 10, "steps": {"short": 50, "letter": 400, "long": 1_000}, "seeds": 60},
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
HELD = "runs in which it always holds"
LOSSES = [f"{prefix}{stage}" for prefix in ("", "test_") for stage in ("before", "learned", "selected")]
COLUMNS = ["setting", "regime", "seed", "steps", "data", "generation", *LOSSES]
TOLERANCE = 1e-6
"""Relative. The fixed V comes in a new order at every evaluation: the sum over its rows may differ in its last bits."""


def arm(setting: str, regime: str) -> str:
    """What the seeds of a setting and a regime are repetitions of."""
    return f"section42/{setting}/{regime}"


def runs(profile: str, data: str) -> list[Run]:
    """A run per setting, regime and seed."""
    budget, planned = PROFILES[profile], []
    for setting, (dataset, label) in SETTINGS.items():
        rows, digest = dataset_config(dataset, data)
        for seed in seeds_of(profile, budget["seeds"]):
            for regime in REGIMES:
                config = {
                    **rows, "setting": label, "regime": regime, "seed": seed,
                    "population_size": budget["g"], "generations": budget["K"], "steps": budget["steps"][setting],
                }  # fmt: skip
                planned.append(Run(losses, config, digest, f"{label} · {regime} · seed {seed}", arm(label, regime), 2))
    return planned


@run_function("section42/losses")
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
    if rows.empty:
        rows = pd.DataFrame(columns=COLUMNS, dtype=float)
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


def table(rows: pd.DataFrame, arms: Arms) -> pd.DataFrame:
    """How often each inequality held, and in how many runs it held in every generation.

    Shares are of seeds × generations, in percent, with 95 % intervals (Wilson).
    """
    frame, lines = inequalities(rows), []
    for (_, label), regime in itertools.product(SETTINGS.values(), REGIMES):
        group = cell(frame, label, regime)
        for name, text in INEQUALITIES.items():
            lines.append({
                "problem": label, "steps": int(group["steps"].iloc[0]) if len(group) else pd.NA, "regime": regime,
                "inequality": text, **_share(group[name], ""), **_share(group[f"test_{name}"], " (test rows)"),
                "of": len(group), HELD: int(_held(group, name).sum()) if len(group) else pd.NA,
                "seeds": arms.count(arm(label, regime)), "data": group["data"].iloc[0] if len(group) else None,
            })  # fmt: skip
    return pd.DataFrame(lines).astype(dict.fromkeys(("steps", HELD), "Int64"))


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
    source = "stand-in" if "data" in rows and "stand-in" in set(rows["data"]) else "real"
    common: dict[str, Any] = {"section": "section42", "exhibit": "section42_theorem", "data": source}
    never = [
        Claim(
            text=f"{texts[name]}; {where}", kind="always", paper=0.0, arms=_arms(regime),
            evidence=partial(_violations, rows, regime, name),
            headline="theorem" if (regime, name) == (NEW, "decrease") else "", **common,
        )
        for (regime, where), name in itertools.product(places.items(), texts)
    ]  # fmt: skip
    finite = Claim(
        text="GADAM converges in a finite number of evolution rounds (Theorem 1); ours: the share of runs that met "
        f"Eq. 13 with θ = 0 in {PROFILES[profile]['K']} generations",
        kind="open", paper="finite", arms=_arms(NEW), evidence=partial(_converged, rows), **common,
    )  # fmt: skip
    return [*never, finite]


def cell(frame: pd.DataFrame, setting: str, regime: str) -> pd.DataFrame:
    """The rows of a setting and a regime, of those that `inequalities` gives."""
    return frame[(frame["setting"] == setting) & (frame["regime"] == regime)]


def _violations(rows: pd.DataFrame, regime: str, inequality: str) -> tuple[int, int]:
    """The runs in which some generation violates an inequality, and all of them."""
    held = _held(inequalities(rows[rows["regime"] == regime]), inequality)
    return int((~held).sum()), len(held)


def _held(frame: pd.DataFrame, inequality: str) -> pd.Series[bool]:
    """Whether an inequality held in all generations, by run."""
    return frame.groupby(["setting", "regime", "seed"])[inequality].all()


def _converged(rows: pd.DataFrame) -> tuple[float, float, float, str]:
    """The share of runs that met Eq. 13 with θ = 0, which the proof needs, in the generations they had."""
    new = rows[rows["regime"] == NEW].sort_values("generation")
    met = [bool((run["selected"].diff() == 0).any()) for _, run in new.groupby(["setting", "seed"])]
    return *proportion_interval(sum(met), len(met)), f"share of {len(met)} runs, 95 % (Wilson)"


def _arms(regime: str) -> list[str]:
    return [arm(label, regime) for _, label in SETTINGS.values()]


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
    share, low, high = proportion_interval(int(holds.sum()), len(holds)) if len(holds) else (np.nan,) * 3
    return {f"holds, %{where}": 100 * share, f"low{where}": 100 * low, f"high{where}": 100 * high}


RUNS = (runs,)
