"""Equations 8-13 against loops over scalars, and the properties that every population keeps."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gadam import genetics

INF, NAN = math.inf, math.nan

examples = settings(max_examples=60)
finite = st.floats(-1e6, 1e6, width=32)
any_loss = st.one_of(finite, st.sampled_from([INF, -INF, NAN]))


def losses_of(elements, least=2, most=12):
    return st.lists(elements, min_size=least, max_size=most).map(torch.tensor)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def numbered(units, *shape, dtype=torch.float32):
    """A parameter whose every entry says where it stands: unit * 1000 + position."""
    positions = torch.arange(math.prod(shape), dtype=dtype).reshape(shape)
    return torch.stack([positions + 1000 * unit for unit in range(units)])


# --- Section 3.3.1: normalisation of losses ---


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([1.0, 3.0, 2.0], [0.0, 1.0, 0.5]),
        ([3e38, -3e38, 0.0], [1.0, 0.0, 0.5]),  # their difference is no float32
        ([0.7, 0.7, 0.7], [0.0, 0.0, 0.0]),
        ([1.0, INF, 3.0, NAN], [0.0, 1.0, 1.0, 1.0]),
        ([NAN, -INF], [1.0, 1.0]),
    ],
)
def test_normalized_losses_by_hand(losses, expected):
    assert genetics.normalize_losses(torch.tensor(losses)).tolist() == expected


@examples
@given(losses_of(any_loss), st.integers(-1000, 1000), st.integers(-20, 20))
def test_normalized_losses_are_min_max_and_know_neither_origin_nor_unit(losses, shift, power):
    normalized = genetics.normalize_losses(losses.double())
    kept = [loss for loss in losses.tolist() if math.isfinite(loss)]
    spread = max(kept, default=0.0) - min(kept, default=0.0)
    for loss, ours in zip(losses.tolist(), normalized.tolist(), strict=True):
        expected = 1.0 if not math.isfinite(loss) else (loss - min(kept)) / spread if spread else 0.0
        assert ours == pytest.approx(expected, rel=1e-9, abs=1e-12)
        assert 0 <= ours <= 1
    whole = losses.double().round()
    moved = (whole + shift) * 2.0**power  # exact in float64, so the result must be the very same
    assert torch.equal(genetics.normalize_losses(moved), genetics.normalize_losses(whole))


# --- Eq. 8 and Section 3.3.1: selection; Eq. 10: inheritance; Eq. 12: mutation rates ---


@examples
@given(losses_of(any_loss), st.data())
def test_selection_probabilities_are_eq_8(losses, data):
    normalized = genetics.normalize_losses(losses.double())
    eligible = data.draw(st.one_of(st.none(), st.lists(st.booleans(), min_size=len(losses), max_size=len(losses))))
    found = genetics.selection_probabilities(normalized, None if eligible is None else torch.tensor(eligible))
    may = eligible if eligible and any(eligible) else [True] * len(losses)  # where none is, all are
    weights = [math.exp(-value) if each else 0.0 for value, each in zip(normalized.tolist(), may, strict=True)]
    np.testing.assert_allclose(found, [weight / sum(weights) for weight in weights], rtol=1e-9)
    assert [float(probability) > 0 for probability in found] == may


@examples
@given(losses_of(finite), st.floats(0, 1), st.integers(0, 2**31))
def test_chances_of_inheritance_and_mutation_are_eq_10_and_12(losses, base_rate, seed):
    normalized = genetics.normalize_losses(losses.double())
    parents = torch.randint(len(losses), (10, 2), generator=generator(seed))
    parents[0] = losses.argmin()  # paired with itself: its probability counts twice
    found, weights = genetics.inheritance_probabilities(normalized, parents), normalized.neg().exp().tolist()
    np.testing.assert_allclose(found, [weights[a] / (weights[a] + weights[b]) for a, b in parents], rtol=1e-9)
    probabilities = genetics.selection_probabilities(3 * normalized)
    rates, p = genetics.mutation_rates(base_rate, probabilities, parents), probabilities.tolist()
    assert ((rates >= 0) & (rates <= base_rate)).all()
    expected = [max(0.0, base_rate * (1 - p[a] - p[b])) for a, b in parents]
    np.testing.assert_allclose(rates, expected, rtol=1e-6, atol=1e-9)


def test_values_are_perturbed_log_uniformly_each_by_a_factor_of_its_own():
    values = {name: torch.full((20_000,), 0.1, dtype=torch.float64) for name in ("learning_rate", "weight_decay")}
    perturbed = genetics.perturb(values, generator=generator()).values()
    powers = torch.stack([(entries / 0.1).log() / math.log(1.25) for entries in perturbed])
    assert powers.abs().max() <= 1 + 1e-9
    # Five standard deviations of a binomial: with this seed a right implementation stays within.
    for tenth in range(-5, 5):
        assert ((((5 * powers).floor() == tenth).sum(1) - 2_000).abs() <= 5 * (20_000 * 0.1 * 0.9) ** 0.5).all()
    assert abs(float(torch.corrcoef(powers)[0, 1])) < 5 * 20_000**-0.5


# --- Eq. 9 and 11, which test_generation.py holds to every entry, at their edges ---


def test_what_is_not_crossed_comes_whole_from_the_parent_that_gives_more():
    buffers = {"mean": numbered(3, 4), "count": torch.tensor([10, 11, 12]), "mask": torch.eye(3).bool()}
    parents, inheritance = torch.tensor([[0, 1], [0, 1], [2, 1], [1, 2]]), torch.tensor([0.7, 0.3, 0.5, 0.49])
    inherited = genetics.inherit(buffers, parents, inheritance)
    assert all(torch.equal(inherited[name], entry[[0, 1, 2, 2]]) for name, entry in buffers.items())


def test_no_entry_mutates_at_rate_zero_however_many_there_are():
    # A float32 drawn from [0, 1) is exactly 0 once in 2^24 draws, where Eq. 11's "rand <= p" would hold for p = 0.
    # With seed 1 one of the first 2^22 draws is.
    entries = torch.full((1, 2**22), 7.0)
    assert (genetics.mutate({"weight": entries}, torch.zeros(1), generator=generator(1))["weight"] == 7).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_coarse_floats_mutate_as_often_as_asked(dtype):
    entries = {"weight": torch.full((1, 400_000), 7.0, dtype=dtype)}
    changed = genetics.mutate(entries, torch.tensor([1e-3]), generator=generator())["weight"] != 7
    assert 330 < int(changed.sum()) < 470, "400, give or take three deviations and a half"


# --- Section 3.4: survivors; Eq. 13: the stop criterion ---


@examples
@given(st.integers(1, 8).flatmap(lambda g: losses_of(any_loss, 2 * g, 2 * g)))
def test_survivors_are_the_fittest_first_and_ties_in_order(losses):
    size = len(losses) // 2
    kept = genetics.survivors(losses, size).tolist()
    order = sorted(range(2 * size), key=lambda i: (0, losses[i].item()) if losses[i].isfinite() else (1, 0.0))
    certain = [i for i in order[:size] if losses[i].isfinite()]  # the others are in no order
    assert kept[: len(certain)] == certain
    assert len(set(kept)) == size
    assert genetics.survivors(torch.zeros(2_000), 1_000).tolist() == list(range(1_000)), "also of many"


@pytest.mark.parametrize(
    ("previous", "now", "threshold", "expected"),
    [
        ([1.0, 3.0], [1.0, 2.5], 0.5, True),
        ([1.0, 3.0], [1.0, 2.5], 0.25, False),
        ([1.0, 2.5], [1.0, 3.0], 0.5, True),  # the absolute value: worse by little has converged too
        ([1.0, 3.0], [2.0, 2.0], 0.0, True),  # sums, not units
        ([1.0, 3.0], [1.0, 2.0], 0.0, False),
        ([1.0, INF], [1.0, INF], 10.0, False),
        ([1.0, NAN], [1.0, 2.0], 10.0, False),
        ([3e38, 3e38], [3e38, 3e38], 10.0, False),  # finite losses, but not their sum
    ],
)
def test_convergence_is_eq_13(previous, now, threshold, expected):
    assert genetics.has_converged(torch.tensor(previous), torch.tensor(now), threshold) is expected


# --- purity ---

PARAMETERS = {"weight": numbered(3, 20, 10), "bias": numbered(3, 10)}
LOSSES = torch.tensor([0.4, NAN, 0.1])
NORMALIZED, PROBABILITIES = torch.tensor([1.0, 1.0, 0.0]), torch.tensor([0.3, 0.1, 0.6])
PARENTS, HALVES = torch.tensor([[0, 2], [1, 0], [2, 2]]), torch.full((3,), 0.5)
FUNCTIONS = {
    "select_parents": lambda stream: genetics.select_parents(PROBABILITIES, 100, generator=stream),
    "crossover": lambda stream: genetics.crossover(PARAMETERS, PARENTS, HALVES, generator=stream),
    "mutate uniform": lambda stream: genetics.mutate(PARAMETERS, HALVES, generator=stream),
    "mutate normal": lambda stream: genetics.mutate(PARAMETERS, HALVES, generator=stream, distribution="normal"),
    "perturb": lambda stream: genetics.perturb(PARAMETERS, generator=stream),
    "normalize_losses": lambda _: genetics.normalize_losses(LOSSES),
    "selection_probabilities": lambda _: genetics.selection_probabilities(NORMALIZED, LOSSES.isfinite()),
    "inheritance_probabilities": lambda _: genetics.inheritance_probabilities(NORMALIZED, PARENTS),
    "inherit": lambda _: genetics.inherit(PARAMETERS, PARENTS, HALVES),
    "mutation_rates": lambda _: genetics.mutation_rates(0.5, PROBABILITIES, PARENTS),
    "survivors": lambda _: genetics.survivors(LOSSES.repeat(2), 3),
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_inputs_and_the_global_stream_are_left_as_they_were_and_results_share_no_memory_with_them(function):
    inputs = [*PARAMETERS.values(), LOSSES, NORMALIZED, PROBABILITIES, PARENTS, HALVES]
    before, state = copy.deepcopy(inputs), torch.get_rng_state()
    result = function(generator())
    for tensor in result.values() if isinstance(result, dict) else [result]:
        tensor.zero_()
    torch.testing.assert_close(inputs, before, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(torch.get_rng_state(), state)
