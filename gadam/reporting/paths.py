"""Where runs and reports live, how a file is written whole or not at all, and the error that a reader understands."""

from __future__ import annotations

import contextlib
import hashlib
import os
import uuid
from pathlib import Path

import gadam


class ReportError(RuntimeError):
    """A report could not be made; the message is one line that says what failed and why."""


def checkout() -> Path | None:
    """The folder of the project's own source tree; None where the package is installed elsewhere."""
    folder = Path(gadam.__file__).resolve().parents[1]
    return folder if (folder / "pyproject.toml").is_file() else None


def project_root() -> Path:
    """The source tree, or the current folder where there is none."""
    return checkout() or Path.cwd()


def reports_root() -> Path:
    """`$GADAM_REPORTS`, or `reports/` of the project."""
    return Path(os.environ.get("GADAM_REPORTS") or project_root() / "reports").expanduser().absolute()


def runs_root() -> Path:
    """`$GADAM_RUNS`, or `reports/runs` of the project."""
    return Path(os.environ.get("GADAM_RUNS") or project_root() / "reports" / "runs").expanduser().absolute()


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that whoever looks sees the old one or the new one, after a crash too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not tempfile: its files are readable by their owner alone, and these are meant to be shared.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
