"""Who executes the shards changes nothing but the time."""

import math
import threading
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import pytest
import torch
import zoo
from torch.nn import functional

from gadam.config import GadamConfig, InputError
from gadam.parallel.executors import as_executor, train_shards
from gadam.population import Population
from gadam.training import trainer as training
from gadam.training.batches import BLOCK
from gadam.training.shards import Data, Shard
from gadam.training.trainer import Trainer

STEPS = 4


def trainer(steps=STEPS, loss=functional.cross_entropy):
    return Trainer(GadamConfig(steps=steps, batch_size=8), loss)


def shards(count=4, make=zoo.dropout_mlp, size=1):
    parts = Population.make(make, count * size).shards(count)
    return [Shard(part, range(size * n, size * (n + 1)), "parent", 1) for n, part in enumerate(parts)]


def data():
    batch = ((zoo.FEATURES,), zoo.LABELS)
    return Data(batch, batch, *(torch.arange(len(zoo.LABELS)) for _ in range(2)))


def assert_same(results, expected):
    assert len(results) == len(expected)
    for result, other in zip(results, expected, strict=True):
        assert zoo.same_population(result.population, other.population)
        for name in ("loss_start", "loss_trained", "loss_survival"):
            assert torch.equal(getattr(result, name), getattr(other, name))


def gadam_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("gadam")]


class Failing(zoo.Linear):
    """Fails in training, in whatever process."""

    def forward(self, inputs):
        if self.training:
            raise ZeroDivisionError("in a worker")
        return self.layer(inputs)


class Inline(Executor):
    """The least that an executor can be, and no kin of a thread pool."""

    def __repr__(self):
        return "Inline()"

    def submit(self, function, /, *args, **kwargs):
        future = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


# --- as_executor ---


@pytest.mark.parametrize(("given", "useful"), [(1, 8), (None, 1)])
def test_one_thread_is_the_calling_thread(given, useful):
    with as_executor(given, useful) as executor:
        assert executor is None


@pytest.mark.parametrize(("given", "useful"), [(3, 1), (None, 3)])
def test_a_number_gives_that_many_threads_and_none_as_many_as_are_useful(given, useful):
    with as_executor(given, useful) as executor:
        meeting = threading.Barrier(3)
        assert len({future.result(120) for future in [executor.submit(meeting.wait, 60) for _ in range(3)]}) == 3
        crowd = threading.Barrier(4)
        with pytest.raises(threading.BrokenBarrierError):  # there is no fourth thread
            [future.result(120) for future in [executor.submit(crowd.wait, 0.2) for _ in range(4)]]
    assert not gadam_threads()


def test_an_executor_that_is_given_is_used_and_stays_open():
    with ThreadPoolExecutor(1) as mine:
        with as_executor(mine, 8) as executor:
            assert executor is mine
        assert mine.submit(abs, -1).result() == 1


@pytest.mark.parametrize("wrong", [0, -1, True, False, "two", 2.0, [2]])
def test_what_is_no_executor_is_refused_in_one_line(wrong):
    with pytest.raises(InputError) as caught, as_executor(wrong, 2):
        pass
    assert "\n" not in str(caught.value)
    assert f"executor={wrong!r}" in str(caught.value)


# --- train_shards ---


@pytest.mark.parametrize("executor", [1, 2, 4, 10, Inline()], ids=repr)
def test_results_are_the_same_for(executor):
    expected = train_shards(None, trainer(), shards(), data())
    with as_executor(executor, 1) as pool:
        assert_same(train_shards(pool, trainer(), shards(), data()), expected)


def test_results_are_the_same_for_processes(processes):
    expected = train_shards(None, trainer(), shards(), data())
    told = []
    with as_executor(processes, 1) as pool:
        assert_same(train_shards(pool, trainer(), shards(), data(), told.append), expected)
    assert [steps for steps in told if steps] == [STEPS] * 4, "progress, as each shard is done"


def test_results_come_in_the_order_of_the_shards_whoever_ends_first():
    late = threading.Event()

    def record(step):
        if step.number == STEPS and step.units.start == 0:
            assert late.wait(60)
        elif step.number == STEPS and step.units.start == 3:
            late.set()

    with ThreadPoolExecutor(4) as pool:
        results = train_shards(pool, trainer(), shards(), data(), record=record)
    assert_same(results, train_shards(None, trainer(), shards(), data()))


def test_progress_adds_up_for_threads():
    told = []
    with ThreadPoolExecutor(2) as pool:
        train_shards(pool, trainer(), shards(size=2), data(), told.append)
    assert sum(told) == 4 * 2 * STEPS


def test_progress_adds_up_for_other_executors():
    told = []
    with as_executor(Inline(), 1) as pool:
        train_shards(pool, trainer(), shards(size=2), data(), told.append)
    assert [steps for steps in told if steps] == [2 * STEPS] * 4


@pytest.mark.parametrize("executor", [1, 2, Inline()], ids=repr)
def test_progress_may_raise_to_stop(executor):
    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), as_executor(executor, 1) as pool:
        train_shards(pool, trainer(), shards(), data(), stop)
    assert not gadam_threads()


@pytest.mark.parametrize("executor", [1, 2, Inline()], ids=repr)
def test_an_error_in_a_worker_is_raised_here(executor):
    with pytest.raises(ZeroDivisionError, match="in a worker"), as_executor(executor, 1) as pool:
        train_shards(pool, trainer(), shards(make=Failing), data())
    assert not gadam_threads()


def test_an_error_in_another_process_is_raised_here_and_counts_as_no_progress(processes):
    told = []
    with pytest.raises(ZeroDivisionError, match="in a worker"), as_executor(processes, 1) as pool:
        train_shards(pool, trainer(), shards(make=Failing), data(), told.append)
    time.sleep(0.3)
    assert not any(told)


def test_after_an_error_shards_that_run_stop_soon_and_others_do_not_start(monkeypatch):
    """The first fails when the second is running, and what is running goes on when the last one is cancelled."""
    monkeypatch.setattr(training, "PATIENCE", math.inf)
    steps = dict.fromkeys(range(20), 0)
    running, cancelled = threading.Event(), threading.Event()

    class Pool(ThreadPoolExecutor):
        def submit(self, *given, **named):
            future = super().submit(*given, **named)
            future.add_done_callback(lambda future: future.cancelled() and cancelled.set())
            return future

    def record(step):
        steps[step.units.start] = step.number
        if step.units.start == 1:
            running.set()
        if step.units.start == 0:
            assert running.wait(60)
            raise ZeroDivisionError
        assert cancelled.wait(60)

    with Pool(2, thread_name_prefix="gadam") as pool, pytest.raises(ZeroDivisionError):
        train_shards(pool, trainer(steps=5_000), shards(20), data(), record=record)
    assert not gadam_threads()
    assert steps[0] == 1
    assert max(steps.values()) < 5_000
    assert all(step % BLOCK == 0 for unit, step in steps.items() if unit), "they stop where progress is told"
    assert steps[19] == 0


def test_record_is_told_by_threads_and_not_by_other_executors():
    told = set()

    def record(step):
        told.add((step.units.start, step.number))

    with as_executor(Inline(), 1) as pool:
        train_shards(pool, trainer(), shards(), data(), record=record)
    assert not told
    with ThreadPoolExecutor(2) as pool:
        train_shards(pool, trainer(), shards(), data(), record=record)
    assert told == {(unit, step) for unit in range(4) for step in range(1, STEPS + 1)}
