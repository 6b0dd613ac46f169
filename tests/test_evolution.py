"""evolve(): what Section 3 says happens in a generation, for any module and executor alike; and what it refuses."""

import functools
import math
import threading
import warnings
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import zoo
from torch import nn
from torch.nn import functional

from gadam import Callback, GadamConfig, InputError, Population, evolve
from gadam.plotting import ancestors
from gadam.training.shards import TrainingError
from gadam.training.trainer import Trainer

COLUMNS = {
    "generation": "int64",
    "role": "str",
    "unit": "int64",
    "parent_a": "Int64",
    "parent_b": "Int64",
    "loss_start": "float64",
    "loss_trained": "float64",
    "loss_survival": "float64",
    "survived": "bool",
    "steps": "int64",
    "seconds": "float64",
}
LOSSES = ["loss_start", "loss_trained", "loss_survival"]
DATA = (zoo.FEATURES, zoo.LABELS)
DOUBLE = (zoo.FEATURES.double(), zoo.LABELS)


def settings(**changed):
    default = {"population_size": 4, "generations": 2, "steps": 3, "batch_size": 8, "learning_rate": 1e-2}
    return GadamConfig(**default | {"mode": "loop", "validation_size": 1_000} | changed)


def double_mlp():
    return zoo.mlp().double()


class Watch(Callback):
    """Keeps what it is told."""

    def __init__(self, stop_after=None):
        self.stop_after, self.told, self.generations = stop_after, [], []

    def on_start(self, config, population):
        self.told.append("start")
        self.config, self.initial = config, population

    def on_generation(self, generation):
        self.told.append(generation.number)
        self.generations.append(generation)
        return generation.number == self.stop_after

    def on_end(self, result):
        self.told.append("end")
        self.result = result


def watched(config=None, make=double_mlp, data=DOUBLE, **given):
    watch = Watch()
    result = evolve(make, data, config or settings(), callbacks=[watch], **given)
    assert watch.result is result
    return result, watch


def losses_of(population, rows=slice(None), loss=functional.cross_entropy):
    """Mean loss of each unit, computed plainly."""
    with torch.no_grad():
        return torch.stack([loss(unit(DOUBLE[0][rows]), DOUBLE[1][rows]) for unit in population.units()])


def column(frame, name):
    return torch.tensor(frame[name].to_numpy())


def assert_same(result, expected):
    assert zoo.same_population(result.population, expected.population)
    assert zoo.identical(result.best.state_dict(), expected.best.state_dict())
    pd.testing.assert_frame_equal(
        result.history.drop(columns="seconds"), expected.history.drop(columns="seconds"), check_exact=True
    )


# --- any module ---


@pytest.mark.parametrize("name", zoo.ZOO)
def test_a_module_of_the_zoo_evolves_alike_unit_by_unit_and_in_one_call_with(name):
    case = zoo.double(zoo.ZOO[name])
    results = {}
    for mode in ("loop", "vectorised"):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            results[mode] = evolve(
                case.make, (case.inputs, case.targets), settings(population_size=2, mode=mode, validation_size=16),
                loss=case.loss, executor=1,
            )  # fmt: skip
        falls_back = mode == "vectorised" and not case.vectorises
        assert [str(warning.message)[:22] for warning in caught] == ["training unit by unit,"] * falls_back
        if falls_back:
            assert caught[0].filename == __file__, "the warning points at the call of evolve"
            assert "\n" not in str(caught[0].message)
    loop, vectorised = results["loop"], results["vectorised"]
    for part in ("parameters", "buffers"):
        assert zoo.difference(getattr(vectorised.population, part), getattr(loop.population, part)) <= 1e-10
    pd.testing.assert_frame_equal(
        vectorised.history.drop(columns="seconds"), loop.history.drop(columns="seconds"), rtol=1e-10
    )
    if not case.vectorises:
        assert zoo.same_population(vectorised.population, loop.population)

    best = loop.best
    inputs = case.inputs if isinstance(case.inputs, tuple) else (case.inputs,)
    assert best(*inputs).isfinite().all()
    assert not any(module.training for module in best.modules())


def test_tied_parameters_are_still_tied_in_the_best_unit():
    best = evolve(zoo.Tied, DATA, settings()).best
    assert best.first.weight is best.second.weight


def test_frozen_parameters_are_neither_trained_nor_mixed_nor_mutated():
    result, watch = watched(settings(mutation_rate=1.0), zoo.frozen_mlp, DATA)
    initial = watch.initial.buffers["0.weight"]
    for generation in watch.generations:
        for population in (generation.parents, generation.newborn, generation.children, generation.next):
            for weight in population.buffers["0.weight"]:
                assert any(torch.equal(weight, whole) for whole in initial)
    first = watch.generations[0]
    givers = torch.where(first.inheritance >= 0.5, first.pairs[:, 0], first.pairs[:, 1])
    assert torch.equal(first.newborn.buffers["0.weight"], first.parents.buffers["0.weight"][givers])
    assert [entry.requires_grad for entry in result.best.parameters()] == [False, False, True, True]


