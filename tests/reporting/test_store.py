"""The run store: rows come back exactly, damage is missing, and a stopped run goes on."""

import json
import struct
from types import SimpleNamespace

import numpy as np
import pytest
import run_functions
from report_scene import files

from gadam import InputError
from gadam.paper.report import paths, store
from gadam.paper.runs import Run
from gadam.training import trainer

RUN = Run(run_functions.all_values, {}, label="values")


@pytest.fixture
def stored(tmp_path):
    """The file of `RUN`, computed."""
    store.execute_and_write(tmp_path, RUN)
    return store.path_of(tmp_path, RUN.key)


def test_values_come_back_exactly(stored, tmp_path):
    for row, theirs in zip(store.read(tmp_path, RUN).rows, run_functions.VALUES, strict=True):
        ours = row["value"]
        assert type(ours) is type(theirs)
        if isinstance(theirs, float):
            ours, theirs = struct.pack("d", ours), struct.pack("d", theirs)
        assert ours == theirs
    json.loads(stored.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_numbers_of_numpy_are_stored_as_numbers_and_an_object_is_refused(tmp_path, monkeypatch):
    def returns(**row):
        monkeypatch.setattr(run_functions.all_values, "_compute", lambda: [row])

    returns(a=np.float32(0.1), b=np.int64(3), c=np.bool_(True))
    store.execute_and_write(tmp_path / "good", RUN)
    assert store.read(tmp_path / "good", RUN).rows == [{"a": float(np.float32(0.1)), "b": 3, "c": True}]
    returns(good=1, bad={"nested": 1})
    with pytest.raises(InputError, match="column 'bad' holds a dict"):
        store.execute_and_write(tmp_path / "bad", RUN)
    assert store.read(tmp_path / "bad", RUN) is None


DAMAGES = {
    "half": lambda text: text[: len(text) // 2],
    "rows": lambda text: text.replace("0.1", "0.2", 1),
    "identity": lambda text: text.replace("all_values", "rows"),
    "metadata": lambda text: text.replace('"cpu_seconds": ', '"cpu_seconds": 1'),
    "binary": lambda text: "\0\0",
    "list": lambda text: "[]",
}


@pytest.mark.parametrize("damage", [*DAMAGES, "another run"])
def test_damaged_file_counts_as_absent_with_a_warning(stored, tmp_path, damage):
    before = stored.read_text()
    if damage == "another run":
        other = Run(run_functions.standin, {})
        store.execute_and_write(tmp_path, other)
        stored.write_text(store.path_of(tmp_path, other.key).read_text())
    else:
        stored.write_text(DAMAGES[damage](before))
    assert stored.read_text() != before
    with pytest.warns(RuntimeWarning, match=rf"{stored.name}: damaged .* counts as missing"):
        assert store.read(tmp_path, RUN) is None


def test_folders_follow_the_environment(tmp_path, monkeypatch):
    places = {
        "GADAM_REPORTS": (paths.reports_root, "reports/out"), "GADAM_RUNS": (paths.runs_root, "reports/runs"),
        "GADAM_ARCHIVE": (lambda: paths.archive_path("standard").parents[1], "reports"),
    }  # fmt: skip
    for variable, (place, default) in places.items():
        monkeypatch.setenv(variable, str(tmp_path / variable))
        assert place() == tmp_path / variable
        monkeypatch.delenv(variable)
        assert place() == paths.project_root() / default


def test_a_stopped_run_goes_on_and_its_seconds_are_added_up(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "REPORT_SECONDS", 0)
    monkeypatch.setattr(run_functions, "STEPS_SEEN", [])
    # A clock of this process that goes by its steps, and starts again with each process.
    clock = SimpleNamespace(perf_counter=lambda: 0.0, process_time=lambda: float(len(run_functions.STEPS_SEEN)))
    monkeypatch.setattr(store, "time", clock)
    run, root = Run(run_functions.trains, {"interrupt_at": 130}), tmp_path / "store"
    expected = run_functions.trains(0)
    run_functions.STEPS_SEEN.clear()
    with pytest.raises(KeyboardInterrupt):
        store.execute_and_write(root, run)
    assert [path.name for path in root.iterdir()] == [f".{run.key}.checkpoints"]
    before = len(run_functions.STEPS_SEEN)
    run_functions.STEPS_SEEN[:] = [0] * 1_000  # of another run, computed before
    store.execute_and_write(root, run)
    assert before + len(run_functions.STEPS_SEEN) - 1_000 == 2 * 2 * 2 * 50, "no step twice"
    found = store.read(root, run)
    assert found.rows == expected
    assert found.metadata["cpu_seconds"] == 2 * 2 * 2 * 50
    assert list(files(root)) == [f"{run.key}.json"]
