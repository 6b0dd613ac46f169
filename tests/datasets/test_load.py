"""Loaded datasets: splits, encodings, real data or stand-ins, and facts about the published files."""

import dataclasses
import functools
import hashlib
import warnings
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch

from gadam import InputError
from gadam.datasets import NAMES, SOURCES, StandInWarning, download, files, load, locate
from gadam.datasets.splits import encode_images, encode_table
from gadam.datasets.standins import standin

SHAPES = {  # name: training rows and test rows of the stand-in, shape of an instance
    "mnist": (1_437, 360, (1, 28, 28)),
    "orl": (200, 200, (1, 112, 92)),
    "yeast": (1_038, 446, (8,)),
    "adult": (32_561, 16_281, (108,)),
    "letter": (16_000, 4_000, (16,)),
}
made = functools.cache(lambda name: load(name, data="standin"))  # for tests that only look at it


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.train + one.test, other.train + other.test, strict=True))


def accuracy(data):
    """Share of 200 test rows that a simple method gets right: nearest row, for two classes least squares."""
    if data.class_count == 2:
        inputs, rows = (torch.nn.functional.pad(part[0], (1, 0), value=1.0) for part in (data.train, data.test))
        weights = torch.linalg.lstsq(inputs.T @ inputs + torch.eye(inputs.shape[1]), inputs.T @ (data.train[1] - 0.5))
        return ((rows @ weights.solution > 0) == data.test[1]).float().mean().item()
    distances = torch.cdist(data.test[0][:200].flatten(1), data.train[0].flatten(1))
    return (data.train[1][distances.argmin(1)] == data.test[1][:200]).float().mean().item()


@pytest.mark.parametrize("name", NAMES)
def test_a_stand_in_has_the_shape_of_the_real_and_can_be_learnt(name):
    data = made(name)
    train, test, shape = SHAPES[name]
    assert data.feature_shape == shape
    for (inputs, targets), rows in ((data.train, train), (data.test, test)):
        assert (inputs.shape, inputs.dtype, targets.shape, targets.dtype) == (
            (rows, *shape), torch.float32, (rows,), torch.int64,
        )  # fmt: skip
        assert inputs.isfinite().all()
    assert data.train[1].unique().tolist() == list(range(data.class_count))
    assert (data.classes, data.source) == (SOURCES[name].classes, "stand-in")
    assert f"{name} (stand-in)" in repr(data)
    assert name == "mnist" or train + test == SOURCES[name].rows
    chance = data.test[1].bincount().max().item() / len(data.test[1])
    assert chance + 0.05 < accuracy(data) < 0.99


@pytest.mark.parametrize("name", NAMES)
def test_a_stand_in_is_the_same_each_time(name):
    first, second = standin.__wrapped__(name), standin.__wrapped__(name)
    assert first == second
    assert made(name).hash == locate(name, data="standin").hash == first[1] != SOURCES[name].hash


@pytest.mark.parametrize("name", NAMES)
def test_the_training_part_is_standard_and_the_seed_draws_the_split_of_yeast_and_orl_alone(name):
    columns = slice({"adult": 6, "letter": 16, "yeast": 8}.get(name, 0))
    inputs = made(name).train[0].double()
    inputs = inputs[:, columns] if inputs.ndim == 2 else inputs.reshape(-1, 1)
    assert inputs.mean(0).abs().max() < 1e-5
    assert np.allclose(inputs.std(0, correction=0), 1, atol=1e-3)
    one, again, other = (load(name, data="standin", seed=seed) for seed in (1, 1, 2))
    assert same(one, again)
    assert same(one, other) is (name not in ("yeast", "orl"))
    assert one.hash == other.hash


@pytest.mark.parametrize("images", [1, 9])
def test_orl_has_so_many_images_of_each_person_and_none_twice(images):
    data = load("orl", data="standin", images_per_person=images, seed=4)
    assert data.train[1].bincount().tolist() == [images] * 40
    assert data.test[1].bincount().tolist() == [10 - images] * 40
    assert len({row.numpy().tobytes() for row in torch.cat([data.train[0], data.test[0]])}) == 400


def test_rows_of_tables_are_in_one_part_each_those_of_letter_in_order():
    yeast = load("yeast", data="standin", seed=3)
    labels = [line.split()[-1].decode() for line in standin("yeast")[0]["yeast.data"].splitlines()]
    drawn = [yeast.classes[target] for part in (yeast.train, yeast.test) for target in part[1]]
    assert Counter(drawn) == Counter(labels)
    letter = made("letter")
    labels = [line[:1].decode() for line in standin("letter")[0]["letter-recognition.data"].splitlines()]
    assert [letter.classes[target] for part in (letter.train, letter.test) for target in part[1]] == labels


def test_images_are_scaled_by_the_training_part_alone():
    train, test = torch.randint(0, 100, (20, 4, 3), dtype=torch.uint8), torch.full((5, 4, 3), 255, dtype=torch.uint8)
    inputs, held_out = encode_images(train, test)
    pixels = train.double() / 255
    assert torch.allclose(inputs.double().squeeze(1), (pixels - pixels.mean()) / pixels.std(correction=0), atol=1e-5)
    assert torch.allclose(held_out, ((1 - pixels.mean()) / pixels.std(correction=0)).float())
    assert encode_images(torch.full((2, 3, 3), 7, dtype=torch.uint8), test)[0].abs().max() < 1e-6  # of one colour


