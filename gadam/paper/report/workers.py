"""Compute the runs that the store lacks: one loop over an executor, of processes here or of a dask.distributed cluster.

A worker of a cluster needs the same version of this package, and the data of the run in its own `$GADAM_DATA`, but not
the disk of the process that asks: the run's file comes back, and is stored here.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import re
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gadam.config import InputError
from gadam.paper.report import store
from gadam.paper.report.machine import THREAD_VARIABLES, usable_cores
from gadam.paper.report.paths import ReportError, remove_stale, require_writable, runs_root, write_atomic
from gadam.paper.report.store import Stored
from gadam.paper.runs import THREADS_VARIABLE, Run

CONNECT_SECONDS = 10.0
WORKERLESS_SECONDS = 60.0  # after so long without any worker nobody waits for one any more
_POLL_SECONDS = 0.5


class RunError(ReportError):
    """A run failed; what had finished is stored."""


@dataclass(frozen=True)
class Outcome:
    """A run that was computed, with the seconds that it took; or that failed, with its error."""

    run: Run
    seconds: float = 0.0
    error: RunError | None = None


class Progress:
    """Print a line for each run that is computed, and how long the others will take as far as that is known.

    Args:
        total: how many runs there are.
        done: how many of them are there.
        seconds: expected CPU seconds of the others, by key.
        workers: how many compute.
    """

    def __init__(self, total: int, done: int, seconds: Mapping[str, float], workers: int = 1) -> None:
        self._total, self._done, self._left, self._workers = total, done, dict(seconds), workers

    def __call__(self, outcome: Outcome) -> None:
        """Print one more."""
        self._done += 1
        self._left.pop(outcome.run.key, None)
        what = f"failed: {outcome.error}" if outcome.error else f"{outcome.seconds:.1f} s"
        if self._left:
            what += f", about {duration(sum(self._left.values()) / self._workers)} left"
        print(f"[{self._done}/{self._total}] {outcome.run.title}: {what}", flush=True)


def duration(seconds: float) -> str:
    """Seconds as a reader says them: "0 s", "45 s", "3 min", "2.5 h", "4.1 d"."""
    if seconds < 100:
        return f"{-int(-seconds // 1)} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3_600:.1f} h" if seconds < 48 * 3_600 else f"{seconds / 86_400:,.1f} d"


def compute(
    runs: Sequence[Run],
    workers: int | None = None,
    root: Path | None = None,
    scheduler: str | None = None,
    *,
    keep_going: bool = False,
    seconds: Mapping[str, float] | None = None,
    progress: Callable[[Outcome], None] | None = None,
) -> list[Stored]:
    """Read the runs that are stored, compute and store the others.

    Args:
        runs: those wanted; of a lower `priority` first. The same run twice is computed once.
        workers: processes that compute, one thread each; default `$GADAM_WORKERS`, or as many as there are cores; of a
            cluster all.
        root: folder of the store; default `$GADAM_RUNS`, or `reports/runs`.
        scheduler: address of a dask scheduler whose workers compute, "tcp://host:8786"; default processes here.
        keep_going: compute the others too after a run that fails.
        seconds: expected CPU seconds by key, for the progress.
        progress: called with each run that is computed; default a line for each.

    Returns:
        A stored run for each of `runs`, in their order.

    Raises:
        RunError: runs failed. Without `keep_going` those under way are finished and stored first, and no others begun.
        ReportError: the store cannot be written, or the scheduler does not answer or has no workers.
    """
    folder, count, started = root or runs_root(), worker_count(workers), time.monotonic()
    wanted = {run.key: run for run in runs}
    found = {key: stored for key, run in wanted.items() if (stored := store.read(folder, run))}
    missing = [run for key, run in wanted.items() if key not in found]
    failures = []
    if missing:
        require_writable(folder, "GADAM_RUNS")
        remove_stale(folder)
        expected = {run.key: seconds[run.key] for run in missing if seconds and run.key in seconds}
        report = progress or Progress(len(wanted), len(found), expected, count)
        pool = _processes(count) if scheduler is None else _cluster(scheduler, workers)
        with pool as executor, contextlib.closing(_outcomes(missing, folder, executor, keep_going)) as outcomes:
            for outcome in outcomes:
                report(outcome)
                failures += [outcome.error] if outcome.error else []
    if failures and not keep_going:
        raise failures[0]
    if progress is None:
        took = f"{len(found)} read, {len(missing) - len(failures)} computed in {time.monotonic() - started:.0f} s"
        print(f"{len(wanted)} run{'s' * (len(wanted) != 1)}: {took if missing else 'all read'}", flush=True)
    if failures:
        raise joined(failures)
    for run in missing:
        if not (stored := store.read(folder, run)):
            raise RunError(f"run {run.title!r}: {store.path_of(folder, run.key)} was removed while runs were computed")
        found[run.key] = stored
    return [found[run.key] for run in runs]


def joined(errors: Sequence[RunError]) -> RunError:
    """Join several failures into one, with all that is known of each as a note; one alone stays as it is."""
    if len(errors) == 1:
        return errors[0]
    error = RunError(f"{len(errors)} runs failed: " + "; ".join(map(str, errors)))
    for note in (note for one in errors for note in getattr(one, "__notes__", [])):
        error.add_note(note)
    return error


def worker_count(workers: int | None = None) -> int:
    """Processes that compute: as given, or `$GADAM_WORKERS`, or as many as there are cores, on a GPU two."""
    given = workers if workers is not None else os.environ.get("GADAM_WORKERS")
    if given in (None, ""):
        return min(2, usable_cores()) if _on_gpu() else usable_cores()  # one keeps a GPU busy but for start and end
    if not str(given).isdecimal() or int(given) < 1:
        raise InputError(f"compute: workers={given!r} is not allowed; it must be a whole number, at least 1")
    return int(given)


def _on_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


# --- the loop ---


@dataclass(frozen=True)
class _Task:
    """The work that is sent to a worker: a run, or several that differ in their seed alone.

    Attributes:
        runs: to compute.
        folder: of the store; None on another machine, which sends the file back.
        threads: how many a run may train on.
        alone: nothing else may compute beside it.
        keys: of the runs where they were planned; other code would give others.
    """

    runs: tuple[Run, ...]
    folder: Path | None = None
    threads: int = 1
    alone: bool = False
    keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", self.keys or tuple(run.key for run in self.runs))

    def __call__(self) -> tuple[float, bytes, str]:
        """Compute: seconds of each run, its file if that is to be sent, the traceback if it failed.

        A failure comes as text, since not every exception survives pickling.
        """
        os.environ[THREADS_VARIABLE] = str(self.threads)
        try:
            if self.folder is not None:
                stored = [store.read(self.folder, run) for run in self.runs]
                if stored[0] and all(stored):  # another process was faster
                    return float(stored[0].metadata["seconds"]), b"", ""
                return store.execute_and_write(self.folder, *self.runs), b"", ""
            self._check_worker()
            with _one_thread(), tempfile.TemporaryDirectory(prefix="gadam-") as scratch:
                seconds = store.execute_and_write(Path(scratch), *self.runs)
                return seconds, store.path_of(Path(scratch), self.keys[0]).read_bytes(), ""
        except Exception as error:
            told = traceback.format_exc()
            if isinstance(error, InputError | ReportError):  # written for a person, who needs no name of a class
                told += f"{error}\n"
            return 0.0, b"", told if self.folder is not None else f"{told.rstrip()} (worker {_worker().address})"

    def _check_worker(self) -> None:
        """Refuse a worker of a cluster that would not give the rows that the keys promise."""
        if _worker().state.nthreads > 1:
            raise ReportError("its worker has several threads; start it with --nworkers auto --nthreads 1")
        if tuple(run.key for run in self.runs) != self.keys:
            raise ReportError("its worker has another version of gadam; install there what is installed here")
        for run in self.runs:
            name, data = run.config.get("dataset"), run.config.get("data")
            if run.data_hash and name and data:
                from gadam.datasets import locate

                if locate(name, data=data).hash != run.data_hash:
                    raise ReportError(f"its worker has other data of {name} than is here")


def _worker() -> Any:
    from distributed import get_worker

    return get_worker()


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Compute as in a process of our own: rows may depend on how many threads add up a sum."""
    import torch
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # scikit-learn brings it

    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield


