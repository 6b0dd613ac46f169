"""Where the results of a report come from: code, machine, libraries, data, runs, time; and a hash of every file."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from gadam.datasets import SOURCES
from gadam.paper import ARCHIVED, SECTIONS
from gadam.paper.report import machine
from gadam.paper.report.paths import archive_path, project_root, read_json, sha256, write_json
from gadam.paper.report.store import Stored
from gadam.paper.runs import digest_of

OUTPUTS = ("tables/*", "figures/*", "claims/*", "scoreboard.csv")  # the files that are hashed


def note_runs(folder: Path, section: str, stored: Sequence[Stored]) -> None:
    """Note the runs that a section uses, and the machines that computed them."""
    content = _read(folder, section)
    for one in stored:
        computed = {name: one.metadata[name] for name in ("cpu_seconds", "stored")}
        facts = {name: fact for name, fact in one.metadata.items() if name not in (*computed, "seconds", "together")}
        computer = digest_of(facts)[:8]
        content["machines"][computer] = facts
        sources = sorted({str(row["data"]) for row in one.rows if "data" in row})
        content["runs"][one.run.key] = {
            "label": one.run.label, "arm": one.run.arm, **one.run.identity(), "sources": sources, **computed,
            "machine": computer,
        }  # fmt: skip
    write_json(_path(folder, section), content)


def note_execution(folder: Path, section: str, data: str, seconds: float) -> None:
    """Note that a section was executed just now, with this choice of data and by this code."""
    executed = {"when": _now(), "data": data, "seconds": round(seconds, 1), "git": machine.git_state()}
    write_json(_path(folder, section), _read(folder, section) | {"executed": executed})


def _path(folder: Path, section: str) -> Path:
    return folder / "used" / f"{section}.json"


def _read(folder: Path, section: str) -> dict[str, Any]:
    path = _path(folder, section)
    return dict(read_json(path)) if path.is_file() else {"runs": {}, "machines": {}}


def collect(folder: Path, profile: str) -> dict[str, Any]:
    """Collect all of it, in JSON values, for the report in `folder`."""
    used = {name: _read(folder, name) for name in SECTIONS if _path(folder, name).is_file()}
    runs = {key: run for section in used.values() for key, run in section["runs"].items()}
    archive = archive_path(profile)
    # An archive has every run with all that is known of it.
    archived = {"archive": {"file": archive.name, "sha256": sha256(archive)}}
    files = sorted(path for pattern in OUTPUTS for path in folder.glob(pattern) if path.name[0] != ".")
    return {
        "profile": profile,
        "written": _now(),
        "requirements.lock": sha256(project_root() / "requirements.lock"),
        **machine.describe(),
        "datasets": _datasets(runs),
        "seeds": sorted({run["config"]["seed"] for run in runs.values() if "seed" in run["config"]}),
        "sections": {name: {**one.get("executed", {}), "runs": len(one["runs"])} for name, one in used.items()},
        "computed": {"runs": len(runs), "cpu_seconds": round(sum(run["cpu_seconds"] for run in runs.values()))},
        **(archived if profile in ARCHIVED else {"runs": dict(sorted(runs.items()))}),
        "machines": {key: facts for section in used.values() for key, facts in section["machines"].items()},
        "files": {path.relative_to(folder).as_posix(): sha256(path) for path in files},
    }


def runs_used(folder: Path) -> pd.DataFrame:
    """Return a row for each run behind a section: its arm, which claims name, and its key in store and archive."""
    columns = ["section", "arm", "label", "seed", "cpu_seconds", "stored", "key"]
    lines = [
        run | {"section": name, "seed": run["config"].get("seed"), "key": key}
        for name in SECTIONS
        for key, run in _read(folder, name)["runs"].items()
    ]
    return pd.DataFrame(lines, columns=columns, dtype=object)


def _datasets(runs: dict[str, Any]) -> list[dict[str, Any]]:
    """Each dataset that a run used: its hash, whether it is real, and who serves it."""
    found = {(run["config"].get("dataset", ""), run["data"], tuple(run["sources"])) for run in runs.values()}
    return [
        {
            "name": name, "sha256": digest, "source": ", ".join(sources),
            "mirrors": list(SOURCES[name].mirrors) if name in SOURCES and "real" in sources else [],
        }
        for name, digest, sources in sorted(found)
        if digest
    ]  # fmt: skip


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
