"""A population is its units: nothing is lost, shared or mixed on the way into the stacked tensors and out again."""

import copy
import pickle
from dataclasses import replace

import pytest
import torch
import zoo
from torch import nn

from gadam.population import Population, outline

KINDS = ("parameters", "buffers", "moments")


@pytest.mark.parametrize("name", [name for name in zoo.ZOO if name != "own draws"])
def test_a_unit_computes_what_its_module_computed(name):
    case = zoo.ZOO[name]
    modules, inputs = [case.make().eval() for _ in range(3)], case.arguments
    population = Population.stack(modules)
    assert len(population) == 3
    for tensor in (*population.parameters.values(), *population.buffers.values()):
        assert len(tensor) == 3
        assert tensor.is_contiguous(), "whatever the memory format of the modules"
        assert not tensor.requires_grad
    for module, unit in zip(modules, population.units(), strict=True):
        assert not any(part.training for part in unit.modules())
        assert list(unit.state_dict()) == list(module.state_dict())
        assert zoo.identical(unit.state_dict(), module.state_dict())
        assert torch.equal(unit(*inputs), module(*inputs))
        learned = [name for name, entry in unit.named_parameters() if entry.requires_grad]
        assert learned == [name for name, entry in module.named_parameters() if entry.requires_grad]
        assert sorted(population.parameters) == sorted(learned), "tied ones once, frozen ones among the buffers"
        assert case.make is not zoo.Tied or unit.first.weight is unit.second.weight
    assert zoo.identical(population.unit(-1).state_dict(), modules[-1].state_dict())


class Activated(zoo.Linear):
    def prepare(self):
        self.activation = lambda inputs: inputs

    def extra_repr(self):
        return f"activation={self.activation}"


def test_the_outline_of_a_model_does_not_say_where_its_functions_are_in_memory():
    one, other = Activated(), Activated()
    assert str(one) != str(other)
    assert outline(one) == outline(other)


def test_stacked_units_and_those_taken_out_share_no_memory():
    modules = [zoo.batchnorm_mlp() for _ in range(2)]
    population = Population.stack(nn.ModuleList(modules))
    before = copy.deepcopy(population)
    with torch.no_grad():
        for module in (modules[0], population.unit(0)):
            for tensor in (*module.parameters(), *module.buffers()):
                tensor.fill_(7)
    assert zoo.same_population(population, before)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 10, 11, 99])
def test_shards_are_in_order_of_nearly_equal_size_and_join_to_the_whole(count):
    population = Population.make(zoo.batchnorm_mlp, 10)
    shards = population.shards(count)
    sizes = [len(shard) for shard in shards]
    assert len(shards) == min(count, 10)
    assert max(sizes) - min(sizes) <= 1
    assert zoo.same_population(Population.join(shards), population)


def test_units_can_be_taken_in_any_order_and_repeat():
    populations = [Population.make(zoo.batchnorm_mlp, 3, seed=seed) for seed in range(2)]
    carried = [replace(each, moments={"exp_avg/a": torch.rand(3, 2)}) for each in populations]
    units, both = [5, 0, 5], Population.join(carried)
    taken = both.take(torch.tensor(units))
    for kind in KINDS:
        expected = {name: torch.stack([entry[unit] for unit in units]) for name, entry in getattr(both, kind).items()}
        assert zoo.identical(getattr(taken, kind), expected)
    for tensor in taken.parameters.values():
        tensor.fill_(7)
    assert not any((tensor == 7).all() for each in (*carried, both) for tensor in each.parameters.values())
    assert len(both.take(torch.tensor([], dtype=torch.int64))) == len(both.take(slice(2, 2))) == 0
    assert zoo.same_population(both.take(torch.tensor([-1])), both.take(slice(5, 6)))


def test_a_pickled_slice_carries_its_own_units_only():
    population = Population.make(lambda: nn.Linear(50, 50), 10)
    part = pickle.dumps(population.take(slice(3, 4)))
    assert len(part) < 0.3 * len(pickle.dumps(population))  # the template goes along, as large as a unit
    assert zoo.same_population(pickle.loads(part), population.take(slice(3, 4)))


def test_every_unit_is_initialised_by_itself():
    torch.manual_seed(1)
    few = Population.make(zoo.mlp, 2, seed=3)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    many = Population.make(zoo.mlp, 4, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert zoo.same_population(many.take(slice(0, 2)), few)
    assert len(many.parameters["0.weight"].flatten(1).unique(dim=0)) == 4
    other = Population.make(zoo.mlp, 2, seed=4)
    assert not (few.parameters["0.weight"] == other.parameters["0.weight"]).any()


@pytest.mark.parametrize(("initialisation", "sigma"), [("module", 0.1 / 3**0.5), ("standard_normal", 1.0)])
def test_learned_entries_are_initialised_as_asked_and_others_as_the_module_does(initialisation, sigma):
    def make():
        return nn.Sequential(nn.Linear(100, 100), nn.Linear(100, 1).requires_grad_(False))

    population = Population.make(make, 3, initialisation=initialisation)
    for entries in population.parameters.values():
        close = 5 * sigma * entries.numel() ** -0.5
        assert float(entries.mean()) == pytest.approx(0, abs=close)
        assert float(entries.std()) == pytest.approx(sigma, abs=close)
    assert float(population.buffers["1.weight"].abs().max()) <= 0.1  # torch's default for 100 inputs
    weights = population.parameters["0.weight"].flatten(1)
    assert float(torch.corrcoef(weights).fill_diagonal_(0).abs().max()) < 0.05  # a stream for each unit


@pytest.mark.parametrize("make", [nn.Embedding, nn.EmbeddingBag])
def test_padding_stays_zero_unless_it_is_frozen_at_something_else(make):
    def module():
        return nn.Sequential(make(5, 3, padding_idx=1), make.from_pretrained(torch.ones(5, 3), padding_idx=1))

    population = Population.make(module, 2, initialisation="standard_normal")
    assert (population.parameters["0.weight"] == 0).all(2).tolist() == [[False, True, False, False, False]] * 2
    assert (population.buffers["1.weight"] == 1).all()
