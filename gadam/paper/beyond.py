"""Beyond the paper: the last generation kept, not only its best unit.

The paper trains g units and returns one. The others have been paid for: they can vote (`gadam.Ensemble`, the mean of
their probabilities), and the weights of some can be averaged into one unit as fast as the best (`greedy_soup`). So can
g units that Adam has trained alone, for as many steps in all: what evolution adds to each is the difference. The runs
are those of Sections 5.1 and 5.4; nothing is trained for this.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from gadam.paper import drawing, mnist, section51, section54, section54_orl, statistics
from gadam.paper.claims import Arms, paired
from gadam.paper.drawing import BLUE, GREY, ORANGE
from gadam.paper.runs import Run
from gadam.paper.statistics import Interval, accuracy_interval, mean_interval
from gadam.paper.units import by_seed, first, where

WAYS = {"best": "best unit", "ensemble": "ensemble of g", "soup": "greedy soup"}
GAIN, BESIDE, ADAMS_GAIN = (("gain low", "gain high"), ("beside low", "beside high"), ("Adam low", "Adam high"))
"""Bounds of what is above GADAM's best unit, above Adam alone, and of the latter above the former."""
LINE = ["label", "centre", "low", "high"]


def runs(profile: str, data: str) -> list[Run]:
    """List GADAM and its control at equal compute on every dataset: the runs behind Tables 1, 3 and 4."""
    arms = {arm for pair in arms_of(profile).values() for arm in pair}
    sections = section51, section54_orl, section54
    return [run for section in sections for run in section.runs(profile, data) if run.arm in arms]


RUNS = (runs,)


def arms_of(profile: str) -> dict[str, tuple[str, str]]:
    """Map the table's name of each dataset to its arms: GADAM's, and that of g units by Adam alone."""
    scale = mnist.scales(profile)[-1]
    arms = {f"MNIST, {mnist.depth(scale):,} steps": (mnist.gadam_arm(scale), section51.arm(scale, mnist.BEST_OF_G))}
    for images in section54_orl.IMAGES:
        for shrink in section54_orl.shrinks(profile):
            name = f"ORL, {images} images" + (f", {section54_orl.pixels(shrink)}" if shrink > 1 else "")
            gadam, adam = (section54_orl.arm(images, method, shrink) for method in section54_orl.CNNS[:2])
            arms[name] = gadam, adam
    for name in section54.DATASETS:
        arms[name.upper()] = section54.arm(name, section54.GADAM), section54.arm(name, section54.ADAM)
    return arms


def accuracies(rows: pd.DataFrame, profile: str) -> pd.DataFrame:
    """Return test accuracies in percent, a row per arm and seed.

    There is a column for each of `WAYS`, and one for how many units went into it. Of MNIST, where each generation of
    GADAM has its row, those of Table 1's last.
    """
    numbers = [*WAYS, *(f"{way}_units" for way in WAYS), "test_rows"]
    found = rows.reindex(columns=["arm", "seed", "generation", *numbers, "data"]).dropna(subset="ensemble")
    last = mnist.PROFILES[mnist.scales(profile)[-1]]["K"]
    found = found[found["generation"].isna() | (found["generation"] == last)]
    found = found.astype(dict.fromkeys(numbers, float))
    found[list(WAYS)] = (100 * found[list(WAYS)]).div(found["test_rows"], axis=0)
    return found


def table(rows: pd.DataFrame, profile: str, arms: Arms) -> pd.DataFrame:
    """Compare by dataset and way: accuracy, above that of GADAM's best unit, and above that by Adam alone; by seed.

    Means with 95 % intervals. What is the best unit itself in every seed, such as a soup that took no other, is not
    compared with it: NaN.
    """
    found = accuracies(rows, profile)
    lines = []
    for dataset, pair in arms_of(profile).items():
        group, alone = (where(found, arm=arm) for arm in pair)
        tested, best = first(group, "test_rows"), by_seed(group, "best")
        counts = dict.fromkeys(map(arms.count, pair))  # of GADAM's runs, and of Adam's where they are more or fewer
        for way, name in WAYS.items():
            units, others = (one[f"{way}_units"].mean() for one in (group, alone))
            ours, theirs = by_seed(group, way), by_seed(alone, way) if others > 1 or way == "best" else {}
            lines.append({
                "dataset": dataset, "prediction by": name,
                **statistics.named(accuracy_interval(group[way].tolist(), tested), "accuracy"),
                **statistics.named(_above(ours if units > 1 else {}, best, tested), "above best", *GAIN),
                "units": units, "Adam alone": pd.Series(theirs).mean(),
                **statistics.named(_above(ours, theirs, tested), "above Adam alone", *BESIDE),
                **statistics.named(_above(theirs, best, tested), "Adam alone above best", *ADAMS_GAIN),
                "seeds": "; alone ".join(counts), "data": first(group, "data"),
            })  # fmt: skip
    table = pd.DataFrame(lines)
    whole = [int(units) if units % 1 == 0 else units for units in table["units"]]  # 10 is shown as 10, not as 10.0
    return table.assign(units=pd.Series(whole, dtype=object))


def _above(ours: dict[int, float], theirs: dict[int, float], tested: Any) -> Interval:
    """The mean of the differences, over the seeds that both have, and its interval."""
    return mean_interval(paired(ours, theirs).values, tested)


def above_best_figure(table: pd.DataFrame) -> Figure:
    """Draw what the vote, the soup and the vote of Adam alone have above GADAM's best unit, a line per dataset.

    A panel for ORL, whose intervals are much wider, and one for the others.
    """
    drawn = {
        "vote of GADAM's g": (BLUE, WAYS["ensemble"], ("above best", *GAIN)),
        "vote of g by Adam alone": (GREY, WAYS["ensemble"], ("Adam alone above best", *ADAMS_GAIN)),
        WAYS["soup"]: (ORANGE, WAYS["soup"], ("above best", *GAIN)),
    }
    parts = []
    for place, (colour, way, names) in enumerate(drawn.values(), -1):
        own = table.loc[table["prediction by"] == way, ["dataset", *names]].set_axis(LINE, axis=1)
        parts.append(own.assign(colour=[colour] * len(own), shift=place / 5))
    lines = pd.concat(parts)
    lines["panel"] = ["ORL" if label.startswith("ORL") else "tables and MNIST" for label in lines["label"]]
    label = "test accuracy above that of GADAM's best unit, percentage points (mean over seeds, 95 % interval)"
    return drawing.differences_figure(lines, {text: one[0] for text, one in drawn.items()}, label)
