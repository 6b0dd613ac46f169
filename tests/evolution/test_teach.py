"""Functional crossover, and generations of other sizes, against a reference by hand."""

import math
import sys
from dataclasses import replace
from unittest.mock import Mock

import pytest
import torch
import zoo
from by_hand import ONE_HOT, assert_trained_by_hand
from evolving import DOUBLE, MODES, VALIDATION, double_batchnorm, run, settings, watched
from torch import nn

from gadam import load_result, teach
from gadam.evolution.breeding import breed
from gadam.evolution.teach import TEACH, teach_config
from gadam.evolution.teaching import teach_rows, teachers_of
from gadam.population import Population
from gadam.training.batches import call_in_parts
from gadam.training.shards import Data, Shard

TAUGHT = {"crossover": "teach", "teach_weight": 0.7}
TO_ONE = {**TAUGHT, "parents": "half", "child_start": "fitter", "children": 1, "survival": "children"}


@MODES
@pytest.mark.parametrize("parents", ["pair", "all", "half"])
def test_children_learn_the_mean_of_their_teachers_probabilities(parents, mode):
    start = "crossover" if parents == "pair" else "fitter"
    config = settings(parents=parents, child_start=start, mode=mode, shards=2, child_steps=9, **TAUGHT)
    result, watch = watched(config, double_batchnorm, validation=VALIDATION)
    passes = 0
    for generation in watch.generations:
        units = [unit(DOUBLE[0]).softmax(1).detach() for unit in generation.parents.units()]
        losses = generation.history.query("role == 'parent'")["loss_trained"].to_numpy()
        order = losses.argsort(kind="stable").tolist()
        teachers = [
            {"pair": sorted(set(pair)), "all": range(4), "half": order[:2]}[parents]
            for pair in generation.pairs.tolist()
        ]
        targets = [0.7 * sum(units[who] for who in some) / len(some) + 0.3 * ONE_HOT for some in teachers]
        assert_trained_by_hand(generation.newborn, generation.children, config, generation.number, "child", targets)
        if parents != "pair":
            fittest = generation.parents.take(torch.tensor([order[0]] * 4))
            assert zoo.identical(generation.newborn.parameters, fittest.parameters)
        assert not generation.mutation_rates.any()
        assert generation.history.query("role == 'child'")["parent_a"].isna().all() == (parents != "pair")
        passes += len({who for some in teachers for who in some})
    steps = 2 * 4 * (6 + 9)
    assert result.teachers is None, "they are not gone"
    assert result.history["steps"].sum() == steps
    assert result.gradient_steps == steps + math.ceil(passes * zoo.ROWS / (3 * config.batch_size))


def test_teachers_predict_on_one_thread_whose_sums_are_those_of_any_machine(monkeypatch):
    counts = []

    def counted(*given):
        counts.append(torch.get_num_threads())
        return call_in_parts(*given)

    monkeypatch.setattr("gadam.evolution.teaching.call_in_parts", counted)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    run(settings(**TAUGHT))
    assert torch.get_num_threads() == 3
    torch.set_num_threads(before)
    assert set(counts) == {1}


def fitter_of(generation):
    losses = generation.normalized.tolist()
    return generation.parents.take(torch.tensor([min(p, key=losses.__getitem__) for p in generation.pairs.tolist()]))


@pytest.mark.parametrize("start", ["fresh", "fitter", "crossover"])
def test_what_a_taught_child_starts_from(start):
    config = settings(child_start=start, moments="carry", initialisation="standard_normal", **TAUGHT)
    watch = watched(config, double_batchnorm)[1]
    assert watch.initial.parameters["0.weight"].std() > 0.8, "of N(0, 1)"
    for generation in watch.generations:
        newborn = generation.newborn
        if start == "fitter":
            assert zoo.same_population(newborn, fitter_of(generation))
        elif start == "fresh":
            assert not newborn.moments
            assert not newborn.buffers["1.running_mean"].any()
        for name, entry in newborn.parameters.items() if start == "crossover" else ():
            first, second = generation.parents.parameters[name][generation.pairs.T]
            assert ((entry == first) | (entry == second)).all(), "and does not mutate"
    weights = torch.cat([generation.newborn.parameters["0.weight"] for generation in watch.generations])
    assert start != "fresh" or (len(weights.unique(dim=0)) == 8 and weights.std() > 0.8), "each its own, of N(0, 1)"


def test_a_copy_is_its_fitter_parent_and_mutated():
    config = settings(generations=1, crossover="none", mutation_rate=0.5, moments="carry")
    (generation,) = watched(config, double_batchnorm)[1].generations
    newborn, fitter = generation.newborn, fitter_of(generation)
    changed = torch.cat([(e != fitter.parameters[name]).flatten() for name, e in newborn.parameters.items()]).double()
    expected = float(generation.mutation_rates.mean())
    assert abs(float(changed.mean()) - expected) < 4 * math.sqrt(expected / len(changed))
    assert zoo.same_population(replace(newborn, parameters=fitter.parameters), fitter)


