"""Training of a shard: the loop is plain PyTorch, and a shard in one call is its units one by one."""

import functools
import math
import threading
from contextlib import contextmanager, nullcontext

import pytest
import torch
import zoo
from torch import nn
from torch.nn import functional

from gadam.config import GadamConfig
from gadam.models import lenet5
from gadam.population import Population
from gadam.runtime import float32_as_asked
from gadam.tracing import programs
from gadam.tracing.programs import Programs
from gadam.training import trainer as training
from gadam.training.batches import BLOCK
from gadam.training.shards import Data, Shard, TrainingError
from gadam.training.trainer import Trainer, train_or_halve

RATE = 1e-2
# Table 1's optimizers as anyone would write them.
PLAIN = {
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=RATE, betas=(0.9, 0.999), eps=1e-8),
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=RATE),
    "sgdm": lambda parameters: torch.optim.SGD(parameters, lr=RATE, momentum=0.9),
    "rmsprop": lambda parameters: torch.optim.RMSprop(parameters, lr=RATE),
    "adagrad": lambda parameters: torch.optim.Adagrad(parameters, lr=RATE),
    "adadelta": lambda parameters: torch.optim.Adadelta(parameters, lr=RATE),
}
MODES = ["loop", "vectorised", "singly"]
every_mode = pytest.mark.parametrize("mode", MODES)
DRAW = torch.Generator().manual_seed(0)


class Residual(nn.Module):
    """Writes in place to what a pooled convolution gives, and attends to it."""

    def __init__(self):
        super().__init__()
        self.convolution, self.norm, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Linear(64, 3)

    def forward(self, inputs):
        before = self.convolution(inputs)
        after = functional.max_pool2d(functional.relu(before), 2)
        after += before[:, :, ::2, ::2]
        after = self.norm(functional.relu_(after)).flatten(2)[:, None]
        after = functional.scaled_dot_product_attention(after, after, after).flatten(1)
        return self.head(functional.dropout(after, 0.5, self.training))


DOUBLE = {name: zoo.double(case) for name, case in zoo.ZOO.items()}
DROPOUT, NORM, UNUSED, NOISY = (DOUBLE[n] for n in ("Dropout", "BatchNorm1d", "unused parameter", "own draws"))
# Every batch is the same, so that a training can be interrupted without the batches showing it.
ONE_ROW = zoo.double(zoo.Case(zoo.mlp, zoo.FEATURES[:1], zoo.LABELS[:1]))
SINGLY = {
    "LeNet-5": zoo.double(zoo.Case(lenet5, torch.rand(zoo.ROWS, 1, 28, 28, generator=DRAW).clamp(min=0.5) - 0.5)),
    "residual": zoo.double(zoo.Case(Residual, torch.randn(zoo.ROWS, 1, 8, 8, generator=DRAW))),
    **{name: DOUBLE[name] for name in ("Dropout2d", "BatchNorm2d", "channels last", "integer buffer")},
}


def settings(**changed):
    given = {"population_size": 10, "batch_size": 8, "learning_rate": RATE, "steps": 10, "seed": 1}
    return GadamConfig(**given | changed)


def data_of(case, seeds=1):
    batch = (case.inputs if isinstance(case.inputs, tuple) else (case.inputs,)), case.targets
    numbers = torch.arange(len(case.targets)).expand(seeds, -1)
    return Data(batch, batch, numbers[:, :16], numbers[:, 16:32])


@functools.cache
def programs_of(mode, case):
    """Traced once for all tests of a case: tracing is what costs."""
    return None if mode == "loop" else Programs(case.make(), case.loss, singly=mode == "singly")


def trainer_of(mode, case, config):
    return Trainer(config, case.loss, (config.seed,), programs_of(mode, case))


def train(mode, case, population, config, *, units=None, role="parent", generation=1, **told):
    """A population as one shard, after training."""
    shard = Shard(population, range(len(population)) if units is None else units, role, generation)
    return trainer_of(mode, case, config).train(shard, data_of(case), **told)


def of_unit(tensors, unit=0):
    return {name: entry[unit] for name, entry in tensors.items()}


def assert_same(shard, expected, tolerance):
    for part in ("parameters", "buffers", "moments"):
        difference = zoo.difference(getattr(shard.population, part), getattr(expected.population, part))
        assert difference <= tolerance, part
    for name in ("loss_start", "loss_trained", "loss_survival"):
        torch.testing.assert_close(shard.tensors[name], expected.tensors[name], rtol=tolerance, atol=tolerance)


