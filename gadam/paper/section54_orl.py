"""Section 5.4: the CNN for the faces of ORL by GADAM and by Adam, beside four other classifiers (Table 3).

The paper gives neither g, K, the steps nor the size of a batch. A unit here is trained for 2 K times the steps of a
generation along its longest line of descent (`depth`), and so is every unit by Adam. The CNN costs more than a laptop
has: outside of profile "paper" the images are averaged over squares of pixels, for the CNNs and for gcForest. Where
the CNNs see two sizes ("standard"), a claim about them must hold at both; elsewhere, and for gcForest, fewer pixels are
a reduced budget (`budget_share`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import nn

from gadam.config import GadamConfig
from gadam.datasets import Dataset, load
from gadam.models import orl_cnn
from gadam.paper import comparison, drawing, published, seeds_of
from gadam.paper.baselines.gcforest import GcForestSettings
from gadam.paper.claims import Arms
from gadam.paper.comparison import FOREST, GCFOREST, KNN, SVM, Cell, Column
from gadam.paper.drawing import BLUE, GREY, RED, add_legend, draw_intervals
from gadam.paper.runs import Row, Run, arm_runs, run_function
from gadam.paper.units import Part

DATASET = "orl"
IMAGES = (5, 7, 9)
TEST_FACES = {images: 40 * (10 - images) for images in IMAGES}
HEADLINE = 7
"""Training images of each person in the headlines."""
CNNS = GADAM, ADAM, ADAM_BEST = "CNN (GADAM)", "CNN (Adam)", "CNN (Adam, best of g)"
METHODS = (*CNNS, GCFOREST, FOREST, SVM, KNN)
HEIGHT, WIDTH = 112, 92

FULL: dict[str, Any] = {
    "g": 10, "K": 5, "steps": 60, "batch_size": 128, "hidden": 1_024, "trees": 2_000,
    "curve": {"units": 3, "steps": 1_200, "points": 40},
}  # fmt: skip
SMALL: dict[str, Any] = {"seeds": {4: 2}, "K": 1, "gcforest_seeds": 2}
PROFILES: dict[str, dict[str, Any]] = {
    "smoke": SMALL | {
        "g": 2, "steps": 20, "batch_size": 8, "hidden": 32, "trees": 10,
        "curve": {"units": 2, "steps": 40, "points": 5},
        "gcforest": {"forests": 1, "trees": 5, "max_levels": 1, "windows": [[14, 11]], "stride": 7, "scan_trees": 2,
                     "scan_pieces": 200},
    },
    "quick": SMALL | {
        "g": 4, "steps": 30, "batch_size": 16, "hidden": 256, "trees": 50,
        "curve": {"units": 1, "steps": 100, "points": 10},
        "gcforest": {"forests": 1, "trees": 20, "max_levels": 1, "windows": [[14, 11]], "stride": 6, "scan_trees": 10,
                     "scan_pieces": 2_000},
    },
    "standard": FULL | {
        "seeds": {4: 30, 2: 10}, "gcforest_seeds": 3,
        "gcforest": {"forests": 2, "trees": 250, "max_levels": 6, "windows": [[7, 5], [14, 11]], "stride": 4,
                     "scan_trees": 100, "scan_pieces": 10_000},
    },
    "paper": FULL | {
        "seeds": {1: 10}, "gcforest_seeds": 10,
        "gcforest": {"forests": 4, "trees": 500, "max_levels": 20, "windows": [[7, 5], [14, 11], [28, 23]], "stride": 4,
                     "scan_trees": 500, "scan_pieces": 20_000},
    },
}  # fmt: skip
"""`seeds`: of the CNNs, by the pixels a side that become one; the other methods have as many as at the first of these
sizes, which is also what gcForest sees. `hidden`: units of the CNN's hidden layer."""


def depth(profile: str) -> int:
    """Return the Adam steps of a unit along its longest line of descent, and of a unit without evolution."""
    return 2 * int(PROFILES[profile]["K"]) * int(PROFILES[profile]["steps"])


def shrinks(profile: str) -> tuple[int, ...]:
    """Return by how much the images of the CNNs are reduced, for each of their sizes, the largest images first."""
    return tuple(sorted(PROFILES[profile]["seeds"]))


def seen(method: str, profile: str) -> tuple[int, ...]:
    """Return the same of a method: gcForest sees the smallest images of the CNNs, the others all pixels."""
    if method in CNNS:
        return shrinks(profile)
    return shrinks(profile)[-1:] if method == GCFOREST else (1,)


def pixels(shrink: int) -> str:
    """Say the size of the images."""
    return f"{HEIGHT // shrink} x {WIDTH // shrink}"


def arm(images: int, method: str, shrink: int = 1) -> str:
    """Name the arm of a method, for the CNNs at a size of the images; the best of g is of Adam's own runs."""
    run = ADAM if method == ADAM_BEST else method
    return f"orl/{images}/{run}" + (f"/{shrink}" if run in CNNS else "")


