"""Workers in other processes: what they are sent, and that results are the same bit by bit whatever happens to them."""

import os
import pickle
import signal
import tempfile
import threading
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import suppress
from functools import partial
from unittest.mock import Mock

import pytest
import torch
import zoo
from loopback import loopback
from torch.nn import functional

from gadam.config import GadamConfig, InputError
from gadam.models import lenet5
from gadam.parallel import workers as remote
from gadam.parallel.workers import Workers, WorkersError, cluster_size
from gadam.training.trainer import Trainer

WORKERS = 2

pytestmark = pytest.mark.filterwarnings(
    "ignore:loss. calls",  # that say when to die
    "ignore::ResourceWarning",  # of clients whose scheduler died
    "ignore::pytest.PytestUnraisableExceptionWarning",
)


def evolved(executor, **given):
    changed = {"population_size": 6, "steps": 30, "shards": 3, "mutation_rate": 0.1} | given
    return zoo.evolved(zoo.dropout_mlp, executor=executor, device="cpu", **changed)


def shard_and_data(make=zoo.dropout_mlp, size=2):
    trainer = Trainer(GadamConfig(steps=30, batch_size=8), functional.cross_entropy, (0,))
    return trainer, *zoo.shards_of(make, size), zoo.data_of(zoo.Case(make))


class Elsewhere(Executor):
    """Workers on another machine: they get copies, and see none of our files. Keeps what was sent and answered."""

    def __init__(self):
        self.sent, self.tasks, self.answers = [], [], []

    def submit(self, function, /, token, common, task):
        self.sent.append(common)
        if isinstance(common, remote.Path):
            common = remote.Path("/nowhere/common.pickle")
        future = Future()
        try:
            future.set_result(function(*pickle.loads(pickle.dumps((token, common, task)))))
            self.tasks.append(task)
            self.answers.append(future.result())
        except Exception as error:
            future.set_exception(error)
        return future


@pytest.fixture
def none_kept(monkeypatch):
    monkeypatch.setattr(remote, "_kept", {})


def refusal(executor, *words, error=WorkersError, **given):
    """The one line in which an evolution is refused has these words."""
    with pytest.raises(error) as caught:
        evolved(executor, **given)
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in ("executor", *words)), caught.value


# --- what travels ---


def test_a_task_and_its_answer_are_little_more_than_the_units(none_kept, monkeypatch):
    trainer, shard, data = shard_and_data(partial(lenet5), size=3)
    units, there = sum(entry.nbytes for entry in shard.population.parameters.values()), Elsewhere()
    monkeypatch.setattr(remote, "train_or_halve", lambda trainer, shard, data, seconds: [shard])
    with Workers(there) as workers:
        (back,) = workers.submit(trainer, shard, data).result()
    messages = [there.tasks[-1], there.answers[-1]]
    assert [units < len(message) < 1.02 * units for message in messages] == [True, True]
    assert zoo.same_population(back.population, shard.population)
    assert back.population.template is shard.population.template


@pytest.mark.parametrize(("rows", "kind"), [(2**15, torch.int16), (2**15 + 1, torch.int32), (2**31 + 1, torch.int64)])
def test_row_numbers_travel_in_as_few_bytes_as_hold_the_last_of_them(rows, kind):
    numbers = torch.tensor([[0, rows - 1]])
    found = remote._narrow(numbers)
    assert (found.dtype, found.tolist()) == (kind, numbers.tolist())


