"""The run store: one JSON file a run, under the hash of all that its rows depend on; behind it, the archive.

The key is that of `Run.key`: what is computed, of which data, in which version. The process that computed a run writes
its file, whole or not at all, so whatever is killed loses only what was not finished, and processes that compute into
the same folder at once at worst do a run twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import shutil
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gadam.config import InputError
from gadam.evolution.checkpoint import checkpoints_in
from gadam.paper.report import machine
from gadam.paper.report.paths import write_atomic
from gadam.paper.runs import Row, Run, execute_together, key_of


class DamagedRunError(ValueError):
    """A stored run is not what was written."""


@dataclass(frozen=True)
class Stored:
    """A run that was computed: its rows, and what computed them."""

    run: Run
    rows: list[Row]
    metadata: dict[str, Any]


def path_of(root: Path, key: str) -> Path:
    """The file of a key."""
    return root / f"{key}.json"


def read(root: Path, run: Run) -> Stored | None:
    """The stored run; None where there is none. A damaged file counts as none, with a warning."""
    path = path_of(root, run.key)
    try:
        content = json.loads(path.read_bytes())
        check(content)
        if content["identity"] != run.identity():
            raise DamagedRunError("it is of another run")
        return from_content(run, content)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        warnings.warn(f"{path}: damaged ({error}); this run counts as missing", RuntimeWarning, stacklevel=2)
        return None


def check(content: Mapping[str, Any]) -> str:
    """The key of what is stored of a run.

    Raises:
        DamagedRunError: it is not what was written.
    """
    try:
        rest = {name: value for name, value in content.items() if name != "sha256"}
        if digest_of(rest) != content["sha256"]:
            raise DamagedRunError("its content is not what was written")
        return key_of(content["identity"])
    except (KeyError, TypeError, AttributeError) as error:
        raise DamagedRunError(f"it lacks something: {error}") from None


def from_content(run: Run, content: Mapping[str, Any]) -> Stored:
    """A stored run from what its file or its line in an archive holds."""
    return Stored(run, rows_of(content), dict(content["metadata"]))


def rows_of(content: Mapping[str, Any]) -> list[Row]:
    """The rows of what is stored of a run."""
    return [{name: _from_json(value) for name, value in row.items()} for row in content["rows"]]


def frame(stored: Sequence[Stored]) -> pd.DataFrame:
    """Each row of each run, in order."""
    return pd.DataFrame([row for one in stored for row in one.rows])


def execute_and_write(root: Path, run: Run) -> float:
    """Compute a run and store it; the seconds that it took.

    Its trainings keep checkpoints beside the store until it is: a run that was stopped goes on.
    """
    return execute_and_write_all(root, [run])


def execute_and_write_all(root: Path, runs: Sequence[Run]) -> float:
    """The same for several kin runs, computed in one call; the seconds of each, an equal share."""
    started = time.perf_counter()
    folder = root / f".{digest_of([run.key for run in runs]) if len(runs) > 1 else runs[0].key}.checkpoints"
    with _counting(folder) as spent, checkpoints_in(folder):
        results = execute_together(runs) if len(runs) > 1 else [runs[0].execute()]
    seconds = (time.perf_counter() - started) / len(runs)
    took = {"cpu_seconds": round(spent() / len(runs), 3), "seconds": round(seconds, 3), "together": len(runs)}
    for run, result in zip(runs, results, strict=True):
        _write(root, run, result, took)
    shutil.rmtree(folder, ignore_errors=True)
    return seconds


_NOTE_SECONDS = 30.0  # of CPU time are lost at most when a process is killed


@contextlib.contextmanager
def _counting(folder: Path) -> Iterator[Any]:
    """CPU seconds of this process, and of those before it whose checkpoints it goes on from: a function that says them.

    Wall time would say how busy the machine was.
    """
    note, start = folder / "cpu_seconds", time.process_time()
    before = 0.0
    if any(folder.glob("*.safetensors")):
        with contextlib.suppress(OSError, ValueError):
            before = float(note.read_text())
    done = threading.Event()

    def spent() -> float:
        return before + time.process_time() - start

    def keep() -> None:
        while not done.wait(_NOTE_SECONDS):
            if folder.is_dir():
                with contextlib.suppress(OSError):
                    write_atomic(note, repr(spent()))

    thread = threading.Thread(target=keep, daemon=True)
    thread.start()
    try:
        yield spent
    finally:
        done.set()
        thread.join()
        if folder.is_dir():
            with contextlib.suppress(OSError):
                write_atomic(note, repr(spent()))


def _write(root: Path, run: Run, result: Sequence[Row], took: Mapping[str, Any]) -> None:
    rows = [{name: _to_json(name, value) for name, value in row.items()} for row in result]
    content: dict[str, Any] = {
        "label": run.label,
        "identity": run.identity(),
        "rows": rows,
        "metadata": {**took, "stored": datetime.now(UTC).isoformat(timespec="seconds"), **machine.describe()},
    }
    content["sha256"] = digest_of(content)
    write_atomic(path_of(root, run.key), json.dumps(content, allow_nan=False, ensure_ascii=False, indent=1) + "\n")


def digest_of(content: Any) -> str:
    """SHA-256 (hex) of JSON values, whatever the order of names."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


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
