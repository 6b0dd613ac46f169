"""What checkpoints cost: `gadam bench --checkpoint`."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pandas as pd
import torch

from gadam.bench.measure import Say, orders
from gadam.bench.results import between, short
from gadam.checkpoint import Keeper
from gadam.config import GadamConfig, InputError
from gadam.evolution import evolve
from gadam.layout import resolve_device
from gadam.models import lenet5
from gadam.reporting.paths import reports_root, write_atomic
from gadam.reporting.tables import to_csv

# The sizes of a run of Section 5.1 in profile quick, images and all; how long it takes does not depend on the pixels.
QUICK = GadamConfig(population_size=10, generations=5, steps=16, batch_size=32, validation_size=256)
IMAGES = 58_000
WAYS: dict[str, float | None] = {"no checkpoint": None, "as it comes, every 60 s": 60.0, "every second": 1.0}
NONE = "no checkpoint"


def checkpointing(
    folder: Path | None = None, device: str = "auto", *, repeats: int = 5, say: Say = print
) -> pd.DataFrame:
    """Time a run of MNIST in profile quick with and without checkpoints, in turns, and write checkpoint.csv.

    Args:
        folder: for the file; None is `bench` of the reports.
        device: "auto", "cpu" or "cuda".
        repeats: measurements of each, in an order drawn for each repeat.
        say: given the table.

    Returns:
        A row per way and repeat: way, repeat (from 1), seconds, keeping (seconds of these that went into checkpoints,
        which tells small shares better than whole runs do on a machine that others use too), megabytes (at the end).

    Raises:
        InputError: an argument cannot be used.
    """
    if repeats < 1:
        raise InputError(f"repeats={repeats} must be at least 1")
    on = resolve_device(device)
    draw = torch.Generator().manual_seed(0)
    rows = torch.rand(IMAGES, 1, 28, 28, generator=draw).to(on), torch.randint(10, (IMAGES,), generator=draw).to(on)
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for repeat, order in enumerate(orders(list(WAYS), repeats + 1)):
            for way in order:
                path = Path(scratch) / f"{repeat} {list(WAYS).index(way)}"
                interval = WAYS[way]
                started = time.perf_counter()
                with _counted() as keeping:
                    evolve(
                        lenet5, rows, QUICK, device=on, progress=False, checkpoint=None if interval is None else path,
                        checkpoint_seconds=interval or 60.0,
                    )  # fmt: skip
                seconds = time.perf_counter() - started
                size = path.stat().st_size / 1e6 if path.exists() else 0.0
                path.unlink(missing_ok=True)
                if repeat:  # the first is for warming up
                    found.append(
                        {"way": way, "repeat": repeat, "seconds": seconds, "keeping": sum(keeping), "megabytes": size}
                    )
    frame = pd.DataFrame(found)
    write_atomic((reports_root() / "bench" if folder is None else folder) / "checkpoint.csv", to_csv(frame))
    times, kept = (frame.pivot_table(index="repeat", columns="way", values=each) for each in ("seconds", "keeping"))
    say(f"A run of MNIST in profile quick, 10 units of LeNet-5, medians of {repeats} on {on}:")
    for way in WAYS:
        ratio = times[way] / times[NONE]
        spread = between(ratio.min(), ratio.max())
        share = (kept[way] / times[way]).median()
        say(f"  {way:26} {short(times[way].median()):>7} s   x {ratio.median():.3f} ({spread})   keeping {share:.2%}")
    return frame


@contextmanager
def _counted() -> Iterator[list[float]]:
    """Seconds of each time that checkpoints are thought of, inside."""
    seconds: list[float] = []
    keep = Keeper.keep

    def timed(*given: Any, **named: Any) -> None:
        started = time.perf_counter()
        keep(*given, **named)
        seconds.append(time.perf_counter() - started)

    with patch.object(Keeper, "keep", timed):
        yield seconds
