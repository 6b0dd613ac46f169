"""The optimizer of stacked parameters is torch's, to the last bit."""

import pytest
import torch

from gadam.config import GadamConfig
from gadam.optimizers import make_optimizer, make_stepper, state_of


def parameters():
    draw = torch.Generator().manual_seed(0)
    return {"a": torch.randn(3, 4, generator=draw), "b": torch.randn(3, generator=draw)}


def gradients(step):
    draw = torch.Generator().manual_seed(step)
    return {name: torch.randn(entry.shape, generator=draw) for name, entry in parameters().items()}


@pytest.mark.parametrize("name", ["adam", "sgd", "sgdm", "rmsprop", "adagrad", "adadelta"])
def test_steps_and_state_are_torchs(name):
    config = GadamConfig(optimizer=name, learning_rate=0.01)
    ours, theirs = parameters(), parameters()
    stepper = make_stepper(config, ours, {})
    if name == "adam":
        reference = torch.optim.Adam(theirs.values(), lr=0.01, betas=config.betas, eps=config.epsilon, fused=True)
    else:
        reference = make_optimizer(config, list(theirs.values()))
    for step in range(5):
        if step == 3:  # and it goes on from its state
            stepper = make_stepper(config, ours, {key: value.clone() for key, value in stepper.state().items()})
        given = gradients(step)
        stepper.step(given)
        for key, entry in theirs.items():
            entry.grad = given[key]
        reference.step()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    expected = state_of(reference, theirs)
    assert stepper.state().keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in stepper.state().items())
    assert all(entry.grad is None for entry in ours.values())


def test_parameters_of_several_kinds_are_stepped_too():
    entries = parameters()
    entries["b"] = entries["b"].double()
    before = {name: entry.clone() for name, entry in entries.items()}
    given = gradients(0)
    make_stepper(GadamConfig(), entries, {}).step({"a": given["a"], "b": given["b"].double()})
    for name, entry in entries.items():  # Adam's first step is of the learning rate's size
        torch.testing.assert_close(entry, before[name] - 1e-3 * given[name].sign().to(entry.dtype))
