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


UNITS_PER_SHARD = 4
"""Of a shard that is trained in one call at least so many: with fewer, Python between the calls takes the time."""


def shard_count(config: GadamConfig, trainer: Trainer, device: torch.device) -> int:
    """Shards of a generation.

    Units that are trained one by one anyway are shared out best each alone. A population that is trained in one call
    is cut for as many threads as PyTorch is set to use: so this default may differ between machines, and with it the
    last bits of results; `GadamConfig.shards` fixes it. It does not depend on who executes the shards.
    """
    if trainer.programs is None or trainer.programs.singly:
        default = config.population_size
    else:
        threads = torch.get_num_threads() if device.type == "cpu" else 1
        default = max(1, min(threads, config.population_size // UNITS_PER_SHARD))
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
