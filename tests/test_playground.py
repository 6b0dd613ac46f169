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

from gadam import Callback, GadamConfig, InputError
from gadam.datasets import StandInWarning
from gadam.paper.section41 import GLOBAL, LOCAL, STEPS
from gadam.playground import LandscapePanel, TrainingPanel, landscape, landscape_panel, training, training_panel
from gadam.playground import canvas as canvas_module
from gadam.training.batches import BLOCK

SMALL = {"population_size": 2, "generations": 2, "steps": 5, "batch_size": 16}
ENDLESS = {"population_size": 4, "generations": 3, "steps": 1_000_000}
AT_ONCE = 4 * BLOCK  # steps of so few units that are under way when a stop is asked for, in shards of one at most


@pytest.fixture
def panel():
    made = TrainingPanel()
    yield made
    made.stop()
    assert made.wait(60)


def press(panel, **settings):
    for name, value in settings.items():
        panel.controls[name].value = value
    panel.run_button.click()


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.01)


@pytest.fixture
def slow_load(monkeypatch):
    """Data that comes when it may: the event that it is waited for, and the one that lets it come."""
    loading, go_on = threading.Event(), threading.Event()
    load = training.load_dataset

    def slowly(name, data):
        loading.set()
        assert go_on.wait(60)
        return load(name, data)

    monkeypatch.setattr(training, "load_dataset", slowly)
    return loading, go_on


@pytest.fixture
def steps(monkeypatch):
    """Every step of every shard, as it is taken."""
    taken, evolve = [], training.evolve

    def counted(*given, record, **named):
        return evolve(*given, record=lambda step: (record(step), taken.append(step.number)), **named)

    monkeypatch.setattr(training, "evolve", counted)
    return taken


def red(panel):
    return "#b00020" in panel.status.value


# --- the training panel ---


def test_run_trains_in_a_thread_and_leaves_a_result(panel, slow_load):
    assert panel.result is None
    assert panel.stop_button.disabled
    press(panel, **SMALL, mutation="normal", moments="carry", learning_rate=0.01)
    loading, go_on = slow_load
    assert loading.wait(60)
    assert panel.run_button.disabled
    assert not panel.stop_button.disabled
    go_on.set()
    assert panel.wait(60)
    assert panel.result.stopped == "generations"
    assert len(panel.result.history) == 2 * 2 * 2
    config = panel.result.config
    assert (config.mutation, config.moments, config.learning_rate, config.batch_size) == ("normal", "carry", 0.01, 16)
    assert panel.result.best(torch.zeros(1, 1, 8, 8)).shape == (1, 10)
    titles = ["Loss of every unit", "Family of the fittest unit", "Right on the test rows", "Adoption of children"]
    assert re.findall('<img alt="([^"]*)"', panel.picture.value) == titles
    assert "Done: 2 of 2 generations" in panel.status.value
    assert "1,437 rows to train with, 360 to test with" in panel.about.value
    assert (panel.bar.value, panel.bar.max) == (40, 40)
    assert panel.stop_button.disabled
    assert not panel.run_button.disabled
    assert panel.error == ""


def test_settings_that_are_shown_first_are_those_of_the_paper_where_it_has_any(panel):
    default = asdict(GadamConfig())
    for name in ("batch_size", "learning_rate", "mutation_rate", "mutation", "moments", "seed"):
        assert panel.controls[name].value == default[name]
    assert set(panel.controls) <= {"dataset", "model", *default}


def test_stop_acts_in_the_middle_of_the_first_generation(panel, steps):
    press(panel, **ENDLESS)
    until(lambda: panel.bar.value > 0)
    panel.run_button.click()  # does nothing
    said = []
    panel.status.observe(lambda change: said.append(change["new"]), "value")
    panel.stop_button.click()
    taken = len(steps)
    assert panel.wait(60)
    assert "Stopping" in said[0]
    assert len(steps) - taken <= AT_ONCE
    assert panel.result.stopped == "stop"
    assert panel.result.history.empty
    assert len(panel.result.population) == 4
    assert "Stopped before the first generation was complete" in panel.status.value
    assert not red(panel)
    assert not panel.run_button.disabled


