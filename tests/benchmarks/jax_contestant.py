"""The peers in JAX: the whole training is one compiled program, without Python between the steps."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from workloads import SEED, Ready, Weights, Work


@contextmanager
def jax_units(work: Work, *, one_by_one: bool = False) -> Iterator[Ready]:
    """Train with JAX a model that is an `nn.Sequential` of the layers in `_forward`.

    With `one_by_one` it is a `lax.map` over units of a `lax.scan` over steps, else a `lax.scan` over steps of a `vmap`.
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the others need memory too
    import jax
    import optax

    device = jax.devices("gpu" if work.device.type == "cuda" else "cpu")[0]

    def put(array: torch.Tensor) -> Any:
        return jax.device_put(np.ascontiguousarray(array.cpu().numpy()), device)

    inputs, targets = put(work.inputs), put(work.targets.int())  # JAX counts with 32 bits
    weights = {name: put(tensor) for name, tensor in work.population.parameters.items()}
    layers = dict(work.population.template.named_children())
    adam = optax.adam(1e-3, 0.9, 0.999, 1e-8)  # torch.optim.Adam's defaults
    program = jax.jit(_training(layers, adam, len(work.population), one_by_one))
    batches: dict[int, Any] = {}

    def train(steps: int) -> Weights:
        if steps not in batches:
            index = work.batches(steps).int()
            batches[steps] = put(index.transpose(0, 1) if one_by_one else index)
        with jax.default_device(device), jax.default_matmul_precision("highest"):
            trained = jax.block_until_ready(program(weights, inputs, targets, batches[steps], jax.random.key(SEED)))
        return {name: torch.from_numpy(np.array(array)) for name, array in trained.items()}

    yield train, f"jax {jax.__version__}"


def _training(layers: dict[str, nn.Module], adam: Any, units: int, one_by_one: bool) -> Callable[..., Any]:
    """(weights, inputs, targets, batches, key) -> trained weights; batches are [steps, g, b], or [g, steps, b]."""
    import jax
    import optax
    from jax import lax

    def loss(parameters: Any, inputs: Any, targets: Any, key: Any) -> Any:
        outputs = _forward(layers, parameters, inputs, key)
        return optax.losses.softmax_cross_entropy_with_integer_labels(outputs, targets).mean()

    gradients = jax.grad(loss) if one_by_one else jax.vmap(jax.grad(loss))

    def training(weights: Any, inputs: Any, targets: Any, batches: Any, key: Any) -> Any:
        def step(carry: Any, index: Any) -> Any:
            parameters, state, key = carry
            key, used = jax.random.split(key)
            keys = used if one_by_one else jax.random.split(used, units)
            updates, state = adam.update(gradients(parameters, inputs[index], targets[index], keys), state, parameters)
            return (optax.apply_updates(parameters, updates), state, key), None

        return lax.scan(step, (weights, adam.init(weights), key), batches)[0][0]

    def unit_by_unit(weights: Any, inputs: Any, targets: Any, batches: Any, key: Any) -> Any:
        each = weights, batches, jax.random.split(key, units)
        return lax.map(lambda unit: training(unit[0], inputs, targets, unit[1], unit[2]), each)

    return unit_by_unit if one_by_one else training


def _forward(layers: dict[str, nn.Module], parameters: Any, x: Any, key: Any) -> Any:
    """One unit in training mode on a batch, layer by layer as PyTorch defines them."""
    import jax
    import jax.numpy as jnp
    from jax import lax

    for name, layer in layers.items():
        weight, bias = parameters.get(f"{name}.weight"), parameters.get(f"{name}.bias")
        match layer:
            case nn.Linear():
                x = x @ weight.T + bias
            case nn.Conv2d(padding=(int() as down, int() as across)):
                padding, order = ((down, down), (across, across)), ("NCHW", "OIHW", "NCHW")
                x = lax.conv_general_dilated(x, weight, layer.stride, padding, dimension_numbers=order)
                x = x + bias[:, None, None]
            case nn.MaxPool2d(kernel_size=int() as size, stride=int() as stride):
                x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, size, size), (1, 1, stride, stride), "VALID")
            case nn.ReLU():
                x = jax.nn.relu(x)
            case nn.Flatten():
                x = x.reshape(len(x), -1)
            case nn.Dropout(p=share):
                key, used = jax.random.split(key)
                x = jnp.where(jax.random.bernoulli(used, 1 - share, x.shape), x / (1 - share), 0) if share else x
            case _:
                raise NotImplementedError(f"{layer} has no counterpart in JAX here")
    return x
