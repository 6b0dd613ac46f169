"""Functional crossover, and generations of other sizes: against a reference by hand, over executors and seeds."""

import math
from dataclasses import replace

import pytest
import torch
import zoo
from evolving import DOUBLE, Watch, assert_same, complaint, double_dropout, double_mlp, run, settings
from torch import nn

from gadam import evolve_seeds, load_result, teach
from gadam.evolution.breeding import breed
from gadam.evolution.teach import TEACH, teach_config
from gadam.evolution.teaching import teach_rows, teachers_of
from gadam.population import Population
from gadam.randomness import BATCHES, stream
from gadam.training.shards import Data, Shard

TAUGHT = {"crossover": "teach", "teach_weight": 0.7}
WAYS = {
    "pair": {**TAUGHT, "mode": "vectorised"},
    "all, fresh": {**TAUGHT, "parents": "all", "child_start": "fresh", "children": 3},
    "half to one": {**TAUGHT, "parents": "half", "child_start": "fitter", "children": 1, "child_steps": 9,
                    "survival": "children", "mode": "vectorised"},
    "copies": {"crossover": "none", "mode": "vectorised"},
    "many children": {"children": 7, "child_steps": 3, "survival": "children", "shards": 2, "mode": "vectorised"},
}  # fmt: skip


def adam(unit, targets, config, generation, number):
    """Train a child on targets of its own by Eq. 2, in double precision; return its entries."""
    draws = stream("cpu", config.seed, BATCHES, generation, 1, number, 0)
    rows = torch.randint(zoo.ROWS, (64, config.batch_size), generator=draws)
    entries = [entry.detach().clone() for entry in unit.parameters()]
    first, second = [torch.zeros_like(entry) for entry in entries], [torch.zeros_like(entry) for entry in entries]
    for step in range(1, (config.child_steps or config.steps) + 1):
        for own, entry in zip(unit.parameters(), entries, strict=True):
            own.data.copy_(entry)
        some = rows[step - 1]
        loss = -(targets[some] * unit(DOUBLE[0][some]).log_softmax(1)).sum(1).mean()
        for place, gradient in enumerate(torch.autograd.grad(loss, list(unit.parameters()))):
            first[place] = 0.9 * first[place] + 0.1 * gradient
            second[place] = 0.999 * second[place] + 0.001 * gradient**2
            mean, square = first[place] / (1 - 0.9**step), second[place] / (1 - 0.999**step)
            entries[place] = entries[place] - config.learning_rate * mean / (square.sqrt() + 1e-8)
    return entries


@pytest.mark.parametrize("mode", ["loop", "vectorised"])
@pytest.mark.parametrize("parents", ["pair", "all", "half"])
def test_children_learn_the_mean_of_their_teachers_probabilities(parents, mode):
    start = "crossover" if parents == "pair" else "fitter"
    config = settings(generations=1, parents=parents, child_start=start, mode=mode, **TAUGHT)
    watch = Watch()
    result = run(config, double_mlp, DOUBLE, callbacks=[watch])
    (generation,) = watch.generations
    probabilities = [unit(DOUBLE[0]).softmax(1).detach() for unit in generation.parents.units()]
    order = result.history.query("role == 'parent'")["loss_trained"].to_numpy().argsort(kind="stable")
    one_hot = nn.functional.one_hot(DOUBLE[1], zoo.CLASSES).double()
    for number, child in enumerate(generation.newborn.units()):
        if parents != "pair":
            assert all(map(torch.equal, child.parameters(), generation.parents.unit(int(order[0])).parameters()))
        pair = set(generation.pairs[number].tolist())
        who = {"pair": pair, "all": set(range(4)), "half": set(order[:2].tolist())}[parents]
        mean = sum(probabilities[unit] for unit in who) / len(who)
        expected = adam(child, 0.7 * mean + 0.3 * one_hot, config, 1, number)
        for ours, theirs in zip(generation.children.unit(number).parameters(), expected, strict=True):
            torch.testing.assert_close(ours.detach(), theirs, rtol=1e-8, atol=1e-10)
    children = result.history.query("role == 'child'")
    assert children["parent_a"].isna().all() == (parents != "pair")
    taught_by = {"all": 4, "half": 2}.get(parents, len(set(generation.pairs.flatten().tolist())))
    passes = math.ceil(taught_by * zoo.ROWS / (3 * config.batch_size))
    assert result.gradient_steps == result.history["steps"].sum() + passes


