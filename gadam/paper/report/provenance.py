"""Where the results of a report come from: code, machine, libraries, data, runs, time; and a hash of every file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gadam.paper import SECTIONS
from gadam.paper.report import machine, store
from gadam.paper.report.paths import ARCHIVED, ReportError, archive_path, project_root, sha256, write_atomic
from gadam.paper.report.store import Stored

OUTPUTS = ("tables", "figures", "claims")  # the folders whose files are hashed, beside scoreboard.csv


def note_runs(folder: Path, section: str, stored: Sequence[Stored]) -> None:
    """Note the runs that a section uses, and the machines that computed them."""
    content = _read(folder, section)
    for one in stored:
        computed = {name: one.metadata[name] for name in ("cpu_seconds", "stored")}
        facts = {name: fact for name, fact in one.metadata.items() if name not in (*computed, "seconds", "together")}
        computer = store.digest_of(facts)[:8]
        content["machines"][computer] = facts
        sources = sorted({str(row["data"]) for row in one.rows if "data" in row})
        content["runs"][one.run.key] = {
            "label": one.run.label, **one.run.identity(), "sources": sources, **computed, "machine": computer,
        }  # fmt: skip
    _write(folder, section, content)


def note_execution(folder: Path, section: str, data: str, seconds: float) -> None:
    """Note that a section was executed just now, with this choice of data and by this code."""
    executed = {"when": _now(), "data": data, "seconds": round(seconds, 1), "git": machine.git_state()}
    _write(folder, section, {**_read(folder, section), "executed": executed})


def _path(folder: Path, section: str) -> Path:
    return folder / "used" / f"{section}.json"


def _write(folder: Path, section: str, content: dict[str, Any]) -> None:
    write_atomic(_path(folder, section), json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _read(folder: Path, section: str) -> dict[str, Any]:
    path = _path(folder, section)
    if not path.is_file():
        return {"runs": {}, "machines": {}}
    try:
        content = json.loads(path.read_text("utf-8"))
        if not isinstance(content["runs"], dict) or not isinstance(content["machines"], dict):
            raise TypeError("no runs and machines in it")
        return dict(content)
    except (ValueError, KeyError, TypeError) as error:
        raise ReportError(f"{path} is damaged ({error}); remove it and reproduce its section again") from None


def collect(folder: Path, profile: str) -> dict[str, Any]:
    """Collect all of it, in JSON values, for the report in `folder`."""
    lock, archive = project_root() / "requirements.lock", archive_path(profile)
    used = {name: _read(folder, name) for name in SECTIONS if _path(folder, name).is_file()}
    runs = {key: run for section in used.values() for key, run in section["runs"].items()}
    files = sorted(path for part in OUTPUTS for path in (folder / part).glob("[!.]*") if path.is_file())
    files += [path for path in (folder / "scoreboard.csv",) if path.is_file()]
    return {
        "profile": profile,
        "written": _now(),
        "requirements.lock": _sha256(lock),
        **machine.describe(),
        "datasets": _datasets(runs),
        "seeds": sorted({run["config"]["seed"] for run in runs.values() if "seed" in run["config"]}),
        "sections": {
            name: {**section.get("executed", {}), "runs": len(section["runs"])} for name, section in used.items()
        },
        "computed": {"runs": len(runs), "cpu_seconds": round(sum(run["cpu_seconds"] for run in runs.values()))},
        # An archive has every run with all that is known of it.
        **(
            {"archive": {"file": archive.name, "sha256": _sha256(archive)}}
            if profile in ARCHIVED
            else {"runs": dict(sorted(runs.items()))}
        ),
        "machines": {key: facts for section in used.values() for key, facts in section["machines"].items()},
        "files": {path.relative_to(folder).as_posix(): sha256(path) for path in files},
    }


def _sha256(path: Path) -> str | None:
    return sha256(path) if path.is_file() else None


def _datasets(runs: dict[str, Any]) -> list[dict[str, Any]]:
    """Each dataset that a run used: its hash, whether it is real, and who serves it."""
    from gadam.datasets import SOURCES  # here, for it brings scikit-learn, which workers may not need

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
