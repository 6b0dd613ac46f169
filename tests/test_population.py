"""A population is its units: nothing is lost, shared or mixed on the way into the stacked tensors and out again."""

import copy
import pickle
from dataclasses import replace

import pytest
import torch
import zoo
from torch import nn

from gadam.config import InputError
from gadam.population import Population

CASES = {name: zoo.ZOO[name] for name in zoo.ZOO if name not in ("own draws",)}


def inputs_of(case):
    return case.inputs if isinstance(case.inputs, tuple) else (case.inputs,)


def complaint(make_model, size=3, **settings):
    """The message of the InputError that a population of such models gives."""
    with pytest.raises(InputError) as caught:
        Population.make(make_model, size, **settings)
    message = str(caught.value)
    assert message.startswith("make_model: ")
    assert "\n" not in message
    return message


# --- in and out ---


@pytest.mark.parametrize("name", CASES)
def test_a_unit_computes_what_its_module_computed(name):
    case = CASES[name]
    modules = [case.make().eval() for _ in range(3)]
    population = Population.stack(modules)
    for index, module in enumerate(modules):
        unit = population.unit(index)
        assert not any(part.training for part in unit.modules())
        assert unit.state_dict().keys() == module.state_dict().keys()
        assert zoo.identical(unit.state_dict(), module.state_dict())
        assert torch.equal(unit(*inputs_of(case)), module(*inputs_of(case)))
        trained = [name for name, entry in unit.named_parameters() if entry.requires_grad]
        assert trained == [name for name, entry in module.named_parameters() if entry.requires_grad]


def test_stacking_copies():
    modules = [zoo.batchnorm_mlp() for _ in range(2)]
    population = Population.stack(modules)
    before = copy.deepcopy(population)
    with torch.no_grad():
        for tensor in (*modules[0].parameters(), *modules[0].buffers()):
            tensor.fill_(7)
    assert zoo.same_population(population, before)


def test_a_unit_shares_no_memory_with_its_population():
    population = Population.make(zoo.batchnorm_mlp, 2)
    before = copy.deepcopy(population)
    unit = population.unit(0)
    with torch.no_grad():
        for tensor in (*unit.parameters(), *unit.buffers()):
            tensor.fill_(7)
    assert zoo.same_population(population, before)


def test_tied_parameters_are_one_entry_and_tied_in_every_unit():
    population = Population.make(zoo.Tied, 2)
    assert "first.weight" in population.parameters
    assert "second.weight" not in population.parameters
    for unit in population.units():
        assert unit.first.weight is unit.second.weight


def test_frozen_parameters_are_carried_and_not_learned():
    population = Population.make(zoo.frozen_mlp, 2)
    assert population.parameters.keys() == {"2.weight", "2.bias"}
    assert population.buffers.keys() == {"0.weight", "0.bias"}
    assert [entry.requires_grad for entry in population.unit(0).parameters()] == [False, False, True, True]


def test_buffers_keep_their_types():
    population = Population.make(zoo.batchnorm_mlp, 2)
    assert population.buffers["1.num_batches_tracked"].dtype == torch.int64
    assert population.buffers["1.running_var"].dtype == torch.float32
    assert Population.make(lambda: zoo.mlp().double(), 2).parameters["0.weight"].dtype == torch.float64


def test_every_entry_has_a_leading_unit_dimension():
    population = Population.make(zoo.Temperature, 3)
    assert population.parameters["temperature"].shape == (3,)
    assert population.parameters["layer.weight"].shape == (3, 3, 4)
    assert not any(entry.requires_grad for entry in population.parameters.values())


def test_entries_are_contiguous_whatever_the_memory_format_of_the_modules():
    population = Population.make(zoo.channels_last_cnn, 2)
    assert not population.template[0].weight.is_contiguous()
    assert all(entry.is_contiguous() for entry in population.parameters.values())


def test_a_population_can_be_sent_to_another_process():
    population = Population.make(zoo.batchnorm_mlp, 2)
    received = pickle.loads(pickle.dumps(population))
    assert zoo.same_population(received, population)
    assert torch.equal(received.unit(1)(zoo.FEATURES), population.unit(1)(zoo.FEATURES))


def test_it_says_what_it_is():
    assert repr(Population.make(zoo.mlp, 3)) == "Population(3 x Sequential, 67 learned entries each)"


# --- cutting and joining ---


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 10, 11, 99])
def test_shards_are_in_order_of_nearly_equal_size_and_join_to_the_whole(count):
    population = Population.make(zoo.batchnorm_mlp, 10)
    shards = population.shards(count)
    sizes = [len(shard) for shard in shards]
    assert len(shards) == min(count, 10)
    assert max(sizes) - min(sizes) <= 1
    assert zoo.same_population(Population.join(shards), population)


