"""Training of a shard: the loop is plain PyTorch, and a shard in one call is its units one by one."""

import functools
import math
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
import zoo
from torch.nn import functional

from gadam.config import GadamConfig
from gadam.models import lenet5
from gadam.population import Population
from gadam.randomness import BATCHES, ROLES, stream
from gadam.runtime import float32_as_asked, quiet_tracing
from gadam.tracing.programs import Programs
from gadam.training import trainer as training
from gadam.training.batches import BLOCK
from gadam.training.shards import Shard, is_out_of_memory
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
every_mode = pytest.mark.parametrize("mode", MODES)
DRAW = torch.Generator().manual_seed(0)

DOUBLE = {name: zoo.double(case) for name, case in zoo.ZOO.items()}
DROPOUT, NORM, NOISY = (DOUBLE[name] for name in ("Dropout", "BatchNorm1d", "own draws"))
# Every batch is the same, so that a training can be interrupted without the batches showing it.
ONE_ROW = zoo.double(zoo.Case(zoo.Unused, zoo.FEATURES[:1], zoo.LABELS[:1]))
SINGLY = {
    "LeNet-5": zoo.double(zoo.Case(lenet5, torch.rand(zoo.ROWS, 1, 28, 28, generator=DRAW).clamp(min=0.5) - 0.5)),
    **{name: DOUBLE[name] for name in ("Dropout2d", "BatchNorm2d", "channels last", "integer buffer")},
}


def settings(**changed):
    given = {"population_size": 10, "batch_size": 8, "learning_rate": RATE, "steps": 10, "seed": 1}
    return GadamConfig(**given | changed)


@functools.cache
def programs_of(mode, case):
    """Traced once for all tests of a case: tracing is what costs."""
    return None if mode == "loop" else Programs(case.make(), case.loss, singly=mode == "singly")


def train(mode, case, population, config, **told):
    """A population as one shard, after training."""
    shard = Shard(population, range(len(population)), "parent", 1)
    trainer = Trainer(config, case.loss, (config.seed,), programs_of(mode, case))
    return trainer.train(shard, zoo.data_of(case), **told)


def of_unit(tensors, unit=0):
    return {name: entry[unit] for name, entry in tensors.items()}


# --- a shard in one call = its units one by one ---

