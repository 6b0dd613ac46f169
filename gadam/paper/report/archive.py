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

import json
import lzma
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from gadam.config import RESULTS_VERSION
from gadam.datasets import SOURCES
from gadam.paper import import_sections
from gadam.paper.report import store
from gadam.paper.report.paths import write_atomic
from gadam.paper.report.store import Stored
from gadam.paper.runs import RUN_FUNCTIONS, Run


@dataclass(frozen=True)
class Archive:
    """The content of an archive: lines of the present versions and data, by the key of their run.

    `refused` counts the others, by why: "damaged", "another version", "other data".
    """

    lines: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)

    def find(self, run: Run) -> Stored | None:
        """The archived run; None where there is none."""
        content = self.lines.get(run.key)
        return None if content is None else Stored(run, store.rows_of(content), content["metadata"])


def read(path: Path) -> Archive:
    """Read an archive; empty where there is no such file. Lines that cannot be used are refused and counted."""
    import_sections()  # which declare the run functions
    lines: dict[str, Mapping[str, Any]] = {}
    refused: Counter[str] = Counter()
    for line in _lines(path) if path.is_file() else ():
        try:
            content = json.loads(line)
            key, why = store.check(content), _stale(content["identity"])
        except store.DAMAGE:
            why = "damaged"
        if why:
            refused[why] += 1
        else:
            lines[key] = content
    return Archive(lines, dict(refused))


def _lines(path: Path) -> Iterator[bytes]:
    """Yield the lines; where reading fails, one that is invalid, so that the loss is counted."""
    try:
        with lzma.open(path) as file:
            yield from file
    except (lzma.LZMAError, EOFError, OSError):
        yield b"the rest cannot be read"


def _stale(identity: Mapping[str, Any]) -> str:
    """Say why an archived run is outdated; "" if it is not."""
    function = RUN_FUNCTIONS.get(identity["run"])
    found = identity["version"], identity["engine"]
    if function is None or found != (function.version, RESULTS_VERSION if function.engine else None):
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
    """Return a row for each row of each archived run, or of those of a name, such as "tables/gadam".

    Beside the columns of the rows there are `run`, `config.NAME` for each setting, `cpu_seconds` and `stored`; what
    a run does not have is missing.
    """
    rows = []
    for content in archive.lines.values():
        identity, metadata = content["identity"], content["metadata"]
        if run in (None, identity["run"]):
            about = {"run": identity["run"], **{f"config.{name}": value for name, value in identity["config"].items()}}
            about |= {name: metadata[name] for name in ("cpu_seconds", "stored")}
            rows += [about | row for row in store.rows_of(content)]
    return pd.DataFrame(rows)
