"""Every row of bad_input_table.py: what is given wrong is refused, in the words of the table."""

import re

import pytest
from bad_input_scene import said, scene
from bad_input_table import TABLE

ROWS = [(call, message) for rows in TABLE.values() for call, message in rows]


@pytest.fixture(scope="module")
def names():
    with scene() as prepared:
        yield prepared


@pytest.mark.parametrize(("call", "message"), ROWS, ids=[call for call, _ in ROWS])
def test_it_is_refused_in_the_words_of_the_table(call, message, names):
    seen = said(call, names)
    assert "\n" not in seen
    assert re.fullmatch(re.escape(message).replace("…", ".*"), seen), seen


def test_no_row_is_there_twice():
    calls = [call for call, _ in ROWS]
    assert len(set(calls)) == len(calls) >= 250
