"""Facts about the published files; skipped where they are not."""

from collections import Counter

import numpy as np
import pytest

from gadam.datasets import NAMES, SOURCES, load, locate
from gadam.datasets.files import find, verified

HASHES = {  # of all payloads joined: `cat` of the files, decompressed, in the order of the registry
    "mnist": "b2d8f5bf",
    "orl": "2e4844a9f4fa4397058f69d6208047170f2e9d399cda18b55c1e8d28f0a83431",
    "yeast": "7cf61776fc04f527f93bf57a327b863893a1225d82df02d457e8950173218258",
    "adult": "4b73a16d",
    "letter": "2b89f3602cf768d3c8355267d2f13f2417809e101fc2b5ceee10db19a60de6e2",
}


def counts(data):
    """How often each label is in the training and in the test part; all together as often as the registry says."""
    train, test = (Counter(data.classes[target] for target in part[1].tolist()) for part in (data.train, data.test))
    assert train.total() + test.total() == SOURCES[data.name].rows
    assert set(train) == set(data.classes)
    return train, test


@pytest.mark.parametrize("name", NAMES)
def test_the_files_are_the_published_ones(name, real_folder):
    located = locate(name, data="real", folder=real_folder)
    assert located.source == "real"
    assert located.hash.startswith(HASHES[name])


def test_mnist(real_folder):
    contents, _ = verified("mnist", find("mnist", real_folder))
    magic = {file: int.from_bytes(content[:4]) for file, content in contents.items()}
    assert sorted(magic.values()) == [2049, 2049, 2051, 2051]
    data = load("mnist", data="real", folder=real_folder)
    assert data.train[0].shape == (60_000, 1, 28, 28)
    assert data.test[0].shape == (10_000, 1, 28, 28)
    assert counts(data)[1]["1"] == 1_135
    assert data.train[1][:5].tolist() == [5, 0, 4, 1, 9]
    low, high = data.train[0].min().item(), data.train[0].max().item()
    assert (low, high) == pytest.approx(((0 - 0.1307) / 0.3081, (1 - 0.1307) / 0.3081), abs=1e-3)  # the known values


def test_orl(real_folder):
    data = load("orl", data="real", folder=real_folder, images_per_person=9)
    assert data.train[0].shape == (360, 1, 112, 92)
    assert data.test[1].tolist() == list(range(40))
    assert set(counts(data)[0].values()) == {9}


def test_yeast(real_folder):
    train, test = counts(load("yeast", data="real", folder=real_folder))
    expected = dict(CYT=463, NUC=429, MIT=244, ME3=163, ME2=51, ME1=44, EXC=35, VAC=30, POX=20, ERL=5)  # noqa: C408
    assert train + test == expected
    assert (train.total(), test.total()) == (1_038, 446)


def test_adult(real_folder):
    data = load("adult", data="real", folder=real_folder)
    train, test = counts(data)
    assert (train.total(), test.total(), train[">50K"], test[">50K"]) == (32_561, 16_281, 7_841, 3_846)
    assert data.feature_shape == (6 + 9 + 16 + 7 + 15 + 6 + 5 + 2 + 42,)
    contents, _ = verified("adult", find("adult", real_folder))
    unknown = [sum(b"?" in line for line in contents[file].splitlines()) for file in ("adult.data", "adult.test")]
    assert unknown == [2_399, 1_221]
    hot = [part[0][:, 6:].sum(1).unique().tolist() for part in (data.train, data.test)]
    assert hot == [[8], [8]]  # no category is in the test file alone


def test_letter(real_folder):
    data = load("letter", data="real", folder=real_folder)
    train, test = counts(data)
    assert (train.total(), test.total()) == (16_000, 4_000)
    assert [(train + test)[letter] for letter in "ABCDU"] == [789, 766, 736, 805, 813]
    first = data.train[0][0].numpy() - data.train[0][1].numpy()
    assert (
        np.sign(first).tolist()
        == np.sign(
            np.subtract(
                [2, 8, 3, 5, 1, 8, 13, 0, 6, 6, 10, 8, 0, 8, 0, 8], [5, 12, 3, 7, 2, 10, 5, 5, 4, 13, 3, 9, 2, 8, 4, 10]
            )
        ).tolist()
    )
