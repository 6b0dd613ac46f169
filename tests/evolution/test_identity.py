"""The same evolution, bit by bit: on any executor, in any shards, beside others, with seeds together or each alone."""

import threading
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from typing import Literal, get_args, get_origin, get_type_hints

import pandas as pd
import pytest
import torch
import zoo
from evolving import DATA, MODES, PROGRAMS, WAYS, Stop, Watch, reference, run, run_way, settings
from torch import nn
from tqdm import tqdm

from gadam import GadamConfig, Population, evolve, evolve_seeds, train
from gadam.tracing import replay
from gadam.training.trainer import Trainer


def test_the_ways_change_every_setting_and_take_every_choice():
    ours = [settings(**changed) for _, changed in WAYS.values()]
    for name, kind in get_type_hints(GadamConfig).items():
        found = {getattr(config, name) for config in ours}
        if get_origin(kind) is Literal:
            assert found >= {*get_args(kind)} - {"auto"}, name
        assert found - {getattr(GadamConfig(), name)}, name


# --- executors, shards, seeds, neighbours ---


@pytest.mark.parametrize("way", WAYS)
def test_one_seed_gives_the_same_bits_on_any_executor(way, processes):
    """In generations of the sizes that are asked for."""
    expected, _ = reference(way)
    zoo.assert_same(run_way(way, executor=3), expected)
    loop = {"mode": "loop"}  # tracing in every process would take the time
    there = run_way(way, changed=loop, executor=processes)
    zoo.assert_same(there, expected if expected.config.mode == "loop" else run_way(way, changed=loop))
    config = expected.config
    for (generation, role), rows in expected.history.groupby(["generation", "role"]):
        assert (len(rows), set(rows["steps"])) == (config.units_of(role, generation), {config.steps_of(role)})
        if config.survival == "children":
            assert rows["survived"].sum() == (len(expected.population) if role == "child" else 0)
    assert len(expected.population) == config.units_of("parent", 3)


@pytest.mark.parametrize("way", WAYS)
def test_seeds_together_are_the_seeds_alone_unit_by_unit(way):
    """A seed's result and all that it tells: bit by bit in the loop, traced up to rounding. One is stopped."""
    lasts = {3: 1, 0: None}
    together, results = {seed: Watch(last) for seed, last in lasts.items()}, []
    several = run_way(
        way, call=evolve_seeds, seeds=list(lasts), changed={"shards": 3 if WAYS[way][1].get("mode") else 5}, executor=3,
        callbacks=lambda seed: [together[seed]], record=lambda seed: together[seed],
    )  # fmt: skip
    for (seed, last), result in zip(lasts.items(), several, strict=True):
        alone = Watch(last)
        own = {"seed": seed, "shards": None, "mode": "loop"}
        expected = run_way(way, changed=own, callbacks=[alone], record=alone)
        assert together[seed].told == alone.told == ["start", *range(1, 1 + (last or 2)), "end"]
        assert result.stopped == ("callback" if last else "generations")
        assert (together[seed].config, together[seed].result) == (result.config, result)
        assert zoo.same_population(together[seed].initial, alone.initial)
        seen = together[seed].losses
        seen[(last or 2) + 1 :] = 0  # units of a seed that is over are trained on with the others, to no effect
        if result.config.mode == "loop":
            zoo.assert_same(replace(result, config=expected.config), expected)
            assert torch.equal(seen, alone.losses)
        else:
            pd.testing.assert_frame_equal(zoo.timeless(result), zoo.timeless(expected), rtol=1e-8)
            for kind in ("parameters", "buffers", "moments", "rates"):
                found, wanted = (getattr(one.population, kind) for one in (result, expected))
                assert zoo.difference(found, wanted) <= 1e-8, kind
            torch.testing.assert_close(seen, alone.losses)
        results.append(expected)
    losses = [set(result.history["loss_trained"]) for result in results]
    assert not losses[0] & losses[1], "another seed gives another evolution"


def test_units_of_all_seeds_are_trained_in_one_call_and_the_best_is_of_each_seed(monkeypatch):
    sizes, train_shard = [], Trainer.train
    monkeypatch.setattr(Trainer, "train", lambda *given: sizes.append(len(given[1].units)) or train_shard(*given))
    results = run(settings(mode="vectorised", shards=1), call=evolve_seeds, seeds=[1, 2])
    assert sizes[-4:] == [8] * 4  # parents and children of two generations
    for result in results:
        assert zoo.same_population(Population.stack([result.best]), result.population.take(slice(0, 1)))


def test_evolutions_side_by_side_do_not_disturb_each_other():
    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(run_way, "traced", executor=2) for _ in range(2)]:
            zoo.assert_same(future.result(), reference("traced")[0])


@pytest.mark.parametrize(("make", "inputs"), [(zoo.dropout_mlp, zoo.FEATURES), (zoo.dropout_cnn, zoo.IMAGES)])
def test_without_torchscript_training_is_the_same_bit_by_bit(make, inputs, monkeypatch):
    """As on Python 3.14 and later, which have none."""
    results, traced, jit = [], [], torch.jit.trace
    monkeypatch.setattr(torch.jit, "trace", lambda *given, **named: traced.append(1) or jit(*given, **named))
    for available in (True, False):
        monkeypatch.setattr(replay, "TORCHSCRIPT", available)
        monkeypatch.setattr(replay, "_compiled", {})
        PROGRAMS.clear()
        results.append(run(settings(mode="vectorised", shards=2), make, (inputs, zoo.LABELS)))
        assert bool(traced) == available, "else this compares nothing"
        traced.clear()
    PROGRAMS.clear()
    zoo.assert_same(*results)


