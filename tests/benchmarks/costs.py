"""Time what a population costs beside one network of as many steps, and rates of its own beside one rate.

Everyone in turns, one repeat after another; prints medians and ratios, and writes costs.csv. Run it by
`python tests/benchmarks/costs.py`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from contestants import train_alone

import gadam
from gadam.models import MLP_HIDDEN, mlp
from gadam.paper.report.paths import reports_root

ROWS, FEATURES, CLASSES, BATCH = 16_000, 16, 26, 128  # of LETTER, and drawn: time does not depend on what they say
RANGES = {"learning_rate": (3e-4, 3e-2)}
Rows = tuple[torch.Tensor, torch.Tensor]
make_model = partial(mlp, FEATURES, CLASSES, MLP_HIDDEN["letter"])


def teaching(rows: Rows, steps: int) -> dict[str, Callable[[], object]]:
    """Three ways to spend so many steps on one network; PyTorch's without schedule or averages, which cost more."""
    held = rows[0][:1_000], rows[1][:1_000]
    smooth = gadam.GadamConfig(population_size=1, generations=1, steps=steps // 2, schedule="cosine", average=0.01)

    def plain() -> None:
        train_alone(make_model(), *rows, torch.randint(ROWS, (steps, BATCH)))

    return {
        "gadam.teach": partial(gadam.teach, make_model, rows, total_steps=steps, validation=held, progress=False),
        "one long run, gadam.train": partial(gadam.train, make_model, rows, smooth, validation=held, progress=False),
        "one long run, plain PyTorch": plain,
    }


def ranges(rows: Rows, steps: int, units: int) -> dict[str, Callable[[], object]]:
    """A population with one rate, with a rate for each unit, and with a rate and a decay for each."""
    one = {"population_size": units, "generations": 1, "steps": steps // 2 // units}
    settings = {
        f"g = {units}: one rate": one,
        f"g = {units}: own rates": one | RANGES,
        f"g = {units}: own rates and decays": one | RANGES | {"weight_decay": (1e-3, 1e-1)},
    }
    return {
        name: partial(gadam.train, make_model, rows, gadam.GadamConfig(**own), progress=False)
        for name, own in settings.items()
    }


def measure(contestants: Mapping[str, Callable[[], object]], repeats: int) -> pd.DataFrame:
    """Return median seconds of each, and the median, least and largest ratio to the first within a repeat."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for repeat in range(repeats + 1):
        for name, train in contestants.items():
            start = time.perf_counter()
            train()
            if repeat:  # the first one compiles
                seconds[name].append(time.perf_counter() - start)
    found = pd.DataFrame(seconds)
    ratios = found.div(found.iloc[:, 0], axis=0)
    summary = {"seconds": found.median(), "ratio": ratios.median(), "least": ratios.min(), "most": ratios.max()}
    return pd.DataFrame(summary).rename_axis("contestant")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="costs", description=__doc__)
    parser.add_argument("--steps", type=int, default=10_000, help="of all units together")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=reports_root() / "bench", help="for costs.csv")
    given = parser.parse_args()
    rows = torch.randn(ROWS, FEATURES), torch.randint(CLASSES, (ROWS,))
    tables = [teaching(rows, given.steps), *(ranges(rows, given.steps, units) for units in (4, 10, 40))]
    found = []
    for contestants in tables:
        found.append(measure(contestants, given.repeats))
        print(found[-1].round(2), flush=True)
    given.folder.mkdir(parents=True, exist_ok=True)
    pd.concat(found).to_csv(given.folder / "costs.csv")


if __name__ == "__main__":
    main()
