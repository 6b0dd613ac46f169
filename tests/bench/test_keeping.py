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
    without = frame["way"] == keeping.NONE
    assert (frame.loc[without, "megabytes"] == 0).all()
    assert frame.loc[without, "keeping"].max() < frame.loc[~without, "keeping"].min()
    assert (frame["keeping"] < frame["seconds"]).all()
    assert (frame.loc[~without, "megabytes"] > 2 * 0.2).all(), "two units of LeNet-5"
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "checkpoint.csv"), frame, atol=1e-6)
    assert [line.split()[0] for line in said[1:]] == ["no", "as", "every"]
    assert said[1].endswith("x 1.000 (1.00-1.00)   keeping 0.00%"), said[1]


def test_it_wants_something_to_do():
    with pytest.raises(InputError, match="repeats=0 must be at least 1"):
        checkpointing(repeats=0)
