"""Section 5.3: the time of one generation against the number of threads (figure 6).

Ten LeNet-5 units are ten shards, executed by 1 to 10 threads; the results are the same to the last bit, and only the
time differs. The paper trained 5,000 steps a unit on 40 cores. Time is proportional to the steps, so that fewer of
them say the same about threads, but threads beyond the cores can gain nothing: what the paper saw at 10 threads needs
10 cores. And ten whole units on 5 to 9 threads take two rounds alike. Rows are times of the machine that they name,
and no two runs give the same ones.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import torch

from gadam.config import GadamConfig
from gadam.datasets import load
from gadam.evolution.loop import evolve
from gadam.models import lenet5
from gadam.paper.claims import Claim
from gadam.paper.runs import Rows, Run, dataset_config, run_function
from gadam.paper.statistics import mean_interval
from gadam.paper.verdicts import RATIO, Evidence
from gadam.population import Population
from gadam.randomness import stream
from gadam.result import Callback, Generation

T = TypeVar("T")

DATASET = "mnist"
G = 10
THREADS = tuple(range(1, 11))
ARM = "section53/threads"
PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {"threads": (1, 2), "repeats": 2, "steps": 1, "warm_up": 1, "validation_size": 32},
    "quick": {"threads": THREADS, "repeats": 4, "steps": 4, "warm_up": 1, "validation_size": 128},
    "standard": {"threads": THREADS, "repeats": 10, "steps": 20, "warm_up": 1, "validation_size": 256},
    "paper": {"threads": THREADS, "repeats": 5, "steps": 5_000, "warm_up": 0, "validation_size": 1_024},
}
"""`warm_up`: generations before those that are timed; 5,000 steps need none. V is small where the steps are few, or
its evaluation would be what is timed."""


def runs(profile: str, data: str) -> list[Run]:
    """One run, because its measurements must not run beside each other; let it run alone (`workers=1`)."""
    rows, digest = dataset_config(DATASET, data)
    budget = PROFILES[profile] | {"threads": list(PROFILES[profile]["threads"])}
    config = {**rows, **budget}
    return [Run(generation_times, config, digest, "LeNet-5 · a generation on 1 to 10 threads", ARM)]


@run_function("section53/threads")
def generation_times(
    dataset: str, data: Any, threads: list[int], repeats: int, steps: int, warm_up: int, validation_size: int
) -> Rows:
    """A row per repeat and number of threads, and the digest of the generation that was timed.

    A repeat is one run of GADAM whose generations are executed by one number of threads after the other, in an order
    of its own: so a machine that slows down or has other work does so for all of them alike. Every repeat has the same
    seed, so equal digests of a generation say that it is the same population on whatever threads.
    """
    images = load(dataset, data=data)
    rows: Rows = []
    for repeat in range(repeats):
        order = [threads[place] for place in torch.randperm(len(threads), generator=stream("cpu", repeat))]
        pool = _Threads([*order[:1] * warm_up, *order])
        config = GadamConfig(
            population_size=G, generations=len(pool.plan), steps=steps, batch_size=128,
            validation_size=validation_size, mode="auto", shards=G,
        )  # fmt: skip
        evolve(lenet5, images.train, config, executor=pool, device="cpu", callbacks=[pool.clock], progress=False)
        about = {"repeat": repeat, "steps": steps, **machine(), "data": images.source}
        rows += [about | row for row in pool.clock.rows[warm_up:]]
    return rows


def machine() -> dict[str, Any]:
    """The processor's name and the cores that this process may use: what the times depend on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return {"cpu": name, "cores": cores}


def describe(rows: pd.DataFrame) -> str:
    """What was measured and where, for captions."""
    if rows.empty:
        return "nothing yet"
    first = rows.iloc[0]
    return (
        f"{first['cpu']}, {first['cores']} core{'s' if first['cores'] > 1 else ''} to use; {G} units of LeNet-5, "
        f"{first['steps']:,} steps each for parents and for children, {rows['repeat'].nunique()} repeats"
    )


