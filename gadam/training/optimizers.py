"""The optimizers of Table 1: for the module of one unit, and for the stacked parameters of many.

Every one of them is elementwise, so one optimizer on stacked parameters is as many independent ones.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.optim import Optimizer

from gadam.config import RATES, GadamConfig
from gadam.types import Tensors

WARM_UP = 0.02
"""Share of the steps of a training over which the schedule \"cosine\" rises."""


def rates_of(config: GadamConfig, own: Tensors) -> tuple[Tensor, Tensor]:
    """Return learning rates and decays, float64: [g] each if `own` has some for each unit, else [1]."""
    rates, decays = (
        own[name].cpu() if name in own else torch.tensor([getattr(config, name)], dtype=torch.float64) for name in RATES
    )
    size = max(len(rates), len(decays))
    return rates.expand(size), decays.expand(size)


def schedule(config: GadamConfig) -> Tensor:
    """Return the factor of the learning rate at each step of a training, float64 [steps]."""
    steps = torch.arange(1, config.steps + 1, dtype=torch.float64)
    if config.schedule == "constant":
        return torch.ones_like(steps)
    warm_up = max(1, round(WARM_UP * config.steps))
    falling = 0.5 + 0.5 * torch.cos(torch.pi * (steps - warm_up) / max(1, config.steps - warm_up + 1))
    return torch.where(steps <= warm_up, steps / warm_up, falling)


def make_optimizer(config: GadamConfig, parameters: list[Tensor], decay: float = 0.0) -> Optimizer:
    """Make the optimizer of a config: torch's, with its defaults and this decay; its rate is set before each step.

    "adam" is Adam as in Eq. 2, "sgd" stochastic gradient descent (Eq. 3), "sgdm" that with momentum (Eq. 4), here 0.9,
    "adagrad" and "rmsprop" AdaGrad and RMSProp (Eq. 5); "adadelta" is in Table 1 alone.
    """
    match config.optimizer:
        case "adam":
            return torch.optim.AdamW(parameters, betas=config.betas, eps=config.epsilon, weight_decay=decay)
        case "sgd":
            return torch.optim.SGD(parameters)
        case "sgdm":
            return torch.optim.SGD(parameters, momentum=0.9)
        case "rmsprop":
            return torch.optim.RMSprop(parameters)
        case "adagrad":
            return torch.optim.Adagrad(parameters)
        case "adadelta":
            return torch.optim.Adadelta(parameters)


def state_of(optimizer: torch.optim.Optimizer, parameters: Tensors) -> dict[str, Tensor]:
    """Return an optimizer's tensors as "<state>/<parameter>", the same states for every parameter.

    A parameter that no loss depended on has none yet, and gets what all of them start from: zeros. Some optimizers
    count steps on the CPU; here everything is where the parameter is.
    """
    states = [optimizer.state[entry] for entry in parameters.values()]
    kept = {key: value for key, value in next(filter(None, states), {}).items() if isinstance(value, Tensor)}
    found = {}
    for (name, entry), state in zip(parameters.items(), states, strict=True):
        for key, like in kept.items():
            value = state[key] if key in state else torch.zeros_like(like if key == "step" else entry)
            found[f"{key}/{name}"] = value.to(entry.device)
    return found


def load_state(optimizer: torch.optim.Optimizer, parameters: Tensors, state: Tensors) -> None:
    """Put back into an optimizer what `state_of` returned."""
    for key, value in state.items():
        kind, _, name = key.partition("/")
        optimizer.state[parameters[name]][kind] = value.clone().cpu() if kind == "step" else value.clone()


