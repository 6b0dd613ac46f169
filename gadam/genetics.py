"""Fitness, selection, crossover, mutation and survival: equations 7-13 of Zhang and Gouza, "GADAM" (arXiv 1805.07500).

Pure functions on tensors. A population's entries are a dict of tensors with a leading unit dimension, `[g, ...]`;
losses are means over a batch, `[g]`, and lower is fitter. Randomness comes only through the `generator` given, which
must live on the device of the tensors. Nothing is changed in place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Generator, Tensor


def normalize_losses(losses: Tensor) -> Tensor:
    """Min-max normalisation into [0, 1], which Section 3.3.1 asks for and leaves open.

    Args:
        losses: [g], any values.

    Returns:
        [g] in [0, 1], 0 the fittest. All equal gives all 0; NaN and infinities become 1, the least fit.
    """
    finite = losses.isfinite()
    if not finite.any():
        return torch.ones_like(losses)
    low, high = losses[finite].min(), losses[finite].max()
    # Halved before the difference is taken, which could otherwise overflow.
    spread = high / 2 - low / 2
    normalized = ((losses / 2 - low / 2) / spread).clamp(0, 1) if spread > 0 else torch.zeros_like(losses)
    return torch.where(finite, normalized, 1.0)


def selection_probabilities(normalized: Tensor, eligible: Tensor | None = None) -> Tensor:
    """Probability of each unit to be drawn as a parent (Eq. 8): a softmax of the negative normalised losses.

    Args:
        normalized: [g] in [0, 1].
        eligible: [g] bool; a unit that is not has probability 0 while one is. None: all are.

    Returns:
        [g], summing to 1.
    """
    if eligible is not None and eligible.any():
        normalized = normalized.masked_fill(~eligible, torch.inf)
    return torch.softmax(-normalized, dim=0)


def select_parents(probabilities: Tensor, pairs: int, *, generator: Generator) -> Tensor:
    """Draw pairs of parents with replacement (Section 3.3.1); a unit may be paired with itself.

    Returns:
        int64 [pairs, 2].
    """
    return torch.multinomial(probabilities, 2 * pairs, replacement=True, generator=generator).view(pairs, 2)


def inheritance_probabilities(normalized: Tensor, parents: Tensor) -> Tensor:
    """Probability that an entry of a child comes from the first of its parents (Eq. 10).

    Args:
        normalized: [g] in [0, 1].
        parents: int64 [pairs, 2].

    Returns:
        [pairs] in (0, 1), above 1/2 where the first parent is the fitter.
    """
    return torch.softmax(-normalized[parents], dim=1)[:, 0]


def crossover(
    parameters: Mapping[str, Tensor], parents: Tensor, inheritance: Tensor, *, generator: Generator
) -> dict[str, Tensor]:
    """Each entry of a child from one of its two parents, drawn independently (Eq. 9).

    Args:
        parameters: name -> [g, ...].
        parents: int64 [pairs, 2].
        inheritance: [pairs], probability of the first parent.
        generator: the stream.

    Returns:
        name -> [pairs, ...]. The draws depend on the generator and the shapes alone, so a second call from the same
        state takes the entries of other tensors from the same parents.
    """
    first, second = parents[:, 0], parents[:, 1]

    def cross(entries: Tensor) -> Tensor:
        rand = _rand(entries, len(parents), generator)
        return torch.where(rand <= _per_pair(inheritance, rand), entries[first], entries[second])

    return {name: cross(entries) for name, entries in parameters.items()}


def inherit(buffers: Mapping[str, Tensor], parents: Tensor, inheritance: Tensor) -> dict[str, Tensor]:
    """What crossover must not mix (buffers, frozen parameters): whole, from the parent that gives most entries.

    The paper does not discuss them. An integer counter or a running variance makes sense only as one piece and beside
    the weights it was measured with.

    Args:
        buffers: name -> [g, ...], any dtype.
        parents: int64 [pairs, 2].
        inheritance: [pairs]; the first parent is taken where it is at least 1/2.

    Returns:
        name -> [pairs, ...].
    """
    giver = torch.where(inheritance >= 0.5, parents[:, 0], parents[:, 1])
    return {name: entries[giver] for name, entries in buffers.items()}


def mutation_rates(base_rate: float, probabilities: Tensor, parents: Tensor) -> Tensor:
    """Mutation rate of each child (Eq. 12): the fitter its parents, the lower.

    Args:
        base_rate: p, in [0, 1].
        probabilities: [g] of Eq. 8.
        parents: int64 [pairs, 2].

    Returns:
        [pairs] in [0, base_rate]; 0 where a unit paired with itself holds more than half of the probability.
    """
    return (base_rate * (1 - probabilities[parents].sum(dim=1))).clamp(min=0)


def mutate(
    parameters: Mapping[str, Tensor],
    rates: Tensor,
    *,
    generator: Generator,
    distribution: Literal["uniform", "normal"] = "uniform",
) -> dict[str, Tensor]:
    """Replace entries at random (Eq. 11, read with p_q in both indicator functions).

    Args:
        parameters: name -> [pairs, ...].
        rates: [pairs], probability that an entry is replaced.
        generator: the stream.
        distribution: "uniform" draws new values from U[0, 1) as Eq. 11 says, "normal" from N(0, 0.1^2).

    Returns:
        name -> [pairs, ...].
    """

    def replace(entries: Tensor) -> Tensor:
        rand = _rand(entries, len(entries), generator)
        if distribution == "uniform":
            fresh = _rand(entries, len(entries), generator)
        else:
            fresh = 0.1 * torch.randn(entries.shape, generator=generator, dtype=entries.dtype, device=entries.device)
        return torch.where(rand < _per_pair(rates, rand), fresh, entries)

    return {name: replace(entries) for name, entries in parameters.items()}


def survivors(losses: Tensor, population_size: int) -> Tensor:
    """The fittest of parents and children together (Section 3.4).

    Args:
        losses: [n].
        population_size: g, at most n.

    Returns:
        int64 [population_size], fittest first; equals keep their order, non-finite losses come last.
    """
    ordered = losses.masked_fill(~losses.isfinite(), torch.inf)
    return torch.sort(ordered, stable=True).indices[:population_size]


def has_converged(previous_losses: Tensor, losses: Tensor, threshold: float) -> bool:
    """The stop criterion of Eq. 13: the populations' summed losses differ by at most theta.

    Args:
        previous_losses: [g] of generation k.
        losses: [g] of generation k + 1, on a validation batch of its own as the paper writes it.
        threshold: theta >= 0.
    """
    return bool((previous_losses.sum() - losses.sum()).abs() <= threshold)


def _rand(entries: Tensor, pairs: int, generator: Generator) -> Tensor:
    """Uniform draws in [0, 1), one for each entry of `pairs` units."""
    return torch.rand((pairs, *entries.shape[1:]), generator=generator, dtype=entries.dtype, device=entries.device)


def _per_pair(values: Tensor, like: Tensor) -> Tensor:
    """[pairs] -> [pairs, 1, ...], to broadcast against entries."""
    return values.to(like.dtype).view(-1, *[1] * (like.dim() - 1))
