"""One seed gives everything: streams are apart, draws come from the stream that is in force, and nothing else moves."""

import itertools
import threading

import pytest
import torch
from torch import Generator, nn
from torch.nn import functional

from gadam.randomness import can_draw, draw, global_stream, is_random, stream, stream_seed, unit_stream

ONES = torch.ones(6, 5, 4)
# What draws in a forward: by itself, or as part of a module.
DRAWS = {
    "dropout": lambda: functional.dropout(ONES, 0.5),
    "dropout1d": lambda: functional.dropout1d(ONES, 0.5),
    "dropout2d": lambda: functional.dropout2d(ONES[None], 0.5),
    "alpha_dropout": lambda: functional.alpha_dropout(ONES, 0.5, training=True),
    "feature_alpha_dropout": lambda: functional.feature_alpha_dropout(ONES, 0.5, training=True),
    "rand": lambda: torch.rand(6, 5),
    "rand_like": lambda: torch.rand_like(ONES),
    "randn": lambda: torch.randn(6, 5),
    "randn_like": lambda: torch.randn_like(ONES),
    "uniform_": lambda: torch.empty(30).uniform_(-1, 2),
    "normal_": lambda: torch.empty(30).normal_(3, 0.5),
    "exponential_": lambda: torch.empty(30).exponential_(2.0),
    "bernoulli_": lambda: torch.empty(30).bernoulli_(0.5),
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


def generator(seed=0):
    return Generator().manual_seed(seed)


def drawn(name, seed):
    """Two draws in a row from a fresh stream. What is random besides (the weights of an LSTM) is in them too."""
    with unit_stream(generator(seed)):
        return [DRAWS[name]().detach() for _ in range(2)]


def in_thread(function):
    """Runs in a daemon thread, so that a deadlock fails a test and does not stop it."""
    found = []
    thread = threading.Thread(target=lambda: found.append(function()), daemon=True)
    thread.start()
    thread.join(60)
    assert found, "the thread did not end, or failed"
    return found[0]


# --- seeds ---


def test_seeds_are_those_of_every_release():
    """A changed number here changes every result that anyone has published."""
    assert stream_seed(0) == 7896617691693857887
    assert stream_seed(1, 2, 3, 0, 5) == 7356684550106732889
    assert torch.equal(stream("cpu", 1, 2).get_state(), generator(stream_seed(1, 2)).get_state())


def test_every_word_of_a_seed_counts_and_so_does_its_place():
    words = [*itertools.product(range(4), repeat=4), (2**63 - 1, 0, 0, 0), (2**62, 0, 0, 0)]
    assert len({stream_seed(*each) for each in words}) == len(words)


def test_seeds_fit_a_generator():
    seeds = [stream_seed(word) for word in range(2_000)]
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**62


# --- what a unit draws ---


@pytest.mark.parametrize("name", DRAWS)
def test_a_draw_depends_on_the_stream_in_force_alone(name):
    torch.manual_seed(1)
    once = drawn(name, seed=3)
    torch.manual_seed(2)
    again = drawn(name, seed=3)
    assert all(torch.equal(*pair) for pair in zip(once, again, strict=True))
    assert not torch.equal(*once), "a stream goes on"
    assert not torch.equal(once[0], drawn(name, seed=4)[0]), "another stream, other draws"


@pytest.mark.parametrize("name", DRAWS)
def test_a_draw_leaves_the_global_generator_as_it_was(name):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    drawn(name, seed=3)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    "sample",
    [
        lambda **source: torch.rand(20, **source),
        lambda **source: torch.randn(20, **source),
        lambda **source: torch.empty(20, dtype=torch.float64).uniform_(-1, 2, **source),
        lambda **source: torch.empty(20).normal_(3, 0.5, **source),
        lambda **source: torch.empty(20).exponential_(2.0, **source),
        lambda **source: torch.empty(20).bernoulli_(0.3, **source),
    ],
    ids=["rand", "randn", "uniform_", "normal_", "exponential_", "bernoulli_"],
)
def test_a_unit_draws_what_its_generator_gives(sample):
    with unit_stream(generator(5)):
        ours = sample()
    assert torch.equal(ours, sample(generator=generator(5)))


def test_a_draw_does_not_depend_on_how_the_tensor_lies_in_memory():
    images = torch.ones(4, 3, 5, 5)
    with unit_stream(generator()):
        dense = functional.dropout(images, 0.5)
    with unit_stream(generator()):
        permuted = functional.dropout(images.to(memory_format=torch.channels_last), 0.5)
    assert torch.equal(dense, permuted)


