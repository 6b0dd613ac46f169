"""The device, and what threads share: settings of PyTorch and of the C library while a shard is trained, and a lock."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress

import torch
from torch import Generator

from gadam.config import InputError
from gadam.display import first_line, shown
from gadam.types import Device

process_lock = threading.RLock()
"""Held while something is used that all threads share: the global generators, a module whose tensors are exchanged,
PyTorch while a program is traced. It is one lock, for with several two threads might wait for each other."""


def resolve_device(device: Device) -> torch.device:
    """Return the device that a name stands for here, "auto" being the GPU where there is one; refuse others."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.rand(1, generator=Generator(chosen), device=chosen)
    except (RuntimeError, AssertionError, TypeError) as error:
        why = first_line(error).split(". ")[0]
        raise InputError(f'device={shown(str(device))} cannot be used ({why}); give "auto", "cpu" or "cuda"') from None
    return chosen


def keep_freed_memory() -> None:
    """Let the C library keep what a step frees for the next step: a fifth of the time of a LeNet-5 step.

    glibc gives large blocks back to the system at once, to be mapped again page by page, until it has seen one block of
    nearly 32 MB freed (`mallopt(3)`, M_MMAP_THRESHOLD, on its dynamic adjustment), be it one that was never written to.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8, device="cpu")


_threads_before: list[int] = []  # an entry for each context that is open: the number before the first was opened
_threads_lock = threading.Lock()


@contextmanager
def intra_operator_threads(count: int) -> Iterator[None]:
    """Set the number of PyTorch's intra-operator threads inside, and put it back after.

    The setting holds in the calling thread, and threads that start later begin with it.
    """
    with _threads_lock:
        # Asked for in any case: a thread that was never asked takes the process's number at its first operator.
        now = torch.get_num_threads()
        _threads_before.append(_threads_before[0] if _threads_before else now)
        torch.set_num_threads(count)
    try:
        yield
    finally:
        with _threads_lock:
            torch.set_num_threads(_threads_before.pop())


def _shared(setting: Callable[[], AbstractContextManager[None]]) -> Callable[[], AbstractContextManager[None]]:
    """Let a setting of the whole process last as long as any thread is inside: the first makes it, the last undoes it.

    Of threads that overlap and each put back what they found, one might leave the setting of another behind for good.
    """
    lock, inside, undo = threading.Lock(), 0, ExitStack()

    @contextmanager
    def shared() -> Iterator[None]:
        nonlocal inside
        with lock:
            if not inside:
                undo.enter_context(setting())
            inside += 1
        try:
            yield
        finally:
            with lock:
                inside -= 1
                if not inside:
                    undo.close()

    return shared


@_shared
@contextmanager
def quiet_tracing() -> Iterator[None]:
    """Ignore what PyTorch says of tracing, in the whole process, as long as anybody is inside."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="There is a performance drop")
        warnings.filterwarnings("ignore", message="`torch.jit")
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        yield


@_shared
@contextmanager
def _cudnn_as_asked() -> Iterator[None]:
    before = None
    with suppress(RuntimeError):  # the newer settings are in use, which PyTorch does not let one mix with these
        if torch.get_float32_matmul_precision() == "highest":
            before = torch.backends.cudnn.allow_tf32
            torch.backends.cudnn.allow_tf32 = False
    yield
    if before is not None:
        torch.backends.cudnn.allow_tf32 = before


def float32_as_asked(device: torch.device) -> AbstractContextManager[None]:
    """Keep cuDNN from rounding convolutions to TF32 inside, unless matrix products may be rounded so too.

    On a GPU PyTorch rounds convolutions unasked; both are asked for by `torch.set_float32_matmul_precision("high")`,
    or by the newer `fp32_precision` settings.
    """
    return _cudnn_as_asked() if device.type == "cuda" else nullcontext()
