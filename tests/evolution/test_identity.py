"""The same evolution, bit by bit: on any executor, in any shards, beside others, with seeds together or each alone."""

import functools
import threading
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace

import pandas as pd
import pytest
import torch
import zoo
from evolving import (
    DATA,
    DOUBLE,
    STEPS,
    Watch,
    assert_same,
    double_dropout,
    double_mlp,
    run,
    settings,
    timeless,
)
from torch import nn

from gadam import InputError, Population, evolve, evolve_seeds, train
from gadam.training.trainer import Trainer

MODES = pytest.mark.parametrize("mode", ["loop", "vectorised"])


def config_of(mode):
    return settings(mode=mode, population_size=8, shards=3)


@functools.cache
def reference(mode):
    """An evolution in the calling thread."""
    return run(config_of(mode))


# --- executors, shards, neighbours ---


@pytest.mark.parametrize("executor", [None, 2, 4, "processes"])
@MODES
def test_one_seed_gives_the_same_bits_on_any_executor(mode, executor, request):
    given = request.getfixturevalue(executor) if executor == "processes" else executor
    assert_same(run(config_of(mode), executor=given), reference(mode))


@pytest.mark.parametrize("shards", [None, 1, 5])
def test_units_that_train_one_by_one_do_not_depend_on_the_shards(shards):
    result = run(replace(config_of("loop"), shards=shards))
    assert_same(replace(result, config=config_of("loop")), reference("loop"))


def test_evolutions_side_by_side_do_not_disturb_each_other():
    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(run, config_of("vectorised"), executor=2) for _ in range(2)]:
            assert_same(future.result(), reference("vectorised"))


def test_another_seed_gives_another_evolution():
    other, first = run(replace(config_of("loop"), seed=2)), reference("loop")
    assert not set(other.history["loss_trained"]) & set(first.history["loss_trained"])
    assert not any(
        torch.equal(other.population.parameters[name], entry) for name, entry in first.population.parameters.items()
    )


def test_a_warning_points_at_the_line_that_called():
    config = settings(mode="vectorised", population_size=2, generations=1, steps=1)
    for call, given in ((evolve, {}), (train, {}), (evolve_seeds, {"seeds": [1, 2]})):
        with pytest.warns(UserWarning, match="unit by unit") as caught:
            call(zoo.Branching, DATA, config, progress=False, **given)
        assert [warning.filename for warning in caught] == [__file__]


@MODES
def test_rows_may_come_from_a_computation_that_has_gradients_and_lie_anyhow_in_memory(mode):
    transform = nn.Linear(4, 4)
    awkward = transform(zoo.FEATURES).view(40, 2, 2).transpose(1, 2)
    assert awkward.requires_grad
    assert not awkward.is_contiguous()
    rows = [(inputs, zoo.LABELS) for inputs in (awkward.detach().contiguous(), awkward)]

    def make():
        return nn.Sequential(nn.Flatten(), *zoo.dropout_mlp())

    config = settings(mode=mode, population_size=2, generations=1)
    expected = run(config, make, rows[0], validation=rows[0])
    for data, held_out in ((0, 1), (1, 0), (1, 1)):
        assert_same(run(config, make, rows[data], validation=rows[held_out]), expected)
    assert transform.weight.grad is None


def test_classes_are_counted_in_all_rows_but_those_that_the_loss_ignores():
    labels = torch.where(torch.arange(40) < 20, zoo.LABELS, -1)
    run(data=(zoo.FEATURES, labels), loss=nn.CrossEntropyLoss(ignore_index=-1))
    trained = []
    with pytest.raises(InputError, match="targets: range from -1 to 2, must lie in 0 to 2"):
        run(data=(zoo.FEATURES, labels), record=trained.append)
    assert not trained


# --- several seeds ---

WAYS = [("loop", None, 1), ("loop", 1, 3), ("loop", 5, 1), ("vectorised", 1, 1), ("vectorised", 2, 3)]


@pytest.mark.parametrize(("mode", "shards", "executor"), WAYS)  # 2 and 5 shards cut through a seed's units
def test_each_of_several_seeds_is_what_it_is_alone(mode, shards, executor):
    """Its result and all that it tells; one is stopped by a callback, and one asks for no record."""
    config = settings(mode=mode, shards=shards, generations=3, population_size=3)
    lasts = {3: 1, 0: None, 8: 2}
    together = {seed: Watch(last) for seed, last in lasts.items()}
    results = run(
        config, double_dropout, DOUBLE, evolve_seeds, seeds=list(lasts), executor=executor,
        callbacks=lambda seed: [together[seed]], record=lambda seed: together[seed] if seed else None,
    )  # fmt: skip
    for (seed, last), result in zip(lasts.items(), results, strict=True):
        alone = Watch(last)
        own = replace(config, seed=seed, shards=shards if mode == "loop" else 1)
        expected = run(own, double_dropout, DOUBLE, callbacks=[alone], record=alone if seed else None)
        assert together[seed].told == alone.told == ["start", *range(1, 1 + (last or 3)), "end"]
        assert result.stopped == ("callback" if last else "generations")
        seen = together[seed].losses
        seen[(last or 3) + 1 :] = 0  # units of a seed that is over are trained on with the others, to no effect
        if mode == "loop":
            assert_same(result, expected)
            assert torch.equal(seen, alone.losses)
        else:  # up to rounding
            pd.testing.assert_frame_equal(timeless(result), timeless(expected), rtol=1e-9)
            assert zoo.difference(result.population.parameters, expected.population.parameters) <= 1e-9
            torch.testing.assert_close(seen, alone.losses)


