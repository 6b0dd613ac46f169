"""Who trains the shards changes nothing but the time."""

import math
import threading
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import nullcontext

import pytest
import zoo
from torch.nn import functional

from gadam.config import GadamConfig
from gadam.parallel import executors
from gadam.parallel.executors import as_pool, train_shards
from gadam.training import trainer as training
from gadam.training.batches import BLOCK
from gadam.training.shards import Shard, TrainingError
from gadam.training.trainer import Trainer

STEPS = 4


def trainer(steps=STEPS):
    return Trainer(GadamConfig(steps=steps, batch_size=8), functional.cross_entropy, (0,))


def shards(count=4, make=zoo.dropout_mlp, in_shards=None):
    return zoo.shards_of(make, count, in_shards or count)


DATA = zoo.data_of(zoo.Case(zoo.dropout_mlp))


class Failing(zoo.Linear):
    """Fails in training, in whatever process."""

    def forward(self, inputs):
        if self.training:
            raise ZeroDivisionError("in a worker")
        return self.layer(inputs)


class Inline(Executor):
    """The least that an executor can be, and no kin of a thread pool."""

    def submit(self, function, /, *args, **kwargs):
        future = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


@pytest.fixture(params=[1, 3, "pool", "inline", "processes"])
def executor(request):
    if request.param == "pool":
        with ThreadPoolExecutor(2) as pool:
            yield pool
    elif request.param == "inline":
        yield Inline()
    else:
        yield request.getfixturevalue("processes") if request.param == "processes" else request.param


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("gadam")]


@pytest.mark.parametrize(("given", "useful", "count"), [(1, 8, 1), (None, 1, 1), (3, 1, 3), (None, 3, 3)])
def test_a_number_is_that_many_threads_and_none_as_many_as_are_useful(given, useful, count):
    everybody, found = threading.Barrier(count), set()

    def record(step):
        found.add(threading.current_thread())
        everybody.wait(600)

    with as_pool(given, useful) as pool:
        train_shards(pool, trainer(), shards(count), DATA, record=record)
    assert len(found) == count
    assert (threading.current_thread() in found) == (count == 1)


def test_results_and_the_sum_of_progress_are_the_same_for_every_executor_and_it_stays_open(executor, monkeypatch):
    """Also where the training pauses after every hundred steps, and goes on."""
    monkeypatch.setattr(training, "REPORT_SECONDS", 0)
    expected = [trainer(3 * BLOCK).train(shard, DATA) for shard in shards(2)]
    found, kept, told, done = shards(2), [], [], [0]

    def pause(steps):
        told.append(steps)
        done[0] += steps
        return done[0] >= 100

    while not all(shard.is_trained for shard in found):
        done[0] = 0
        with as_pool(executor, 1) as pool:
            found = train_shards(
                pool, trainer(3 * BLOCK), found, DATA, pause, keep=lambda now: kept.append(list(now)), seconds=60.0
            )
    zoo.assert_same_shards(found, expected)
    assert sum(told) == 2 * 3 * BLOCK
    assert all([shard.units for shard in each] == [range(1), range(1, 2)] for each in kept)
    assert kept[-1][0].is_trained


