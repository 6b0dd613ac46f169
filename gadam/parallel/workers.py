"""What travels to workers in other processes and on other machines, and what of it only once (Section 4.3).

What is the same for a whole evolution, the rows above all, comes to a worker once and stays there under a token. A task
is then a shard without its template, and its answer the same after training: nearly the bytes of the units alone. How
a worker comes by what is common depends on where it is:
- workers of most executors are processes of this machine, and read it from a file;
- one that cannot, or is of a dask.distributed cluster, says so and is sent the task again with all that it lacks, on a
  cluster from a worker that has it (`gadam.parallel.cluster`).
"""

from __future__ import annotations

import io
import os
import pickle
import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gadam.config import InputError
from gadam.tracing.programs import Batch
from gadam.training.shards import Data, Part, Shard, TrainingError
from gadam.training.trainer import Trainer

try:  # it also sends what is defined in a notebook, and dask brings it
    from cloudpickle import dumps
except ModuleNotFoundError:
    from pickle import dumps


WORKERLESS_SECONDS = 60.0  # after so long without any worker nobody waits for one any more


class WorkersError(TrainingError):
    """The workers of an executor are gone; the training could go on with others."""


Parts = list[Part]
Train = Callable[..., Parts]
"""(trainer, shard, data, seconds=...) -> what became of the shard."""


@dataclass(frozen=True)
class Common:
    """What is the same for every shard of an evolution."""

    trainer: Trainer
    template: nn.Module
    train: Batch
    held_out: Batch


# In a worker: token -> what came with it. Two, for evolutions that share the workers.
_kept: dict[str, Common] = {}
_KEPT = 2
_PREFIX = "gadam-workers-"


def keep(token: str, packed: bytes) -> Common:
    """In a worker: have what is common at hand, in place of the oldest if there is more than one."""
    common: Common = pickle.loads(packed)
    while len(_kept) >= _KEPT:
        forget(next(iter(_kept)))
    _kept[token] = common
    return common


def forget(token: str) -> None:
    """In a worker: the evolution is over."""
    _kept.pop(token, None)


def work(token: str, common: Path | bytes | None, task: bytes) -> bytes | None:
    """In a worker: train a shard.

    Args:
        token: of what is common.
        common: the same packed, for a worker that has it not; or the file with it; None where workers have it.
        task: how to train, the shard, the row numbers of its validation batches, and for how long.

    Returns:
        What became of the shard; None if this worker has not what is common.
    """
    found = _kept.get(token)
    if found is None:
        try:
            packed = common.read_bytes() if isinstance(common, Path) else common
        except OSError:  # it is on another machine
            packed = None
        if packed is None:
            return None
        found = keep(token, packed)
    train, shard, fitness, survival, seconds = _unpack(task, found.template)
    data = Data(found.train, found.held_out, fitness.long(), survival.long())
    return _pack(train(found.trainer, shard, data, seconds=seconds), found.template)


