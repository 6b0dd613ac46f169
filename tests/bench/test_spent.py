"""Where a step goes: every microsecond is in one row."""

import pytest
import torch

from gadam.bench.spent import MATRICES, OUTSIDE, REST, spent, summed
from gadam.bench.workloads import make_work, workloads


def test_rows_sum_to_the_step_and_small_operators_are_one_row():
    frame = summed({"relu": [2.0, 20.0], "sum": [3.0, 50.0], "view": [9.0, 0.5], "neg": [1.0, 0.4]}, 100.0)
    assert frame["operator"].tolist() == ["sum", "relu", REST, OUTSIDE]
    assert frame["percent"].tolist() == pytest.approx([50, 20, 0.9, 29.1])
    assert frame["calls"].tolist()[:3] == [3, 2, 10]


def test_a_step_of_a_population_is_mostly_what_it_computes():
    cpu = torch.device("cpu")
    frame = spent(make_work(workloads(cpu)["mlp"], 8, cpu), steps=20).set_index("operator")
    assert frame["percent"].sum() == pytest.approx(100, abs=1)
    assert frame.loc[MATRICES, "calls"] == pytest.approx(8, abs=1)  # three layers: forward, weights, two inputs
