"""A generation is what Section 3 says: every number of it against plain PyTorch and Python, a unit at a time."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import zoo
from evolving import DOUBLE, RANGES, STEPS, double_batchnorm, double_mlp, run, settings, watched
from torch import nn

from gadam import Population, evolve_seeds, load_result
from gadam.evolution.breeding import breed_seeds
from gadam.evolution.state import EvolutionState
from gadam.randomness import GENETICS, stream
from gadam.training.shards import Shard, TrainingError

LOSSES = ["loss_start", "loss_trained", "loss_survival"]


def losses_of(population):
    return [zoo.loss_of(unit, DOUBLE) for unit in population.units()]


def near(values):
    return pytest.approx(values, rel=1e-12, abs=1e-14)


@pytest.mark.parametrize(
    "changed", [{"mode": "loop"}, {"mode": "vectorised", "mutation": "normal", "moments": "carry", **RANGES}]
)
def test_a_generation_is_that_of_the_equations(changed):
    """The validation batch holds all rows here, so each loss can be computed without knowing what was drawn."""
    config = settings(population_size=6, mutation_rate=0.3, validation_size=1_000, **changed)
    result, watch = watched(config, double_batchnorm)
    assert list(result.history.index) == list(range(len(result.history)))
    start = watch.initial
    for generation in watch.generations:
        rows = result.history[result.history["generation"] == generation.number].reset_index(drop=True)
        assert rows.equals(generation.history)
        parents, children = rows[:6], rows[6:].reset_index(drop=True)
        trained = losses_of(generation.parents)
        assert parents["loss_start"].tolist() == near(losses_of(start))
        assert parents["loss_trained"].tolist() == near(trained)
        assert parents["loss_survival"].tolist() == near(trained)
        assert children["loss_start"].tolist() == near(losses_of(generation.newborn))
        assert children["loss_survival"].tolist() == near(losses_of(generation.children))
        assert children[["parent_a", "parent_b"]].to_numpy().tolist() == generation.pairs.tolist()
        is_bred_by_the_equations(generation, parents["loss_trained"].tolist(), config)

        both = Population.join([generation.parents, generation.children])
        ranked = sorted(range(12), key=[*trained, *losses_of(generation.children)].__getitem__)[:6]
        assert generation.survivors.tolist() == ranked
        assert zoo.same_population(generation.next, both.take(torch.tensor(ranked)))
        assert rows.index[rows["survived"]].tolist() == sorted(ranked)
        start = generation.next
    assert zoo.same_population(result.population, start)
    fittest = {name: entry[0] for name, entry in (start.parameters | start.buffers).items()}
    assert zoo.identical(result.best.state_dict(), fittest)


def is_bred_by_the_equations(generation, losses, config):
    """Eq. 8 to 12 of scalars, on the numbers that the stream of this generation gives."""
    low, high = min(losses), max(losses)
    weights = [math.exp(-(loss - low) / (high - low)) for loss in losses]
    shares = [weight / sum(weights) for weight in weights]
    assert generation.probabilities.tolist() == near(shares)
    draw = stream("cpu", config.seed, GENETICS, generation.number)
    drawn = torch.multinomial(generation.probabilities, 2 * len(losses), replacement=True, generator=draw)
    pairs = drawn.view(-1, 2).tolist()
    assert generation.pairs.tolist() == pairs
    chances = [weights[a] / (weights[a] + weights[b]) for a, b in pairs]
    rates = [max(0, config.mutation_rate * (1 - shares[a] - shares[b])) for a, b in pairs]
    assert generation.inheritance.tolist() == near(chances)
    assert generation.mutation_rates.tolist() == near(rates)

    def numbers(entries, kind="uniform"):
        shape, like = entries.shape, {"generator": draw, "dtype": entries.dtype}
        return torch.rand(shape, **like) if kind == "uniform" else 0.1 * torch.randn(shape, **like)

    def crossed(entries, uniform):
        children = zip(uniform, chances, pairs, strict=True)
        return [torch.where(u <= chance, entries[a], entries[b]) for u, chance, (a, b) in children]

    parents, newborn, crossings = generation.parents, generation.newborn, {}
    for name, entries in parents.parameters.items():
        crossings[name] = numbers(entries)
    for name, entries in parents.parameters.items():
        replaced, fresh = numbers(entries), numbers(entries, config.mutation)
        children = enumerate(crossed(entries, crossings[name]))
        expected = [torch.where(replaced[child] < rates[child], fresh[child], entry) for child, entry in children]
        assert torch.equal(newborn.parameters[name], torch.stack(expected))
    # Moments of Adam go with their entries, and all else in one piece, with the parent that gives more or is fitter.
    giver = [a if chance >= 0.5 else b for chance, (a, b) in zip(chances, pairs, strict=True)]
    for name, entries in parents.moments.items():
        kind, _, parameter = name.partition("/")
        whole = kind == "step"
        expected = entries[giver] if whole else torch.stack(crossed(entries, crossings[parameter]))
        assert torch.equal(newborn.moments[name], expected)
    for kind in ("buffers", "rates"):
        expected = {name: entries[giver] for name, entries in getattr(parents, kind).items()}
        assert zoo.identical(getattr(newborn, kind), expected)


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
            assert zoo.timeless(stopped).equals(zoo.timeless(result)[result.history["generation"] <= last]), (
                "changes no more"
            )


def test_the_record_of_a_seed_that_converged_is_told_no_more():
    told = [[], [], []]

    def record(seed):
        return lambda step: told[seed].append(step.generation)

    config = settings(generations=5, threshold=0.1)
    results = run(config, double_mlp, DOUBLE, call=evolve_seeds, seeds=range(3), record=record)
    lasts = [int(result.history["generation"].max()) for result in results]
    assert min(lasts) < max(lasts), "one is over before the others"
    assert [max(own) for own in told] == lasts


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


@pytest.mark.parametrize(("mode", "moments"), [("loop", "fresh"), ("vectorised", "carry")])
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
        assert zoo.timeless(kept).equals(zoo.timeless(first))
        assert (kept.stopped, kept.config, kept.targets) == ("stop", settings(), "classes")


@pytest.mark.parametrize(("rate", "below"), [(1e-3, "0.001"), ((1e-3, 1e-1), "0.1")])
def test_seeds_of_which_no_unit_is_sound_end_it_but_for_one_that_is_over(rate, below):
    configs = [settings(seed=seed, learning_rate=rate) for seed in (1, 2)]
    populations = [Population.make(zoo.mlp, 4, seed=config.seed) for config in configs]
    losses = {"loss_start": torch.ones(8), "loss_trained": torch.tensor([math.nan] * 4 + [1.0, 2.0, 3.0, 4.0])}
    parents = Shard(Population.join(populations), range(8), "parent", 1, **losses)
    state = EvolutionState(1, parents.population, [], [], 1, parents=parents)
    with pytest.raises(TrainingError, match=f"every unit has a loss .* a learning rate below {below} may help"):
        breed_seeds(state, configs, ["", ""], zoo.mlp)
    _, other = breed_seeds(state, configs, ["callback", ""], zoo.mlp)
    (alone,) = breed_seeds(
        replace(state, parents=replace(parents.of_seeds(2)[1], units=range(4))), configs[1:], [""], zoo.mlp
    )
    assert zoo.same_population(other.newborn, alone.newborn)
