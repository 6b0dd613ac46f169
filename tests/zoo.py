"""Small modules of every kind that a unit model may be, with rows for them. Importable in spawned processes."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pandas as pd
import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from gadam import GadamConfig, InputError, Population, evolve
from gadam.population import KINDS
from gadam.training.shards import Data, split_into_shards

ROWS = 40
CLASSES = 3


def rows(*shape, seed=0):
    return torch.randn(ROWS, *shape, generator=Generator().manual_seed(seed))


def numbers(below, *shape, seed):
    return torch.randint(below, (ROWS, *shape), generator=Generator().manual_seed(seed))


FEATURES, IMAGES, SEQUENCES, SIGNALS = rows(4), rows(2, 6, 6), rows(5, 8), rows(4, 6)
LABELS, LABELS_OF_POSITIONS, TOKENS = numbers(CLASSES, seed=1), numbers(CLASSES, 6, seed=2), numbers(7, seed=4)
VALUES = rows(1, seed=3)
DATA = (FEATURES, LABELS)


def mlp(*between, first=None):
    """A network of 4 inputs with something between its two layers, by default ReLU."""
    return nn.Sequential(first or nn.Linear(4, 8), *(between or [nn.ReLU()]), nn.Linear(8, CLASSES))


def dropout_mlp():
    return mlp(nn.ReLU(), nn.Dropout(0.3))


# No bias directly before a BatchNorm, nor for the keys of an attention: its gradient is exactly zero, what is computed
# is rounding noise, and Adam divides the noise by its own size. In float32 such an entry wanders by up to the learning
# rate at each step, in a direction that any two correct computations disagree on.
def batchnorm_mlp():
    return mlp(nn.BatchNorm1d(8), nn.ReLU(), first=nn.Linear(4, 8, bias=False))


def frozen_mlp():
    return mlp(first=nn.Linear(4, 8).requires_grad_(False))


def cnn(*between, features=64, **settings):
    """A convolution of images, something after it, and a layer of so many features."""
    return nn.Sequential(nn.Conv2d(2, 4, 3, **settings), *between, nn.Linear(features, CLASSES))


def dropout_cnn():
    return cnn(nn.ReLU(), nn.Dropout2d(0.2), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.3), features=16)


def channels_last_cnn():
    return dropout_cnn().to(memory_format=torch.channels_last)


def regression():
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


def segmentation():
    return nn.Sequential(nn.Conv1d(4, 6, 3, padding=1), nn.ReLU(), nn.Conv1d(6, CLASSES, 1))


class Linear(nn.Module):
    """One layer, for others to build on: it keeps what it is given, and `prepare` sets up what they have beside it."""

    def __init__(self, **kept):
        super().__init__()
        self.layer = nn.Linear(4, CLASSES)
        vars(self).update(kept)
        self.prepare()

    def prepare(self):
        pass

    def forward(self, inputs):
        return self.layer(inputs)


class Counting(Linear):
    """Counts its training batches in an integer buffer, in place."""

    def prepare(self):
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def forward(self, inputs):
        if self.training:
            self.batches += 1
        return self.layer(inputs)


class Averaging(Linear):
    """Puts a new buffer in the place of the old one at each training batch."""

    def prepare(self):
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, inputs):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * inputs.mean(0)
        return self.layer(inputs - self.mean)


class Tied(nn.Module):
    """Two layers, one weight."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, CLASSES)
        self.second.weight = self.first.weight

    def forward(self, inputs):
        return self.head(self.second(self.first(inputs).relu()).relu())


class TwoInputs(nn.Module):
    """Features and a token."""

    def __init__(self):
        super().__init__()
        self.embedding, self.layer = nn.Embedding(7, 3), nn.Linear(7, CLASSES)

    def forward(self, features, tokens):
        return self.layer(torch.cat([features, self.embedding(tokens)], 1))


class Noisy(Linear):
    """Draws in its forward, in training and in evaluation; one of its draws it does not use."""

    def forward(self, inputs):
        torch.rand_like(inputs)
        return self.layer(inputs + 0.1 * torch.randn_like(inputs) + 0.1 * torch.rand(4))


class Permuting(Linear):
    """Draws what no stream can be told to: needs the global generator."""

    def forward(self, inputs):
        return self.layer(inputs[:, torch.randperm(4)] if self.training else inputs)


class PlainAttribute(Linear):
    """Holds a tensor that is neither parameter nor buffer."""

    def prepare(self):
        self.scale = torch.tensor([1.0, 2.0, 3.0])

    def forward(self, inputs):
        return self.layer(inputs) * self.scale


