"""Which rows train and which test (Sections 5.1 and 5.4), from the contents of the files to encoded tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import torch

from gadam.datasets.encoding import encode_images, encode_table
from gadam.datasets.idx import read_idx
from gadam.datasets.pgm import read_pgm
from gadam.datasets.registry import source
from gadam.datasets.tables import FORMATS, read_table

Contents: TypeAlias = Mapping[str, bytes]
Part: TypeAlias = tuple[torch.Tensor, torch.Tensor]

IMAGES_PER_PERSON = 10  # ORL
YEAST_TRAIN, LETTER_TRAIN = 1_038, 16_000  # the gcForest paper's protocol (arXiv 1702.08835), whose numbers Table 4 has


def split(name: str, contents: Contents, *, seed: int, images_per_person: int) -> tuple[Part, Part]:
    """Parse, split and encode a dataset; what is fitted is fitted on the training part alone.

    Args:
        name: the dataset.
        contents: what each of its files contains.
        seed: draws the rows of YEAST and the images of ORL, at least 0.
        images_per_person: training images in ORL, 1 to 9.

    Returns:
        The training and the test part, each inputs float32 [n, *features] and targets int64 [n].

    Raises:
        InputError: a file is damaged.
    """
    random = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
    if name == "mnist":
        return _mnist(contents)
    if name == "orl":
        return _orl(contents, images_per_person, random)
    return _table(name, contents, random)


def _mnist(contents: Contents) -> tuple[Part, Part]:
    images, labels = (
        [read_idx(contents[file], size, file) for file in (f"{part}-{kind}-ubyte" for part in ("train", "t10k"))]
        for kind, size in (("images-idx3", 3), ("labels-idx1", 1))
    )
    train, test = encode_images(*images)
    return (train, labels[0]), (test, labels[1])


def _orl(contents: Contents, images_per_person: int, random: np.random.Generator) -> tuple[Part, Part]:
    faces = torch.from_numpy(np.stack([read_pgm(contents[file], file) for file in source("orl").files]))
    targets = torch.arange(len(source("orl").classes)).repeat_interleave(IMAGES_PER_PERSON)
    people = np.arange(len(faces)).reshape(-1, IMAGES_PER_PERSON)
    shuffled = torch.from_numpy(random.permuted(people, axis=1))
    train, test = shuffled[:, :images_per_person].flatten(), shuffled[:, images_per_person:].flatten()
    inputs = encode_images(faces[train], faces[test])
    return (inputs[0], targets[train]), (inputs[1], targets[test])


def _table(name: str, contents: Contents, random: np.random.Generator) -> tuple[Part, Part]:
    form = FORMATS[name]
    tables = [read_table(contents[file], form, source(name).classes, file) for file in source(name).files]
    if name != "adult":
        features, targets = tables[0]
        train = YEAST_TRAIN if name == "yeast" else LETTER_TRAIN
        rows = random.permutation(len(targets)) if name == "yeast" else np.arange(len(targets))
        tables = [(features.iloc[part], targets[part]) for part in (rows[:train], rows[train:])]
    inputs = encode_table(tables[0][0], tables[1][0], form)
    return (inputs[0], torch.from_numpy(tables[0][1])), (inputs[1], torch.from_numpy(tables[1][1]))
