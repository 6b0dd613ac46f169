"""GadamConfig: the defaults of the design, immutable, and one line for whatever is wrong."""

import copy
import inspect
import json
import math
import pickle
from dataclasses import asdict, replace

import numpy as np
import pytest

from gadam.config import GadamConfig, InputError

DEFAULTS = {
    "population_size": 10,
    "generations": 5,
    "steps": 5_000,
    "batch_size": 128,
    "learning_rate": 1e-3,
    "betas": (0.9, 0.999),
    "epsilon": 1e-8,
    "mutation_rate": 0.01,
    "threshold": 0.0,
    "validation_size": 1_024,
    "seed": 0,
    "optimizer": "adam",
    "initialisation": "module",
    "moments": "fresh",
    "mutation": "uniform",
    "mode": "auto",
    "shards": None,
}

BAD = [
    ("population_size", 0),
    ("population_size", -3),
    ("population_size", 2.5),
    ("population_size", "ten"),
    ("population_size", None),
    ("population_size", math.inf),
    ("generations", 0),
    ("generations", -1),
    ("steps", 0),
    ("steps", 1.5),
    ("batch_size", 0),
    ("learning_rate", 0.0),
    ("learning_rate", -1e-3),
    ("learning_rate", math.nan),
    ("learning_rate", math.inf),
    ("learning_rate", "fast"),
    ("betas", (0.9, 1.0)),
    ("betas", (1.0, 0.999)),
    ("betas", (-0.1, 0.999)),
    ("betas", (math.nan, 0.999)),
    ("betas", (0.9,)),
    ("betas", (0.9, 0.99, 0.999)),
    ("betas", 0.9),
    ("betas", None),
    ("epsilon", 0.0),
    ("epsilon", math.nan),
    ("mutation_rate", 1.5),
    ("mutation_rate", -0.01),
    ("mutation_rate", math.nan),
    ("threshold", -1),
    ("threshold", math.nan),
    ("threshold", math.inf),
    ("validation_size", 0),
    ("seed", -1),
    ("seed", 2**63),
    ("seed", 0.5),
    ("optimizer", "adamw"),
    ("optimizer", None),
    ("initialisation", "normal"),
    ("moments", "keep"),
    ("mutation", "gauss"),
    ("mode", "fast"),
    ("shards", 0),
    ("shards", -2),
]

EDGES = [
    ("population_size", 2),
    ("generations", 1),
    ("steps", 1),
    ("batch_size", 1),
    ("betas", (0.0, 0.0)),
    ("mutation_rate", 0.0),
    ("mutation_rate", 1.0),
    ("validation_size", 1),
    ("seed", 2**63 - 1),
    ("shards", 1),
    *[("optimizer", name) for name in ("sgd", "sgdm", "rmsprop", "adagrad", "adadelta")],
    ("initialisation", "standard_normal"),
    ("moments", "carry"),
    ("mutation", "normal"),
    ("mode", "loop"),
    ("mode", "vectorised"),
]


def complaint(**settings):
    """The message of the InputError that the settings give."""
    return complaint_of(lambda: GadamConfig(**settings))


def complaint_of(call):
    with pytest.raises(InputError) as caught:
        call()
    return str(caught.value)


def test_defaults_are_those_of_the_design():
    assert asdict(GadamConfig()) == DEFAULTS


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_value_gives_one_line_with_name_and_value(name, value):
    message = complaint(**{name: value})
    assert "\n" not in message
    assert name in message
    assert repr(value) in message


def test_of_several_bad_values_one_is_named():
    message = complaint(steps=0, seed=-1)
    assert "\n" not in message
    assert "steps=0" in message or "seed=-1" in message


@pytest.mark.parametrize("value", [np.zeros((2, 2)), "two\nlines"], ids=["array", "string"])
def test_a_value_that_prints_on_several_lines_still_gives_one_line(value):
    message = complaint(population_size=value)
    assert "\n" not in message
    assert "population_size" in message


@pytest.mark.parametrize("name", ["populaton_size", "lr", "Seed"])
def test_an_unknown_name_is_refused_and_the_known_ones_listed(name):
    message = complaint(**{name: 3})
    assert "\n" not in message
    assert name in message
    assert all(known in message for known in DEFAULTS)


@pytest.mark.parametrize(("name", "value"), EDGES)
def test_a_value_at_the_edge_of_its_range_is_kept(name, value):
    assert getattr(GadamConfig(**{name: value}), name) == value


def test_an_input_error_is_a_value_error():
    with pytest.raises(ValueError, match="steps=0"):
        GadamConfig(steps=0)


@pytest.mark.parametrize("name", DEFAULTS)
def test_settings_cannot_be_changed(name):
    config = GadamConfig()
    with pytest.raises(ValueError, match="frozen"):
        setattr(config, name, DEFAULTS[name])
    assert config == GadamConfig()


def test_names_cannot_be_added():
    with pytest.raises(ValueError, match="lr"):
        GadamConfig().lr = 0.1


def test_equal_settings_are_equal_and_hash_alike():
    assert GadamConfig(seed=3) == GadamConfig(seed=3) != GadamConfig(seed=4)
    assert len({GadamConfig(seed=3), GadamConfig(seed=3), GadamConfig(seed=4)}) == 2


def test_json_gives_the_same_config_back():
    config = GadamConfig(population_size=4, betas=(0.8, 0.99), learning_rate=0.1 + 0.2, shards=2, seed=2**63 - 1)
    assert GadamConfig(**json.loads(json.dumps(config.as_json()))) == config


def test_every_setting_is_documented():
    assert all(f"{name}: " in GadamConfig.__doc__ for name in GadamConfig.names())


def test_another_config_with_some_settings_changed_is_looked_at_as_well():
    assert replace(GadamConfig(seed=3), steps=7) == GadamConfig(seed=3, steps=7)
    with pytest.raises(InputError, match="steps=0 is not allowed"):
        replace(GadamConfig(), steps=0)


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("steps", 1e3, 1_000),
        ("steps", np.int64(7), 7),
        ("learning_rate", 1, 1.0),
        ("learning_rate", np.float32(0.5), 0.5),
        ("betas", [0.5, 0], (0.5, 0.0)),
    ],
)
def test_a_number_of_another_type_is_kept_as_pythons_own(name, value, kept):
    found = getattr(GadamConfig(**{name: value}), name)
    assert found == kept
    assert type(found) is type(kept)


def test_settings_go_by_name_and_help_shows_them():
    assert complaint_of(lambda: GadamConfig(3)) == "GadamConfig: 3 has no name; settings are given by name"
    assert list(inspect.signature(GadamConfig).parameters) == list(DEFAULTS)


def test_a_config_travels_between_processes():
    config = GadamConfig(seed=5, betas=(0.5, 0.6))
    assert pickle.loads(pickle.dumps(config)) == config == copy.deepcopy(config)
