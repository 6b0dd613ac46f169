"""How a population is trained on the machine at hand: on which device, in how many shards, in which way."""

from __future__ import annotations

import warnings

import torch
from torch import Generator, nn

from gadam.checks import check_vectorised
from gadam.config import GadamConfig, InputError
from gadam.population import Population
from gadam.training import Shard, Trainer
from gadam.vectorised import Batch, Loss, Programs


def cut(population: Population, count: int, role: str, generation: int) -> list[Shard]:
    """The units of one role as at most `count` shards."""
    parts, first = [], 0
    for part in population.shards(count):
        parts.append(Shard(part, range(first, first + len(part)), role, generation))
        first += len(part)
    return parts


def shard_count(config: GadamConfig, programs: Programs | None) -> int:
    """Shards of a generation: units that are trained one by one anyway are shared out best each alone."""
    default = config.population_size if programs is None or programs.singly else 1
    return min(config.shards or default, config.population_size)


def choose_trainer(population: Population, train: Batch, loss: Loss, config: GadamConfig) -> Trainer:
    """Decide between loop and vectorised, by the settings, the model and the device."""
    if config.mode == "loop":
        return Trainer(config, loss)
    # On a CPU a grouped convolution is no faster than its parts one by one, whose images still fit the caches. One by
    # one, a traced step takes half the time of the loop's with LeNet-5 and two thirds with the CNN for ORL.
    convolves = any(isinstance(module, nn.modules.conv._ConvNd) for module in population.template.modules())
    singly = convolves and train[1].device.type == "cpu"
    trainer = Trainer(config, loss, Programs(population.template, loss, singly=singly))
    reason = check_vectorised(population, train, trainer)
    if not reason:
        return trainer
    # Nobody asked for more than the loop where "auto" would have it one by one.
    if config.mode == "vectorised" or not singly:
        warnings.warn(f"training unit by unit, because the model cannot be vectorised: {reason}", stacklevel=3)
    return Trainer(config, loss)


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
