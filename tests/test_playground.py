"""The panels of the playground without a front end: what their buttons do, and what they say."""

import re
import threading
import time
import warnings
from dataclasses import asdict
from html import unescape

import pandas as pd
import pytest
import torch

from gadam import GadamConfig, InputError
from gadam.datasets import StandInWarning
from gadam.paper import section41
from gadam.paper.section41 import GLOBAL, LOCAL, STEPS
from gadam.playground import LandscapePanel, TrainingPanel, landscape_panel, training, training_panel
from gadam.training.batches import BLOCK

SMALL = {"population_size": 2, "generations": 2, "steps": 5, "batch_size": 16}
ENDLESS = {"population_size": 4, "generations": 3, "steps": 1_000_000}


@pytest.fixture
def panel():
    made = TrainingPanel()
    yield made
    made.stop()
    assert made.wait(60)


def press(panel, seconds=60, **settings):
    """Run with these settings; to the end, unless `seconds` is None."""
    for name, value in settings.items():
        panel.controls[name].value = value
    panel.run_button.click()
    assert seconds is None or panel.wait(seconds)


@pytest.fixture
def steps(monkeypatch):
    """Tells of each step: an event at the first one, and how many were taken once a stop was asked for."""
    evolve, told = training.evolve, {"first": threading.Event(), "late": 0}

    def watched(*given, record, stop, **named):
        def step(one):
            record(one)
            told["first"].set()
            told["late"] += stop.is_set()

        return evolve(*given, record=step, stop=stop, **named)

    monkeypatch.setattr(training, "evolve", watched)
    return told


def fails(error):
    def fail(*_, **__):
        raise error

    return fail


def red(panel):
    return "#b00020" in panel.status.value


def test_run_trains_with_the_chosen_settings_and_says_what_goes_on(panel):
    said = []
    panel.status.observe(lambda change: said.append((unescape(change["new"]), panel.run_button.disabled)), "value")
    press(panel, **SMALL, mutation="normal", moments="carry", learning_rate=0.01)
    result = panel.result
    assert result.stopped == "generations"
    expected = SMALL | {"mutation": "normal", "moments": "carry", "learning_rate": 0.01}
    assert expected.items() <= asdict(result.config).items()
    assert result.best(torch.zeros(1, 1, 8, 8)).shape == (1, 10)
    assert "1,437 rows to train with, 360 to test with" in panel.about.value
    assert (panel.bar.value, panel.bar.max) == (40, 40)
    words = ("Loading digits", "Preparing the first step", "Generation 1 of 2", "Generation 2 of 2", "Done: 2 of 2")
    assert all(word in text and disabled for word, (text, disabled) in zip(words, said, strict=True))
    assert len(set(re.findall('<img alt="([^"]+)"', panel.picture.value))) == 4
    assert (panel.run_button.disabled, panel.stop_button.disabled, panel.error) == (False, True, "")


def test_the_last_runs_stand_side_by_side_and_the_last_one_is_code_that_trains_the_same(panel):
    press(panel, **SMALL)
    assert "<img" not in panel.past.value
    for rate in (0.01, 0.02, 0.03, 0.04, 0.05):
        press(panel, **SMALL, learning_rate=rate)
    assert len(panel.runs) == 5
    text = unescape(panel.past.value)
    assert text.count("<tr") == 1 + 5
    assert "learning_rate" in text
    assert "population_size" not in text.split("<pre>")[0], "it is the same in all"
    assert "<img" in text
    code = text.split("<pre>")[1].split("</pre>")[0]
    assert len(code.splitlines()) == 5
    names = {}
    exec(code, names)
    assert torch.equal(names["result"].best(torch.zeros(1, 1, 8, 8)), panel.result.best(torch.zeros(1, 1, 8, 8)))


def test_the_time_that_is_left_is_said_while_it_trains(panel, steps):
    said = []
    panel.left.observe(lambda change: said.append(unescape(change["new"])), "value")
    press(panel, None, **ENDLESS)
    assert steps["first"].wait(60)
    for _ in range(600):
        if said:
            break
        time.sleep(0.1)
    panel.stop_button.click()
    assert panel.wait(60)
    assert re.search(r"about [\d.]+ (s|min|h|d) left", said[0])
    assert panel.left.value == ""


