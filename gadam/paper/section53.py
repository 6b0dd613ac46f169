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
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from gadam.config import GadamConfig
from gadam.datasets import load
from gadam.evolution.loop import evolve
from gadam.models import lenet5
from gadam.paper.claims import Claim
from gadam.paper.drawing import BLUE, GREY, ORANGE, add_legend, draw_curve, labelled
from gadam.paper.report.machine import cpu_model, usable_cores
from gadam.paper.runs import Row, Run, arm_runs, run_function
from gadam.paper.statistics import mean_interval, named
from gadam.paper.units import first, source_of
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
    "quick": {"threads": (1, 2, 4), "repeats": 2, "steps": 2, "warm_up": 1, "validation_size": 128},
    "standard": {"threads": THREADS, "repeats": 10, "steps": 20, "warm_up": 1, "validation_size": 256},
    "paper": {"threads": THREADS, "repeats": 5, "steps": 5_000, "warm_up": 0, "validation_size": 1_024},
}
"""`warm_up`: generations before those that are timed; 5,000 steps need none. The validation batch is small where the
steps are few, or its evaluation would be what is timed."""


def runs(profile: str, data: str) -> list[Run]:
    """One run, because its measurements must not run beside each other; let it run alone (`workers=1`)."""
    config = PROFILES[profile]
    label = f"LeNet-5 · a generation on 1 to {config['threads'][-1]} threads"
    return arm_runs(generation_times, ARM, None, config, DATASET, data, label=label)


RUNS = (runs,)


@run_function("section53/threads")
def generation_times(
    dataset: str, data: Any, threads: list[int], repeats: int, steps: int, warm_up: int, validation_size: int
) -> list[Row]:
    """A row per repeat and number of threads, and the digest of the generation that was timed.

    A repeat is one run of GADAM whose generations are executed by one number of threads after the other, in an order
    of its own: so a machine that slows down or has other work does so for all of them alike. Every repeat has the same
    seed, so equal digests of a generation say that it is the same population on whatever threads.
    """
    images = load(dataset, data=data)
    rows: list[Row] = []
    for repeat in range(repeats):
        order = [threads[place] for place in torch.randperm(len(threads), generator=stream("cpu", repeat))]
        pool = _TimedThreads([*order[:1] * warm_up, *order])
        config = GadamConfig(
            population_size=G, generations=len(pool.plan), steps=steps, batch_size=128,
            validation_size=validation_size, mode="auto", shards=G,
        )  # fmt: skip
        evolve(lenet5, images.train, config, executor=pool, device="cpu", callbacks=[pool], progress=False)
        about = {"repeat": repeat, "steps": steps, "cpu": cpu_model(), "cores": usable_cores(), "data": images.source}
        rows += [about | row for row in pool.rows[warm_up:]]
    return rows


