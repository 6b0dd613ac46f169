"""Damage as disks, networks and editors do it: a file in, another one out, decided by a seed."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

COUNT = int(os.environ.get("GADAM_DAMAGED", "50"))
"""Damaged files for each parser; GADAM_DAMAGED=1000 for the whole campaign."""

HEAD = 64  # bytes in which headers lie: every second damage is there


def damaged(content: bytes, count: int = COUNT, seed: int = 0) -> Iterator[bytes]:
    """So many different damaged versions of a file, none of which is the file."""
    for number in range(count):
        rng = random.Random(f"{seed} {number}")
        changed = content
        while changed == content:
            for _ in range(rng.choice((1, 1, 1, 2, 5))):
                changed = rng.choice(_WAYS)(changed, rng)
        yield changed


def _place(content: bytes, rng: random.Random) -> int:
    return rng.randrange(min(HEAD, len(content)) if rng.random() < 0.5 else len(content)) if content else 0


def _block(content: bytes, rng: random.Random) -> tuple[int, int]:
    start = _place(content, rng)
    return start, min(len(content), start + rng.choice((1, 2, 4, 16, 512)))


def _truncate(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.choice((_place(content, rng), rng.randrange(len(content) + 1)))]


def _flip(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 3, 20)) if content else 0):
        changed[_place(content, rng)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _swap(content: bytes, rng: random.Random) -> bytes:
    (a, b), (c, d) = sorted(_block(content, rng) for _ in range(2))
    return content if b > c else content[:a] + content[c:d] + content[b:c] + content[a:b] + content[d:]


def _insert(content: bytes, rng: random.Random) -> bytes:
    place = _place(content, rng)
    return content[:place] + rng.randbytes(rng.choice((1, 2, 16, 300))) + content[place:]


def _remove(content: bytes, rng: random.Random) -> bytes:
    start, end = _block(content, rng)
    return content[:start] + content[end:]


def _repeat(content: bytes, rng: random.Random) -> bytes:
    start, end = _block(content, rng)
    return content[:end] + content[start:]


def _overwrite(content: bytes, rng: random.Random) -> bytes:
    start, end = _block(content, rng)
    filling = rng.choice(
        (bytes(end - start), b"\xff" * (end - start), rng.randbytes(end - start), b"9" * (end - start))
    )
    return content[:start] + filling + content[end:]


_WAYS = (_truncate, _flip, _flip, _swap, _insert, _remove, _repeat, _overwrite)