# --- a shard in one call = its units one by one ---

VECTORISED = [("vectorised", DOUBLE[name], 1e-10, name) for name, case in zoo.ZOO.items() if case.vectorises]
FLOAT32 = [("vectorised", zoo.ZOO[name], 1e-4, name + " in float32") for name in ("Dropout", "BatchNorm2d")]
WAYS = VECTORISED + FLOAT32 + [("singly", case, 1e-10, name + " one by one") for name, case in SINGLY.items()]


@pytest.mark.parametrize(("mode", "case", "tolerance"), [way[:3] for way in WAYS], ids=[way[3] for way in WAYS])
def test_a_shard_in_traced_steps_equals_its_units_one_by_one(mode, case, tolerance):
    config = settings(steps=20, learning_rate=1e-3 if case is SINGLY["LeNet-5"] else RATE)
    population = Population.make(case.make, 2)
    expected = train("loop", case, population, config)
    assert_same(train(mode, case, population, config), expected, tolerance)
    assert zoo.difference(expected.population.parameters, population.parameters) > 1e-3, "and not by being nothing"


# --- a unit alone = plain PyTorch ---


@contextmanager
def threads(count):
    """What a shard is trained with is one: the last bits of a sum depend on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


class Recording:
    """A loss that notes which rows it is asked for in training: the first column of the targets numbers them."""

    def __init__(self):
        self.rows = []

    def __call__(self, output, targets):
        if output.requires_grad:
            self.rows.append(targets[:, 0].clone())
        return functional.cross_entropy(output, targets[:, 1])


def recorded(make=zoo.mlp):
    return zoo.Case(make, targets=torch.stack([torch.arange(zoo.ROWS), zoo.LABELS], 1), loss=Recording())


@pytest.mark.parametrize("optimizer", PLAIN)
def test_a_unit_alone_equals_a_plain_loop_over_the_same_batches_bit_by_bit(optimizer):
    case = recorded(zoo.batchnorm_mlp)
    population = Population.make(case.make, 1)
    trained = train("loop", case, population, settings(optimizer=optimizer, steps=BLOCK + 6)).population
    module = population.unit(0).train()
    plain = PLAIN[optimizer](module.parameters())
    assert len(case.loss.rows) == BLOCK + 6
    with threads(1):
        for rows in case.loss.rows:
            plain.zero_grad()
            functional.cross_entropy(module(zoo.FEATURES[rows]), zoo.LABELS[rows]).backward()
            plain.step()
    assert zoo.identical(of_unit(trained.parameters) | of_unit(trained.buffers), module.state_dict())


def test_adam_is_equation_2_with_epsilon_outside_the_bias_correction():
    """One row, one weight, and the arithmetic by hand."""
    ones = torch.ones(1, 1, dtype=torch.float64)
    case = zoo.Case(lambda: nn.Linear(1, 1, bias=False).double(), ones, 3 * ones, functional.mse_loss)
    config = settings(learning_rate=0.1, betas=(0.8, 0.95), epsilon=0.5, steps=5, batch_size=4)
    population = Population.make(case.make, 2)
    trained = train("loop", case, population, config).population.parameters["weight"].flatten()
    for start, end in zip(population.parameters["weight"].flatten().tolist(), trained.tolist(), strict=True):
        weight, first, second = start, 0.0, 0.0
        for step in range(1, 6):
            gradient = 2 * (weight - 3)
            first = 0.8 * first + 0.2 * gradient
            second = 0.95 * second + 0.05 * gradient**2
            weight -= 0.1 * (first / (1 - 0.8**step)) / ((second / (1 - 0.95**step)) ** 0.5 + 0.5)
        assert end == pytest.approx(weight, rel=1e-12)


# --- batches and streams ---


def batches(steps, size=8, count=1, **where):
    """Row numbers [count, steps, size] of the batches that units were trained on."""
    case = recorded()
    train("loop", case, Population.make(case.make, count), settings(steps=steps, batch_size=size), **where)
    return torch.stack(case.loss.rows).view(count, steps, size)


def test_batches_are_uniform_with_replacement_and_none_comes_twice():
    drawn = batches(steps=2 * BLOCK + 2, size=40, count=2).flatten(0, 1)
    expected = drawn.numel() / zoo.ROWS
    chi_squared = float(((torch.bincount(drawn.flatten(), minlength=zoo.ROWS) - expected) ** 2 / expected).sum())
    assert chi_squared < 39 + 5 * (2 * 39) ** 0.5  # 39 degrees of freedom, five standard deviations
    distinct = torch.tensor([len(batch.unique()) for batch in drawn], dtype=torch.float64).mean()
    assert distinct == pytest.approx(40 * (1 - (1 - 1 / 40) ** 40), abs=1)  # without replacement it would be 40
    assert len(drawn.unique(dim=0)) == len(drawn)


def test_every_unit_of_every_role_and_generation_has_batches_of_its_own():
    where = [{}, {"role": "child"}, {"generation": 2}, {"units": range(1, 2)}]
    assert len(torch.stack([batches(steps=3, **each) for each in where]).unique(dim=0)) == 4


@every_mode
def test_a_unit_is_trained_alike_whoever_is_in_its_shard(mode):
    config, population = settings(steps=BLOCK + 2), Population.make(DROPOUT.make, 4)
    together = train(mode, DROPOUT, population, config).take(slice(2, 4))
    assert_same(train(mode, DROPOUT, population.take(slice(2, 4)), config, units=range(2, 4)), together, 1e-12)


@pytest.mark.parametrize("mode", ["loop", "vectorised"])
def test_units_of_several_seeds_are_trained_as_those_of_each_seed(mode):
    """Two units of each, in a shard that holds one of the first seed and both of the second."""
    config, data = settings(population_size=2), data_of(DROPOUT)
    rows = [Data(data.train, data.held_out, data.fitness + shift, data.survival) for shift in (0, 7)]
    both = Data(data.train, data.held_out, torch.cat([each.fitness for each in rows]), data.survival.repeat(2, 1))
    units = Population.join([Population.make(DROPOUT.make, 2, seed=seed) for seed in (3, 5)])

    def train(first, stop, shift, data, *seeds):
        shard = Shard(units.take(slice(first, stop)), range(first - shift, stop - shift), "child", 2)
        return Trainer(config, DROPOUT.loss, seeds, programs_of(mode, DROPOUT)).train(shard, data)

    found = train(1, 4, 0, both, 3, 5)
    assert_same(found.take(slice(0, 1)), train(1, 2, 0, rows[0], 3), 1e-12)
    assert_same(found.take(slice(1, 3)), train(2, 4, 2, rows[1], 5), 1e-12)


@every_mode
def test_a_diverged_unit_leaves_its_neighbours_alone(mode):
    population = Population.make(NORM.make, 3)
    healthy = train(mode, NORM, population, settings()).population
    parameters = {name: entry.clone() for name, entry in population.parameters.items()}
    for entry in parameters.values():
        entry[1] = torch.inf
    trained = train(mode, NORM, Population(population.template, parameters, population.buffers), settings())
    assert trained.loss_trained.isfinite().tolist() == [True, False, True]
    for unit in (0, 2):
        assert zoo.difference(of_unit(trained.population.parameters, unit), of_unit(healthy.parameters, unit)) <= 1e-12


# --- moments ---


@every_mode
@pytest.mark.parametrize("optimizer", PLAIN)
def test_carried_moments_make_10_and_10_steps_equal_20_and_fresh_ones_begin_again(optimizer, mode):
    population = Population.make(ONE_ROW.make, 2)

    def twice(**changed):
        config = settings(optimizer=optimizer, **changed)
        half = train(mode, ONE_ROW, population, config).population
        assert bool(half.moments) == (config.moments == "carry" and optimizer != "sgd")
        return train(mode, ONE_ROW, half, config, generation=2).population

    whole = train(mode, ONE_ROW, population, settings(optimizer=optimizer, moments="carry", steps=20)).population
    assert zoo.same_population(twice(moments="carry"), whole)
    module = population.unit(0)
    for _ in range(2):
        plain = PLAIN[optimizer](module.parameters())
        for _ in range(10):
            plain.zero_grad()
            functional.cross_entropy(module(ONE_ROW.inputs.repeat(8, 1)), ONE_ROW.targets.repeat(8)).backward()
            plain.step()
    fresh = of_unit(twice().parameters)
    assert zoo.difference(fresh, module.state_dict()) <= 1e-12
    assert optimizer == "sgd" or zoo.difference(fresh, of_unit(whole.parameters)) > 1e-6


@every_mode
@pytest.mark.parametrize("optimizer", PLAIN)
def test_a_parameter_that_no_loss_depends_on_keeps_its_value_and_can_carry_moments(mode, optimizer):
    config, population = settings(optimizer=optimizer, moments="carry"), Population.make(UNUSED.make, 2)
    trained = train(mode, UNUSED, train(mode, UNUSED, population, config).population, config).population
    assert torch.equal(trained.parameters["spare.weight"], population.parameters["spare.weight"])
    kinds = {name.partition("/")[0] for name in trained.moments}
    assert not any(trained.moments[f"{kind}/spare.weight"].any() for kind in kinds - {"step"})
    assert trained.moments.keys() == {f"{kind}/{name}" for kind in kinds for name in population.parameters}


# --- what a shard is told and tells ---


@every_mode
def test_training_changes_nothing_that_it_was_given_and_nothing_that_is_frozen(mode):
    case = DOUBLE["frozen parameters"]
    config, inputs = settings(moments="carry", steps=2), case.inputs.clone()
    given = train(mode, case, Population.make(case.make, 2), config).population
    copies = [{n: t.clone() for n, t in part.items()} for part in (given.parameters, given.buffers, given.moments)]
    trained = train(mode, case, given, config).population
    assert zoo.same_population(given, Population(given.template, *copies))
    assert torch.equal(case.inputs, inputs)
    assert given.buffers.keys() == {"0.weight", "0.bias"}
    assert zoo.identical(trained.buffers, given.buffers)


@every_mode
def test_losses_are_means_in_evaluation_mode_before_and_after_training(mode):
    population = Population.make(NORM.make, 2)
    trained = train(mode, NORM, population, settings())

    def expected(units, rows):
        inputs, targets = NORM.inputs[rows], NORM.targets[rows]
        return torch.stack([functional.cross_entropy(unit(inputs), targets).detach() for unit in units.units()])

    first, second = slice(0, 16), slice(16, 32)
    torch.testing.assert_close(trained.loss_start, expected(population, first), rtol=1e-12, atol=0)
    torch.testing.assert_close(trained.loss_trained, expected(trained.population, first), rtol=1e-12, atol=0)
    torch.testing.assert_close(trained.loss_survival, expected(trained.population, second), rtol=1e-12, atol=0)


@every_mode
def test_a_unit_that_draws_in_evaluation_is_evaluated_with_the_same_draws_each_time(mode):
    config, population = settings(learning_rate=1e-300), Population.make(NOISY.make, 2)
    trained = train(mode, NOISY, population, config)  # for nothing
    assert torch.equal(trained.loss_trained, trained.loss_start)


@every_mode
@pytest.mark.parametrize(("steps", "patience"), [(1, math.inf), (BLOCK + 1, math.inf), (3, 0)])
def test_progress_adds_up_to_every_step_of_every_unit(mode, steps, patience, monkeypatch):
    monkeypatch.setattr(training, "REPORT_SECONDS", patience)
    told = []
    train(mode, DROPOUT, Population.make(DROPOUT.make, 2), settings(steps=steps), progress=told.append)
    own = [min(BLOCK, steps - done) for done in range(0, steps, BLOCK)] if patience else [1] * steps
    assert told == (own * 2 if mode == "loop" else [2 * each for each in own]), "slow steps are not kept for a block"


@every_mode
@pytest.mark.parametrize("moments", ["fresh", "carry"])
def test_a_training_that_pauses_goes_on_as_if_it_had_not(mode, moments, monkeypatch):
    monkeypatch.setattr(training, "REPORT_SECONDS", 0)
    config = settings(steps=BLOCK + 3, moments=moments)
    shard = Shard(Population.make(NOISY.make, 2), range(2), "parent", 1)
    trainer, pauses = trainer_of(mode, NOISY, config), 0
    expected = trainer.train(shard, data_of(NOISY))
    while not shard.is_trained:
        left = [30]
        shard = trainer.train(shard, data_of(NOISY), lambda _, left=left: left.append(left.pop() - 1) or not left[0])
        pauses += not shard.is_trained
    assert pauses >= 2
    assert zoo.same_population(shard.population, expected.population)
    assert torch.equal(shard.loss_survival, expected.loss_survival)


@every_mode
def test_record_sees_the_parameters_of_every_unit_after_every_step(mode):
    population, seen = Population.make(DROPOUT.make, 2), {}

    def record(step):
        assert (step.role, len(step.losses)) == ("parent", len(step.units))
        for position, unit in enumerate(step.units):
            seen[unit, step.number] = {name: entry[position].clone() for name, entry in step.parameters.items()}

    for steps in (3, 2, 1):
        trained = train(mode, DROPOUT, population, settings(steps=steps), units=range(4, 6), record=record).population
        assert seen.keys() == {(unit, step) for unit in (4, 5) for step in range(1, steps + 1)}
        for position, unit in enumerate((4, 5)):
            assert zoo.difference(seen[unit, steps], of_unit(trained.parameters, position)) <= 1e-12
        seen.clear()


@pytest.mark.parametrize("fits", [2, 1])
def test_where_memory_runs_out_the_halves_are_trained(fits, monkeypatch):
    shard = Shard(Population.make(DROPOUT.make, 4), range(4), "parent", 1)
    trainer, train = trainer_of("loop", DROPOUT, settings(steps=2)), Trainer.train

    def short(self, shard, *given):
        if len(shard.units) > fits:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        return train(self, shard, *given)

    expected = trainer.train(shard, data_of(DROPOUT))
    monkeypatch.setattr(Trainer, "train", short)
    allowed = nullcontext() if fits == 2 else pytest.raises(TrainingError, match="units 0 to 3")
    with pytest.warns(UserWarning, match="units 0 to 3"), allowed:
        assert_same(Shard.join(train_or_halve(trainer, shard, data_of(DROPOUT))), expected, 0)


# --- what must not leak ---


def test_the_number_of_intra_operator_threads_is_put_back_for_this_thread_and_those_to_come():
    population = Population.make(DROPOUT.make, 1)
    during, after, later, both = [], [], [], threading.Barrier(2)

    def shard():
        def meet(*_):
            during.append(torch.get_num_threads())
            both.wait(60)

        train("loop", DROPOUT, population, settings(steps=2), record=meet)
        after.append(torch.get_num_threads())

    def together(*targets):
        started = [threading.Thread(target=target) for target in targets]
        for thread in started:
            thread.start()
        for thread in started:
            thread.join()

    with threads(3):
        together(shard, shard)
        together(lambda: later.append(torch.get_num_threads()))
        assert (during, after, later, torch.get_num_threads()) == ([1] * 4, [3] * 2, [3], 3)


@every_mode
def test_the_global_generator_is_neither_moved_nor_heard(mode):
    results = []
    for seed in (0, 1):
        programs_of.cache_clear()  # tracing is part of it
        programs_of(mode, NOISY)
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        results.append(train(mode, NOISY, Population.make(NOISY.make, 2), settings()).population)
        assert torch.equal(torch.get_rng_state(), state)
    assert zoo.same_population(*results)


def test_programs_are_traced_by_one_thread_at_a_time(monkeypatch):
    """Tracing patches torch.nn.Module for the whole process: two at once leave it patched, or fail."""
    traced, make_fx = [], programs.make_fx

    def checked(program):
        traced.append(programs.tracing.locked())
        return make_fx(program)

    monkeypatch.setattr(programs, "make_fx", checked)
    case = zoo.double(zoo.Case(zoo.mlp))
    train("vectorised", case, Population.make(case.make, 2), settings())
    assert traced == [True, True]  # a step and an evaluation


def test_convolutions_on_a_gpu_are_rounded_only_where_that_is_asked_for(monkeypatch):
    cudnn, before = torch.backends.cudnn, torch.get_float32_matmul_precision()
    monkeypatch.setattr(cudnn, "allow_tf32", True)
    for device, asked, rounded in (("cuda", "high", True), ("cpu", "highest", True), ("cuda", "highest", False)):
        torch.set_float32_matmul_precision(asked)
        first, second = (float32_as_asked(torch.device(device)) for _ in range(2))
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert cudnn.allow_tf32 == rounded, "until the last thread is done"
        second.__exit__(None, None, None)
        assert cudnn.allow_tf32
    torch.set_float32_matmul_precision(before)
