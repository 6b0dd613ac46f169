"""What the options of `gadam bench` and of `python -m gadam.bench` mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
    minutes: float | None = None,
    scale: bool = False,
    predict: bool = False,
    checkpoint: bool = False,
    cluster: bool = False,
    folder: Path | None = None,
    say: Say = print,
) -> None:
    """One of five benchmarks: of training, and instead of it `scale`, `predict`, `checkpoint` or `cluster`.

    Raises:
        InputError: an option cannot be used, or not with the others.
    """
    instead = {"--scale": scale, "--predict": predict, "--checkpoint": checkpoint, "--cluster": cluster}
    asked = [option for option, value in instead.items() if value]
    if len(asked) > 1:
        raise InputError(f"{asked[0]} cannot be given with {asked[1]}; give one of them")
    refused: dict[str, Any] = {
        "units": units,
        "only": only,
        "by_hand": by_hand,
        "minutes": minutes,
        **({} if predict else {"workload": workload}),
    }
    if checkpoint or cluster:
        refused["seconds"] = seconds
    if cluster:
        refused["repeats"] = repeats
    for name, value in refused.items():
        if asked and value:
            raise InputError(f"{name}={value!r} cannot be given with {asked[0]}, which has its own")
    seconds = (0.5 if scale or predict else 1.5) if seconds is None else seconds
    repeats = (3 if scale else 5) if repeats is None else repeats
    # Imported here because all of them together take seconds.
    if scale:
        from gadam.bench.scale import scale as measure_scale

        measure_scale(folder, device, repeats=repeats, seconds=seconds, say=say)
    elif predict:
        from gadam.bench.predict import predict as measure_predictions

        measure_predictions(workload, folder, device, repeats=repeats, seconds=seconds, say=say)
    elif checkpoint:
        from gadam.bench.keeping import checkpointing

        checkpointing(folder, device, repeats=repeats, say=say)
    elif cluster:
        from gadam.bench.cluster import cluster as measure_cluster

        measure_cluster(folder, say=say)
    else:
        from gadam.bench.command import bench, sizes

        bench(
            workload, sizes(units), repeats=repeats, seconds=seconds, device=device, only=only, by_hand=by_hand,
            minutes=minutes, folder=folder, say=say,
        )  # fmt: skip
