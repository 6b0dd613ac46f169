"""The models that explain time and memory, on numbers that are known; and one tiny run of it all."""

import json
import math
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from gadam import InputError, cli
from gadam.bench import __main__, memory, scale, scale_results
from gadam.bench.workloads import make_work, workloads

CPU = torch.device("cpu")


def test_fit_recovers_a_line_and_says_how_far_off_it_is():
    line = scale_results.fit([1, 10, 100, 1_000], [0.5 + 0.06 * g for g in (1, 10, 100, 1_000)])
    assert (line.a, line.b) == pytest.approx((0.5, 0.06))
    assert line.deviation == pytest.approx(0, abs=1e-9)
    noisy = np.random.default_rng(0).uniform(0.9, 1.1, 200)
    line = scale_results.fit(range(1, 201), [(2 + 3 * g) * factor for g, factor in enumerate(noisy, 1)])
    assert line.a == pytest.approx(2, rel=0.25)
    assert line.b == pytest.approx(3, rel=0.02)
    assert 0.05 < line.deviation < 0.15


def test_fit_weighs_relative_errors():
    """A constant factor on one of two values at the same x is split alike, however large x is."""
    small, large = (scale_results.fit([1, 1, g], [1.0, 1.0, 1.0 * g]) for g in (2, 2_000))
    assert small.deviation == pytest.approx(large.deviation, abs=1e-9)
    assert scale_results.fit([1, 2, 3], [1.0, math.nan, 3.0]).b == pytest.approx(1)


@pytest.mark.parametrize(("x", "y"), [([], []), ([5], [1.0]), ([5, 5], [1.0, 2.0]), ([1, 2], [1.0, math.nan])])
def test_fit_of_too_little_is_missing(x, y):
    assert math.isnan(scale_results.fit(x, y).a)


def test_memory_model_of_the_mlp():
    """16-70-50-26: 6,066 entries; 70, 70, 50, 50, 26 and 26 numbers a row; 64 batches of 128 row numbers."""
    work = make_work(workloads(CPU)["mlp"], 3, CPU)
    assert memory.entries(work.population) == 6_066
    activations = 4 * (128 * (70 + 70 + 50 + 50 + 26 + 26) + 1 + 1)  # two numbers of the loss
    assert memory.memory_model(work) == {
        "copies": 3 * 5 * 4 * 6_066,
        "activations": 3 * activations,
        "gradients": 3 * activations,
        "batches": 3 * 2 * 8 * 64 * 128,
    }


def test_share_of_genetics():
    assert scale_results.share(16_000, 1) == 50
    assert scale_results.share(160, 0.99) == pytest.approx(1)

    def row(what, g, value):
        return {"what": what, "g": g, "entries": 7, "value": value}

    times = [row("genetics, MLP", 4, value) for value in (1.0, 5.0, 2.0)] + [row(scale_results.STEP, 4, 0.5)]
    times += [row(scale_results.LENET, 10, 20.0), row("genetics, LeNet-5", 5, 3.0), row("genetics, MLP", 8, 1.0)]
    found = scale_results.shares(times)  # of g = 8 there is no step
    assert [(each["what"], each["g"], each["unit"]) for each in found] == [
        ("share of genetics, MLP", 4, "%"),
        ("share of genetics, LeNet-5", 5, "%"),
    ]
    assert [each["value"] for each in found] == pytest.approx([200 / 8_002, 300 / (3 + 16_000 * 10)])


@pytest.fixture
def small(monkeypatch):
    """Few models to trace, and one process."""
    watched = scale._watched
    monkeypatch.setattr(scale, "_watched", lambda sizes, *rest: watched(sizes[-1:], *rest))
    monkeypatch.setattr(scale, "WIDTHS", (2,))
    monkeypatch.setattr(scale, "usable_cores", lambda: 1)
    monkeypatch.setattr(scale.figures, "DPI", 40)
    monkeypatch.setattr(scale.Limits, "measure", lambda self: None)


