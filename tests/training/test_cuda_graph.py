"""Captured steps are the steps themselves. The capture is a stand-in: only launching a CUDA graph needs a GPU."""

import pytest
import torch
import zoo

from gadam.config import GadamConfig
from gadam.population import Population
from gadam.tracing.programs import Programs
from gadam.training.shards import Data, Shard
from gadam.training.steps import CAPTURE_PAYS
from gadam.training.trainer import Trainer

CASES = {make: zoo.double(zoo.Case(make)) for make in (zoo.mlp, zoo.dropout_mlp, zoo.Averaging, zoo.Counting)}
PROGRAMS = {make: Programs(case.make(), case.loss) for make, case in CASES.items()}


def repeated(compute):
    """What a graph does: computes a few times first, and then again into the same memory."""
    for _ in range(2):
        compute()
    result = compute()
    return lambda: result.copy_(compute()), result


def broken(_):
    raise RuntimeError("operation not permitted when stream is capturing")


def forgetful(compute):
    result = compute()
    return lambda: None, result


def train(make, capture, monkeypatch, **changed):
    """The shard after training, the losses of each step, and how often steps were captured."""
    captures, losses, case = [], [], CASES[make]

    def counted(compute):
        captures.append(compute)
        return capture(compute)

    monkeypatch.setattr("gadam.training.steps.CAPTURES", {"cpu": counted} if capture else {})
    config = GadamConfig(**{"population_size": 3, "steps": CAPTURE_PAYS + 3, "batch_size": 8} | changed)
    batch, some = ((case.inputs,), case.targets), torch.arange(len(case.targets))[None]
    shard = Shard(Population.make(case.make, 3, seed=0), range(3), "parent", 1)
    trained = Trainer(config, case.loss, (0,), PROGRAMS[make]).train(
        shard, Data(batch, batch, some, some), record=lambda step: losses.append(step.losses)
    )
    return trained, torch.stack(losses), len(captures)


def assert_same(found, expected):
    assert zoo.same_population(found[0].population, expected[0].population)
    assert torch.equal(found[0].loss_trained, expected[0].loss_trained)
    assert torch.equal(found[1], expected[1])


@pytest.mark.parametrize("make", CASES)
@pytest.mark.parametrize("moments", ["fresh", "carry"])
def test_training_is_the_same_bit_by_bit(make, moments, monkeypatch):
    found = train(make, repeated, monkeypatch, moments=moments)
    assert_same(found, train(make, None, monkeypatch, moments=moments))
    assert found[2] == 1


@pytest.mark.parametrize("changed", [{"steps": CAPTURE_PAYS - 1}, {"optimizer": "sgd"}])
def test_what_does_not_pay_or_cannot_be_is_not_captured(changed, monkeypatch):
    assert train(zoo.mlp, repeated, monkeypatch, **changed)[2] == 0


@pytest.mark.parametrize("capture", [broken, forgetful])
def test_a_capture_that_fails_or_does_something_else_changes_nothing(capture, monkeypatch, caplog):
    with caplog.at_level("INFO", "gadam"):
        found = train(zoo.dropout_mlp, capture, monkeypatch)
    assert_same(found, train(zoo.dropout_mlp, None, monkeypatch))
    assert "not captured" in caplog.text
