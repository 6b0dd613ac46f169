"""Damage as disks, networks and editors do it to a file. A little of it; `make campaign` has GADAM_DAMAGED=1000."""

import os

import hypothesis
from hypothesis import strategies

damage_settings = hypothesis.settings(
    max_examples=int(os.environ.get("GADAM_DAMAGED", 25)), derandomize=True, database=None, deadline=None
)

EDITS = strategies.lists(
    strategies.tuples(
        strategies.sampled_from(["cut", "flip", "insert", "remove", "repeat", "overwrite", "swap"]),
        strategies.integers(0, 64) | strategies.floats(0, 1),  # in the header; or anywhere, as a share of the file
        strategies.sampled_from([1, 2, 16, 512]),
        strategies.binary(min_size=1, max_size=32),
    ),
    min_size=1,
    max_size=3,
)


def damaged(content, edits):
    for way, place, size, filling in edits:
        start = int(place * len(content)) if isinstance(place, float) else min(place, len(content))
        before, block, after = content[:start], content[start : start + size], content[start + size :]
        content = {
            "cut": before,
            "flip": before + bytes(byte ^ 1 << size % 7 for byte in block[:1]) + content[start + 1 :],
            "insert": before + filling + block + after,
            "remove": before + after,
            "repeat": before + block + block + after,
            "overwrite": before + filling + content[start + len(filling) :],
            "swap": before + after[:size] + block + after[size:],
        }[way]
    return content
