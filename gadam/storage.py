"""Files of tensors and facts: safetensors, the facts as JSON in its header, and a SHA-256 of every byte.

Nothing in it is code and nothing is pickled, so a file from a stranger is safe to read. Tensors are kept bit by bit,
and numbers as text that reads back as the same number.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gadam.config import InputError

FORMAT = 2
_DIGEST = b'"sha256":"'
_NONE = b"0" * 64  # where the digest goes, while it is computed
HOUR = 60 * 60


class DamagedError(InputError):
    """A file is not what was written."""


def write(path: Path, kind: str, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write a file whole or not at all: aside, flushed to the disk, and then renamed.

    Args:
        path: the file; its folder is made, and an old file stays until the new one is whole.
        kind: what the file is, such as "result".
        facts: JSON values.
        tensors: by any names.

    Raises:
        InputError: it cannot be written; one line that says why. The old file is there as it was.
    """
    from safetensors.torch import save

    # A copy of each, contiguous and alone in its memory, which the format asks for.
    alone = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    header = {
        "gadam": kind, "format": str(FORMAT), "facts": json.dumps(facts, allow_nan=False), "sha256": _NONE.decode(),
    }  # fmt: skip
    try:
        remove_stale(path.parent, f".{path.name}.*.tmp", HOUR)
        content = bytearray(save(alone, header))
        place = _digest_place(content[: 8 + _header_bytes(content[:8])])
        content[place : place + len(_NONE)] = hashlib.sha256(content).hexdigest().encode()
        write_bytes(path, content)
    except Exception as error:
        if not isinstance(error, OSError) and type(error).__name__ != "SafetensorError":
            raise
        reason = getattr(error, "strerror", None) or str(error)
        if isinstance(error, FileExistsError | NotADirectoryError):
            reason = f"{path.parent} is no folder"
        raise InputError(f"path={str(path)!r} cannot be written: {reason}") from None


def write_bytes(path: Path, content: bytes | bytearray) -> None:
    """Write a file so that a reader sees the old one or the new one, after a crash too; its folder is made."""
    # Not tempfile: its files are readable by their owner alone, and these are meant to be shared.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _flush(path.parent)
    finally:
        with contextlib.suppress(OSError):  # most often it is not there any more
            temporary.unlink()


def remove_stale(folder: Path, pattern: str, seconds: float) -> None:
    """Remove what killed writers left behind: files and folders that match and are older than that."""
    for path in list(folder.glob(pattern)):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > seconds:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def read(path: Path, *kinds: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read what `write` wrote, of one of these kinds: facts, with "kind" among them, and tensors.

    Raises:
        InputError: there is no such file, or it is of a newer version.
        DamagedError: it is not what was written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"path={str(path)!r} cannot be read: {error.strerror}") from None
    try:
        start = content[: 8 + _header_bytes(content[:8])]
        header = json.loads(start[8:])["__metadata__"]
        place = _digest_place(start)
        digest = hashlib.sha256(content[:place] + _NONE)
        digest.update(memoryview(content)[place + len(_NONE) :])
        if digest.hexdigest() != header["sha256"]:
            raise ValueError("its SHA-256 is another")
        if header["gadam"] not in kinds:
            raise InputError(f"path={str(path)!r} holds a {header['gadam']}, must be a {kinds[0]}")
        if int(header["format"]) != FORMAT:
            other = "a newer" if int(header["format"]) > FORMAT else "an older"
            version = f"has format {header['format']}, this gadam reads format {FORMAT}"
            raise InputError(f"path={str(path)!r} {version}; install {other} gadam for it")
        # Copied, for how tensors lie in memory may change the last bits of what is computed from them.
        facts = {**json.loads(header["facts"]), "kind": header["gadam"]}
        return facts, {name: tensor.clone() for name, tensor in load(content).items()}
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, MemoryError, SafetensorError) as error:
        raise DamagedError(
            f"path={str(path)!r} is damaged or no {kinds[0]} of gadam ({error or 'no header'})"
        ) from None


def from_frame(frame: pd.DataFrame) -> dict[str, Any]:
    """Return a frame as JSON values."""
    return {str(name): _column(frame[name]) for name in frame}


def to_frame(columns: Mapping[str, Any]) -> pd.DataFrame:
    """Return the frame that `from_frame` was given."""
    return pd.DataFrame({name: _series(column) for name, column in columns.items()})


def _column(series: pd.Series) -> dict[str, Any]:
    """Return a column as JSON values; a float that is not finite, which JSON has not, as text."""

    def plain(value: Any) -> Any:
        if value is pd.NA:
            return None
        value = value.item() if isinstance(value, np.generic) else value
        return repr(value) if isinstance(value, float) and not np.isfinite(value) else value

    return {"dtype": str(series.dtype), "values": [plain(value) for value in series]}


def _series(column: Mapping[str, Any]) -> pd.Series:
    dtype, values = column["dtype"], column["values"]
    if dtype.startswith("float"):
        values = [float(value) for value in values]
    return pd.Series(pd.array(values, dtype="Int64") if dtype == "Int64" else values, dtype=dtype)


def _header_bytes(start: bytes | bytearray) -> int:
    return int.from_bytes(start, "little")


def _digest_place(start: bytes | bytearray) -> int:
    """Find the digest; nothing else in a header looks like it, for within a text quotes are escaped."""
    return start.index(_DIGEST) + len(_DIGEST)


def _flush(folder: Path) -> None:
    """Flush a folder, so that the names of its files are on the disk."""
    if os.name == "nt":
        return  # Windows opens no folder
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
