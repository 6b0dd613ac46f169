"""Decide how to train a population on the machine at hand: in which way, and in how many shards."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gadam.display import first_line
from gadam.population import Population
from gadam.randomness import unit_stream
from gadam.tracing.programs import Programs, suits_singly
from gadam.training.batches import BLOCK, take_rows
from gadam.training.shards import Data, Shard, is_out_of_memory
from gadam.training.trainer import Trainer
from gadam.types import Batch, Loss

UNITS_PER_SHARD = 4
"""Least units of a shard that is trained in one call: with fewer, Python between the calls takes the time."""
CACHE_BYTES = 2**21
"""Estimated activations and gradients of a shard on a CPU: with more of them units slow each other down (measured)."""
TRACING_PAYS = {"whole": 1_000, "singly": 200}
"""Steps of units, all together, that the loop takes in the time of tracing: about a second."""
MEMORY_SHARE = 0.9
"""Share of the free memory that an estimate may ask for."""
MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")


class TrainingPlan(NamedTuple):
    """Decision how to train: the trainer, the number of shards, and a warning for the user, "" if there is none."""

    trainer: Trainer
    shards: int
    warning: str = ""


@dataclass(frozen=True)
class ClusterSize:
    """A cluster that trains: tasks that run at once, and bytes of memory that each may take, if that is known."""

    threads: int
    memory: int | None


def plan_training(
    loop: Trainer, population: Population, train: Batch, unit_steps: float, cluster: ClusterSize | None = None,
    moves: str = "", unused: Sequence[str] = (),
) -> TrainingPlan:  # fmt: skip
    """Choose between loop and vectorised, by the settings, the model, the device and the length of the training.

    Where memory is short there are more shards: first by an estimate (unless `config.shards` is set), then twice as
    many while a trial step runs out of memory.

    `loop` trains unit by unit; `unit_steps` are the optimizer steps that will be taken, over all units; `moves` is what
    changes in Python at each step, see `gadam.training.python_state`, which a trace would freeze; `unused` are
    parameters without a gradient, which AdamW leaves as they are, but would decay by the zeros of a trace.
    """
    config, loss, device = loop.config, loop.loss, train[1].device

    def by_loop(warning: str = "") -> TrainingPlan:
        return TrainingPlan(loop, _shard_count(len(population), loop, device, cluster), warning)

    singly = suits_singly(population.template, device)
    too_short = config.mode == "auto" and unit_steps < TRACING_PAYS["singly" if singly else "whole"]
    apart = config.ranges and config.optimizer != "adam"  # each with an optimizer of torch's that has one rate
    alone = config.mode == "loop" or too_short or apart
    if moves:  # which a traced program would freeze
        fate = "units share it, and a checkpoint does not have it"
        if moves.startswith(f"{type(population.template).__name__}.") and ":" not in moves:  # an attribute
            fate = "it begins anew for each unit, generation and pause; a buffer (register_buffer) would not"
        return by_loop(f"{'' if alone else 'training unit by unit, because '}{moves} changes from step to step; {fate}")
    if apart and config.mode == "vectorised":
        return by_loop(f"training unit by unit, because optimizer={config.optimizer!r} takes one learning rate for all")
    if alone:
        return by_loop()
    if unused and config.weight_decay != 0:
        freeze = "freeze it by requires_grad_(False), or give weight_decay=0"
        return by_loop(f"training unit by unit, because {unused[0]} has no gradient, and is not to decay; {freeze}")
    programs = Programs(population.template, loss, singly=singly, training_loss=simplify_cross_entropy(loss, train[1]))
    trainer = replace(loop, programs=programs)
    count = first = _shard_count(len(population), trainer, device, cluster)
    estimate = ""
    unit = {} if singly or config.shards is not None else unit_bytes(population, train, loss, config.batch_size)
    if unit:
        if device.type == "cpu" and not cluster:
            shards = math.ceil(len(population) * (unit["activations"] + unit["gradients"]) / CACHE_BYTES)
            count = first = max(count, min(shards, len(population) // UNITS_PER_SHARD))
        count, estimate = _fit_memory(population, train, unit, count, cluster)
    while True:
        shard = max(population.shards(count), key=len)
        try:
            reason = check_vectorised(shard, train, trainer)
            break
        except MemoryError as error:
            if len(shard) == 1:
                reason = str(error)
                break
            count = min(2 * count, len(population))
    if not reason:
        cramped = estimate or f"{len(population)} units do not fit the memory of {device} at once"
        return TrainingPlan(trainer, count, f"{cramped}: trained in {count} shards" if count > first else estimate)
    # Warn only if "vectorised" was asked for, or "auto" would have trained several units in one call.
    asked = config.mode == "vectorised" or not singly
    return by_loop(f"training unit by unit, because the model cannot be vectorised: {reason}" if asked else "")


def _shard_count(units: int, trainer: Trainer, device: torch.device, cluster: ClusterSize | None) -> int:
    """Return the number of shards of a generation: `config.shards`, or what suits.

    Units that are trained one by one anyway are shared out best each alone. A population that is trained in one call
    is cut for as many threads as PyTorch is set to use, or as the workers of a cluster have: so this default may differ
    between machines, and with it the last bits of results. Of the executor nothing else counts.
    """
    if trainer.way != "vectorised":
        default = units
    elif cluster:  # each task in a process of its own, whose Python waits for nobody
        default = cluster.threads
    else:
        at_once = torch.get_num_threads() if device.type == "cpu" else 1
        default = max(1, min(at_once, units // UNITS_PER_SHARD))
    return min(trainer.config.shards or default, units)


def simplify_cross_entropy(loss: Loss, targets: Tensor) -> Loss:
    """Return cross-entropy without what it does for labels that are ignored, if the targets have none.

    That takes some twenty operators, a fifth of the step of a single small network. Any other loss comes back as it is.
    """
    if type(loss) is nn.CrossEntropyLoss:  # a subclass may do more
        plain = loss.weight is None and loss.label_smoothing == 0 and loss.reduction == "mean"
    else:
        plain = loss is nn.functional.cross_entropy
    ignored = getattr(loss, "ignore_index", -100)
    if not plain or targets.dtype != torch.int64 or bool((targets == ignored).any()):
        return loss
    return _cross_entropy


def _cross_entropy(output: Tensor, targets: Tensor) -> Tensor:
    if output.dim() != 2 or targets.dim() != 1:
        return nn.functional.cross_entropy(output, targets)
    return -output.log_softmax(1).gather(1, targets[:, None]).mean()


def check_vectorised(shard: Population, rows: Batch, trainer: Trainer) -> str:
    """Say how one gradient step of the vectorised program differs from the loop's, on real rows; "" if it does not.

    The step is plain gradient descent with rate 1, so that it shows the gradient itself. `shard` has as many units as
    will be trained in one call, so that this traces what training needs.

    Raises:
        MemoryError: the shard does not fit.
    """
    config = replace(
        trainer.config, steps=1, optimizer="sgd", learning_rate=1.0, weight_decay=0.0, schedule="constant", average=0.0,
        moments="fresh",
    )  # fmt: skip
    some = torch.arange(min(trainer.config.validation_size, len(rows[1])), device=rows[1].device)
    data = Data(rows, rows, *[some.expand(len(trainer.seeds), -1)] * 2)
    shard = replace(shard, rates={})
    few, singly = shard.take(slice(0, 2)), trainer.way == "unit by unit"
    if singly:
        shard = few  # the others would go through the same program

    def train(units: Population, programs: Programs | None, generation: int) -> Shard:
        step = replace(trainer, config=config, programs=programs, validates=False)
        return step.train(Shard(units, range(len(units)), "parent", generation), data)

    for generation in (0, 1):  # on the batch that is traced with, and on another
        if generation and singly:
            shard = few = few.take(slice(0, 1))
        try:
            ours = train(shard, trainer.programs, generation).take(slice(0, len(few)))
        except Exception as error:
            if is_out_of_memory(error):
                raise MemoryError(first_line(error)) from None  # without the frames, which hold what was allocated
            return first_line(error)
        if found := _difference(few, ours, train(few, None, generation)):
            return f"its {found} differs from the unit's own"
    return ""


def _difference(start: Population, ours: Shard, theirs: Shard) -> str:
    """Name what differs far beyond rounding after a step of gradient descent; "" if nothing does."""
    gradients = [
        {name: shard.population.parameters[name] - entry for name, entry in start.parameters.items()}
        for shard in (ours, theirs)
    ]
    # Rounding is of this size, for a gradient may be nothing else, such as that of a bias before BatchNorm.
    scale = max(float(entry.nan_to_num(0, 0, 0).norm()) for entry in gradients[1].values())
    for name, loop in gradients[1].items():
        if _differ(gradients[0][name], loop, scale):
            return f"gradient of {name}"
    for name, loop in theirs.population.buffers.items():
        if _differ(ours.population.buffers[name], loop):
            return f"buffer {name}"
    return "loss" if _differ(ours.tensors["loss_start"], theirs.tensors["loss_start"], scale) else ""


def _differ(a: Tensor, b: Tensor, scale: float = 1.0) -> bool:
    """Tell whether two tensors differ far beyond rounding. Both may be non-finite in the same places."""
    if not a.is_floating_point():
        return not torch.equal(a, b)
    close = 1e-2 * b.nan_to_num(0, 0, 0).norm() + 1e-5 * min(1.0, scale)
    return bool((a.nan_to_num(0, 0, 0) - b.nan_to_num(0, 0, 0)).norm() > close)


def _fit_memory(
    population: Population, train: Batch, unit: Mapping[str, int], count: int, cluster: ClusterSize | None
) -> tuple[int, str]:
    """Return the number of shards, `count` or more if memory is short, and then the estimate in words, else ""."""
    device = train[1].device
    free = cluster.memory if cluster else free_bytes(device)
    if free is None:
        return count, ""
    # Held beside what trains: parents and children, each before and after their training. That is four copies, of
    # which the parents before theirs are allocated already. A cluster's worker holds the rows instead.
    held = 3 * len(population) * unit["copies"] // 5
    at_once = torch.get_num_threads() if device.type == "cpu" else 1
    if cluster:
        held, at_once = sum(tensor.nbytes for tensor in (*train[0], train[1])), 1

    def needed(count: int) -> int:
        return held + min(at_once, count) * max(map(len, population.shards(count))) * sum(unit.values())

    first = needed(count)
    while needed(count) > MEMORY_SHARE * free and count < len(population):
        count = min(2 * count, len(population))
    where = "each worker's task" if cluster else str(device)
    words = f"{len(population)} units would take about {first / 1e9:.2g} GB, {free / 1e9:.2g} GB of {where} are free"
    return count, words if first > MEMORY_SHARE * free else ""


def unit_bytes(population: Population, rows: Batch, loss: Loss, batch_size: int) -> dict[str, int]:
    """Estimate the bytes that each unit takes while a population is trained in one call, in parts; one unit is run.

    "copies" are five of each learned entry: the parameter, its gradient, Adam's two moments, and the copy to start
    from. "activations" are what the operators of a forward pass and of the loss give. The temporaries are "gradients"
    of the activations, as if all lived at once, and "batches", the int64 row numbers of the steps to come, which are
    drawn 64 steps ahead and are there twice while they are stacked. Where the unit cannot be run like that, there are
    none.
    """
    few = torch.arange(batch_size, device=rows[1].device) % len(rows[1])
    inputs, targets = take_rows(rows, few)
    unit = population.unit(0).train()
    try:
        with torch.no_grad(), unit_stream(torch.Generator(few.device).manual_seed(0)), _CountBytes() as outputs:
            loss(unit(*inputs), targets)
    except Exception:  # of a forward that differentiates, for one: then there is no estimate
        return {}
    return {
        "copies": 5 * sum(entry[0].nbytes for entry in population.parameters.values()),
        "activations": outputs.nbytes,
        "gradients": outputs.nbytes,
        "batches": 2 * 8 * BLOCK * batch_size,
    }


class _CountBytes(TorchDispatchMode):
    """Sums the bytes that operators allocate for what they return."""

    def __init__(self) -> None:
        super().__init__()
        self.nbytes = 0
        self._met: dict[int, Any] = {}  # kept, because what is freed may lie where something else did

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        for storage in _storages([args, kwargs]):
            self._met[storage.data_ptr()] = storage
        result = func(*args, **(kwargs or {}))
        for storage in _storages(result):
            if storage.data_ptr() not in self._met:
                self._met[storage.data_ptr()] = storage
                self.nbytes += storage.nbytes()
        return result


def _storages(values: Any) -> list[Any]:
    tensors = [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]
    return [tensor.untyped_storage() for tensor in tensors if tensor.layout is torch.strided]  # sparse ones have none


def free_bytes(device: torch.device) -> int | None:
    """Return the bytes that can be had on a device; None where the system does not tell."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type != "cpu":
        return None
    found = []
    with suppress(OSError, ValueError, KeyError):
        lines = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
        found.append(1_024 * int(lines["MemAvailable"].split()[0]))
    with suppress(OSError, ValueError):  # a container's limit, which is "max" where there is none
        limit, used = ((CGROUP / f"memory.{name}").read_text() for name in ("max", "current"))
        kept = 0
        with suppress(OSError, ValueError, KeyError):  # of files, which is given up first
            facts = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
            kept = int(facts["inactive_file"])
        found.append(max(0, int(limit) - int(used) + kept))
    return min(found, default=None)
