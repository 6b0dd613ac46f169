"""What a generation costs on a dask.distributed cluster, measured, and what it would on more workers, simulated.

The workers are processes of this machine on its loopback interface. Bytes are those that pass through their sockets,
all of them: shards, answers, what dask has to say beside, and its heartbeats.
"""

from __future__ import annotations

import functools
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from tornado.iostream import IOStream

from gadam.bench.command import BUSY, load
from gadam.bench.loopback import loopback
from gadam.bench.measure import Say
from gadam.bench.projection import WORKERS, Costs, project
from gadam.bench.workloads import BATCH, SEED, Workload, find
from gadam.config import GadamConfig
from gadam.evolution.breeding import breed
from gadam.evolution.loop import evolve
from gadam.paper.report.machine import describe
from gadam.paper.report.paths import reports_root, write_atomic
from gadam.paper.report.tables import to_csv
from gadam.parallel.workers import Workers
from gadam.population import Population
from gadam.randomness import stream
from gadam.result import Callback, Generation
from gadam.training.plan import cut, lay_out
from gadam.training.shards import Data, Shard, Trained
from gadam.training.trainer import Trainer

COUNT = 3  # workers, a process each
UNITS = 10  # of the population whose bytes are counted
GENERATIONS = 2  # the first also brings what is common
MANY, STEPS = 1_000, 5_000  # units and steps of the generation that is projected
LINK = 125e6  # bytes a second: a network of 1 Gbit/s, which is assumed
ROWS = {"mlp": 16_000, "lenet": 60_000}  # as LETTER and MNIST have
MESSAGES = 200
TIMED = {"mlp": 300, "lenet": 30}  # steps


def cluster(folder: Path | None = None, *, say: Say = print) -> pd.DataFrame:
    """Measure both workloads, print tables, and write cluster.csv (the projection) and cluster.json (what it is from).

    Args:
        folder: for the files; None is `bench` of the reports.
        say: told of what is going on, and given the tables.

    Returns:
        The projection: workload and what `gadam.bench.projection.project` gives.

    Raises:
        InputError: distributed is not installed.
    """
    folder = reports_root() / "bench" if folder is None else folder
    busy = load()
    if busy > BUSY:
        say(f"This machine is busy with something else (load {busy:.1f}): times are too long, and vary.")
    frames, measured = [], {}
    with loopback(COUNT) as here:
        client = here.client
        for workload in find(list(ROWS), torch.device("cpu")):
            workload = replace(workload, rows=ROWS[workload.name])
            bytes_of = exchanged(client, workload)
            costs = measure(client, workload, bytes_of)
            frame = project(costs, units=MANY, steps=STEPS, workers=WORKERS)
            say(_table(frame, workload, bytes_of, costs))
            frames.append(frame.assign(workload=workload.name))
            measured[workload.name] = bytes_of | asdict(costs)
    found = pd.concat(frames, ignore_index=True)
    write_atomic(folder / "cluster.csv", to_csv(found))
    about = {"machine": describe(), "load": busy, "workers": COUNT, "units": MANY, "steps": STEPS, "costs": measured}
    write_atomic(folder / "cluster.json", json.dumps(about, indent=2) + "\n")
    return found


def exchanged(client: Any, workload: Workload, validation_size: int = 1_024) -> dict[str, float]:
    """Count what a generation sends to workers and back.

    Steps send nothing, so there are few. Heartbeats are in it; how many there are depends on the time.

    Returns:
        entries (|w|), floor (2 · 2g · |w| floats: Section 4.3), bytes (of a generation), ratio (of these two),
        messages (shards out and back), first (bytes of the first generation, with what is common to all).
    """
    client.run(_count)
    seen = [_counted(client)]

    class Look(Callback):
        def on_generation(self, generation: Generation) -> None:
            seen.append(_counted(client))

    config = GadamConfig(
        population_size=UNITS,
        validation_size=validation_size,
        generations=GENERATIONS,
        steps=20,
        batch_size=BATCH,
        shards=COUNT,
        seed=SEED,
        threshold=0.0,
    )
    result = evolve(
        workload.make_model, _rows(workload), config, executor=client.get_executor(), device="cpu", callbacks=[Look()],
        progress=False,
    )  # fmt: skip
    entries = sum(tensor[0].numel() for tensor in result.population.parameters.values())
    each = (seen[-1] - seen[1]) / (len(seen) - 2)
    floor = 2 * 2 * UNITS * entries * 4
    return {
        "entries": entries, "floor": floor, "bytes": each, "ratio": each / floor, "messages": 4 * COUNT,
        "first": seen[1] - seen[0],
    }  # fmt: skip


def measure(client: Any, workload: Workload, bytes_of: dict[str, float]) -> Costs:
    """Time the parts of a generation: steps of a shard, messages, genetics."""
    rows = _rows(workload)
    train = (rows[0],), rows[1]
    step, unit_step = _line([1, UNITS], lambda size: _step_seconds(workload, train, size))
    unit_bytes = 4 * bytes_of["entries"]
    shard_bytes = (bytes_of["bytes"] - bytes_of["floor"]) / (bytes_of["messages"] / 2)
    with Workers(client.get_executor()) as workers:
        seconds = {size: _task_seconds(workers, workload, train, size) for size in (1, UNITS)}
    byte = max(0.0, (seconds[UNITS] - seconds[1]) / (2 * unit_bytes * (UNITS - 1)))
    task = max(0.0, seconds[1] - byte * (2 * unit_bytes + shard_bytes))
    return Costs(task, byte, step, unit_step, _genetics_seconds(workload), unit_bytes, shard_bytes, LINK)


