"""Compute the runs that the store lacks: one loop, over processes of this machine or a dask.distributed cluster.

A worker of a cluster needs the same version of this package, and the data of the run in its own `$GADAM_DATA`, but not
the disk of the process that asks: the run's file comes back, and is stored here.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # scikit-learn brings it

from gadam.config import InputError
from gadam.datasets import locate
from gadam.display import describe_error, duration
from gadam.paper.report import store
from gadam.paper.report.machine import THREAD_VARIABLES, usable_cores
from gadam.paper.report.paths import ReportError, prepare_folder, runs_root, write_atomic
from gadam.paper.report.store import Stored
from gadam.paper.runs import THREADS_VARIABLE, Run

CONNECT_SECONDS = 10.0
WORKERLESS_SECONDS = 60.0  # after so long without any worker nobody waits for one any more
_POLL_SECONDS = 0.5


def compute(
    runs: Sequence[Run], workers: int | None = None, root: Path | None = None, scheduler: str | None = None, *,
    seconds: Mapping[str, float] | None = None, failures: list[ReportError] | None = None,
) -> list[Stored]:  # fmt: skip
    """Read the runs that are stored, compute and store the others, and print a line for each of these.

    Args:
        runs: those wanted; of a lower `priority` first. The same run twice is computed once.
        workers: processes that compute, one thread each; default `$GADAM_WORKERS`, or as many as there are cores; of a
            cluster all.
        root: folder of the store; default `$GADAM_RUNS`, or `reports/runs`.
        scheduler: address of a dask scheduler whose workers compute, "tcp://host:8786"; default processes here.
        seconds: CPU seconds that runs will take, by key, as far as that is known.
        failures: where given, failures are put there, and the other runs are computed and returned.

    Returns:
        A stored run for each of `runs`, in their order.

    Raises:
        ReportError: a run failed, with its traceback in a note; those under way were finished and stored, and no others
            begun. Or the store cannot be written, or the scheduler does not answer or has no workers.
    """
    folder, count, started = root or runs_root(), worker_count(workers), time.monotonic()
    wanted = {run.key: run for run in runs}
    found = {key: stored for key, run in wanted.items() if (stored := store.read(folder, run))}
    missing = [run for key, run in wanted.items() if key not in found]
    failed: list[ReportError] = []
    if missing:
        prepare_folder(folder, "GADAM_RUNS")
        left = {run.key: seconds[run.key] for run in missing if seconds and run.key in seconds}
        pool = _Processes(count) if scheduler is None else _Cluster(scheduler, workers)
        with pool, contextlib.closing(_compute(missing, folder, pool, failures is not None)) as computed:
            for number, (run, one) in enumerate(computed, start=len(found) + 1):
                what = f"{one.seconds:.1f} s"
                if one.failure:
                    failed.append(_run_error(run, one))
                    what = f"failed: {failed[-1]}"
                left.pop(run.key, None)
                what += f", about {duration(sum(left.values()) / max(1, pool.count()))} left" if left else ""
                print(f"[{number}/{len(wanted)}] {run.label}: {what}", flush=True)
    if failed and failures is None:
        raise failed[0]
    took = f"{len(found)} read, {len(missing) - len(failed)} computed in {time.monotonic() - started:.0f} s"
    print(f"{len(wanted)} run{'s' * (len(wanted) != 1)}: {took if missing else 'all read'}", flush=True)
    if failures is not None:
        failures += failed
    found |= {run.key: stored for run in missing if (stored := store.read(folder, run))}
    return [found[run.key] for run in runs if run.key in found]


def worker_count(workers: int | None = None) -> int:
    """Processes that compute: as given, or `$GADAM_WORKERS`, or as many as there are cores, on a GPU two."""
    given = workers if workers is not None else os.environ.get("GADAM_WORKERS")
    if given in (None, ""):  # one keeps a GPU busy but for start and end
        return min(2, usable_cores()) if torch.cuda.is_available() else usable_cores()
    if not str(given).isdecimal() or int(given) < 1:
        name = "GADAM_WORKERS" if workers is None else "workers"
        raise InputError(f"{name}={given!r} must be a whole number, at least 1")
    return int(given)


# --- the loop, and what a worker does ---


@dataclass(frozen=True)
class _Computed:
    """What became of a run: its seconds and, where a worker has another disk, its file; or why it failed."""

    seconds: float = 0.0
    content: bytes = b""
    failure: str = ""
    traceback: str = ""


def _compute(
    missing: Sequence[Run], folder: Path, pool: _Processes | _Cluster, keep_going: bool
) -> Generator[tuple[Run, _Computed]]:
    """Compute by priority and store each run as it comes, never more at once than there are workers.

    A wide run has a machine for itself. Without `keep_going` nothing is begun after a failure.
    """
    waiting = sorted(missing, key=lambda run: (run.priority, run.wide))
    running: dict[Future[_Computed], Run] = {}
    while waiting or running:
        count = pool.count()
        while waiting and len(running) < count:
            if running and pool.is_one_machine and (waiting[0].wide or any(run.wide for run in running.values())):
                break
            run = waiting.pop(0)
            running[pool.submit(run, folder)] = run
        for future in wait(running, _POLL_SECONDS, FIRST_COMPLETED).done:
            run, computed = running.pop(future), pool.collect(future)
            if computed.failure and not keep_going:
                waiting.clear()
            if computed.content:
                write_atomic(store.path_of(folder, run.key), computed.content)
            yield run, computed
        if not count:
            time.sleep(_POLL_SECONDS)


def _work(run: Run, folder: Path | None, threads: int, key: str) -> _Computed:
    """Compute a run in a worker; without a folder its file is sent back.

    A failure comes as text, since not every exception survives pickling.
    """
    os.environ[THREADS_VARIABLE] = str(threads)
    torch.set_num_threads(1)  # rows may depend on how many threads add up a sum
    try:
        if folder is None:
            _check_worker(run, key)
        with threadpool_limits(1), tempfile.TemporaryDirectory(prefix="gadam-") as scratch:
            seconds = store.execute_and_write(folder or Path(scratch), run)
            return _Computed(seconds, b"" if folder else store.path_of(Path(scratch), key).read_bytes())
    except Exception as error:
        told = str(error) if isinstance(error, InputError | ReportError) else describe_error(error)
        where = "" if folder else f" (worker {_worker().address})"
        return _Computed(failure=told + where, traceback=traceback.format_exc())


def _check_worker(run: Run, key: str) -> None:
    """Refuse a worker of a cluster that would not give the rows that the key promises."""
    if _worker().state.nthreads > 1:
        raise ReportError("its worker has several threads; start it with --nworkers auto --nthreads 1")
    if run.key != key:
        raise ReportError("its worker has another version of gadam; install there what is installed here")
    name, data = run.config.get("dataset"), run.config.get("data")
    if run.data_hash and name and data and locate(name, data=data).hash != run.data_hash:
        raise ReportError(f"its worker has other data of {name} than is here")


def _worker() -> Any:
    from distributed import get_worker

    return get_worker()


def _run_error(run: Run, computed: _Computed) -> ReportError:
    error = ReportError(f"run {run.label!r} ({run.function.name}) failed: {computed.failure}")
    error.add_note(computed.traceback)
    return error


# --- processes of this machine ---


class _Processes(contextlib.AbstractContextManager[Any]):
    """Spawned processes, each an executor of its own: one that dies costs its run alone."""

    is_one_machine = True

    def __init__(self, count: int) -> None:
        self._count, self._others = count, set(multiprocessing.active_children())
        self._idle: list[ProcessPoolExecutor] = []
        self._busy: dict[Future[_Computed], ProcessPoolExecutor] = {}

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:  # interrupted: nobody waits for what is under way, and it leaves no half file
            for process in set(multiprocessing.active_children()) - self._others:
                process.terminate()
        for executor in (*self._idle, *self._busy.values()):
            executor.shutdown(cancel_futures=True)

    def count(self) -> int:
        """Runs that are computed at once."""
        return self._count

    def submit(self, run: Run, folder: Path) -> Future[_Computed]:
        context = multiprocessing.get_context("spawn")
        executor = self._idle.pop() if self._idle else ProcessPoolExecutor(1, context, _prepare_process)
        with _children_inherit():
            future = executor.submit(_work, run, folder, self._count if run.wide else 1, run.key)
        self._busy[future] = executor
        return future

    def collect(self, future: Future[_Computed]) -> _Computed:
        """Return what became of a run that is done."""
        executor = self._busy.pop(future)
        try:
            computed = future.result()
        except BrokenProcessPool:
            executor.shutdown()
            return _Computed(failure="its process died (out of memory?); $GADAM_WORKERS allows fewer at once")
        self._idle.append(executor)
        return computed


@contextlib.contextmanager
def _children_inherit() -> Iterator[None]:
    """Give processes that are started inside one thread a library, and no SIGINT: the parent decides on Ctrl-C.

    Rows then do not depend on how many processes there are.
    """
    before, mask = os.environ.copy(), getattr(signal, "pthread_sigmask", lambda *_: None)
    signals = mask(signal.SIG_BLOCK, {signal.SIGINT})
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name in THREAD_VARIABLES:
            del os.environ[name]
        os.environ.update(before)
        mask(signal.SIG_SETMASK, signals)


def _prepare_process() -> None:
    """Let a process go on at Ctrl-C, and end with its parent, or it would wait for work for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def exit_with_parent() -> None:
        if parent := multiprocessing.parent_process():
            parent.join()
            os._exit(1)

    threading.Thread(target=exit_with_parent, daemon=True).start()


