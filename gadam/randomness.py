"""Random streams: one seed gives everything, and each unit draws from a generator of its own.

PyTorch's global generator is shared by threads, and `nn.Dropout` takes no generator. So the random operators of a
module are caught where every one of them passes, in the dispatcher, and are given the stream of the unit that calls
them: by a dispatch mode where a unit runs alone (`unit_stream`), by rewriting the traced program where a shard runs in
one call (`gadam.tracing.programs`). Both draw the same numbers.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from gadam.runtime import process_lock

# Purposes of streams, which are part of their seeds: changing a number changes every result.
INITIALISATION, BATCHES, DRAWS, VALIDATION, GENETICS, RATES = range(6)
ROLES = {"parent": 0, "child": 1}


def stream_seed(*words: int) -> int:
    """Return a seed in [0, 2^63) made of non-negative integers: (seed, purpose, generation, role, unit)."""
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> np.uint64(1))


def stream(device: torch.device | str, *words: int) -> Generator:
    """Return a generator on a device, seeded with `stream_seed(*words)`."""
    return Generator(device).manual_seed(stream_seed(*words))


@contextmanager
def global_stream(seed: int) -> Iterator[None]:
    """Seed PyTorch's global generators inside, and put them back after: for code that draws from nothing else."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with process_lock, torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators of PyTorch, Python and NumPy inside, and put them back after: for the user's code."""
    with global_stream(seed):
        before = random.getstate(), np.random.get_state()  # noqa: NPY002
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])  # noqa: NPY002


def is_random(operator: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> bool:
    """Tell whether a call of an operator draws from a generator; fused attention whose dropout is zero does not."""
    if torch.Tag.nondeterministic_seeded not in getattr(operator, "tags", ()):
        return False
    if "_backward" in str(operator):  # which draws again what was drawn before
        return False
    for argument, value in zip_longest(operator._schema.arguments, args):
        if argument is not None and argument.name == "dropout_p":
            return (kwargs or {}).get("dropout_p", argument.default_value if value is None else value) != 0
    return True


# Operator -> how a tensor is filled. All fill a contiguous one, so that the numbers do not depend on memory formats nor
# on whether one unit is drawn for or many.
_FILL = {
    "aten.exponential_.default": "exponential_",
    **dict.fromkeys(("aten.bernoulli.p", "aten.bernoulli_.float"), "bernoulli_"),
    **dict.fromkeys(("aten.rand.default", "aten.rand_like.default", "aten.uniform_.default"), "uniform_"),
    **dict.fromkeys(("aten.randn.default", "aten.randn_like.default", "aten.normal_.default"), "normal_"),
}


def can_draw(operator: Any) -> bool:
    """Tell whether `draw` knows a random operator."""
    return str(operator) in _FILL or str(operator) == "aten.native_dropout.default"


def draw(operator: str, streams: Generator | Sequence[Generator], target: Any, *args: Any, **options: Any) -> Any:
    """Call a random operator, one that `can_draw` knows, with its numbers taken from streams.

    `streams` is one generator, or one for each slice of the leading dimension; `target` is the operator's first
    argument, a tensor or the shape to make. Of the keywords, `dtype` and `device` count.
    """
    if operator == "aten.native_dropout.default":  # the fused dropout of CUDA: (input, p, train) -> (output, mask)
        p, train = (*args, None)[:2]
        if train is False:
            return target, torch.ones_like(target, dtype=torch.bool)
        mask = draw("aten.bernoulli.p", streams, target, 1 - p)
        return target * mask * (1 / (1 - p) if p < 1 else 0.0), mask.bool()
    like = target if isinstance(target, Tensor) else torch.empty((), device=options.get("device"))
    shape = target.shape if isinstance(target, Tensor) else target
    out = torch.empty(shape, dtype=options.get("dtype") or like.dtype, device=like.device)
    parts, generators = ([out], [streams]) if isinstance(streams, Generator) else (out.unbind(0), streams)
    for part, generator in zip(parts, generators, strict=True):
        getattr(part, _FILL[operator])(*args, generator=generator)
    in_place = operator.split(".")[1].endswith("_")
    return target.copy_(out) if in_place else out


class unit_stream(TorchDispatchMode):  # noqa: N801, used like the function torch.no_grad
    """Context manager inside which every random operator of this thread draws from one generator."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator
        self.drew = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not is_random(func, args, kwargs) or kwargs.get("generator") is not None:
            return func(*args, **kwargs)
        self.drew = True
        if can_draw(func):
            return draw(str(func), self.generator, *args, **kwargs)
        # An operator that cannot be told where to draw from: seed what it does draw from, one thread at a time.
        seed = torch.randint(2**62, (), generator=self.generator, device=self.generator.device)
        with global_stream(int(seed)):
            return func(*args, **kwargs)
