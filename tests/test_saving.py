"""A result on disk is the result that was saved, or an error that says what is wrong with it."""

import errno
import os
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import zoo
from torch import nn

import gadam
from gadam import GadamConfig, InputError, evolve, load_result, storage


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


@pytest.mark.parametrize("where", ["json.dumps", "os.fsync", "os.replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=repr)
def test_a_failure_in_the_middle_leaves_the_old_result(result, where, error, tmp_path, monkeypatch):
    result.save(tmp_path / "result")
    other = run(seed=1)

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(f"gadam.storage.{where}", fail)
    told = InputError if isinstance(error, OSError) and where != "json.dumps" else type(error)
    with pytest.raises(told) as caught:
        other.save(tmp_path / "result")
    monkeypatch.undo()
    if told is InputError:
        assert str(caught.value) == f"path={str(tmp_path / 'result')!r} cannot be written: No space left on device"
    assert_same(load_result(tmp_path / "result", zoo.mlp), result)
    assert os.listdir(tmp_path) == ["result"]


def test_what_a_killed_writer_left_behind_is_removed_later(result, tmp_path):
    old, new = (tmp_path / f".result.{name}.tmp" for name in ("old", "new"))
    for each in (old, new):
        each.write_text("half")
    os.utime(old, (0, 0))
    result.save(tmp_path / "result")
    assert sorted(os.listdir(tmp_path)) == [".result.new.tmp", "result"], "another may be writing now"


@pytest.mark.parametrize("kind", ["file", "folder", "checkpoint"])
def test_what_is_no_result_is_not_replaced(kind, result, tmp_path):
    path = tmp_path / "mine"
    if kind == "file":
        path.write_text("mine")
    elif kind == "folder":
        path.mkdir()
    else:
        storage.write(path, "checkpoint", {}, {})
    before = None if kind == "folder" else path.read_bytes()
    with pytest.raises(InputError, match="give another path") as caught:
        result.save(path)
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["mine"]
    assert path.is_dir() if before is None else path.read_bytes() == before


def test_a_link_to_a_result_stays_a_link(result, tmp_path):
    result.save(tmp_path / "first")
    (tmp_path / "latest").symlink_to("first")
    other = run(seed=1)
    other.save(tmp_path / "latest")
    assert (tmp_path / "latest").is_symlink()
    assert_same(load_result(tmp_path / "first", zoo.mlp), other)


# --- what cannot be loaded ---


def test_a_path_that_is_not_there_or_no_result(tmp_path):
    assert "cannot be read: No such file or directory" in complaint(tmp_path / "nowhere")
    assert "cannot be read: Is a directory" in complaint(tmp_path)
    (tmp_path / "file").write_text("text")
    assert "is damaged or no result of gadam" in complaint(tmp_path / "file")
    storage.write(tmp_path / "other", "memory", {}, {})
    assert "holds a memory, must be a result" in complaint(tmp_path / "other")
    for facts in ({}, {"courses": []}, {"courses": 3}):
        storage.write(tmp_path / "other", "checkpoint", facts, {})
        assert "is damaged" in complaint(tmp_path / "other")


def test_a_newer_format(result, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "FORMAT", 7)
    result.save(tmp_path / "result")
    monkeypatch.undo()
    assert "has format 7, this gadam reads format 2; install a newer gadam for it" in complaint(tmp_path / "result")


def test_others_may_read_it_as_they_may_any_file(result, tmp_path):
    result.save(tmp_path / "result")
    (tmp_path / "any").write_text("")
    assert (tmp_path / "result").stat().st_mode == (tmp_path / "any").stat().st_mode


def test_every_byte_counts(result, tmp_path):
    path = tmp_path / "result"
    result.save(path)
    content = path.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    for place in [*range(0, header, 37), content.index(b"result"), *range(header, len(content), 997), len(content) - 1]:
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert "is damaged" in complaint(path)
    for cut in (content[:-1], content[: header - 1], content[:7], b"", content + b" "):
        path.write_bytes(cut)
        assert "is damaged" in complaint(path)


@pytest.mark.parametrize(
    "facts",
    [{}, {"model": "Sequential", "config": {"learning_rat": 1}}, {"model": "Sequential", "config": {}, "history": 3}],
)
def test_a_file_with_a_right_hash_and_wrong_contents(result, facts, tmp_path):
    tensors = {f"parameters/{name}": entry for name, entry in result.population.parameters.items()}
    storage.write(tmp_path / "result", "result", facts, tensors)
    assert "is damaged" in complaint(tmp_path / "result")
    storage.write(tmp_path / "result", "result", {"model": "Sequential"}, {"other/weight": torch.zeros(1)})
    assert "is damaged" in complaint(tmp_path / "result")


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
