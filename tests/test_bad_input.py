"""What can be given wrong: each call is refused in one line that names the argument and says what would do."""

import contextlib
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import zoo
from torch import nn
from torch.utils.checkpoint import checkpoint

import gadam
from gadam import datasets, genetics, models, plotting

REMEDY = (
    "must|give|write `|there are|should be|make another|at least|could not|damaged|cannot be (read|written)|has no|"
    "failed"
)

# What the line begins with -> calls, in the names that the fixture `names` prepares.
TABLE = {
    "make_model": """
        evolve(mlp(), rows, small)
        evolve(dict, rows, small)
        evolve(lambda: nn.LazyLinear(3), rows, small)
        evolve(nn.ReLU, rows, small)
        evolve(lambda one=mlp(): one, rows, small)
        evolve(lambda size: nn.Linear(4, size), rows, small)
        evolve(lambda: 1 / 0, rows, small)
        evolve(growing, rows, small)
        evolve(lambda: nn.Linear(5, 3), rows, small)
        evolve(lambda: nn.Sequential(torch.jit.script(mlp())), rows, small)
        evolve(lambda: torch.compile(mlp()), rows, small)
        evolve(hooked, rows, small)
        evolve(remembering, rows, small)
        evolve(Locked, rows, small)
        evolve(Late, rows, small)
        evolve(LateBuffer, rows, small)
        evolve(Again, rows, small)
        evolve(Fourier, rows, small)
        evolve(tied, rows, small)
        evolve(lambda: mlp().to('meta'), rows, small)
        evolve(Slope, (x, x), small, loss=nn.functional.mse_loss)
        evolve(lambda: nn.Linear(4, 3, dtype=torch.cfloat), (x.cfloat(), x.cfloat()[:, :3]), small, loss=distance)
        evolve(lambda: nn.Linear(4, 3).half(), (x.half(), y), small)
        evolve(lambda: nn.Sequential(nn.Embedding(9, 3, sparse=True), nn.Flatten(), nn.Linear(12, 3)), tokens, small)
        evolve(batchnorm, rows, replace(small, batch_size=1))
        GADAMClassifier(make_model=mlp).fit(X, y)
        GADAMClassifier(make_model=mlp()).fit(X, y)
        GADAMClassifier(make_model=lambda features, outputs: nn.Linear(features, outputs + 2)).fit(X, y)""",
    "data": """
        evolve(mlp, x, small)
        evolve(mlp, (x, (y, y)), small)
        evolve(mlp, (x.tolist(), y), small)
        evolve(mlp, (x, np.array(['a'] * 40)), small)
        evolve(mlp, (pd.DataFrame({'age': X[:, 0], 'sex': 'f'}), y), small)
        evolve(mlp, (pd.DataFrame(X).convert_dtypes().mask(X > 1), y), small)
        evolve(mlp, (x.to_sparse(), y), small)
        evolve(mlp, (x.to('meta'), y), small)
        evolve(mlp, torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y)), small)
        evolve(mlp, Pictures(), small)
        evolve(mlp, (x, torch.tensor(1)), small)
        evolve(mlp, (x, y[:-1]), small)
        evolve(mlp, ((), y), small)
        evolve(mlp, (x / 0, y), small)
        evolve(mlp, (x, y * torch.nan), small)
        evolve(mlp, ((x, x[:-1]), y), small)
        result.soup(x)
        datasets.load('orl', data='fake')""",
    "targets": """
        evolve(mlp, (x, y + 1), small)
        evolve(mlp, (x, y * 0 - 100), small)
        result.soup((x, y + 5))""",
    "loss": """
        evolve(mlp, (x, y.float()), small)
        evolve(mlp, (x, x[:, :3] ** 2), small)
        evolve(mlp, (x, x[:, :3].softmax(1) * 3 - 2 / 3), small)
        evolve(mlp, (x, (x[:, :3] > 0).long()), small)
        evolve(lambda: nn.Linear(4, 1), (x, y > 0), small)
        evolve(mlp, rows, small, loss=lambda output, targets: nn.functional.cross_entropy(layer(output), targets))
        evolve(mlp, rows, small, loss='cross_entropy')
        evolve(mlp, rows, small, loss=nn.CrossEntropyLoss(reduction='none'))
        evolve(mlp, rows, small, loss=nn.CrossEntropyLoss)
        evolve(mlp, rows, small, loss=lambda output, targets: (output.argmax(1) != targets).float().mean())
        evolve(mlp, (x, x[:, 0]), small, loss=nn.functional.mse_loss)
        evolve(mlp, (x, y.where(y > 0, -100)), taught, loss=nn.CrossEntropyLoss(label_smoothing=0.1))
        evolve(mlp, rows, taught, loss=Focal())""",
    "validation": """
        evolve(mlp, rows, small, validation=x)
        evolve(mlp, rows, small, validation=(x, y + 1))""",
    "checkpoint": """
        evolve(mlp, rows, small, checkpoint=3)
        evolve(mlp, rows, small, checkpoint='.')
        evolve(mlp, rows, small, checkpoint='a_file/below')
        evolve(mlp, rows, small, checkpoint='saved')
        evolve(mlp, rows, small, checkpoint_seconds=0)""",
    "config": """
        evolve(mlp, rows, {'steps': 3})
        evolve(mlp, rows, replace(small, population_size=1))""",
    "executor": """
        evolve(lambda: 1 / 0, rows, small, executor=0)
        evolve(mlp, rows, small, executor=True)
        evolve(mlp, rows, small, executor=closed)""",
    "device": """
        evolve(mlp, rows, small, device='gpu')
        evolve(mlp, rows, small, device='cuda:99')
        evolve(mlp, rows, small, device=['cuda:0', 'cuda:1'])
        population.to('gpu')""",
    "callbacks": """
        evolve(mlp, rows, small, callbacks=[EarlyStopping()])
        evolve(mlp, rows, small, callbacks=LivePlot())
        evolve(mlp, rows, small, callbacks=[LivePlot])
        evolve_seeds(mlp, rows, small, seeds=[1], callbacks=[LivePlot()])
        train(mlp, rows, small, callbacks=[EarlyStopping()], validation=rows)
        train(mlp, rows, small, callbacks=[LivePlot()])""",
    "(record|progress|stop|restore_best)=": """
        evolve(mlp, rows, small, restore_best=True)
        evolve(mlp, rows, small, record=True)
        evolve(mlp, rows, small, progress='yes')
        evolve(mlp, rows, small, stop=True)""",
    "seeds=": """
        evolve_seeds(mlp, rows, small, seeds=[])
        evolve_seeds(mlp, rows, small, seeds=[1, 1])
        evolve_seeds(mlp, rows, small, seeds=[-1])""",
    "(losses|previous_losses|normalized|eligible|probabilities|generator): ": """
        genetics.select_parents(losses, 2, generator=None)
        genetics.normalize_losses([1.0, 2.0])
        genetics.normalize_losses(torch.tensor([1, 2]))
        genetics.selection_probabilities(losses, eligible=losses[:2] > 0)
        genetics.select_parents(-losses, 2, generator=random)
        genetics.select_parents(losses / 0, 2, generator=random)
        genetics.has_converged(losses[:3], losses, 0)""",
    "parents: ": """
        genetics.inheritance_probabilities(losses, [[0, 1]])
        genetics.inheritance_probabilities(losses, pairs + 4)
        genetics.inheritance_probabilities(losses, pairs - 1)
        genetics.crossover({'weight': torch.rand(2, 3)}, pairs + 1, halves, generator=random)""",
    "(parameters|inheritance|rates): ": """
        genetics.crossover([x], pairs, halves, generator=random)
        genetics.crossover({'count': torch.ones(4, 2, dtype=torch.int64)}, pairs, halves, generator=random)
        genetics.crossover(entries, pairs, 3 * halves, generator=random)
        genetics.crossover(entries, pairs, halves[:1], generator=random)
        genetics.inherit(entries, pairs, halves[:1])
        genetics.mutate(entries, halves[:1], generator=random)
        genetics.mutate(entries, torch.full((4,), torch.nan), generator=random)""",
    "(pairs|base_rate|distribution|population_size|threshold)=": """
        genetics.select_parents(losses, 0, generator=random)
        genetics.mutation_rates(1.5, losses, pairs)
        genetics.mutate(entries, losses, generator=random, distribution='gauss')
        genetics.survivors(losses, 5)
        genetics.has_converged(losses, losses, float('nan'))""",
    "(size|seed|initialisation|index|count)=": """
        Population.make(mlp, 0)
        Population.make(mlp, 3, initialisation='zeros')
        population.unit(9)
        population.shards(0)""",
    "(populations|modules|units): ": """
        Population.stack([])
        Population.join(population)
        Population.join([population, Population.make(lambda: nn.Linear(4, 3), 2)])
        Population.join([population, replace(population, moments={'exp_avg/a': torch.rand(3, 2)})])
        population.take(torch.tensor([99]))
        population.take(torch.tensor([0.5]))""",
    "(population|average|inputs|chunk|Ensemble)": """
        Ensemble(Population.make(lambda: nn.Linear(4, 1), 2))(x)
        Ensemble(Population.make(lambda: nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)), 2))(x)
        Ensemble(Population.make(lambda: nn.LSTM(4, 3), 2))(x)
        Ensemble(mlp())
        Ensemble(population)(x[:, :3])
        result.soup(rows, chunk=0)
        Ensemble(population, 'votes')""",
    "soup: ": """
        replace(result, targets='values').soup(rows)""",
    "path=": """
        load_result('missing', mlp)
        load_result(7, mlp)
        result.save('a_file/below')""",
    "(history|ax|unit|test)": """
        plotting.plot_losses(result.history.iloc[:0])
        plotting.plot_losses(result.history.drop(columns='survived'))
        plotting.plot_family(result.history, unit=9)
        plotting.plot_family(result.history, unit=True)
        LivePlot(test=x)
        evolve(mlp, rows, small, callbacks=[LivePlot(test=(x, y + 1))])""",
    "(settings|preset|predict_with|validation_fraction|hidden_layer_sizes)": """
        GADAMClassifier(settings=['sgd']).fit(X, y)
        GADAMClassifier(settings={'optimiser': 'sgd'}).fit(X, y)
        GADAMClassifier(settings={'total_steps': 9}, preset='teach').fit(X, y)
        GADAMClassifier(preset='distil').fit(X, y)
        GADAMClassifier(predict_with='worst').fit(X, y)
        GADAMClassifier(predict_with='soup', validation_fraction=0).fit(X, y)
        GADAMClassifier(validation_fraction='0.1').fit(X, y)
        GADAMClassifier(hidden_layer_sizes=(10, 0)).fit(X, y)""",
    "(class_weight|random_state|batch_size)": """
        GADAMClassifier(class_weight={'zz': 5}).fit(X, y)
        GADAMClassifier(class_weight={0: -1}).fit(X, y)
        GADAMClassifier(batch_size=0).fit(X, y)
        GADAMClassifier(random_state='lucky').fit(X, y)""",
    r"(dropout|hidden|image_size|features|classes)(\[1\])?=": """
        models.lenet5(dropout=2)
        models.orl_cnn(image_size=(15, 92))
        models.orl_cnn(image_size=28)
        models.mlp(4, 3, [5, 0])""",
    "(name|images_per_person|seed|folder)=": """
        datasets.load('minst')
        datasets.load('orl', images_per_person=10)
        datasets.load('orl', seed=0.5)
        datasets.load('orl', folder=7)""",
}