class _Torch:
    """An optimizer of torch.optim on stacked parameters, with one learning rate for all units; used like `Adam`.

    torch counts one number of steps for all, here the first unit's, so its update must not depend on that number;
    `state` has each unit's own.
    """

    def __init__(self, config: GadamConfig, parameters: Tensors, state: Tensors, own: Tensors) -> None:
        self._parameters, self._rates = parameters, rates_of(config, own)[0]
        self._optimizer = make_optimizer(config, list(parameters.values()))
        self._before = {name: entry for name, entry in state.items() if name.startswith("step/")}
        load_state(self._optimizer, parameters, {n: e[0] if n in self._before else e for n, e in state.items()})

    def step(self, gradients: Tensors, factor: Tensor) -> None:
        for name, entry in self._parameters.items():
            entry.grad = gradients[name]
        self._optimizer.param_groups[0]["lr"] = float(self._rates * factor)
        self._optimizer.step()
        for entry in self._parameters.values():
            entry.grad = None

    def state(self) -> dict[str, Tensor]:
        found = state_of(self._optimizer, self._parameters)
        for name, entry in self._parameters.items():
            if (step := f"step/{name}") in found:
                before = self._before.get(step, found[step].new_zeros(len(entry)))
                found[step] = before + (found[step] - before[0])
        return found


class Adam:
    """Adam as in Eq. 2 for units of any ages: torch.optim.AdamW's arithmetic, with a bias correction for each unit."""

    def __init__(self, config: GadamConfig, parameters: Tensors, state: Tensors, own: Tensors) -> None:
        """Change `parameters`, stacked, in place; go on from a state, or anew if that is empty.

        `own` are the rates of units that have some, see `Population`.
        """
        self.config, self.parameters = config, parameters
        self.rates, self.decays = rates_of(config, own)
        self._first, self._second = (
            {name: state[f"{kind}/{name}"].clone() if state else torch.zeros_like(e) for name, e in parameters.items()}
            for kind in ("exp_avg", "exp_avg_sq")
        )
        some, entry = next(iter(parameters.items()))  # all parameters of a unit have taken as many steps
        fresh = torch.zeros(len(entry), dtype=torch.float32, device=entry.device)
        self._ages = state[f"step/{some}"].clone() if state else fresh

    def step(self, gradients: Tensors, factor: Tensor) -> None:
        """Take a step with the gradients of all parameters, in their order, and this factor, [], of the rates."""
        config = self.config
        self._ages += 1
        rates, decays = self.rates * factor, self.decays
        sizes, roots = (1 - beta ** self._ages.double() for beta in config.betas)
        for name, entry in self.parameters.items():
            gradient, first, second = gradients[name], self._first[name], self._second[name]
            per_unit = (-1, *[1] * (entry.dim() - 1))
            first.lerp_(gradient, 1 - config.betas[0])
            second.mul_(config.betas[1]).addcmul_(gradient, gradient, value=1 - config.betas[1])
            size = (rates.to(sizes.device) / sizes).to(entry.dtype).view(per_unit)
            if bool(decays.any()):
                entry.mul_((1 - rates * decays).to(entry).view(per_unit))
            root = roots.sqrt().to(entry.dtype).view(per_unit)
            entry.sub_(size * first / (second.sqrt() / root + config.epsilon))

    def state(self) -> dict[str, Tensor]:
        """Return its tensors as "<state>/<parameter>", [g, ...]; "step", [g], counts the steps of each unit."""
        ages = dict.fromkeys(self.parameters, self._ages)
        kinds = {"step": ages, "exp_avg": self._first, "exp_avg_sq": self._second}
        return {f"{kind}/{name}": entry for kind, entries in kinds.items() for name, entry in entries.items()}


