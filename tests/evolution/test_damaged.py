"""Damage as disks, networks and editors do it, to what is kept of a training. Other files: with their parsers.

Some files of each kind; `make campaign` has GADAM_DAMAGED=1000.
"""

import os

import hypothesis
import pytest
import zoo
from evolving import run
from hypothesis import strategies

from gadam import InputError, load_result

COUNT = int(os.environ.get("GADAM_DAMAGED", 25))
EDITS = strategies.tuples(
    strategies.sampled_from(["cut", "flip", "insert", "remove", "repeat", "overwrite", "swap"]),
    strategies.integers(0, 64) | strategies.floats(0, 1),  # in the header; or anywhere, as a share of the file
    strategies.sampled_from([1, 2, 16, 512]),
    strategies.binary(min_size=1, max_size=32),
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


# Each makes a file in a folder. Returns its path, and what reads it, to a value that can be compared.


def checkpoint(folder):
    path = folder / "state"
    run(checkpoint=path)
    return path, lambda: run(checkpoint=path).history.to_csv()


def result(folder):
    path = folder / "result"
    run().save(path)

    def read():
        kept = load_result(path, zoo.dropout_mlp)
        return kept.history.to_csv(), kept.config, {n: t.tolist() for n, t in kept.population.parameters.items()}

    return path, read


@pytest.mark.parametrize("kind", [checkpoint, result])
def test_a_damaged_file_is_refused_in_one_line_and_left_as_it_is(kind, tmp_path, record_property):
    path, read = kind(tmp_path)
    content, value = path.read_bytes(), read()
    assert path.read_bytes() == content, "reading changes nothing"
    count = 0

    @hypothesis.settings(max_examples=COUNT, derandomize=True, database=None, deadline=None)
    @hypothesis.given(strategies.lists(EDITS, min_size=1, max_size=3))
    def check(edits):
        nonlocal count
        candidate = damaged(content, edits)
        hypothesis.assume(candidate != content)
        path.write_bytes(candidate)
        count += 1
        with pytest.raises(InputError) as caught:
            read()
        assert len(str(caught.value).splitlines()) == 1
        assert len(str(caught.value)) < 500
        assert path.read_bytes() == candidate
        assert [other for other in path.parent.iterdir() if other.name.endswith(".tmp")] == []

    check()
    path.write_bytes(content)
    assert read() == value
    record_property("files", count)
