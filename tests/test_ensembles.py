"""Ensemble and soup: what the units predict together, and what their average weights are."""

import copy
import functools
import pickle
from dataclasses import replace

import pytest
import torch
import zoo
from torch import nn
from torch.nn import functional

from gadam import Ensemble, InputError, Population, ensembles
from gadam.ensembles import greedy_soup

DATA = (zoo.FEATURES, zoo.LABELS)


def batchnorm_dropout():
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, zoo.CLASSES))


def trained_statistics(population):
    """As if the units had seen rows: the statistics of BatchNorm differ between them."""
    generator = torch.Generator().manual_seed(5)
    buffers = {
        name: tensor + torch.rand(tensor.shape, generator=generator) if tensor.is_floating_point() else tensor + 3
        for name, tensor in population.buffers.items()
    }
    return replace(population, buffers=buffers)


def outputs_of(population, *inputs):
    """The reference: one unit after another."""
    with torch.no_grad():
        return torch.stack([unit(*inputs) for unit in population.units()])


class Calls(zoo.Counting):
    """Writes to a buffer in evaluation."""

    def forward(self, inputs):
        self.batches += 1
        return self.layer(inputs) * self.batches


class Squeezed(zoo.Linear):
    def forward(self, inputs):
        return self.layer(inputs)[:, 0]


class Pair(zoo.Linear):
    def forward(self, inputs):
        return self.layer(inputs), 1


FEATURES = (zoo.FEATURES,)
TRACED, BY_MODULES = True, False
CASES = {
    "MLP": (zoo.mlp, FEATURES, TRACED),
    "BatchNorm and dropout": (batchnorm_dropout, FEATURES, TRACED),
    "two inputs": (zoo.TwoInputs, (zoo.FEATURES, zoo.TOKENS), TRACED),
    "tied": (zoo.Tied, FEATURES, TRACED),
    "frozen": (zoo.frozen_mlp, FEATURES, TRACED),
    "kept activation": (zoo.Remembering, FEATURES, TRACED),
    "rows that see each other": (zoo.layer_norm, FEATURES, TRACED),
    "written buffer": (Calls, FEATURES, TRACED),
    "convolution": (zoo.batchnorm_cnn, (zoo.IMAGES,), TRACED),
    "a class for every place": (zoo.segmentation, (zoo.SIGNALS,), TRACED),
    "control flow": (zoo.Branching, FEATURES, BY_MODULES),
    "attention": (zoo.Attention, (zoo.SEQUENCES,), None),
    "LSTM": (zoo.Recurrent, (zoo.SEQUENCES,), None),
}


@pytest.mark.parametrize("name", CASES)
def test_an_ensemble_is_the_mean_of_its_units_at_each_call_to_the_same_bit(name):
    make, inputs, way = CASES[name]
    population = trained_statistics(Population.make(make, 3))
    expected, state = outputs_of(population, *inputs), torch.get_rng_state()
    for average, mean in (("outputs", expected.mean(0)), ("probabilities", expected.softmax(2).mean(0))):
        ensemble = Ensemble(population, average).train()  # which is not heard
        first = ensemble(*inputs)
        torch.testing.assert_close(first, mean)
        assert torch.equal(ensemble(*inputs), first)
    assert way is None or list(ensemble._traced.values()) == [way]
    torch.testing.assert_close(ensemble.units(*inputs), expected)
    assert not first.requires_grad
    assert torch.equal(torch.get_rng_state(), state), "the user's generator is not moved"
    assert zoo.identical(ensemble.state_dict(), Ensemble(population).state_dict())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize(("make", "rows"), [(zoo.mlp, zoo.FEATURES), (zoo.batchnorm_cnn, zoo.IMAGES)])
