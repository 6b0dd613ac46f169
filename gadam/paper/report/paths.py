"""Where runs and reports live, how a file is written whole or not at all, and the error that a reader understands."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import gadam
from gadam.config import InputError

DAY = 24 * 60 * 60
ARCHIVED = ("standard", "paper")
"""Profiles that are rendered from what was computed before, of which nothing is computed unasked."""
ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "make the folder writable"),
}


class ReportError(RuntimeError):
    """A report could not be made; the message is one line that says what failed and why."""


def checkout() -> Path | None:
    """The folder of the project's own source tree; None where the package is installed elsewhere."""
    folder = Path(gadam.__file__).resolve().parents[1]
    return folder if (folder / "pyproject.toml").is_file() else None


def project_root() -> Path:
    """The source tree, or the current folder where there is none."""
    return checkout() or Path.cwd()


def committed_root() -> Path:
    """`reports/` of the project: the reports that are committed, and the archives behind them."""
    return project_root() / "reports"


def archive_path(profile: str) -> Path:
    """The archive of a profile: `$GADAM_ARCHIVE/<profile>/runs.jsonl.xz`, or of the project's `reports`."""
    root = Path(os.environ.get("GADAM_ARCHIVE") or committed_root()).expanduser().absolute()
    return root / profile / "runs.jsonl.xz"


def reports_root() -> Path:
    """Where reports are written: `$GADAM_REPORTS`, or `reports/out` of the project, which git ignores."""
    return Path(os.environ.get("GADAM_REPORTS") or committed_root() / "out").expanduser().absolute()


def runs_root() -> Path:
    """`$GADAM_RUNS`, or `reports/runs` of the project."""
    return Path(os.environ.get("GADAM_RUNS") or project_root() / "reports" / "runs").expanduser().absolute()


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that whoever looks sees the old one or the new one, after a crash too.

    Raises:
        ReportError: it cannot be written (a full disk, a read-only folder); the old one is as it was.
    """
    # Not tempfile: its files are readable by their owner alone, and these are meant to be shared.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    with _saying_where(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "xb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            with contextlib.suppress(OSError):  # most often it is not there any more
                temporary.unlink()


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


def remove_stale(folder: Path, age: float = DAY) -> None:
    """Remove what writers that were killed left behind in a folder and below, so many seconds ago or earlier.

    Checkpoints of runs that nobody went on with stay a month.
    """
    for pattern, limit in ((".*.tmp", age), (".*.checkpoints", max(age, 30 * DAY))):
        for path in list(folder.rglob(pattern)):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > limit:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder for this process; where another one holds it, say so and wait until that one is done.

    The system gives it back when the process ends, however it ends. Where it has no such locks nothing is held.
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
    """The system's error as one that names the file and says what to do."""
    try:
        yield
    except OSError as error:
        advice = ADVICE.get(error.errno or 0, "see that it can be written")
        raise ReportError(f"cannot write {path}: {error.strerror or error}; {advice}") from error


def check(argument: str, value: Any, allowed: Any) -> None:
    """Refuse what is not one of those allowed."""
    if value not in allowed:
        raise InputError(f"{argument}={value!r} is not allowed; it must be one of {choices(value, allowed)}")


def choices(value: Any, allowed: Iterable[str]) -> str:
    """The choices there are, and which of them was probably meant."""
    listed = list(allowed)
    near = get_close_matches(str(value), listed)
    return ", ".join(listed) + (f"; did you mean {' or '.join(near)}?" if near else "")


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
