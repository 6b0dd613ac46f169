"""Populations of several seeds trained together: each is what it is alone."""

import threading
from dataclasses import replace

import pandas as pd
import pytest
import torch
import zoo

from gadam import Callback, GadamConfig, InputError, Population, evolve, evolve_seeds
from gadam.training.shards import Data, Shard, Trained
from gadam.training.trainer import Trainer

SEEDS = (3, 0, 8)
DATA = (zoo.FEATURES.double(), zoo.LABELS)


def settings(**changed):
    default = {"population_size": 3, "generations": 2, "steps": 5, "batch_size": 8, "validation_size": 16}
    return GadamConfig(**default | {"mode": "loop"} | changed)


def make():
    return zoo.dropout_mlp().double()


def alone(config, seed, **given):
    return evolve(make, DATA, replace(config, seed=seed), progress=False, **given)


def together(config, seeds=SEEDS, **given):
    return evolve_seeds(make, DATA, config, seeds=seeds, progress=False, **given)


def losses(result):
    return result.history.drop(columns="seconds")


def assert_same(result, expected):
    pd.testing.assert_frame_equal(losses(result), losses(expected))
    assert zoo.same_population(result.population, expected.population)
    assert zoo.same_population(Population.stack([result.best]), Population.stack([expected.best]))
    for name in ("config", "stopped", "gradient_steps"):
        assert getattr(result, name) == getattr(expected, name)


@pytest.mark.parametrize("executor", [1, 3])
@pytest.mark.parametrize("shards", [None, 1, 2, 5])  # 2 and 5 cut through a seed's units
def test_each_seed_gives_what_it_gives_alone(shards, executor):
    for seed, result in zip(SEEDS, together(settings(shards=shards), executor=executor), strict=True):
        assert_same(result, alone(settings(shards=shards), seed))


@pytest.mark.parametrize("shards", [1, 2, 5])
def test_in_one_call_each_seed_gives_what_it_gives_alone_up_to_rounding(shards):
    config = settings(mode="vectorised", shards=shards)
    for seed, result in zip(SEEDS, together(config), strict=True):
        expected = alone(replace(config, shards=1), seed)
        pd.testing.assert_frame_equal(losses(result), losses(expected), rtol=1e-9)
        for name, entry in expected.population.parameters.items():
            torch.testing.assert_close(result.population.parameters[name], entry)


def test_units_of_all_seeds_are_trained_in_one_call(monkeypatch):
    sizes = []
    train = Trainer._train_vectorised

    def counted(trainer, shard, *given):
        sizes.append(len(shard.units))
        return train(trainer, shard, *given)

    monkeypatch.setattr(Trainer, "_train_vectorised", counted)
    together(settings(mode="vectorised", shards=1))
    assert sizes[-4:] == [9] * 4  # parents and children of two generations


def test_one_seed_is_evolve():
    assert_same(together(settings(), [5])[0], alone(settings(), 5))


class Until(Callback):
    """Stops after a generation, and remembers what it was told."""

    def __init__(self, last=None):
        self.last, self.told = last, []

    def on_start(self, config, population):
        self.told.append((config.seed, len(population)))

    def on_generation(self, generation):
        self.told.append((generation.number, len(generation.parents), int(generation.history["unit"].max())))
        return generation.number == self.last

    def on_end(self, result):
        self.told.append(result)

    def state_dict(self):
        return {"told": self.told}

    def load_state_dict(self, state):
        self.told = [tuple(each) for each in state["told"]]


def test_a_seed_that_is_stopped_keeps_its_population_and_the_others_go_on():
    config = settings(generations=4)
    lasts = dict(zip(SEEDS, (1, None, 3), strict=True))
    watching = {seed: Until(last) for seed, last in lasts.items()}
    results = together(config, callbacks=lambda seed: [watching[seed]])
    for seed, result in zip(SEEDS, results, strict=True):
        assert_same(result, alone(config, seed, callbacks=[Until(lasts[seed])]))
        assert result.stopped == ("callback" if lasts[seed] else "generations")
        start, *generations, end = watching[seed].told
        assert start == (seed, 3)
        assert generations == [(number, 3, 2) for number in range(1, 1 + (lasts[seed] or 4))]
        assert end is result


def test_a_seed_that_has_converged_is_over():
    config = settings(generations=6, steps=40)
    moved = {}  # of the sum of losses, from generation 1 to 2
    for seed in SEEDS:
        rows = alone(replace(config, generations=2), seed).history
        sums = rows[rows["survived"]].groupby("generation")["loss_survival"].sum()
        moved[seed] = abs(sums[2] - sums[1])
    config = replace(config, threshold=float(sorted(moved.values())[0]))
    results = together(config)
    for seed, result in zip(SEEDS, results, strict=True):
        assert_same(result, alone(config, seed))
    assert "converged" in {result.stopped for result in results}
    assert len({len(result.history) for result in results}) > 1


def recorded(step, seen):
    for place, unit in enumerate(step.units):
        entry = {name: tensor[place].clone() for name, tensor in step.parameters.items()}
        seen[step.generation, step.role, unit, step.number] = step.losses[place].clone(), entry


