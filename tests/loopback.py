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
SCHEDULER = ["-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]


@dataclass
class Loopback:
    """A scheduler, workers of one thread each that nobody starts again when they die, and a client."""

    folder: Path
    context: Any
    scheduler: Any = None
    workers: list[Any] = field(default_factory=list)
    client: Any = None

    def __post_init__(self) -> None:
        self.file, self.log = str(self.folder / "scheduler.json"), str(self.folder / "log.txt")
        # Where whoever started it is killed, an idle scheduler ends after a while, and its workers with it.
        environment = os.environ | {"DASK_DISTRIBUTED__SCHEDULER__IDLE_TIMEOUT": "1 hour"}
        with open(self.log, "ab") as log:
            command = [sys.executable, *SCHEDULER, "--scheduler-file", self.file]
            self.scheduler = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def add_worker(self) -> None:
        """Start one more, without waiting for it."""
        self.workers.append(self.context.Process(target=work, args=(self.file, str(self.folder), self.log)))
        self.workers[-1].start()


def work(scheduler_file: str, folder: str, log: str) -> None:
    """Be a worker of dask until the scheduler or somebody else ends it."""
    with open(log, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    import torch
    from distributed.cli import dask_worker

    torch.set_num_threads(1)
    options = ["--host", "127.0.0.1", "--no-dashboard", "--nthreads", "1", "--no-nanny", "--local-directory", folder]
    dask_worker.main([*options, "--scheduler-file", scheduler_file], standalone_mode=False)


@contextmanager
def loopback(context: Any, workers: int):
    """Start a cluster, and end all of it."""
    from distributed import Client

    with tempfile.TemporaryDirectory(prefix="gadam-cluster-") as name:
        here, end = Loopback(Path(name), context), time.monotonic() + SECONDS
        try:
            for _ in range(workers):
                here.add_worker()
            while not Path(here.file).exists():
                if here.scheduler.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(Path(here.log).read_text())
                time.sleep(0.05)
            with Client(scheduler_file=here.file) as here.client:
                here.client.wait_for_workers(workers, timeout=SECONDS)
                yield here
        finally:
            here.scheduler.kill()
            here.scheduler.wait()
            for process in here.workers:
                process.kill()
                process.join()
