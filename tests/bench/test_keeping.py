import math
from dataclasses import replace

import pandas as pd
import pytest

from gadam import InputError
from gadam.bench import keeping
from gadam.bench.keeping import checkpointing


def test_it_says_and_writes_what_checkpoints_cost(tmp_path, monkeypatch):
    monkeypatch.setattr(keeping, "IMAGES", 64)
    changes = {"population_size": 2, "generations": 1, "steps": 2, "batch_size": 4, "validation_size": 8}
    monkeypatch.setattr(keeping, "QUICK", replace(keeping.QUICK, **changes))
    said = []
    frame = checkpointing(tmp_path, "cpu", repeats=2, say=said.append)
    assert frame.groupby("way")["repeat"].apply(list).to_dict() == {way: [1, 2] for way in keeping.WAYS}
    none, some = (frame[(frame["way"] == keeping.NONE) == here] for here in (True, False))
    assert (none[["writes", "write_seconds", "identity_seconds", "megabytes"]] == 0).all(axis=None)
    assert (some["writes"] >= 2).all(), "at the start and at the end"
    assert (some[["write_seconds", "identity_seconds"]] > 0).all(axis=None)
    assert (some["write_seconds"] + some["identity_seconds"] < some["seconds"]).all()
    assert (some["megabytes"] > 2 * 0.2).all(), "two units of LeNet-5"
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "checkpoint.csv"), frame, atol=1e-6)
    assert [line.split()[0] for line in said[1:]] == ["no", "as", "every", "every"]
    assert "x 1.000 (1.00-1.00)   0 writes" in said[1]
    assert said[1].endswith(": 0.00% of the run")
    assert " writes of " in said[2]


def test_whatever_it_costs_it_writes_in_mid_run(tmp_path, monkeypatch):
    monkeypatch.setattr(keeping, "IMAGES", 64)
    changes = {"population_size": 2, "generations": 3, "steps": 2, "batch_size": 4, "validation_size": 8}
    monkeypatch.setattr(keeping, "QUICK", replace(keeping.QUICK, **changes))
    monkeypatch.setattr(keeping, "WAYS", {keeping.NONE: (None, 0.01), "always": (1e-6, math.inf)})
    frame = checkpointing(tmp_path, "cpu", repeats=1, say=str)
    assert frame.set_index("way")["writes"]["always"] >= 3, "one in each generation"


def test_it_wants_something_to_do():
    with pytest.raises(InputError, match="repeats=0 must be at least 1"):
        checkpointing(repeats=0)
