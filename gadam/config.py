"""GadamConfig: every symbol of Section 3, named, validated, frozen.

With the standard library alone, so that the engine runs wherever PyTorch does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from functools import cache, wraps
from numbers import Real
from textwrap import shorten
from typing import Any, Literal, get_args, get_type_hints

RESULTS_VERSION = 1
"""Version of what the engine computes: part of what a stored run and a checkpoint are of. Raise it with a change that
alters results by more than rounding, and only then; tests/test_golden.py says when."""

Optimizer = Literal["adam", "sgd", "sgdm", "rmsprop", "adagrad", "adadelta"]
Mode = Literal["auto", "loop", "vectorised"]


class InputError(ValueError):
    """What was given cannot be used; the message is one line that names it and says what is allowed."""


@dataclass(frozen=True)
class Allowed:
    """What a setting may be.

    Attributes:
        words: said after "it should be".
        read: gives the value as it is kept; raises TypeError, ValueError or OverflowError for any other.
    """

    words: str
    read: Callable[[Any], Any]

    def or_none(self) -> Allowed:
        """The same, or None."""
        return Allowed(f"{self.words}, or None", lambda value: None if value is None else self.read(value))


def _number(kind: type[int] | type[float], words: str, fits: Callable[[Any], bool]) -> Allowed:
    def read(value: Any) -> float:
        number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
        if not number or (kind is int and value % 1) or not fits(value):
            raise ValueError
        return kind(value)

    return Allowed(f"a {'whole' if kind is int else 'finite'} number, {words}", read)


def _one_of(names: Any) -> Allowed:
    def read(value: Any) -> str:
        if not isinstance(value, str) or value not in get_args(names):
            raise ValueError
        return value

    return Allowed(f"one of {', '.join(get_args(names))}", read)


def _two_betas(value: Any) -> tuple[float, float]:
    if not isinstance(value, tuple | list):
        raise TypeError
    first, second = map(_number(float, "", lambda beta: 0 <= beta < 1).read, value)
    return first, second


_NATURAL = _number(int, "at least 1", lambda n: n >= 1)
_POSITIVE = _number(float, "above 0", lambda x: x > 0)
_ALLOWED = {
    "population_size": _NATURAL,
    "generations": _NATURAL,
    "steps": _NATURAL,
    "batch_size": _NATURAL,
    "learning_rate": _POSITIVE,
    "betas": Allowed("two numbers in [0, 1)", _two_betas),
    "epsilon": _POSITIVE,
    "mutation_rate": _number(float, "at least 0 and at most 1", lambda x: 0 <= x <= 1),
    "threshold": _number(float, "at least 0", lambda x: x >= 0),
    "validation_size": _NATURAL,
    "seed": _number(int, f"at least 0 and below {2**63}", lambda n: 0 <= n < 2**63),
    "shards": _NATURAL.or_none(),
}
"""Of each setting but those that are one of several names."""


def _told_in_one_line(config: type[GadamConfig]) -> type[GadamConfig]:
    """What a dataclass says of unknown names and of changes, as InputError."""
    init = config.__init__

    @wraps(init)
    def named(self: GadamConfig, *args: Any, **settings: Any) -> None:
        if args:
            raise InputError(f"GadamConfig: {shorten(repr(args[0]), 60)} has no name; settings are given by name")
        names = GadamConfig.names()
        for name in settings:
            if name not in names:
                raise InputError(f"GadamConfig: {name} is not a setting; there are {', '.join(names)}")
        init(self, **settings)

    def frozen(self: GadamConfig, name: str, value: Any = None) -> None:
        raise InputError(
            f"GadamConfig: {name} cannot be set: a config is frozen; make another one with the settings that you want"
        )

    config.__init__, config.__setattr__, config.__delattr__ = named, frozen, frozen  # type: ignore[assignment,method-assign]
    return config


@_told_in_one_line
@dataclass(frozen=True, kw_only=True)
class GadamConfig:
    """The settings of one evolution. Immutable; unknown names are refused.

    `dataclasses.replace(config, steps=100)` gives another one with some settings changed.

    Attributes:
        population_size: g, unit models in a generation (Section 3.1); `evolve` needs at least 2.
        generations: K, the largest number of generations (Section 3.1).
        steps: optimizer steps per unit per generation, for parents and for children (Section 3.2: "epochs").
        batch_size: b, rows of a training batch, drawn uniformly with replacement (Section 3.2).
        learning_rate: eta of Eq. 2.
        betas: beta_1 and beta_2 of Eq. 2, each in [0, 1).
        epsilon: epsilon of Eq. 2, outside the bias correction as in `torch.optim.Adam`.
        mutation_rate: p of Eq. 12, in [0, 1].
        threshold: theta of Eq. 13, on the sum over the population of mean losses.
        validation_size: rows of a validation batch V (Sections 3.3.1 and 3.4), at most the rows there are.
        seed: gives every random stream.
        optimizer: what trains the units. The paper's is Adam; the others are those of Table 1, with torch's defaults.
        initialisation: "module" keeps what `make_model` returns, "standard_normal" draws learned entries from N(0, 1).
        moments: "fresh" starts each generation with zero optimizer state, "carry" lets it travel with its entries.
        mutation: a mutated entry is from U[0, 1) ("uniform", Eq. 11) or from N(0, 0.1^2) ("normal", as in BGADAM).
        mode: "loop" trains unit by unit, "vectorised" by a traced program: a shard in one call, or on a CPU with
            convolutions unit by unit; "auto" takes what suits the model, the device and the length of the training.
        shards: parts into which a generation is cut; results are bit-identical for equal shards, whoever executes them.
            None: as many as units where those train one by one; where a shard trains in one call, one, or one for each
            of several GPUs, or on a CPU one for each thread that PyTorch uses, with at least 4 units in each, or more
            where memory is short.

    Raises:
        InputError: a value is out of range or a name is unknown; one line.
    """

    population_size: int = 10
    generations: int = 5
    steps: int = 5_000
    batch_size: int = 128
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    mutation_rate: float = 0.01
    threshold: float = 0.0
    validation_size: int = 1_024
    seed: int = 0
    optimizer: Optimizer = "adam"
    initialisation: Literal["module", "standard_normal"] = "module"
    moments: Literal["fresh", "carry"] = "fresh"
    mutation: Literal["uniform", "normal"] = "uniform"
    mode: Mode = "auto"
    shards: int | None = None

    def __post_init__(self) -> None:
        for name, allowed in _allowed().items():
            value = getattr(self, name)
            try:
                object.__setattr__(self, name, allowed.read(value))
            except (TypeError, ValueError, OverflowError):
                given = f"{name}={shorten(repr(value), 60)}"
                raise InputError(f"GadamConfig: {given} is not allowed: it should be {allowed.words}") from None

    @staticmethod
    def names() -> list[str]:
        """The names of all settings."""
        return list(_allowed())

    def as_json(self, without: Iterable[str] = ()) -> dict[str, Any]:
        """The settings as JSON values, but for some; `GadamConfig(**values)` reads them."""
        values = asdict(self) | {"betas": list(self.betas)}
        return {name: value for name, value in values.items() if name not in without}


@cache
def _allowed() -> dict[str, Allowed]:
    """What each setting may be."""
    hints = get_type_hints(GadamConfig)
    return {each.name: _ALLOWED.get(each.name) or _one_of(hints[each.name]) for each in fields(GadamConfig)}
