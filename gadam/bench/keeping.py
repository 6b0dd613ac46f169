"""What checkpoints cost: `gadam bench --checkpoint`."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pandas as pd
import torch

from gadam.bench.measure import Say, orders
from gadam.bench.results import between, short
from gadam.config import GadamConfig, InputError
from gadam.evolution import checkpoint
from gadam.evolution import loop as evolution
from gadam.models import lenet5
from gadam.paper.report.paths import reports_root, write_atomic
from gadam.paper.report.tables import to_csv
from gadam.training.plan import resolve_device

# The sizes of a run of Section 5.1 in profile quick, images and all; how long it takes does not depend on the pixels.
QUICK = GadamConfig(population_size=10, generations=5, steps=16, batch_size=32, validation_size=256)
IMAGES = 58_000
NONE = "no checkpoint"
WAYS: dict[str, tuple[float | None, float]] = {
    NONE: (None, checkpoint.SHARE),
    "as it comes, every 60 s": (60.0, checkpoint.SHARE),
    "every second": (1.0, checkpoint.SHARE),
    "every half second, whatever it costs": (0.5, math.inf),
}
"""Seconds between writes, and the share of the time over which there are more seconds between them. The run takes some
ten seconds, so only the last way writes in each generation; the others write at the start, the end and perhaps once."""


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
        A row per way and repeat: way, repeat (from 1), seconds (of the run), writes (of the file), write_seconds (of
        all of them), identity_seconds (of hashing the rows, once), megabytes (of the file). The parts are timed inside
        the run, for on a machine that others use too they are less than whole runs differ by.

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
                started = time.perf_counter()
                interval, share = WAYS[way]
                with _counted(share) as spent:
                    evolution.evolve(
                        lenet5, rows, QUICK, device=on, progress=False, checkpoint=None if interval is None else path,
                        checkpoint_seconds=interval or 60.0,
                    )  # fmt: skip
                seconds = time.perf_counter() - started
                size = path.stat().st_size / 1e6 if path.exists() else 0.0
                path.unlink(missing_ok=True)
                if repeat:  # the first is for warming up
                    found.append({"way": way, "repeat": repeat, "seconds": seconds, **vars(spent), "megabytes": size})
    frame = pd.DataFrame(found)
    write_atomic((reports_root() / "bench" if folder is None else folder) / "checkpoint.csv", to_csv(frame))
    say(f"A run of MNIST in profile quick, 10 units of LeNet-5, medians of {repeats} on {on}:")
    own = frame.set_index("repeat").groupby("way")
    without = own.get_group(NONE)["seconds"]
    for way in WAYS:
        each = own.get_group(way)
        ratio = each["seconds"] / without
        spent_share = ((each["write_seconds"] + each["identity_seconds"]) / each["seconds"]).median()
        write = 1e3 * (each["write_seconds"] / each["writes"].clip(lower=1)).median()
        say(
            f"  {way:36} {short(each['seconds'].median()):>7} s   x {ratio.median():.3f} "
            f"({between(ratio.min(), ratio.max())})   {each['writes'].median():g} writes of {short(write)} ms, "
            f"identity {short(1e3 * each['identity_seconds'].median())} ms: {spent_share:.2%} of the run"
        )
    return frame


@dataclass
class Spent:
    """On checkpoints, in one run: see `checkpointing`."""

    writes: int = 0
    write_seconds: float = 0.0
    identity_seconds: float = 0.0


@contextmanager
def _counted(share: float) -> Iterator[Spent]:
    """What is spent on checkpoints inside, where at most such a share of the time may be."""
    spent = Spent()
    keep, identify, write = checkpoint.Keeper.keep, evolution.identify, checkpoint.storage.write

    def kept(*given: Any, **named: Any) -> None:
        before, writes, started = spent.identity_seconds, spent.writes, time.perf_counter()
        keep(*given, **named)
        if spent.writes > writes:  # without what the first one takes to know what it is of
            spent.write_seconds += time.perf_counter() - started - (spent.identity_seconds - before)

    def identified(*given: Any, **named: Any) -> Any:
        started = time.perf_counter()
        found = identify(*given, **named)
        spent.identity_seconds += time.perf_counter() - started
        return found

    def written(*given: Any, **named: Any) -> None:
        spent.writes += 1
        write(*given, **named)

    places: list[tuple[Any, str, Any]] = [
        (checkpoint.Keeper, "keep", kept), (evolution, "identify", identified), (checkpoint.storage, "write", written),
        (checkpoint, "SHARE", share),
    ]  # fmt: skip
    with ExitStack() as stack:
        for place in places:
            stack.enter_context(patch.object(*place))
        yield spent
