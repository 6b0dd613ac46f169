"""Train shards on executors: anything with the interface of `concurrent.futures.Executor` (Section 4.3).

Results depend on how a generation is cut into shards and never on who trains them, so they are bit-identical for any
number of workers.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

from gadam.config import InputError
from gadam.display import shown
from gadam.parallel.workers import Workers
from gadam.training.shards import Data, Progress, Record, Shard
from gadam.training.trainer import Trainer, train_or_halve

POLL_SECONDS = 0.2
"""A waiting main thread wakes so often, to hear of an interrupt or of a stop that `progress` asks for."""
ROUND_SECONDS = 5.0
"""After so long a worker elsewhere returns its shard, trained or not: the most that its crash or a stop can cost."""

Pool: TypeAlias = ThreadPoolExecutor | Workers | None
"""Who trains shards: threads of this process, workers elsewhere, or the calling thread."""


def check_executor(executor: Any) -> None:
    """Refuse what is no executor, no number of threads and not None."""
    is_number = isinstance(executor, int) and not isinstance(executor, bool)
    if not (executor is None or is_number or callable(getattr(executor, "submit", None))):
        raise InputError(
            f"executor={shown(executor)} must be a concurrent.futures.Executor, a number of threads, or None"
        )
    if is_number and executor < 1:
        raise InputError(f"executor={executor} must be at least 1 thread")


def as_pool(executor: Executor | int | None, useful: int) -> AbstractContextManager[Pool]:
    """Make a pool that trains shards of what `evolve` was given: an executor, which stays open, or a number of threads.

    None are as many threads as are `useful`.
    """
    executor = useful if executor is None else executor
    if isinstance(executor, int):
        return ThreadPoolExecutor(executor, thread_name_prefix="gadam") if executor > 1 else nullcontext()
    return nullcontext(executor) if isinstance(executor, ThreadPoolExecutor) else Workers(executor)


def train_shards(
    pool: Pool,
    trainer: Trainer,
    shards: Sequence[Shard],
    data: Data,
    progress: Progress | None = None,
    record: Record | None = None,
    *,
    keep: Callable[[Sequence[Shard]], None] | None = None,
    seconds: float | None = None,
) -> list[Shard]:
    """Train every shard of a role, in any state: submit, collect, until nothing is left or a pause is asked for.

    Threads train in rounds of `seconds`: all pause, `keep` saves one consistent state, the next round begins. Workers
    have no rounds: each returns its shard every `ROUND_SECONDS` (or `seconds`, if less) and gets it back. A shard for
    which there is too little memory is trained in two halves, with a warning.

    `progress` is told of steps, of workers when a shard is back, and is asked several times a second, with no steps,
    whether to pause; what workers do then is given up. `record` is told of each step. `keep` is told of all shards, in
    order, after each round, or whenever workers return some, and at the end; they do not change any more.

    Returns all of them trained, in order; or as they are, if `progress` asked for a pause.

    Raises:
        TrainingError: there is too little memory for a single unit; or, as `WorkersError`, workers elsewhere are gone.
        InputError: the executor was shut down.
    """
    elsewhere, seconds = isinstance(pool, Workers), math.inf if seconds is None else seconds
    if record is not None and elsewhere:
        raise InputError("record: workers elsewhere tell nothing of their steps; must be None, or the executor threads")
    at_once = pool._max_workers if isinstance(pool, ThreadPoolExecutor) else 1
    held = {shard.units.start: shard for shard in shards}
    pending: dict[Future[list[Shard]], Shard] = {}
    paused, failed = threading.Event(), threading.Event()
    end = math.inf  # of this round: when threads pause for `keep`

    def report(steps: int) -> bool:
        """Tell `progress` of steps. Returns whether to pause."""
        if failed.is_set():
            raise CancelledError
        if progress is not None and progress(steps):
            paused.set()
        return paused.is_set() or time.monotonic() > end

    def current() -> list[Shard]:
        return [held[start] for start in sorted(held)]

    def begin_round() -> list[Shard]:
        """Set the time of the next pause. Returns what is to be trained until then."""
        nonlocal end
        end = time.monotonic() + seconds
        return [] if paused.is_set() else [shard for shard in current() if not shard.is_trained]

    def has_room() -> bool:
        if paused.is_set():
            return False
        if elsewhere or not pending:
            return True  # at least one shard a round, or a very short `seconds` would make no progress
        return len(pending) < at_once and time.monotonic() < end

    def submit(shard: Shard) -> Future[list[Shard]]:
        if isinstance(pool, Workers):
            return pool.submit(trainer, shard, data, min(seconds, ROUND_SECONDS))
        if pool is None:
            future: Future[list[Shard]] = Future()
            future.set_result(train_or_halve(trainer, shard, data, report, record))
            return future
        try:
            return pool.submit(train_or_halve, trainer, shard, data, report, record)
        except RuntimeError as error:
            raise InputError(f"executor: it takes no more work ({error}); give one that is open") from None

    report(0)
    ready = begin_round()
    try:
        while ready or pending:
            while ready and has_room():
                shard = ready.pop(0)
                pending[submit(shard)] = shard
            if not pending:
                break
            done, _ = wait(pending, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
            report(0)
            if isinstance(pool, Workers) and not (done or paused.is_set()):
                pool.check()
            for future in done:
                before = pending.pop(future)
                if elsewhere and paused.is_set() and future.exception() is not None:
                    continue  # Ctrl-C reaches the processes of a pool, too
                after = future.result()
                held |= {shard.units.start: shard for shard in after}
                if elsewhere:
                    report(sum(shard.steps_taken for shard in after) - before.steps_taken)
                    ready += [shard for shard in after if not shard.is_trained]
            if keep is not None and done and (elsewhere or not pending):
                keep(current())
            if elsewhere and paused.is_set():
                break
            if not (elsewhere or pending):
                ready = begin_round()
    except BaseException:
        failed.set()  # threads stop soon, and what has not started never does
        raise
    finally:
        # Those that run are waited for: a pool of the user's stays open, and nothing goes on in it.
        wait([future for future in pending if not future.cancel()])
    return current()
