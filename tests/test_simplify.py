"""A simplified program gives what the traced one gives, with fewer operators."""

import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from gadam.models import mlp
from gadam.population import Population
from gadam.randomness import draw
from gadam.tracing import passes as simplification
from gadam.tracing.passes import simplify, without_writes
from gadam.tracing.programs import Programs, _draw_from_streams
from gadam.tracing.replay import Drawn


def numbers(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def simplified(function, *inputs):
    """The program of a function, simplified; its values are the function's."""
    with torch.no_grad():
        pure = without_writes(make_fx(function)(*inputs), inputs)
        simplify(pure)
        actual, expected = pure(*inputs), function(*inputs)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12, check_stride=True)
    return pure


def operators(program):
    return [getattr(node.target, "__name__", "") for node in program.graph.nodes if node.op == "call_function"]


def test_what_changes_nothing_goes():
    program = simplified(
        lambda x: (x * 1).view(2, 3, 4).expand(2, 3, 4).transpose(1, 2).transpose(1, 2) + 2, numbers(2, 3, 4)
    )
    assert operators(program) == ["add"]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.t().reshape(3, 2),  # the same shape, but other entries at its places
        lambda x: x[:1].expand(2, 3) + 1,
        lambda x: (x > 0).long() * 1.0,  # a product by 1 that makes another type
        lambda x: x.unsqueeze(0).transpose(0, 1).transpose(1, 2) + 1,
    ],
)
def test_what_only_looks_like_nothing_stays(function):
    simplified(function, numbers(2, 3))


def test_equal_operators_are_one_and_random_ones_are_not():
    program = simplified(lambda x: torch.exp(x) + torch.exp(x), numbers(3))
    assert len(operators(program)) == 2
    inputs = [numbers(50)]
    drawn = without_writes(make_fx(lambda x: torch.rand_like(x) - torch.rand_like(x))(*inputs), inputs)
    simplify(drawn)
    assert drawn(*inputs).abs().min() > 0


def test_constants_are_made_once_but_results_each_time():
    program = simplified(lambda x: x + torch.ones_like(x).cumsum(0) / 2, numbers(4))
    assert operators(program) == ["add"]
    program = simplified(lambda x: (x + 1, torch.zeros_like(x)), numbers(4))
    program(numbers(4))[1].fill_(7)
    assert not program(numbers(4))[1].any()


@pytest.mark.parametrize(
    "function",
    [
        lambda x: (x * 1,),
        lambda x: ((x * 1).view(-1),),
        lambda x: ((torch.zeros_like(x) + 1).t(),),
        lambda x: (x + 1, x + 1),
        lambda x: (x.exp(), x.exp().t()),
    ],
)
def test_a_result_has_memory_of_its_own(function):
    x = numbers(2, 3)
    program, expected = simplified(function, x), function(x)
    for result in program(x):
        result.fill_(7)
    assert torch.equal(x, numbers(2, 3))
    results = program(x)
    for result, reference in zip(results, expected, strict=True):
        assert torch.equal(result, reference)
    results[0].fill_(7)
    assert all(torch.equal(result, reference) for result, reference in zip(results[1:], expected[1:], strict=True))


def test_a_large_constant_is_not_kept(monkeypatch):
    monkeypatch.setattr(simplification, "KEPT_BYTES", 31)
    assert operators(simplified(lambda x: x + torch.ones_like(x), numbers(4))) == ["ones_like.default", "add"]


@pytest.mark.parametrize("name", ["bmm", "mm"])
def test_the_transpose_of_a_product_is_not_copied(name):
    shape = (2,) if name == "bmm" else ()
    product, (a, b) = getattr(torch, name), (numbers(*shape, 3, 4), numbers(*shape, 4, 5))
    program = simplified(lambda a, b: product(a, b).mT.contiguous(), a, b)
    assert "clone" not in operators(program)
    turned = simplified(lambda a, b: product(a.mT, b).mT.contiguous(), a.mT.contiguous(), b)
    assert operators(turned).count("transpose") == 1
    used_twice = simplified(lambda a, b: (product(a, b).mT.contiguous(), product(a, b) + 1), a, b)
    assert operators(used_twice).count(name) == 1


