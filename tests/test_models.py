import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from gadam import InputError
from gadam.models import MLP_HIDDEN, lenet5, mlp, orl_cnn

MODELS = {
    "lenet5": (lenet5, (1, 28, 28), 10),
    "orl_cnn": (lambda: orl_cnn(hidden=8), (1, 112, 92), 40),
    "orl_cnn of small images": (lambda: orl_cnn(hidden=8, image_size=(28, 23)), (1, 28, 23), 40),
    "mlp": (lambda: mlp(16, 26, MLP_HIDDEN["letter"]), (16,), 26),
}


def size(model):
    return sum(parameter.numel() for parameter in model.parameters())


def test_the_sizes_are_those_of_the_paper():
    assert size(lenet5()) == 61_706
    with torch.device("meta"):
        assert size(orl_cnn()) == 16_439_272
        layers = [layer for layer in orl_cnn() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert [tuple(layer.weight.shape) for layer in layers] == [
        (16, 1, 5, 5),
        (32, 16, 5, 5),
        (1_024, 16_000),
        (40, 1_024),
    ]
    assert MLP_HIDDEN == {"letter": (70, 50), "adult": (30, 20), "yeast": (50, 30)}
    assert size(mlp(16, 26, (70, 50))) == 17 * 70 + 71 * 50 + 51 * 26
    assert size(mlp(3, 2, ())) == 8


def test_dropout_is_on_the_hidden_fully_connected_layers():
    assert [layer.p for layer in lenet5() if isinstance(layer, nn.Dropout)] == [0.2, 0.2]
    assert [layer.p for layer in orl_cnn(hidden=8) if isinstance(layer, nn.Dropout)] == [0.5]


@pytest.mark.parametrize("name", MODELS)
def test_a_population_trains_in_one_call_as_unit_by_unit(name):
    make, shape, classes = MODELS[name]
    torch.manual_seed(0)
    units = [make().eval() for _ in range(2)]
    inputs, targets = torch.randn(2, 3, *shape), torch.randint(classes, (2, 3))
    parameters, buffers = stack_module_state(units)
    assert not buffers

    def loss(parameters, inputs, targets):
        logits = functional_call(units[0], parameters, (inputs,))
        assert logits.shape == (3, classes)
        return nn.functional.cross_entropy(logits, targets)

    step = vmap(grad(loss))
    together = step(parameters, inputs, targets)
    traced = make_fx(step)(parameters, inputs, targets)(parameters, inputs, targets)
    for unit, model in enumerate(units):
        nn.functional.cross_entropy(model(inputs[unit]), targets[unit]).backward()
        for key, parameter in model.named_parameters():
            assert torch.allclose(together[key][unit], parameter.grad, atol=1e-5)
            assert torch.allclose(traced[key][unit], parameter.grad, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: mlp(0, 2, (3,)), "features=0 must be at least 1"),
        (lambda: mlp(2, 2, (3, 0)), r"hidden\[1\]=0 must be at least 1"),
        (lambda: orl_cnn(hidden=0), "hidden=0 must be at least 1"),
    ],
)
def test_a_size_below_one_is_refused(make, complaint):
    with pytest.raises(InputError, match=complaint):
        make()


def test_the_cnn_for_faces_takes_images_down_to_16_pixels_a_side():
    assert orl_cnn(hidden=8, image_size=(16, 17))(torch.zeros(2, 1, 16, 17)).shape == (2, 40)
    for image_size in ((15, 92), (112, 15), (2, 2)):
        with pytest.raises(InputError, match=r"image_size=\(\d+, \d+\) is too small; both sides must be at least 16"):
            orl_cnn(image_size=image_size)
