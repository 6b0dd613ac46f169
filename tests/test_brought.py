"""What people bring: it is trained right, whatever it does, or refused (see test_bad_input.py)."""

import functools
import itertools
import random
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import zoo
from torch import nn
from torch.nn import functional
from torch.nn.utils import prune
from torch.utils._pytree import tree_leaves
from torch.utils.data import Dataset, StackDataset, TensorDataset

import gadam
from gadam import Callback, InputError
from gadam.training import trainer
from gadam.training.batches import call_in_parts
from gadam.training.shards import TrainingError

X, Y = zoo.FEATURES, zoo.LABELS
WORDS = zoo.numbers(9, 5, seed=5)
evolved, same = zoo.evolved, zoo.assert_same
plain = functools.cache(evolved)  # what others are compared with
MODES = pytest.mark.parametrize("mode", ["loop", "vectorised"])


# --- what takes other floats than its own ---


class Since(nn.Module):
    """Takes seconds since 1970, of which float32 has no more than each hundredth."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 3)

    def forward(self, seconds):
        return self.layer((seconds - 1.7e9).to(self.layer.weight.dtype) / 100)


def test_floats_that_the_model_takes_are_not_rounded_for_it_in_prediction():
    rows = 1.7e9 + torch.arange(40, dtype=torch.float64)[:, None], Y[:40]
    result = evolved(Since, rows)
    with torch.no_grad():
        expected = result.best(rows[0]).softmax(1)
    assert torch.equal(result.predict(rows[0]), expected)
    assert len(expected.unique(dim=0)) == 40
    assert torch.equal(result.ensemble()(rows[0][:5]), result.ensemble()(rows[0])[:5])


def test_a_best_unit_that_is_frozen_after_the_training_predicts_from_other_floats_too():
    result = evolved()
    expected = result.predict(X)
    result.best.requires_grad_(False)
    assert torch.equal(result.predict(X.double()), expected)


# --- what writes to what it is given ---


class Shifts(nn.Module):
    """Shifts its input, in place or not, before a layer of its own or the convolution of a CPU, unit by unit."""

    def __init__(self, layers, in_place):
        super().__init__()
        self.layers, self.in_place = layers(), in_place

    def forward(self, inputs):
        return self.layers(inputs.sub_(0.5) if self.in_place else inputs - 0.5)


def convolution():
    return zoo.cnn(nn.ReLU(), nn.Flatten())


@pytest.mark.parametrize(
    ("layers", "inputs", "mode"),
    [(zoo.mlp, X, "loop"), (zoo.mlp, X, "vectorised"), (convolution, zoo.IMAGES, "vectorised")],
)
@pytest.mark.parametrize("held_out", [False, True])
def test_a_model_that_changes_its_input_learns_as_one_that_does_not_and_rows_stay(layers, inputs, mode, held_out):
    rows = inputs.clone(), Y.clone()
    more = {"validation": rows} if held_out else {}
    found, expected = (evolved(lambda own=own: Shifts(layers, own), rows, mode=mode, **more) for own in (True, False))
    same(found, expected)
    ensemble, soup = found.ensemble(), found.soup(rows)
    for _ in range(2):
        assert torch.allclose(ensemble(rows[0]), expected.ensemble()(rows[0]), atol=1e-6)
    assert torch.equal(soup(inputs.clone()), expected.soup(rows)(inputs))
    assert torch.equal(rows[0], inputs)


def negating(output, targets):
    """A loss that changes its targets."""
    targets.neg_()
    return functional.mse_loss(output, -targets)


@MODES
def test_a_loss_that_changes_its_targets_changes_no_targets_of_the_users(mode):
    targets = zoo.VALUES.clone()
    rows, held_out = (X, targets), (X[:25], targets[:25])
    found, expected = (
        evolved(zoo.regression, rows, mode=mode, loss=loss, validation=held_out)
        for loss in (negating, functional.mse_loss)
    )
    same(found, expected)
    found.soup(rows, negating)
    assert torch.equal(targets, zoo.VALUES)


class Zeroes(Callback):
    def __init__(self, when):
        self.when = when

    def on_start(self, config, population):
        if self.when == "start":
            population.parameters["0.weight"].zero_()

    def on_generation(self, generation):
        if self.when != "start":
            getattr(generation, self.when).parameters["0.weight"][0] = 0


@MODES
def test_callbacks_and_record_may_not_write_to_what_is_trained(mode):
    lent = ("newborn", "parents", "children", "next")
    for when, error in (("start", InputError), *((name, TrainingError) for name in lent)):
        with pytest.raises(error, match=r"^callbacks: Zeroes wrote to .* must clone"):
            evolved(mode=mode, callbacks=[Zeroes(when)])
    with pytest.raises(TrainingError, match=r"^record: it wrote to parameters .* must clone"):
        evolved(mode=mode, record=lambda step: step.parameters["0.weight"].zero_())


# --- what moves in Python, which a trace would freeze ---

CALLS = 0


class Warm:
    """A loss that switches a term on after some calls."""

    calls = 0

    def __call__(self, output, targets):
        self.calls += 1
        return functional.cross_entropy(output, targets) + (self.calls > 9) * output.square().mean()


def by_closure():
    counter = itertools.count()
    return lambda output, targets: functional.cross_entropy(output, targets) * (1 + next(counter) % 2)


def by_global(output, targets):
    global CALLS
    CALLS += 1
    return functional.cross_entropy(output, targets) * (1 + CALLS % 2)


def by_default(output, targets, seen=[]):  # noqa: B006
    seen.append(len(targets))
    return functional.cross_entropy(output, targets) * (1 + len(seen) % 2)


class Running(nn.Module):
    """A loss with a running mean in a buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, output, targets):
        self.mean.mul_(0.9).add_(0.1 * output.detach().mean())
        return functional.cross_entropy(output - self.mean, targets)


