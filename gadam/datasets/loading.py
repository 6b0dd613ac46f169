"""Load the data of Sections 5.1 and 5.4: real files, verified, or a stand-in."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from gadam.config import InputError
from gadam.datasets import files
from gadam.datasets.download import download, download_once
from gadam.datasets.registry import source
from gadam.datasets.splits import IMAGES_PER_PERSON, Part, split
from gadam.datasets.standins import standin
from gadam.validation import check_choice, check_whole

Choice: TypeAlias = Literal["auto", "real", "standin"]
Folder: TypeAlias = str | os.PathLike[str] | None


class StandInWarning(UserWarning):
    """Data that stands in for the real: nothing computed on it may be compared with the paper."""


@dataclass(frozen=True)
class Located:
    """The data that a name stands for here and now.

    Attributes:
        hash: SHA-256 (hex) of the raw data, independent of any split.
        path: the folder of the real files; `None` for a stand-in.
    """

    name: str
    source: Literal["real", "stand-in"]
    hash: str
    path: Path | None

    @property
    def choice(self) -> Choice:
        """The `data` of `load` that gives this source and no other."""
        return "real" if self.source == "real" else "standin"


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A dataset, split and encoded, on the CPU.

    Attributes:
        hash: as in `Located`.
        train: inputs float32 [n, *feature_shape], targets int64 [n] in [0, class_count).
        test: the same of the rows held out.
        classes: the label behind each target.
    """

    name: str
    source: Literal["real", "stand-in"]
    hash: str
    train: Part
    test: Part
    classes: tuple[str, ...]

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return tuple(self.train[0].shape[1:])

    @property
    def class_count(self) -> int:
        """Number of classes."""
        return len(self.classes)

    def __repr__(self) -> str:
        rows = f"{len(self.train[1]):,} + {len(self.test[1]):,} rows"
        shape = " x ".join(map(str, self.feature_shape))
        return f"<Dataset {self.name} ({self.source}): {rows} of {shape}, {self.class_count} classes>"


def load(
    name: str, *, data: Choice = "auto", folder: Folder = None, seed: int = 0, images_per_person: int = 5,
    standardise: bool = True,
) -> Dataset:  # fmt: skip
    """Load a dataset as Sections 5.1 and 5.4 use it.

    MNIST and ADULT come with a test set; LETTER trains on its first 16,000 rows; YEAST on 1,038 rows drawn by the seed;
    ORL on so many images of each person drawn by the seed. Numbers are standardised (images by one mean and deviation
    for all pixels) and categories one-hot, both as fitted on the training part alone.

    Args:
        name: mnist, orl, yeast, adult or letter.
        data: "real" files from the folder, else downloaded into it; "standin"; or "auto", real where possible, else a
            stand-in with a `StandInWarning`.
        folder: place of the files; `None` is `$GADAM_DATA`, else `data/`.
        seed: of the split of ORL and YEAST, at least 0.
        images_per_person: training images in ORL, 1 to 9; the paper has 5, 7 and 9.
        standardise: False leaves numbers as the files have them, and images from 0 to 1.

    Raises:
        InputError: an argument is out of range; the files are damaged or incomplete; there are none for `data="real"`.
    """
    check_whole("images_per_person", images_per_person, 1, IMAGES_PER_PERSON - 1)
    check_whole("seed", seed, 0)
    found = _find(name, data, folder)
    contents, digest = (files.verified(name, found), source(name).hash) if found else standin(name)
    train, test = split(name, contents, seed=seed, images_per_person=images_per_person, standardise=standardise)
    return Dataset(name, "real" if found else "stand-in", digest, train, test, source(name).classes)


def locate(name: str, *, data: Choice = "auto", folder: Folder = None) -> Located:
    """Say which data `load` would give, without parsing it; arguments and errors are those of `load`."""
    found = _find(name, data, folder)
    return _located(name, found) if found else Located(name, "stand-in", standin(name)[1], None)


def fetch(name: str, folder: Folder = None, *, progress: bool = False) -> Located:
    """Download a dataset into the folder unless it is there already, and verify it; `progress` shows bars."""
    root = files.data_folder(folder)
    if not files.find(name, root):
        try:
            download(name, root, progress=progress)
        except InputError as error:
            advice = f"get its files by hand as data/README.md says and put them into {root / source(name).folder}"
            raise InputError(f"{name}: {error}; {advice}") from None
    return verify(name, folder)


def verify(name: str, folder: Folder = None) -> Located:
    """Verify the files of a dataset without downloading any; missing or damaged ones are an `InputError`."""
    root = files.data_folder(folder)
    if found := files.find(name, root):
        return _located(name, found)
    raise InputError(f"{name}: not in {root / source(name).folder}; run 'gadam data fetch {name}'")


def _located(name: str, found: dict[str, Path]) -> Located:
    files.verify_changed(name, found)
    return Located(name, "real", source(name).hash, files.common_folder(found))


def _find(name: str, data: Choice, folder: Folder) -> dict[str, Path]:
    """Find the files of the real data, downloaded if need be; the result is empty for a stand-in."""
    source(name)
    check_choice("data", data, get_args(Choice))
    if data == "standin":
        return {}
    root = files.data_folder(folder)
    if found := files.find(name, root):
        return found
    if (reason := download_once(name, root)) is None:
        return files.find(name, root)
    if data == "real":
        raise InputError(
            f"{name}: data='real', but it is not in {root} and {reason}; put its files there as data/README.md "
            "says, set GADAM_DATA to a folder that has them, or choose data='standin'"
        )
    what = f"STAND-IN DATA for {name}: it is not in {root} and {reason}"
    advice = "Nothing that is computed on a stand-in may be compared with the paper."
    warnings.warn(f"{what}. {advice}", StandInWarning, stacklevel=3)
    return {}
