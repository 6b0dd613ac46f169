"""Beyond the paper: the last generation kept, not only its best unit.

The paper trains g units and returns one. The others have been paid for: they can vote (`gadam.Ensemble`, the mean of
their probabilities), and the weights of some can be averaged into one unit as fast as the best (`greedy_soup`). The
runs are those of Sections 5.1 and 5.4; nothing is trained for this.
"""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from gadam.paper import mnist, section51, section54, section54_orl, section54_results
from gadam.paper.claims import Arms
from gadam.paper.runs import Run
from gadam.paper.statistics import accuracy_interval, paired_interval
from gadam.paper.units import KEPT

WAYS = {"best": "best unit", "ensemble": "ensemble of g", "soup": "greedy soup"}


def runs(profile: str, data: str) -> list[Run]:
    """GADAM on every dataset: the runs behind Tables 1, 3 and 4."""
    scale = mnist.scales(profile)[-1]
    budget = mnist.PROFILES[scale]
    lenets = [
        mnist.gadam_run(scale, data, seed, budget["g"], budget["longest"], section51.EVIDENT)
        for seed in mnist.seeds(scale, budget["seeds"])
    ]
    others = [*section54_orl.runs(profile, data), *section54.runs(profile, data)]
    kept = (section54_orl.cnn_by_gadam, section54.mlp_by_gadam)
    return [*lenets, *(run for run in others if run.function in kept)]


def arms_of(profile: str) -> dict[str, str]:
    """What the table calls each dataset, and its arm."""
    scale = mnist.scales(profile)[-1]
    names = {mnist.DATASET.upper(): mnist.gadam_arm(scale, mnist.PROFILES[scale]["g"], section51.EVIDENT)}
    for images in section54_orl.IMAGES:
        for shrink in section54_orl.shrinks(profile):
            names[_faces(images, shrink)] = section54_orl.arm(images, section54_orl.GADAM, shrink)
    return names | {name.upper(): section54.arm(name, section54.GADAM) for name in section54.DATASETS}


def accuracies(rows: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy in percent: a row per dataset and seed, a column per way of `WAYS` and its units."""
    columns = ["dataset", "seed", *WAYS, *(f"{way}_units" for way in WAYS), "test_rows", "data"]
    found = rows.reindex(columns=[*columns, "kind", "method", "images", "shrink"])  # some sections may have no rows
    found = found[(found["method"] == KEPT) | (found["kind"] == "kept")].copy()
    found["dataset"] = [_name(row) for row in found.to_dict("records")]
    for way in WAYS:
        found[way] = 100 * found[way].astype(float) / found["test_rows"].astype(float)
    return found[columns].reset_index(drop=True)


def table(rows: pd.DataFrame, profile: str, arms: Arms) -> pd.DataFrame:
    """A row per dataset and way: mean accuracy, and what it is above the best unit, paired by seed; 95 % intervals.

    What is the best unit itself in every seed, such as a soup that took no other, is not compared with it: NaN.
    """
    found = accuracies(rows)
    lines = [
        {"dataset": dataset, "prediction by": name, **_line(found[found["dataset"] == dataset], way)}
        | {"seeds": arms.count(arm), "data": section54_results.first(found[found["dataset"] == dataset], "data")}
        for dataset, arm in arms_of(profile).items()
        for way, name in WAYS.items()
    ]
    table = pd.DataFrame(lines)
    whole = [int(units) if units == units // 1 else units for units in table["units"].tolist()]
    return table.assign(units=pd.Series(whole, dtype=object))


def _line(group: pd.DataFrame, way: str) -> dict[str, float]:
    """The numbers of one dataset and way; NaN where there are none."""
    columns = ("accuracy", "low", "high", "above best", "from", "to", "units")
    line = dict.fromkeys(columns, math.nan)
    if group.empty:
        return line
    tested, units = int(group["test_rows"].iloc[0]), group[f"{way}_units"].astype(float)
    numbers = [*accuracy_interval(group[way].tolist(), tested), *[math.nan] * 3, float(units.mean())]
    if (units > 1).any():
        numbers[3:6] = paired_interval((group[way] - group["best"]).tolist(), tested)
    return dict(zip(columns, numbers, strict=True))


def _name(row: dict[Any, Any]) -> str:
    if row["kind"] == "kept":
        return mnist.DATASET.upper()
    if row["dataset"] == section54_orl.DATASET:
        return _faces(int(row["images"]), int(row["shrink"]))
    return str(row["dataset"]).upper()


def _faces(images: int, shrink: int) -> str:
    return f"ORL, {images} images" + (f", {section54_orl.pixels(shrink)}" if shrink > 1 else "")


RUNS = (runs,)