def _outcomes(
    missing: Sequence[Run], folder: Path, workers: _Processes | _Cluster, keep_going: bool
) -> Generator[Outcome]:
    """Compute by priority and store each run as it comes, never more at once than there are workers.

    What was under way when a process died is tried once more, one by one: which of them killed it, only that can tell.
    Without `keep_going` nothing is begun after a failure.
    """
    waiting, retried = workers.tasks(sorted(missing, key=lambda run: (run.priority, run.wide)), folder), set[str]()
    running: dict[Future[Any], _Task] = {}
    while waiting or running:
        count = workers.count()
        while waiting and len(running) < count:
            if running and (waiting[0].alone or any(task.alone for task in running.values())):
                break
            task = waiting.pop(0)
            running[workers.submit(task)] = task
        for future in wait(running, _POLL_SECONDS, FIRST_COMPLETED).done:
            task = running.pop(future)
            try:
                seconds, content, failure = future.result()
            except Exception as error:
                if isinstance(error, BrokenProcessPool) and task.keys[0] not in retried:
                    retried.add(task.keys[0])
                    waiting.insert(0, replace(task, alone=True))
                    continue
                seconds, content, failure = 0.0, b"", workers.explain(error)
            if failure and not keep_going:
                waiting.clear()
            if content:
                write_atomic(store.path_of(folder, task.keys[0]), content)
            yield from (Outcome(run, seconds, run_error(run, failure) if failure else None) for run in task.runs)
        if not count:
            time.sleep(_POLL_SECONDS)


