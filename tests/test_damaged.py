"""Damaged files, 50 of each kind; GADAM_DAMAGED=1000 makes it a thousand. None is taken for the real one."""

import dataclasses
import functools
import gzip
import hashlib
import io
import shutil
import sys
import threading
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from damage import COUNT, damaged
from torch import nn

import gadam
from gadam import InputError, cli, datasets
from gadam.datasets import SOURCES, download, files, splits
from gadam.datasets.parsers import gunzip, read_face, read_idx, read_table
from gadam.datasets.standins import standin
from gadam.paper.claims import Arms, Claim
from gadam.paper.report import ReportError, scoreboard, store
from gadam.paper.runs import Run, run_function
from gadam.paper.verdicts import Evidence

LINES = 500  # of a table: enough for any damage, and quick
IMAGES = 200  # of MNIST
PEOPLE = ("s7", "s8")  # of ORL


@functools.cache
def contents(name):
    """What the files of a dataset hold, the real ones where they are, else the stand-in; cut to what is quick."""
    found = files.find(name, files.data_folder())
    whole = files.verified(name, found) if found else standin(name)[0]
    if name == "orl":
        return {file: content for file, content in whole.items() if file.split("/")[0] in PEOPLE}
    if name == "mnist":
        return {file: first_entries(content) for file, content in whole.items()}
    return {file: b"".join(content.splitlines(keepends=True)[:LINES]) for file, content in whole.items()}


def first_entries(content):
    """The first of an IDX file, under a header that says so."""
    start, size = (16, 28 * 28) if content[3] == 3 else (8, 1)
    return content[:4] + IMAGES.to_bytes(4, "big") + content[8 : start + IMAGES * size]


def zipped():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, content in {"yeast.names": b"words" * 99, **contents("yeast")}.items():
            info = zipfile.ZipInfo(file)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return stream.getvalue()


def table(name):
    return lambda data: read_table(name, data, name)


