"""How long a generation takes on more workers than there are here: a simulation of measured costs.

A driver, with its scheduler, serves one message at a time: it sends shards one after the other, and takes what comes
back in the order in which it comes. Workers train side by side, each its shard. So a generation takes as long as
training one shard while there are few workers, and as long as serving all messages once there are many.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

WORKERS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)


@dataclass(frozen=True)
class Costs:
    """What was measured, in seconds and bytes; a link is assumed.

    Attributes:
        task: seconds of driver and scheduler for a task and its answer, whatever they carry.
        byte: seconds of theirs for a byte that travels, with no network in between.
        step: seconds of an optimizer step of a shard, whatever its units.
        unit_step: seconds of it for each unit.
        genetics: seconds of selection, crossover, mutation and survival, for each unit.
        unit_bytes: of a unit.
        shard_bytes: of what else goes with a shard, both ways.
        link: bytes a second that the network takes from or to the driver; infinite if there is none.
    """

    task: float
    byte: float
    step: float
    unit_step: float
    genetics: float
    unit_bytes: float
    shard_bytes: float
    link: float


def generation_seconds(costs: Costs, *, units: int, steps: int, workers: int) -> float:
    """Simulate a generation, parents and then children, each role in a shard for each worker."""
    small, more = divmod(units, workers)
    sizes = [size for size in [small + 1] * more + [small] * (workers - more) if size]
    return 2 * _role_seconds(costs, sizes, steps) + costs.genetics * units


def _role_seconds(costs: Costs, sizes: Sequence[int], steps: int) -> float:
    """From the first shard that is sent to the last one that is back."""
    clock, taken = 0.0, 0
    back: list[tuple[float, int]] = []  # when an answer is there, and of how many units
    while taken < len(sizes):
        if back and back[0][0] <= clock:  # an answer that waits goes before a shard
            clock += _message(costs, heapq.heappop(back)[1])
            taken += 1
        elif taken + len(back) < len(sizes):
            size = sizes[taken + len(back)]
            clock += _message(costs, size)
            heapq.heappush(back, (clock + steps * (costs.step + costs.unit_step * size), size))
        else:
            clock = back[0][0]
    return clock


def _message(costs: Costs, units: int) -> float:
    """Seconds that driver and scheduler spend on one way of a shard."""
    size = costs.shard_bytes / 2 + costs.unit_bytes * units
    return costs.task / 2 + size * (costs.byte + 1 / costs.link)


def project(costs: Costs, *, units: int, steps: int, workers: Sequence[int] = WORKERS) -> pd.DataFrame:
    """A row for each number of workers.

    Returns:
        workers, units_per_worker, seconds (of a generation), speedup (over one worker), efficiency (percent of the
        number of workers), megabytes (of a generation, to workers and back).
    """
    rows = []
    alone = generation_seconds(costs, units=units, steps=steps, workers=1)
    for count in workers:
        seconds = generation_seconds(costs, units=units, steps=steps, workers=count)
        travels = 4 * units * costs.unit_bytes + 2 * min(count, units) * costs.shard_bytes
        rows.append({
            "workers": count, "units_per_worker": units / count, "seconds": seconds, "speedup": alone / seconds,
            "efficiency": 100 * alone / seconds / count, "megabytes": travels / 1e6,
        })  # fmt: skip
    return pd.DataFrame(rows)
