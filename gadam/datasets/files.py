"""Files of a dataset in the data folder: found, read and compared with the published ones."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import platformdirs

from gadam.config import InputError
from gadam.datasets.parsers import LIMIT, gunzip, read_face
from gadam.datasets.registry import source
from gadam.validation import expand, read_path


def data_folder(folder: str | os.PathLike[str] | None = None) -> Path:
    """Return `folder`, else `$GADAM_DATA`, else `data/` of the project; once installed, the user's cache folder."""
    if folder is not None:
        return read_path("folder", folder, folder=True)
    if given := os.environ.get("GADAM_DATA"):
        return expand("GADAM_DATA", given)
    project = Path(__file__).resolve().parents[2]
    if (project / "pyproject.toml").is_file():
        return project / "data"
    try:
        return platformdirs.user_cache_path("gadam")
    except RuntimeError:
        raise InputError("GADAM_DATA: the home folder is not known, must be given as the folder of the data") from None


def find(name: str, root: Path) -> dict[str, Path]:
    """Find the path of every file of a dataset; the result is empty when there is none of them.

    A file may be compressed (`.gz`), have a dot for the first dash of its ending (`.idx3-ubyte`), or lie one folder
    deeper, as an archive unpacked by hand leaves it. Some files without the others are an `InputError`.
    """
    base, files = root / source(name).folder, source(name).files
    try:
        folders = [base, *sorted(path for path in base.iterdir() if path.is_dir())]
    except FileNotFoundError:
        return {}
    except OSError as error:
        advice = "make it a folder that can be read, or name another (GADAM_DATA)"
        raise InputError(f"{name}: {base} cannot be read: {error.strerror}; {advice}") from None
    for folder in folders:
        found = {file: path for file in files if (path := _path(name, folder, file))}
        missing = [file for file in files if file not in found]
        if not missing:
            return found
        if found:
            raise InputError(
                f"{name}: {folder} lacks {missing[0]} ({len(found)} of {len(files)} files are there); add what is "
                f"missing, or remove {base} and run 'gadam data fetch {name}'"
            )
    return {}


def _path(name: str, folder: Path, file: str) -> Path | None:
    """Find a file in a folder under one of the names it goes by."""
    spellings = (file, file.replace("-idx", ".idx"))
    for path in (folder / f"{spelling}{ending}" for ending in ("", ".gz") for spelling in spellings):
        if os.path.isfile(path):
            return path
        if os.path.lexists(path):
            raise InputError(f"{name}: {path} is no file (a folder, or a link to nothing); remove it")
    return None


def common_folder(found: Mapping[str, Path]) -> Path:
    """Return the folder that all files of a dataset lie in or below."""
    return Path(os.path.commonpath([path.parent for path in found.values()]))


def verified(name: str, found: Mapping[str, Path]) -> dict[str, bytes]:
    """Return the contents of the files of a dataset, decompressed; each must be the one that was published."""
    try:
        contents = {file: read(path, file) for file, path in found.items()}
        check(name, contents)
    except InputError as error:
        advice = f"replace it, or remove {common_folder(found)} and run 'gadam data fetch {name}'"
        raise InputError(f"{name}: {error}; {advice}") from None
    return contents


def verify_changed(name: str, found: Mapping[str, Path]) -> None:
    """Verify the files of a dataset, unless this process did so and none has changed its size or time since then."""
    states = [(file, path, path.stat()) for file, path in found.items()]
    _verify(name, tuple((file, path, state.st_size, state.st_mtime_ns) for file, path, state in states))


@functools.lru_cache(maxsize=64)
def _verify(name: str, states: tuple[tuple[str, Path, int, int], ...]) -> None:
    verified(name, {file: path for file, path, *_ in states})


def check(name: str, contents: Mapping[str, bytes]) -> None:
    """Refuse contents of files that are not those published; says which, what was found and what was expected."""
    for files, expected in source(name).checks.items():
        found = digest(contents, files)
        if found != expected:
            which = files[0] if len(files) == 1 else f"one of {files[0]} to {files[-1]}"
            page = " (an HTML page)" if contents[files[0]].lstrip()[:1] == b"<" else ""
            raise InputError(f"{which} has wrong contents: SHA-256 {found[:16]}...{page}, expected {expected[:16]}...")


def digest(contents: Mapping[str, bytes], files: Iterable[str]) -> str:
    """Return the SHA-256 (hex) of the joined payloads of some files."""
    return hashlib.sha256(b"".join(payload(file, contents[file]) for file in files)).hexdigest()


def payload(file: str, content: bytes) -> bytes:
    """Return the part of a file that is hashed: the pixels of an image of ORL, text with the line ends of Unix."""
    if file.endswith(".pgm"):
        return read_face(content, file).tobytes()
    return content.replace(b"\r\n", b"\n") if file.endswith((".data", ".test")) else content


def read(path: Path, file: str) -> bytes:
    """Read a file, decompressed if it is compressed; an `InputError` calls it `file`."""
    try:
        with open(path, "rb") as stream:
            data = stream.read(LIMIT + 1)
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from None
    if len(data) > LIMIT:
        raise InputError(f"{file} has more than {LIMIT:,} bytes, and no file of these datasets does")
    return gunzip(data, file)
