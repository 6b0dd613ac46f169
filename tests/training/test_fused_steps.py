"""Several steps in one call are the steps themselves, bit by bit."""

import pytest
import torch
import zoo

from gadam.config import GadamConfig
from gadam.population import Population
from gadam.tracing.programs import Programs
from gadam.training import steps as fused_steps
from gadam.training import trainer
from gadam.training.shards import Data, Shard

CASES = {make: zoo.Case(make) for make in (zoo.mlp, zoo.dropout_mlp, zoo.Counting)}
LAST = 2 * 64 + 21  # steps: blocks of batches that are whole, and one that no number of calls fills


def train(make, monkeypatch, fused, seconds=None, **changed):
    """The shard after training, and how often steps were taken in one call."""
    case, calls = CASES[make], []
    monkeypatch.setattr(trainer, "FUSING_PAYS", 0 if fused else LAST + 1)
    take = fused_steps.FusedSteps.take

    def counted(steps, batches):
        calls.extend([batches] * (len(batches[1]) == fused_steps.FUSED))
        return take(steps, batches)

    with monkeypatch.context() as patch:
        patch.setattr(fused_steps.FusedSteps, "take", counted)
        config = GadamConfig(**{"population_size": 3, "steps": LAST, "batch_size": 8, "mode": "vectorised"} | changed)
        batch, some = ((case.inputs,), case.targets), torch.arange(len(case.targets))[None]
        ours = trainer.Trainer(config, case.loss, (0,), Programs(case.make(), case.loss))
        shard = Shard(Population.make(case.make, 3, seed=0), range(3), "parent", 1)
        pauses = 0
        while shard.steps is None or int(shard.steps[0]) < LAST:
            shard = ours.train(shard, Data(batch, batch, some, some), seconds=seconds)
            pauses += 1
    return shard, len(calls), pauses


def assert_same(found, expected):
    assert zoo.same_population(found.population, expected.population)
    assert found.population.moments.keys() == expected.population.moments.keys()
    assert all(
        torch.equal(found.population.moments[name], entry) for name, entry in expected.population.moments.items()
    )
    assert torch.equal(found.loss_trained, expected.loss_trained)


@pytest.mark.parametrize("make", CASES)
@pytest.mark.parametrize("moments", ["fresh", "carry"])
def test_training_is_the_same_bit_by_bit(make, moments, monkeypatch):
    plain, none, _ = train(make, monkeypatch, False, moments=moments)
    fused, calls, _ = train(make, monkeypatch, True, moments=moments)
    assert (none, calls) == (0, LAST // fused_steps.FUSED)
    assert_same(fused, plain)


def test_a_pause_between_calls_changes_nothing(monkeypatch):
    plain, _, once = train(zoo.dropout_mlp, monkeypatch, False)
    fused, _, pauses = train(zoo.dropout_mlp, monkeypatch, True, seconds=0.0)
    assert once == 1 < pauses
    assert_same(fused, plain)


def test_steps_that_would_give_other_numbers_are_taken_one_by_one(monkeypatch):
    def forgetful(function, flat):
        return lambda *given: function(*[entry.clone() for entry in given])  # changes copies alone

    plain, _, _ = train(zoo.mlp, monkeypatch, False)
    monkeypatch.setattr(fused_steps, "script", forgetful)
    found, calls, _ = train(zoo.mlp, monkeypatch, True)
    assert calls == 0
    assert_same(found, plain)