def test_a_tiny_run_writes_everything(small, tmp_path):
    said = []
    frame = scale.scale(tmp_path, "cpu", repeats=1, seconds=0.01, largest=4, say=said.append)
    assert {path.name for path in tmp_path.iterdir()} == {f"scale.{kind}" for kind in ("csv", "json", "png", "svg")}
    rows = pd.read_csv(tmp_path / "scale.csv")
    assert list(rows) == list(frame) == ["what", "g", "entries", "threads", "repeat", "value", "unit"]
    assert len(rows) == len(frame)
    assert rows["unit"].isin(["ms", "MB", "%"]).all()
    assert (rows["value"] > 0).all()
    timed = {
        scale_results.STEP,
        scale_results.WIDER,
        scale_results.WORKERS,
        scale_results.LENET,
        *scale_results.BREEDING.values(),
    }
    assert timed <= set(rows["what"])
    about = json.loads((tmp_path / "scale.json").read_text())
    assert about["machine"]["torch"]["version"] == torch.__version__
    assert about["models"][scale_results.STEP].keys() == {"a", "b", "deviation", "unit_of_a", "unit_of_b"}
    assert about["models"][scale_results.WIDER]["a"] is None  # one point makes no line
    assert max(len(line) for text in said for line in text.splitlines()) <= 120
    assert "nan" not in "".join(said)
    assert (set(scale_results.MEMORY) <= set(rows["what"])) != any("Memory is left out" in text for text in said)


def test_where_the_system_does_not_tell_memory_is_left_out(monkeypatch):
    def unknown(on, peak=False):
        raise OSError("there is no /proc")

    monkeypatch.setattr(memory, "_memory", unknown)
    monkeypatch.setattr(memory, "gadam", lambda work: nullcontext(scale.Ready(lambda steps: dict)))
    assert memory.watch(1, "cpu") is None
    middle = scale_results.medians(
        pd.DataFrame(
            [
                {"what": what, "g": g, "entries": 5 * g, "threads": None, "value": 1.0 * g}
                for what in (scale_results.STEP, scale_results.WIDER)
                for g in (1, 2)
            ]
        )
    )
    lines = scale_results.models(middle)
    assert set(lines) == {scale_results.STEP, scale_results.WIDER}
    assert not any("Memory" in text for text in scale_results.tables(middle, lines, "a model"))
    figure = scale_results.draw(middle, lines)
    assert [axis.get_title() for axis in figure.axes] == ["Time of a step by g", "Time of a step by |w|", "Genetics"]
    scale.plt.close(figure)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"repeats": 0}, "repeats=0 must be at least 1"),
        ({"seconds": math.inf}, "seconds=inf must be a positive number"),
        ({"largest": 1}, "largest=1 must be at least 2"),
        ({"device": "tpu"}, "device='tpu' cannot be used"),
    ],
)
def test_mistakes_are_one_line(settings, message, tmp_path):
    with pytest.raises(InputError) as caught:
        scale.scale(tmp_path, **settings)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_both_command_lines_give_the_same_arguments(monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(scale, "scale", lambda *args, **kwargs: seen.append((args, kwargs)))
    for given in (["--scale"], ["--scale", "--repeats", "2", "--seconds", "0.1", "--device", "cpu"]):
        __main__.main(given)
        assert CliRunner().invoke(cli.app, ["bench", *given], catch_exceptions=False).exit_code == 0
        for _, settings in seen[-2:]:
            settings.pop("say")
        assert seen[-1] == seen[-2]
    assert [each[1] for each in seen[::2]] == [{"repeats": 3, "seconds": 0.5}, {"repeats": 2, "seconds": 0.1}]
    wrong = ["--scale", "--units", "1,2"]
    with pytest.raises(SystemExit):
        __main__.main(wrong)
    message = "units='1,2' cannot be given with --scale, which has its own"
    assert capsys.readouterr().err == f"gadam: {message}\n"
    assert str(CliRunner().invoke(cli.app, ["bench", *wrong]).exception) == message
    both = CliRunner().invoke(cli.app, ["bench", "--scale", "--predict"]).exception
    assert str(both) == "--scale cannot be given with --predict; give one of them"
