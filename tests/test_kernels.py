"""The kernels for a CPU compute what PyTorch's own do, and the rewritten program takes them where they fit only."""

import itertools

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional

from gadam.models import lenet5, orl_cnn
from gadam.tracing import rewriting
from gadam.tracing.convolution import _to_largest, max_pool
from gadam.tracing.passes import without_writes
from gadam.tracing.rewriting import use_kernels


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


def with_kernels(traced, flat):
    """The program with kernels; None where there is nowhere to use them."""
    pure = without_writes(traced, flat)
    return pure if pure is not None and use_kernels(pure) else None


def used(traced):
    return [node.target.__name__ for node in traced.graph.nodes if node.target in rewriting.KERNELS]


def assert_same(module, inputs, tolerance=1e-10):
    """Ours equal PyTorch's, also in how they lie in memory; returns the names of the kernels in use."""
    traced, flat = program(module, inputs)
    expected = traced(*flat)
    ours = with_kernels(traced, flat)
    if ours is None:
        return []
    for actual, reference in zip(ours(*flat), expected, strict=True):
        torch.testing.assert_close(actual, reference, rtol=tolerance, atol=tolerance, check_stride=True)
    return used(ours)


def images(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


SETTINGS = list(itertools.product((1, 2, (3, 2), 5), (1, 2, 3, (2, 1)), (0, 1, (2, 1)), (2, 3, (2, 1), (1, 3))))
SIZES = ((5, 5), (9, 12), (10, 7), (13, 13))


# Tracing takes time: every seventh of them, which has each value of each setting.
@pytest.mark.parametrize(("kernel", "stride", "padding", "pool"), SETTINGS[::7])
def test_a_convolution_and_its_pooling_have_pytorchs_values_and_gradients(kernel, stride, padding, pool, monkeypatch):
    monkeypatch.setattr(rewriting, "LARGEST_WINDOW", 100)
    for size in SIZES:
        layers = [nn.Conv2d(1, 3, kernel, stride, padding, bias=kernel != 2), nn.ReLU()]
        inputs = images(4, 1, *size)
        if min(layers[0].double()(inputs).shape[2:]) < 3:
            continue
        layers.append(nn.MaxPool2d(pool))
        used = assert_same(nn.Sequential(*layers).double(), inputs)
        assert used.count("convolve") == used.count("convolve_gradients") == 1


@pytest.mark.parametrize("channels", [1, 2, 3, 7, 8, 16])
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_for_few_channels_only(channels, batch):
    layers = [nn.Conv2d(channels, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    inputs = images(batch, channels, 8, 6)
    pooled = assert_same(nn.Sequential(*layers).double(), inputs)
    assert ("convolve" in pooled) == (channels <= rewriting.WIDEST)
    assert ("max_pool" in pooled) == (channels > rewriting.WIDEST)
    assert assert_same(nn.Sequential(layers[0]).double(), inputs) == []


class Returning(nn.Module):
    """Uses what lies between convolution and pooling elsewhere, or the indices."""

    def __init__(self, what):
        super().__init__()
        self.what = what
        self.convolution = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, inputs):
        before = self.convolution(inputs)
        after = before.relu()
        pooled, index = functional.max_pool2d_with_indices(after, 2)
        match self.what:
            case "convolution":
                return pooled.flatten(1).sum(1) + before.flatten(1).sum(1)
            case "ReLU":
                return pooled.flatten(1).sum(1) + after.flatten(1).sum(1)
            case "indices":
                return functional.max_unpool2d(pooled, index, 2)
            case "pooled twice":
                return pooled + functional.max_pool2d(after, 2) ** 2
            case "weight twice":
                return functional.max_pool2d(self.convolution(before.mean(1, keepdim=True)), 2)
            case "same twice":
                return self.convolution(inputs) * before


@pytest.mark.parametrize("what", ["convolution", "ReLU", "indices", "pooled twice", "weight twice", "same twice"])
def test_what_else_uses_a_value_gets_it(what):
    assert_same(Returning(what).double(), images(3, 1, 8, 8))


FALL_BACK = {
    "dilation": nn.Conv2d(1, 2, 3, dilation=2),
    "groups": nn.Conv2d(2, 4, 3, groups=2),
    "transposed": nn.ConvTranspose2d(1, 2, 3),
    "one dimension": nn.Sequential(nn.Flatten(2), nn.Conv1d(1, 2, 3)),
    "three dimensions": nn.Sequential(nn.Unflatten(1, (1, 1)), nn.Conv3d(1, 2, (1, 3, 3))),
    "overlapping pooling": nn.MaxPool2d(3, 2),
    "padded pooling": nn.MaxPool2d(2, padding=1),
    "dilated pooling": nn.MaxPool2d(2, dilation=2),
    "pooling of a part": nn.MaxPool2d(3),
    "pooling beyond the edge": nn.MaxPool2d(3, ceil_mode=True),
}


@pytest.mark.parametrize("kind", FALL_BACK)
def test_anything_else_is_left_to_the_library(kind):
    inputs = images(2, 2 if kind == "groups" else 1, 10, 8)
    assert assert_same(nn.Sequential(FALL_BACK[kind]).double(), inputs) == []


def test_columns_that_need_much_memory_are_left_to_the_library(monkeypatch):
    module, inputs = nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2)).double(), images(2, 1, 10, 8)
    columns, matrix, phases = 16 * 12 * 2, 16 * 4 * 2, 4 * 2 * 12 * 2
    monkeypatch.setattr(rewriting, "KEPT_BYTES", (columns + matrix + phases) * 8)
    assert "convolve" in assert_same(module, inputs)
    monkeypatch.setattr(rewriting, "KEPT_BYTES", (columns + matrix + phases) * 8 - 1)
    assert assert_same(module, inputs) == ["max_pool"]


