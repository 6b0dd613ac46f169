"""Every contestant trains the same units from the same weights on the same batches, to the same weights."""

import sys
from functools import partial

import pytest
import torch
from torch import nn

from gadam.bench import contestants, jax_contestant
from gadam.bench.command import CONTESTANTS
from gadam.bench.contestants import Contestant, convolves, hand_chosen, plain
from gadam.bench.limits import flops
from gadam.bench.measure import reason
from gadam.bench.workloads import BATCH, Workload, make_work, workloads
from gadam.models import MLP_HIDDEN, lenet5, mlp, orl_cnn

CPU = torch.device("cpu")
UNITS, STEPS, ROWS = 2, 6, 40


def convolutional():
    """Every layer of the paper's networks but dropout, whose draws differ between libraries."""
    return nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(2, 3, 3, stride=2), nn.Flatten(),
        nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.0), nn.Linear(8, 4),
    )  # fmt: skip


MODELS = {
    "mlp": Workload("mlp", "an MLP", partial(mlp, 5, 4, (6,)), (5,), 4, ROWS),
    "convolutional": Workload("cnn", "a CNN", convolutional, (1, 8, 8), 4, ROWS),
}


PYTORCH = [each for each in CONTESTANTS if not each.name.startswith("JAX")]
CASES = [(each, "mlp") for each in (*CONTESTANTS, *hand_chosen(UNITS))]
CASES += [(each, "convolutional") for each in CONTESTANTS if not each.name.startswith("joblib")]  # its start is slow


@pytest.fixture(autouse=True)
def one_thread():
    """Two would wait for each other longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def trained(contestant, work, steps=STEPS):
    with contestant.start(work) as ready:
        return ready.train(steps)()


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize(("contestant", "model"), CASES, ids=lambda each: getattr(each, "name", each))
def test_contestant_trains_as_the_plain_loop(contestant, model):
    work = make_work(MODELS[model], UNITS, CPU, batch_size=8)
    if contestant.name.startswith("JAX"):
        pytest.importorskip("jax")
    expected = trained(Contestant("plain", plain), work)
    weights = trained(contestant, work)
    assert weights.keys() == expected.keys()
    for name, tensor in expected.items():
        assert (tensor - work.population.parameters[name]).abs().max() > 1e-3  # it learned
        torch.testing.assert_close(weights[name], tensor, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("contestant", PYTORCH, ids=lambda each: each.name)
def test_a_training_leaves_nothing_behind_for_the_next(contestant):
    work = make_work(MODELS["mlp"], UNITS, CPU, batch_size=8)
    with contestant.start(work) as ready:
        first, second = (ready.train(STEPS)() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("contestant", PYTORCH, ids=lambda each: each.name)
def test_a_single_unit_is_trained_too_and_the_threads_stay_as_they_were(contestant):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        trained(contestant, make_work(MODELS["mlp"], 1, CPU, batch_size=8), steps=1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_training_longer_than_a_block_of_batches_agrees_too():
    work = make_work(MODELS["mlp"], UNITS, CPU, batch_size=8)
    ours, expected = (trained(each, work, steps=70) for each in (CONTESTANTS[0], Contestant("plain", plain)))
    for name, tensor in expected.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-3, atol=1e-4)


def test_an_adam_without_optax_is_the_same(monkeypatch):
    pytest.importorskip("jax")
    monkeypatch.setitem(sys.modules, "optax", None)
    work = make_work(MODELS["mlp"], UNITS, CPU, batch_size=8)
    contestant = Contestant("JAX", jax_contestant.jax_units)
    with contestant.start(work) as ready:
        assert "optax is not installed" in ready.note
    expected = trained(Contestant("plain", plain), work)
    for name, tensor in trained(contestant, work).items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-4)


def test_jax_drops_the_share_that_it_should():
    jax = pytest.importorskip("jax")
    layers = {"0": nn.Dropout(0.25)}
    out = jax_contestant._forward(layers, {}, jax.numpy.ones((100, 100)), jax.random.key(0))
    assert sorted({round(float(value), 4) for value in out.ravel()}) == [0, round(1 / 0.75, 4)]
    assert abs(float((out == 0).mean()) - 0.25) < 0.02


def test_jax_refuses_a_layer_that_it_has_no_counterpart_for():
    pytest.importorskip("jax")
    with pytest.raises(NotImplementedError, match="BatchNorm1d"):
        jax_contestant._forward({"0": nn.BatchNorm1d(3)}, {}, torch.zeros(1, 3), None)


def test_without_jax_the_reason_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    work = make_work(MODELS["mlp"], UNITS, CPU)
    with pytest.raises(ModuleNotFoundError) as caught, jax_contestant.jax_units(work):
        pass
    assert reason(caught.value) == "skipped: jax is not installed"


def test_fewer_steps_have_the_first_batches():
    work = make_work(MODELS["mlp"], UNITS, CPU, batch_size=8)
    assert work.batches(3).shape == (3, UNITS, 8)
    assert torch.equal(work.batches(3), work.batches(100)[:3])
    assert int(work.batches(100).max()) < ROWS


def test_workloads_are_the_networks_of_the_paper():
    every = workloads(CPU)
    expected = {"mlp": mlp(16, 26, MLP_HIDDEN["letter"]), "lenet": lenet5(), "orl": orl_cnn(image_size=(28, 23))}
    assert every.keys() == expected.keys()
    for name, module in expected.items():
        assert str(every[name].make_model()) == str(module)
        assert module(torch.zeros(2, *every[name].shape)).shape == (2, every[name].classes)


def test_operations_of_a_step_are_those_of_the_matrix_products():
    work = make_work(workloads(CPU)["mlp"], 1, CPU)
    # Forward, and in the backward pass of weights and inputs; the first layer's inputs need no gradient.
    expected = 2 * BATCH * (3 * (16 * 70 + 70 * 50 + 50 * 26) - 16 * 70)
    assert flops(work) == expected
    assert not convolves(work)
    assert convolves(make_work(MODELS["convolutional"], 1, CPU))


def test_full_precision_is_put_back():
    before = torch.backends.cudnn.allow_tf32
    with contestants.full_precision():
        assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.allow_tf32 == before
