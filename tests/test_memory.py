"""The memory that training takes is estimated before, and the memory that there is."""

import pytest
import torch
import zoo
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from gadam import GadamConfig, Population, evolve
from gadam.parallel.workers import ClusterSize
from gadam.training import memory
from gadam.training import plan as layout
from gadam.training.inputs import check_batch

CPU = torch.device("cpu")
ROWS = (torch.zeros(7, 3),), torch.zeros(7, 3)


@pytest.mark.parametrize(
    ("make_model", "numbers"),
    [
        (nn.Identity, 0),
        (nn.ReLU, 5 * 3),
        (lambda: nn.ReLU(inplace=True), 0),
        (lambda: nn.Flatten(0), 0),
        (lambda: nn.Sequential(nn.Unflatten(1, (3, 1)), nn.Tanh(), nn.Tanh(), nn.Flatten()), 2 * 5 * 3),
        (lambda: nn.Linear(3, 3), 5 * 3),
    ],
)
def test_what_operators_give_is_counted_and_views_of_it_are_not(make_model, numbers):
    population = Population.make(lambda: nn.Sequential(nn.Linear(3, 3), make_model()), 2)

    def loss(output, targets):
        return output.sum()

    found = memory.of_a_unit(population, ROWS, loss, 5)
    given = 4 * (5 * 3 + numbers + 1)  # of the first layer, of the model, and the loss
    learned = sum(entry[0].numel() for entry in population.parameters.values())
    assert found == {"copies": 5 * 4 * learned, "activations": given, "gradients": given, "batches": 2 * 8 * 64 * 5}


@pytest.mark.parametrize("make_model", [zoo.dropout_mlp, zoo.batchnorm_mlp])
def test_an_estimate_draws_nothing_and_changes_nothing(make_model):
    population = Population.make(make_model, 2)
    before = torch.get_rng_state(), [entry.clone() for entry in population.buffers.values()]
    memory.of_a_unit(population, ((zoo.FEATURES,), zoo.LABELS), cross_entropy, 8)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert all(map(torch.equal, population.buffers.values(), before[1]))


def test_available_is_what_the_system_or_the_container_has_left(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    assert memory.available(CPU) is None
    (tmp_path / "meminfo").write_text("MemTotal:       24000 kB\nMemAvailable:   20000 kB\n")
    assert memory.available(CPU) == 20_480_000
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("3000000\n")
    assert memory.available(CPU) == 20_480_000
    (tmp_path / "memory.max").write_text("5000000\n")
    assert memory.available(CPU) == 2_000_000
    (tmp_path / "memory.max").write_text("2000000\n")
    assert memory.available(CPU) == 0
    assert memory.available(torch.device("meta")) is None


def laid_out(monkeypatch, free, **settings):
    monkeypatch.setattr(memory, "available", lambda _: free)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    population = Population.make(zoo.mlp, 16)
    config = GadamConfig(population_size=16, mode="vectorised", batch_size=32, **settings)
    rows = check_batch("data", (zoo.FEATURES, zoo.LABELS), CPU)
    unit = memory.of_a_unit(population, rows, cross_entropy, 32)
    return layout.lay_out(population, rows, cross_entropy, config, 10), unit


def test_a_population_that_is_estimated_not_to_fit_is_cut(monkeypatch):
    chosen, unit = laid_out(monkeypatch, 10**12)
    assert (chosen.shards, chosen.warning) == (2, "")
    held = 3 * 16 * unit["copies"] / 5
    for units, shards in ((16, 2), (8, 4), (4, 8), (2, 16), (1, 16)):  # in training at once
        free = int((held + (units + 0.5) * sum(unit.values())) / layout.MEMORY_SHARE)
        chosen, _ = laid_out(monkeypatch, free)
        assert chosen.shards == shards
        assert bool(chosen.warning) == (shards > 2)
    assert chosen.warning.startswith("16 units would take about 0.00")
    assert chosen.warning.endswith(" GB of cpu are free: trained in 16 shards")
    assert laid_out(monkeypatch, None)[0].shards == 2
    assert laid_out(monkeypatch, 0, shards=1)[0][1:] == (1, "")  # as asked


def test_what_is_cut_to_fit_gives_what_as_many_shards_give(monkeypatch):
    def run(**settings):
        config = GadamConfig(
            population_size=16, generations=2, steps=4, batch_size=8, validation_size=16, mode="vectorised", **settings
        )
        return evolve(zoo.mlp, (zoo.FEATURES, zoo.LABELS), config)

    asked = run(shards=16)
    monkeypatch.setattr(memory, "available", lambda _: 0)
    with pytest.warns(UserWarning, match="16 units would take about") as caught:
        cut = run()
    assert caught[0].filename == __file__
    assert cut.history.drop(columns="seconds").equals(asked.history.drop(columns="seconds"))


def test_sparse_values_are_let_be():
    class Sparse(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 3)

        def forward(self, x):
            return torch.sparse.mm(torch.eye(3).to_sparse(), self.linear(x).T).T

    assert memory.of_a_unit(Population.make(Sparse, 1), ROWS, mse_loss, 5)["activations"] > 0


def test_on_a_cluster_what_a_worker_has_decides(monkeypatch):
    population = Population.make(zoo.mlp, 8)
    rows = ((zoo.FEATURES,), zoo.LABELS)
    unit = sum(memory.of_a_unit(population, rows, cross_entropy, 8).values())
    config = GadamConfig(population_size=8, mode="vectorised", batch_size=8)
    own = sum(tensor.nbytes for tensor in (zoo.FEATURES, zoo.LABELS))

    def shards(units_that_fit):
        size = ClusterSize(2, int((own + units_that_fit * unit) / layout.MEMORY_SHARE) + 1)
        return layout.lay_out(population, rows, cross_entropy, config, 10, size)

    assert shards(4)[1:] == (2, "")
    chosen = shards(1)
    assert chosen.shards == 8
    assert "of each worker's task are free: trained in 8 shards" in chosen.warning
    assert layout.lay_out(population, rows, cross_entropy, config, 10, ClusterSize(2, None)).shards == 2
