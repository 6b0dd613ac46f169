"""Ensemble and soup: what the units predict together, and what their average weights are."""

import copy
import functools
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from unittest.mock import Mock

import pandas as pd
import pytest
import torch
import zoo
from torch import nn
from torch.nn import functional

from gadam import Ensemble, GadamConfig, InputError, Population, evolve
from gadam.ensembles import greedy_soup
from gadam.tracing.programs import Programs

FEATURES = (zoo.FEATURES,)


def batchnorm_dropout():
    return zoo.mlp(nn.BatchNorm1d(8), nn.Dropout(0.5), nn.ReLU())


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


OF_THE_ZOO = (
    "two inputs", "tied parameters", "frozen parameters", "kept activation", "BatchNorm2d", "targets of two dimensions",
    "control flow", "attention", "LSTM",
)  # fmt: skip


@pytest.mark.parametrize(
    "case", [zoo.Case(batchnorm_dropout), zoo.Case(Calls), *(zoo.ZOO[name] for name in OF_THE_ZOO)]
)
def test_an_ensemble_is_the_mean_of_its_units_at_each_call_to_the_same_bit(case):
    make, inputs = case.make, case.arguments
    population = zoo.trained_statistics(Population.make(make, 3))
    expected, state = outputs_of(population, *inputs), torch.get_rng_state()
    for average, mean in (("outputs", expected.mean(0)), ("probabilities", expected.softmax(2).mean(0))):
        ensemble = Ensemble(population, average).train()  # which is not heard
        first = ensemble(*inputs)
        torch.testing.assert_close(first, mean)
        assert torch.equal(ensemble(*inputs), first)
    torch.testing.assert_close(ensemble.units(*inputs), expected)
    assert not first.requires_grad
    assert torch.equal(torch.get_rng_state(), state), "the user's generator is not moved"
    assert zoo.identical(ensemble.state_dict(), Ensemble(population).state_dict())


def test_the_modules_are_called_once_for_each_of_a_number_of_shapes(monkeypatch):
    ensemble, counts = Ensemble(Population.make(zoo.mlp, 2), "outputs"), []
    by_modules = Mock(wraps=ensemble._by_modules)
    monkeypatch.setattr(ensemble, "_by_modules", by_modules)
    for rows in (*range(1, 36), 1, 2, 35):
        ensemble(zoo.FEATURES[:rows])
        counts.append(by_modules.call_count)
    assert counts[-2] == counts[-3] == counts[-4], "a program answers for shapes that were seen"
    assert counts[-1] > counts[-2], "but there is not one for each of many"


def test_the_first_calls_of_several_threads_do_not_disturb_each_other():
    ensemble = Ensemble(Population.make(zoo.Remembering, 3), "outputs")
    start = threading.Barrier(4)

    def call(_):
        start.wait(600)
        return [ensemble(zoo.FEATURES[:rows]) for rows in range(1, 6)]

    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(call, range(4))
    assert all(zoo.identical(dict(enumerate(first)), dict(enumerate(other))) for other in others)
    assert list(ensemble._traced.values()) == [True] * 5


def test_a_unit_may_call_an_ensemble_of_others_and_is_trained_in_one_call():
    teachers = Ensemble(Population.make(zoo.mlp, 2, seed=1))

    class Taught(zoo.Linear):
        def forward(self, inputs):
            return torch.stack([self.layer(inputs), teachers(inputs).log()], 1)

    def loss(output, targets):
        return functional.kl_div(output[:, 0].log_softmax(1), output[:, 1], log_target=True, reduction="batchmean")

    small, rows = GadamConfig(population_size=2, generations=1, steps=10, batch_size=8), (zoo.FEATURES, zoo.LABELS)
    loop, one_call = (
        evolve(Taught, rows, replace(small, mode=mode), loss=loss, progress=False) for mode in ("loop", "vectorised")
    )
    pd.testing.assert_frame_equal(zoo.timeless(loop), zoo.timeless(one_call), rtol=1e-4)


