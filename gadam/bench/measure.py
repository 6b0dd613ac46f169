"""Fair timing: everyone for about the same time, in turns, in an order that is drawn anew for each repeat."""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from gadam.bench.contestants import OURS, Contestant, Ready
from gadam.bench.limits import Limits, synchronise
from gadam.bench.workloads import Work

LONGEST = 60.0  # seconds of a first step after which a contestant is not run again
MOST_STEPS = 20_000  # of one measurement
TRIAL = 0.1  # share of a measurement's time that the number of steps is calibrated on

Say = Callable[[str], None]


@dataclass
class Entry:
    """A contestant that was set up: its steps per measurement and what setting up and compiling took."""

    name: str
    ready: Ready
    steps: int
    once: float
    note: str
    single: float | None = None  # seconds of its only measurement, if it was too slow for more


def orders(names: Sequence[str], repeats: int, seed: int = 0) -> list[list[str]]:
    """For each repeat every name once, in an order of its own."""
    draw = random.Random(seed)
    return [draw.sample(list(names), len(names)) for _ in range(repeats)]


def measure(
    work: Work,
    contestants: Sequence[Contestant],
    limits: Limits,
    *,
    repeats: int,
    seconds: float,
    until: float = math.inf,
    say: Say = print,
) -> pd.DataFrame:
    """Time contestants on some work; what fails becomes a row that says why.

    Args:
        work: what is trained.
        contestants: who trains it.
        limits: measured again with each repeat.
        repeats: measurements of each contestant.
        seconds: about what a measurement takes.
        until: by `time.perf_counter`, nothing is begun any more; who was set up by then is measured once.
        say: told of each contestant as it is set up.

    Returns:
        A row for each contestant and repeat: workload, g, contestant, repeat (from 1; 0 if it failed before), steps,
        ms_per_step (of the population; missing if it failed), once_seconds (setting up and compiling), note.
    """
    rows: list[dict[str, Any]] = []

    def row(name: str, repeat: int, steps: int, ms: float, once: float, note: str) -> None:
        where = {"workload": work.workload.name, "g": len(work.population), "contestant": name, "repeat": repeat}
        rows.append(where | {"steps": steps, "ms_per_step": ms, "once_seconds": once, "note": note})

    nan = float("nan")
    with ExitStack() as stack:
        entries: dict[str, Entry] = {}
        for contestant in contestants:
            if time.perf_counter() > until:
                row(contestant.name, 0, 0, nan, nan, "skipped: no time was left")
                continue
            say(f"{work.workload.name}, g={len(work.population)}: {contestant.name} gets ready")
            try:
                entries[contestant.name] = _set_up(contestant, work, stack, seconds)
            except Exception as error:
                row(contestant.name, 0, 0, nan, nan, reason(error))
                _free(work.device)
        for entry in list(entries.values()):
            if entry.single is not None:
                row(entry.name, 1, 1, 1e3 * entry.single, nan, entry.note)
                del entries[entry.name]
        for repeat, order in enumerate(orders(list(entries), repeats), 1):
            if repeat > 1 and time.perf_counter() > until:
                break
            gc.collect()  # now, and not while somebody is timed
            limits.measure()
            for name in order:
                if name not in entries:  # it failed in an earlier repeat
                    continue
                entry = entries[name]
                try:
                    spent = _step_seconds(entry.ready, entry.steps, work.device)
                except Exception as error:
                    row(name, repeat, entry.steps, nan, entry.once, reason(error))
                    del entries[name]
                    _free(work.device)
                else:
                    row(name, repeat, entry.steps, 1e3 * spent, entry.once, entry.note)
    order_of = {contestant.name: place for place, contestant in enumerate(contestants)}
    rows.sort(key=lambda each: (order_of[each["contestant"]], each["repeat"]))
    return pd.DataFrame(rows)