class Noisy(zoo.Linear):
    """Draws by Python's, or by numpy's, random numbers."""

    def forward(self, inputs):
        return self.layer(inputs * (0.5 + self.draw()))


class Moves(zoo.Linear):
    """Scales by something that a function moves at each call."""

    def prepare(self):
        self.kept = {"tensor": torch.ones(()), "array": np.ones(1)}

    def forward(self, inputs):
        self.move(self.kept)
        return self.layer(inputs) * self.kept["tensor"] * float(self.kept["array"].sum())


def anew(kept):
    kept["tensor"] = 0.9 * kept["tensor"]


def in_place(kept):
    kept["array"] *= 0.9


class Global(zoo.Linear):
    """Counts in a global."""

    def forward(self, inputs):
        global CALLS
        CALLS += 1
        return self.layer(inputs) * (1 + CALLS % 2)


class OfClass(Warm):
    """Counts in its class."""

    def __call__(self, output, targets):
        type(self).calls += 1
        return functional.cross_entropy(output, targets) * (1 + self.calls % 2)


class Inherits(Global):
    """Calls what counts, in a class that it inherits from."""

    def forward(self, inputs):
        return super().forward(inputs)


class Clock(zoo.Linear):
    clock = itertools.count()

    def forward(self, inputs):
        return self.layer(inputs) * self.scale()

    def scale(self):
        return (lambda: 1 + next(self.clock) % 2)()


class Helper(zoo.Linear):
    """Has the counter in a function inside of another method, and so many words that others are not looked at."""

    def prepare(self):
        self.words = [str(number) for number in range(6_000)]
        self.index = {word: number for number, word in enumerate(self.words)}

    def forward(self, inputs):
        return self.layer(inputs) * self.scale()

    def scale(self):
        return (lambda: by_global(torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64)))()


def hooking():
    counter, model = itertools.count(), zoo.mlp()
    model[0].register_forward_hook(lambda module, inputs, output: output * (1 + next(counter) % 2))
    return model


def by_system(source, output, targets):
    return functional.cross_entropy(output, targets) * source.random()


def by_draw(generator, output, targets):
    return functional.cross_entropy(output, targets) * torch.rand((), generator=generator)


