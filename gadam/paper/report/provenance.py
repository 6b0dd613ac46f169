"""Where the results of a report come from: code, machine, libraries, data, runs, time; and a hash of every file."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gadam.paper import SECTIONS
from gadam.paper.report import machine
from gadam.paper.report.paths import ARCHIVED, ReportError, archive_path, project_root, sha256, write_atomic

OUTPUTS = ("tables", "figures", "claims")  # the folders whose files are hashed, beside scoreboard.csv


def used_path(folder: Path, section: str) -> Path:
    """Where a section notes its runs and its execution."""
    return folder / "used" / f"{section}.json"


def note_execution(folder: Path, section: str, data: str, seconds: float) -> None:
    """Note that a section was executed just now, with this choice of data and by this code."""
    path = used_path(folder, section)
    content = _read(path) if path.is_file() else {"runs": {}, "machines": {}}
    content["executed"] = {"when": _now(), "data": data, "seconds": round(seconds, 1), "git": machine.git_state()}
    write_atomic(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
        if not isinstance(content["runs"], dict) or not isinstance(content["machines"], dict):
            raise TypeError("no runs and machines in it")
        return dict(content)
    except (ValueError, KeyError, TypeError) as error:
        raise ReportError(f"{path} is damaged ({error}); remove it and reproduce its section again") from None


def collect(folder: Path, profile: str) -> dict[str, Any]:
    """All of it, in JSON values, for the report in `folder`."""
    lock = project_root() / "requirements.lock"
    used = {name: _read(used_path(folder, name)) for name in SECTIONS if used_path(folder, name).is_file()}
    runs = {key: run for section in used.values() for key, run in section["runs"].items()}
    files = sorted(path for part in OUTPUTS for path in (folder / part).glob("[!.]*") if path.is_file())
    files += [path for path in (folder / "scoreboard.csv",) if path.is_file()]
    return {
        "profile": profile,
        "written": _now(),
        "requirements.lock": sha256(lock) if lock.is_file() else None,
        **machine.describe(),
        "datasets": _datasets(runs),
        "seeds": sorted({run["config"]["seed"] for run in runs.values() if "seed" in run["config"]}),
        "sections": {
            name: {**section.get("executed", {}), "runs": len(section["runs"])} for name, section in used.items()
        },
        "computed": {"runs": len(runs), "cpu_seconds": round(sum(run["cpu_seconds"] for run in runs.values()))},
        # An archive has every run with all that is known of it.
        **({"archive": _archive(profile)} if profile in ARCHIVED else {"runs": dict(sorted(runs.items()))}),
        "machines": {key: facts for section in used.values() for key, facts in section["machines"].items()},
        "files": {path.relative_to(folder).as_posix(): sha256(path) for path in files},
    }


def write(folder: Path, content: dict[str, Any]) -> None:
    """Write `provenance.json`."""
    write_atomic(folder / "provenance.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _archive(profile: str) -> dict[str, Any]:
    """Which archive a report is rendered from."""
    path = archive_path(profile)
    return {"file": path.name, "sha256": sha256(path) if path.is_file() else None}


def _datasets(runs: dict[str, Any]) -> list[dict[str, Any]]:
    """Each dataset that a run used: its hash, whether it is real, and who serves it."""
    found = {(run["config"].get("dataset", ""), run["data"], tuple(run["sources"])) for run in runs.values()}
    return [
        {"name": name, "sha256": digest, "source": ", ".join(sources), "mirrors": list(_mirrors(name, sources))}
        for name, digest, sources in sorted(found)
        if digest
    ]


def _mirrors(name: str, sources: tuple[str, ...]) -> tuple[str, ...]:
    from gadam.datasets import SOURCES  # here, for it brings scikit-learn, which workers may not need

    return SOURCES[name].mirrors if name in SOURCES and "real" in sources else ()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
