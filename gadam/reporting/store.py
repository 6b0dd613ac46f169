"""The run store: one JSON file a run, under the hash of all that its rows depend on.

The key is the SHA-256 of the run's identity (function, config, dataset hash) and of the code (see `fingerprint`). The
process that computed a run writes its file, whole or not at all, so whatever is killed loses only what was not
finished, and processes that compute into the same folder at once at worst do a run twice.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gadam.checkpoint import checkpoints_in
from gadam.config import InputError
from gadam.experiments.runs import Row, Run, execute_together
from gadam.reporting import machine
from gadam.reporting.fingerprint import engine_fingerprint, function_fingerprint
from gadam.reporting.paths import write_atomic


@dataclass(frozen=True)
class Stored:
    """A run that is in the store: its rows, and what computed them."""

    run: Run
    key: str
    rows: list[Row]
    metadata: dict[str, Any]


def keys(runs: Sequence[Run]) -> list[str]:
    """The key of each run, for the source code as it is now."""
    engine = engine_fingerprint() if runs else ""
    code = {function: function_fingerprint(function) for function in {run.function for run in runs}}
    return [key_of(run, engine, code[run.function]) for run in runs]


def key_of(run: Run, engine: str, code: str) -> str:
    """The key of a run, for the fingerprints of the engine and of its function."""
    return hashlib.sha256(json.dumps([run.identity(), engine, code]).encode()).hexdigest()


def path_of(root: Path, key: str) -> Path:
    """The file of a key."""
    return root / f"{key}.json"


def read(root: Path, key: str, run: Run) -> Stored | None:
    """The stored run; None where there is none. A damaged file counts as none, with a warning."""
    path = path_of(root, key)
    try:
        content = json.loads(path.read_bytes())
        digest = content.pop("sha256")
        if content["identity"] != json.loads(run.identity()) or digest != _digest(content):
            raise ValueError("its content is not what was written")
        rows = [{name: _from_json(value) for name, value in row.items()} for row in content["rows"]]
        return Stored(run, key, rows, dict(content["metadata"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        warnings.warn(f"{path}: damaged ({error}); this run is computed again", RuntimeWarning, stacklevel=2)
        return None


def frame(stored: Sequence[Stored]) -> pd.DataFrame:
    """Each row of each run, in order."""
    return pd.DataFrame([row for one in stored for row in one.rows])


def execute_and_write(root: Path, key: str, run: Run) -> float:
    """Compute a run and store it; the seconds that it took.

    Its trainings keep checkpoints beside the store until it is: a run that was stopped goes on.
    """
    return execute_and_write_all(root, {key: run})


def execute_and_write_all(root: Path, runs: Mapping[str, Run]) -> float:
    """The same for several kin runs by their keys, computed in one call; the seconds of each, an equal share."""
    started = time.perf_counter()
    checkpoints = root / f".{_digest(list(runs)) if len(runs) > 1 else next(iter(runs))}.checkpoints"
    several = list(runs.values())
    with checkpoints_in(checkpoints):
        results = execute_together(several) if len(several) > 1 else [several[0].execute()]
    seconds = (time.perf_counter() - started) / len(several)
    for (key, run), result in zip(runs.items(), results, strict=True):
        _write(root, key, run, result, {"seconds": round(seconds, 3), "together": len(several)})
    shutil.rmtree(checkpoints, ignore_errors=True)
    return seconds


def _write(root: Path, key: str, run: Run, result: Sequence[Row], took: Mapping[str, Any]) -> None:
    rows = [{name: _to_json(name, value) for name, value in row.items()} for row in result]
    content = {
        "label": run.label,
        "identity": json.loads(run.identity()),
        "rows": rows,
        "metadata": {
            **took,
            "work": run.work,
            "stored": datetime.now(UTC).isoformat(timespec="seconds"),
            **machine.describe(),
        },
    }
    content["sha256"] = _digest(content)
    write_atomic(path_of(root, key), json.dumps(content, allow_nan=False, ensure_ascii=False, indent=1) + "\n")


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


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
