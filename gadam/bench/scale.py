"""How time and memory of training grow with g, |w| and threads, beside models that explain it: `gadam bench --scale`.

Steps are those of `gadam.bench.measure`, all interleaved, of the MLP for LETTER and once of LeNet-5. Fitted is
t = a + b·x with x either g or |w|: a is what a step costs whatever is trained, b what each unit or entry adds.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib import pyplot as plt

from gadam import genetics
from gadam.bench.command import BUSY, _check, load
from gadam.bench.contestants import Contestant, Ready, full_precision, gadam
from gadam.bench.limits import Limits
from gadam.bench.measure import Say, measure, reason
from gadam.bench.memory import entries, memory_model, watch
from gadam.bench.scale_results import (
    BREEDING,
    LENET,
    MEMORY,
    STEP,
    UNITS,
    WIDER,
    WORKERS,
    draw,
    medians,
    models,
    shares,
    tables,
)
from gadam.bench.workloads import BATCH, SEED, Work, make_work, workloads
from gadam.config import GadamConfig, InputError
from gadam.evolution.breeding import breed
from gadam.models import mlp
from gadam.paper.report import figures
from gadam.paper.report.machine import describe, usable_cores
from gadam.paper.report.paths import reports_root, write_atomic
from gadam.paper.report.tables import to_csv
from gadam.population import Population
from gadam.randomness import GENETICS, stream
from gadam.training.plan import resolve_device

SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)  # g
WIDTHS = (16, 32, 64, 128, 256, 512)  # of both hidden layers
FEW, MANY = 10, 100  # g where something else varies; MANY is also the most units of LeNet-5


def scale(
    folder: Path | None = None, device: str = "auto", *, repeats: int = 3, seconds: float = 0.5, largest: int = 1_000,
    say: Say = print,
) -> pd.DataFrame:  # fmt: skip
    """Measure, print, and write scale.csv, scale.json, scale.png and scale.svg.

    Args:
        folder: for the files; None is `bench` of the reports.
        device: "auto", "cpu" or "cuda".
        repeats: measurements of each time.
        seconds: about what one takes.
        largest: g up to this, at least 2.
        say: told of what is going on, and given the tables.

    Returns:
        Tidy rows: what, g, entries (|w|), threads (missing: as `evolve` chooses), repeat (missing for what is
        computed), value, unit ("ms", "MB" of 10^6 bytes, "%").

    Raises:
        InputError: an argument cannot be used.
    """
    _check(None, repeats, seconds)
    if largest < 2:
        raise InputError(f"largest={largest} must be at least 2")
    on = resolve_device(device)
    folder = reports_root() / "bench" if folder is None else folder
    limits, busy = Limits(on), load()
    if busy > BUSY:
        say(f"This machine is busy with something else (load {busy:.1f}): times are too long, and vary.")
    with full_precision():
        points, any_work = _steps(on, largest), make_work(workloads(on)["mlp"], 1, on)
        # Everything in one round, so that what else the machine does falls on all of it; the words without that work.
        found = measure(
            any_work, [contestant for _, contestant in points.values()], limits, repeats=repeats, seconds=seconds,
            say=lambda text: say(text.partition(": ")[2]),
        )  # fmt: skip
    rows: list[dict[str, Any]] = []
    for each in found.to_dict("records"):
        if math.isfinite(each["ms_per_step"]):
            columns = points[str(each["contestant"])][0]
            rows.append(columns | {"repeat": each["repeat"], "value": each["ms_per_step"], "unit": "ms"})
        else:
            say(f"{each['contestant']}: {each['note']}")
    rows += _watched([g for g in SIZES if g <= largest], on, say)
    rows += shares(rows)
    frame = pd.DataFrame(rows, columns=["what", "g", "entries", "threads", "repeat", "value", "unit"])
    frame = frame.astype({"threads": "Int64", "repeat": "Int64"})
    middle = medians(frame)
    lines = models(middle)
    about = {
        "machine": describe(), "device": str(on), "load": busy, "batch_size": BATCH, "repeats": repeats,
        "seconds": seconds, "largest": largest, "flops_per_second_seen": limits.seen,
        "models": {what: asdict(line) | dict(zip(("unit_of_a", "unit_of_b"), UNITS[what], strict=True))
                   for what, line in lines.items()},
        "memory_of_a_unit_bytes": memory_model(any_work),
    }  # fmt: skip
    for text in tables(middle, lines, f"{any_work.workload.title}, batch {BATCH}, {on}"):
        say(text)
    write_atomic(folder / "scale.csv", to_csv(frame))
    # JSON has no NaN.
    write_atomic(folder / "scale.json", re.sub(r"\bNaN\b", "null", json.dumps(about, indent=2)) + "\n")
    figure = draw(middle, lines)
    figures.save(figure, folder / "scale")
    plt.close(figure)
    say(f"\nscale: {folder}")
    return frame


@contextmanager
def breeding(work: Work) -> Iterator[Ready]:
    """All that `evolve` does between trainings; a step is a generation."""
    parents, g, device = work.population, len(work.population), work.device
    config = GadamConfig(population_size=g, seed=SEED)
    draw = stream(device, SEED, GENETICS, 1)
    losses = torch.rand(2 * g, generator=draw, device=device, dtype=torch.float64)

    def train(generations: int) -> Any:
        for _ in range(generations):
            newborn = breed(parents, losses[:g], config, draw).newborn
            Population.choose([parents, newborn], genetics.survivors(losses, g).tolist())
        return dict

    yield Ready(train)


def _steps(on: torch.device, largest: int) -> dict[str, tuple[dict[str, Any], Contestant]]:
    """What is timed: name -> the columns that say what it is, and who does it."""
    known, few = workloads(on), min(FEW, largest)
    work = functools.cache(lambda name, g: make_work(known[name], g, on))
    wider = [replace(known["mlp"], make_model=partial(mlp, 16, 26, (width, width))) for width in WIDTHS]
    cores = usable_cores()
    threads = sorted({2**n for n in range(cores.bit_length()) if 2**n <= cores} | {cores}) if on.type == "cpu" else []
    sizes = [g for g in SIZES if g <= largest]
    every: list[tuple[str, Work, int | None, Callable[[Work], AbstractContextManager[Ready]]]]
    every = [(STEP, work("mlp", g), None, gadam) for g in sizes]
    every += [(WIDER, make_work(each, few, on), None, gadam) for each in wider]
    every += [
        (WORKERS, work("mlp", g), count, partial(gadam, threads=count, shards=max(2, cores)))
        for g in sorted({few, min(MANY, largest)}) for count in threads
    ]  # fmt: skip
    every.append((LENET, work("lenet", few), None, gadam))
    every += [(what, work(n, g), None, breeding) for n, what in BREEDING.items() for g in sizes
              if 2 <= g <= (largest if n == "mlp" else MANY)]  # fmt: skip
    found = {}
    for what, own, count, start in every:
        columns = {"what": what, "g": len(own.population), "entries": entries(own.population), "threads": count}
        name = ", ".join([what, *(f"{key}={value}" for key, value in list(columns.items())[1:] if value is not None)])
        found[name] = columns, Contestant(name, partial(_on, start, own))
    return found


def _on(
    start: Callable[[Work], AbstractContextManager[Ready]], own: Work, given: Work
) -> AbstractContextManager[Ready]:
    """Contestants of `measure` share their work; these bring their own."""
    return start(own)


def _watched(populations: Sequence[int], on: torch.device, say: Say) -> list[dict[str, Any]]:
    """Rows of the memory that training took and of the models; none where the system does not tell."""
    rows: list[dict[str, Any]] = []
    for g in populations:
        say(f"{MEMORY[0]}, g={g} is watched")
        try:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                peak = pool.submit(watch, g, str(on)).result()
        except Exception as error:
            say(f"{MEMORY[0]}, g={g}: {reason(error)}")
            continue
        if peak is None:
            say("Memory is left out: this system does not tell the peak of a process (/proc/self/clear_refs).")
            return []
        work = make_work(workloads(on)["mlp"], g, on)
        parts = memory_model(work)
        sizes = peak, parts["copies"] + parts["activations"], sum(parts.values())
        for what, repeat, size in zip(MEMORY, (1, None, None), sizes, strict=True):
            columns = {"what": what, "g": g, "entries": entries(work.population), "repeat": repeat}
            rows.append(columns | {"value": size / 1e6, "unit": "MB"})
    return rows
