"""Steps captured as a CUDA graph, or several in one call, are the steps themselves, bit by bit.

The capture is a stand-in: only launching a CUDA graph needs a GPU.
"""

import functools

import pytest
import torch
import zoo
from torch.nn import functional

from gadam.config import GadamConfig
from gadam.tracing.programs import Programs
from gadam.training import steps as faster
from gadam.training import trainer
from gadam.training.steps import CAPTURE_PAYS

MODELS = zoo.mlp, zoo.dropout_mlp, zoo.Averaging, zoo.Counting
STEPS = 64 + 21  # a block of batches, and one that no number of calls fills
AT_ONCE = faster.FUSED


@functools.cache
def programs_of(make):
    """Traced and compiled once for all tests of a model: that is what takes time."""
    return Programs(make(), functional.cross_entropy)


def repeated(compute):
    """What a graph does: computes a few times first, and then again into the same memory."""
    for _ in range(2):
        compute()
    result = compute()
    return lambda: result.copy_(compute()), result


def broken(*_):
    raise RuntimeError("operation not permitted when stream is capturing")


def forgetful(compute):
    result = compute()
    return lambda: None, result


def copying(function, flat):
    """A script that changes copies alone."""
    return lambda *given: function(*[entry.clone() for entry in given])


class Steps:
    """Trains a shard, and counts what was captured and what was taken in one call."""

    def __init__(self, monkeypatch):
        self._patch, self.captured, self.calls, self.rounds = monkeypatch, 0, 0, 0

    def train(self, make, *, capture=None, fused=False, progress=None, record=None, **changed):
        take = faster.FusedSteps.take

        def count_captures(compute):
            self.captured += 1
            return capture(compute)

        def count_calls(steps, batches, factors):
            self.calls += len(batches[1]) == AT_ONCE
            return take(steps, batches, factors)

        config = GadamConfig(**{"population_size": 3, "steps": STEPS, "batch_size": 8} | changed)
        (shard,), data = zoo.shards_of(make, 3), zoo.data_of(zoo.Case(make))
        ours = trainer.Trainer(config, functional.cross_entropy, (0,), programs_of(make))
        with self._patch.context() as patch:
            patch.setattr("gadam.training.steps.CAPTURES", {"cpu": count_captures} if capture else {})
            patch.setattr(trainer, "FUSING_PAYS", 0 if fused else STEPS + 1)
            patch.setattr(faster.FusedSteps, "take", count_calls)
            while not shard.is_trained:
                shard = ours.train(shard, data, progress, record)
                self.rounds += 1
        return [shard]


@pytest.fixture
def steps(monkeypatch):
    return Steps(monkeypatch)


LIVELY = {"moments": "carry", "weight_decay": 0.1, "average": 0.1}
WAYS = {"captured": ({"capture": repeated}, LIVELY), "fused": ({"fused": True}, LIVELY | {"schedule": "cosine"})}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", MODELS)
def test_training_is_the_same_bit_by_bit_also_with_pauses(way, make, steps):
    how, settings = WAYS[way]
    plain = steps.train(make, **settings)
    assert (steps.captured, steps.calls, steps.rounds) == (0, 0, 1)
    zoo.assert_same_shards(steps.train(make, **how, **settings), plain)
    assert (steps.captured, steps.calls) == ((1, 0) if way == "captured" else (0, STEPS // AT_ONCE))
    zoo.assert_same_shards(steps.train(make, **how, progress=lambda _: True, **settings), plain)
    assert steps.rounds >= 1 + 1 + 2


def test_a_record_may_keep_the_losses_of_captured_steps(steps):
    plain, captured = [], []
    steps.train(zoo.mlp, record=lambda step: plain.append(step.losses))
    steps.train(zoo.mlp, capture=repeated, record=lambda step: captured.append(step.losses))
    assert steps.captured == 1
    assert torch.equal(torch.stack(captured), torch.stack(plain))


@pytest.mark.parametrize("changed", [{"steps": CAPTURE_PAYS - 1}, {"optimizer": "sgd"}, {"schedule": "cosine"}])
def test_what_does_not_pay_or_cannot_be_is_not_captured(changed, steps):
    steps.train(zoo.mlp, capture=repeated, **changed)
    assert steps.captured == 0


@pytest.mark.parametrize("capture", [broken, forgetful])
def test_a_capture_that_fails_or_does_something_else_changes_nothing(capture, steps, caplog):
    with caplog.at_level("INFO", "gadam"):
        found = steps.train(zoo.dropout_mlp, capture=capture)
    zoo.assert_same_shards(found, steps.train(zoo.dropout_mlp))
    assert "not captured" in caplog.text


def test_fused_steps_that_would_give_other_numbers_are_taken_one_by_one(steps, monkeypatch):
    plain = steps.train(zoo.mlp, batch_size=4)
    monkeypatch.setattr(faster, "script", copying)
    zoo.assert_same_shards(steps.train(zoo.mlp, batch_size=4, fused=True), plain)
    assert steps.calls == 0


def test_fused_steps_of_another_learning_rate_are_not_compiled_again(steps, monkeypatch):
    steps.train(zoo.mlp, fused=True)
    monkeypatch.setattr(faster, "script", broken)  # taken one by one, were it called
    calls = steps.calls
    found = steps.train(zoo.mlp, fused=True, learning_rate=0.03)
    assert steps.calls == 2 * calls > 0
    zoo.assert_same_shards(found, steps.train(zoo.mlp, learning_rate=0.03))
