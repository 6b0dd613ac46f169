"""Section 5.4: the CNN for the faces of ORL by GADAM and by Adam, beside four other classifiers (Table 3).

The paper gives neither g, K, the steps nor the size of a batch. A unit here is trained for 2 K times the steps of a
generation along its longest line of descent (`depth`), and so is every unit by Adam. The CNN costs more than a laptop
has: outside of profile "paper" the images are averaged over squares of pixels, for the CNNs and for gcForest. Where
the CNNs see two sizes ("standard"), a claim about them must hold at both; elsewhere, and for gcForest, fewer pixels are
a reduced budget (`section54_orl_results.budget_share`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gadam.config import GadamConfig
from gadam.datasets import Dataset, load
from gadam.evolution.loop import evolve
from gadam.models import orl_cnn
from gadam.paper import seeds_of
from gadam.paper.baselines import classical
from gadam.paper.baselines.gcforest import GcForestSettings, gcforest
from gadam.paper.runs import Rows, Run, RunFunction, dataset_config, run_function
from gadam.paper.units import KEPT, Part, cross_entropy, held_out, independent, kept, validation_size, whole
from gadam.population import Population
from gadam.training.shards import Step

DATASET = "orl"
IMAGES = (5, 7, 9)
TEST_FACES = {images: 40 * (10 - images) for images in IMAGES}
GADAM, ADAM, ADAM_BEST = "CNN (GADAM)", "CNN (Adam)", "CNN (Adam, best of g)"
GCFOREST, FOREST, SVM, KNN = "gcForest", "Random Forest", "SVM (rbf)", "kNN (k=3)"
CNNS = (GADAM, ADAM, ADAM_BEST)
METHODS = (*CNNS, GCFOREST, FOREST, SVM, KNN)
HEIGHT, WIDTH = 112, 92

PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {
        "seeds": 2, "g": 2, "K": 1, "steps": 20, "batch_size": 8, "shrink": 4, "hidden": 32, "trees": 10,
        "gcforest": {
            "forests": 1, "trees": 5, "max_levels": 1, "windows": [[14, 11]], "stride": 7, "scan_trees": 2,
            "scan_pieces": 200,
        },
        "gcforest_seeds": 2,
        "curve": {"units": 2, "steps": 40, "points": 5},
    },
    "quick": {
        "seeds": 2, "g": 4, "K": 1, "steps": 50, "batch_size": 16, "shrink": 4, "hidden": 256, "trees": 100,
        "gcforest": {
            "forests": 1, "trees": 20, "max_levels": 1, "windows": [[14, 11]], "stride": 6, "scan_trees": 10,
            "scan_pieces": 2_000,
        },
        "gcforest_seeds": 2,
        "curve": {"units": 1, "steps": 200, "points": 10},
    },
    "standard": {
        "seeds": 30, "g": 10, "K": 5, "steps": 60, "batch_size": 128, "shrink": 4, "hidden": 1_024, "trees": 2_000,
        "larger": {"shrink": 2, "seeds": 10},
        "gcforest": {
            "forests": 2, "trees": 250, "max_levels": 6, "windows": [[7, 5], [14, 11]], "stride": 4,
            "scan_trees": 100, "scan_pieces": 10_000,
        },
        "gcforest_seeds": 10,
        "curve": {"units": 3, "steps": 1_200, "points": 40},
    },
    "paper": {
        "seeds": 10, "g": 10, "K": 5, "steps": 60, "batch_size": 128, "shrink": 1, "hidden": 1_024, "trees": 2_000,
        "gcforest": {
            "forests": 4, "trees": 500, "max_levels": 20, "windows": [[7, 5], [14, 11], [28, 23]], "stride": 4,
            "scan_trees": 500, "scan_pieces": 20_000,
        },
        "gcforest_seeds": 10,
        "curve": {"units": 3, "steps": 1_200, "points": 40},
    },
}  # fmt: skip
"""`shrink`: pixels a side that become one, for the CNNs and gcForest; `larger`: the same CNNs on larger images, for
fewer splits; `hidden`: units of the CNN's hidden layer."""


def depth(profile: str) -> int:
    """Adam steps of a unit along its longest line of descent, and of a unit without evolution."""
    return 2 * int(PROFILES[profile]["K"]) * int(PROFILES[profile]["steps"])


def shrinks(profile: str) -> tuple[int, ...]:
    """Pixels a side that become one, for each size of the images that the CNNs see, the largest images first."""
    size = PROFILES[profile]
    return (size["larger"]["shrink"], size["shrink"]) if "larger" in size else (size["shrink"],)


def pixels(shrink: int) -> str:
    """The size of the images, for a reader."""
    return f"{HEIGHT // shrink} x {WIDTH // shrink}"


