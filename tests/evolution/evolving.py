"""What tests of evolutions share: tiny trainings, callbacks that keep what they are told, and what "the same" means."""

import math
import threading
from dataclasses import asdict

import pandas as pd
import torch
import zoo

from gadam import Callback, GadamConfig, Population, evolve

STEPS = 6
DATA = (zoo.FEATURES, zoo.LABELS)
DOUBLE = (zoo.FEATURES.double(), zoo.LABELS)


def settings(**changed):
    default = {"population_size": 4, "generations": 2, "steps": STEPS, "batch_size": 8, "learning_rate": 1e-2}
    return GadamConfig(**default | {"mode": "loop", "validation_size": 16, "seed": 1} | changed)


def double_mlp():
    return zoo.mlp().double()


def double_dropout():
    return zoo.dropout_mlp().double()


def run(config=None, make=zoo.dropout_mlp, data=DATA, call=evolve, **given):
    return call(make, data, config or settings(), **{"executor": 1, "progress": False} | given)


def watched(config, make=double_mlp, data=DOUBLE, **given):
    watch = Watch()
    result = run(config, make, data, callbacks=[watch], **given)
    assert watch.result is result
    return result, watch


class Watch(Callback):
    """A callback and a record that keeps what it is told, in a checkpoint too, and may stop after a generation."""

    def __init__(self, last=None):
        self.last, self.told, self.generations = last, [], []
        self.losses = torch.zeros(4, 2, 4 * STEPS, 4)  # [generation, role, step, unit]

    def on_start(self, config, population):
        self.told, self.initial = ["start"], population

    def on_generation(self, generation):
        self.told.append(generation.number)
        self.generations.append(generation)
        return generation.number == self.last

    def on_end(self, result):
        self.told.append("end")
        self.result = result

    def __call__(self, step):
        place = self.losses[step.generation, int(step.role == "child"), step.number - 1]
        place[step.units.start : step.units.stop] = step.losses

    def state_dict(self):
        return {"told": self.told, "losses": self.losses, "most": math.inf}

    def load_state_dict(self, state):
        self.told, self.losses = state["told"], state["losses"]
        assert state["most"] == math.inf, "JSON has none, and yet it may be kept"


class Stop(threading.Event):
    """Asks for a stop once it was asked so many times whether to."""

    def __init__(self, after):
        super().__init__()
        self._left = after

    def is_set(self):
        self._left -= 1
        return self._left < 0


def assert_same(result, expected):
    """Bit by bit, and in every fact that is not a time."""
    assert zoo.same_population(result.population, expected.population)
    assert zoo.same_population(Population.stack([result.best]), Population.stack([expected.best]))
    pd.testing.assert_frame_equal(timeless(result), timeless(expected), check_exact=True)
    facts = ("stopped", "gradient_steps", "targets")
    assert [getattr(result, name) for name in facts] == [getattr(expected, name) for name in facts]
    assert asdict(result.config) == asdict(expected.config)


def timeless(result):
    return result.history.drop(columns="seconds")