def test_a_model_that_cannot_be_vectorised_is_no_matter_for_a_loop():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evolve(zoo.Branching, DATA, settings(mode="loop"))


@pytest.mark.parametrize("mode", ["loop", "vectorised"])
def test_rows_may_come_from_a_computation_that_has_gradients_and_lie_anyhow_in_memory(mode):
    transform = nn.Linear(4, 4)
    awkward = transform(zoo.FEATURES).view(40, 2, 2).transpose(1, 2)
    assert awkward.requires_grad
    assert not awkward.is_contiguous()
    plain = awkward.detach().contiguous()
    config = settings(mode=mode, population_size=2, generations=1, validation_size=16)
    expected, *others = (
        evolve(
            lambda: nn.Sequential(nn.Flatten(), *zoo.dropout_mlp()), (train, zoo.LABELS), config, validation=held_out
        )
        for train, held_out in [
            (plain, (plain, zoo.LABELS)),
            (awkward, (awkward, zoo.LABELS)),
            (plain, (awkward, zoo.LABELS)),
            (awkward, (plain, zoo.LABELS)),
        ]
    )
    for other in others:
        assert_same(other, expected)
    assert transform.weight.grad is None


# --- the same for any executor ---


IDENTITY = {
    "loop": (zoo.dropout_mlp, {"mode": "loop", "population_size": 10}),
    "vectorised": (zoo.dropout_mlp, {"mode": "vectorised", "population_size": 10, "shards": 3, "validation_size": 16}),
}


@functools.cache
def reference(kind):
    """An evolution in the calling thread."""
    make, changed = IDENTITY[kind]
    return evolve(make, DATA, settings(**changed), executor=1)


@pytest.mark.parametrize("executor", [None, 1, 2, 4, 10])
@pytest.mark.parametrize("kind", IDENTITY)
def test_the_same_seed_gives_the_same_bits_with_threads(kind, executor):
    make, changed = IDENTITY[kind]
    assert_same(evolve(make, DATA, settings(**changed), executor=executor), reference(kind))


@pytest.mark.parametrize("kind", IDENTITY)
def test_the_same_seed_gives_the_same_bits_with_processes(kind, processes):
    make, changed = IDENTITY[kind]
    assert_same(evolve(make, DATA, settings(**changed), executor=processes), reference(kind))


@pytest.mark.parametrize("kind", IDENTITY)
def test_the_same_seed_gives_the_same_bits_whatever_pytorch_is_set_to(kind):
    make, changed = IDENTITY[kind]
    before = torch.get_num_threads()
    torch.manual_seed(99)
    torch.set_num_threads(before + 1)
    try:
        assert_same(evolve(make, DATA, settings(**changed), executor=1), reference(kind))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("kind", IDENTITY)
def test_another_seed_gives_another_evolution(kind):
    make, changed = IDENTITY[kind]
    other = evolve(make, DATA, settings(**changed, seed=1), executor=1)
    for name, entries in reference(kind).population.parameters.items():
        assert not torch.equal(other.population.parameters[name], entries)
    assert not set(other.history["loss_trained"]) & set(reference(kind).history["loss_trained"])


@pytest.mark.parametrize("kind", IDENTITY)
def test_the_global_generator_is_left_as_it_was(kind):
    make, changed = IDENTITY[kind]
    torch.manual_seed(5)
    state = torch.get_rng_state()
    evolve(make, DATA, settings(**changed | {"generations": 1}), executor=2)
    assert torch.equal(torch.get_rng_state(), state)


def test_evolutions_side_by_side_do_not_disturb_each_other():
    make, changed = IDENTITY["vectorised"]
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(evolve, make, DATA, settings(**changed), executor=2) for _ in range(2)]
        for future in futures:
            assert_same(future.result(), reference("vectorised"))


# --- history and result ---


def test_history_is_tidy():
    history = evolve(zoo.mlp, DATA, settings()).history
    assert list(history.columns) == list(COLUMNS)
    types = {name: str(history[name].dtype) for name in COLUMNS if name != "role"}
    assert types == {name: kind for name, kind in COLUMNS.items() if name != "role"}
    expected = [(k, role, unit) for k in (1, 2) for role in ("parent", "child") for unit in range(4)]
    assert list(history[["generation", "role", "unit"]].itertuples(index=False, name=None)) == expected
    assert list(history.index) == list(range(len(history)))
    parents, children = history[history["role"] == "parent"], history[history["role"] == "child"]
    assert parents[["parent_a", "parent_b"]].isna().all(axis=None)
    assert children[["parent_a", "parent_b"]].isin(range(4)).all(axis=None)
    assert (history["steps"] == 3).all()
    assert (history["seconds"] > 0).all()


def test_the_best_is_the_first_of_a_population_that_is_sorted():
    result, watch = watched()
    losses = losses_of(result.population)
    assert torch.equal(losses, losses.sort().values)
    first = {name: entry[0] for name, entry in result.population.parameters.items()}
    assert zoo.identical(dict(result.best.named_parameters()), first)
    assert zoo.same_population(result.population, watch.generations[-1].next)


