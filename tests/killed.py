"""Trainings that are killed: what a process of their own does. Imported once, by a server that forks the others."""

import hashlib
import warnings
from pathlib import Path

import distributed
import torch
import torch._dynamo  # the first optimizer would import it, for two seconds

from gadam import GadamConfig, checkpoint, evolve
from gadam.models import lenet5, mlp

ROWS = 256


def images():
    draw = torch.Generator().manual_seed(0)
    return torch.rand(ROWS, 1, 28, 28, generator=draw), torch.randint(10, (ROWS,), generator=draw)


def letters():
    draw = torch.Generator().manual_seed(0)
    return torch.rand(ROWS, 16, generator=draw), torch.randint(26, (ROWS,), generator=draw)


def letter_mlp():
    return mlp(16, 26, (70, 50))


RUNS = {
    "mlp": (letter_mlp, letters, {"steps": 400, "mode": "vectorised", "shards": 3, "generations": 3}),
    "lenet": (lenet5, images, {"steps": 12, "mode": "loop", "shards": 3, "generations": 2}),
}


def train(name: str, scheduler: str | None, path: str | None, answer: str) -> None:
    """A training with two threads, or on a cluster; what came out goes into a file."""
    warnings.simplefilter("ignore")
    checkpoint.SHARE = 1.0  # kills should hit the writing too
    make_model, rows, settings = RUNS[name]
    config = GadamConfig(population_size=6, batch_size=32, validation_size=64, seed=3, **settings)
    client = distributed.Client(scheduler, timeout=30) if scheduler else None
    executor = client.get_executor() if client else 2
    result = evolve(
        make_model, rows(), config, executor=executor, checkpoint=path, checkpoint_seconds=0.2, progress=False
    )
    digest = hashlib.sha256(result.history.drop(columns="seconds").to_csv().encode())
    for kind in (result.population.parameters, result.population.buffers):
        for tensor in kind.values():
            digest.update(tensor.numpy().tobytes())
    Path(answer).write_text(digest.hexdigest())
    if client:
        client.close()
