"""One run on one machine: the same work for gadam, for what one would write without it, and for its peers."""

from __future__ import annotations

import importlib.metadata
import math
import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from gadam.bench.contestants import (
    OURS,
    Contestant,
    ablations,
    convolves,
    ensembling,
    full_precision,
    gadam,
    hand_chosen,
    plain,
    processes,
)
from gadam.bench.jax_contestant import jax_units
from gadam.bench.limits import Limits, flops
from gadam.bench.measure import Say, measure, reason, summarise
from gadam.bench.results import short, table, write
from gadam.bench.spent import spent, text
from gadam.bench.workloads import BATCH, Work, Workload, find, make_work
from gadam.config import InputError
from gadam.paper.report.machine import describe, usable_cores
from gadam.paper.report.paths import reports_root, write_atomic
from gadam.paper.report.plan import duration
from gadam.paper.report.tables import to_csv
from gadam.training.plan import resolve_device

DEFAULT_WORKLOADS = ("mlp", "lenet")
THIRD = 100 / 3  # percent of the limit, under which a profile says what the rest is spent on
PROFILED = 300.0  # milliseconds of training that are profiled
GPU_MINUTES = 8.0
TABLE1, TABLE1_STEPS = ("lenet", 100), 80_000  # ten seeds of g = 10 as one population
TABLE1_TOLD = (
    "GADAM's row of the paper's Table 1 (80,000 steps along a line of descent, g = 10, 10 seeds as one population)"
)
BUSY = 0.3  # load of a core, at the start, above which times say little

CONTESTANTS = (
    Contestant(OURS, gadam),
    Contestant(f"{OURS}, vectorised", partial(gadam, threads=1, mode="vectorised", shards=1)),
    Contestant(f"{OURS}, loop", partial(gadam, threads=1, mode="loop")),
    Contestant("PyTorch, one unit after another", plain),
    Contestant("PyTorch, one after another, 1 thread", partial(plain, threads=1)),
    Contestant("PyTorch, stack_module_state + vmap", ensembling),
    Contestant("joblib, a process a unit", processes),
    Contestant("JAX, vmap + lax.scan", jax_units),
    Contestant("JAX, lax.map", partial(jax_units, one_by_one=True), convolves),
)


def bench(
    workloads: Sequence[str] | None = None,
    units: Sequence[int] | None = None,
    *,
    repeats: int = 5,
    seconds: float = 1.5,
    device: str = "auto",
    only: Sequence[str] | None = None,
    by_hand: bool = False,
    minutes: float | None = None,
    folder: Path | None = None,
    say: Say = print,
) -> pd.DataFrame:
    """Time every contestant on every workload, print a table for each, and write tables and a figure.

    What is timed is training alone: Adam with PyTorch's defaults, batches of 128, from the same initial weights, on
    generated rows (see `gadam.bench.workloads`). Tracing and compiling come before and have a column of their own. A
    step's time is what many steps take longer than one, divided by how many more they are: starting threads, copying
    weights and sending them to processes are not in it.

    Args:
        workloads: of "mlp", "lenet", "orl"; None takes the first two.
        units: population sizes; None takes each workload's own.
        repeats: measurements of each contestant.
        seconds: about what one measurement takes.
        device: "auto", "cpu" or "cuda".
        only: parts of names: a contestant is timed if its name has one of them. Ours always is, to compare with.
        by_hand: time also the settings of gadam that one would try by hand, shards x threads, on a CPU, and gadam
            without the parts that make its programs faster.
        minutes: after so many nothing is begun any more, and what tells most comes first; None is 8 on a GPU, where
            such machines are lent for ten, and no limit elsewhere.
        folder: for bench.csv, bench_summary.csv, bench_spent.csv (where a step of ours under a third of the limit
            goes), bench.json, bench.png and bench.svg; None is `bench` of the reports.
        say: told of what is going on, and given the tables.

    Returns:
        The summary: a row for each workload, g and contestant, see `gadam.bench.measure.summarise`.

    Raises:
        InputError: an argument cannot be used.
    """
    _check(units, repeats, seconds, minutes)
    on = resolve_device(device)
    minutes = (GPU_MINUTES if on.type == "cuda" else math.inf) if minutes is None else minutes
    until = time.perf_counter() + 60 * minutes
    chosen = find(list(workloads or DEFAULT_WORKLOADS), on)
    _chosen(only or (), [*CONTESTANTS, *((*hand_chosen(2), *ablations()) if by_hand else ())])
    folder = reports_root() / "bench" if folder is None else folder
    limits = Limits(on)
    busy = load()
    if busy > BUSY:
        say(
            f"This machine is busy with something else (load {busy:.1f}): several threads wait for the slowest of them."
        )
    rows, summaries, works, profiles = [], [], [], []
    about: dict[str, Any] = {"machine": describe(), "packages": _versions(), "device": str(on)}
    about |= {"load": busy, "batch_size": BATCH, "repeats": repeats, "seconds": seconds}
    with full_precision():
        for workload, size in _in_order(chosen, units, limited=minutes < math.inf):
            if time.perf_counter() > until:
                say(f"{workload.name}, g={size}: left out, for {minutes:g} minutes are over")
                continue
            try:
                work = make_work(workload, size, on)
            except RuntimeError as error:  # out of memory, before anybody began
                say(f"{workload.name}, g={size}: {reason(error)}")
                continue
            everyone = [*CONTESTANTS, *((*hand_chosen(size), *ablations()) if by_hand and on.type == "cpu" else ())]
            contestants = [each for each in _chosen(only or (), everyone) if each.fits(work)]
            found = measure(work, contestants, limits, repeats=repeats, seconds=seconds, until=until, say=say)
            limit = limits.seconds(work)
            summary = summarise(found, 1e3 * limit, size)
            say(table(summary, _title(work, limits, limit)))
            ours = summary.loc[summary["contestant"] == OURS].iloc[0]
            if ours["limit_percent"] < THIRD and on.type == "cpu":
                where = spent(work, steps=max(3, round(PROFILED / ours["ms_per_step"])))
                say(text(where, f"{workload.title}, g = {size}"))
                profiles.append(where.assign(workload=workload.name, g=size))
            if (workload.name, size) == TABLE1 and ours["ms_per_step"] > 0:
                about["table1_hours"] = TABLE1_STEPS * ours["ms_per_step"] / 3.6e6
                say(f"{TABLE1_TOLD}: {duration(3_600 * about['table1_hours'])} at this pace, {on}")
            rows.append(found)
            summary.insert(0, "workload", workload.name)
            summary.insert(1, "title", workload.title)
            summary.insert(2, "g", size)
            summaries.append(summary.assign(limit_ms=1e3 * limit))
            works.append({"workload": workload.name, "g": size, "flops_per_unit_step": flops(work)})
            about |= {"limit": {"flops_per_second": limits.flops, "seen": limits.seen}, "works": works}
            if on.type == "cuda":
                about["limit"]["bytes_per_second"] = limits.bytes
            # After each, so that an interrupted run leaves what it has.
            write(folder, pd.concat(rows, ignore_index=True), pd.concat(summaries, ignore_index=True), about)
            if profiles:
                write_atomic(folder / "bench_spent.csv", to_csv(pd.concat(profiles, ignore_index=True)))
    if not summaries:
        raise InputError(f"units={list(units or ())} leave nothing that fits the memory of {on}; give smaller ones")
    say(f"\nbench: {folder}")
    return pd.concat(summaries, ignore_index=True)


