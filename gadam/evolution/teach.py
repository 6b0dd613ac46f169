"""Teach: one network from the steps of a population, without a choice of learning rate (`gadam.teach`)."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from typing import Any

import torch
from torch import nn

from gadam.config import GadamConfig, InputError
from gadam.evolution.loop import evolve
from gadam.evolution.teaching import teacher_count
from gadam.randomness import VALIDATION, stream
from gadam.result import Callback, Result
from gadam.runtime import resolve_device
from gadam.training.batches import take_rows
from gadam.training.inputs import read_rows
from gadam.types import Device, Loss, Rows
from gadam.validation import check_number, check_whole

TEACH: dict[str, Any] = {
    "population_size": 8, "generations": 1, "children": 1, "survival": "children", "crossover": "teach",
    "parents": "half", "child_start": "fitter", "teach_weight": 0.9, "learning_rate": (3e-4, 3e-2),
    "weight_decay": 0.03, "schedule": "cosine", "average": 0.01, "validation_size": 10_000,
}  # fmt: skip
"""Settings of `teach`: eight teachers with rates of their own, of which the fitter half teaches one student.

They were chosen on development seeds (100 to 102) of the study in `gadam.paper.teach`, which reports others, in pilots
that saw test rows; those of ADULT, LETTER and MNIST are the same for every seed.
"""
TEACHER_SHARE = 0.45
"""Share of the steps that teachers take, unless `teacher_share` is given."""
HELD_OUT = 10
"""Rows of which one is held out, where no `validation` is given."""


def teach(
    make_model: Callable[[], nn.Module],
    data: Rows,
    *,
    total_steps: int,
    seed: int = 0,
    validation: Rows | None = None,
    loss: Loss = nn.functional.cross_entropy,
    executor: Executor | int | None = None,
    device: Device = "auto",
    callbacks: Iterable[Callback] = (),
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
    stop: threading.Event | None = None,
    teacher_share: float = TEACHER_SHARE,
    **settings: Any,
) -> Result:
    """Train several teachers and then one network on what the better of them predict together.

    No learning rate is asked for: each teacher draws its own, the better half by held-out rows teaches, and the student
    starts from the best of them and has its rate. It is `evolve` with other settings (`teach_config`) for one
    generation. Where one training still gains from further steps, those may be spent better on it.

    Example:
        >>> result = gadam.teach(make_model, (inputs, targets), total_steps=10_000)
        >>> result.predict(new_inputs), result.ensemble()(new_inputs)

    Arguments are those of `evolve` by these names; of them `total_steps` are the optimizer steps of all units together,
    the teachers' forward passes among them; `seed` is that of all streams; `validation` are rows by which teachers are
    judged, None holds out a tenth of `data`; `loss` is a cross-entropy, or one of values that is least where the output
    is the target, such as `mse_loss`; `teacher_share`, in (0, 1), is the share of the steps that the teachers take; and
    `settings` are those of `GadamConfig`, in the place of the preset: eight teachers with rates from 3e-4 to 3e-2,
    cosine schedule, averaged weights and AdamW's decay of 0.03.

    Returns:
        The result: `best` is the student; `teachers` are all units of the first phase, of whom half have taught it, and
        `ensemble()` is the vote of all; `history` has both; `gradient_steps` are at most `total_steps`.

    Raises:
        InputError: as `evolve`; or the steps are too few for so many units.
    """
    check_whole("seed", seed, 0, 2**63 - 1)
    chosen = resolve_device(device)
    rows = read_rows("data", data, chosen)
    if validation is None:
        count = len(rows[1])
        if count < 2 * HELD_OUT:
            raise InputError(f"data: {count} rows leave too few to hold out a tenth; give more, or validation=")
        order = torch.randperm(count, generator=stream("cpu", seed, VALIDATION)).to(chosen)
        held, kept = order.tensor_split([count // HELD_OUT])
        validation, rows = take_rows(rows, held), take_rows(rows, kept.sort().values)
    config = teach_config(len(rows[1]), total_steps, teacher_share=teacher_share, seed=seed, **settings)
    return evolve(
        make_model, rows, config, loss=loss, validation=validation, executor=executor, device=chosen,
        callbacks=callbacks, checkpoint=checkpoint, progress=progress, stop=stop,
    )  # fmt: skip


def teach_config(rows: int, total_steps: int, *, teacher_share: float = TEACHER_SHARE, **settings: Any) -> GadamConfig:
    """Return the settings of `teach` that spend so many steps on training rows of this number."""
    check_whole("total_steps", total_steps, 1)
    check_number("teacher_share", teacher_share, lambda share: 0 < share < 1, "a number in (0, 1)")
    for name in ("steps", "child_steps"):
        if name in settings:
            raise InputError(f"{name}: total_steps and teacher_share say how many; must not be given")
    if unknown := sorted(settings.keys() - set(GadamConfig.names())):
        raise InputError(f"{unknown[0]}: is no setting of gadam.GadamConfig and no argument of gadam.teach")
    preset = TEACH | ({} if settings.get("optimizer", "adam") == "adam" else {"weight_decay": 0.0})  # AdamW's alone
    config = GadamConfig(**{**preset, **settings})
    parents = [config.units_of("parent", number) for number in range(1, config.generations + 1)]
    children = config.generations * config.units_of("child", 1)
    predicted = sum(teacher_count(units, config) for units in parents)
    passes = math.ceil(predicted * rows / (3 * config.batch_size)) if config.crossover == "teach" else 0
    steps = int(teacher_share * max(0, total_steps - passes) / sum(parents))
    child_steps = (total_steps - passes - steps * sum(parents)) // children
    if steps < 1 or child_steps < 1:
        raise InputError(
            f"total_steps={total_steps:,} are too few: {sum(parents)} teachers and {children} students take one each "
            f"at least, and {passes:,} are for predictions"
        )
    return GadamConfig(**{**preset, **settings, "steps": steps, "child_steps": child_steps})
