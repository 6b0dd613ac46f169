"""What came of the runs of Section 5.4 on tables: Table 4, the differences between methods, and the claims."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from gadam.experiments import paper
from gadam.experiments.section54 import (
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
    depths,
)
from gadam.experiments.statistics import mean_interval, prediction_interval, proportion_interval
from gadam.experiments.units import gcforest_share


def describe_gcforest(profile: str) -> str:
    """The size of gcForest in words, for the note of Table 4."""
    size = PROFILES[profile]["gcforest"]
    return (
        f"at most {size['max_levels']} levels of {size['forests']} random and {size['forests']} completely-random "
        f"forests of {size['trees']} trees, {size['folds']} folds"
    )


def table4(rows: pd.DataFrame, profile: str) -> pd.DataFrame:
    """Table 4 with the paper's value beside ours, a row per dataset and method; accuracies in percent."""
    lines = []
    for (dataset, method), group in _cells(rows):
        mean, low, high, interval = _interval(group)
        lines.append({
            "dataset": dataset.upper(),
            "method": method,
            "paper": paper.TABLE4[method][dataset] if method in paper.TABLE4 else None,
            "ours": mean,
            "low": low,
            "high": high,
            "interval": interval,
            "seeds": len(_seeds(group, profile)),
            "gradient steps": int(group["gradient_steps"].iloc[0]),
            "data": group["data"].iloc[0],
        })  # fmt: skip
    return pd.DataFrame(lines).astype({"paper": float})


def differences(rows: pd.DataFrame, profile: str) -> pd.DataFrame:
    """MLP (GADAM) minus each other method: mean and 95 % interval in percentage points, paired by the seeds of both."""
    cells = dict(_cells(rows))
    lines = []
    for dataset in DATASETS:
        ours = cells[dataset, GADAM].set_index("seed")["accuracy"]
        for method in METHODS[1:]:
            group = cells[dataset, method]
            other = group.set_index("seed")["accuracy"]
            seeds = [seed for seed in _seeds(group, profile) if seed in ours.index]
            paired = [ours[seed] - (other[seed] if len(other) > 1 else other.iloc[0]) for seed in seeds]
            mean, low, high = mean_interval(paired)
            lines.append({
                "dataset": dataset.upper(), "method": method, "difference": mean, "low": low, "high": high,
                "seeds": len(seeds), "data": group["data"].iloc[0],
            })  # fmt: skip
    return pd.DataFrame(lines)


def claims(rows: pd.DataFrame, profile: str) -> pd.DataFrame:
    """Each value of Table 4, and each "outperforms" of Section 5.4, with what came out."""
    lines = []
    for line in table4(rows, profile).dropna(subset="paper").to_dict("records"):
        group = dict(_cells(rows))[line["dataset"].lower(), line["method"]]
        low, high, interval = line["low"], line["high"], line["interval"]
        if len(group) > 1:
            low, high = prediction_interval(group["accuracy"].tolist())
            interval = "1 further run, 95 % (t)"
        text = f"{line['method']} reaches {line['paper']:.2f} % on {line['dataset']}"
        claim = _claim(text, "value", line["paper"], line["ours"], low, high, interval, line)
        item = f"table4/{line['method']}/{line['dataset'].lower()}"
        lines.append(claim | {"item": item, "budget": _budget(profile, line["method"], line["dataset"].lower())})
    for line in differences(rows, profile).to_dict("records"):
        dataset, method = line["dataset"], line["method"]
        better, other, sign, theirs = GADAM, method, 1, "no claim: our control"
        if method in paper.TABLE4:
            gap = paper.TABLE4[GADAM][dataset.lower()] - paper.TABLE4[method][dataset.lower()]
            theirs = f"{abs(gap):+.2f}"
            if gap < 0:  # here the paper itself says that the other one is better
                better, other, sign = method, GADAM, -1
        text = f"{better} is more accurate than {other} on {dataset}" + COMPUTE.get(method, "")
        low, high = sorted((sign * line["low"], sign * line["high"]))
        interval = "points, paired by seed, 95 % (t)"
        claim = _claim(text, "greater", theirs, sign * line["difference"], low, high, interval, line)
        budgets = [_budget(profile, one, dataset.lower()) for one in (GADAM, method)]
        lines.append(claim | {"item": "", "budget": min((one for one in budgets if one is not None), default=None)})
    return pd.DataFrame(lines)


COMPUTE = {ADAM: " (which had 1/g of its gradient steps)", ADAM_BEST: " at equal compute"}


def _budget(profile: str, method: str, dataset: str) -> float | None:
    """The share of profile paper's training, or of the trees behind a quoted number, that was spent; None for all."""
    ours, full = PROFILES[profile], PROFILES["paper"]
    share = 1.0
    if method in (GADAM, ADAM, ADAM_BEST):
        share = depths(profile)[dataset] / depths("paper")[dataset] * min(1, ours["g"] / full["g"])
    elif method == FOREST:
        share = ours["trees"] / full["trees"]
    elif method == GCFOREST:
        share = gcforest_share(ours["gcforest"])
    return float(share) if share < 1 else None


def _claim(
    text: str, kind: str, theirs: Any, ours: float, low: float, high: float, interval: str, line: Mapping[Any, Any]
) -> dict[str, Any]:
    return {
        "claim": text, "section": "section54", "exhibit": "table4", "kind": kind, "paper": theirs, "ours": ours,
        "low": low, "high": high, "interval": interval, "seeds": line["seeds"], "data": line["data"],
    }  # fmt: skip


def _cells(rows: pd.DataFrame) -> list[tuple[tuple[str, str], pd.DataFrame]]:
    """The rows of each dataset and method, in the order of the table."""
    groups = {(str(key[0]), str(key[1])): group for key, group in rows.groupby(["dataset", "method"])}
    return [((dataset, method), groups[dataset, method]) for dataset in DATASETS for method in METHODS]


def _seeds(group: pd.DataFrame, profile: str) -> list[int]:
    """The seeds that the rows of a method speak for: all of them, where one run is every seed's."""
    if len(group) == 1 and group["method"].iloc[0] in (SVM, KNN):
        return list(range(PROFILES[profile]["seeds"]))
    return sorted(group["seed"])


def _interval(group: pd.DataFrame) -> tuple[float, float, float, str]:
    """Mean accuracy and 95 % interval: over seeds, or over test rows where every seed gives the same."""
    if len(group) > 1:
        return *mean_interval(group["accuracy"].tolist()), "mean over seeds (t)"
    share = proportion_interval(int(group["correct"].iloc[0]), int(group["test_rows"].iloc[0]))
    return 100 * share[0], 100 * share[1], 100 * share[2], "over test rows (Wilson)"