@pytest.mark.parametrize("executor", [1, 3, Inline()], ids=["1", "3", "inline"])
def test_rounds_without_time_still_get_on(executor, monkeypatch):
    """Of the last all shards come back at the same time, each after a step."""
    monkeypatch.setattr(training, "REPORT_SECONDS", 0)
    kept = []
    with as_pool(executor, 1) as pool:
        found = train_shards(pool, trainer(3), shards(), DATA, keep=kept.append, seconds=0.0)
    zoo.assert_same_shards(found, train_shards(None, trainer(3), shards(), DATA))
    assert len(kept) >= (4 // executor if isinstance(executor, int) else 3)


def test_workers_return_shards_in_the_middle_of_their_training_also_where_nothing_is_kept(monkeypatch):
    monkeypatch.setattr(executors, "ROUND_SECONDS", 0.0)
    monkeypatch.setattr(training, "REPORT_SECONDS", 0)
    told = []
    with as_pool(Inline(), 1) as pool:
        found = train_shards(pool, trainer(3), shards(2), DATA, told.append)
    zoo.assert_same_shards(found, train_shards(None, trainer(3), shards(2), DATA))
    assert [steps for steps in told if steps] == [1] * 6


def test_what_workers_have_returned_when_a_pause_is_asked_for_is_not_lost():
    class Interrupted(Inline):
        """Ctrl-C reaches one of its processes, too."""

        tasks = 0

        def submit(self, *given):
            self.tasks += 1
            if self.tasks != 2:
                return super().submit(*given)
            future = Future()
            future.set_exception(KeyboardInterrupt())
            return future

    executor, told, kept = Interrupted(), [], []
    with as_pool(executor, 1) as pool:
        found = train_shards(
            pool, trainer(), shards(), DATA, lambda steps: told.append(steps) or executor.tasks == 4, keep=kept.append
        )
    assert [shard.steps_taken for shard in found] == [STEPS, 0, STEPS, STEPS]
    expected = train_shards(None, trainer(), shards(), DATA)
    zoo.assert_same_shards([found[0], *found[2:]], [expected[0], *expected[2:]])
    assert (sum(told), kept, executor.tasks) == (3 * STEPS, [found], 4)


@pytest.mark.parametrize(("workers", "fits", "in_shards"), [(1, 1, 2), (3, 1, 2), (1, 2, 1), (1, 0, 2)])
def test_where_memory_runs_out_halves_are_trained_in_the_order_of_units(workers, fits, in_shards, monkeypatch):
    expected, train = train_shards(None, trainer(), shards(), DATA), Trainer.train

    def short(self, shard, *given):
        if len(shard.units) > fits:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        return train(self, shard, *given)

    monkeypatch.setattr(Trainer, "train", short)
    told, taken = [], []
    given = trainer(), shards(in_shards=in_shards), DATA, told.append, lambda step: taken.append(step.units)
    allowed = nullcontext() if fits else pytest.raises(TrainingError, match=r"unit \d alone")
    with pytest.warns(UserWarning, match="two halves"), as_pool(workers, 1) as pool, allowed:
        found = train_shards(pool, *given)
    if fits:
        assert [shard.units.start for shard in found] == list(range(0, 4, fits))
        zoo.assert_same_shards([Shard.join(found)], [Shard.join(expected)])
    assert sum(told) == sum(map(len, taken)) == (4 * STEPS if fits else 0)


def test_an_error_here_or_in_a_worker_is_raised_and_counts_as_no_progress(executor):
    def stop(_):
        raise KeyboardInterrupt

    told = []
    for make, progress, error in ((zoo.mlp, stop, KeyboardInterrupt), (Failing, told.append, ZeroDivisionError)):
        with pytest.raises(error), as_pool(executor, 1) as pool:
            train_shards(pool, trainer(), shards(make=make), DATA, progress)
    assert not any(told)


def test_after_an_error_shards_that_run_stop_soon_others_do_not_start_and_nothing_goes_on(monkeypatch):
    monkeypatch.setattr(training, "REPORT_SECONDS", math.inf)
    steps, running, failed = dict.fromkeys(range(20), 0), threading.Event(), threading.Event()
    submitted = []

    class Noticing(ThreadPoolExecutor):
        def submit(self, *given):
            future = super().submit(*given)
            future.add_done_callback(lambda future: future.exception() and failed.set())
            submitted.append(future)
            return future

    def record(step):
        steps[step.units.start] = step.number
        if step.units.start == 0:
            assert running.wait(600)
            raise ZeroDivisionError
        running.set()
        assert failed.wait(600)

    with Noticing(2, thread_name_prefix="gadam") as pool:
        with pytest.raises(ZeroDivisionError):
            train_shards(pool, trainer(steps=50_000), shards(20), DATA, record=record)
        assert all(future.done() for future in submitted), "the pool is open, and the training over"
    assert steps[0] == 1
    assert 0 < steps[1] < 50_000
    assert steps[1] % BLOCK == 0, "it stops where progress is told"
    assert not any(steps[unit] for unit in range(2, 20))
