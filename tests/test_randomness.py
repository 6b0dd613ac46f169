"""One seed gives everything: streams are apart, draws come from the stream that is in force, and nothing else moves."""

import itertools
import logging
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Generator, nn
from torch.nn import functional

from gadam import Population
from gadam.randomness import draw, global_stream, stream, stream_seed, unit_stream
from gadam.training.python_state import changed_by

ONES = torch.ones(6, 5, 4)
# What draws in a forward: by itself, or as part of a module.
DRAWS = {
    "dropout": lambda: functional.dropout(ONES, 0.5),
    "dropout1d": lambda: functional.dropout1d(ONES, 0.5),
    "dropout2d": lambda: functional.dropout2d(ONES[None], 0.5),
    "alpha_dropout": lambda: functional.alpha_dropout(ONES, 0.5, training=True),
    "feature_alpha_dropout": lambda: functional.feature_alpha_dropout(ONES, 0.5, training=True),
    "rand_like": lambda: torch.rand_like(ONES),
    "randn_like": lambda: torch.randn_like(ONES),
    "bernoulli of tensor": lambda: torch.bernoulli(ONES / 2),
    "normal of tensor": lambda: torch.normal(ONES, 1.0),
    "randint": lambda: torch.randint(1000, (30,)),
    "randperm": lambda: torch.randperm(30),
    "multinomial": lambda: torch.multinomial(torch.ones(30), 30),
    "gumbel_softmax": lambda: functional.gumbel_softmax(ONES),
    "rrelu": lambda: functional.rrelu(-ONES, training=True),
    "LSTM dropout": lambda: nn.LSTM(4, 3, num_layers=2, dropout=0.5)(ONES)[0],
    "attention dropout": lambda: functional.scaled_dot_product_attention(ONES, ONES, ONES, dropout_p=0.5),
}
# What takes a generator of its own.
SAMPLES = {
    "rand": lambda **source: torch.rand(20, **source),
    "rand of doubles": lambda **source: torch.rand(20, dtype=torch.float64, **source),
    "randn": lambda **source: torch.randn(20, **source),
    "uniform_": lambda **source: torch.empty(20, dtype=torch.float64).uniform_(-1, 2, **source),
    "normal_": lambda **source: torch.empty(20).normal_(3, 0.5, **source),
    "exponential_": lambda **source: torch.empty(20).exponential_(2.0, **source),
    "bernoulli_": lambda **source: torch.empty(20).bernoulli_(0.3, **source),
}


def generator(seed=0):
    return Generator().manual_seed(seed)


def drawn(draws, seed):
    """Two draws in a row from a fresh stream. What is random besides (the weights of an LSTM) is in them too."""
    with unit_stream(generator(seed)):
        return torch.stack([draws().detach() for _ in range(2)])


def test_seeds_are_those_of_every_release_and_every_word_counts_and_so_does_its_place():
    """A changed number here changes every result that anyone has published."""
    assert stream_seed(0) == 7896617691693857887
    assert stream_seed(1, 2, 3, 0, 5) == 7356684550106732889
    assert torch.equal(stream("cpu", 1, 2).get_state(), generator(stream_seed(1, 2)).get_state())
    words = [*itertools.product(range(4), repeat=4), (2**63 - 1, 0, 0, 0), (2**62, 0, 0, 0)]
    seeds = {stream_seed(*each) for each in words}
    assert len(seeds) == len(words)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**62