def taught_rows(parents, inputs, labels, loss=nn.functional.cross_entropy):
    """What children of four units learn: inputs and targets."""
    config = settings(**TAUGHT)
    rows, nothing = ((inputs,), labels), torch.zeros(1, 0, dtype=torch.int64)
    data, shard = Data(rows, rows, nothing, nothing), Shard(parents, range(4), "parent", 1)
    offspring = bred(parents, [3.0, 1.0, 2.0, 4.0], config)
    (features,), targets = teach_rows(data, [shard], [offspring], [config], loss).train
    return features, targets


@pytest.mark.parametrize("loss", [nn.functional.cross_entropy, nn.CrossEntropyLoss(ignore_index=1)])
def test_ignored_labels_are_not_taught(loss):
    labels, ignored = zoo.LABELS.clone(), getattr(loss, "ignore_index", -100)
    labels[::3] = ignored
    kept, parents = labels != ignored, Population.make(zoo.mlp, 4)
    everything = taught_rows(parents, zoo.FEATURES, labels, loss)
    without = taught_rows(parents, zoo.FEATURES[kept], labels[kept])
    assert torch.equal(everything[0], without[0])
    torch.testing.assert_close(everything[1], without[1])


def test_ignored_labels_of_a_row_whose_others_count_are_not_taught():
    """Labels by pixel, as of a segmentation."""
    labels = torch.randint(3, (5, 2, 2))
    labels[1, 0, 1], labels[3] = -100, -100  # a pixel; all of a row
    _, targets = taught_rows(Population.make(lambda: nn.Conv2d(1, 3, 1), 4), torch.rand(5, 1, 2, 2), labels)
    pixels = targets.unflatten(0, (-1, 4)).sum(2)  # of each child's set of rows
    expected = (labels[[0, 1, 2, 4]] != -100).float()
    torch.testing.assert_close(pixels, expected.expand_as(pixels))


def bred(parents, losses, config):
    return breed(parents, torch.tensor(losses, dtype=torch.float64), config, torch.Generator().manual_seed(0))


def test_a_diverged_unit_teaches_nobody_and_the_half_of_five_are_three():
    for who, expected in (("all", [2, 0, 3, 4]), ("half", [2, 0, 3])):
        config = settings(parents=who, child_start="fitter", **TAUGHT)
        offspring = bred(Population.make(zoo.mlp, 5), [3.0, math.nan, 2.0, 4.0, 5.0], config)
        assert teachers_of(offspring, config) == [expected]


@pytest.mark.parametrize("loss", [nn.functional.mse_loss, nn.functional.binary_cross_entropy_with_logits, nn.L1Loss()])
def test_values_are_taught_too(loss):
    values = (zoo.FEATURES[:, :3] > 0).float()
    result = run(settings(**TO_ONE, steps=100, child_steps=200), data=(zoo.FEATURES, values), loss=loss)
    assert result.history["loss_survival"].iloc[-1] < 0.7 * result.history["loss_start"].iloc[0]


PREDICTIONS = {
    nn.functional.cross_entropy: lambda output: output.softmax(1),
    nn.CrossEntropyLoss(): lambda output: output.softmax(1),
    nn.functional.binary_cross_entropy_with_logits: torch.sigmoid,
    nn.BCEWithLogitsLoss(): torch.sigmoid,
    nn.functional.mse_loss: lambda output: output,
}


@pytest.mark.parametrize("loss", PREDICTIONS)
def test_what_is_taught_are_predictions_as_the_loss_takes_them(loss):
    parents, own = Population.make(zoo.mlp, 4), nn.functional.one_hot(zoo.LABELS, 3).float()
    units = [PREDICTIONS[loss](unit(zoo.FEATURES)).detach() for unit in parents.units()]
    pairs = bred(parents, [3.0, 1.0, 2.0, 4.0], settings(**TAUGHT)).pairs.tolist()
    expected = [0.7 * (units[a] + units[b]) / 2 + 0.3 * own for a, b in pairs]
    torch.testing.assert_close(taught_rows(parents, zoo.FEATURES, own, loss)[1], torch.cat(expected))


def test_teachers_that_draw_predict_the_same_in_each_training():
    zoo.assert_same(*(run(settings(**TAUGHT), zoo.Noisy) for _ in range(2)))


def test_losses_that_take_no_predictions_are_refused():
    config = settings(**TAUGHT)

    def labels_alone(output, targets):
        return nn.functional.cross_entropy(output, targets)

    assert "takes labels and no probabilities" in zoo.complaint(run, config, loss=labels_alone)
    signs = (zoo.FEATURES, (zoo.FEATURES[:, :3] > 0).float())
    assert "is not least there" in zoo.complaint(
        run, config, data=signs, loss=lambda o, t: (o.sigmoid() - t).square().mean()
    )
    assert "takes labels" in zoo.complaint(run, config, make=lambda: nn.Sequential(zoo.mlp(), nn.LogSoftmax(1)),
                                       loss=nn.functional.nll_loss)  # fmt: skip