def by_method(dataset: str, data: Any, images: int, seed: int, method: str, **settings: Any) -> list[Row]:
    """Train CNNs, or predict by a method of others from the pixels, see `comparison.run_method`."""
    shrink, hidden = settings.pop("shrink", 1), settings.pop("hidden", 0)
    faces = load_faces(dataset, data, images, seed, shrink)
    about = {"images": images, "shrink": shrink} if method in CNNS else {"images": images}
    found = comparison.run_method(faces, maker(faces, hidden), method, METHODS, seed, **settings)
    return [row | about for row in found]


FUNCTIONS = {
    GADAM: run_function("orl/gadam", version=2, method=GADAM)(by_method),
    ADAM: run_function("orl/adam", version=3, method=ADAM)(by_method),
    FOREST: run_function("orl/forest", engine=False, settings=None, method=FOREST)(by_method),
    SVM: run_function("orl/svm", engine=False, settings=None, method=SVM)(by_method),
    KNN: run_function("orl/neighbours", engine=False, settings=None, method=KNN)(by_method),
    GCFOREST: run_function("orl/gcforest", engine=False, settings=GcForestSettings, method=GCFOREST)(by_method),
}
"""What computes the runs of each method; the best of g by Adam is of Adam's own."""


@run_function("orl/curve", settings=None)
def held_out_curve(
    dataset: str, data: Any, images: int, shrink: int, hidden: int, units: int, points: int, **settings: Any
) -> list[Row]:
    """Follow CNNs by Adam: loss on training faces, and accuracy on a fifth of them that is held out."""
    faces = load_faces(dataset, data, images, 0, shrink)
    config = GadamConfig(population_size=units, **settings)
    found = comparison.follow_adam(faces, maker(faces, hidden), config, points, loss=True)
    return [point | {"images": images, "data": faces.source} for point in found]


def load_faces(dataset: str, data: Any, images: int, seed: int, shrink: int = 1) -> Dataset:
    """The faces, each square of `shrink` x `shrink` pixels averaged to one; what does not fill a square is left out."""
    faces = load(dataset, data=data, seed=seed, images_per_person=images)

    def smaller(part: Part) -> Part:
        return nn.functional.avg_pool2d(part[0], shrink), part[1]

    return replace(faces, train=smaller(faces.train), test=smaller(faces.test))


def maker(faces: Dataset, hidden: int) -> Callable[[], nn.Module]:
    """Return what makes the CNN for faces of their size."""
    _, height, width = faces.feature_shape
    return partial(orl_cnn, hidden=hidden, classes=faces.class_count, image_size=(height, width))


def runs(profile: str, data: str) -> list[Run]:
    """List every run behind Table 3; a seed draws the training images, and everything else that a method draws."""
    size, small = PROFILES[profile], shrinks(profile)[-1]
    cnn = {"hidden": size["hidden"], "batch_size": size["batch_size"], "population_size": size["g"]}
    gadam, adam = {"generations": size["K"], "steps": size["steps"]}, {"steps": depth(profile)}
    planned: list[tuple[str, dict[str, Any], int, int]] = [
        (GCFOREST, {"shrink": small, **size["gcforest"]}, size["gcforest_seeds"], 6),
        (FOREST, {"trees": size["trees"]}, size["seeds"][small], 2),
        (SVM, {}, size["seeds"][small], 2),
        (KNN, {}, size["seeds"][small], 2),
    ]
    for shrink, count in size["seeds"].items():
        planned.append((GADAM, cnn | gadam | {"shrink": shrink}, count, 5))
        planned.append((ADAM, cnn | adam | {"shrink": shrink}, count, 5))
    found = []
    for (method, settings, count, priority), images in itertools.product(planned, IMAGES):
        if method in CNNS and images == HEADLINE:
            priority -= 1
        shrink = settings.get("shrink", 1)
        found += arm_runs(
            FUNCTIONS[method], arm(images, method, shrink), seeds_of(profile, count), {"images": images, **settings},
            DATASET, data, label=f"ORL · {images} images of {pixels(shrink)} · {method}", priority=priority,
        )  # fmt: skip
    return found


def curve_runs(profile: str, data: str) -> list[Run]:
    """List the runs behind figure section54_orl_budget: the first, as they say whether the others' steps suffice."""
    size, planned = PROFILES[profile], []
    settings = {name: size[name] for name in ("hidden", "batch_size")} | {"shrink": shrinks(profile)[-1]}
    for images in IMAGES:
        config = {"images": images, **settings, **size["curve"]}
        label = f"ORL · {images} images · held-out curve of Adam"
        planned += arm_runs(held_out_curve, f"orl/{images}/curve", None, config, DATASET, data, label=label, priority=0)
    return planned


RUNS = (runs, curve_runs)


def cells(rows: pd.DataFrame, profile: str) -> list[Cell]:
    """Sort the rows of the runs into the cells of Table 3."""
    return [
        Cell(
            Column(images, f"ORL with {images} images", DATASET, faces, is_headline=images == HEADLINE), method,
            arm(images, method, shrink), published.TABLE3.get(method, {}).get(images),
            comparison.rows_of(rows, arm(images, method, shrink), method), budget_share(method, profile), shrink=shrink,
            labels={"images": images, "pixels": pixels(shrink), "test faces": faces},
        )
        for images, faces in TEST_FACES.items() for method in METHODS for shrink in seen(method, profile)
    ]  # fmt: skip


