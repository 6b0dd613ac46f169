"""The scikit-learn face: what scikit-learn asks of an estimator, weights, labels, parameters, and mistakes in them."""

import copy
import functools
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_iris, make_classification, make_regression
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from gadam import Callback, InputError
from gadam.estimators import GADAMClassifier, GADAMRegressor
from gadam.estimators.weighting import split, weighted

TINY = {"population_size": 2, "generations": 1, "steps": 20, "learning_rate": 3e-2, "executor": 1, "random_state": 0}
X, Y = make_classification(120, 6, n_informative=4, n_classes=3, random_state=0)
X = StandardScaler().fit_transform(X)
NAMES = np.array(["cat", "dog", "eel"])[Y]


def classifier(**changed):
    return GADAMClassifier(**TINY | changed)


def regressor(**changed):
    return GADAMRegressor(**TINY | changed)


@parametrize_with_checks([classifier(), regressor()])
def test_is_an_estimator_to_scikit_learn(estimator, check):
    check(estimator)


# --- labels, tables, pipelines ---


def test_learns_string_labels_from_a_data_frame():
    frame = pd.DataFrame(X, columns=list("abcdef"))
    fitted = classifier(steps=100).fit(frame, pd.Series(NAMES))
    assert fitted.classes_.tolist() == ["cat", "dog", "eel"]
    assert fitted.feature_names_in_.tolist() == list("abcdef")
    assert fitted.score(frame, NAMES) > 0.8
    probabilities = fitted.predict_proba(frame)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    assert (fitted.predict(frame) == fitted.classes_[probabilities.argmax(1)]).all()
    np.testing.assert_allclose(np.exp(fitted.predict_log_proba(frame)), probabilities, rtol=1e-5)
    with pytest.raises(ValueError, match="feature names"):
        fitted.predict(frame.rename(columns={"a": "z"}))


def test_works_in_a_pipeline_a_grid_search_and_a_cross_validation():
    inputs, labels = load_iris(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), classifier(steps=40))
    assert cross_val_score(pipeline, inputs, labels, cv=3).min() > 0.8
    # Numbers of an array are no Python numbers.
    grid = {"gadamclassifier__steps": np.array([1, 40]), "gadamclassifier__learning_rate": np.logspace(-2, -1, 1)}
    search = GridSearchCV(pipeline, grid, cv=2).fit(inputs, labels)
    assert search.best_params_["gadamclassifier__steps"] == 40
    assert search.best_estimator_[-1].result_.config.steps == 40


def test_regression_answers_in_the_units_and_the_shape_of_y():
    inputs, y = make_regression(200, 4, n_targets=2, noise=1, random_state=0)
    y = 1e3 + 50 * y
    both = regressor(steps=150).fit(inputs, y)
    assert both.predict(inputs).shape == (200, 2)
    assert both.score(inputs, y) > 0.9
    one = regressor(steps=150).fit(inputs, y[:, 0])
    assert one.predict(inputs).shape == (200,)
    assert one.score(inputs, y[:, 0]) > 0.9
    with torch.no_grad():
        np.testing.assert_allclose(one.model_(torch.tensor(inputs).float())[:, 0], one.predict(inputs), rtol=1e-5)
    constant = regressor().fit(inputs, np.full(200, 7.0))
    np.testing.assert_allclose(constant.predict(inputs), 7, atol=1)


def test_targets_far_from_zero_keep_what_varies():
    y = X[:, :3] @ [1, 2, 3] + 1e9
    fitted = regressor(steps=300).fit(X, y)
    assert fitted.score(X, y) > 0.9
    near = regressor(steps=300).fit(X, y - 1e9)
    np.testing.assert_allclose(fitted.predict(X) - 1e9, near.predict(X), atol=1e-2)


@pytest.mark.parametrize("make", [classifier, regressor])
@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.coo_array])
def test_sparse_rows_are_the_same_rows(make, kind):
    rows = np.where(X > 0, X, 0)
    fitted = make().fit(kind(rows), Y)
    assert (fitted.predict(kind(rows)) == make().fit(rows, Y).predict(rows)).all()


def test_learns_behind_a_one_hot_encoder():
    pipeline = make_pipeline(OneHotEncoder(), classifier(steps=60)).fit(NAMES[:, None], NAMES)
    assert pipeline.score(NAMES[:, None], NAMES) == 1


# --- weights ---


