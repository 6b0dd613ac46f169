"""The memory that training a population takes, from a model of it, and the memory that there is."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gadam.population import Population
from gadam.randomness import unit_stream
from gadam.tracing.programs import Batch, Loss
from gadam.training.batches import BLOCK

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")


def of_a_unit(population: Population, rows: Batch, loss: Loss, batch_size: int) -> dict[str, int]:
    """Bytes that each unit takes while a population is trained in one call, in parts.

    Args:
        population: of which one unit is run, on one batch.
        rows: the training rows.
        loss: (output, targets) -> scalar.
        batch_size: rows of a batch.

    Returns:
        "copies" are five of each learned entry: the parameter, its gradient, Adam's two moments, and the copy to start
        from. "activations" are what the operators of a forward pass and of the loss give. The temporaries are
        "gradients" of the activations, as if all lived at once, and "batches", the int64 row numbers of the steps to
        come, which are drawn 64 steps ahead and are there twice while they are stacked.
    """
    few = torch.arange(batch_size, device=rows[1].device) % len(rows[1])
    inputs, targets = tuple(tensor[few] for tensor in rows[0]), rows[1][few]
    unit = population.unit(0).train()
    with torch.no_grad(), unit_stream(torch.Generator(few.device).manual_seed(0)), _Outputs() as outputs:
        loss(unit(*inputs), targets)
    return {
        "copies": 5 * sum(entry[0].nbytes for entry in population.parameters.values()),
        "activations": outputs.nbytes,
        "gradients": outputs.nbytes,
        "batches": 2 * 8 * BLOCK * batch_size,
    }


class _Outputs(TorchDispatchMode):
    """Sums the bytes that operators allocate for what they give."""

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


def _storages(found: Any) -> list[Any]:
    tensors = [leaf for leaf in tree_leaves(found) if isinstance(leaf, Tensor)]
    return [tensor.untyped_storage() for tensor in tensors if tensor.layout is torch.strided]  # sparse ones have none


def available(device: torch.device) -> int | None:
    """Bytes that can be had on a device; None where the system does not tell."""
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
        found.append(max(0, int(limit) - int(used)))
    return min(found, default=None)
