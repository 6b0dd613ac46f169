"""The benchmark's own arithmetic, order, words and files, with contestants that take made-up or no time."""

import json
import subprocess
import sys
from contextlib import contextmanager

import pandas as pd
import pytest
import torch
import typer
from typer.testing import CliRunner

from gadam import InputError, cli
from gadam.bench import __main__, command
from gadam.bench.contestants import OURS, Contestant, Ready, hand_chosen
from gadam.bench.limits import Limits
from gadam.bench.measure import measure, orders, summarise
from gadam.bench.results import short, table
from gadam.bench.workloads import make_work, workloads

CPU = torch.device("cpu")


class FakeLimits(Limits):
    def measure(self):
        self.flops = 1e9
        self.seen.append(1e9)


def quick(name, fail_at=None, note="", calls=None, sleep=lambda steps: None):
    """A contestant that only moves a clock, and fails at some training."""

    @contextmanager
    def start(work):
        count = 0

        def train(steps):
            nonlocal count
            count += 1
            if calls is not None:
                calls.append((name, steps))
            if fail_at is not None and count >= fail_at:
                raise RuntimeError("CUDA out of memory.\nTried to allocate")
            sleep(steps)
            return dict

        yield Ready(train, note)

    return Contestant(name, start)


def ticking(clock, each=1.0, once=0.0):
    def sleep(steps):
        clock[0] += once + each * steps

    return sleep


@pytest.fixture
def clock(monkeypatch):
    """Time that only steps take, a second each."""
    now = [0.0]
    monkeypatch.setattr("gadam.bench.measure.time.perf_counter", lambda: now[0])
    return now


@pytest.fixture
def work():
    return make_work(workloads(CPU)["mlp"], 2, CPU)


@pytest.fixture
def fast(monkeypatch, clock):
    """`bench` with contestants that take no time."""
    monkeypatch.setattr(
        command,
        "CONTESTANTS",
        tuple(
            quick(name, sleep=ticking(clock), **rest)
            for name, rest in ((OURS, {}), ("slow one", {"note": "a note"}), ("bad", {"fail_at": 1}))
        ),
    )
    monkeypatch.setattr(command, "Limits", FakeLimits)


# --- order ---


def test_each_repeat_has_everyone_once_in_an_order_of_its_own():
    names = [f"contestant {i}" for i in range(6)]
    drawn = orders(names, 20)
    assert [sorted(order) for order in drawn] == [names] * 20
    assert len({tuple(order) for order in drawn}) > 15
    assert drawn == orders(names, 20)


def test_measurements_are_interleaved(work, clock):
    calls = []
    contestants = [quick(name, calls=calls, sleep=ticking(clock)) for name in ("a", "b", "c")]
    rows = measure(work, contestants, FakeLimits(CPU), repeats=4, seconds=0.1, say=lambda _: None)
    assert calls[-12:] == [(name, 1) for order in orders(["a", "b", "c"], 4) for name in order]
    assert list(zip(rows["contestant"], rows["repeat"], strict=True)) == [(n, i) for n in "abc" for i in (1, 2, 3, 4)]
    assert list(rows) == ["workload", "g", "contestant", "repeat", "steps", "ms_per_step", "once_seconds", "note"]


@pytest.mark.parametrize("around", [0.05, 3.0])
def test_a_step_is_timed_without_what_surrounds_a_training(work, clock, around):
    """2 ms a step, so much around each training, and 5 s more in the first."""
    calls = []

    def sleep(steps):
        ticking(clock, 0.002, around + (5.0 if len(calls) == 1 else 0.0))(steps)

    contestants = [quick("a", calls=calls, sleep=sleep)]
    rows = measure(work, contestants, FakeLimits(CPU), repeats=3, seconds=1.0, say=lambda _: None)
    assert rows["ms_per_step"].tolist() == pytest.approx([2.0] * 3)
    assert rows["steps"].tolist() == [501] * 3
    assert rows["once_seconds"].tolist() == pytest.approx([5.0] * 3)


# --- failures ---