def _rows(workload: Workload) -> tuple[torch.Tensor, torch.Tensor]:
    draw = stream("cpu", SEED)
    inputs = torch.randn(workload.rows, *workload.shape, generator=draw)
    return inputs, torch.randint(workload.classes, (workload.rows,), generator=draw)


def _step_seconds(workload: Workload, train: Any, size: int) -> float:
    """Of a step of a shard on one thread: what many steps take longer than one, the median of three times."""
    population = Population.make(workload.make_model, size, seed=SEED)
    config = GadamConfig(batch_size=BATCH, shards=1, population_size=max(2, size))
    trainer, _, _ = lay_out(population, train, torch.nn.functional.cross_entropy, config, float("inf"))

    def seconds(steps: int) -> float:
        start = time.perf_counter()
        replace(trainer, config=replace(config, steps=steps)).train(cut(population, 1, "parent", 1)[0], _data(train))
        return time.perf_counter() - start

    seconds(1)  # traces
    more = TIMED[workload.name]
    return statistics.median((seconds(1 + more) - seconds(1)) / more for _ in range(3))


def _data(train: Any) -> Data:
    return Data(train, train, torch.arange(1_024), torch.arange(1_024))


def _task_seconds(workers: Workers, workload: Workload, train: Any, size: int) -> float:
    """Of a shard that is not trained, there and back, when there are many of them."""
    population = Population.make(workload.make_model, size, seed=SEED)
    trainer = Trainer(GadamConfig(), torch.nn.functional.cross_entropy)
    shard = cut(population, 1, "parent", 1)[0]
    for count in (COUNT, MESSAGES):  # the first ones bring what is common
        start = time.perf_counter()
        for future in [workers.submit(_untrained, trainer, shard, _data(train)) for _ in range(count)]:
            future.result()
    return (time.perf_counter() - start) / MESSAGES


def _untrained(trainer: Trainer, shard: Shard, data: Data, seconds: float | None = None) -> list[Trained | Shard]:
    losses = torch.zeros(len(shard.population))
    return [Trained(shard.population, losses, losses, losses, 0.0)]


def _genetics_seconds(workload: Workload, units: int = 100) -> float:
    """Of a unit, from the parents' losses to the survivors."""
    population = Population.make(workload.make_model, units, seed=SEED)
    start = time.perf_counter()
    bred = breed(population, torch.rand(units), GadamConfig(population_size=units), stream("cpu", SEED))
    Population.choose([population, bred.newborn], range(0, 2 * units, 2))
    return (time.perf_counter() - start) / units


def _line(sizes: Sequence[int], timed: Callable[[int], float]) -> tuple[float, float]:
    """What a step takes with no unit, and for each one, from two sizes."""
    (low, few), (high, many) = [(size, timed(size)) for size in sizes]
    slope = (many - few) / (high - low)
    return max(0.0, few - slope * low), slope


_passed = {"bytes": 0}


def _count() -> None:
    """In a worker: count what passes through its sockets from now on."""
    for name in ("read_from_fd", "write_to_fd"):
        method = getattr(IOStream, name)
        if not hasattr(method, "__wrapped__"):
            setattr(IOStream, name, _counting(method))


def _counting(method: Callable[..., int | None]) -> Callable[..., int | None]:
    @functools.wraps(method)
    def counting(stream: IOStream, data: Any) -> int | None:
        number = method(stream, data)
        _passed["bytes"] += number or 0
        return number

    return counting


def _bytes() -> int:
    return _passed["bytes"]


def _counted(client: Any) -> int:
    return sum(client.run(_bytes).values())


def _table(frame: pd.DataFrame, workload: Workload, bytes_of: dict[str, float], costs: Costs) -> str:
    lines = [
        f"\n{workload.title}: {bytes_of['bytes'] / 1e6:,.2f} MB a generation of {UNITS} units to {COUNT} workers and "
        f"back, {bytes_of['ratio']:.2f} x the formula; {bytes_of['first'] / 1e6:,.1f} MB in the first one",
        f"  a message {1e3 * costs.task / 2:.2f} ms and {1e9 * costs.byte:.2f} ns a byte; a step of a shard "
        f"{1e3 * costs.step:.3f} ms and {1e3 * costs.unit_step:.3f} ms a unit; genetics {1e3 * costs.genetics:.3f} ms",
        f"  {MANY:,} units, {STEPS:,} steps, {costs.link * 8 / 1e9:g} Gbit/s:",
        "  workers    seconds   speed-up   efficiency",
    ]
    lines += [
        f"  {row.workers:>7,} {row.seconds:>10,.1f} {row.speedup:>10,.1f} {row.efficiency:>11.0f}%"
        for row in frame.itertuples()
    ]
    return "\n".join(lines)
