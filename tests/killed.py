"""Trainings that are killed: what a process of their own does. Imported once, by a server that forks the others."""

import hashlib
import os
import warnings
from contextlib import ExitStack, contextmanager
from pathlib import Path

import distributed
import torch
import torch._dynamo  # the first optimizer would import it, for two seconds
from joblib.externals.loky import ProcessPoolExecutor
from joblib.externals.loky.backend.context import get_context
from tqdm.auto import tqdm

from gadam import GadamConfig, evolve
from gadam.evolution import checkpoint
from gadam.models import lenet5, mlp

ROWS = 256
INTERVAL = 0.2  # seconds between checkpoints


def images():
    draw = torch.Generator().manual_seed(0)
    return torch.rand(ROWS, 1, 28, 28, generator=draw), torch.randint(10, (ROWS,), generator=draw)


def letters():
    draw = torch.Generator().manual_seed(0)
    return torch.rand(ROWS, 16, generator=draw), torch.randint(26, (ROWS,), generator=draw)


def letter_mlp():
    return mlp(16, 26, (70, 50))


def config(**settings):
    return GadamConfig(population_size=6, batch_size=32, validation_size=64, shards=3, seed=3, **settings)


RUNS = {
    "mlp": (letter_mlp, letters, config(steps=400, generations=3, mode="vectorised")),
    "lenet": (lenet5, images, config(steps=12, generations=2, mode="loop")),
}


@contextmanager
def loky():
    """Two processes of loky.

    Forked, so that imports are not paid again by each; at once, for later this process has threads of OpenMP, which
    no fork survives.
    """
    with ProcessPoolExecutor(2, context=get_context("fork")) as pool:
        pool.submit(os.getpid).result()
        yield pool


@contextmanager
def dask(scheduler):
    with distributed.Client(scheduler, timeout=120) as client:
        yield client.get_executor()


def train(name, where, scheduler, path, answer, steps) -> None:
    """Train on two threads, two processes of loky, or a cluster.

    Args:
        name: of `RUNS`.
        where: "threads", "loky" or "dask".
        scheduler: address of that of a cluster.
        path: of the checkpoint; None keeps none.
        answer: a file for a hash of what came out, of the last population and of the history.
        steps: shared with who started this; counts the steps of units that are taken here, whatever was taken before.
    """
    os.setpgid(0, 0)  # processes of loky are killed with this one
    warnings.simplefilter("ignore")
    checkpoint.SHARE = 1.0  # kills should hit the writing too
    update = tqdm.update

    def counted(bar, taken=1):
        steps.value += taken
        return update(bar, taken)

    tqdm.update = counted
    make_model, rows, settings = RUNS[name]
    with ExitStack() as stack:
        executor = 2
        if where != "threads":
            executor = stack.enter_context(loky() if where == "loky" else dask(scheduler))
        result = evolve(
            make_model, rows(), settings, executor=executor, device="cpu", checkpoint=path,
            checkpoint_seconds=INTERVAL, progress=False,
        )  # fmt: skip
    digest = hashlib.sha256(result.history.drop(columns="seconds").to_csv().encode())
    for kind in (result.population.parameters, result.population.buffers):
        for entry, tensor in sorted(kind.items()):
            digest.update(entry.encode() + tensor.numpy().tobytes())
    Path(answer).write_text(digest.hexdigest())
