"""Stand-ins for data that cannot be had: same shape, classes and file formats, from a fixed seed. Not the real thing.

A stand-in is the contents of the very files it stands in for, so that it takes the way of the real data from there on.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gadam.datasets.files import digest
from gadam.datasets.parsers import CATEGORICAL, COLUMNS, write_face, write_idx
from gadam.datasets.registry import source

SEED = 180_507_500
MNIST_TRAIN = 1_437  # of the 1,797 digits, about 80 %

_CATEGORIES = dict(zip(CATEGORICAL, (9, 16, 7, 15, 6, 5, 2, 42), strict=True))
_UNKNOWN = ("workclass", "occupation", "native-country")  # where ADULT has `?`


@functools.cache
def standin(name: str) -> tuple[dict[str, bytes], str]:
    """Return the contents of the files of a stand-in, and its hash as `Source.hash` has it of the real."""
    make = {"mnist": _mnist, "orl": _orl, "yeast": _yeast, "adult": _adult, "letter": _letter}[name]
    contents = make(np.random.default_rng(SEED))
    return contents, digest(contents, source(name).files)


def _mnist(random: np.random.Generator) -> dict[str, bytes]:
    """Enlarge scikit-learn's 1,797 digits of 8 x 8 pixels to 20 x 20 in a frame of 28 x 28 as in MNIST."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    small = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    images = np.stack([np.pad(_enlarged(image, 20, 20), 4) for image in small])
    parts = {"train": slice(MNIST_TRAIN), "t10k": slice(MNIST_TRAIN, None)}
    return {
        f"{part}-{kind}-ubyte": write_idx(entries[rows])
        for part, rows in parts.items()
        for kind, entries in (("images-idx3", images), ("labels-idx1", digits.target.astype(np.uint8)))
    }


def _orl(random: np.random.Generator) -> dict[str, bytes]:
    """Draw a smooth pattern for each person; each image of it is shifted, lit differently and noisy."""
    common = random.integers(60, 190, (7, 6))
    contents = {}
    for person in source("orl").classes:
        face = common + random.integers(-60, 61, (7, 6))
        for image in range(1, 11):
            pattern = face + random.integers(-20, 21, (7, 6)) + random.integers(-20, 21)
            large = _enlarged(pattern.clip(0, 255).astype(np.uint8), 124, 104).astype(np.int64)
            top, left = random.integers(0, 13, 2)
            pixels = large[top : top + 112, left : left + 92] + random.integers(-12, 13, (112, 92))
            contents[f"{person}/{image}.pgm"] = write_face(pixels.clip(0, 255).astype(np.uint8))
    return contents


def _yeast(random: np.random.Generator) -> dict[str, bytes]:
    """Draw overlapping clouds in the real proportions of classes; `erl` and `pox` nearly constant, as there."""
    classes = source("yeast").classes
    proportions = np.array([463, 5, 35, 44, 51, 163, 244, 429, 20, 30]) / 1_484
    from sklearn.datasets import make_classification

    points, targets = make_classification(
        1_484, 6, n_informative=5, n_redundant=0, n_classes=10, n_clusters_per_class=1, weights=list(proportions),
        flip_y=0, class_sep=0.3, random_state=SEED,
    )  # fmt: skip
    values = (0.5 + 0.12 * points).clip(0, 1)
    rare = random.random((1_484, 2)) < 0.01
    values = np.insert(values, [4, 4], np.where(rare, [1.0, 0.83], [0.5, 0.0]), axis=1)
    rows = (
        "  ".join([f"P{number:04}_YEAST", *(f"{value:.2f}" for value in row), classes[target]])
        for number, (row, target) in enumerate(zip(values, targets, strict=True))
    )
    return {"yeast.data": _text(rows)}


def _letter(random: np.random.Generator) -> dict[str, bytes]:
    """Draw whole numbers from 0 to 15 around one centre per letter."""
    classes = source("letter").classes
    from sklearn.datasets import make_classification

    points, targets = make_classification(
        20_000, 16, n_informative=14, n_redundant=2, n_classes=26, n_clusters_per_class=1, flip_y=0, class_sep=1.8,
        random_state=SEED,
    )  # fmt: skip
    values = np.rint(7.5 + 1.6 * points).clip(0, 15).astype(int)
    rows = (f"{classes[target]},{','.join(map(str, row))}" for row, target in zip(values, targets, strict=True))
    return {"letter-recognition.data": _text(rows)}


def _adult(random: np.random.Generator) -> dict[str, bytes]:
    """Draw numbers and categories, of which a noisy score decides who is among the best-paid 24 %."""
    n, train = 48_842, 32_561
    columns: dict[str, NDArray] = {}
    score = 0.7 * random.logistic(size=n)
    for column, size in _CATEGORIES.items():
        frequencies = 1 / np.arange(1, size + 1)
        category = random.choice(size, n, p=frequencies / frequencies.sum())
        score += 0.9 * random.standard_normal(size)[category]
        names = np.array([f"{column}-{number}" for number in range(size)], dtype=object)
        if column in _UNKNOWN:
            names[-1] = "?"
        columns[column] = names[category]
        if column == "education":
            columns["education-num"] = 1 + category
    columns["age"] = random.normal(38.6, 13.6, n).clip(17, 90).astype(int)
    columns["fnlwgt"] = random.lognormal(12, 0.5, n).astype(int)
    columns["capital-gain"] = np.where(random.random(n) < 0.08, random.lognormal(8.5, 1, n), 0).astype(int)
    columns["capital-loss"] = np.where(random.random(n) < 0.05, random.normal(1_870, 350, n), 0).clip(0).astype(int)
    columns["hours-per-week"] = random.normal(40.4, 12.3, n).clip(1, 99).astype(int)
    score -= ((columns["age"] - 48) / 14.0) ** 2
    score += columns["hours-per-week"] / 15 + 2.0 * (columns["capital-gain"] > 5_000) + (columns["capital-loss"] > 0)
    rich = score > np.quantile(score, 0.7607)
    columns["class"] = np.where(rich, ">50K", "<=50K")
    rows = [", ".join(map(str, row)) for row in zip(*(columns[name] for name in COLUMNS["adult"]), strict=True)]
    test = _text(["|stand-in", *(f"{row}." for row in rows[train:])])
    return {"adult.data": _text(rows[:train]), "adult.test": test}


def _enlarged(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def _text(rows: Iterable[str]) -> bytes:
    return "".join(f"{row}\n" for row in rows).encode("ascii")