def test_what_fails_is_a_row_with_the_reason_and_stops_nobody(work, clock):
    failing = (("at once", 1), ("later", 6), ("fine", None))
    contestants = [quick(*each, sleep=ticking(clock)) for each in failing]
    rows = measure(work, contestants, FakeLimits(CPU), repeats=9, seconds=0.1, say=lambda _: None)
    assert rows[rows["contestant"] == "fine"]["ms_per_step"].notna().sum() == 9
    for name, repeats in (("at once", [0]), ("later", [1, 2, 3])):
        own = rows[rows["contestant"] == name]
        assert list(own["repeat"]) == repeats
        assert own["ms_per_step"].isna().iloc[-1]
        assert own["note"].iloc[-1] == "failed: RuntimeError: CUDA out of memory. Tried to allocate"


def test_what_takes_too_long_is_done_once(work, monkeypatch):
    monkeypatch.setattr("gadam.bench.measure.LONGEST", -1.0)
    calls = []
    rows = measure(work, [quick("a", calls=calls)], FakeLimits(CPU), repeats=3, seconds=1, say=lambda _: None)
    assert len(rows) == len(calls) == 1
    assert "done once" in rows["note"][0]
    assert rows["ms_per_step"][0] >= 0


# --- ratios ---


def made_up():
    times = {OURS: [2.0, 4.0, 2.0], "twice": [4.0, 8.0, 5.0], "failed": [float("nan")]}
    return pd.DataFrame(
        [
            {"contestant": name, "repeat": i, "ms_per_step": ms, "once_seconds": 0.5, "note": ""}
            for name, each in times.items()
            for i, ms in enumerate(each, 1)
        ]
    )


def test_ratios_are_of_medians_and_their_spread_of_pairs():
    summary = summarise(made_up(), limit_ms=0.5, units=10).set_index("contestant")
    assert list(summary.index) == [OURS, "twice", "failed"]
    twice = summary.loc["twice"]
    assert twice[["ms_per_step", "low", "high"]].tolist() == [5.0, 4.0, 8.0]
    assert twice[["ratio", "ratio_low", "ratio_high"]].tolist() == [2.5, 2.0, 2.5]
    assert twice["ms_per_unit_step"] == 0.5
    assert twice["limit_percent"] == 10.0
    assert summary.loc[OURS, "ratio"] == 1.0
    assert summary.loc["failed"][["ms_per_step", "ratio", "limit_percent"]].isna().all()


def test_table_fits_a_terminal_and_shows_dashes_for_what_is_missing():
    text = table(summarise(made_up(), 0.5, 10).assign(note="x" * 200), "a title")
    assert max(map(len, text.splitlines())) <= 120
    assert "nan" not in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.01234, "0.0123"), (1.5, "1.50"), (1234.5, "1,234"), (float("nan"), "–"), (0.0, "0")],
)
def test_numbers_have_three_digits(value, text):
    assert short(value) == text


def test_limit_is_operations_over_speed(work):
    limits = FakeLimits(CPU)
    limits.measure()
    assert limits.seconds(work) == pytest.approx(2 * 4_261_888 / 1e9, rel=0.05)


def test_speed_of_the_machine_is_measured(monkeypatch):
    monkeypatch.setattr("gadam.bench.limits.SIZES", {"cpu": (64,)})
    limits = Limits(CPU)
    for _ in range(2):
        limits.measure()
    assert limits.flops == max(limits.seen) > 0


# --- the command ---


def test_files_are_written(fast, tmp_path):
    said = []
    summary = command.bench(["mlp"], [1, 2], repeats=2, seconds=0.1, folder=tmp_path, say=said.append)
    names = {"bench.csv", "bench_summary.csv", "bench_spent.csv", "bench.json", "bench.png", "bench.svg"}
    assert {path.name for path in tmp_path.iterdir()} == names
    rows = pd.read_csv(tmp_path / "bench.csv")
    assert rows.groupby(["g", "contestant"]).size().to_dict() == {
        (g, name): n for g in (1, 2) for name, n in ((OURS, 2), ("slow one", 2), ("bad", 1))
    }
    assert "CUDA out of memory" in rows[rows["contestant"] == "bad"]["note"].iloc[0]
    assert list(pd.read_csv(tmp_path / "bench_summary.csv")["g"]) == list(summary["g"]) == [1] * 3 + [2] * 3
    about = json.loads((tmp_path / "bench.json").read_text())
    assert about["machine"]["torch"]["version"] == torch.__version__
    assert {"jax", "joblib"} <= about["packages"].keys()
    assert any("a note" in line for line in said)


def test_only_takes_those_and_ours(fast, tmp_path):
    summary = command.bench(["mlp"], [1], repeats=1, seconds=0.1, only=["SLOW"], folder=tmp_path, say=lambda _: None)
    assert set(summary["contestant"]) == {OURS, "slow one"}


