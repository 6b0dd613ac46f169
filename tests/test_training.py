"""A shard trained in one call equals its units trained one by one, and those equal plain PyTorch."""

import functools
import math
import threading
import time
from contextlib import contextmanager

import pytest
import torch
import zoo
from torch import nn
from torch.nn import functional

from gadam.config import GadamConfig
from gadam.models import lenet5
from gadam.population import Population
from gadam.runtime import float32_as_asked
from gadam.tracing import convolution as kernels
from gadam.tracing import programs as vectorised
from gadam.tracing.programs import Programs
from gadam.training import trainer as training
from gadam.training.batches import BLOCK
from gadam.training.shards import Data, Shard
from gadam.training.trainer import Trainer

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
DROPOUT = zoo.double(zoo.Case(zoo.dropout_mlp))
FLOATS = {"float32": (lambda case: case, 1e-4), "float64": (zoo.double, 1e-10)}


def settings(**changed):
    return GadamConfig(**{"batch_size": 8, "learning_rate": RATE, "steps": 10, "seed": 1} | changed)


def batch_of(case, rows=slice(None)):
    inputs = case.inputs if isinstance(case.inputs, tuple) else (case.inputs,)
    return tuple(tensor[rows] for tensor in inputs), case.targets[rows]


def data_of(case):
    numbers = torch.arange(len(case.targets))
    return Data(batch_of(case), batch_of(case), numbers[:16], numbers[16:32])


@functools.cache
def programs_of(mode, case):
    """Traced once for all tests of a case: tracing is what costs."""
    return Programs(case.make(), case.loss, singly=mode == "singly")


def trainer_of(mode, case, config):
    return Trainer(config, case.loss, None if mode == "loop" else programs_of(mode, case))


def train(mode, case, population, config, *, units=None, role="parent", generation=1, **told):
    """A population as one shard, after training."""
    units = range(len(population)) if units is None else units
    trainer = trainer_of(mode, case, config)
    return trainer.train(Shard(population, units, role, generation), data_of(case), **told)


def assert_equal_training(case, config, population, tolerance, mode="vectorised"):
    one_by_one = train("loop", case, population, config)
    in_one_call = train(mode, case, population, config)
    for part in ("parameters", "buffers", "moments"):
        difference = zoo.difference(getattr(in_one_call.population, part), getattr(one_by_one.population, part))
        assert difference <= tolerance, part
    for name in ("loss_start", "loss_trained", "loss_survival"):
        torch.testing.assert_close(
            getattr(in_one_call, name), getattr(one_by_one, name), rtol=tolerance, atol=tolerance, msg=name
        )


# --- vectorised = loop ---


@pytest.mark.parametrize("floats", FLOATS)
@pytest.mark.parametrize(
    "case",
    [zoo.Case(zoo.mlp), zoo.Case(zoo.dropout_cnn, zoo.IMAGES), zoo.Case(zoo.batchnorm_cnn, zoo.IMAGES)],
    ids=["MLP", "CNN with dropout", "CNN with BatchNorm"],
)
@pytest.mark.parametrize("mode", ["vectorised", "singly"])
def test_a_shard_in_one_call_equals_its_units_one_by_one_after_50_steps(case, floats, mode):
    convert, tolerance = FLOATS[floats]
    case = convert(case)
    population = Population.make(case.make, 2)
    assert_equal_training(case, settings(steps=50), population, tolerance, mode)


def test_lenet5_in_traced_steps_equals_the_loop_after_50_steps():
    """With dropout, and with the kernels of `gadam.tracing.convolution`."""
    images = torch.rand(zoo.ROWS, 1, 28, 28, generator=torch.Generator().manual_seed(0)).clamp(min=0.5) - 0.5
    case = zoo.double(zoo.Case(lenet5, images))
    assert_equal_training(case, settings(steps=50, learning_rate=1e-3), Population.make(case.make, 2), 1e-10, "singly")