def test_dropout_keeps_its_rate_and_its_mean():
    with unit_stream(generator()):
        kept = functional.dropout(torch.ones(100_000), 0.2)
    assert set(kept.unique().tolist()) == {0.0, 1.25}
    assert float((kept > 0).double().mean()) == pytest.approx(0.8, abs=5 * (0.8 * 0.2 / 100_000) ** 0.5)


def test_evaluation_mode_draws_nothing():
    unit, source = nn.Dropout(0.5).eval(), generator()
    with unit_stream(source):
        assert torch.equal(unit(ONES), ONES)
    assert torch.equal(source.get_state(), generator().get_state())


def test_a_generator_that_is_given_is_the_one_used():
    with unit_stream(generator(1)):
        assert torch.equal(torch.rand(5, generator=generator(2)), torch.rand(5, generator=generator(2)))


def test_the_inner_of_two_streams_is_in_force_until_it_ends():
    outer, inner = generator(1), generator(2)
    with unit_stream(outer):
        first = torch.rand(3)
        with unit_stream(inner):
            middle = torch.rand(3)
        last = torch.rand(3)
    assert torch.equal(torch.cat([first, last]), torch.rand(6, generator=generator(1)))
    assert torch.equal(middle, torch.rand(3, generator=generator(2)))


@pytest.mark.parametrize("name", ["dropout", "randperm"])
def test_threads_side_by_side_draw_what_they_draw_alone(name):
    alone = {seed: drawn(name, seed) for seed in range(4)}
    together, start = {}, threading.Barrier(4)

    def work(seed):
        start.wait(60)
        for _ in range(50):
            together.setdefault(seed, []).append(drawn(name, seed))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in alone]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, expected in alone.items():
        assert len(together[seed]) == 50
        assert all(torch.equal(torch.stack(found), torch.stack(expected)) for found in together[seed])


def test_attention_without_dropout_neither_draws_nor_waits_for_other_threads():
    source = generator()

    def attend():
        with unit_stream(source):
            return functional.scaled_dot_product_attention(ONES[None], ONES[None], ONES[None])

    with global_stream(0):  # another thread that draws from the global generator holds it now
        assert torch.allclose(in_thread(attend), ONES[None])
    assert torch.equal(source.get_state(), generator().get_state())


# --- many units at once ---


@pytest.mark.parametrize(
    ("operator", "args"),
    [
        ("aten.rand_like.default", ()),
        ("aten.randn_like.default", ()),
        ("aten.bernoulli.p", (0.5,)),
        ("aten.bernoulli_.float", (0.5,)),
        ("aten.normal_.default", (1.0, 2.0)),
        ("aten.native_dropout.default", (0.5, True)),
    ],
)
def test_many_units_draw_what_each_draws_alone(operator, args):
    def first(result):
        return result[0] if isinstance(result, tuple) else result

    together = first(draw(operator, [generator(seed) for seed in range(3)], torch.ones(3, 4, 5), *args))
    alone = [first(draw(operator, generator(seed), torch.ones(4, 5), *args)) for seed in range(3)]
    assert torch.equal(together, torch.stack(alone))


def test_the_fused_dropout_of_a_gpu_is_a_dropout():
    output, mask = draw("aten.native_dropout.default", generator(), ONES, 0.25, True)
    assert torch.equal(output, ONES * mask / 0.75)
    assert 0 < mask.double().mean() < 1
    everything = draw("aten.native_dropout.default", generator(), ONES, 1.0, True)[0]
    assert torch.equal(everything, torch.zeros_like(ONES))


def test_random_operators_are_known_by_what_they_do():
    assert is_random(torch.ops.aten.bernoulli_.float)
    assert not is_random(torch.ops.aten.add.Tensor)
    assert can_draw(torch.ops.aten.bernoulli_.float)
    assert not can_draw(torch.ops.aten.randperm.default)
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
    assert is_random(attention, (ONES, ONES, ONES, 0.1))
    assert is_random(attention, (ONES, ONES, ONES), {"dropout_p": 0.1})
    assert not is_random(attention, (ONES, ONES, ONES, 0.0))
    assert not is_random(attention, (ONES, ONES, ONES))


# --- code that can draw from nothing but the global generator ---


def test_the_global_stream_seeds_inside_and_puts_back_also_after_an_error():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    with global_stream(7):
        inside = torch.rand(3)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(inside, torch.rand(3, generator=generator(7)))

    with pytest.raises(ZeroDivisionError), global_stream(7):
        torch.rand(3).numpy().item(1 // 0)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_global_stream_inside_another_does_not_wait_for_itself():
    def nested():
        with global_stream(1):
            first = torch.rand(3)
            with global_stream(2):
                torch.rand(3)
            return torch.cat([first, torch.rand(3)])

    assert torch.equal(in_thread(nested), torch.rand(6, generator=generator(1)))
