"""Fair timing: everyone for about the same time, in turns, in an order that is drawn anew for each repeat.

A step's time is what many steps take longer than one, divided by how many more they are: starting threads, copying
weights and sending them to processes are not in it. Tracing and compiling come before and have a column of their own.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple

import pandas as pd
import torch
from contestants import OURS, Contestant, Weights
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode
from workloads import Work

MOST_STEPS = 20_000  # of one measurement
MATRIX = {"cpu": 2_048, "cuda": 8_192}  # side of the matrices whose product shows what the machine can do


class Entry(NamedTuple):
    """A contestant that was set up; `once` are the seconds that setting up and compiling took."""

    train: Callable[[int], Weights]
    note: str
    steps: int
    once: float


def measure(
    work: Work, contestants: Mapping[str, Contestant], *, repeats: int, seconds: float
) -> tuple[pd.DataFrame, float]:
    """Time contestants on some work; what fails becomes a row that says why.

    A measurement takes about `seconds`; of a contestant whose single step takes ten times as long there is one only.

    Returns:
        A row for each contestant and repeat: contestant, repeat (from 1; 0 if setting up failed), steps, ms_per_step
        (of the population; missing if it failed), once_seconds, note. And the floating-point operations a second of the
        fastest large matrix product that was seen meanwhile.
    """
    rows: list[dict[str, Any]] = []
    entries: dict[str, Entry] = {}
    nan, best = float("nan"), 0.0

    def add(name: str, repeat: int, step: float, note: str) -> None:
        steps, once = (entries[name].steps, entries[name].once) if name in entries else (0, nan)
        row = {"contestant": name, "repeat": repeat, "steps": steps, "ms_per_step": 1e3 * step}
        rows.append(row | {"once_seconds": once, "note": note})

    with ExitStack() as stack:
        for name, contestant in contestants.items():
            print(f"{name} gets ready")
            try:
                with ExitStack() as own:  # so that what fails in here gives back what it holds at once
                    entries[name] = _set_up(contestant, work, own, seconds)
                    stack.push(own.pop_all())
            except Exception as error:
                add(name, 0, nan, reason(error))
        for repeat in range(1, repeats + 1):
            gc.collect()  # now, and not while somebody is timed
            best = max(best, matrix_speed(work.device))
            for name in random.Random(repeat).sample(list(entries), len(entries)):
                entry = entries[name]
                try:
                    alone, spent = (_seconds(entry.train, steps, work.device) for steps in (1, entry.steps))
                except Exception as error:
                    add(name, repeat, nan, reason(error))
                    del entries[name]
                    continue
                # Too short to be told from noise, all of the training counts.
                step = (spent - alone) / (entry.steps - 1) if spent > alone else spent / entry.steps
                add(name, repeat, step, entry.note)
                if alone > 10 * seconds:
                    del entries[name]
    order = list(contestants)
    rows.sort(key=lambda row: (order.index(row["contestant"]), row["repeat"]))
    return pd.DataFrame(rows), best


def _set_up(contestant: Contestant, work: Work, stack: ExitStack, seconds: float) -> Entry:
    """Set a contestant up, let it compile, and find how many steps take so long."""
    start = time.perf_counter()
    train, note = stack.enter_context(contestant(work))
    _seconds(train, 1, work.device)
    first = time.perf_counter() - start
    alone, steps = _seconds(train, 1, work.device), 2

    def longer() -> float:
        _seconds(train, steps, work.device)  # some are compiled for a number of steps
        return _seconds(train, steps, work.device) - alone

    if alone <= 10 * seconds:
        while (spent := longer()) < seconds / 10 and steps < MOST_STEPS:
            steps *= 4
        steps = max(2, min(MOST_STEPS, 1 + round(seconds * (steps - 1) / max(spent, 1e-9))))
        _seconds(train, steps, work.device)
    return Entry(train, note, steps, max(0.0, first - alone))


def _seconds(train: Callable[[int], Any], steps: int, device: torch.device) -> float:
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda _: None
    wait(device)
    start = time.perf_counter()
    train(steps)
    wait(device)
    return time.perf_counter() - start


def matrix_speed(device: torch.device) -> float:
    """Floating-point operations a second of the best of three large matrix products, with all threads."""
    size = MATRIX[device.type]
    a, b = (torch.rand(size, size, device=device) for _ in range(2))
    return 2 * size**3 / min(_seconds(lambda _: torch.mm(a, b), 1, device) for _ in range(4))


def flops(work: Work) -> int:
    """Floating-point operations of a training step of one unit: matrix products and convolutions, as PyTorch counts.

    Activations, pooling, dropout, the loss and Adam itself are not counted, so all of the limit is out of reach.
    """
    module = work.population.unit(0).to("meta").train()  # shapes are enough to count
    inputs, targets = (tensor[: work.batch_size].to("meta") for tensor in (work.inputs, work.targets))
    with FlopCounterMode(display=False) as counter:
        cross_entropy(module(inputs), targets).backward()
    return int(counter.get_total_flops() * work.batch_size / len(inputs))


def reason(error: Exception) -> str:
    """Say in one line why a contestant has no time."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"skipped: {error.name.partition('.')[0]} is not installed"
    return f"failed: {type(error).__name__}: {' '.join(str(error).split())[:120]}"


def summarise(rows: pd.DataFrame, limit_ms: float, units: int) -> pd.DataFrame:
    """Summarise the rows of `measure` for a population of `units`: one row for each contestant, in their order.

    Returns:
        contestant, ms_per_step (the median), low, high (of the repeats), ms_per_unit_step, ratio (of its median to
        ours), ratio_low, ratio_high (of the ratios within each repeat), limit_percent (the share of `limit_ms`, the
        least time of a step of the population), once_seconds, note.
    """
    ours = rows[rows["contestant"] == OURS].set_index("repeat")["ms_per_step"]
    found = []
    for name, own in rows.groupby("contestant", sort=False):
        times = own.set_index("repeat")["ms_per_step"]
        paired, median = times / ours, times.median()
        found.append(
            {
                "contestant": name, "ms_per_step": median, "low": times.min(), "high": times.max(),
                "ms_per_unit_step": median / units, "ratio": median / ours.median(), "ratio_low": paired.min(),
                "ratio_high": paired.max(), "limit_percent": 100 * limit_ms / median,
                "once_seconds": own["once_seconds"].iloc[-1], "note": own["note"].iloc[-1],
            }
        )  # fmt: skip
    return pd.DataFrame(found)
