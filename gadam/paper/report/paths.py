"""Folders of runs and reports, files written whole or not at all, and `ReportError`."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from gadam.config import InputError

DAY = 24 * 60 * 60
ARCHIVED = ("standard", "paper")
"""Profiles that are rendered from runs computed before; nothing of them is computed unasked."""
ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "make the folder writable"),
}


class ReportError(RuntimeError):
    """A report could not be made; the message is one line that says what failed and why."""


def checkout() -> Path | None:
    """The source tree of the project; None where the package is installed elsewhere."""
    folder = Path(__file__).resolve().parents[3]
    return folder if (folder / "pyproject.toml").is_file() else None


def project_root() -> Path:
    """The source tree, or the current folder where there is none."""
    return checkout() or Path.cwd()


def committed_root() -> Path:
    """Folder of the committed reports and their archives: `reports/` of the project."""
    return project_root() / "reports"


def archive_path(profile: str) -> Path:
    """The archive of a profile: `$GADAM_ARCHIVE/<profile>/runs.jsonl.xz`, or in the project's `reports`."""
    return _folder("GADAM_ARCHIVE", committed_root()) / profile / "runs.jsonl.xz"


def reports_root() -> Path:
    """Folder that reports are written to: `$GADAM_REPORTS`, or `reports/out`, which git ignores."""
    return _folder("GADAM_REPORTS", committed_root() / "out")


def runs_root() -> Path:
    """Folder of the run store: `$GADAM_RUNS`, or `reports/runs` of the project."""
    return _folder("GADAM_RUNS", committed_root() / "runs")


def _folder(variable: str, default: Path) -> Path:
    return Path(os.environ.get(variable) or default).expanduser().absolute()


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, after a crash too.

    Raises:
        ReportError: it cannot be written (a full disk, a read-only folder); the old one is as it was.
    """
    from gadam import storage  # here, for it brings torch

    with _saying_where(path):
        storage.write_bytes(path, content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A hidden folder in `parent`, so on its disk: what is finished there is renamed into place, the rest removed."""
    folder = parent / f".{uuid.uuid4().hex}.tmp"
    with _saying_where(folder):
        folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def require_writable(folder: Path, variable: str) -> None:
    """Raise a `ReportError` now where nothing could be written after hours; `variable` names another folder."""
    try:
        with _saying_where(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as probe:
                probe.write(b" " * 4_096)
    except ReportError as error:
        raise ReportError(f"{error}, or set ${variable} to another folder") from None


def remove_stale(folder: Path) -> None:
    """Remove what killed writers left in a folder and below a day ago, and checkpoints of runs after a month."""
    from gadam import storage

    storage.remove_stale(folder, "**/.*.tmp", DAY)
    storage.remove_stale(folder, "**/.*.checkpoints", 30 * DAY)


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Lock a folder for this process, waiting for another one that holds it; the end of the process frees it.

    Nothing is locked where the system has no such locks.
    """
    with _saying_where(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another reproduction is writing {folder}; waiting until it is done", flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:
            pass  # a network folder without locks
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def _saying_where(path: Path) -> Iterator[None]:
    """Turn an error of the system into one that names the file and says what to do."""
    try:
        yield
    except OSError as error:
        advice = ADVICE.get(error.errno or 0, "see that it can be written")
        raise ReportError(f"cannot write {path}: {error.strerror or error}; {advice}") from error


def check(argument: str, value: Any, allowed: Iterable[str]) -> None:
    """Refuse a value that is not one of those allowed."""
    if value not in (listed := list(allowed)):
        raise InputError(f"{argument}={value!r} is not allowed; it must be one of {choices(value, listed)}")


def choices(value: Any, allowed: Iterable[str]) -> str:
    """List the choices there are, and which of them was probably meant."""
    listed = list(allowed)
    near = get_close_matches(str(value), listed)
    return ", ".join(listed) + (f"; did you mean {' or '.join(near)}?" if near else "")


def sha256(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