class _TimedThreads(Executor, Callback):
    """Times every generation on threads whose number changes between generations, by a plan."""

    def __init__(self, plan: list[int]) -> None:
        self.plan = plan
        self.rows: list[Row] = []

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Let one of the threads call `fn`."""
        return self._pool.submit(fn, *args, **kwargs)

    def on_start(self, config: GadamConfig, population: Population) -> None:
        self._start(0)  # what comes before is not timed

    def on_generation(self, generation: Generation) -> None:
        seconds = time.perf_counter() - self._started
        digest = hashlib.sha256()  # of the population, to the last bit
        for name, tensor in generation.next.parameters.items():
            digest.update(name.encode() + tensor.cpu().numpy().tobytes())
        self.rows.append({
            "threads": self.plan[generation.number - 1], "generation": generation.number, "seconds": seconds,
            "digest": digest.hexdigest()[:16],
        })  # fmt: skip
        self._pool.shutdown()  # nothing is under way between generations
        if generation.number < len(self.plan):
            self._start(generation.number)

    def _start(self, place: int) -> None:
        self._pool = ThreadPoolExecutor(self.plan[place])
        self._started = time.perf_counter()


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
    rows = rows.reindex(columns=["threads", "repeat", "seconds", "cores", "data"])
    alone = rows[rows["threads"] == 1].set_index("repeat")["seconds"]
    frame = rows.assign(speedup=rows["repeat"].map(alone) / rows["seconds"])
    return frame.assign(efficiency=frame["speedup"] / frame["threads"]).sort_values(["threads", "repeat"])


def table(rows: pd.DataFrame, profile: str) -> pd.DataFrame:
    """Seconds of a generation, speed-up with a 95 % interval over repeats (t), and efficiency."""
    budget, frame, lines = PROFILES[profile], speedups(rows), []
    for threads in budget["threads"]:
        group = frame[frame["threads"] == threads]
        seconds, speedup = group["seconds"], mean_interval(group["speedup"].tolist())
        lines.append({
            "threads": threads, "median s": seconds.median(), "min s": seconds.min(), "max s": seconds.max(),
            **named(speedup, "speed-up"), "efficiency": group["efficiency"].mean(),
            "repeats, as seeds": len(group) or f"0 of {budget['repeats']}",
            "data": first(group, "data"),
        })  # fmt: skip
    return pd.DataFrame(lines)


def figure6(rows: pd.DataFrame) -> Figure:
    """Seconds, speed-up and efficiency against the number of threads; every repeat is a dot."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 4.4), layout="constrained", sharex=True)
    frame, cores = speedups(rows), _cores(rows)
    counts = np.array(THREADS)
    # Ten units are dealt out whole: on 4 threads somebody trains three of them, and 5 to 9 take two rounds alike.
    ideal = np.minimum(G / np.ceil(G / counts), cores)
    panels = (
        ("seconds", "seconds per generation", "Time", None),
        ("speedup", "time on one thread / time", "Speed-up", ideal),
        ("efficiency", "speed-up / threads", "Efficiency", ideal / counts),
    )
    for axis, (name, label, title, limit) in zip(axes, panels, strict=True):
        axis.set(xlabel="threads", ylabel=label, title=title, xticks=counts)
        if frame.empty:
            continue
        by_count = frame.groupby("threads")[name].agg(["median", "min", "max"])
        draw_curve(axis, by_count, BLUE, label="median, lowest to highest")
        axis.scatter(frame["threads"], frame[name], color=BLUE, s=14, alpha=0.6, label="one repeat", zorder=3)
        axis.axvline(cores, color=ORANGE, linestyle="--", label="cores of this machine")
        if limit is not None:
            axis.plot(counts, limit, color=GREY, linestyle=":", label=f"at best, with {G} units")
        axis.set_ylim(bottom=0)
    add_legend(figure, labelled(axes[1]), 4)
    return figure


def claims(rows: pd.DataFrame) -> list[Claim]:
    """That time decreases with threads: up to the cores there are, and up to the paper's ten, which need ten cores.

    With fewer cores than ten, those up to the cores say what that part of the budget says: beyond them there is nothing
    to gain. What another run repeats on a seed, a timing run repeats on the clock: its repeats are the seeds of the
    rules.
    """
    claim = partial(
        Claim, exhibit="figure6", arms=[ARM], paper="greater",
        data=source_of(rows),
        repetitions=f"{rows['repeat'].nunique()} repeats, {_cores(rows)} cores" if len(rows) else "",
    )  # fmt: skip
    return [
        claim(text="A generation is faster on as many threads as cores, at most ten, than on one (speed-up beside 1; "
              "repeats as seeds)", kind="greater", margin=round(RATIO - 1, 9), evidence=partial(_faster, rows)),
        claim(text="Time decreases with every thread up to the number of cores, at most ten (weakest, %; repeats as "
              "seeds)", kind="weakest", evidence=partial(_decreases, rows), headline="threads"),
        claim(text="Time decreases with every thread up to 10, which takes 10 cores (weakest, %; repeats as seeds)",
              kind="weakest", evidence=partial(_decreases, rows), budget=min(1.0, _cores(rows) / max(THREADS))),
    ]  # fmt: skip


def _cores(rows: pd.DataFrame) -> int:
    return int(first(rows, "cores") or max(THREADS))


def _faster(rows: pd.DataFrame) -> Evidence:
    """Speed-up with a thread for each core; there is none to be had from one core."""
    frame, most = speedups(rows), min(_cores(rows), rows["threads"].max())
    return Evidence(tuple(frame.loc[frame["threads"] == most, "speedup"]) if most > 1 else (), (1.0,))


def _decreases(rows: pd.DataFrame) -> list[Evidence]:
    """Decrease of time, in percent by repeat, from each number of threads up to the cores to the next."""
    seconds = rows[rows["threads"] <= _cores(rows)].pivot_table(index="repeat", columns="threads", values="seconds")
    pairs = itertools.pairwise(seconds)
    return [Evidence(tuple(100 * (1 - seconds[more] / seconds[fewer]))) for fewer, more in pairs] or [Evidence(())]
