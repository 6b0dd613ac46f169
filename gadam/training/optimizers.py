"""The optimizers of Table 1: for the module of one unit, and for the stacked parameters of many.

Every one of them is elementwise, so one optimizer on stacked parameters is as many independent ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from gadam.config import GadamConfig


class Stepper(Protocol):
    """Changes stacked parameters in place, step by step."""

    def step(self, gradients: Mapping[str, Tensor]) -> None:
        """One step with the gradients of all parameters, in their order."""

    def state(self) -> dict[str, Tensor]:
        """Its tensors, as "<state>/<parameter>", [g, ...]; "step" is how many steps each unit has lived, [g]."""


def make_optimizer(config: GadamConfig, parameters: list[Tensor]) -> torch.optim.Optimizer:
    """The optimizer of a config, torch's with its defaults.

    "adam" is Adam as in Eq. 2, "sgd" stochastic gradient descent (Eq. 3), "sgdm" that with momentum (Eq. 4), here 0.9,
    "adagrad" and "rmsprop" AdaGrad and RMSProp (Eq. 5); "adadelta" is in Table 1 alone.
    """
    rate = config.learning_rate
    match config.optimizer:
        case "adam":
            return torch.optim.Adam(parameters, lr=rate, betas=config.betas, eps=config.epsilon)
        case "sgd":
            return torch.optim.SGD(parameters, lr=rate)
        case "sgdm":
            return torch.optim.SGD(parameters, lr=rate, momentum=0.9)
        case "rmsprop":
            return torch.optim.RMSprop(parameters, lr=rate)
        case "adagrad":
            return torch.optim.Adagrad(parameters, lr=rate)
        case "adadelta":
            return torch.optim.Adadelta(parameters, lr=rate)


def make_stepper(config: GadamConfig, parameters: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> Stepper:
    """The optimizer of a config for stacked parameters, going on from a state of it, or from none if that is empty.

    Units that carry their moments need not have lived equally long, and Adam's bias correction depends on it.
    """
    kinds = {(entry.dtype, entry.device) for entry in parameters.values()}
    if config.optimizer == "adam" and len(kinds) == 1 and _can_fuse(*next(iter(kinds))):
        ages = next((entry for name, entry in state.items() if name.startswith("step/")), torch.zeros(1))
        return (
            FusedAdam(config, parameters, state)
            if bool((ages == ages[0]).all())
            else _AgedAdam(config, parameters, state)
        )
    if config.optimizer == "adam":
        return _AgedAdam(config, parameters, state)
    return _Torch(config, parameters, state)


def state_of(optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An optimizer's tensors, as "<state>/<parameter>", the same ones for every parameter.

    A parameter that no loss depended on has none yet, and gets what all of them start from: zeros. Some optimizers
    count steps on the CPU; here everything is where the parameter is.
    """
    states = [optimizer.state[entry] for entry in parameters.values()]
    kept = {key: value for key, value in next(filter(None, states), {}).items() if isinstance(value, Tensor)}
    return {
        f"{key}/{name}": (
            state[key].to(entry.device)
            if key in state
            else like.new_zeros(like.shape, device=entry.device)
            if key == "step"
            else torch.zeros_like(entry)
        )
        for (name, entry), state in zip(parameters.items(), states, strict=True)
        for key, like in kept.items()
    }


