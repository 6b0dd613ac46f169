"""How a population is trained here: loop or traced, in how many shards, and whether it fits the memory."""

import math
from dataclasses import replace

import pytest
import torch
import zoo
from torch import nn
from torch.nn.functional import cross_entropy

import gadam
from gadam import GadamConfig, Population
from gadam.tracing.programs import Programs
from gadam.training import plan
from gadam.training.plan import ClusterSize, plan_training, unit_bytes
from gadam.training.trainer import Trainer

CPU = torch.device("cpu")
BATCH = (zoo.FEATURES,), zoo.LABELS


def planned(units, *, steps=10, cluster=None, case=None, **settings):
    case = case or zoo.Case(zoo.mlp)
    config = GadamConfig(**{"population_size": units, "mode": "vectorised", "batch_size": 32} | settings)
    population = Population.make(case.make, units)
    return plan_training(Trainer(config, case.loss, (0,)), population, (case.arguments, case.targets), steps, cluster)


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    yield
    torch.set_num_threads(before)  # what is put back in these tests is 2


# --- the way ---


@pytest.mark.parametrize("name", [name for name, case in zoo.ZOO.items() if not case.vectorises])
def test_what_cannot_be_traced_is_trained_unit_by_unit_and_only_who_asked_for_more_is_told(name):
    case = zoo.double(zoo.ZOO[name])
    chosen = planned(3, case=case)
    assert chosen.trainer.programs is None
    assert chosen.warning.startswith("training unit by unit, because the model cannot be vectorised: ")
    assert "\n" not in chosen.warning
    assert chosen.shards == 3


@pytest.mark.parametrize(
    ("make", "steps", "mode", "way"),
    [
        (zoo.mlp, 10, "auto", "loop"),  # too short for tracing
        (zoo.mlp, 2_000, "auto", "vectorised"),
        (zoo.mlp, 10, "vectorised", "vectorised"),
        (zoo.mlp, 10**9, "loop", "loop"),
        (zoo.dropout_cnn, 100, "auto", "loop"),
        (zoo.dropout_cnn, 300, "auto", "unit by unit"),
    ],
)
def test_a_training_is_traced_where_that_is_asked_for_or_pays(make, steps, mode, way):
    case = zoo.Case(make, zoo.IMAGES if make is zoo.dropout_cnn else zoo.FEATURES)
    chosen = planned(2, steps=steps, mode=mode, case=case)
    assert (chosen.trainer.way, chosen.warning) == (way, "")