class Residual(nn.Module):
    """Writes in place to what the kernels return, and attends to it."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4 * 16, 3)

    def forward(self, inputs):
        before = self.convolution(inputs)
        after = functional.max_pool2d(functional.relu(before), 2)
        after += before[:, :, ::2, ::2]
        after = self.norm(functional.relu_(after)).flatten(2)[:, None]
        after = functional.scaled_dot_product_attention(after, after, after).flatten(1)
        return self.head(functional.dropout(after, 0.5, self.training))


def test_a_module_that_writes_in_place_is_traced_to_what_the_loop_does():
    images = torch.randn(zoo.ROWS, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    case = zoo.double(zoo.Case(Residual, images))
    assert_equal_training(case, settings(steps=20), Population.make(case.make, 2), 1e-10, "singly")


@pytest.mark.parametrize("fault", ["wrong", "raises"])
def test_a_faulty_kernel_is_told_and_not_used(fault, monkeypatch, caplog):
    def faulty(*arguments):
        if fault == "raises":
            raise RuntimeError("out of order")
        return spread(*arguments) * 1.0001

    spread = kernels._spread
    monkeypatch.setattr(kernels, "_spread", faulty)
    case = zoo.double(zoo.Case(zoo.dropout_cnn, zoo.IMAGES))
    one_by_one = train("loop", case, Population.make(case.make, 1), settings())
    population = Population.make(case.make, 1)
    trainer = Trainer(settings(), case.loss, Programs(case.make(), case.loss, singly=True))
    with caplog.at_level("INFO", "gadam"):
        traced = trainer.train(Shard(population, range(1), "parent", 1), data_of(case))
    assert zoo.difference(traced.population.parameters, one_by_one.population.parameters) <= 1e-10
    assert ("differs by" if fault == "wrong" else "out of order") in caplog.text


@pytest.mark.parametrize("optimizer", PLAIN)
def test_a_shard_in_one_call_equals_its_units_one_by_one_with_every_optimizer_and_its_moments(optimizer):
    case = DROPOUT
    config = settings(optimizer=optimizer, moments="carry", steps=20)
    population = train("loop", case, Population.make(case.make, 3), config).population
    assert_equal_training(case, config, population, 1e-10)


def test_the_two_ways_differ_where_they_should():
    """What the tests above take for equal is not equal by being nothing: other draws give other units."""
    case = DROPOUT
    population = Population.make(case.make, 3)
    trained = train("loop", case, population, settings(steps=50)).population
    assert zoo.difference(trained.parameters, population.parameters) > 0.1
    other = train("vectorised", case, population, settings(steps=50, seed=2)).population
    assert zoo.difference(other.parameters, trained.parameters) > 1e-2


# --- loop = plain PyTorch ---


@contextmanager
def one_thread():
    """What a shard is trained with: the last bits of a sum depend on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
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

    @staticmethod
    def case(make=zoo.mlp):
        return zoo.Case(make, targets=torch.stack([torch.arange(zoo.ROWS), zoo.LABELS], 1), loss=Recording())


@pytest.mark.parametrize("optimizer", PLAIN)
def test_a_unit_alone_equals_a_plain_loop_over_the_same_batches_bit_by_bit(optimizer):
    case = Recording.case(zoo.batchnorm_mlp)
    population = Population.make(case.make, 1)
    trained = train("loop", case, population, settings(optimizer=optimizer, steps=70)).population

    module = population.unit(0).train()
    plain = PLAIN[optimizer](module.parameters())
    assert len(case.loss.rows) == 70
    with one_thread():
        for rows in case.loss.rows:
            plain.zero_grad()
            functional.cross_entropy(module(zoo.FEATURES[rows]), zoo.LABELS[rows]).backward()
            plain.step()
    assert zoo.identical(
        {name: entry[0] for name, entry in trained.parameters.items()}, dict(module.named_parameters())
    )
    assert zoo.identical({name: entry[0] for name, entry in trained.buffers.items()}, dict(module.named_buffers()))


def test_adam_is_equation_2_with_epsilon_outside_the_bias_correction():
    """One row, one weight, and the arithmetic by hand."""
    case = zoo.Case(
        lambda: nn.Linear(1, 1, bias=False).double(),
        torch.ones(1, 1, dtype=torch.float64),
        torch.full((1, 1), 3.0, dtype=torch.float64),
        functional.mse_loss,
    )
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


# --- batches ---


def batches(steps=130, size=8, count=1, **where):
    """Row numbers [count, steps, size] of the batches that units were trained on."""
    case = Recording.case()
    train("loop", case, Population.make(case.make, count), settings(steps=steps, batch_size=size), **where)
    return torch.stack(case.loss.rows).view(count, steps, size)