@pytest.mark.parametrize("mode", ["loop", "vectorised"])
def test_each_seeds_record_is_told_of_its_own_units(mode):
    config = settings(mode=mode, shards=2)
    seen = {seed: {} for seed in SEEDS}
    # One seed's record only, for another asks for none.
    together(config, record=lambda seed: None if seed == 0 else lambda step: recorded(step, seen[seed]))
    assert not seen.pop(0)
    for seed, found in seen.items():
        expected = {}
        alone(config, seed, record=lambda step, expected=expected: recorded(step, expected))
        assert found.keys() == expected.keys()
        assert len(found) == 2 * 2 * 3 * 5
        for key, (loss, entry) in found.items():
            torch.testing.assert_close(loss, expected[key][0])
            assert all(torch.allclose(entry[name], expected[key][1][name]) for name in entry)


@pytest.mark.parametrize("mode", ["loop", "vectorised"])
def test_stopped_anywhere_it_goes_on_as_if_it_had_not(mode, tmp_path):
    config = settings(mode=mode, generations=3, shards=2)
    path = tmp_path / "seeds"
    watching = {seed: Until(2 if seed == 0 else None) for seed in SEEDS}
    expected = together(config, callbacks=lambda seed: [watching[seed]])
    for round_ in range(200):
        stop, steps = threading.Event(), []
        mine = {seed: Until(2 if seed == 0 else None) for seed in SEEDS}

        def record(_, steps=steps, stop=stop, round_=round_):
            steps.append(1)
            if len(steps) > 7 + round_ % 5:
                stop.set()

        results = together(
            config, callbacks=lambda seed, mine=mine: [mine[seed]], record=lambda _, record=record: record, stop=stop,
            checkpoint=path, checkpoint_seconds=1e-4, executor=1,
        )  # fmt: skip
        if not stop.is_set() or all(result.stopped != "stop" for result in results):
            break
    assert round_ > 2
    for seed, result, whole in zip(SEEDS, results, expected, strict=True):
        assert_same(result, whole)
        assert mine[seed].told[:-1] == watching[seed].told[:-1]


def test_a_checkpoint_of_other_seeds_is_refused(tmp_path):
    together(settings(), checkpoint=tmp_path / "seeds")
    for others in ([3, 0, 7], [3, 0], [0, 3, 8]):
        with pytest.raises(InputError, match="is of another config \\(seed: "):
            together(settings(), others, checkpoint=tmp_path / "seeds")
    with pytest.raises(InputError, match="is of another config"):
        alone(settings(), 3, checkpoint=tmp_path / "seeds")


# --- several devices, of which a machine without GPUs has only the moves ---


def shard(units=2):
    return Shard(Population.make(make, units), range(units), "parent", 1)


def test_shards_go_to_devices_in_turn_and_come_back(monkeypatch):
    from gadam.parallel import executors

    went = []

    def train(trainer, part, data, progress=None, record=None, seconds=None):
        went.append(
            (part.units.start, data.train[1].device.type, next(iter(part.population.parameters.values())).device.type)
        )
        losses = torch.zeros(len(part.units))
        return [Trained(part.population, losses, losses, losses, 0.0)]

    monkeypatch.setattr(executors, "train_or_halve", train)
    one = torch.zeros(1, dtype=torch.int64)
    batch = ((torch.zeros(1, 4),), one)
    there = ((torch.zeros(1, 4, device="meta"),), one.to("meta"))
    parts = [Shard(shard(1).population, range(n, n + 1), "parent", 1) for n in range(3)]
    back, moved = shard(1).population, []
    to = Population.to

    def move(population, device, template=None):
        """What is on the device that holds nothing cannot come back."""
        moved.append(device.type)
        return replace(back, template=template) if device.type == "cpu" else to(population, device, template)

    monkeypatch.setattr(Population, "to", move)
    trained = executors.train_shards(
        None, Trainer(settings(), None), parts, Data(batch, batch, one, one), elsewhere=[Data(there, there, one, one)]
    )
    assert went == [(0, "cpu", "cpu"), (1, "meta", "meta"), (2, "cpu", "cpu")]
    assert moved == ["meta", "cpu"]
    for before, after in zip(parts, trained, strict=True):
        assert after.population.template is before.population.template


def test_a_shard_moves_with_where_it_stands():
    whole = shard()
    begun = Trainer(settings(), torch.nn.functional.cross_entropy)._begin(
        whole, Data(*[((DATA[0],), DATA[1])] * 2, *[torch.arange(4)] * 2)
    )
    there = replace(whole, begun=begun).to(torch.device("meta"))
    assert {entry.device.type for entry in there.population.parameters.values()} == {"meta"}
    assert there.begun.loss_start.device.type == "meta"
    assert there.begun.steps.device.type == there.begun.batches.device.type == "cpu"
    assert whole.population.template is not there.population.template


def test_several_devices_give_what_one_gives(monkeypatch):
    """Twice the same device, which is refused otherwise: copies of the rows, and no move."""
    config = settings(mode="vectorised", shards=4)
    expected = evolve(make, DATA, config, progress=False)
    cpu = torch.device("cpu")
    monkeypatch.setattr("gadam.evolution.loop.resolve_devices", lambda _: (cpu, cpu))
    for executor in (None, 1, 3):
        assert_same(evolve(make, DATA, config, progress=False, executor=executor), expected)
