"""A compiled program is the program: the same numbers drawn, the same values, for whoever calls it."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import zoo
from torch import nn

from gadam.population import Population
from gadam.tracing import programs as vectorised
from gadam.tracing.programs import Programs
from gadam.tracing.replay import compiled

UNITS = 3


def programs_of(case, monkeypatch, singly=False):
    """The programs of a case, and the simplified program that its compiled one was made from."""
    made = []

    def kept(program, streams, flat):
        made.append((program, compiled(program, streams, flat)))
        return made[-1][1]

    monkeypatch.setattr(vectorised, "compiled", kept)
    return Programs(case.make(), case.loss, singly=singly), made


def streams(seed=0):
    return [torch.Generator().manual_seed(seed + unit) for unit in range(UNITS)]


def arguments(case):
    population = Population.make(case.make, UNITS, seed=0)
    inputs, targets = (tensor.expand(UNITS, *tensor.shape).contiguous() for tensor in (case.inputs, case.targets))
    return population.parameters, population.buffers, ((inputs,), targets)


@pytest.mark.parametrize("make", [zoo.mlp, zoo.dropout_mlp])
def test_it_draws_and_computes_what_the_program_does(make, monkeypatch):
    case = zoo.double(zoo.Case(make, zoo.FEATURES))
    programs, made = programs_of(case, monkeypatch)
    given = arguments(case)
    outputs = programs.gradients(*given, streams(7))
    ((program, without_python),) = made
    flat = (*given[0].values(), *given[1].values(), *given[2][0], given[2][1])
    for seed in (7, 8):
        for actual, expected in zip(without_python(streams(seed), *flat), program(streams(seed), *flat), strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(outputs[0], without_python(streams(7), *flat)[0])


def test_threads_may_call_it_at_once(monkeypatch):
    case = zoo.double(zoo.Case(zoo.mlp, zoo.FEATURES))
    programs, _ = programs_of(case, monkeypatch)
    given = arguments(case)
    expected, _, _ = programs.gradients(*given, streams())
    with ThreadPoolExecutor(4) as pool:
        for losses, _, _ in pool.map(lambda _: programs.gradients(*given, streams()), range(40)):
            assert torch.equal(losses, expected)


class Chance(nn.Module):
    """Draws noise like its inputs."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, zoo.CLASSES)

    def forward(self, inputs):
        return self.head(inputs + nn.functional.dropout(torch.randn_like(inputs), 0.5))


class Sized(Chance):
    def forward(self, inputs):
        return self.head(inputs * torch.rand(inputs.shape, dtype=inputs.dtype))


@pytest.mark.parametrize("make", [Chance, Sized])
def test_whatever_it_draws_is_drawn_from_the_units_streams(make, monkeypatch):
    case = zoo.double(zoo.Case(make, zoo.FEATURES))
    programs, _ = programs_of(case, monkeypatch)
    given = arguments(case)
    first, again, other = (programs.gradients(*given, streams(seed))[0] for seed in (0, 0, 5))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_what_cannot_be_compiled_runs_as_it_was(monkeypatch):
    def refuse(*_):
        raise RuntimeError("no TorchScript here")

    case = zoo.double(zoo.Case(zoo.mlp, zoo.FEATURES))
    given = arguments(case)
    expected, _, _ = Programs(case.make(), case.loss).gradients(*given, streams())
    monkeypatch.setattr(torch.jit, "trace", refuse)
    actual, _, _ = Programs(case.make(), case.loss).gradients(*given, streams())
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
