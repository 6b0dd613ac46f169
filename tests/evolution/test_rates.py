"""Rates and decays of each unit's own, schedules and averaged weights, against a reference that knows one number."""

import math

import pytest
import torch
import zoo
from evolving import assert_same, run, settings
from matplotlib.figure import Figure

from gadam import GadamConfig, InputError, train
from gadam.evolution.breeding import draw_rates
from gadam.population import Population
from gadam.randomness import BATCHES, stream
from gadam.tracing.programs import Programs
from gadam.training import trainer as trainers
from gadam.training.optimizers import Rates, schedule
from gadam.training.shards import Data, Shard
from gadam.training.trainer import Trainer

CASE = zoo.double(zoo.Case(zoo.mlp))
STEPS, SIZE = 40, 3
RANGES = {"learning_rate": (1e-3, 1e-1), "weight_decay": (1e-2, 1e-1)}
SETTINGS = {
    "plain": {"learning_rate": 0.01},
    "decay": {"learning_rate": 0.01, "weight_decay": 0.3},
    "cosine": {"learning_rate": 0.01, "schedule": "cosine"},
    "average": {"learning_rate": 0.01, "average": 0.1},
    "ranges": RANGES,
    "all": {**RANGES, "schedule": "cosine", "average": 0.2},
}


def config_of(**changed):
    return GadamConfig(**{"population_size": SIZE, "steps": STEPS, "batch_size": 8, "seed": 3} | changed)


def reference(unit, number, config, rate, decay):
    """AdamW by hand, one entry of the gradient after the other, in double precision."""
    batches = stream("cpu", config.seed, BATCHES, 1, 0, number, 0)
    rows = torch.randint(zoo.ROWS, (64, config.batch_size), generator=batches)
    entries = [entry.detach().clone() for entry in unit.parameters()]
    first, second = [torch.zeros_like(entry) for entry in entries], [torch.zeros_like(entry) for entry in entries]
    averages = [entry.clone() for entry in entries]
    for step in range(1, config.steps + 1):
        for own, entry in zip(unit.parameters(), entries, strict=True):
            own.data.copy_(entry)
        loss = CASE.loss(unit(CASE.inputs[rows[step - 1]]), CASE.targets[rows[step - 1]])
        gradients = torch.autograd.grad(loss, list(unit.parameters()))
        size = rate
        if config.schedule == "cosine":
            rising = max(1, round(0.02 * config.steps))
            share = (step - rising) / max(1, config.steps - rising + 1)
            size = rate * (step / rising if step <= rising else (1 + math.cos(math.pi * share)) / 2)
        for place, gradient in enumerate(gradients):
            first[place] = 0.9 * first[place] + 0.1 * gradient
            second[place] = 0.999 * second[place] + 0.001 * gradient**2
            mean, square = first[place] / (1 - 0.9**step), second[place] / (1 - 0.999**step)
            entries[place] = entries[place] * (1 - size * decay) - size * mean / (square.sqrt() + 1e-8)
            averages[place] += (entries[place] - averages[place]) / (1 + config.average * config.steps)
    return averages if config.average else entries


def trained(config, mode, monkeypatch, seconds=None, fused=False):
    monkeypatch.setattr(trainers, "FUSING_PAYS", 0 if fused else 10**9)
    population = Population.make(CASE.make, SIZE, seed=3)
    population = population.__class__(**vars(population) | {"rates": draw_rates(config, [3], torch.device("cpu"))})
    programs = Programs(CASE.make(), CASE.loss) if mode == "vectorised" else None
    some = torch.arange(zoo.ROWS)[None]
    rows = (CASE.inputs,), CASE.targets
    shard = Shard(population, range(SIZE), "parent", 1)
    while not shard.is_trained:
        shard = Trainer(config, CASE.loss, (3,), programs).train(shard, Data(rows, rows, some, some), seconds=seconds)
    return population, shard.population


@pytest.mark.parametrize("mode", ["loop", "vectorised", "fused"])
@pytest.mark.parametrize("which", SETTINGS)
def test_each_unit_is_trained_as_the_reference_with_its_own_numbers(which, mode, monkeypatch):
    config = config_of(**SETTINGS[which])
    before, after = trained(config, mode.replace("fused", "vectorised"), monkeypatch, fused=mode == "fused")
    for number, unit in enumerate(before.units()):
        rate, decay = (
            float(before.rates[name][number]) if name in before.rates else getattr(config, name)
            for name in ("learning_rate", "weight_decay")
        )
        expected = reference(unit, number, config, rate, decay)
        for ours, theirs in zip(after.parameters.values(), expected, strict=True):
            torch.testing.assert_close(ours[number], theirs, rtol=1e-9, atol=1e-11)
    assert not after.moments
    assert all(torch.equal(after.rates[name], own) for name, own in before.rates.items())


