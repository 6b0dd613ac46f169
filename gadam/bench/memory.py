"""The memory that training takes: watched in a fresh process, beside the engine's model of it."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from gadam.bench.contestants import full_precision, gadam
from gadam.bench.workloads import Work, make_work, workloads
from gadam.population import Population
from gadam.training.memory import of_a_unit

WATCHED = 20  # steps while memory is watched


def entries(population: Population) -> int:
    """|w|, the learned entries of a unit."""
    return sum(tensor[0].numel() for tensor in population.parameters.values())


def memory_model(work: Work) -> dict[str, int]:
    """Bytes that training a population takes, in parts, those of the plain model first (`training.memory`)."""
    each = of_a_unit(work.population, ((work.inputs,), work.targets), cross_entropy, work.batch_size)
    return {part: len(work.population) * size for part, size in each.items()}


def watch(g: int, device: str) -> int | None:
    """Bytes at the peak of training, above what there was before the population; None if the system does not tell.

    For a fresh process: memory that an earlier population left with the allocator would be used again unseen.
    """
    on = torch.device(device)
    with full_precision(), suppress(OSError):
        with gadam(make_work(workloads(on)["mlp"], 10, on)) as ready:
            ready.train(1)  # so that libraries, threads and the tracer are there
        del ready
        before = _memory(on)
        with gadam(make_work(workloads(on)["mlp"], g, on)) as ready:
            _memory(on)  # gives back what tracing left, which has run a step
            if on.type == "cuda":
                torch.cuda.reset_peak_memory_stats(on)
            else:
                Path("/proc/self/clear_refs").write_text("5")  # the peak is from now on, see proc(5)
            ready.train(WATCHED)
            return _memory(on, peak=True) - before
    return None


def _memory(on: torch.device, peak: bool = False) -> int:
    """Bytes at the peak, or now, when what is free is given back; OSError where they are not known."""
    if not peak:
        gc.collect()
        with suppress(AttributeError, OSError, TypeError):  # of other C libraries than glibc
            ctypes.CDLL(None).malloc_trim(0)
    if on.type == "cuda":
        return torch.cuda.max_memory_allocated(on) if peak else torch.cuda.memory_allocated(on)
    found = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1_024 * int(found["VmHWM" if peak else "VmRSS"].split()[0])
