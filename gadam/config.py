"""GadamConfig: every symbol of Section 3, named, validated, frozen."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import shorten
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

Optimizer = Literal["adam", "sgd", "sgdm", "rmsprop", "adagrad", "adadelta"]
Mode = Literal["auto", "loop", "vectorised"]


class InputError(ValueError):
    """What was given cannot be used; the message is one line that names it and says what is allowed."""


class GadamConfig(BaseModel):
    """The settings of one evolution. Immutable; unknown names are refused.

    Attributes:
        population_size: g, unit models in a generation (Section 3.1); at least 2.
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
            None: population_size where units train one by one; where a shard trains in one call, one, or on a CPU one
            for each thread that PyTorch uses, with at least 4 units in each, or more where memory is short.

    Raises:
        InputError: a value is out of range or a name is unknown; one line.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    population_size: int = Field(default=10, ge=2)
    generations: int = Field(default=5, ge=1)
    steps: int = Field(default=5_000, ge=1)
    batch_size: int = Field(default=128, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = Field(default=1e-8, gt=0, allow_inf_nan=False)
    mutation_rate: float = Field(default=0.01, ge=0, le=1)
    threshold: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    validation_size: int = Field(default=1_024, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**63)
    optimizer: Optimizer = "adam"
    initialisation: Literal["module", "standard_normal"] = "module"
    moments: Literal["fresh", "carry"] = "fresh"
    mutation: Literal["uniform", "normal"] = "uniform"
    mode: Mode = "auto"
    shards: int | None = Field(default=None, ge=1)

    @field_validator("*", mode="before")
    @classmethod
    def _no_flags_for_numbers(cls, value: Any) -> Any:
        """True would pass as 1 otherwise; no setting is a flag."""
        if isinstance(value, bool):
            raise ValueError("it should be a number or a name, not a flag")
        return value

    @field_validator("betas")
    @classmethod
    def _betas_below_one(cls, betas: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError("each should be in [0, 1)")
        return betas

    def __init__(self, **settings: Any) -> None:
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise InputError(_one_line(error, settings)) from None

    def __setattr__(self, name: str, value: Any) -> None:
        raise InputError(
            f"GadamConfig: {name} cannot be set: a config is frozen; make another one with the settings that you want"
        )


def _one_line(error: ValidationError, settings: Mapping[str, Any]) -> str:
    """The first complaint of pydantic as `GadamConfig: name=value is not allowed: it should be ...`."""
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        return f"GadamConfig: {name} is not a setting; there are {', '.join(GadamConfig.model_fields)}"
    return f"GadamConfig: {name}={shorten(repr(settings[name]), 60)} is not allowed: it should be {_allowed(name)}"


def _allowed(name: str) -> str:
    """The values of a setting, in words, from its declaration."""
    field = GadamConfig.model_fields[name]
    if field.annotation == tuple[float, float]:
        return "two numbers in [0, 1)"
    kinds = get_args(field.annotation) or (field.annotation,)
    if all(isinstance(kind, str) for kind in kinds):
        return f"one of {', '.join(kinds)}"
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    bounds = [f"{words[key]} {getattr(rule, key)}" for rule in field.metadata for key in words if hasattr(rule, key)]
    number = f"a {'whole' if int in kinds else 'finite'} number, {' and '.join(bounds)}"
    return f"{number}, or None" if type(None) in kinds else number
