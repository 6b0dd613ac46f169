"""The kernels for a CPU compute what PyTorch's own do, and the rewritten program takes them where they fit only."""

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional

from gadam.models import lenet5, orl_cnn
from gadam.tracing import convolution
from gadam.tracing.convolution import _route_to_argmax, max_pool, use_convolution
from gadam.tracing.passes import without_writes


def images(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def program(module, inputs):
    """Outputs, then gradients of parameters and inputs of a weighted sum of the outputs, traced; and its arguments."""
    names = [name for name, _ in module.named_parameters()]
    weights = torch.randn(module(inputs).shape, generator=torch.Generator().manual_seed(1), dtype=inputs.dtype)

    def summed(parameters, inputs):
        outputs = functional_call(module, parameters, inputs)
        return (outputs * weights).sum(), outputs

    def step(*flat):
        (ours, of_inputs), outputs = grad(summed, (0, 1), has_aux=True)(dict(zip(names, flat, strict=False)), flat[-1])
        return outputs, *ours.values(), of_inputs

    flat = [entry.detach() for entry in module.parameters()] + [inputs]
    with torch.no_grad():
        return make_fx(step)(*flat), flat


def kernels_of(module, inputs, tolerance=1e-10):
    """The names of the kernels in use, once what they give is PyTorch's, also in how it lies in memory."""
    traced, flat = program(module, inputs)
    before = str(traced.graph)
    expected, ours = traced(*flat), without_writes(traced, flat)
    if not use_convolution(ours):
        return []
    for actual, reference in zip(ours(*flat), expected, strict=True):
        torch.testing.assert_close(actual, reference, rtol=tolerance, atol=tolerance, check_stride=True)
    assert str(traced.graph) == before, "what was given stays"
    return sorted(node.target.__name__ for node in ours.graph.nodes if node.target in convolution.KERNELS)


SETTINGS = [(1, 1, 0, 2), (2, 2, 1, 3), ((3, 2), 1, (2, 1), (2, 1)), (5, (2, 1), 1, (1, 3)), (3, 3, 0, 2)]


@pytest.mark.parametrize(("kernel", "stride", "padding", "pool"), SETTINGS)
def test_a_convolution_and_its_pooling_have_pytorchs_values_and_gradients(kernel, stride, padding, pool, monkeypatch):
    monkeypatch.setattr(convolution, "LARGEST_WINDOW", 100)
    layers = [nn.Conv2d(1, 3, kernel, stride, padding, bias=kernel != 2).double(), nn.ReLU(), nn.MaxPool2d(pool)]
    assert kernels_of(nn.Sequential(*layers), images(4, 1, 13, 12)) == OURS


class Using(nn.Module):
    """Uses elsewhere what lies between convolution and pooling, or the indices."""

    def __init__(self, what):
        super().__init__()
        self.convolution, self.what = nn.Conv2d(1, 2, 3, padding=1), what

    def forward(self, inputs):
        before = self.convolution(inputs)
        after = before.relu()
        pooled, index = functional.max_pool2d_with_indices(after, 2)
        return {
            "convolution": lambda: pooled.flatten(1).sum(1) + before.flatten(1).sum(1),
            "ReLU": lambda: pooled.flatten(1).sum(1) + after.flatten(1).sum(1),
            "indices": lambda: functional.max_unpool2d(pooled, index, 2),
            "pooled twice": lambda: pooled + functional.max_pool2d(after, 2) ** 2,
            "weight twice": lambda: functional.max_pool2d(self.convolution(before.mean(1, keepdim=True)), 2),
            "same twice": lambda: self.convolution(inputs) * before,
        }[self.what]()


def small(*layers, channels=1, kernel=3, padding=0, **settings):
    return nn.Sequential(nn.Conv2d(channels, 4, kernel, padding=padding, **settings), *layers)


OURS, POOL = ["convolve", "convolve_gradients"], ["max_pool"]
TWO = nn.MaxPool2d(2)
# name -> module, the shape of its inputs, and the kernels that it gets; None: whichever.
MODULES = {
    **{f"{c} channels": (small(nn.ReLU(), TWO, channels=c), (3, c, 8, 6), OURS) for c in (1, 2, 7)},
    **{f"{c} channels": (small(nn.ReLU(), TWO, channels=c), (3, c, 8, 6), POOL) for c in (8, 16)},
    "no pooling": (small(), (3, 1, 8, 6), []),
    "a batch of one": (small(TWO), (1, 1, 8, 6), OURS),
    "ReLU in place": (small(nn.ReLU(inplace=True), TWO), (3, 1, 8, 6), OURS),
    "Tanh": (small(nn.Tanh(), TWO), (3, 1, 8, 6), POOL),
    "BatchNorm": (small(nn.BatchNorm2d(4, track_running_stats=False), nn.ReLU(), TWO), (3, 1, 8, 6), POOL),
    "pooling twice": (small(nn.ReLU(), nn.MaxPool2d((2, 1)), nn.MaxPool2d((1, 2))), (3, 1, 8, 6), [*OURS, *POOL]),
    "wide window": (small(TWO, kernel=5), (2, 1, 10, 10), OURS),
    "a window of zeros": (small(TWO, kernel=2), (2, 1, 7, 7), POOL),
    "many positions": (nn.Sequential(nn.Tanh(), nn.MaxPool2d(4), nn.ELU(inplace=True)), (2, 3, 8, 20), POOL),
    "too many positions": (nn.Sequential(nn.Tanh(), nn.MaxPool2d((4, 5))), (2, 3, 8, 20), []),
    "pooling of nothing": (nn.Sequential(nn.Tanh(), nn.MaxPool2d(1)), (2, 3, 8, 20), []),
    "dilation": (nn.Conv2d(1, 2, 3, dilation=2), (2, 1, 10, 8), []),
    "groups": (nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), TWO), (2, 2, 10, 8), POOL),
    "transposed": (nn.Sequential(nn.ConvTranspose2d(1, 2, 3), TWO), (2, 1, 10, 8), POOL),
    "overlapping pooling": (small(nn.MaxPool2d(3, 2)), (2, 1, 10, 8), []),
    "padded pooling": (small(nn.MaxPool2d(2, padding=1)), (2, 1, 10, 8), []),
    "pooling beyond the edge": (small(nn.MaxPool2d(3, ceil_mode=True)), (2, 1, 10, 8), []),
    "LeNet-5": (lenet5(dropout=0), (2, 1, 28, 28), sorted(2 * OURS)),
    "ORL": (orl_cnn(dropout=0, hidden=8, image_size=(28, 23)), (2, 1, 28, 23), OURS),  # where a row is left out
    **{
        what: (Using(what), (3, 1, 8, 8), None)
        for what in ("convolution", "ReLU", "indices", "pooled twice", "weight twice", "same twice")
    },
}


