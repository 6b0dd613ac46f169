"""The deep belief net: its machines learn the data, the net learns digits."""

import pytest
import torch
from sklearn.datasets import load_digits

from gadam.config import InputError
from gadam.paper.baselines.dbn import Rbm, cd1, deep_belief_net, new_rbm, pretrain, to_unit_range
from gadam.randomness import stream


@pytest.fixture(scope="module")
def digits():
    images, targets = (torch.as_tensor(part) for part in load_digits(return_X_y=True))
    return images.float().reshape(-1, 1, 8, 8) / 16, targets


def error(machine, rows):
    return (machine.down(machine.up(rows)) - rows).pow(2).mean().item()


def test_contrastive_divergence_lowers_the_reconstruction_error(digits):
    rows = digits[0].flatten(1)
    errors = [error(pretrain(rows, [40], epochs=n, batch_size=50, generator=stream("cpu", 0))[0], rows) for n in (0, 8)]
    assert errors[0] == pytest.approx(rows.var(0, correction=0).mean().item(), rel=0.1)  # it knows the mean row
    assert errors[1] < 0.5 * errors[0]


def test_one_step_is_that_of_a_naive_loop():
    generator = stream("cpu", 0)
    rows = torch.rand(5, 3, generator=generator)
    before = Rbm(*(torch.randn(size, generator=generator) for size in ((3, 2), (3,), (2,))))
    still = Rbm(*(torch.zeros_like(part) for part in before))
    after, velocity = cd1(before, still, rows, momentum=0.5, rate=0.2, decay=0.1, generator=stream("cpu", 1))
    drawn = torch.bernoulli(before.up(rows), generator=stream("cpu", 1))
    expected = before.weights - 0.2 * 0.1 * before.weights
    for row, hidden in zip(rows, drawn, strict=True):
        positive = torch.outer(row, torch.sigmoid(before.weights.T @ row + before.hidden_bias))
        again = torch.sigmoid(before.weights @ hidden + before.visible_bias)
        negative = torch.outer(again, torch.sigmoid(before.weights.T @ again + before.hidden_bias))
        expected += 0.2 / 5 * (positive - negative)
    torch.testing.assert_close(after.weights, expected)
    torch.testing.assert_close(velocity.weights, after.weights - before.weights)


def test_a_new_machine_reconstructs_about_the_mean(digits):
    rows = digits[0].flatten(1)
    machine = new_rbm(rows, 10, generator=stream("cpu", 0))
    assert (machine.down(machine.up(rows)).mean(0) - rows.mean(0)).abs().max() < 0.03


def test_it_learns_digits_and_repeats_itself(digits):
    images, targets = digits
    settings = {
        "hidden": (100, 60),
        "pretraining_epochs": 8,
        "epochs": 25,
        "batch_size": 50,
        "learning_rate": 3e-3,
        "seed": 3,
    }
    before = torch.random.get_rng_state()
    probabilities = deep_belief_net(images[:900], targets[:900], images[900:], **settings)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert probabilities.shape == (897, 10)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(897))
    assert (probabilities.argmax(1) == targets[900:]).double().mean() > 0.87
    assert torch.equal(deep_belief_net(images[:900], targets[:900], images[900:], **settings), probabilities)


def test_pretraining_helps_where_training_is_short(digits):
    images, targets = digits
    right = [
        (deep_belief_net(
            images[:900], targets[:900], images[900:], hidden=(100, 60), pretraining_epochs=n, epochs=8, batch_size=50,
            learning_rate=3e-3,
        ).argmax(1) == targets[900:]).double().mean()
        for n in (0, 8)
    ]  # fmt: skip
    assert right[1] > right[0] + 0.1


def test_standardised_images_become_grey_values_again(digits):
    grey = digits[0]
    train, test = to_unit_range((grey[:900] - 0.3) / 0.4, (grey[900:] - 0.3) / 0.4)
    torch.testing.assert_close(train, grey[:900], atol=1e-6, rtol=0)
    torch.testing.assert_close(test, grey[900:], atol=1e-6, rtol=0)
    beyond = to_unit_range(torch.tensor([0.0, 2.0]), torch.tensor([-1.0, 1.0, 3.0]))[1]
    assert beyond.tolist() == [0, 0.5, 1]


def test_mistakes_are_told_in_one_line(digits):
    images, targets = digits
    with pytest.raises(InputError, match="inputs are from -1 to 1, must be in"):
        deep_belief_net(2 * images - 1, targets, images)
    with pytest.raises(InputError, match="which do not fit"):
        deep_belief_net(images, targets[1:], images)
    with pytest.raises(InputError, match="epochs=0"):
        deep_belief_net(images, targets, images, epochs=0)
    with pytest.raises(InputError, match="hidden="):
        deep_belief_net(images, targets, images, hidden=())
