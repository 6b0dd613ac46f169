"""The published datasets of Sections 5.1 and 5.4: files with their hashes, mirrors, rows and classes."""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass

from gadam.config import InputError


@dataclass(frozen=True)
class Source:
    """One dataset as its authors published it.

    Attributes:
        folder: place of its files below the data folder.
        checks: SHA-256 (hex) of the joined payloads (`files.payload`) of some files; every file is in one check.
        hash: SHA-256 (hex) of the joined payloads of all files; identifies the dataset in stored runs.
        mirrors: addresses, best first: of one archive that holds all files, or with `{file}` of each file.
        rows: instances, training and test together.
        features: shape of one instance as published, for people.
        classes: labels; a target is an index into them.
    """

    folder: str
    checks: Mapping[tuple[str, ...], str]
    hash: str
    mirrors: tuple[str, ...]
    rows: int
    features: str
    classes: tuple[str, ...]

    @property
    def files(self) -> tuple[str, ...]:
        """All files, in the order in which the hash of the dataset joins them."""
        return tuple(file for files in self.checks for file in files)


def _uci(number: int, archive: str, folder: str) -> tuple[str, ...]:
    uci = "https://archive.ics.uci.edu"
    return f"{uci}/static/public/{number}/{archive}.zip", f"{uci}/ml/machine-learning-databases/{folder}/{{file}}"


_FACES = tuple(f"s{person}/{image}.pgm" for person in range(1, 41) for image in range(1, 11))
_FACES_HASH = "2e4844a9f4fa4397058f69d6208047170f2e9d399cda18b55c1e8d28f0a83431"
_YEAST_HASH = "7cf61776fc04f527f93bf57a327b863893a1225d82df02d457e8950173218258"
_LETTER_HASH = "2b89f3602cf768d3c8355267d2f13f2417809e101fc2b5ceee10db19a60de6e2"

SOURCES: dict[str, Source] = {
    "mnist": Source(
        folder="MNIST/raw",  # as torchvision.datasets.MNIST has it
        checks={
            ("train-images-idx3-ubyte",): "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            ("train-labels-idx1-ubyte",): "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            ("t10k-images-idx3-ubyte",): "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            ("t10k-labels-idx1-ubyte",): "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
        hash="b2d8f5bf39174ee5ffeefa97e42d673c35432b411bb5d1f74fbbeddae7f1690a",
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/{file}.gz",
            "https://storage.googleapis.com/cvdf-datasets/mnist/{file}.gz",
        ),
        rows=70_000,
        features="28 x 28",
        classes=tuple(string.digits),
    ),
    "orl": Source(
        folder="orl",
        checks={_FACES: _FACES_HASH},
        hash=_FACES_HASH,
        mirrors=(
            "https://www.cl.cam.ac.uk/research/dtg/attarchive/pub/data/att_faces.zip",
            "http://www.idiap.ch/software/bob/data/bob/att_faces.zip",
            "http://datasets.openimaj.org/att_faces.zip",
        ),
        rows=400,
        features="112 x 92",
        classes=tuple(f"s{person}" for person in range(1, 41)),
    ),
    "yeast": Source(
        folder="yeast",
        checks={("yeast.data",): _YEAST_HASH},
        hash=_YEAST_HASH,
        mirrors=_uci(110, "yeast", "yeast"),
        rows=1_484,
        features="8",
        classes=("CYT", "ERL", "EXC", "ME1", "ME2", "ME3", "MIT", "NUC", "POX", "VAC"),
    ),
    "adult": Source(
        folder="adult",
        checks={
            ("adult.data",): "5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d",
            ("adult.test",): "a2a9044bc167a35b2361efbabec64e89d69ce82d9790d2980119aac5fd7e9c05",
        },
        hash="4b73a16de3b96fc1f83196b80c0bdd55bb5d6c3d00ed06e21b326477c84f73a9",
        mirrors=_uci(2, "adult", "adult"),
        rows=48_842,
        features="14",
        classes=("<=50K", ">50K"),
    ),
    "letter": Source(
        folder="letter",
        checks={("letter-recognition.data",): _LETTER_HASH},
        hash=_LETTER_HASH,
        mirrors=_uci(59, "letter+recognition", "letter-recognition"),
        rows=20_000,
        features="16",
        classes=tuple(string.ascii_uppercase),
    ),
}

NAMES = tuple(SOURCES)


def source(name: str) -> Source:
    """Return the entry of a dataset; an unknown name is an `InputError`."""
    if not isinstance(name, str) or name not in SOURCES:
        raise InputError(f"name={name!r} is not a dataset; there are {', '.join(NAMES)}")
    return SOURCES[name]