def _in_order(chosen: Sequence[Workload], units: Sequence[int] | None, limited: bool) -> list[tuple[Workload, int]]:
    """Workloads and sizes; where the time is limited the paper's g = 10 first, and LeNet-5 before the others."""
    works = [(workload, size) for workload in chosen for size in units or workload.units]
    if limited:
        works.sort(key=lambda work: (abs(math.log10(work[1] / 10)), -work[1], work[0].name != "lenet"))
    return works


def _check(units: Sequence[int] | None, repeats: int, seconds: float, minutes: float | None = None) -> None:
    for size in units or ():
        if size < 1:
            raise InputError(f"units={size} must be at least 1")
    if repeats < 1:
        raise InputError(f"repeats={repeats} must be at least 1")
    for name, value in {"seconds": seconds, "minutes": 1 if minutes is None else minutes}.items():
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"{name}={value} must be a positive number")


def sizes(text: str | None) -> list[int] | None:
    """Population sizes from the command line, "1,10,100".

    Raises:
        InputError: it is no list of whole numbers.
    """
    try:
        return None if text is None else [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"units={text!r} must be whole numbers with commas between, such as 1,10,100") from None


def _chosen(only: Sequence[str], contestants: Sequence[Contestant]) -> list[Contestant]:
    for part in only:
        if not any(part.lower() in each.name.lower() for each in contestants):
            names = "; ".join(each.name for each in contestants)
            raise InputError(f"only={part!r} is part of no contestant's name; there are: {names}")
    return [
        each
        for each in contestants
        if not only or each.name == OURS or any(part.lower() in each.name.lower() for part in only)
    ]


def _title(work: Work, limits: Limits, limit: float) -> str:
    count = f"{flops(work) / 1e6:,.1f} MFLOP a unit-step, {limits.flops / 1e9:,.0f} GFLOP/s seen"
    return (
        f"{work.workload.title}, g = {len(work.population)}, batch {work.batch_size}, {work.device}: "
        f"limit {short(1e3 * limit)} ms a step ({count})"
    )


def load() -> float:
    """Processes that wait for a core, as the system's mean of the last minute, per core; NaN where it does not tell."""
    return os.getloadavg()[0] / usable_cores() if hasattr(os, "getloadavg") else math.nan


def _versions() -> dict[str, str | None]:
    """Of those that are compared with; None where one is not installed."""
    found: dict[str, str | None] = {}
    for name in ("jax", "jaxlib", "optax", "joblib"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found
