"""Loaded datasets: splits, encodings, real data or stand-ins, and facts about the published files."""

import struct
import warnings
from collections import Counter

import numpy as np
import pytest
import torch
from zoo import complaint

from gadam.datasets import NAMES, SOURCES, StandInWarning, load, locate
from gadam.datasets.splits import encode_images

SHAPES = {  # name: training rows and test rows of the stand-in, shape of an instance
    "mnist": (1_437, 360, (1, 28, 28)),
    "orl": (200, 200, (1, 112, 92)),
    "yeast": (1_038, 446, (8,)),
    "adult": (32_561, 16_281, (108,)),
    "letter": (16_000, 4_000, (16,)),
}


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.train + one.test, other.train + other.test, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_a_stand_in_has_the_shape_of_the_real(name):
    data = load(name, data="standin")
    train, test, shape = SHAPES[name]
    for (inputs, targets), rows in ((data.train, train), (data.test, test)):
        assert (inputs.shape, inputs.dtype) == ((rows, *shape), torch.float32)
        assert (targets.shape, targets.dtype) == ((rows,), torch.int64)
    assert data.train[1].unique().tolist() == list(range(data.class_count))
    assert (data.feature_shape, data.classes, data.source) == (shape, SOURCES[name].classes, "stand-in")
    assert data.hash == locate(name, data="standin").hash != SOURCES[name].hash
    assert locate(name, data="standin").choice == "standin"
    assert f"{name} (stand-in)" in repr(data)
    assert name == "mnist" or train + test == SOURCES[name].rows


# --- the files once more, read and encoded plainly ---


def plain_images(name, contents, seed, images):
    if name == "mnist":
        parts = []
        for part in ("train", "t10k"):
            labels, pixels = (contents[f"{part}-{kind}-ubyte"] for kind in ("labels-idx1", "images-idx3"))
            magic, count, *size = struct.unpack(">4I", pixels[:16])
            assert (magic, size, labels[:8]) == (2051, [28, 28], struct.pack(">2I", 2049, count))
            parts.append((np.frombuffer(pixels[16:], "u1").reshape(count, 28, 28), list(labels[8:])))
        return parts
    draw = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
    rows = draw.permuted(np.arange(400).reshape(40, 10), axis=1)
    faces = [np.frombuffer(contents[f"s{n // 10 + 1}/{n % 10 + 1}.pgm"][-10_304:], "u1") for n in range(400)]
    faces = np.stack(faces).reshape(400, 112, 92)
    return [(faces[part.ravel()], part.ravel() // 10) for part in (rows[:, :images], rows[:, images:])]


def plain_table(name, contents, seed):
    """Numbers, categories and labels of the training rows and of the test rows."""
    files = [content.decode().replace(",", " ").splitlines() for content in contents.values()]
    lines = [[line.rstrip(".").split() for line in file if line and line[0] != "|"] for file in files]
    if name == "adult":
        numeric, parts = [0, 2, 4, 10, 11, 12], lines
    elif name == "yeast":
        rows = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed))).permutation(len(lines[0]))
        numeric, parts = range(1, 9), [[lines[0][n] for n in rows[part]] for part in (slice(1_038), slice(1_038, None))]
    else:
        lines = [[*line[1:], line[0]] for line in lines[0]]
        numeric, parts = range(16), [lines[:16_000], lines[16_000:]]
    categories = [1, 3, 5, 6, 7, 8, 9, 13] if name == "adult" else []

    def columns(part, chosen, kind):
        return np.array([[kind(row[column]) for column in chosen] for row in part])

    labels = SOURCES[name].classes.index
    return [
        (columns(part, numeric, float), columns(part, categories, str), columns(part, [-1], labels)[:, 0])
        for part in parts
    ]


def reference(name, contents, seed=0, images_per_person=5, standardise=True):
    """Both parts: inputs by the scales and the categories of the training part alone, and targets."""
    if name in ("mnist", "orl"):
        parts = plain_images(name, contents, seed, images_per_person)
        values = parts[0][0] / 255
        mean, deviation = (values.mean(), values.std()) if standardise else (0, 1)
        return [((pixels[:, None] / 255 - mean) / deviation, targets) for pixels, targets in parts]
    parts = plain_table(name, contents, seed)
    numbers, words, _ = parts[0]
    mean = numbers.mean(0) if standardise else 0
    deviation = np.where(numbers.std(0) == 0, 1, numbers.std(0)) if standardise else 1
    kinds = [sorted(set(column)) for column in words.T]
    return [
        (np.column_stack([(own - mean) / deviation,
                          *(said[:, [c]] == np.array([kind])[None, 0] for c, kind in enumerate(kinds))]), targets)
        for own, said, targets in parts
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "given"),
    [
        *((name, given) for name in NAMES for given in ({}, {"standardise": False})),
        ("yeast", {"seed": 3}),
        ("orl", {"images_per_person": 9}),
    ],
)
def test_what_is_in_the_folder_is_loaded_as_it_is_written_there(name, given, publish, put, tmp_path, monkeypatch):
    changed = {}
    if name == "adult":  # a country that is in the test part alone, and a comment
        lines = publish(name)["adult.test"].splitlines(keepends=True)
        lines[-1] = lines[-1].replace(lines[-1].split(b", ")[13], b"Atlantis")
        changed["adult.test"] = b"|1x3 Cross validator\n" + b"".join(lines)
    contents = publish(name, changed=changed)
    put(name, contents)
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    monkeypatch.setenv("GADAM_DATA", f"~/{tmp_path.name}")
    data, located = load(name, **given), locate(name, data="real", folder=tmp_path)
    assert data.source == located.source == located.choice == "real"
    assert data.hash == located.hash == locate(name).hash
    assert located.path == tmp_path / SOURCES[name].folder
    expected = reference(name, contents, **given)
    for (inputs, targets), (values, labels) in zip((data.train, data.test), expected, strict=True):
        np.testing.assert_allclose(inputs.numpy(), values, rtol=1e-4, atol=1e-4)
        assert targets.tolist() == list(labels)
    assert name != "adult" or not data.test[0][-1, -40:].any(), "all zeros"


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_draws_the_split_of_yeast_and_orl_alone(name):
    one, again, other = (load(name, data="standin", seed=seed) for seed in (1, 1, 2))
    assert same(one, again)
    assert same(one, other) is (name not in ("yeast", "orl"))
    assert one.hash == other.hash


def test_images_of_a_single_colour_are_0_and_others_are_held_against_it():
    one, both = torch.full((2, 2, 2), 51, dtype=torch.uint8), torch.tensor([[[51, 102]]], dtype=torch.uint8)
    train, test = encode_images(one, both)
    assert not train.any()
    assert test.flatten().tolist() == pytest.approx([0, 0.2])


# --- which data ---


def test_a_stand_in_for_want_of_data_is_loud_and_an_error_where_the_real_is_asked_for(tmp_path):
    with pytest.warns(StandInWarning, match=f"STAND-IN DATA for yeast: it is not in {tmp_path} and downloads are") as w:
        data = load("yeast", folder=tmp_path)
    assert w[0].filename == __file__
    assert data.source == "stand-in"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(load("yeast", data="standin", folder=tmp_path), data)  # asked for: no warning
    for door in (load, locate):
        message = complaint(door, "orl", data="real", folder=tmp_path)
        assert all(word in message for word in ("orl: data='real'", str(tmp_path), "GADAM_OFFLINE", "'standin'"))


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
