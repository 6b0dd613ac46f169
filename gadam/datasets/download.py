"""Downloads: the mirrors of a dataset in their order, into the data folder only once everything has been verified."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pooch

from gadam.config import InputError
from gadam.datasets.archives import LIMIT, gunzip, unzip
from gadam.datasets.files import check, find
from gadam.datasets.registry import source

TIMEOUT = (5, 30)  # seconds: to connect, and between two pieces of an answer

_failures: dict[tuple[str, Path], str] = {}  # what this process has tried in vain, and why


def download(name: str, root: Path, *, progress: bool = False) -> None:
    """Fetch a dataset from the first mirror that serves the right contents.

    Args:
        name: the dataset.
        root: the data folder; it is touched only when everything has arrived and its SHA-256 is right.
        progress: show a bar for each file.

    Raises:
        InputError: no mirror could be used, or the folder cannot be written to.
    """
    if os.environ.get("GADAM_OFFLINE", "0") not in ("", "0"):
        raise InputError("downloads are switched off by GADAM_OFFLINE")
    reasons = []
    for mirror in source(name).mirrors:
        try:
            contents = _contents(name, mirror, progress=progress)
            check(name, contents, {file: f"its {file}" for file in contents})
        except (InputError, OSError) as error:  # every error of requests is an OSError
            reasons.append(f"{urlsplit(mirror).hostname}: {_reason(error)}")
        else:
            return _place(name, contents, root)
    raise InputError(f"no mirror could be used ({'; '.join(reasons)})")


def download_once(name: str, root: Path) -> str | None:
    """Try to download, at most once per process where that fails: the reason of the failure, `None` after success."""
    if (name, root) not in _failures:
        try:
            download(name, root)
        except InputError as error:
            _failures[name, root] = str(error)
    return _failures.get((name, root))


def _contents(name: str, mirror: str, *, progress: bool) -> dict[str, bytes]:
    """What one mirror serves as the files of a dataset, unpacked and not yet verified."""
    files = source(name).files
    if "{file}" not in mirror:
        return unzip(_get(mirror, progress=progress), files, "its archive")
    return {file: gunzip(_get(mirror.format(file=file), progress=progress), f"its {file}") for file in files}


class _Body(io.BytesIO):
    """What a server sends, until it is more than any file of these datasets."""

    def write(self, piece: Any) -> int:
        if self.tell() + len(piece) > LIMIT:
            raise InputError(f"it sends more than {LIMIT:,} bytes")
        return super().write(piece)


def _get(url: str, *, progress: bool) -> bytes:
    body = _Body()
    pooch.HTTPDownloader(progressbar=progress, timeout=TIMEOUT, chunk_size=2**16)(url, body, None)
    return body.getvalue()


def _reason(error: InputError | OSError) -> str:
    """An error of a download in a few words; those of requests print whole addresses and chains of causes."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}{f' {status}' if status else ''}"


def _place(name: str, contents: Mapping[str, bytes], root: Path) -> None:
    """Write the files beside their destination, then move them there in one step."""
    target = root / source(name).folder
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".fetching-") as temporary:
            complete = Path(temporary, "complete")
            for file, content in contents.items():
                (complete / file).parent.mkdir(parents=True, exist_ok=True)
                (complete / file).write_bytes(content)
            target.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(OSError):  # an empty folder may be in the way
                target.rmdir()
            try:
                complete.rename(target)
            except OSError:
                if not find(name, root):  # else another process was quicker
                    raise
    except OSError as error:
        raise InputError(f"{target} cannot be written: {error.strerror}") from None