@pytest.mark.parametrize("mode", ["loop", "vectorised", "fused"])
def test_a_pause_changes_nothing(mode, monkeypatch):
    monkeypatch.setattr(trainers, "REPORT_SECONDS", 0)
    config, way = config_of(**SETTINGS["all"], moments="carry"), mode.replace("fused", "vectorised")
    _, once = trained(config, way, monkeypatch, fused=mode == "fused")
    _, often = trained(config, way, monkeypatch, seconds=0.0, fused=mode == "fused")
    assert zoo.same_population(once, often)
    assert not any(name.startswith("average/") for name in once.moments)


def test_rates_are_drawn_log_uniformly_by_each_unit_from_its_own_stream():
    config = config_of(population_size=400, **RANGES)
    drawn = draw_rates(config, [3], torch.device("cpu"))
    for name, (low, high) in RANGES.items():
        shares = (drawn[name] / low).log() / math.log(high / low)
        assert ((shares >= 0) & (shares <= 1)).all()
        assert abs(float(shares.mean()) - 0.5) < 0.06
        assert abs(float(shares.var()) - 1 / 12) < 0.02
    assert abs(float(torch.corrcoef(torch.stack([one.log() for one in drawn.values()]))[0, 1])) < 0.2
    few = draw_rates(config_of(population_size=5, **RANGES), [9, 3], torch.device("cpu"))
    assert torch.equal(few["learning_rate"][5:], drawn["learning_rate"][:5])
    assert (
        draw_rates(config_of(learning_rate=(0.1, 0.1)), [3], torch.device("cpu"))["learning_rate"].tolist() == [0.1] * 3
    )


def test_the_cosine_rises_over_a_fiftieth_and_falls_to_nothing():
    factors = schedule(GadamConfig(steps=500, schedule="cosine"))
    assert factors[:10].tolist() == pytest.approx([0.1 * step for step in range(1, 11)])
    assert (factors[10:].diff() < 0).all()
    assert 0 < factors[-1] < 1e-4
    assert schedule(GadamConfig(steps=1, schedule="cosine")).tolist() == [1.0]
    rates = Rates(GadamConfig(steps=500, schedule="cosine", learning_rate=0.5), {}, taken=9)
    assert rates.next(2).tolist() == factors[9:11].tolist()
    assert rates.base.tolist() == [0.5]


@pytest.mark.parametrize("mode", ["loop", "vectorised"])
def test_children_have_the_rate_of_their_fitter_parent_and_history_says_it(mode):
    for mutates in (False, True):
        config = settings(mode=mode, generations=3, mutate_rates=mutates, **RANGES)
        history = run(config, zoo.mlp).history.set_index(["generation", "role", "unit"])
        for (generation, role, _), row in history.iterrows():
            if role == "child":
                parents = [history.loc[(generation, "parent", row[name])] for name in ("parent_a", "parent_b")]
                fitter = min(parents, key=lambda one: one["loss_trained"])
                for name in RANGES:
                    factor = row[name] / fitter[name]
                    assert factor == 1 if not mutates else 0.8 <= factor <= 1.25
        assert history["learning_rate"].nunique() > 1
    assert "learning_rate" not in run(make=zoo.mlp).history


def test_train_with_a_range_is_a_search_over_rates(tmp_path):
    rows = zoo.DATA
    config = settings(population_size=6, learning_rate=(1e-5, 1.0), generations=2, steps=20)
    result = run(config, zoo.mlp, call=train, validation=rows, checkpoint=tmp_path / "state")
    history = result.history
    assert history["learning_rate"].nunique() == 6
    best = history.loc[history["loss_validation"].idxmin()]
    with torch.no_grad():
        assert float(torch.nn.functional.cross_entropy(result.best(rows[0]), rows[1])) == pytest.approx(
            best["loss_validation"], rel=1e-5
        )
    assert float(result.population.rates["learning_rate"][0]) == best["learning_rate"]
    assert_same(run(config, zoo.mlp, call=train, validation=rows, checkpoint=tmp_path / "state"), result)
    drawn, marked = result.plot_rates(Figure().add_subplot()).collections
    assert len(drawn.get_offsets()) == 6
    assert marked.get_offsets().tolist() == [[best["learning_rate"], best["loss_validation"]]]
    with pytest.raises(InputError, match="must be of a training whose learning_rate is a range"):
        run(make=zoo.mlp).plot_rates()


@pytest.mark.parametrize(
    "wrong",
    [
        {"learning_rate": (0.1, 0.01)}, {"learning_rate": (0, 0.1)}, {"learning_rate": (1, 2, 3)}, {"weight_decay": -1},
        {"weight_decay": 0.1, "optimizer": "sgd"}, {"schedule": "linear"}, {"average": 1.0}, {"mutate_rates": 1},
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(wrong):
    name = next(iter(wrong))
    with pytest.raises(InputError, match=f"^GadamConfig: {name}=.* (must be|is for)"):
        GadamConfig(**wrong)


def test_another_optimizer_with_a_range_is_trained_unit_by_unit():
    config = settings(optimizer="sgd", learning_rate=(1e-3, 1e-1), mode="vectorised")
    ways = []
    run(config, zoo.mlp, record=lambda step: ways.append(len(step.units)))
    assert set(ways) == {1}