def test_what_a_child_starts_from():
    starts = {}
    for start in ("fresh", "fitter", "crossover"):
        watch = Watch()
        run(settings(generations=1, child_start=start, **TAUGHT), callbacks=[watch])
        starts[start] = watch.generations[0]
    for number in range(4):
        fitter = min(starts["fitter"].pairs[number].tolist(), key=lambda unit: float(starts["fitter"].normalized[unit]))
        for name, entry in starts["fitter"].newborn.parameters.items():
            assert torch.equal(entry[number], starts["fitter"].parents.parameters[name][fitter])
    generation = starts["crossover"]
    for name, entry in generation.newborn.parameters.items():
        ours = generation.parents.parameters[name][generation.pairs]
        assert ((entry == ours[:, 0]) | (entry == ours[:, 1])).all(), "a taught child is not mutated"
        fresh = starts["fresh"].newborn.parameters[name]
        assert not torch.equal(fresh, starts["fresh"].parents.parameters[name])
        assert len(torch.unique(fresh.flatten(1), dim=0)) == 4


def test_a_copy_is_its_fitter_parent_and_mutated():
    watch = Watch()
    run(settings(generations=1, crossover="none", mutation_rate=0.5), callbacks=[watch])
    generation, changed = watch.generations[0], 0
    for number, pair in enumerate(generation.pairs.tolist()):
        fitter = min(pair, key=lambda unit: float(generation.normalized[unit]))
        for name, entry in generation.newborn.parameters.items():
            changed += int((entry[number] != generation.parents.parameters[name][fitter]).sum())
    entries = sum(entry.numel() for entry in generation.newborn.parameters.values())
    expected = float(generation.mutation_rates.mean())
    assert abs(changed / entries - expected) < 4 * math.sqrt(expected / entries)


@pytest.mark.parametrize("way", WAYS)
def test_generations_have_their_sizes_and_the_same_bits_on_any_executor(way, processes):
    config = settings(population_size=4, **WAYS[way])
    result = run(config)
    assert_same(run(config, executor=3), result)
    assert_same(run(config, executor=processes), result)
    for (generation, role), rows in result.history.groupby(["generation", "role"]):
        assert len(rows) == config.units_of(role, generation)
        assert set(rows["steps"]) == {config.steps_of(role)}
        if config.survival == "children":
            assert rows["survived"].sum() == (len(result.population) if role == "child" else 0)
    assert len(result.population) == config.units_of("parent", 3)


@pytest.mark.parametrize("way", WAYS)
def test_seeds_together_are_the_seeds_alone(way):
    config = settings(**{**WAYS[way], "mode": "loop", "shards": None})
    for seed, result in zip((3, 0), run(config, call=evolve_seeds, seeds=[3, 0]), strict=True):
        assert_same(result, run(replace(config, seed=seed)))


@pytest.mark.parametrize("way", [name for name in WAYS if "mode" in WAYS[name]])
def test_traced_programs_teach_as_the_loop_does(way):
    ours = run(settings(**WAYS[way]), double_dropout, DOUBLE)
    loop = run(settings(**{**WAYS[way], "mode": "loop"}), double_dropout, DOUBLE)
    torch.testing.assert_close(ours.population.parameters, loop.population.parameters, rtol=1e-8, atol=1e-10)


def test_ignored_labels_are_not_taught():
    labels = zoo.LABELS.clone()
    labels[::3] = -100
    config = settings(**TAUGHT)
    kept = labels != -100
    everything, without = (
        _taught(config, (zoo.FEATURES, labels)), _taught(config, (zoo.FEATURES[kept], labels[kept]))
    )  # fmt: skip
    assert torch.equal(everything.train[0][0], without.train[0][0])
    torch.testing.assert_close(everything.train[1], without.train[1])


def _taught(config, rows):
    parents = Population.make(zoo.mlp, 4)
    losses = torch.tensor([3.0, 1.0, 2.0, 4.0], dtype=torch.float64)
    offspring = breed(parents, losses, config, torch.Generator().manual_seed(0))
    nothing = torch.zeros(1, 0, dtype=torch.int64)
    data = Data(((rows[0],), rows[1]), ((rows[0],), rows[1]), nothing, nothing)
    shard = Shard(parents, range(4), "parent", 1)
    return teach_rows(data, [shard], [offspring], [config], nn.functional.cross_entropy)


def test_a_diverged_unit_teaches_nobody():
    parents = Population.make(zoo.mlp, 4)
    losses = torch.tensor([3.0, float("nan"), 2.0, 4.0], dtype=torch.float64)
    for who, expected in (("all", [2, 0, 3]), ("half", [2, 0])):
        config = settings(parents=who, child_start="fitter", **TAUGHT)
        offspring = breed(parents, losses, config, torch.Generator().manual_seed(0))
        assert teachers_of(offspring, config) == [expected]


@pytest.mark.parametrize("loss", [nn.functional.mse_loss, nn.functional.binary_cross_entropy_with_logits, nn.L1Loss()])
def test_values_are_taught_too(loss):
    values = (zoo.FEATURES[:, :3] > 0).float()
    result = run(settings(**WAYS["half to one"] | {"steps": 100, "child_steps": 200}), data=(zoo.FEATURES, values),
                 loss=loss)  # fmt: skip
    assert result.history["loss_survival"].iloc[-1] < 0.7 * result.history["loss_start"].iloc[0]