def _set_up(contestant: Contestant, work: Work, stack: ExitStack, seconds: float) -> Entry:
    """Set a contestant up, let it compile, and find how many steps take so long."""
    start = time.perf_counter()
    with ExitStack() as own:  # so that what fails in here gives back what it holds at once
        ready = own.enter_context(contestant.start(work))
        _seconds(ready, 1, work.device)
        first = time.perf_counter() - start
        if first > LONGEST:
            note = f"done once, setting up included, because it took {first:.0f} s; {ready.note}"
            return Entry(contestant.name, ready, 1, float("nan"), note, single=first)
        alone = _seconds(ready, 1, work.device)
        steps = _calibrate(ready, work.device, alone, seconds)
        stack.push(own.pop_all())
    return Entry(contestant.name, ready, steps, max(0.0, first - alone), ready.note)


def _calibrate(ready: Ready, device: torch.device, alone: float, seconds: float) -> int:
    """How many steps take so long, given the seconds of a training of one; that number has been run once by the end."""
    # A training may be slow because of its steps, or of what surrounds them, such as sending a process its part.
    if alone >= seconds and _seconds(ready, 2, device) - alone > alone / 2:
        return 1
    steps, spent = 1, 0.0
    while spent < TRIAL * seconds and steps < MOST_STEPS:
        steps = min(MOST_STEPS, round(steps * min(10.0, max(2.0, 1.2 * TRIAL * seconds / max(spent, 1e-9)))))
        _seconds(ready, steps, device)  # some are compiled for a number of steps
        spent = _seconds(ready, steps, device) - alone
    if steps > 1:
        steps = max(2, min(MOST_STEPS, 1 + round(seconds * (steps - 1) / max(spent, 1e-9))))
        _seconds(ready, steps, device)
    return steps


def _step_seconds(ready: Ready, steps: int, device: torch.device) -> float:
    """The time of a step: what more steps than one take longer than one, so that what surrounds a training is left out.

    Where one step takes longer than a measurement should, it is alone and all of its training counts.
    """
    alone = _seconds(ready, 1, device)
    if steps == 1:
        return alone
    spent = _seconds(ready, steps, device)
    return (spent - alone) / (steps - 1) if spent > alone else spent / steps  # too short to be told from noise


def _seconds(ready: Ready, steps: int, device: torch.device) -> float:
    """The time of a training; its weights are dropped."""
    synchronise(device)
    start = time.perf_counter()
    ready.train(steps)
    synchronise(device)
    return time.perf_counter() - start


def _free(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def reason(error: Exception) -> str:
    """Why a contestant has no time, on one line."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"skipped: {error.name.partition('.')[0]} is not installed"
    text = " ".join(str(error).split())
    return f"failed: {type(error).__name__}: {text[:120]}"


def summarise(rows: pd.DataFrame, limit_ms: float, units: int) -> pd.DataFrame:
    """One row for each contestant of one work, in the order of the rows' first appearance.

    Args:
        rows: of `measure`.
        limit_ms: the least time of a step of the population.
        units: g.

    Returns:
        contestant, ms_per_step (the median), low, high (of the repeats), ms_per_unit_step, ratio (of its median to
        ours), ratio_low, ratio_high (of the ratios within each repeat), limit_percent, once_seconds, note.
    """
    ours = rows[rows["contestant"] == OURS].set_index("repeat")["ms_per_step"].dropna()
    found = []
    for name, own in rows.groupby("contestant", sort=False):
        times = own.set_index("repeat")["ms_per_step"].dropna()
        paired = (times / ours).dropna()
        median = times.median() if len(times) else float("nan")
        found.append(
            {
                "contestant": name,
                "ms_per_step": median,
                "low": times.min(),
                "high": times.max(),
                "ms_per_unit_step": median / units,
                "ratio": median / ours.median() if len(ours) else float("nan"),
                "ratio_low": paired.min(),
                "ratio_high": paired.max(),
                "limit_percent": 100 * limit_ms / median,
                "once_seconds": own["once_seconds"].iloc[-1],
                "note": own["note"].iloc[-1],
            }
        )
    return pd.DataFrame(found)
