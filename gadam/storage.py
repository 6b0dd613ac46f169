"""Files of tensors and facts: safetensors, the facts as JSON in its header, and a SHA-256 of every byte.

Nothing in it is code and nothing is pickled, so a file from a stranger is safe to read. Tensors are kept bit by bit,
and numbers as text that reads back as the same number.
"""

from __future__ import annotations

import contextlib
import glob
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
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from gadam.config import InputError

FORMAT = 2
HOUR = 60 * 60
_DIGEST = b'"sha256":"'
_NONE = b"0" * 64  # stands in the place of the digest while that is computed


def write(path: Path, kind: str, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write a file of some kind whole or not at all; its folder is made, and an old file stays until then.

    `facts` are JSON values.

    Raises:
        InputError: it cannot be written; one line that says why. The old file is there as it was.
    """
    # A copy of each, contiguous and alone in its memory, which the format asks for.
    alone = {name: entry.detach().cpu().clone(memory_format=torch.contiguous_format) for name, entry in tensors.items()}
    header = {
        "gadam": kind, "format": str(FORMAT), "facts": json.dumps(facts, allow_nan=False), "sha256": _NONE.decode(),
    }  # fmt: skip
    try:
        remove_stale(path.parent, f".{glob.escape(path.name)}.*.tmp", HOUR)
        content = bytearray(save(alone, header))
        # Nothing else in a header is like it: within a text quotes are escaped.
        place = content.index(_DIGEST) + len(_DIGEST)
        content[place : place + len(_NONE)] = hashlib.sha256(content).hexdigest().encode()
        write_bytes(path, content)
    except (OSError, SafetensorError) as error:
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
        if os.name != "nt":  # the name must be on the disk too; Windows opens no folder
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
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
        InputError: there is no such file, it is of a newer version, or it is not what was written.
    """
    where = f"path={str(path)!r}"
    try:
        content = path.read_bytes()
        size = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:size])["__metadata__"]
        place = content.index(_DIGEST, 0, size) + len(_DIGEST)
        digest = hashlib.sha256(content[:place] + _NONE)
        digest.update(memoryview(content)[place + len(_NONE) :])
        if digest.hexdigest() != header["sha256"]:
            raise ValueError("its SHA-256 is another")
        if header["gadam"] not in kinds:
            raise InputError(f"{where} holds a {header['gadam']}, must be a {kinds[0]}")
        if int(header["format"]) != FORMAT:
            other = "a newer" if int(header["format"]) > FORMAT else "an older"
            version = f"has format {header['format']}, this gadam reads format {FORMAT}"
            raise InputError(f"{where} {version}; install {other} gadam for it")
        # Copied, for how tensors lie in memory may change the last bits of what is computed from them.
        facts = {**json.loads(header["facts"]), "kind": header["gadam"]}
        return facts, {name: tensor.clone() for name, tensor in load(content).items()}
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{where} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, MemoryError, SafetensorError) as error:
        raise InputError(f"{where} is damaged or no {kinds[0]} of gadam ({error or 'no header'})") from None


def from_frame(frame: pd.DataFrame) -> dict[str, Any]:
    """Return a frame as JSON values; a float that is not finite, which JSON has not, as text."""

    def plain(value: Any) -> Any:
        if value is pd.NA:
            return None
        value = value.item() if isinstance(value, np.generic) else value
        return repr(value) if isinstance(value, float) and not np.isfinite(value) else value

    return {str(n): {"dtype": str(frame[n].dtype), "values": [plain(value) for value in frame[n]]} for n in frame}


def to_frame(columns: Mapping[str, Any]) -> pd.DataFrame:
    """Return the frame that `from_frame` was given."""
    return pd.DataFrame({name: pd.Series(column["values"], dtype=column["dtype"]) for name, column in columns.items()})