def test_gradient_steps_counts_every_optimizer_step():
    taken = []
    result = evolve(
        zoo.mlp, DATA, settings(population_size=3, steps=5), record=lambda step: taken.append(len(step.units))
    )
    assert result.gradient_steps == sum(taken) == 2 * 3 * 2 * 5
    assert result.stopped == "generations"
    assert result.config == settings(population_size=3, steps=5)


def test_the_best_unit_shares_no_memory_with_the_population():
    result = evolve(zoo.mlp, DATA, settings())
    before = result.population.parameters["0.weight"].clone()
    with torch.no_grad():
        result.best[0].weight.zero_()
    assert torch.equal(result.population.parameters["0.weight"], before)


# --- one generation, step by step; V holds all rows here, so its losses can be computed plainly ---


@pytest.fixture(scope="module")
def one():
    """Two generations, taken apart."""
    return watched(settings(population_size=6, mutation_rate=0.3))


def rows_of(one, number, role):
    history = one[0].history
    return history[(history["generation"] == number) & (history["role"] == role)]


def assert_close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("number", [1, 2])
def test_losses_are_those_of_the_units_before_and_after_training(one, number):
    result, watch = one
    generation = watch.generations[number - 1]
    before = {
        "parent": watch.initial if number == 1 else watch.generations[0].next,
        "child": generation.newborn,
    }
    after = {"parent": generation.parents, "child": generation.children}
    for role in ("parent", "child"):
        rows = rows_of(one, number, role)
        assert_close(column(rows, "loss_start"), losses_of(before[role]))
        assert_close(column(rows, "loss_trained"), losses_of(after[role]))
        assert_close(column(rows, "loss_survival"), losses_of(after[role]))
    pd.testing.assert_frame_equal(
        generation.history.reset_index(drop=True),
        result.history[result.history["generation"] == number].reset_index(drop=True),
    )


@pytest.mark.parametrize("number", [1, 2])
def test_selection_and_rates_are_those_of_equations_8_10_and_12(one, number):
    generation = one[1].generations[number - 1]
    losses = losses_of(generation.parents)
    normalized = (losses - losses.min()) / (losses.max() - losses.min())
    weights = (-normalized).exp()
    probabilities = weights / weights.sum()
    assert_close(generation.normalized, normalized)
    assert_close(generation.probabilities, probabilities)
    first, second = generation.pairs.unbind(1)
    assert_close(generation.inheritance, weights[first] / (weights[first] + weights[second]))
    assert_close(generation.mutation_rates, (0.3 * (1 - probabilities[first] - probabilities[second])).clamp(min=0))
    rows = rows_of(one, number, "child")
    assert rows["parent_a"].tolist() == first.tolist()
    assert rows["parent_b"].tolist() == second.tolist()


@pytest.mark.parametrize("number", [1, 2])
def test_every_entry_of_a_newborn_comes_from_a_trained_parent_or_from_mutation(one, number):
    generation = one[1].generations[number - 1]
    first, second = generation.pairs.unbind(1)
    inherited, mutated = [], []
    for name, entries in generation.newborn.parameters.items():
        trained = generation.parents.parameters[name]
        known = (entries == trained[first]) | (entries == trained[second])
        fresh = entries[~known]
        assert ((fresh >= 0) & (fresh < 1)).all()
        inherited.append((entries == trained[first]).flatten(1).sum(1) / known.flatten(1).sum(1))
        mutated.append((~known).flatten(1).double().mean(1))
    other = first != second
    share = inherited[0][other].double().mean()  # of the largest parameter
    assert share == pytest.approx(float(generation.inheritance[other].mean()), abs=0.25)
    assert max(float(rate.mean()) for rate in mutated) > 0.05
    assert torch.stack(mutated).mean() == pytest.approx(float(generation.mutation_rates.mean()), abs=0.1)


def test_without_mutation_children_are_made_of_their_parents_alone():
    for generation in watched(settings(mutation_rate=0.0))[1].generations:
        first, second = generation.pairs.unbind(1)
        for name, entries in generation.newborn.parameters.items():
            trained = generation.parents.parameters[name]
            assert ((entries == trained[first]) | (entries == trained[second])).all()


@pytest.mark.parametrize("mutation", ["uniform", "normal"])
def test_mutated_entries_follow_the_distribution_that_was_asked_for(mutation):
    watch = watched(settings(mutation_rate=1.0, mutation=mutation, population_size=30, generations=1, steps=1))[1]
    generation = watch.generations[0]
    first, second = generation.pairs.unbind(1)
    fresh = []
    for name, entries in generation.newborn.parameters.items():
        trained = generation.parents.parameters[name]
        fresh.append(entries[(entries != trained[first]) & (entries != trained[second])])
    fresh = torch.cat(fresh)
    assert len(fresh) > 1_000
    mean, deviation = (0.5, 12**-0.5) if mutation == "uniform" else (0.0, 0.1)
    assert float(fresh.mean()) == pytest.approx(mean, abs=5 * deviation / len(fresh) ** 0.5)
    assert float(fresh.std()) == pytest.approx(deviation, rel=0.1)
    assert bool((fresh < 0).any()) == (mutation == "normal")