MOVES = {
    "a counter": lambda: {"loss": Warm()}, "a closure": lambda: {"loss": by_closure()},
    "a global": lambda: {"loss": by_global}, "a default": lambda: {"loss": by_default},
    "a buffer of the loss": lambda: {"loss": Running()},
    "random": lambda: {"make": lambda: Noisy(draw=random.random)},
    "numpy's random": lambda: {"make": lambda: Noisy(draw=np.random.random)},
    "a generator": lambda: {"make": lambda: Noisy(draw=np.random.default_rng(0).random)},
    "a class": lambda: {"loss": OfClass()}, "a partial": lambda: {"loss": functools.partial(by_default, seen=[])},
    "torch's generator": lambda: {"loss": functools.partial(by_draw, torch.Generator())},
    "the system's random numbers": lambda: {"loss": functools.partial(by_system, random.SystemRandom())},
    "a global of the model": lambda: {"make": Global},
    **{make.__name__: lambda make=make: {"make": make} for make in (Inherits, Clock, Helper, hooking)},
    "the loss of a model with many words": lambda: {"make": Helper, "loss": Warm()},
    **{
        f"{move.__name__}, in a part": lambda move=move: {"make": lambda: nn.Sequential(Moves(move=move))}
        for move in (anew, in_place)
    },
}  # fmt: skip


@MODES
@pytest.mark.parametrize("which", MOVES)
def test_what_changes_from_step_to_step_is_trained_by_the_loop_with_a_word(which, mode):
    ways, given = [], MOVES[which]()
    with pytest.warns(UserWarning, match=r"changes from step to step; (units share it|it begins anew)") as told:
        evolved(mode=mode, record=lambda step: ways.append(len(step.units)), **given)
    assert len(told) == 1
    assert set(ways) == {1}
    assert told[0].filename == zoo.__file__


class Keeps(zoo.Linear):
    """Keeps what it computed, and sets something up at its first call: neither is read later."""

    scale = None

    def forward(self, inputs):
        self.scale = self.scale or float(inputs.shape[1])
        self.features = self.layer(inputs) / self.scale
        return self.features


def test_what_is_kept_but_does_not_move_is_trained_in_one_call():
    ways = []
    evolved(Keeps, mode="vectorised", record=lambda step: ways.append(len(step.units)))
    assert set(ways) == {3}


@pytest.mark.filterwarnings("ignore:Python's random changes")
def test_an_ensemble_of_units_that_draw_in_python_is_not_frozen():
    ensemble = evolved(lambda: Noisy(draw=random.random)).ensemble()
    assert not torch.equal(ensemble(X), ensemble(X))


# --- what a trace of a shard, or of one batch, would give another answer to ---


def hardest(output, targets):
    """Goes on with those rows whose loss is above the median."""
    each = functional.cross_entropy(output, targets, reduction="none")
    return each[each > each.median()].mean() if (targets > 0).sum() % 2 else each.mean()


class Penalised(nn.CrossEntropyLoss):
    def forward(self, output, targets):
        return super().forward(output, targets) + 1e-3 * output.square().mean()


class Triangle(nn.Module):
    """Picks entries by a mask that is always the same."""

    def __init__(self):
        super().__init__()
        self.first, self.last, self.mask = nn.Linear(4, 9), nn.Linear(3, 3), torch.ones(3, 3).triu(1).bool()

    def forward(self, inputs):
        return self.last(self.first(inputs).view(-1, 3, 3)[:, self.mask])


def embedded(**settings):
    return lambda: nn.Sequential(nn.Embedding(9, 4, **settings), nn.Flatten(), nn.Linear(4 * 5, 3))


@pytest.mark.parametrize(
    ("make", "inputs", "loss"),
    [
        (zoo.mlp, X, Penalised()),
        (embedded(padding_idx=2), WORDS, functional.cross_entropy),
        (embedded(padding_idx=-1), WORDS, functional.cross_entropy),
        (zoo.mlp, X, lambda output, targets: 1e-6 * functional.cross_entropy(output, targets)),
        (Triangle, X, functional.cross_entropy),
    ],
)
def test_in_one_call_units_learn_what_they_do_by_the_loop(make, inputs, loss):
    results = [
        evolved(make, (inputs, Y), loss=loss, mode=mode, generations=1, steps=30) for mode in ("loop", "vectorised")
    ]
    assert zoo.difference(*(result.population.parameters for result in results)) < 1e-3


