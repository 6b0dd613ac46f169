"""Workers in other processes: what they are sent, and that results are the same bit by bit whatever happens to them.

A worker is killed in each of two generations; `GADAM_KILLS=50` makes it as many. `GADAM_SLOW=1` does the rest, too.
"""

import math
import os
import pickle
import signal
import threading
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from multiprocessing import get_context

import pandas as pd
import pytest
import torch
import zoo
from joblib.externals.loky import get_reusable_executor
from loopback import exchanged, loopback
from torch.nn import functional

from gadam.config import GadamConfig, InputError
from gadam.evolution.loop import evolve
from gadam.models import MLP_HIDDEN, lenet5, mlp
from gadam.parallel import workers as remote
from gadam.parallel.executors import as_executor, train_or_halve, train_shards
from gadam.parallel.workers import Workers, WorkersError, cluster_size
from gadam.population import Population
from gadam.result import Callback
from gadam.tracing.programs import Programs
from gadam.training.plan import cut, shard_count
from gadam.training.shards import Data
from gadam.training.trainer import Trainer

ROWS = zoo.FEATURES, zoo.LABELS
KILLS = int(os.environ.get("GADAM_KILLS", 2))
WORKERS = 3
slow = pytest.mark.skipif("GADAM_SLOW" not in os.environ, reason="takes half a minute; set GADAM_SLOW")


def settings(**others):
    given = {"population_size": 6, "generations": 2, "steps": 30, "batch_size": 8, "validation_size": 16, "shards": 3}
    return GadamConfig(**{**given, "mode": "loop", "mutation_rate": 0.1, **others})


def evolved(executor, config=None, **others):
    return evolve(zoo.dropout_mlp, ROWS, config or settings(), executor=executor, device="cpu", **others)


def assert_same(result, expected):
    assert zoo.same_population(result.population, expected.population)
    pd.testing.assert_frame_equal(result.history.drop(columns="seconds"), expected.history.drop(columns="seconds"))


def shard_and_data(make=zoo.dropout_mlp, config=None, size=2):
    trainer = Trainer(config or settings(), functional.cross_entropy)
    batch = (ROWS[0],), ROWS[1]
    data = Data(batch, batch, torch.arange(10), torch.arange(10, 20))
    return trainer, cut(Population.make(make, size), 1, "parent", 1)[0], data


class Elsewhere(Executor):
    """Workers on another machine: they get copies, and see none of our files. Keeps what was sent."""

    def __init__(self):
        self.sent = []

    def submit(self, function, /, token, common, task):
        self.sent.append(common)
        if isinstance(common, remote.Path):
            common = remote.Path("/nowhere/common.pickle")
        future = Future()
        try:
            future.set_result(function(*pickle.loads(pickle.dumps((token, common, task)))))
        except Exception as error:
            future.set_exception(error)
        return future


@pytest.fixture
def none_kept(monkeypatch):
    monkeypatch.setattr(remote, "_kept", {})


@pytest.fixture(scope="module")
def shared_cluster():
    """A scheduler and three workers, each a process, which all tests of a worker share; some kill one and add one."""
    with loopback(WORKERS) as here:
        yield here


@pytest.fixture
def cluster(shared_cluster):
    """With all of its workers: those that an earlier test added are there."""
    shared_cluster.client.wait_for_workers(WORKERS, timeout=300)
    return shared_cluster


# --- what travels ---


def test_a_task_is_little_more_than_the_units(none_kept):
    trainer, shard, data = shard_and_data(partial(lenet5), size=3)
    units = sum(entry.nbytes for entry in shard.population.parameters.values())
    sent = []

    class Seen(Elsewhere):
        def submit(self, function, /, token, common, task):
            future = super().submit(function, token, common, task)
            sent.extend([task, future.result()] if isinstance(future.result(), bytes) else [])
            return future

    def untrained(trainer, shard, data, seconds):
        return [shard]

    with pytest.MonkeyPatch.context() as patch, Workers(Seen()) as workers:
        patch.setattr(remote, "untrained", untrained, raising=False)
        untrained.__module__, untrained.__qualname__ = remote.__name__, "untrained"
        (back,) = workers.submit(untrained, trainer, shard, data).result()
    assert [units < len(message) < 1.02 * units for message in sent] == [True, True]
    assert zoo.same_population(back.population, shard.population)
    assert back.population.template is shard.population.template


@pytest.mark.parametrize(("rows", "kind"), [(2**15, torch.int16), (2**15 + 1, torch.int32), (2**31 + 1, torch.int64)])
def test_row_numbers_travel_in_as_few_bytes_as_they_need(rows, kind):
    index = torch.tensor([0, rows - 1])
    narrow = remote._narrow(index, rows)
    assert narrow.dtype is kind
    assert torch.equal(narrow.long(), index)


