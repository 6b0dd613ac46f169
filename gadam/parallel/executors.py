"""Train shards on executors: anything with the interface of `concurrent.futures.Executor` (Section 4.3).

Results depend on how a generation is cut into shards and never on who trains them, so they are bit-identical for any
number of workers.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

from gadam.config import InputError
from gadam.display import shown
from gadam.parallel.workers import Workers
from gadam.training.shards import Data, Progress, Record, Shard
from gadam.training.trainer import Trainer, train_or_halve

POLL_SECONDS = 0.2
"""A waiting main thread wakes so often, to hear of an interrupt or of a stop that `progress` asks for."""
ROUND_SECONDS = 5.0
"""Seconds between the reports of a worker elsewhere, where checkpoints are kept: the most that its crash can cost."""

T = TypeVar("T")


class Threads:
    """Threads of this process as a pool that trains shards; with no executor, the calling thread."""

    def __init__(self, executor: ThreadPoolExecutor | None) -> None:
        self._executor = executor
        self.at_once: int = 1 if executor is None else executor._max_workers

    def submit(
        self, trainer: Trainer, shard: Shard, data: Data, seconds: float | None, progress: Progress, record: Any
    ) -> Future[list[Shard]]:
        """Train a shard for at most so many seconds.

        Raises:
            InputError: the executor was shut down.
        """
        if self._executor is None:
            future: Future[list[Shard]] = Future()
            future.set_result(train_or_halve(trainer, shard, data, progress, record, seconds))
            return future
        try:
            return self._executor.submit(train_or_halve, trainer, shard, data, progress, record, seconds)
        except RuntimeError as error:
            raise InputError(f"executor: it takes no more work ({error}); give one that is open") from None


Pool: TypeAlias = Threads | Workers


@contextmanager
def as_pool(executor: Executor | int | None, useful: int) -> Iterator[Pool]:
    """Make a pool that trains shards of what `evolve` was given.

    Args:
        executor: an executor, which stays open; a number of threads; or None for as many threads as are useful.
        useful: how many shards may run at once to advantage when nothing is asked for.

    Raises:
        InputError: it is none of these.
    """
    executor = useful if executor is None else executor
    if isinstance(executor, bool) or not (isinstance(executor, int) or callable(getattr(executor, "submit", None))):
        raise InputError(
            f"executor={shown(executor)} must be a concurrent.futures.Executor, a number of threads, or None"
        )
    if isinstance(executor, ThreadPoolExecutor):
        yield Threads(executor)
    elif not isinstance(executor, int):
        with Workers(executor) as workers:
            yield workers
    elif executor < 1:
        raise InputError(f"executor={executor} must be at least 1 thread")
    elif executor == 1:
        yield Threads(None)
    else:
        with ThreadPoolExecutor(executor, thread_name_prefix="gadam") as pool:
            yield Threads(pool)


Keep = Callable[[Sequence[Shard]], None]
"""Told of all shards of a role, in order, as they are; nothing of what it is given changes any more."""


def train_shards(
    pool: Pool,
    trainer: Trainer,
    shards: Sequence[Shard],
    data: Data,
    progress: Progress | None = None,
    record: Record | None = None,
    *,
    keep: Keep | None = None,
    seconds: float | None = None,
) -> list[Shard]:
    """Train every shard.

    A shard for which there is too little memory is trained in two halves, with a warning.

    Args:
        pool: who trains.
        trainer: how.
        shards: in any state.
        data: the rows.
        progress: told of steps by threads of this process and of whole shards by other executors, which are asked
            several times a second whether to pause, with no steps.
        record: told of each step, only by threads of this process.
        keep: told of all shards every so many `seconds` and at the end.
        seconds: of training between pauses for `keep`; None pauses only if `progress` asks for it.

    Returns:
        All of them trained, in order; or as they are, if `progress` asked for a pause.

    Raises:
        TrainingError: there is too little memory for half a shard.
        WorkersError: workers elsewhere are gone.
    """
    return _Round(pool, trainer, shards, data, progress, record, keep, seconds).run()


class _Round:
    """The training of the shards of one role."""

    def __init__(
        self,
        pool: Pool,
        trainer: Trainer,
        shards: Sequence[Shard],
        data: Data,
        progress: Progress | None,
        record: Record | None,
        keep: Keep | None,
        seconds: float | None,
    ) -> None:
        self._pool, self._trainer, self._data = pool, trainer, data
        self._progress, self._record, self._keep, self._seconds = progress, record, keep, seconds
        self._shards = {shard.units.start: shard for shard in shards}
        self._pending: dict[Future[list[Shard]], Shard] = {}
        self._paused, self._failed = False, threading.Event()
        self._end = float("inf")

    def run(self) -> list[Shard]:
        """Submit what is not trained, collect what comes back, and so on until nothing is left or a pause is asked for.

        Threads of this process all pause at the same time; workers elsewhere would be idle meanwhile, so each reports
        for itself.
        """
        local = isinstance(self._pool, Threads)
        self._report(0)
        ready = self._begin_round()
        try:
            while ready or self._pending:
                while ready and self._may_submit():
                    self._submit(ready.pop(0))
                if not self._pending:
                    break
                done, _ = wait(self._pending, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
                self._report(0)
                if self._paused and not local:
                    break
                if not done and isinstance(self._pool, Workers):
                    self._pool.check()
                for future in done:
                    after = self._collect(future)
                    ready += [] if local else [shard for shard in after if not shard.is_trained]
                if self._keep is not None and done and not (local and self._pending):
                    self._keep(self._current())
                if local and not self._pending:
                    ready = self._begin_round()
        except BaseException:
            self._failed.set()  # threads stop soon, and what has not started never does
            raise
        finally:
            for future in self._pending:
                future.cancel()
        return self._current()

    def _current(self) -> list[Shard]:
        return [self._shards[start] for start in sorted(self._shards)]

    def _begin_round(self) -> list[Shard]:
        """Set the time of the next pause. Returns what is to be trained until then."""
        self._end = time.monotonic() + (float("inf") if self._seconds is None else self._seconds)
        return [] if self._paused else [shard for shard in self._current() if not shard.is_trained]

    def _may_submit(self) -> bool:
        if self._paused:
            return False
        if isinstance(self._pool, Workers) or not self._pending:
            return True  # one goes on even where a pause is due, or rounds that are too short would get nowhere
        return len(self._pending) < self._pool.at_once and time.monotonic() < self._end

    def _submit(self, shard: Shard) -> None:
        if isinstance(self._pool, Workers):
            seconds = None if self._seconds is None else min(self._seconds, ROUND_SECONDS)
            future = self._pool.submit(self._trainer, shard, self._data, seconds)
        else:
            future = self._pool.submit(self._trainer, shard, self._data, None, self._report, self._record)
        self._pending[future] = shard

    def _collect(self, future: Future[list[Shard]]) -> list[Shard]:
        before = self._pending.pop(future)
        after = future.result()
        self._shards |= {shard.units.start: shard for shard in after}
        if isinstance(self._pool, Workers):
            self._report(sum(shard.steps_taken for shard in after) - before.steps_taken)
        return after

    def _report(self, steps: int) -> bool:
        """Tell `progress` of steps. Returns whether to pause."""
        if self._failed.is_set():
            raise CancelledError
        if self._progress is not None and self._progress(steps):
            self._paused = True
        return self._paused or time.monotonic() > self._end


def run_until_stopped(stop: threading.Event | None, function: Callable[..., T], *given: Any) -> T | None:
    """Call a function in a thread and return its result, or None as soon as `stop` is set; the thread then goes on."""
    if stop is None:
        return function(*given)
    pool = ThreadPoolExecutor(1)
    future = pool.submit(function, *given)
    pool.shutdown(wait=False)
    while not stop.is_set():
        if wait([future], timeout=POLL_SECONDS).done:
            return future.result()
    return None
