"""What came of the runs of Section 5.4 on tables: Table 4, the differences between methods, and the claims."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from gadam.paper import published as paper
from gadam.paper.claims import Arms, Claim, Reduced, own, paired
from gadam.paper.section54 import (
    ADAM,
    ADAM_BEST,
    DATASETS,
    FOREST,
    GADAM,
    GCFOREST,
    KNN,
    METHODS,
    PROFILES,
    SVM,
    TEST_ROWS,
    TRAIN_ROWS,
    arm,
    depends_on_seed,
    depths,
)
from gadam.paper.statistics import accuracy_interval, paired_interval
from gadam.paper.units import gcforest_share
from gadam.paper.verdicts import Evidence, margin_of

COLUMNS = ("dataset", "method", "seed", "accuracy", "test_rows", "gradient_steps", "data")
QUOTED = (GCFOREST, FOREST, SVM, KNN)
"""Methods of Table 4 whose numbers the paper has from others."""
COMPUTE = {ADAM: " (which had 1/g of its gradient steps)", ADAM_BEST: " at equal compute"}


def describe_gcforest(profile: str) -> str:
    """The size of gcForest in words, for the note of Table 4."""
    size = PROFILES[profile]["gcforest"]
    return (
        f"at most {size['max_levels']} levels of {size['forests']} random and {size['forests']} completely-random "
        f"forests of {size['trees']} trees, {size['folds']} folds"
    )


def table4(rows: pd.DataFrame, arms: Arms) -> pd.DataFrame:
    """Table 4 with the paper's value beside ours, a row per dataset and method; accuracies in percent."""
    lines = [
        {
            "dataset": dataset.upper(), "method": method, "paper": paper.TABLE4.get(method, {}).get(dataset),
            **summary(cell), "seeds": arms.count(arm(dataset, method)), "gradient steps": first(cell, "gradient_steps"),
            "data": first(cell, "data"),
        }
        for (dataset, method), cell in _cells(rows).items()
    ]  # fmt: skip
    numbers = dict.fromkeys(("paper", "ours", "low", "high"), float)
    return pd.DataFrame(lines).astype({**numbers, "gradient steps": "Int64"})


def summary(cell: pd.DataFrame) -> dict[str, Any]:
    """Mean accuracy of some runs, its 95 % interval, and what this is over; empty where there are none."""
    values = cell["accuracy"].tolist()
    if not values:
        return dict.fromkeys(("ours", "low", "high", "interval"))
    mean, low, high = accuracy_interval(values, int(cell["test_rows"].iloc[0]))
    over = "test rows (exact)" if len(set(values)) == 1 else "seeds (t, logit scale)"
    return {"ours": mean, "low": low, "high": high, "interval": f"over {over}"}


def first(cell: pd.DataFrame, column: str) -> Any:
    """What stands in a column that is the same in all runs; None where there are none."""
    return None if cell.empty else cell[column].iloc[0]


def accuracies(cell: pd.DataFrame) -> dict[int, float]:
    """Test accuracy in percent by seed."""
    return dict(zip(cell["seed"].astype(int), cell["accuracy"].astype(float), strict=True))


def difference(
    ours: Mapping[int, float], theirs: Mapping[int, float], rows: int, dataset: str, drawn: bool = True
) -> Evidence:
    """Ours minus theirs over the seeds of both; where theirs is not drawn, its one run stands beside each of ours."""
    return paired({seed: one for seed, one in ours.items() if not drawn or seed in theirs}, theirs, rows, dataset)


def turned(evidence: Evidence) -> Evidence:
    """Theirs minus ours."""
    others = None if evidence.others is None else tuple(-one for one in evidence.others)
    return replace(evidence, values=tuple(-one for one in evidence.values), others=others)


def differences(rows: pd.DataFrame, profile: str, arms: Arms) -> pd.DataFrame:
    """MLP (GADAM) minus each other method: mean and 95 % interval in points, over the seeds that both have.

    `complete` says whether all planned runs of both are there.
    """
    cells = _cells(rows)
    lines = []
    for dataset, method in ((dataset, method) for dataset in DATASETS for method in METHODS[1:]):
        found, names = _difference(cells, profile, dataset, method), (arm(dataset, GADAM), arm(dataset, method))
        other = found.others[0] if found.others else 0.0
        points = [one - other for one in found.values]
        mean, low, high = paired_interval(points, found.rows) if points else (math.nan,) * 3
        complete = arms.complete(*names)
        lines.append({
            "dataset": dataset.upper(), "method": method, "difference": mean, "low": low, "high": high,
            "seeds": str(len(points)) if complete else arms.count(*names), "complete": complete,
            "data": first(cells[dataset, method], "data"),
        })  # fmt: skip
    return pd.DataFrame(lines)


