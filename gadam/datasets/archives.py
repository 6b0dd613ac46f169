"""Compressed files, unpacked in memory: nothing is written, so nothing in an archive can climb out of a folder."""

from __future__ import annotations

import gzip
import io
import lzma
import struct
import zipfile
import zlib

from gadam.config import InputError

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # of bzip2 and LZMA zipfile unpacks all at once
LIMIT = 2**26  # bytes: more than any file of these datasets has, packed or not; where a hostile one is given up


def gunzip(data: bytes, where: str = "file") -> bytes:
    """Decompress what begins as gzip does, and leave all else as it is, whatever the name of the file says.

    Raises:
        InputError: the gzip file is truncated or damaged, or unpacks to more than `LIMIT`.
    """
    if not data.startswith(b"\x1f\x8b"):
        return data
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            content = stream.read(LIMIT + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{where} is a damaged gzip file: {error}") from None
    if len(content) > LIMIT:
        raise InputError(f"{where} unpacks to more than {LIMIT:,} bytes, and no file of these datasets does")
    return content


def unzip(data: bytes, files: tuple[str, ...], where: str = "archive") -> dict[str, bytes]:
    """Read the wanted files out of a zip archive, below whatever folder they lie in it.

    Nothing is written, and a member's own path is never used, so none can climb out of a folder.

    Raises:
        InputError: not a zip archive, damaged, a file is not in it or compressed in a way that cannot be unpacked
            piece by piece, or they unpack to more than `LIMIT` together.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {f"/{member.filename}": member for member in archive.infolist()}
            contents: dict[str, bytes] = {}
            room = LIMIT
            for file in files:
                matches = [path for path in members if path.endswith(f"/{file}")]
                if not matches:
                    raise InputError(f"{where} has no {file}")
                member = members[min(matches, key=len)]
                if member.compress_type not in _METHODS:
                    raise InputError(
                        f"{where} holds {file} compressed by method {member.compress_type}, not by deflate"
                    )
                room -= member.file_size
                if room < 0:
                    raise InputError(f"{where} unpacks to more than {LIMIT:,} bytes, and no dataset in a zip file does")
                with archive.open(member) as stream:
                    contents[file] = stream.read(member.file_size)  # all that it has may be more than it says
            return contents
    except InputError:
        raise
    except (
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        struct.error,
        EOFError,
        OSError,
        RuntimeError,
        ValueError,
    ) as error:
        raise InputError(f"{where} is not an intact zip archive: {str(error)[:100]}") from None
