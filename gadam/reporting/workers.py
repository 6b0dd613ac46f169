"""Compute the runs that the store lacks, side by side in worker processes, of this machine or of a cluster."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

from gadam.config import InputError
from gadam.experiments.runs import Run
from gadam.reporting import store
from gadam.reporting.machine import THREAD_VARIABLES, usable_cores
from gadam.reporting.paths import ReportError, remove_stale, require_writable, runs_root
from gadam.reporting.store import Stored


class RunError(ReportError):
    """A run failed; what had finished is stored."""


def compute(
    runs: Sequence[Run], workers: int | None = None, root: Path | None = None, scheduler: str | None = None
) -> list[Stored]:
    """Read the runs that are stored, compute and store the others.

    Args:
        runs: what is wanted. The same run twice is computed once.
        workers: processes that compute, one thread each; default `$GADAM_WORKERS`, or as many as there are cores; of a
            cluster all.
        root: the folder of the store; default `$GADAM_RUNS`, or `reports/runs`.
        scheduler: address of a dask scheduler whose workers compute, "tcp://host:8786"; default processes here.

    Returns:
        A stored run for each of `runs`, in their order.

    Raises:
        RunError: a run failed. Those under way are finished and stored first, those not begun are not begun.
        ReportError: the store cannot be written.
    """
    folder = root or runs_root()
    count = worker_count(workers)
    keys = store.keys(runs)
    wanted = dict(zip(keys, runs, strict=True))
    found = {key: stored for key, run in wanted.items() if (stored := store.read(folder, key, run))}
    missing = {key: replace(run, config=dict(run.config)) for key, run in wanted.items() if key not in found}
    started = time.monotonic()
    if missing:
        require_writable(folder, "GADAM_RUNS")
        remove_stale(folder)
        if scheduler is None:
            finished = _by_processes(missing, folder, min(count, len(missing)))
        else:
            from gadam.reporting.cluster import by_cluster

            finished = by_cluster(missing, folder, scheduler, workers)
        with contextlib.closing(finished):  # an interrupt here must end it too
            for done, (run, seconds) in enumerate(finished, len(found) + 1):
                print(f"[{done}/{len(wanted)}] {_name(run)}: {seconds:.1f} s", flush=True)
    summary = (
        f"{len(found)} read, {len(missing)} computed in {time.monotonic() - started:.0f} s" if missing else "all read"
    )
    print(f"{len(wanted)} run{'s' * (len(wanted) != 1)}: {summary}", flush=True)
    for key, run in missing.items():
        stored = store.read(folder, key, run)
        if stored is None:
            raise RunError(f"run {_name(run)!r}: {store.path_of(folder, key)} was removed while runs were computed")
        found[key] = stored
    return [found[key] for key in keys]


def _by_processes(missing: dict[str, Run], folder: Path, workers: int) -> Generator[tuple[Run, float]]:
    """Compute and store; always in workers of one thread, so that rows do not depend on how many."""
    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    with _one_thread_each():
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_initialise)
        try:
            with _interrupts_later():
                futures = {pool.submit(_work, folder, runs): list(runs.values()) for runs in _groups(missing)}
            for future in as_completed(list(futures)):
                seconds, failure = future.result()
                runs = futures.pop(future)
                if failure:
                    raise run_error(runs[0], failure)
                for run in runs:
                    yield run, seconds
        except BrokenProcessPool:
            names = [_name(run) for runs in futures.values() for run in runs]
            listed = ", ".join(names[:workers]) + ", …" * (len(names) > workers)
            advice = "fewer at once need less memory: set $GADAM_WORKERS"
            raise RunError(f"a worker process died (out of memory?); not finished: {listed}; {advice}") from None
        except RunError:
            raise
        except BaseException:  # interrupted: nobody waits for what is under way, and it leaves no half file
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _groups(missing: Mapping[str, Run]) -> list[dict[str, Run]]:
    """Runs by their keys as they are computed: on a GPU, which has room for it, all seeds of an experiment in one."""
    import torch

    if not torch.cuda.is_available():
        return [{key: run} for key, run in missing.items()]
    found: dict[str, dict[str, Run]] = {}
    for key, run in missing.items():
        found.setdefault(run.kin() if run.together else key, {})[key] = run
    return list(found.values())


def _work(folder: Path, runs: Mapping[str, Run]) -> tuple[float, str]:
    """In a worker: (seconds of each, what went wrong). As text, since not every exception survives pickling."""
    try:
        stored = [store.read(folder, key, run) for key, run in runs.items()]
        if stored[0] and all(stored):  # another process was faster
            return float(stored[0].metadata["seconds"]), ""
        return store.execute_and_write_all(folder, runs), ""
    except Exception as error:
        return 0.0, failure_of(error)


def failure_of(error: Exception) -> str:
    """An exception as its traceback, and in the last line what `run_error` says of it."""
    told = isinstance(error, InputError | ReportError)  # written for a person, who needs no name of a class
    return traceback.format_exc() + (f"{error}\n" if told else "")


def _initialise() -> None:
    """In a worker, before its first run."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches everyone; the parent decides
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    with contextlib.suppress(ImportError):
        import torch

        torch.set_num_threads(1)


def _exit_with_parent() -> None:
    """Without this, the workers of a killed process wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextlib.contextmanager
def _interrupts_later() -> Iterator[None]:
    """Workers inherit it: Ctrl-C would end one with a traceback as long as it is not as far as `_initialise`."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Workers inherit these: the libraries beside torch read them when they are loaded."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def worker_count(workers: int | None = None) -> int:
    """Processes that compute: as given, or `$GADAM_WORKERS`, or as many as there are cores, on a GPU two."""
    given = workers if workers is not None else os.environ.get("GADAM_WORKERS") or _useful()
    if not str(given).isdecimal() or int(given) < 1:
        raise InputError(f"compute: workers={given!r} is not allowed; it must be a whole number, at least 1")
    return int(given)


def _useful() -> int:
    """One process keeps a GPU busy but for its start and end; each more takes its memory."""
    import torch

    return min(2, usable_cores()) if torch.cuda.is_available() else usable_cores()


def run_error(run: Run, failure: str) -> RunError:
    """The last line of a failure, with all of it as a note."""
    error = RunError(f"run {_name(run)!r} ({run.function}) failed: {failure.strip().splitlines()[-1]}")
    error.add_note(failure)
    return error


def _name(run: Run) -> str:
    return run.label or run.function
