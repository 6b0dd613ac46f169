"""A tiny run of the benchmark of predictions; times themselves are never tested."""

import json

import pandas as pd
import pytest
import torch

from gadam import InputError, Population
from gadam.bench import predict
from gadam.models import mlp


def test_contestants_predict_the_same():
    population = Population.make(lambda: mlp(4, 3, (5,)), 3)
    inputs = torch.rand(6, 4)
    with torch.no_grad():
        found = [predict_of(inputs) for predict_of in predict.contestants(population).values()]
    for each in found:
        torch.testing.assert_close(each, found[0])
        torch.testing.assert_close(each.sum(1), torch.ones(6))


def test_it_writes_and_says_what_it_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "ROWS", (2,))
    said = []
    frame = predict.predict(["mlp"], tmp_path, "cpu", repeats=2, seconds=0.01, say=said.append)
    written = pd.read_csv(tmp_path / "predict.csv")
    assert (frame["ms"] > 0).all()
    assert written.groupby("contestant")["repeat"].apply(list).tolist() == [[1, 2]] * 3
    assert json.loads((tmp_path / "predict.json").read_text())["units"] == predict.UNITS
    assert "its units, one after another" in said[-1]


def test_what_cannot_be_used_is_refused(tmp_path):
    with pytest.raises(InputError, match="repeats=0 must be at least 1"):
        predict.predict(folder=tmp_path, repeats=0)