def unzip(data):
    """What a mirror that serves this archive gives as yeast.data."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(download.pooch, "HTTPDownloader", serving(data))
        try:
            return download._contents("yeast", "http://here/it.zip", False)["yeast.data"]
        except Exception as error:
            raise InputError(type(error).__name__) from None


def serving(data):
    """A downloader that gives the same bytes for every address."""
    return lambda **_: lambda url, path, _: Path(path).write_bytes(data)


def gunzip_it(data):
    return gunzip(data, "it")


# Name: the dataset and its file, what becomes of it on the disk or in the network, what undoes that, what parses it.
KINDS = {
    "idx images": ("mnist", "t10k-images-idx3-ubyte", bytes, bytes, lambda data: read_idx(data, 3, "it")),
    "idx labels": ("mnist", "t10k-labels-idx1-ubyte", bytes, bytes, lambda data: read_idx(data, 1, "it")),
    "pgm": ("orl", "s7/3.pgm", bytes, bytes, lambda data: read_face(data, "it")),
    "yeast": ("yeast", "yeast.data", bytes, bytes, table("yeast")),
    "adult": ("adult", "adult.test", bytes, bytes, table("adult")),
    "letter": ("letter", "letter-recognition.data", bytes, bytes, table("letter")),
    "gzip": ("yeast", "yeast.data", lambda content: gzip.compress(content, mtime=0), gunzip_it, bytes),
    "zip": (
        "yeast",
        "yeast.data",
        lambda content: zipped(),
        unzip,
        bytes,
    ),
}


def refused(call):
    """Whether a call refuses what it is given; it may do so in one line only."""
    try:
        call()
    except (InputError, ReportError) as error:
        message = str(error)
    else:
        return False
    assert len(message.splitlines()) == 1
    assert len(message) < 500
    return True


def counted(record_property, told):
    """For the table of `make campaign`: so many files, and so many of them refused."""
    record_property("files", COUNT)
    record_property("refused", told)


@dataclasses.dataclass
class Kind:
    """A kind of file in a data folder, and its dataset: what is published is what the undamaged files hold.

    Attributes:
        name: the dataset.
        folder: the data folder.
        content: the undamaged file.
        read: unpacks and parses it.
        deliver: puts a file in its place, in the folder or where it is downloaded from.
        downloaded: whether it is, as an archive.
    """

    name: str
    folder: Path
    content: bytes
    read: Callable
    deliver: Callable
    downloaded: bool

    def load(self):
        return datasets.load(self.name, data="real", folder=self.folder)


@pytest.fixture
def kind(request, monkeypatch, tmp_path):
    name, file, pack, unpack, parse = KINDS[request.param]
    source, whole = SOURCES[name], contents(name)
    checks = {
        several: hashlib.sha256(b"".join(files.payload(one, whole[one]) for one in several)).hexdigest()
        for several in (tuple(one for one in several if one in whole) for several in source.checks)
    }
    classes = PEOPLE if name == "orl" else source.classes
    monkeypatch.setitem(
        SOURCES, name, dataclasses.replace(source, checks=checks, classes=classes, mirrors=("http://here/it.zip",))
    )
    monkeypatch.setattr(splits, "YEAST_TRAIN", LINES // 2)
    monkeypatch.setattr(splits, "LETTER_TRAIN", LINES // 2)
    folder = tmp_path / source.folder

    def place(content):
        (folder / f"{file}{'.gz' if unpack is gunzip_it else ''}").write_bytes(content)
        files._verify.cache_clear()  # the clock of the disk may be slower than this loop

    def serve(content):
        shutil.rmtree(folder, ignore_errors=True)
        monkeypatch.setattr(download.pooch, "HTTPDownloader", serving(content))
        monkeypatch.setattr(download, "_failures", {})

    if downloaded := request.param == "zip":
        monkeypatch.delenv("GADAM_OFFLINE", raising=False)
    else:
        monkeypatch.setenv("GADAM_OFFLINE", "1")
        for other, content in whole.items():
            (folder / other).parent.mkdir(parents=True, exist_ok=True)
            (folder / other).write_bytes(content)
        (folder / file).unlink()
    deliver = serve if downloaded else place
    return Kind(name, tmp_path, pack(whole[file]), lambda data: parse(unpack(data)), deliver, downloaded)


def same(one, other):
    """Whether two datasets are the same, bit by bit."""
    parts = zip((*one.train, *one.test), (*other.train, *other.test), strict=True)
    return one.hash == other.hash and all(torch.equal(a, b) for a, b in parts)


@pytest.mark.parametrize("kind", KINDS, indirect=True)
def test_a_damaged_file_is_refused_by_its_parser_or_parsed_and_loaded_only_as_what_was_published(kind, record_property):
    kind.deliver(kind.content)
    published = kind.load()
    assert not refused(lambda: kind.read(kind.content))
    told = 0
    for candidate in damaged(kind.content):
        told += refused(lambda data=candidate: kind.read(data))
        kind.deliver(candidate)
        if not refused(kind.load):  # what was damaged says nothing: a comment, the time in the header of an archive
            assert same(kind.load(), published)
    assert told > 0
    counted(record_property, told)


@pytest.mark.parametrize("kind", KINDS, indirect=True)
def test_the_command_line_says_it_in_a_line(kind, monkeypatch, capsys, record_property):
    kind.deliver(kind.content)
    published = kind.load()
    told = 0
    command = "fetch" if kind.downloaded else "verify"
    monkeypatch.setattr(sys, "argv", ["gadam", "data", command, kind.name, "--folder", str(kind.folder)])
    for candidate in damaged(kind.content, seed=1):
        kind.deliver(candidate)
        before = tree(kind.folder)
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        output, complaint = capsys.readouterr()
        told += bool(stopped.value.code)
        if stopped.value.code:
            assert (stopped.value.code, output) == (1, "")
            assert complaint.startswith(f"gadam: {kind.name}: ")
            assert len(complaint.splitlines()) == 1
        else:
            assert same(kind.load(), published)
        if stopped.value.code or not kind.downloaded:
            assert tree(kind.folder) == before  # they are the user's files, and of a download nothing is left
    counted(record_property, told)


def tree(folder):
    """Every file below a folder, and what it holds."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@run_function("test/damaged", settings=None)
