"""A dask.distributed cluster behind an executor: `client.get_executor()`."""

from __future__ import annotations

import time
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any

import dask
from distributed import KilledWorker, get_worker
from distributed.cfexecutor import ClientExecutor

from gadam.parallel.workers import WORKERLESS_SECONDS, WorkersError, forget, work

_ASK_SECONDS = 1.0


class Cluster:
    """The workers that an executor's tasks go to.

    What is common to all tasks is a result on the cluster: the scheduler knows how to come by it again if the workers
    that hold it are gone, and a worker gets it from any of those that do.
    """

    def __init__(self, executor: ClientExecutor) -> None:
        """Nothing is sent yet."""
        self._executor, self._client = executor, executor._client
        self._address = self._client.scheduler.address
        self._common: Any = None
        self._token = ""
        self._asked = self._seen = time.monotonic()

    @classmethod
    def of(cls, executor: object) -> Cluster | None:
        """The cluster behind an executor; None if it is of another kind."""
        return cls(executor) if isinstance(executor, ClientExecutor) else None

    def threads(self) -> int:
        """Tasks that run at once: the threads of all workers there are; raises WorkersError as `check` does."""
        self.check()
        return sum(self._client.nthreads().values())

    def memory(self) -> int | None:
        """Bytes for each task, of the worker that has the least; None where no worker has a limit."""
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        return min((each["memory_limit"] // each["nthreads"] for each in workers if each["memory_limit"]), default=None)

    def share(self, token: str, packed: bytes) -> None:
        """Put on the cluster what tasks have in common; it travels once from here."""
        self._token = token
        # The warning is of those who send it with each task.
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TiB"}):
            self._common = self._client.submit(bytes, packed, key=f"gadam-{token}")

    def submit(self, task: bytes, lacking: str | None) -> Future[bytes | str]:
        """Have `workers.work` called, at the worker that lacked what is common if one did, which then gets it."""
        if lacking is None:
            return self._executor.submit(_work, self._token, None, task, pure=False)
        where = {"workers": [lacking], "allow_other_workers": True}  # it may be gone by now
        return self._executor.submit(_work, self._token, self._common, task, pure=False, **where)

    def close(self) -> None:
        """The evolution is over: workers need not keep anything."""
        self._common = None
        if self._token and self._client.status == "running":
            with suppress(OSError):
                self._client.run(forget, self._token, on_error="ignore")

    def check(self) -> None:
        """Raise WorkersError if the scheduler or all workers are gone, or this client was closed."""
        if self._client.status != "running":
            raise WorkersError(
                f"executor: the scheduler at {self._address} is gone, and what its workers had not returned is lost; "
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
                f"executor: the scheduler at {self._address} has had no workers for {WORKERLESS_SECONDS:g} s; "
                f"start some: dask worker {self._address}"
            )

    def told(self, error: BaseException) -> BaseException:
        """An error of dask in our words; another as it is."""
        if isinstance(error, KilledWorker):
            return WorkersError(
                f"executor: a shard ended {error.allowed_failures + 1} workers, one after the other; is there memory "
                f"enough for it? The last was {error.last_worker.address}"
            )
        if not isinstance(error, CancelledError):
            return error
        try:
            self.check()
        except WorkersError as gone:
            return gone
        return WorkersError(f"executor: the work was cancelled at {self._address}; was the cluster restarted?")


def _work(token: str, common: bytes | None, task: bytes) -> bytes | str:
    """In a worker: its work; or its address, if it lacks what is common."""
    answer = work(token, common, task)
    return str(get_worker().address) if answer is None else answer
