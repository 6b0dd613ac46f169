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
    processes: dict[str, list[subprocess.Popen[bytes]]] = field(default_factory=lambda: {"scheduler": [], "worker": []})
    client: Any = None

    def start(self, kind: str, *options: str) -> None:
        """Start one more, without waiting for it."""
        # Where whoever started them is killed, an idle scheduler ends after a while, and its workers with it.
        environment = os.environ | {"OMP_NUM_THREADS": "1", "DASK_DISTRIBUTED__SCHEDULER__IDLE_TIMEOUT": "1 hour"}
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", "--host", "127.0.0.1", "--no-dashboard"]
        command += ["--scheduler-file", str(self.folder / "scheduler.json"), *options]
        with (self.folder / "log.txt").open("ab") as log:
            self.processes[kind].append(subprocess.Popen(command, stdout=log, stderr=log, env=environment))

    def add_worker(self) -> None:
        self.start("worker", "--nthreads", "1", "--no-nanny", "--local-directory", str(self.folder))


@contextmanager
def loopback(workers: int):
    """Start a cluster, and end all of it."""
    from distributed import Client

    with tempfile.TemporaryDirectory(prefix="gadam-cluster-") as name:
        here, end = Loopback(Path(name)), time.monotonic() + SECONDS
        try:
            here.start("scheduler", "--port", "0")
            for _ in range(workers):
                here.add_worker()
            while not (here.folder / "scheduler.json").exists():
                if here.processes["scheduler"][0].poll() is not None or time.monotonic() > end:
                    raise RuntimeError((here.folder / "log.txt").read_text())
                time.sleep(0.05)
            with Client(scheduler_file=str(here.folder / "scheduler.json")) as here.client:
                here.client.wait_for_workers(workers, timeout=SECONDS)
                yield here
        finally:
            for process in (*here.processes["scheduler"], *here.processes["worker"]):
                process.kill()
                process.wait()