def test_settings_that_are_shown_first_are_those_of_the_paper_where_it_has_any(panel):
    default = asdict(GadamConfig()) | training.SIZES["smoke"] | {"dataset": "digits", "model": "MLP"}
    assert {name: control.value for name, control in panel.controls.items()}.items() <= default.items()


def test_stop_acts_in_the_middle_of_the_first_generation(panel, steps):
    press(panel, None, **ENDLESS)
    assert steps["first"].wait(60)
    assert not panel.stop_button.disabled
    panel.run_button.click()  # does nothing
    panel.stop_button.click()
    assert panel.wait(60)
    assert steps["late"] <= 4 * BLOCK, "what was under way, in shards of a unit at most"
    assert (panel.result.stopped, len(panel.result.history), len(panel.result.population)) == ("stop", 0, 4)
    assert "Stopped before the first generation was complete" in panel.status.value
    assert not red(panel)


def test_stop_keeps_the_generations_that_are_complete_and_the_panel_runs_again(panel, steps, monkeypatch):
    show = panel.show
    monkeypatch.setattr(panel, "show", lambda pictures: (show(pictures), panel.stop()))
    press(panel, **SMALL | {"generations": 100_000})
    assert steps["late"] <= 4 * BLOCK
    assert (panel.result.stopped, len(panel.result.history)) == ("stop", 4)
    assert "Stopped after 1 of 100000 generations" in panel.status.value
    assert panel.picture.value
    press(panel, generations=1)
    assert panel.result.history["generation"].max() == 1


def test_stop_before_the_data_is_there(panel, monkeypatch):
    load = training.load_dataset
    monkeypatch.setattr(training, "load_dataset", lambda *given: (panel.stop(), load(*given))[1])
    press(panel, **SMALL)
    assert panel.result is None
    assert "Stopped before the training began" in panel.status.value