def hooked():
    model = zoo.mlp()
    model[0].weight.register_hook(lambda gradient: gradient.clamp(-1, 1))
    return model


def remembering():
    model = zoo.mlp()
    model[0].register_forward_hook(lambda module, inputs, output: setattr(model, "features", output))
    return model


def tied():
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 4), nn.Linear(4, 3))
    model[1].weight.data = model[0].weight.data.t()
    return model


class Again(zoo.Linear):
    """Computes its dropout again for the gradient."""

    def forward(self, inputs):
        return checkpoint(lambda part: nn.functional.dropout(self.layer(part)), inputs, use_reentrant=False)


class Fourier(zoo.Linear):
    def prepare(self):
        self.frequencies = torch.randn(4, 4)

    def forward(self, inputs):
        return self.layer((inputs @ self.frequencies).sin())


class LateBuffer(zoo.Linear):
    def prepare(self):
        self.register_buffer("ramp", None, persistent=False)

    def forward(self, inputs):
        self.ramp = torch.arange(3.0)
        return self.layer(inputs) + self.ramp


class Focal(nn.CrossEntropyLoss):
    """Goes by labels."""

    def forward(self, output, targets):
        return (1 - output.softmax(1).gather(1, targets[:, None])).mean()


class Locked(zoo.Linear):
    def prepare(self):
        self.lock = threading.Lock()