def run_error(run: Run, failure: str) -> RunError:
    """The last line of a failure, with all of it as a note."""
    error = RunError(f"run {run.title!r} ({run.function.name}) failed: {failure.strip().splitlines()[-1]}")
    error.add_note(failure)
    return error


# --- processes of this machine ---


class _Processes:
    """A pool of spawned processes, made anew after one of them died."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.pool = self._new()

    def _new(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self._count, mp_context=context, initializer=_initialise)

    def tasks(self, runs: Sequence[Run], folder: Path) -> list[_Task]:
        """Make a task of each run, and on a GPU, which has room for it, one of all seeds of an experiment."""
        groups: dict[str, list[Run]] = {}
        for run in runs:
            groups.setdefault(run.kin() if run.function.together and _on_gpu() else run.key, []).append(run)
        threads = {False: 1, True: self._count}
        return [_Task(tuple(group), folder, threads[group[0].wide], group[0].wide) for group in groups.values()]

    def count(self) -> int:
        """Tasks that are computed at once."""
        return self._count

    def submit(self, task: _Task) -> Future[Any]:
        """Begin a task, in a process that starts with SIGINT blocked: Ctrl-C would end it with a traceback."""
        mask = getattr(signal, "pthread_sigmask", lambda *_: None)
        before = mask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return self.pool.submit(task)
        except BrokenProcessPool:
            self.pool = self._new()
            return self.pool.submit(task)
        finally:
            mask(signal.SIG_SETMASK, before)

    def explain(self, error: BaseException) -> str:
        """Say why a task has no result."""
        if isinstance(error, BrokenProcessPool):
            return "its process died (out of memory?); fewer at once need less memory: set $GADAM_WORKERS"
        return f"it cannot be sent to a process ({type(error).__name__}: {error})"


@contextlib.contextmanager
def _processes(count: int) -> Iterator[_Processes]:
    """Processes of one thread, so that rows do not depend on how many processes there are."""
    others = set(multiprocessing.active_children())
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))  # processes inherit it
    workers = _Processes(count)
    try:
        yield workers
    except BaseException:  # interrupted: nobody waits for what is under way, and it leaves no half file
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        workers.pool.shutdown(cancel_futures=True)
        for name, value in before.items():
            del os.environ[name]
            os.environ.update({name: value} if value is not None else {})


def _initialise() -> None:
    """Prepare a process before its first run."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches everyone; the parent decides
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(1)


