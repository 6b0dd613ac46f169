"""Beyond the paper: the last generation kept, not only its best unit.

The paper trains g units and returns one. The others have been paid for: they can vote (`gadam.Ensemble`, the mean of
their probabilities), and the weights of some can be averaged into one unit as fast as the best (`greedy_soup`). The
runs are those of Sections 5.1 and 5.4; nothing is trained for this.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from gadam.experiments import mnist, section51, section54, section54_orl
from gadam.experiments.runs import Run
from gadam.experiments.statistics import mean_interval
from gadam.experiments.units import KEPT

WAYS = {"best": "best unit", "ensemble": "ensemble of g", "soup": "greedy soup"}


def runs(profile: str, data: str) -> list[Run]:
    """GADAM on every dataset: the runs behind Tables 1, 3 and 4."""
    budget = mnist.PROFILES[profile]
    lenets = [
        mnist.gadam_run(profile, data, seed, budget["g"], budget["longest"], section51.EVIDENT)
        for seed in range(budget["seeds"])
    ]
    others = [*section54_orl.runs(profile, data), *section54.runs(profile, data)]
    return [*lenets, *(run for run in others if run.function.endswith("_by_gadam"))]


def accuracies(rows: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy in percent: a row per dataset and seed, a column per way of `WAYS` and its units."""
    found = rows[(rows["method"] == KEPT) | (rows["kind"] == "kept")].copy()
    found["dataset"] = [_name(row) for row in found.to_dict("records")]
    for way in WAYS:
        found[way] = 100 * found[way].astype(float) / found["test_rows"].astype(float)
    columns = ["dataset", "seed", *WAYS, *(f"{way}_units" for way in WAYS), "data"]
    return found[columns].reset_index(drop=True)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per dataset and way: mean accuracy, and what it is above the best unit, paired by seed; 95 % intervals.

    What is the best unit itself in every seed, such as a soup that took no other, is not compared with it: NaN.
    """
    lines = []
    for dataset, group in accuracies(rows).groupby("dataset", sort=False):
        for way, name in WAYS.items():
            mean, low, high = np.clip(mean_interval(group[way].tolist()), 0, 100).tolist()  # nothing else is possible
            more, at_least, at_most = mean_interval((group[way] - group["best"]).tolist())
            units = group[f"{way}_units"]
            compared = (units > 1).any()
            lines.append({
                "dataset": dataset, "prediction by": name, "accuracy": mean, "low": low, "high": high,
                "above best": more if compared else None, "from": at_least if compared else None,
                "to": at_most if compared else None,
                "units": units.mean(), "seeds": len(group), "data": group["data"].iloc[0],
            })  # fmt: skip
    table = pd.DataFrame(lines).astype({"above best": float, "from": float, "to": float})
    whole = [int(units) if units == int(units) else units for units in table["units"].tolist()]
    return table.assign(units=pd.Series(whole, dtype=object))


def _name(row: dict[Any, Any]) -> str:
    if row["kind"] == "kept":
        return mnist.DATASET.upper()
    images = f", {int(row['images'])} images" if row["dataset"] == section54_orl.DATASET else ""
    return f"{str(row['dataset']).upper()}{images}"