def test_a_whole_weight_repeats_a_row_to_the_last_bit():
    weights = np.arange(len(X)) % 3
    repeated = classifier().fit(X.repeat(weights, axis=0), Y.repeat(weights)).predict_proba(X)
    shuffled = np.random.default_rng(0).permutation(len(X))
    weighted = classifier().fit(X[shuffled], Y[shuffled], weights[shuffled]).predict_proba(X)
    assert (weighted == repeated).all()
    assert (classifier().fit(X, Y).predict_proba(X) != repeated).any()


@pytest.mark.parametrize("weights", [0.5 + np.arange(len(X)) % 2, 100 * (1 + np.arange(len(X)) % 2)])
def test_other_weights_travel_with_the_targets(weights):
    told = []

    class Watch(Callback):
        def on_end(self, result):
            told.append(result.history["loss_survival"].to_numpy())

    first, second = (classifier(callbacks=[Watch()]).fit(X, Y, scale * weights) for scale in (1.0, 0.37))
    np.testing.assert_allclose(told[0], told[1], rtol=1e-3, err_msg="their mean is taken to be 1")
    np.testing.assert_allclose(first.predict_proba(X), second.predict_proba(X), atol=1e-2)


@pytest.mark.parametrize("weights", [np.full(60, 5.0), 1 + np.arange(60) % 3])
def test_no_copy_of_a_row_that_is_held_out_is_trained_on(weights):
    random = np.random.default_rng(0)
    noise, labels = random.normal(size=(60, 20)), random.integers(0, 2, 60)
    fitted = classifier(steps=300, validation_fraction=0.3).fit(noise, labels, weights)
    assert fitted.history_["loss_survival"].min() > 0.5, "nothing can be learned here but the training rows by heart"


def test_a_factor_of_all_whole_weights_is_no_weight():
    expected = classifier(validation_fraction=0.25).fit(X, Y).predict_proba(X)
    assert (classifier(validation_fraction=0.25).fit(X, Y, np.full(len(X), 700)).predict_proba(X) == expected).all()


def test_the_weighted_loss_is_the_weighted_mean():
    output, classes = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 2, 1, 1, 0])
    weights = torch.tensor([0.5, 1.5, 2.0, 0.0, 1.0])
    targets = torch.column_stack([classes.float(), weights])
    each = torch.stack([nn.functional.cross_entropy(a, b) for a, b in zip(output, classes, strict=True)])
    torch.testing.assert_close(weighted(nn.functional.cross_entropy, output, targets), (each * weights).mean())
    numbers = torch.column_stack([output + torch.arange(5)[:, None], weights])
    expected = (torch.arange(5) ** 2 * weights).mean()
    torch.testing.assert_close(weighted(nn.functional.mse_loss, output, numbers), expected)


def test_weights_move_predictions_to_where_they_lie():
    inputs, y = np.zeros((100, 1)), np.r_[np.zeros(50), np.ones(50)]
    weights = np.where(y == 1, 3.3, 1.1)
    assert regressor(steps=200).fit(inputs, y, weights).predict(inputs[:1]) == pytest.approx(0.75, abs=0.05)
    fitted = classifier(steps=200).fit(inputs, y, weights)
    assert fitted.predict_proba(inputs[:1])[0, 1] == pytest.approx(0.75, abs=0.05)


def test_class_weight_multiplies_the_weights_of_rows():
    rare = np.where(np.arange(len(X)) % 10 == 0, "rare", "often")
    noise = np.zeros_like(X)
    assert classifier(steps=200).fit(noise, rare).predict_proba(noise[:1])[0, 1] == pytest.approx(0.1, abs=0.05)
    for weight, sample_weight in (
        ("balanced", None),
        ({"rare": 9}, None),
        ({"rare": 3}, np.where(rare == "rare", 3, 1)),
    ):
        fitted = classifier(steps=200, class_weight=weight).fit(noise, rare, sample_weight)
        assert fitted.predict_proba(noise[:1])[0, 1] == pytest.approx(0.5, abs=0.08), weight


def test_class_weights_are_factors_of_the_loss_and_repeat_no_row():
    alike = [
        classifier(class_weight=weight).fit(X, Y) for weight in (None, {0: 2, 1: 2, 2: 2}, {0: 0.3, 1: 0.3, 2: 0.3})
    ]
    for fitted in alike[1:]:
        assert (fitted.predict_proba(X) == alike[0].predict_proba(X)).all()
    left_out = classifier(class_weight={2: 0}).fit(X, Y).predict_proba(X)
    assert (classifier().fit(X, Y, Y != 2).predict_proba(X) == left_out).all()
    with pytest.raises(TypeError, match="positional"):
        GADAMClassifier((100,), "balanced")


