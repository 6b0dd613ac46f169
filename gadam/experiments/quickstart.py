"""The quickstart's comparison: scikit-learn's MLPClassifier and our GADAMClassifier, both as they come, side by side.

No part of the paper, nor of its reproduction: it measures time, so nothing is stored.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gadam.config import InputError
from gadam.datasets import load
from gadam.estimators import GADAMClassifier
from gadam.experiments.statistics import mean_interval
from gadam.experiments.units import first_rows

ADAM, BEST, ENSEMBLE = "MLPClassifier", "GADAMClassifier, best unit", "GADAMClassifier, ensemble"

PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {"seeds": 2, "rows": 200, "adam": {"max_iter": 10}, "gadam": {"population_size": 2, "steps": 10}},
    "quick": {"seeds": 3, "rows": 1_000, "adam": {}, "gadam": {}},
    "paper": {"seeds": 10, "rows": None, "adam": {}, "gadam": {}},
}
"""`rows`: so many training rows only, drawn by the seed; None takes all. `adam`, `gadam`: other than the defaults."""


def compare(profile: str, data: str = "auto") -> pd.DataFrame:
    """Accuracy and time on digits, LETTER and ADULT, for the same rows: both with one hidden layer of 100.

    Args:
        profile: smoke, quick or paper.
        data: auto, real or standin.

    Returns:
        A row for each dataset and method: dataset, data ("real", "stand-in"), rows (to train on), method, seeds, the
        mean over seeds of the accuracy on test rows in percent and its 95 % interval (accuracy, low, high), and the
        geometric mean of the seconds of a fit and its interval (seconds, seconds_low, seconds_high).

    Raises:
        InputError: the profile is not known, or the data cannot be had.
    """
    if profile not in PROFILES:
        raise InputError(f"profile={profile!r} is not a choice; there are {', '.join(PROFILES)}")
    budget = PROFILES[profile]
    # What a process imports at the first fit of all is no time of a method.
    GADAMClassifier(population_size=2, generations=1, steps=1).fit([[0], [1]], [0, 1])
    measured = [
        {"dataset": name, "data": source, "rows": len(parts[2]), "method": method, "accuracy": score, "seconds": spent}
        for name, source, seed, parts in _datasets(budget["rows"], data, budget["seeds"])
        for method, score, spent in _methods(parts, budget, seed)
    ]  # fmt: skip
    rows = []
    for key, group in pd.DataFrame(measured).groupby(["dataset", "data", "rows", "method"], sort=False):
        accuracy, low, high = mean_interval(group["accuracy"].tolist())
        seconds, shortest, longest = np.exp(mean_interval(np.log(group["seconds"]).tolist()))
        rows.append((*key, len(group), accuracy, low, high, seconds, shortest, longest))
    columns = ["dataset", "data", "rows", "method", "seeds", "accuracy", "low", "high"]
    return pd.DataFrame(rows, columns=[*columns, "seconds", "seconds_low", "seconds_high"])


def _datasets(rows: int | None, data: Any, seeds: int) -> Iterator[tuple[str, str, int, list[np.ndarray]]]:
    """Name, source, seed, and training inputs, test inputs, training targets, test targets."""
    digits = load_digits()
    for seed in range(seeds):
        split = train_test_split(digits.data, digits.target, test_size=0.3, stratify=digits.target, random_state=seed)
        yield "digits", "real", seed, [split[0][:rows], split[1], split[2][:rows], split[3]]
    for name in ("letter", "adult"):
        whole = load(name, data=data)
        for seed in range(seeds):
            some = first_rows(whole, rows, seed)
            inputs, targets = zip(some.train, some.test, strict=True)
            yield name.upper(), some.source, seed, [each.numpy() for each in (*inputs, *targets)]


def _methods(parts: list[np.ndarray], budget: dict[str, Any], seed: int) -> Iterator[tuple[str, float, float]]:
    """Method, accuracy on the test rows in percent, seconds of the fit; the best unit is of the same fit."""
    train, test, train_targets, targets = parts
    for method, classifier in (
        (ADAM, MLPClassifier(**budget["adam"], random_state=seed)),
        (ENSEMBLE, GADAMClassifier(**budget["gadam"], random_state=seed)),
    ):
        pipeline = make_pipeline(StandardScaler(), classifier)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # 200 passes over the rows are its default
            started = time.perf_counter()
            pipeline.fit(train, train_targets)
            spent = time.perf_counter() - started
        if method == ENSEMBLE:
            classifier.model_, ensemble = classifier.result_.best, classifier.model_  # logits, whose order is the same
            yield BEST, 100 * pipeline.score(test, targets), spent
            classifier.model_ = ensemble
        yield method, 100 * pipeline.score(test, targets), spent