def test_batches_are_uniform_with_replacement():
    drawn = batches(steps=2 * BLOCK + 2, size=40)[0]
    expected = drawn.numel() / zoo.ROWS
    counts = torch.bincount(drawn.flatten(), minlength=zoo.ROWS)
    chi_squared = float(((counts - expected) ** 2 / expected).sum())
    assert chi_squared < 39 + 5 * (2 * 39) ** 0.5  # 39 degrees of freedom, five standard deviations
    distinct = torch.tensor([len(batch.unique()) for batch in drawn], dtype=torch.float64).mean()
    assert distinct == pytest.approx(40 * (1 - (1 - 1 / 40) ** 40), abs=1)  # without replacement it would be 40


def test_no_batch_comes_twice():
    drawn = batches(steps=3 * BLOCK, count=2).flatten(0, 1)
    assert len(drawn.unique(dim=0)) == len(drawn)


@pytest.mark.parametrize(
    "where",
    [{"role": "child"}, {"generation": 2}, {"units": range(1, 2)}],
    ids=["other role", "other generation", "other unit"],
)
def test_every_unit_of_every_role_and_generation_has_batches_of_its_own(where):
    assert not torch.equal(batches(steps=3), batches(steps=3, **where))


@pytest.mark.parametrize("mode", MODES)
def test_a_unit_is_trained_alike_whoever_is_in_its_shard(mode):
    case = DROPOUT
    config = settings(steps=BLOCK + 2)
    population = Population.make(case.make, 4)
    together = train(mode, case, population, config).population.take(slice(2, 4))
    apart = train(mode, case, population.take(slice(2, 4)), config, units=range(2, 4)).population
    assert zoo.difference(apart.parameters, together.parameters) <= 1e-12


@pytest.mark.parametrize("mode", MODES)
def test_a_diverged_unit_leaves_its_neighbours_alone(mode):
    case = zoo.double(zoo.Case(zoo.batchnorm_mlp))
    population = Population.make(case.make, 3)
    healthy = train(mode, case, population, settings()).population
    sick = population.take(slice(None))
    parameters = {name: entry.clone() for name, entry in sick.parameters.items()}
    for entry in parameters.values():
        entry[1] = torch.inf
    sick = Population(population.template, parameters, population.buffers)
    trained = train(mode, case, sick, settings())
    assert trained.loss_trained.isfinite().tolist() == [True, False, True]
    others = torch.tensor([0, 2])
    assert zoo.difference(trained.population.take(others).parameters, healthy.take(others).parameters) <= 1e-12


# --- moments ---


# Every batch is the same, so that training can be interrupted without the batches showing it.
ONE_ROW = zoo.double(zoo.Case(zoo.mlp, zoo.FEATURES[:1], zoo.LABELS[:1]))
UNUSED = zoo.double(zoo.ZOO["unused parameter"])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("optimizer", PLAIN)
def test_carried_moments_make_10_and_10_steps_equal_20(optimizer, mode):
    case = ONE_ROW
    config = settings(optimizer=optimizer, moments="carry", steps=10)
    population = Population.make(case.make, 2)
    half = train(mode, case, population, config).population
    interrupted = train(mode, case, half, config, generation=2).population
    whole = train(mode, case, population, settings(optimizer=optimizer, moments="carry", steps=20)).population
    assert zoo.same_population(interrupted, whole)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("optimizer", [name for name in PLAIN if name != "sgd"])
def test_fresh_moments_start_a_new_optimizer_each_time(optimizer, mode):
    case = ONE_ROW
    config = settings(optimizer=optimizer, steps=10)
    population = Population.make(case.make, 2)
    half = train(mode, case, population, config).population
    assert not half.moments
    restarted = train(mode, case, half, config, generation=2).population
    module = population.unit(0)
    for _ in range(2):
        plain = PLAIN[optimizer](module.parameters())
        for _ in range(10):
            plain.zero_grad()
            functional.cross_entropy(module(case.inputs.repeat(8, 1)), case.targets.repeat(8)).backward()
            plain.step()
    first = {name: entry[0] for name, entry in restarted.parameters.items()}
    assert zoo.difference(first, {n: entry.detach() for n, entry in module.named_parameters()}) <= 1e-12
    whole = train(mode, case, population, settings(optimizer=optimizer, steps=20)).population
    assert zoo.difference(restarted.parameters, whole.parameters) > 1e-6