def test_units_can_be_taken_by_number_and_repeat():
    population = Population.make(zoo.batchnorm_mlp, 4)
    taken = population.take(torch.tensor([3, 0, 3]))
    assert len(taken) == 3
    for name, entries in population.parameters.items():
        assert torch.equal(taken.parameters[name], torch.stack([entries[3], entries[0], entries[3]]))
    for name, entries in population.buffers.items():
        assert torch.equal(taken.buffers[name], torch.stack([entries[3], entries[0], entries[3]]))


def test_no_unit_taken_is_no_mistake():
    population = Population.make(zoo.batchnorm_mlp, 4)
    assert len(population.take(torch.tensor([], dtype=torch.int64))) == 0
    assert len(population.take(slice(2, 2))) == 0
    last, first = population.take(torch.tensor([-1])), population.take(slice(3, 4))
    assert zoo.same_population(last, first)


@pytest.mark.parametrize(
    "units", [3, "a", None, [0, 1], torch.tensor(0), torch.tensor([0.0]), torch.tensor([True] * 4)]
)
def test_units_are_taken_by_a_slice_or_by_their_numbers(units):
    with pytest.raises(InputError, match=r"^units: is .*, must be a slice or int64 \[n\]$"):
        Population.make(zoo.mlp, 4).take(units)


@pytest.mark.parametrize("units", [[4], [-5], [0, 99]])
def test_units_that_are_not_there_cannot_be_taken(units):
    with pytest.raises(InputError, match=r"^units: range from -?\d+ to -?\d+, must lie in -4 to 3$"):
        Population.make(zoo.mlp, 4).take(torch.tensor(units))


@pytest.mark.parametrize("device", ["gpu", "auto", "cuda:99", None, 0.5])
def test_a_device_that_is_not_there(device):
    with pytest.raises(InputError, match=r'^device=.* cannot be used \(.*\); give "cpu" or "cuda"$'):
        Population.make(zoo.mlp, 2).to(device)


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (lambda: nn.Linear(4, 2), r"weight is \[3, 4\] float32 in one and \[2, 4\] float32 in another"),
        (lambda: nn.Linear(4, 3).double(), r"weight is \[3, 4\] float32 in one and \[3, 4\] float64 in another"),
        (lambda: nn.Linear(4, 3, bias=False), r"bias is \[3\] float32 in one and missing in another"),
        (lambda: nn.Sequential(nn.Linear(4, 3)), r"weight is \[3, 4\] float32 in one and missing in another"),
    ],
    ids=["shape", "dtype", "without", "names"],
)
def test_populations_of_different_models_cannot_be_joined(other, named):
    populations = [Population.make(lambda: nn.Linear(4, 3), 2), Population.make(other, 5)]
    with pytest.raises(InputError, match=f"^populations: {named}, must be the same$"):
        Population.join(populations)
    with pytest.raises(InputError, match=r"^populations: .* must be the same$"):
        Population.join(populations[::-1])


def test_moments_are_not_lost_where_only_some_have_them():
    population = Population.make(zoo.mlp, 2)
    with pytest.raises(InputError, match=r"^populations: exp_avg/a is missing in one and \[2\] float32 in another"):
        Population.join([population, replace(population, moments={"exp_avg/a": torch.rand(2, 2)})])


@pytest.mark.parametrize("make", [Population.join, Population.stack])
@pytest.mark.parametrize("given", [[], [1], ["a"], None, 3, (each for each in ())])
def test_what_is_joined_or_stacked_is_a_list_of_the_right_things(make, given):
    with pytest.raises(InputError, match=r"^(populations|modules): (are none|has a \w+ among them|is a \w+), must be "):
        make(given)


def test_modules_may_come_in_a_list_of_modules():
    modules = nn.ModuleList([zoo.mlp(), zoo.mlp()])
    assert zoo.same_population(Population.stack(modules), Population.stack(list(modules)))


# --- making ---


def test_every_unit_is_initialised_by_itself():
    few, many = (Population.make(zoo.mlp, size, seed=3) for size in (2, 4))
    assert zoo.same_population(many.take(slice(0, 2)), few)
    assert len(many.parameters["0.weight"].flatten(1).unique(dim=0)) == 4
    other = Population.make(zoo.mlp, 2, seed=4)
    assert not (few.parameters["0.weight"] == other.parameters["0.weight"]).any()


def test_making_neither_hears_nor_moves_the_global_generator():
    torch.manual_seed(1)
    one = Population.make(zoo.mlp, 2)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert zoo.same_population(Population.make(zoo.mlp, 2), one)
    assert torch.equal(torch.get_rng_state(), state)


