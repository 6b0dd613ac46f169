"""A simplified program gives what the traced one gives, with fewer operators."""

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from gadam.tracing import passes
from gadam.tracing.passes import simplify, without_writes


def numbers(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def simplified(function, *inputs):
    """The operators of a simplified function, once its values are the function's, in memory of their own."""
    with torch.no_grad():
        pure = without_writes(make_fx(function)(*inputs), inputs)
        simplify(pure)
        expected, copies = function(*inputs), [tensor.clone() for tensor in inputs]
        actual = pure(*inputs)
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12, check_stride=True)
        several = isinstance(actual, tuple)
        for position, result in enumerate(actual if several else (actual,)):
            result.fill_(7)
            again = pure(*inputs) if several else (pure(*inputs),)
            for later in range(position + 1, len(again)):
                torch.testing.assert_close(actual[later], expected[later], rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(again[position], (expected if several else (expected,))[position])
        assert all(map(torch.equal, inputs, copies))
    return [getattr(node.target, "__name__", "") for node in pure.graph.nodes if node.op == "call_function"]


A, B, C, X = numbers(2, 3, 4), numbers(2, 4, 5), numbers(2, 3, 5), numbers(2, 3)
# function, its inputs, and the operators that are left; None: whichever.
PROGRAMS = {
    "what changes nothing": (
        lambda x: (x * 1).view(2, 3, 4).expand(2, 3, 4).transpose(1, 2).transpose(1, 2) + 2, (A,), ["add"],
    ),
    "other entries at its places": (lambda x: x.t().reshape(3, 2) + 0.5, (X,), None),
    "an expansion": (lambda x: x[:1].expand(2, 3) + 1, (X,), None),
    "a product that makes another type": (lambda x: (x > 0).long() * 1.0, (X,), None),
    "another transpose": (lambda x: x.unsqueeze(0).transpose(0, 1).transpose(1, 2) + 1, (X,), None),
    "equal operators": (lambda x: torch.exp(x) + torch.exp(x), (X,), ["exp.default", "add"]),
    "a constant": (lambda x: x + torch.ones_like(x).cumsum(0) / 2, (X,), ["add"]),
    "a constant result": (lambda x: (x + 1, torch.zeros_like(x)), (X,), ["add", "clone"]),
    "an input as result": (lambda x: ((x * 1).view(-1),), (X,), None),
    "a transposed constant": (lambda x: ((torch.zeros_like(x) + 1).t(),), (X,), None),
    "equal results": (lambda x: (x + 1, x + 1), (X,), ["add", "clone"]),
    "views of one result": (lambda x: (x.exp(), x.exp().t()), (X,), None),
    "a write": (lambda x: (x.clone().add_(1) * 1, x * 1), (X,), None),
    "a transposed bmm": (lambda a, b: torch.bmm(a, b).mT.contiguous(), (A, B), ["transpose", "transpose", "bmm"]),
    "a transposed mm": (lambda a, b: torch.mm(a, b).mT.contiguous(), (A[0], B[0]), ["transpose", "transpose", "mm"]),
    "that of one already transposed": (
        lambda a, b: (a.mT @ b).mT.contiguous(), (A.mT.contiguous(), B), ["transpose", "bmm"],
    ),
    "a product used twice": (lambda a, b: (torch.bmm(a, b).mT.contiguous(), torch.bmm(a, b) + 1), (A, B), None),
    **{
        f"a sum with a product, {shape}": (lambda a, b, c: (a @ b + c) - (c + 2 * a @ b), (A, B, numbers(*shape)), None)
        for shape in ((2, 1, 5), (2, 3, 5), (5,), (1, 1, 1))
    },
    "such a sum": (lambda a, b, c: torch.bmm(a, b) + c, (A, B, C), ["bmm", "add_"]),
    "twice the sum": (lambda a, b, c: torch.add(c, torch.bmm(a, b), alpha=2), (A, B, C), ["bmm", "add"]),
    "larger than the product": (lambda a, b, c: torch.bmm(a, b) + c[None], (A, B, C), None),
    "a product besides": (lambda a, b, c: (torch.bmm(a, b) + c, torch.bmm(a, b) * 2), (A, B, C), ["bmm", "add", "mul"]),
    "of another type": (lambda a, b, c: torch.bmm(a, b) + c.float(), (A, B, C), None),
    "with a number": (lambda a, b: torch.bmm(a, b) + 1, (A, B), ["bmm", "add"]),
    "with itself": (lambda a, b: torch.bmm(a, b) + torch.bmm(a, b), (A, B), ["bmm", "add"]),
    **{
        f"{f.__name__} of {what}": (given[0](f), given[1:], [*left, f.__name__ + ("_" if left == ["bmm"] else "")])
        for f in (torch.relu, torch.sigmoid, torch.tanh)
        for what, given, left in (
            ("what nobody else reads", (lambda f: lambda a, b: f(torch.bmm(a, b)), A, B), ["bmm"]),
            ("an input", (lambda f: lambda a: f(a), A), []),
        )
    },
    "ReLU of what somebody reads": (lambda a, b: (torch.relu(a @ b), a @ b), (A, B), None),
    "ReLU of a transpose": (lambda a, b: torch.relu((a @ b).mT), (A, B), None),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_keeps_its_values_and_loses_operators(name):
    function, inputs, left = PROGRAMS[name]
    found = simplified(function, *inputs)
    assert left is None or found == left
    if "sum with a product" in name:
        assert found.count("add_") == 2


def test_a_large_constant_is_not_kept(monkeypatch):
    monkeypatch.setattr(passes, "KEPT_BYTES", 31)
    assert simplified(lambda x: x + torch.ones_like(x), numbers(4)) == ["ones_like.default", "add"]


def test_two_draws_are_not_one_and_what_is_not_finite_stays_so():
    for function, inputs in (
        (lambda x: (torch.rand_like(x) - torch.rand_like(x)).abs() > 0, numbers(50)),
        (lambda x: (torch.relu(x @ torch.ones(2, 1, dtype=x.dtype) + 1) * 1).isnan(), numbers(3, 2) * torch.nan),
    ):
        pure = without_writes(make_fx(function)(inputs), [inputs])
        simplify(pure)
        assert pure(inputs).all()
