"""Beyond the paper: the last generation kept, not only its best unit.

The paper trains g units and returns one. The others have been paid for: they can vote (`gadam.Ensemble`, the mean of
their probabilities), and the weights of some can be averaged into one unit as fast as the best (`greedy_soup`). The
runs are those of Sections 5.1 and 5.4; nothing is trained for this.
"""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from gadam.paper import comparison, mnist, section51, section54, section54_orl
from gadam.paper.claims import Arms
from gadam.paper.palette import BLUE, ORANGE
from gadam.paper.runs import Run
from gadam.paper.statistics import accuracy_interval, paired_interval
from gadam.paper.units import KEPT

WAYS = {"best": "best unit", "ensemble": "ensemble of g", "soup": "greedy soup"}


def runs(profile: str, data: str) -> list[Run]:
    """List GADAM on every dataset: the runs behind Tables 1, 3 and 4."""
    scale = mnist.scales(profile)[-1]
    budget = mnist.PROFILES[scale]
    lenets = [
        mnist.gadam_run(scale, data, seed, budget["g"], budget["longest"], section51.EVIDENT)
        for seed in mnist.seeds(scale, budget["seeds"])
    ]
    others = [*section54_orl.runs(profile, data), *section54.runs(profile, data)]
    return lenets + [run for run in others if run.function in (section54_orl.cnn_by_gadam, section54.mlp_by_gadam)]


RUNS = (runs,)


def arms_of(profile: str) -> dict[str, str]:
    """Map the table's name of each dataset to its arm."""
    scale = mnist.scales(profile)[-1]
    names = {mnist.DATASET.upper(): mnist.gadam_arm(scale, mnist.PROFILES[scale]["g"], section51.EVIDENT)}
    for images in section54_orl.IMAGES:
        for shrink in section54_orl.shrinks(profile):
            names[_faces(images, shrink)] = section54_orl.arm(images, section54_orl.GADAM, shrink)
    return names | {name.upper(): section54.arm(name, section54.GADAM) for name in section54.DATASETS}


def _faces(images: int, shrink: int) -> str:
    return f"ORL, {images} images" + (f", {section54_orl.pixels(shrink)}" if shrink > 1 else "")


def _name(row: dict[Any, Any]) -> str:
    if row["kind"] == "kept":
        return mnist.DATASET.upper()
    if row["dataset"] == section54_orl.DATASET:
        return _faces(int(row["images"]), int(row["shrink"]))
    return str(row["dataset"]).upper()


def accuracies(rows: pd.DataFrame) -> pd.DataFrame:
    """Return test accuracies in percent: a row per dataset and seed, a column per way of `WAYS` and its units."""
    columns = ["dataset", "seed", *WAYS, *(f"{way}_units" for way in WAYS), "test_rows", "data"]
    found = rows.reindex(columns=[*columns, "kind", "method", "images", "shrink"])  # some sections may have no rows
    found = found[(found["method"] == KEPT) | (found["kind"] == "kept")].copy()
    found["dataset"] = [_name(row) for row in found.to_dict("records")]
    for way in WAYS:
        found[way] = 100 * found[way].astype(float) / found["test_rows"].astype(float)
    return found[columns].reset_index(drop=True)


def table(rows: pd.DataFrame, profile: str, arms: Arms) -> pd.DataFrame:
    """Compare by dataset and way: mean accuracy, and what it is above the best unit, paired by seed; 95 % intervals.

    What is the best unit itself in every seed, such as a soup that took no other, is not compared with it: NaN.
    """
    found = accuracies(rows)
    lines = []
    for dataset, arm in arms_of(profile).items():
        group = found[found["dataset"] == dataset]
        for way, name in WAYS.items():
            line = {"dataset": dataset, "prediction by": name, **_numbers(group, way), "seeds": arms.count(arm)}
            lines.append(line | {"data": comparison.first(group, "data")})
    table = pd.DataFrame(lines)
    whole = [int(units) if units == units // 1 else units for units in table["units"].tolist()]
    return table.assign(units=pd.Series(whole, dtype=object))


def _numbers(group: pd.DataFrame, way: str) -> dict[str, float]:
    """The numbers of one dataset and way; NaN where there are none."""
    mean = low = high = above = least = most = units = math.nan
    if len(group):
        tested, units = int(group["test_rows"].iloc[0]), float(group[f"{way}_units"].astype(float).mean())
        mean, low, high = accuracy_interval(group[way].tolist(), tested)
        if units > 1:
            above, least, most = paired_interval((group[way] - group["best"]).tolist(), tested)
    return {
        "accuracy": mean, "low": low, "high": high, "above best": above, "from": least, "to": most, "units": units,
    }  # fmt: skip


def above_best_figure(table: pd.DataFrame) -> Figure:
    """Draw what the vote and the soup have above the best unit, with intervals, a line per dataset.

    A panel for ORL, whose intervals are much wider, and one for the others, each with a scale of its own.

    Args:
        table: of `table`.
    """
    colours = {WAYS["ensemble"]: BLUE, WAYS["soup"]: ORANGE}
    lines = table[table["prediction by"].isin(colours)]
    lines = lines.drop(columns=["low", "high"]).rename(
        columns={"dataset": "label", "above best": "centre", "from": "low", "to": "high"}
    )
    lines["colour"] = lines["prediction by"].map(colours)
    lines["shift"] = [-0.14 if way == WAYS["ensemble"] else 0.14 for way in lines["prediction by"]]
    faces = lines["label"].str.startswith("ORL")
    panels = [panel for panel in (lines[~faces], lines[faces]) if len(panel)]
    heights = [panel["label"].nunique() + 0.8 for panel in panels]
    figure, axes = plt.subplots(
        len(panels), figsize=(8, 0.55 * sum(heights) + 1.6), layout="constrained", height_ratios=heights, squeeze=False
    )
    for axis, panel in zip(axes[:, 0], panels, strict=True):
        comparison.draw_intervals(axis, panel, list(panel["label"].unique()))
    axes[-1, 0].set_xlabel(
        "test accuracy above that of the best unit,\npercentage points (mean over seeds, 95 % interval)"
    )
    comparison.add_legend(figure, colours)
    return figure
