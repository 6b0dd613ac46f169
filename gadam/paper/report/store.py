"""The run store: one JSON file a run, under its key (`Run.key`).

The process that computed a run writes its file, whole or not at all, so a kill loses only what was not finished, and
processes that compute into the same folder at once at worst do a run twice.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gadam.config import InputError
from gadam.evolution.checkpoint import checkpoints_in
from gadam.paper.report import machine
from gadam.paper.report.paths import ReportError, write_atomic
from gadam.paper.runs import Row, Run, digest_of

DAMAGE = (ValueError, KeyError, TypeError, AttributeError)
"""What reading a content that is not what was written may raise."""
_NOTE_SECONDS = 30.0  # CPU time whose count is lost at most when a process is killed


@dataclass(frozen=True)
class Stored:
    """A run that was computed: its rows, and facts on what computed them."""

    run: Run
    rows: list[Row]
    metadata: dict[str, Any]


def path_of(root: Path, key: str) -> Path:
    """The file of a key."""
    return root / f"{key}.json"


def read(root: Path, run: Run) -> Stored | None:
    """Read a stored run; None where there is none. A damaged file counts as none, with a warning."""
    path = path_of(root, run.key)
    try:
        content = json.loads(path.read_bytes())
        if check(content) != run.key:
            raise ValueError("it is of another run")
        return Stored(run, rows_of(content), content["metadata"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except DAMAGE as error:
        warnings.warn(f"{path}: damaged ({error}); this run counts as missing", RuntimeWarning, stacklevel=2)
        return None


def check(content: Mapping[str, Any]) -> str:
    """Return the key of the stored content of a run; raises one of `DAMAGE` if it is not what was written."""
    if digest_of({name: value for name, value in content.items() if name != "sha256"}) != content["sha256"]:
        raise ValueError("its content is not what was written")
    return digest_of(content["identity"])


def rows_of(content: Mapping[str, Any]) -> list[Row]:
    """Return the rows of the stored content of a run."""
    return [{name: _from_json(value) for name, value in row.items()} for row in content["rows"]]


def frame(stored: Sequence[Stored]) -> pd.DataFrame:
    """Return each row of each run, in order, and in column "arm" what it repeats, see `Run`."""
    return pd.DataFrame([{**row, "arm": one.run.arm} for one in stored for row in one.rows])


def execute_and_write(root: Path, run: Run) -> float:
    """Compute and store a run, and return the seconds that it took.

    Its trainings keep checkpoints beside the store until then, so a run that was stopped goes on.
    """
    started = time.perf_counter()
    folder = root / f".{run.key}.checkpoints"
    with _counting(folder) as spent, checkpoints_in(folder):
        rows = run.function(**run.config)
    seconds = round(time.perf_counter() - started, 3)
    content = {
        "label": run.label,
        "identity": run.identity(),
        "rows": [{name: _to_json(name, value) for name, value in row.items()} for row in rows],
        "metadata": {
            "cpu_seconds": round(spent(), 3), "seconds": seconds,
            "stored": datetime.now(UTC).isoformat(timespec="seconds"), **machine.describe(),
        },
    }  # fmt: skip
    content["sha256"] = digest_of(content)
    text = json.dumps(content, allow_nan=False, ensure_ascii=False, indent=1)
    write_atomic(path_of(root, run.key), text + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    return seconds


@contextlib.contextmanager
def _counting(folder: Path) -> Iterator[Callable[[], float]]:
    """Count CPU seconds, those of earlier processes whose checkpoints this one goes on from among them.

    Wall time would say how busy the machine was. The count is noted beside the checkpoints.
    """
    note, start, before = folder / "cpu_seconds", time.process_time(), 0.0
    if any(folder.glob("*.safetensors")):
        with contextlib.suppress(OSError, ValueError):
            before = float(note.read_text())
    done = threading.Event()

    def spent() -> float:
        return before + time.process_time() - start

    def keep() -> None:
        last = False
        while not last:
            last = done.wait(_NOTE_SECONDS)
            if folder.is_dir():
                with contextlib.suppress(OSError, ReportError):
                    write_atomic(note, repr(spent()))

    thread = threading.Thread(target=keep, daemon=True)
    thread.start()
    try:
        yield spent
    finally:
        done.set()
        thread.join()


def _to_json(name: str, value: Any) -> Any:
    """A value of a row as valid JSON that reads back exactly; JSON knows no NaN and no infinity, so they go as text."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_to_json(name, part) for part in value]
    raise InputError(f"Run: column {name!r} holds a {type(value).__name__}; allowed are JSON values without objects")


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        return float(value["float"])
    return [_from_json(part) for part in value] if isinstance(value, list) else value