@pytest.mark.parametrize("number", [1, 2])
def test_survivors_are_the_fittest_half_in_order(one, number):
    result, watch = one
    generation = watch.generations[number - 1]
    both = Population.join([generation.parents, generation.children])
    losses = losses_of(both)
    ranked = losses.argsort(stable=True)[:6]
    assert generation.survivors.tolist() == ranked.tolist()
    assert zoo.same_population(generation.next, both.take(ranked))
    rows = result.history[result.history["generation"] == number]
    assert rows["survived"].to_numpy().nonzero()[0].tolist() == sorted(ranked.tolist())


def test_parents_are_selected_on_one_batch_and_survivors_on_the_other():
    result, watch = watched(settings(validation_size=5, population_size=8, generations=1))
    rows, generation = result.history, watch.generations[0]
    fitness = column(rows[rows["role"] == "parent"], "loss_trained")
    assert_close(generation.normalized, (fitness - fitness.min()) / (fitness.max() - fitness.min()))
    survival = column(rows, "loss_survival")
    assert generation.survivors.tolist() == survival.argsort(stable=True)[:8].tolist()
    assert fitness.argsort().tolist() != survival[:8].argsort().tolist(), "of use only if the two batches disagree"


def test_children_are_trained_as_long_as_parents():
    seen = []
    evolve(
        zoo.mlp, DATA, settings(population_size=2, generations=1, steps=5),
        record=lambda step: seen.append((step.units.start, step.number)), executor=1,
    )  # fmt: skip
    once = [(unit, step) for unit in range(2) for step in range(1, 6)]
    assert seen == once + once


# --- the batches V; targets are powers of two, so a mean tells which rows it is of ---


class OfTargets(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, dtype=torch.float64))

    def forward(self, inputs):
        return inputs.sum(1) * self.weight


def mean_of_targets(output, targets):
    return targets.mean() + 0 * output.sum()


def evaluated_rows(frame, name, size):
    """The rows that each unit was evaluated on."""
    sums = (frame[name] * size).round().astype("int64")
    return [{bit for bit in range(50) if total >> bit & 1} for total in sums]


POWERS = 2.0 ** torch.arange(40, dtype=torch.float64)


def numbered(rows):
    return torch.ones(len(POWERS[rows]), 2, dtype=torch.float64), POWERS[rows]


@pytest.mark.parametrize(
    ("data", "validation", "allowed"),
    [
        (slice(0, 40), None, set(range(40))),
        (slice(0, 20), slice(20, 40), set(range(20, 40))),
    ],
    ids=["from the training rows", "from held-out rows"],
)
def test_a_validation_batch_is_drawn_anew_and_shared_by_all_units(data, validation, allowed):
    history = evolve(
        OfTargets, numbered(data), settings(validation_size=8, generations=3), loss=mean_of_targets,
        validation=None if validation is None else numbered(validation),
    ).history  # fmt: skip
    batches = []
    for _, rows in history.groupby("generation"):
        start, trained, survival = (evaluated_rows(rows, name, 8) for name in LOSSES)
        assert start == trained, "V of Eq. 7, before and after training"
        assert all(batch == trained[0] for batch in trained)
        assert all(batch == survival[0] for batch in survival)
        batches += [trained[0], survival[0]]
    assert all(len(batch) == 8 for batch in batches), "distinct rows"
    assert all(batch <= allowed for batch in batches)
    assert len({frozenset(batch) for batch in batches}) == 2 * 3


def test_a_validation_batch_larger_than_the_rows_is_all_of_them():
    history = evolve(OfTargets, numbered(slice(0, 12)), settings(validation_size=1_000), loss=mean_of_targets).history
    for name in LOSSES:
        assert all(batch == set(range(12)) for batch in evaluated_rows(history, name, 12))


def test_held_out_rows_are_not_trained_on():
    trained_on = set()

    def loss(output, targets):
        if output.requires_grad:
            trained_on.update(targets.tolist())
        return mean_of_targets(output, targets)

    evolve(
        OfTargets, numbered(slice(0, 20)), settings(steps=20), loss=loss, validation=numbered(slice(20, 40)), executor=1
    )
    assert trained_on == set(POWERS[:20].tolist())


# --- when it ends ---


def test_a_huge_threshold_stops_after_the_first_generation():
    result, watch = watched(settings(threshold=1e9, generations=5))
    assert result.stopped == "converged"
    assert watch.told == ["start", 1, "end"]
    assert result.history["generation"].unique().tolist() == [1]
    assert result.gradient_steps == 2 * 4 * 3


def test_the_threshold_is_on_the_sum_of_the_losses_of_consecutive_generations():
    config = settings(generations=6, learning_rate=3e-2)
    result, watch = watched(config)
    survived = result.history[result.history["survived"]]
    sums = [float(losses_of(watch.initial).sum()), *survived.groupby("generation")["loss_survival"].sum()]
    changes = np.abs(np.diff(sums))
    smallest = int(changes[:-1].argmin())
    assert result.stopped == "generations"
    assert smallest > 0, "of use only if the threshold is not met at once"

    def last_generation(threshold):
        history = evolve(double_mlp, DOUBLE, replace(config, threshold=threshold)).history
        return history["generation"].max()

    assert last_generation(changes[smallest] * (1 + 1e-9)) == smallest + 1
    assert last_generation(changes[smallest] * (1 - 1e-9)) > smallest + 1
    # The first generation is compared with the initial one, untrained.
    assert last_generation(changes[0] * (1 + 1e-9)) == 1
    assert last_generation(changes[0] * (1 - 1e-9)) > 1


