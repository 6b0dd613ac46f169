"""How long a whole population takes to predict: `gadam bench --predict`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap
from torch.utils.benchmark import Timer

from gadam.bench.command import BUSY, DEFAULT_WORKLOADS, _check, load
from gadam.bench.measure import Say, orders
from gadam.bench.results import between, short
from gadam.bench.workloads import SEED, find
from gadam.ensembles import Ensemble
from gadam.paper.report.machine import describe
from gadam.paper.report.paths import reports_root, write_atomic
from gadam.paper.report.tables import to_csv
from gadam.population import Population
from gadam.training.plan import resolve_device

UNITS = 10
ROWS = (1, 128, 1_024)  # predicted at once
OURS = "gadam.Ensemble"

Predict = Callable[[Tensor], Tensor]


def contestants(population: Population) -> dict[str, Predict]:
    """Three ways to the mean of the units' probabilities, [n, ...] -> [n, classes], without gradients."""
    units = [unit.to(next(iter(population.parameters.values())).device) for unit in population.units()]
    parameters, buffers = stack_module_state(units)
    template = population.unit(0).to("meta")

    def one_by_one(inputs: Tensor) -> Tensor:
        return torch.stack([unit(inputs) for unit in units]).softmax(-1).mean(0)

    def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor], inputs: Tensor) -> Tensor:
        output: Tensor = functional_call(template, (parameters, buffers), (inputs,))
        return output

    def documented(inputs: Tensor) -> Tensor:
        return vmap(one, in_dims=(0, 0, None))(parameters, buffers, inputs).softmax(-1).mean(0)

    return {OURS: Ensemble(population), "its units, one after another": one_by_one,
            "PyTorch, stack_module_state + vmap": documented}  # fmt: skip


def predict(
    workloads: Sequence[str] | None = None, folder: Path | None = None, device: str = "auto", *, repeats: int = 5,
    seconds: float = 0.5, say: Say = print,
) -> pd.DataFrame:  # fmt: skip
    """Time the predictions of 10 units, print a table, and write predict.csv and predict.json.

    Args:
        workloads: of "mlp", "lenet", "orl"; None takes the first two.
        folder: for the files; None is `bench` of the reports.
        device: "auto", "cpu" or "cuda".
        repeats: measurements of each, interleaved in an order drawn for each repeat.
        seconds: about what one takes.
        say: told of what is going on, and given the tables.

    Returns:
        A row per workload, rows, contestant and repeat: workload, rows, contestant, repeat (from 1), ms.

    Raises:
        InputError: an argument cannot be used.
    """
    _check(None, repeats, seconds)
    on = resolve_device(device)
    folder = reports_root() / "bench" if folder is None else folder
    busy = load()
    if busy > BUSY:
        say(f"This machine is busy with something else (load {busy:.1f}): times are too long, and vary.")
    found = []
    for workload in find(list(workloads or DEFAULT_WORKLOADS), on):
        population = Population.make(workload.make_model, UNITS, seed=SEED, device=on)
        everyone = contestants(population)
        for rows in ROWS:
            inputs = torch.rand(rows, *workload.shape, device=on)
            timers = {name: _timer(function, inputs) for name, function in everyone.items()}
            expected = everyone["its units, one after another"](inputs)
            for function in everyone.values():
                for _ in range(2):  # the first traces
                    torch.testing.assert_close(function(inputs), expected, rtol=1e-3, atol=1e-5)
            for repeat, order in enumerate(orders(list(everyone), repeats), 1):
                for name in order:
                    ms = 1e3 * timers[name].blocked_autorange(min_run_time=seconds).median
                    about = {"workload": workload.name, "rows": rows, "contestant": name, "repeat": repeat}
                    found.append(about | {"ms": ms})
            frame = pd.DataFrame(found)
            say(_table(frame[(frame["workload"] == workload.name) & (frame["rows"] == rows)], workload.title))
    frame = pd.DataFrame(found)
    write_atomic(folder / "predict.csv", to_csv(frame))
    about = {"machine": describe(), "device": str(on), "load": busy, "threads": torch.get_num_threads(), "units": UNITS}
    write_atomic(folder / "predict.json", json.dumps(about | {"repeats": repeats, "seconds": seconds}, indent=2) + "\n")
    return frame


def _timer(function: Predict, inputs: Tensor) -> Timer:
    def call() -> Tensor:
        with torch.no_grad():
            return function(inputs)

    return Timer("call()", globals={"call": call}, num_threads=torch.get_num_threads())


def _table(found: pd.DataFrame, title: str) -> str:
    """Milliseconds a prediction, and each as a multiple of ours within a repeat."""
    times = found.pivot_table(index="repeat", columns="contestant", values="ms", sort=False)
    lines = [f"\n{title}, {UNITS} units, {found['rows'].iloc[0]:,} rows"]
    for name, own in times.items():
        ratio = own / times[OURS]
        spread = between(ratio.min(), ratio.max())
        lines.append(f"  {name:36} {short(own.median()):>7} ms   x {short(ratio.median())} ({spread})")
    return "\n".join(lines)
