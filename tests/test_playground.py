"""The panels of the playground without a front end: what their buttons do, and what they say."""

import threading
import warnings
from dataclasses import asdict
from html import unescape
from unittest.mock import Mock

import pandas as pd
import pytest
import torch

from gadam import GadamConfig, InputError
from gadam.datasets import StandInWarning
from gadam.paper import section41
from gadam.paper.section41 import STEPS
from gadam.playground import LandscapePanel, TrainingPanel, training, training_panel
from gadam.training.batches import BLOCK

SMALL = {"population_size": 2, "generations": 2, "steps": 5, "batch_size": 16}
ENDLESS = {"population_size": 4, "generations": 3, "steps": 1_000_000}


@pytest.fixture
def panel():
    made = TrainingPanel()
    yield made
    made.stop()
    assert made.wait(600)


def press(panel, seconds=600, **settings):
    """Run with these settings; to the end, unless `seconds` is None."""
    for name, value in settings.items():
        panel.controls[name].value = value
    panel.run_button.click()
    assert seconds is None or panel.wait(seconds)


@pytest.fixture
def late(monkeypatch):
    """Grows by an element with each step that is taken once a stop was asked for."""
    evolve, told = training.evolve, []

    def watched(*given, record, stop, **named):
        def step(one):
            record(one)
            told.extend([one] * stop.is_set())

        return evolve(*given, record=step, stop=stop, **named)

    monkeypatch.setattr(training, "evolve", watched)
    return told


def red(panel):
    return "#b00020" in panel.status.value


def test_run_trains_with_the_chosen_settings_and_says_so_and_gives_code_that_trains_the_same(panel):
    default, said = asdict(GadamConfig()) | training.SIZES["smoke"] | {"dataset": "digits", "model": "MLP"}, []
    assert {name: control.value for name, control in panel.controls.items()}.items() <= default.items()
    panel.status.observe(lambda change: said.append((unescape(change["new"]), panel.run_button.disabled)), "value")
    chosen = SMALL | {"mutation": "normal", "moments": "carry", "learning_rate": 0.01}
    press(panel, **chosen)
    assert panel.result.stopped == "generations"
    assert chosen.items() <= asdict(panel.result.config).items()
    assert (panel.bar.value, panel.bar.max) == (40, 40)
    words = ("Loading digits", "Preparing the first step", "Generation 1 of 2", "Generation 2 of 2", "Done: 2 of 2")
    assert all(word in text and disabled for word, (text, disabled) in zip(words, said, strict=True))
    assert panel.picture.value.count("<img") == 4
    assert (panel.run_button.disabled, panel.stop_button.disabled, panel.error) == (False, True, "")

    press(panel, learning_rate=0.02)
    table, code = unescape(panel.past.value).removesuffix("</pre>").split("<pre>")
    assert (table.count("<tr"), table.count("<img")) == (1 + 2, 1)
    assert "learning_rate" in table
    assert "population_size" not in table, "it is the same in both"
    names = {}
    exec(code, names)
    inputs = torch.zeros(1, 1, 8, 8)
    assert torch.equal(names["result"].best(inputs), panel.result.best(inputs))


@pytest.mark.parametrize("by", ["its button", "a panel that replaces it"])
def test_stop_acts_in_the_middle_of_the_first_generation_and_the_time_left_is_said_till_then(
    by, late, monkeypatch, request
):
    monkeypatch.setattr(training, "front_end", lambda: "notebook")
    panel, left = training_panel(), threading.Event()
    request.addfinalizer(panel.stop)
    panel.left.observe(lambda change: left.set(), "value")
    press(panel, None, **ENDLESS)
    assert left.wait(600)
    assert "about " in panel.left.value
    panel.run_button.click()  # does nothing
    if by == "its button":
        panel.stop_button.click()
    else:
        assert not training_panel().running
    assert panel.wait(600)
    assert len(late) <= 4 * BLOCK, "what was under way, in shards of a unit at most"
    assert (panel.result.stopped, len(panel.result.history), len(panel.result.population)) == ("stop", 0, 4)
    assert "Stopped before the first generation was complete" in panel.status.value
    assert panel.left.value == ""


def test_what_cannot_be_trained_is_said_in_red_and_leaves_the_result_of_the_run_before(panel, monkeypatch):
    panel.result = before = object()
    for setting, named in (
        ({"population_size": 1}, "population g=1 "),
        ({"population_size": 10**7}, "population g=10000000 "),
        ({"batch_size": 10**9}, "batch size=1000000000 "),
        ({"learning_rate": -1.0}, "learning_rate=-1.0"),
    ):
        press(panel, **SMALL | {"learning_rate": 1e-3} | setting)
        assert red(panel)
        assert named in unescape(panel.status.value)
        assert panel.error
        assert not panel.run_button.disabled
    assert panel.result is before
    monkeypatch.setattr(training, "evolve", Mock(side_effect=RuntimeError("out of\nmemory & more")))
    press(panel, **SMALL, learning_rate=1e-3)
    assert red(panel)
    assert "RuntimeError: out of memory &amp; more" in panel.status.value


