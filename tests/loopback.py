"""A dask.distributed cluster of processes of this machine, and a count of the bytes that pass through its sockets."""

import functools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from distributed import Client
from tornado.iostream import IOStream

from gadam import Callback, GadamConfig, evolve

HOST = "127.0.0.1"
SECONDS = 300.0  # to start in, on a busy machine


@dataclass
class Loopback:
    """A scheduler, workers of one thread each that nobody starts again when they die, and a client.

    Attributes:
        client: a `distributed.Client`.
        scheduler: its process.
        workers: theirs.
    """

    client: Any
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]]
    folder: Path = field(repr=False)

    def add_worker(self) -> None:
        """Start one more, without waiting for it."""
        options = ("--nthreads", "1", "--no-nanny", "--local-directory", str(self.folder))
        self.workers.append(_start("worker", self.folder, *options))


@contextmanager
def loopback(workers: int) -> Iterator[Loopback]:
    """Start a cluster, and end all of it."""
    with tempfile.TemporaryDirectory(prefix="gadam-cluster-") as name:
        folder = Path(name)
        scheduler = _start("scheduler", folder, "--port", "0")
        here = Loopback(None, scheduler, [], folder)
        try:
            for _ in range(workers):
                here.add_worker()
            _wait(folder / "scheduler.json", scheduler)
            with Client(scheduler_file=str(folder / "scheduler.json")) as here.client:
                here.client.wait_for_workers(workers, timeout=SECONDS)
                yield here
        finally:
            for process in (scheduler, *here.workers):
                process.kill()
                process.wait()


def _start(kind: str, folder: Path, *options: str) -> subprocess.Popen[bytes]:
    # Where whoever started them is killed, an idle scheduler ends after a while, and its workers with it.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "DASK_DISTRIBUTED__SCHEDULER__IDLE_TIMEOUT": "1 hour"}
    paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(paths)  # workers import this module to count bytes
    command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", "--scheduler-file", str(folder / "scheduler.json")]
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [*command, "--host", HOST, "--no-dashboard", *options], stdout=log, stderr=log, env=environment
        )


def _wait(file: Path, scheduler: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + SECONDS
    while not file.exists():
        if scheduler.poll() is not None or time.monotonic() > end:
            last = (file.parent / "log.txt").read_text().strip().splitlines() or ["it says nothing"]
            raise RuntimeError(f"a scheduler does not start on {HOST}: {last[-1]}")
        time.sleep(0.05)


def exchanged(
    client: Any, make_model: Callable, shape: tuple[int, ...], *, rows: int, workers: int
) -> dict[str, float]:
    """Count what a generation of ten units sends to workers and back.

    Steps send nothing, so there are few. Heartbeats are in it; how many there are depends on the time.

    Returns:
        entries (|w|), floor (2 * 2g * |w| floats: Section 4.3), bytes (of a generation), ratio (of these two), first
        (bytes of the first generation, with what is common to all).
    """
    client.run(_count)
    seen = [_counted(client)]

    class Look(Callback):
        def on_generation(self, generation: Any) -> None:
            seen.append(_counted(client))

    units = 10
    config = GadamConfig(
        population_size=units,
        generations=2,
        steps=20,
        batch_size=128,
        validation_size=16,
        shards=workers,
        threshold=0.0,
    )
    data = torch.rand(rows, *shape), torch.arange(rows) % 10
    options = {"executor": client.get_executor(), "device": "cpu", "callbacks": [Look()], "progress": False}
    result = evolve(make_model, data, config, **options)
    entries = sum(tensor[0].numel() for tensor in result.population.parameters.values())
    each, floor = seen[2] - seen[1], 2 * 2 * units * entries * 4
    return {"entries": entries, "floor": floor, "bytes": each, "ratio": each / floor, "first": seen[1] - seen[0]}


_passed = {"bytes": 0}


def _count() -> None:
    """In a worker: count what passes through its sockets from now on."""
    for name in ("read_from_fd", "write_to_fd"):
        method = getattr(IOStream, name)
        if not hasattr(method, "__wrapped__"):
            setattr(IOStream, name, _counting(method))


def _counting(method: Callable) -> Callable:
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