def claims(rows: pd.DataFrame, profile: str) -> list[Claim]:
    """Each value of Table 4, and each "outperforms" of Section 5.4."""
    cells = _cells(rows)
    values = [_value(cells, profile, dataset, method) for dataset in DATASETS for method in paper.TABLE4]
    return values + [_greater(cells, profile, dataset, method) for dataset in DATASETS for method in METHODS[1:]]


Cells = dict[tuple[str, str], pd.DataFrame]


def _value(cells: Cells, profile: str, dataset: str, method: str) -> Claim:
    theirs, share = paper.TABLE4[method][dataset], budget_share(method, dataset, profile)

    def evidence() -> Evidence | Reduced:
        values = tuple(accuracies(cells[dataset, method]).values())
        if not depends_on_seed(method, dataset, profile):
            values *= PROFILES[profile]["seeds"]
        return _at(share, own(values, TEST_ROWS[dataset], dataset))

    return Claim(
        text=f"{method} reaches {theirs:.2f} % on {dataset.upper()}", section="section54", exhibit="table4",
        kind="reaches" if method == GADAM else "value", evidence=evidence, arms=[arm(dataset, method)], paper=theirs,
        margin=margin_of(dataset, TEST_ROWS[dataset]), budget=share, item=f"table4/{method}/{dataset}",
        quoted=method in QUOTED, data=first(cells[dataset, method], "data") or "real",
    )  # fmt: skip


def _greater(cells: Cells, profile: str, dataset: str, method: str) -> Claim:
    ours, theirs = paper.TABLE4[GADAM][dataset], paper.TABLE4.get(method, {}).get(dataset)
    # In two cases the paper itself has the other one ahead.
    better, other = (method, GADAM) if theirs is not None and theirs > ours else (GADAM, method)
    size = None if theirs is None else round(abs(ours - theirs), 2)
    share = budget_share(method, dataset, profile)

    def evidence() -> Evidence | Reduced:
        found = _difference(cells, profile, dataset, method)
        return _at(budget, found if better == GADAM else turned(found))

    budget = min(share, budget_share(GADAM, dataset, profile))
    return Claim(
        text=f"{better} is more accurate than {other} on {dataset.upper()}" + COMPUTE.get(method, ""),
        section="section54", exhibit="table4", kind="greater", evidence=evidence,
        arms=[arm(dataset, GADAM), arm(dataset, method)],
        paper="no claim: our control" if size is None else f"{size:+.2f}",
        margin=margin_of(dataset, TEST_ROWS[dataset]), size=size, budget=budget,
        headline={ADAM: dataset, ADAM_BEST: f"{dataset}, equal compute"}.get(method, ""),
        quoted=method in QUOTED and share < 1, data=first(cells[dataset, method], "data") or "real",
    )  # fmt: skip


def budget_share(method: str, dataset: str, profile: str) -> float:
    """The share of profile paper's training rows, training and trees that was spent."""
    ours, full = PROFILES[profile], PROFILES["paper"]
    share = min(1.0, (ours["train_rows"] or TRAIN_ROWS[dataset]) / TRAIN_ROWS[dataset])
    if method in (GADAM, ADAM, ADAM_BEST):
        share *= min(1, depths(profile)[dataset] / depths("paper")[dataset]) * min(1, ours["g"] / full["g"])
    elif method == FOREST:
        share *= min(1, ours["trees"] / full["trees"])
    elif method == GCFOREST:
        share *= min(1, gcforest_share(ours["gcforest"]))
    return share


def _at(share: float, found: Evidence) -> Evidence | Reduced:
    return found if share >= 1 else Reduced(found)  # nobody looked at half of it


def _cells(rows: pd.DataFrame) -> Cells:
    """The runs of each dataset and method that are there, in the order of the table."""
    found = rows.reindex(columns=list(COLUMNS))
    return {
        (dataset, method): found[(found["dataset"] == dataset) & (found["method"] == method)]
        for dataset in DATASETS
        for method in METHODS
    }


def _difference(cells: Cells, profile: str, dataset: str, method: str) -> Evidence:
    """MLP (GADAM) minus the other method."""
    ours, theirs = accuracies(cells[dataset, GADAM]), accuracies(cells[dataset, method])
    return difference(ours, theirs, TEST_ROWS[dataset], dataset, depends_on_seed(method, dataset, profile))