@pytest.mark.parametrize("optimizer", PLAIN)
@pytest.mark.parametrize("mode", MODES)
def test_a_parameter_that_no_loss_depends_on_keeps_its_value_and_can_carry_moments(mode, optimizer):
    case = UNUSED
    config = settings(optimizer=optimizer, moments="carry")
    population = Population.make(case.make, 2)
    half = train(mode, case, population, config).population
    trained = train(mode, case, half, config).population
    assert torch.equal(trained.parameters["spare.weight"], population.parameters["spare.weight"])
    kinds = {name.partition("/")[0] for name in trained.moments}
    assert not any(trained.moments[f"{kind}/spare.weight"].any() for kind in kinds - {"step"})
    assert trained.moments.keys() == {f"{kind}/{name}" for kind in kinds for name in population.parameters}


# --- what a shard is told and tells ---


@pytest.mark.parametrize("mode", MODES)
def test_frozen_parameters_stay(mode):
    case = zoo.ZOO["frozen parameters"]
    population = Population.make(case.make, 2)
    trained = train(mode, case, population, settings()).population
    assert population.buffers.keys() == {"0.weight", "0.bias"}
    assert zoo.identical(trained.buffers, population.buffers)
    assert zoo.difference(trained.parameters, population.parameters) > 1e-2


@pytest.mark.parametrize("mode", MODES)
def test_training_changes_nothing_that_it_was_given(mode):
    case = zoo.Case(zoo.batchnorm_mlp, zoo.FEATURES.clone(), zoo.LABELS.clone())
    config = settings(moments="carry", steps=2)
    given = train(mode, case, Population.make(case.make, 2), config).population
    copies = [{n: t.clone() for n, t in part.items()} for part in (given.parameters, given.buffers, given.moments)]
    train(mode, case, given, config)
    assert zoo.same_population(given, Population(given.template, *copies))
    assert torch.equal(case.inputs, zoo.FEATURES)
    assert torch.equal(case.targets, zoo.LABELS)


@pytest.mark.parametrize("mode", MODES)
def test_losses_are_means_in_evaluation_mode_before_and_after_training(mode):
    case = zoo.double(zoo.Case(lambda: nn.Sequential(nn.BatchNorm1d(4), *zoo.dropout_mlp())))
    population = Population.make(case.make, 2)
    trained = train(mode, case, population, settings())

    def expected(units, rows):
        with torch.no_grad():
            return torch.stack(
                [functional.cross_entropy(unit(case.inputs[rows]), case.targets[rows]) for unit in units.units()]
            )

    torch.testing.assert_close(trained.loss_start, expected(population, slice(0, 16)), rtol=1e-12, atol=0)
    torch.testing.assert_close(trained.loss_trained, expected(trained.population, slice(0, 16)), rtol=1e-12, atol=0)
    torch.testing.assert_close(trained.loss_survival, expected(trained.population, slice(16, 32)), rtol=1e-12, atol=0)


@pytest.mark.parametrize("mode", MODES)
def test_a_unit_that_draws_in_evaluation_is_evaluated_with_the_same_draws_each_time(mode):
    case = zoo.ZOO["own draws"]
    population = Population.make(case.make, 2)
    trainer = trainer_of(mode, case, settings())
    shard = Shard(population, range(2), "parent", 1)
    assert torch.equal(*(trainer.evaluate(shard, population, batch_of(case), data_of(case).fitness) for _ in range(2)))


@pytest.mark.parametrize("steps", [1, BLOCK, BLOCK + 1])
@pytest.mark.parametrize("mode", MODES)
def test_progress_adds_up_to_every_step_of_every_unit(mode, steps):
    case = DROPOUT
    told = []
    train(mode, case, Population.make(case.make, 2), settings(steps=steps), progress=told.append)
    assert sum(told) == 2 * steps
    assert min(told) > 0


@pytest.mark.parametrize("mode", MODES)
def test_progress_of_slow_steps_is_not_kept_for_a_whole_block(mode, monkeypatch):
    monkeypatch.setattr(training, "PATIENCE", 0)
    told = []
    train(mode, DROPOUT, Population.make(DROPOUT.make, 2), settings(steps=3), progress=told.append)
    assert told == ([1] * 6 if mode == "loop" else [2] * 3)


