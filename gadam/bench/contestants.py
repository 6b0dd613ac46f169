"""Who is timed, on PyTorch: gadam in its ways, and what one would write without it.

A contestant is set up for some work and then trains it from the initial weights, as often as it is asked to. What must
be done once (tracing, compiling, starting processes) it does in its first training of so many steps, or before.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn.functional import cross_entropy

from gadam.bench.workloads import GENERATION, ROLE, SEED, Work
from gadam.config import GadamConfig
from gadam.paper.report.machine import usable_cores
from gadam.parallel.executors import as_executor, train_shards
from gadam.population import Population
from gadam.tracing import programs as vectorised
from gadam.training.plan import cut, lay_out
from gadam.training.shards import Data

Weights = Mapping[str, Tensor]
"""Name -> [g, *shape], on the CPU."""


@dataclass(frozen=True)
class Ready:
    """A contestant that is set up.

    Attributes:
        train: number of steps -> the trained weights, as a function that hands them over: that part is not timed.
        note: what a reader of its row should know.
    """

    train: Callable[[int], Callable[[], Weights]]
    note: str = ""


@dataclass(frozen=True)
class Contestant:
    """A name, how to set it up for some work, and for which work it is meant."""

    name: str
    start: Callable[[Work], AbstractContextManager[Ready]]
    fits: Callable[[Work], bool] = lambda work: True


OURS = "gadam"
"""The contestant that the others are compared with: gadam as `evolve` lays it out if nothing is asked for."""


def convolves(work: Work) -> bool:
    """Whether the model has convolutions."""
    return any(isinstance(module, nn.Conv2d) for module in work.population.template.modules())


@contextmanager
def gadam(work: Work, threads: int | None = None, **settings: Any) -> Iterator[Ready]:
    """Train as `evolve` trains the parents of a generation; its two evaluations are on one row and cost nothing.

    Args:
        work: what to train.
        threads: of the executor; None takes as many as `evolve` would.
        settings: of `GadamConfig`, beside what the work fixes.
    """
    units = len(work.population)
    # The settings are for evolving, which takes two; training alone does not.
    config = GadamConfig(population_size=max(units, 2), batch_size=work.batch_size, seed=SEED, **settings)
    rows = (work.inputs,), work.targets
    trainer, layout, _ = lay_out(work.population, rows, cross_entropy, config, math.inf)
    shards = cut(work.population, layout, ROLE, GENERATION)
    one = torch.zeros(1, dtype=torch.int64, device=work.device)
    useful = min(torch.get_num_threads(), len(shards)) if work.device.type == "cpu" else 1
    with as_executor(threads, useful) as pool:

        def train(steps: int) -> Callable[[], Weights]:
            timed = replace(trainer, config=replace(config, steps=steps))
            trained = train_shards(pool, timed, shards, Data(rows, rows, one, one))
            return lambda: Population.join([each.population for each in trained]).to("cpu").parameters

        yield Ready(train, f"{trainer.way}, shards: {len(shards)}, threads: {threads or useful}")


@contextmanager
def plain(work: Work, threads: int | None = None) -> Iterator[Ready]:
    """The loop that one writes first, a unit after another, with so many threads; None leaves PyTorch's own number."""
    before = torch.get_num_threads()
    threads = threads or before

    def train(steps: int) -> Callable[[], Weights]:
        batches = work.batches(steps)
        units = list(work.population.units())
        torch.set_num_threads(threads)
        try:
            for number, module in enumerate(units):
                train_alone(module, work.inputs, work.targets, batches[:, number])
        finally:
            torch.set_num_threads(before)
        return lambda: Population.stack(units).to("cpu").parameters

    yield Ready(train, f"threads: {threads}")


def train_alone(module: nn.Module, inputs: Tensor, targets: Tensor, batches: Tensor) -> None:
    """Train one unit in place on batches [steps, batch_size] of row numbers."""
    module.train()
    optimizer = torch.optim.Adam(module.parameters())
    for index in batches:
        optimizer.zero_grad()
        cross_entropy(module(inputs[index]), targets[index]).backward()
        optimizer.step()