def test_what_is_common_is_read_from_a_file_once_and_the_file_is_gone_after(none_kept, processes):
    trainer, shard, data = shard_and_data()
    expected = trainer.train(shard, data)
    with Workers(processes) as workers:
        for _ in range(3):
            (trained,) = workers.submit(train_or_halve, trainer, shard, data).result(300)
            assert zoo.same_population(trained.population, expected.population)
        file = workers._file
        assert file.exists()
    assert not file.parent.exists()


def test_a_worker_that_sees_no_file_asks_once_and_is_sent_everything(none_kept):
    executor = Elsewhere()
    assert_same(evolved(executor), evolved(1))
    without, with_all, *later = executor.sent
    assert isinstance(with_all, bytes)
    assert [type(each) for each in later] == [type(without)] * 11, "shards of two roles and generations"


def test_a_worker_keeps_two_evolutions_and_no_more(none_kept):
    packed = pickle.dumps("common")
    for token in "abc":
        remote.keep(token, packed)
    assert list(remote._kept) == ["b", "c"]
    assert remote.work("a", None, b"") is None


def test_what_cannot_be_sent_is_refused_in_one_line(processes):
    lock = threading.Lock()

    def loss(output, targets):
        with lock:
            return functional.cross_entropy(output, targets)

    with pytest.raises(InputError, match=r"executor: the model or the loss cannot be sent .*lock.*") as caught:
        evolved(processes, loss=loss)
    assert "\n" not in str(caught.value)


def test_a_disk_without_room_is_said_in_one_line(processes, monkeypatch):
    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(remote.Path, "write_bytes", full)
    with pytest.raises(WorkersError, match=r"cannot be written to .*No space left on device.*TMPDIR") as caught:
        evolved(processes)
    assert "\n" not in str(caught.value)


# --- processes ---


def test_processes_give_what_threads_give(processes):
    config = settings(mode="vectorised", moments="carry")
    assert_same(evolved(processes, config), evolved(2, config))


def test_loky_gives_what_threads_give_with_a_loss_that_has_no_name():
    config = settings()

    def loss(output, targets):
        return functional.cross_entropy(output, targets, label_smoothing=0.1)

    pool = get_reusable_executor(max_workers=1, timeout=60)
    try:
        assert_same(evolved(pool, config, loss=loss), evolved(2, config, loss=loss))
    finally:
        pool.shutdown(kill_workers=True)


class Deadly(zoo.Linear):
    """Ends its process in training."""

    def forward(self, inputs):
        if self.training:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.layer(inputs)


def test_a_process_that_dies_is_one_clear_error():
    trainer, shard, data = shard_and_data(Deadly)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool, as_executor(pool, 1) as workers:
        for _ in range(2):
            with pytest.raises(WorkersError, match="one of its processes ended in the middle of its work") as caught:
                train_shards(workers, trainer, [shard], data)
            assert "\n" not in str(caught.value)


# --- a cluster ---


def test_a_cluster_gives_what_threads_give(cluster):
    config = settings(mode="vectorised", moments="carry")
    assert_same(evolved(cluster.client.get_executor(), config), evolved(2, config))


class Killer(Callback):
    """Kills, in each generation, what trains a shard, and starts another where that is a worker.

    Attributes:
        loss: cross-entropy, which in a worker waits for the kill, so that somebody is certainly training then.
    """

    def __init__(self, folder, kill):
        self._held, self._kill = folder / "held", kill
        self._held.mkdir()
        self._thread = threading.Thread()
        self.loss = held_up(str(self._held), os.getpid())

    def on_start(self, config, population):
        self._left = config.generations
        self._begin()

    def on_generation(self, generation):
        self._thread.join(60)
        if self._left:
            self._begin()

    def _begin(self):
        self._left -= 1
        (self._held / "hold").touch()
        self._thread = threading.Thread(target=self._kill_a_busy_one)
        self._thread.start()

    def _kill_a_busy_one(self):
        end = time.monotonic() + 300
        while not (busy := [path for path in self._held.iterdir() if path.name != "hold"]):
            assert time.monotonic() < end
            time.sleep(0.01)
        self._kill(int(busy[0].name))
        (self._held / "hold").unlink()
        for path in busy:
            path.unlink(missing_ok=True)