def test_what_cannot_be_trained_is_said_in_red_and_leaves_the_result_of_the_run_before(panel, monkeypatch):
    panel.result = before = object()
    panel.picture.value = "a picture"
    for setting, named in (
        ({"population_size": 1}, "population_size=1"),
        ({"population_size": 10**7}, "population g: 10,000,000"),
        ({"batch_size": 10**9}, "batch size: 1,000,000,000"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0"),
    ):
        press(panel, **SMALL | {"learning_rate": 1e-3} | setting)
        assert red(panel)
        assert named in unescape(panel.status.value)
        assert panel.error
        assert not panel.run_button.disabled
    assert panel.result is before
    assert panel.picture.value == "a picture"
    monkeypatch.setattr(training, "evolve", fails(RuntimeError("out of\nmemory & more")))
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
        dataset, said = training.load_dataset(name, "standin")
    assert bool(said) == (name != "digits")
    panel.controls["dataset"].value = name
    models = panel.controls["model"].options
    assert models == (("MLP", "LeNet-5") if name == "mnist" else ("MLP",))
    for model in models:
        output = training.make_model(model, dataset)()(dataset.train[0][:3])
        assert output.shape == (3, dataset.class_count)
    assert dataset.train[0].mean().abs() < 0.1


def test_without_a_front_end_the_panel_has_run_and_is_its_figure(monkeypatch):
    monkeypatch.setitem(training.SIZES, "smoke", {"population_size": 2, "generations": 1, "steps": 5})
    panel = training_panel()
    assert panel.result.stopped == "generations"
    bundle = panel._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"}
    assert bundle["text/html"].count('src="data:image/png;base64,iVBORw0KGgo') == 4
    monkeypatch.setattr(training, "load_dataset", fails(InputError("no data today")))
    with pytest.raises(InputError, match=r"^training_panel: no data today$"):
        training_panel()


def test_a_panel_that_another_replaces_stops(monkeypatch, steps):
    monkeypatch.setattr(training, "front_end", lambda: "notebook")
    first = training_panel()
    press(first, None, **ENDLESS)
    assert steps["first"].wait(60)
    second = training_panel()
    assert first.wait(60)
    assert first.result.stopped == "stop"
    assert not second.running


@pytest.mark.parametrize("panel", [training_panel, landscape_panel])
def test_a_profile_that_is_none_is_refused(panel):
    with pytest.raises(InputError, match=r"^profile='huge' .*; there are smoke, quick, standard, paper$"):
        panel(profile="huge")


# --- the landscape ---


@pytest.fixture(scope="module")
def land():
    return LandscapePanel(generations=2)


def at(paths, generation, role, step):
    return paths[(paths["generation"] == generation) & (paths["role"] == role) & (paths["step"] == step)]


def survivors(paths, generation):
    return pd.concat([at(paths, generation, role, STEPS) for role in ("parent", "child")]).query("survived")


def test_a_journey_has_every_step_of_every_unit_and_goes_on_where_the_survivors_ended(land):
    paths = land.journey
    assert len(paths) == 2 * 2 * 4 * (STEPS + 1)
    assert not paths.duplicated(["generation", "role", "unit", "step"]).any()
    heights = [section41.landscape(one["w1"], one["w2"]) for one in (survivors(paths, 1), at(paths, 2, "parent", 0))]
    assert heights[1].tolist() == pytest.approx(sorted(heights[0]), abs=1e-6)


def test_the_frame_of_the_slider_is_drawn_and_described(land):
    expected = {
        0: "Generation 1 of 2: parents train, step 0 of 60.",
        16: "Generation 1 of 2: children are born",
        18: "Generation 1 of 2: children train, step 8 of 60.",
        65: "Generation 2 of 2: the fittest survive",
    }
    seen = {}
    for frame, words in expected.items():
        land.slider.value = frame
        assert words in land.status.value
        seen[frame] = land.picture.value
    assert len(set(seen.values())) == 4
    assert land.slider.max == land.play.max == 65
    land.slider.value = 0
    assert land.picture.value == seen[0], "a frame is the same picture again"


def test_starts_are_drawn_anew_by_the_settings_or_are_where_they_are_typed(land):
    before = land.journey
    land.controls["seed"].value = 1
    assert not land.journey[["w1", "w2"]].equals(before[["w1", "w2"]])
    land.controls["points"].value = " -1 2, 0.5 .5; 1e0 -1.5,"
    assert at(land.journey, 1, "parent", 0)[["w1", "w2"]].to_numpy().tolist() == [[-1, 2], [0.5, 0.5], [1, -1.5]]
    assert land.controls["starts"].disabled
    assert not land.controls["seed"].disabled, "the engine's streams follow from it too"
    for name, value in {"points": "", "seed": 0}.items():
        land.controls[name].value = value
    assert not land.controls["starts"].disabled
    pd.testing.assert_frame_equal(land.journey, before)


def test_points_that_cannot_be_read_are_said_in_red_and_the_panel_goes_on(land):
    for text in ("here, there", "1 2 0.5 0.5", "1 1, 0 3", "1 1, 0 nan", "1 1", ",", "0 0," * 31):
        land.controls["points"].value = text
        assert red(land)
        assert "points: " in unescape(land.status.value)
        land.slider.value = 1 - land.slider.value  # draws nothing, and does not fail
        assert land.picture.value == ""
    land.controls["points"].value = ""
    assert not red(land)
    assert land.picture.value


@pytest.mark.parametrize(("rate", "well"), [(0.0, LOCAL), (0.3, GLOBAL)])
def test_out_of_the_worst_valley_leads_mutation_alone(rate, well):
    """What the notebook says of it."""
    starts = [(-1.0 + 0.3 * x, -1.0 + 0.3 * y) for x, y in ((-0.5, -0.5), (0.5, -0.5), (-0.5, 0.5), (0.5, 0.5))]
    paths = section41.journey(starts, generations=5, seed=0, mutation_rate=rate)
    assert survivors(paths, 5)[["w1", "w2"]].max().tolist() == pytest.approx([well, well], abs=0.1)
