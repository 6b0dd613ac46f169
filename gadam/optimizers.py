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
    """Changes named parameters in place, step by step."""

    def step(self, gradients: Mapping[str, Tensor]) -> None:
        """One step with the gradients of all parameters, in their order."""

    def state(self) -> dict[str, Tensor]:
        """Its tensors, as "<state>/<parameter>"."""


def make_optimizer(config: GadamConfig, parameters: list[Tensor]) -> torch.optim.Optimizer:
    """The optimizer of a config: Adam as in Eq. 2, or one of Table 1's: torch's defaults, momentum 0.9 for SGDM."""
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
    """The optimizer of a config for stacked parameters, going on from a state of it, or from none if that is empty."""
    kinds = {(entry.dtype, entry.device) for entry in parameters.values()}
    if config.optimizer == "adam" and len(kinds) == 1 and _can_fuse(*next(iter(kinds))):
        return FusedAdam(config, parameters, state)
    return _Torch(config, parameters, state)


def state_of(optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An optimizer's tensors, as "<state>/<parameter>", the same ones for every parameter.

    A parameter that no loss depended on has none yet, and gets what all of them start from: zeros.
    """
    states = [optimizer.state[entry] for entry in parameters.values()]
    kept = {key: value for key, value in next(filter(None, states), {}).items() if isinstance(value, Tensor)}
    return {
        f"{key}/{name}": state[key] if key in state else torch.zeros_like(like if key == "step" else entry)
        for (name, entry), state in zip(parameters.items(), states, strict=True)
        for key, like in kept.items()
    }


def load_state(optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """The inverse of `state_of`."""
    for key, value in state.items():
        kind, _, name = key.partition("/")
        optimizer.state[parameters[name]][kind] = value.clone()


class _Torch:
    """One of torch.optim."""

    def __init__(self, config: GadamConfig, parameters: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
        self._parameters = parameters
        self._optimizer = make_optimizer(config, list(parameters.values()))
        load_state(self._optimizer, parameters, state)

    def step(self, gradients: Mapping[str, Tensor]) -> None:
        for name, entry in self._parameters.items():
            entry.grad = gradients[name]
        self._optimizer.step()
        for entry in self._parameters.values():
            entry.grad = None

    def state(self) -> dict[str, Tensor]:
        return state_of(self._optimizer, self._parameters)


class FusedAdam:
    """torch.optim.Adam(fused=True), without what it does before the kernel at each step: a third of a millisecond."""

    def __init__(self, config: GadamConfig, parameters: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
        self._parameters = parameters
        self._first, self._second = (
            {
                name: state[f"{kind}/{name}"].clone() if state else torch.zeros_like(entry)
                for name, entry in parameters.items()
            }
            for kind in ("exp_avg", "exp_avg_sq")
        )
        some = next(iter(parameters))
        # All parameters have taken as many steps as one of them.
        zero = torch.zeros((), dtype=torch.float32, device=parameters[some].device)
        self._steps = state[f"step/{some}"].clone() if state else zero
        self._config = config
        lists = (list(each.values()) for each in (parameters, self._first, self._second))
        self._entries, *moments = lists
        self._tensors = *moments, list[Tensor](), [self._steps] * len(parameters)

    def step(self, gradients: Mapping[str, Tensor]) -> None:  # noqa: D102
        config = self._config
        self._steps += 1
        torch._fused_adam_(
            self._entries, list(gradients.values()), *self._tensors, lr=config.learning_rate,
            beta1=config.betas[0], beta2=config.betas[1], weight_decay=0.0, eps=config.epsilon, amsgrad=False,
            maximize=False,
        )  # fmt: skip

    def state(self) -> dict[str, Tensor]:  # noqa: D102
        kinds = {"step": dict.fromkeys(self._parameters, self._steps), "exp_avg": self._first}
        return {
            f"{kind}/{name}": entry
            for kind, entries in (kinds | {"exp_avg_sq": self._second}).items()
            for name, entry in entries.items()
        }


def _can_fuse(dtype: torch.dtype, device: torch.device) -> bool:
    return dtype.is_floating_point and device.type in ("cpu", "cuda")
