"""The contestants on PyTorch: gadam in its ways, and what one would write without it.

A contestant is set up for some work (`with contestant(work) as (train, note)`) and then trains it from the initial
weights for so many steps, as often as it is asked to; `train(steps)` returns the weights, name -> [g, *shape]. What
must be done once (tracing, compiling, starting processes) it does in its first training of so many steps, or before.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from jax_contestant import jax_units
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn.functional import cross_entropy
from workloads import GENERATION, ROLE, SEED, Ready, Weights, Work

from gadam.config import GadamConfig
from gadam.parallel.executors import as_pool, train_shards
from gadam.population import Population
from gadam.runtime import float32_as_asked, intra_operator_threads
from gadam.training.plan import plan_training
from gadam.training.shards import Data, split_into_shards
from gadam.training.trainer import Trainer

Contestant: TypeAlias = Callable[[Work], AbstractContextManager[Ready]]

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def gadam(work: Work, threads: int | None = None, **settings: Any) -> Iterator[Ready]:
    """Train as `evolve` trains the parents of a generation; its two evaluations are on one row and cost nothing.

    `threads` of the executor are as many as `evolve` would take if None; `settings` are of `GadamConfig`.
    """
    # The settings are for evolving, which takes two units; training alone does not.
    units = max(len(work.population), 2)
    config = GadamConfig(population_size=units, batch_size=work.batch_size, seed=SEED, **settings)
    rows = (work.inputs,), work.targets
    trainer, count, _ = plan_training(Trainer(config, cross_entropy, (SEED,)), work.population, rows, math.inf)
    shards = split_into_shards(work.population, count, ROLE, GENERATION)
    one = torch.zeros(1, 1, dtype=torch.int64, device=work.device)
    useful = min(torch.get_num_threads(), len(shards)) if work.device.type == "cpu" else 1
    with as_pool(threads, useful) as pool:

        def train(steps: int) -> Weights:
            timed = replace(trainer, config=replace(config, steps=steps))
            trained = train_shards(pool, timed, shards, Data(rows, rows, one, one))
            return Population.join([each.population for each in trained]).to("cpu").parameters

        yield train, f"{trainer.way}, shards: {len(shards)}, threads: {threads or useful}"


@contextmanager
def plain(work: Work, workers: int = 1, threads: int | None = None) -> Iterator[Ready]:
    """The loop that one writes first: a unit after another, or in worker threads, with so many threads of PyTorch."""
    threads = threads or torch.get_num_threads()

    def train(steps: int) -> Weights:
        batches, units = work.batches(steps), list(work.population.units())

        def train_unit(number: int) -> None:
            with intra_operator_threads(threads):
                train_alone(units[number], work.inputs, work.targets, batches[:, number])

        with ThreadPoolExecutor(workers) as pool:
            list((map if workers == 1 else pool.map)(train_unit, range(len(units))))
        return Population.stack(units).to("cpu").parameters

    yield train, f"workers: {workers}, threads of each: {threads}"


def train_alone(module: nn.Module, inputs: Tensor, targets: Tensor, batches: Tensor) -> None:
    """Train one unit in place on batches [steps, batch_size] of row numbers."""
    module.train()
    optimizer = torch.optim.Adam(module.parameters())
    for index in batches:
        optimizer.zero_grad()
        cross_entropy(module(inputs[index]), targets[index]).backward()
        optimizer.step()


@contextmanager
def ensembling(work: Work, compiled: bool = False) -> Iterator[Ready]:
    """PyTorch's documented ensembling: `stack_module_state` and `vmap`, one Adam on the stacked tensors."""
    stacked, buffers = stack_module_state([module.train() for module in work.population.units()])
    base = copy.deepcopy(work.population.template).train().to("meta")

    def loss(parameters: Weights, state: Weights, inputs: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(functional_call(base, (dict(parameters), dict(state)), (inputs,)), targets)

    gradients = vmap(grad(loss), randomness="different")
    gradients = torch.compile(gradients) if compiled else gradients

    def train(steps: int) -> Weights:
        parameters = {name: tensor.detach().clone() for name, tensor in stacked.items()}
        optimizer = torch.optim.Adam(parameters.values())
        for index in work.batches(steps):
            found = gradients(parameters, buffers, work.inputs[index], work.targets[index])
            for name, tensor in parameters.items():
                tensor.grad = found[name]
            optimizer.step()
        return {name: tensor.detach().cpu() for name, tensor in parameters.items()}

    yield train, f"threads: {torch.get_num_threads()}"


@contextmanager
def processes(work: Work) -> Iterator[Ready]:
    """A pool of processes by joblib, a unit a task, one thread each, as TorchEnsemble trains its members."""
    from joblib import Parallel, delayed

    count = min(len(work.population), CORES)
    # As arrays, which joblib maps into the memory of its processes where they are large.
    inputs, targets = work.inputs.cpu().numpy(), work.targets.cpu().numpy()
    with Parallel(n_jobs=count, backend="loky") as parallel:

        def train(steps: int) -> Weights:
            batches = work.batches(steps).cpu().numpy()
            units = parallel(
                delayed(_in_process)(unit, inputs, targets, np.ascontiguousarray(batches[:, number]), str(work.device))
                for number, unit in enumerate(work.population.to("cpu").units())
            )
            return Population.stack(units).parameters

        yield train, f"processes: {count}"


def _in_process(module: nn.Module, inputs: Any, targets: Any, batches: Any, device: str) -> nn.Module:
    rows, labels, index = (torch.tensor(array, device=device) for array in (inputs, targets, batches))
    with intra_operator_threads(1), float32_as_asked(rows.device):
        train_alone(module.to(device), rows, labels, index)
    return module.to("cpu")


OURS = "gadam"
"""The contestant that the others are compared with: gadam as `evolve` lays it out if nothing is asked for."""

CONTESTANTS: dict[str, Contestant] = {
    OURS: gadam,
    f"{OURS}, vectorised, 1 thread": partial(gadam, threads=1, mode="vectorised", shards=1),
    f"{OURS}, loop, 1 thread": partial(gadam, threads=1, mode="loop"),
    "PyTorch, one unit after another": plain,
    "PyTorch, one after another, 1 thread": partial(plain, threads=1),
    "PyTorch, worker threads": partial(plain, workers=CORES, threads=1),
    "PyTorch, stack_module_state + vmap": ensembling,
    "PyTorch, torch.compile of that": partial(ensembling, compiled=True),
    "joblib, a process a unit": processes,
    "JAX, vmap + lax.scan": jax_units,
    "JAX, lax.map": partial(jax_units, one_by_one=True),
}
