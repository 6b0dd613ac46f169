"""The simulation of a generation on a cluster, by cases that can be counted by hand, and a tiny measurement."""

import json
import math
import time
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest

from gadam import InputError
from gadam.bench import cluster
from gadam.bench.entry import run
from gadam.bench.projection import Costs, generation_seconds, project

# A message of n units takes 1 + n seconds, and a step of them 1 + n.
EXACT = Costs(
    task=2, byte=0.5, step=1, unit_step=1, genetics=0.25, unit_bytes=2, shard_bytes=0, link=math.inf
)  # fmt: skip


def test_one_worker_is_sent_all_trains_all_and_sends_all_back():
    assert generation_seconds(EXACT, units=4, steps=3, workers=1) == 2 * (5 + 3 * 5 + 5) + 1


def test_messages_go_one_after_the_other_and_workers_train_side_by_side():
    # Sent at 2, 4, 6 and 8; ready at 12, 14, 16 and 18; each is taken in 2.
    assert generation_seconds(EXACT, units=4, steps=5, workers=4) == 2 * 20 + 1


def test_answers_that_come_before_all_is_sent_are_taken_first():
    # Two are sent until 4, when the first is ready; taken until 6, and the second until 8. The third goes until 10.
    assert generation_seconds(EXACT, units=3, steps=1, workers=3) == 2 * (10 + 2 + 2) + 0.75


def test_units_are_shared_out_evenly_and_more_workers_than_units_are_idle():
    # 3 and 2 units: sent at 4 and 7, ready at 44 and 37; taken until 40 and 48.
    assert generation_seconds(EXACT, units=5, steps=10, workers=2) == 2 * 48 + 1.25
    few, many = (generation_seconds(EXACT, units=3, steps=10, workers=count) for count in (3, 30))
    assert few == many


def test_a_link_delays_each_message_by_its_bytes():
    linked = replace(EXACT, link=2.0, shard_bytes=4)
    # A message has 2 + 2 bytes: 1 + 2 of the driver, and 2 of the link.
    assert generation_seconds(linked, units=1, steps=1, workers=1) == 2 * (5 + 2 + 5) + 0.25


def test_a_projection_is_ideal_where_messages_cost_nothing():
    free = replace(EXACT, task=0, byte=0, step=0, genetics=0)
    frame = project(free, units=1_000, steps=7, workers=(1, 10, 1_000))
    assert frame["speedup"].tolist() == pytest.approx([1, 10, 1_000])
    assert frame["efficiency"].tolist() == pytest.approx([100, 100, 100])
    assert frame["megabytes"].tolist() == pytest.approx([0.008, 0.008, 0.008])
    slow = project(EXACT, units=1_000, steps=7, workers=(1, 10, 1_000))
    assert (slow["efficiency"].diff().dropna() < 0).all()


def test_it_writes_and_says_what_it_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "ROWS", {"mlp": 2_000})
    monkeypatch.setattr(cluster, "MESSAGES", 6)
    monkeypatch.setattr(cluster, "TIMED", {"mlp": 200})  # of fewer the clock may say nothing
    monkeypatch.setattr(cluster, "COUNT", 1)
    # Not of what else the machine does: else ten units may look faster than one.
    monkeypatch.setattr(cluster, "time", SimpleNamespace(perf_counter=time.thread_time))
    said = []
    run(cluster=True, folder=tmp_path, say=said.append)
    written = pd.read_csv(tmp_path / "cluster.csv")
    about = json.loads((tmp_path / "cluster.json").read_text())
    assert written["workers"].tolist() == list(cluster.WORKERS)
    assert written["speedup"].iloc[0] == 1
    costs = about["costs"]["mlp"]
    assert 1 < costs["ratio"] < 1.5
    assert costs["unit_step"] > 0
    assert f"{costs['ratio']:.2f} x the formula" in said[-1]


@pytest.mark.parametrize("others", [{"units": "1"}, {"repeats": 2}, {"seconds": 1.0}, {"scale": True}])
def test_options_of_other_benchmarks_are_refused(others):
    with pytest.raises(InputError, match="cannot be given with --"):
        run(cluster=True, **others)
