"""The files of a dataset in the data folder: where they lie, what they hold, and whether that is what it should be."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from gadam.config import InputError
from gadam.datasets.archives import LIMIT, gunzip
from gadam.datasets.pgm import FACE, read_pgm
from gadam.datasets.registry import source
from gadam.validation import check_path


def data_folder(folder: str | os.PathLike[str] | None = None) -> Path:
    """The folder given, else `$GADAM_DATA`, else `data/` of the project (of the current directory once installed).

    Raises:
        InputError: what is given is no path.
    """
    if folder is not None:
        check_path("folder", folder)
    project = Path(__file__).resolve().parents[2]
    default = (project if (project / "pyproject.toml").is_file() else Path.cwd()) / "data"
    return Path(folder or os.environ.get("GADAM_DATA") or default).expanduser().absolute()


def find(name: str, root: Path) -> dict[str, Path]:
    """The path of every file of a dataset; empty when there is none of them.

    A file may be compressed (`.gz`), have a dot for the first dash of its ending (`.idx3-ubyte`), or lie one folder
    deeper, as an archive unpacked by hand leaves it.

    Raises:
        InputError: some files are there and others are not, or what is there cannot be looked at.
    """
    base = root / source(name).folder
    files = source(name).files
    for folder in (base, *_below(name, base)):
        found = {file: path for file in files if (path := _path(name, folder, file))}
        if missing := [file for file in files if file not in found]:
            if found:
                raise InputError(
                    f"{name}: {folder} lacks {missing[0]} ({len(found)} of {len(files)} files are there); add what is "
                    f"missing, or remove {base} and run 'gadam data fetch {name}'"
                )
        else:
            return found
    return {}


def _below(name: str, base: Path) -> list[Path]:
    """The folders in the folder of a dataset, sorted; none where there is no such folder."""
    try:
        with os.scandir(base) as children:
            return sorted(Path(child.path) for child in children if child.is_dir())
    except FileNotFoundError:
        return []
    except OSError as error:
        advice = "make it a folder that can be read, or name another (GADAM_DATA)"
        raise InputError(f"{name}: {base} cannot be read: {error.strerror}; {advice}") from None


def _path(name: str, folder: Path, file: str) -> Path | None:
    """Where the file lies below the folder, under one of the names it goes by."""
    spellings = (file, file.replace("-idx", ".idx"))
    for path in (folder / f"{spelling}{ending}" for ending in ("", ".gz") for spelling in spellings):
        if os.path.isfile(path):
            return path
        if os.path.lexists(path):
            raise InputError(f"{name}: {path} is no file (a folder, or a link to nothing); remove it")
    return None


def verified(name: str, found: Mapping[str, Path]) -> tuple[dict[str, bytes], str]:
    """What the files of a dataset contain, decompressed, and the hash of the dataset.

    Raises:
        InputError: a file cannot be read, is damaged, or is not the one that was published.
    """
    with _advice(name, found):
        contents = {file: gunzip(_read(path), str(path)) for file, path in found.items()}
        return contents, check(name, contents, {file: str(path) for file, path in found.items()})


def verified_hash(name: str, found: Mapping[str, Path]) -> str:
    """The hash of a verified dataset; the files are read again only when the size or time of one has changed.

    Raises:
        InputError: as `verified`.
    """
    with _advice(name, found):
        stats = {file: _stat(path) for file, path in found.items()}
    return _verified_hash(name, tuple((file, found[file], s.st_size, s.st_mtime_ns) for file, s in stats.items()))


@functools.lru_cache(maxsize=64)
def _verified_hash(name: str, state: tuple[tuple[str, Path, int, int], ...]) -> str:
    return verified(name, {file: path for file, path, *_ in state})[1]


@contextlib.contextmanager
def _advice(name: str, found: Mapping[str, Path]) -> Iterator[None]:
    """Say with what is wrong about a file whose it is, and what to do."""
    try:
        yield
    except InputError as error:
        folder = Path(os.path.commonpath([path.parent for path in found.values()]))
        advice = f"replace it, or remove {folder} and run 'gadam data fetch {name}'"
        raise InputError(f"{name}: {error}; {advice}") from None


def check(name: str, contents: Mapping[str, bytes], where: Mapping[str, str]) -> str:
    """Compare contents with the hashes of the registry.

    Args:
        name: the dataset.
        contents: what each file contains.
        where: how the error calls each file.

    Returns:
        The hash of the dataset.

    Raises:
        InputError: a file is not the one that was published; says which, what was found and what was expected.
    """
    for files, expected in source(name).checks.items():
        found = _sha256(payload(file, contents[file], where[file]) for file in files)
        if found != expected:
            which = where[files[0]] if len(files) == 1 else f"one of {where[files[0]]} to {where[files[-1]]}"
            page = " (an HTML page)" if contents[files[0]].lstrip()[:1] == b"<" else ""
            raise InputError(f"{which} has wrong contents: SHA-256 {found[:16]}...{page}, expected {expected[:16]}...")
    return fingerprint(name, contents)


def fingerprint(name: str, contents: Mapping[str, bytes]) -> str:
    """SHA-256 (hex) of the payloads of all files joined: identifies a dataset, however its rows are then split."""
    return _sha256(payload(file, contents[file]) for file in source(name).files)


def payload(file: str, content: bytes, where: str = "file") -> bytes:
    """The part of a file that matters: the pixels of a PGM image, text with the line ends of Unix.

    Raises:
        InputError: it is a damaged PGM image, or not as high and wide as all of them are: the same pixels in other rows
            are another image.
    """
    if file.endswith(".pgm"):
        pixels = read_pgm(content, where)
        if pixels.shape != FACE:
            height, width = pixels.shape
            raise InputError(f"{where} is {width} pixels wide and {height} high, must be {FACE[1]} and {FACE[0]}")
        return pixels.tobytes()
    return content.replace(b"\r\n", b"\n") if file.endswith((".data", ".test")) else content


def _read(path: Path) -> bytes:
    try:
        if (size := _stat(path).st_size) > LIMIT:
            raise InputError(f"{path} has {size:,} bytes, more than any file of these datasets")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:  # it was there a moment ago
        raise InputError(f"{path} cannot be read: {error.strerror}") from None


def _sha256(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