class Remembering(Linear):
    """Keeps what it computed last, which has a gradient and therefore cannot be copied."""

    def forward(self, inputs):
        self.features = self.layer(inputs)
        return self.features


class Temperature(Linear):
    """A parameter without dimensions."""

    def prepare(self):
        self.temperature = nn.Parameter(torch.tensor(1.5))

    def forward(self, inputs):
        return self.layer(inputs) / self.temperature


class TwoPrecisions(Linear):
    """Parameters of two types."""

    def prepare(self):
        self.scale = nn.Parameter(torch.ones(CLASSES, dtype=torch.float64))

    def forward(self, inputs):
        return (self.layer(inputs) * self.scale).to(inputs.dtype)


class Unused(Linear):
    """A parameter that no loss depends on."""

    def prepare(self):
        self.spare = nn.Linear(2, 2)


class GradientHook(Linear):
    """Changes its gradient where it sees that there is one; inside `torch.func` it does not see it."""

    def forward(self, inputs):
        outputs = self.layer(inputs)
        if outputs.requires_grad:
            outputs.register_hook(lambda gradient: -gradient)
        return outputs


class Branching(Linear):
    """Control flow that depends on data."""

    def forward(self, inputs):
        outputs = self.layer(inputs)
        return outputs if outputs.sum() > 0 else -outputs


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.2, bias=False, batch_first=True)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, inputs):
        return self.head(self.attention(inputs, inputs, inputs, need_weights=False)[0].mean(1))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(8, 4, num_layers=2, dropout=0.3, batch_first=True)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, inputs):
        return self.head(self.lstm(inputs)[0][:, -1])


@dataclass(frozen=True)
class Case:
    """A unit model, rows for it, and whether a shard of it can be trained in one call."""

    make: Callable[[], nn.Module]
    inputs: Tensor | tuple[Tensor, ...] = FEATURES
    targets: Tensor = LABELS
    loss: Callable[..., Tensor] = functional.cross_entropy
    vectorises: bool = True

    @property
    def arguments(self):
        return self.inputs if isinstance(self.inputs, tuple) else (self.inputs,)


ZOO = {
    "Dropout": Case(dropout_mlp),
    "Dropout1d": Case(
        lambda: nn.Sequential(nn.Conv1d(4, 6, 3), nn.Dropout1d(0.3), nn.Flatten(), nn.Linear(24, CLASSES)), SIGNALS
    ),
    "Dropout2d": Case(dropout_cnn, IMAGES),
    "AlphaDropout": Case(lambda: mlp(nn.SELU(), nn.AlphaDropout(0.2))),
    "BatchNorm1d": Case(batchnorm_mlp),
    "BatchNorm2d": Case(lambda: cnn(nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), bias=False), IMAGES),
    # Its average needs the number of batches as a Python number.
    "cumulative BatchNorm": Case(
        lambda: mlp(nn.BatchNorm1d(8, momentum=None), first=nn.Linear(4, 8, bias=False)), vectorises=False
    ),
    "GroupNorm": Case(lambda: cnn(nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten()), IMAGES),
    "LayerNorm": Case(lambda: mlp(nn.LayerNorm(8), nn.ReLU())),
    "weight_norm": Case(lambda: mlp(first=parametrizations.weight_norm(nn.Linear(4, 8)))),
    "spectral_norm": Case(lambda: mlp(first=parametrizations.spectral_norm(nn.Linear(4, 8))), vectorises=False),
    "integer buffer": Case(Counting),
    "replaced buffer": Case(Averaging),
    "tied parameters": Case(Tied),
    "frozen parameters": Case(frozen_mlp),
    "two inputs": Case(TwoInputs, (FEATURES, TOKENS)),
    "own draws": Case(Noisy),
    "own permutation": Case(Permuting, vectorises=False),
    "plain tensor attribute": Case(PlainAttribute),
    "kept activation": Case(Remembering),
    "parameter without dimensions": Case(Temperature),
    "two precisions": Case(TwoPrecisions),
    "unused parameter": Case(Unused),
    "channels last": Case(channels_last_cnn, IMAGES),
    "attention": Case(Attention, SEQUENCES),
    "LSTM": Case(Recurrent, SEQUENCES, vectorises=False),
    "control flow": Case(Branching, vectorises=False),
    "gradient hook": Case(GradientHook, vectorises=False),
    "regression": Case(regression, FEATURES, VALUES, functional.mse_loss),
    "ignored labels": Case(mlp, FEATURES, LABELS.where(torch.arange(ROWS) % 4 > 0, -100)),
    "targets of two dimensions": Case(segmentation, SIGNALS, LABELS_OF_POSITIONS),
}