@pytest.mark.parametrize(("kernel", "pool", "ours"), [(5, 2, True), (3, 2, True), (2, 2, False), (5, 3, False)])
def test_a_window_that_is_mostly_zeros_is_left_to_the_library(kernel, pool, ours):
    module = nn.Sequential(nn.Conv2d(1, 2, kernel), nn.MaxPool2d(pool)).double()
    size = 6 + kernel - 1
    assert ("convolve" in assert_same(module, images(2, 1, size, size))) == ours


@pytest.mark.parametrize(("pool", "ours"), [((4, 4), True), ((1, 1), False), ((4, 5), False), ((8, 10), False)])
def test_pooling_over_many_positions_or_one_is_left_to_the_library(pool, ours):
    module = nn.Sequential(nn.Tanh(), nn.MaxPool2d(pool), nn.ELU(inplace=True))
    assert (assert_same(module, images(2, 3, 8, 20)) == ["max_pool"]) == ours


ACTIVATIONS = {
    "ReLU before pooling": [nn.ReLU(), nn.MaxPool2d(2)],
    "ReLU in place": [nn.ReLU(inplace=True), nn.MaxPool2d(2)],
    "ReLU after pooling": [nn.MaxPool2d(2), nn.ReLU()],
    "none": [nn.MaxPool2d(2)],
    "Tanh": [nn.Tanh(), nn.MaxPool2d(2)],
    "BatchNorm": [nn.BatchNorm2d(3, track_running_stats=False), nn.ReLU(), nn.MaxPool2d(2)],
    "pooling by rows": [nn.ReLU(), nn.MaxPool2d((2, 1)), nn.MaxPool2d((1, 3))],
}


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_any_activation_between_convolution_and_pooling(kind):
    module = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), *ACTIVATIONS[kind], nn.Conv2d(3, 2, 2), nn.Flatten())
    used = assert_same(module.double(), images(4, 1, 12, 12))
    assert ("convolve" in used) == (kind not in ("Tanh", "BatchNorm"))
    assert ("max_pool" in used) == (kind in ("Tanh", "BatchNorm", "pooling by rows"))


WRITING = {
    "to what was pooled": lambda h: functional.max_pool2d(h.relu(), 2).add_(h[:, :, ::2, ::2] * 2),
    "to what is pooled": lambda h: written_between(h * 1),
    "to another view": lambda h: written_through_a_view(h * 1),
    "through a view": lambda h: h.view(-1).mul_(2).view(h.shape) + h,
    "to its only name": lambda h: [h, h.view(-1).mul_(2)][0],
    "to a part": lambda h: [h, h[:, :, ::2].zero_()][0],
    "after a pooling of nothing": lambda h: [functional.max_pool2d(h, 1).mul_(2), h][0],
    "to the batch": lambda h: functional.max_pool2d(h, 2).transpose(0, 1).mul_(3),
}


def written_between(source):
    after = source.relu()
    source += 1
    return functional.max_pool2d(after, 2) + functional.max_pool2d(source, 2)


def written_through_a_view(source):
    view = source.transpose(2, 3)
    view.relu_()
    return functional.max_pool2d(view, 2).transpose(2, 3) + source[:, :, ::2, ::2]


READING = {
    "attention": lambda h: attended(h.flatten(2)[:, None]),
    "contiguous": lambda h: h.contiguous().as_strided((2, 5), (7, 3)),
    "as strided": lambda h: h.as_strided((4, 3), (5, 2)),
    "viewed as numbers": lambda h: torch.view_as_complex(h.contiguous().view(-1, 2)).abs(),
    "random": lambda h: h.sin().cumsum(2).softmax(1),
    "normalised": lambda h: functional.layer_norm(functional.group_norm(h, 2), h.shape[2:]),
    "joined": lambda h: torch.cat([h, h.relu()], 1).flatten(1) @ h.reshape(-1)[: h[0].numel() * 2],
    "interpolated": lambda h: functional.interpolate(h, scale_factor=2, mode="bilinear"),
    "permuted": lambda h: h.permute(0, 2, 3, 1).relu().flatten(1),
}


def attended(q):
    return functional.scaled_dot_product_attention(q, q, q)


class After(nn.Module):
    """Does something with what a convolution gives, pooled or not."""

    def __init__(self, function, pooled, **settings):
        super().__init__()
        self.convolution = nn.Conv2d(1, 4, 3, padding=1, **settings)
        self.pooling = nn.MaxPool2d((2, 1)) if pooled else nn.Identity()
        self.function = function

    def forward(self, inputs):
        return self.function(self.pooling(self.convolution(inputs)))


