"""The benchmark: every contestant trains the same units to the same weights, and times are what they say."""

import argparse
import runpy
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import measure as measuring
import pandas as pd
import pytest
import torch
from contestants import CONTESTANTS, OURS, plain
from jax_contestant import _forward
from measure import flops, measure, reason, summarise
from torch import nn
from workloads import Workload, make_work, workloads

CPU = torch.device("cpu")
BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
COMPILED = "PyTorch, torch.compile of that"  # which takes a C++ compiler and half a minute


def convolutional():
    """Every layer of the paper's networks but dropout, whose draws differ between libraries."""
    return nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(2, 3, 3, stride=2), nn.Flatten(),
        nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.0), nn.Linear(8, 4),
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("name", [name for name in CONTESTANTS if name != COMPILED])
def test_contestants_train_as_the_plain_loop_each_time_anew_and_leave_the_threads_as_they_were(name):
    work = make_work(Workload("tiny", convolutional, (1, 8, 8), 4, 40), 2, CPU, batch_size=8)
    before = torch.get_num_threads()
    with plain(work, threads=1) as (train, _):
        expected = train(6)
    with CONTESTANTS[name](work) as (train, note):
        found = [train(6) for _ in range(2)]
    assert note
    assert torch.get_num_threads() == before
    for weights in found:
        assert weights.keys() == expected.keys()
        for entry, tensor in expected.items():
            assert (tensor - work.population.parameters[entry]).abs().max() > 1e-3  # it learned
            torch.testing.assert_close(weights[entry], tensor, rtol=1e-4, atol=1e-4)


def test_the_dropout_of_jax_drops_the_share_that_it_should():
    import jax

    out = _forward({"0": nn.Dropout(0.25)}, {}, jax.numpy.ones((100, 100)), jax.random.key(0))
    assert sorted({round(float(value), 4) for value in out.ravel()}) == [0, round(1 / 0.75, 4)]
    assert abs(float((out == 0).mean()) - 0.25) < 0.02


def test_workloads_train_and_their_operations_are_those_of_the_matrix_products():
    for workload in workloads(CPU).values():
        assert workload.make_model()(torch.zeros(2, *workload.shape)).shape == (2, workload.classes)
    work = make_work(workloads(CPU)["mlp"], 1, CPU)
    # Forward, and in the backward pass of weights and inputs; the first layer's inputs need no gradient.
    assert flops(work) == 2 * 128 * (3 * (16 * 70 + 70 * 50 + 50 * 26) - 16 * 70)
    assert torch.equal(work.batches(3), work.batches(100)[:3])


def test_a_step_is_timed_without_what_surrounds_a_training_and_failures_are_rows(monkeypatch):
    """2 ms a step, 50 ms around each training, and 5 s more in the first, on a clock that only steps move."""
    now = [0.0]
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(measuring, "matrix_speed", lambda device: 1e9)

    @contextmanager
    def contestant(work, fail_at=0):
        calls = []

        def train(steps):
            calls.append(steps)
            if len(calls) == fail_at:
                raise RuntimeError("out of memory.\nTried to allocate")
            now[0] += 0.05 + 0.002 * steps + 5.0 * (len(calls) == 1)

        yield train, "a note"

    everyone = {"fine": contestant, "at once": partial(contestant, fail_at=1), "later": partial(contestant, fail_at=12)}
    rows, speed = measure(make_work(workloads(CPU)["mlp"], 1, CPU), everyone, repeats=4, seconds=1.0)
    fine = rows[rows["contestant"] == "fine"]
    assert fine["ms_per_step"].tolist() == pytest.approx([2.0] * 4)
    assert fine["steps"].tolist() == [501] * 4
    assert fine["once_seconds"].tolist() == pytest.approx([5.0] * 4)
    assert speed == 1e9
    for name, repeats in (("at once", [0]), ("later", [1])):
        own = rows[rows["contestant"] == name]
        assert own["repeat"].tolist() == repeats
        assert own["ms_per_step"].isna().iloc[-1]
        assert own["note"].iloc[-1] == "failed: RuntimeError: out of memory. Tried to allocate"
    assert reason(ModuleNotFoundError(name="jax.numpy")) == "skipped: jax is not installed"


def test_ratios_are_of_medians_and_their_spread_of_pairs():
    times = {OURS: [2.0, 4.0, 2.0], "twice": [4.0, 8.0, 5.0], "failed": [float("nan")]}
    rows = [(name, i, ms, 0.5, "") for name, each in times.items() for i, ms in enumerate(each, 1)]
    frame = pd.DataFrame(rows, columns=["contestant", "repeat", "ms_per_step", "once_seconds", "note"])
    summary = summarise(frame, limit_ms=0.5, units=10).set_index("contestant")
    assert summary.loc["twice"].drop("note").tolist() == [5.0, 4.0, 8.0, 0.5, 2.5, 2.0, 2.5, 10.0, 0.5]
    assert summary.loc[OURS, "ratio"] == 1.0
    assert summary.loc["failed"][["ms_per_step", "ratio", "limit_percent"]].isna().all()


def test_the_program_writes_tables_and_refuses_what_it_does_not_know(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(measuring.MATRIX, "cpu", 64)
    run = runpy.run_path(str(BENCHMARKS / "__main__.py"), run_name="benchmarks")
    options = ["--workload", "mlp", "--units", "2", "--repeats", "2", "--seconds", "0.01", "--only", "LOOP"]
    given = run["parsed"]([*options, "--folder", str(tmp_path)])
    run["bench"](given)
    written = {f"bench{end}" for end in (".csv", "_summary.csv", ".json")}
    assert written == {path.name for path in tmp_path.iterdir()}
    summary = pd.read_csv(tmp_path / "bench_summary.csv")
    assert summary["contestant"].tolist() == [OURS, f"{OURS}, loop, 1 thread"]
    assert (summary["ms_per_step"] > 0).all()
    for name, value in (("workload", ["letter"]), ("only", ["keras"]), ("device", "tpu")):
        with pytest.raises(run["InputError"], match=f"^{name}="):
            run["bench"](argparse.Namespace(**vars(given) | {name: value}))
    for wrong in (["--units", "1,x"], ["--units", "0"], ["--repeats", "0"], ["--seconds", "nan"]):
        with pytest.raises(SystemExit):
            run["parsed"](wrong)
        assert wrong[0] in capsys.readouterr().err
