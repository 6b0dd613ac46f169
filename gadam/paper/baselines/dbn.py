"""A deep belief net (Hinton, Osindero and Teh 2006), tuned by backpropagation (Hinton and Salakhutdinov 2006).

Layer by layer a restricted Boltzmann machine learns, without labels, the distribution of what the layer below gives it;
its weights are where a network of logistic units, trained with the labels by Adam, begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from gadam.randomness import stream

_PRETRAINING, _TUNING = range(2)  # purposes of random streams


class Rbm(NamedTuple):
    """A restricted Boltzmann machine of logistic units."""

    weights: Tensor  # [visible, hidden]
    visible_bias: Tensor
    hidden_bias: Tensor

    def up(self, visible: Tensor) -> Tensor:
        """Compute the probability that each hidden unit is on: [n, visible] -> [n, hidden]."""
        return torch.sigmoid(visible @ self.weights + self.hidden_bias)

    def down(self, hidden: Tensor) -> Tensor:
        """Compute the probability that each visible unit is on: [n, hidden] -> [n, visible]."""
        return torch.sigmoid(hidden @ self.weights.T + self.visible_bias)


def deep_belief_net(
    inputs: Tensor, targets: Tensor, test_inputs: Tensor, *, hidden: Sequence[int] = (500, 500, 2_000),
    pretraining_epochs: int = 10, epochs: int = 20, batch_size: int = 128, learning_rate: float = 1e-3, seed: int = 0,
) -> Tensor:  # fmt: skip
    """Learn from training rows [n, *features] and return class probabilities of test rows, float32 [m, classes].

    Rows are scaled by `to_unit_range` and then taken as probabilities of black. `hidden` are the units of each layer,
    by default those of 2006 for MNIST; each layer sees the rows `pretraining_epochs` times (0 leaves its small random
    weights), then all see them with their labels `epochs` times.
    """
    rows, test_rows = (part.flatten(1).float() for part in to_unit_range(inputs, test_inputs))
    generator = stream("cpu", seed, _PRETRAINING)
    machines = pretrain(rows, hidden, epochs=pretraining_epochs, batch_size=batch_size, generator=generator)
    network = _network(machines, classes=int(targets.max()) + 1)
    generator = stream("cpu", seed, _TUNING)
    optimizer = torch.optim.Adam(network.parameters(), learning_rate)
    for _ in range(epochs):
        for batch in torch.randperm(len(rows), generator=generator).split(batch_size):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(rows[batch]), targets[batch]).backward()
            optimizer.step()
    with torch.no_grad():
        return torch.softmax(network(test_rows), 1)


def pretrain(rows: Tensor, hidden: Sequence[int], *, epochs: int, batch_size: int, generator: Generator) -> list[Rbm]:
    """Train a machine for each layer, the lowest first, on the probabilities of the one below.

    `rows` are float32 [n, visible] in [0, 1]; `epochs` are passes over them for each layer.
    """
    machines = []
    for size in hidden:
        machine = new_rbm(rows, size, generator=generator)
        velocity = Rbm(*(torch.zeros_like(part) for part in machine))
        for epoch in range(epochs):
            momentum = 0.5 if epoch < 5 else 0.9  # as in Hinton's practical guide (2010), Section 9
            for batch in torch.randperm(len(rows), generator=generator).split(batch_size):
                machine, velocity = cd1(machine, velocity, rows[batch], momentum=momentum, generator=generator)
        rows = machine.up(rows)
        machines.append(machine)
    return machines


def new_rbm(rows: Tensor, hidden: int, *, generator: Generator) -> Rbm:
    """Draw small weights, and set visible biases that give the mean of the rows (practical guide, Section 8)."""
    weights = 0.01 * torch.randn(rows.shape[1], hidden, generator=generator)
    return Rbm(weights, torch.logit(rows.mean(0), eps=0.01), torch.zeros(hidden))


def cd1(
    machine: Rbm, velocity: Rbm, visible: Tensor, *, momentum: float, rate: float = 0.1, decay: float = 2e-4,
    generator: Generator,
) -> tuple[Rbm, Rbm]:  # fmt: skip
    """Take a step of contrastive divergence, CD-1: towards the data, away from the machine's reconstruction of them.

    `velocity` is of the machine's parts, `visible` float32 [n, visible] in [0, 1]; `decay` pulls weights, not biases,
    towards 0. The generator draws the hidden units. Returns the machine and the velocity after the step.
    """
    hidden = machine.up(visible)
    drawn = torch.bernoulli(hidden, generator=generator)
    again = machine.down(drawn)  # probabilities, not draws, where only statistics are taken: less noise
    hidden_again = machine.up(again)
    direction = Rbm(
        (visible.T @ hidden - again.T @ hidden_again) / len(visible) - decay * machine.weights,
        (visible - again).mean(0),
        (hidden - hidden_again).mean(0),
    )
    velocity = Rbm(*(momentum * old + rate * new for old, new in zip(velocity, direction, strict=True)))
    return Rbm(*(part + change for part, change in zip(machine, velocity, strict=True))), velocity


def to_unit_range(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Move and scale both parts to [0, 1] by the least and greatest value of the training part; test is clamped.

    One scale for all features: of standardised images it gives back the grey values.
    """
    low, high = train.min(), train.max()
    span = (high - low).clamp(min=torch.finfo(train.dtype).tiny)
    return (train - low) / span, ((test - low) / span).clamp(0, 1)


def _network(machines: Sequence[Rbm], classes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for machine in machines:
        layer = nn.utils.skip_init(nn.Linear, *machine.weights.shape)  # draws nothing from the global generator
        layer.weight.data, layer.bias.data = machine.weights.T.contiguous(), machine.hidden_bias.clone()
        layers += [layer, nn.Sigmoid()]
    output = nn.utils.skip_init(nn.Linear, machines[-1].weights.shape[1], classes)
    nn.init.zeros_(output.weight)
    nn.init.zeros_(output.bias)
    return nn.Sequential(*layers, output)