@pytest.mark.parametrize("name", MODULES)
def test_kernels_are_used_where_they_fit_and_the_library_everywhere_else(name):
    module, shape, kernels = MODULES[name]
    found = kernels_of(module.double(), images(*shape))
    assert kernels is None or found == kernels


def test_columns_that_need_much_memory_are_left_to_the_library(monkeypatch):
    module, inputs = nn.Sequential(nn.Conv2d(1, 2, 3), TWO).double(), images(2, 1, 10, 8)
    columns, matrix, phases = 16 * 12 * 2, 16 * 4 * 2, 4 * 2 * 12 * 2
    for spare, kernels in ((0, OURS), (-1, POOL)):
        monkeypatch.setattr(convolution, "KEPT_BYTES", (columns + matrix + phases) * 8 + spare)
        assert kernels_of(module, inputs) == kernels


def written_between(source):
    after = source.relu()
    source += 1
    return functional.max_pool2d(after, 2) + functional.max_pool2d(source, 2)


# What a module may do with what a convolution gives, pooled: it writes to it, or looks at how it lies in memory.
AFTER = {
    "to what was pooled": lambda h: functional.max_pool2d(h.relu(), 2).add_(h[:, :, ::2, ::2] * 2),
    "to what is pooled": lambda h: written_between(h * 1),
    "through a view": lambda h: h.view(-1).mul_(2).view(h.shape) + h,
    "to a part": lambda h: [h, h[:, :, ::2].zero_()][0],
    "attention": lambda h: functional.scaled_dot_product_attention(*[h.flatten(2)[:, None]] * 3),
    "contiguous": lambda h: h.contiguous().as_strided((2, 5), (7, 3)),
    "as strided": lambda h: h.as_strided((4, 3), (5, 2)),
    "viewed": lambda h: h.view(-1, 8),
    "permuted": lambda h: h.permute(0, 2, 3, 1).relu().flatten(1),
}


