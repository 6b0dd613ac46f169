"""The scikit-learn face: scikit-learn's own checks, and those of weights, held-out rows, warm starts and parameters."""

import copy
import functools

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.datasets import make_classification, make_regression
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from gadam import InputError
from gadam.estimators import GADAMClassifier, GADAMRegressor, estimators
from gadam.estimators.rows import Rows, weighted

TINY = {"population_size": 2, "generations": 1, "steps": 20, "learning_rate": 3e-2, "executor": 1, "random_state": 0}
X, Y = make_classification(120, 6, n_informative=4, n_classes=3, random_state=0)
X = StandardScaler().fit_transform(X)
NAMES = np.array(["cat", "dog", "eel"])[Y]
NOISE, COINS = np.random.default_rng(0).normal(size=(60, 20)), np.random.default_rng(1).integers(0, 2, 60)


def classifier(**changed):
    return GADAMClassifier(**TINY | changed)


def regressor(**changed):
    return GADAMRegressor(**TINY | changed)


BOTH = pytest.mark.parametrize("make", [classifier, regressor])


@parametrize_with_checks([classifier(), regressor()])
def test_is_an_estimator_to_scikit_learn(estimator, check):
    check(estimator)


# --- tables and pipelines ---


def test_learns_string_labels_from_a_data_frame():
    frame = pd.DataFrame(X, columns=list("abcdef"))
    fitted = classifier(steps=100).fit(frame, pd.Series(NAMES))
    assert fitted.classes_.tolist() == ["cat", "dog", "eel"]
    assert fitted.feature_names_in_.tolist() == list("abcdef")
    assert fitted.score(frame, NAMES) > 0.8
    probabilities = fitted.predict_proba(frame)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.exp(fitted.predict_log_proba(frame)), probabilities, rtol=1e-5)


def test_works_in_a_pipeline_and_a_grid_search_with_sparse_rows():
    one_hot = make_pipeline(OneHotEncoder(), classifier(steps=60)).fit(NAMES[:, None], NAMES)
    assert one_hot.score(NAMES[:, None], NAMES) == 1
    # Numbers of an array are no Python numbers.
    grid = {"gadamclassifier__steps": np.array([1, 40]), "gadamclassifier__learning_rate": np.logspace(-2, -1, 1)}
    search = GridSearchCV(make_pipeline(StandardScaler(), classifier()), grid, cv=2).fit(X, Y)
    assert search.best_params_["gadamclassifier__steps"] == 40
    rows = np.where(X > 0, X, 0)
    for kind in (sparse.csr_matrix, sparse.coo_array):
        assert (classifier().fit(kind(rows), Y).predict(kind(rows)) == classifier().fit(rows, Y).predict(rows)).all()


def test_regression_is_as_good_as_least_squares_in_the_units_and_the_shape_of_y():
    inputs, y = make_regression(200, 5, n_targets=2, noise=5, random_state=1)
    y = 1e3 + 50 * y
    both = regressor(steps=300, generations=2, learning_rate=1e-2).fit(inputs, y)
    assert both.predict(inputs).shape == (200, 2)
    assert both.score(inputs, y) > LinearRegression().fit(inputs, y).score(inputs, y) - 0.03
    one = regressor().fit(inputs, y[:, 0])
    assert one.predict(inputs).shape == (200,)
    np.testing.assert_allclose(one.model_(torch.tensor(inputs).float())[:, 0], one.predict(inputs), rtol=1e-5)
    far = regressor().fit(inputs, y[:, 0] + 1e9)
    np.testing.assert_allclose(far.predict(inputs) - 1e9, one.predict(inputs), atol=1, err_msg="what varies is kept")
    np.testing.assert_allclose(regressor().fit(inputs, np.full(200, 7.0)).predict(inputs), 7, atol=1)


# --- weights: that whole ones repeat rows is among scikit-learn's checks ---


def test_a_factor_of_all_whole_weights_is_no_weight_and_the_mean_of_others_is_1():
    expected = classifier(validation_fraction=0.25).fit(X, Y).predict_proba(X)
    assert (classifier(validation_fraction=0.25).fit(X, Y, np.full(len(X), 700)).predict_proba(X) == expected).all()
    for weights in (0.5 + np.arange(len(X)) % 2, 100.0 * (1 + np.arange(len(X)) % 2)):
        first, second = (classifier().fit(X, Y, scale * weights) for scale in (1.0, 0.37))
        np.testing.assert_allclose(first.predict_proba(X), second.predict_proba(X), atol=1e-2)


