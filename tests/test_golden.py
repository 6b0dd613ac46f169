"""The results versions are held to the truth: what is computed is what golden.json has, to 1e-5.

A change beyond that is a fault, or else a version has to be raised: `RESULTS_VERSION` of the engine (gadam/config.py),
or `version=` of the run function. Then `python tests/golden.py` writes the new numbers.
"""

import json
import warnings

import golden
import pytest
import torch

KEPT = json.loads(golden.FILE.read_text())
TOLERANCE = 1e-5
COUNTS = ("correct", "held_correct", "test_correct", "best", "ensemble", "soup")
ROWS = 2
ADVICE = "raise the version of what changed and run tests/golden.py, or find the fault"


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_versions_are_those_of_the_numbers():
    assert golden.versions() == KEPT["versions"], "run tests/golden.py: its numbers are of other versions"
    assert golden.names() == list(KEPT["cases"])


@pytest.mark.parametrize("name", KEPT["cases"])
def test_results_are_those_of_their_version(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the stand-ins
        found = golden.case(name)
    differences = list(differing(KEPT["cases"][name], found, name))
    assert not differences, f"{differences[0]}; {ADVICE}"


def differing(kept, found, where):
    if isinstance(kept, dict) and isinstance(found, dict):
        if kept.keys() != found.keys():
            yield f"{where}: {sorted(kept.keys() ^ found.keys())} is only on one side"
            return
        for key in kept:
            yield from differing(kept[key], found[key], f"{where}.{key}")
    elif isinstance(kept, list) and isinstance(found, list):
        if len(kept) != len(found):
            yield f"{where}: {len(found)} instead of {len(kept)}"
            return
        for place, pair in enumerate(zip(kept, found, strict=True)):
            yield from differing(*pair, f"{where}[{place}]")
    elif not close(kept, found, where.rpartition(".")[2].partition("[")[0]):
        yield f"{where}: {found!r} instead of {kept!r}"


def close(kept, found, column):
    numbers = [isinstance(one, int | float) and not isinstance(one, bool) for one in (kept, found)]
    if not all(numbers):
        return kept == found
    if column in COUNTS:
        return abs(kept - found) <= ROWS
    if column == "accuracy":
        return abs(kept - found) <= 2.0  # two rows of a hundred
    if column in golden.BYTES:
        return abs(kept - found) <= 0.02 * abs(kept)
    if isinstance(kept, int) and isinstance(found, int):
        return kept == found
    return abs(kept - found) <= TOLERANCE * max(abs(kept), 1e-2)


@pytest.mark.parametrize(
    ("kept", "found", "same"),
    [
        ([{"loss": 1.0}], [{"loss": 1.000_001}], True),
        ([{"loss": 1.0}], [{"loss": 1.000_1}], False),
        ([{"unit": 1}], [{"unit": 2}], False),
        ([{"correct": 50}], [{"correct": 52}], True),
        ([{"correct": 50}], [{"correct": 53}], False),
        ([{"loss": 1.0}], [{"loss": 1.0, "more": 1}], False),
        ([{"loss": 1.0}], [], False),
        ("nan", "nan", True),
    ],
)
def test_what_counts_as_a_difference(kept, found, same):
    assert bool(list(differing(kept, found, "case"))) is not same


def test_one_coefficient_of_adam_turns_it_red(monkeypatch):
    """The fault that this is for: a moment's decay of 0.998 where Eq. 2 has 0.999."""
    changed = golden.gadam.GadamConfig
    monkeypatch.setattr(golden.gadam, "GadamConfig", lambda **given: changed(**given, betas=(0.9, 0.998)))
    assert list(
        differing(KEPT["cases"]["engine:mlp/vectorised/adam"], golden.case("engine:mlp/vectorised/adam"), "adam")
    )
