"""`gadam.train`: the units that `evolve` starts from, each trained alone for as many steps as a line of descent has."""

from dataclasses import replace

import pytest
import torch
import zoo
from by_hand import assert_trained_by_hand
from evolving import DOUBLE, STEPS, Stop, double_dropout, run, settings, watched
from torch.nn import functional

from gadam import Population, load_result, train

VALIDATION = (DOUBLE[0][::2], DOUBLE[1][::2])


@pytest.mark.parametrize(("mode", "units"), [("loop", 3), ("vectorised", 1)])
def test_units_are_trained_as_by_hand_and_sorted_by_their_loss_on_the_validation_batch(mode, units):
    config = settings(mode=mode, population_size=units, steps=18, validation_size=1_000)  # 72 steps: two blocks of rows
    result, watch = watched(config, call=train, validation=VALIDATION)
    losses = [zoo.loss_of(unit, VALIDATION) for unit in result.population.units()]
    history = result.history
    places = history["loss_survival"].rank().astype(int) - 1
    for column in ("loss_survival", "loss_trained"):
        assert history[column].sort_values().tolist() == pytest.approx(losses, rel=1e-9)
    ends = result.population.take(torch.tensor(places))
    assert_trained_by_hand(watch.initial, ends, replace(config, steps=72), 0, "parent")
    assert zoo.same_population(Population.stack([result.best]), result.population.take(slice(0, 1)))
    assert not any(module.training for module in result.best.modules())
    columns = ["generation", "role", "unit", "survived", "steps"]
    rows = [(0, "parent", unit, True, 72) for unit in range(units)]
    assert list(history[columns].itertuples(index=False, name=None)) == rows
    assert history[["parent_a", "parent_b"]].isna().all(axis=None)
    assert (history["seconds"] > 0).all()
    assert (result.stopped, result.gradient_steps, result.config) == ("generations", units * 72, config)


@pytest.mark.parametrize(("mode", "shards", "average"), [("loop", 2, 0.0), ("vectorised", 4, 0.0), ("loop", 2, 0.3)])
def test_stopped_it_returns_the_units_as_they_are_or_their_average_and_the_checkpoint_has_them(
    mode, shards, average, tmp_path
):
    initial = Population.make(double_dropout, 4, seed=1).parameters
    seen, taken = {name: entry.clone() for name, entry in initial.items()}, []

    def record(step):
        taken.extend(step.units)
        for name, entry in step.parameters.items():
            own = seen[name][step.units.start : step.units.stop]
            own += (entry - own) / (1 + average * 4 * STEPS)

    config = settings(mode=mode, shards=shards, average=average)
    file = tmp_path / "state"
    result = run(config, double_dropout, DOUBLE, train, stop=Stop(15), record=record, checkpoint=file)
    zoo.assert_same(load_result(file, double_dropout), result)
    assert (result.stopped, len(result.history), result.gradient_steps) == ("stop", 0, len(taken))
    assert zoo.difference(dict(result.population.parameters), seen) < 1e-12
    assert not result.population.moments


def test_units_that_diverge_come_last_and_have_not_survived():
    data = (DOUBLE[0], DOUBLE[0][:, :1])
    config = settings(optimizer="sgd", learning_rate=(1e-3, 1e6), generations=5)
    with pytest.warns(UserWarning, match="^train: 3 of 4 units have a loss that is NaN or infinite"):
        result = run(config, lambda: zoo.regression().double(), data, train, loss=functional.mse_loss)
    finite = result.history["loss_survival"].notna()
    assert result.history["survived"].equals(finite)
    assert result.predict(data[0]).isfinite().all()