def test_a_callback_may_stop_it_and_all_callbacks_are_told():
    watches = [Watch(), Watch(stop_after=2), Watch()]
    result = evolve(zoo.mlp, DATA, settings(generations=5), callbacks=iter(watches))
    assert result.stopped == "callback"
    assert all(watch.told == ["start", 1, 2, "end"] for watch in watches)
    assert result.history["generation"].max() == 2


def test_stopping_early_changes_nothing_before():
    whole = evolve(zoo.mlp, DATA, settings(generations=3)).history
    stopped = evolve(zoo.mlp, DATA, settings(generations=3), callbacks=[Watch(stop_after=2)]).history
    pd.testing.assert_frame_equal(
        stopped.drop(columns="seconds"), whole[whole["generation"] <= 2].drop(columns="seconds"), check_exact=True
    )


# --- the switches ---


def test_carried_moments_make_a_surviving_parent_one_uninterrupted_adam():
    # One row: all batches are the same. A high mutation rate: parents survive.
    data = (DOUBLE[0][:1], DOUBLE[1][:1])
    config = settings(moments="carry", mutation_rate=1.0, steps=10, learning_rate=1e-3)
    watch = watched(config, data=data)[1]
    first, second = watch.generations
    lineage = [(place, int(unit)) for place, unit in enumerate(first.survivors) if unit < 4]
    assert lineage
    for place, unit in lineage:
        module = watch.initial.unit(unit)
        adam = torch.optim.Adam(module.parameters(), lr=1e-3)
        for _ in range(20):
            adam.zero_grad()
            functional.cross_entropy(module(data[0].repeat(8, 1)), data[1].repeat(8)).backward()
            adam.step()
        survivor = {name: entry[place] for name, entry in second.parents.parameters.items()}
        assert zoo.difference(survivor, {n: p.detach() for n, p in module.named_parameters()}) <= 1e-12


def test_carried_moments_follow_their_entries_into_children():
    watch = watched(settings(moments="carry", mutation_rate=0.0))[1]
    generation = watch.generations[0]
    first, second = generation.pairs.unbind(1)
    assert (first != second).any()
    for name, entries in generation.newborn.parameters.items():
        trained = generation.parents.parameters[name]
        from_first, from_second = entries == trained[first], entries == trained[second]
        assert (from_first | from_second).all()
        for kind in ("exp_avg", "exp_avg_sq"):
            moments, theirs = generation.newborn.moments[f"{kind}/{name}"], generation.parents.moments[f"{kind}/{name}"]
            assert torch.equal(moments[from_first], theirs[first][from_first])
            assert torch.equal(moments[from_second], theirs[second][from_second])
        assert generation.newborn.moments[f"step/{name}"].tolist() == [3.0] * 4
        assert generation.children.moments[f"step/{name}"].tolist() == [6.0] * 4


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "sgdm", "rmsprop", "adagrad", "adadelta"])
def test_every_optimizer_carries_its_moments_through_an_evolution(optimizer):
    carried, fresh = (
        evolve(double_mlp, DOUBLE, settings(optimizer=optimizer, moments=moments)) for moments in ("carry", "fresh")
    )
    assert not fresh.population.moments
    assert bool(carried.population.moments) == (optimizer != "sgd")
    same = zoo.identical(carried.population.parameters, fresh.population.parameters)
    assert same == (optimizer == "sgd")


def test_standard_normal_initialisation_reaches_the_units():
    watch = watched(settings(initialisation="standard_normal", generations=1), lambda: nn.Linear(4, 3).double())[1]
    assert float(watch.initial.parameters["weight"].abs().max()) > 1  # torch's default stays within 1/2
    assert_close(column(watch.generations[0].history[:4], "loss_start"), losses_of(watch.initial))


# --- units that diverge ---


def some_diverge(*sick):
    """Makes units of which some have infinite weights."""
    made = iter(range(1_000))

    def make():
        module = double_mlp()
        if next(made) in sick:
            nn.init.constant_(module[0].weight, math.inf)
        return module

    return make


@pytest.mark.parametrize("mode", ["loop", "vectorised"])
def test_a_diverged_unit_is_neither_parent_nor_survivor(mode):
    config = settings(mode=mode, population_size=4, generations=3, mutation_rate=0.0)
    result, watch = watched(config, some_diverge(0, 2))
    first = result.history[result.history["generation"] == 1]
    assert first["loss_trained"].isna().tolist() == [True, False, True, False] + [False] * 4
    assert set(first["parent_a"].dropna()) | set(first["parent_b"].dropna()) == {1, 3}
    assert watch.generations[0].probabilities[[0, 2]].tolist() == [0, 0]
    assert not first["survived"][first["loss_survival"].isna()].any()
    assert all(entry.isfinite().all() for entry in result.population.parameters.values())
    assert result.history[result.history["generation"] > 1][LOSSES].notna().all(axis=None)


