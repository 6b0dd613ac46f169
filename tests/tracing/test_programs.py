"""Programs are the step itself, whichever way they are called, and draw from the streams of the units."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import zoo
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional

from gadam.models import mlp
from gadam.population import Population
from gadam.randomness import draw
from gadam.tracing import convolution, programs
from gadam.tracing.passes import simplify, without_writes
from gadam.tracing.programs import Programs, _draw_from_streams, difference
from gadam.tracing.replay import PredrawnProgram

UNITS = 3
MLP, DROPOUT, NOISY = (zoo.double(zoo.Case(make)) for make in (zoo.mlp, zoo.dropout_mlp, zoo.Noisy))


def cnn():
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3))


CNN = zoo.double(zoo.Case(cnn, zoo.IMAGES))


def gradients(case, made=None, seed=0):
    made = made or Programs(case.make(), case.loss)
    population = Population.make(case.make, UNITS, seed=0)
    inputs, targets = (tensor.expand(UNITS, *tensor.shape).contiguous() for tensor in (case.inputs, case.targets))
    streams = [torch.Generator().manual_seed(seed + unit) for unit in range(UNITS)]
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
    with caplog.at_level("INFO", "gadam"):
        assert zoo.difference(gradients(case, made()), expected) <= 1e-12
    assert ("as it was traced" in caplog.text) == (fault != "no TorchScript")


def test_what_two_runs_may_differ_by_is_rounding():
    run = torch.tensor([[3.0, 4.0]]), torch.tensor([2])
    hidden = torch.tensor([[3.0, torch.inf]]), run[1]
    assert [difference(*pair) for pair in ((run, run), (hidden, hidden), (run, hidden))] == [""] * 3
    assert not difference((run[0] + 1e-3, run[1]), run)
    for wrong in (run[0] + 1e-2, run[0] * torch.nan, hidden[0], run[0].double(), run[0].T, run[0].expand(2, 2)[::2]):
        assert difference((wrong, run[1]), run).startswith("output 0"), wrong
    assert difference((run[0], run[1] + 1), run) == "output 1 differs"


def test_threads_may_call_one_program_at_once():
    made = Programs(DROPOUT.make(), DROPOUT.loss)
    expected = gradients(DROPOUT, made)
    with ThreadPoolExecutor(4) as pool:
        assert all(zoo.identical(found, expected) for found in pool.map(lambda _: gradients(DROPOUT, made), range(40)))


def test_whatever_it_draws_is_drawn_from_the_units_streams():
    made = Programs(NOISY.make(), NOISY.loss)
    first, again, other = (gradients(NOISY, made, seed) for seed in (0, 0, 5))
    assert zoo.identical(first, again)
    assert not torch.equal(first["losses"], other["losses"])


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


def test_the_step_of_a_small_network_is_half_as_many_operators(monkeypatch):
    counted = []

    def counting(program):
        counted.append(len(program.graph.nodes))
        simplify(program)
        counted.append(len(program.graph.nodes))

    monkeypatch.setattr(programs, "simplify", counting)
    rows = torch.Generator().manual_seed(0)
    gradients(zoo.Case(lambda: mlp(16, 26, (70, 50)), torch.randn(8, 16, generator=rows), torch.arange(8)))
    assert counted[1] <= 0.6 * counted[0]


def test_rows_that_the_loss_ignores_are_ignored_and_do_not_count_in_the_mean():
    made, population = Programs(MLP.make(), MLP.loss), Population.make(MLP.make, 2)
    inputs, targets = (
        zoo.FEATURES[:12].double().view(2, 6, 4),
        torch.tensor([[0, 1, -100, 2, -100, 1], [-100, 0, 0, 1, 2, 2]]),
    )
    streams = [torch.Generator() for _ in range(2)]
    made.gradients(population.parameters, {}, ((inputs,), targets.clamp(min=0)), streams)  # traced without any
    losses, _, _ = made.gradients(population.parameters, {}, ((inputs,), targets), streams)
    for unit, module in enumerate(population.units()):
        expected = nn.functional.cross_entropy(module(inputs[unit]), targets[unit])
        torch.testing.assert_close(losses[unit], expected.detach())


def test_programs_that_were_sent_elsewhere_are_traced_there_as_they_are_here():
    made = Programs(
        CNN.make(), functional.cross_entropy, singly=True, training_loss=functional.nll_loss, evaluates=True
    )
    made._traced["here"] = None
    there = pickle.loads(pickle.dumps(made))
    facts, facts_there = ({**vars(one), "_template": repr(one._template)} for one in (made, there))
    assert facts_there == facts | {"_traced": {}}
