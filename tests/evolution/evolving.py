"""What tests of evolutions share: tiny trainings, ways to evolve, callbacks that keep what they are told, equality."""

import functools
import math
import threading

import pytest
import torch
import zoo

from gadam import Callback, GadamConfig, evolve, train
from gadam.tracing.programs import Programs

STEPS = 6
DATA = zoo.DATA
DOUBLE = (zoo.FEATURES.double(), zoo.LABELS)
VALIDATION = (DOUBLE[0][:25], DOUBLE[1][:25])
MODES = pytest.mark.parametrize("mode", ["loop", "vectorised"])
RANGES = {"learning_rate": (1e-3, 1e-1), "weight_decay": (1e-2, 1e-1)}


def settings(**changed):
    default = {"population_size": 4, "generations": 2, "steps": STEPS, "batch_size": 8, "learning_rate": 1e-2}
    return GadamConfig(**default | {"mode": "loop", "validation_size": 16, "seed": 1} | changed)


double_mlp, double_batchnorm, double_dropout = (
    zoo.double(zoo.Case(make)).make for make in (zoo.mlp, zoo.batchnorm_mlp, zoo.dropout_mlp)
)
TRACED, CARRIED = {"mode": "vectorised", "shards": 2}, {"moments": "carry"}
# Ways to evolve: a model and settings. Together they change every setting and take every choice.
WAYS = {
    "one by one": (
        zoo.dropout_mlp, {"mutation": "normal", "mutation_rate": 0.3, "threshold": 1e-9, "optimizer": "sgdm"} | CARRIED,
    ),
    "shards of several": (
        zoo.batchnorm_mlp,
        {"shards": 2, "weight_decay": 0.3, "average": 0.3, "betas": (0.8, 0.95), "epsilon": 1e-3} | CARRIED,
    ),
    "own rates": (zoo.dropout_mlp, {"shards": 2, "schedule": "cosine"} | RANGES),
    "traced": (zoo.dropout_mlp, {"schedule": "cosine", "average": 0.2} | TRACED),
    "traced, own rates": (zoo.batchnorm_mlp, {"mutate_rates": True, "schedule": "cosine"} | RANGES | CARRIED | TRACED),
    "traced, moments carried": (
        zoo.mlp, {"weight_decay": 0.3, "average": 0.3, "betas": (0.8, 0.95), "epsilon": 1e-3} | CARRIED | TRACED,
    ),
    "own draws": (zoo.Noisy, {"initialisation": "standard_normal", "optimizer": "sgd"} | TRACED),
    "taught by pairs": (
        zoo.dropout_mlp, {"crossover": "teach", "teach_weight": 0.7, "optimizer": "adadelta"} | CARRIED | TRACED,
    ),
    "taught by half": (
        zoo.dropout_mlp,
        {
            "crossover": "teach", "parents": "half", "child_start": "fresh", "children": 2, "child_steps": 9,
            "survival": "children", "shards": 2,
        },
    ),
    "taught by all": (
        zoo.batchnorm_mlp, {"crossover": "teach", "parents": "all", "child_start": "fitter", "children": 3} | TRACED,
    ),
    "copies": (
        zoo.batchnorm_mlp,
        {"crossover": "none", "children": 6, "child_steps": 3, "survival": "children", "optimizer": "rmsprop"}
        | CARRIED | TRACED,
    ),
    "adagrad": (zoo.mlp, {"optimizer": "adagrad"} | CARRIED | TRACED),
}  # fmt: skip


def run(config=None, make=zoo.dropout_mlp, data=DATA, call=evolve, **given):
    return call(make, data, config or settings(), **{"executor": 1, "progress": False} | given)


def run_way(way, *, call=evolve, changed=None, **given):
    """Evolve in one of `WAYS`, in double precision, with fixed rows, of which the best unit ever is kept."""
    make, ours = WAYS[way]
    best = {} if call is train else {"restore_best": True}
    config = settings(**ours | (changed or {}))
    return run(config, lambda: make().double(), DOUBLE, call, validation=VALIDATION, **best, **given)


@functools.cache
def reference(way):
    """An evolution in the calling thread that nothing stops, and the watch that saw it."""
    watch = Watch()
    return run_way(way, callbacks=[watch], record=watch), watch


PROGRAMS = {}


def share_programs(template, loss, **named):
    """Programs that trainings of the same model share: tracing is what takes time."""
    key = repr(template), type(template), loss, named.get("singly"), named.get("training_loss")
    return PROGRAMS.setdefault(key, Programs(template, loss, **named))


def watched(config, make=double_mlp, data=DOUBLE, **given):
    watch = Watch()
    result = run(config, make, data, callbacks=[watch], **given)
    assert watch.result is result
    return result, watch


class Watch(Callback):
    """A callback and a record that keeps what it is told, in a checkpoint too, and may stop after a generation."""

    def __init__(self, last=None):
        self.last, self.told, self.generations, self.taken = last, [], [], []
        self.losses = torch.zeros(4, 2, 4 * STEPS, 8, 2)  # [generation, role, step, unit], and sums of parameters

    def on_start(self, config, population):
        self.told, self.config, self.initial = ["start"], config, population

    def on_generation(self, generation):
        self.told.append(generation.number)
        self.generations.append(generation)
        return generation.number == self.last

    def on_end(self, result):
        self.told.append("end")
        self.result = result

    def __call__(self, step):
        place = self.losses[step.generation, int(step.role == "child"), step.number - 1]
        sums = sum(entry.double().flatten(1).sum(1) for entry in step.parameters.values())
        place[step.units.start : step.units.stop] = torch.stack([step.losses, sums], 1)
        self.taken.append(len(step.units))

    def state_dict(self):
        return {"told": self.told, "losses": self.losses, "taken": self.taken, "most": math.inf}

    def load_state_dict(self, state):
        self.told, self.losses, self.taken = state["told"], state["losses"], state["taken"]
        assert state["most"] == math.inf, "JSON has none, and yet it may be kept"


class Stop(threading.Event):
    """Asks for a stop once it was asked so many times whether to."""

    def __init__(self, after):
        super().__init__()
        self._left = after

    def is_set(self):
        self._left -= 1
        return self._left < 0
