"""Programs are the step itself, whichever way they are called, and draw from the streams of the units."""

import pickle
from unittest.mock import Mock

import pytest
import torch
import zoo
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional

from gadam.population import Population
from gadam.randomness import draw
from gadam.tracing import convolution, programs, replay
from gadam.tracing.passes import simplify, without_writes
from gadam.tracing.programs import Programs, _draw_from_streams, difference
from gadam.tracing.replay import PredrawnProgram

DROPOUT = zoo.double(zoo.Case(zoo.dropout_mlp))
CNN = zoo.double(zoo.Case(lambda: zoo.cnn(nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), features=16), zoo.IMAGES))


def gradients(case, made):
    """Losses and gradients of three units."""
    population = Population.make(case.make, 3)
    inputs, targets = (tensor.expand(3, *tensor.shape).contiguous() for tensor in (*case.arguments, case.targets))
    streams = [torch.Generator().manual_seed(unit) for unit in range(3)]
    losses, found, _ = made.gradients(population.parameters, population.buffers, ((inputs,), targets), streams)
    return {"losses": losses} | found


FAULTS = {
    "no TorchScript": (torch.jit, "trace", lambda *_, **__: 1 / 0),
    "no simplification": (programs, "simplify", lambda *_: 1 / 0),
    "a wrong kernel": (convolution, "_spread", lambda *given, right=convolution._spread: right(*given) * 1.0001),
    "a broken kernel": (convolution, "_spread", lambda *_: 1 / 0),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_fails_or_gives_something_else_is_told_and_not_used(fault, monkeypatch, caplog):
    case = CNN if "kernel" in fault else DROPOUT

    def made():
        return Programs(case.make(), case.loss, singly="kernel" in fault)

    expected = gradients(case, made())
    monkeypatch.setattr(*FAULTS[fault])
    monkeypatch.setattr(replay, "_compiled", {})
    with caplog.at_level("INFO", "gadam"):
        assert zoo.difference(gradients(case, made()), expected) <= 1e-12
    assert ("as it was traced" in caplog.text) == (fault != "no TorchScript")


def test_equal_programs_are_compiled_once(monkeypatch):
    monkeypatch.setattr(replay, "_compiled", {})
    compiled = Mock(wraps=torch.jit.trace)
    monkeypatch.setattr(torch.jit, "trace", compiled)
    found = [gradients(DROPOUT, Programs(DROPOUT.make(), DROPOUT.loss)) for _ in range(3)]
    assert compiled.call_count == 1
    assert zoo.difference(found[2], found[0]) == 0
    other = gradients(DROPOUT, Programs(DROPOUT.make(), lambda *given: 2 * DROPOUT.loss(*given)))
    assert compiled.call_count == 2
    assert zoo.difference({"losses": other["losses"] / 2}, {"losses": found[0]["losses"]}) < 1e-6


class Shifted(zoo.Linear):
    """Adds a constant, which a trace keeps beside its code."""

    def __init__(self, shift):
        super().__init__()
        self.shift = shift

    def forward(self, inputs):
        return self.layer(inputs + self.shift * torch.ones_like(inputs))


def test_programs_that_differ_in_a_constant_alone_are_not_taken_for_each_other(monkeypatch):
    found = []
    for shifts in ((2.0, 2.0002), (2.0002,)):
        monkeypatch.setattr(replay, "_compiled", {})
        for shift in shifts:
            case = zoo.Case(lambda shift=shift: Shifted(shift))
            last = gradients(case, Programs(case.make(), case.loss))
        found.append(last)
    assert zoo.identical(*found)


def test_what_two_runs_may_differ_by_is_rounding():
    run = torch.tensor([[3.0, 4.0]]), torch.tensor([2])
    hidden = torch.tensor([[3.0, torch.inf]]), run[1]
    assert [difference(*pair) for pair in ((run, run), (hidden, hidden), (run, hidden))] == [""] * 3
    assert not difference((run[0] + 1e-3, run[1]), run)
    for wrong in (run[0] + 1e-2, run[0] * torch.nan, hidden[0], run[0].double(), run[0].T, run[0].expand(2, 2)[::2]):
        assert difference((wrong, run[1]), run).startswith("output 0"), wrong
    assert difference((run[0], run[1] + 1), run) == "output 1 differs"


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_what_the_fused_dropout_of_a_gpu_draws_depends_on_no_input(rate):
    x = torch.rand(6, 5)
    with torch.no_grad():
        pure = without_writes(make_fx(lambda x: torch.native_dropout(x, rate, True))(x), [x])
        simplify(pure)
        drawn = PredrawnProgram(_draw_from_streams(pure))
        outputs = drawn(torch.Generator().manual_seed(3), x)
    expected = draw("aten.native_dropout.default", torch.Generator().manual_seed(3), x, rate, True)
    assert all(map(torch.equal, outputs, expected))
    assert len(drawn.draw(torch.Generator())) == 1


def test_programs_that_were_sent_elsewhere_are_traced_there_as_they_are_here():
    made = Programs(
        CNN.make(), functional.cross_entropy, singly=True, training_loss=functional.nll_loss, evaluates=True
    )
    made._traced["here"] = None
    there = pickle.loads(pickle.dumps(made))
    facts, facts_there = ({**vars(one), "_template": repr(one._template)} for one in (made, there))
    assert facts_there == facts | {"_traced": {}}