def test_stop_keeps_the_generations_that_are_complete_and_the_panel_runs_again(panel, steps, monkeypatch):
    shown = threading.Event()
    show = panel.show
    monkeypatch.setattr(panel, "show", lambda pictures: (show(pictures), shown.set()))
    press(panel, **SMALL | {"generations": 100_000})
    assert shown.wait(60)
    panel.stop_button.click()
    taken = len(steps)
    assert panel.wait(60)
    assert len(steps) - taken <= AT_ONCE
    done = panel.result.history["generation"].max()
    assert panel.result.stopped == "stop"
    assert len(panel.result.history) == 4 * done
    assert f"Stopped after {done} of 100000 generations" in panel.status.value
    assert panel.picture.value
    press(panel, generations=1)
    assert panel.wait(60)
    assert panel.result.stopped == "generations"


def test_stop_before_the_data_is_there(panel, slow_load):
    loading, go_on = slow_load
    press(panel, **SMALL)
    assert loading.wait(60)
    assert "Loading digits" in panel.status.value
    panel.stop_button.click()
    go_on.set()
    assert panel.wait(60)
    assert panel.result is None
    assert "Stopped before the training began" in panel.status.value


def test_what_is_prepared_is_no_longer_loaded(panel, monkeypatch):
    said = []

    def evolve(*_, **__):
        said.append(panel.status.value)
        raise InputError("enough")

    monkeypatch.setattr(training, "evolve", evolve)
    press(panel, **SMALL)
    assert panel.wait(60)
    assert ["Preparing the first step" in each for each in said] == [True]


def test_a_generation_begins_with_its_first_step_and_until_then_it_is_prepared(panel, monkeypatch):
    said = []
    evolve = training.evolve

    def watched(*given, record, callbacks, **others):
        class Watch(Callback):
            def on_start(self, config, population):
                said.append(panel.status.value)

        def then(step):
            record(step)
            said.append(panel.status.value)

        return evolve(*given, record=then, callbacks=[*callbacks, Watch()], **others)

    monkeypatch.setattr(training, "evolve", watched)
    press(panel, **SMALL | {"generations": 1})
    assert panel.wait(60)
    assert "Preparing the first step" in said[0]
    assert all("Generation 1 of 1" in each for each in said[1:])
    assert len(said) > 1


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"population_size": 1}, "population_size=1 leaves nothing to select from"),
        ({"population_size": 10**7}, "population g: 10,000,000 is more than this panel takes, give at most 200"),
        ({"batch_size": 10**9}, "batch size: 1,000,000,000 is more than this panel takes, give at most 10,000"),
        ({"learning_rate": -1.0}, "GadamConfig: learning_rate=-1.0 is not allowed"),
        ({"mutation_rate": 2.0}, "GadamConfig: mutation_rate=2.0 is not allowed"),
    ],
)
def test_a_setting_that_is_not_allowed_is_said_in_red(panel, setting, said):
    press(panel, **SMALL | setting)
    assert panel.wait(60)
    assert red(panel)
    assert said in panel.status.value
    assert panel.result is None
    assert not panel.run_button.disabled


def test_a_run_that_cannot_begin_leaves_the_result_of_the_one_before(panel, monkeypatch):
    press(panel, **SMALL)
    assert panel.wait(60)
    before, picture = panel.result, panel.picture.value
    press(panel, population_size=1)
    assert panel.wait(60)
    assert "population_size=1" in panel.status.value
    assert "population_size=1" in panel.error

    def fails(*_):
        raise InputError("no data today")

    monkeypatch.setattr(training, "load_dataset", fails)
    press(panel, population_size=2)
    assert panel.wait(60)
    assert "no data today" in panel.status.value
    assert panel.result is before is not None
    assert panel.picture.value == picture


def test_data_that_is_missing_is_said_in_red(tmp_path, monkeypatch):
    monkeypatch.setenv("GADAM_DATA", str(tmp_path))
    monkeypatch.setattr("gadam.datasets.loading.download_once", lambda name, root: "there is no <network>")
    training.load_dataset.cache_clear()
    panel = TrainingPanel(data="real")
    press(panel, **SMALL, dataset="yeast")
    assert panel.wait(60)
    assert red(panel)
    assert "yeast: data='real', but it is not in" in unescape(panel.status.value)
    assert "&lt;network&gt;" in panel.status.value


