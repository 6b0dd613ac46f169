"""A generation is what Section 3 says: every number of it against plain PyTorch and Python, a unit at a time."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import zoo
from evolving import DATA, DOUBLE, STEPS, double_mlp, run, settings, timeless, watched
from torch import nn
from torch.nn import functional

from gadam import Population, load_result
from gadam.training.shards import TrainingError

MODES = pytest.mark.parametrize("mode", ["loop", "vectorised"])
LOSSES = ["loss_start", "loss_trained", "loss_survival"]
TYPES = {
    "generation": "int64", "role": "str", "unit": "int64", "parent_a": "Int64", "parent_b": "Int64",
    **dict.fromkeys(LOSSES, "float64"), "survived": "bool", "steps": "int64", "seconds": "float64",
}  # fmt: skip


def losses_of(population):
    """The loss of each unit on all rows, computed plainly."""
    with torch.no_grad():
        return [float(functional.cross_entropy(unit(DOUBLE[0]), DOUBLE[1])) for unit in population.units()]


def near(values):
    return pytest.approx(values, rel=1e-12, abs=1e-14)


@pytest.mark.parametrize(("mode", "mutation"), [("loop", "uniform"), ("vectorised", "normal")])
def test_a_generation_is_that_of_the_equations(mode, mutation):
    """The validation batch holds all rows here, so each loss can be computed without knowing what was drawn."""
    config = settings(mode=mode, mutation=mutation, population_size=6, mutation_rate=0.3, validation_size=1_000)
    result, watch = watched(config)
    start = watch.initial
    for generation in watch.generations:
        rows = timeless(result)[result.history["generation"] == generation.number].reset_index(drop=True)
        assert rows.equals(generation.history.drop(columns="seconds"))
        parents, children = rows[:6], rows[6:].reset_index(drop=True)
        trained = losses_of(generation.parents)
        assert parents["loss_start"].tolist() == near(losses_of(start))
        assert parents["loss_trained"].tolist() == near(trained)
        assert parents["loss_survival"].tolist() == near(trained)
        assert children["loss_start"].tolist() == near(losses_of(generation.newborn))
        assert children["loss_survival"].tolist() == near(losses_of(generation.children))

        low, high = min(trained), max(trained)
        weights = [math.exp(-(loss - low) / (high - low)) for loss in trained]
        shares = [weight / sum(weights) for weight in weights]
        assert generation.probabilities.tolist() == near(shares)  # Eq. 8
        for child, (a, b) in enumerate(generation.pairs.tolist()):
            assert (a, b) == (children["parent_a"][child], children["parent_b"][child])
            assert float(generation.inheritance[child]) == near(weights[a] / (weights[a] + weights[b]))  # Eq. 10
            assert float(generation.mutation_rates[child]) == near(max(0, 0.3 * (1 - shares[a] - shares[b])))  # Eq. 12
        inherited_or_fresh(generation, mutation)

        both = Population.join([generation.parents, generation.children])
        ranked = sorted(range(12), key=[*trained, *losses_of(generation.children)].__getitem__)[:6]
        assert generation.survivors.tolist() == ranked
        assert zoo.same_population(generation.next, both.take(torch.tensor(ranked)))
        assert rows.index[rows["survived"]].tolist() == sorted(ranked)
        start = generation.next
    assert zoo.same_population(result.population, start)
    assert zoo.same_population(Population.stack([result.best]), start.take(slice(0, 1)))


def inherited_or_fresh(generation, mutation):
    """Eq. 9 and 11: each entry of a child is one of its parents', as often as its chances say, or it is drawn."""
    low, high = (0, 1) if mutation == "uniform" else (-0.6, 0.6)  # six deviations of N(0, 0.1^2)
    first, second = generation.pairs.unbind(1)
    fresh, of_first, either = 0, [], []
    for name, entries in generation.newborn.parameters.items():
        one, other = (entries == generation.parents.parameters[name][parent] for parent in (first, second))
        assert ((entries >= low) & (entries < high))[~(one | other)].all()
        fresh += int((~(one | other)).sum())
        of_first.append((one & ~other).flatten(1).sum(1))
        either.append((one ^ other).flatten(1).sum(1))
    counts, chances = sum(either), generation.inheritance
    expected, deviation = (counts * chances).sum(), (counts * chances * (1 - chances)).sum().sqrt()
    assert abs(float(sum(of_first).sum() - expected)) <= 5 * float(deviation)
    entries = sum(entry[0].numel() for entry in generation.newborn.parameters.values())
    rate = float(generation.mutation_rates.mean())
    assert fresh / entries / 6 == pytest.approx(rate, abs=5 * math.sqrt(rate / entries / 6))


