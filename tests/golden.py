"""Small trainings whose numbers are kept in golden.json: what the results versions promise.

`python tests/golden.py` computes them anew; do so only together with a raised version.
"""

import json
import math
import os
import sys
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

import gadam
from gadam.config import RESULTS_VERSION
from gadam.paper import import_sections
from gadam.paper.baselines.gcforest import GcForestSettings
from gadam.paper.runs import RUN_FUNCTIONS

FILE = Path(__file__).with_name("golden.json")
STEPS = 10
MEASURED = ("seconds", "cpu", "cores", "digest")  # of Section 5.3: no two runs give the same
BYTES = ("population", "rest")  # pickled by whichever Python this is


def mlp():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def cnn():
    layers = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.3), nn.Linear(36, 3)
    return nn.Sequential(*layers)


def norm():
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3))


ENGINE = {
    f"{name}/{mode}/{optimizer}": (model, shape, mode, optimizer)
    for name, model, shape in (("mlp", mlp, (6,)), ("cnn", cnn, (1, 8, 8)), ("norm", norm, (6,)))
    for mode in ("loop", "vectorised")
    for optimizer in ("adam", "sgdm", "rmsprop", "adagrad", "adadelta")
    if optimizer == "adam" or name == "mlp"
}


def train(model, shape, mode, optimizer):
    """Two generations of four units: the history's numbers and lineage."""
    draw = torch.Generator().manual_seed(7)
    rows = torch.randn(60, *shape, generator=draw), torch.randint(3, (60,), generator=draw)
    config = gadam.GadamConfig(
        population_size=4, generations=2, steps=STEPS, batch_size=16, validation_size=30, learning_rate=0.01,
        mutation_rate=0.05, seed=3, optimizer=optimizer, mode=mode, shards=1,
    )  # fmt: skip
    result = gadam.evolve(model, rows, config, executor=1, device="cpu", progress=False)
    history = result.history.drop(columns="seconds").astype(object)
    return history.where(history.notna(), None).to_dict("records")


def smallest_runs():
    """The first run of each declared function in profile smoke, on stand-ins."""
    found = {}
    for name, section in import_sections().items():
        for run in section_runs(name, section):
            found.setdefault(run.function.name, run)
    return found


def section_runs(name, section):
    from gadam.paper.report.plan import all_runs

    return all_runs(name, "smoke", "standin")


def settings():
    """Every default that a stored run leaves out."""
    import_sections()
    return {
        "GadamConfig": asdict(gadam.GadamConfig()),
        "GcForestSettings": asdict(GcForestSettings()),
        **{name: function.defaults for name, function in sorted(RUN_FUNCTIONS.items()) if in_package(function)},
    }


def in_package(function):
    return function.__module__.startswith("gadam.")


def plain(value):
    return json.loads(json.dumps(value))


def numbers(rows):
    """Rows without what is measured, as JSON."""
    return [{name: number(value) for name, value in row.items() if name not in MEASURED} for row in plain(rows)]


def number(value):
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value


def case(name):
    """What golden.json should say of a case."""
    kind, _, rest = name.partition(":")
    if kind == "engine":
        return numbers(train(*ENGINE[rest]))
    if kind == "settings":
        return plain(settings())
    return thinned(numbers(smallest_runs()[rest].execute()))


def thinned(rows):
    """At most some sixty rows, evenly spaced: a long path needs not be kept step by step."""
    return rows[:: max(1, len(rows) // 60)]


def names():
    import_sections()
    functions = sorted(name for name, function in RUN_FUNCTIONS.items() if in_package(function))
    return ["settings:", *(f"engine:{name}" for name in ENGINE), *(f"run:{name}" for name in functions)]


def versions():
    import_sections()
    functions = sorted(RUN_FUNCTIONS.items())
    return {"engine": RESULTS_VERSION} | {name: one.version for name, one in functions if in_package(one)}


def main():
    torch.set_num_threads(1)
    cases = {name: case(name) for name in names()}
    lines = [f" {json.dumps(name)}: {json.dumps(content)}" for name, content in cases.items()]
    FILE.write_text(f'{{"versions": {json.dumps(versions())},\n"cases": {{\n' + ",\n".join(lines) + "\n}}\n")


if __name__ == "__main__":
    os.environ["GADAM_OFFLINE"] = "1"
    sys.exit(main())