@pytest.mark.parametrize(
    ("survival", "children", "left"), [("children", 6, 4), ("children", 2, 2), ("both", 6, 4), ("both", 2, 4)]
)
def test_the_fittest_survive_as_many_as_the_population_has_units_at_most(survival, children, left):
    result = run(settings(survival=survival, children=children))
    assert len(result.population) == left
    assert result.teachers is None, "nobody was taught"
    for (_, units), parents in zip(result.history.groupby("generation"), (4, left), strict=True):
        assert (units["role"] == "parent").sum() == parents
        able = units if survival == "both" else units[units["role"] == "child"]
        fittest = able.nsmallest(left, "loss_survival")
        assert sorted(fittest.index) == units.index[units["survived"]].tolist()


ROWS = torch.randn(300, 4, generator=torch.Generator().manual_seed(5))
PLANES = (ROWS, (ROWS[:, 0] + ROWS[:, 1] > 0).long() + (ROWS[:, 2] > 0))


def test_teach_spends_the_steps_and_gives_student_and_teachers(tmp_path):
    file = tmp_path / "state"
    result = teach(zoo.mlp, PLANES, total_steps=4_000, batch_size=16, seed=2, progress=False, checkpoint=file)
    assert 3_950 <= result.gradient_steps <= 4_000
    assert (len(result.population), len(result.teachers)) == (1, 8)
    learned = result.best(PLANES[0]).argmax(1).eq(PLANES[1]).float().mean()
    assert learned > 0.8
    vote = result.ensemble()
    assert vote.units(ROWS[:5]).shape == (8, 5, 3)
    assert result.history["learning_rate"].nunique() == 8
    result.save(tmp_path / "taught")
    for path in (tmp_path / "taught", file):
        again = load_result(path, zoo.mlp)
        assert zoo.same_population(again.teachers, result.teachers)
        zoo.assert_same(again, result)
    for plot in (result.plot, result.plot_family, result.plot_adoption, result.plot_rates):
        plot()
    assert "1 of 1" in result._repr_html_()


def test_what_is_held_out_is_a_tenth_drawn_by_the_seed_on_which_nobody_trains(monkeypatch):
    monkeypatch.setattr(
        sys.modules[teach.__module__], "evolve", lambda make, rows, *_, validation, **__: (rows, validation)
    )
    data, held = (torch.arange(300.0)[:, None], torch.arange(300)), []
    for seed in (1, 1, 2):
        parts = teach(zoo.mlp, data, total_steps=5_000, seed=seed)
        for (numbers,), labels in parts:
            assert numbers[:, 0].tolist() == labels.tolist()
        (trained, aside) = (labels.tolist() for _, labels in parts)
        assert len(aside) == 30
        assert sorted(trained + aside) == list(range(300))
        held.append(aside)
    assert held[0] == held[1] != held[2]


def test_teach_hands_on_what_it_is_given(monkeypatch):
    evolve = Mock()
    monkeypatch.setattr(sys.modules[teach.__module__], "evolve", evolve)
    given = {name: object() for name in ("loss", "executor", "callbacks", "checkpoint", "progress", "stop")}
    given |= {"validation": zoo.DATA, "device": "cpu"}
    teach(zoo.mlp, PLANES, total_steps=5_000, seed=3, teacher_share=0.2, batch_size=16, **given)
    make, (_, labels), config = evolve.call_args.args
    assert evolve.call_args.kwargs == given | {"device": torch.device("cpu")}
    assert (make, len(labels)) == (zoo.mlp, 300)
    assert config == teach_config(300, 5_000, teacher_share=0.2, seed=3, batch_size=16)


def test_teach_says_what_it_cannot_use():
    assert "are too few" in zoo.complaint(teach, zoo.mlp, PLANES, total_steps=10)
    assert "must not be given" in zoo.complaint(teach, zoo.mlp, PLANES, total_steps=5_000, steps=3)
    assert "colour: is no setting" in zoo.complaint(teach, zoo.mlp, PLANES, total_steps=5_000, colour=3)
    for share in (2, 1.0, 0):
        said = zoo.complaint(teach, zoo.mlp, PLANES, total_steps=5_000, teacher_share=share)
        assert f"teacher_share={share}" in said
    assert teach_config(300, 5_000, optimizer="sgd").weight_decay == 0
    assert "total_steps=0" in zoo.complaint(teach, zoo.mlp, PLANES, total_steps=0)
    assert "12 rows leave too few" in zoo.complaint(teach, zoo.mlp, (ROWS[:12], PLANES[1][:12]), total_steps=5_000)


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
    teachers = sum(config.units_of("parent", k) * config.steps for k in range(1, config.generations + 1))
    assert teachers == pytest.approx(0.45 * (10_000 - passes), abs=config.generations * 9)
