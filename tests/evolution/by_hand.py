"""A unit's training in one phase of an evolution, by hand: Eq. 2 with decay, schedule and average, entry by entry."""

import math

import torch
import zoo
from evolving import DOUBLE

from gadam.randomness import BATCHES, ROLES, stream

ONE_HOT = torch.nn.functional.one_hot(DOUBLE[1], zoo.CLASSES).double()


def train_by_hand(start, number, config, generation, role, targets=ONE_HOT):
    """Return the parameters of a unit of the population `start` after its phase, and both moments, lists each."""
    draw = stream("cpu", config.seed, BATCHES, generation, ROLES[role], number, 0)
    steps = config.steps_of(role)
    blocks = [torch.randint(zoo.ROWS, (64, config.batch_size), generator=draw) for _ in range(0, steps, 64)]
    rows, unit, (beta1, beta2) = torch.cat(blocks), start.unit(number).train(), config.betas
    rate, decay = (
        float(start.rates[name][number]) if name in start.rates else getattr(config, name)
        for name in ("learning_rate", "weight_decay")
    )
    entries = [entry.detach().clone() for entry in unit.parameters()]
    first, second = (
        [start.moments[f"{kind}/{name}"][number] if start.moments else torch.zeros_like(entry)
         for name, entry in unit.named_parameters()]
        for kind in ("exp_avg", "exp_avg_sq")
    )  # fmt: skip
    lived = int(next(e for n, e in start.moments.items() if n.startswith("step/"))[number]) if start.moments else 0
    averages = [entry.clone() for entry in entries]
    for step in range(1, steps + 1):
        for own, entry in zip(unit.parameters(), entries, strict=True):
            own.data.copy_(entry)
        some = rows[step - 1]
        loss = -(targets[some] * unit(DOUBLE[0][some]).log_softmax(1)).sum(1).mean()
        size, age = rate, lived + step
        if config.schedule == "cosine":
            rising = max(1, round(0.02 * steps))
            share = (step - rising) / max(1, steps - rising + 1)
            size = rate * (step / rising if step <= rising else (1 + math.cos(math.pi * share)) / 2)
        for place, gradient in enumerate(torch.autograd.grad(loss, list(unit.parameters()))):
            first[place] = beta1 * first[place] + (1 - beta1) * gradient
            second[place] = beta2 * second[place] + (1 - beta2) * gradient**2
            mean, square = first[place] / (1 - beta1**age), second[place] / (1 - beta2**age)
            entries[place] = entries[place] * (1 - size * decay) - size * mean / (square.sqrt() + config.epsilon)
            averages[place] += (entries[place] - averages[place]) / (1 + config.average * steps)
    return averages if config.average else entries, first, second


def assert_trained_by_hand(start, end, config, generation, role, targets=None):
    """Units of one population became those of another; `targets` has those of each unit, if they differ."""
    for number in range(len(start)):
        of_unit = ONE_HOT if targets is None else targets[number]
        expected = train_by_hand(start, number, config, generation, role, of_unit)
        names = list(end.parameters)
        found = [end.parameters[name][number] for name in names]
        torch.testing.assert_close(found, expected[0], rtol=1e-8, atol=1e-10)
        assert bool(end.moments) == (config.moments == "carry")
        for kind, theirs in zip(("exp_avg", "exp_avg_sq"), expected[1:], strict=True):
            kept = [end.moments[f"{kind}/{name}"][number] for name in names if end.moments]
            torch.testing.assert_close(kept, theirs if kept else [], rtol=1e-8, atol=1e-12)
