"""Results: how they show themselves, and what is loaded from a file is the result that was saved, or an error."""

import errno
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
import zoo
from matplotlib.figure import Figure
from torch import nn

import gadam
from gadam import InputError, Population, load_result, storage
from gadam.display import html_table

SAVED = Path(__file__).with_name("saved_result.safetensors")


@pytest.fixture(scope="module")
def result():
    return zoo.evolved(betas=(0.85, 0.99))


# --- what is shown ---


def shown(thing):
    page = ElementTree.fromstring(thing._repr_html_())
    return {row[0].text: row[1].text for row in page.iter("tr")}, page


def test_a_result_shows_a_table_and_its_losses_also_where_there_are_none(result):
    stop = threading.Event()
    stop.set()
    last = result.history[(result.history["generation"] == 2) & result.history["survived"]]
    lost = replace(result, history=result.history.assign(loss_survival=float("nan")))
    for each, loss, complete in (
        (result, f"{last['loss_survival'].min():.4g}", "2 of 2 (stopped: generations)"),
        (lost, "nan", "2 of 2 (stopped: generations)"),
        (zoo.evolved(stop=stop), "–", "0 of 2 (stopped: stop)"),
    ):
        rows, page = shown(each)
        assert list(rows.values())[:4] == ["Sequential", "3", complete, loss]
        assert len(list(page.iter("img"))) == (loss != "–")
        assert f"{complete}, best loss {loss}," in repr(each)


def test_names_of_the_user_are_text_and_no_html_and_of_a_deep_model_the_first_parameters_are_shown(result):
    evil = type("<script>alert('&')</script>", (zoo.Linear,), {})
    population = Population.make(evil, 2)
    for thing in (population, replace(result, best=population.unit(0), population=population)):
        rows, page = shown(thing)
        assert rows["model"] == evil.__name__
        assert not list(page.iter("script"))
    assert "<script" not in html_table({evil.__name__: evil.__name__}, evil.__name__)
    deep = Population.make(lambda: nn.Sequential(*(nn.Linear(2, 2) for _ in range(20))), 2)
    assert shown(deep)[0].items() >= {"units": "2", "0.weight": "[2, 2] float32", "...": "20 more parameters"}.items()
    assert repr(deep) == "Population(2 x Sequential, 120 learned entries each)"


def test_figures_are_on_the_axes_given_and_of_the_unit_given(result):
    axes = Figure().subplots(1, 3)
    for plot, ax in zip((result.plot, result.plot_family, result.plot_adoption), axes, strict=True):
        assert plot(ax=ax) is ax
    assert result.plot_family(ax=axes[0], unit=1).get_title() == "Family of the unit 1"


# --- files ---


def assert_same(loaded, saved):
    zoo.assert_same(loaded, saved)
    assert loaded.seconds == saved.seconds
    for kind in ("parameters", "buffers"):
        assert list(getattr(loaded.population, kind)) == list(getattr(saved.population, kind))
    assert not loaded.best.training


def odd(result):
    """Numbers that JSON has not, entries that share memory, and facts that are not at their defaults."""
    history = result.history.copy()
    history["loss_start"] = np.resize([np.nan, np.inf, -np.inf, 1 / 3, 5e-324, -0.0, 1e308, 0.1], len(history))
    history["extra"] = np.resize(np.array([0.1, np.nan], dtype=np.float32), len(history))
    history.loc[0, "role"] = 'a "role" \n ≠ ✓'
    entry = torch.tensor([np.nan, np.inf, -0.0, 1e-45]).expand(3, 4)
    population = replace(result.population, moments={"exp_avg/0.bias": entry, "exp_avg_sq/0.bias": entry})
    facts = {"targets": "values", "stopped": "converged", "gradient_steps": 7, "seconds": 1.5}
    return replace(result, history=history, population=population, **facts)


