"""The key of a run says what is computed, and nothing of where the code lies or how it is written."""

import pickle

import pytest
import run_functions

from gadam.paper import runs
from gadam.paper.runs import Run, run_function

CONFIG = {"folder": "here", "value": 1}


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
        return Run(run_functions.seeded, {"folder": "x", "seed": seed, **more}, data).kin()

    assert kin(0) == kin(1)
    assert len({kin(0), kin(0, "abc"), kin(0, steps=3)}) == 3


def test_a_name_is_declared_once_and_a_function_travels_as_its_name():
    with pytest.raises(TypeError, match="'test/rows' is declared twice, by run_functions and test_runs"):
        run_function("test/rows")(test_runs_of_other_settings_or_another_dataset_are_no_kin)
    assert pickle.loads(pickle.dumps(run_functions.rows)) is run_functions.rows
    assert runs.RUN_FUNCTIONS["test/rows"] is run_functions.rows
