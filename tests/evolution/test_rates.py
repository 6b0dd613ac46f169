"""Rates and decays of each unit's own, schedules and averaged weights, against a reference that knows one number."""

import math
from dataclasses import replace

import pytest
import torch
import zoo
from by_hand import assert_trained_by_hand
from evolving import RANGES, double_batchnorm, run, settings, watched
from matplotlib.figure import Figure

from gadam import GadamConfig, InputError, Population, train
from gadam.evolution.breeding import draw_rates
from gadam.training import trainer
from gadam.training.optimizers import schedule

LIVELY = {"betas": (0.8, 0.95), "epsilon": 1e-3}
SETTINGS = {
    "one rate": {"weight_decay": 0.3, "child_steps": 13, **LIVELY},
    "moments carried": {"weight_decay": 0.3, "average": 0.1, "moments": "carry", **LIVELY},
    "own learning rates": {"learning_rate": RANGES["learning_rate"], "weight_decay": 0.3},
    "own decays": {"weight_decay": RANGES["weight_decay"]},
    "own rates": {**RANGES, "schedule": "cosine", "average": 0.2, "mutate_rates": True, "child_steps": 13},
    "all carried": {**RANGES, "schedule": "cosine", "average": 0.2, "moments": "carry", **LIVELY},
}


@pytest.mark.parametrize("way", ["loop", "vectorised", "fused"])
@pytest.mark.parametrize("which", SETTINGS)
def test_each_unit_is_trained_as_by_hand_in_every_phase(which, way, monkeypatch):
    monkeypatch.setattr(trainer, "FUSING_PAYS", 0 if way == "fused" else 10**9)
    mode = "loop" if way == "loop" else "vectorised"
    config = settings(mode=mode, population_size=3, steps=21, mutation_rate=0.1, **SETTINGS[which])
    watch = watched(config, double_batchnorm)[1]
    start = watch.initial
    for generation in watch.generations:
        assert_trained_by_hand(start, generation.parents, config, generation.number, "parent")
        assert_trained_by_hand(generation.newborn, generation.children, config, generation.number, "child")
        both = Population.join([generation.parents, generation.children])
        assert zoo.same_population(generation.next, both.take(generation.survivors))
        start = generation.next


def test_rates_are_drawn_log_uniformly_by_each_unit_from_its_own_stream():
    config, cpu = settings(population_size=400, seed=3, **RANGES), torch.device("cpu")
    drawn = draw_rates([config], cpu)
    for name, (low, high) in RANGES.items():
        assert len(drawn[name].unique()) == 400
        shares = (drawn[name] / low).log() / math.log(high / low)
        assert ((shares >= 0) & (shares <= 1)).all()
        assert abs(float(shares.mean()) - 0.5) < 0.06
        assert abs(float(shares.var()) - 1 / 12) < 0.02
    assert abs(float(torch.corrcoef(torch.stack([one.log() for one in drawn.values()]))[0, 1])) < 0.2
    few = draw_rates([replace(config, population_size=5, seed=seed) for seed in (9, 3)], cpu)
    assert torch.equal(few["learning_rate"][5:], drawn["learning_rate"][:5])
    alone = draw_rates([replace(config, learning_rate=1e-3)], cpu)
    assert torch.equal(alone["weight_decay"], drawn["weight_decay"]), "whatever else is a range"
    same = draw_rates([settings(learning_rate=(0.1, 0.1))], cpu)
    assert same["learning_rate"].tolist() == [0.1] * 4


def test_the_cosine_rises_over_a_fiftieth_and_falls_to_nothing():
    factors = schedule(GadamConfig(steps=500, schedule="cosine"))
    assert factors[:10].tolist() == pytest.approx([0.1 * step for step in range(1, 11)])
    assert (factors[10:].diff() < 0).all()
    assert 0 < factors[-1] < 1e-4
    assert schedule(GadamConfig(steps=1, schedule="cosine")).tolist() == [1.0]


@pytest.mark.parametrize("crossover", ["entries", "none"])
@pytest.mark.parametrize("mutates", [False, True])
def test_children_have_the_rate_of_their_fitter_parent_and_history_says_it(mutates, crossover):
    config = settings(generations=3, crossover=crossover, mutate_rates=mutates, **RANGES)
    history = run(config, zoo.mlp).history.set_index(["generation", "role", "unit"])
    for (generation, role, _), row in history.iterrows():
        if role == "child":
            parents = [history.loc[(generation, "parent", row[name])] for name in ("parent_a", "parent_b")]
            fitter = min(parents, key=lambda one: one["loss_trained"])
            for name in RANGES:
                factor = row[name] / fitter[name]
                assert factor == 1 if not mutates else 0.8 <= factor <= 1.25 and factor != 1
    assert history["learning_rate"].nunique() > 1
    assert "learning_rate" not in run(make=zoo.mlp).history


def test_train_with_a_range_is_a_search_over_rates():
    config = settings(population_size=6, learning_rate=(1e-5, 1.0), steps=20)
    result = run(config, zoo.mlp, call=train, validation=zoo.DATA)
    assert result.history["learning_rate"].nunique() == 6
    best = result.history.loc[result.history["loss_validation"].idxmin()]
    assert float(result.population.rates["learning_rate"][0]) == best["learning_rate"]
    drawn, marked = result.plot_rates(Figure().add_subplot()).collections
    assert len(drawn.get_offsets()) == 6
    assert marked.get_offsets().tolist() == [[best["learning_rate"], best["loss_validation"]]]
    with pytest.raises(InputError, match="must be of a training whose learning_rate is a range"):
        run(make=zoo.mlp).plot_rates()


def test_another_optimizer_with_a_range_is_trained_unit_by_unit():
    config = settings(optimizer="sgd", learning_rate=(1e-3, 1e-1), mode="vectorised")
    ways = []
    with pytest.warns(UserWarning, match=r"unit by unit, because optimizer='sgd' takes one learning rate for all"):
        run(config, zoo.mlp, record=lambda step: ways.append(len(step.units)))
    assert set(ways) == {1}