def test_the_weighted_loss_is_the_weighted_mean():
    output, classes = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 2, 1, 1, 0])
    weights = torch.tensor([0.5, 1.5, 2.0, 0.0, 1.0])
    targets = torch.column_stack([classes.float(), weights])
    each = torch.stack([nn.functional.cross_entropy(a, b) for a, b in zip(output, classes, strict=True)])
    torch.testing.assert_close(weighted(nn.functional.cross_entropy, output, targets), (each * weights).mean())
    numbers = torch.column_stack([output + torch.arange(5)[:, None], weights])
    expected = (torch.arange(5) ** 2 * weights).mean()
    torch.testing.assert_close(weighted(nn.functional.mse_loss, output, numbers), expected)


@pytest.mark.parametrize(
    ("make", "weight", "sample_weight"),
    [
        (classifier, None, [1.1, 9.9]), (regressor, None, [1.1, 9.9]), (classifier, "balanced", None),
        (classifier, {1: 9}, None), (classifier, {1: 3}, [1, 3]),
    ],
)  # fmt: skip
def test_weights_move_predictions_to_where_they_lie(make, weight, sample_weight):
    inputs, y = np.zeros((100, 1)), (np.arange(100) % 10 == 0).astype(int)
    made = make(steps=200) if weight is None else make(steps=200, class_weight=weight)
    fitted = made.fit(inputs, y, None if sample_weight is None else np.take(sample_weight, y))
    said = fitted.predict(inputs[:1]) if make is regressor else fitted.predict_proba(inputs[:1])[:, 1]
    assert said == pytest.approx(0.5, abs=0.08)


def test_class_weights_are_factors_of_the_loss_and_repeat_no_row():
    expected = classifier().fit(X, Y).predict_proba(X)
    assert (classifier(class_weight={0: 2, 1: 2, 2: 2}).fit(X, Y).predict_proba(X) == expected).all()
    left_out = classifier(class_weight={2: 0}).fit(X, Y).predict_proba(X)
    assert (classifier().fit(X, Y, Y != 2).predict_proba(X) == left_out).all()
    with pytest.raises(TypeError, match="positional"):
        GADAMClassifier((100,), "balanced")


# --- rows held out ---


def test_held_out_rows_have_every_class_in_its_share():
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    table = Rows.weigh(np.arange(100)[:, None], labels, None)
    (train, held), (_, other) = (table.hold_out(0.2, np.random.RandomState(seed)) for seed in (0, 1))
    assert np.bincount(table.targets[held]).tolist() == [12, 6, 2]
    assert sorted([*train, *held]) == list(range(100))
    assert other.tolist() != held.tolist()
    few = Rows.weigh(np.arange(5)[:, None], labels[:5], None)
    assert [len(few.hold_out(share, np.random.RandomState(0))[1]) for share in (0.001, 0.999)] == [1, 4]
    with pytest.raises(InputError, match=r"^validation_fraction=0.1 .* give None$"):
        classifier(validation_fraction=0.1).fit(X[:1], Y[:1])


@pytest.mark.parametrize("weights", [None, np.full(60, 5.0), 1 + np.arange(60) % 3])
def test_units_are_judged_by_rows_of_which_no_copy_trained_them(weights):
    """Nothing can be learned here but the training rows by heart."""
    fitted = classifier(steps=300, validation_fraction=0.3).fit(NOISE, COINS, weights)
    assert fitted.history_["loss_survival"].min() > 0.5
    if weights is None:
        assert classifier(steps=300).fit(NOISE, COINS).history_["loss_survival"].min() < 0.1


def test_a_soup_is_not_mixed_by_rows_that_trained_it(monkeypatch):
    seen = []

    def keep(population, data, loss):
        seen.append(data[0])
        return population.unit(0), (0,)

    monkeypatch.setattr(estimators, "greedy_soup", keep)
    soups = [classifier(predict_with="soup", validation_fraction=share).fit(X, Y) for share in (None, 0.2)]
    assert len(seen[0]) == 24, "of 120 rows, a share of 0.2"
    assert torch.equal(*seen)
    pd.testing.assert_series_equal(*[fitted.history_["loss_survival"] for fitted in soups])


# --- what evolves and what predicts ---


def wide(features, outputs, *, hidden=7):
    return nn.Sequential(nn.Linear(features, hidden), nn.Tanh(), nn.Linear(hidden, outputs))


def test_any_module_evolves():
    fitted = classifier(make_model=functools.partial(wide, hidden=9), steps=60).fit(X, NAMES)
    assert fitted.result_.best[0].weight.shape == (9, 6)
    assert fitted.score(X, NAMES) > 0.7
    made = [classifier(**each).fit(X, Y) for each in ({"make_model": nn.Linear}, {"hidden_layer_sizes": 5})]
    assert [len(list(fitted.result_.best.parameters())) for fitted in made] == [2, 4]


