"""Damage to what is kept of a training."""

import os

import hypothesis
import pytest
import zoo
from damage import EDITS, damage_settings, damaged
from evolving import run

from gadam import load_result


@pytest.mark.parametrize("kind", ["checkpoint", "result"])
def test_a_damaged_file_is_refused_in_one_line_and_left_as_it_is(kind, tmp_path):
    path = tmp_path / kind

    def read():
        return run(checkpoint=path) if kind == "checkpoint" else load_result(path, zoo.dropout_mlp)

    result = run(checkpoint=path if kind == "checkpoint" else None)
    if kind == "result":
        result.save(path)
    content = path.read_bytes()
    assert read().history.equals(result.history)
    assert path.read_bytes() == content, "reading changes nothing"

    @damage_settings
    @hypothesis.given(EDITS)
    def check(edits):
        candidate = damaged(content, edits)
        hypothesis.assume(candidate != content)
        path.write_bytes(candidate)
        zoo.complaint(read)
        assert path.read_bytes() == candidate
        assert os.listdir(tmp_path) == [kind]

    check()
