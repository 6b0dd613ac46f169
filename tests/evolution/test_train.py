"""`gadam.train`: the units that `evolve` starts from, each trained alone for as many steps as a line of descent has."""

from dataclasses import replace

import pytest
import torch
import zoo
from evolving import DOUBLE, STEPS, Stop, Watch, assert_same, double_dropout, double_mlp, run, settings
from torch.nn import functional

from gadam import Population, train
from gadam.randomness import BATCHES, ROLES, stream

VALIDATION = (DOUBLE[0][::2], DOUBLE[1][::2])


def plainly_trained(unit, config):
    """The first units of an evolution, trained by plain PyTorch on batches of the stream of each."""
    module = Population.make(double_mlp, config.population_size, seed=config.seed).unit(unit).train()
    adam = torch.optim.Adam(module.parameters(), lr=config.learning_rate)
    draw = stream("cpu", config.seed, BATCHES, 0, ROLES["parent"], unit, 0)
    taken, steps = 0, 2 * config.generations * config.steps
    while taken < steps:
        for batch in torch.randint(40, (64, config.batch_size), generator=draw)[: steps - taken]:
            adam.zero_grad()
            functional.cross_entropy(module(DOUBLE[0][batch]), DOUBLE[1][batch]).backward()
            adam.step()
            taken += 1
    return module.eval()


@pytest.mark.parametrize(("mode", "units"), [("loop", 3), ("vectorised", 1)])
def test_units_are_those_of_plain_pytorch_and_sorted_by_their_loss_on_the_validation_batch(mode, units):
    config = settings(mode=mode, population_size=units, steps=18, validation_size=1_000)  # 72 steps: two blocks of rows
    result = run(config, double_mlp, DOUBLE, train, validation=VALIDATION)
    modules = [plainly_trained(unit, config) for unit in range(units)]
    with torch.no_grad():
        losses = [float(functional.cross_entropy(module(VALIDATION[0]), VALIDATION[1])) for module in modules]
    for place, unit in enumerate(sorted(range(units), key=losses.__getitem__)):
        found = {name: entry[place] for name, entry in result.population.parameters.items()}
        expected = {name: entry.detach() for name, entry in modules[unit].named_parameters()}
        assert zoo.identical(found, expected) if mode == "loop" else zoo.difference(found, expected) <= 1e-9
    assert zoo.same_population(Population.stack([result.best]), result.population.take(slice(0, 1)))
    assert not any(module.training for module in result.best.modules())

    history = result.history
    for column in ("loss_survival", "loss_trained"):
        assert history[column].tolist() == pytest.approx(losses, rel=1e-9)
    columns = ["generation", "role", "unit", "survived", "steps"]
    rows = [(0, "parent", unit, True, 72) for unit in range(units)]
    assert list(history[columns].itertuples(index=False, name=None)) == rows
    assert history[["parent_a", "parent_b"]].isna().all(axis=None)
    assert (history["seconds"] > 0).all()
    assert (result.stopped, result.gradient_steps, result.config) == ("generations", units * 72, config)


def test_the_units_are_those_of_evolve_and_trained_alike_on_any_executor():
    config, watch, evolved = settings(shards=2), Watch(), Watch()
    result = run(config, call=train, executor=3, callbacks=[watch])
    assert_same(result, run(config, call=train))
    assert (watch.told, watch.result is result) == (["start", "end"], True)
    run(replace(config, generations=1), callbacks=[evolved])
    assert zoo.same_population(watch.initial, evolved.initial)


@pytest.mark.parametrize(("mode", "shards", "average"), [("loop", 2, 0.0), ("vectorised", 4, 0.0), ("loop", 2, 0.3)])
def test_stopped_it_returns_the_units_as_they_are_or_their_average(mode, shards, average):
    initial = Population.make(double_dropout, 4, seed=1).parameters
    seen, taken = {name: entry.clone() for name, entry in initial.items()}, []

    def record(step):
        taken.extend(step.units)
        for name, entry in step.parameters.items():
            own = seen[name][step.units.start : step.units.stop]
            own += (entry - own) / (1 + average * 4 * STEPS)

    config = settings(mode=mode, shards=shards, average=average)
    result = run(config, double_dropout, DOUBLE, train, stop=Stop(15), record=record)
    assert (result.stopped, len(result.history), result.gradient_steps) == ("stop", 0, len(taken))
    assert zoo.difference(dict(result.population.parameters), seen) < 1e-12
    assert not result.population.moments
