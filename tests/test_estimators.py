"""The scikit-learn face: scikit-learn's own checks, and those of weights, held-out rows, warm starts and parameters."""

import copy
import functools
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.datasets import make_classification, make_regression
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from gadam import Callback, InputError
from gadam.ensembles import greedy_soup
from gadam.estimators import GADAMClassifier, GADAMRegressor
from gadam.estimators.rows import WeightedRows

TINY = {"population_size": 2, "generations": 1, "steps": 20, "learning_rate": 3e-2, "executor": 1, "random_state": 0}
X, Y = make_classification(120, 6, n_informative=4, n_classes=3, random_state=0)
X = StandardScaler().fit_transform(X)
NAMES = np.array(["cat", "dog", "eel"])[Y]


def classifier(**changed):
    return GADAMClassifier(**TINY | changed)


def regressor(**changed):
    return GADAMRegressor(**TINY | changed)


BOTH = pytest.mark.parametrize("make", [classifier, regressor])


# Of the two ways to predict each has one: the best unit needs no tracing.
@parametrize_with_checks([classifier(predict_with="best"), regressor()])
def test_is_an_estimator_to_scikit_learn(estimator, check):
    check(estimator)


def test_works_in_a_pipeline_and_a_grid_search_with_sparse_rows():
    one_hot = make_pipeline(OneHotEncoder(), classifier(steps=60)).fit(NAMES[:, None], NAMES)  # a sparse matrix
    assert one_hot.score(NAMES[:, None], NAMES) == 1
    # Numbers of an array are no Python numbers.
    grid = {"gadamclassifier__steps": np.array([1, 40]), "gadamclassifier__learning_rate": np.logspace(-2, -1, 1)}
    search = GridSearchCV(make_pipeline(StandardScaler(), classifier(predict_with="best")), grid, cv=2).fit(X, Y)
    assert search.best_params_["gadamclassifier__steps"] == 40


@BOTH
def test_after_a_further_fit_predictions_are_those_of_the_last(make):
    one = make().fit(X, Y)
    one.predict(X)
    np.testing.assert_array_equal(one.fit(X, 2 - Y).predict(X), make().fit(X, 2 - Y).predict(X))


def test_regression_is_as_good_as_least_squares_in_the_units_and_the_shape_of_y():
    inputs, y = make_regression(100, 5, n_targets=2, noise=5, random_state=1)
    y = 1e3 + 50 * y
    both = regressor(steps=300, learning_rate=1e-2).fit(inputs, y)
    assert both.predict(inputs).shape == (100, 2)
    assert both.score(inputs, y) > LinearRegression().fit(inputs, y).score(inputs, y) - 0.03
    one = regressor().fit(inputs, y[:, 0])
    assert one.predict(inputs).shape == (100,)
    np.testing.assert_allclose(one.model_(torch.tensor(inputs).float())[:, 0], one.predict(inputs), rtol=1e-5)
    far = regressor().fit(inputs, y[:, 0] + 1e9)
    np.testing.assert_allclose(far.predict(inputs) - 1e9, one.predict(inputs), atol=1, err_msg="what varies is kept")
    np.testing.assert_allclose(regressor().fit(inputs, np.full(100, 7.0)).predict(inputs), 7, atol=1)


# --- weights: that whole ones repeat rows is among scikit-learn's checks ---


def test_a_factor_of_all_whole_weights_is_no_weight():
    expected = classifier(validation_fraction=0.25).fit(X, Y).predict_proba(X)
    assert (classifier(validation_fraction=0.25).fit(X, Y, np.full(len(X), 700)).predict_proba(X) == expected).all()
    ten = np.where(np.arange(len(X)) == 0, 9 * len(X), 1)  # so many that rows are weighed; with others, of weight 0
    twice = classifier().fit(np.tile(X, (2, 1)), np.tile(Y, 2), np.append(ten, 0 * ten)).predict_proba(X)
    assert (twice == classifier().fit(X, Y, ten).predict_proba(X)).all()
    with pytest.raises(ValueError, match=r"[Nn]egative"):
        classifier().fit(X, Y, np.where(Y == 2, -0.5, 1))