@pytest.mark.parametrize(
    ("make", "inputs"),
    [
        (zoo.Tied, zoo.FEATURES), (zoo.batchnorm_mlp, zoo.FEATURES), (zoo.frozen_mlp, zoo.FEATURES),
        (zoo.channels_last_cnn, zoo.IMAGES), (zoo.Temperature, zoo.FEATURES), (zoo.Counting, zoo.FEATURES),
        (zoo.mlp, zoo.FEATURES),
    ],
)  # fmt: skip
def test_what_is_loaded_is_what_was_saved_and_nothing_is_unpickled(make, inputs, tmp_path, monkeypatch):
    saved = zoo.evolved(make, (inputs, zoo.LABELS), moments="carry", betas=(0.85, 0.99))
    assert saved.population.moments
    saved = odd(saved) if make is zoo.mlp else saved
    saved.save(str(tmp_path / "deep" / "result"))
    assert os.listdir(tmp_path / "deep") == ["result"]
    for name in ("pickle.load", "pickle.loads", "pickle.Unpickler", "torch.load"):
        monkeypatch.setattr(name, None)
    assert_same(load_result(tmp_path / "deep" / "result", make), saved)


def test_a_file_that_an_older_gadam_saved_is_loaded(tmp_path):
    """Its numbers were printed by the gadam that wrote it."""
    loaded = load_result(SAVED, zoo.batchnorm_mlp)
    facts = (loaded.stopped, loaded.gradient_steps, loaded.targets, loaded.config.betas)
    assert facts == ("generations", 24, "classes", (0.85, 0.99))
    assert loaded.history["loss_survival"].tolist()[:3] == pytest.approx([1.2496412992, 1.1974270344, 1.2058444023])
    with torch.no_grad():
        said, votes = loaded.best(zoo.FEATURES[:2])[0], loaded.ensemble()(zoo.FEATURES[:2])[0]
    assert said.tolist() == pytest.approx([0.73463935, -0.36477089, -0.01297095], abs=1e-5)
    assert votes.tolist() == pytest.approx([0.55313015, 0.18637756, 0.26049232], abs=1e-5)
    loaded.save(tmp_path / "again")
    assert_same(load_result(tmp_path / "again", zoo.batchnorm_mlp), loaded)


def test_of_a_checkpoint_the_facts_are_those_of_its_training(tmp_path):
    rows, callbacks = (zoo.FEATURES, zoo.VALUES), [gadam.EarlyStopping(patience=1, min_delta=1e9)]
    given = {"loss": nn.functional.mse_loss, "checkpoint": tmp_path / "state", "validation": rows}
    result = zoo.evolved(zoo.regression, rows, generations=3, callbacks=callbacks, **given)
    loaded = load_result(tmp_path / "state", zoo.regression)
    assert (loaded.targets, loaded.stopped, loaded.gradient_steps) == ("values", "callback", result.gradient_steps)


def test_a_new_result_replaces_an_old_one_also_through_a_link_and_nothing_else(result, tmp_path):
    result.save(tmp_path / "first")
    (tmp_path / "latest").symlink_to("first")
    for name in (".first.old.tmp", ".first.new.tmp", "text"):  # left by writers that were killed, or of one at work
        (tmp_path / name).write_text("mine")
    os.utime(tmp_path / ".first.old.tmp", (0, 0))
    other = replace(result, seconds=1.5)
    other.save(tmp_path / "latest")
    assert (tmp_path / "latest").is_symlink()
    assert_same(load_result(tmp_path / "first", zoo.mlp), other)
    assert (tmp_path / "first").stat().st_mode == (tmp_path / "text").stat().st_mode, "others may read it"
    (tmp_path / ".text.new.tmp").write_text("mine")
    os.utime(tmp_path / ".text.new.tmp", (0, 0))
    for name in ("*", "a**b"):  # which are names, and no patterns
        other.save(tmp_path / name)
        (tmp_path / name).unlink()
    (tmp_path / ".text.new.tmp").unlink()
    (tmp_path / "folder").mkdir()
    storage.write(tmp_path / "checkpoint", "checkpoint", {}, {})
    before = [(tmp_path / name).read_bytes() for name in ("text", "checkpoint")]
    for name in ("text", "folder", "checkpoint"):
        with pytest.raises(InputError, match=r"^path=.*; give another path$"):
            result.save(tmp_path / name)
    assert [(tmp_path / name).read_bytes() for name in ("text", "checkpoint")] == before
    assert sorted(os.listdir(tmp_path)) == [".first.new.tmp", "checkpoint", "first", "folder", "latest", "text"]


