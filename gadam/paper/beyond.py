"""Beyond the paper: the last generation kept, not only its best unit.

The paper trains g units and returns one. The others have been paid for: they can vote (`gadam.Ensemble`, the mean of
their probabilities), and the weights of some can be averaged into one unit as fast as the best (`greedy_soup`). The
runs are those of Sections 5.1 and 5.4; nothing is trained for this.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from gadam.paper import drawing, mnist, section54, section54_orl, statistics
from gadam.paper.claims import Arms
from gadam.paper.drawing import BLUE, ORANGE
from gadam.paper.runs import Run
from gadam.paper.statistics import accuracy_interval, mean_interval
from gadam.paper.units import KEPT, first

WAYS = {"best": "best unit", "ensemble": "ensemble of g", "soup": "greedy soup"}


def runs(profile: str, data: str) -> list[Run]:
    """List GADAM on every dataset: the runs behind Tables 1, 3 and 4."""
    lenets = mnist.gadam_runs(mnist.scales(profile)[-1], data)
    others, arms = [*section54_orl.runs(profile, data), *section54.runs(profile, data)], arms_of(profile).values()
    return lenets + [run for run in others if run.arm in arms]


RUNS = (runs,)


def arms_of(profile: str) -> dict[str, str]:
    """Map the table's name of each dataset to its arm."""
    names = {"MNIST": mnist.gadam_arm(mnist.scales(profile)[-1])}
    for images in section54_orl.IMAGES:
        for shrink in section54_orl.shrinks(profile):
            names[_faces(images, shrink)] = section54_orl.arm(images, section54_orl.GADAM, shrink)
    return names | {name.upper(): section54.arm(name, section54.GADAM) for name in section54.DATASETS}


def _faces(images: float, shrink: float) -> str:
    return f"ORL, {images:g} images" + (f", {section54_orl.pixels(int(shrink))}" if shrink > 1 else "")


def accuracies(rows: pd.DataFrame, profile: str) -> pd.DataFrame:
    """Return test accuracies in percent: a row per dataset and seed, a column per way of `WAYS` and its units.

    Of MNIST, where each generation has its row, those of Table 1's last.
    """
    numbers = [*WAYS, *(f"{way}_units" for way in WAYS), "test_rows"]
    columns = ["dataset", "seed", *numbers, "data"]
    others = ["kind", "method", "images", "shrink", "generation"]
    found = rows.reindex(columns=[*columns, *others])  # some sections may have no rows
    of_mnist = (found["kind"] == "kept") & (found["generation"] == mnist.PROFILES[mnist.scales(profile)[-1]]["K"])
    found = found[(found["method"] == KEPT) | of_mnist].astype(dict.fromkeys(numbers, float))
    found["dataset"] = [
        _faces(images, shrink) if dataset == section54_orl.DATASET else "MNIST" if kind == "kept" else dataset.upper()
        for dataset, images, shrink, kind in found[["dataset", "images", "shrink", "kind"]].itertuples(index=False)
    ]
    found[list(WAYS)] = (100 * found[list(WAYS)]).div(found["test_rows"], axis=0)
    return found[columns].reset_index(drop=True)


def table(rows: pd.DataFrame, profile: str, arms: Arms) -> pd.DataFrame:
    """Compare by dataset and way: mean accuracy, and what it is above the best unit, paired by seed; 95 % intervals.

    What is the best unit itself in every seed, such as a soup that took no other, is not compared with it: NaN.
    """
    found = accuracies(rows, profile)
    lines = []
    for dataset, arm in arms_of(profile).items():
        group = found[found["dataset"] == dataset]
        for way, name in WAYS.items():
            units, tested = group[f"{way}_units"].mean(), first(group, "test_rows")
            gained = (group[way] - group["best"]).tolist() if units > 1 else []
            lines.append({
                "dataset": dataset, "prediction by": name,
                **statistics.named(accuracy_interval(group[way].tolist(), tested), "accuracy"),
                **statistics.named(mean_interval(gained, tested), "above best", "gain low", "gain high"),
                "units": units, "seeds": arms.count(arm), "data": first(group, "data"),
            })  # fmt: skip
    table = pd.DataFrame(lines)
    whole = [int(units) if units % 1 == 0 else units for units in table["units"]]  # 10 is shown as 10, not as 10.0
    return table.assign(units=pd.Series(whole, dtype=object))


def above_best_figure(table: pd.DataFrame) -> Figure:
    """Draw what the vote and the soup have above the best unit, with intervals, a line per dataset.

    A panel for ORL, whose intervals are much wider, and one for the others.
    """
    colours = {WAYS["ensemble"]: BLUE, WAYS["soup"]: ORANGE}
    lines = table[table["prediction by"].isin(colours)].drop(columns=["low", "high"])
    names = {"dataset": "label", "above best": "centre", "gain low": "low", "gain high": "high"}
    lines = lines.rename(columns=names).assign(colour=lines["prediction by"].map(colours))
    lines["shift"] = lines["prediction by"].map({WAYS["ensemble"]: -0.14, WAYS["soup"]: 0.14})
    lines["panel"] = ["ORL" if label.startswith("ORL") else "other datasets" for label in lines["label"]]
    label = "test accuracy above that of the best unit, percentage points (mean over seeds, 95 % interval)"
    return drawing.differences_figure(lines, colours, label)