@pytest.mark.parametrize("wrong", ["other values", "no numbers", "an error"])
def test_a_trace_that_is_not_the_units_own_is_not_used(wrong, monkeypatch):
    def losses(self, parameters, buffers, batch, streams):
        if wrong == "an error":
            raise RuntimeError("no kernel")
        return torch.full((3, zoo.ROWS, zoo.CLASSES), 0.0 if wrong == "other values" else float("nan"))

    monkeypatch.setattr(Programs, "losses", losses)
    population = Population.make(zoo.mlp, 3)
    ensemble = Ensemble(population, "outputs")
    for _ in range(2):
        torch.testing.assert_close(ensemble(zoo.FEATURES), outputs_of(population, zoo.FEATURES).mean(0))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda ensemble: pickle.loads(pickle.dumps(ensemble))])
@pytest.mark.parametrize("make", [batchnorm_dropout, zoo.Averaging])
def test_an_ensemble_is_copied_cast_and_moved_after_its_first_call_and_takes_another_state_then(make, copied):
    first = zoo.trained_statistics(Population.make(make, 3))
    other = zoo.trained_statistics(zoo.trained_statistics(Population.make(make, 3, seed=9)))
    ensemble, before, inputs = Ensemble(first), copy.deepcopy(first), zoo.FEATURES.double()
    expected = ensemble(zoo.FEATURES)
    again = copied(ensemble)
    for _ in range(2):
        torch.testing.assert_close(again(zoo.FEATURES), expected)
    again.double()
    for population in (first, other):
        again.load_state_dict(Ensemble(population).state_dict())
        expected = outputs_of(Population.stack([unit.double() for unit in population.units()]), inputs)
        for _ in range(2):
            torch.testing.assert_close(again(inputs), expected.softmax(2).mean(0), rtol=1e-12, atol=1e-14)
    assert again.to("meta")(inputs.to("meta")).device.type == "meta"
    ensemble.load_state_dict({name: torch.zeros_like(value) for name, value in ensemble.state_dict().items()})
    assert zoo.same_population(first, before), "an ensemble copies its units"


class Listed(nn.Module):
    """Holds a parameter in a list too."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.held = [self.layer.weight]

    def forward(self, inputs):
        return inputs @ self.held[0].T + self.layer.bias


def test_an_exported_ensemble_is_the_ensemble_or_is_refused():
    def exported(make, inputs):
        ensemble = Ensemble(Population.make(make, 3), "outputs")
        program = torch.export.export(ensemble, (inputs,), strict=False)
        torch.testing.assert_close(program.module()(inputs), ensemble(inputs))
        return ensemble

    exported(zoo.mlp, zoo.FEATURES)
    with pytest.raises(InputError, match=r"^population: Listed holds a parameter in Listed.held, where a trace does"):
        exported(Listed, zoo.FEATURES)
    listed = Population.make(Listed, 3)
    torch.testing.assert_close(Ensemble(listed, "outputs")(zoo.FEATURES), outputs_of(listed, zoo.FEATURES).mean(0))


# --- soup ---


@functools.cache
def fit(make=zoo.mlp, size=5):
    """Units that share an ancestor, each trained a little further in a direction of its own; fittest first."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ancestor, modules = Population.make(make, 1).unit(0), []
    for unit in range(size):
        module = copy.deepcopy(ancestor).train()
        rows = torch.randint(zoo.ROWS, (20,), generator=torch.Generator().manual_seed(unit))
        optimizer = torch.optim.Adam(module.parameters(), 0.02)
        for _ in range(20):
            optimizer.zero_grad()
            functional.cross_entropy(module(zoo.FEATURES[rows]), zoo.LABELS[rows]).backward()
            optimizer.step()
        modules.append(module.eval())
    return Population.stack(sorted(modules, key=zoo.loss_of))