def damaged_rows(seed, dataset):
    return [{"seed": seed, "loss": 0.1 + 0.2, "text": "ä", "curve": [1.5, float("inf")], "none": None}] * 5


def test_a_damaged_run_counts_as_missing(tmp_path):
    run = Run(damaged_rows, {"seed": 3, "dataset": "orl"}, "0" * 64, label="a run")
    store.execute_and_write(tmp_path, run)
    path = store.path_of(tmp_path, run.key)
    whole, original = store.read(tmp_path, run), path.read_bytes()
    told = 0
    for candidate in damaged(original):
        path.write_bytes(candidate)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            stored = store.read(tmp_path, run)
        if stored is None:
            told += 1
            assert [len(str(one.message).splitlines()) for one in caught] == [1]
        else:
            assert stored.rows == whole.rows
    assert told > 0


def small_model():
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3))


def test_a_damaged_result_is_refused(tmp_path):
    config = gadam.GadamConfig(population_size=3, generations=1, steps=1, batch_size=8, validation_size=8, mode="loop")
    rows = torch.rand(20, 4, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 3
    result = gadam.evolve(small_model, rows, config, executor=1, progress=False)
    saved = tmp_path / "result"
    result.save(saved)
    for path in [saved] if saved.is_file() else sorted(saved.iterdir()):
        original = path.read_bytes()
        for candidate in damaged(original):
            path.write_bytes(candidate)
            if not refused(lambda: gadam.load_result(saved, small_model)):
                loaded = gadam.load_result(saved, small_model)
                pd.testing.assert_frame_equal(loaded.history, result.history, check_exact=True)
                assert loaded.config == result.config
                for name, tensor in result.population.parameters.items():
                    assert torch.equal(loaded.population.parameters[name], tensor)
        path.write_bytes(original)
    assert not refused(lambda: gadam.load_result(saved, small_model))


def test_a_damaged_checkpoint_is_refused_and_left_as_it_is(tmp_path, record_property):
    config = gadam.GadamConfig(population_size=3, generations=3, steps=2, batch_size=8, validation_size=8, mode="loop")
    rows = torch.rand(20, 4, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 3
    path = tmp_path / "state"

    def evolve(callbacks=(), stop=None):
        options = {"executor": 1, "progress": False, "checkpoint": path}
        return gadam.evolve(small_model, rows, config, callbacks=callbacks, stop=stop, **options)

    stop = threading.Event()

    class Stop(gadam.Callback):
        def on_generation(self, generation):
            stop.set()

    assert evolve([Stop()], stop).stopped == "stop"
    original = path.read_bytes()
    for candidate in damaged(original):
        path.write_bytes(candidate)
        assert refused(evolve)
        assert path.read_bytes() == candidate
    assert [one.name for one in tmp_path.iterdir()] == ["state"]
    path.write_bytes(original)
    assert not refused(evolve)
    counted(record_property, COUNT)


def test_damaged_claims_are_refused_in_a_line_or_still_claims(tmp_path):
    claim = Claim(
        text="GADAM is better", section="section54", exhibit="table4", kind="value", paper=92.5, margin=0.5, arms=[],
        evidence=lambda: Evidence((92.4, 92.5, 92.6)),
    )  # fmt: skip
    scoreboard.write_claims(tmp_path, "section54", [claim] * 5, Arms(), "quick")
    path = tmp_path / "section54.csv"
    original = path.read_bytes()
    for candidate in damaged(original):
        path.write_bytes(candidate)
        if not refused(lambda: scoreboard.readable(scoreboard.merge(tmp_path))):
            claims = scoreboard.merge(tmp_path)
            assert sum(scoreboard.counts(claims).values()) == len(claims) > 0
            assert set(claims["data"]) <= {"real"}


def test_damage_is_damage_and_repeats_itself():
    content = bytes(range(256)) * 4
    made = list(damaged(content))
    assert content not in made
    assert made == list(damaged(content))
    assert len(made) == COUNT