@pytest.mark.parametrize("other", [(2, 1, 5), (2, 3, 5), (5,), (1, 1, 1)])
def test_a_sum_with_a_product_is_one_operator(other):
    inputs = numbers(2, 3, 4), numbers(2, 4, 5), numbers(*other)
    for function in (lambda a, b, c: a @ b + c, lambda a, b, c: c + a @ b):
        assert "baddbmm" in operators(simplified(function, *inputs))


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b, c: torch.add(c, torch.bmm(a, b), alpha=2),
        lambda a, b, c: torch.bmm(a, b) + c[None],  # larger than the product
        lambda a, b, c: (torch.bmm(a, b) + c, torch.bmm(a, b) * 2),
        lambda a, b, c: torch.bmm(a, b) + c.float(),
        lambda a, b, c: torch.bmm(a, b) + 1,
        lambda a, b, c: torch.bmm(a, b) + torch.bmm(a, b),
    ],
)
def test_other_sums_stay(function):
    inputs = numbers(2, 3, 4), numbers(2, 4, 5), numbers(2, 3, 5)
    assert "baddbmm" not in operators(simplified(function, *inputs))


@pytest.mark.parametrize("function", [torch.relu, torch.sigmoid, torch.tanh])
def test_a_result_overwrites_what_nobody_else_reads(function):
    a, b = numbers(2, 3, 4), numbers(2, 4, 5)
    assert f"{function.__name__}_" in operators(simplified(lambda a, b: function(a @ b), a, b))
    assert function.__name__ in operators(simplified(lambda a, b: (function(a @ b), a @ b), a, b))
    assert function.__name__ in operators(simplified(lambda a: function(a), a))
    assert function.__name__ in operators(simplified(lambda a, b: function((a @ b).mT), a, b))
    assert torch.equal(a, numbers(2, 3, 4))


def test_writes_in_place_become_values_unless_they_are_to_the_inputs():
    def buffered(x):
        y = x.clone()
        y.add_(1)
        return y * 1, x * 1

    simplified(buffered, numbers(3))
    inputs = [numbers(3)]
    assert without_writes(make_fx(lambda x: x.mul_(2))(*inputs), inputs) is None


def test_what_is_not_finite_stays_so():
    x = torch.tensor([[[float("nan"), float("inf")]]], dtype=torch.float64)
    program = simplified(lambda x: torch.relu(x @ torch.ones(1, 2, 1, dtype=x.dtype) + 1) * 1, numbers(1, 1, 2))
    assert program(x).isnan().all()


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_what_the_fused_dropout_of_a_gpu_draws_depends_on_no_input(rate):
    x = numbers(6, 5)
    with torch.no_grad():
        traced = make_fx(lambda x: torch.native_dropout(x, rate, True))(x)
        pure = without_writes(traced, [x])
        simplify(pure)
        drawn = Drawn(_draw_from_streams(pure))
        outputs = drawn(torch.Generator().manual_seed(3), x)
        expected = draw("aten.native_dropout.default", torch.Generator().manual_seed(3), x, rate, True)
    for actual, reference in zip(outputs, expected, strict=True):
        assert torch.equal(actual, reference)
    assert len(drawn.draw(torch.Generator())) == 1


def test_the_step_of_a_small_network_is_half_as_many_operators(monkeypatch):
    counted = []
    monkeypatch.setattr(
        "gadam.tracing.programs.simplify",
        lambda program: (
            counted.append(len(operators(program))),
            simplify(program),
            counted.append(len(operators(program))),
        ),
    )
    population = Population.make(lambda: mlp(16, 26, (70, 50)), 3, seed=0)
    programs = Programs(population.template, nn.functional.cross_entropy)
    batch = (torch.randn(3, 8, 16),), torch.randint(26, (3, 8))
    programs.gradients(population.parameters, population.buffers, batch, [torch.Generator() for _ in range(3)])
    assert counted[1] <= 0.55 * counted[0]


def test_rows_that_the_loss_ignores_are_ignored():
    population = Population.make(lambda: mlp(4, 3, (5,)).double(), 2, seed=0)
    programs = Programs(population.template, nn.functional.cross_entropy)
    inputs, targets = numbers(2, 6, 4), torch.tensor([[0, 1, -100, 2, -100, 1], [-100, 0, 0, 1, 2, 2]])
    streams = [torch.Generator() for _ in range(2)]
    programs.gradients(population.parameters, {}, ((inputs,), targets.clamp(min=0)), streams)  # traced without any
    losses, _, _ = programs.gradients(population.parameters, {}, ((inputs,), targets), streams)
    for unit, module in enumerate(population.units()):
        expected = nn.functional.cross_entropy(module(inputs[unit]), targets[unit])
        torch.testing.assert_close(losses[unit], expected.detach())