def test_parents_are_selected_on_one_batch_and_survivors_on_the_other():
    result, watch = watched(settings(validation_size=5, population_size=8, generations=1))
    fitness, survival = result.history["loss_trained"][:8], result.history["loss_survival"]
    spread = fitness.max() - fitness.min()
    assert watch.generations[0].normalized.tolist() == near(((fitness - fitness.min()) / spread).tolist())
    assert watch.generations[0].survivors.tolist() == survival.sort_values(kind="stable").index[:8].tolist()
    assert fitness.rank().tolist() != survival[:8].rank().tolist(), "of use only if the two batches disagree"


# --- validation batches: targets are powers of two, so that a mean tells which rows it is of ---

POWERS = 2.0 ** torch.arange(40, dtype=torch.float64)


class OfTargets(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, dtype=torch.float64))

    def forward(self, inputs):
        return inputs.sum(1) * self.weight


def numbered(rows):
    return torch.ones(len(POWERS[rows]), 2, dtype=torch.float64), POWERS[rows]


@pytest.mark.parametrize(
    ("validation", "size"), [(None, 8), (slice(20, 40), 8), (None, 1_000)], ids=["of T", "held out", "all of T"]
)
def test_validation_batches_are_distinct_rows_drawn_anew_and_shared_by_all_units(validation, size):
    trained_on = set()

    def mean_of_targets(output, targets):
        if output.requires_grad:
            trained_on.update(targets.tolist())
        return targets.mean() + 0 * output.sum()

    held_out = None if validation is None else numbered(validation)
    history = run(
        settings(validation_size=size, generations=3, steps=20), OfTargets, numbered(slice(20)), loss=mean_of_targets,
        validation=held_out,
    ).history  # fmt: skip
    allowed = set(range(20) if validation is None else range(20, 40))
    batches = []
    for _, rows in history.groupby("generation"):
        sums = {name: (rows[name] * min(size, 20)).round().astype("int64").unique() for name in LOSSES}
        assert all(len(found) == 1 for found in sums.values()), "the same of all units"
        assert sums["loss_start"] == sums["loss_trained"], "V of Eq. 7, before and after training"
        batches += [frozenset(n for n in range(50) if sums[name][0] >> n & 1) for name in LOSSES[1:]]
    assert all(len(batch) == min(size, 20) and batch <= allowed for batch in batches)
    assert len(set(batches)) == (6 if size < 20 else 1)
    assert trained_on == set(POWERS[:20].tolist())


# --- when it ends ---


def test_the_threshold_is_on_the_change_of_the_sum_of_losses():
    config = settings(generations=6, learning_rate=3e-2, validation_size=1_000)
    result, watch = watched(config)
    survived = result.history[result.history["survived"]]
    # The first generation is compared with the initial one, untrained.
    sums = [sum(losses_of(watch.initial)), *survived.groupby("generation")["loss_survival"].sum()]
    changes = [abs(b - a) for a, b in pairwise(sums)]
    smallest = changes.index(min(changes[:-1]))
    assert smallest > 0, "of use only if the threshold is not met at once"
    for number in (0, smallest):
        for factor in (1 + 1e-9, 1 - 1e-9):
            stopped = run(replace(config, threshold=changes[number] * factor), double_mlp, DOUBLE)
            last = stopped.history["generation"].max()
            first = next((n for n, change in enumerate(changes) if change <= changes[number] * factor), 5)
            assert last == first + 1
            assert stopped.stopped == ("converged" if first < 5 else "generations")
            assert timeless(stopped).equals(timeless(result)[result.history["generation"] <= last]), "changes no more"


# --- the switches ---


def test_carried_moments_follow_their_entries_into_children():
    generation = watched(settings(moments="carry", mutation_rate=0.0))[1].generations[0]
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
        assert generation.newborn.moments[f"step/{name}"].tolist() == [STEPS] * 4
        assert generation.children.moments[f"step/{name}"].tolist() == [2 * STEPS] * 4


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "sgdm", "rmsprop", "adagrad", "adadelta"])
def test_moments_that_are_carried_do_not_depend_on_the_layout(optimizer):
    """After the first generation survivors and their children have taken different numbers of steps."""
    config = settings(generations=3, moments="carry", optimizer=optimizer)
    loop = run(config, double_mlp, DOUBLE)
    for shards in (1, 4):
        other = run(replace(config, mode="vectorised", shards=shards), double_mlp, DOUBLE)
        assert zoo.difference(other.population.parameters, loop.population.parameters) <= 1e-9
        assert zoo.difference(other.population.moments, loop.population.moments) <= 1e-9
    fresh = run(replace(config, moments="fresh"), double_mlp, DOUBLE)
    assert not fresh.population.moments
    assert bool(loop.population.moments) == (optimizer != "sgd")
    assert zoo.identical(loop.population.parameters, fresh.population.parameters) == (optimizer == "sgd")