@pytest.mark.parametrize("data", ["real", "auto", "standin"])
def test_data_that_is_missing_is_said(tmp_path, monkeypatch, data):
    monkeypatch.setenv("GADAM_DATA", str(tmp_path / "<nowhere>"))
    monkeypatch.setenv("GADAM_OFFLINE", "1")
    training.load_dataset.cache_clear()
    panel = TrainingPanel(data=data)
    for _ in range(2):  # also when it has been loaded before
        press(panel, **SMALL | {"generations": 1}, dataset="yeast")
        assert red(panel) == (panel.result is None) == (data == "real")
        said = panel.status.value if data == "real" else panel.about.value
        assert ("data='real'" if data == "real" else "STAND-IN DATA for yeast") in unescape(said)
        assert "<nowhere>" not in said
    training.load_dataset.cache_clear()


@pytest.mark.parametrize("name", training.DATASETS)
def test_every_model_that_is_offered_fits_its_data(panel, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StandInWarning)
        dataset, _ = training.load_dataset(name, "standin")
    panel.controls["dataset"].value = name
    models = panel.controls["model"].options
    assert models == (("MLP", "LeNet-5") if name == "mnist" else ("MLP",))
    for model in models:
        output = training.make_model(model, dataset)()(dataset.train[0][:3])
        assert output.shape == (3, dataset.class_count)


def test_without_a_front_end_the_panel_has_run_and_is_its_figure(monkeypatch):
    monkeypatch.setitem(training.SIZES, "smoke", {"population_size": 2, "generations": 1, "steps": 5})
    panel = training_panel()
    assert panel.result.stopped == "generations"
    assert panel._repr_mimebundle_()["text/html"].count('src="data:image/png;base64,') == 4
    monkeypatch.setattr(training, "load_dataset", Mock(side_effect=InputError("no data today")))
    with pytest.raises(InputError, match=r"^training_panel: no data today$"):
        training_panel()


# --- the landscape ---


@pytest.fixture(scope="module")
def land():
    return LandscapePanel(generations=2)


def at(paths, generation, role, step):
    return paths[(paths["generation"] == generation) & (paths["role"] == role) & (paths["step"] == step)]


def survivors(paths, generation):
    return pd.concat([at(paths, generation, role, STEPS) for role in ("parent", "child")]).query("survived")


def test_a_journey_has_every_step_and_goes_on_where_the_survivors_ended_and_its_frames_are_described(land):
    paths = land.journey
    assert len(paths) == len(paths[["generation", "role", "unit", "step"]].drop_duplicates()) == 2 * 2 * 4 * (STEPS + 1)
    heights = [section41.landscape(one["w1"], one["w2"]) for one in (survivors(paths, 1), at(paths, 2, "parent", 0))]
    assert heights[1].tolist() == pytest.approx(sorted(heights[0]), abs=1e-6)
    expected = {
        0: "Generation 1 of 2: parents train, step 0 of 60.",
        16: "Generation 1 of 2: children are born",
        18: "Generation 1 of 2: children train, step 8 of 60.",
        65: "Generation 2 of 2: the fittest survive",
    }
    seen = set()
    for frame, words in expected.items():
        land.slider.value = frame
        assert words in land.status.value
        seen.add(land.picture.value)
    assert len(seen) == 4
    assert land.slider.max == land.play.max == 65


def test_starts_follow_from_the_settings_or_are_where_they_are_typed_and_bad_points_are_said_in_red(land):
    before = land.journey
    land.controls["seed"].value = 1
    assert not land.journey[["w1", "w2"]].equals(before[["w1", "w2"]])
    land.controls["points"].value = " -1 2, 0.5 .5; 1e0 -1.5,"
    assert at(land.journey, 1, "parent", 0)[["w1", "w2"]].to_numpy().tolist() == [[-1, 2], [0.5, 0.5], [1, -1.5]]
    assert land.controls["starts"].disabled
    for text in ("here, there", "1 2 0.5 0.5", "1 1, 0 3", "1 1, 0 nan", "1 1", ",", "0 0," * 31):
        land.controls["points"].value = text
        assert red(land)
        assert "points: " in unescape(land.status.value)
        land.slider.value = 1 - land.slider.value  # draws nothing, and does not fail
        assert land.picture.value == ""
    for name, value in {"points": "", "seed": 0}.items():
        land.controls[name].value = value
    assert not red(land)
    assert not land.controls["starts"].disabled
    pd.testing.assert_frame_equal(land.journey, before)