# --- what evolves and what predicts ---


def wide(features, outputs, *, hidden=7):
    return nn.Sequential(nn.Linear(features, hidden), nn.Tanh(), nn.Linear(hidden, outputs))


def test_any_module_evolves():
    fitted = classifier(make_model=functools.partial(wide, hidden=9), steps=60).fit(X, NAMES)
    assert fitted.result_.best[0].weight.shape == (9, 6)
    assert fitted.score(X, NAMES) > 0.7
    sizes = (
        classifier(hidden_layer_sizes=5).fit(X, Y).result_.best,
        classifier(hidden_layer_sizes=()).fit(X, Y).result_.best,
    )
    assert [len(list(model.parameters())) for model in sizes] == [4, 2]


def test_predicts_with_the_best_unit_their_ensemble_or_their_soup():
    said = {}
    for choice in ("best", "ensemble", "soup"):
        fitted = classifier(predict_with=choice, validation_fraction=0.25, population_size=3).fit(X, Y)
        said[choice] = fitted.predict_proba(X)
    inputs = torch.tensor(X).float()
    with torch.no_grad():
        best = fitted.result_.best(inputs).softmax(1)
        ensemble = torch.stack([unit(inputs).softmax(1) for unit in fitted.result_.population.to("cpu").units()]).mean(
            0
        )
    np.testing.assert_allclose(said["best"], best, atol=1e-5)
    np.testing.assert_allclose(said["ensemble"], ensemble, atol=1e-5)
    np.testing.assert_allclose(said["soup"].sum(1), 1, rtol=1e-5)
    assert np.abs(said["best"] - said["ensemble"]).max() > 1e-4


@pytest.mark.parametrize("make", [classifier, regressor])
def test_what_is_predicted_with_can_be_changed_after_the_fit(make):
    fitted = make(predict_with="soup", validation_fraction=0.25).fit(X, Y)
    for choice in ("ensemble", "best", "soup"):
        again = make(predict_with=choice, validation_fraction=0.25).fit(X, Y)
        assert (fitted.set_params(predict_with=choice).predict(X) == again.predict(X)).all()
        assert (copy.deepcopy(fitted).predict(X) == again.predict(X)).all()
    with pytest.raises(InputError, match=r"^predict_with='soup' must be given before fit, which has the rows"):
        make(predict_with="best").fit(X, Y).set_params(predict_with="soup").predict(X)
    with pytest.raises(InputError, match=r"^predict_with='worst' is not a choice; there are best, ensemble, soup$"):
        fitted.set_params(predict_with="worst").predict(X)


def test_a_soup_is_not_mixed_by_rows_that_trained_it(monkeypatch):
    seen = []

    def keep(population, data, loss):
        seen.append(data[0])
        return population.unit(0)

    monkeypatch.setattr("gadam.estimators.estimators.soup", keep)
    soups = [classifier(predict_with="soup", validation_fraction=share).fit(X, Y) for share in (None, 0.2)]
    assert len(seen[0]) == 24, "of 120 rows, a share of 0.2"
    assert torch.equal(*seen)
    pd.testing.assert_series_equal(*[fitted.history_["loss_survival"] for fitted in soups])


def test_held_out_rows_have_every_class_in_its_share():
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    train, held = split(labels, 0.2, np.random.RandomState(0))
    assert np.bincount(labels[held]).tolist() == [12, 6, 2]
    assert sorted([*train, *held]) == list(range(100))
    assert split(labels, 0.2, np.random.RandomState(1))[1].tolist() != held.tolist()
    assert split(labels, None, np.random.RandomState(0))[1] is None
    for fraction in (0.001, 0.999):
        train, held = split(labels[:5], fraction, np.random.RandomState(0))
        assert len(train) + len(held) == 5
        assert min(len(train), len(held)) == 1


def test_fitness_is_judged_on_the_rows_held_out():
    random = np.random.default_rng(0)
    noise, labels = random.normal(size=(60, 20)), random.integers(0, 2, 60)
    losses = {
        fraction: classifier(steps=300, validation_fraction=fraction).fit(noise, labels).history_["loss_survival"].min()
        for fraction in (None, 0.3)
    }
    assert losses[None] < 0.1 < 0.5 < losses[0.3], "nothing can be learned here but the training rows by heart"