def poison(population, unit, value):
    parameters = {name: tensor.clone() for name, tensor in population.parameters.items()}
    parameters["0.weight"][unit] = value
    return replace(population, parameters=parameters)


@pytest.mark.parametrize("chunk", [7, 1_024])
def test_a_soup_is_the_average_by_the_greedy_recipe(chunk):
    population = fit()
    model, units = greedy_soup(population, zoo.DATA, chunk=chunk)
    chosen, lowest = [], float("inf")
    for unit in range(len(population)):  # the recipe once more, plainly
        module = population.unit(unit)
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                parameter.copy_(population.parameters[name][[*chosen, unit]].double().mean(0))
        if zoo.loss_of(module) <= lowest:
            lowest, chosen, best = zoo.loss_of(module), [*chosen, unit], module
    assert units == tuple(chosen)
    assert len(units) > 1, "this test should see an average"
    assert zoo.identical(model.state_dict(), best.state_dict())
    assert zoo.loss_of(model) < zoo.loss_of(population.unit(0))
    assert not model.training


def test_units_that_have_diverged_do_not_vote_unless_all_have():
    population = poison(fit(), 1, float("nan"))
    with pytest.warns(UserWarning, match="^population: 1 of 5 units have diverged, and the ensemble leaves them out"):
        vote = Ensemble(population)
    assert torch.equal(vote(zoo.DATA[0]), Ensemble(population.take(torch.tensor([0, 2, 3, 4])))(zoo.DATA[0]))
    assert len(Ensemble(population.take(slice(1, 2))).units(zoo.DATA[0])) == 1


@pytest.mark.parametrize(("unit", "value"), [(0, float("nan")), (1, 1e3), (4, float("inf"))])
def test_a_unit_that_would_spoil_a_soup_is_left_out(unit, value):
    model, units = greedy_soup(poison(fit(), unit, value), zoo.DATA)
    rest = [other for other in range(5) if other != unit]
    alone, others = greedy_soup(fit().take(torch.tensor(rest)), zoo.DATA)
    assert units == tuple(rest[other] for other in others)
    assert zoo.identical(model.state_dict(), alone.state_dict())


def test_a_soup_of_equal_units_is_the_unit_and_one_averages_statistics_and_takes_whole_numbers_of_the_first():
    equal = fit(batchnorm_dropout, size=1).take(torch.tensor([0, 0, 0]))
    equal = replace(equal, buffers={**equal.buffers, "1.num_batches_tracked": torch.arange(10, 13)})
    model, units = greedy_soup(equal, zoo.DATA)
    assert units == (0, 1, 2)
    assert zoo.identical(model.state_dict(), equal.unit(0).state_dict())
    population = zoo.trained_statistics(fit(batchnorm_dropout))
    model, units = greedy_soup(population, zoo.DATA)
    variances = population.buffers["1.running_var"][list(units)]
    torch.testing.assert_close(dict(model.named_buffers())["1.running_var"], variances.mean(0))


@pytest.mark.parametrize("make", [zoo.regression, Squeezed])
def test_a_soup_of_one_output_takes_the_loss_that_trained_it(make):
    population = Population.make(make, 3)
    output = population.unit(0)(zoo.FEATURES).detach()
    data = zoo.FEATURES, torch.linspace(0, 1, zoo.ROWS).reshape(output.shape)
    with pytest.raises(InputError, match=r"^loss: cross_entropy says nothing of a model with one output; give loss="):
        greedy_soup(population, data)
    model, _ = greedy_soup(population, data, functional.mse_loss)
    with torch.no_grad():
        assert functional.mse_loss(model(data[0]), data[1]) <= functional.mse_loss(output, data[1])


def test_no_soup_can_be_made_of_units_that_have_all_diverged():
    lost = poison(fit(size=2), [0, 1], float("nan"))
    assert zoo.complaint(greedy_soup, lost, zoo.DATA).startswith("data: none of the 2 units has a finite loss")