def test_an_ensemble_on_a_gpu(make, rows):
    population = trained_statistics(Population.make(make, 3))
    found = Ensemble(population).to("cuda")(rows.cuda())
    torch.testing.assert_close(found.cpu(), outputs_of(population, rows).softmax(2).mean(0), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("wrong", ["other values", "an error"])
def test_a_trace_that_is_not_the_units_own_is_not_used(wrong, monkeypatch):
    def losses(self, parameters, buffers, batch, streams):
        if wrong == "an error":
            raise RuntimeError("no kernel")
        return torch.zeros(3, zoo.ROWS, zoo.CLASSES)

    monkeypatch.setattr(ensembles.Programs, "losses", losses)
    population = Population.make(zoo.mlp, 3)
    ensemble = Ensemble(population, "outputs")
    for _ in range(2):
        torch.testing.assert_close(ensemble(zoo.FEATURES), outputs_of(population, zoo.FEATURES).mean(0))


def test_an_ensemble_does_not_keep_a_program_for_each_of_many_shapes(monkeypatch):
    monkeypatch.setattr(ensembles, "SHAPES", 2)
    population = Population.make(zoo.mlp, 2)
    ensemble = Ensemble(population, "outputs")
    for rows in (1, 2, 3, 4, 1, 4):
        inputs = zoo.FEATURES[:rows]
        torch.testing.assert_close(ensemble(inputs), outputs_of(population, inputs).mean(0))
    assert len(ensemble._traced) == 2


@pytest.mark.parametrize("way", ["state_dict", "deepcopy", "pickle", "double"])
def test_an_ensemble_survives(way):
    population = trained_statistics(Population.make(batchnorm_dropout, 3))
    ensemble, inputs = Ensemble(population), zoo.FEATURES
    expected = ensemble(inputs)
    if way == "state_dict":
        again = Ensemble(Population.make(batchnorm_dropout, 3, seed=9))
        assert not torch.allclose(again(inputs), expected)  # its program takes what is loaded later
        again.load_state_dict(ensemble.state_dict())
    elif way == "double":
        again, inputs, expected = ensemble.double(), inputs.double(), expected.double()
    else:
        again = copy.deepcopy(ensemble) if way == "deepcopy" else pickle.loads(pickle.dumps(ensemble))
    for _ in range(2):
        torch.testing.assert_close(again(inputs), expected, rtol=1e-5, atol=1e-6)


def test_an_ensemble_copies_its_units():
    population = Population.make(zoo.mlp, 2)
    ensemble, before = Ensemble(population), population.parameters["0.weight"].clone()
    ensemble.load_state_dict({name: torch.zeros_like(value) for name, value in ensemble.state_dict().items()})
    assert torch.equal(population.parameters["0.weight"], before)
    torch.testing.assert_close(ensemble(zoo.FEATURES), torch.full((zoo.ROWS, zoo.CLASSES), 1 / zoo.CLASSES))


@pytest.mark.parametrize(
    ("make", "said"),
    [(zoo.regression, "one output; give average="), (Squeezed, "one output; give average="), (Pair, "returns a tuple")],
)
def test_what_cannot_be_averaged_is_refused(make, said):
    with pytest.raises(InputError, match=f"^.*{said}.*$"):
        Ensemble(Population.make(make, 2))(zoo.FEATURES)


# --- soup ---


@functools.cache
def fit(make=zoo.mlp, size=5):
    """Units that share an ancestor, each trained a little further in a direction of its own; fittest first."""
    ancestor = Population.make(make, 1).unit(0)
    modules = []
    for unit in range(size):
        module = copy.deepcopy(ancestor).train()
        rows = torch.randint(zoo.ROWS, (20,), generator=torch.Generator().manual_seed(unit))
        optimizer = torch.optim.Adam(module.parameters(), 0.02)
        for _ in range(20):
            optimizer.zero_grad()
            functional.cross_entropy(module(zoo.FEATURES[rows]), zoo.LABELS[rows]).backward()
            optimizer.step()
        modules.append(module.eval())
    return Population.stack(sorted(modules, key=loss_of))


def loss_of(module):
    with torch.no_grad():
        return float(functional.cross_entropy(module(DATA[0]), DATA[1]))


def poison(population, unit, value):
    parameters = {name: tensor.clone() for name, tensor in population.parameters.items()}
    parameters["0.weight"][unit] = value
    return replace(population, parameters=parameters)


def test_a_soup_is_the_average_by_the_greedy_recipe():
    population = fit()
    model, units = greedy_soup(population, DATA)
    chosen, lowest = [], float("inf")
    for unit in range(len(population)):  # the recipe once more, plainly
        module = population.unit(unit)
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                parameter.copy_(population.parameters[name][[*chosen, unit]].double().mean(0))
        if loss_of(module) <= lowest:
            lowest, chosen, best = loss_of(module), [*chosen, unit], module
    assert units == tuple(chosen)
    assert len(units) > 1, "this test should see an average"
    assert zoo.identical(model.state_dict(), best.state_dict())
    assert loss_of(model) < loss_of(population.unit(0))
    assert not model.training


def test_a_soup_of_equal_units_is_the_unit_and_takes_all():
    population = fit(size=1).take(torch.tensor([0, 0, 0]))
    model, units = greedy_soup(population, DATA)
    assert units == (0, 1, 2)
    assert zoo.identical(model.state_dict(), population.unit(0).state_dict())


@pytest.mark.parametrize(("unit", "value"), [(0, float("nan")), (0, float("inf")), (1, 1e3), (4, float("nan"))])
def test_a_unit_that_would_spoil_a_soup_is_left_out(unit, value):
    model, units = greedy_soup(poison(fit(), unit, value), DATA)
    rest = [other for other in range(5) if other != unit]
    alone, others = greedy_soup(fit().take(torch.tensor(rest)), DATA)
    assert units == tuple(rest[other] for other in others)
    assert zoo.identical(model.state_dict(), alone.state_dict())


@pytest.mark.parametrize("chunk", [1, 7, zoo.ROWS - 1])
def test_a_soup_does_not_depend_on_how_many_rows_are_evaluated_at_once(chunk):
    model, units = greedy_soup(fit(), DATA, chunk=chunk)
    whole, expected = greedy_soup(fit(), DATA)
    assert units == expected
    assert zoo.identical(model.state_dict(), whole.state_dict())


def test_a_soup_averages_statistics_and_takes_whole_numbers_of_the_first():
    population = trained_statistics(fit(batchnorm_dropout))
    name = "1.num_batches_tracked"
    population = replace(population, buffers={**population.buffers, name: torch.arange(10, 15)})
    model, units = greedy_soup(population, DATA)
    buffers = dict(model.named_buffers())
    assert int(buffers[name]) == 10 + units[0]
    torch.testing.assert_close(buffers["1.running_var"], population.buffers["1.running_var"][list(units)].mean(0))


@pytest.mark.parametrize("make", [zoo.regression, Squeezed])
def test_a_soup_of_one_output_wants_the_loss_that_trained_it(make):
    population = Population.make(make, 3)
    output = population.unit(0)(zoo.FEATURES).detach()
    data = zoo.FEATURES, torch.linspace(0, 1, zoo.ROWS).reshape(output.shape)
    with pytest.raises(InputError, match=r"^loss: cross_entropy .*; give the loss of evolve$"):
        greedy_soup(population, data)
    model, _ = greedy_soup(population, data, functional.mse_loss)
    with torch.no_grad():
        assert functional.mse_loss(model(data[0]), data[1]) <= functional.mse_loss(output, data[1])


@pytest.mark.parametrize(
    ("lost", "given", "said"),
    [
        ([0, 1], {"data": DATA}, "data: none of the 2 units has a finite loss"),
        ([], {"data": (zoo.FEATURES, zoo.LABELS + 5)}, "targets: range from"),
        ([], {"data": DATA, "loss": functional.mse_loss}, "loss: mse_loss could not compare"),
    ],
)
def test_what_no_soup_can_be_made_of_is_refused(lost, given, said):
    with pytest.raises(InputError, match=f"^{said}.*$"):
        greedy_soup(poison(fit(size=2), lost, float("nan")), **given)