def held_up(folder, here):
    """Cross-entropy, which in another process leaves its number in a folder, and waits while a file is there.

    It does so once in 40 calls, of which every shard has more: at various moments of its training.
    """
    calls = [0]

    def loss(output, targets):
        calls[0] += 1
        if os.getpid() != here and calls[0] % 40 == 20 and os.path.exists(f"{folder}/hold"):
            open(f"{folder}/{os.getpid()}", "w").close()
            while os.path.exists(f"{folder}/hold"):
                time.sleep(0.01)
            with suppress(FileNotFoundError):
                os.unlink(f"{folder}/{os.getpid()}")
        return functional.cross_entropy(output, targets)

    return loss


def test_a_worker_killed_in_each_generation_changes_nothing(cluster, tmp_path, record_property):
    config = settings(steps=30, generations=KILLS)

    def kill(pid):
        os.kill(pid, signal.SIGKILL)
        cluster.add_worker()

    before, killer = len(cluster.client.get_events("all")), Killer(tmp_path, kill)
    result = evolved(cluster.client.get_executor(), config, loss=killer.loss, callbacks=[killer])
    events = [event for _, event in cluster.client.get_events("all")[before:]]
    lost = [event for event in events if event["action"] == "remove-worker"]
    assert [bool(event["processing-tasks"]) for event in lost] == [True] * KILLS
    assert_same(result, evolved(2, config, loss=killer.loss))
    record_property("kills", KILLS)
    record_property("identical", KILLS)


def test_a_scheduler_that_goes_away_is_one_clear_error_soon_and_the_training_goes_on(tmp_path, monkeypatch):
    """Soon: long before dask's client gives the scheduler up, or we give up workers, each of which takes an hour."""
    monkeypatch.setattr("gadam.parallel.cluster.WORKERLESS_SECONDS", 3_600.0)
    with loopback(1) as cluster:
        cluster.client._timeout = 3_600
        executor = cluster.client.get_executor()
        killed = []

        def kill(pid):
            cluster.scheduler.kill()
            killed.append(time.monotonic())

        config, path = settings(population_size=2, shards=2, steps=1_000, generations=1), tmp_path / "kept"
        gone = rf"executor: the scheduler at tcp://.* is gone.*; the same call goes on from checkpoint='{path}'"
        killer = Killer(tmp_path, kill)
        with pytest.raises(WorkersError, match=gone) as caught:
            evolved(executor, config, loss=killer.loss, callbacks=[killer], checkpoint=path)
        assert time.monotonic() - killed[0] < 300
        assert "\n" not in str(caught.value)
        assert path.exists()
        with pytest.raises(WorkersError, match="is gone"):
            evolved(executor)
    assert_same(evolved(2, config, loss=killer.loss, checkpoint=path), evolved(2, config, loss=killer.loss))


def test_workers_that_stay_away_are_one_clear_error(monkeypatch):
    monkeypatch.setattr("gadam.parallel.cluster.WORKERLESS_SECONDS", 2.0)
    with loopback(1) as cluster:
        cluster.workers[0].kill()
        while cluster.client.nthreads():
            time.sleep(0.1)
        with pytest.raises(
            WorkersError, match=r"at tcp://.* has had no workers for 2 s; start some: dask worker tcp://"
        ):
            evolved(cluster.client.get_executor())


@pytest.mark.parametrize(
    ("make_model", "shape"),
    [
        (partial(mlp, 16, 26, MLP_HIDDEN["letter"]), (16,)),
        pytest.param(lenet5, (1, 28, 28), marks=slow),
    ],
    ids=["mlp", "lenet"],
)
def test_a_generation_sends_little_more_than_the_formula(cluster, make_model, shape):
    found = exchanged(cluster.client, make_model, shape, rows=4_000, workers=WORKERS)
    assert found["floor"] == 4 * found["entries"] * 2 * 2 * 10
    assert 1 < found["ratio"] < 1.5
    rows = 4_000 * 4 * math.prod(shape)
    assert found["first"] - found["bytes"] > rows, "each worker is sent the rows, once"


def test_a_population_trained_in_one_call_has_a_shard_for_each_thread_of_a_cluster(cluster, monkeypatch):
    threads, memory = cluster_size(cluster.client.get_executor())
    assert memory is None or memory > 2**20
    assert threads == len(cluster.client.nthreads()) == WORKERS
    assert cluster_size(Elsewhere()) is None
    config = GadamConfig(population_size=10)
    trainer = Trainer(config, functional.cross_entropy, Programs(zoo.mlp(), functional.cross_entropy))
    assert [shard_count(10, trainer, torch.device("cpu"), count) for count in (1, 7, 100)] == [1, 7, 10]
    fixed = replace(config, shards=2)
    assert shard_count(10, replace(trainer, config=fixed), torch.device("cpu"), 7) == 2
