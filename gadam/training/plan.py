"""How a population is trained on the machine at hand: on which device, in how many shards, in which way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, TypeAlias

import torch
from torch import Generator, nn

from gadam.config import GadamConfig, InputError
from gadam.parallel.workers import ClusterSize
from gadam.population import Population
from gadam.tracing.programs import Batch, Loss, Programs
from gadam.training import memory
from gadam.training.inputs import TooManyUnitsError, check_vectorised
from gadam.training.shards import Shard
from gadam.training.trainer import Trainer


def cut(population: Population, count: int, role: str, generation: int) -> list[Shard]:
    """The units of one role as at most `count` shards."""
    parts, first = [], 0
    for part in population.shards(count):
        parts.append(Shard(part, range(first, first + len(part)), role, generation))
        first += len(part)
    return parts


UNITS_PER_SHARD = 4
"""Of a shard that is trained in one call at least so many: with fewer, Python between the calls takes the time."""


def shard_count(units: int, trainer: Trainer, device: torch.device, cluster: int = 0, devices: int = 1) -> int:
    """Shards of a generation.

    Units that are trained one by one anyway are shared out best each alone. A population that is trained in one call
    is cut for as many threads as PyTorch is set to use, as there are GPUs, or as the workers of a cluster have: so this
    default may differ between machines, and with it the last bits of results; `GadamConfig.shards` fixes it. Of the
    executor nothing else counts.

    Args:
        units: all of them.
        trainer: how units are trained.
        device: on what.
        cluster: threads of all workers, where a cluster trains.
        devices: how many, of the kind of `device`.
    """
    if trainer.programs is None or trainer.programs.singly:
        default = units
    elif cluster:  # each in a process of its own, whose Python waits for nobody
        default = cluster
    else:
        at_once = torch.get_num_threads() if device.type == "cpu" else devices
        default = max(1, min(at_once, units // UNITS_PER_SHARD))
    return min(trainer.config.shards or default, units)


TRACING_PAYS = {"whole": 1_000, "singly": 200}
"""Steps of units, all together, that the loop takes in the time of tracing: about a second."""


class Layout(NamedTuple):
    """How a population is trained: by what, in how many shards, and what its user should know of that, if anything."""

    trainer: Trainer
    shards: int
    warning: str = ""


def lay_out(
    population: Population,
    train: Batch,
    loss: Loss,
    config: GadamConfig,
    unit_steps: float,
    cluster: ClusterSize | None = None,
    *,
    seeds: Sequence[int] | None = None,
    devices: int = 1,
) -> Layout:
    """Decide between loop and vectorised, by the settings, the model, the device and the length of the training.

    A population that does not fit the memory is cut into more shards: by an estimate, unless `config.shards` says how
    many, and where a trial shows that still fewer fit.

    Args:
        population: as it will be trained.
        train: the rows to train on.
        loss: (output, targets) -> scalar.
        config: the settings.
        unit_steps: optimizer steps that will be taken, over all units.
        cluster: where one trains.
        seeds: whose units the population holds, see `Trainer`.
        devices: see `shard_count`.
    """
    device = train[1].device
    loop = Trainer(config, loss, seeds=None if seeds is None else tuple(seeds))

    def shards(trainer: Trainer) -> int:
        return shard_count(len(population), trainer, device, cluster.threads if cluster else 0, devices)

    # On a CPU a grouped convolution is no faster than its parts one by one, whose images still fit the caches. One by
    # one, a traced step takes half the time of the loop's with LeNet-5 and two thirds with the CNN for ORL.
    convolves = any(isinstance(module, nn.modules.conv._ConvNd) for module in population.template.modules())
    singly = convolves and device.type == "cpu"
    too_short = config.mode == "auto" and unit_steps < TRACING_PAYS["singly" if singly else "whole"]
    if config.mode == "loop" or too_short:
        return Layout(loop, shards(loop))
    trainer = replace(loop, programs=Programs(population.template, loss, singly=singly))
    count = first = shards(trainer)
    estimate = ""
    if not singly and config.shards is None:
        count, estimate = _fit(population, train, loss, config, count, cluster)
    while True:
        shard = max(population.shards(count), key=len)
        try:
            reason = check_vectorised(shard, train, trainer)
            break
        except TooManyUnitsError as error:
            if len(shard) == 1:
                reason = str(error)
                break
            count = min(2 * count, len(population))
    if not reason:
        cramped = estimate or f"{len(population)} units do not fit the memory of {device} at once"
        return Layout(trainer, count, f"{cramped}: trained in {count} shards" if count > first else estimate)
    # Nobody asked for more than the loop where "auto" would have it one by one.
    asked = config.mode == "vectorised" or not singly
    warning = f"training unit by unit, because the model cannot be vectorised: {reason}" if asked else ""
    return Layout(loop, shards(loop), warning)


MEMORY_SHARE = 0.9
"""Of the memory that is free, what an estimate may ask for."""


def _fit(
    population: Population, train: Batch, loss: Loss, config: GadamConfig, count: int, cluster: ClusterSize | None
) -> tuple[int, str]:
    """As many shards, or as many more as the memory asks for, and then why."""
    device = train[1].device
    free = cluster.memory if cluster else memory.available(device)
    if free is None:
        return count, ""
    where = "each worker's task" if cluster else str(device)
    unit = memory.of_a_unit(population, train, loss, config.batch_size)
    # Parents and children, each before and after their training, of which the parents are there already; in a worker
    # the rows.
    held = 3 * len(population) * unit["copies"] // 5
    at_once = torch.get_num_threads() if device.type == "cpu" else 1
    if cluster:
        held, at_once = sum(tensor.nbytes for tensor in (*train[0], train[1])), 1

    def needed(count: int) -> int:
        return held + min(at_once, count) * max(map(len, population.shards(count))) * sum(unit.values())

    first = needed(count)
    while needed(count) > MEMORY_SHARE * free and count < len(population):
        count = min(2 * count, len(population))
    gigabytes = (
        f"{len(population)} units would take about {first / 1e9:.2g} GB, {free / 1e9:.2g} GB of {where} are free"
    )
    return count, gigabytes if first > MEMORY_SHARE * free else ""


Device: TypeAlias = torch.device | str | Sequence[torch.device | str]
"""Where a population is trained: "auto", a device, or several GPUs."""


def resolve_devices(device: Device) -> tuple[torch.device, ...]:
    """The devices that are meant, the first of which keeps the population.

    Raises:
        InputError: one of them cannot be used, is there twice, or they are of several kinds.
    """
    if isinstance(device, str | torch.device) or not isinstance(device, Sequence):
        return (resolve_device(device),)
    found = tuple(map(resolve_device, device))
    if not found or len(set(found)) < len(found) or len({each.type for each in found}) > 1:
        given = [str(each) for each in device]
        raise InputError(f'device={given} must be one device, or several of one kind such as ["cuda:0", "cuda:1"]')
    return found


def resolve_device(device: torch.device | str) -> torch.device:
    """The device that a name stands for here; InputError where it cannot be used."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.rand(1, generator=Generator(chosen), device=chosen)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0].split(". ")[0]
        raise InputError(f'device={str(device)!r} cannot be used ({reason}); give "auto", "cpu" or "cuda"') from None
    return chosen
