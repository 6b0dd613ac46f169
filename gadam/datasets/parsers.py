"""Parsers of the published files: gzip, graymaps (ORL), IDX (MNIST) and text tables (YEAST, ADULT, LETTER).

Each raises an `InputError` of one line, which calls the file `where`, if its data are damaged or of another kind.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import struct
import zlib

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image

from gadam.config import InputError
from gadam.datasets.registry import source

LIMIT = 2**26  # bytes: more than any file of these datasets has; a larger one is neither read nor unpacked
FACE = 112, 92  # height and width of the ORL faces
_UNSIGNED_BYTES = 0x0800  # upper half of the magic number of an IDX file; the lower half counts its dimensions


def gunzip(data: bytes, where: str) -> bytes:
    """Decompress data that begins as gzip does; return all else as it is, whatever the name of the file says."""
    if not data.startswith(b"\x1f\x8b"):
        return data
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            content = stream.read(LIMIT + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{where} is a damaged gzip file: {error}") from None
    if len(content) > LIMIT:
        raise InputError(f"{where} unpacks to more than {LIMIT:,} bytes, and no file of these datasets does")
    return content


def read_face(data: bytes, where: str) -> NDArray[np.uint8]:
    """Read an ORL face, a portable graymap in binary (P5) or text (P2): uint8 [112, 92]."""
    try:
        image = Image.open(io.BytesIO(data), formats=["PPM"])
        found = f"{image.mode}, {image.width} pixels wide and {image.height} high"
        if (image.mode, image.height, image.width) == ("L", *FACE):
            return np.asarray(image)
    except Image.UnidentifiedImageError:
        found = f"none; the file begins with {data[:12]!r}"
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        found = f"damaged: {error}"
    raise InputError(f"{where} must be a PGM image (L, {FACE[1]} pixels wide and {FACE[0]} high), is {found}")


def write_face(pixels: NDArray[np.uint8]) -> bytes:
    """Write uint8 [height, width] as a binary graymap, its header on three lines as in the ORL archive."""
    height, width = pixels.shape
    return b"P5\n%d %d\n255\n" % (width, height) + pixels.tobytes()


def read_idx(data: bytes, dimensions: int, where: str) -> torch.Tensor:
    """Read an IDX file of unsigned bytes: uint8 [n, height, width] of images (3 dimensions), [n] of labels (1)."""
    start = 4 * (1 + dimensions)
    magic, *shape = struct.unpack(f">{1 + dimensions}I", data[:start].ljust(start, b"\0"))
    if magic != _UNSIGNED_BYTES + dimensions:
        raise InputError(f"{where} begins with {data[:4]!r}, must begin with magic {_UNSIGNED_BYTES + dimensions}")
    if len(data) - start != math.prod(shape) or len(data) <= start:
        raise InputError(f"{where} holds {len(data) - start:,} bytes of data, its header says {shape}")
    return torch.from_numpy(np.frombuffer(data, np.uint8, offset=start).reshape(shape).copy())


def write_idx(entries: NDArray[np.uint8]) -> bytes:
    """Write uint8 [n] or [n, height, width] as an IDX file."""
    return struct.pack(f">{1 + entries.ndim}I", _UNSIGNED_BYTES + entries.ndim, *entries.shape) + entries.tobytes()


# fmt: off
COLUMNS = {  # in the order of the file
    "yeast": ("sequence", "mcg", "gvh", "alm", "mit", "erl", "pox", "vac", "nuc", "class"),
    "adult": (
        "age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation", "relationship",
        "race", "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country", "class",
    ),
    "letter": (
        "class", "x-box", "y-box", "width", "high", "onpix", "x-bar", "y-bar", "x2bar", "y2bar", "xybar", "x2ybr",
        "xy2br", "x-ege", "xegvy", "y-ege", "yegvx",
    ),
}
CATEGORICAL = (
    "workclass", "education", "marital-status", "occupation", "relationship", "race", "sex", "native-country",
)
# fmt: on


def read_table(name: str, data: bytes, where: str) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """Read features, the numeric columns (float64) before the categorical ones (str), and targets, int64 [n].

    Lines that begin with `|` (the first of adult.test) are skipped, the full stop that ends the labels of adult.test is
    dropped, and `?` stays: a category of its own, as in the gcForest paper's protocol. The name of a sequence of YEAST
    is no feature.
    """
    columns, classes = COLUMNS[name], source(name).classes
    try:
        frame = pd.read_csv(
            io.BytesIO(data), sep=r"\s+" if name == "yeast" else ",", header=None, dtype=object, na_filter=False,
            skipinitialspace=True, comment="|", quoting=csv.QUOTE_NONE, encoding="ascii",
        )  # fmt: skip
    except ValueError as error:  # also of a line with too many fields, bytes that are no text, and no rows
        raise InputError(f"{where} is not an intact table: {' '.join(str(error).split())}") from None
    if frame.shape[1] != len(columns):
        raise InputError(f"{where} has {frame.shape[1]} columns, must have {len(columns)}")
    frame.columns = pd.Index(columns)
    categorical = frame[[column for column in columns if column in CATEGORICAL]]
    numeric = frame.drop(columns=[*categorical, "class", "sequence"], errors="ignore")
    numeric = numeric.apply(pd.to_numeric, errors="coerce").astype(np.float64)
    targets = pd.Index(classes).get_indexer(pd.Index(frame["class"].str.removesuffix(".")))
    usable = np.isfinite(numeric).all(axis=1).to_numpy() & (targets >= 0)
    if not usable.all():
        row = 1 + int(usable.argmin())
        raise InputError(f"{where}, row {row}: must have finite numbers and a class of {', '.join(classes)}")
    return pd.concat([numeric, categorical], axis=1), targets.astype(np.int64)