@pytest.mark.parametrize("make", [classifier, regressor])
def test_a_warm_start_begins_where_the_last_fit_ended(make):
    starts, ends = {}, {}
    for warm in (True, False):
        fitted = make(warm_start=warm, population_size=3).fit(X, Y)  # all rows are in each validation batch
        ends[warm] = np.sort(fitted.history_.query("survived")["loss_survival"])
        history = fitted.fit(X, Y).history_.query("role == 'parent'")
        starts[warm] = np.sort(history["loss_start"])
    np.testing.assert_allclose(starts[True], ends[True], rtol=1e-4)
    assert starts[False].min() > ends[False].max()
    cold = make(population_size=3).fit(X, Y)
    np.testing.assert_allclose(np.sort(cold.history_.query("role == 'parent'")["loss_start"]), starts[False], rtol=1e-6)


def test_a_warm_start_takes_the_fittest_first_and_fresh_units_beyond():
    fitted = classifier(warm_start=True, population_size=3).fit(X, Y)
    ends = np.sort(fitted.history_.query("survived")["loss_survival"])
    grown = copy.deepcopy(fitted).set_params(population_size=5).fit(X, Y).history_.query("role == 'parent'")
    np.testing.assert_allclose(np.sort(grown["loss_start"])[:3], ends, rtol=1e-4)
    assert grown["loss_start"].nlargest(2).min() > 0.8
    fewer = fitted.set_params(population_size=2).fit(X, Y).history_.query("role == 'parent'")
    np.testing.assert_allclose(np.sort(fewer["loss_start"]), ends[:2], rtol=1e-4)


def test_a_warm_start_of_another_kind_is_told_in_one_line():
    fitted = classifier(warm_start=True).fit(X, Y)
    message = (
        "warm_start=True: X and y have 4 features and 3 outputs, must have 6 features and 3 outputs as in the last fit"
    )
    with pytest.raises(InputError, match=f"^{message}$"):
        copy.deepcopy(fitted).fit(X[:, :4], Y)
    with pytest.raises(InputError, match="have 6 features and 2 outputs, must have 6 features and 3 outputs"):
        copy.deepcopy(fitted).fit(X, Y > 0)
    with pytest.raises(InputError, match=r"^warm_start=True: the units of the last fit have other parameters than hid"):
        fitted.set_params(hidden_layer_sizes=(7,)).fit(X, Y)


# --- randomness, copies ---


def test_the_seed_gives_the_result_whatever_the_threads():
    said = [classifier(population_size=5, executor=threads).fit(X, Y).predict_proba(X) for threads in (1, 3)]
    assert (said[0] == said[1]).all()
    state = np.random.RandomState(0)
    first, second = (classifier(random_state=state).fit(X, Y).predict_proba(X) for _ in range(2))
    assert (first != second).any()
    assert (first == classifier(random_state=np.random.RandomState(0)).fit(X, Y).predict_proba(X)).all()


@pytest.mark.parametrize("make", [classifier, regressor])
@pytest.mark.parametrize("again", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))], ids=["copy", "pickle"])
def test_a_copy_predicts_the_same(make, again):
    fitted = make().fit(X, Y)
    assert (again(fitted).predict(X) == fitted.predict(X)).all()
    pd.testing.assert_frame_equal(again(fitted).history_, fitted.history_)


def test_a_clone_has_the_parameters_and_nothing_learned():
    fitted = classifier(settings={"optimizer": "sgd"}, hidden_layer_sizes=[4]).fit(X, Y)
    cloned = clone(fitted)
    assert cloned.get_params() == fitted.get_params()
    assert not hasattr(cloned, "result_")
    assert fitted.result_.config.optimizer == "sgd"
    assert "settings={'optimizer': 'sgd'}" in repr(cloned)


def test_steps_are_passes_over_the_rows_unless_given():
    # 20 passes over 120 rows in batches of 4 are 600 steps; never fewer than 100.
    assert [classifier(steps="auto", batch_size=size)._config(120, 0).steps for size in (4, 128)] == [600, 100]
    assert classifier(steps="auto")._config(10**6, 0).steps == 2_000


# --- mistakes ---


def small(features, outputs, *, hidden):
    return nn.Linear(features, hidden)