def _exit_with_parent() -> None:
    """End this process with its parent; the workers of a killed process would wait for work for ever."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


# --- a cluster ---


class _Cluster:
    """The workers of a dask scheduler, a task each; what one that dies was computing another one computes."""

    def __init__(self, client: Any, scheduler: str, limit: int | None) -> None:
        self._client, self._scheduler, self._limit = client, scheduler, limit
        self.executor, self._seen = client.get_executor(pure=False), time.monotonic()
        self._command = f"dask worker {scheduler} --nworkers auto --nthreads 1"

    def tasks(self, runs: Sequence[Run], folder: Path) -> list[_Task]:
        """Make a task of each run."""
        return [_Task((run,)) for run in runs]

    def count(self) -> int:
        """Tasks that are computed at once now; raises a ReportError if the scheduler has gone or has no workers."""
        with contextlib.suppress(OSError):
            if self._client.status == "running":
                found = len(self._client.nthreads())
                self._seen = time.monotonic() if found else self._seen
                if time.monotonic() - self._seen > WORKERLESS_SECONDS:
                    waited = f"{self._scheduler} has had no workers for {WORKERLESS_SECONDS:g} s"
                    raise ReportError(f"{waited}; start some: {self._command}")
                return min(found, self._limit or found)
        raise ReportError(f"the scheduler {self._scheduler} has gone; start it again, and its workers: {self._command}")

    def submit(self, task: _Task) -> Future[Any]:
        """Begin a task."""
        future: Future[Any] = self.executor.submit(task)
        return future

    def explain(self, error: BaseException) -> str:
        """Say why a task has no result; a run's own exception comes as text."""
        self.count()  # which raises if the scheduler has gone
        if deaths := getattr(error, "allowed_failures", None):  # of a distributed.KilledWorker
            return f"{deaths + 1} workers died of it, one after another (out of memory?)"
        return f"it cannot be loaded there ({type(error).__name__}); scheduler and workers need the same gadam"


def check_scheduler(scheduler: str) -> None:
    """Raise an InputError where it is no address that dask can connect to, or distributed is not installed."""
    # Of what it cannot connect to dask says much more than a line; so it does of ucx, which is no part of it any more.
    if not re.fullmatch(r"(tcp|tls|ws|wss)://\S+:\d+", scheduler):
        raise InputError(f"scheduler={scheduler!r} is not an address; give what the scheduler prints: tcp://host:8786")
    try:
        from distributed import Security
    except ModuleNotFoundError:
        raise InputError("scheduler: dask.distributed is not installed; pip install 'gadam[distributed]'") from None
    if scheduler.startswith("tls:") and Security().get_connection_args("client")["ssl_context"] is None:
        raise InputError(f"scheduler={scheduler!r} needs certificates; name them in dask's configuration: comm.tls")


@contextlib.contextmanager
def _cluster(scheduler: str, limit: int | None) -> Iterator[_Cluster]:
    """Connect to a scheduler."""
    check_scheduler(scheduler)
    from distributed import Client

    for name in ("distributed", "distributed.client"):  # what goes wrong is said here
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        client = Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        told = f"no scheduler answers at {scheduler} within {CONNECT_SECONDS:g} s; start one: dask scheduler"
        raise ReportError(told) from error
    workers = _Cluster(client, scheduler, limit)
    try:
        yield workers
    finally:
        with contextlib.suppress(Exception):  # the scheduler may not be there any more
            workers.executor.shutdown(wait=False)
        client.close(timeout=CONNECT_SECONDS)