@contextmanager
def ensembling(work: Work) -> Iterator[Ready]:
    """PyTorch's documented ensembling: `stack_module_state` and `vmap`, one Adam on the stacked tensors."""
    stacked, buffers = stack_module_state([module.train() for module in work.population.units()])
    base = copy.deepcopy(work.population.template).train().to("meta")

    def loss(parameters: Weights, state: Weights, inputs: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(functional_call(base, (dict(parameters), dict(state)), (inputs,)), targets)

    gradients = vmap(grad(loss), randomness="different")

    def train(steps: int) -> Callable[[], Weights]:
        parameters = {name: tensor.detach().clone() for name, tensor in stacked.items()}
        optimizer = torch.optim.Adam(parameters.values())
        for index in work.batches(steps):
            found = gradients(parameters, buffers, work.inputs[index], work.targets[index])
            for name, tensor in parameters.items():
                tensor.grad = found[name]
            optimizer.step()
        return lambda: {name: tensor.detach().cpu() for name, tensor in parameters.items()}

    yield Ready(train, f"threads: {torch.get_num_threads()}")


@contextmanager
def processes(work: Work) -> Iterator[Ready]:
    """A pool of processes by joblib, a unit a task, one thread each, as TorchEnsemble trains its members."""
    from joblib import Parallel, delayed

    count = min(len(work.population), usable_cores())
    # As arrays, which joblib maps into the memory of its processes where they are large.
    inputs, targets = work.inputs.cpu().numpy(), work.targets.cpu().numpy()
    with Parallel(n_jobs=count, backend="loky") as parallel:

        def train(steps: int) -> Callable[[], Weights]:
            batches = work.batches(steps).cpu().numpy()
            trained = parallel(
                delayed(_in_process)(unit, inputs, targets, np.ascontiguousarray(batches[:, number]), str(work.device))
                for number, unit in enumerate(work.population.to("cpu").units())
            )
            return lambda: {name: torch.stack([torch.from_numpy(t[name]) for t in trained]) for name in trained[0]}

        yield Ready(train, f"processes: {count}")


def _in_process(module: nn.Module, inputs: Any, targets: Any, batches: Any, device: str) -> dict[str, Any]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with full_precision():
            rows, labels, index = (torch.tensor(array, device=device) for array in (inputs, targets, batches))
            train_alone(module.to(device), rows, labels, index)
    finally:
        torch.set_num_threads(before)  # a single unit is trained in the calling process
    return {name: parameter.detach().cpu().numpy() for name, parameter in module.named_parameters()}


@contextmanager
def full_precision() -> Iterator[None]:
    """float32 that is float32 on a GPU too, for everyone: by default cuDNN's convolutions round to TF32."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def ablations() -> list[Contestant]:
    """Contestants: gadam in one shard on one thread, without what makes its traced programs faster, part by part."""

    def refuse(*_: Any) -> Any:
        raise NotImplementedError

    def as_traced(traced: Any, *_: Any, **__: Any) -> Any:
        return vectorised._draw_from_streams(traced).forward

    def without(name: str, replacement: Callable[..., Any]) -> Callable[[Work], AbstractContextManager[Ready]]:
        @contextmanager
        def start(work: Work) -> Iterator[Ready]:
            with mock.patch.object(vectorised, name, replacement), gadam(work, 1, shards=1) as ready:
                yield ready

        return start

    return [
        Contestant(f"{OURS}, 1 shard, called from Python", without("compiled", refuse)),
        Contestant(f"{OURS}, 1 shard, as traced", without("_faster", as_traced)),
    ]


def hand_chosen(units: int) -> list[Contestant]:
    """Contestants: gadam with every number of shards and threads that one might choose by hand."""
    layouts = [
        (shards, threads) for shards in sorted({1, 2, units}) for threads in (1, 2) if threads <= shards <= units
    ]

    def setting(shards: int, threads: int) -> Contestant:
        plural = "" if threads == 1 else "s"
        name = f"{OURS}, by hand: {shards} shard{'' if shards == 1 else 's'}, {threads} thread{plural}"
        return Contestant(name, lambda work: gadam(work, threads, shards=shards))

    return [setting(*layout) for layout in layouts]