@BOTH
def test_losses_are_weighted_means(make):
    """Each validation batch holds all rows, so the loss of the fittest can be computed from what it predicts."""
    weights = np.random.default_rng(0).uniform(0.1, 3, len(X)) * (1 + 5 * (Y == 2))
    y = Y if make is classifier else np.column_stack([Y, X[:, 0] ** 2])
    fitted = make(predict_with="best").fit(X, y, weights)
    if make is classifier:
        each = -np.log(fitted.predict_proba(X)[np.arange(len(X)), Y])
    else:
        mean = np.average(y, axis=0, weights=weights)
        variance = np.average((y - mean) ** 2, axis=0, weights=weights)
        each = ((fitted.predict(X) - y) ** 2 / variance).mean(1)
    expected = np.average(each, weights=weights)
    assert fitted.history_.query("survived")["loss_survival"].min() == pytest.approx(expected, rel=1e-4)
    assert fitted.result_.targets == ("classes" if make is classifier else "values")


def constant(features, outputs, *, value):
    layer = nn.Linear(features, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.constant_(layer.bias, value)
    return layer


def test_targets_are_standardised_by_their_weighted_mean_and_deviation():
    y, weights = np.column_stack([Y, X[:, 0]]), np.linspace(0.3, 4, len(X))
    mean = np.average(y, axis=0, weights=weights)
    deviation = np.average((y - mean) ** 2, axis=0, weights=weights) ** 0.5
    for value in (0, 1):
        still = regressor(
            make_model=functools.partial(constant, value=value), mutation_rate=0.0, learning_rate=1e-30, steps=1
        )
        np.testing.assert_allclose(still.fit(X, y, weights).predict(X[:1])[0], mean + value * deviation, rtol=1e-6)


def test_class_weights_are_factors_of_the_loss_and_repeat_no_row():
    expected = classifier().fit(X, Y).predict_proba(X)
    assert (classifier(class_weight={0: 2, 1: 2, 2: 2}).fit(X, Y).predict_proba(X) == expected).all()
    balanced = {label: len(Y) / (3 * count) for label, count in enumerate(np.bincount(Y))}
    said = [classifier(class_weight=each).fit(X, Y).predict_proba(X) for each in ("balanced", balanced)]
    assert (said[0] == said[1]).all()
    assert (said[0] != expected).any()
    with pytest.warns(UserWarning, match="^class_weight: 7 is no label of y"):  # as may be in a fold
        assert (classifier(class_weight={0: 2, 1: 2, 2: 2, 7: 1}).fit(X, Y).predict_proba(X) == expected).all()
    left_out = classifier(class_weight={2: 0}).fit(X, Y).predict_proba(X)
    assert (classifier().fit(X, Y, Y != 2).predict_proba(X) == left_out).all()
    weights = np.linspace(0.1, 1, len(X))
    beside = classifier(class_weight={2: 3}).fit(X, Y, weights).predict_proba(X)
    assert (classifier().fit(X, Y, weights * np.where(Y == 2, 3, 1)).predict_proba(X) == beside).all()


# --- rows held out ---


class Spy(nn.Linear):
    """Notes the first feature of the rows that train units, and of those that judge them."""

    trained, judged = Counter(), Counter()

    def forward(self, inputs):
        if self.training:
            Spy.trained.update(inputs[:, 0].tolist())
        elif len(inputs) > 4:  # fewer are looked at to see whether they fit
            Spy.judged = Counter(inputs[:, 0].tolist())
        return super().forward(inputs)


def spied(y, weights=None, **changed):
    """The numbers of the rows that trained, and of those that judged last, with how often they were in a batch."""
    Spy.trained, Spy.judged = Counter(), Counter()
    rows = np.column_stack([np.arange(len(y)), np.ones(len(y))])
    made = classifier(make_model=Spy, settings={"mode": "loop"}, steps=50, validation_size=10_000, **changed)
    made.fit(rows, y, weights)
    return Spy.trained, Spy.judged


OF_SPY = pytest.mark.filterwarnings("ignore:Spy's class Spy")


@OF_SPY
@pytest.mark.parametrize(
    ("given", "weights"),
    [
        ({"validation_fraction": 0.2}, None), ({"predict_with": "soup"}, np.full(100, 5.0)),
        ({"predict_with": "soup"}, 1 + np.arange(100) % 3), ({"validation_fraction": 0.2}, 0.5 + np.arange(100) % 3),
    ],
)  # fmt: skip
def test_units_and_soups_are_judged_by_rows_of_which_no_copy_trained_them(given, weights):
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    trained, judged = spied(labels, weights, **given)
    assert not trained.keys() & judged.keys()
    assert sorted([*trained, *judged]) == list(range(100))
    assert np.bincount(labels[np.array(list(judged), int)]).tolist() == [12, 6, 2], "every class in its share"
    repeats = weights if weights is not None and weights.max() == 3 else np.ones(100)
    assert judged == {row: repeats[int(row)] for row in judged}
    if weights is None:
        assert spied(labels, **given, random_state=1)[1].keys() != judged.keys()


@pytest.mark.parametrize("given", [{"validation_fraction": 0.3}, {"predict_with": "soup"}, {"preset": "teach"}])
def test_whole_weights_repeat_rows_where_some_are_held_out_too(given):
    times = 1 + np.arange(len(X)) % 2
    weighed = classifier(**given).fit(X, Y, times)
    repeated = classifier(**given).fit(X.repeat(times, 0), Y.repeat(times))
    assert (weighed.predict_proba(X) == repeated.predict_proba(X)).all()


@pytest.mark.parametrize(
    ("rows", "copies", "share"), [(20, 19, 0.1), (20, 15, 0.1), (100, 3, 0.5), (5, 2, 0.99), (7, 4, 0.2)]
)
def test_of_rows_that_are_there_often_the_share_is_held_out_too(rows, copies, share):
    table = np.arange(rows).repeat(copies).astype(float)[:, None]
    train, held = WeightedRows.weigh(table, np.zeros(len(table), int), None).hold_out(share, np.random.RandomState(0))
    assert train.times.sum() + held.times.sum() == len(table)
    assert abs(held.times.sum() - share * len(table)) <= max(1, copies / 2)
    assert train.times.sum() > 0


@pytest.mark.parametrize("copies", [3, 50])
@pytest.mark.parametrize("given", [{"validation_fraction": 0.1}, {"predict_with": "soup"}, {"preset": "teach"}])
def test_of_few_different_rows_none_is_lost(copies, given):
    table, labels = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 1, 0])
    more = {"steps": 200, "population_size": 4} | given
    fitted = classifier(**more).fit(np.tile(table, (copies, 1)), np.tile(labels, copies))
    assert fitted.score(table, labels) == 1


