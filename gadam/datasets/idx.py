"""IDX files, the format of MNIST: read by torchvision, after a check that says in one line what is wrong."""

from __future__ import annotations

import math
import struct
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from gadam.config import InputError

_BYTES = 0x0800  # the magic number's upper half: entries are unsigned bytes; its lower half is the number of dimensions


def read_idx(data: bytes, dimensions: int, where: str = "IDX file") -> torch.Tensor:
    """Entries of an IDX file of unsigned bytes.

    Args:
        data: the file, decompressed.
        dimensions: 3 for images (magic 2051), 1 for labels (magic 2049).
        where: name of the file for the error.

    Returns:
        uint8 [n, height, width] for images, int64 [n] for labels.

    Raises:
        InputError: not such a file, or damaged.
    """
    from torchvision.datasets.mnist import read_image_file, read_label_file

    start = 4 * (1 + dimensions)
    magic, *shape = struct.unpack(f">{1 + dimensions}I", data[:start].ljust(start, b"\0"))
    if magic != _BYTES + dimensions:
        raise InputError(f"{where} begins with {data[:4]!r}, an IDX file of this kind with magic {_BYTES + dimensions}")
    if len(data) - start != math.prod(shape) or len(data) <= start:
        raise InputError(f"{where} holds {len(data) - start:,} bytes of data, its header says {shape}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "idx")
        path.write_bytes(data)  # torchvision reads from a path alone, and the data folder may be read-only
        return read_image_file(str(path)) if dimensions == 3 else read_label_file(str(path))


def write_idx(entries: NDArray[np.uint8]) -> bytes:
    """The IDX file of uint8 [n] or [n, height, width]."""
    header = struct.pack(f">{1 + entries.ndim}I", _BYTES + entries.ndim, *entries.shape)
    return header + entries.tobytes()
