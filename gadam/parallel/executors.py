"""Shards onto executors: anything with the interface of `concurrent.futures.Executor` (Section 4.3).

What is computed depends on how a generation is cut into shards and never on who executes them, so results are
bit-identical for any number of workers.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    CancelledError,
    Executor,
    Future,
    ThreadPoolExecutor,
    wait,
)
from contextlib import contextmanager
from itertools import chain
from typing import Any, TypeAlias, TypeVar

import torch

from gadam.config import GadamConfig, InputError
from gadam.parallel.workers import Workers
from gadam.training.shards import Data, Part, Progress, Record, Shard, Trained, TrainingError, is_out_of_memory
from gadam.training.trainer import Trainer
from gadam.validation import shown

# A waiting main thread wakes so often, so that an interrupt or a stop asked for by `progress` is heard.
_POLL_SECONDS = 0.2


T = TypeVar("T")

Pool: TypeAlias = ThreadPoolExecutor | Workers | None
"""Who trains shards: threads, workers elsewhere, or the calling thread."""


@contextmanager
def as_executor(executor: Executor | int | None, useful: int) -> Iterator[Pool]:
    """What `evolve` was given, as what trains shards.

    Args:
        executor: an executor, which stays open; a number of threads; or None for as many threads as are useful.
        useful: how many shards may run at once to advantage when nothing is asked for.

    Raises:
        InputError: it is none of these.
    """
    if executor is None:
        executor = useful
    if isinstance(executor, bool) or not (isinstance(executor, int) or callable(getattr(executor, "submit", None))):
        raise InputError(f"executor={executor!r} must be a concurrent.futures.Executor, a number of threads, or None")
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


def check_several(devices: Sequence[torch.device], executor: Executor | int | None) -> None:
    """Refuse several devices for an executor whose workers share no memory with this process."""
    if len(devices) > 1 and not (executor is None or isinstance(executor, int | ThreadPoolExecutor)):
        raise InputError(
            f"device: {len(devices)} devices are shared out among threads of this process, not by {shown(executor)}; "
            "give no executor, or a number of threads"
        )


Keep = Callable[[Sequence[Part]], None]
"""Told of all parts of a role, in order; nothing of what it is given changes any more."""


def train_shards(
    executor: Pool,
    trainer: Trainer,
    shards: Sequence[Part],
    data: Data,
    progress: Progress | None = None,
    record: Record | None = None,
    *,
    keep: Keep | None = None,
    seconds: float | None = None,
    elsewhere: Sequence[Data] = (),
) -> list[Part]:
    """Train every shard.

    A shard for which there is too little memory is trained in two halves, with a warning.

    Args:
        executor: who trains.
        trainer: how.
        shards: fresh, in the middle of their training, or trained already.
        data: the rows.
        progress: told of steps by threads of this process and of whole shards by other executors, which are asked
            several times a second whether to pause, with no steps.
        record: told of each step, only by threads of this process.
        keep: told where all of them stand every so many `seconds` and at the end.
        seconds: of training between pauses for `keep`; None pauses only if `progress` asks for it.
        elsewhere: the same as `data` on further devices: shards go to all of them in turn, and come back.

    Returns:
        All of them trained, in order; or where they stand, if `progress` asked for a pause.

    Raises:
        TrainingError: there is too little memory for half a shard.
        WorkersError: workers elsewhere are gone.
    """
    legs = _Legs(trainer, (data, *elsewhere), progress, record, seconds)
    parts = list(shards)
    legs.told(0)
    while not legs.stopped and any(isinstance(part, Shard) for part in parts):
        if isinstance(executor, Workers):
            parts = _train_elsewhere(executor, legs, parts, keep)
        else:
            parts = _train_here(executor, legs, parts)
        if keep is not None:
            keep(parts)
    return parts


class _Legs:
    """The training of shards from one pause to the next, in this process."""

    def __init__(
        self,
        trainer: Trainer,
        data: Sequence[Data],
        progress: Progress | None,
        record: Record | None,
        seconds: float | None,
    ) -> None:
        self.trainer, self.data, self.seconds = trainer, data, seconds
        self.stopped = False
        self.failed = threading.Event()
        self._progress, self._record = progress, record
        self._end = float("inf")

    def begin(self) -> None:
        self._end = time.monotonic() + (float("inf") if self.seconds is None else self.seconds)

    def told(self, steps: int) -> bool:
        """Of steps; whether to pause."""
        if self.failed.is_set():
            raise CancelledError
        if self._progress is not None and self._progress(steps):
            self.stopped = True
        return self.stopped or time.monotonic() > self._end

    def run(self, place: int, part: Part, at_once: bool) -> list[Part]:
        """Train a part, unless it is time to pause; but `at_once` all the same, or a short leg would get nowhere.

        Args:
            place: of the part among all, by which it goes to a device.
            part: the part.
            at_once: see above.
        """
        if isinstance(part, Trained) or (self.told(0) and not at_once):
            return [part]
        data, home = self.data[place % len(self.data)], self.data[0].train[1].device
        away = data.train[1].device
        if away == home:
            return train_or_halve(self.trainer, part, data, self.told, self._record)
        parts = train_or_halve(self.trainer, part.to(away), data, self.told, self._record)
        return [each.to(home, part.population.template) for each in parts]


def train_or_halve(
    trainer: Trainer,
    shard: Shard,
    data: Data,
    progress: Progress | None = None,
    record: Record | None = None,
    seconds: float | None = None,
) -> list[Part]:
    """`Trainer.train`; where that runs out of memory, of the halves one after the other."""
    try:
        return [trainer.train(shard, data, progress, record, seconds)]
    except Exception as error:
        if len(shard.units) == 1 or not is_out_of_memory(error):
            raise
    # Here, and not above: the error's frames hold what was allocated.
    units = f"units {shard.units.start} to {shard.units.stop - 1}"
    warnings.warn(f"too little memory to train {units} at once: they are trained in two halves", stacklevel=2)
    try:
        return [trainer.train(half, data, progress, record, seconds) for half in shard.halves()]
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    raise TrainingError(f"too little memory to train {units}, in two halves neither; give more shards, see GadamConfig")


def _train_here(pool: Executor | None, legs: _Legs, parts: Sequence[Part]) -> list[Part]:
    """One leg, in the calling thread or in threads."""
    legs.begin()
    first = next(index for index, part in enumerate(parts) if isinstance(part, Shard))
    if pool is None:
        return list(chain.from_iterable(legs.run(index, part, index == first) for index, part in enumerate(parts)))
    try:
        futures = [pool.submit(legs.run, index, part, index == first) for index, part in enumerate(parts)]
    except RuntimeError as error:
        raise InputError(f"executor: it takes no more work ({error}); give one that is open") from None
    try:
        pending = set(futures)
        while pending:
            done, pending = wait(pending, timeout=_POLL_SECONDS, return_when=FIRST_EXCEPTION)
            legs.told(0)
            for future in done:
                future.result()
    except BaseException:
        legs.failed.set()  # threads stop soon, and what has not started never does
        for future in futures:
            future.cancel()
        raise
    return list(chain.from_iterable(future.result() for future in futures))


LEG_SECONDS = 5.0
"""What an interrupt or a process that dies elsewhere may cost: after so long a worker says where its shard stands."""


def _train_elsewhere(workers: Workers, legs: _Legs, parts: Sequence[Part], keep: Keep | None) -> list[Part]:
    """All legs, each part for itself: who waits for the others there is idle."""
    found = {index: [part] for index, part in enumerate(parts)}
    # Who keeps nothing has nothing of being told in between.
    leg = None if legs.seconds is None else min(legs.seconds, LEG_SECONDS)

    def submit(index: int, shards: Sequence[Part]) -> None:
        for shard in shards:
            if isinstance(shard, Shard):
                future = workers.submit(train_or_halve, legs.trainer, shard, legs.data[0], leg)
                pending[future] = index, shard

    pending: dict[Future[list[Part]], tuple[int, Shard]] = {}
    try:
        for index, part in enumerate(parts):
            submit(index, [part])
        while pending:
            done, _ = wait(pending, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
            if legs.told(0):
                break
            if not done:
                workers.check()
            for future in done:
                index, before = pending.pop(future)
                after = future.result()
                place = next(place for place, part in enumerate(found[index]) if part is before)
                found[index][place : place + 1] = after
                config = legs.trainer.config
                legs.told(sum(steps_taken(part, config) for part in after) - steps_taken(before, config))
                submit(index, after)
                if keep is not None and pending:
                    keep(list(chain.from_iterable(found.values())))
    finally:
        for future in pending:
            future.cancel()
    return list(chain.from_iterable(found.values()))


def unless(stop: threading.Event | None, function: Callable[..., T], *given: Any) -> T | None:
    """What a function gives; None as soon as `stop` is set, and then it ends for itself in a thread."""
    if stop is None:
        return function(*given)
    pool = ThreadPoolExecutor(1)
    future = pool.submit(function, *given)
    pool.shutdown(wait=False)
    while not stop.is_set():
        if wait([future], timeout=_POLL_SECONDS).done:
            return future.result()
    return None


def steps_taken(part: Part, config: GadamConfig) -> int:
    """Steps of units that are done."""
    if isinstance(part, Trained):
        return len(part.population) * config.steps
    return 0 if part.begun is None else int(part.begun.steps.sum())
