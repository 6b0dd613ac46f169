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

from gadam import Ensemble, InputError, Population, ensembles, models
from gadam.ensembles import TRACED_AT, greedy_soup, soup

DATA = (zoo.FEATURES, zoo.LABELS)
CALLS = TRACED_AT + 2  # unit by unit, the call that traces, and the traced program


def lenet5_rows():
    return torch.rand(6, 1, 28, 28, generator=torch.Generator().manual_seed(0))


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


def probabilities(population, inputs):
    """The reference: one unit after another."""
    with torch.no_grad():
        return torch.stack([unit(*inputs).softmax(1) for unit in population.units()]).mean(0)


CASES = {
    "MLP": (zoo.mlp, (zoo.FEATURES,), True),
    "LeNet-5": (models.lenet5, (lenet5_rows(),), False),
    "BatchNorm and dropout": (batchnorm_dropout, (zoo.FEATURES,), True),
    "two inputs": (zoo.TwoInputs, (zoo.FEATURES, zoo.TOKENS), True),
    "tied": (zoo.Tied, (zoo.FEATURES,), True),
    "frozen": (zoo.frozen_mlp, (zoo.FEATURES,), True),
    "kept activation": (zoo.Remembering, (zoo.FEATURES,), True),
    "control flow": (zoo.Branching, (zoo.FEATURES,), False),
    "LSTM": (zoo.Recurrent, (zoo.SEQUENCES,), None),
    "attention": (zoo.Attention, (zoo.SEQUENCES,), None),
    "a class for every place": (lambda: nn.Conv2d(1, 3, 5), (lenet5_rows(),), None),
}


def test_the_faster_way_is_taken(monkeypatch):
    for make, seconds, traced in (  # one after another, then in one call, then in one call with the rows last
        (models.lenet5, (0.01, 0.005, 0.02), True),
        (models.lenet5, (0.01, 0.02, 0.02), False),
        (zoo.mlp, (1.0, 2.0, 2.0), False),
        (zoo.mlp, (1.0, 0.5, 0.7), True),
        (zoo.mlp, (1.0, 2.0, 0.7), True),
    ):
        measured = iter(seconds)
        monkeypatch.setattr(ensembles, "_seconds", lambda call, device, measured=measured: next(measured))
        ensemble = Ensemble(Population.make(make, 2))
        rows = lenet5_rows() if make is models.lenet5 else zoo.FEATURES
        for _ in range(CALLS):
            ensemble(rows)
        assert (next(iter(ensemble._programs.values())) != ensemble._one_by_one) == traced


@pytest.mark.parametrize("name", CASES)
def test_an_ensemble_is_the_mean_of_the_units_softmax_at_each_call_with(name, monkeypatch):
    monkeypatch.setattr(ensembles, "_seconds", lambda call, device: 1.0)  # slow, and one call for all is no slower
    make, inputs, traced = CASES[name]
    population = trained_statistics(Population.make(make, 3))
    ensemble = Ensemble(population).train()  # which is not heard
    expected = probabilities(population, inputs)
    for call in range(CALLS):
        torch.testing.assert_close(ensemble(*inputs), expected, msg=f"call {call}")
    (program,) = ensemble._programs.values()
    if traced is not None:
        assert (program != ensemble._one_by_one) == traced
    torch.testing.assert_close(expected.sum(1), torch.ones_like(expected[:, 0]))
    units = ensemble.units(*inputs)
    assert units.shape == (3, *expected.shape)
    with torch.no_grad():
        torch.testing.assert_close(units[1], population.unit(1)(*inputs))
    assert not units.requires_grad