@pytest.mark.parametrize(
    ("make", "inputs", "loss"),
    [(convolution, zoo.IMAGES, hardest), (embedded(max_norm=0.5), WORDS, functional.cross_entropy)],
)
def test_what_no_trace_has_is_trained_by_the_loop_with_a_word(make, inputs, loss):
    with pytest.warns(UserWarning, match="^training unit by unit, because the model cannot be vectorised"):
        found = evolved(make, (inputs, Y), loss=loss, mode="vectorised", steps=30)
    assert zoo.same_population(found.population, evolved(make, (inputs, Y), loss=loss, steps=30).population)


def test_rows_of_padding_stay_what_they_are():
    population = evolved(embedded(padding_idx=2), (WORDS, Y), mutation_rate=0.9).population
    assert not population.parameters["0.weight"][:, 2].any()
    assert population.parameters["0.weight"].any(2).sum(1).tolist() == [8] * 3


class Scaled(zoo.Linear):
    """Reads a number from its rows."""

    def forward(self, inputs):
        return self.layer(inputs / float(inputs.numpy().std()))


class Listed(zoo.Linear):
    """Holds a parameter in a list, too."""

    def prepare(self):
        self.own = [self.layer.weight]

    def forward(self, inputs):
        return inputs @ self.own[0].t()


@pytest.mark.parametrize("make", [Scaled, Listed])
def test_an_ensemble_is_the_mean_of_its_units_on_other_rows_than_the_first(make):
    found = evolved(make)
    ensemble = found.ensemble("outputs")
    for rows in (X, 9 * X.flip(0)):
        torch.testing.assert_close(ensemble(rows), sum(unit(rows) for unit in found.population.units()) / 3)


def test_what_numpy_and_python_draw_is_given_by_the_seed():
    def make():
        model = zoo.mlp()
        model[0].weight.data.fill_(np.random.normal() + random.random())  # noqa: NPY002
        return model

    states = [get() for get in (random.getstate, np.random.get_state)]
    same(evolved(make), evolved(make))
    assert str(states) == str([get() for get in (random.getstate, np.random.get_state)])


# --- what looks like something that is refused, and is fine ---


class TwiceFrozen(nn.Module):
    """Has two parts of the same memory, which nobody trains."""

    def __init__(self):
        super().__init__()
        table = torch.ones(9, 4)
        self.mean, self.most, self.layer = *(nn.Embedding.from_pretrained(table) for _ in range(2)), nn.Linear(8, 3)

    def forward(self, inputs):
        return self.layer(torch.cat([self.mean(inputs).mean(1), self.most(inputs).amax(1)], 1))


def called_once():
    model = weight_normed()
    with torch.no_grad():
        model(X)
    return model


class NoisyGradient(zoo.Linear):
    def forward(self, inputs):
        output = self.layer(inputs)
        if output.requires_grad:
            output.register_hook(lambda gradient: gradient + 0.01 * torch.rand_like(gradient))
        return output


class InEvaluation(zoo.Linear):
    """Makes a buffer in evaluation."""

    def forward(self, inputs):
        if not self.training and not hasattr(self, "shift"):
            self.register_buffer("shift", torch.zeros(3))
        return self.layer(inputs)


def hook_of_nothing():
    """Has a hook that closes over a name without a value."""
    nothing, model = None, zoo.mlp()
    model[0].register_forward_hook(lambda module, inputs, output: output if output.numel() else nothing)  # noqa: F821
    del nothing
    return model


def draws(inputs):
    """Draws in evaluation, a few rows at once."""
    assert len(inputs) <= 7
    return functional.dropout(inputs)


def test_what_draws_in_evaluation_is_called_on_few_rows():
    assert call_in_parts(draws, (X,), 7).shape == X.shape


