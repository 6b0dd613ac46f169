"""The unit models of Section 5: LeNet-5, the CNN for ORL and the MLPs, as plain PyTorch modules."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from gadam.config import InputError
from gadam.display import shown
from gadam.validation import check_share, check_whole

MLP_HIDDEN: dict[str, tuple[int, ...]] = {"letter": (70, 50), "adult": (30, 20), "yeast": (50, 30)}
"""Hidden layers for each table of Section 5.4, which omits them: those of the gcForest paper (arXiv 1702.08835)."""


def lenet5(dropout: float = 0.2) -> nn.Sequential:
    """LeNet-5 with dropout on its fully connected layers (Section 5.1): [n, 1, 28, 28] to logits [n, 10].

    It has 61,706 parameters. Unlike the network of 1998 it has ReLU for the scaled tanh, max-pooling for subsampling
    with learned coefficients, a second convolution that sees all six maps, and a linear output for the radial basis
    functions; images stay 28 x 28 and are padded by 2 to what was a frame of 32 x 32. `dropout`, in [0, 1], is the
    share of the 120 and of the 84 hidden units that is dropped.
    """
    check_share("dropout", dropout)
    return nn.Sequential(
        *_convolution(1, 6, padding=2), *_convolution(6, 16), nn.Flatten(), *_hidden(16 * 5 * 5, 120, dropout),
        *_hidden(120, 84, dropout), nn.Linear(84, 10),
    )  # fmt: skip


def orl_cnn(
    dropout: float = 0.5, hidden: int = 1_024, classes: int = 40, image_size: tuple[int, int] = (112, 92)
) -> nn.Sequential:
    """The CNN of Section 5.4 for the ORL faces: [n, 1, *image_size] to logits [n, classes].

    It has 16,439,272 parameters as given. "Two full connection layers with 1024 and 40 hidden units" is read as one
    hidden layer and the 40 outputs. The padding is not given; there is none here, as in LeNet-5.

    Args:
        dropout: share of the hidden units that is dropped, in [0, 1].
        hidden: units of the hidden layer, at least 1; fewer make nearly all of the model that much smaller.
        classes: people, at least 1.
        image_size: height and width, each at least 16; the faces have 112 x 92.
    """
    check_share("dropout", dropout)
    check_whole("hidden", hidden, 1)
    check_whole("classes", classes, 1)
    if not (isinstance(image_size, Sequence) and len(image_size) == 2):
        raise InputError(f"image_size={shown(image_size)} must be two whole numbers, height and width")
    for side in image_size:
        check_whole("image_size", side, 0)
    # Each convolution takes 4 pixels off a side, each pooling halves what is left.
    height, width = (((side - 4) // 2 - 4) // 2 for side in image_size)
    if min(height, width) < 1:
        raise InputError(f"image_size={tuple(image_size)} is too small; both sides must be at least 16")
    return nn.Sequential(
        *_convolution(1, 16), *_convolution(16, 32), nn.Flatten(), *_hidden(32 * height * width, hidden, dropout),
        nn.Linear(hidden, classes),
    )  # fmt: skip


def mlp(features: int, classes: int, hidden: Sequence[int]) -> nn.Sequential:
    """A multilayer perceptron with ReLU (Section 5.4): [n, features] to logits [n, classes], both at least 1.

    `hidden` are the units of each hidden layer, each at least 1; `MLP_HIDDEN` has the paper's.
    """
    check_whole("features", features, 1)
    check_whole("classes", classes, 1)
    if not isinstance(hidden, Sequence):
        raise InputError(f"hidden={shown(hidden)} must be a list of whole numbers, one for each layer")
    for layer, size in enumerate(hidden):
        check_whole(f"hidden[{layer}]", size, 1)
    layers: list[nn.Module] = []
    for size in hidden:
        layers += [nn.Linear(features, size), nn.ReLU()]
        features = size
    return nn.Sequential(*layers, nn.Linear(features, classes))


def _convolution(channels: int, maps: int, padding: int = 0) -> list[nn.Module]:
    return [nn.Conv2d(channels, maps, 5, padding=padding), nn.ReLU(), nn.MaxPool2d(2)]


def _hidden(features: int, units: int, dropout: float) -> list[nn.Module]:
    return [nn.Linear(features, units), nn.ReLU(), nn.Dropout(dropout)]
