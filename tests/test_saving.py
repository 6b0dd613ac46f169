"""A result on disk is the result that was saved, or an error that says what is wrong with it."""

import json
import os
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import zoo
from torch import nn

import gadam
from gadam import GadamConfig, InputError, evolve, load_result, saving


def settings(**changed):
    default = {"population_size": 3, "generations": 2, "steps": 3, "batch_size": 8, "validation_size": 16}
    return GadamConfig(**default | {"mode": "loop", "betas": (0.85, 0.99)} | changed)


def run(make=zoo.mlp, inputs=zoo.FEATURES, **changed):
    return evolve(make, (inputs, zoo.LABELS), settings(**changed), executor=1, progress=False)


@pytest.fixture(scope="module")
def result():
    return run()


def assert_same(loaded, saved):
    for kind in ("parameters", "buffers", "moments"):
        ours, theirs = getattr(loaded.population, kind), getattr(saved.population, kind)
        assert list(ours) == list(theirs) if kind != "moments" else set(ours) == set(theirs)
        for name, tensor in theirs.items():
            assert ours[name].dtype == tensor.dtype
            assert ours[name].contiguous().numpy().tobytes() == tensor.contiguous().numpy().tobytes(), name
    pd.testing.assert_frame_equal(loaded.history, saved.history, check_exact=True)
    assert list(loaded.history.dtypes) == list(saved.history.dtypes)
    assert loaded.config == saved.config
    for name in ("stopped", "gradient_steps", "seconds"):
        assert getattr(loaded, name) == getattr(saved, name)
    assert zoo.identical(loaded.best.state_dict(), saved.population.unit(0).state_dict())
    assert not loaded.best.training


def complaint(path, make=zoo.mlp):
    with pytest.raises(InputError) as caught:
        load_result(path, make)
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- exactness ---


@pytest.mark.parametrize(
    ("make", "inputs"),
    [
        (zoo.mlp, zoo.FEATURES), (zoo.Tied, zoo.FEATURES), (zoo.batchnorm_mlp, zoo.FEATURES),
        (zoo.frozen_mlp, zoo.FEATURES), (zoo.channels_last_cnn, zoo.IMAGES), (zoo.Temperature, zoo.FEATURES),
        (zoo.Counting, zoo.FEATURES),
    ],
)  # fmt: skip
def test_what_is_loaded_is_what_was_saved(make, inputs, tmp_path):
    saved = run(make, inputs, moments="carry")
    assert saved.population.moments
    saved.save(tmp_path / "deep" / "result")
    assert_same(load_result(tmp_path / "deep" / "result", make), saved)
    assert sorted(os.listdir(tmp_path / "deep" / "result")) == ["population.safetensors", "result.json"]
    assert os.listdir(tmp_path / "deep") == ["result"]


def test_numbers_that_json_has_not_and_entries_that_share_memory(result, tmp_path):
    history = result.history.copy()
    history["loss_start"] = np.resize([np.nan, np.inf, -np.inf, 1 / 3, 5e-324, -0.0, 1e308, 0.1], len(history))
    history["extra"] = np.resize(np.array([0.1, np.nan], dtype=np.float32), len(history))
    history.loc[0, "role"] = 'a "role" \n ≠ ✓'
    odd = torch.tensor([np.nan, np.inf, -0.0, 1e-45]).expand(3, 4)
    population = replace(result.population, moments={"exp_avg/0.bias": odd, "exp_avg_sq/0.bias": odd})
    saved = replace(result, history=history, population=population)
    saved.save(tmp_path / "result")
    loaded = load_result(tmp_path / "result", zoo.mlp)
    assert_same(loaded, saved)
    assert np.signbit(loaded.history["loss_start"][5])


def test_a_loaded_result_predicts_and_goes_on(result, tmp_path):
    result.save(str(tmp_path / "result"))
    loaded = load_result(str(tmp_path / "result"), zoo.mlp)
    torch.testing.assert_close(loaded.ensemble()(zoo.FEATURES), result.ensemble()(zoo.FEATURES), rtol=0, atol=0)
    loaded.save(tmp_path / "again")
    assert_same(load_result(tmp_path / "again", zoo.mlp), result)


def test_nothing_is_unpickled(result, tmp_path, monkeypatch):
    result.save(tmp_path / "result")
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(f"pickle.{name}", None)
    monkeypatch.setattr(torch, "load", None)
    assert_same(load_result(tmp_path / "result", zoo.mlp), result)


# --- replacing ---


