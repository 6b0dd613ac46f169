"""The baselines: gcForest and the deep belief net against naive loops, scikit-learn's methods against scikit-learn."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.svm import SVC

from gadam.paper.baselines import forests
from gadam.paper.baselines.dbn import Rbm, cd1, deep_belief_net, new_rbm, to_unit_range
from gadam.paper.baselines.forests import KINDS, class_vectors, deal
from gadam.paper.baselines.gcforest import GcForestSettings, gcforest, windows
from gadam.paper.comparison import FOREST, KNN, SVM, predict
from gadam.randomness import stream

SMALL = GcForestSettings(forests=1, trees=8, max_levels=3)


@pytest.fixture(scope="module")
def digits():
    """Images [n, 1, 8, 8] in [0, 1] and targets: 900 to learn from, 897 to test."""
    images, targets = (torch.as_tensor(part) for part in load_digits(return_X_y=True))
    images = images.float().reshape(-1, 1, 8, 8) / 16
    return images[:900], targets[:900], images[900:], targets[900:]


# --- the deep belief net and the methods of scikit-learn ---


def test_one_step_is_that_of_a_naive_loop():
    generator = stream("cpu", 0)
    rows = torch.rand(5, 3, generator=generator)
    before = Rbm(*(torch.randn(size, generator=generator) for size in ((3, 2), (3,), (2,))))
    old = Rbm(*(torch.randn(size, generator=generator) for size in ((3, 2), (3,), (2,))))
    after, velocity = cd1(before, old, rows, momentum=0.5, rate=0.2, decay=0.1, generator=stream("cpu", 1))
    drawn = torch.bernoulli(before.up(rows), generator=stream("cpu", 1))
    expected = Rbm(*(0.5 * part for part in old))
    expected.weights.sub_(0.2 * 0.1 * before.weights)
    for row, hidden in zip(rows, drawn, strict=True):
        likely = torch.sigmoid(before.weights.T @ row + before.hidden_bias)
        again = torch.sigmoid(before.weights @ hidden + before.visible_bias)
        likely_again = torch.sigmoid(before.weights.T @ again + before.hidden_bias)
        expected.weights.add_(0.2 / 5 * (torch.outer(row, likely) - torch.outer(again, likely_again)))
        expected.visible_bias.add_(0.2 / 5 * (row - again))
        expected.hidden_bias.add_(0.2 / 5 * (likely - likely_again))
    for found, part, moved, start in zip(velocity, expected, after, before, strict=True):
        torch.testing.assert_close(found, part)
        torch.testing.assert_close(moved, start + found)


def test_a_new_machine_knows_the_mean_row(digits):
    rows = digits[0].flatten(1)
    fresh = new_rbm(rows, 10, generator=stream("cpu", 0))
    assert (fresh.down(fresh.up(rows)).mean(0) - rows.mean(0)).abs().max() < 0.03


def test_it_learns_digits_and_pretraining_helps(digits):
    *rows, targets = digits
    settings = {"hidden": (100, 60), "epochs": 8, "batch_size": 50, "learning_rate": 3e-3, "seed": 3}
    before = torch.random.get_rng_state()
    first, bare = (deep_belief_net(*rows, **settings, pretraining_epochs=n) for n in (8, 0))
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.testing.assert_close(first.sum(1), torch.ones(897))
    right, alone = ((each.argmax(1) == targets).double().mean() for each in (first, bare))
    assert right > 0.8
    assert right > alone + 0.1


def test_standardised_images_become_grey_values_again(digits):
    for found, grey in zip(to_unit_range((digits[0] - 0.3) / 0.4, (digits[2] - 0.3) / 0.4), digits[::2], strict=True):
        torch.testing.assert_close(found, grey, atol=1e-6, rtol=0)
    assert to_unit_range(torch.tensor([0.0, 2.0]), torch.tensor([-1.0, 1.0, 3.0]))[1].tolist() == [0, 0.5, 1]


def test_the_classical_methods_are_scikit_learns_on_images_as_on_rows(digits):
    images, labels, test = digits[0][:500], digits[1][:500], digits[2][:200]
    rows, test_rows = images.flatten(1), test.flatten(1)
    gammas = {"scale": 1 / (64 * rows.numpy().var()), "auto": 1 / 64}
    kernels = {name: SVC(C=1, kernel="rbf", gamma=gamma).fit(rows.numpy(), labels) for name, gamma in gammas.items()}
    forest = RandomForestClassifier(n_estimators=20, random_state=4).fit(rows.numpy(), labels)
    nearest = labels[torch.cdist(test_rows.double(), rows.double()).argsort(1)[:, :3]]
    for train, held in ((images, test), (rows, test_rows)):
        data = SimpleNamespace(train=(train, labels), test=(held, None))
        np.testing.assert_array_equal(predict(data, SVM, 0), kernels["scale"].predict(test_rows.numpy()))
        np.testing.assert_array_equal(predict(data, SVM, 0, gamma="auto"), kernels["auto"].predict(test_rows.numpy()))
        found = predict(data, FOREST, 4, trees=20)
        np.testing.assert_array_equal(found, forest.predict(test_rows.numpy()))
        np.testing.assert_array_equal(predict(data, KNN, 0), nearest.mode(1).values)
    assert found.dtype == torch.int64


# --- gcForest: nothing that it says of a row comes from that row ---


def noise(rows, classes):
    generator = np.random.default_rng(0)
    return generator.normal(size=(rows, 4)).astype(np.float32), generator.integers(classes, size=rows)


@pytest.mark.parametrize(("size", "stride"), [((3, 3), 1), ((2, 4), 2), ((8, 5), 3)])
@pytest.mark.parametrize("channels", [(), (2,)])
def test_windows_are_those_of_a_naive_loop(size, stride, channels):
    images = np.random.default_rng(0).normal(size=(3, *channels, 8, 6)).astype(np.float32)
    expected = [
        image[..., top : top + size[0], left : left + size[1]].flatten()
        for image in images
        for top in range(0, 8 - size[0] + 1, stride)
        for left in range(0, 6 - size[1] + 1, stride)
    ]
    np.testing.assert_array_equal(windows(images, size, stride), expected)


def test_folds_are_even_and_so_is_each_class_in_them():
    targets = np.repeat([0, 1, 2], [30, 9, 2])
    part = deal(targets, 3, (0,))
    assert set(np.bincount(part)) <= {13, 14}
    assert np.bincount(part[targets == 0]).tolist() == [10, 10, 10]
    assert np.bincount(part[targets == 1]).tolist() == [3, 3, 3]
    assert (part != deal(targets, 3, (1,))).any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pieces", [None, 70])
def test_no_forest_speaks_of_a_row_that_it_has_seen(kind, pieces, monkeypatch):
    # Every row has a number of its own, in both its pieces; each forest remembers the numbers it is fitted to.
    rows = np.arange(60, dtype=np.float32).repeat(4).reshape(60, 4)
    targets = np.arange(60) % 2
    seen, asked = [], []
    for name in ("RandomForestClassifier", "ExtraTreesClassifier"):

        class Watched(getattr(forests, name)):
            def fit(self, pieces, labels):
                self.numbers = set(pieces[:, 0])
                seen.append(len(pieces))
                assert (labels == pieces[:, 0] % 2).all()  # a piece has the class of its row
                return super().fit(pieces, labels)

            def predict_proba(self, pieces):
                asked.append(set(pieces[:, 0]))
                assert not self.numbers & asked[-1]
                return super().predict_proba(pieces)

        monkeypatch.setattr(forests, name, Watched)
    monkeypatch.setattr(forests, "ROWS_AT_ONCE", 7)
    halves = {"view": lambda rows: rows.reshape(-1, 2), "pieces": pieces}
    train, test = class_vectors(kind, rows, targets, rows + 100, classes=2, trees=60, folds=3, seed=(0,), **halves)
    assert seen == [80 if pieces is None else 70] * 6  # three folds, 50 and 10 trees each
    assert set().union(*asked) == set(range(60)) | set(range(100, 160))
    assert train.shape == test.shape == (60, 4)
    np.testing.assert_allclose(train.reshape(60, 2, 2).sum(2), 1, rtol=1e-5)
    np.testing.assert_allclose(test.reshape(60, 2, 2).sum(2), 1, rtol=1e-5)


def test_a_class_that_a_fold_lacks_has_its_column_all_the_same():
    rows, targets = noise(30, classes=2)
    targets[0] = 4
    train, test = class_vectors("random", rows, targets, rows, classes=5, trees=5, folds=3, seed=(0,))
    assert train.shape == (30, 5)
    assert (train[:, 2:4] == 0).all()
    assert train[0, 4] == 0
    np.testing.assert_allclose(test.sum(1), 1, rtol=1e-5)


def test_how_many_rows_go_at_once_is_no_matter_to_the_votes(monkeypatch):
    rows, targets = noise(50, classes=3)
    arguments = {"classes": 3, "trees": 6, "folds": 2, "seed": (3,)}
    whole = class_vectors("random", rows, targets, rows, **arguments)
    monkeypatch.setattr(forests, "ROWS_AT_ONCE", 4)
    for one, other in zip(whole, class_vectors("random", rows, targets, rows, **arguments), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_cascade_stops_without_a_gain_and_keeps_the_best_level(monkeypatch):
    truth = np.array([0, 1] * 10)

    def pretend(kind, train, targets, test, **_):
        count = next(right)
        said = np.eye(2, dtype=np.float32)[np.where(np.arange(20) < count, truth, 1 - truth)]
        return said, np.full((len(test), 2), count, np.float32)

    monkeypatch.setattr("gadam.paper.baselines.gcforest.KINDS", ("random",))
    monkeypatch.setattr("gadam.paper.baselines.gcforest.class_vectors", pretend)
    rows, settings = torch.zeros(20, 3), GcForestSettings(forests=1, patience=2)
    for changed, levels in (({}, 4), ({"patience": 1}, 3), ({"max_levels": 2}, 2)):
        right = iter(counts := [10, 14, 14, 12, 18])  # rows that each level gets right, out of 20
        assert (gcforest(rows, torch.as_tensor(truth), rows, settings=replace(settings, **changed)) == 14).all()
        assert list(right) == counts[levels:]


def test_levels_take_turns_with_the_windows_and_see_the_level_before(digits, monkeypatch):
    widths = []

    def watched(kind, train, *rest, **settings):
        widths.append(train.reshape(len(train), -1).shape[1])
        return class_vectors(kind, train, *rest, **settings)

    monkeypatch.setattr("gadam.paper.baselines.gcforest.class_vectors", watched)
    inputs, targets, test = (part[:120] for part in digits[:3])
    settings = replace(SMALL, trees=2, scan_trees=2, windows=((4, 4), (6, 6)), stride=2, patience=9)
    gcforest(inputs, targets, test, settings=settings)
    scanned = 2 * 10 * np.array([9, 4])  # two forests, ten classes, so many positions
    before = 2 * 10
    assert widths == [64] * 4 + [scanned[0]] * 2 + [scanned[1] + before] * 2 + [scanned[0] + before] * 2


def test_it_learns_digits_by_windows_and_repeats_itself(digits):
    inputs, targets, test, expected = (part[:400] for part in digits)
    settings = replace(SMALL, max_levels=2, windows=((4, 4),), stride=2, scan_trees=5, scan_pieces=1_500)
    first, again, other = (gcforest(inputs, targets, test, settings=settings, seed=seed) for seed in (1, 1, 2))
    assert first.dtype == torch.float32
    torch.testing.assert_close(first.sum(1), torch.ones(400))
    assert (first.argmax(1) == expected).double().mean() > 0.75
    assert torch.equal(again, first)
    assert not torch.equal(other, first)
