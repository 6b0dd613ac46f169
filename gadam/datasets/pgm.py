"""Portable graymaps, the format of the ORL faces: binary (P5) or text (P2), header on any number of lines, comments."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from gadam.config import InputError

FACE = 112, 92  # height and width of the ORL faces

_GAP = rb"(?:\s|#[^\n\r]*[\n\r])+"
_HEADER = re.compile(rb"P([25])" + 3 * (_GAP + rb"(\d{1,5})") + rb"\s")


def read_pgm(data: bytes, where: str = "PGM image") -> NDArray[np.uint8]:
    """Pixels of a graymap with at most 256 levels.

    Args:
        data: the file.
        where: name of the file for the error.

    Returns:
        uint8 [height, width].

    Raises:
        InputError: not a graymap, damaged, or pixels that do not fit a byte.
    """
    header = _HEADER.match(data)
    if header is None:
        raise InputError(f"{where} does not begin as a PGM image of format P5 or P2 does; found {data[:12]!r}")
    kind, width, height, brightest = (int(part) for part in header.groups())
    if not (width and height and 0 < brightest < 256):
        raise InputError(
            f"{where}: {width} x {height} pixels up to {brightest} must be positive and at most 255 bright"
        )
    raster = data[header.end() :]
    if kind == 5:
        pixels = np.frombuffer(raster, np.uint8)
        fits = bool((pixels <= brightest).all())
    else:
        tokens = re.sub(rb"#[^\n\r]*", b"", raster).split()
        fits = all(token.isdigit() and len(token) < 4 and int(token) <= brightest for token in tokens)
        pixels = np.array([int(token) for token in tokens] if fits else [], np.uint8)
    if not fits:
        raise InputError(f"{where}: a pixel is not a whole number from 0 to {brightest}")
    if pixels.size != width * height:
        raise InputError(f"{where} has {pixels.size} pixels, its header says {width} x {height}")
    return pixels.reshape(height, width)


def write_pgm(pixels: NDArray[np.uint8]) -> bytes:
    """The binary graymap of uint8 [height, width], its header on three lines as in the ORL archive."""
    height, width = pixels.shape
    return b"P5\n%d %d\n255\n" % (width, height) + pixels.tobytes()
