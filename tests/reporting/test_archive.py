"""The archive: what is put in comes out; what is damaged, of other versions or of other data is refused and counted."""

import json
import lzma
import os
import sys
from types import ModuleType
from unittest import mock

import pandas as pd
import pytest
import run_functions
from hypothesis import example, given, settings
from hypothesis import strategies as st
from run_functions import learned_runs
from typer.testing import CliRunner

from gadam import InputError
from gadam.cli import app
from gadam.datasets import SOURCES
from gadam.paper import SECTIONS, Section, runs
from gadam.paper.report import Report, ReportError, archive, archive_runs, paths, plan, reproduction, store
from gadam.paper.runs import Run

YEAST = SOURCES["yeast"].hash


@pytest.fixture(autouse=True)
def fresh():
    """Files of these tests may be written twice within a tick of the disk's clock."""
    archive._read.cache_clear()


def contents_of(several, folder):
    """What the store keeps of some runs."""
    for run in several:
        store.execute_and_write(folder, run)
    return [json.loads(store.path_of(folder, run.key).read_bytes()) for run in several]


def yeast_run(seed=0, data=YEAST):
    return Run(run_functions.learned, {"seed": seed, "dataset": "yeast", "data": "real"}, data, label=f"yeast {seed}")


RUNS = [Run(run_functions.all_values, {}, label="ä"), *learned_runs(2), yeast_run()]


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    return contents_of(RUNS, tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def file(contents, tmp_path_factory):
    """The bytes of an archive of `RUNS`."""
    path = tmp_path_factory.mktemp("archive") / archive.NAME
    archive.write(path, contents)
    return path.read_bytes()


@pytest.fixture
def path(tmp_path, file):
    (tmp_path / archive.NAME).write_bytes(file)
    return tmp_path / archive.NAME


def lines(path):
    return lzma.open(path).read().decode().splitlines(keepends=True)


def rewritten(path, *several):
    path.write_bytes(lzma.compress("".join(several).encode()))
    archive._read.cache_clear()
    return archive.read(path)


def signed(content, **changed):
    """What is stored, changed, and with its checksum made anew."""
    rest = {name: value for name, value in {**content, **changed}.items() if name != "sha256"}
    return json.dumps({**rest, "sha256": store.digest_of(rest)}) + "\n"


def same(rows, others):
    return json.dumps(rows) == json.dumps(others)  # in which NaN equals itself


def test_what_goes_in_comes_out(path, contents):
    kept = archive.read(path)
    assert kept.refused == {}
    for run, content in zip(RUNS, contents, strict=True):
        found = kept.find(run)
        assert same(found.rows, store.rows_of(content))
        assert found.metadata == content["metadata"]
        assert kept.cpu_seconds(run) == content["metadata"]["cpu_seconds"]
    absent = learned_runs(3)[-1]
    assert (kept.find(absent), kept.cpu_seconds(absent)) == (None, None)
    assert archive.read(path.with_name("nowhere")) == archive.Archive()


def test_equal_archives_are_equal_bytes(path, contents):
    before = path.read_bytes()
    archive.write(path, reversed(contents))
    assert path.read_bytes() == before
    archive._read.cache_clear()
    archive.write(path, archive.read(path).lines.values())
    assert path.read_bytes() == before


def test_frame_has_settings_and_rows(path):
    frame = archive.to_frame(archive.read(path), "test/learned")
    assert frame.groupby(["config.seed", "config.dataset"], dropna=False).size().tolist() == [3, 3, 3]
    assert set(frame["run"]) == {"test/learned"}
    assert frame["cpu_seconds"].notna().all()
    assert pd.to_datetime(frame["stored"]).notna().all()
    assert frame.loc[(frame["config.seed"] == 1), "correct"].tolist() == [91] * 3
    assert len(archive.to_frame(archive.read(path))) == 3 * 3 + len(run_functions.VALUES)
    assert archive.to_frame(archive.Archive()).empty


DAMAGES = {
    "a number": lambda line: line.replace('"correct": 90', '"correct": 91', 1),
    "half a line": lambda line: line[: len(line) // 2] + "\n",
    "no checksum": lambda line: line.replace("sha256", "sha255"),
    "another identity": lambda line: line.replace('"seed": 0', '"seed": 7'),
    "a list": lambda line: "[]\n",
    "nothing in it": lambda line: signed({}),
    "no version": lambda line: signed({"identity": {"run": "test/learned"}, "rows": []}),
    "a text for an identity": lambda line: signed(json.loads(line), identity="test/learned"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_line_is_refused_counted_and_missing(path, damage):
    every = lines(path)
    line = every.pop(next(number for number, line in enumerate(every) if '"seed": 0' in line))
    assert DAMAGES[damage](line) != line
    found = rewritten(path, *every, DAMAGES[damage](line))
    assert found.refused == {"damaged": 1}
    assert sorted(run.label for run in RUNS if found.find(run)) == sorted(json.loads(one)["label"] for one in every)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_cut_file_counts_as_damaged(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    archive._read.cache_clear()
    assert archive.read(path).refused["damaged"] >= 1


def test_other_versions_and_other_data_are_refused_and_counted(path, contents, monkeypatch):
    learned = run_functions.learned
    monkeypatch.setattr(learned, "version", 2)
    assert archive.read(path).refused == {"another version": 3}
    assert archive.read(path).find(RUNS[0]), "of another function"
    monkeypatch.undo()

    archive._read.cache_clear()
    monkeypatch.setattr(archive, "RESULTS_VERSION", runs.RESULTS_VERSION + 1)
    assert archive.read(path).refused == {"another version": 3}, "those that train"
    monkeypatch.undo()

    identity = contents[-1]["identity"]
    strange = [
        signed(contents[-1], identity=identity | {"data": "0" * 64}),
        signed(contents[-1], identity=identity | {"config": identity["config"] | {"data": "standin"}}),
        signed(contents[-1], identity=identity | {"run": "test/unheard of"}),
    ]
    others = [line for line in lines(path) if json.loads(line) != contents[-1]]
    found = rewritten(path, *others, *strange)
    assert found.refused == {"other data": 2, "another version": 1}
    assert len(found.lines) == 3


@settings(max_examples=150, deadline=None)
@given(place=st.integers(0, 2**20), bit=st.integers(0, 7), packed=st.booleans())
@example(place=0, bit=0, packed=True)
def test_a_flipped_bit_never_gives_other_rows_unnoticed(place, bit, packed, file, contents, tmp_path_factory):
    """In the file, or in the text that it holds: a run is as it was, or is refused, counted and missing."""
    content = bytearray(file if packed else lzma.decompress(file))
    content[place % len(content)] ^= 1 << bit
    path = tmp_path_factory.getbasetemp() / "flipped.xz"
    path.write_bytes(content if packed else lzma.compress(content, preset=0))
    archive._read.cache_clear()
    found = archive.read(path)
    for run, whole in zip(RUNS, contents, strict=True):
        there = found.find(run)
        assert there is not None or sum(found.refused.values()) > 0
        assert there is None or same(there.rows, store.rows_of(whole))
    assert len(found.lines) <= len(RUNS)


# --- gadam archive ---


@pytest.fixture
def section(tmp_path, monkeypatch):
    """The one section that there is, of five runs; the store is empty, and so is the archive."""
    module = ModuleType("gadam.paper.section0")

    def runs(profile, data):
        assert (profile, data) == ("standard", "real")
        return learned_runs()

    runs.__module__, module.runs = module.__name__, runs
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setenv("GADAM_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("GADAM_ARCHIVE", str(tmp_path / "archive"))
    only = {"section0": Section("Section 0: nothing", "none.ipynb", ("table0",), ())}
    with mock.patch.dict(SECTIONS, only, clear=True):  # unlike monkeypatch, this gives their order back too
        yield tmp_path / "archive" / "standard" / archive.NAME


def archived(path):
    archive._read.cache_clear()
    return [run.config["seed"] for run in learned_runs(9) if archive.read(path).find(run)]


def test_the_command_adds_what_is_stored_and_loses_no_valid_run(section, tmp_path):
    def command():
        done = CliRunner().invoke(app, ["archive", "standard", "--runs-only"])
        assert done.exit_code == 0, done.output
        return done.stdout.strip()

    every = learned_runs(7)  # of which the section has five
    contents_of(every[:2], tmp_path / "runs")
    assert command() == f"{section}: 2 runs, 2 of them new"
    before = section.read_bytes()
    assert command() == f"{section}: 2 runs, 0 of them new"
    assert section.read_bytes() == before

    # What was archived and is no more in the store stays, also what no section asks for any more.
    archive.write(section, [*archive.read(section).lines.values(), *contents_of(every[6:], tmp_path / "elsewhere")])
    for one in (tmp_path / "runs").iterdir():
        one.unlink()
    contents_of(every[2:4], tmp_path / "runs")
    archive._read.cache_clear()
    assert command() == f"{section}: 5 runs, 2 of them new"
    assert archived(section) == [0, 1, 2, 3, 6]

    # What is not valid any more goes, and that is said.
    rewritten(section, *lines(section), signed(json.loads(lines(section)[0]), identity={"run": "gone"}))
    archive._read.cache_clear()
    assert command() == f"{section}: 5 runs, 0 of them new, 1 dropped (another version)"
    assert archived(section) == [0, 1, 2, 3, 6]


def test_a_damaged_archive_is_left_as_it_is(section, tmp_path):
    archive.write(section, contents_of(learned_runs(2), tmp_path / "runs"))
    rewritten(section, *lines(section), "no line\n")
    archive._read.cache_clear()
    before = section.read_bytes()
    with pytest.raises(
        ReportError, match="1 of its lines are damaged; get it back before runs are added: git checkout"
    ):
        archive_runs(rendering=False)
    assert section.read_bytes() == before


def test_the_report_is_rendered_from_the_real_data_into_what_is_committed(section, tmp_path, monkeypatch):
    rendered = []
    monkeypatch.setattr(reproduction, "committed_root", lambda: tmp_path / "reports")
    monkeypatch.setattr(reproduction, "render", lambda *given: rendered.append(given))
    monkeypatch.setattr(reproduction, "write_page", lambda *given: rendered.append(given))
    archive_runs()
    root = tmp_path / "reports"
    assert rendered == [("standard", ["section0"], "real", root), ("standard", root)]


def test_only_archived_profiles_have_one(section):
    with pytest.raises(InputError, match="profile='quick' is not allowed; it must be one of standard, paper"):
        archive_runs("quick")
    assert not section.exists()


def test_standard_is_read_and_what_is_missing_is_said_and_not_computed(section, tmp_path, monkeypatch, capsys):
    every = learned_runs()
    archive.write(section, contents_of(every[:2], tmp_path / "elsewhere"))
    contents_of(every[2:3], tmp_path / "runs")
    monkeypatch.setattr(runs.RunFunction, "__call__", lambda self, **_: pytest.fail("computed unasked"))
    report = Report.open("standard", folder=tmp_path / "reports")
    frame = report.rows(every)
    assert frame["seed"].unique().tolist() == [0, 1, 2]
    assert report.arms == {"test/learned": (3, 5)}
    assert report.arms.count("test/learned") == "3 of 5"
    said = capsys.readouterr().out
    assert said.startswith("2 of 5 runs are missing, about ")
    assert "compute them: gadam reproduce --profile standard --runs-only\n" in said
    assert [line.where for line in plan.planned("standard")] == ["archived", "archived", "stored", "", ""]
    assert [line.where for line in plan.planned("standard", recompute=True)] == ["", "", "stored", "", ""]
    monkeypatch.setenv("GADAM_RECOMPUTE", "1")
    assert report.rows(every)["seed"].unique().tolist() == [2]
    assert os.listdir(tmp_path / "runs") == [f"{every[2].key}.json"]
    assert paths.archive_path("standard") == section