@pytest.mark.parametrize("where", ["json.dumps", "os.fsync", "os.replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=repr)
def test_a_failure_in_the_middle_leaves_the_old_result(result, where, error, tmp_path, monkeypatch):
    result.save(tmp_path / "result")

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(f"gadam.storage.{where}", fail)
    with pytest.raises((InputError, type(error))):
        replace(result, seconds=1.5).save(tmp_path / "result")
    monkeypatch.undo()
    assert_same(load_result(tmp_path / "result", zoo.mlp), result)
    assert os.listdir(tmp_path) == ["result"]


@pytest.mark.parametrize(
    ("kind", "facts"),
    [
        ("result", {}), ("result", {"model": "M", "config": {"learning_rat": 1}}),
        ("result", {"model": "M", "config": {}, "history": 3}),
        ("checkpoint", {}), ("checkpoint", {"courses": []}), ("checkpoint", {"courses": 3}),
    ],
)  # fmt: skip
def test_a_whole_file_of_something_else_or_of_another_version_is_refused(kind, facts, result, tmp_path, monkeypatch):
    path, tensors = tmp_path / "result", {f"parameters/{n}": one for n, one in result.population.parameters.items()}
    storage.write(path, kind, facts, tensors)
    assert "is damaged" in zoo.complaint(load_result, path, zoo.mlp)
    storage.write(path, "memory", facts, tensors)
    assert "holds a memory, must be a result" in zoo.complaint(load_result, path, zoo.mlp)
    for version, which in ((7, "a newer"), (1, "an older")):
        with monkeypatch.context() as other:
            other.setattr(storage, "FORMAT", version)
            storage.write(path, kind, facts, tensors)
        assert f"install {which} gadam" in zoo.complaint(load_result, path, zoo.mlp)


OTHER_MODELS = {
    "shape": (lambda: nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 3)), ["0.weight", "[9, 4]", "[8, 4]"]),
    "type": (lambda: zoo.mlp().double(), ["0.weight", "float64", "float32"]),
    "fewer": (lambda: zoo.mlp()[:1], ["2.bias", "missing", "[3]"]),
    "more": (lambda: nn.Sequential(*zoo.mlp(), nn.BatchNorm1d(3)), ["3.weight", "missing", "[3]"]),
    "buffers": (lambda: nn.Sequential(*zoo.mlp(), nn.BatchNorm1d(3, affine=False)), ["3.running_mean", "missing"]),
    "activation": (lambda: zoo.mlp(nn.Tanh()), ["Tanh()", "ReLU()"]),
    "frozen": (zoo.frozen_mlp, ["0.bias", "missing", "parameters"]),
}


@pytest.mark.parametrize("kind", OTHER_MODELS)
def test_a_module_that_does_not_fit_is_told_by_its_first_difference(kind, result, tmp_path):
    make, parts = OTHER_MODELS[kind]
    result.save(tmp_path / "result")
    message = zoo.complaint(load_result, tmp_path / "result", make)
    assert all(part in message for part in ["make_model", *parts]), message


# --- the package ---


def test_importing_gadam_is_light_and_names_come_when_asked_for():
    assert set(gadam.__all__) <= set(dir(gadam))
    assert all(getattr(gadam, name) is not None for name in gadam.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        gadam.Nothing  # noqa: B018
    code = """
import sys, gadam, gadam.plotting
print([name for name in ("matplotlib", "seaborn", "sklearn", "IPython", "ipywidgets") if name in sys.modules])
sys.modules["sklearn"] = None
try:
    gadam.GADAMRegressor
except ImportError as error:
    print(error)
"""
    light, said = subprocess.check_output([sys.executable, "-c", code], text=True).splitlines()
    assert light == "[]"
    assert all(words in said for words in ("needs scikit-learn", "pip install"))