@pytest.mark.parametrize("data", ["auto", "standin"])
def test_a_stand_in_says_so_in_the_panel_at_every_run(tmp_path, monkeypatch, data):
    monkeypatch.setenv("GADAM_DATA", str(tmp_path))
    monkeypatch.setattr("gadam.datasets.loading.download_once", lambda name, root: "there is no network")
    training.load_dataset.cache_clear()
    panel = TrainingPanel(data=data)
    for _ in range(2):
        press(panel, **SMALL | {"generations": 1}, dataset="yeast")
        assert panel.wait(60)
        assert "STAND-IN DATA for yeast" in panel.about.value
        assert panel.result is not None
    training.load_dataset.cache_clear()


def test_a_failure_of_the_training_is_said_in_red_with_its_kind(panel, monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("out of\nmemory & more")

    monkeypatch.setattr(training, "evolve", fails)
    press(panel, **SMALL)
    assert panel.wait(60)
    assert red(panel)
    assert "RuntimeError: out of memory &amp; more" in panel.status.value
    assert panel.error == "out of\nmemory & more"


def test_lenet_is_offered_for_mnist_alone_and_fits_it(panel):
    assert panel.controls["model"].options == ("MLP",)
    panel.controls["dataset"].value = "mnist"
    assert panel.controls["model"].options == ("MLP", "LeNet-5")
    panel.controls["model"].value = "LeNet-5"
    panel.controls["dataset"].value = "letter"
    assert panel.controls["model"].value == "MLP"


@pytest.mark.parametrize("name", training.DATASETS)
def test_every_model_that_is_offered_fits_its_data(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StandInWarning)
        dataset, said = training.load_dataset(name, "standin")
    assert bool(said) == (name != "digits")
    panel = TrainingPanel()
    panel.controls["dataset"].value = name
    for model in panel.controls["model"].options:
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


def test_a_panel_that_another_replaces_stops(monkeypatch):
    monkeypatch.setattr(training, "front_end", lambda: "notebook")
    first = training_panel()
    press(first, **ENDLESS)
    until(lambda: first.bar.value > 0)
    assert first.running
    second = training_panel()
    assert first.wait(60)
    assert first.result.stopped == "stop"
    assert not second.running


def test_without_a_front_end_a_failure_is_raised(monkeypatch):
    def fails(*_, **__):
        raise InputError("no data today")

    monkeypatch.setattr(training, "load_dataset", fails)
    with pytest.raises(InputError, match=r"^training_panel: no data today$"):
        training_panel()


@pytest.mark.parametrize("panel", [training_panel, landscape_panel])
def test_a_profile_that_is_none_is_refused(panel):
    with pytest.raises(InputError, match=r"^profile='huge' is not a profile; there are smoke, quick, standard, paper$"):
        panel(profile="huge")


# --- the landscape ---


@pytest.fixture(scope="module")
def land():
    return LandscapePanel(generations=2)


def test_a_journey_has_every_step_of_every_unit(land):
    paths = land.journey
    assert len(paths) == 2 * 2 * 4 * (STEPS + 1)
    assert not paths.duplicated(["generation", "role", "unit", "step"]).any()
    starts = landscape.starting_points(4, (0, 0), 2.0, 0)
    first = paths[(paths["generation"] == 1) & (paths["role"] == "parent") & (paths["step"] == 0)]
    assert first[["w1", "w2"]].to_numpy().tolist() == [list(one) for one in starts]


def test_units_begin_a_generation_where_the_survivors_ended_the_one_before(land):
    paths = land.journey.assign(f=section41_values(land.journey))
    ended = paths[(paths["generation"] == 1) & (paths["step"] == STEPS) & paths["survived"]].sort_values("f")
    begun = paths[(paths["generation"] == 2) & (paths["role"] == "parent") & (paths["step"] == 0)]
    assert len(ended) == len(begun) == 4
    assert begun["f"].to_numpy() == pytest.approx(ended["f"].to_numpy(), abs=1e-6)


def section41_values(paths):
    return sum((paths[w] ** 2 - 1) ** 2 - 0.3 * paths[w] for w in ("w1", "w2"))


def test_the_frame_of_the_slider_is_drawn_and_described(land):
    seen = set()
    expected = {
        0: "Generation 1 of 2: parents train, step 0 of 60.",
        16: "Generation 1 of 2: children are born",
        32: "Generation 1 of 2: the fittest survive",
        65: "Generation 2 of 2: the fittest survive",
    }
    for frame, words in expected.items():
        land.slider.value = frame
        assert words in land.status.value
        seen.add(land.picture.value)
    assert len(seen) == 4
    assert land.slider.max == land.play.max == 65
    land.slider.value = 0
    assert land.picture.value in seen, "a frame is the same picture again"


def test_another_setting_places_the_starts_anew(land):
    before = land.journey
    land.controls["seed"].value = 1
    assert not land.journey[["w1", "w2"]].equals(before[["w1", "w2"]])
    land.controls["starts"].value = 6
    assert land.journey["unit"].nunique() == 6
    land.controls["seed"].value = 0
    land.controls["starts"].value = 4
    pd.testing.assert_frame_equal(land.journey, before)


def test_starts_are_where_they_are_typed():
    panel = LandscapePanel(generations=1)
    drawn = panel.journey
    points = panel.controls["points"]
    points.value = " -1 2, 0.5 .5; 1e0 -1.5,"
    placed = panel.journey
    first = placed[(placed["role"] == "parent") & (placed["step"] == 0)]
    assert first[["w1", "w2"]].to_numpy().tolist() == [[-1, 2], [0.5, 0.5], [1, -1.5]]
    assert panel.controls["starts"].disabled
    assert not panel.controls["seed"].disabled, "the engine's streams follow from it too"
    points.value = ""
    assert not panel.controls["starts"].disabled
    pd.testing.assert_frame_equal(panel.journey, drawn)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("here, there", "points: 'here' is not two numbers, as in -1 2, 0.5 0.5"),
        ("1 2 0.5 0.5", "points: '1 2 0.5 0.5' is not two numbers, as in -1 2, 0.5 0.5"),
        ("1 1, 0 3", "points: '0 3' is out of the picture, give numbers in -2 to 2"),
        ("1 1, 0 nan", "points: '0 nan' is out of the picture, give numbers in -2 to 2"),
        ("1 1", "points: 1 given, must be 2 to 30"),
        (",", "points: 0 given, must be 2 to 30"),
        ("0 0," * 31, "points: 31 given, must be 2 to 30"),
    ],
)
def test_points_that_cannot_be_read_are_said_in_red(text, message):
    panel = LandscapePanel(generations=1)
    panel.controls["points"].value = text
    assert red(panel)
    assert message in unescape(panel.status.value)
    assert panel.picture.value == ""