def test_rows_come_last_in_memory_where_that_is_faster(monkeypatch):
    for seconds, last in (((1.0, 0.5, 0.7), False), ((1.0, 0.5, 0.2), True)):
        measured = iter(seconds)
        monkeypatch.setattr(ensembles, "_seconds", lambda call, device, measured=measured: next(measured))
        population = Population.make(zoo.mlp, 3)
        ensemble = Ensemble(population)
        for _ in range(CALLS):
            torch.testing.assert_close(ensemble(zoo.FEATURES), probabilities(population, (zoo.FEATURES,)))
        assert (ensemble.units(zoo.FEATURES).stride(1) == 1) == last


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("make", [zoo.mlp, zoo.Tied, zoo.Branching])
def test_many_rows_are_predicted_in_parts(make, threads, monkeypatch):
    monkeypatch.setattr(ensembles, "ROWS", 8)
    monkeypatch.setattr(ensembles, "_seconds", lambda call, device: 1.0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    population = Population.make(make, 3)
    ensemble = Ensemble(population)
    rows = torch.randn(8 * CALLS + 3, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        units = torch.stack([unit(rows) for unit in population.units()])
    for _ in range(3):
        torch.testing.assert_close(ensemble(rows), units.softmax(2).mean(0))
        torch.testing.assert_close(ensemble.units(rows), units)
    seen = {key[0][0][0] for key in ensemble._calls}
    # What depends on values cannot be traced: it might tell rows otherwise in parts.
    assert seen == ({8, len(rows)} if make is zoo.Branching else {8, 3})


def test_rows_that_are_told_apart_only_together_are_predicted_together(monkeypatch):
    class Centred(zoo.Linear):
        def forward(self, inputs):
            return self.layer(inputs - inputs.mean(0))

    monkeypatch.setattr(ensembles, "ROWS", 8)
    population = Population.make(Centred, 2)
    ensemble = Ensemble(population)
    for _ in range(CALLS):
        torch.testing.assert_close(ensemble(zoo.FEATURES), probabilities(population, (zoo.FEATURES,)))


def test_what_is_no_faster_in_parts_is_predicted_at_once(monkeypatch):
    monkeypatch.setattr(ensembles, "ROWS", 8)
    monkeypatch.setattr(ensembles, "TRACED_AT", 2)
    measured = iter([1.0, 2.0, 2.0] * 9)
    monkeypatch.setattr(ensembles, "_seconds", lambda call, device: next(measured))
    population = Population.make(zoo.mlp, 2)
    ensemble = Ensemble(population)
    for _ in range(2):
        torch.testing.assert_close(ensemble(zoo.FEATURES), probabilities(population, (zoo.FEATURES,)))
    assert {key[0][0][0] for key in ensemble._calls} == {8, zoo.ROWS}


def test_an_ensemble_for_regression_is_the_mean_of_the_outputs():
    population = Population.make(zoo.regression, 3)
    ensemble = Ensemble(population, "outputs")
    with torch.no_grad():
        expected = sum(unit(zoo.FEATURES) for unit in population.units()) / 3
    for _ in range(CALLS):
        torch.testing.assert_close(ensemble(zoo.FEATURES), expected)


class Squeezed(zoo.Linear):
    def forward(self, inputs):
        return self.layer(inputs)[:, 0]


@pytest.mark.parametrize("make", [zoo.regression, Squeezed])
def test_one_output_is_no_probability(make):
    population = Population.make(make, 3)
    with pytest.raises(
        InputError, match=r'^average="probabilities": the model has one output; give average="outputs"$'
    ):
        Ensemble(population)(zoo.FEATURES)
    assert len(Ensemble(population, "outputs")(zoo.FEATURES).unique()) > 1


def test_an_average_that_there_is_not():
    with pytest.raises(InputError, match="average='mean' is not allowed"):
        Ensemble(Population.make(zoo.mlp, 2), "mean")


def test_a_model_that_returns_no_tensor():
    class Pair(zoo.Linear):
        def forward(self, inputs):
            return (self.layer(inputs), 1)

    with pytest.raises(InputError, match="Pair returns a tuple, must return a tensor"):
        Ensemble(Population.make(Pair, 2))(zoo.FEATURES)


def test_an_ensemble_copies_its_units():
    population = Population.make(zoo.mlp, 2)
    ensemble = Ensemble(population)
    before = population.parameters["0.weight"].clone()
    ensemble.load_state_dict({name: torch.zeros_like(value) for name, value in ensemble.state_dict().items()})
    assert torch.equal(population.parameters["0.weight"], before)
    torch.testing.assert_close(ensemble(zoo.FEATURES), torch.full((zoo.ROWS, zoo.CLASSES), 1 / zoo.CLASSES))


@pytest.mark.parametrize("way", ["state_dict", "deepcopy", "pickle"])
def test_an_ensemble_survives(way):
    population = trained_statistics(Population.make(batchnorm_dropout, 3))
    ensemble = Ensemble(population)
    expected = [ensemble(zoo.FEATURES) for _ in range(CALLS)][-1]
    if way == "state_dict":
        again = Ensemble(Population.make(batchnorm_dropout, 3, seed=9))
        for _ in range(CALLS):
            assert not torch.allclose(again(zoo.FEATURES), expected)  # its program takes what is loaded later
        again.load_state_dict(ensemble.state_dict())
    else:
        again = copy.deepcopy(ensemble) if way == "deepcopy" else pickle.loads(pickle.dumps(ensemble))
    for _ in range(CALLS):
        torch.testing.assert_close(again(zoo.FEATURES), expected)


def test_an_ensemble_moves_to_another_type_after_it_was_traced():
    population = Population.make(zoo.mlp, 3)
    ensemble = Ensemble(population)
    for _ in range(CALLS):
        single = ensemble(zoo.FEATURES)
    ensemble.double()
    for _ in range(CALLS):
        double = ensemble(zoo.FEATURES.double())
        assert double.dtype is torch.float64
        torch.testing.assert_close(double.float(), single)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_an_ensemble_on_a_gpu():
    population = Population.make(models.lenet5, 3)
    rows = lenet5_rows()
    ensemble = Ensemble(population).to("cuda")
    for _ in range(CALLS):
        found = ensemble(rows.cuda())
        torch.testing.assert_close(found.cpu(), probabilities(population, (rows,)), rtol=1e-3, atol=1e-4)


def test_an_ensemble_does_not_keep_a_program_for_each_of_many_shapes(monkeypatch):
    monkeypatch.setattr("gadam.ensembles.PROGRAMS", programs := 3)
    monkeypatch.setattr("gadam.ensembles.TRACED_AT", 2)
    population = Population.make(zoo.mlp, 2)
    ensemble = Ensemble(population)
    for _ in range(2):
        for rows in range(1, programs + 5):
            inputs = torch.ones(rows, 4)
            torch.testing.assert_close(ensemble(inputs), probabilities(population, (inputs,)))
    assert len(ensemble._programs) == programs


def test_an_ensemble_neither_hears_nor_moves_the_global_generator():
    ensemble = Ensemble(Population.make(batchnorm_dropout, 2))
    state = torch.get_rng_state()
    for _ in range(CALLS):
        ensemble(zoo.FEATURES)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_module_that_writes_to_a_buffer_in_evaluation_does_not_change_the_ensemble():
    class Calls(zoo.Counting):
        def forward(self, inputs):
            self.batches += 1
            return self.layer(inputs) * self.batches

    population = Population.make(Calls, 2)
    ensemble = Ensemble(population)
    expected = ensemble(zoo.FEATURES)
    for _ in range(CALLS):
        torch.testing.assert_close(ensemble(zoo.FEATURES), expected)
    assert ensemble.state_dict()["stacked.batches"].tolist() == [0, 0]


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
    modules.sort(key=lambda module: loss_of(module))
    return Population.stack(modules)


def loss_of(module, loss=functional.cross_entropy):
    with torch.no_grad():
        return float(loss(module(DATA[0]), DATA[1]))


def poison(population, unit, value):
    parameters = {name: tensor.clone() for name, tensor in population.parameters.items()}
    parameters["0.weight"][unit] = value
    return replace(population, parameters=parameters)


def test_a_soup_loses_at_most_what_the_fittest_unit_does_and_is_the_average_of_its_units():
    population = fit()
    model, units = greedy_soup(population, DATA)
    assert len(units) > 1, "this test should see an average"
    assert loss_of(model) < loss_of(population.unit(0))
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), population.parameters[name][list(units)].mean(0))
    assert not model.training
    assert zoo.identical(soup(population, DATA).state_dict(), model.state_dict())


