"""The optimizer of stacked parameters is torch's, to the last bit."""

import pytest
import torch

from gadam.config import GadamConfig
from gadam.training.optimizers import make_optimizer, make_stepper, state_of


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
    for key, value in stepper.state().items():
        reference_value = expected[key].expand(3) if key.startswith("step/") else expected[key]
        assert torch.equal(value, reference_value)
    assert all(entry.grad is None for entry in ours.values())


def test_parameters_of_several_kinds_are_stepped_too():
    entries = parameters()
    entries["b"] = entries["b"].double()
    before = {name: entry.clone() for name, entry in entries.items()}
    given = gradients(0)
    make_stepper(GadamConfig(), entries, {}).step({"a": given["a"], "b": given["b"].double()})
    for name, entry in entries.items():  # Adam's first step is of the learning rate's size
        torch.testing.assert_close(entry, before[name] - 1e-3 * given[name].sign().to(entry.dtype))


@pytest.mark.parametrize("name", ["adam", "rmsprop", "adadelta"])
def test_units_of_any_ages_go_on_as_they_would_alone(name):
    """Two have taken 2 steps and one 5, and their moments are carried."""
    config = GadamConfig(optimizer=name, learning_rate=0.01)
    alone, states = [], []
    for unit, age in enumerate((2, 5, 2)):
        own = {key: entry[unit].clone() for key, entry in parameters().items()}
        optimizer = make_optimizer(config, list(own.values()))
        for step in range(age):
            for key, entry in own.items():
                entry.grad = gradients(step)[key][unit]
            optimizer.step()
        alone.append((own, optimizer))
        states.append(state_of(optimizer, own))
    stacked = {key: torch.stack([own[key] for own, _ in alone]) for key in parameters()}
    stepper = make_stepper(config, stacked, {key: torch.stack([state[key] for state in states]) for key in states[0]})
    for step in range(10, 14):
        given = gradients(step)
        stepper.step(given)
        for unit, (own, optimizer) in enumerate(alone):
            for key, entry in own.items():
                entry.grad = given[key][unit]
            optimizer.step()
    for unit, (own, optimizer) in enumerate(alone):
        for key, entry in own.items():
            torch.testing.assert_close(stacked[key][unit], entry, rtol=1e-6, atol=1e-7)
        for key, value in state_of(optimizer, own).items():
            torch.testing.assert_close(stepper.state()[key][unit], value, rtol=1e-6, atol=1e-7)
