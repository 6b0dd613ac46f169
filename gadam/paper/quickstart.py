"""The quickstart's comparison: scikit-learn's MLPClassifier and our GADAMClassifier, both as they come, side by side.

No part of the paper, nor of its reproduction: it measures time, so nothing is stored.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Hashable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

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
from gadam.display import front_end
from gadam.estimators import GADAMClassifier
from gadam.paper.statistics import mean_interval
from gadam.paper.units import first_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ADAM, BEST, ENSEMBLE = "MLPClassifier", "GADAMClassifier, best unit", "GADAMClassifier, ensemble"

COLOURS = ("#0173b2", "#de8f05", "#029e73")  # of the methods, in their order

PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {"seeds": 1, "rows": 200},
    "quick": {"seeds": 3, "rows": 1_000},
    "standard": {"seeds": 5, "rows": None},
    "paper": {"seeds": 10, "rows": None},
}
"""`rows`: so many training rows only, drawn by the seed; None takes all. The methods are at their defaults in each."""


def chosen(profile: str) -> str:
    """The profile itself, and for "auto" the one that suits who looks: quick, or smoke where a program executes it."""
    if profile != "auto":
        return profile
    return "smoke" if front_end() == "batch" else "quick"


def compare(profile: str, data: str = "auto") -> pd.DataFrame:
    """Accuracy and time on digits, LETTER and ADULT, for the same rows: both with one hidden layer of 100.

    Args:
        profile: smoke, quick, standard or paper.
        data: auto, real or standin.

    Returns:
        A row for each dataset and method: dataset, data ("real", "stand-in"), rows (to train on), method, seeds, the
        mean over seeds of the accuracy on test rows in percent and its 95 % interval (accuracy, low, high), and the
        geometric mean of the seconds of a fit and its interval (seconds, seconds_low, seconds_high). One seed has no
        interval: NaN.

    Raises:
        InputError: the profile is not known, or the data cannot be had.
    """
    if profile not in PROFILES:
        raise InputError(f"profile={profile!r} is not a choice; there are {', '.join(PROFILES)}")
    budget = PROFILES[profile]
    # What a process imports at the first fit of all is no time of a method.
    for classifier in (MLPClassifier(), GADAMClassifier(population_size=2, generations=1, steps=1)):
        _fit(classifier, [[0], [1]], [0, 1])
    measured = [
        {"dataset": name, "data": source, "rows": len(parts[2]), "method": method, "accuracy": score, "seconds": spent}
        for name, source, seed, parts in _datasets(budget["rows"], data, budget["seeds"])
        for method, score, spent in _methods(parts, seed)
    ]  # fmt: skip
    rows = []
    for key, group in pd.DataFrame(measured).groupby(["dataset", "data", "rows", "method"], sort=False):
        accuracy, low, high = np.clip(mean_interval(group["accuracy"].tolist()), 0, 100)  # nothing else is possible
        seconds, shortest, longest = np.exp(mean_interval(np.log(group["seconds"]).tolist()))
        rows.append((*key, len(group), accuracy, low, high, seconds, shortest, longest))
    columns = ["dataset", "data", "rows", "method", "seeds", "accuracy", "low", "high"]
    return pd.DataFrame(rows, columns=[*columns, "seconds", "seconds_low", "seconds_high"])


def readable(compared: pd.DataFrame) -> pd.DataFrame:
    """What `compare` returns as a narrow table of words: a row for each dataset and method, accuracy and seconds."""
    columns: dict[str, list[str]] = {"accuracy, %": [], "seconds": []}
    for row in compared.to_dict("records"):
        interval = "" if np.isnan(row["low"]) else f"\xa0[{row['low']:.1f},\xa0{row['high']:.1f}]"  # on one line
        columns["accuracy, %"].append(f"{row['accuracy']:.1f}{interval}")
        columns["seconds"].append(f"{row['seconds']:.2g}" if row["seconds"] < 10 else f"{row['seconds']:.0f}")
    rows = [_label(row) for row in compared.to_dict("records")]
    return pd.DataFrame(columns, index=pd.MultiIndex.from_arrays([rows, compared["method"]], names=["data", "method"]))


def plot(compared: pd.DataFrame) -> Figure:
    """What `compare` returns as a figure of pyplot: points with their 95 % intervals, accuracy above seconds."""
    from matplotlib import pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter

    figure, axes = plt.subplots(2, 1, figsize=(5, 5.6), layout="constrained")
    seeds = compared["seeds"].max()
    over = f"mean of {seeds} seeds and 95 % interval" if seeds > 1 else "one seed"
    groups = [_label(row) for row in compared.to_dict("records")]
    names = list(dict.fromkeys(groups))
    for ax, (value, low, high), label in zip(
        axes,
        (("accuracy", "low", "high"), ("seconds", "seconds_low", "seconds_high")),
        (f"test accuracy, %: {over}", f"seconds of a fit: {over}"),
        strict=True,
    ):
        for place, ((method, rows), colour) in enumerate(
            zip(compared.groupby("method", sort=False), COLOURS, strict=True)
        ):
            heights = [names.index(groups[at]) + 0.22 * (place - 1) for at in rows.index]
            errors = np.nan_to_num([rows[value] - rows[low], rows[high] - rows[value]])
            ax.errorbar(rows[value], heights, xerr=errors, fmt="o", color=colour, capsize=3, label=method)
        ax.set(xlabel=label, ylim=(len(names) - 0.5, -0.5))
        ax.set_yticks(range(len(names)), names)
        ax.grid(axis="x", color="#e0e0e0", linewidth=0.8)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
    axes[1].set_xscale("log")
    axes[1].xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes[1].xaxis.set_major_formatter("{x:g}")
    axes[1].xaxis.set_minor_formatter(NullFormatter())
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=1, fontsize=9, frameon=False)
    return figure


def _label(row: Mapping[Hashable, Any]) -> str:
    """Dataset and rows, and whether they are a stand-in's."""
    return f"{row['dataset']}, {row['rows']:,} rows" + ("" if row["data"] == "real" else f" ({row['data']})")


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


def _methods(parts: list[np.ndarray], seed: int) -> Iterator[tuple[str, float, float]]:
    """Method, accuracy on the test rows in percent, seconds of the fit; best unit and ensemble are of the same fit."""
    train, test, train_targets, targets = parts
    for classifier in (MLPClassifier(random_state=seed), GADAMClassifier(random_state=seed)):
        pipeline = make_pipeline(StandardScaler(), classifier)
        spent = _fit(pipeline, train, train_targets)
        if isinstance(classifier, MLPClassifier):
            yield ADAM, 100 * pipeline.score(test, targets), spent
            continue
        for method, way in ((BEST, "best"), (ENSEMBLE, "ensemble")):
            classifier.set_params(predict_with=way)
            yield method, 100 * pipeline.score(test, targets), spent


def _fit(classifier: Any, inputs: Any, targets: Any) -> float:
    """Seconds that it took."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 200 passes over the rows are MLPClassifier's default
        started = time.perf_counter()
        classifier.fit(inputs, targets)
        return time.perf_counter() - started
