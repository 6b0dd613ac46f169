"""gcForest: a cascade of forests in place of a deep network (Zhou and Feng, arXiv 1702.08835).

A level of the cascade is a few forests. The class vector that each gives a row joins the row's features for the next
level; levels are added until the accuracy on training rows, each judged by forests that have not seen it, stops
rising. Images are first scanned by windows: the class vectors that two forests give every window take the place of the
pixels.

Training and prediction are one call here, since a forest is let go as soon as it has voted (`baselines.forests`).
Where the paper leaves open or differs: a class vector is out-of-fold (the paper's text would average forests that have
seen the row; the authors' program does not), and so is the accuracy that ends the growth, in place of a set held out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from gadam.paper.baselines.forests import KINDS, Floats, Integers, class_vectors

_SCAN, _CASCADE = range(2)  # purposes of seeds


@dataclass(frozen=True)
class GcForestSettings:
    """Sizes of a gcForest; the defaults are those of arXiv 1702.08835, without windows.

    Attributes:
        forests: of each of the two kinds in a level.
        trees: of a forest in the cascade.
        folds: parts of the training rows for out-of-fold class vectors, at least 2.
        max_levels: never more levels than this.
        patience: stop after so many rounds in a row without a gain in accuracy; a round is one level, or one for each
            window.
        windows: (height, width) of each scanning window in pixels; none for data that are not images.
        stride: pixels from one window to the next, in both directions.
        scan_trees: of a forest that scans; there are two for each window.
        scan_pieces: a forest that scans is grown from so many windows, drawn by the seed; None takes all.
    """

    forests: int = 4
    trees: int = 500
    folds: int = 3
    max_levels: int = 20
    patience: int = 1
    windows: tuple[tuple[int, int], ...] = ()
    stride: int = 1
    scan_trees: int = 500
    scan_pieces: int | None = None


def gcforest(
    inputs: Tensor, targets: Tensor, test_inputs: Tensor, *, settings: GcForestSettings | None = None, seed: int = 0
) -> Tensor:
    """Learn from training rows and return class probabilities of test rows, float32 [m, classes].

    They are those of the level with the best out-of-fold accuracy. Rows are float32 [n, *features], with windows images
    [n, height, width] or [n, channels, height, width]; scaling does not matter to a tree.

    With windows, the levels take turns: the first has the class vectors of the first window's scan as its features, the
    second those of the second window, and so on, in rounds; each has those of the level before it beside them.
    """
    settings = settings or GcForestSettings()
    train, test = (part.numpy().astype(np.float32, copy=False) for part in (inputs, test_inputs))
    labels = targets.numpy().astype(np.int64, copy=False)
    if settings.windows:
        grains = scan(train, labels, test, settings, seed)
    else:
        grains = [(train.reshape(len(train), -1), test.reshape(len(test), -1))]
    return _cascade(grains, labels, settings, seed)


def scan(
    train: Floats, targets: Integers, test: Floats, settings: GcForestSettings, seed: int
) -> list[tuple[Floats, Floats]]:
    """Compute the class vectors of all windows of an image, for each size of window (multi-grained scanning).

    For each window with p positions these are the features [n, 2 * p * classes] and [m, 2 * p * classes].
    """
    classes = int(targets.max()) + 1
    grains = []
    for number, window in enumerate(settings.windows):
        view = partial(windows, size=window, stride=settings.stride)
        vectors = [
            class_vectors(
                kind, train, targets, test, classes=classes, trees=settings.scan_trees, folds=settings.folds,
                seed=(seed, _SCAN, number, place), view=view, pieces=settings.scan_pieces,
            )
            for place, kind in enumerate(KINDS)
        ]  # fmt: skip
        grains.append((np.hstack([one for one, _ in vectors]), np.hstack([one for _, one in vectors])))
    return grains


def windows(images: Floats, size: tuple[int, int], stride: int) -> Floats:
    """Cut images [n, ..., height, width] into all windows: [n * p, pixels], those of an image together, row by row."""
    views = np.lib.stride_tricks.sliding_window_view(images, size, axis=(-2, -1))  # [n, ..., down, across, *size]
    views = np.moveaxis(views[..., ::stride, ::stride, :, :], (-4, -3), (1, 2))  # [n, down, across, ..., *size]
    positions = views.shape[0] * views.shape[1] * views.shape[2]
    return np.ascontiguousarray(views).reshape(positions, -1)


def _cascade(grains: list[tuple[Floats, Floats]], targets: Integers, settings: GcForestSettings, seed: int) -> Tensor:
    classes = int(targets.max()) + 1
    kinds = [kind for kind in KINDS for _ in range(settings.forests)]
    accuracies: list[float] = []
    best = np.empty(0, np.float32)
    before: list[Floats] = []  # the class vectors of the level before: of all training rows, of all test rows
    for level in range(settings.max_levels):
        train, test = (
            np.hstack([features, *before[part : part + 1]]) for part, features in enumerate(grains[level % len(grains)])
        )
        said = [
            class_vectors(
                kind, train, targets, test, classes=classes, trees=settings.trees, folds=settings.folds,
                seed=(seed, _CASCADE, level, place),
            )
            for place, kind in enumerate(kinds)
        ]  # fmt: skip
        mean_train, mean_test = (np.mean([one[part] for one in said], axis=0) for part in (0, 1))
        accuracies.append(float((mean_train.argmax(1) == targets).mean()))
        if accuracies[-1] > max(accuracies[:-1], default=-1.0):
            best = mean_test
        elif level - int(np.argmax(accuracies)) >= settings.patience * len(grains):
            break
        before = [np.hstack([one[part] for one in said]) for part in (0, 1)]
    return torch.from_numpy(best)
