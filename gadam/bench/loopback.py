"""A dask.distributed cluster of processes of this machine, to measure and to test with."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gadam.config import InputError

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
    """Start a cluster, and end all of it.

    Raises:
        InputError: distributed is not installed, or it does not start.
    """
    try:
        from distributed import Client
    except ModuleNotFoundError:
        raise InputError(
            "a cluster needs distributed, which is not installed: pip install 'gadam[distributed]'"
        ) from None
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
            raise InputError(f"a scheduler does not start on {HOST}: {last[-1]}")
        time.sleep(0.05)