def test_tables_are_encoded_by_the_training_part_alone():
    train = pd.DataFrame({"age": [1.0, 3.0], "fnlwgt": [5.0, 5.0], "race": ["x", "?"]})
    test = pd.DataFrame({"age": [2.0, 100.0], "fnlwgt": [5.0, 6.0], "race": ["x", "Holand-Netherlands"]})
    inputs, held_out = encode_table(train, test)
    assert inputs.tolist() == [[-1, 0, 0, 1], [1, 0, 1, 0]]  # age, fnlwgt, "?", "x"
    assert held_out.tolist() == [[0, 0, 0, 1], [98, 1, 0, 0]]  # an unseen category is all zeros


def test_a_stand_in_for_want_of_data_is_loud_and_an_error_where_the_real_is_asked_for(tmp_path):
    with pytest.warns(StandInWarning, match=f"STAND-IN DATA for yeast: it is not in {tmp_path} and downloads are") as w:
        data = load("yeast", folder=tmp_path)
    assert w[0].filename == __file__
    assert data.source == "stand-in"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(load("yeast", data="standin", folder=tmp_path), data)  # asked for: no warning
    for door in (load, locate):
        with pytest.raises(InputError) as refused:
            door("orl", data="real", folder=tmp_path)
        for word in ("orl: data='real'", str(tmp_path), "GADAM_OFFLINE", "data/README.md", "GADAM_DATA", "'standin'"):
            assert word in str(refused.value)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_in_the_folder_is_loaded_without_a_download(name, publish, put, tmp_path, monkeypatch):
    put(name, publish(name))
    monkeypatch.setattr(download, "download", None)
    monkeypatch.setenv("GADAM_DATA", str(tmp_path))
    data, located = load(name), locate(name, data="real", folder=tmp_path)
    assert data.source == located.source == located.choice == "real"
    assert data.hash == located.hash == locate(name).hash
    assert located.path == tmp_path / SOURCES[name].folder
    assert locate(name, data="standin").source == "stand-in"
    assert same(data, made(name))


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"name": "cifar"}, "name='cifar'"), ({"name": None}, "name=None"), ({"data": "fake"}, "data='fake'"),
        ({"images_per_person": 10}, "images_per_person=10"), ({"images_per_person": 0}, "images_per_person=0"),
        ({"seed": -1}, "seed=-1"), ({"seed": 0.5}, "seed=0.5"), ({"data": "auto", "folder": 7}, "folder=7"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused(arguments, name):
    with pytest.raises(InputError, match=rf"^{name} ") as refused:
        load(**{"name": "orl", "data": "standin"} | arguments)
    assert "\n" not in str(refused.value)


def test_a_dataset_cannot_be_changed():
    for each in (made("yeast"), locate("yeast", data="standin")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            each.name = "other"


# --- the published files ---

REAL = {  # training and test rows, and how often some labels occur in all of them
    "mnist": (60_000, 10_000, {"1": 7_877}),
    "orl": (360, 40, {"s1": 10, "s40": 10}),
    "yeast": (1_038, 446, dict(CYT=463, NUC=429, MIT=244, ME3=163, ME2=51, ME1=44, EXC=35, VAC=30, POX=20, ERL=5)),  # noqa: C408
    "adult": (32_561, 16_281, {">50K": 7_841 + 3_846}),
    "letter": (16_000, 4_000, {"A": 789, "B": 766, "C": 736, "D": 805, "U": 813}),
}


@pytest.mark.parametrize("name", NAMES)
def test_the_published_files_are_what_is_known_of_them(name, real_folder):
    contents = files.verified(name, files.find(name, real_folder))
    joined = b"".join(contents[file][-10_304:] if name == "orl" else contents[file] for file in SOURCES[name].files)
    assert hashlib.sha256(joined).hexdigest() == SOURCES[name].hash
    data = load(name, data="real", folder=real_folder, images_per_person=9)
    train, test, counts = REAL[name]
    found = Counter(data.classes[target] for part in (data.train, data.test) for target in part[1].tolist())
    assert (len(data.train[1]), len(data.test[1]), found.total()) == (train, test, SOURCES[name].rows)
    assert found.items() >= counts.items()
    assert data.feature_shape == SHAPES[name][2]
    if name == "mnist":
        assert data.train[1][:5].tolist() == [5, 0, 4, 1, 9]
        extremes = data.train[0].min().item(), data.train[0].max().item()
        assert extremes == pytest.approx(((0 - 0.1307) / 0.3081, (1 - 0.1307) / 0.3081), abs=1e-3)  # the known values
    if name == "adult":
        hot = [part[0][:, 6:].sum(1).unique().tolist() for part in (data.train, data.test)]
        assert hot == [[8], [8]]  # no category is in the test file alone
