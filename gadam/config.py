"""Settings of an evolution, validated and frozen."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from functools import partial
from numbers import Real
from typing import Any, Literal, TypeAlias, get_args, get_origin, get_type_hints

from gadam.validation import InputError, shown

__all__ = ["RESULTS_VERSION", "ROUNDING_VERSION", "GadamConfig", "InputError", "Mutation", "Optimizer"]

RESULTS_VERSION = 1
"""Version of what the engine computes, in the identity of stored runs and checkpoints. Raise it with a change that
alters results by more than rounding, and only then; tests/test_golden.py says when."""
ROUNDING_VERSION = 2
"""Raised where the engine only rounds otherwise. Kept with each stored run, outside its identity: long
trainings amplify rounding, so those of two such versions agree as two seeds do."""

Range: TypeAlias = float | tuple[float, float]
"""One number for all units; or a range (low, high), of which each unit of the first generation draws its own."""
Optimizer = Literal["adam", "sgd", "sgdm", "rmsprop", "adagrad", "adadelta"]
Mutation = Literal["uniform", "normal"]

_OPTIONAL = ("children", "child_steps", "shards")
"""Numeric settings that may be None."""
_COUNTS = ("population_size", "generations", "steps", "batch_size", "validation_size")
_NUMBERS: dict[str, tuple[type[int] | type[float], Callable[[Any], bool], str]] = {
    **dict.fromkeys(_COUNTS, (int, lambda n: n >= 1, "at least 1")),
    **dict.fromkeys(_OPTIONAL, (int, lambda n: n >= 1, "at least 1, or None")),
    "seed": (int, lambda n: 0 <= n < 2**63, f"at least 0 and below {2**63}"),
    "average": (float, lambda x: 0 <= x < 1, "at least 0 and below 1"),
    "epsilon": (float, lambda x: x > 0, "above 0"),
    "mutation_rate": (float, lambda x: 0 <= x <= 1, "at least 0 and at most 1"),
    "threshold": (float, lambda x: x >= 0, "at least 0"),
    "teach_weight": (float, lambda x: 0 <= x <= 1, "at least 0 and at most 1"),
}
"""Kind and range of the numeric settings; the others are one of several names."""
_RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "learning_rate": (lambda x: x > 0, "above 0"),
    "weight_decay": (lambda x: x >= 0, "at least 0, in a range above 0"),
}
RATES = tuple(_RANGES)
"""Settings that may be a range, of which each unit has a number of its own."""


@dataclass(frozen=True, kw_only=True)
class GadamConfig:
    """Settings of an evolution. Frozen: `dataclasses.replace(config, steps=100)` gives another one.

    A value that is out of range is refused by a one-line `InputError`.

    Example:
        >>> config = gadam.GadamConfig(population_size=20, generations=10, steps=500, learning_rate=3e-3)

    Attributes:
        population_size: unit models in a generation (g, Section 3.1); at least 2 to evolve, except with
            crossover="teach".
        generations: largest number of generations (K, Section 3.1).
        steps: optimizer steps of a unit in a generation (Section 3.2: "epochs"); of children see `child_steps`.
        batch_size: rows of a training batch, drawn uniformly with replacement (b, Section 3.2).
        learning_rate: step size of Adam, above 0; 1e-3 suits most networks (eta in Eq. 2). A range (low, high): each
            unit of the first generation draws its own, log-uniformly, and a child has that of its fitter parent.
        weight_decay: share of each entry that a step takes away, times the learning rate, as in AdamW; only with
            "adam". A range as for the learning rate.
        mutate_rates: whether a child has its fitter parent's rate and decay times a factor from 0.8 to 1.25, where they
            are ranges.
        schedule: course of the learning rate over a phase, which is the training of a generation's parents or children
            (of `gadam.train` the whole training): "constant", or "cosine", which rises over the first 2 % of the steps
            and falls to 0.
        average: above 0, an exponential moving average of the weights is kept, with a time constant of `average` times
            the steps of a phase (see `schedule`). It starts anew from the weights that a phase begins with, so most
            often it should be well below 0.1; at the end of the phase it replaces the weights and is evaluated.
        betas: decay rates of Adam's two moments, each in [0, 1) (beta_1 and beta_2 in Eq. 2).
        epsilon: added to the denominator, outside the bias correction as in `torch.optim.Adam` (Eq. 2).
        mutation_rate: share of a child's entries that are drawn anew, before it is scaled by fitness (p in Eq. 12).
        threshold: the evolution ends once the summed losses of two successive generations differ by at most this, up
            or down (theta in Eq. 13).
        validation_size: rows of a validation batch; all rows, where there are fewer (V, Sections 3.3.1 and 3.4).
        crossover: how children come about. "entries": each entry from one of two parents, and mutated (Eq. 9 and 11);
            "none": a mutated copy of the fitter parent; "teach": children are not mutated, and are trained on what
            their parents, together, predict.
        teach_weight: share of the parents' predictions in the targets of taught children, the rest is the rows' own.
        parents: teachers of a taught child: the "pair" that selection drew, "all" units, or the fitter "half" of them.
        child_start: first weights of a taught child: "fresh" ones, those of its "fitter" parent (where more than two
            teach, of the fittest), or "crossover" of its pair.
        children: children of a generation; None: as many as the population has units.
        child_steps: optimizer steps of a child in a generation; None: as many as a parent takes.
        survival: who may survive: "both" parents and children (Section 3.4), or "children" alone; where those are fewer
            than the population has units, the next generation is so many.
        seed: seed of every random stream, from 0 to 2^63 - 1.
        optimizer: optimizer of the units. The paper's is Adam; the others are those of Table 1 with torch's defaults,
            and "sgdm", which has a momentum of 0.9.
        initialisation: "module" keeps what `make_model` returns, "standard_normal" draws learned entries from N(0, 1).
        moments: "fresh" starts the optimizer anew for the parents and the children of each generation; with "carry"
            parents keep its state, and each entry of a child has that of the parent it came from.
        mutation: a mutated entry is from U[0, 1) ("uniform", Eq. 11) or from N(0, 0.1^2) ("normal", as in BGADAM).
        mode: "loop" trains unit by unit, "vectorised" by a traced program: a shard in one call, or on a CPU with
            convolutions unit by unit; "auto" takes what suits the model, the device and the length of the training.
        shards: parts into which a generation is cut; results are bit-identical for equal shards, whoever executes them.
            None: as many as units where those train one by one; where a shard trains in one call, one on a GPU, on a
            CPU one for each thread that PyTorch uses, with at least 4 units in each. There are more where memory is
            short, and on a CPU where a shard's activations would not fit the cache.
    """

    population_size: int = 10
    generations: int = 5
    steps: int = 5_000
    batch_size: int = 128
    learning_rate: Range = 1e-3
    weight_decay: Range = 0.0
    mutate_rates: bool = False
    schedule: Literal["constant", "cosine"] = "constant"
    average: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    mutation_rate: float = 0.01
    threshold: float = 0.0
    validation_size: int = 1_024
    crossover: Literal["entries", "teach", "none"] = "entries"
    teach_weight: float = 0.9
    parents: Literal["pair", "all", "half"] = "pair"
    child_start: Literal["fresh", "fitter", "crossover"] = "crossover"
    children: int | None = None
    child_steps: int | None = None
    survival: Literal["both", "children"] = "both"
    seed: int = 0
    optimizer: Optimizer = "adam"
    initialisation: Literal["module", "standard_normal"] = "module"
    moments: Literal["fresh", "carry"] = "fresh"
    mutation: Mutation = "uniform"
    mode: Literal["auto", "loop", "vectorised"] = "auto"
    shards: int | None = None

    def __post_init__(self) -> None:
        for name, (kind, fits, words) in _NUMBERS.items():
            if name not in _OPTIONAL or getattr(self, name) is not None:
                object.__setattr__(self, name, _read(name, getattr(self, name), kind, fits, words))
        for name, (fits, words) in _RANGES.items():
            object.__setattr__(self, name, _read_range(name, getattr(self, name), fits, words))
        if not isinstance(self.mutate_rates, bool):
            raise InputError(f"GadamConfig: mutate_rates={shown(self.mutate_rates)} must be True or False")
        if self.weight_decay != 0 and self.optimizer != "adam":
            raise InputError(f'GadamConfig: weight_decay={self.weight_decay} is for "adam" alone (AdamW); must be 0')
        if not isinstance(self.betas, tuple | list) or len(self.betas) != 2:
            raise InputError(f"GadamConfig: betas={shown(self.betas)} must be two numbers in [0, 1)")
        betas = tuple(_read("betas", beta, float, lambda beta: 0 <= beta < 1, "in [0, 1)") for beta in self.betas)
        object.__setattr__(self, "betas", betas)
        for name, kind in get_type_hints(GadamConfig).items():
            if get_origin(kind) is Literal and (value := getattr(self, name)) not in (names := get_args(kind)):
                raise InputError(f"GadamConfig: {name}={shown(value)} must be one of {', '.join(names)}")
        taught = self.crossover == "teach"
        for name in ("parents", "child_start"):
            if not taught and getattr(self, name) != getattr(GadamConfig, name):
                raise InputError(f'GadamConfig: {name}={getattr(self, name)!r} is for crossover="teach" alone')
        if taught and self.child_start == "crossover" and self.parents != "pair":
            raise InputError(
                f'GadamConfig: child_start="crossover" needs two parents, and parents={self.parents!r} teach; must be '
                '"fresh" or "fitter", or parents="pair"'
            )

    def __reduce__(self) -> Any:
        """Pickle the seed and those settings that are not the defaults, for new ones to change no message."""
        told = [one.name for one in fields(self) if one.name == "seed" or getattr(self, one.name) != one.default]
        return partial(GadamConfig, **{name: getattr(self, name) for name in told}), ()

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """The settings that are ranges."""
        return {name: value for name in RATES if isinstance(value := getattr(self, name), tuple)}

    def units_of(self, role: str, generation: int) -> int:
        """Return the units of a role ("parent" or "child") in a generation, from 1; 0 where nothing evolves."""
        children = self.children or self.population_size
        if role == "child":
            return children
        shrinks = self.survival == "children" and generation > 1
        return min(children, self.population_size) if shrinks else self.population_size

    def steps_of(self, role: str) -> int:
        """Return the optimizer steps of a unit of a role in a generation."""
        return self.child_steps or self.steps if role == "child" else self.steps

    @property
    def steps_of_a_line(self) -> int:
        """The optimizer steps along a line of descent, a parent's and a child's in each generation."""
        return self.generations * (self.steps + self.steps_of("child"))

    @staticmethod
    def names() -> list[str]:
        """Return the names of all settings."""
        return [field.name for field in fields(GadamConfig)]

    def as_json(self, without: Iterable[str] = ()) -> dict[str, Any]:
        """Return the settings as JSON values, but for some; `GadamConfig(**values)` reads them."""
        values = {name: list(one) if isinstance(one, tuple) else one for name, one in asdict(self).items()}
        return {name: value for name, value in values.items() if name not in without}


def _read_range(name: str, value: Any, fits: Callable[[Any], bool], words: str) -> Range:
    """Return a number, or a range of two, the first above 0."""
    if not isinstance(value, tuple | list):
        return _read(name, value, float, fits, words)
    if len(value) != 2:
        raise InputError(f"GadamConfig: {name}={shown(value)} must be a number or a range (low, high)")
    low, high = (_read(name, one, float, lambda x: x > 0, "above 0 in a range") for one in value)
    if low > high:
        raise InputError(f"GadamConfig: {name}={shown(value)} must be a range (low, high), the lower number first")
    return (low, high)


def _read(name: str, value: Any, kind: type[int] | type[float], fits: Callable[[Any], bool], words: str) -> int | float:
    """Return a number as int or float, from whatever type of number it is: 1e3 is a whole number, True is none."""
    number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if not number or (kind is int and value % 1) or not fits(value):
        whole = "a whole number" if kind is int else "a finite number"
        raise InputError(f"GadamConfig: {name}={shown(value)} must be {whole}, {words}")
    return kind(value)
