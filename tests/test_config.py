"""GadamConfig: explained, immutable, and one line for whatever is wrong."""

import copy
import json
import math
import pickle
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from gadam.config import GadamConfig, InputError

COUNTS = ("population_size", "generations", "steps", "batch_size", "validation_size")
NAMED = (
    "optimizer", "initialisation", "moments", "mutation", "mode", "schedule", "crossover", "parents", "child_start",
    "survival",
)  # fmt: skip
BAD = {
    **{name: [0, -3, 2.5, "ten", True, None, math.inf, math.nan, np.zeros((2, 2)), "two\nlines"] for name in COUNTS},
    **{name: ["adamw", None, ["adam"], dict] for name in NAMED},
    **{name: [0, -2, 1.5] for name in ("children", "child_steps", "shards")},
    "teach_weight": [-0.1, 1.1, None],
    "learning_rate": [0.0, -1e-3, math.nan, math.inf, "fast", (0.1, 0.01), (0, 0.1), (1, 2, 3)],
    "epsilon": [0.0, math.nan],
    "weight_decay": [-0.1, math.nan, (0.1, 0.01)],
    "average": [-0.1, 1.0],
    "mutate_rates": [1, None],
    "betas": [(0.9, 1.0), (1.0, 0.9), (-0.1, 0.9), (math.nan, 0.9), (0.9,), (0.9, 0.99, 0.9), ("a", 0), 0.9, None],
    "mutation_rate": [1.5, -0.01, math.nan],
    "threshold": [-1, math.nan, math.inf],
    "seed": [-1, 2**63, 0.5, "lucky"],
}
EDGES = {
    **{name: [1] for name in (*COUNTS, "children", "child_steps", "shards")}, "betas": [(0.0, 0.0)],
    "mutation_rate": [0.0, 1.0], "teach_weight": [0.0, 1.0],
    "seed": [2**63 - 1], "initialisation": ["standard_normal"], "moments": ["carry"], "mutation": ["normal"],
    "optimizer": ["sgd", "sgdm", "rmsprop", "adagrad", "adadelta"], "mode": ["loop", "vectorised"],
}  # fmt: skip


def test_help_explains_every_setting():
    """Their defaults are held by golden.json and, bit by bit, by the plain loops of test_trainer.py."""
    assert all(f"{name}: " in GadamConfig.__doc__ for name in GadamConfig.names())


@pytest.mark.parametrize("name", BAD)
def test_a_bad_value_gives_one_line_with_its_name_and_what_is_allowed(name):
    for value in BAD[name]:
        with pytest.raises(InputError, match=f"^.*{name}.* must be .*$") as caught:
            replace(GadamConfig(), **{name: value})
        assert isinstance(caught.value, ValueError)


def test_settings_that_say_nothing_together_are_refused():
    for changed, said in (
        ({"weight_decay": 0.1, "optimizer": "sgd"}, "weight_decay=0.1 is for"),
        ({"parents": "all"}, "parents='all' is for crossover=\"teach\""),
        ({"child_start": "fresh"}, "child_start='fresh' is for"),
        ({"parents": "half", "crossover": "teach"}, "needs two parents"),
    ):
        with pytest.raises(InputError, match=f"^GadamConfig: .*{said}.*$"):
            GadamConfig(**changed)


def test_a_value_at_the_edge_of_its_range_is_kept():
    for name, values in EDGES.items():
        assert [getattr(GadamConfig(**{name: value}), name) for value in values] == values


def test_a_number_of_another_type_is_kept_as_pythons_own():
    config = GadamConfig(steps=1e3, batch_size=np.int64(7), learning_rate=np.float32(0.5), threshold=1, betas=[0.5, 0])
    found = [config.steps, config.batch_size, config.learning_rate, config.threshold, *config.betas]
    assert found == [1_000, 7, 0.5, 1, 0.5, 0]
    assert [type(one) for one in found] == [int, int, float, float, float, float]


def test_settings_cannot_be_changed_nor_misspelled_nor_given_without_names():
    config = GadamConfig()
    with pytest.raises(FrozenInstanceError, match="steps"):
        config.steps = 1
    for given, named in (((), {"lr": 0.1}), ((3,), {})):
        with pytest.raises(TypeError):
            GadamConfig(*given, **named)
    assert replace(config, steps=7) == GadamConfig(steps=7) != config


def test_a_config_travels_as_json_and_between_processes_and_is_a_key():
    config = GadamConfig(population_size=4, betas=(0.8, 0.99), learning_rate=0.1 + 0.2, shards=2, seed=2**63 - 1)
    assert GadamConfig(**json.loads(json.dumps(config.as_json()))) == config
    assert pickle.loads(pickle.dumps(config)) == config == copy.deepcopy(config)
    assert len({config, copy.deepcopy(config), GadamConfig()}) == 2
    assert b"mutation" not in pickle.dumps(config), "else each new setting would change what workers are sent"
