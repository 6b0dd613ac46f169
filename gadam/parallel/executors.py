"""Train shards on executors: anything with the interface of `concurrent.futures.Executor` (Section 4.3).

Results depend on how a generation is cut into shards and never on who trains them, so they are bit-identical for any
number of workers.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeAlias

from gadam.config import InputError
from gadam.display import shown
from gadam.parallel.workers import Workers
from gadam.training.shards import Data, Progress, Record, Shard
from gadam.training.trainer import Trainer, train_or_halve

POLL_SECONDS = 0.2
"""A waiting main thread wakes so often, to hear of an interrupt or of a stop that `progress` asks for."""
ROUND_SECONDS = 5.0
"""Seconds between the reports of a worker elsewhere, where checkpoints are kept: the most that its crash can cost."""

Pool: TypeAlias = ThreadPoolExecutor | Workers | None
"""Who trains shards: threads of this process, workers elsewhere, or the calling thread."""


@contextmanager
def as_pool(executor: Executor | int | None, useful: int) -> Iterator[Pool]:
    """Make a pool that trains shards of what `evolve` was given: an executor, which stays open, or a number of threads.

    None are as many threads as are `useful`; anything else is refused.
    """
    executor = useful if executor is None else executor
    if isinstance(executor, bool) or not (isinstance(executor, int) or callable(getattr(executor, "submit", None))):
        raise InputError(
            f"executor={shown(executor)} must be a concurrent.futures.Executor, a number of threads, or None"
        )
    if isinstance(executor, ThreadPoolExecutor):
        yield executor
    elif not isinstance(executor, int):
        with Workers(executor) as workers:
            yield workers
    elif executor < 1:
        raise InputError(f"executor={executor} must be at least 1 thread")
    elif executor == 1:
        yield None
    else:
        with ThreadPoolExecutor(executor, thread_name_prefix="gadam") as pool:
            yield pool


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

    Threads of this process all pause at the same time, for what `record` keeps must be of the same steps as the shards;
    workers elsewhere, who tell no record, would be idle meanwhile, so each reports for itself. A shard for which there
    is too little memory is trained in two halves, with a warning.

    `progress` is told of steps by threads and of whole shards by other workers, and is asked several times a second,
    with no steps, whether to pause. `record` is told of each step. `keep` is told of all shards, in order, every so
    many `seconds` of training and at the end; they do not change any more.

    Returns all of them trained, in order; or as they are, if `progress` asked for a pause.

    Raises:
        TrainingError: there is too little memory for a single unit; or, as `WorkersError`, workers elsewhere are gone.
        InputError: the executor was shut down.
    """
    if record is not None and isinstance(pool, Workers):
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
        end = time.monotonic() + (math.inf if seconds is None else seconds)
        return [] if paused.is_set() else [shard for shard in current() if not shard.is_trained]

    def has_room() -> bool:
        if paused.is_set():
            return False
        if isinstance(pool, Workers) or not pending:
            return True  # one goes on even where a pause is due, or rounds that are too short would get nowhere
        return len(pending) < at_once and time.monotonic() < end

    def submit(shard: Shard) -> Future[list[Shard]]:
        if isinstance(pool, Workers):
            return pool.submit(trainer, shard, data, None if seconds is None else min(seconds, ROUND_SECONDS))
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
            if isinstance(pool, Workers):
                if paused.is_set():
                    break
                if not done:
                    pool.check()
            for future in done:
                before, after = pending.pop(future), future.result()
                held |= {shard.units.start: shard for shard in after}
                if isinstance(pool, Workers):
                    report(sum(shard.steps_taken for shard in after) - before.steps_taken)
                    ready += [shard for shard in after if not shard.is_trained]
            if keep is not None and done and (isinstance(pool, Workers) or not pending):
                keep(current())
            if not (isinstance(pool, Workers) or pending):
                ready = begin_round()
    except BaseException:
        failed.set()  # threads stop soon, and what has not started never does
        raise
    finally:
        # Those that run are waited for: a pool of the user's stays open, and nothing goes on in it.
        wait([future for future in pending if not future.cancel()])
    return current()