def arm(images: int, method: str, shrink: int | None = None) -> str:
    """What the splits of a method are repetitions of; the best of g is of the same runs as Adam alone.

    Args:
        images: training images of each person.
        method: one of `METHODS`.
        shrink: of the images, for the CNNs.
    """
    run = ADAM if method == ADAM_BEST else method
    return f"orl/{images}/{run}" + (f"/{shrink}" if shrink and run in (GADAM, ADAM) else "")


def runs(profile: str, data: str) -> list[Run]:
    """Every run behind Table 3; a seed draws the training images, and everything else that a method draws."""
    size = PROFILES[profile]
    methods: list[tuple[str, RunFunction, dict[str, Any], int]] = [
        (GCFOREST, deep_forest, {"shrink": size["shrink"], **size["gcforest"]}, size["gcforest_seeds"]),
        (FOREST, random_forest, {"trees": size["trees"]}, size["seeds"]),
        (SVM, svm, {}, size["seeds"]),
        (KNN, nearest_neighbours, {}, size["seeds"]),
    ]
    planned = _cnn_runs(profile, data, size["shrink"], size["seeds"])
    if larger := size.get("larger"):
        planned += _cnn_runs(profile, data, larger["shrink"], larger["seeds"])
    for images in IMAGES:
        for method, function, settings, count in methods:
            for seed in seeds_of(profile, count):
                label = f"{images} images · {method} · seed {seed}"
                also = {"arm": arm(images, method), "priority": 5 if method == GCFOREST else 2}
                planned.append(_run(function, data, label, also, images=images, seed=seed, **settings))
    return planned


def _cnn_runs(profile: str, data: str, shrink: int, count: int) -> list[Run]:
    """The CNNs by GADAM and by Adam on images of one size."""
    size = PROFILES[profile]
    cnn = {name: size[name] for name in ("hidden", "batch_size")} | {"population_size": size["g"], "shrink": shrink}
    evolution = {"generations": size["K"], "steps": size["steps"]}
    planned = []
    for images in IMAGES:
        for seed in seeds_of(profile, count):
            for method, function, settings in (
                (GADAM, cnn_by_gadam, evolution),
                (ADAM, cnns_by_adam, {"steps": depth(profile)}),
            ):
                label = f"{images} images of {pixels(shrink)} · {method} · seed {seed}"
                also = {"arm": arm(images, method, shrink), "priority": 5}
                planned.append(_run(function, data, label, also, images=images, seed=seed, **cnn, **settings))
    return planned


def curve_runs(profile: str, data: str) -> list[Run]:
    """The runs behind figure section54_orl_budget."""
    size = PROFILES[profile]
    settings = {name: size[name] for name in ("shrink", "hidden", "batch_size")} | size["curve"]
    label = "held-out curve of Adam"
    return [
        _run(
            held_out_curve, data, f"{images} images · {label}", {"arm": f"orl/{images}/curve", "priority": 5},
            images=images, **settings,
        )
        for images in IMAGES
    ]  # fmt: skip


@run_function("orl/gadam")
def cnn_by_gadam(dataset: str, data: Any, images: int, seed: int, shrink: int, hidden: int, **settings: Any) -> Rows:
    """A CNN by GADAM: the best unit of the last generation, chosen by its loss on the last validation batch.

    And a row of method `KEPT`, for what else the generation is good for, see `gadam.paper.beyond`.
    """
    faces = _load(dataset, data, images, seed, shrink)
    config = GadamConfig(seed=seed, validation_size=validation_size(faces), **settings)
    result = whole(evolve(_cnn(faces, hidden), faces.train, config, progress=False))
    about = {
        "dataset": faces.name, "data": faces.source, "images": images, "method": KEPT, "seed": seed, "shrink": shrink,
        "test_rows": len(faces.test[1]),
    }  # fmt: skip
    return [
        _row(faces, images, GADAM, seed, _predict(result.best, faces.test[0]), result.gradient_steps)
        | {"shrink": shrink},
        about | kept(result, held_out(faces.train, validation_size(faces), seed)[1], faces.test),
    ]


@run_function("orl/adam")
def cnns_by_adam(dataset: str, data: Any, images: int, seed: int, shrink: int, hidden: int, **settings: Any) -> Rows:
    """Equal compute without evolution: g independent CNNs by Adam; the first, and the best on a validation batch."""
    faces = _load(dataset, data, images, seed, shrink)
    config = GadamConfig(seed=seed, **settings)
    population = independent(_cnn(faces, hidden), faces.train, config)
    batch = held_out(faces.train, validation_size(faces), seed)[1]
    best = int(torch.stack([_loss(unit, batch) for unit in _units(population)]).argmin())
    chosen = [(ADAM, 0, config.steps), (ADAM_BEST, best, config.steps * config.population_size)]
    return [
        _row(faces, images, method, seed, _predict(population.to("cpu").unit(unit), faces.test[0]), steps)
        | {"shrink": shrink}
        for method, unit, steps in chosen
    ]


