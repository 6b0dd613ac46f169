import dataclasses
import functools
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

import gadam.datasets
from gadam import InputError
from gadam.datasets import NAMES, SOURCES, StandInWarning, download, load, locate
from gadam.datasets.encoding import encode_images, encode_table
from gadam.datasets.standins import standin
from gadam.datasets.tables import Format

SHAPES = {  # name: training rows, test rows, shape of an instance
    "mnist": (1_437, 360, (1, 28, 28)),
    "orl": (200, 200, (1, 112, 92)),
    "yeast": (1_038, 446, (8,)),
    "adult": (32_561, 16_281, (108,)),
    "letter": (16_000, 4_000, (16,)),
}


@functools.cache
def made(name):
    """The stand-in, for tests that only look at it."""
    return load(name, data="standin")


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.train + one.test, other.train + other.test, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_a_stand_in_has_the_shape_of_the_real(name):
    data = made(name)
    train, test, shape = SHAPES[name]
    assert data.feature_shape == shape
    for (inputs, targets), rows in ((data.train, train), (data.test, test)):
        assert inputs.shape == (rows, *shape)
        assert inputs.dtype == torch.float32
        assert inputs.isfinite().all()
        assert targets.shape == (rows,)
        assert targets.dtype == torch.int64
    assert data.train[1].unique().tolist() == list(range(data.class_count))
    assert data.classes == SOURCES[name].classes
    assert data.source == "stand-in"
    assert f"{name} (stand-in)" in repr(data)
    if name != "mnist":
        assert train + test == SOURCES[name].rows


@pytest.mark.parametrize("name", NAMES)
def test_a_stand_in_is_the_same_each_time(name):
    first, second = standin.__wrapped__(name), standin.__wrapped__(name)
    assert first == second
    assert made(name).hash == locate(name, data="standin").hash == first[1]


def test_stand_ins_have_the_proportions_of_the_real_classes_and_unknown_values():
    assert made("adult").train[1].float().mean().item() == pytest.approx(0.24, abs=0.01)
    assert b", ?, " in standin("adult")[0]["adult.data"]
    counts = made("yeast").train[1].bincount()
    assert counts.argmax() == SOURCES["yeast"].classes.index("CYT")
    assert counts.argmin() == SOURCES["yeast"].classes.index("ERL")


def accuracy(data):
    """Share of 200 test rows that a simple method gets right: nearest row, for two classes least squares."""
    if data.class_count == 2:
        inputs, rows = (torch.nn.functional.pad(part[0], (1, 0), value=1.0) for part in (data.train, data.test))
        weights = torch.linalg.lstsq(inputs.T @ inputs + torch.eye(inputs.shape[1]), inputs.T @ (data.train[1] - 0.5))
        return ((rows @ weights.solution > 0) == data.test[1]).float().mean().item()
    distances = torch.cdist(data.test[0][:200].flatten(1), data.train[0].flatten(1))
    return (data.train[1][distances.argmin(1)] == data.test[1][:200]).float().mean().item()


@pytest.mark.parametrize("name", NAMES)
def test_a_stand_in_can_be_learnt_and_not_trivially(name):
    data = made(name)
    chance = data.test[1].bincount().max().item() / len(data.test[1])
    assert chance + 0.05 < accuracy(data) < 0.99


@pytest.mark.parametrize("name", ["yeast", "orl"])
def test_the_seed_gives_the_split_and_the_hash_does_not_depend_on_it(name):
    one, again, other = (load(name, data="standin", seed=seed) for seed in (1, 1, 2))
    assert same(one, again)
    assert not torch.equal(one.train[0], other.train[0])
    assert one.hash == other.hash


@pytest.mark.parametrize("name", ["mnist", "letter"])
def test_a_given_split_does_not_depend_on_the_seed(name):
    assert same(load(name, data="standin", seed=1), load(name, data="standin", seed=2))


def test_letter_trains_on_the_first_rows():
    data = made("letter")
    labels = [line[:1].decode() for line in standin("letter")[0]["letter-recognition.data"].splitlines()]
    assert [data.classes[target] for target in data.train[1]] == labels[:16_000]
    assert [data.classes[target] for target in data.test[1]] == labels[16_000:]


def test_yeast_rows_are_in_one_part_each():
    data = load("yeast", data="standin", seed=3)
    counts = data.train[1].bincount(minlength=10) + data.test[1].bincount(minlength=10)
    whole = [line.split()[-1].decode() for line in standin("yeast")[0]["yeast.data"].splitlines()]
    assert counts.tolist() == [whole.count(label) for label in data.classes]


@pytest.mark.parametrize("images", [1, 5, 7, 9])
def test_orl_has_so_many_images_of_each_person_and_none_twice(images):
    data = load("orl", data="standin", images_per_person=images, seed=4)
    assert data.train[1].bincount().tolist() == [images] * 40
    assert data.test[1].bincount().tolist() == [10 - images] * 40
    ranks = torch.cat([data.train[0], data.test[0]]).flatten(1)
    assert len({row.numpy().tobytes() for row in ranks}) == 400