class Items(Dataset):
    """Rows one by one, as a function has them."""

    def __init__(self, item):
        self.item = item

    def __len__(self):
        return len(X)

    def __getitem__(self, index):
        if index >= len(X):
            raise IndexError
        return self.item(X[index], Y[index])


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
@pytest.mark.parametrize(
    ("make", "data"),
    [
        (TwiceFrozen, (WORDS, Y)), (called_once, (X, Y)), (NoisyGradient, (X, Y)), (InEvaluation, (X, Y)),
        (hook_of_nothing, (X, Y)), (zoo.mlp, Items(lambda x, y: (x.tolist(), y))),
        (zoo.mlp, Items(lambda x, y: (list(x.numpy()), y))),
    ],
)  # fmt: skip
def test_it_is_trained_and_predicts(make, data):
    found = evolved(make, data)
    for _ in range(2):
        assert found.ensemble()(data[0] if isinstance(data, tuple) else X).shape == (40, 3)


@MODES
@pytest.mark.filterwarnings("ignore:training unit by unit")
def test_noise_of_a_gradient_is_drawn_by_the_seed_and_nothing_else(mode):
    results = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        results.append(evolved(NoisyGradient, (X, Y), mode=mode))
        assert torch.equal(torch.get_rng_state(), torch.Generator().manual_seed(seed).get_state())
    zoo.assert_same(*results)


# --- copies ---


def weight_normed():
    return zoo.mlp(first=nn.utils.weight_norm(nn.Linear(4, 8)))


def pruned():
    layer = nn.Linear(4, 8)
    prune.random_unstructured(layer, "weight", 0.5)
    return zoo.mlp(first=layer)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
@MODES
@pytest.mark.parametrize("make", [weight_normed, pruned])
def test_computed_weights_stay_in_force(make, mode):
    best = evolved(make, mode=mode, steps=20).best
    before = best(X)
    with torch.no_grad():
        for name, entry in best.named_parameters():
            if name in ("0.weight_g", "0.weight_orig"):
                entry.mul_(2)
    assert not torch.allclose(best(X), before)


# --- labels, types, tables ---


LABELS = (
    Y.int(), Y.to(torch.uint8), Y.to(torch.int8), Y[:, None], functional.one_hot(Y, 3), Y.numpy(), Y.numpy()[:, None],
    Y.numpy().astype(np.uint16), Y.numpy().astype(">i8"), pd.Series(Y.numpy()), pd.DataFrame({"label": Y.numpy()}),
)  # fmt: skip
TABLES = (
    TensorDataset(X, Y), Items(lambda x, y: (x.numpy(), int(y))), (X.numpy(), Y), (pd.DataFrame(X.numpy()), Y),
    [X, Y], ([X], Y),
)  # fmt: skip


@pytest.mark.parametrize("data", [*((X, labels) for labels in LABELS), *TABLES])
def test_labels_arrays_frames_and_datasets_are_taken_as_they_come(data):
    same(evolved(data=data), plain())
    same(evolved(data=data, validation=data), plain(validation=(X, Y)))


@pytest.mark.parametrize(
    "data",
    [TensorDataset(X, zoo.TOKENS, Y), StackDataset(X, zoo.TOKENS, Y), StackDataset(StackDataset(X, zoo.TOKENS), Y)],
)
def test_of_the_parts_of_a_dataset_the_last_are_the_targets_and_all_others_inputs(data):
    same(evolved(zoo.TwoInputs, data), evolved(zoo.TwoInputs, ((X, zoo.TOKENS), Y)))


def test_frames_of_several_types_are_numbers():
    frame = pd.DataFrame(X.numpy()).assign(yes=X[:, 0].numpy() > 0)
    rows = torch.column_stack([X, X[:, 0] > 0])
    expected = evolved(lambda: nn.Linear(5, 3), (rows, Y))
    for given in (frame, frame.convert_dtypes()):
        with pytest.warns(UserWarning, match="^data: inputs are float64 and become float32"):
            same(evolved(lambda: nn.Linear(5, 3), (given, Y)), expected)


def test_outputs_that_are_probabilities_are_said_to_be_no_logits():
    with pytest.warns(UserWarning, match="^make_model: the outputs of Sequential are probabilities; must be"):
        evolved(lambda: nn.Sequential(zoo.mlp(), nn.Softmax(1)), validation=(X, Y))


