"""Small trainings whose numbers are kept in golden.json: what the results versions promise.

`python tests/golden.py` computes them anew; do so only together with a raised version. `python tests/golden.py --new`
adds what is new, a setting or a run function, and leaves all others as they are: no version changes for that.
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
MEASURED = ("seconds", "cpu", "cores", "digest")  # of Section 5.3: no two runs give the same


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
        population_size=4, generations=2, steps=10, batch_size=16, validation_size=30, learning_rate=0.01,
        mutation_rate=0.05, seed=3, optimizer=optimizer, mode=mode, shards=1,
    )  # fmt: skip
    result = gadam.evolve(model, rows, config, executor=1, device="cpu", progress=False)
    history = result.history.drop(columns="seconds").astype(object)
    return history.where(history.notna(), None).to_dict("records")


def run_functions():
    """Those that the package declares; tests declare others."""
    import_sections()
    return {name: one for name, one in sorted(RUN_FUNCTIONS.items()) if one.__module__.startswith("gadam.")}


def smallest_run(name):
    """The rows of the first run of a declared function in profile smoke, on stand-ins."""
    from gadam.paper.report.plan import all_runs

    runs = (run for section in import_sections() for run in all_runs(section, "smoke", "standin"))
    run = next(run for run in runs if run.function.name == name)
    return run.function(**run.config)


def settings():
    """Every default that a stored run leaves out."""
    ours = {"GadamConfig": asdict(gadam.GadamConfig()), "GcForestSettings": asdict(GcForestSettings())}
    return ours | {name: function.defaults for name, function in run_functions().items()}


def case(name):
    """What golden.json should say of a case; of a long path some sixty rows, evenly spaced."""
    kind, _, rest = name.partition(":")
    if kind == "settings":
        return json.loads(json.dumps(settings()))
    rows = json.loads(json.dumps(train(*ENGINE[rest]) if kind == "engine" else smallest_run(rest)))
    rows = [{name: finite(value) for name, value in row.items() if name not in MEASURED} for row in rows]
    return rows if kind == "engine" else rows[:: max(1, len(rows) // 60)]


def finite(value):
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value


def names():
    return ["settings:", *(f"engine:{name}" for name in ENGINE), *(f"run:{name}" for name in run_functions())]


def versions():
    return {"engine": RESULTS_VERSION} | {name: one.version for name, one in run_functions().items()}


def main(only_new):
    torch.set_num_threads(1)
    kept = json.loads(FILE.read_text())["cases"] if only_new else {}
    if only_new:
        defaults = case("settings:")
        changed = [f"{one}.{name}" for one, own in kept.pop("settings:").items() for name, value in own.items()
                   if defaults.get(one, {}).get(name, name) != value]  # fmt: skip
        if changed:
            return f"a default that changes needs a raised version: {', '.join(changed)}"
    lines = [f" {json.dumps(name)}: {json.dumps(kept.get(name) or case(name))}" for name in names()]
    FILE.write_text(f'{{"versions": {json.dumps(versions())},\n"cases": {{\n' + ",\n".join(lines) + "\n}}\n")
    return 0


if __name__ == "__main__":
    os.environ["GADAM_OFFLINE"] = "1"
    sys.exit(main("--new" in sys.argv))