def test_hand_chosen_settings_have_no_idle_threads():
    names = [each.name for each in hand_chosen(10)]
    assert len(names) == len(set(names)) == 5
    assert [each.name for each in hand_chosen(1)] == ["gadam, by hand: 1 shard, 1 thread"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workload", "letter"], "workload='letter' is not known; there are mlp, lenet, orl"),
        (["--units", "1,x"], "units='1,x' must be whole numbers with commas between, such as 1,10,100"),
        (["--units", "0"], "units=0 must be at least 1"),
        (["--repeats", "0"], "repeats=0 must be at least 1"),
        (["--seconds", "nan"], "seconds=nan must be a positive number"),
        (["--only", "tensorflow"], "only='tensorflow' is part of no contestant's name; there are: gadam; "),
        (["--device", "tpu"], "device='tpu' cannot be used"),
    ],
)
def test_mistakes_are_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        __main__.main(arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"gadam: {message}")
    assert error.count("\n") == 1
    caught = CliRunner().invoke(cli.app, ["bench", *arguments]).exception
    assert isinstance(caught, InputError)
    assert f"gadam: {caught}\n" == error


def test_both_command_lines_give_the_same_arguments(monkeypatch):
    seen = []
    monkeypatch.setattr(command, "bench", lambda *args, **kwargs: seen.append((args, kwargs)))
    given = ["--workload", "orl", "--units", "1,10", "--only", "JAX", "--by-hand", "--folder", "there"]
    __main__.main(given)
    assert CliRunner().invoke(cli.app, ["bench", *given], catch_exceptions=False).exit_code == 0
    (first, settings), (second, others) = seen
    assert first == second == (["orl"], [1, 10])
    assert settings.pop("say") is print
    assert others.pop("say") is typer.echo
    assert settings == others


def test_it_needs_neither_typer_nor_the_notebooks():
    absent = (
        "pydantic typer papermill nbval nbformat nbclient nbconvert jax optax joblib sklearn scipy torchvision pooch "
        "jinja2"
    )
    ours = ", ".join(f"gadam.bench.{name}" for name in ("__main__", "command", "scale", "predict"))
    script = f"import sys; sys.modules.update(dict.fromkeys('{absent}'.split())); import {ours}"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


# --- a machine that is lent for ten minutes ---


def test_with_little_time_what_tells_most_comes_first_and_the_rest_is_left_out(fast, clock, tmp_path):
    said = []
    summary = command.bench(
        ["mlp", "lenet"], [1, 10], repeats=2, seconds=0.1, device="cpu", minutes=0.05, folder=tmp_path, say=said.append
    )
    done = list(dict.fromkeys(zip(summary["workload"], summary["g"], strict=True)))
    assert done[0] == ("lenet", 10)
    assert 0 < len(done) < 4
    left = [line for line in said if "left out, for 0.05 minutes are over" in line]
    assert len(left) == 4 - len(done)


def test_what_was_set_up_in_time_is_measured_once(work, clock):
    contestants = [quick(name, sleep=ticking(clock)) for name in ("a", "b")]
    rows = measure(work, contestants, FakeLimits(CPU), repeats=9, seconds=1.0, until=1.0, say=lambda _: None)
    first, second = (rows[rows["contestant"] == name] for name in "ab")
    assert list(first["repeat"]) == [1]
    assert list(second["note"]) == ["skipped: no time was left"]


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan")])
def test_minutes_must_be_positive(wrong, tmp_path):
    with pytest.raises(InputError, match="minutes="):
        command.bench(["mlp"], [1], minutes=wrong, folder=tmp_path, device="cpu", say=lambda _: None)


def test_the_time_of_the_papers_table_1_is_told(fast, tmp_path):
    said = []
    command.bench(["lenet"], [100], repeats=1, seconds=0.1, device="cpu", folder=tmp_path, say=said.append)
    (line,) = [line for line in said if "Table 1" in line]
    hours = json.loads((tmp_path / "bench.json").read_text())["table1_hours"]
    ours = pd.read_csv(tmp_path / "bench_summary.csv").query("contestant == 'gadam'")["ms_per_step"].iloc[0]
    assert hours == pytest.approx(80_000 * ours / 1_000 / 3_600)
    assert "10 seeds as one population" in line
