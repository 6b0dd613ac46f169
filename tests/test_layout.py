"""How a population is laid out on the machine: loop or traced, and in how many shards."""

from dataclasses import replace

import pytest
import torch
import zoo
from torch.nn.functional import cross_entropy

from gadam import GadamConfig, Population
from gadam.tracing.programs import Programs
from gadam.training import plan as layout
from gadam.training.inputs import TooManyUnitsError
from gadam.training.trainer import Trainer


@pytest.mark.parametrize("fits", [1, 3, 8])
def test_a_population_that_does_not_fit_the_memory_is_cut_until_it_does(fits, monkeypatch):
    def check(shard, *_):
        if len(shard) > fits:
            raise TooManyUnitsError("no room")
        return ""

    monkeypatch.setattr(layout, "check_vectorised", check)
    population = Population.make(zoo.mlp, 8)
    config = GadamConfig(population_size=8, mode="vectorised", shards=1)
    chosen = layout.lay_out(population, ((zoo.FEATURES,), zoo.LABELS), cross_entropy, config, 10)
    shards = {1: 8, 3: 4, 8: 1}[fits]
    warning = f"8 units do not fit the memory of cpu at once: trained in {shards} shards" if shards > 1 else ""
    assert chosen[1:] == (shards, warning)


def test_a_unit_that_does_not_fit_alone_is_left_to_the_loop(monkeypatch):
    def check(*_):
        raise TooManyUnitsError("no room")

    monkeypatch.setattr(layout, "check_vectorised", check)
    population = Population.make(zoo.mlp, 4)
    config = GadamConfig(population_size=4, mode="vectorised")
    chosen = layout.lay_out(population, ((zoo.FEATURES,), zoo.LABELS), cross_entropy, config, 10)
    assert chosen.trainer.programs is None
    assert chosen.warning == "training unit by unit, because the model cannot be vectorised: no room"


@pytest.mark.parametrize(("steps", "traced"), [(10, False), (2_000, True)])
def test_a_training_too_short_for_tracing_is_not_traced(steps, traced):
    population = Population.make(zoo.mlp, 2)
    given = population, ((zoo.FEATURES,), zoo.LABELS), cross_entropy
    assert (layout.lay_out(*given, GadamConfig(population_size=2), steps).trainer.programs is not None) == traced
    assert layout.lay_out(*given, GadamConfig(population_size=2, mode="vectorised"), steps).trainer.programs
    assert layout.lay_out(*given, GadamConfig(population_size=2, mode="loop"), steps).trainer.programs is None


def test_a_population_in_one_call_is_a_shard_for_each_thread_unless_it_is_small(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    trainer = Trainer(GadamConfig(), cross_entropy, Programs(zoo.mlp(), cross_entropy))
    cpu = torch.device("cpu")
    counts = {g: layout.shard_count(g, trainer, cpu) for g in (2, 8, 10, 100)}
    assert counts == {2: 1, 8: 2, 10: 2, 100: 4}
    assert layout.shard_count(100, trainer, torch.device("cuda")) == 1
    assert layout.shard_count(100, trainer, torch.device("cuda"), devices=4) == 4
    assert layout.shard_count(10, replace(trainer, config=GadamConfig(shards=7)), cpu) == 7
    assert layout.shard_count(10, Trainer(GadamConfig(), cross_entropy), cpu) == 10