@OF_SPY
def test_few_rows_are_on_both_sides_or_refused():
    assert [len(spied(Y[:10], validation_fraction=share)[1]) for share in (0.7, 0.999)] == [7, 9]
    assert spied(Y[:10])[1].keys() == set(range(10)), "units are judged by training rows unless some are held out"
    trained, judged = spied(Y, preset="teach", mutation_rate=0.5)
    assert (len(judged), trained.keys() & judged.keys()) == (12, set()), "or of the preset teach, a tenth"
    with pytest.raises(InputError, match=r"^validation_fraction=0.1 .*n_samples=1.* or validation_fraction=0 unless"):
        classifier(validation_fraction=0.1).fit(X[:1], Y[:1])


# --- what evolves and what predicts ---


@pytest.mark.filterwarnings("ignore:data. inputs are float32 and become")
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_modules_of_other_floats_predict_too(dtype):
    fitted = classifier(make_model=lambda *sizes: nn.Linear(*sizes, dtype=dtype), learning_rate=0.1).fit(X, NAMES)
    assert fitted.predict_proba(X).dtype == (np.float64 if dtype is torch.float64 else np.float32)
    assert fitted.score(X, NAMES) > 0.5


@pytest.mark.filterwarnings("ignore:data. inputs are float32 and become")
def test_weights_beside_labels_leave_these_as_they_are_in_few_bits_too():
    rows, labels = np.eye(300, dtype=np.float32).repeat(2, 0), np.arange(300).repeat(2)
    fitted = classifier(make_model=lambda *sizes: nn.Linear(*sizes, dtype=torch.bfloat16), learning_rate=1.0, steps=60)
    fitted.fit(rows, labels, np.where(np.arange(600) % 2, 1.5, 1.0))
    assert fitted.score(rows[258:], labels[258:]) > 0.9  # bfloat16 has no odd number above 256


