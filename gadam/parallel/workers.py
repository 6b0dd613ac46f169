"""Send shards to workers in other processes and on other machines, and what they have in common only once.

What is the same for a whole evolution, the rows above all, comes to a worker once and stays there under a token. A task
is then a shard without its template, and its answer the same after training: nearly the bytes of the units alone
(Section 4.3). Workers of most executors are processes of this machine and read what is common from a file. One that
cannot, or is of a dask.distributed cluster, says so, and the task is sent to it again with all that it lacks.
"""

from __future__ import annotations

import math
import pickle
import sys
import tempfile
import time
import uuid
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gadam.config import InputError
from gadam.display import describe_error
from gadam.storage import remove_stale
from gadam.training.plan import ClusterSize
from gadam.training.shards import Data, Shard, TrainingError
from gadam.training.trainer import Trainer, train_or_halve
from gadam.types import Batch

try:  # it also sends what is defined in a notebook, and dask brings it
    from cloudpickle import dumps
except ModuleNotFoundError:
    from pickle import dumps

WORKERLESS_SECONDS = 60.0
"""After so long without any worker nobody waits for one any more."""
_ASK_SECONDS = 1.0
WEEK = 7 * 24 * 60 * 60
_KEPT = 2  # evolutions that may share a worker
_PREFIX = "gadam-workers-"


class WorkersError(TrainingError):
    """The workers of an executor are gone; the training could go on with others."""


@dataclass(frozen=True)
class Common:
    """The same for every shard of an evolution."""

    trainer: Trainer
    template: nn.Module
    train: Batch
    held_out: Batch


_kept: dict[str, Common] = {}  # in a worker: token -> what came with it


def work(token: str, common: Path | bytes | None, task: bytes) -> bytes | str | None:
    """Train a shard, in a worker.

    Args:
        token: names what is common.
        common: that, pickled, for a worker that lacks it; or the file with it; None where workers have it.
        task: the shard, the row numbers of its validation batches, and for how long.

    Returns:
        The shards as they are then, pickled. Without the shared data: the worker's address on dask, else None.
    """
    found = _kept.get(token)
    if found is None:
        try:
            packed = common.read_bytes() if isinstance(common, Path) else common
        except OSError:  # it is on another machine
            packed = None
        if packed is None:
            return _dask_address()
        for old in list(_kept)[: 1 - _KEPT or None]:
            _forget(old)
        found = _kept[token] = pickle.loads(packed)
    shard, fitness, survival, seconds = pickle.loads(task)
    data = Data(found.train, found.held_out, fitness.long(), survival.long())
    end = time.monotonic() + seconds
    shard = _exchange_template(shard, found.template)
    trained = train_or_halve(found.trainer, shard, data, lambda _: time.monotonic() > end)
    return pickle.dumps([_exchange_template(each, None) for each in trained])


def _forget(token: str) -> None:
    """Free what an evolution kept in a worker."""
    _kept.pop(token, None)


def _dask_address() -> str | None:
    if "distributed" not in sys.modules:
        return None
    try:
        return str(sys.modules["distributed"].get_worker().address)
    except ValueError:  # this is no worker of dask's
        return None