@BOTH
def test_predicts_with_the_best_unit_their_ensemble_or_their_soup(make):
    fitted = make(predict_with="soup", population_size=3).fit(X, Y)
    soup = fitted.predict(X)
    with torch.no_grad():
        outputs = torch.stack([unit(torch.tensor(X).float()) for unit in fitted.result_.population.to("cpu").units()])
    for choice, expected in (
        ("ensemble", outputs.mean(0) if make is regressor else outputs.softmax(2).mean(0)),
        ("best", outputs[0] if make is regressor else outputs[0].softmax(1)),
    ):
        fitted.set_params(predict_with=choice)
        if make is regressor:
            np.testing.assert_allclose((fitted.predict(X) - Y.mean()) / Y.std(), expected[:, 0], atol=1e-5)
        else:
            np.testing.assert_allclose(fitted.predict_proba(X), expected, atol=1e-5)
        assert (fitted.predict(X[:7]) == fitted.predict(X)[:7]).all(), "whatever is asked beside a row"
    assert (copy.deepcopy(fitted).set_params(predict_with="soup").predict(X) == soup).all()
    with pytest.raises(InputError, match=r"^predict_with='soup' must be given before fit, which has the rows"):
        make().fit(X, Y).set_params(predict_with="soup").predict(X)
    with pytest.raises(InputError, match=r"^predict_with='worst' is not a choice; there are best, ensemble, soup$"):
        fitted.set_params(predict_with="worst").predict(X)


@BOTH
def test_a_warm_start_begins_with_the_fittest_of_the_last_fit_and_fresh_units_beyond(make):
    fitted = make(warm_start=True, population_size=3).fit(X, Y)  # all rows are in each validation batch
    ends = np.sort(fitted.history_.query("survived")["loss_survival"])

    def starts(**changed):
        again = copy.deepcopy(fitted).set_params(**changed).fit(X, Y)
        return np.sort(again.history_.query("role == 'parent'")["loss_start"])

    np.testing.assert_allclose(starts(), ends, rtol=1e-4)
    np.testing.assert_allclose(starts(population_size=5)[:3], ends, rtol=1e-4)
    assert starts(population_size=5)[3] > 1.2 * ends.max()
    np.testing.assert_allclose(starts(population_size=2), ends[:2], rtol=1e-4)
    assert starts(warm_start=False).min() > ends.max()
    with pytest.raises(InputError, match=r"^warm_start=True: X and y have 4 features .* must have 6 features "):
        fitted.fit(X[:, :4], Y)
    with pytest.raises(InputError, match=r"^warm_start=True: .* other parameters than hidden_layer_sizes "):
        fitted.set_params(hidden_layer_sizes=(7,)).fit(X, Y)


def test_the_seed_gives_the_result_whatever_the_threads():
    said = [classifier(population_size=5, executor=threads).fit(X, Y).predict_proba(X) for threads in (1, 3)]
    assert (said[0] == said[1]).all()
    state = np.random.RandomState(0)
    first, second = (classifier(random_state=state).fit(X, Y).predict_proba(X) for _ in range(2))
    assert (first != second).any()
    assert (first == classifier(random_state=np.random.RandomState(0)).fit(X, Y).predict_proba(X)).all()


def test_steps_are_twenty_passes_over_the_rows_unless_given():
    for rows, size, steps in ((120, 4, 600), (120, 128, 100), (10**6, 128, 2_000)):
        assert classifier(steps="auto", batch_size=size)._config(rows, 0).steps == steps


# --- mistakes ---


@pytest.mark.parametrize(
    ("changed", "parts"),
    [
        ({"validation_fraction": "0.1"}, ["validation_fraction='0.1'", "[0, 1)"]),
        ({"predict_with": "soup", "validation_fraction": 0}, ["validation_fraction=0", "give a number in (0, 1)"]),
        ({"hidden_layer_sizes": (10, 0)}, ["hidden_layer_sizes=(10, 0)", "at least 1"]),
        ({"steps": "auto", "batch_size": 0}, ["batch_size=0", "at least 1"]),
        ({"make_model": nn.Linear(6, 3)}, ["make_model: is a Linear", "returns a new module at each call"]),
        ({"make_model": lambda: nn.Linear(6, 3)}, ["make_model: <lambda> must be a function of (features, outputs)"]),
        ({"make_model": lambda features, outputs: nn.Linear(features, outputs + 2)}, ["[2, 5]", "must give [2, 3]"]),
        ({"class_weight": {"zz": 5}}, ["class_weight={'zz': 5}", "'balanced', a mapping", "'zz' is no label of y"]),
        ({"class_weight": {0: -1}}, ["class_weight={0: -1}", "at least 0"]),
        ({"callbacks": [3]}, ["callbacks: 3", "gadam.Callback"]),
    ],
)
def test_a_bad_parameter_is_told_in_one_line_by_fit(changed, parts):
    with pytest.raises(InputError) as info:
        classifier(**changed).fit(X, Y)
    message = str(info.value).replace('"', "'")
    assert "\n" not in message
    assert all(part in message for part in parts), message