class After(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.layers, self.function = small(nn.MaxPool2d((2, 1)), padding=1), function

    def forward(self, inputs):
        return self.function(self.layers(inputs))


@pytest.mark.parametrize("kind", AFTER)
def test_every_other_operator_gets_what_it_was_traced_with_and_sees_what_is_written(kind):
    assert "convolve" in kernels_of(After(AFTER[kind]).double(), images(3, 1, 16, 8))


def test_a_program_that_writes_to_its_inputs_is_left_alone():
    inputs = [images(2, 1, 4, 4)]
    assert without_writes(make_fx(lambda x: functional.max_pool2d(x.mul_(2), 2))(*inputs), inputs) is None


def test_single_precision():
    assert kernels_of(small(nn.ReLU(), TWO, kernel=5, padding=2), images(4, 1, 12, 12).float(), 1e-4) == OURS


# --- equals, infinities and NaN ---


@pytest.mark.parametrize("window", [(1, 1), (2, 2), (3, 2), (1, 4)])
@pytest.mark.parametrize("nan", [None, 0, 1, 2, 3])
def test_pooling_takes_the_first_of_equals_and_the_index_of_nan_as_the_library(window, nan):
    rows = torch.randint(3, (5, 2, 6, 8), generator=torch.Generator().manual_seed(0)).float()
    if nan is not None:
        rows[:, :, nan // 2 :: 2, nan % 2 :: 2] = torch.nan
    for inputs in (rows, rows.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2)):
        values, index = functional.max_pool2d_with_indices(inputs, window)
        ours, our_index = max_pool(inputs, window, True)
        torch.testing.assert_close(ours, values, rtol=0, atol=0, equal_nan=True)
        assert torch.equal(our_index, index)
        assert max_pool(inputs, window, False)[1] is None


def test_the_gradient_of_equals_goes_to_the_first(monkeypatch):
    """Blank images, or a kernel of one: positions of a window are equal."""
    monkeypatch.setattr(convolution, "LARGEST_WINDOW", 4)
    for inputs in (torch.zeros(2, 1, 4, 4), images(2, 1, 4, 4).round(), torch.ones(2, 1, 4, 4)):
        assert kernels_of(small(TWO, kernel=1).double(), inputs.double()) == OURS


def test_what_is_not_finite_is_not_lost_and_stays_in_its_place():
    for what in (torch.nan, torch.inf):
        module = small(nn.ReLU(), TWO, padding=1).double()
        nn.init.constant_(module[0].weight, what)
        traced, flat = program(module, images(2, 1, 4, 4))
        ours = without_writes(traced, flat)
        assert use_convolution(ours)
        for actual, expected in zip(ours(*flat), traced(*flat), strict=True):
            assert not actual[~expected.isfinite()].isfinite().any()
    phases = torch.tensor([[[1.0, 2.0]], [[1.0, 3.0]]])
    found = _route_to_argmax(torch.tensor([[1.0, torch.inf]]), phases, phases.amax(0))
    assert torch.equal(found, torch.tensor([[[1.0, 0.0]], [[0.0, torch.inf]]]))