def test_finite_units_come_first_where_too_few_survive():
    result = evolve(some_diverge(0, 1, 2), DOUBLE, settings(generations=1, steps=1, learning_rate=1e-9))
    losses = losses_of(result.population)
    assert losses.isfinite().all(), "one healthy parent and its four children"


@pytest.mark.parametrize("finite", [1, 3])
def test_units_that_diverged_are_replaced_by_the_fittest_where_too_few_are_finite(finite, monkeypatch, caplog):
    real = Trainer.train

    def train(self, shard, *given):
        trained = real(self, shard, *given)
        sick = shard.role == "child" or shard.units.start >= finite
        if shard.generation > 1 or not sick:
            return trained
        nothing = torch.full_like(trained.loss_survival, math.nan)
        return replace(trained, loss_trained=nothing, loss_survival=nothing)

    monkeypatch.setattr(Trainer, "train", train)
    config = settings(mode="loop", population_size=4, shards=4, generations=2)
    result, watch = watched(config, double_mlp)
    first = watch.generations[0]
    ranked = first.history[first.history["loss_survival"].notna()].sort_values("loss_survival")["unit"].tolist()
    assert len(ranked) == finite
    assert first.survivors.tolist() == (ranked * 4)[:4]
    assert first.history["survived"].sum() == finite
    for place, unit in enumerate(first.survivors.tolist()):
        assert zoo.same_population(first.next.take(slice(place, place + 1)), first.parents.take(slice(unit, unit + 1)))
    assert f"generation 1: {4 - finite} diverged units are replaced by copies of the fittest" in caplog.text
    assert len(result.population) == 4
    assert {one[0] for one in ancestors(result.history)} == {1, 2}, "the family goes through the copies"


@pytest.mark.parametrize("mode", ["loop", "vectorised"])
def test_a_population_without_a_finite_unit_ends_with_an_error_and_a_checkpoint(mode, tmp_path):
    config = settings(mode=mode, generations=1)
    with pytest.raises(TrainingError, match="generation 1: every unit has a loss that is NaN or infinite") as caught:
        evolve(some_diverge(*range(4)), DOUBLE, config, checkpoint=tmp_path / "state")
    assert "\n" not in str(caught.value)
    with pytest.raises(TrainingError, match="every unit"):
        evolve(some_diverge(*range(4)), DOUBLE, config, checkpoint=tmp_path / "state")


class Fuse(nn.Module):
    """Gives NaN after so many steps of training."""

    def __init__(self, steps):
        super().__init__()
        self.layers = zoo.mlp().double()
        self.register_buffer("left", torch.tensor(float(steps)))

    def forward(self, inputs):
        if self.training:
            self.left = self.left - 1
        return self.layers(inputs) * torch.where(self.left < 0, math.nan, 1.0)


@pytest.mark.parametrize("moments", ["fresh", "carry"])
@pytest.mark.parametrize("mode", ["loop", "vectorised"])
def test_a_unit_that_goes_bad_in_mid_training_is_replaced_and_the_history_says_so(mode, moments):
    steps = iter([math.inf, math.inf, 1, math.inf])
    watch = Watch()
    config = settings(mode=mode, moments=moments, population_size=4)
    history = evolve(lambda: Fuse(next(steps)), DOUBLE, config, callbacks=[watch], progress=False).history
    sick = history.query("generation == 1 and role == 'parent' and unit == 2").iloc[0]
    assert math.isfinite(sick["loss_start"])
    assert math.isnan(sick["loss_trained"])
    assert math.isnan(sick["loss_survival"])
    assert not sick["survived"]
    assert 2 not in watch.generations[0].pairs
    everything = [watch.result.population, *(generation.next for generation in watch.generations)]
    for population in everything:
        for entries in (population.parameters, population.moments):
            assert all(entry.isfinite().all() for entry in entries.values())
    assert history.query("generation == 2")["loss_survival"].notna().all()


# --- mistakes ---


def complaint(make=zoo.mlp, data=DATA, config=None, **given):
    """The message of the InputError that a call gives, before any training."""
    trained = []
    with pytest.raises(InputError) as caught:
        evolve(make, data, config or settings(), record=lambda *_: trained.append(1), **given)
    message = str(caught.value)
    assert "\n" not in message
    assert not trained
    return message


NAN = zoo.FEATURES.clone()
NAN[3:5, 0] = math.nan

