"""The deep belief net against naive loops, and the scikit-learn methods against scikit-learn."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.svm import SVC

from gadam.config import InputError
from gadam.paper.baselines.dbn import Rbm, cd1, deep_belief_net, new_rbm, to_unit_range
from gadam.paper.baselines.gcforest import GcForestSettings, gcforest
from gadam.paper.comparison import FOREST, KNN, SVM, predict
from gadam.randomness import stream


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
    kernel = SVC(C=1, kernel="rbf", gamma=1 / (64 * rows.numpy().var())).fit(rows.numpy(), labels)
    forest = RandomForestClassifier(n_estimators=20, random_state=4).fit(rows.numpy(), labels)
    nearest = labels[torch.cdist(test_rows.double(), rows.double()).argsort(1)[:, :3]]
    for train, held in ((images, test), (rows, test_rows)):
        data = SimpleNamespace(train=(train, labels), test=(held, None))
        np.testing.assert_array_equal(predict(data, SVM, 0), kernel.predict(test_rows.numpy()))
        found = predict(data, FOREST, 4, trees=20)
        np.testing.assert_array_equal(found, forest.predict(test_rows.numpy()))
        np.testing.assert_array_equal(predict(data, KNN, 0), nearest.mode(1).values)
    assert found.dtype == torch.int64


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x, y: deep_belief_net(x, y[1:], x), "which do not fit"),
        (lambda x, y: gcforest(x, y[1:], x), "which do not fit"),
        (lambda x, y: gcforest(x[:2], y[:2], x), "fewer than folds=3"),
        (lambda x, y: gcforest(x, y, x, settings=GcForestSettings(windows=((9, 3),))), "too small for a window"),
        (lambda x, y: gcforest(x[:, 0, 0], y, x[:, 0, 0], settings=GcForestSettings(windows=((3, 3),))), "too small"),
    ],
)
def test_mistakes_are_told_in_one_line(call, words, digits):
    with pytest.raises(InputError, match=words) as refused:
        call(*digits[:2])
    assert "\n" not in str(refused.value)