def test_any_module_evolves_or_a_perceptron_of_the_sizes_given():
    made = [classifier(**each).fit(X, NAMES) for each in ({"make_model": nn.Linear}, {"hidden_layer_sizes": 5})]
    assert [len(list(fitted.result_.best.parameters())) for fitted in made] == [2, 4]
    assert set(made[0].predict(X)) == {"cat", "dog", "eel"}


@pytest.mark.parametrize("way", ["best", "ensemble", "soup"])
def test_a_single_class_is_certain(way):
    assert (classifier(predict_with=way).fit(X, ["cat"] * len(X)).predict_proba(X) == 1).all()


@BOTH
def test_predicts_with_the_best_unit_their_ensemble_or_their_soup(make, monkeypatch):
    def last_unit(units, *more):
        return greedy_soup(units, *more) and (units.unit(-1), ())

    monkeypatch.setattr("gadam.estimators.estimators.greedy_soup", last_unit)  # which is neither of the others
    fitted = make(predict_with="soup", population_size=3).fit(X, Y)
    soup = fitted.predict(X)
    with torch.no_grad():
        outputs = torch.stack([unit(torch.tensor(X).float()) for unit in fitted.result_.population.to("cpu").units()])
    outputs = outputs if make is regressor else outputs.softmax(2)
    vote = outputs.mean(0)
    for choice, expected in (("soup", outputs[-1]), ("ensemble", vote), ("best", outputs[0]), (None, vote)):
        fitted.set_params(predict_with=choice)
        if make is regressor:
            np.testing.assert_allclose((fitted.predict(X) - Y.mean()) / Y.std(), expected[:, 0], atol=1e-5)
        else:
            np.testing.assert_allclose(fitted.predict_proba(X), expected, atol=1e-5)
        assert (fitted.predict(X[:7]) == fitted.predict(X)[:7]).all(), "whatever is asked beside a row"
    assert (copy.deepcopy(fitted).set_params(predict_with="soup").predict(X) == soup).all()
    with pytest.raises(InputError, match=r"^predict_with='soup' must be given before fit, which has the rows"):
        make().fit(X, Y).set_params(predict_with="soup").predict(X)


@pytest.mark.parametrize(("make", "settings"), [(regressor, None), (classifier, {"initialisation": "standard_normal"})])
def test_a_warm_start_begins_with_the_fittest_of_the_last_fit_and_fresh_units_beyond(make, settings):
    fitted = make(warm_start=True, population_size=3, settings=settings).fit(X, Y)
    before = fitted.predict(X)
    ends = np.sort(fitted.history_.query("survived")["loss_survival"])  # all rows are in each validation batch

    def starts(**changed):
        again = copy.deepcopy(fitted).set_params(**changed).fit(X, Y)
        return np.sort(again.history_.query("role == 'parent'")["loss_start"])

    np.testing.assert_allclose(starts(), ends, rtol=1e-4)
    more = starts(population_size=5)
    np.testing.assert_allclose(more[:3], ends, rtol=1e-4)
    assert settings or more[3] > 1.2 * ends.max()
    np.testing.assert_allclose(starts(population_size=2), ends[:2], rtol=1e-4)
    fresh = copy.deepcopy(fitted).set_params(population_size=2, settings={"crossover": "teach", "child_start": "fresh"})
    born = fresh.fit(X, Y).history_.query("role == 'child' and generation == 1")["loss_start"]
    assert born.min() > 1.2 * ends.max(), "fresh ones are not what was left of the last fit"
    assert starts(warm_start=False).min() > ends.max()
    with pytest.raises(InputError, match=r"^warm_start=True: X and y have 4 features .* must have 6 features "):
        fitted.fit(X[:, :4], Y)
    with pytest.raises(InputError, match=r"^warm_start=True: .* other parts than hidden_layer_sizes or"):
        fitted.set_params(hidden_layer_sizes=(7,)).fit(X, Y)
    if make is classifier:
        with pytest.raises(InputError, match=r"^warm_start=True: y has other labels"):
            fitted.fit(X, NAMES)
    assert (fitted.predict(X) == before).all(), "what is refused leaves the last fit as it was"