@pytest.mark.parametrize("mode", MODES)
def test_progress_may_raise_to_stop(mode, monkeypatch):
    monkeypatch.setattr(training, "PATIENCE", math.inf)
    case = DROPOUT
    steps = []

    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(
            mode, case, Population.make(case.make, 2), settings(steps=10_000), progress=stop,
            record=lambda step: steps.append(step.number),
        )  # fmt: skip
    assert max(steps) == BLOCK


@pytest.mark.parametrize("mode", MODES)
def test_record_sees_the_parameters_of_every_unit_after_every_step(mode):
    case = DROPOUT
    population = Population.make(case.make, 2)
    seen = {}

    def record(step):
        assert (step.role, len(step.losses)) == ("parent", len(step.units))
        for position, unit in enumerate(step.units):
            seen[unit, step.number] = {name: entry[position].clone() for name, entry in step.parameters.items()}

    train(mode, case, population, settings(steps=3), units=range(4, 6), record=record)
    assert seen.keys() == {(unit, step) for unit in (4, 5) for step in (1, 2, 3)}
    for steps in (1, 2, 3):
        trained = train(mode, case, population, settings(steps=steps), units=range(4, 6)).population
        for position, unit in enumerate((4, 5)):
            expected = {name: entry[position] for name, entry in trained.parameters.items()}
            assert zoo.difference(seen[unit, steps], expected) <= 1e-12


# --- what must not leak ---


def in_new_thread(function):
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def test_the_number_of_intra_operator_threads_is_put_back_for_this_thread_and_those_to_come():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        case = zoo.Case(zoo.mlp)
        population = Population.make(case.make, 1)
        during, after, both = [], [], threading.Barrier(2)

        def shard():
            def meet(*_):
                during.append(torch.get_num_threads())
                both.wait(60)

            train("loop", case, population, settings(steps=2), record=meet)
            after.append(torch.get_num_threads())

        threads = [threading.Thread(target=shard) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert during == [1] * 4
        assert after == [3] * 2
        assert torch.get_num_threads() == 3
        assert in_new_thread(torch.get_num_threads) == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["Dropout", "own draws"])
@pytest.mark.parametrize("mode", MODES)
def test_the_global_generator_is_neither_moved_nor_heard(mode, name):
    programs_of.cache_clear()
    case = zoo.ZOO[name]
    trainer = trainer_of(mode, case, settings())  # not yet traced
    results = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        population = Population.make(case.make, 2)
        state = torch.get_rng_state()
        results.append(trainer.train(Shard(population, range(2), "parent", 1), data_of(case)).population)
        assert torch.equal(torch.get_rng_state(), state)
    assert zoo.same_population(*results)


def test_programs_are_traced_by_one_thread_at_a_time(monkeypatch):
    """Tracing patches torch.nn.Module for the whole process: two at once leave it patched, or fail."""
    inside, most, make_fx = [], [], vectorised.make_fx

    def slow(program):
        traced = make_fx(program)

        def trace(*tensors):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.05)
            try:
                return traced(*tensors)
            finally:
                inside.pop()

        return trace

    monkeypatch.setattr(vectorised, "make_fx", slow)
    call = nn.Module.__call__
    case = zoo.Case(zoo.mlp)
    populations = [Population.make(case.make, units) for units in (1, 2)]
    threads = [threading.Thread(target=train, args=("vectorised", case, each, settings())) for each in populations]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 2 * 2  # of each population: a step and an evaluation
    assert max(most) == 1
    assert nn.Module.__call__ is call


@pytest.mark.parametrize(
    ("device", "asked", "rounded"), [("cuda", "highest", False), ("cuda", "high", True), ("cpu", "highest", True)]
)
def test_convolutions_on_a_gpu_are_rounded_only_where_that_is_asked_for(device, asked, rounded):
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision(asked)
    torch.backends.cudnn.allow_tf32 = True
    try:
        with float32_as_asked(torch.device(device)):
            assert torch.backends.cudnn.allow_tf32 == rounded
        assert torch.backends.cudnn.allow_tf32
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def test_convolutions_stay_unrounded_until_the_last_thread_is_done():
    before = torch.backends.cudnn.allow_tf32
    first, second = (float32_as_asked(torch.device("cuda")) for _ in range(2))
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not torch.backends.cudnn.allow_tf32
    second.__exit__(None, None, None)
    assert torch.backends.cudnn.allow_tf32 == before