def test_what_was_common_is_gone_before_something_else_is_unless_a_task_may_need_it(none_kept, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    class Here(Executor):
        def __init__(self):
            self.files = []

        def submit(self, function, /, token, common, task):
            self.files.append(list(tmp_path.rglob("common.pickle")))
            assert common in self.files[-1]
            future = Future()
            future.set_result(function(token, common, task))
            return future

    class Never(Here):
        def submit(self, *given):
            super().submit(*given)
            return Future()

    settings = {"crossover": "teach", "generations": 3, "shards": 2}
    zoo.assert_same(evolved(here := Here(), **settings), evolved(1, **settings))
    files = [file for (file,) in here.files]  # one at a time
    assert files[::2] == files[1::2], "the two shards of a phase have it in common"
    assert len(files) == 12, "shards of two roles and three generations"
    with Workers(never := Never()) as workers:
        workers.submit(*shard_and_data())
        workers.submit(*shard_and_data())
    assert list(map(len, never.files)) == [1, 2]
    assert not list(tmp_path.glob(f"{remote._PREFIX}*"))


def test_a_worker_that_sees_no_file_asks_once_and_is_sent_everything(none_kept):
    executor = Elsewhere()
    zoo.assert_same(evolved(executor), evolved(1))
    without, with_all, *later = executor.sent
    assert isinstance(with_all, bytes)
    assert [type(each) for each in later] == [type(without)] * 11, "shards of two roles and generations"


def test_what_cannot_be_sent_or_written_is_refused_in_one_line(processes, monkeypatch):
    lock = threading.Lock()

    def loss(output, targets):
        with lock:
            return functional.cross_entropy(output, targets)

    refusal(processes, "the loss", "lock", "module of their own", error=InputError, loss=loss)
    full = Mock(side_effect=OSError(28, "No space left on device"))
    monkeypatch.setattr(remote.Path, "write_bytes", full)
    refusal(processes, "No space left on device", "TMPDIR")


# --- processes ---


def deadly(folder, victim=None):
    """Cross-entropy, which once in all other processes together kills its process, or another, in mid-training."""
    here, calls, done = os.getpid(), [0], str(folder / "killed")

    def loss(output, targets):
        calls[0] += 1
        if os.getpid() != here and calls[0] == 20:
            with suppress(FileExistsError):
                open(done, "x").close()
                os.kill(victim or os.getpid(), signal.SIGKILL)
        return functional.cross_entropy(output, targets)

    return loss


def test_a_process_that_dies_is_one_clear_error_and_another_pool_goes_on(context, tmp_path):
    loss, path = deadly(tmp_path), tmp_path / "kept"
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        refusal(pool, "process", "new one", str(path), loss=loss, checkpoint=path)
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        zoo.assert_same(evolved(pool, loss=loss, checkpoint=path), evolved(2, loss=loss))


def test_processes_tell_no_record():
    with ProcessPoolExecutor(1) as pool, pytest.raises(InputError, match=r"^record: workers elsewhere"):
        evolved(pool, record=print)


# --- a cluster ---


@pytest.fixture(scope="module")
def cluster(context):
    """A scheduler and its workers, each a process."""
    with loopback(context, WORKERS) as here:
        yield here


def test_a_cluster_gives_what_threads_give(cluster):
    config, executor = {"mode": "vectorised", "moments": "carry"}, cluster.client.get_executor()
    assert cluster_size(executor).threads == len(cluster.client.nthreads()) == WORKERS
    assert cluster_size(Elsewhere()) is None
    zoo.assert_same(evolved(executor, **config), evolved(2, **config))


def test_a_worker_that_dies_in_its_work_changes_nothing(cluster, tmp_path):
    loss = deadly(tmp_path)
    zoo.assert_same(evolved(cluster.client.get_executor(), loss=loss), evolved(2, loss=loss))
    assert sum(not worker.is_alive() for worker in cluster.workers) == 1


def test_a_cluster_that_goes_away_is_one_clear_error_soon_and_the_training_goes_on(cluster, tmp_path, monkeypatch):
    """Soon: long before dask's client gives the scheduler up, or we give up workers, each of which takes an hour.

    The last test of this cluster.
    """
    executor = cluster.client.get_executor()
    for worker in cluster.workers:
        worker.kill()
    while cluster.client.nthreads():
        time.sleep(0.1)
    monkeypatch.setattr(remote, "WORKERLESS_SECONDS", 1.0)
    refusal(executor, "no workers", "dask worker tcp://")

    monkeypatch.setattr(remote, "WORKERLESS_SECONDS", 3_600.0)
    cluster.client._timeout = 3_600
    cluster.add_worker()
    cluster.client.wait_for_workers(1, timeout=300)
    config, path = {"population_size": 2, "shards": 2, "steps": 1_000, "generations": 1}, tmp_path / "kept"
    loss = deadly(tmp_path, cluster.scheduler.pid)
    refusal(executor, "scheduler at tcp://", "is gone", str(path), **config, loss=loss, checkpoint=path)
    refusal(executor, "is gone")
    zoo.assert_same(evolved(2, **config, loss=loss, checkpoint=path), evolved(2, **config, loss=loss))
