"""A training in a process of its own, which kills itself and its processes at a given moment, or is left in peace."""

import hashlib
import json
import os
import signal
import threading
import warnings
from contextlib import ExitStack, contextmanager
from pathlib import Path

import distributed
import torch
import torch._dynamo  # the first optimizer would import it, for two seconds
from joblib.externals.loky import ProcessPoolExecutor
from joblib.externals.loky.backend.context import get_context
from tqdm.auto import tqdm

from gadam import GadamConfig, evolve, storage
from gadam.evolution import checkpoint
from gadam.models import mlp

CONFIG = GadamConfig(
    population_size=6, generations=2, steps=70, batch_size=32, validation_size=64, shards=3, seed=3, mode="loop"
)
WHOLE = 4 * CONFIG.population_size * CONFIG.steps  # steps of units


@contextmanager
def executor_of(where, scheduler):
    """Two threads, two processes of loky, or a dask cluster."""
    if where == "threads":
        yield 2
    elif where == "dask":
        with distributed.Client(scheduler, timeout=120) as client:
            yield client.get_executor()
    else:  # forked, so that imports are not paid again; at once, for later there are threads of OpenMP
        with ProcessPoolExecutor(2, context=get_context("fork")) as pool:
            pool.submit(os.getpid).result()
            yield pool


def die():
    os.killpg(0, signal.SIGKILL)


def train(where, scheduler, path, answer, moment=None, later=0.0):
    """Train; write a hash of what came out, and how many steps of units were taken here, into the file `answer`.

    After `moment` steps of units, and once a checkpoint has some of them, it is killed, `later` seconds after.
    """
    os.setpgid(0, 0)  # processes of loky are killed with this one
    warnings.simplefilter("ignore")
    checkpoint.SHARE = 1.0  # kills should hit the writing too
    update, write = tqdm.update, storage.write
    taken = written = 0

    def counted(bar, steps=1):
        nonlocal taken
        taken += steps
        if moment is not None and taken >= moment and written > 1:
            threading.Timer(later, die).start()
        return update(bar, steps)

    def noted(*given):
        nonlocal written
        write(*given)
        written += 1

    tqdm.update, storage.write = counted, noted
    draw = torch.Generator().manual_seed(0)
    rows = torch.rand(256, 16, generator=draw), torch.randint(26, (256,), generator=draw)
    with ExitStack() as stack:
        executor = stack.enter_context(executor_of(where, scheduler))
        result = evolve(
            lambda: mlp(16, 26, (12,)), rows, CONFIG, executor=executor, device="cpu", checkpoint=path,
            checkpoint_seconds=0.05, progress=False,
        )  # fmt: skip
        if moment is not None:
            die()
    digest = hashlib.sha256(result.history.drop(columns="seconds").to_csv().encode())
    for entry, tensor in sorted((result.population.parameters | result.population.buffers).items()):
        digest.update(entry.encode() + tensor.numpy().tobytes())
    Path(answer).write_text(json.dumps([digest.hexdigest(), taken]))