def test_module_initialisation_is_that_of_the_module():
    population = Population.make(lambda: nn.Linear(100, 400), 3)
    assert float(population.parameters["weight"].abs().max()) <= 0.1  # torch's default for 100 inputs
    assert float(population.parameters["weight"].std()) == pytest.approx(0.1 / 3**0.5, rel=0.01)


def test_standard_normal_initialisation_draws_every_learned_entry_and_nothing_else():
    def make():
        module = nn.Sequential(nn.Linear(100, 100), nn.BatchNorm1d(100), nn.Linear(100, 1))
        module[2].requires_grad_(False)
        return nn.Sequential(*module)

    population = Population.make(make, 3, initialisation="standard_normal")
    for name in ("0.weight", "0.bias", "1.weight", "1.bias"):
        entries = population.parameters[name]
        sigma = entries.numel() ** -0.5
        assert float(entries.mean()) == pytest.approx(0, abs=5 * sigma)
        assert float(entries.std()) == pytest.approx(1, abs=5 * sigma)
    assert float(population.buffers["2.weight"].abs().max()) <= 0.1
    assert torch.equal(population.buffers["1.running_var"], torch.ones(3, 100))
    weights = population.parameters["0.weight"].flatten(1)
    assert float(torch.corrcoef(weights).fill_diagonal_(0).abs().max()) < 0.05  # a stream for each unit


# --- mistakes ---


def test_a_module_in_the_place_of_a_function_that_makes_one():
    assert "Sequential" in complaint(zoo.mlp())
    assert "int" in complaint(3)


@pytest.mark.parametrize(("made", "named"), [(lambda: "model", "str"), (lambda: None, "NoneType"), (dict, "dict")])
def test_a_function_that_returns_no_module(made, named):
    assert named in complaint(made)


@pytest.mark.parametrize("order", [[0, 0, 0], [0, 1, 0], [0, 1, 1]])
def test_a_function_that_returns_a_module_twice(order):
    modules, turns = [zoo.mlp(), zoo.mlp()], iter(order)
    assert "same module twice" in complaint(lambda: modules[next(turns)])


@pytest.mark.parametrize(
    ("second", "named"),
    [
        (lambda: nn.Linear(4, 2), ["weight", "[3, 4]", "[2, 4]"]),
        (lambda: nn.Linear(4, 3).double(), ["weight", "float32", "float64"]),
        (lambda: nn.Linear(4, 3, bias=False), ["bias", "missing"]),
        (lambda: nn.Linear(4, 3).requires_grad_(False), ["missing"]),
    ],
    ids=["shape", "dtype", "name", "frozen"],
)
def test_a_function_whose_modules_differ(second, named):
    turns = iter([lambda: nn.Linear(4, 3), second, second])
    message = complaint(lambda: next(turns)())
    assert all(part in message for part in named)


@pytest.mark.parametrize("make", [nn.ReLU, lambda: zoo.mlp().requires_grad_(False)])
def test_a_module_with_nothing_to_learn(make):
    assert "no parameter that requires a gradient" in complaint(make)


@pytest.mark.parametrize("initialisation", ["module", "standard_normal"])
@pytest.mark.parametrize("make", [lambda: nn.LazyLinear(3), lambda: nn.Sequential(zoo.mlp(), nn.LazyBatchNorm1d())])
def test_a_lazy_module(make, initialisation):
    assert "lazy" in complaint(make, initialisation=initialisation)


def test_a_pickled_slice_carries_its_own_units_only():
    population = Population.make(lambda: torch.nn.Linear(50, 50), 10)
    whole, part = (len(pickle.dumps(part)) for part in (population, population.take(slice(3, 4))))
    assert part < 0.3 * whole  # the template goes along, as large as a unit
    again = pickle.loads(pickle.dumps(population.take(slice(3, 4))))
    assert torch.equal(again.parameters["weight"][0], population.parameters["weight"][3])


def test_units_chosen_from_several_populations_are_copies_in_the_order_asked_for():
    populations = [Population.make(zoo.batchnorm_mlp, 3, seed=seed) for seed in range(2)]
    carried = [replace(each, moments={"exp_avg/a": torch.rand(3, 2)}) for each in populations]
    units = [5, 0, 4]
    chosen, expected = Population.choose(carried, units), Population.join(carried).take(torch.tensor(units))
    for kind in ("parameters", "buffers", "moments"):
        assert zoo.identical(getattr(chosen, kind), getattr(expected, kind))
    for tensor in chosen.parameters.values():
        tensor.fill_(7)
    assert not any((tensor == 7).all() for each in populations for tensor in each.parameters.values())