# --- a cluster ---


class _Cluster(contextlib.AbstractContextManager[Any]):
    """The workers of a dask scheduler, a run each; what one that dies was computing another one computes."""

    is_one_machine = False

    def __init__(self, scheduler: str, limit: int | None) -> None:
        address = urlsplit(scheduler)  # of what else it cannot connect to, dask tells more when it tries
        if not address.scheme or (":" not in address.netloc and address.scheme != "inproc"):
            raise InputError(f"scheduler={scheduler!r} is not an address; give what it prints: tcp://host:8786")
        try:
            from distributed import Client
        except ModuleNotFoundError:
            raise InputError("scheduler: dask.distributed is not installed; pip install 'gadam[distributed]'") from None
        for name in ("distributed", "distributed.client"):  # what goes wrong is said here
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._scheduler, self._limit, self._seen = scheduler, limit, time.monotonic()
        try:
            self._client = Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
        except Exception as error:  # of many kinds, for an address or certificates that it cannot use too
            told = f"no scheduler answers at {scheduler} within {CONNECT_SECONDS:g} s ({describe_error(error):.80})"
            raise ReportError(f"{told}; start one: dask scheduler") from error
        self._executor = self._client.get_executor(pure=False)

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(Exception):  # the scheduler may not be there any more
            self._executor.shutdown(wait=False)
        self._client.close(timeout=CONNECT_SECONDS)

    def count(self) -> int:
        """Runs that are computed at once now; raises a ReportError if the scheduler has gone or has no workers."""
        command = f"dask worker {self._scheduler} --nworkers auto --nthreads 1"
        with contextlib.suppress(OSError):
            if self._client.status == "running":
                found = len(self._client.nthreads())
                self._seen = time.monotonic() if found else self._seen
                if time.monotonic() - self._seen > WORKERLESS_SECONDS:
                    waited = f"{self._scheduler} has had no workers for {WORKERLESS_SECONDS:g} s"
                    raise ReportError(f"{waited}; start some: {command}")
                return min(found, self._limit or found)
        raise ReportError(f"the scheduler {self._scheduler} has gone; start it again, and its workers: {command}")

    def submit(self, run: Run, folder: Path) -> Future[_Computed]:
        future: Future[_Computed] = self._executor.submit(_work, run, None, 1, run.key)
        return future

    def collect(self, future: Future[_Computed]) -> _Computed:
        """Return what became of a run that is done; a run's own exception comes as text."""
        try:
            return future.result()
        except Exception as error:
            self.count()  # which raises if the scheduler has gone
            if deaths := getattr(error, "allowed_failures", None):  # of a distributed.KilledWorker
                return _Computed(failure=f"{deaths + 1} workers died of it, one after another (out of memory?)")
            told = f"it cannot be loaded there ({describe_error(error)})"
            return _Computed(failure=f"{told}; scheduler and workers need the same gadam")
