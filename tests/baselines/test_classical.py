"""The three classifiers: scikit-learn's own, on images as on rows."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.svm import SVC

from gadam.config import InputError
from gadam.paper.baselines.classical import nearest_neighbours, random_forest, svm

METHODS = {"random_forest": random_forest, "svm": svm, "nearest_neighbours": nearest_neighbours}
SETTINGS = {"random_forest": {"trees": 30, "seed": 5}}


@pytest.fixture(scope="module")
def digits():
    images, targets = (torch.as_tensor(part) for part in load_digits(return_X_y=True))
    return (images.float().reshape(-1, 1, 8, 8) - 4.9) / 6, targets


@pytest.mark.parametrize("name", METHODS)
def test_it_learns_digits_repeats_itself_and_takes_images_as_rows(name, digits):
    images, targets = digits
    settings = SETTINGS.get(name, {})
    predicted = METHODS[name](images[:900], targets[:900], images[900:], **settings)
    assert predicted.shape == (897,)
    assert predicted.dtype == torch.int64
    assert (predicted == targets[900:]).double().mean() > 0.9
    rows = images.flatten(1)
    assert torch.equal(METHODS[name](rows[:900], targets[:900], rows[900:], **settings), predicted)


def test_they_are_what_they_say(digits):
    rows, targets = (part.flatten(1) if part.ndim > 1 else part for part in digits)
    train, labels, test = rows[:500].numpy(), targets[:500].numpy(), rows[500:700].numpy()
    arguments = rows[:500], targets[:500], rows[500:700]
    gamma = 1 / (64 * train.var())
    np.testing.assert_array_equal(svm(*arguments), SVC(C=1, kernel="rbf", gamma=gamma).fit(train, labels).predict(test))
    forest = RandomForestClassifier(n_estimators=20, random_state=4).fit(train, labels)
    np.testing.assert_array_equal(random_forest(*arguments, trees=20, seed=4), forest.predict(test))
    distances = torch.cdist(*(part.double() for part in (arguments[2], arguments[0])))
    nearest = targets[:500][distances.argsort(1)[:, :3]]
    np.testing.assert_array_equal(nearest_neighbours(*arguments), nearest.mode(1).values)
    np.testing.assert_array_equal(nearest_neighbours(*arguments, neighbours=1), nearest[:, 0])


def test_mistakes_are_told_in_one_line(digits):
    images, targets = digits
    with pytest.raises(InputError, match="trees=0"):
        random_forest(images, targets, images, trees=0, seed=0)
    with pytest.raises(InputError, match=r"neighbours=3 must be from 1 to the 2 rows"):
        nearest_neighbours(images[:2], targets[:2], images)
    with pytest.raises(InputError, match=r"SVC: .* which do not fit"):
        svm(images, targets[1:], images)
