"""Shards onto executors: anything with the interface of `concurrent.futures.Executor` (Section 4.3).

What is computed depends on how a generation is cut into shards and never on who executes them, so results are
bit-identical for any number of workers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager

from gadam.config import InputError
from gadam.training import Data, Progress, Record, Shard, Trained, Trainer

# A waiting main thread wakes so often, so that an interrupt or a stop asked for by `progress` is heard.
_POLL_SECONDS = 0.2


@contextmanager
def as_executor(executor: Executor | int | None, useful: int) -> Iterator[Executor | None]:
    """What `evolve` was given, as an executor; None means the calling thread.

    Args:
        executor: an executor, which stays open; a number of threads; or None for as many threads as are useful.
        useful: how many shards may run at once to advantage when nothing is asked for.

    Raises:
        InputError: it is none of these.
    """
    if executor is None:
        executor = useful
    if isinstance(executor, bool) or not (isinstance(executor, int) or hasattr(executor, "submit")):
        raise InputError(f"executor={executor!r} must be a concurrent.futures.Executor, a number of threads, or None")
    if not isinstance(executor, int):
        yield executor
    elif executor < 1:
        raise InputError(f"executor={executor} must be at least 1 thread")
    elif executor == 1:
        yield None
    else:
        with ThreadPoolExecutor(executor, thread_name_prefix="gadam") as pool:
            yield pool


def train_shards(
    executor: Executor | None,
    trainer: Trainer,
    shards: Sequence[Shard],
    data: Data,
    progress: Progress | None = None,
    record: Record | None = None,
) -> list[Trained]:
    """Train every shard; results in the order of the shards.

    Progress comes by steps from threads of this process and by shards from other executors, which are asked several
    times a second whether to go on, with no steps; `record` comes only from threads.
    """
    if executor is None:
        return [trainer.train(shard, data, progress, record) for shard in shards]
    failed = threading.Event()

    def by_steps(steps: int) -> None:
        if failed.is_set():
            raise CancelledError
        if progress is not None:
            progress(steps)

    def by_units(units: int) -> None:
        if progress is not None:
            progress(units * trainer.config.steps)

    if isinstance(executor, ThreadPoolExecutor):
        futures = [executor.submit(trainer.train, shard, data, by_steps, record) for shard in shards]
        return _results(futures, failed)
    return _results([executor.submit(trainer.train, shard, data) for shard in shards], failed, by_units)


def _results(
    futures: Sequence[Future[Trained]], failed: threading.Event, told: Callable[[int], None] = lambda _: None
) -> list[Trained]:
    """All results; at the first failure the shards that have not started are cancelled and threads told to stop."""
    try:
        pending = set(futures)
        while pending:
            done, pending = wait(pending, timeout=_POLL_SECONDS, return_when=FIRST_EXCEPTION)
            told(0)
            for future in done:
                told(len(future.result().population))
    except BaseException:
        failed.set()
        for future in futures:
            future.cancel()
        raise
    return [future.result() for future in futures]