WAYS = {
    **{name: ("vectorised", case, 1e-10) for name, case in DOUBLE.items() if case.vectorises},
    **{f"{name} in float32": ("vectorised", zoo.ZOO[name], 1e-4) for name in ("Dropout", "two precisions")},
    **{f"{name} one by one": ("singly", case, 1e-10) for name, case in SINGLY.items()},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_shard_in_traced_steps_equals_its_units_one_by_one(way):
    mode, case, tolerance = WAYS[way]
    config = settings(learning_rate=1e-3 if case is SINGLY["LeNet-5"] else RATE)
    population = Population.make(case.make, 2)
    expected = train("loop", case, population, config)
    zoo.assert_same_shards([train(mode, case, population, config)], [expected], tolerance)
    assert zoo.difference(expected.population.parameters, population.parameters) > 1e-3, "and not by being nothing"


# --- a unit alone = plain PyTorch ---


@contextmanager
def threads(count):
    """What a shard is trained with is one: the last bits of a sum depend on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("optimizer", PLAIN)
def test_a_unit_alone_equals_a_plain_loop_over_batches_of_its_stream_bit_by_bit(optimizer):
    case, steps = zoo.Case(zoo.batchnorm_mlp), BLOCK + 6
    population = Population.make(case.make, 1)
    trained = train("loop", case, population, settings(optimizer=optimizer, steps=steps)).population
    module, draw = population.unit(0).train(), stream("cpu", 1, BATCHES, 1, ROLES["parent"], 0, 0)
    plain = PLAIN[optimizer](module.parameters())
    with threads(1):
        for rows in torch.cat([torch.randint(zoo.ROWS, (BLOCK, 8), generator=draw) for _ in range(2)])[:steps]:
            plain.zero_grad()
            functional.cross_entropy(module(zoo.FEATURES[rows]), zoo.LABELS[rows]).backward()
            plain.step()
    assert zoo.identical(of_unit(trained.parameters) | of_unit(trained.buffers), module.state_dict())


# --- batches and streams ---


class Drawing(zoo.Linear):
    """Its outputs are what it draws, in training and in evaluation."""

    def forward(self, inputs):
        return 0 * self.layer(inputs) + torch.rand(1)


def test_every_unit_of_every_role_and_generation_has_batches_of_its_own():
    """So has every seed; and draws, too."""
    batches, draws = [], []

    def loss(output, targets):
        draws.append(float(output[0, 0].detach()))
        batches.append(tuple(targets.tolist()))
        return output.mean()

    case = zoo.Case(Drawing, targets=torch.arange(zoo.ROWS), loss=loss)
    data = replace(zoo.data_of(case), fitness=torch.zeros(2, 1).long(), survival=torch.zeros(2, 1).long())
    for role in ("parent", "child"):
        for generation in (1, 2):
            shard = Shard(Population.make(Drawing, 4), range(4), role, generation)
            config = settings(population_size=2, steps=1)  # of two seeds
            Trainer(config, loss, (0, 1), validates=True).train(shard, data)
    trained = [batch for batch in batches if len(batch) == 8]
    assert len(trained) == len(set(trained)) == 16
    # Of each unit: what it draws in training, on validation batches (three times the same), and on the fixed rows.
    assert len(set(draws)) == 3 * 16


OPTIMIZERS = [("loop", "adam"), ("loop", "sgdm"), ("singly", "adam"), *(("vectorised", name) for name in PLAIN)]


@pytest.mark.parametrize(("mode", "optimizer"), OPTIMIZERS)
def test_carried_moments_make_10_and_10_steps_equal_20_and_fresh_ones_begin_again(optimizer, mode):
    """Also of a parameter that no loss depends on, which keeps its value."""
    population = Population.make(ONE_ROW.make, 2)

    def trained(start, **changed):
        return train(mode, ONE_ROW, start, settings(optimizer=optimizer, **changed)).population

    def twice(**changed):
        return trained(trained(population, **changed), **changed)

    whole = trained(population, moments="carry", steps=20)
    assert zoo.same_population(twice(moments="carry"), whole)
    kinds = {name.partition("/")[0] for name in whole.moments}
    assert bool(kinds) == (optimizer != "sgd")
    assert whole.moments.keys() == {f"{kind}/{name}" for kind in kinds for name in population.parameters}
    assert not any(whole.moments[f"{kind}/spare.weight"].any() for kind in kinds - {"step"})
    assert torch.equal(whole.parameters["spare.weight"], population.parameters["spare.weight"])
    fresh = twice()
    assert not fresh.moments
    assert optimizer == "sgd" or zoo.difference(fresh.parameters, whole.parameters) > 1e-6


# --- what a shard is told and tells ---


@every_mode
@pytest.mark.parametrize(("steps", "patience"), [(1, math.inf), (BLOCK + 1, math.inf), (3, 0)])
def test_progress_adds_up_to_every_step_of_every_unit(mode, steps, patience, monkeypatch):
    monkeypatch.setattr(training, "REPORT_SECONDS", patience)
    told = []
    train(mode, DROPOUT, Population.make(DROPOUT.make, 2), settings(steps=steps), progress=told.append)
    own = [min(BLOCK, steps - done) for done in range(0, steps, BLOCK)] if patience else [1] * steps
    assert told == (own * 2 if mode == "loop" else [2 * each for each in own]), "slow steps are not kept for a block"


def test_libraries_say_in_many_words_that_memory_is_short():
    for error in (
        MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("not enough memory: you tried to allocate 80 bytes"), RuntimeError("std::bad_alloc"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), RuntimeError("HIP out of memory"),
    ):  # fmt: skip
        assert is_out_of_memory(error)
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


# --- what must not leak ---


def test_the_number_of_intra_operator_threads_is_put_back_for_this_thread_and_those_to_come():
    population = Population.make(DROPOUT.make, 1)
    during, after, both = [], [], threading.Barrier(2)

    def train_a_shard():
        def meet(*_):
            during.append(torch.get_num_threads())
            both.wait(600)

        train("loop", DROPOUT, population, settings(steps=2), record=meet)
        after.append(torch.get_num_threads())

    with threads(3):
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda _: train_a_shard(), range(2)))
        with ThreadPoolExecutor(1) as pool:
            after.append(pool.submit(torch.get_num_threads).result())
        assert (during, after, torch.get_num_threads()) == ([1] * 4, [3] * 3, 3)


def test_filters_of_warnings_are_put_back_by_the_last_of_those_who_trace_side_by_side():
    before, (first, second) = list(warnings.filters), (quiet_tracing() for _ in range(2))
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert warnings.filters != before
    second.__exit__(None, None, None)
    assert warnings.filters == before


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

    def refuses():
        raise RuntimeError("mix of the legacy and new APIs to set the TF32 status")

    monkeypatch.setattr(torch, "get_float32_matmul_precision", refuses)
    with float32_as_asked(torch.device("cuda")):
        assert cudnn.allow_tf32, "whoever uses the newer settings has said what is wanted"