def test_the_global_minimum_is_seen_under_the_units_that_end_there(land):
    canvas, paths = canvas_module.Canvas(False), land.journey
    crowd = paths.assign(w1=GLOBAL, w2=GLOBAL, survived=True)
    with_star = canvas.png(crowd, (1, "survival", STEPS))
    canvas._star.set_visible(False)
    assert with_star != canvas.png(crowd, (1, "survival", STEPS))
    canvas._star.set_visible(True)
    assert with_star == canvas.png(crowd, (1, "survival", STEPS)), "in every frame"


def test_what_goes_wrong_on_the_landscape_is_said_in_red(monkeypatch):
    panel = LandscapePanel(generations=1)

    def fails(*_, **__):
        raise InputError("no way")

    monkeypatch.setattr(landscape, "journey", fails)
    panel.controls["seed"].value = 5
    assert red(panel)
    assert "no way" in panel.status.value
    panel.slider.value = 0  # draws nothing, and does not fail
    assert panel.picture.value == ""
    monkeypatch.undo()
    panel.controls["seed"].value = 6
    assert not red(panel)
    assert panel.picture.value


def test_out_of_the_worst_valley_leads_mutation_alone():
    """What the notebook says of it."""
    starts = landscape.starting_points(4, (-1.0, -1.0), 0.3, 0)

    def best(rate):
        paths = landscape.journey(starts, generations=5, seed=0, mutation_rate=rate)
        ends = paths[(paths["generation"] == 5) & (paths["step"] == STEPS) & paths["survived"]]
        return ends[["w1", "w2"]].to_numpy().max(0)

    assert best(0.0) == pytest.approx([LOCAL, LOCAL], abs=0.1)
    assert best(0.3) == pytest.approx([GLOBAL, GLOBAL], abs=0.1)
