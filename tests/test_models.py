import torch
from torch import nn

from gadam.models import MLP_HIDDEN, lenet5, mlp, orl_cnn


def size(model):
    return sum(parameter.numel() for parameter in model.parameters())


def test_the_sizes_are_those_of_the_paper_and_models_take_what_they_say():
    assert size(lenet5()) == 61_706
    with torch.device("meta"):
        assert size(orl_cnn()) == 16_439_272
        assert orl_cnn()[0].weight.shape == (16, 1, 5, 5)
    assert MLP_HIDDEN == {"letter": (70, 50), "adult": (30, 20), "yeast": (50, 30)}
    assert size(mlp(16, 26, (70, 50))) == 17 * 70 + 71 * 50 + 51 * 26
    assert size(mlp(3, 2, ())) == 8
    for model, rates in (
        (lenet5(), [0.2, 0.2]), (lenet5(0.7), [0.7, 0.7]), (orl_cnn(hidden=8), [0.5]), (orl_cnn(0.1, 8), [0.1]),
    ):  # fmt: skip
        assert [layer.p for layer in model if isinstance(layer, nn.Dropout)] == rates, "on hidden layers"
    assert lenet5()(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    assert orl_cnn(hidden=8, image_size=(16, 17))(torch.zeros(2, 1, 16, 17)).shape == (2, 40)
    assert orl_cnn(hidden=8, classes=7)[-1].out_features == 7
    assert mlp(4, 3, [5])(torch.zeros(2, 4)).shape == (2, 3)