def evolved(make=mlp, data=DATA, **given):
    """Evolve a few small units in the calling thread; `given` are settings and what `gadam.evolve` takes."""
    small = {"population_size": 3, "generations": 2, "steps": 5, "batch_size": 8, "validation_size": 16, "mode": "loop"}
    config = GadamConfig(**small | {name: given.pop(name) for name in list(given) if name in GadamConfig.names()})
    return evolve(make, data, config, **{"executor": 1, "progress": False} | given)


def data_of(case):
    """Rows, all of them to train on, and two validation batches of 16."""
    batch, numbers = (case.arguments, case.targets), torch.arange(len(case.targets))[None]
    return Data(batch, batch, numbers[:, :16], numbers[:, 16:32])


def shards_of(make, units, count=1):
    """Fresh parents of the first generation, in so many shards."""
    return split_into_shards(Population.make(make, units), count, "parent", 1)


def double(case):
    """The case in float64."""
    tensors = case.targets, *case.arguments
    targets, *inputs = (tensor.double() if tensor.is_floating_point() else tensor for tensor in tensors)
    return replace(case, make=lambda: case.make().double(), inputs=tuple(inputs), targets=targets)


def difference(tensors, reference):
    """The largest difference of two dicts of tensors, relative to the largest entry of a tensor; integers: 0 or inf."""
    assert tensors.keys() == reference.keys()
    largest = 0.0
    for name, expected in reference.items():
        tensor = tensors[name]
        assert (tensor.shape, tensor.dtype) == (expected.shape, expected.dtype)
        if expected.is_floating_point():
            assert expected.isfinite().all()
            largest = max(largest, float((tensor - expected).abs().max() / expected.abs().max().clamp(min=1e-30)))
        elif not torch.equal(tensor, expected):
            return float("inf")
    return largest


def loss_of(module, rows=DATA):
    """The mean cross-entropy of a module on rows, computed plainly."""
    with torch.no_grad():
        return float(functional.cross_entropy(module(rows[0]), rows[1]))


def identical(tensors, reference):
    """Whether two dicts of tensors are the same bit by bit."""

    def bits(tensor):
        return tensor.dtype, tensor.shape, tensor.detach().cpu().contiguous().numpy().tobytes()

    return tensors.keys() == reference.keys() and all(bits(tensors[name]) == bits(reference[name]) for name in tensors)


def same_population(population, reference):
    """Whether two populations are the same bit by bit."""
    return all(identical(getattr(population, kind), getattr(reference, kind)) for kind in KINDS)


def trained_statistics(population):
    """The population as if its units had seen rows: the statistics of BatchNorm differ between them."""
    draw = Generator().manual_seed(5)
    buffers = {
        name: tensor + torch.rand(tensor.shape, generator=draw) if tensor.is_floating_point() else tensor + 3
        for name, tensor in population.buffers.items()
    }
    return replace(population, buffers=buffers)


def assert_same_shards(shards, expected, tolerance=0.0):
    """Bit by bit, with their losses; or nearly."""
    assert [shard.units for shard in shards] == [other.units for other in expected]
    for shard, other in zip(shards, expected, strict=True):
        assert tolerance or same_population(shard.population, other.population)
        for part in ("parameters", "buffers", "moments") if tolerance else ():
            assert difference(getattr(shard.population, part), getattr(other.population, part)) <= tolerance, part
        for name in ("loss_start", "loss_trained", "loss_survival"):
            torch.testing.assert_close(shard.tensors[name], other.tensors[name], rtol=tolerance, atol=tolerance)


def timeless(result):
    return result.history.drop(columns="seconds")


def assert_same(result, expected):
    """Bit by bit, and in every fact that is not a time."""
    assert same_population(result.population, expected.population)
    assert same_population(Population.stack([result.best]), Population.stack([expected.best]))
    pd.testing.assert_frame_equal(timeless(result), timeless(expected), check_exact=True)
    facts = ("stopped", "gradient_steps", "targets", "config", "restored")
    assert [getattr(result, name) for name in facts] == [getattr(expected, name) for name in facts]
    assert (result.teachers is None) == (expected.teachers is None)
    assert result.teachers is None or same_population(result.teachers, expected.teachers)


def complaint(function, /, *given, **named):
    """The one line in which a call is refused."""
    with pytest.raises(InputError) as caught:
        function(*given, **named)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    return message
