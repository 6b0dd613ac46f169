"""Captured steps are the steps themselves. The capture is a stand-in: only launching a CUDA graph needs a GPU."""

import pytest
import torch
import zoo

from gadam.config import GadamConfig
from gadam.population import Population
from gadam.tracing.programs import Programs
from gadam.training import cuda_graph as captured
from gadam.training.shards import Data, Shard
from gadam.training.trainer import CAPTURE_PAYS, Trainer

STEPS = CAPTURE_PAYS + 3


def repeated(compute):
    """What a graph does: computes a few times first, and then again into the same memory."""
    for _ in range(2):
        compute()
    result = compute()

    def replay():
        result.copy_(compute())

    return replay, result


def train(case, *, steps=STEPS, record=None, **changed):
    population = Population.make(case.make, 3, seed=0)
    config = GadamConfig(**{"population_size": 3, "steps": steps, "batch_size": 8} | changed)
    batch = (case.inputs,), case.targets
    trainer = Trainer(config, case.loss, Programs(case.make(), case.loss))
    shard = Shard(population, range(3), "parent", 1)
    some = torch.arange(len(case.targets))
    return trainer.train(shard, Data(batch, batch, some, some), record=record)


def same(result, expected):
    assert zoo.same_population(result.population, expected.population)
    assert torch.equal(result.loss_trained, expected.loss_trained)


@pytest.mark.parametrize("make", [zoo.mlp, zoo.dropout_mlp, zoo.Averaging, zoo.Counting])
@pytest.mark.parametrize("moments", ["fresh", "carry"])
def test_training_is_the_same_bit_by_bit(make, moments, monkeypatch):
    case = zoo.double(zoo.Case(make))
    seen, captures = [], []

    def counted(compute):
        captures.append(compute)
        return repeated(compute)

    expected = train(case, moments=moments, record=lambda step: seen.append(step.losses))
    monkeypatch.setattr(captured, "CAPTURES", {})
    monkeypatch.setitem(captured.CAPTURES, "cpu", counted)
    monkeypatch.setattr("gadam.training.trainer.CAPTURES", captured.CAPTURES)
    losses = []
    same(train(case, moments=moments, record=lambda step: losses.append(step.losses)), expected)
    assert len(captures) == 1
    assert torch.equal(torch.stack(losses), torch.stack(seen))


@pytest.mark.parametrize("changed", [{"steps": CAPTURE_PAYS - 1}, {"optimizer": "sgd"}])
def test_what_does_not_pay_or_cannot_be_is_not_captured(changed, monkeypatch):
    def capture(_):
        raise AssertionError("captured")

    monkeypatch.setattr("gadam.training.trainer.CAPTURES", {"cpu": capture})
    train(zoo.double(zoo.Case(zoo.mlp)), **changed)


def broken(_):
    raise RuntimeError("operation not permitted when stream is capturing")


def forgetful(compute):
    result = compute()
    return (lambda: None), result


@pytest.mark.parametrize("capture", [broken, forgetful])
def test_a_capture_that_fails_or_does_something_else_changes_nothing(capture, monkeypatch, caplog):
    case = zoo.double(zoo.Case(zoo.dropout_mlp))
    expected = train(case)
    monkeypatch.setattr("gadam.training.trainer.CAPTURES", {"cpu": capture})
    with caplog.at_level("INFO", "gadam"):
        same(train(case), expected)
    assert "not captured" in caplog.text
