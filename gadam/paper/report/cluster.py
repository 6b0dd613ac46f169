"""Compute runs on the workers of a dask.distributed cluster.

A run is the task. Its worker needs this package, the same version of it, and the data of the run in its own
`$GADAM_DATA`, but not the disk of the process that asks: what would be the run's file comes back, and is stored here.
"""

from __future__ import annotations

import contextlib
import logging
import re
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gadam.config import InputError
from gadam.paper.report import store
from gadam.paper.report.paths import ReportError, write_atomic
from gadam.paper.report.workers import Done, Failure, RunError, failure_of, run_error
from gadam.paper.runs import Run
from gadam.parallel.workers import WORKERLESS_SECONDS

if TYPE_CHECKING:
    from distributed import Client, Future

CONNECT_SECONDS = 10.0
_POLL_SECONDS = 0.2


def by_cluster(
    missing: Sequence[Run], folder: Path, scheduler: str, limit: int | None = None, keep_going: bool = False
) -> Generator[Done | Failure]:
    """Compute runs by priority and store each in `folder` as it comes.

    A worker that dies costs what it was computing, which another one then computes. No more runs are under way than
    there are workers, or than `limit`, so that after a failure those under way are finished and no others begun.

    Raises:
        InputError: `scheduler` is no address, or distributed is not installed.
        ReportError: the scheduler cannot be reached or has gone, or it has had no workers for a minute.
    """
    todo = sorted(missing, key=lambda run: run.priority)
    running: dict[Future, Run] = {}
    with _connected(scheduler) as client:
        seen = time.monotonic()
        try:
            while running or todo:
                workers = _workers(client, scheduler)
                seen = time.monotonic() if workers else seen
                if time.monotonic() - seen > WORKERLESS_SECONDS:
                    waited = f"{scheduler} has had no workers for {WORKERLESS_SECONDS:g} s"
                    raise ReportError(f"{waited}; start some: {_command(scheduler)}")
                while todo and len(running) < min(workers, limit or workers):
                    run = todo.pop(0)
                    running[client.submit(_work, run.key, run, pure=False)] = run
                for future in [one for one in running if one.done()]:
                    run = running.pop(future)
                    try:
                        content, seconds = _result(future, run, client, scheduler)
                    except RunError as error:
                        if not keep_going:
                            todo.clear()
                        yield Failure(run, error)
                    else:
                        write_atomic(store.path_of(folder, run.key), content)
                        yield Done(run, seconds)
                time.sleep(_POLL_SECONDS)
        finally:
            with contextlib.suppress(Exception):  # the scheduler may not be there any more
                client.cancel(list(running))


def check_scheduler(scheduler: str) -> None:
    """InputError where it is no address that dask can connect to, or distributed is not installed."""
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
def _connected(scheduler: str) -> Iterator[Client]:
    """A client; without its log, for what goes wrong is said here."""
    check_scheduler(scheduler)
    from distributed import Client

    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        try:
            client = Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ReportError(
                f"no scheduler answers at {scheduler} within {CONNECT_SECONDS:g} s; start one: dask scheduler"
            ) from error
        try:
            yield client
        finally:
            client.close(timeout=CONNECT_SECONDS)
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _command(scheduler: str) -> str:
    return f"dask worker {scheduler} --nworkers auto --nthreads 1"


def _workers(client: Client, scheduler: str) -> int:
    """How many workers there are now."""
    with contextlib.suppress(OSError):
        if client.status == "running":
            return len(client.nthreads())
    raise _gone(scheduler)


def _gone(scheduler: str) -> ReportError:
    return ReportError(f"the scheduler {scheduler} has gone; start it again, and its workers: {_command(scheduler)}")


def _result(future: Future, run: Run, client: Client, scheduler: str) -> tuple[bytes, float]:
    """The file of a run and its seconds."""
    from distributed import KilledWorker

    try:
        content, seconds, failure = future.result()
    except KilledWorker as error:
        died = f"{error.allowed_failures + 1} workers died of it, one after another (out of memory?)"
        raise run_error(run, died) from None
    except Exception as error:
        if client.status != "running":
            raise _gone(scheduler) from None
        # It could not be called: what it raises itself comes as text.
        told = (
            f"it cannot be loaded there ({type(error).__name__}); scheduler and workers need the same version of gadam"
        )
        raise run_error(run, told) from error
    if failure:
        raise run_error(run, failure)
    return content, seconds


def _work(key: str, run: Run) -> tuple[bytes, float, str]:
    """On a worker: the file of a run, its seconds, what went wrong. As text, since not every exception can travel."""
    from distributed import get_worker

    worker = get_worker()
    try:
        _check(key, run, worker.state.nthreads)
        with _one_thread(), tempfile.TemporaryDirectory(prefix="gadam-") as folder:
            seconds = store.execute_and_write(Path(folder), run)
            return store.path_of(Path(folder), key).read_bytes(), seconds, ""
    except Exception as error:
        *before, last = failure_of(error).splitlines()
        return b"", 0.0, "\n".join([*before, f"{last} (worker {worker.address})"])


def _check(key: str, run: Run, threads: int) -> None:
    """Whether the rows would be those that the key promises."""
    if threads > 1:
        raise ReportError("its worker has several threads; start it with --nworkers auto --nthreads 1")
    if run.key != key:
        raise ReportError("its worker has another version of gadam; install there what is installed here")
    name, data = run.config.get("dataset"), run.config.get("data")
    if run.data_hash and name and data:
        from gadam.datasets import locate

        if locate(name, data=data).hash != run.data_hash:
            raise ReportError(f"its worker has other data of {name} than is here")


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """As in a worker process of our own: rows may depend on how many threads add up a sum."""
    import torch

    torch.set_num_threads(1)
    limits: Any = contextlib.nullcontext()
    with contextlib.suppress(ImportError):  # it comes with scikit-learn, whose threads it limits
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        limits = threadpool_limits(1)
    with limits:
        yield