def test_frozen_parameters_are_neither_trained_nor_mixed_nor_mutated_and_tied_ones_stay_tied():
    result, watch = watched(settings(mutation_rate=1.0), zoo.frozen_mlp, DATA)
    initial = watch.initial.buffers["0.weight"]
    for generation in watch.generations:
        for population in (generation.parents, generation.newborn, generation.children, generation.next):
            assert all((weight == initial).flatten(1).all(1).any() for weight in population.buffers["0.weight"])
    first = watch.generations[0]
    givers = torch.where(first.inheritance >= 0.5, first.pairs[:, 0], first.pairs[:, 1])
    assert torch.equal(first.newborn.buffers["0.weight"], first.parents.buffers["0.weight"][givers])
    assert [entry.requires_grad for entry in result.best.parameters()] == [False, False, True, True]
    tied = run(make=zoo.Tied).best
    assert tied.first.weight is tied.second.weight


def test_standard_normal_initialisation_reaches_the_units():
    initial = watched(settings(initialisation="standard_normal"), lambda: nn.Linear(4, 3).double())[1].initial
    assert float(initial.parameters["weight"].abs().max()) > 1  # torch's default stays within 1/2


# --- units that diverge ---


class Fuse(nn.Module):
    """Gives NaN after so many steps of training."""

    def __init__(self, steps):
        super().__init__()
        self.layers = double_mlp()
        self.register_buffer("left", torch.tensor(float(steps)))

    def forward(self, inputs):
        if self.training:
            self.left = self.left - 1
        return self.layers(inputs) * torch.where(self.left < 0, math.nan, 1.0)


def fuses(*steps):
    left = iter(steps)
    return lambda: Fuse(next(left, math.inf))


@pytest.mark.parametrize("moments", ["fresh", "carry"])
@MODES
def test_units_that_diverge_are_neither_parents_nor_survivors_and_the_history_says_so(mode, moments):
    config = settings(mode=mode, moments=moments, generations=3, mutation_rate=0.0)
    result, watch = watched(config, fuses(-1, math.inf, 1, math.inf))
    first = result.history[result.history["generation"] == 1]
    assert first["loss_start"].isna().tolist() == [True] + [False] * 7
    assert first["loss_trained"].isna().tolist() == first["loss_survival"].isna().tolist() == [1, 0, 1, 0] + [0] * 4
    assert set(watch.generations[0].pairs.flatten().tolist()) <= {1, 3}
    assert watch.generations[0].probabilities[[0, 2]].tolist() == [0, 0]
    assert not first["survived"][[0, 2]].any()
    assert result.history[result.history["generation"] > 1][LOSSES].notna().all(axis=None)
    for entries in (result.population.parameters, result.population.moments):
        assert all(entry.isfinite().all() for entry in entries.values())


@pytest.mark.parametrize("finite", [1, 3])
def test_where_too_few_are_finite_the_fittest_of_them_are_there_more_than_once(finite, caplog):
    """Children have the fuses of their parents, and theirs blow in the middle of their training."""
    first = watched(settings(generations=1), fuses(*[STEPS + 2] * finite, -1, -1, -1))[1].generations[0]
    ranked = first.history["loss_survival"].dropna().sort_values().index.tolist()
    assert len(ranked) == first.history["survived"].sum() == finite
    assert first.survivors.tolist() == (ranked * 4)[:4]
    assert zoo.same_population(first.next, first.parents.take(first.survivors))
    assert f"{4 - finite} diverged units" in caplog.text


@pytest.mark.parametrize("seconds", [1e-4, 60.0])
def test_of_a_population_gone_bad_the_checkpoint_holds_the_last_good_generation(seconds, tmp_path):
    """The fuses of children blow first, so all survivors are parents, and theirs blow in the next generation."""
    path, left = tmp_path / "state", [STEPS + 2] * 4
    first = run(settings(generations=1), fuses(*left), DOUBLE)
    for _ in range(2):
        with pytest.raises(TrainingError, match=r"generation 2: every unit .*; checkpoint=.* holds") as error:
            run(settings(), fuses(*left), DOUBLE, checkpoint=path, checkpoint_seconds=seconds)
        assert "\n" not in str(error.value)
        kept = load_result(path, fuses())
        assert zoo.same_population(kept.population, first.population)
        assert timeless(kept).equals(timeless(first))
        assert (kept.stopped, kept.config, kept.targets) == ("stop", first.config, "classes")
