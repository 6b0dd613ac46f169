import json
import math
import struct
from types import SimpleNamespace

import numpy as np
import pytest
import run_functions

from gadam import InputError
from gadam.paper.report import paths, store
from gadam.paper.runs import Run
from gadam.training import trainer as training

RUN = Run(run_functions.all_values, {}, label="values")


@pytest.fixture
def stored(tmp_path):
    """The file of `RUN`, computed."""
    store.execute_and_write(tmp_path, RUN)
    return store.path_of(tmp_path, RUN.key)


def test_values_come_back_exactly(stored, tmp_path):
    found = store.read(tmp_path, RUN)
    values = [row["value"] for row in found.rows]
    assert [type(value) for value in values] == [type(value) for value in run_functions.VALUES]
    for ours, theirs in zip(values, run_functions.VALUES, strict=True):
        if isinstance(theirs, float):
            assert math.isnan(theirs) == math.isnan(ours)
            assert math.isnan(theirs) or struct.pack("d", ours) == struct.pack("d", theirs)
        else:
            assert ours == theirs
    json.loads(stored.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_numbers_of_numpy_are_stored_as_numbers_and_what_is_no_json_value_is_refused(tmp_path, monkeypatch):
    def returns(**row):
        monkeypatch.setattr(run_functions.all_values, "_compute", lambda: [row])

    returns(a=np.float32(0.1), b=np.int64(3), c=np.bool_(True))
    store.execute_and_write(tmp_path / "good", RUN)
    assert store.read(tmp_path / "good", RUN).rows == [{"a": float(np.float32(0.1)), "b": 3, "c": True}]
    returns(good=1, bad={"nested": 1})
    with pytest.raises(InputError, match="column 'bad' holds a dict; allowed are JSON values"):
        store.execute_and_write(tmp_path / "bad", RUN)
    assert not (tmp_path / "bad").exists()


def test_absent_run_is_none(tmp_path):
    assert store.read(tmp_path, RUN) is None
    assert store.read(tmp_path / "nowhere", RUN) is None


@pytest.mark.parametrize("damage", ["empty", "half", "rows", "identity", "metadata", "binary", "list", "another run"])
def test_damaged_file_counts_as_absent_with_a_warning(stored, tmp_path, damage):
    content = stored.read_text()
    if damage == "another run":
        store.execute_and_write(tmp_path, Run(run_functions.standin, {}))
        other = store.path_of(tmp_path, Run(run_functions.standin, {}).key).read_text()
    damaged = {
        "empty": "",
        "half": content[: len(content) // 2],
        "rows": content.replace("0.1", "0.2", 1),
        "identity": content.replace("all_values", "rows"),
        "metadata": content.replace('"together": 1', '"together": 2'),
        "binary": "\0\0",
        "list": "[]",
        "another run": damage == "another run" and other,
    }[damage]
    assert damaged != content
    stored.write_text(damaged)
    with pytest.warns(RuntimeWarning, match=rf"{stored.name}: damaged .*; this run counts as missing"):
        assert store.read(tmp_path, RUN) is None


def test_atomic_write_leaves_the_old_file_when_it_fails(tmp_path, monkeypatch):
    path = tmp_path / "folder" / "file.json"
    paths.write_atomic(path, "old")
    monkeypatch.setattr(paths.os, "fsync", lambda descriptor: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        paths.write_atomic(path, "new")
    assert [one.name for one in path.parent.iterdir()] == ["file.json"]
    assert path.read_text() == "old"


def test_roots_follow_the_environment(tmp_path, monkeypatch):
    places = {
        "GADAM_REPORTS": (paths.reports_root, "reports/out", ""),
        "GADAM_RUNS": (paths.runs_root, "reports/runs", ""),
        "GADAM_ARCHIVE": (lambda: paths.archive_path("standard"), "reports", "standard/runs.jsonl.xz"),
    }
    for variable, (place, default, below) in places.items():
        monkeypatch.setenv(variable, str(tmp_path / variable))
        assert place() == tmp_path / variable / below
        monkeypatch.delenv(variable)
        assert place() == paths.project_root() / default / below


def test_a_run_that_was_stopped_goes_on_where_it_was_and_its_seconds_are_added_up(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "PATIENCE", 0)
    monkeypatch.setattr(run_functions, "STEPS_SEEN", [])
    # A clock of this process that goes by its steps, and starts again with each process.
    clock = SimpleNamespace(perf_counter=lambda: 0.0, process_time=lambda: float(len(run_functions.STEPS_SEEN)))
    monkeypatch.setattr(store, "time", clock)
    run = Run(run_functions.trains, {"interrupt_at": 130})
    expected = run_functions.trains(0)
    run_functions.STEPS_SEEN.clear()
    with pytest.raises(KeyboardInterrupt):
        store.execute_and_write(tmp_path, run)
    assert [path.name for path in tmp_path.iterdir()] == [f".{run.key}.checkpoints"]
    before = len(run_functions.STEPS_SEEN)
    run_functions.STEPS_SEEN.clear()
    run_functions.STEPS_SEEN += [0] * 1_000  # what another process may have computed before
    store.execute_and_write(tmp_path, run)
    assert before + len(run_functions.STEPS_SEEN) - 1_000 == 2 * 2 * 2 * 50, "no step twice"
    found = store.read(tmp_path, run)
    assert found.rows == expected
    assert found.metadata["cpu_seconds"] == 2 * 2 * 2 * 50
    assert [path.name for path in tmp_path.iterdir()] == [f"{run.key}.json"]