MISTAKES = {
    "numpy inputs": ({"data": (zoo.FEATURES.numpy(), zoo.LABELS)}, ["data", "inputs", "numpy.ndarray", "as_tensor"]),
    "numpy targets": ({"data": (zoo.FEATURES, zoo.LABELS.numpy())}, ["data", "targets", "numpy.ndarray"]),
    "no targets": ({"data": (zoo.FEATURES, None)}, ["data", "targets", "NoneType"]),
    "a number as targets": ({"data": (zoo.FEATURES, torch.tensor(1))}, ["data", "targets", "[]"]),
    "no inputs": ({"data": ((), zoo.LABELS)}, ["data", "inputs"]),
    "no rows": ({"data": (zoo.FEATURES[:0], zoo.LABELS[:0])}, ["data", "at least one row"]),
    "data is a tensor": ({"data": zoo.FEATURES}, ["data", "pair"]),
    "data of three": ({"data": (zoo.FEATURES, zoo.LABELS, zoo.LABELS)}, ["data", "pair"]),
    "rows that do not match": ({"data": (zoo.FEATURES, zoo.LABELS[:-1])}, ["data", "40", "39"]),
    "a second input that does not match": (
        {"make": zoo.TwoInputs, "data": ((zoo.FEATURES, zoo.TOKENS[:-1]), zoo.LABELS)}, ["data", "39", "40"]
    ),
    "NaN in inputs": ({"data": (NAN, zoo.LABELS)}, ["data", "inputs", "NaN", "2 of 40"]),
    "infinity in targets": (
        {"make": zoo.regression, "data": (zoo.FEATURES, zoo.VALUES / 0), "loss": functional.mse_loss},
        ["data", "targets", "infinity"],
    ),
    "inputs that do not fit": ({"data": (zoo.FEATURES[:, :3], zoo.LABELS)}, ["make_model", "[4, 3]"]),
    "inputs of the wrong type": ({"data": (zoo.FEATURES.double(), zoo.LABELS)}, ["make_model", "float64"]),
    "a target too large": ({"data": (zoo.FEATURES, zoo.LABELS + 1)}, ["targets", "1 to 3", "0 to 2"]),
    "a target too small": ({"data": (zoo.FEATURES, zoo.LABELS - 1)}, ["targets", "-1 to 1", "0 to 2"]),
    "a target too large somewhere": (
        {"data": (zoo.FEATURES, torch.cat([zoo.LABELS[:-1], torch.tensor([7])])), "loss": nn.CrossEntropyLoss()},
        ["targets", "to 7", "0 to 2"],
    ),
    "targets of the wrong type": ({"data": (zoo.FEATURES, zoo.LABELS.float())}, ["loss", "cross_entropy", "float32"]),
    "outputs that would be broadcast": (
        {"make": zoo.regression, "data": (zoo.FEATURES, zoo.VALUES[:, 0]), "loss": functional.mse_loss},
        ["loss", "mse_loss", "[4, 1]", "[4]"],
    ),
    "a loss for each row": ({"loss": nn.CrossEntropyLoss(reduction="none")}, ["loss", "CrossEntropyLoss", "scalar"]),
    "a loss that is no tensor": ({"loss": lambda output, targets: 0.5}, ["loss", "float", "scalar"]),
    "a loss without a gradient": (
        {"loss": lambda output, targets: (output.argmax(1) != targets).float().mean()}, ["loss", "gradient"]
    ),
    "a batch too small for BatchNorm": (
        {"make": zoo.batchnorm_mlp, "config": settings(batch_size=1)}, ["make_model", "batch_size=1"]
    ),
    "a model": ({"make": zoo.mlp()}, ["make_model", "Sequential"]),
    "no module": ({"make": dict}, ["make_model", "dict"]),
    "a lazy module": ({"make": lambda: nn.LazyLinear(3)}, ["make_model", "lazy"]),
    "nothing to learn": ({"make": nn.ReLU}, ["make_model", "ReLU"]),
    "held-out rows that do not match": ({"validation": (zoo.FEATURES, zoo.LABELS[:-1])}, ["validation", "40", "39"]),
    "held-out rows that do not fit": (
        {"validation": (zoo.FEATURES[:, :3], zoo.LABELS)}, ["validation", "make_model", "[4, 3]"]
    ),
    "held-out targets out of range": ({"validation": (zoo.FEATURES, zoo.LABELS + 1)}, ["validation", "0 to 2"]),
    **{
        f"device {device!r}": ({"device": device}, [f"device={str(device)!r}", '"auto"'])
        for device in ("two", "cuda:99", "meta", None, 1.5)
    },
    **{f"executor {wrong!r}": ({"executor": wrong}, [f"executor={wrong!r}"]) for wrong in ("two", 0, True)},
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_one_line_before_any_training(mistake):
    given, named = MISTAKES[mistake]
    message = complaint(**given)
    assert all(part in message for part in named), message


def test_a_target_that_the_loss_ignores_is_no_mistake():
    labels = torch.where(torch.arange(40) < 20, zoo.LABELS, -1)
    evolve(zoo.mlp, (zoo.FEATURES, labels), settings(), loss=nn.CrossEntropyLoss(ignore_index=-1))


# --- stopping from another thread ---


def stopped_in(generation, executor=None, **changed):
    """The result of a run that is stopped in the middle of a generation."""
    stop = threading.Event()

    def record(step):
        if step.generation == generation and step.role == "child":
            stop.set()

    config = settings(generations=4, steps=200, **changed)
    return evolve(zoo.mlp, DATA, config, record=record, executor=executor, stop=stop)


@pytest.mark.parametrize("mode", ["loop", "vectorised"])
@pytest.mark.parametrize("executor", [1, 3])
def test_stopped_it_returns_the_last_complete_generation(mode, executor):
    result = stopped_in(3, executor, mode=mode, shards=3)
    expected = evolve(zoo.mlp, DATA, settings(generations=2, steps=200, mode=mode, shards=3))
    assert result.stopped == "stop"
    assert result.gradient_steps == expected.gradient_steps
    pd.testing.assert_frame_equal(result.history.drop(columns="seconds"), expected.history.drop(columns="seconds"))
    for name, entry in expected.population.parameters.items():
        assert torch.equal(result.population.parameters[name], entry)


@pytest.mark.parametrize("executor", [1, 3])
def test_stopped_in_its_first_generation_it_returns_the_initial_one(executor):
    result = stopped_in(1, executor)
    initial = Population.make(zoo.mlp, 4, seed=0)
    assert (result.stopped, result.gradient_steps, len(result.history)) == ("stop", 0, 0)
    assert {name: str(kind) for name, kind in result.history.dtypes.items()} == COLUMNS
    for name, entry in initial.parameters.items():
        assert torch.equal(result.population.parameters[name], entry)


def test_stopped_it_does_not_wait_for_other_executors():
    stop, running = threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as threads:

        class Slow(Executor):
            """Not one of threads that evolve knows of."""

            def submit(self, function, *given, **named):
                running.set()
                return threads.submit(stop.wait, 120)

        asked = threading.Thread(target=lambda: running.wait(60) and stop.set())
        asked.start()
        result = evolve(zoo.mlp, DATA, settings(), executor=Slow(), stop=stop)
        asked.join()
    assert result.stopped == "stop"


# --- the bar, and errors on the way ---


@pytest.mark.parametrize("progress", [None, False])
def test_nothing_is_printed_where_nobody_looks(progress, capfd):
    evolve(zoo.mlp, DATA, settings(), progress=progress)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("executor", [1, 4])
def test_the_bar_ends_at_all_steps_of_all_units(executor, capfd):
    evolve(zoo.mlp, DATA, settings(), executor=executor, progress=True)
    last = capfd.readouterr().err.strip().rpartition("\r")[2]
    assert "48.0/48.0" in last  # 2 roles x 4 units x 2 generations x 3 steps
    assert "generation 2/2" in last
    assert "best=" in last


class StopError(Exception):
    """Not one of the engine's own."""


def raise_stop(*_):
    raise StopError


@pytest.mark.parametrize("moment", ["on_start", "on_generation", "on_end"])
@pytest.mark.parametrize("executor", [1, 3])
def test_an_error_of_a_callback_goes_through_and_leaves_no_thread(moment, executor, monkeypatch):
    monkeypatch.setattr(Watch, moment, raise_stop)
    threads = threading.enumerate()
    with pytest.raises(StopError):
        evolve(zoo.mlp, DATA, settings(), executor=executor, callbacks=[Watch()])
    assert [thread for thread in threading.enumerate() if "gadam" in thread.name or thread not in threads] == []


@pytest.mark.parametrize("executor", [1, 3])
def test_an_error_in_training_goes_through_and_leaves_no_thread_nor_changes_behind(executor):
    class Fragile(zoo.Linear):
        def __init__(self):
            super().__init__()
            self.calls = 0

        def forward(self, inputs):
            self.calls += self.training
            if self.calls == 3:
                raise StopError
            return self.layer(inputs)

    threads, intra, state = threading.enumerate(), torch.get_num_threads(), torch.get_rng_state()
    with pytest.raises(StopError):
        evolve(Fragile, DATA, settings(), executor=executor)
    assert [thread for thread in threading.enumerate() if thread not in threads] == []
    assert torch.get_num_threads() == intra
    assert torch.equal(torch.get_rng_state(), state)
    evolve(zoo.mlp, DATA, settings(), executor=executor)


def test_what_callbacks_are_given_does_not_change_later():
    watch = watched(settings(generations=3))[1]
    again = watched(settings(generations=1))[1]
    assert zoo.same_population(watch.initial, again.initial)
    for name in ("parents", "newborn", "children", "next"):
        assert zoo.same_population(getattr(watch.generations[0], name), getattr(again.generations[0], name))


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_moments_that_are_carried_do_not_depend_on_the_layout(optimizer):
    """After the first generation survivors and their children have taken different numbers of steps."""
    results = [
        evolve(
            zoo.double(zoo.Case(zoo.mlp)).make, DOUBLE, progress=False,
            config=settings(generations=3, steps=10, moments="carry", optimizer=optimizer, **layout),
        )
        for layout in ({"mode": "loop"}, {"mode": "vectorised", "shards": 1}, {"mode": "vectorised", "shards": 4})
    ]  # fmt: skip
    for other in results[1:]:
        assert zoo.difference(other.population.parameters, results[0].population.parameters) <= 1e-9
        assert zoo.difference(other.population.moments, results[0].population.moments) <= 1e-9
