"""Class vectors: votes of a forest on rows that it was not grown from (arXiv 1702.08835, "cascade forest structure").

Everything that gcForest learns passes through `class_vectors`. A forest is grown a few trees at a time and let go once
those have voted, because 500 trees of pure leaves on 26 classes would be most of a gigabyte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier

Floats: TypeAlias = NDArray[np.float32]
Integers: TypeAlias = NDArray[np.int64]
Kind: TypeAlias = Literal["random", "completely-random"]
"""Splits: the best one among sqrt(d) features, or any feature, split anywhere."""
KINDS: tuple[Kind, ...] = ("completely-random", "random")

View: TypeAlias = Callable[[Floats], Floats]
"""Pieces of rows [n, ...] that a forest sees: [n * p, d], p of each row, row by row."""

TREES_AT_ONCE = 50
ROWS_AT_ONCE = 2_000


def flat(rows: Floats) -> Floats:
    """View a whole row as one piece: [n, ...] -> [n, d]."""
    return rows.reshape(len(rows), -1)


def class_vectors(
    kind: Kind, train: Floats, targets: Integers, test: Floats, *, classes: int, trees: int, folds: int,
    seed: tuple[int, ...], view: View = flat, pieces: int | None = None,
) -> tuple[Floats, Floats]:  # fmt: skip
    """Compute out-of-fold class vectors of the training rows, and of the test rows the mean over the folds.

    A row's vector is from the forest that was grown without its fold, so no forest speaks of a row, or of a piece of
    one, that it has seen. There is a forest of `trees` for each fold. It sees the pieces that `view` gives of rows and
    is grown from so many `pieces` of them, drawn by the seed, or from all.

    Returns shares of the votes, [n, p * classes] and [m, p * classes], for a view with p pieces.
    """
    part = deal(targets, folds, seed)
    per_row = len(view(train[:1]))
    of_train = np.zeros((len(train), per_row * classes), np.float32)
    of_test = np.zeros((len(test), per_row * classes), np.float32)
    for fold in range(folds):
        kept, held = train[part != fold], train[part == fold]
        sample, labels = _pieces(kept, targets[part != fold], view, pieces, (*seed, fold))
        for forest in _grow(kind, trees, sample, labels, (*seed, fold)):
            of_train[part == fold] += _votes(forest, held, view, classes) / trees
            of_test += _votes(forest, test, view, classes) / (trees * folds)
    return of_train, of_test


def deal(targets: Integers, folds: int, seed: tuple[int, ...]) -> Integers:
    """Draw a fold for each row, [n] in [0, folds), so that the rows of a class are spread evenly over the folds."""
    drawn = np.random.default_rng(seed).permutation(len(targets))
    by_class = drawn[np.argsort(targets[drawn], kind="stable")]
    part = np.empty(len(targets), np.int64)
    part[by_class] = np.arange(len(targets)) % folds
    return part


def _pieces(
    rows: Floats, targets: Integers, view: View, pieces: int | None, seed: tuple[int, ...]
) -> tuple[Floats, Integers]:
    """Draw the pieces [k, d] that a forest is grown from, and the class of the row that each is a piece of, [k]."""
    per_row = len(view(rows[:1]))
    total = per_row * len(rows)
    if pieces is None or pieces >= total:
        return view(rows), targets.repeat(per_row)
    chosen = np.sort(np.random.default_rng(seed).choice(total, pieces, replace=False))
    bounds = np.searchsorted(chosen, [per_row * start for start in (*_starts(rows), len(rows))])
    taken = [  # a block of rows at a time: the pieces of all rows may not fit into memory
        view(rows[start : start + ROWS_AT_ONCE])[chosen[low:high] - per_row * start]
        for start, low, high in zip(_starts(rows), bounds[:-1], bounds[1:], strict=True)
    ]
    return np.concatenate(taken), targets[chosen // per_row]


def _grow(kind: Kind, trees: int, pieces: Floats, targets: Integers, seed: tuple[int, ...]) -> Iterator[Any]:
    """Grow a forest as smaller forests of at most `TREES_AT_ONCE` trees; all trees have pure leaves."""
    for start in range(0, trees, TREES_AT_ONCE):
        count = min(TREES_AT_ONCE, trees - start)
        state = int(np.random.SeedSequence((*seed, start)).generate_state(1)[0])
        if kind == "random":
            yield RandomForestClassifier(count, random_state=state).fit(pieces, targets)
        else:
            yield ExtraTreesClassifier(count, max_features=1, random_state=state).fit(pieces, targets)


def _votes(forest: Any, rows: Floats, view: View, classes: int) -> Floats:
    """Count the votes of all trees of a forest, [n, p * classes]; none for a class that it has not met."""
    blocks = []
    for start in _starts(rows):
        block = rows[start : start + ROWS_AT_ONCE]
        shares = forest.predict_proba(view(block))
        votes = np.zeros((len(shares), classes), np.float32)
        votes[:, forest.classes_] = shares * len(forest.estimators_)
        blocks.append(votes.reshape(len(block), -1))
    return np.concatenate(blocks)


def _starts(rows: Floats) -> range:
    return range(0, len(rows), ROWS_AT_ONCE)