def test_units_of_all_seeds_are_trained_in_one_call(monkeypatch):
    sizes, train_units = [], Trainer._train_vectorised
    monkeypatch.setattr(
        Trainer, "_train_vectorised", lambda *given: sizes.append(len(given[1].units)) or train_units(*given)
    )
    run(settings(mode="vectorised", shards=1), call=evolve_seeds, seeds=[1, 2])
    assert sizes[-4:] == [8] * 4  # parents and children of two generations


# --- callbacks, history, the bar ---


def test_callbacks_are_told_and_may_stop_it_and_what_they_are_given_does_not_change_later():
    whole = run(settings(generations=3), double_mlp, DOUBLE)
    watches = [Watch(), Watch(2), Watch()]
    result = run(settings(generations=3), double_mlp, DOUBLE, callbacks=iter(watches))
    assert result.stopped == "callback"
    assert all(watch.told == ["start", 1, 2, "end"] and watch.result is result for watch in watches)
    assert timeless(result).equals(timeless(whole)[whole.history["generation"] <= 2])
    first = Watch(1)
    run(settings(generations=3), double_mlp, DOUBLE, callbacks=[first])
    assert zoo.same_population(first.initial, watches[0].initial)
    for name in ("parents", "newborn", "children", "next"):
        assert zoo.same_population(getattr(first.generations[0], name), getattr(watches[0].generations[0], name))


def test_history_is_tidy_and_the_result_counts_every_step():
    taken = []
    result = run(settings(population_size=3), record=lambda step: taken.append(len(step.units)))
    history = result.history
    expected = [(k, role, unit) for k in (1, 2) for role in ("parent", "child") for unit in range(3)]
    assert list(history[["generation", "role", "unit"]].itertuples(index=False, name=None)) == expected
    assert list(history.index) == list(range(12))
    assert history.query("role == 'parent'")[["parent_a", "parent_b"]].isna().all(axis=None)
    assert history.query("role == 'child'")[["parent_a", "parent_b"]].isin(range(3)).all(axis=None)
    assert (history["steps"] == STEPS).all()
    assert (history["seconds"] > 0).all()
    assert result.gradient_steps == sum(taken) == 12 * STEPS
    assert (result.stopped, result.config) == ("generations", settings(population_size=3))
    before = result.population.parameters["0.weight"].clone()
    with torch.no_grad():
        result.best[0].weight.zero_()
    assert torch.equal(result.population.parameters["0.weight"], before), "the best shares no memory with it"


def test_nothing_is_printed_where_nobody_looks_and_the_bar_ends_at_all_steps(capfd):
    for progress in (None, False):
        run(progress=progress)
        assert capfd.readouterr() == ("", "")
    for executor in (1, 4):
        run(progress=True, executor=executor)
        last = capfd.readouterr().err.strip().rpartition("\r")[2]
        assert all(words in last for words in ("96.0/96.0", "generation 2/2", "best="))  # 2 roles x 2 x 4 units x 6


# --- stops and errors ---


@pytest.mark.parametrize("executor", [1, 3])
@MODES
def test_stopped_it_returns_the_last_complete_generation(mode, executor):
    config = settings(mode=mode, shards=3, generations=3, steps=70)
    for generation in (1, 3):
        stop = threading.Event()

        def record(step, generation=generation, stop=stop):
            if (step.generation, step.role) == (generation, "child"):
                stop.set()

        result = run(config, executor=executor, stop=stop, record=record)
        assert result.stopped == "stop"
        if generation == 1:
            assert zoo.same_population(result.population, Population.make(zoo.dropout_mlp, 4, seed=1))
            assert (result.gradient_steps, len(result.history)) == (0, 0)
            kinds = result.history.dtypes.astype(str)
        else:
            expected = run(replace(config, generations=2))
            assert_same(replace(result, stopped="generations", config=expected.config), expected)
            assert result.history.dtypes.astype(str).drop("role").equals(kinds.drop("role"))


def test_stopped_it_does_not_wait_for_other_executors():
    stop = threading.Event()
    with ThreadPoolExecutor(1) as threads:

        class Slow(Executor):
            """None of threads that `evolve` knows of."""

            def submit(self, function, *given, **named):
                stop.set()
                return threads.submit(ended.wait, 120)

        ended = threading.Event()
        assert run(executor=Slow(), stop=stop).stopped == "stop"
        ended.set()


class StopError(Exception):
    """Not one of the engine's own."""


@pytest.mark.parametrize("executor", [1, 3])
@pytest.mark.parametrize("moment", ["on_start", "on_generation", "on_end"])
def test_an_error_goes_through_and_leaves_neither_threads_nor_changes_behind(moment, executor, monkeypatch):
    def fail(*_):
        raise StopError

    monkeypatch.setattr(Watch, moment, fail)
    before = threading.enumerate(), torch.get_num_threads()
    state = torch.get_rng_state()
    with pytest.raises(StopError):
        run(executor=executor, callbacks=[Watch()])
    assert (threading.enumerate(), torch.get_num_threads()) == before
    assert torch.equal(torch.get_rng_state(), state)