class Workers:
    """An executor whose workers share no memory with this process; used in a `with`, which cleans up behind it."""

    def __init__(self, executor: Executor) -> None:
        """Nothing is sent yet."""
        self._executor = executor
        self._given = ExitStack()
        self._cluster = _cluster(executor)
        if self._cluster is not None:
            self._given.callback(self._cluster.close)
        self._common: Common | None = None
        self._token = ""
        self._file: Path | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: object) -> None:
        self._given.close()

    def submit(
        self, train: Train, trainer: Trainer, shard: Shard, data: Data, seconds: float | None = None
    ) -> Future[Parts]:
        """Have a shard trained by `train`, a function of a module.

        Raises:
            InputError: the model or the loss cannot be sent.
            WorkersError: the workers are gone, or cannot be given what they need. The future has it, too.
        """
        template = shard.population.template
        self.check()
        self._share(Common(trainer, template, data.train, data.held_out))
        fitness, survival = (_narrow(index, len(data.held_out[1])) for index in (data.fitness, data.survival))
        answer: Future[Parts] = Future()
        self._send(_pack((train, shard, fitness, survival, seconds), template), answer)
        return answer

    def check(self) -> None:
        """Find out whether there are workers, of a cluster; of other executors that is known only when they answer.

        Raises:
            WorkersError: the scheduler is gone, or has had no workers for a minute.
        """
        if self._cluster is not None:
            self._cluster.check()

    def _share(self, common: Common) -> None:
        """Give workers what is common, unless they have the very same."""
        if self._common is not None and all(old is vars(common)[name] for name, old in vars(self._common).items()):
            return
        try:
            packed = dumps(common)
        except Exception as error:  # whatever a module of the user's raises
            raise InputError(
                f"executor: the model or the loss cannot be sent to another process ({_line(error)}); "
                "define them in a module of their own, without open files, locks or lambdas"
            ) from error
        self._common, self._token = common, uuid.uuid4().hex
        if self._cluster is not None:
            self._cluster.share(self._token, packed)
            return
        try:
            _remove_stale()
            folder = Path(self._given.enter_context(tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-")))
            self._file = folder / "common.pickle"
            self._file.write_bytes(packed)
        except OSError as error:
            raise WorkersError(
                f"executor: what workers need ({len(packed):,} bytes) cannot be written to "
                f"{tempfile.gettempdir()} ({_line(error)}); name another folder in the variable TMPDIR"
            ) from error

    def _send(self, task: bytes, answer: Future[Parts], lacking: str | None = None) -> None:
        """Submit a task; once more if a worker, `lacking`, has not what is common."""
        common, cluster = self._common, self._cluster
        assert common is not None

        def done(future: Future[bytes | str | None]) -> None:
            try:
                found = future.result()
                if not isinstance(found, bytes):
                    self._send(task, answer, found or "")
                    return
                parts = _unpack(found, common.template)
            except BaseException as error:
                if answer.set_running_or_notify_cancel():
                    answer.set_exception(self._told(error))
            else:
                if answer.set_running_or_notify_cancel():
                    answer.set_result(parts)

        try:
            if cluster is not None:
                future = cluster.submit(task, lacking)
            else:
                carried = self._file if lacking is None else dumps(common)
                future = self._executor.submit(work, self._token, carried, task)
        except BrokenExecutor as error:
            raise self._told(error) from error
        except RuntimeError as error:  # what executors of the standard library say when they were shut down
            raise WorkersError(f"executor: it takes no more work ({_line(error)}); make a new one") from error
        answer.add_done_callback(lambda answer: answer.cancelled() and future.cancel())
        future.add_done_callback(done)

    def _told(self, error: BaseException) -> BaseException:
        """An error of the executor in our words; one of the work itself as it is."""
        if isinstance(error, BrokenExecutor):
            return WorkersError(
                "executor: one of its processes ended in the middle of its work, killed or out of memory, and with it "
                "the pool; make a new one and call again"
            )
        return error if self._cluster is None else self._cluster.told(error)


class ClusterSize(NamedTuple):
    """A cluster that trains: tasks that run at once, and the bytes of memory that each may take if that is known."""

    threads: int
    memory: int | None


def cluster_size(executor: object) -> ClusterSize | None:
    """Of the cluster behind an executor; None if it is of another kind."""
    cluster = _cluster(executor)
    return None if cluster is None else ClusterSize(cluster.threads(), cluster.memory())


def _cluster(executor: object) -> Any:
    if "distributed" not in sys.modules:  # it cannot be one of dask's
        return None
    from gadam.parallel.cluster import Cluster

    return Cluster.of(executor)


def _remove_stale() -> None:
    """Remove what processes that were killed have left for their workers."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        number = folder.name.removeprefix(_PREFIX).partition("-")[0]
        try:
            os.kill(int(number), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except (ValueError, OSError):  # not ours, or alive and another user's
            continue


class _Packer(pickle.Pickler):
    def __init__(self, file: io.BytesIO, template: nn.Module) -> None:
        super().__init__(file, protocol=5)
        self._template = template

    def persistent_id(self, thing: Any) -> str | None:
        return "template" if thing is self._template else None


class _Unpacker(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, template: nn.Module) -> None:
        super().__init__(file)
        self._template = template

    def persistent_load(self, name: str) -> nn.Module:
        return self._template


def _pack(thing: Any, template: nn.Module) -> bytes:
    """Pickled without the template, which both sides have."""
    file = io.BytesIO()
    _Packer(file, template).dump(thing)
    return file.getvalue()


def _unpack(packed: bytes, template: nn.Module) -> Any:
    return _Unpacker(io.BytesIO(packed), template).load()


def _narrow(index: Tensor, rows: int) -> Tensor:
    """Row numbers in as few bytes as they need: of a small model they would be a large part of what travels."""
    kinds = (torch.int16, torch.int32, torch.int64)
    return index.to(next(kind for kind in kinds if rows <= torch.iinfo(kind).max + 1))


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