@pytest.mark.parametrize("draws", [*DRAWS.values(), *SAMPLES.values()], ids=[*DRAWS, *SAMPLES])
def test_a_draw_depends_on_the_stream_in_force_alone_and_moves_nothing_else(draws):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    once = drawn(draws, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(drawn(draws, seed=3), once)
    assert not torch.equal(*once), "a stream goes on"
    assert not torch.equal(drawn(draws, seed=4)[0], once[0]), "another stream, other draws"


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
def test_a_unit_draws_what_its_generator_gives_unless_it_names_another(sample):
    with unit_stream(generator(5)):
        named, ours = sample(generator=generator(6)), sample()
    assert torch.equal(ours, sample(generator=generator(5)))
    assert torch.equal(named, sample(generator=generator(6)))


def test_dropout_keeps_its_rate_whatever_lies_in_memory_and_draws_nothing_in_evaluation():
    images = torch.ones(40, 5, 50, 10)
    with unit_stream(generator()):
        kept = functional.dropout(images, 0.2)
    assert set(kept.unique().tolist()) == {0.0, 1.25}
    assert float((kept > 0).double().mean()) == pytest.approx(0.8, abs=5 * (0.8 * 0.2 / 100_000) ** 0.5)
    with unit_stream(generator()):
        assert torch.equal(functional.dropout(images.to(memory_format=torch.channels_last), 0.2), kept)
    source = generator()
    with unit_stream(source):
        assert torch.equal(nn.Dropout(0.5).eval()(ONES), ONES)
        functional.scaled_dot_product_attention(ONES[None], ONES[None], ONES[None])
    assert torch.equal(source.get_state(), generator().get_state())


def test_the_inner_of_two_streams_is_in_force_until_it_ends():
    with unit_stream(generator(1)):
        first = torch.rand(3)
        with unit_stream(generator(2)):
            middle = torch.rand(3)
        last = torch.rand(3)
    assert torch.equal(torch.cat([first, last]), torch.rand(6, generator=generator(1)))
    assert torch.equal(middle, torch.rand(3, generator=generator(2)))


@pytest.mark.parametrize("name", ["dropout", "randperm"])
def test_threads_side_by_side_draw_what_they_draw_alone(name):
    alone, start = [drawn(DRAWS[name], seed) for seed in range(4)], threading.Barrier(4)

    def work(seed):
        start.wait(600)
        return [drawn(DRAWS[name], seed) for _ in range(50)]

    with ThreadPoolExecutor(4) as pool:
        together = pool.map(work, range(4))
    assert all(torch.equal(found, alone[seed]) for seed, draws in enumerate(together) for found in draws)


def test_the_fused_dropout_of_a_gpu_is_a_dropout():
    output, mask = draw("aten.native_dropout.default", generator(), ONES, 0.25, True)
    assert torch.equal(output, ONES * mask / 0.75)
    assert 0 < mask.double().mean() < 1
    assert not draw("aten.native_dropout.default", generator(), ONES, 1.0, True)[0].any()
    output, mask = draw("aten.native_dropout.default", generator(), ONES, 0.25, False)
    assert torch.equal(output, ONES)
    assert mask.all()


def test_the_global_stream_seeds_inside_and_puts_back_also_after_an_error_and_inside_another():
    torch.manual_seed(1)
    state = torch.get_rng_state()

    def nested():
        with global_stream(7):
            first = torch.rand(3)
            with pytest.raises(ZeroDivisionError), global_stream(2):
                torch.rand(1 // 0)
            return torch.cat([first, torch.rand(3)])

    found = []
    thread = threading.Thread(target=lambda: found.append(nested()), daemon=True)  # a deadlock fails, and stops nobody
    thread.start()
    thread.join(60)
    assert torch.equal(*found, torch.rand(6, generator=generator(7)))
    assert torch.equal(torch.get_rng_state(), state)


def test_draws_of_other_threads_are_not_taken_for_those_of_a_call(monkeypatch):
    """Neither those of units that another thread makes, nor those of the user's now and then."""
    module, over = nn.Linear(2, 1), threading.Event()

    def draw_for_long():
        for _ in range(10):
            random.random()
            time.sleep(2e-4)
        return nn.Linear(1, 1)

    def make_others():
        while not over.wait(1e-3):
            Population.make(draw_for_long, 1)

    with ThreadPoolExecutor(1) as pool:
        others = pool.submit(make_others)
        try:
            changes = {changed_by(lambda: time.sleep(1e-3), module, None) for _ in range(50)}
        finally:
            over.set()
            others.result()
    assert changes == {""}
    states = itertools.chain((1, 2, 3), itertools.repeat(3))
    monkeypatch.setattr(random, "getstate", lambda: next(states))
    assert changed_by(lambda: None, module, None) == ""
    monkeypatch.undo()
    assert changed_by(random.random, module, None) == "Python's random"


def speaking(output, targets):
    SPOKEN.debug("a loss")
    return functional.mse_loss(output, targets)


SPOKEN = logging.getLogger("gadam.tests")


def test_loggers_that_others_make_are_not_the_losss_own():
    names = map("another of {}".format, itertools.count())
    assert changed_by(lambda: logging.getLogger(next(names)), nn.Linear(2, 1), speaking) == ""
