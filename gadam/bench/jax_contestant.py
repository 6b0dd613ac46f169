"""The peers in JAX: the whole training is one compiled program, without Python between the steps."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from gadam.bench.contestants import Ready, Weights
from gadam.bench.workloads import SEED, Work

RATE, BETA1, BETA2, EPSILON = 1e-3, 0.9, 0.999, 1e-8  # torch.optim.Adam's defaults


@contextmanager
def jax_units(work: Work, *, one_by_one: bool = False) -> Iterator[Ready]:
    """Train with JAX.

    Args:
        work: what to train; the model is an `nn.Sequential` of the layers in `_forward`.
        one_by_one: `lax.map` over units of a `lax.scan` over steps; else `lax.scan` over steps of a `vmap` over units.

    Raises:
        ModuleNotFoundError: there is no JAX.
        RuntimeError: JAX cannot use the device.
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the others need memory too
    import jax

    device = jax.devices("gpu" if work.device.type == "cuda" else "cpu")[0]
    optimizer, note = _optimizer()

    def put(array: torch.Tensor) -> Any:
        return jax.device_put(np.ascontiguousarray(array.cpu().numpy()), device)

    # JAX counts with 32 bits.
    inputs, targets = put(work.inputs), put(work.targets.int())
    weights = {name: put(tensor) for name, tensor in work.population.parameters.items()}
    units = len(work.population)
    program = jax.jit(_training(dict(work.population.template.named_children()), optimizer, units, one_by_one))
    batches: dict[int, Any] = {}

    def train(steps: int) -> Callable[[], Weights]:
        if steps not in batches:
            index = work.batches(steps).int()
            batches[steps] = put(index.transpose(0, 1) if one_by_one else index)
        with jax.default_device(device), jax.default_matmul_precision("highest"):
            trained = jax.block_until_ready(program(weights, inputs, targets, batches[steps], jax.random.key(SEED)))
        return lambda: {name: torch.from_numpy(np.array(array)) for name, array in trained.items()}

    yield Ready(train, f"jax {jax.__version__}{note}")


def _optimizer() -> tuple[tuple[Callable[..., Any], Callable[..., Any]], str]:
    """Adam as (parameters -> state) and (gradients, state, parameters) -> (parameters, state), and a note on it."""
    import jax
    import jax.numpy as jnp

    try:
        import optax  # type: ignore[import-untyped]
    except ModuleNotFoundError:

        def start(parameters: Any) -> Any:
            zeros = jax.tree.map(jnp.zeros_like, parameters)
            return jnp.zeros(()), zeros, zeros

        def update(gradients: Any, state: Any, parameters: Any) -> Any:
            step, first, second = state[0] + 1, state[1], state[2]
            first = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, first, gradients)
            second = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, second, gradients)
            small, large = 1 - BETA1**step, 1 - BETA2**step
            moved = jax.tree.map(
                lambda p, m, v: p - RATE * (m / small) / (jnp.sqrt(v / large) + EPSILON), parameters, first, second
            )
            return moved, (step, first, second)

        return (start, update), ", an Adam of our own: optax is not installed"

    adam = optax.adam(RATE, BETA1, BETA2, EPSILON)

    def step(gradients: Any, state: Any, parameters: Any) -> Any:
        updates, state = adam.update(gradients, state, parameters)
        return optax.apply_updates(parameters, updates), state

    return (adam.init, step), ""


def _training(layers: dict[str, nn.Module], optimizer: Any, units: int, one_by_one: bool) -> Callable[..., Any]:
    """(weights, inputs, targets, batches, key) -> trained weights; batches are [steps, g, b], or [g, steps, b]."""
    import jax
    from jax import lax

    start, update = optimizer

    def loss(parameters: Any, inputs: Any, targets: Any, key: Any) -> Any:
        likelihoods = jax.nn.log_softmax(_forward(layers, parameters, inputs, key))
        return -jax.numpy.take_along_axis(likelihoods, targets[:, None], 1).mean()

    def scan(gradients: Callable[..., Any], split: Callable[[Any], Any]) -> Callable[..., Any]:
        def training(weights: Any, inputs: Any, targets: Any, batches: Any, key: Any) -> Any:
            def step(carry: Any, index: Any) -> Any:
                parameters, state, key = carry
                key, used = jax.random.split(key)
                found = gradients(parameters, inputs[index], targets[index], split(used))
                return (*update(found, state, parameters), key), None

            return lax.scan(step, (weights, start(weights), key), batches)[0][0]

        return training

    if not one_by_one:
        return scan(jax.vmap(jax.grad(loss)), lambda key: jax.random.split(key, units))
    alone = scan(jax.grad(loss), lambda key: key)

    def unit_by_unit(weights: Any, inputs: Any, targets: Any, batches: Any, key: Any) -> Any:
        keys = jax.random.split(key, units)
        return lax.map(lambda unit: alone(unit[0], inputs, targets, unit[1], unit[2]), (weights, batches, keys))

    return unit_by_unit


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
                x = lax.conv_general_dilated(
                    x,
                    weight,
                    layer.stride,
                    ((down, down), (across, across)),
                    dimension_numbers=("NCHW", "OIHW", "NCHW"),
                )
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
