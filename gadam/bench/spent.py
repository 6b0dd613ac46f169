"""What a step of gadam's spends its time on, operator by operator: the share of the limit that is missing."""

from __future__ import annotations

import time
from typing import Any

import pandas as pd
from torch.profiler import ProfilerActivity, profile

from gadam.bench.contestants import gadam
from gadam.bench.limits import synchronise
from gadam.bench.workloads import Work

PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::convolution", "aten::convolution_backward")
LEAST = 1.0  # percent of a step, below which operators are summed up
MATRICES, REST, OUTSIDE = "matrix products and convolutions", "others", "between operators: Python and waiting"


def spent(work: Work, steps: int) -> pd.DataFrame:
    """Profile training of one shard on one thread, on a CPU or a GPU's host.

    The profiler itself takes about a microsecond for each operator, so that small ones look larger than they are.

    Args:
        work: what is trained.
        steps: how many are profiled, after as many to warm up.

    Returns:
        operator, calls (of a step), us (microseconds of a step, without what an operator calls), percent; the longest
        first, then those under 1 % in one row, and what is spent outside of operators.
    """
    with gadam(work, 1, shards=1) as ready:
        ready.train(steps)
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            synchronise(work.device)
            start = time.perf_counter()
            ready.train(steps)
            synchronise(work.device)
            wall = time.perf_counter() - start
    found: dict[str, list[float]] = {}
    for event in profiler.key_averages():
        name = MATRICES if event.key in PRODUCTS else event.key.removeprefix("aten::")
        calls, spent_us = found.get(name, [0.0, 0.0])
        found[name] = [calls + event.count / steps, spent_us + event.self_cpu_time_total / steps]
    return summed(found, 1e6 * wall / steps)


def summed(found: dict[str, list[float]], whole: float) -> pd.DataFrame:
    """The table of `spent`, from calls and microseconds by operator and the microseconds of the whole step."""
    rows: list[dict[str, Any]] = [{"operator": name, "calls": calls, "us": us} for name, (calls, us) in found.items()]
    large = [row for row in rows if 100 * row["us"] >= LEAST * whole]
    small = [row for row in rows if row not in large]
    large.sort(key=lambda row: -row["us"])
    large.append({"operator": REST, **{name: sum(row[name] for row in small) for name in ("calls", "us")}})
    left = max(0.0, whole - sum(row["us"] for row in rows))
    frame = pd.DataFrame([*large, {"operator": OUTSIDE, "calls": float("nan"), "us": left}])
    return frame.assign(percent=100 * frame["us"] / whole)


def text(frame: pd.DataFrame, title: str) -> str:
    """The table to read."""
    lines = [
        f"  {row['operator']:<40}{row['us']:>10.1f} us{row['percent']:>7.1f} %" for row in frame.to_dict("records")
    ]
    return "\n".join([f"\nwhere a step goes, {title}, one shard, one thread:", *lines])