@MODES
def test_rows_may_come_from_a_computation_that_has_gradients_and_lie_anyhow_in_memory(mode):
    transform = nn.Linear(4, 4)
    awkward = transform(zoo.FEATURES).view(40, 2, 2).transpose(1, 2)
    rows = [(inputs, zoo.LABELS) for inputs in (awkward.detach().contiguous(), awkward)]

    def make():
        return nn.Sequential(nn.Flatten(), *zoo.dropout_mlp())

    config = settings(mode=mode, population_size=2, generations=1)
    expected = run(config, make, rows[0], validation=rows[0])
    zoo.assert_same(run(config, make, rows[1], validation=rows[1]), expected)
    assert transform.weight.grad is None


def test_classes_are_counted_in_all_rows_but_those_that_the_loss_ignores():
    rows = zoo.FEATURES, torch.where(torch.arange(40) < 20, zoo.LABELS, -1)
    run(data=rows, loss=nn.CrossEntropyLoss(ignore_index=-1))
    trained = []
    assert "targets: range from -1 to 2, must lie in 0 to 2" in zoo.complaint(run, data=rows, record=trained.append)
    assert not trained


# --- callbacks, history, the bar ---


def test_callbacks_are_told_and_may_stop_it_and_what_they_are_given_does_not_change_later():
    whole = run(settings(generations=3))
    watches = [Watch(), Watch(2), Watch()]  # those after the one that stops it are told too
    result = run(settings(generations=3), callbacks=iter(watches))
    assert result.stopped == "callback"
    assert all(watch.told == ["start", 1, 2, "end"] and watch.result is result for watch in watches)
    assert zoo.timeless(result).equals(zoo.timeless(whole)[whole.history["generation"] <= 2])
    first = Watch(1)
    run(settings(generations=3), callbacks=[first])
    assert zoo.same_population(first.initial, watches[0].initial)
    for name in ("parents", "newborn", "children", "next"):
        assert zoo.same_population(getattr(first.generations[0], name), getattr(watches[0].generations[0], name))


@pytest.mark.parametrize(
    ("call", "mode", "shards", "each"),
    [(evolve, "loop", 4, 6.0), (evolve, "loop", 1, 6.0), (evolve, "vectorised", 2, 3.0), (train, "loop", 2, 24.0)],
)
def test_seconds_of_a_unit_are_its_share_of_its_shards_also_where_it_stopped(
    call, mode, shards, each, tmp_path, monkeypatch
):
    """On a clock that only steps move, by one second each."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def record(step):
        now[0] += 1

    def timed(**given):
        return run(settings(mode=mode, shards=shards), call=call, record=record, **given)

    stopped = timed(checkpoint=tmp_path / "state", stop=Stop(30))
    now[0] += 1_000  # between two runs
    for result in (timed(), timed(checkpoint=tmp_path / "state")):
        assert result.history["seconds"].tolist() == [each] * (4 if call is train else 16)
        assert result.seconds == result.history["seconds"].sum() > stopped.seconds


def test_nothing_is_printed_where_nobody_looks_and_the_bar_ends_at_all_steps(capfd, tmp_path):
    run(progress=None)
    assert capfd.readouterr() == ("", "")
    for executor in (1, 4):
        run(progress=True, executor=executor)
        last = capfd.readouterr().err.strip().rpartition("\r")[2]
        assert all(words in last for words in ("96.0/96.0", "generation 2/2", "best="))  # 2 roles x 2 x 4 units x 6
    few = settings(children=3, child_steps=5, survival="children")
    run(few, checkpoint=tmp_path / "state", stop=Stop(12))
    run(few, checkpoint=tmp_path / "state", progress=True)
    assert "72.0/72.0" in capfd.readouterr().err.strip().rpartition("\r")[2]  # (4 + 3) x 6 + 2 x 3 x 5, also resumed


def test_a_warning_points_at_the_line_that_called():
    config = settings(mode="vectorised", population_size=2, generations=1, steps=1)
    for call, given in ((evolve, {}), (train, {}), (evolve_seeds, {"seeds": [1, 2]})):
        with pytest.warns(UserWarning, match="unit by unit") as caught:
            call(zoo.Branching, DATA, config, progress=False, **given)
        assert [warning.filename for warning in caught] == [__file__]


# --- stops and errors ---


@pytest.mark.parametrize(("mode", "executor"), [("loop", 3), ("vectorised", 1), ("vectorised", 3)])
def test_stopped_it_returns_the_last_complete_generation(mode, executor):
    config = settings(mode=mode, shards=2, generations=3)
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
            zoo.assert_same(replace(result, stopped="generations", config=expected.config), expected)
            assert result.history.dtypes.astype(str).drop("role").equals(kinds.drop("role"))


def test_stopped_it_does_not_wait_for_other_executors():
    stop, ended = threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as threads:

        class Slow(Executor):
            """None of threads that `evolve` knows of."""

            def submit(self, function, *given, **named):
                stop.set()
                return threads.submit(ended.wait, 120)

        assert run(executor=Slow(), stop=stop).stopped == "stop"
        ended.set()


class StopError(Exception):
    """Not one of the engine's own."""


@pytest.mark.parametrize(("moment", "executor"), [("on_start", 1), ("on_generation", 3), ("on_end", 1)])
def test_an_error_goes_through_and_leaves_neither_threads_nor_changes_behind(moment, executor, monkeypatch):
    def fail(*_):
        raise StopError

    monkeypatch.setattr(Watch, moment, fail)
    tqdm(disable=True).close()  # the first one starts a thread that stays
    threads, count = set(threading.enumerate()), torch.get_num_threads()
    state = torch.get_rng_state()
    with pytest.raises(StopError):
        run(executor=executor, callbacks=[Watch()])
    assert not set(threading.enumerate()) - threads
    assert torch.get_num_threads() == count
    assert torch.equal(torch.get_rng_state(), state)