class Late(zoo.Linear):
    def forward(self, inputs):
        self.late = getattr(self, "late", None) or nn.Linear(3, 3)
        return self.late(self.layer(inputs))


class Slope(nn.Linear):
    """Differentiates in its forward."""

    def __init__(self):
        super().__init__(4, 1)

    def forward(self, inputs):
        inputs = inputs.detach().requires_grad_()
        return torch.autograd.grad(super().forward(inputs).sin().sum(), inputs, create_graph=True)[0]


class Pictures(torch.utils.data.Dataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        return object(), index


ROWS = [(begin, call.strip()) for begin, calls in TABLE.items() for call in calls.strip().splitlines()]


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """What the table speaks of; inside, the current folder has files that can be wrong."""
    x, y = zoo.FEATURES, zoo.LABELS
    small = gadam.GadamConfig(population_size=3, generations=2, steps=2, batch_size=8, validation_size=16, mode="loop")
    closed, sizes = ThreadPoolExecutor(2), iter(range(3, 100))
    closed.shutdown()
    with contextlib.chdir(tmp_path_factory.mktemp("bad")), pytest.MonkeyPatch.context() as patch:
        patch.setenv("GADAM_OFFLINE", "1")
        result = gadam.evolve(zoo.mlp, (x, y), small, executor=1, progress=False, checkpoint="state")
        result.save("saved")
        Path("a_file").write_text("words")
        yield globals() | {name: getattr(gadam, name) for name in gadam.__all__} | {
            "x": x, "y": y, "X": x.numpy(), "rows": (x, y), "small": small, "result": result, "closed": closed,
            "population": result.population, "mlp": zoo.mlp, "growing": lambda: nn.Linear(4, next(sizes)),
            "batchnorm": lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), "losses": torch.rand(4) * 0.8 + 0.1,
            "taught": replace(small, crossover="teach"), "layer": nn.Linear(3, 3), "random": torch.Generator(),
            "tokens": (zoo.TOKENS[:, None].expand(-1, 4), y), "distance": lambda a, b: (a - b).abs().mean(),
            "pairs": torch.tensor([[0, 1], [2, 3]]), "halves": torch.full((2,), 0.5),
            "entries": {"weight": torch.rand(4, 2)}, "genetics": genetics, "np": np, "pd": pd,
            "models": models, "datasets": datasets, "plotting": plotting,
        }  # fmt: skip


@pytest.mark.parametrize(("begin", "call"), ROWS, ids=[call for _, call in ROWS])
@pytest.mark.filterwarnings("ignore")
def test_it_is_refused_in_one_line_that_names_the_argument_and_the_remedy(begin, call, names):
    message = zoo.complaint(eval, call, dict(names))
    assert re.match(f"(GadamConfig: )?{begin}", message), message
    assert re.search(REMEDY, message), message