@pytest.mark.parametrize(
    ("make", "data", "said"),
    [
        (zoo.mlp, (X.double(), Y), "inputs are float64 and become float32, as are the parameters"),
        (zoo.mlp, (X.numpy().astype(float), Y), "inputs are float64 and become float32"),
        (zoo.mlp, (pd.DataFrame(X.numpy().astype(float)), Y), "inputs are float64 and become float32"),
        (zoo.mlp, (X.half(), Y), "inputs are float16 and become float32"),
        (lambda: zoo.mlp().double(), (X, Y), "inputs are float32 and become float64"),
        (zoo.regression, (X, zoo.VALUES.double()), "targets are float64 and become float32"),
        (zoo.TwoInputs, ((X.double(), zoo.TOKENS), Y), "inputs are float64 and become float32"),
    ],
)  # fmt: skip
def test_floats_of_another_type_are_cast_with_a_word(make, data, said):
    loss = functional.mse_loss if make is zoo.regression else functional.cross_entropy
    with pytest.warns(UserWarning, match=f"^data: {said}") as told:
        found = evolved(make, data, loss=loss, validation=data)
    assert len(told) == 1
    if make is zoo.mlp:
        assert torch.allclose(found.ensemble()(X), plain().ensemble()(X), atol=0.05)


@pytest.mark.parametrize(
    ("make", "targets", "loss", "expected"),
    [
        (zoo.mlp, Y, functional.cross_entropy, "classes"),
        (zoo.mlp, functional.one_hot(Y, 3) * 0.9 + 0.1 / 3, functional.cross_entropy, "classes"),
        (zoo.mlp, functional.one_hot(Y, 3) * 0.9 + 0.1 / 3, nn.CrossEntropyLoss(), "classes"),
        (zoo.mlp, Y, functional.multi_margin_loss, "classes"),
        (zoo.mlp, Y, lambda o, t: functional.cross_entropy(o, t) + 1e-3 * o.square().mean(), "classes"),
        (lambda: nn.Sequential(zoo.mlp(), nn.LogSoftmax(1)), Y, lambda o, t: functional.nll_loss(o, t), "classes"),
        (zoo.mlp, Y, lambda o, t: functional.huber_loss(o, t[:, None].expand(-1, 3).float()), "values"),
        (zoo.mlp, Y, lambda o, t: functional.mse_loss(o, functional.one_hot(t, 3).float()), "values"),
        (zoo.mlp, 5 * Y, lambda o, t: functional.gaussian_nll_loss(o[:, 0], t.float(), o[:, 1].exp()), "values"),
        (zoo.mlp, (X[:, :3] > 0).long(), lambda o, t: functional.multilabel_soft_margin_loss(o, t.float()), "values"),
        (zoo.regression, Y[:, None], lambda o, t: functional.poisson_nll_loss(o, t.float()), "values"),
        (zoo.regression, Y, lambda o, t: functional.poisson_nll_loss(o[:, 0], t.float()), "values"),
        (zoo.regression, zoo.VALUES, functional.mse_loss, "values"),
    ],
)  # fmt: skip
def test_what_is_predicted_is_read_from_targets_and_output_together(make, targets, loss, expected):
    found = evolved(make, (X, targets), loss=loss)
    assert found.targets == expected
    units = torch.stack([unit(X) for unit in found.population.units()])
    average = units.softmax(2).mean(0) if expected == "classes" else units.mean(0)
    assert torch.allclose(found.ensemble()(X), average, atol=1e-6)
    assert torch.allclose(found.ensemble("outputs")(X), units.mean(0), atol=1e-6)


