"""Damaged files, 50 of each kind; GADAM_DAMAGED=1000 makes it a thousand. None is taken for the real one."""

import dataclasses
import gzip
import hashlib
import io
import sys
import warnings
import zipfile

import pandas as pd
import pytest
import torch
from damage import COUNT, damaged
from torch import nn

import gadam
from gadam import InputError, cli
from gadam.datasets import SOURCES, files
from gadam.datasets.archives import gunzip, unzip
from gadam.datasets.idx import read_idx
from gadam.datasets.pgm import read_pgm
from gadam.datasets.standins import standin
from gadam.datasets.tables import FORMATS, read_table
from gadam.experiments.runs import Run
from gadam.reporting import ReportError, scoreboard, store

LINES = 500  # of a table: enough for any damage, and quick


def contents(name):
    """What the files of a dataset hold: the real ones where they are, else the stand-in."""
    found = files.find(name, files.data_folder())
    return files.verified(name, found)[0] if found else standin(name)[0]


def lines(name, file):
    return b"".join(contents(name)[file].splitlines(keepends=True)[:LINES])


def images():
    content = contents("mnist")["t10k-images-idx3-ubyte"]
    return content[:4] + (100).to_bytes(4, "big") + content[8 : 16 + 100 * 28 * 28]


def zipped():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("yeast.names"), b"words" * 99)
        info = zipfile.ZipInfo("yeast.data")
        info.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(info, lines("yeast", "yeast.data"))
    return stream.getvalue()


def table(name):
    return lambda data: read_table(data, FORMATS[name], SOURCES[name].classes)


# Name: the dataset and its file, what the file on the disk or from the network holds, what unpacks it, what parses it.
KINDS = {
    "idx images": ("mnist", "t10k-images-idx3-ubyte", images, bytes, lambda data: read_idx(data, 3)),
    "idx labels": (
        "mnist",
        "t10k-labels-idx1-ubyte",
        lambda: contents("mnist")["t10k-labels-idx1-ubyte"],
        bytes,
        lambda data: read_idx(data, 1),
    ),
    "pgm": ("orl", "s7/3.pgm", lambda: contents("orl")["s7/3.pgm"], bytes, read_pgm),
    "yeast": ("yeast", "yeast.data", lambda: lines("yeast", "yeast.data"), bytes, table("yeast")),
    "adult": ("adult", "adult.test", lambda: lines("adult", "adult.test"), bytes, table("adult")),
    "letter": (
        "letter",
        "letter-recognition.data",
        lambda: lines("letter", "letter-recognition.data"),
        bytes,
        table("letter"),
    ),
    "gzip": ("yeast", "yeast.data", lambda: gzip.compress(lines("yeast", "yeast.data"), mtime=0), gunzip, bytes),
    "zip": ("yeast", "yeast.data", zipped, lambda data: unzip(data, ("yeast.data",))["yeast.data"], bytes),
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


@pytest.fixture
def kind(request, monkeypatch):
    """A kind of file, and its dataset with that file alone: what is published is what the undamaged file holds."""
    name, file, original, unpack, parse = KINDS[request.param]
    content = original()
    expected = files.payload(file, unpack(content))
    source = dataclasses.replace(SOURCES[name], checks={(file,): hashlib.sha256(expected).hexdigest()})
    monkeypatch.setitem(SOURCES, name, source)
    monkeypatch.setenv("GADAM_OFFLINE", "1")
    return name, file, content, unpack, parse, expected


@pytest.mark.parametrize("kind", KINDS, indirect=True)
def test_a_damaged_file_is_refused_or_parsed_and_never_verified(kind):
    name, file, content, unpack, parse, expected = kind
    assert not refused(lambda: parse(unpack(content)))
    told = 0
    for candidate in damaged(content):
        told += refused(lambda data=candidate: parse(unpack(data)))
        if not refused(lambda data=candidate: files.check(name, {file: unpack(data)}, {file: "it"})):
            # Only what does not count was damaged: the header of an image or of an archive.
            assert files.payload(file, unpack(candidate)) == expected
    assert told > 0


@pytest.mark.parametrize("kind", [name for name in KINDS if name != "zip"], indirect=True)
def test_the_command_line_says_it_in_a_line(kind, monkeypatch, capsys, tmp_path):
    name, file, content, unpack, _, expected = kind
    path = tmp_path / SOURCES[name].folder / f"{file}{'.gz' if unpack is gunzip else ''}"
    path.parent.mkdir(parents=True)
    monkeypatch.setattr(sys, "argv", ["gadam", "data", "verify", name, "--folder", str(tmp_path)])
    for candidate in damaged(content, seed=1):
        path.write_bytes(candidate)
        files._verified_hash.cache_clear()  # the clock of the disk may be slower than this loop
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        output, complaint = capsys.readouterr()
        if stopped.value.code:
            assert (stopped.value.code, output) == (1, "")
            assert complaint.startswith(f"gadam: {name}: ")
            assert len(complaint.splitlines()) == 1
        else:
            assert files.payload(file, unpack(candidate)) == expected
        assert path.read_bytes() == candidate  # it is the user's file


def test_a_damaged_run_is_computed_again(tmp_path):
    run = Run("damaged_runs:none", {"seed": 3, "dataset": "orl"}, "0" * 64, label="a run")
    key = "a" * 64
    path = store.path_of(tmp_path, key)
    rows = [{"seed": 3, "loss": 0.1 + 0.2, "text": "ä", "curve": [1.5, float("inf")], "none": None}] * 5
    monkey = pytest.MonkeyPatch()
    monkey.setattr(Run, "execute", lambda self: rows)
    store.execute_and_write(tmp_path, key, run)
    monkey.undo()
    whole, original = store.read(tmp_path, key, run), path.read_bytes()
    told = 0
    for candidate in damaged(original):
        path.write_bytes(candidate)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            stored = store.read(tmp_path, key, run)
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


def test_damaged_claims_are_refused_in_a_line_or_still_claims(tmp_path):
    claim = dict.fromkeys(scoreboard.COLUMNS, "") | {
        "claim": "GADAM is better", "section": "section54", "exhibit": "table4", "kind": "value", "paper": 92.5,
        "ours": 92.3, "low": 91.0, "high": 93.0, "interval": "95 %", "seeds": 3, "data": "real",
    }  # fmt: skip
    scoreboard.write_claims(tmp_path, "section54", pd.DataFrame([claim] * 5), "quick")
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
