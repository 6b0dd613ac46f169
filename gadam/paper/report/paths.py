"""Folders of runs and reports, files written whole or not at all, and `ReportError`."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gadam.config import InputError
from gadam.validation import expand

DAY = 24 * 60 * 60
_SCRATCH = ".gadam-"


class ReportError(RuntimeError):
    """A report could not be made; the message is one line that says what failed and why."""


class SampleError(ReportError):
    """Runs that were recomputed differ from the archive."""


def checkout() -> Path | None:
    """The source tree of the project; None where the package is installed elsewhere."""
    folder = Path(__file__).resolve().parents[3]
    return folder if (folder / "pyproject.toml").is_file() else None


def project_root() -> Path:
    """The source tree, or the current folder where there is none."""
    return checkout() or Path.cwd()


def notebooks_folder() -> Path:
    """The notebooks: of the source tree, or those that are installed with the package."""
    folder = checkout()
    return folder / "notebooks" if folder else Path(__file__).parents[1] / "notebooks"


def committed_root() -> Path:
    """Folder of the committed reports and their archives: `reports/` of the project."""
    return project_root() / "reports"


def archive_path(profile: str) -> Path:
    """The archive of a profile: `<profile>/runs.jsonl.xz` in `$GADAM_ARCHIVE`, else the project's or the package's."""
    default = committed_root() if checkout() else Path(__file__).parents[1] / "archive"
    return _folder("GADAM_ARCHIVE", default) / profile / "runs.jsonl.xz"


def reports_root() -> Path:
    """Folder that reports are written to: `$GADAM_REPORTS`, or `reports/out`, which git ignores."""
    return _folder("GADAM_REPORTS", committed_root() / "out")


def runs_root() -> Path:
    """Folder of the run store: `$GADAM_RUNS`, or `reports/runs` of the project."""
    return _folder("GADAM_RUNS", committed_root() / "runs")


def _folder(variable: str, default: Path) -> Path:
    return expand(variable, os.environ.get(variable) or str(default))


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, after a crash too; a ReportError if it cannot."""
    from gadam import storage  # here, for it brings torch

    try:
        storage.write_bytes(path, content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise ReportError(f"cannot write {path}: {error.strerror or error}; see that it can be written") from error


def write_json(path: Path, content: Any) -> None:
    """Write JSON values for people and programs."""
    write_atomic(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a file of JSON; raises an `InputError` if it is damaged."""
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); remove it, and reproduce its section again") from None


@contextlib.contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A hidden folder in `parent`, so on its disk: what is finished there is renamed into place, the rest removed."""
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(".tmp", _SCRATCH, parent, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def prepare_folder(folder: Path, variable: str) -> None:
    """Make a folder ready for hours of writing: raise a `ReportError` now if nothing can be written there.

    What killed writers left in it and below a day ago is removed, and checkpoints of runs after a month. `variable`
    names another folder.
    """
    from gadam import storage

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b" " * 4_096)
    except OSError as error:
        told = f"cannot write into {folder}: {error.strerror or error}"
        raise ReportError(f"{told}; see that it can be written, or set ${variable} to another folder") from error
    # No other names, nor any deeper: the folder may hold what is not ours.
    digit = "[0-9a-f]"
    for pattern in (f".*.{32 * digit}.tmp", f"*/.*.{32 * digit}.tmp", f"{_SCRATCH}*.tmp"):
        storage.remove_stale(folder, pattern, DAY)
    storage.remove_stale(folder, f".{64 * digit}.checkpoints", 30 * DAY)


def sha256(path: Path) -> str | None:
    """SHA-256 (hex) of a file's bytes; None where there is no file."""
    if not path.is_file():
        return None
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