def load_state(optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """The inverse of `state_of`."""
    for key, value in state.items():
        kind, _, name = key.partition("/")
        optimizer.state[parameters[name]][kind] = value.clone().cpu() if kind == "step" else value.clone()


class _Torch:
    """One of torch.optim whose arithmetic does not depend on the steps taken: those of each unit are counted here."""

    def __init__(self, config: GadamConfig, parameters: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
        self._parameters = parameters
        self._optimizer = make_optimizer(config, list(parameters.values()))
        self._before = {name: entry for name, entry in state.items() if name.startswith("step/")}
        self._taken = 0
        load_state(self._optimizer, parameters, {n: e[0] if n in self._before else e for n, e in state.items()})

    def step(self, gradients: Mapping[str, Tensor]) -> None:
        for name, entry in self._parameters.items():
            entry.grad = gradients[name]
        self._optimizer.step()
        self._taken += 1
        for entry in self._parameters.values():
            entry.grad = None

    def state(self) -> dict[str, Tensor]:
        found = state_of(self._optimizer, self._parameters)
        units = {name: len(entry) for name, entry in self._parameters.items()}
        return {
            name: self._before.get(name, entry.new_zeros(units[name.partition("/")[2]])) + self._taken
            if name.startswith("step/")
            else entry
            for name, entry in found.items()
        }


class _Adam:
    """What both kinds of Adam keep: two moments and the steps that each unit has lived."""

    def __init__(self, config: GadamConfig, parameters: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
        self._config, self._parameters = config, parameters
        self._first, self._second = (
            {
                name: state[f"{kind}/{name}"].clone() if state else torch.zeros_like(entry)
                for name, entry in parameters.items()
            }
            for kind in ("exp_avg", "exp_avg_sq")
        )
        some, entry = next(iter(parameters.items()))
        # All parameters of a unit have taken as many steps.
        none = torch.zeros(len(entry), dtype=torch.float32, device=entry.device)
        self._ages = state[f"step/{some}"].clone() if state else none

    def state(self) -> dict[str, Tensor]:
        kinds = {"step": dict.fromkeys(self._parameters, self._ages), "exp_avg": self._first}
        return {
            f"{kind}/{name}": entry
            for kind, entries in (kinds | {"exp_avg_sq": self._second}).items()
            for name, entry in entries.items()
        }


class FusedAdam(_Adam):
    """torch.optim.Adam(fused=True) for units of one age.

    Without what that does before the kernel at each step, which takes a third of a millisecond.
    """

    def __init__(self, config: GadamConfig, parameters: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
        """Go on from a state of stacked units that have lived equally long, or from none if that is empty."""
        super().__init__(config, parameters, state)
        self._entries = list(parameters.values())
        self._moments = list(self._first.values()), list(self._second.values())

    def step(self, gradients: Mapping[str, Tensor]) -> None:  # noqa: D102
        self._ages += 1
        # A view of the ages: the count of the first unit is that of all.
        counts = [self._ages[0]] * len(self._entries)
        entries, first, second, _ = self.tensors
        take_fused_step(entries, list(gradients.values()), first, second, counts, *self.settings)

    @property
    def tensors(self) -> tuple[list[Tensor], list[Tensor], list[Tensor], Tensor]:
        """What steps change in place: parameters, first and second moments, and ages [g]."""
        return self._entries, *self._moments, self._ages

    @property
    def settings(self) -> tuple[float, ...]:
        """The numbers that a step depends on."""
        return self._config.learning_rate, *self._config.betas, self._config.epsilon


def take_fused_step(
    entries: list[Tensor], gradients: list[Tensor], first: list[Tensor], second: list[Tensor], ages: list[Tensor],
    rate: float, beta1: float, beta2: float, epsilon: float,
) -> list[Tensor]:  # fmt: skip
    """Take Adam's step on parameters and moments in place, with ages that count it already. Returns the parameters."""
    largest: list[Tensor] = []  # of AMSGrad
    torch._fused_adam_(
        entries, gradients, first, second, largest, ages, lr=rate, beta1=beta1, beta2=beta2, weight_decay=0.0,
        eps=epsilon, amsgrad=False, maximize=False,
    )  # fmt: skip
    return entries


class _AgedAdam(_Adam):
    """Adam as in Eq. 2 for units of any ages: torch.optim.Adam's arithmetic, with a bias correction for each unit."""

    def step(self, gradients: Mapping[str, Tensor]) -> None:
        config = self._config
        self._ages += 1
        sizes, roots = (1 - beta ** self._ages.double() for beta in config.betas)
        for name, entry in self._parameters.items():
            gradient, first, second = gradients[name], self._first[name], self._second[name]
            per_unit = (-1, *[1] * (entry.dim() - 1))
            first.lerp_(gradient, 1 - config.betas[0])
            second.mul_(config.betas[1]).addcmul_(gradient, gradient.conj(), value=1 - config.betas[1])
            size = (config.learning_rate / sizes).to(entry.dtype).view(per_unit)
            root = roots.sqrt().to(entry.dtype).view(per_unit)
            entry.sub_(size * first / (second.sqrt() / root + config.epsilon))


def _can_fuse(dtype: torch.dtype, device: torch.device) -> bool:
    return dtype.is_floating_point and device.type in ("cpu", "cuda")