class Workers(ExitStack):
    """An executor whose workers share no memory with this process; used in a `with`, which cleans up behind it."""

    def __init__(self, executor: Executor) -> None:
        """Nothing is sent yet."""
        super().__init__()
        self._executor = executor
        self._client = _dask_client(executor)
        self._common: Common | None = None
        self._token = ""
        self._carried: Any = None  # what a task has for a worker that lacks what is common
        self._in_flight: set[Future[list[Shard]]] = set()
        self._asked = self._seen = time.monotonic()

    def submit(self, trainer: Trainer, shard: Shard, data: Data, seconds: float = math.inf) -> Future[list[Shard]]:
        """Train a shard for at most so many seconds.

        Raises:
            InputError: the model or the loss cannot be sent.
            WorkersError: the workers are gone, or cannot be given what they need. The future has it, too.
        """
        self.check()
        self._share(Common(trainer, shard.population.template, data.train, data.held_out))
        task = _exchange_template(shard, None), _narrow(data.fitness), _narrow(data.survival), seconds
        answer: Future[list[Shard]] = Future()
        self._in_flight.add(answer)
        answer.add_done_callback(self._in_flight.discard)
        self._send(pickle.dumps(task), answer)
        return answer

    def check(self) -> None:
        """Find out whether there are workers, of a cluster; of other executors that is known only when they answer.

        Raises:
            WorkersError: the scheduler is gone, or has had no workers for a minute.
        """
        if self._client is None:
            return
        address = self._client.scheduler.address
        if self._client.status != "running":
            raise WorkersError(
                f"executor: the scheduler at {address} is gone, and what its workers had not returned is lost; "
                "start it again and make a new client"
            )
        now = time.monotonic()
        if now - self._asked < _ASK_SECONDS:
            return
        self._asked = now
        with suppress(OSError):  # the status says so soon
            self._seen = now if self._client.nthreads() else self._seen
        if now - self._seen > WORKERLESS_SECONDS:
            raise WorkersError(
                f"executor: the scheduler at {address} has had no workers for {WORKERLESS_SECONDS:g} s; "
                f"start some: dask worker {address}"
            )

    def _share(self, common: Common) -> None:
        """Send the shared data to the workers, unless they have it; what was shared before is released."""
        if self._common is not None and all(old is vars(common)[name] for name, old in vars(self._common).items()):
            return
        try:
            packed = dumps(common)
        except Exception as error:  # whatever a module of the user's raises
            raise InputError(
                f"executor: the model or the loss cannot be sent to another process ({describe_error(error)}); "
                "define them in a module of their own, without open files, locks or lambdas"
            ) from error
        if all(answer.done() for answer in tuple(self._in_flight)):  # else one may need it, and it stays until the end
            self.close()
        self._common, self._token = common, uuid.uuid4().hex
        if self._client is not None:
            self._share_on_cluster(packed)
            return
        try:
            remove_stale(Path(tempfile.gettempdir()), f"{_PREFIX}*", WEEK)  # who still needs it asks for it
            folder = Path(self.enter_context(tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True)))
            self._carried = folder / "common.pickle"
            self._carried.write_bytes(packed)
        except OSError as error:
            raise WorkersError(
                f"executor: what workers need ({len(packed):,} bytes) cannot be written to "
                f"{tempfile.gettempdir()} ({describe_error(error)}); name another folder in the variable TMPDIR"
            ) from error

    def _share_on_cluster(self, packed: bytes) -> None:
        """Put what is common on a dask cluster: it travels once from here, and workers get it from each other.

        As the result of a task, for the scheduler then knows how to come by it again if its holders are gone.
        """
        import dask

        client, token = self._client, self._token
        # The warning is of those who send it with each task.
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TiB"}):
            self._carried = client.submit(bytes, packed, key=f"gadam-{token}")

        def close() -> None:
            self._carried = None
            if client.status == "running":
                with suppress(OSError):
                    client.run(_forget, token, on_error="ignore")

        self.callback(close)

    def _send(self, task: bytes, answer: Future[list[Shard]], lacking: str | None = None) -> None:
        """Submit a task.

        `lacking`: None at first; at the second try the worker that lacked the shared data ("" if not dask), which then
        travels with it.
        """
        common = self._common
        assert common is not None

        def done(future: Future[Any]) -> None:
            try:
                found = future.result()
                if not isinstance(found, bytes):
                    self._send(task, answer, found or "")
                    return
                shards = [_exchange_template(each, common.template) for each in pickle.loads(found)]
            except BaseException as error:
                if answer.set_running_or_notify_cancel():
                    answer.set_exception(self._translate(error))
            else:
                if answer.set_running_or_notify_cancel():
                    answer.set_result(shards)

        try:
            if self._client is None:
                carried = self._carried if lacking is None else dumps(common)
                future = self._executor.submit(work, self._token, carried, task)
            elif lacking is None:
                future = self._executor.submit(work, self._token, None, task, pure=False)  # type: ignore[call-arg]
            else:  # at that worker, unless it is gone by now
                where = {"pure": False, "workers": [lacking], "allow_other_workers": True}
                future = self._executor.submit(work, self._token, self._carried, task, **where)
        except BrokenExecutor as error:
            raise self._translate(error) from error
        except RuntimeError as error:  # what executors of the standard library say when they were shut down
            raise WorkersError(f"executor: it takes no more work ({describe_error(error)}); make a new one") from error
        answer.add_done_callback(lambda answer: answer.cancelled() and future.cancel())
        future.add_done_callback(done)

    def _translate(self, error: BaseException) -> BaseException:
        """Put an error of the executor into our words; one of the work itself stays as it is."""
        if isinstance(error, BrokenExecutor):
            return WorkersError(
                "executor: one of its processes ended in the middle of its work, killed or out of memory, and with it "
                "the pool; make a new one and call again"
            )
        if self._client is None:
            return error
        if type(error).__name__ == "KilledWorker":
            return WorkersError(
                f"executor: a shard ended {error.allowed_failures + 1} workers, one after the other; is there memory "  # type: ignore[attr-defined]
                f"enough for it? The last was {error.last_worker.address}"  # type: ignore[attr-defined]
            )
        if not isinstance(error, CancelledError):
            return error
        try:
            self.check()
        except WorkersError as gone:
            return gone
        address = self._client.scheduler.address
        return WorkersError(f"executor: the work was cancelled at {address}; was the cluster restarted?")


def cluster_size(executor: object) -> ClusterSize | None:
    """Return the size of the dask cluster behind an executor; None if it is of another kind."""
    client = _dask_client(executor)
    if client is None:
        return None
    Workers(executor).check()  # type: ignore[arg-type]
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    memory = [each["memory_limit"] // each["nthreads"] for each in workers if each["memory_limit"]]
    return ClusterSize(sum(client.nthreads().values()), min(memory, default=None))


def _dask_client(executor: object) -> Any:
    """Return the client behind `client.get_executor()`; None for an executor of another kind."""
    if "distributed" not in sys.modules:
        return None
    from distributed.cfexecutor import ClientExecutor

    return executor._client if isinstance(executor, ClientExecutor) else None


def _exchange_template(shard: Shard, template: Any) -> Shard:
    """Put another template into a shard: it travels with None, for both sides have the template."""
    return replace(shard, population=replace(shard.population, template=template))


def _narrow(index: Tensor) -> Tensor:
    """Store row numbers in as few bytes as they need: of a small model they would be a large part of what travels."""
    largest = int(index.max()) if index.numel() else 0
    return index.to(next(kind for kind in (torch.int16, torch.int32, torch.int64) if largest <= torch.iinfo(kind).max))