@pytest.mark.parametrize("kind", WRITING)
@pytest.mark.parametrize("bias", [True, False])
def test_what_is_written_to_in_place_is_seen_where_pytorch_would_show_it(kind, bias):
    assert assert_same(After(WRITING[kind], True, bias=bias).double(), images(3, 1, 16, 8))
    assert_same(After(WRITING[kind], False, bias=bias).double(), images(3, 1, 8, 8))


@pytest.mark.parametrize("kind", READING)
def test_every_other_operator_gets_what_it_was_traced_with(kind):
    assert "convolve" in assert_same(After(READING[kind], True).double(), images(3, 1, 16, 8))


def test_a_program_that_writes_to_its_inputs_is_left_alone():
    traced = make_fx(lambda x: functional.max_pool2d(x.mul_(2), 2))(images(2, 1, 4, 4))
    assert with_kernels(traced, [images(2, 1, 4, 4)]) is None


def test_the_program_given_stays_as_it_is():
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2)).double()
    traced, flat = program(module, images(2, 1, 8, 8))
    before = str(traced.graph)
    assert with_kernels(traced, flat) is not None
    assert str(traced.graph) == before


def test_single_precision():
    layers = [nn.Conv2d(1, 3, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)]
    assert "convolve_gradients" in assert_same(nn.Sequential(*layers), images(4, 1, 12, 12).float(), 1e-4)


@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize("window", [(1, 1), (2, 2), (3, 2), (1, 4)])
def test_pooling_takes_the_first_of_equals(window, indexed):
    rows = torch.randint(3, (5, 2, 6, 8), generator=torch.Generator().manual_seed(0)).float()
    for inputs in (rows, rows.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2)):
        values, index = functional.max_pool2d_with_indices(inputs, window)
        ours, our_index = max_pool(inputs, window, indexed)
        assert torch.equal(ours, values)
        assert torch.equal(our_index, index) if indexed else our_index is None


def test_the_gradient_of_equals_goes_to_the_first(monkeypatch):
    """Blank images and a kernel of ones: all positions of a window are equal."""
    monkeypatch.setattr(rewriting, "LARGEST_WINDOW", 4)
    module = nn.Sequential(nn.Conv2d(1, 2, 1), nn.MaxPool2d(2)).double()
    for inputs in (torch.zeros(2, 1, 4, 4), images(2, 1, 4, 4).round(), torch.ones(2, 1, 4, 4)):
        assert "convolve" in assert_same(module, inputs.double())


@pytest.mark.parametrize("what", [float("nan"), float("inf")])
def test_what_is_not_finite_is_not_lost(what):
    module = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)).double()
    nn.init.constant_(module[0].weight, what)
    traced, flat = program(module, images(2, 1, 4, 4))
    for actual, expected in zip(with_kernels(traced, flat)(*flat), traced(*flat), strict=True):
        assert not actual[~expected.isfinite()].isfinite().any()


@pytest.mark.parametrize("where", list(itertools.product((0, 1), (0, 1))))
def test_pooling_takes_the_index_of_nan_as_the_library(where):
    rows = torch.arange(4.0).view(2, 2).clone()
    rows[where] = torch.nan
    rows = torch.stack([rows, rows.flip(1)])[None]
    values, index = functional.max_pool2d_with_indices(rows, 2)
    ours, our_index = max_pool(rows, (2, 2), True)
    torch.testing.assert_close(ours, values, equal_nan=True)
    assert torch.equal(our_index, index)


def test_an_infinite_gradient_is_infinite_in_one_place():
    gradient = torch.tensor([[1.0, torch.inf]])
    phases = torch.tensor([[[1.0, 2.0]], [[1.0, 3.0]]])
    expected = torch.tensor([[[1.0, 0.0]], [[0.0, torch.inf]]])
    assert torch.equal(_to_largest(gradient, phases, phases.amax(0)), expected)


def test_what_is_computed_may_be_written_to():
    module = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, bias=False), nn.MaxPool2d(2), nn.ELU(inplace=True))
    assert "convolve" in assert_same(module.double(), images(4, 1, 8, 8))


def test_lenet5_uses_them_throughout():
    assert sorted(assert_same(lenet5(dropout=0).double(), images(4, 1, 28, 28))) == sorted(
        ["convolve", "convolve_gradients"] * 2
    )


def test_orls_network_uses_them_where_pooling_leaves_a_row_out():
    module = orl_cnn(dropout=0, image_size=(28, 23)).double()
    assert sorted(assert_same(module, images(4, 1, 28, 23))) == ["convolve", "convolve_gradients"]


def test_a_view_of_what_lies_otherwise_in_memory():
    class Viewing(nn.Sequential):
        def forward(self, inputs):
            return super().forward(inputs).view(-1, 8)

    assert "convolve" in assert_same(Viewing(nn.Conv2d(1, 2, 3), nn.MaxPool2d((2, 1))).double(), images(4, 1, 10, 6))
