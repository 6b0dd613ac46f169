"""Downloads: the mirrors of a dataset in their order; a file reaches the data folder once all have been verified."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pooch

from gadam.config import InputError
from gadam.datasets.files import check, find, read
from gadam.datasets.registry import source

TIMEOUT = (5, 30)  # seconds: to connect, and between two pieces of an answer

_failures: dict[tuple[str, Path], str] = {}  # reasons of the downloads that failed in this process


def download(name: str, root: Path, *, progress: bool = False) -> None:
    """Fetch a dataset from the first mirror that serves the published contents.

    The data folder `root` is touched only when everything has arrived and its SHA-256 is right.
    """
    if os.environ.get("GADAM_OFFLINE", "0") not in ("", "0"):
        raise InputError("downloads are switched off by GADAM_OFFLINE")
    reasons = []
    for mirror in source(name).mirrors:
        try:
            contents = _contents(name, mirror, progress)
            check(name, contents)
        except Exception as error:  # whatever is wrong with one mirror, the next may be right
            status = getattr(getattr(error, "response", None), "status_code", "")  # requests print whole addresses
            reason = str(error) if isinstance(error, InputError) else f"{type(error).__name__} {status}".strip()
            reasons.append(f"{urlsplit(mirror).hostname}: {reason}")
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


def _contents(name: str, mirror: str, progress: bool) -> dict[str, bytes]:
    """Download the files of a dataset from one mirror: their contents, decompressed and not yet verified."""
    pooch.get_logger().setLevel("WARNING")  # it would tell every file and its hash
    downloader = pooch.HTTPDownloader(progressbar=progress, timeout=TIMEOUT)
    with tempfile.TemporaryDirectory(prefix="gadam-") as scratch:
        folder = Path(scratch) / source(name).folder
        if "{file}" in mirror:
            for file in source(name).files:
                pooch.retrieve(mirror.format(file=file), None, file, folder, downloader=downloader)
        else:
            unzip = pooch.Unzip(extract_dir=str(folder))  # zipfile lets no path climb out of the folder
            pooch.retrieve(mirror, None, "archive.zip", scratch, processor=unzip, downloader=downloader)
        contents = {file: read(path, file) for file, path in find(name, Path(scratch)).items()}
    if not contents:
        raise InputError(f"its archive has no {source(name).files[0]}")
    return contents


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
            try:
                complete.rename(target)  # also in the place of an empty folder
            except OSError:
                if not find(name, root):  # else another process was quicker
                    raise
    except OSError as error:
        raise InputError(f"{target} cannot be written: {error.strerror}") from None
