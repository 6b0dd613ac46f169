"""Equations 8-13 against loops over scalars, and the properties that every population keeps."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gadam import InputError, genetics

INF, NAN = math.inf, math.nan
SIGMAS = 5  # of the binomial: with the fixed seeds below a right implementation stays within

examples = settings(max_examples=60, deadline=None)
seeds = st.integers(0, 2**31)
finite = st.floats(-1e6, 1e6, width=32)
any_loss = st.one_of(finite, st.sampled_from([INF, -INF, NAN]))


def losses_of(elements, least=2, most=12):
    return st.lists(elements, min_size=least, max_size=most).map(lambda values: torch.tensor(values))


two_generations = st.integers(1, 8).flatmap(lambda g: losses_of(any_loss, least=2 * g, most=2 * g))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def close_to_binomial(hits, trials, probability):
    return abs(hits - trials * probability) <= SIGMAS * math.sqrt(trials * probability * (1 - probability))


def numbered(units, *shape, dtype=torch.float32):
    """A parameter whose every entry says where it stands: unit * 1000 + position."""
    positions = torch.arange(math.prod(shape), dtype=dtype).reshape(shape)
    return torch.stack([positions + 1000 * unit for unit in range(units)])


def unit_and_position(entries):
    return entries.div(1000, rounding_mode="floor").long(), entries.remainder(1000)


# --- the equations, one scalar at a time, in NumPy ---


def reference_normalize(losses):
    kept = [loss for loss in losses if np.isfinite(loss)]
    lowest, highest = min(kept), max(kept)
    return [
        1.0 if not np.isfinite(x) else (x - lowest) / (highest - lowest) if highest > lowest else 0.0 for x in losses
    ]


def reference_selection(normalized, eligible):
    weights = [np.exp(-value) if may else 0.0 for value, may in zip(normalized, eligible, strict=True)]
    return [weight / sum(weights) for weight in weights]


def reference_inheritance(normalized, parents):
    return [np.exp(-normalized[a]) / (np.exp(-normalized[a]) + np.exp(-normalized[b])) for a, b in parents]


def reference_rates(base_rate, probabilities, parents):
    return [max(0.0, base_rate * (1 - probabilities[a] - probabilities[b])) for a, b in parents]


def reference_survivors(losses, population_size):
    order = sorted(range(len(losses)), key=lambda i: (0, losses[i]) if np.isfinite(losses[i]) else (1, 0.0))
    return order[:population_size]


# --- normalisation of losses (Section 3.3.1) ---


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([1.0, 3.0, 2.0], [0.0, 1.0, 0.5]),
        ([-2.0, 2.0, -1.0], [0.0, 1.0, 0.25]),
        ([3e38, -3e38, 0.0], [1.0, 0.0, 0.5]),  # their difference is no float32
        ([0.7, 0.7, 0.7], [0.0, 0.0, 0.0]),
        ([1.0, INF, 3.0, NAN], [0.0, 1.0, 1.0, 1.0]),
        ([INF, 5.0, NAN], [1.0, 0.0, 1.0]),
        ([NAN, INF], [1.0, 1.0]),
        ([4.0], [0.0]),
    ],
)
def test_normalized_losses_by_hand(losses, expected):
    assert genetics.normalize_losses(torch.tensor(losses)).tolist() == expected


@examples
@given(losses_of(st.one_of(finite, st.sampled_from([INF, NAN]))).filter(lambda losses: losses.isfinite().any()))
def test_normalized_losses_are_the_reference(losses):
    normalized = genetics.normalize_losses(losses.double())
    np.testing.assert_allclose(normalized, reference_normalize(losses.double().numpy()), rtol=1e-9, atol=1e-12)


@examples
@given(losses_of(st.floats(width=32)))
def test_normalized_losses_lie_in_zero_to_one_whatever_the_losses(losses):
    normalized = genetics.normalize_losses(losses)
    assert normalized.shape == losses.shape
    assert normalized.isfinite().all()
    assert ((normalized >= 0) & (normalized <= 1)).all()
    assert (normalized[losses.isnan() | losses.isposinf()] == 1).all()


@examples
@given(losses_of(st.integers(-1000, 1000)), st.integers(-1000, 1000), st.integers(-20, 20))
def test_normalized_losses_know_neither_origin_nor_unit_of_the_losses(losses, shift, power):
    losses = losses.double()
    moved = (losses + shift) * 2.0**power  # exact in float64, so the result must be the very same
    assert torch.equal(genetics.normalize_losses(moved), genetics.normalize_losses(losses))


# --- Eq. 8: probabilities of selection ---


@examples
@given(losses_of(finite), st.data())
def test_selection_probabilities_are_eq_8(losses, data):
    normalized = genetics.normalize_losses(losses.double())
    eligible = torch.tensor(data.draw(st.lists(st.booleans(), min_size=len(losses), max_size=len(losses)).filter(any)))
    np.testing.assert_allclose(
        genetics.selection_probabilities(normalized),
        reference_selection(normalized.numpy(), [True] * len(losses)),
        rtol=1e-9,
    )
    np.testing.assert_allclose(
        genetics.selection_probabilities(normalized, eligible),
        reference_selection(normalized.numpy(), eligible.numpy()),
        rtol=1e-9,
    )


@examples
@given(losses_of(any_loss))
def test_selection_probabilities_sum_to_one_and_order_as_fitness_does(losses):
    normalized = genetics.normalize_losses(losses)
    eligible = losses.isfinite()
    probabilities = genetics.selection_probabilities(normalized, eligible)
    assert (probabilities >= 0).all()
    assert probabilities.sum().item() == pytest.approx(1, abs=1e-5)
    for i in eligible.nonzero().flatten():
        fitter = eligible & (losses < losses[i])
        clearly_fitter = eligible & (normalized < normalized[i] - 1e-4)
        assert (probabilities[fitter] >= probabilities[i]).all()
        assert (probabilities[clearly_fitter] > probabilities[i]).all()


def test_units_that_are_not_eligible_have_probability_exactly_zero():
    probabilities = genetics.selection_probabilities(torch.tensor([0.0, 1.0, 0.5]), torch.tensor([False, True, False]))
    assert probabilities.tolist() == [0.0, 1.0, 0.0]


def test_where_no_unit_is_eligible_all_are():
    probabilities = genetics.selection_probabilities(torch.ones(4), torch.zeros(4, dtype=torch.bool))
    assert probabilities.tolist() == [0.25] * 4


# --- Section 3.3.1: parents ---


def test_parents_are_drawn_with_the_probabilities_given_and_with_replacement():
    probabilities, pairs = torch.tensor([0.5, 0.3, 0.15, 0.05]), 20_000
    parents = genetics.select_parents(probabilities, pairs, generator=generator())
    assert parents.dtype == torch.int64
    assert parents.shape == (pairs, 2)
    for a in range(4):
        for b in range(4):  # the pair (a, a) too: both draws are independent
            hits = (parents == torch.tensor([a, b])).all(dim=1).sum().item()
            assert close_to_binomial(hits, pairs, (probabilities[a] * probabilities[b]).item()), (a, b)


@pytest.mark.parametrize("pairs", [1, 2, 7, 50])
def test_pairs_are_as_many_as_asked_for_in_a_population_of_any_size(pairs):
    parents = genetics.select_parents(torch.full((3,), 1 / 3), pairs, generator=generator())
    assert parents.shape == (pairs, 2)
    assert set(parents.flatten().tolist()) <= {0, 1, 2}


@examples
@given(losses_of(any_loss).filter(lambda losses: losses.isfinite().any()), seeds)
def test_a_unit_without_finite_loss_is_no_parent_while_a_finite_one_exists(losses, seed):
    eligible = losses.isfinite()
    probabilities = genetics.selection_probabilities(genetics.normalize_losses(losses), eligible)
    parents = genetics.select_parents(probabilities, 200, generator=generator(seed))
    assert eligible[parents].all()


def test_parents_can_be_selected_where_every_loss_is_lost():
    losses = torch.tensor([NAN, INF, NAN])
    probabilities = genetics.selection_probabilities(genetics.normalize_losses(losses), losses.isfinite())
    assert genetics.select_parents(probabilities, 3, generator=generator()).shape == (3, 2)


# --- Eq. 10: probabilities of inheritance ---


@examples
@given(losses_of(finite), seeds)
def test_inheritance_probabilities_are_eq_10(losses, seed):
    normalized = genetics.normalize_losses(losses.double())
    parents = torch.randint(len(losses), (10, 2), generator=generator(seed))
    inheritance = genetics.inheritance_probabilities(normalized, parents)
    assert inheritance.shape == (10,)
    np.testing.assert_allclose(inheritance, reference_inheritance(normalized.numpy(), parents.tolist()), rtol=1e-9)
    swapped = genetics.inheritance_probabilities(normalized, parents.flip(1))
    np.testing.assert_allclose(inheritance + swapped, np.ones(10), rtol=1e-9)


def test_the_fitter_parent_gives_more_and_a_unit_paired_with_itself_half():
    parents = torch.tensor([[0, 1], [1, 0], [0, 0], [1, 1]])
    fitter, worse, *itself = genetics.inheritance_probabilities(torch.tensor([0.2, 0.9]), parents).tolist()
    assert 0 < worse < 0.5 < fitter < 1
    assert itself == [0.5, 0.5]


# --- Eq. 9: crossover ---


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_child_entry_is_the_same_entry_of_one_of_its_parents(dtype):
    parameters = {
        "weight": numbered(4, 5, 3, 2, dtype=dtype),
        "bias": numbered(4, 7, dtype=dtype),
        "scale": numbered(4, dtype=dtype),
    }
    parents = torch.tensor([[0, 1], [2, 3], [3, 0], [1, 1], [2, 0], [3, 1]])
    children = genetics.crossover(parameters, parents, torch.full((6,), 0.5), generator=generator())
    assert list(children) == list(parameters)
    for name, child in children.items():
        assert child.dtype == dtype
        assert child.shape == (6, *parameters[name].shape[1:])
        unit, position = unit_and_position(child)
        assert torch.equal(position, unit_and_position(parameters[name][:1].expand_as(child))[1])
        a, b = (parents[:, side].reshape(-1, *[1] * (child.dim() - 1)) for side in (0, 1))
        assert ((unit == a) | (unit == b)).all()


def test_each_child_inherits_from_its_first_parent_as_often_as_eq_10_says():
    parameters = {"weight": torch.tensor([0.0, 1.0])[:, None, None].expand(2, 100, 200)}
    parents = torch.tensor([[0, 1], [1, 0], [0, 1], [1, 0]])
    inheritance = torch.tensor([0.27, 0.73, 0.5, 0.6])
    children = genetics.crossover(parameters, parents, inheritance, generator=generator())["weight"]
    for child, (a, _), probability in zip(children, parents, inheritance.tolist(), strict=True):
        assert close_to_binomial((child == a).sum().item(), child.numel(), probability)


def test_every_entry_of_every_child_draws_for_itself():
    parameters = {name: torch.tensor([0.0, 1.0])[:, None].expand(2, 10_000) for name in ("first", "second")}
    parents = torch.tensor([[0, 1], [0, 1]])
    children = genetics.crossover(parameters, parents, torch.full((2,), 0.5), generator=generator())
    draws = [child for both in children.values() for child in both]
    for i, one in enumerate(draws):
        for other in [*draws[:i], one.roll(1)]:
            assert close_to_binomial((one == other).sum().item(), one.numel(), 0.5)


def test_what_belongs_to_the_entries_can_be_crossed_like_them_from_the_same_state():
    parameters = {"weight": numbered(3, 10, 9), "bias": numbered(3, 9)}
    moments = {name: 2 * entries for name, entries in parameters.items()}
    parents, halves = torch.tensor([[0, 1], [2, 0], [1, 2]]), torch.full((3,), 0.5)
    children = genetics.crossover(parameters, parents, halves, generator=generator(3))
    theirs = genetics.crossover(moments, parents, halves, generator=generator(3))
    assert all(torch.equal(theirs[name], 2 * child) for name, child in children.items())


@pytest.mark.parametrize(("probability", "side"), [(1.0, 0), (0.0, 1)])
def test_inheritance_without_doubt_takes_all_from_one_parent(probability, side):
    parameters = {"weight": numbered(3, 10, 9)}
    parents = torch.tensor([[0, 1], [2, 0], [1, 2]])
    children = genetics.crossover(parameters, parents, torch.full((3,), probability), generator=generator())
    assert torch.equal(children["weight"], parameters["weight"][parents[:, side]])


def test_a_unit_paired_with_itself_has_a_copy_as_child():
    parameters = {"weight": numbered(3, 4, 5)}
    children = genetics.crossover(parameters, torch.tensor([[2, 2]]), torch.tensor([0.5]), generator=generator())
    assert torch.equal(children["weight"], parameters["weight"][2:])


# --- buffers ---


def test_a_buffer_comes_whole_from_the_parent_that_gives_more():
    buffers = {
        "mean": numbered(3, 4),
        "count": torch.tensor([10, 11, 12]),
        "mask": torch.tensor([[True, False], [False, True], [True, True]]),
    }
    parents = torch.tensor([[0, 1], [0, 1], [2, 1], [1, 2], [2, 2]])
    giver = torch.tensor([0, 1, 2, 2, 2])
    inherited = genetics.inherit(buffers, parents, torch.tensor([0.7, 0.3, 0.5, 0.49, 0.5]))
    assert list(inherited) == list(buffers)
    for name, entry in inherited.items():
        assert entry.dtype == buffers[name].dtype
        assert torch.equal(entry, buffers[name][giver]), name


def test_a_module_without_buffers_has_children_without():
    assert genetics.inherit({}, torch.tensor([[0, 1]]), torch.tensor([0.5])) == {}


# --- Eq. 12: mutation rates ---


@examples
@given(losses_of(finite), st.floats(0, 1), seeds)
def test_mutation_rates_are_eq_12_and_never_negative(losses, base_rate, seed):
    probabilities = genetics.selection_probabilities(genetics.normalize_losses(losses.double()))
    parents = torch.randint(len(losses), (10, 2), generator=generator(seed))
    parents[0] = losses.argmin()  # paired with itself: its probability counts twice
    rates = genetics.mutation_rates(base_rate, probabilities, parents)
    assert rates.shape == (10,)
    assert ((rates >= 0) & (rates <= base_rate)).all()
    expected = reference_rates(base_rate, probabilities.numpy(), parents.tolist())
    np.testing.assert_allclose(rates, expected, rtol=1e-6, atol=1e-9)


def test_the_mutation_rate_of_a_likely_unit_paired_with_itself_is_zero():
    parents = torch.tensor([[0, 0], [0, 1], [1, 1]])
    rates = genetics.mutation_rates(0.1, torch.tensor([0.75, 0.25]), parents)
    assert rates.tolist() == pytest.approx([0.0, 0.0, 0.05])


# --- Eq. 11: mutation ---


@pytest.mark.parametrize("distribution", ["uniform", "normal"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_each_child_mutates_at_its_own_rate_and_keeps_the_rest(distribution, dtype):
    parameters = {
        "weight": torch.full((4, 100, 150), 7.0, dtype=dtype),
        "bias": torch.full((4, 5_000), 7.0, dtype=dtype),
    }
    rates = torch.tensor([0.0, 0.01, 0.3, 1.0])
    mutated = genetics.mutate(parameters, rates, generator=generator(), distribution=distribution)
    assert list(mutated) == list(parameters)
    for name, entries in mutated.items():
        assert entries.dtype == dtype
        assert entries.shape == parameters[name].shape
        for child, rate in zip(entries, rates.tolist(), strict=True):
            assert close_to_binomial((child != 7).sum().item(), child.numel(), rate)


def test_uniform_mutation_is_the_default_and_spreads_evenly_over_zero_to_one():
    kept = {"weight": torch.full((1, 100, 200), 7.0)}
    values = genetics.mutate(kept, torch.ones(1), generator=generator())["weight"].flatten()
    assert ((values >= 0) & (values < 1)).all()
    for tenth in range(10):
        hits = ((values * 10).floor() == tenth).sum().item()
        assert close_to_binomial(hits, values.numel(), 0.1)
    assert values.unique().numel() > 0.99 * values.numel()


def test_where_an_entry_mutates_says_nothing_about_its_value():
    kept = {"weight": torch.full((1, 100_000), 7.0)}
    entries = genetics.mutate(kept, torch.tensor([0.1]), generator=generator())["weight"]
    values = entries[entries != 7]
    assert close_to_binomial((values < 0.5).sum().item(), values.numel(), 0.5)
    assert close_to_binomial((values < 0.1).sum().item(), values.numel(), 0.1)


def test_normal_mutation_has_mean_zero_and_standard_deviation_a_tenth():
    count = 20_000
    kept = {"weight": torch.full((1, count), 7.0)}
    values = genetics.mutate(kept, torch.ones(1), generator=generator(), distribution="normal")["weight"]
    assert abs(values.mean().item()) <= SIGMAS * 0.1 / math.sqrt(count)
    assert abs(values.std().item() - 0.1) <= SIGMAS * 0.1 / math.sqrt(2 * count)
    assert close_to_binomial((values.abs() < 0.1).sum().item(), count, math.erf(1 / math.sqrt(2)))


def test_no_entry_mutates_at_rate_zero_however_many_there_are():
    # A float32 drawn from [0, 1) is exactly 0 once in 2^24 draws, where Eq. 11's "rand <= p" would hold for p = 0.
    # With seed 1 one of the first 2^22 draws is.
    entries = torch.full((1, 2**22), 7.0)
    mutated = genetics.mutate({"weight": entries}, torch.zeros(1), generator=generator(1))["weight"]
    assert (mutated == 7).all()


@examples
@given(st.lists(st.floats(0, 1), min_size=1, max_size=5), st.floats(0, 1), seeds)
def test_a_child_entry_comes_from_a_parent_or_from_the_range_of_mutation(rates, inheritance, seed):
    parameters = {"weight": numbered(3, 4, 5) + 1, "bias": numbered(3, 6) + 1}
    pairs = len(rates)
    parents = torch.randint(3, (pairs, 2), generator=generator(seed))
    stream = generator(seed)
    children = genetics.crossover(parameters, parents, torch.full((pairs,), inheritance), generator=stream)
    children = genetics.mutate(children, torch.tensor(rates), generator=stream)
    for name, child in children.items():
        a, b = parameters[name][parents[:, 0]], parameters[name][parents[:, 1]]
        assert ((child == a) | (child == b) | ((child >= 0) & (child < 1))).all()


# --- Section 3.4: survivors ---


@examples
@given(two_generations)
def test_survivors_are_the_fittest_first_and_ties_in_order(losses):
    size = len(losses) // 2
    kept = genetics.survivors(losses, size)
    assert kept.dtype == torch.int64
    expected = reference_survivors(losses.tolist(), size)
    finite_ones = [i for i in expected if losses[i].isfinite()]
    assert kept.tolist()[: len(finite_ones)] == finite_ones
    assert len(set(kept.tolist())) == size


@examples
@given(st.integers(1, 8).flatmap(lambda g: losses_of(finite, least=2 * g, most=2 * g)), st.randoms())
def test_survivors_never_worsen_the_sum_on_the_same_batch(losses, random):
    size = len(losses) // 2
    losses = losses.double()
    survived = losses[genetics.survivors(losses, size)].sum()
    others = random.sample(range(2 * size), size)
    for chosen in (losses[:size], losses[size:], losses[others]):
        assert survived <= chosen.sum() + 1e-6


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([3.0, 1.0, 2.0, 0.0], [3, 1]),
        ([1.0, 1.0, 1.0, 1.0], [0, 1]),
        ([2.0, 1.0, 2.0, 1.0, 2.0, 1.0], [1, 3, 5]),
        ([NAN, 5.0, -INF, 4.0], [3, 1]),
        ([-INF, NAN, 9.0, INF], [2]),
        ([-0.0, 0.0, -1.0, 3.0], [2, 0]),
    ],
)
def test_survivors_by_hand(losses, expected):
    survivors = genetics.survivors(torch.tensor(losses), len(losses) // 2).tolist()
    assert survivors[: len(expected)] == expected
    assert len(survivors) == len(losses) // 2


def test_survivors_fill_up_with_lost_units_where_too_few_are_finite():
    kept = genetics.survivors(torch.tensor([NAN, INF, 1.0, -INF, NAN, INF]), 3).tolist()
    assert kept[0] == 2
    assert len(set(kept)) == 3


def test_ties_keep_their_order_in_a_large_population():
    assert genetics.survivors(torch.zeros(2_000), 1_000).tolist() == list(range(1_000))


# --- Eq. 13: the stop criterion ---


@pytest.mark.parametrize(
    ("previous", "now", "threshold", "expected"),
    [
        ([1.0, 3.0], [1.0, 2.5], 0.5, True),
        ([1.0, 3.0], [1.0, 2.5], 0.25, False),
        ([1.0, 2.5], [1.0, 3.0], 0.5, True),  # the absolute value: worse by little has converged too
        ([1.0, 2.5], [1.0, 3.0], 0.25, False),
        ([1.0, 3.0], [2.0, 2.0], 0.0, True),  # sums, not units
        ([1.0, 3.0], [1.0, 2.0], 0.0, False),
        ([1.0, INF], [1.0, 2.0], 10.0, False),
        ([1.0, 2.0], [1.0, INF], 10.0, False),
        ([1.0, INF], [1.0, INF], 10.0, False),
        ([1.0, NAN], [1.0, NAN], 10.0, False),
        ([1.0, -INF], [1.0, -INF], 10.0, False),
        ([3e38, 3e38], [3e38, 3e38], 10.0, False),  # finite losses, but not their sum
    ],
)
def test_convergence_by_hand(previous, now, threshold, expected):
    assert genetics.has_converged(torch.tensor(previous), torch.tensor(now), threshold) is expected


@examples
@given(losses_of(finite, least=4, most=4), losses_of(finite, least=4, most=4), st.floats(0, 1e7))
def test_convergence_is_eq_13(previous, now, threshold):
    change = abs(math.fsum(previous.tolist()) - math.fsum(now.tolist()))
    if abs(change - threshold) > 1.0:  # farther from the threshold than float32 sums of losses up to 1e6 can be off
        assert genetics.has_converged(previous, now, threshold) is (change <= threshold)


# --- mistakes ---


def refused(call, words):
    with pytest.raises(InputError, match=words) as refusal:
        call()
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("bad", [NAN, INF, -0.1, 1.5, 7.0])
def test_what_is_no_probability_is_refused(bad):
    values, words = torch.tensor([0.5, bad]), r": range from \S+ to \S+, must lie in 0 to 1$"
    entries, parents = {"weight": torch.rand(2, 3)}, torch.tensor([[0, 1], [1, 0]])
    refused(lambda: genetics.crossover(entries, parents, values, generator=generator()), f"^inheritance{words}")
    refused(lambda: genetics.inherit(entries, parents, values), f"^inheritance{words}")
    refused(lambda: genetics.mutate(entries, values, generator=generator()), f"^rates{words}")


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_only_floats_are_mixed_and_mutated(dtype):
    entries = {"weight": torch.rand(2, 3), "count": torch.ones(2, 3, dtype=dtype)}
    parents, halves = torch.tensor([[0, 1], [1, 0]]), torch.full((2,), 0.5)
    words = r"^parameters: count is \w+ \[2, 3\], must be floats; see genetics\.inherit for all else$"
    refused(lambda: genetics.crossover(entries, parents, halves, generator=generator()), words)
    refused(lambda: genetics.mutate(entries, halves, generator=generator()), words)
    assert genetics.inherit(entries, parents, halves)["count"].dtype == dtype


def test_convergence_is_asked_of_as_many_units_and_of_a_number():
    losses = torch.rand(4)
    refused(lambda: genetics.has_converged(losses[:3], losses, 0.0), r"^losses: is float32 \[4\], must be .* \[3\]$")
    refused(lambda: genetics.has_converged(losses, losses, True), "^threshold=True must be a number of at least 0$")


def test_on_another_device_probabilities_are_not_looked_at():
    """A look would make a GPU wait; "meta" has no values, so there a look is an error."""
    genetics._check_probabilities("rates", torch.empty(3, device="meta"), 3)


# --- randomness and purity ---

PARAMETERS = {"weight": numbered(3, 20, 10), "bias": numbered(3, 10)}
BUFFERS = {"count": torch.tensor([1, 2, 3])}
LOSSES = torch.tensor([0.4, NAN, 0.1])
NORMALIZED = torch.tensor([1.0, 1.0, 0.0])
PROBABILITIES = torch.tensor([0.3, 0.1, 0.6])
PARENTS = torch.tensor([[0, 2], [1, 0], [2, 2]])
HALVES = torch.full((3,), 0.5)

RANDOM = {
    "select_parents": lambda stream: genetics.select_parents(PROBABILITIES, 100, generator=stream),
    "crossover": lambda stream: genetics.crossover(PARAMETERS, PARENTS, HALVES, generator=stream),
    "mutate uniform": lambda stream: genetics.mutate(PARAMETERS, HALVES, generator=stream),
    "mutate normal": lambda stream: genetics.mutate(PARAMETERS, HALVES, generator=stream, distribution="normal"),
}
PURE = {
    "normalize_losses": lambda _: genetics.normalize_losses(LOSSES),
    "selection_probabilities": lambda _: genetics.selection_probabilities(NORMALIZED, LOSSES.isfinite()),
    "inheritance_probabilities": lambda _: genetics.inheritance_probabilities(NORMALIZED, PARENTS),
    "inherit": lambda _: genetics.inherit(BUFFERS, PARENTS, HALVES),
    "mutation_rates": lambda _: genetics.mutation_rates(0.5, PROBABILITIES, PARENTS),
    "survivors": lambda _: genetics.survivors(LOSSES.repeat(2), 3),
    "has_converged": lambda _: torch.tensor(genetics.has_converged(LOSSES, LOSSES, 0.1)),
}


def flat(result):
    """What a function returned as one tensor."""
    tensors = result.values() if isinstance(result, dict) else [result]
    return torch.cat([tensor.double().flatten() for tensor in tensors])


@pytest.mark.parametrize("function", RANDOM.values(), ids=RANDOM)
def test_the_generator_alone_decides(function):
    first = flat(function(generator(1)))
    state = torch.get_rng_state()
    torch.rand(3)  # the global stream moves on, and must not matter
    assert torch.equal(flat(function(generator(1))), first)
    assert not torch.equal(flat(function(generator(2))), first)
    torch.set_rng_state(state)
    function(generator(1))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("function", RANDOM.values(), ids=RANDOM)
def test_a_generator_goes_on_where_it_was(function):
    stream = generator(1)
    assert not torch.equal(flat(function(stream)), flat(function(stream)))


@pytest.mark.parametrize("function", [*RANDOM.values(), *PURE.values()], ids=[*RANDOM, *PURE])
def test_inputs_are_left_as_they_were_and_results_share_no_memory_with_them(function):
    inputs = [*PARAMETERS.values(), *BUFFERS.values(), LOSSES, NORMALIZED, PROBABILITIES, PARENTS, HALVES]
    before = [tensor.clone() for tensor in inputs]
    result = function(generator())
    for tensor in result.values() if isinstance(result, dict) else [result]:
        tensor.zero_()
    for tensor, copy in zip(inputs, before, strict=True):
        assert torch.equal(tensor.nan_to_num(nan=-1.0), copy.nan_to_num(nan=-1.0))
