"""The quickstart's comparison of scikit-learn's MLPClassifier with GADAMClassifier."""

import math
import warnings

import pandas as pd
import pytest
from matplotlib import pyplot as plt
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline

from gadam import GADAMClassifier, InputError
from gadam.paper import quickstart

TINY = {"population_size": 2, "generations": 1, "steps": 20, "executor": 1}


def compared(seeds):
    """Two datasets, the second a stand-in, by three methods."""
    rows = [(name, data, method) for name, data in (("digits", "real"), ("ADULT", "stand-in")) for method in "abc"]
    frame = pd.DataFrame(rows, columns=["dataset", "data", "method"])
    low, high, shortest, longest = (96.5, 98.3, 1.0, 31.0) if seeds > 1 else [math.nan] * 4
    frame = frame.assign(low=low, high=high, seconds_low=shortest, seconds_high=longest)
    return frame.assign(rows=1_000, seeds=seeds, accuracy=97.4, seconds=[1.234, 12.34] * 3)


@pytest.mark.parametrize(
    ("seeds", "said", "cell", "bar"),
    [
        (3, "mean of 3 seeds and 95 % interval", "97.4\xa0[96.5,\xa098.3]", [96.5, 98.3]),
        (1, "one seed", "97.4", [97.4, 97.4]),
    ],
)
def test_the_comparison_is_a_narrow_table_and_a_figure_with_intervals(seeds, said, cell, bar):
    table = quickstart.readable(compared(seeds))
    assert table["accuracy, %"].tolist() == [cell] * 6
    assert table["seconds"].tolist() == ["1.2", "12"] * 3
    assert [table.index[0], table.index[5]] == [("digits, 1,000 rows", "a"), ("ADULT, 1,000 rows (stand-in)", "c")]
    figure = quickstart.plot(compared(seeds))
    accuracy, seconds = figure.axes
    labels = [accuracy.get_xlabel(), seconds.get_xlabel()]
    bars = [each.lines[2][0].get_segments() for each in accuracy.containers]
    plt.close(figure)
    assert labels == [f"test accuracy, %: {said}", f"seconds of a fit: {said}"]
    assert [len(each) for each in bars] == [2, 2, 2]
    assert bars[0][0][:, 0].tolist() == pytest.approx(bar)


@pytest.mark.parametrize(("looks", "profile"), [("notebook", "quick"), ("terminal", "quick"), ("batch", "smoke")])
def test_it_is_quick_where_someone_looks(monkeypatch, looks, profile):
    monkeypatch.setattr(quickstart, "front_end", lambda: looks)
    assert quickstart.chosen("auto") == profile
    assert quickstart.chosen("paper") == "paper"


def test_it_compares_both_at_their_defaults_and_within_what_is_possible(monkeypatch):
    seen = []

    def fit(classifier, inputs, targets):
        last = classifier[-1] if isinstance(classifier, Pipeline) else classifier
        if len(inputs) > 2:
            seen.append(last.get_params())
            last.set_params(**{"max_iter": 1} if isinstance(last, MLPClassifier) else TINY)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            classifier.fit(inputs, targets)
        return 1.0

    monkeypatch.setattr(quickstart, "_fit", fit)
    for profile in quickstart.PROFILES:
        monkeypatch.setitem(quickstart.PROFILES, profile, {"rows": 60, "seeds": 2})
        found = quickstart.compare(profile, "standin")
        assert len(found) == 3 * 3
        assert found["low"].min() >= 0
        assert found["high"].max() <= 100
    for made in seen:
        default = (MLPClassifier if "max_iter" in made else GADAMClassifier)(random_state=made["random_state"])
        assert made == default.get_params()
    with pytest.raises(InputError, match=r"^profile='slow' is not a choice; there are smoke, quick, standard, paper$"):
        quickstart.compare("slow")