def test_a_random_state_goes_on():
    state = np.random.RandomState(0)
    first, second = (classifier(random_state=state).fit(X, Y).predict_proba(X) for _ in range(2))
    assert (first != second).any()
    assert (first == classifier(random_state=np.random.RandomState(0)).fit(X, Y).predict_proba(X)).all()


class EnoughError(Callback, Exception):
    """Ends a training before it begins, and knows its settings."""

    def on_start(self, config, population):
        self.config = config
        raise self


def started(*weights, **changed):
    """The settings of a training that has begun."""
    with pytest.raises(EnoughError) as stopped:
        classifier(**changed, callbacks=[EnoughError()]).fit(X, Y, *weights)
    return stopped.value.config


def test_steps_are_twenty_passes_over_the_rows_that_train_unless_given():
    for size, steps in ((4, 600), (128, 100), (1, 2_000)):
        assert started(steps="auto", batch_size=size).steps == steps
    assert started(1 + np.arange(len(X)) % 2, steps="auto", batch_size=4).steps == 900, "copies count"
    assert started(steps="auto", batch_size=4, validation_fraction=0.5).steps == 300, "what is held out does not"


def test_executor_device_and_verbose_are_those_of_the_evolution(monkeypatch):
    given = {}
    evolve = "gadam.estimators.estimators.evolve"
    monkeypatch.setattr(evolve, lambda *_, **more: given.update(more) or SimpleNamespace(stopped="interrupt"))
    with pytest.raises(KeyboardInterrupt):
        classifier(executor=3, device="cpu:0", verbose=True).fit(X, Y)
    assert given.items() >= {"executor": 3, "device": "cpu:0", "progress": True}.items()


# --- the preset "teach" ---


def test_teach_has_the_settings_given():
    given = {"batch_size": 7, "learning_rate": 0.02}
    config = started(preset="teach", settings={"teach_weight": 0.5}, **given)
    assert vars(config).items() >= {"teach_weight": 0.5, **given}.items()


@BOTH
def test_teach_takes_the_steps_of_the_other_preset_and_predicts_by_the_student(make):
    given = {"population_size": 3, "generations": 2, "steps": 20, "learning_rate": None}
    fitted = make(preset="teach", **given).fit(X, Y)
    plain = make(**given).fit(X, Y)
    assert (make(preset="teach", **given).fit(X, Y, np.full(len(X), 2)).predict(X) == fitted.predict(X)).all()
    with pytest.raises(InputError, match=r"^sample_weight: preset='teach' trains on predictions"):
        make(preset="teach", **given).fit(X, Y, np.linspace(0.1, 1, len(X)))
    spent = plain.result_.gradient_steps
    assert spent - 3 <= fitted.result_.gradient_steps <= spent
    assert fitted.history_["learning_rate"].nunique() == 3, "each teacher has drawn its own"
    assert len(fitted.result_.teachers) == 3
    student = fitted.predict(X)
    assert (copy.deepcopy(fitted).set_params(predict_with="best").predict(X) == student).all()
    inputs = torch.tensor(X, dtype=torch.float32)
    teachers = [unit(inputs).detach() for unit in fitted.result_.teachers.units()]
    vote = fitted.set_params(predict_with="ensemble")
    if make is classifier:
        expected = torch.stack([output.softmax(1) for output in teachers]).mean(0).numpy()
        np.testing.assert_allclose(vote.predict_proba(X), expected, rtol=1e-4, atol=1e-6)
    else:
        assert np.corrcoef(vote.predict(X), torch.stack(teachers).mean(0)[:, 0].numpy())[0, 1] > 1 - 1e-9
