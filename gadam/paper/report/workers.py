"""Compute the runs that the store lacks, side by side in worker processes, of this machine or of a cluster."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from tqdm import tqdm

from gadam.config import InputError
from gadam.paper.report import store
from gadam.paper.report.machine import THREAD_VARIABLES, usable_cores
from gadam.paper.report.paths import ReportError, remove_stale, require_writable, runs_root
from gadam.paper.report.store import Stored
from gadam.paper.runs import THREADS_VARIABLE, Run


class RunError(ReportError):
    """A run failed; what had finished is stored."""


@dataclass(frozen=True)
class Failure:
    """A run that failed, and what `run_error` says of it."""

    run: Run
    error: RunError


def compute(
    runs: Sequence[Run],
    workers: int | None = None,
    root: Path | None = None,
    scheduler: str | None = None,
    *,
    keep_going: bool = False,
    progress: Progress | None = None,
) -> list[Stored]:
    """Read the runs that are stored, compute and store the others.

    Args:
        runs: what is wanted; those of a lower `priority` are computed first. The same run twice is computed once.
        workers: processes that compute, one thread each; default `$GADAM_WORKERS`, or as many as there are cores; of a
            cluster all.
        root: the folder of the store; default `$GADAM_RUNS`, or `reports/runs`.
        scheduler: address of a dask scheduler whose workers compute, "tcp://host:8786"; default processes here.
        keep_going: compute the others too after a run that fails; all that failed are named at the end.
        progress: told of each run that is computed; default a line for each.

    Returns:
        A stored run for each of `runs`, in their order.

    Raises:
        RunError: a run failed. Without `keep_going` those under way are finished and stored first, those not begun are
            not begun.
        ReportError: the store cannot be written.
    """
    folder = root or runs_root()
    count = worker_count(workers)
    wanted = {run.key: run for run in runs}
    found = {key: stored for key, run in wanted.items() if (stored := store.read(folder, run))}
    missing = {key: replace(run, config=dict(run.config)) for key, run in wanted.items() if key not in found}
    started = time.monotonic()
    failures: list[Failure] = []
    if missing:
        require_writable(folder, "GADAM_RUNS")
        remove_stale(folder)
        if scheduler is None:
            finished = _by_processes(list(missing.values()), folder, count, keep_going)
        else:
            from gadam.paper.report.cluster import by_cluster

            finished = by_cluster(list(missing.values()), folder, scheduler, workers, keep_going)
        report = progress or Lines(len(wanted), len(found))
        with contextlib.closing(finished):  # an interrupt here must end it too
            for done in finished:
                report(done)
                if isinstance(done, Failure):
                    failures.append(done)
    if failures and not keep_going:
        raise failures[0].error
    computed = len(missing) - len(failures)
    summary = f"{len(found)} read, {computed} computed in {time.monotonic() - started:.0f} s" if missing else "all read"
    if progress is None:
        print(f"{len(wanted)} run{'s' * (len(wanted) != 1)}: {summary}", flush=True)
    if failures:
        raise joined([failure.error for failure in failures])
    for key, run in missing.items():
        stored = store.read(folder, run)
        if stored is None:
            raise RunError(f"run {_name(run)!r}: {store.path_of(folder, key)} was removed while runs were computed")
        found[key] = stored
    return [found[run.key] for run in runs]


@dataclass(frozen=True)
class Done:
    """A run that was computed, and the seconds that it took here."""

    run: Run
    seconds: float


Progress = Callable[[Done | Failure], None]


class Lines:
    """Says each run in a line, as it comes."""

    def __init__(self, total: int, done: int = 0) -> None:
        self._total, self._done = total, done

    def __call__(self, done: Done | Failure) -> None:
        """Say one more."""
        self._done += 1
        what = f"{done.seconds:.1f} s" if isinstance(done, Done) else f"failed: {done.error}"
        print(f"[{self._done}/{self._total}] {_name(done.run)}: {what}", flush=True)


class Bar:
    """One bar over runs whose lengths are known, on a terminal; elsewhere a line for each.

    Args:
        lines: what will be computed, with its CPU seconds.
        what: named before the bar.
    """

    def __init__(self, lines: Sequence[Any], what: str) -> None:
        self._seconds = {line.run.key: line.seconds or 1.0 for line in lines}
        self._what, self._lines = what, Lines(len(lines))

    def __enter__(self) -> Bar:
        """Show it."""
        self._bar = tqdm(
            total=round(sum(self._seconds.values())), desc=self._what, unit="s", disable=None,
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {postfix} {elapsed} gone, {remaining} left", postfix="",
        )  # fmt: skip
        return self

    def __exit__(self, *error: object) -> None:
        """Leave it as it is."""
        self._bar.close()

    def __call__(self, done: Done | Failure) -> None:
        """One more is computed."""
        if self._bar.disable:
            self._lines(done)
        else:
            self._bar.set_postfix_str(_name(done.run)[:40], refresh=False)
            self._bar.update(self._seconds[done.run.key])


def joined(errors: Sequence[RunError]) -> RunError:
    """Several failures as one, with all that is known of each as a note; one alone stays as it is."""
    if len(errors) == 1:
        return errors[0]
    error = RunError(f"{len(errors)} runs failed: " + "; ".join(map(str, errors)))
    for one in errors:
        for note in getattr(one, "__notes__", []):
            error.add_note(note)
    return error


def _by_processes(missing: Sequence[Run], folder: Path, workers: int, keep_going: bool) -> Generator[Done | Failure]:
    """Compute and store by priority. Runs that are wide come one at a time, and have all cores.

    Without `keep_going` none is begun after one that failed.
    """
    ending = False
    ordered = sorted(missing, key=lambda run: (run.priority, run.wide))
    for (_, wide), runs in groupby(ordered, key=lambda run: (run.priority, run.wide)):
        waiting = _groups(list(runs))
        while waiting:
            done: set[str] = set()
            broken = False
            at_once, threads = (1, workers) if wide else (min(workers, len(waiting)), 1)
            for result in _in_a_pool(waiting, folder, at_once, threads, keep_going):
                if result is None:
                    broken = True
                    continue
                done.add(result.run.key)
                yield result
                if isinstance(result, Failure) and not keep_going:
                    ending = True
            if ending:
                return
            waiting = [left for group in waiting if (left := [run for run in group if run.key not in done])]
            if broken and waiting:
                # One of those under way has killed its process: which, only a pool of its own can tell.
                for group in waiting[:at_once]:
                    outcomes = [one for one in _in_a_pool([group], folder, 1, threads, keep_going) if one is not None]
                    told = "its process died (out of memory?); fewer at once need less memory: set $GADAM_WORKERS"
                    outcomes = outcomes or [Failure(run, run_error(run, told)) for run in group]
                    yield from outcomes
                    if isinstance(outcomes[0], Failure) and not keep_going:
                        return
                waiting = waiting[at_once:]


def _in_a_pool(
    groups: Sequence[Sequence[Run]], folder: Path, workers: int, threads: int, keep_going: bool
) -> Generator[Done | Failure | None]:
    """Compute groups of kin runs in processes of one thread, so that rows do not depend on how many processes.

    The last result is None if a process died; then some have no result, as those have that were not begun after one
    that failed.
    """
    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    with _environment(threads):
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_initialise)
        waiting, running = list(groups), dict[Future[tuple[float, str]], Sequence[Run]]()
        try:
            while waiting or running:
                with _interrupts_later():
                    while waiting and len(running) < workers:  # what the pool has at hand it would begin in any case
                        runs = waiting.pop(0)
                        running[pool.submit(_work, folder, runs)] = runs
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    runs = running.pop(future)
                    seconds, failure = future.result()
                    if failure and not keep_going:
                        waiting.clear()
                    for run in runs:
                        yield Failure(run, run_error(run, failure)) if failure else Done(run, seconds)
        except BrokenProcessPool:
            yield None
        except BaseException:  # interrupted: nobody waits for what is under way, and it leaves no half file
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _groups(missing: Sequence[Run]) -> list[list[Run]]:
    """Runs as they are computed: on a GPU, which has room for it, all seeds of an experiment in one."""
    import torch

    if not torch.cuda.is_available():
        return [[run] for run in missing]
    found: dict[str, list[Run]] = {}
    for run in missing:
        found.setdefault(run.kin() if run.function.together else run.key, []).append(run)
    return list(found.values())


def _work(folder: Path, runs: Sequence[Run]) -> tuple[float, str]:
    """In a worker: (seconds of each, what went wrong). As text, since not every exception survives pickling."""
    try:
        stored = [store.read(folder, run) for run in runs]
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
def _environment(threads: int) -> Iterator[None]:
    """What workers inherit: one thread for the libraries, and how many a run may train on that is wide."""
    new = dict.fromkeys(THREAD_VARIABLES, "1") | {THREADS_VARIABLE: str(threads)}
    before = {name: os.environ.get(name) for name in new}
    os.environ.update(new)
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
    error = RunError(f"run {_name(run)!r} ({run.function.name}) failed: {failure.strip().splitlines()[-1]}")
    error.add_note(failure)
    return error


def _name(run: Run) -> str:
    return run.label or run.function.name