class Beside(nn.Module):
    """A body that training does not reach, and a head."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(4, 8), nn.Linear(8, zoo.CLASSES)

    def forward(self, x):
        with torch.no_grad():
            x = self.body(x)
        return self.head(x)


@pytest.mark.parametrize("mode", ["loop", "vectorised"])
def test_parameters_without_a_gradient_do_not_decay(mode, recwarn):
    config = GadamConfig(population_size=2, steps=5, weight_decay=0.3, learning_rate=0.1, mode=mode)
    found = gadam.train(Beside, (zoo.FEATURES, zoo.LABELS), config, device="cpu", progress=False)
    before = Population.make(Beside, 2)
    for name, entry in found.population.parameters.items():
        at_rest = zoo.identical({"": entry.sort(0)[0]}, {"": before.parameters[name].sort(0)[0]})
        assert at_rest == name.startswith("body"), name
    told = [str(one.message) for one in recwarn if "has no gradient" in str(one.message)]
    assert len(told) == (mode == "vectorised")


@pytest.mark.parametrize(
    ("fault", "factor"), [("gradient", 1.05), ("gradient", math.nan), ("buffer", 1), ("loss", 1.05)]
)
def test_a_program_that_does_something_else_is_found_out(fault, factor, monkeypatch):
    def wrong(self, *given):
        losses, gradients, buffers = right(self, *given)
        if fault == "gradient":
            gradients["0.weight"] *= factor
        if fault == "buffer":
            buffers["1.running_var"] = buffers["1.running_var"] + 0.1
        return losses, gradients, buffers

    right, losses = Programs.gradients, Programs.losses
    monkeypatch.setattr(Programs, "gradients", wrong)
    monkeypatch.setattr(Programs, "losses", lambda *given: losses(*given) * (factor if fault == "loss" else 1))
    assert fault in planned(2, case=zoo.ZOO["BatchNorm1d"]).warning


def test_cross_entropy_is_simplified_where_it_is_nothing_but_the_mean_over_labels_that_all_count():
    plain = cross_entropy, nn.CrossEntropyLoss(), nn.CrossEntropyLoss(ignore_index=7)
    other = {"weight": torch.ones(3)}, {"label_smoothing": 0.1}, {"reduction": "sum"}, {"ignore_index": 1}
    assert len({plan.simplify_cross_entropy(loss, zoo.LABELS) for loss in plain} - {*plain}) == 1
    for loss in (*(nn.CrossEntropyLoss(**settings) for settings in other), nn.functional.nll_loss):
        assert plan.simplify_cross_entropy(loss, zoo.LABELS) is loss
    rare, probabilities = zoo.LABELS.where(torch.arange(zoo.ROWS) > 0, -100), torch.eye(3)[zoo.LABELS]
    assert all(plan.simplify_cross_entropy(cross_entropy, each) is cross_entropy for each in (rare, probabilities))


@pytest.fixture
def untried(monkeypatch):
    """A plan takes a second to try a step; here every model passes."""
    monkeypatch.setattr(plan, "check_vectorised", lambda *_: "")


@pytest.mark.usefixtures("untried")
def test_a_shard_of_units_in_one_call_is_one_for_each_thread_unless_it_is_small(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert {units: planned(units).shards for units in (2, 8, 10, 100)} == {2: 1, 8: 2, 10: 2, 100: 4}
    assert planned(10, shards=7).shards == 7
    assert planned(10, mode="loop").shards == 10
    assert [planned(10, cluster=ClusterSize(threads, None)).shards for threads in (1, 7, 100)] == [1, 7, 10]
    assert planned(10, cluster=ClusterSize(7, None), shards=2).shards == 2


# --- the memory ---


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
    rows = (torch.zeros(7, 3),), torch.zeros(7, 3)
    given = 4 * (5 * 3 + numbers + 1)  # of the first layer, of the model, and the loss
    learned = sum(entry[0].numel() for entry in population.parameters.values())
    found = unit_bytes(population, rows, lambda output, targets: output.sum(), 5)
    assert found == {"copies": 5 * 4 * learned, "activations": given, "gradients": given, "batches": 2 * 8 * 64 * 5}


def test_free_is_what_the_system_or_the_container_has_left(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(plan, "CGROUP", tmp_path)
    assert plan.free_bytes(CPU) is None
    (tmp_path / "meminfo").write_text("MemTotal:       24000 kB\nMemAvailable:   20000 kB\n")
    (tmp_path / "memory.current").write_text("3000000\n")
    (tmp_path / "memory.stat").write_text("anon 2000000\ninactive_file 500000\n")
    assert plan.free_bytes(CPU) == 20_480_000
    for limit, free in (("max", 20_480_000), ("5000000", 2_500_000), ("2000000", 0)):
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        assert plan.free_bytes(CPU) == free
    assert plan.free_bytes(torch.device("meta")) is None


@pytest.mark.usefixtures("untried")
@pytest.mark.parametrize(
    ("at_once", "cluster", "shards"),  # units in training at once for which there is memory
    [
        (16, False, 2), (8, False, 4), (4, False, 8), (1, False, 16), (0, False, 16), (math.inf, False, 2),
        (8, True, 2), (4, True, 4), (1, True, 16), (math.inf, True, 2),
    ],
)  # fmt: skip
def test_a_population_that_is_estimated_not_to_fit_is_cut(at_once, cluster, shards, monkeypatch):
    unit = unit_bytes(Population.make(zoo.mlp, 1), BATCH, cross_entropy, 32)
    held = zoo.FEATURES.nbytes + zoo.LABELS.nbytes if cluster else 3 * 16 * unit["copies"] / 5
    room = math.isfinite(at_once)
    free = int((held + (at_once + 0.5) * sum(unit.values())) / plan.MEMORY_SHARE) if room else None
    monkeypatch.setattr(plan, "free_bytes", lambda _: None if cluster else free)
    chosen = planned(16, cluster=ClusterSize(2, free) if cluster else None)
    assert chosen.shards == shards
    assert chosen.trainer.way == "vectorised"
    assert bool(chosen.warning) == (shards > 2)
    words = ("16 units", "each worker's task" if cluster else "cpu", f"{shards} shards")
    assert all(word in chosen.warning for word in words if shards > 2)
    monkeypatch.setattr(plan, "free_bytes", lambda _: 0)
    assert planned(16, shards=1)[1:] == (1, ""), "as asked"


@pytest.mark.parametrize(("units", "fits", "shards"), [(8, 8, 1), (8, 3, 4), (8, 1, 8), (4, 0, 4), (7, 3, 4)])
def test_where_a_trial_does_not_fit_there_are_more_shards_and_then_the_loop(units, fits, shards, monkeypatch):
    def train(self, shard, data, *, right=Trainer.train):
        if self.programs is not None and len(shard.units) > fits:
            raise RuntimeError("can't allocate memory: no room")
        return right(replace(self, programs=None), shard, data)

    monkeypatch.setattr(Trainer, "train", train)
    chosen = planned(units, shards=None if fits == 0 else 1)
    assert chosen.shards == shards
    assert (chosen.trainer.programs is None) == (fits == 0)
    assert chosen.warning.endswith("no room" if fits == 0 else f"trained in {shards} shards" if shards > 1 else "")