def speedups(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per repeat and number of threads: speed-up over one thread of the same repeat, and efficiency."""
    alone = rows[rows["threads"] == 1].set_index("repeat")["seconds"]
    frame = rows.assign(speedup=rows["repeat"].map(alone) / rows["seconds"])
    return frame.assign(efficiency=frame["speedup"] / frame["threads"]).sort_values(["threads", "repeat"])


def table(rows: pd.DataFrame, profile: str) -> pd.DataFrame:
    """Seconds of a generation, speed-up with a 95 % interval over repeats (t), and efficiency."""
    budget, lines = PROFILES[profile], []
    measured = dict(iter(speedups(rows).groupby("threads"))) if len(rows) else {}
    for threads in budget["threads"]:
        line: dict[str, Any] = {"threads": threads}
        if threads in measured:
            group = measured[threads]
            speedup, low, high = mean_interval(group["speedup"].tolist())
            line |= {
                "median s": group["seconds"].median(), "min s": group["seconds"].min(),
                "max s": group["seconds"].max(), "speed-up": speedup, "low": low, "high": high,
                "efficiency": group["efficiency"].mean(), "repeats, as seeds": len(group),
                "data": group["data"].iloc[0],
            }  # fmt: skip
        else:
            line["repeats, as seeds"] = f"0 of {budget['repeats']}"
        lines.append(line)
    columns = ["threads", "median s", "min s", "max s", "speed-up", "low", "high", "efficiency", "repeats, as seeds"]
    return pd.DataFrame(lines).reindex(columns=[*columns, "data"])


def claims(rows: pd.DataFrame) -> list[Claim]:
    """That time decreases with threads: up to the cores there are, and up to the paper's ten, which need ten cores.

    With fewer cores than ten, those up to the cores say what that part of the budget says: beyond them there is nothing
    to gain. What another run repeats on a seed, a timing run repeats on the clock: its repeats are the seeds of the
    rules.
    """
    cores = int(rows["cores"].iloc[0]) if len(rows) else max(THREADS)
    common: dict[str, Any] = {
        "section": "section53", "exhibit": "figure6", "arms": [ARM], "paper": "greater",
        "data": rows["data"].iloc[0] if len(rows) else "real",
        "repetitions": f"{rows['repeat'].nunique()} repeats" if len(rows) else "",
    }  # fmt: skip
    return [
        Claim(
            text="A generation is faster on as many threads as cores, at most ten, than on one (speed-up beside 1; "
            "repeats as seeds)",
            kind="greater", margin=round(RATIO - 1, 9), evidence=partial(_faster, rows), **common,
        ),
        Claim(
            text="Time decreases with every thread up to the number of cores, at most ten (weakest, %; repeats as "
            "seeds)",
            kind="weakest", evidence=partial(_decreases, rows), headline="threads", **common,
        ),
        Claim(
            text="Time decreases with every thread up to 10, which takes 10 cores (weakest, %; repeats as seeds)",
            kind="weakest", evidence=partial(_decreases, rows), budget=min(1.0, cores / max(THREADS)), **common,
        ),
    ]  # fmt: skip


def _faster(rows: pd.DataFrame) -> Evidence:
    """Speed-up with a thread for each core; there is none to be had from one core."""
    frame, most = speedups(rows), max(_up_to_cores(rows))
    return Evidence(tuple(frame.loc[frame["threads"] == most, "speedup"]) if most > 1 else (), (1.0,))


def _decreases(rows: pd.DataFrame) -> list[Evidence]:
    """Decrease of time, in percent by repeat, from each number of threads up to the cores to the next."""
    seconds = rows.pivot_table(index="repeat", columns="threads", values="seconds")
    pairs = itertools.pairwise(_up_to_cores(rows))
    return [Evidence(tuple(100 * (1 - seconds[more] / seconds[fewer]))) for fewer, more in pairs] or [Evidence(())]


def _up_to_cores(rows: pd.DataFrame) -> list[int]:
    """The numbers of threads that were timed, without those above the cores."""
    return sorted({count for count in rows["threads"].tolist() if count <= rows["cores"].iloc[0]})


class _Threads(Executor):
    """Threads whose number changes from generation to generation, by a plan."""

    def __init__(self, plan: list[int]) -> None:
        self.plan = plan
        self.clock = _Clock(self)

    def use(self, generation: int) -> None:
        """Change to the number of threads of a generation, counted from 0."""
        self._pool = ThreadPoolExecutor(self.plan[generation])

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Let one of the threads call `fn`."""
        return self._pool.submit(fn, *args, **kwargs)

    def release(self) -> None:
        """End the threads; nothing is under way between generations."""
        self._pool.shutdown()


class _Clock(Callback):
    """Times every generation, without what comes before the first, and changes the threads between them."""

    def __init__(self, pool: _Threads) -> None:
        self.rows: Rows = []
        self._pool = pool

    def on_start(self, config: GadamConfig, population: Population) -> None:
        self._pool.use(0)
        self._started = time.perf_counter()

    def on_generation(self, generation: Generation) -> None:
        seconds = time.perf_counter() - self._started
        self.rows.append({
            "threads": self._pool.plan[generation.number - 1], "generation": generation.number, "seconds": seconds,
            "digest": _digest(generation.next),
        })  # fmt: skip
        self._pool.release()
        if generation.number < len(self._pool.plan):
            self._pool.use(generation.number)
        self._started = time.perf_counter()


def _digest(population: Population) -> str:
    """Equal for populations that are equal to the last bit."""
    digest = hashlib.sha256()
    for name, tensor in population.parameters.items():
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


RUNS = (runs,)