class Unusable(nn.Linear):
    def __init__(self):
        super().__init__(6, 3)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"predict_with": "worst"}, "predict_with='worst' is not a choice; there are best, ensemble, soup"),
        ({"validation_fraction": 1.0}, "validation_fraction=1.0 is not allowed; give a number in [0, 1), or None"),
        ({"validation_fraction": "0.1"}, "validation_fraction='0.1' is not allowed; give a number in [0, 1), or None"),
        ({"hidden_layer_sizes": (10, 0)}, "hidden_layer_sizes=(10, 0) must be whole numbers of at least 1"),
        ({"hidden_layer_sizes": 2.5}, "hidden_layer_sizes=2.5 must be whole numbers of at least 1"),
        ({"population_size": 1}, "config: population_size=1 leaves nothing to select from"),
        ({"steps": "some"}, "GadamConfig: steps='some' is not allowed: it should be a whole number"),
        ({"steps": "auto", "batch_size": 0}, "GadamConfig: batch_size=0 is not allowed: it should be"),
        ({"settings": {"seed": 3}}, "settings: seed is a parameter of its own (seed: as random_state)"),
        ({"settings": {"speed": 3}}, "GadamConfig: speed is not a setting; there are population_size"),
        ({"settings": [1]}, "settings=[1] must be a mapping of names of GadamConfig, or None"),
        ({"make_model": 3}, "make_model=3 must be a function of features and outputs, or None"),
        (
            {"make_model": nn.Linear(6, 3)},
            "make_model: is a Linear, must be a function of (features, outputs) that returns a new module at each call",
        ),
        ({"make_model": lambda: nn.Linear(6, 3)}, "make_model: <lambda> must be a function of (features, outputs): "),
        ({"make_model": Unusable}, "make_model: Unusable must be a function of (features, outputs): too many"),
        (
            {"make_model": lambda features, outputs: nn.Linear(features, outputs + 2)},
            "make_model: <lambda>(6, 3) gives [2, 5] for 2 rows of 6 features, must give [2, 3]",
        ),
        (
            {"make_model": functools.partial(small, hidden=2)},
            "make_model: small(6, 3) gives [2, 2] for 2 rows of 6 features, must give [2, 3]",
        ),
        ({"predict_with": "soup", "validation_fraction": 0}, "validation_fraction=0 leaves predict_with='soup' no"),
        ({"class_weight": {"zz": 5}}, "class_weight={'zz': 5} must be 'balanced', a mapping of labels to numbers"),
        ({"callbacks": [3]}, "callbacks: 3 is no gadam.Callback"),
        ({"class_weight": "foo"}, "class_weight='foo' must be 'balanced', a mapping of labels to numbers, or None"),
        ({"class_weight": {0: -1}}, "class_weight={0: -1} must hold numbers of at least 0"),
        ({"class_weight": {0: "x"}}, "class_weight={0: 'x'} must be 'balanced', a mapping of labels to numbers, or N"),
        ({"executor": 0}, "executor=0 must be at least 1 thread"),
        ({"device": "abacus"}, "device='abacus' cannot be used"),
    ],
)  # fmt: skip
def test_a_bad_parameter_is_told_in_one_line_by_fit(changed, message):
    estimator = classifier(**changed)
    with pytest.raises(InputError) as info:
        estimator.fit(X, Y)
    assert str(info.value).replace('"', "'").startswith(message)
    assert "\n" not in str(info.value)


def test_a_class_weight_of_no_label_is_named():
    with pytest.raises(InputError, match=r"or None: 'zz' is no label of y$"):
        classifier(class_weight={"cat": 2, "zz": 5}).fit(X, NAMES)


def test_bad_rows_are_told_in_one_line():
    with pytest.raises(ValueError, match="zero"):
        classifier().fit(X, Y, np.zeros(len(X)))
    with pytest.raises(InputError, match=r"^sample_weight, class_weight: every row weighs 0, at least one must"):
        classifier(class_weight={0: 0}).fit(X, Y, Y == 0)
    with pytest.raises(InputError, match=r"n_samples=1, give None$"):
        classifier(validation_fraction=0.1).fit(X[:1], Y[:1])
    with pytest.raises(ValueError, match="Unknown label type"):
        classifier().fit(X, X[:, 0])


def test_a_linear_truth_is_learned_as_well_as_by_least_squares():
    inputs, y = make_regression(300, 5, noise=5, random_state=1)
    ours = (
        regressor(steps=300, generations=2, learning_rate=1e-2).fit(inputs[:200], y[:200]).score(inputs[200:], y[200:])
    )
    assert ours > LinearRegression().fit(inputs[:200], y[:200]).score(inputs[200:], y[200:]) - 0.03
