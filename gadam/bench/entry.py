"""What the options of `gadam bench` and of `python -m gadam.bench` mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gadam.bench.measure import Say
from gadam.config import InputError


def run(
    *,
    workload: Sequence[str] | None = None,
    units: str | None = None,
    repeats: int | None = None,
    seconds: float | None = None,
    device: str = "auto",
    only: Sequence[str] | None = None,
    by_hand: bool = False,
    scale: bool = False,
    predict: bool = False,
    folder: Path | None = None,
    say: Say = print,
) -> None:
    """One of three benchmarks: of training, and instead of it `scale` or `predict`; see their functions.

    Raises:
        InputError: an option cannot be used, or not with the others.
    """
    if scale and predict:
        raise InputError("--scale cannot be given with --predict; give one of them")
    if scale or predict:
        refused = {"units": units, "only": only, "by_hand": by_hand} | ({"workload": workload} if scale else {})
        for name, value in refused.items():
            if value:
                option = "--scale" if scale else "--predict"
                raise InputError(f"{name}={value!r} cannot be given with {option}, which has its own")
    seconds = (0.5 if scale or predict else 1.5) if seconds is None else seconds
    repeats = (3 if scale else 5) if repeats is None else repeats
    # Imported here because the three together take seconds.
    if scale:
        from gadam.bench.scale import scale as measure_scale

        measure_scale(folder, device, repeats=repeats, seconds=seconds, say=say)
    elif predict:
        from gadam.bench.predict import predict as measure_predictions

        measure_predictions(workload, folder, device, repeats=repeats, seconds=seconds, say=say)
    else:
        from gadam.bench.command import bench, sizes

        bench(
            workload, sizes(units), repeats=repeats, seconds=seconds, device=device, only=only, by_hand=by_hand,
            folder=folder, say=say,
        )  # fmt: skip