def test_each_unit_of_a_soup_goes_in_by_the_greedy_recipe():
    population = fit()
    chosen, lowest = [], float("inf")
    for unit in range(len(population)):  # the recipe once more, plainly
        module = population.unit(unit)
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                parameter.copy_(population.parameters[name][[*chosen, unit]].double().mean(0))
        if loss_of(module) <= lowest:
            lowest, chosen = loss_of(module), [*chosen, unit]
    assert greedy_soup(population, DATA)[1] == tuple(chosen)


def test_a_soup_of_one_unit_is_the_unit():
    population = fit(size=1)
    model, units = greedy_soup(population, DATA)
    assert units == (0,)
    assert zoo.identical(model.state_dict(), population.unit(0).state_dict())


def test_a_soup_of_equal_units_is_the_unit_and_takes_all():
    population = fit(size=1).take(torch.tensor([0, 0, 0]))
    model, units = greedy_soup(population, DATA)
    assert units == (0, 1, 2)
    assert zoo.identical(model.state_dict(), population.unit(0).state_dict())


@pytest.mark.parametrize("value", [1e3, float("nan"), float("inf")])
@pytest.mark.parametrize("unit", [1, 4])
def test_a_unit_that_would_spoil_a_soup_is_left_out(unit, value):
    population = poison(fit(), unit, value)
    model, units = greedy_soup(population, DATA)
    assert unit not in units
    assert 0 in units
    rest = [other for other in range(5) if other != unit]
    alone, others = greedy_soup(population.take(torch.tensor(rest)), DATA)
    assert units == tuple(rest[other] for other in others)
    assert zoo.identical(model.state_dict(), alone.state_dict())