def test_a_new_result_replaces_an_old_one(result, tmp_path):
    result.save(tmp_path / "result")
    other = run(seed=1)
    other.save(tmp_path / "result")
    assert_same(load_result(tmp_path / "result", zoo.mlp), other)
    assert os.listdir(tmp_path) == ["result"]


@pytest.mark.parametrize("where", ["_sha256", "_column", "_flush", "os.rename"])
@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()])
def test_a_failure_in_the_middle_leaves_the_old_result(result, where, error, tmp_path, monkeypatch):
    result.save(tmp_path / "result")
    other = run(seed=1)
    real = os.rename

    def fail(*given):
        if where == "os.rename" and given[0].name != "new":
            return real(*given)  # the old one steps aside, and back
        raise error

    monkeypatch.setattr(f"gadam.saving.{where}", fail)
    with pytest.raises(type(error)):
        other.save(tmp_path / "result")
    monkeypatch.undo()
    assert_same(load_result(tmp_path / "result", zoo.mlp), result)
    assert os.listdir(tmp_path) == ["result"]


@pytest.mark.parametrize("kind", ["file", "empty folder", "folder of mine", "result with a file of mine"])
def test_what_is_no_result_is_not_replaced(kind, result, tmp_path):
    path = tmp_path / "mine"
    if kind == "file":
        path.write_text("mine")
    elif kind.startswith("result"):
        result.save(path)
        (path / "notes.txt").write_text("mine")
    else:
        path.mkdir()
        if kind != "empty folder":
            (path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="is there and is no saved result") as caught:
        result.save(path)
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["mine"]
    kept = path if kind == "file" else path / "notes.txt"
    assert kind == "empty folder" or kept.read_text() == "mine"


def test_a_link_to_a_result_stays_a_link(result, tmp_path):
    result.save(tmp_path / "first")
    (tmp_path / "latest").symlink_to("first")
    other = run(seed=1)
    other.save(tmp_path / "latest")
    assert (tmp_path / "latest").is_symlink()
    assert_same(load_result(tmp_path / "first", zoo.mlp), other)


# --- what cannot be loaded ---


def test_a_path_that_is_not_there_or_no_result(tmp_path):
    assert "does not exist" in complaint(tmp_path / "nowhere")
    assert "is no saved result" in complaint(tmp_path)
    (tmp_path / "file").write_text("text")
    assert "is no saved result" in complaint(tmp_path / "file")


def test_a_newer_format(result, tmp_path):
    result.save(tmp_path / "result")
    file = tmp_path / "result" / saving.FACTS
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 7}))
    assert "has format 7" in complaint(tmp_path / "result")


@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: content[:-1] + b"?", lambda _: b""])
def test_damaged_tensors(result, damage, tmp_path):
    result.save(tmp_path / "result")
    file = tmp_path / "result" / saving.TENSORS
    file.write_bytes(damage(file.read_bytes()))
    assert "is damaged: population.safetensors" in complaint(tmp_path / "result")


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: "{",
        lambda _: "[]",
        lambda _: "{}",
        lambda facts: json.dumps({name: each for name, each in json.loads(facts).items() if name != "history"}),
        lambda facts: json.dumps(json.loads(facts) | {"config": {"learning_rat": 1}}),
        lambda facts: json.dumps(json.loads(facts) | {"history": {"generation": {"dtype": "int64", "values": ["x"]}}}),
    ],
)
def test_damaged_facts(result, damage, tmp_path):
    result.save(tmp_path / "result")
    file = tmp_path / "result" / saving.FACTS
    file.write_text(damage(file.read_text()))
    assert "is damaged: result.json" in complaint(tmp_path / "result")


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 3)), ["0.weight", "[9, 4]", "[8, 4]"]),
        (lambda: zoo.mlp().double(), ["0.weight", "float64", "float32"]),
        (lambda: zoo.mlp()[:1], ["2.bias", "missing", "[3]"]),
        (lambda: nn.Sequential(*zoo.mlp(), nn.BatchNorm1d(3)), ["3.weight", "missing", "[3]"]),
        (lambda: nn.Sequential(*zoo.mlp(), nn.BatchNorm1d(3, affine=False)), ["3.running_mean", "missing"]),
        (zoo.frozen_mlp, ["0.weight", "missing", "parameters"]),
        (zoo.mlp(), ["make_model"]),
    ],
    ids=["shape", "dtype", "fewer", "more", "buffers", "frozen", "module"],
)
def test_a_module_that_does_not_fit(result, make, parts, tmp_path):
    result.save(tmp_path / "result")
    message = complaint(tmp_path / "result", make)
    assert all(part in message for part in parts), message
    assert gadam.load_result is load_result
