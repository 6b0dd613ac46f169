"""Training batches: the row numbers, drawn by the stream of each unit, and the rows themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from gadam.config import GadamConfig
from gadam.types import Batch

BLOCK = 64
"""Row numbers are drawn for so many steps at once, whatever the shard: a unit's stream depends on no neighbour."""
FIXED = 10_000
"""Most rows of `validation` on which trained units are judged."""
GATHERED_BYTES = 2**20
"""Batches of several steps are gathered at once up to this size, so that they are still in the cache when used."""


class Batches:
    """Blocks of the row numbers of batches, [steps, units, batch_size], uniform with replacement."""

    def __init__(self, rows: Batch, states: Tensor, taken: int, config: GadamConfig) -> None:
        self._streams = [restore_stream(rows, state) for state in states]
        self._before = states
        self._rows, self._taken, self._config = len(rows[0][0]), taken, config

    def __iter__(self) -> Iterator[Tensor]:
        shape = (BLOCK, self._config.batch_size)
        for first in range(self._taken - self._taken % BLOCK, self._config.steps, BLOCK):
            self._before = self._now()
            drawn = [torch.randint(self._rows, shape, generator=one, device=one.device) for one in self._streams]
            yield torch.stack(drawn, 1)[max(0, self._taken - first) : self._config.steps - first]

    def states(self, step: int) -> Tensor:
        """Return the states of the streams, uint8 [units, bytes], from which to go on after a step of this block."""
        return self._before if step % BLOCK else self._now()

    def _now(self) -> Tensor:
        return torch.stack([stream.get_state() for stream in self._streams])


def restore_stream(rows: Batch, state: Tensor) -> torch.Generator:
    """Return a generator in a saved state, on the device of the rows."""
    return torch.Generator(rows[1].device).set_state(state.clone())


def take_rows(rows: Batch, index: Tensor) -> Batch:
    """Select rows by their numbers."""
    return tuple(tensor[index] for tensor in rows[0]), rows[1][index]


def fixed_rows(rows: Batch) -> Batch:
    """Return the rows on which every generation is judged alike: all of them, or 10,000 that are always the same."""
    count = len(rows[1])
    if count <= FIXED:
        return rows
    index = torch.randperm(count, generator=torch.Generator().manual_seed(0))[:FIXED]
    return take_rows(rows, index.to(rows[1].device))


def call_in_parts(module: nn.Module, inputs: Sequence[Tensor], rows: int) -> Any:
    """Call a module on parts of at most `rows` rows, and join its outputs; it may write to what it is given.

    It is called on all rows at once if parts show that rows depend on each other: an output is no tensor with an entry
    for each row, or two rows alone give something else than among others. A module that draws gives something else at
    every call; that is told apart by a second call, and it is called in parts.
    """

    def call(first: int, last: int) -> Any:
        return module(*(tensor[first:last].clone() for tensor in inputs))

    count = len(inputs[0])
    if count <= rows:
        return call(0, count)
    # Tried alone are the last rows of the first part, for a row may depend on those before it.
    size = 1 if rows == 2 else 2
    start = max(0, rows - size)
    parts = [tree_flatten(call(0, rows))]
    alone = tree_leaves(call(start, start + size))
    apart = all(map(partial(_same_rows, start), parts[0][0], alone)) or not all(
        map(partial(_same_rows, 0), alone, tree_leaves(call(start, start + size)))
    )
    if apart:
        firsts = range(0, count, rows)
        parts += [tree_flatten(call(first, first + rows)) for first in firsts[1:]]
        lengths = [min(rows, count - first) for first in firsts]
        if all(_has_rows(leaf, n) for part, n in zip(parts, lengths, strict=True) for leaf in part[0]):
            leaves, structures = zip(*parts, strict=True)
            return tree_unflatten([torch.cat(several) for several in zip(*leaves, strict=True)], structures[0])
    return call(0, count)


def _has_rows(leaf: Any, count: int) -> bool:
    return isinstance(leaf, Tensor) and leaf.dim() > 0 and len(leaf) == count


def _same_rows(start: int, one: Any, other: Any) -> bool:
    """Tell whether rows of an output from `start` on are those of another, which has fewer: up to rounding."""
    if not (isinstance(one, Tensor) and isinstance(other, Tensor)) or 0 in (one.dim(), other.dim()):
        return False
    if one.shape[1:] != other.shape[1:]:
        return False
    one, other = (torch.view_as_real(each) if each.is_complex() else each for each in (one.detach(), other.detach()))
    few = one[start : start + len(other)]
    other = other[: len(few)]
    if not one.is_floating_point():
        return torch.equal(few, other)
    rounding = 8 * torch.finfo(one.dtype).eps
    one, few, other = (each.double().nan_to_num(0, 0, 0) for each in (one, few, other))
    spread = float((one - one.mean(0)).norm()) * (len(few) / len(one)) ** 0.5
    return float((few - other).norm()) <= 1e-2 * spread + rounding * float(other.norm())


def gather_batches(
    rows: Batch, blocks: Iterable[Tensor], steps: int = 1, *, of: Tensor | None = None
) -> Iterator[Batch]:
    """Yield the batches of `steps` steps, or of fewer at the end of a block: [steps, units, batch_size, ...].

    Small ones are gathered for several steps at once. `of`, int64 [units], are the first targets of each unit, where
    the rows have several sets of them, see `Data`.
    """
    inputs, targets = rows
    each = sum(tensor.nbytes // max(1, len(tensor)) for tensor in (*inputs, targets))  # bytes of a row
    for block in blocks:
        several = GATHERED_BYTES // max(1, each * block[0].numel())
        several = max(several - several % steps, steps)
        for part in block.split(several):
            index = part.flatten()
            gathered = [tensor.index_select(0, index).view(*part.shape, *tensor.shape[1:]) for tensor in inputs]
            of_steps = zip(*(tensor.split(steps) for tensor in gathered), strict=True)
            own = index if of is None else (part + of[:, None]).flatten()
            labels = targets.index_select(0, own).view(*part.shape, *targets.shape[1:])
            yield from zip(of_steps, labels.split(steps), strict=True)
