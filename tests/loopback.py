"""A dask.distributed cluster of processes of this machine."""

import gc
import os
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

SECONDS = 300.0  # to start in, on a busy machine
SCHEDULER = ["-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]


def work(scheduler_file, folder, log, environment):
    """Be a worker of dask until the scheduler or somebody else ends it."""
    with open(log, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.update(environment)
    import torch
    from distributed.cli import dask_worker

    torch.set_num_threads(1)
    options = ["--host", "127.0.0.1", "--no-dashboard", "--nthreads", "1", "--no-nanny", "--local-directory", folder]
    dask_worker.main([*options, "--scheduler-file", scheduler_file], standalone_mode=False)


def collect():
    """Collect sockets and tasks of a client whose scheduler is gone now: in a later test their warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@contextmanager
def loopback(context, count, **environment):
    """Yield a scheduler, workers of one thread each that nobody starts again when they die, and a client; end all."""
    from distributed import Client

    with tempfile.TemporaryDirectory(prefix="gadam-cluster-") as folder:
        file, log, end, workers = f"{folder}/scheduler.json", f"{folder}/log.txt", time.monotonic() + SECONDS, []

        def add_worker():
            """Start one more, without waiting for it."""
            workers.append(context.Process(target=work, args=(file, folder, log, environment)))
            workers[-1].start()

        # Where whoever started it is killed, an idle scheduler ends after a while, and its workers with it.
        own = os.environ | {
            "DASK_DISTRIBUTED__SCHEDULER__IDLE_TIMEOUT": "1 hour",
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        with open(log, "ab") as output:
            command = [sys.executable, *SCHEDULER, "--scheduler-file", file]
            scheduler = subprocess.Popen(command, stdout=output, stderr=output, env=own | environment)
        try:
            for _ in range(count):
                add_worker()
            while not (Path(file).exists() and Path(file).read_text()):
                if scheduler.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(Path(log).read_text())
                time.sleep(0.05)
            with Client(scheduler_file=file) as client:
                if count:
                    client.wait_for_workers(count, timeout=SECONDS)
                yield SimpleNamespace(scheduler=scheduler, workers=workers, add_worker=add_worker, client=client)
        finally:
            scheduler.kill()
            scheduler.wait()
            for process in workers:
                process.kill()
                process.join()
            collect()