def budget_share(method: str, profile: str) -> float:
    """Return the share of pixels times that of hidden units, images trained on and trees of profile paper.

    The trees are those of arXiv 1702.08835, whose numbers the paper has. Where the CNNs see images of two sizes, fewer
    pixels are no part of it: see `claims.Smaller`.
    """
    size, full = PROFILES[profile], PROFILES["paper"]
    share = comparison.share_of_trees(method, size, full)
    if method == GCFOREST or (method in CNNS and len(shrinks(profile)) == 1):
        share *= shrinks(profile)[-1] ** -2
    if method in CNNS:
        share *= size["hidden"] / full["hidden"] * size["g"] / full["g"]
        share *= depth(profile) * size["batch_size"] / (depth("paper") * full["batch_size"])
    return float(share)


def table3(cells: Sequence[Cell], arms: Arms) -> pd.DataFrame:
    """Set the paper's values of Table 3 beside ours, a row per cell; accuracies in percent."""
    columns = ("images", "method", "pixels", "paper", "ours", "low", "high", "seeds", "test faces", "gradient steps")
    return comparison.table(cells, arms, (*columns, "data"))


def note(profile: str) -> str:
    """Say what a reader of Table 3 must know."""
    size = PROFILES[profile]
    forest, sizes = size["gcforest"], [pixels(shrink) for shrink in shrinks(profile)]
    windows = ", ".join(f"{down} x {across}" for down, across in forest["windows"])
    return (
        "images: training images of each person, drawn by the seed. ours: mean and 95 % interval over the "
        "seeds (logit scale; over the test faces where all seeds agree). One run can only give multiples of 0.5, 0.83 "
        "and 2.5 %, as 200, 120 and 40 faces are left for test: the paper's 98.50 with 9 images is no single run. "
        f"GADAM: g = {size['g']}, K = {size['K']}, {size['steps']} steps per generation, batches of "
        f"{size['batch_size']}, a hidden layer of {size['hidden']:,} units (the paper's: 1,024); gradient steps: of "
        "all units together; 'best of g' is as many independent Adam runs as GADAM has units, at GADAM's full budget. "
        f"Of the 112 x 92 pixels, averaged over squares, the CNNs saw {' and '.join(sizes)}, gcForest {sizes[-1]}. "
        f"gcForest: windows of {windows} pixels, {forest['stride']} apart, {forest['scan_trees']} trees grown from at "
        f"most {forest['scan_pieces']:,} of them, then at most {forest['max_levels']} levels of "
        f"{2 * forest['forests']} forests of {forest['trees']} trees. Random Forest: {size['trees']:,} trees."
    )


def accuracy_figure(cells: Sequence[Cell], table: pd.DataFrame) -> Figure:
    """Draw each cell: every split, the mean with its interval, and the paper's value; a panel per number of images.

    `table` is that of the cells. The paper's values are left out on a stand-in.
    """
    lines = table.assign(
        label=table["method"] + ", " + table["pixels"], centre=table["ours"], colour=[BLUE] * len(table)
    )
    lines["printed"] = lines["paper"].where(lines["data"] == "real")
    panels = lines.groupby("images", sort=False)
    size = (11, 1.2 + 0.4 * panels.size().max())
    figure, axes = plt.subplots(1, len(panels), figsize=size, layout="constrained", sharex=True, sharey=True)
    for axis, (images, own) in zip(axes, panels, strict=True):
        axis.set_title(f"{images} images a person")
        draw_intervals(axis, own, list(own["label"]))
        if not axis.has_data():
            continue
        axis.scatter(own["printed"], range(len(own)), color=RED, marker="x", s=60, linewidth=2, zorder=4)
        for place, index in enumerate(own.index):  # the splits below the interval, which would hide them
            dots = cells[index].rows["accuracy"].astype(float)
            axis.scatter(dots, [place + 0.28] * len(dots), color=GREY, s=22, alpha=0.7, linewidth=0)
    figure.supxlabel("test accuracy, %", fontsize=11)
    handles = {
        "one split": Line2D([], [], color=GREY, marker="o", linestyle="", markersize=5, alpha=0.7),
        "mean of splits, 95 % interval": Line2D([], [], color=BLUE, marker="o", linewidth=3),
    }
    if lines["printed"].notna().any():
        handles["paper"] = Line2D([], [], color=RED, marker="x", linestyle="", markersize=8, markeredgewidth=2)
    add_legend(figure, handles)
    return figure


def budget_figure(rows: pd.DataFrame, profile: str) -> Figure:
    """Draw Adam on training faces and on others held out, against steps, and the depth that Table 3 uses."""
    panels = {images: (f"{images} images a person", depth(profile)) for images in IMAGES}
    return drawing.budget_figure(rows, "images", panels, "accuracy on faces held out, %")
