"""A dask.distributed cluster of processes of this machine."""

import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECONDS = 300.0  # to start in, on a busy machine


@dataclass
class Loopback:
    """A scheduler, workers of one thread each that nobody starts again when they die, and a client."""

    folder: Path
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    client: Any = None

    def add_worker(self) -> None:
        """Start one more, without waiting for it."""
        options = ("--nthreads", "1", "--no-nanny", "--local-directory", str(self.folder))
        self.workers.append(_start("worker", self.folder, *options))


@contextmanager
def loopback(workers: int):
    """Start a cluster, and end all of it."""
    from distributed import Client

    with tempfile.TemporaryDirectory(prefix="gadam-cluster-") as name:
        here = Loopback(Path(name), _start("scheduler", Path(name), "--port", "0"))
        file, end = here.folder / "scheduler.json", time.monotonic() + SECONDS
        try:
            for _ in range(workers):
                here.add_worker()
            while not file.exists():
                if here.scheduler.poll() is not None or time.monotonic() > end:
                    raise RuntimeError((here.folder / "log.txt").read_text())
                time.sleep(0.05)
            with Client(scheduler_file=str(file)) as here.client:
                here.client.wait_for_workers(workers, timeout=SECONDS)
                yield here
        finally:
            for process in (here.scheduler, *here.workers):
                process.kill()
                process.wait()


def _start(kind: str, folder: Path, *options: str) -> subprocess.Popen[bytes]:
    # Where whoever started them is killed, an idle scheduler ends after a while, and its workers with it.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "DASK_DISTRIBUTED__SCHEDULER__IDLE_TIMEOUT": "1 hour"}
    command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", "--scheduler-file", str(folder / "scheduler.json")]
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--no-dashboard", *options], stdout=log, stderr=log, env=environment
        )
