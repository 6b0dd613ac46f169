"""Keep the state of a training in one file (see `gadam.storage`), from which it resumes exactly.

A training that goes on from a checkpoint gives bit by bit what it would have given without a stop. So a checkpoint of
another configuration, other data, another model, another kind of device or another results version (`RESULTS_VERSION`)
is refused; one that was computed in another way (on another processor, by another PyTorch) goes on with a warning, for
its last bits may differ.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, ValuesView
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import cache
from itertools import count, zip_longest
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gadam import storage
from gadam.config import RESULTS_VERSION, GadamConfig, InputError
from gadam.display import describe_error, warn
from gadam.evolution.state import EvolutionState, from_file, to_file
from gadam.population import Population, outline
from gadam.result import CHECKPOINT
from gadam.training.shards import TrainingError, split_into_shards
from gadam.types import Batch, Targets
from gadam.validation import check_number

PIECE = 2**24  # bytes that are hashed at once
SHARE = 0.01
"""Largest share of the time that is spent on writing checkpoints, however short the interval."""

_ambient: ContextVar[Iterator[Path] | None] = ContextVar("checkpoints", default=None)


@contextmanager
def checkpoints_in(folder: Path) -> Iterator[None]:
    """Within this context, trainings without a checkpoint of their own use numbered files in a folder.

    Numbered in the order of the calls, so it is for code that does the same each time. A file that cannot be used is
    replaced, with a warning.
    """
    token = _ambient.set(folder / f"{number}.safetensors" for number in count(1))
    try:
        yield
    finally:
        _ambient.reset(token)


class Checkpointer:
    """Keeps the checkpoint of one training; without a path it does nothing.

    Args:
        path: the file. None: inside `checkpoints_in` its next file, if every one of `states` has a `state_dict`; else
            there is no checkpoint.
        identity: returns the facts that must be equal to go on, see `identify`; called when they are first needed.
        order: units of the model, on the device of the training, in whose order tensors are read.
        states: callbacks and the like that see the training, whose `state_dict` is kept too, if they have one.
        seconds: least time between writes.

    Attributes:
        signal: SIGINT, or with a path SIGTERM, once one was received inside `with`: the training should end cleanly.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None, identity: Callable[[], Mapping[str, Any]], order: Population,
        states: Sequence[Any], seconds: float,
    ) -> None:  # fmt: skip
        check_number("checkpoint_seconds", seconds, lambda each: 0 < each < math.inf, "a positive number of seconds")
        self._states = [state for state in states if hasattr(state, "state_dict")]
        self._own, ambient = path is not None, _ambient.get()
        if path is None and ambient is not None and len(self._states) == len(states):
            path = next(ambient)
        self.path = None if path is None else Path(path)
        self._identity, self._order = cache(identity), order
        self._interval, self._cost, self._written = float(seconds), 0.0, time.monotonic()
        self._kept: EvolutionState | None = None
        self._handlers = ExitStack()
        self.signal = 0

    @property
    def seconds(self) -> float | None:
        """Seconds between pauses of the training for `keep`: a write takes at most `SHARE` of them. None: no path."""
        return None if self.path is None else max(self._interval, self._cost / SHARE)

    def __enter__(self) -> Checkpointer:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                before = signal.getsignal(number)
                if before is signal.default_int_handler or (self.path is not None and before is not signal.SIG_IGN):
                    signal.signal(number, self._hear)
                    self._handlers.callback(signal.signal, number, before)
        return self

    def __exit__(self, *error: object) -> None:
        self._handlers.close()  # whoever handled signals before does so now
        if self.signal:  # it came when nobody looked any more
            signal.raise_signal(self.signal)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.signal == number == signal.SIGINT:  # who asks twice does not want to wait
            raise KeyboardInterrupt
        self.signal = number

    def read(self) -> EvolutionState | None:
        """Return the state that was kept; None if there is no checkpoint. InputError if it cannot be used here."""
        if self.path is None or not os.path.lexists(self.path):
            return None
        try:
            facts, tensors = storage.read(self.path, CHECKPOINT)
            self._compare(facts["identity"])
            if len(facts["states"]) != len(self._states):
                raise InputError(f"{str(self.path)!r} is of a training with other callbacks")
            self._kept = from_file(facts, tensors, self._order)
        except (KeyError, TypeError, AttributeError, IndexError, ValueError, RuntimeError) as error:
            damage = f"{str(self.path)!r} is damaged ({describe_error(error)})"
            said = f"checkpoint: {error if isinstance(error, InputError) else damage}"
            if self._own:
                raise InputError(f"{said}; give another path, or remove it to start anew") from None
            warn(f"{said}; the training starts anew")
            return None
        for index, owner in enumerate(self._states):
            start = f"state/{index}/"
            own = {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
            owner.load_state_dict(json.loads(facts["states"][index]) | own)
        return self._kept

    def keep(self, state: EvolutionState, *, now: bool = False) -> None:
        """Write the checkpoint, if it is time or `now`.

        If that fails the first time it is an InputError; later, or with one of `checkpoints_in`, it is a warning: the
        training goes on, and it is tried again.
        """
        if self.path is None or not (now or time.monotonic() - self._written >= (self.seconds or 0)):
            return
        identity = self._identity()  # found once, so no part of what the next write costs
        started = time.monotonic()
        facts, tensors = to_file(state)
        try:
            states = []
            for index, owner in enumerate(self._states):
                held, text = _read_state(owner)
                tensors |= {f"state/{index}/{name}": value for name, value in held.items()}
                states.append(text)
            storage.write(self.path, CHECKPOINT, {"identity": identity, "states": states, **facts}, tensors)
        except InputError as error:
            if self._own and self._kept is None:
                raise InputError(f"checkpoint: {error}") from None
            warn(f"checkpoint: {error}; the training goes on, and the file is as it was before")
            self._written = time.monotonic()
            return
        self._kept = state
        self._written = time.monotonic()
        self._cost = self._written - started

    def failed(self, error: TrainingError, state: EvolutionState) -> TrainingError:
        """Save the last sound state after a failure. Returns the error to raise, which says where it is.

        Where units are still in training it is the present state. Once they are trained they diverged, and the sound
        state is the start of this generation. With callbacks and the like, which have seen more by now than that state
        has, it is what was kept last.
        """
        path = f"checkpoint={str(self.path)!r}"
        hint = f"the same call goes on from {path}"
        if state.is_trained:
            hint = f"{path} holds the population before this generation, see gadam.load_result"
            if self._states and self._kept is not None and self._kept.generation < state.generation:
                hint = f"{path} holds the population before generation {self._kept.generation}, see gadam.load_result"
            initial = split_into_shards(state.population, state.shard_count, "parent", state.generation)
            state = replace(state, shards=initial, parents=None)
        if not self._states:
            self.keep(state, now=True)
        return type(error)(f"{error}; {hint}") if self._own else error

    def end(self, state: EvolutionState, *, over: bool) -> str:
        """Keep the final state, and end as SIGTERM asks. Returns what to say after SIGINT, "" if there was none."""
        if self.path is not None and state is not self._kept:
            # One of `checkpoints_in` is not worth it where all is over before the first write.
            self.keep(state, now=self._own or not over or self.path.exists())
        heard, self.signal = self.signal, 0  # it is answered here
        message = f"stopped in {state}; the same call goes on from checkpoint={str(self.path)!r}"
        if heard == signal.SIGINT and self.path is None:
            there = "the last complete generation" if state.generation > 1 or over else "the units as they are"
            return f"interrupted in {state}; the result has {there}, and checkpoint= would keep all"
        if heard == signal.SIGINT:
            return message
        if heard:
            if self._own:  # else nobody who looks knows of it
                print(f"gadam: {message}", file=sys.stderr, flush=True)
            self._handlers.close()
            signal.raise_signal(heard)
        return ""

    def _compare(self, kept: Mapping[str, Any]) -> None:
        """Refuse a checkpoint of another training."""
        here, path = self._identity(), repr(str(self.path))
        for name, what in _IDENTITY.items():
            a, b, key = kept.get(name, "none"), here[name], ""
            if name == "config" and isinstance(a, dict):  # settings that are younger than it have their defaults
                a = GadamConfig().as_json(without=["generations"]) | a
            if a == b:
                continue
            if isinstance(a, dict) and isinstance(b, dict):
                key = next(key for key in {**a, **b} if a.get(key, "nothing") != b.get(key, "nothing"))
                a, b, key = a.get(key, "nothing"), b.get(key, "nothing"), f"{key}: "
            elif isinstance(a, list) and isinstance(b, list):
                a, b = next(pair for pair in zip_longest(a, b, fillvalue="nothing") if pair[0] != pair[1])
            raise InputError(f"{path} is of {what}" + ("" if name == "data" else f" ({key}{a} there, {b} here)"))
        a, b = kept["fresh_loss"], here["fresh_loss"]
        # The same processor and library compute the same on a CPU; a GPU may sum in another order.
        elsewhere = kept["computed_by"] != here["computed_by"]
        close = math.isfinite(float(a)) and math.isclose(float(a), float(b), rel_tol=1e-3, abs_tol=1e-6)
        if a != b and not (close and (elsewhere or here["device"] != "cpu")):
            raise InputError(f"{path} is of another model or loss (a fresh unit loses {a} there, {b} here)")
        if a != b or elsewhere:
            warn(
                f"{self.path} was computed by {kept['computed_by']}, this is {here['computed_by']}: it goes on, but "
                "the last bits may differ from those of a training that was never stopped"
            )


def _read_state(owner: Any) -> tuple[dict[str, Tensor], str]:
    """Return the tensors of a `state_dict`, and the rest as JSON; as text, for as Python writes it it has NaN too."""
    what, held = f"the state_dict of {type(owner).__name__}", owner.state_dict()
    if not isinstance(held, Mapping):
        raise InputError(f"{what} is a {type(held).__name__}, must be a dict")
    plain = {name: value for name, value in held.items() if not isinstance(value, Tensor)}

    def number(value: Any) -> Any:
        if isinstance(value, np.generic):
            return value.item()
        raise TypeError(f"has a {type(value).__name__} inside")

    try:
        _check_keys(plain)
        text = json.dumps(plain, default=number)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{what} must hold tensors and JSON values: {error}") from None
    return {name: value for name, value in held.items() if isinstance(value, Tensor)}, text


def _check_keys(value: Any) -> None:
    """Refuse mappings with keys that JSON would make text of."""
    if isinstance(value, Mapping):
        if other := [key for key in value if not isinstance(key, str)]:
            raise TypeError(f"has the key {other[0]!r} inside, must be text")
        value = value.values()
    for each in value if isinstance(value, list | tuple | ValuesView) else ():
        _check_keys(each)


_IDENTITY = {
    "config": "another config", "model": "another model", "outline": "another model", "data": "other data",
    "mode": "another way of training", "results": "another results version of gadam",
    "device": "another kind of device",
}  # fmt: skip


def identify(
    configs: Sequence[GadamConfig], population: Population, rows: Sequence[Batch], targets: Targets, mode: str,
    fresh_loss: float,
) -> dict[str, Any]:  # fmt: skip
    """Describe a training: one goes on where another stopped only if the facts in `_IDENTITY` are the same.

    `configs` differ in their seed alone; `rows` are those of training and of validation. `fresh_loss`, of the first
    initial unit on some rows, tells another model or loss, whatever its code looks like.
    """
    seeds = [config.seed for config in configs]
    entries = {**population.parameters, **population.buffers}
    device = next(iter(entries.values())).device
    gpu = device.type == "cuda"
    processor = torch.cuda.get_device_name(device) if gpu else torch.backends.cpu.get_cpu_capability()
    return {
        "config": configs[0].as_json(without=["generations"]) | {"seed": seeds if len(seeds) > 1 else seeds[0]},
        "generations": configs[0].generations,  # more of them may be asked for than before
        "model": {"class": type(population.template).__name__}
        | {name: f"{list(entry.shape[1:])} {entry.dtype}" for name, entry in entries.items()},
        "outline": outline(population.template),
        "targets": targets,
        "data": _sha256(rows),
        "rows": len(rows[0][1]),
        "mode": mode,
        "results": RESULTS_VERSION,
        "device": device.type,  # the states of its streams mean nothing to another kind
        "fresh_loss": repr(fresh_loss),  # JSON has no NaN
        "computed_by": f"PyTorch {torch.__version__} on {processor}",
    }


def _sha256(batches: Sequence[Batch]) -> str:
    """Return the SHA-256 of shapes, types and values, computed on pieces side by side: data may be large."""
    tensors = [tensor for inputs, targets in batches for tensor in (*inputs, targets)]
    digest = hashlib.sha256(str([(list(tensor.shape), tensor.dtype) for tensor in tensors]).encode())
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for tensor in tensors:
            pieces = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).split(PIECE)
            for found in pool.map(lambda piece: hashlib.sha256(piece.numpy().data).digest(), pieces):
                digest.update(found)
    return digest.hexdigest()
