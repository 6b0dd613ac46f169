"""Fitness, selection, crossover, mutation and survival: equations 7-13 of Zhang and Gouza, "GADAM" (arXiv 1805.07500).

Pure functions on tensors. A population's entries are a dict of tensors with a leading unit dimension, `[g, ...]`;
losses are means over a batch, `[g]`, and lower is fitter; `normalized` are in [0, 1], 0 the fittest; `parents` are
int64 `[pairs, 2]`; and `inheritance`, `[pairs]`, is the probability of the first of them. Randomness comes only
through the `generator` given, which must live on the device of the tensors. Nothing is changed in place. Every function
raises `InputError` for an argument that it cannot use. That rates and inheritance lie in [0, 1] is checked on a CPU
only; on a GPU it would force a synchronisation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import torch
from torch import Generator, Tensor

from gadam.config import InputError, Mutation
from gadam.display import describe_tensor
from gadam.types import Tensors
from gadam.validation import check_choice, check_kind, check_number, check_share, check_whole


def normalize_losses(losses: Tensor) -> Tensor:
    """Min-max normalisation into [0, 1], 0 the fittest, which Section 3.3.1 asks for and leaves open.

    All equal gives all 0; NaN and infinities become 1, the least fit.
    """
    _check_row("losses", losses)
    finite = losses.isfinite()
    if not finite.any():
        return torch.ones_like(losses)
    low, high = losses[finite].min(), losses[finite].max()
    # Halved before the difference is taken, which could otherwise overflow.
    spread = high / 2 - low / 2
    normalized = ((losses / 2 - low / 2) / spread).clamp(0, 1) if spread > 0 else torch.zeros_like(losses)
    return torch.where(finite, normalized, 1.0)


def selection_probabilities(normalized: Tensor, eligible: Tensor | None = None) -> Tensor:
    """Return each unit's probability to be drawn as a parent (Eq. 8): a softmax of the negative normalised losses.

    A unit that is not eligible, bool [g], has probability 0 while one is.
    """
    _check_row("normalized", normalized)
    if eligible is not None:
        if not (isinstance(eligible, Tensor) and eligible.dtype == torch.bool and eligible.shape == normalized.shape):
            raise InputError(f"eligible: is {_kind(eligible)}, must be bool [{len(normalized)}] or None")
        if eligible.any():
            normalized = normalized.masked_fill(~eligible, torch.inf)
    return torch.softmax(-normalized, dim=0)


def select_parents(probabilities: Tensor, pairs: int, *, generator: Generator) -> Tensor:
    """Draw pairs of parents, int64 [pairs, 2], with replacement (Section 3.3.1); a unit may be paired with itself."""
    _check_row("probabilities", probabilities)
    # Checked on a GPU too, where `multinomial` of a bad value would end every further computation of the process.
    if not (bool((probabilities >= 0).all()) and 0 < float(probabilities.sum()) < float("inf")):
        found = f"{float(probabilities.min()):g} to {float(probabilities.max()):g}"
        raise InputError(f"probabilities: range from {found}, must be finite, at least 0, and not all 0")
    check_whole("pairs", pairs, 1)
    check_kind("generator", generator, Generator, "a torch.Generator")
    return torch.multinomial(probabilities, 2 * pairs, replacement=True, generator=generator).view(pairs, 2)


def inheritance_probabilities(normalized: Tensor, parents: Tensor) -> Tensor:
    """Return the probability that an entry of a child comes from the first of its parents (Eq. 10).

    It is [pairs] in (0, 1), above 1/2 where the first parent is the fitter.
    """
    _check_row("normalized", normalized)
    _check_parents(parents, len(normalized))
    return torch.softmax(-normalized[parents], dim=1)[:, 0]


def crossover(parameters: Tensors, parents: Tensor, inheritance: Tensor, *, generator: Generator) -> dict[str, Tensor]:
    """Take each entry of a child, name -> [pairs, ...], from one of its two parents, drawn independently (Eq. 9).

    The draws depend on the generator and the shapes alone, so a second call from the same state takes the entries of
    other tensors from the same parents.
    """
    _check_parents(parents, _units_of("parameters", parameters, floats=True))
    _check_probabilities("inheritance", inheritance, len(parents))
    check_kind("generator", generator, Generator, "a torch.Generator")
    first, second = parents[:, 0], parents[:, 1]

    def cross(entries: Tensor) -> Tensor:
        rand = _rand(entries, len(parents), generator)
        return torch.where(rand <= _per_pair(inheritance, rand), entries[first], entries[second])

    return {name: cross(entries) for name, entries in parameters.items()}


def inherit(buffers: Tensors, parents: Tensor, inheritance: Tensor) -> dict[str, Tensor]:
    """Take what crossover must not mix (buffers, frozen parameters) whole, from the parent that gives most entries.

    The paper does not discuss them. An integer counter or a running variance makes sense only as one piece and beside
    the weights it was measured with. The first parent is taken where `inheritance` is at least 1/2: it is the fitter,
    or as fit.
    """
    _check_parents(parents, _units_of("buffers", buffers))
    _check_probabilities("inheritance", inheritance, len(parents))
    giver = torch.where(inheritance >= 0.5, parents[:, 0], parents[:, 1])
    return {name: entries[giver] for name, entries in buffers.items()}


def perturb(values: Tensors, *, generator: Generator) -> dict[str, Tensor]:
    """Multiply each value by a factor from 0.8 to 1.25, drawn log-uniformly, as population-based training does."""
    _units_of("values", values, floats=True)
    check_kind("generator", generator, Generator, "a torch.Generator")
    return {
        name: entries * 1.25 ** (2 * _rand(entries, len(entries), generator) - 1) for name, entries in values.items()
    }


def mutation_rates(base_rate: float, probabilities: Tensor, parents: Tensor) -> Tensor:
    """Return the mutation rate of each child (Eq. 12), in [0, base_rate] (p there): the fitter its parents, the lower.

    It is 0 where a unit paired with itself holds more than half of the probability (Eq. 8).
    """
    check_share("base_rate", base_rate)
    _check_row("probabilities", probabilities)
    _check_parents(parents, len(probabilities))
    return (base_rate * (1 - probabilities[parents].sum(dim=1))).clamp(min=0)


def mutate(
    parameters: Tensors, rates: Tensor, *, generator: Generator, distribution: Mutation = "uniform"
) -> dict[str, Tensor]:
    """Replace entries at random, each with its child's probability in `rates`, [pairs] (Eq. 11).

    Eq. 11 is read with p_q in both indicator functions. New values are from U[0, 1) as it says ("uniform"), or from
    N(0, 0.1^2) ("normal").
    """
    _check_probabilities("rates", rates, _units_of("parameters", parameters, floats=True))
    check_kind("generator", generator, Generator, "a torch.Generator")
    check_choice("distribution", distribution, get_args(Mutation))

    def replace(entries: Tensor) -> Tensor:
        rand = _rand(entries, len(entries), generator)
        if distribution == "uniform":
            fresh = torch.rand(entries.shape, generator=generator, dtype=entries.dtype, device=entries.device)
        else:
            fresh = 0.1 * torch.randn(entries.shape, generator=generator, dtype=entries.dtype, device=entries.device)
        # `<`, not `<=` as in Eq. 11: rand may be 0, and a rate of 0 must mutate nothing.
        return torch.where(rand < _per_pair(rates, rand), fresh, entries)

    return {name: replace(entries) for name, entries in parameters.items()}


def survivors(losses: Tensor, population_size: int) -> Tensor:
    """Select the fittest of parents and children together (Section 3.4): int64 [population_size], fittest first.

    Their losses sum to at most the parents': Theorem 1 (Eq. 14 and 15), which holds on one batch, so `losses`, [n],
    must all be of the same. Equals keep their order, non-finite losses come last.
    """
    _check_row("losses", losses)
    check_whole("population_size", population_size, 1, len(losses))
    ordered = losses.masked_fill(~losses.isfinite(), torch.inf)
    return torch.sort(ordered, stable=True).indices[:population_size]


def has_converged(previous_losses: Tensor, losses: Tensor, threshold: float) -> bool:
    """Tell whether the populations' summed losses differ by at most theta, the stop criterion (Eq. 13).

    Both are [g], each on a validation batch of its own as the paper writes it; `threshold` is theta >= 0.
    """
    _check_row("previous_losses", previous_losses)
    _check_row("losses", losses, len(previous_losses))
    check_number("threshold", threshold, lambda theta: theta >= 0, "a number of at least 0")
    return bool((previous_losses.sum() - losses.sum()).abs() <= threshold)


def _check_row(name: str, values: Any, length: int | None = None) -> None:
    """Refuse anything but a tensor of floats, one for each unit or pair."""
    right = isinstance(values, Tensor) and values.dim() == 1 and values.is_floating_point() and len(values) > 0
    if not right or len(values) != (length or len(values)):
        raise InputError(f"{name}: is {_kind(values)}, must be a tensor of floats [{length or 'g'}]")


def _check_probabilities(name: str, values: Any, length: int | None) -> None:
    """Refuse anything but a number in [0, 1] for each pair; the range is checked on a CPU only."""
    _check_row(name, values, length)
    if values.is_cpu and not bool(((values >= 0) & (values <= 1)).all()):
        found = f"{float(values.min()):g} to {float(values.max()):g}"
        raise InputError(f"{name}: range from {found}, must lie in 0 to 1")


def _check_parents(parents: Any, units: int | None) -> None:
    right = isinstance(parents, Tensor) and parents.dtype == torch.int64 and parents.dim() == 2
    if not (right and parents.shape[1] == 2 and len(parents)):
        raise InputError(f"parents: is {_kind(parents)}, must be int64 [pairs, 2]")
    low, high = int(parents.min()), int(parents.max())
    last = high if units is None else units - 1
    if low < 0 or high > last:
        raise InputError(f"parents: range from {low} to {high}, must lie in 0 to {last}, the last of the units")


def _units_of(name: str, tensors: Any, floats: bool = False) -> int | None:
    """Return how many units stacked tensors have, all as many; None if there is no tensor."""
    if not isinstance(tensors, Mapping):
        raise InputError(f"{name}: is {_kind(tensors)}, must be a dict of tensors [g, ...]")
    units = None
    for key, entries in tensors.items():
        if not (isinstance(entries, Tensor) and entries.dim() and units in (None, len(entries))):
            raise InputError(f"{name}: {key} is {_kind(entries)}, must be a tensor [{units or 'g'}, ...]")
        if floats and not entries.is_floating_point():
            raise InputError(f"{name}: {key} is {_kind(entries)}, must be floats; see genetics.inherit for all else")
        units = len(entries)
    return units


def _kind(value: Any) -> str:
    return describe_tensor(value) if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _rand(entries: Tensor, pairs: int, generator: Generator) -> Tensor:
    """Draw from U[0, 1), to compare with probabilities, for each entry of `pairs` units.

    The draws are float32 at least: bfloat16 has but 256 such numbers, and would mutate far more often than asked.
    """
    shape, dtype = (pairs, *entries.shape[1:]), torch.promote_types(entries.dtype, torch.float32)
    return torch.rand(shape, generator=generator, dtype=dtype, device=entries.device)


def _per_pair(values: Tensor, like: Tensor) -> Tensor:
    """Reshape [pairs] to [pairs, 1, ...], to broadcast against entries."""
    return values.to(like.dtype).view(-1, *[1] * (like.dim() - 1))