def test_images_are_scaled_by_the_training_part_alone():
    train, test = torch.randint(0, 100, (20, 4, 3), dtype=torch.uint8), torch.full((5, 4, 3), 255, dtype=torch.uint8)
    inputs, held_out = encode_images(train, test)
    pixels = train.double() / 255
    assert inputs.shape == (20, 1, 4, 3)
    assert torch.allclose(inputs.double().squeeze(1), (pixels - pixels.mean()) / pixels.std(correction=0), atol=1e-5)
    assert torch.allclose(held_out, ((1 - pixels.mean()) / pixels.std(correction=0)).float())


def test_images_of_one_colour_are_zero():
    inputs, _ = encode_images(torch.full((2, 3, 3), 7, dtype=torch.uint8), torch.zeros(1, 3, 3, dtype=torch.uint8))
    assert inputs.abs().max() < 1e-6


def test_tables_are_encoded_by_the_training_part_alone():
    form = Format(("a", "b", "kind", "class"), ",", ("a", "b"), ("kind",))
    train = pd.DataFrame({"a": [1.0, 3.0], "b": [5.0, 5.0], "kind": ["x", "?"]})
    test = pd.DataFrame({"a": [2.0, 100.0], "b": [5.0, 6.0], "kind": ["x", "Holand-Netherlands"]})
    inputs, held_out = encode_table(train, test, form)
    assert inputs.tolist() == [[-1, 0, 0, 1], [1, 0, 1, 0]]  # a, b, "?", "x"
    assert held_out.tolist() == [[0, 0, 0, 1], [98, 1, 0, 0]]  # an unseen category is all zeros


@pytest.mark.parametrize("name", NAMES)
def test_the_training_part_is_standard_and_the_test_part_nearly(name):
    data = made(name)
    columns = {"adult": slice(6), "letter": slice(16), "yeast": slice(8)}.get(name)
    inputs = (data.train[0][:, columns] if columns else data.train[0].reshape(-1, 1)).double()
    assert inputs.mean(0).abs().max() < 1e-5
    assert np.allclose(inputs.std(0, correction=0), 1, atol=1e-3)


def test_a_stand_in_for_want_of_data_is_loud(tmp_path):
    with pytest.warns(StandInWarning, match=f"STAND-IN DATA for yeast: it is not in {tmp_path} and downloads are") as w:
        data = load("yeast", folder=tmp_path)
    assert w[0].filename == __file__
    assert data.source == "stand-in"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(load("yeast", data="standin", folder=tmp_path), data)  # asked for: no warning


def test_real_data_that_is_not_there_is_an_error_that_says_what_to_do(tmp_path):
    for door in (load, locate):
        with pytest.raises(InputError) as refused:
            door("orl", data="real", folder=tmp_path)
        for word in ("orl: data='real'", str(tmp_path), "GADAM_OFFLINE", "data/README.md", "GADAM_DATA", "'standin'"):
            assert word in str(refused.value)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_in_the_folder_is_loaded_without_a_download(name, publish, put, tmp_path, monkeypatch):
    put(name, publish(name))
    monkeypatch.setattr(download, "_get", None)
    data = load(name, folder=tmp_path)
    located = locate(name, data="real", folder=tmp_path)
    assert data.source == located.source == "real"
    assert data.hash == located.hash == locate(name, folder=tmp_path).hash
    assert located.path == tmp_path / SOURCES[name].folder
    assert locate(name, data="standin", folder=tmp_path).source == "stand-in"
    assert same(data, made(name))


def test_the_folder_may_come_from_the_environment(publish, put, tmp_path, monkeypatch):
    put("yeast", publish("yeast"))
    monkeypatch.setenv("GADAM_DATA", str(tmp_path))
    assert load("yeast").source == "real"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"name": "cifar"}, "name='cifar' is not a dataset; there are mnist, orl, yeast, adult, letter"),
        ({"name": "yeast", "data": "fake"}, "data='fake' is not a choice; there are auto, real, standin"),
        ({"name": "orl", "data": "standin", "images_per_person": 10}, "images_per_person=10 must be from 1 to 9"),
        ({"name": "orl", "data": "standin", "images_per_person": 0}, "images_per_person=0 must be from 1 to 9"),
        ({"name": "yeast", "data": "standin", "seed": -1}, "seed=-1 must be at least 0"),
    ],
)
def test_wrong_arguments_are_refused(arguments, complaint):
    with pytest.raises(InputError) as refused:
        load(**arguments)
    assert str(refused.value) == complaint


def test_a_dataset_cannot_be_changed():
    data = load("yeast", data="standin")
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.name = "other"
    with pytest.raises(dataclasses.FrozenInstanceError):
        gadam.datasets.locate("yeast", data="standin").hash = ""