@run_function("orl/gcforest", engine=False, settings=GcForestSettings)
def deep_forest(
    dataset: str, data: Any, images: int, seed: int, shrink: int, windows: list[list[int]], **settings: Any
) -> Rows:
    """Multi-grained scanning and a cascade: gcForest."""
    faces = _load(dataset, data, images, seed, shrink)
    size = GcForestSettings(windows=tuple((height, width) for height, width in windows), **settings)
    said = gcforest(*faces.train, faces.test[0], settings=size, seed=seed)
    return [_row(faces, images, GCFOREST, seed, said.probabilities.argmax(1), 0)]


@run_function("orl/forest", engine=False)
def random_forest(dataset: str, data: Any, images: int, seed: int, trees: int) -> Rows:
    """A random forest with scikit-learn's defaults but for the number of trees."""
    faces = _load(dataset, data, images, seed)
    predicted = classical.random_forest(*faces.train, faces.test[0], trees=trees, seed=seed)
    return [_row(faces, images, FOREST, seed, predicted, 0)]


@run_function("orl/svm", engine=False)
def svm(dataset: str, data: Any, images: int, seed: int) -> Rows:
    """A support vector machine with scikit-learn's defaults on the pixels."""
    faces = _load(dataset, data, images, seed)
    return [_row(faces, images, SVM, seed, classical.svm(*faces.train, faces.test[0]), 0)]


@run_function("orl/neighbours", engine=False)
def nearest_neighbours(dataset: str, data: Any, images: int, seed: int) -> Rows:
    """The k = 3 nearest neighbours by their pixels."""
    faces = _load(dataset, data, images, seed)
    return [_row(faces, images, KNN, seed, classical.nearest_neighbours(*faces.train, faces.test[0]), 0)]


@run_function("orl/curve")
def held_out_curve(
    dataset: str, data: Any, images: int, shrink: int, hidden: int, units: int, steps: int, points: int, batch_size: int
) -> Rows:
    """Loss on training faces, and accuracy on a fifth of them that is held out, of CNNs by Adam during training."""
    faces = _load(dataset, data, images, 0, shrink)
    kept, held = held_out(faces.train, len(faces.train[1]) // 5, 0)
    every = max(1, steps // points)
    make_model = _cnn(faces, hidden)
    template = make_model()
    found: Rows = []

    def record(step: Step) -> None:
        if step.number % every == 0:
            for number, unit in zip(step.units, _units(Population(template, step.parameters, {})), strict=True):
                right = _predict(unit, held[0]) == held[1]
                found.append({
                    "images": images, "unit": number, "step": step.number, "loss": float(_loss(unit, kept)),
                    "accuracy": 100 * float(right.double().mean()), "data": faces.source,
                })  # fmt: skip

    independent(make_model, kept, GadamConfig(population_size=units, steps=steps, batch_size=batch_size), record=record)
    return found


def _run(function: RunFunction, data: str, label: str, also: dict[str, Any], **settings: Any) -> Run:
    rows, digest = dataset_config(DATASET, data)
    return Run(function, {**rows, **settings}, digest, f"ORL · {label}", **also)


def _load(dataset: str, data: Any, images: int, seed: int, shrink: int = 1) -> Dataset:
    """The faces, each square of `shrink` x `shrink` pixels averaged to one; what does not fill a square is left out."""
    faces = load(dataset, data=data, seed=seed, images_per_person=images)

    def smaller(part: Part) -> Part:
        return nn.functional.avg_pool2d(part[0], shrink), part[1]

    return replace(faces, train=smaller(faces.train), test=smaller(faces.test))


def _cnn(faces: Dataset, hidden: int) -> Callable[[], nn.Module]:
    _, height, width = faces.feature_shape
    return partial(orl_cnn, hidden=hidden, classes=faces.class_count, image_size=(height, width))


def _units(population: Population) -> list[nn.Module]:
    """On the CPU: full-size faces of all units together would take gigabytes, those of one do not."""
    return list(population.to("cpu").units())


@torch.no_grad()
def _loss(model: nn.Module, rows: Part) -> Tensor:
    return cross_entropy(model(rows[0]), rows[1])


@torch.no_grad()
def _predict(model: nn.Module, inputs: Tensor) -> Tensor:
    classes: Tensor = model(inputs).argmax(1)
    return classes


def _row(faces: Dataset, images: int, method: str, seed: int, predicted: Tensor, gradient_steps: int) -> dict[str, Any]:
    correct, total = int((predicted == faces.test[1]).sum()), len(faces.test[1])
    return {
        "dataset": faces.name, "data": faces.source, "images": images, "method": method, "seed": seed,
        "correct": correct, "test_rows": total, "accuracy": 100 * correct / total, "gradient_steps": gradient_steps,
    }  # fmt: skip


RUNS = (runs, curve_runs)
