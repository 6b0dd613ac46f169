"""Callbacks that ship: stop early, and write to TensorBoard."""

from __future__ import annotations

import math
import os
from typing import Any

import pandas as pd

from gadam.config import InputError
from gadam.result import Callback, Generation, Result
from gadam.validation import check_number, check_whole, read_path


class EarlyStopping(Callback):
    """Stops when the lowest loss on the fixed validation rows has not fallen for some generations.

    It needs `validation=`; take `restore_best=True` beside it for the best unit ever.

    Example:
        >>> gadam.evolve(make_model, train, config, validation=held_out, restore_best=True,
        ...              callbacks=[gadam.EarlyStopping(patience=3)])
    """

    needs_validation = needs_generations = True

    def __init__(self, patience: int = 3, min_delta: float = 0.0) -> None:
        """Wait for `patience` generations, at least 1, in which the loss falls by no more than `min_delta`."""
        check_whole("patience", patience, 1)
        check_number("min_delta", min_delta, lambda fall: 0 <= fall < math.inf, "a number of at least 0")
        self.patience, self.min_delta = patience, min_delta
        self._lowest, self._waited = math.inf, 0

    def on_start(self, *_: Any) -> None:  # noqa: D102
        self._lowest, self._waited = math.inf, 0

    def on_resume(self, history: pd.DataFrame) -> None:  # noqa: D102
        for _, rows in history.groupby("generation"):
            self._see(rows)

    def on_generation(self, generation: Generation) -> bool:  # noqa: D102
        self._see(generation.history)
        return self._waited >= self.patience

    def _see(self, rows: pd.DataFrame) -> None:
        lowest = float(rows["loss_validation"].replace(-math.inf, math.nan).min())
        falls = lowest < self._lowest - self.min_delta
        self._lowest, self._waited = (lowest, 0) if falls else (self._lowest, self._waited + 1)


class TensorBoard(Callback):
    """Writes the losses of each generation to TensorBoard, where that is installed.

    Scalars by generation: the lowest and the mean loss of survivors, the same on the fixed validation rows where there
    are such, and the share of children among survivors.

    Example:
        >>> gadam.evolve(make_model, data, config, callbacks=[gadam.TensorBoard("runs/first")])
    """

    needs_generations = True

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Write event files into a folder, which is made."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise InputError(
                "TensorBoard: the package tensorboard is not installed; it must come first: pip install tensorboard"
            ) from None
        self._make = SummaryWriter
        self._folder = read_path("folder", folder, folder=True)
        self._writer: Any = None

    def on_start(self, *_: Any) -> None:  # noqa: D102
        self._writer = self._make(str(self._folder))

    def on_generation(self, generation: Generation) -> None:  # noqa: D102
        survivors = generation.history[generation.history["survived"]]
        scalars = {"adoption": float((survivors["role"] == "child").mean())}
        for column in ("loss_survival", "loss_validation"):
            if column in survivors:
                scalars |= {f"{column}/lowest": survivors[column].min(), f"{column}/mean": survivors[column].mean()}
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, generation.number)

    def on_end(self, result: Result) -> None:  # noqa: D102
        self._writer.close()
