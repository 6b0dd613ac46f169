"""The run store: what a key depends on, rows come back exactly, damage is missing, and a stopped run goes on."""

import json
import pickle
import struct
from types import SimpleNamespace

import numpy as np
import pytest
import run_functions
from report_scene import files

from gadam import InputError
from gadam.paper import runs
from gadam.paper.report import paths, store
from gadam.paper.runs import Run, run_function
from gadam.training import trainer

RUN = Run(run_functions.all_values, {}, label="values")
CONFIG = {"folder": "here", "value": 1}


# --- the key: what is computed, and nothing of where the code lies or how it is written ---


def test_key_depends_on_function_config_data_and_versions_and_on_nothing_else(monkeypatch):
    base = Run(run_functions.rows, CONFIG, "abc", "one")
    assert base.key == Run(run_functions.rows, dict(reversed(CONFIG.items())), "abc", "two", "x", 3, True).key
    others = [
        Run(run_functions.fails, CONFIG, "abc"),
        Run(run_functions.rows, {**CONFIG, "value": 2}, "abc"),
        Run(run_functions.rows, CONFIG, "abd"),
    ]
    before = [one.key for one in (base, *others)]
    monkeypatch.setattr(run_functions.rows, "version", 2)
    assert len({base.key, *before}) == 5


def test_version_of_the_engine_counts_where_it_trains_and_only_there(monkeypatch):
    trained, counted = Run(run_functions.trains, {"interrupt_at": 0}), Run(run_functions.rows, CONFIG)
    before = trained.key, counted.key
    monkeypatch.setattr(runs, "RESULTS_VERSION", runs.RESULTS_VERSION + 1)
    assert (trained.key != before[0], counted.key == before[1]) == (True, True)
    assert (trained.identity()["engine"], counted.identity()["engine"]) == (runs.RESULTS_VERSION, None)


def test_settings_at_their_default_are_no_part_of_it():
    plain = Run(run_functions.trains, {"interrupt_at": 3})
    given = Run(run_functions.trains, {"interrupt_at": 3, "mutation_rate": 0.01, "betas": (0.9, 0.999), "shards": None})
    assert given.key == plain.key
    assert plain.identity()["config"] == given.identity()["config"] == {"interrupt_at": 3}
    assert Run(run_functions.trains, {"interrupt_at": 3, "mutation_rate": 0.02}).key != plain.key
    assert Run(run_functions.rows, {"folder": "x", "value": 0}).key == Run(run_functions.rows, {"folder": "x"}).key


def test_runs_of_other_settings_or_another_dataset_are_no_kin():
    def kin(seed, data="", **more):
        return Run(run_functions.learned, {"seed": seed, **more}, data).kin()

    assert kin(0) == kin(1)
    assert len({kin(0), kin(0, "abc"), kin(0, size=4)}) == 3


def test_a_name_is_declared_once_and_a_function_travels_as_its_name():
    with pytest.raises(TypeError, match="'test/rows' is declared twice, by run_functions and test_store"):
        run_function("test/rows")(test_runs_of_other_settings_or_another_dataset_are_no_kin)
    assert pickle.loads(pickle.dumps(run_functions.rows)) is run_functions.rows
    assert runs.RUN_FUNCTIONS["test/rows"] is run_functions.rows


# --- the file ---


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