def test_losses_that_take_no_predictions_are_refused():
    config = settings(**TAUGHT)

    def labels_alone(output, targets):
        return nn.functional.cross_entropy(output, targets)

    assert "takes labels and no probabilities" in complaint(run, config, loss=labels_alone)
    signs = (zoo.FEATURES, (zoo.FEATURES[:, :3] > 0).float())
    assert "is not least there" in complaint(
        run, config, data=signs, loss=lambda o, t: (o.sigmoid() - t).square().mean()
    )
    assert "takes labels" in complaint(run, config, make=lambda: nn.Sequential(zoo.mlp(), nn.LogSoftmax(1)),
                                       loss=nn.functional.nll_loss)  # fmt: skip


def test_settings_that_say_nothing_together_are_refused():
    for changed, said in (
        ({"parents": "all"}, "parents='all' is for crossover=\"teach\""),
        ({"child_start": "fresh"}, "child_start='fresh' is for"),
        ({"parents": "half", **TAUGHT}, "needs two parents"),
        ({"children": 0}, "children=0 must be a whole number, at least 1"),
        ({"teach_weight": 2}, "teach_weight=2 must be"),
        ({"crossover": "mix"}, "must be one of entries, teach, none"),
    ):
        assert said in complaint(settings, **changed)


ROWS = torch.randn(300, 4, generator=torch.Generator().manual_seed(5))
PLANES = (ROWS, (ROWS[:, 0] + ROWS[:, 1] > 0).long() + (ROWS[:, 2] > 0))


def test_teach_spends_the_steps_and_gives_student_and_teachers(tmp_path):
    result = teach(zoo.mlp, PLANES, total_steps=4_000, batch_size=16, seed=2, progress=False)
    assert 3_950 <= result.gradient_steps <= 4_000
    assert (len(result.population), len(result.teachers)) == (1, 8)
    learned = result.best(PLANES[0]).argmax(1).eq(PLANES[1]).float().mean()
    assert learned > 0.8
    vote = result.ensemble()
    assert vote.units(ROWS[:5]).shape == (8, 5, 3)
    assert result.history["learning_rate"].nunique() == 8
    result.save(tmp_path / "taught")
    again = load_result(tmp_path / "taught", zoo.mlp)
    assert zoo.same_population(again.teachers, result.teachers)
    assert_same(again, result)
    for plot in (result.plot, result.plot_family, result.plot_adoption, result.plot_rates):
        plot()
    assert "1 of 1" in result._repr_html_()


def test_teach_goes_on_from_its_checkpoint_and_keeps_the_teachers(tmp_path):
    given = {"total_steps": 3_000, "batch_size": 16, "progress": False, "population_size": 3}
    expected = teach(zoo.mlp, PLANES, **given)
    for _ in range(2):  # the second has nothing left to do
        result = teach(zoo.mlp, PLANES, checkpoint=tmp_path / "state", **given)
        assert_same(result, expected)
        assert zoo.same_population(result.teachers, expected.teachers)


def test_teach_says_what_it_cannot_use():
    assert "are too few" in complaint(teach, zoo.mlp, PLANES, total_steps=10)
    assert "must not be given" in complaint(teach, zoo.mlp, PLANES, total_steps=5_000, steps=3)
    assert "colour: is no setting" in complaint(teach, zoo.mlp, PLANES, total_steps=5_000, colour=3)
    assert "teacher_share=2" in complaint(teach, zoo.mlp, PLANES, total_steps=5_000, teacher_share=2)
    assert "total_steps=0" in complaint(teach, zoo.mlp, PLANES, total_steps=0)
    assert "12 rows leave too few" in complaint(teach, zoo.mlp, (ROWS[:12], PLANES[1][:12]), total_steps=5_000)


@pytest.mark.parametrize("changed", [{}, {"generations": 3, "children": 8}, {"parents": "all", "population_size": 3}])
def test_the_settings_of_teach_spend_what_was_asked(changed):
    config = teach_config(1_000, 10_000, **changed)
    expected = TEACH | changed
    assert all(getattr(config, name) == value for name, value in expected.items())
    passes = sum(
        math.ceil(config.units_of("parent", k) / (2 if config.parents == "half" else 1)) * 1_000 / (3 * 128)
        for k in range(1, config.generations + 1)
    )
    steps = sum(
        config.units_of(role, k) * config.steps_of(role)
        for role in ("parent", "child")
        for k in range(1, config.generations + 1)
    )
    assert 10_000 - config.generations * 9 < steps + passes <= 10_000