def test_outputs_and_targets_that_broadcast_are_warned_of_and_no_others(recwarn):
    def squared(output, targets):
        return ((output - targets) ** 2).mean()

    evolved(zoo.regression, (X, X[:, :1]), loss=squared)
    evolved(zoo.regression, (X, X[:, 0]), loss=lambda output, targets: squared(output[:, 0], targets))
    assert not recwarn.list
    with pytest.warns(UserWarning, match=r"shape \[n, 1\], targets have shape \[n\]"):
        evolved(zoo.regression, (X, X[:, 0]), loss=squared)
    with pytest.warns(UserWarning, match=r"shape \[n\], targets have shape \[n, 1\]"):
        evolved(lambda: nn.Sequential(zoo.regression(), nn.Flatten(0)), (X, X[:, :1]), loss=squared)


# --- modes of the calling thread ---


@MODES
def test_inside_no_grad_it_trains_as_outside(mode):
    with torch.no_grad():
        found = evolved(mode=mode)
    same(found, evolved(mode=mode))


@pytest.mark.parametrize("context", [torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)])
def test_modes_of_one_thread_are_refused(context):
    with context(), pytest.raises(InputError, match=r"^torch\.(inference_mode|autocast)\("):
        evolved()


# --- losses of chunks ---


def test_a_soup_is_mixed_by_the_loss_over_all_rows():
    result, labels = evolved(steps=30), Y.clone()
    labels[:20] = -100
    weighted = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 0.2]))
    for loss, targets in ((None, labels), (weighted, Y)):
        whole, parts = (result.soup((X, targets), loss, chunk=chunk)(X) for chunk in (40, 7))
        assert torch.equal(whole, parts)


class Beside(zoo.Linear):
    """Has another output beside its own."""

    def forward(self, inputs):
        return self.other(inputs), self.layer(inputs)


@pytest.mark.parametrize("other", [lambda inputs: inputs, torch.sum, lambda inputs: inputs @ inputs.t()])
def test_outputs_are_joined_part_by_part_or_computed_at_once(other, monkeypatch):
    def loss(output, targets):
        return functional.cross_entropy(output[1], targets)

    monkeypatch.setattr(trainer, "VALIDATED_AT_ONCE", 7)
    found = evolved(lambda: Beside(other=other), loss=loss, validation=(X, Y))
    same(replace(found, targets="classes"), evolved(zoo.Linear, validation=(X, Y)))


AMONG_ROWS = {
    "rows as columns": lambda layer, rows: layer(rows).t(),
    "less their mean": lambda layer, rows: layer(rows - rows.mean(0)),
    "less their mean, which could be taken for rounding": lambda layer, rows: layer(rows - rows.mean(0)) + 2_000,
    "steps of time": lambda layer, rows: layer(rows.cumsum(0)),
    "squeezed": lambda layer, rows: layer(rows)[:, :1].squeeze(),
    "each with each": lambda layer, rows: (rows @ rows.t(), layer(rows)),
}


@pytest.mark.parametrize("which", AMONG_ROWS)
@pytest.mark.parametrize("chunk", [3, 13, 39])
def test_rows_that_depend_on_each_other_are_computed_at_once(which, chunk):
    module = functools.partial(AMONG_ROWS[which], zoo.Linear())
    found, expected = (tree_leaves(call_in_parts(module, (X,), rows)) for rows in (chunk, 40))
    assert all(map(torch.equal, found, expected))


def test_where_no_row_of_a_validation_batch_counts_that_is_said_and_nothing_of_the_learning_rate():
    labels = Y.clone()
    labels[2:] = -100
    with pytest.raises(TrainingError, match=r"before the training: has the validation batch rows with targets that co"):
        evolved(data=(X, labels), validation_size=1, seed=1)


# --- models that show values, and paths ---


class Shows(zoo.Linear):
    def prepare(self):
        self.own = random.random()

    def extra_repr(self):
        return f"own={self.own}"


def test_a_model_whose_text_shows_values_is_loaded(tmp_path):
    evolved(Shows).save(tmp_path / "result")
    assert len(gadam.load_result(tmp_path / "result", Shows).population) == 3


def test_a_tilde_is_the_home_folder_and_links_are_followed(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("elsewhere/state")
    result = evolved(checkpoint="~/state")
    result.save("~/result")
    evolved(checkpoint="link")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "link", "result", "state"]
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "elsewhere" / "state").is_file()
    same(gadam.load_result("~/result", zoo.mlp), result)
