"""The archive of a profile: every run behind its committed report, one line of JSON each, in `runs.jsonl.xz`.

A line is what the run store keeps of a run:

    {"label": "YEAST · MLP (GADAM) · seed 200",
     "identity": {"run": "tables/gadam", "config": {"dataset": "yeast", "seed": 200, ...}, "data": "7cf617...",
                  "version": 1, "engine": 1},
     "rows": [{"method": "MLP (GADAM)", "accuracy": 60.1, ...}, ...],
     "metadata": {"cpu_seconds": 3.2, "stored": "2026-...", "cpu": "...", "git": {"commit": "..."}, "packages": {...}},
     "sha256": "..."}

`identity` says what was computed: the declared name of the run function, its config without what is at its default, the
SHA-256 of the dataset's contents ("" where none is loaded), the version of the function and, where it trains with the
engine, the engine's (`gadam.config.RESULTS_VERSION`). A float that JSON has not is {"float": "nan"}. `sha256` is of all
the rest, as JSON with sorted names. Lines are in the order of their identities, so equal archives are equal files.
"""

from __future__ import annotations

import functools
import json
import lzma
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from gadam.config import RESULTS_VERSION
from gadam.paper import import_sections
from gadam.paper.report import store
from gadam.paper.report.paths import write_atomic
from gadam.paper.report.store import Stored
from gadam.paper.runs import RUN_FUNCTIONS, Run

NAME = "runs.jsonl.xz"


@dataclass(frozen=True)
class Archive:
    """The content of an archive.

    Attributes:
        lines: those that are whole and of the present versions and data, by the key of their run.
        refused: how many are not, by why: "damaged", "another version", "other data".
    """

    lines: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)

    def find(self, run: Run) -> Stored | None:
        """The archived run; None where there is none."""
        content = self.lines.get(run.key)
        return None if content is None else store.from_content(run, content)


def read(path: Path) -> Archive:
    """Read an archive; empty where there is no such file. Lines that cannot be used are refused and counted."""
    try:
        found = path.stat()
    except OSError:
        return Archive()
    return _read(path, found.st_mtime_ns, found.st_size)


@functools.lru_cache(maxsize=4)
def _read(path: Path, changed: int, size: int) -> Archive:
    import_sections()  # which declare the run functions
    lines: dict[str, Mapping[str, Any]] = {}
    refused: Counter[str] = Counter()
    for line in _lines(path):
        try:
            content = json.loads(line)
            key = store.check(content)
            why = _stale(content["identity"])
        except (ValueError, KeyError, TypeError, AttributeError):
            why = "damaged"
        if why:
            refused[why] += 1
        else:
            lines[key] = content
    return Archive(lines, dict(refused))


def _lines(path: Path) -> Iterator[bytes]:
    """The lines of the file, as far as it can be read; then one that is none, for what is lost counts as damaged."""
    try:
        with lzma.open(path) as file:
            yield from file
    except (lzma.LZMAError, EOFError, OSError):
        yield b"the rest cannot be read"


def _stale(identity: Mapping[str, Any]) -> str:
    """Why a run would not be computed so any more; "" where it would."""
    from gadam.datasets.registry import SOURCES

    function = RUN_FUNCTIONS.get(identity["run"])
    if function is None or (identity["version"], identity["engine"]) != (
        function.version, RESULTS_VERSION if function.engine else None,
    ):  # fmt: skip
        return "another version"
    name, data = identity["config"].get("dataset"), identity["config"].get("data")
    if data == "standin" or (name in SOURCES and identity["data"] != SOURCES[name].hash):
        return "other data"
    return ""


def write(path: Path, contents: Iterable[Mapping[str, Any]]) -> None:
    """Write an archive of stored contents, whole or not at all."""
    ordered = sorted(contents, key=lambda content: json.dumps(content["identity"], sort_keys=True))
    text = "".join(json.dumps(content, allow_nan=False, ensure_ascii=False) + "\n" for content in ordered)
    write_atomic(path, lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))


def to_frame(archive: Archive, run: str | None = None) -> pd.DataFrame:
    """Return the rows of archived runs as one DataFrame.

    Args:
        archive: from `read`.
        run: only runs of this name, such as "tables/gadam"; None takes all.

    Returns:
        A row for each row of each run: column `run`, a column `config.NAME` for each setting, `cpu_seconds`, `stored`,
        and those of the rows; what a run does not have is missing.
    """
    rows = []
    for content in archive.lines.values():
        identity, metadata = content["identity"], content["metadata"]
        if run is None or identity["run"] == run:
            about = {"run": identity["run"], **{f"config.{name}": value for name, value in identity["config"].items()}}
            about |= {name: metadata[name] for name in ("cpu_seconds", "stored")}
            rows += [about | row for row in store.rows_of(content)]
    return pd.DataFrame(rows)
