"""Class vectors: what a forest says of rows that it was not grown from (arXiv 1702.08835, "cascade forest structure").

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
KINDS: tuple[Kind, ...] = ("completely-random", "random")

View: TypeAlias = Callable[[Floats], Floats]
"""What a forest sees of rows [n, ...]: [n * p, d], p pieces of each, row by row."""

TREES_AT_ONCE = 50
ROWS_AT_ONCE = 2_000


def flat(rows: Floats) -> Floats:
    """The view of a whole row as one piece: [n, ...] -> [n, d]."""
    return rows.reshape(len(rows), -1)


def class_vectors(
    kind: Kind,
    train: Floats,
    targets: Integers,
    test: Floats,
    *,
    classes: int,
    trees: int,
    folds: int,
    seed: tuple[int, ...],
    view: View = flat,
    pieces: int | None = None,
) -> tuple[Floats, Floats]:
    """Out-of-fold class vectors of the training rows, and of the test rows the mean over the folds.

    Args:
        kind: "random": the best split among sqrt(d) features; "completely-random": any feature, split anywhere.
        train: [n, ...].
        targets: [n], in [0, classes).
        test: [m, ...].
        classes: columns of a class vector.
        trees: of a forest; there is one for each fold.
        folds: parts of the training rows, at least 2. A row's vector is from the forest that was grown without its
            part, so no forest speaks of a row, or of a piece of one, that it has seen.
        seed: of the folds and of the forests.
        view: what a forest sees of rows.
        pieces: grow a forest from so many pieces, drawn by the seed; None takes all.

    Returns:
        Shares of the votes, [n, p * classes] and [m, p * classes], for a view with p pieces.
    """
    part = deal(targets, folds, seed)
    of_train, of_test = None, None
    for fold in range(folds):
        kept, held = train[part != fold], train[part == fold]
        sample, labels = _pieces(kept, targets[part != fold], view, pieces, (*seed, fold))
        for forest in _grow(kind, trees, sample, labels, (*seed, fold)):
            said = _votes(forest, held, view, classes), _votes(forest, test, view, classes)
            if of_train is None or of_test is None:
                of_train = np.zeros((len(train), said[0].shape[1]), np.float32)
                of_test = np.zeros((len(test), said[1].shape[1]), np.float32)
            of_train[part == fold] += said[0] / trees
            of_test += said[1] / (trees * folds)
    assert of_train is not None
    assert of_test is not None
    return of_train, of_test


def deal(targets: Integers, folds: int, seed: tuple[int, ...]) -> Integers:
    """A fold for each row, [n] in [0, folds), drawn so that the rows of a class are spread evenly over the folds."""
    drawn = np.random.default_rng(seed).permutation(len(targets))
    by_class = drawn[np.argsort(targets[drawn], kind="stable")]
    part = np.empty(len(targets), np.int64)
    part[by_class] = np.arange(len(targets)) % folds
    return part


def _pieces(
    rows: Floats, targets: Integers, view: View, pieces: int | None, seed: tuple[int, ...]
) -> tuple[Floats, Integers]:
    """What a forest is grown from: pieces [k, d] and the class of the row that each is a piece of, [k]."""
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
    """The forest, in smaller forests of at most `TREES_AT_ONCE` trees; all trees have pure leaves."""
    for start in range(0, trees, TREES_AT_ONCE):
        count = min(TREES_AT_ONCE, trees - start)
        state = int(np.random.SeedSequence((*seed, start)).generate_state(1)[0])
        if kind == "random":
            yield RandomForestClassifier(count, random_state=state).fit(pieces, targets)
        else:
            yield ExtraTreesClassifier(count, max_features=1, random_state=state).fit(pieces, targets)


def _votes(forest: Any, rows: Floats, view: View, classes: int) -> Floats:
    """The votes of all trees of a forest, [n, p * classes]; none for a class that it has not met."""
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
