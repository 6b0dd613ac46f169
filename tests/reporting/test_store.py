import json
import math
import struct

import numpy as np
import pytest
import run_functions

from gadam import InputError, training
from gadam.experiments.runs import Run
from gadam.reporting import paths, store

RUN = Run("run_functions:all_values", {}, label="values")


def test_key_depends_on_function_config_and_data_but_not_on_order_or_label():
    config = {"seed": 1, "sizes": [3, 4], "rate": 0.1}
    base = Run("run_functions:rows", config, "abc", "one")
    same = [base, Run(base.function, dict(reversed(config.items())), "abc", "two")]
    other = [
        Run("run_functions:fails", config, "abc"),
        Run(base.function, {**config, "seed": 2}, "abc"),
        Run(base.function, {**config, "sizes": [4, 3]}, "abc"),
        Run(base.function, config, "abd"),
    ]
    assert len(set(store.keys(same))) == 1
    assert len(set(store.keys([base, *other]))) == 5


def test_values_come_back_exactly(tmp_path):
    store.execute_and_write(tmp_path, "k", RUN)
    found = store.read(tmp_path, "k", RUN)
    values = [row["value"] for row in found.rows]
    assert [type(value) for value in values] == [type(value) for value in run_functions.VALUES]
    for ours, theirs in zip(values, run_functions.VALUES, strict=True):
        if isinstance(theirs, float):
            assert math.isnan(theirs) == math.isnan(ours)
            assert math.isnan(theirs) or struct.pack("d", ours) == struct.pack("d", theirs)
        else:
            assert ours == theirs
    text = (tmp_path / "k.json").read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_numbers_of_numpy_are_stored_as_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(
        run_functions, "all_values", lambda: [{"a": np.float32(0.1), "b": np.int64(3), "c": np.bool_(True)}]
    )
    store.execute_and_write(tmp_path, "k", RUN)
    assert store.read(tmp_path, "k", RUN).rows == [{"a": float(np.float32(0.1)), "b": 3, "c": True}]


def test_what_is_no_json_value_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(run_functions, "all_values", lambda: [{"good": 1, "bad": {"nested": 1}}])
    with pytest.raises(InputError, match="column 'bad' holds a dict; allowed are JSON values"):
        store.execute_and_write(tmp_path, "k", RUN)
    assert list(tmp_path.iterdir()) == []


def test_absent_run_is_none(tmp_path):
    assert store.read(tmp_path, "k", RUN) is None


@pytest.mark.parametrize("damage", ["empty", "half", "rows", "identity", "binary", "list"])
def test_damaged_file_counts_as_absent_with_a_warning(tmp_path, damage):
    store.execute_and_write(tmp_path, "k", RUN)
    path = tmp_path / "k.json"
    content = path.read_text()
    damaged = {
        "empty": "",
        "half": content[: len(content) // 2],
        "rows": content.replace("0.1", "0.2"),
        "identity": content.replace("all_values", "rows"),
        "binary": "\0\0",
        "list": "[]",
    }[damage]
    path.write_text(damaged)
    with pytest.warns(RuntimeWarning, match=r"k\.json: damaged .* this run is computed again"):
        assert store.read(tmp_path, "k", RUN) is None


def test_atomic_write_leaves_the_old_file_when_it_fails(tmp_path, monkeypatch):
    path = tmp_path / "folder" / "file.json"
    paths.write_atomic(path, "old")
    monkeypatch.setattr(paths.os, "fsync", lambda descriptor: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        paths.write_atomic(path, "new")
    assert [one.name for one in path.parent.iterdir()] == ["file.json"]
    assert path.read_text() == "old"


def test_roots_follow_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("GADAM_REPORTS", str(tmp_path / "a"))
    monkeypatch.setenv("GADAM_RUNS", str(tmp_path / "b"))
    assert (paths.reports_root(), paths.runs_root()) == (tmp_path / "a", tmp_path / "b")
    monkeypatch.delenv("GADAM_REPORTS")
    monkeypatch.delenv("GADAM_RUNS")
    assert paths.reports_root() == paths.project_root() / "reports"
    assert paths.runs_root() == paths.project_root() / "reports" / "runs"


def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "PATIENCE", 0)
    monkeypatch.setattr(run_functions, "STEPS_SEEN", [])
    run = Run("run_functions:trains", {"interrupt_at": 130})
    expected = run_functions.trains(0)
    run_functions.STEPS_SEEN.clear()
    with pytest.raises(KeyboardInterrupt):
        store.execute_and_write(tmp_path, "k", run)
    assert [path.name for path in tmp_path.iterdir()] == [".k.checkpoints"]
    store.execute_and_write(tmp_path, "k", run)
    assert len(run_functions.STEPS_SEEN) == 2 * 2 * 2 * 50, "no step twice"
    assert store.read(tmp_path, "k", run).rows == expected
    assert [path.name for path in tmp_path.iterdir()] == ["k.json"]


def test_every_part_of_a_stored_run_counts(tmp_path):
    store.execute_and_write(tmp_path, "k", RUN)
    content = json.loads((tmp_path / "k.json").read_text())
    content["metadata"]["seconds"] += 1
    (tmp_path / "k.json").write_text(json.dumps(content))
    with pytest.warns(RuntimeWarning, match="damaged"):
        assert store.read(tmp_path, "k", RUN) is None