class FusedAdam(Adam):
    """Fused Adam for units that have taken as many steps: the kernel of torch.optim.AdamW(fused=True), called directly.

    torch's own checks and lists before the kernel would take a third of a millisecond at each step.

    Attributes:
        rate: the learning rate of all units; 1 where they have their own.
        settings: the decay of all units (0 where they have their own), both betas and epsilon.
    """

    def __init__(self, config: GadamConfig, parameters: Tensors, state: Tensors, own: Tensors) -> None:
        super().__init__(config, parameters, state, own)
        self._entries = list(parameters.values())
        self._moments = list(self._first.values()), list(self._second.values())
        # Lists for units with rates of their own, else empty: `_updates` takes the kernel's step for rate 1; `_own` are
        # the rates and `_decays` the rates times decays, each [g, 1, ...] to broadcast against a parameter.
        rates, decays = self.rates, self.decays
        apart = len(rates) > 1
        self.rate, decay = (1.0, 0.0) if apart else (float(rates), float(decays))
        self.settings = (decay, *config.betas, config.epsilon)
        self._updates = [torch.zeros_like(entry) for entry in self._entries] if apart else []
        self._own, self._decays = (
            [one.to(entry).view(-1, *[1] * (entry.dim() - 1)) for entry in self._entries] if wanted else []
            for one, wanted in ((rates, apart), (rates * decays, apart and bool(decays.any())))
        )

    def step(self, gradients: Tensors, factor: Tensor) -> None:  # noqa: D102
        self._ages += 1
        given: list[Any] = [list(gradients.values()), *self.tensors, self.rate * factor, *self.settings]
        take_fused_step(*given)

    @property
    def tensors(self) -> tuple[Any, ...]:
        """Arguments of `take_fused_step` between gradients and rate: lists of tensors, then ages [g]."""
        return self._entries, *self._moments, self._updates, self._own, self._decays, self._ages


def take_fused_step(
    gradients: list[Tensor], entries: list[Tensor], first: list[Tensor], second: list[Tensor], updates: list[Tensor],
    rates: list[Tensor], decays: list[Tensor], ages: Tensor, rate: Tensor,
    decay: float, beta1: float, beta2: float, epsilon: float,
) -> list[Tensor]:  # fmt: skip
    """Take Adam's step on parameters and moments in place, with ages [g] that count it already. Returns the parameters.

    `first` and `second` are the moments, `ages` float32 [g], and `rate`, float64 [], is the learning rate at this step.
    Units of one rate and decay have `decay`, and the other lists are empty. Those with rates of their own, of which
    `rate` is then the factor, have `rates`, [g, 1, ...] for each parameter, `decays`, rates times decays, where any
    decays, and `updates` like the parameters to write to.
    """
    largest: list[Tensor] = []  # AMSGrad's, which is off
    counts = [ages[0]] * len(entries)
    if len(updates) == 0:
        torch._fused_adamw_(
            entries, gradients, first, second, largest, counts, lr=float(rate), beta1=beta1, beta2=beta2,
            weight_decay=decay, eps=epsilon, amsgrad=False, maximize=False,
        )  # fmt: skip
        return entries
    # The kernel has one rate for all that it is given: with rate and decay 1 it writes Adam's direction.
    torch._fused_adamw_(
        updates, gradients, first, second, largest, counts, lr=1.0, beta1=beta1, beta2=beta2,
        weight_decay=1.0, eps=epsilon, amsgrad=False, maximize=False,
    )  # fmt: skip
    now = float(rate)
    for index in range(len(entries)):
        if len(decays) > 0:
            entries[index].addcmul_(entries[index], decays[index], value=-now)
        entries[index].addcmul_(updates[index], rates[index], value=now)
    return entries


Stepper: TypeAlias = Adam | _Torch
"""Changes stacked parameters in place, step by step."""


def make_stepper(config: GadamConfig, parameters: Tensors, state: Tensors, own: Tensors) -> Stepper:
    """Make the optimizer of a config for stacked parameters, going on from `state`, or anew if that is empty.

    Units that carry their moments may have taken different numbers of steps, and Adam's bias correction depends on
    them: only units of one age take a fused step. All optimizers but Adam are torch's.
    """
    if config.optimizer != "adam":
        return _Torch(config, parameters, state, own)
    kinds = {(entry.dtype, entry.device.type) for entry in parameters.values()}
    ages = next((entry for name, entry in state.items() if name.startswith("step/")), torch.zeros(1))
    fuses = len(kinds) == 1 and next(iter(kinds))[1] in ("cpu", "cuda") and bool((ages == ages[0]).all())
    return (FusedAdam if fuses else Adam)(config, parameters, state, own)
