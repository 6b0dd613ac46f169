"""The archive: it reads back what was written; damage, other versions and other data are refused and counted."""

import json
import lzma
from unittest.mock import Mock

import pytest
import run_functions
from hypothesis import example, given, settings
from hypothesis import strategies as st
from report_scene import archived, contents_of, signed
from run_functions import learned_runs

from gadam.datasets import SOURCES
from gadam.paper import runs
from gadam.paper.report import archive, paths, reproduction, store
from gadam.paper.report.paths import ReportError
from gadam.paper.report.reproduction import archive_runs
from gadam.paper.runs import Run

REAL = {"seed": 0, "dataset": "yeast", "data": "real"}
YEAST = Run(run_functions.learned, REAL, SOURCES["yeast"].hash, label="yeast")
RUNS = [Run(run_functions.all_values, {}, label="ä"), *learned_runs(2), YEAST]


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    return contents_of(RUNS, tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def packed(contents, tmp_path_factory):
    path = tmp_path_factory.mktemp("archive") / "runs.jsonl.xz"
    archive.write(path, contents)
    return path.read_bytes()


@pytest.fixture
def path(tmp_path, packed):
    (tmp_path / "runs.jsonl.xz").write_bytes(packed)
    return tmp_path / "runs.jsonl.xz"


def read(path, content=None):
    if content is not None:
        path.write_bytes(content)
    return archive.read(path)


def lines(path):
    return lzma.open(path).read().decode().splitlines(keepends=True)


def same(rows, others):
    return json.dumps(rows) == json.dumps(others)  # in which NaN equals itself


def test_it_reads_back_what_was_written_and_equal_archives_are_equal_bytes(path, contents):
    kept, before = read(path), path.read_bytes()
    assert kept.refused == {}
    for run, content in zip(RUNS, contents, strict=True):
        found = kept.find(run)
        assert same(found.rows, store.rows_of(content))
        assert found.metadata == content["metadata"]
    assert kept.find(learned_runs(3)[-1]) is None
    assert archive.read(path.with_name("nowhere")) == archive.Archive()
    archive.write(path, reversed(contents))
    assert path.read_bytes() == before


def test_frame_has_settings_and_rows(path, contents):
    frame = archive.to_frame(read(path), "test/learned")
    assert frame.groupby(["config.seed", "config.dataset"], dropna=False).size().tolist() == [3, 3, 3]
    assert frame.loc[frame["config.seed"] == 1, "correct"].tolist() == [91] * 3
    assert set(frame["run"]) == {"test/learned"}
    for name in ("cpu_seconds", "stored"):
        assert set(frame[name]) == {content["metadata"][name] for content in contents[1:]}
    assert -run_functions.INF in archive.to_frame(read(path), "test/all_values")["value"].tolist()
    assert len(archive.to_frame(read(path))) == 3 * 3 + len(run_functions.VALUES)
    assert archive.to_frame(archive.Archive()).empty


@pytest.mark.parametrize("damage", ["list", "no version", "identity"])
def test_a_damaged_line_is_refused_counted_and_missing(path, damage):
    every = lines(path)
    line = every.pop(next(number for number, line in enumerate(every) if '"seed": 0' in line))
    damaged = {
        "list": [],
        "no version": signed({"identity": {"run": "test/learned"}, "rows": []}),
        "identity": signed(json.loads(line), identity="test/learned"),
    }[damage]
    found = read(path, lzma.compress("".join([*every, json.dumps(damaged) + "\n"]).encode()))
    assert found.refused == {"damaged": 1}
    assert sorted(run.label for run in RUNS if found.find(run)) == sorted(json.loads(one)["label"] for one in every)


@settings(max_examples=50, deadline=None)
@given(place=st.integers(0, 2**20), bit=st.integers(0, 7), compressed=st.booleans())
@example(place=0, bit=0, compressed=True)
def test_a_flipped_bit_never_gives_other_rows_unnoticed(place, bit, compressed, packed, contents, tmp_path_factory):
    """In the file, or in the text that it holds: a run is as it was, or is refused, counted and missing."""
    content = bytearray(packed if compressed else lzma.decompress(packed))
    content[place % len(content)] ^= 1 << bit
    path = tmp_path_factory.getbasetemp() / "flipped.xz"
    found = read(path, content if compressed else lzma.compress(content, preset=0))
    for run, whole in zip(RUNS, contents, strict=True):
        there = found.find(run)
        assert there is not None or sum(found.refused.values()) > 0
        assert there is None or same(there.rows, store.rows_of(whole))


def test_other_versions_and_other_data_are_refused_and_counted(path, contents, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(run_functions.learned, "version", 2)
        assert read(path).refused == {"another version": 3}
        assert read(path).find(RUNS[0]), "of another function"
    with monkeypatch.context() as patch:
        patch.setattr(archive, "RESULTS_VERSION", runs.RESULTS_VERSION + 1)
        assert read(path).refused == {"another version": 3}, "those that train"
    identity = contents[-1]["identity"]
    strange = [
        signed(contents[-1], identity=identity | {"data": "0" * 64}),
        signed(contents[-1], identity=identity | {"config": identity["config"] | {"data": "standin"}}),
        signed(contents[-1], identity=identity | {"run": "test/unheard of"}),
    ]
    archive.write(path, [*contents[:-1], *strange])
    assert read(path).refused == {"other data": 2, "another version": 1}
    assert len(read(path).lines) == 3


# --- gadam archive ---

ADD = "archive", "standard", "--runs-only"


@pytest.mark.usefixtures("only_section")
def test_the_command_adds_what_is_stored_and_loses_no_valid_run(gadam, tmp_path):
    path, every = paths.archive_path("standard"), learned_runs(7)  # of which the section has five
    contents_of(every[:2], tmp_path / "runs")
    assert gadam(*ADD) == (0, f"{path}: 2 runs, 2 of them new\n", "")
    before = path.read_bytes()
    assert gadam(*ADD) == (0, f"{path}: 2 runs, 0 of them new\n", "")
    assert path.read_bytes() == before
    # An archived run stays though it is in the store no more, and though no section asks for it any more.
    stale, kept = contents_of([every[4], every[6]], tmp_path / "elsewhere")
    stale = signed(stale, identity=stale["identity"] | {"version": 7})
    archive.write(path, [*read(path).lines.values(), kept, stale])
    for one in (tmp_path / "runs").iterdir():
        one.unlink()
    contents_of(every[2:4], tmp_path / "runs")
    assert gadam(*ADD) == (0, f"{path}: 5 runs, 2 of them new, 1 dropped (another version)\n", "")
    assert [run.config["seed"] for run in learned_runs(9) if read(path).find(run)] == [0, 1, 2, 3, 6]


@pytest.mark.usefixtures("only_section")
def test_a_damaged_archive_is_left_as_it_is(tmp_path):
    path = archived(tmp_path, learned_runs(2))
    read(path, lzma.compress("".join([*lines(path), "no line\n"]).encode()))
    before = path.read_bytes()
    with pytest.raises(ReportError, match=r"1 of its lines are damaged; get it back: git checkout"):
        archive_runs(rendering=False)
    assert path.read_bytes() == before


@pytest.mark.usefixtures("only_section")
def test_the_report_is_rendered_from_the_real_data_into_the_committed_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(reproduction.paths, "committed_root", lambda: tmp_path / "committed")
    monkeypatch.setattr(reproduction, "render", render := Mock())
    archive_runs("standard")
    render.assert_called_once_with("standard", ["section0"], "real", tmp_path / "committed" / "standard")