def test_a_first_unit_whose_loss_is_not_finite_is_left_out_and_no_finite_one_is_an_error():
    population = fit(size=2)
    assert greedy_soup(poison(population, 0, float("nan")), DATA)[1] == (1,)
    with pytest.raises(InputError, match="none of the 2 units has a finite loss"):
        soup(poison(population, [0, 1], float("nan")), DATA)


@pytest.mark.parametrize("chunk", [1, 7, zoo.ROWS - 1, zoo.ROWS])
def test_a_soup_does_not_depend_on_how_many_rows_are_evaluated_at_once(chunk):
    population = fit()
    model, units = greedy_soup(population, DATA, chunk=chunk)
    whole, expected = greedy_soup(population, DATA, chunk=1_000_000)
    assert units == expected
    assert zoo.identical(model.state_dict(), whole.state_dict())


def test_a_soup_averages_statistics_and_takes_whole_numbers_of_the_first():
    population = trained_statistics(fit(batchnorm_dropout))
    name = "1.num_batches_tracked"
    counts = torch.arange(10, 15)
    population = replace(population, buffers={**population.buffers, name: counts})
    model, units = greedy_soup(population, DATA)
    buffers = dict(model.named_buffers())
    assert int(buffers[name]) == 10 + units[0]
    torch.testing.assert_close(buffers["1.running_var"], population.buffers["1.running_var"][list(units)].mean(0))


@pytest.mark.parametrize("make", [zoo.regression, Squeezed])
def test_a_soup_of_one_output_wants_the_loss_that_trained_it(make):
    population = Population.make(make, 3)
    output = population.unit(0)(zoo.FEATURES)
    data = zoo.FEATURES, torch.linspace(0, 1, zoo.ROWS).reshape(output.shape)
    with pytest.raises(
        InputError, match=r"^loss: cross_entropy says nothing of a model with one output; give the loss"
    ):
        greedy_soup(population, data)
    model, _ = greedy_soup(population, data, functional.mse_loss)
    with torch.no_grad():
        assert functional.mse_loss(model(data[0]), data[1]) <= functional.mse_loss(output, data[1])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"data": (zoo.FEATURES, zoo.LABELS[:3])}, "data: 40 rows of inputs but 3 targets"),
        ({"data": (zoo.FEATURES[:, :2], zoo.LABELS)}, "could not take inputs"),
        ({"data": (zoo.FEATURES, zoo.LABELS + 5)}, "targets: range from"),
        ({"data": DATA, "loss": functional.mse_loss}, "loss: mse_loss could not compare"),
        ({"data": DATA, "chunk": 0}, "chunk=0 is not allowed"),
    ],
)
def test_rows_that_a_soup_cannot_use(given, said):
    with pytest.raises(InputError) as caught:
        soup(fit(size=2), **given)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
