"""What a run is: its key says what is computed, and nothing of where the code lies or how it is written."""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import run_functions

import gadam
from gadam.paper import SECTIONS, runs
from gadam.paper.report.plan import all_runs
from gadam.paper.runs import Run, run_function

CONFIG = {"folder": "here", "value": 1}


def test_key_depends_on_function_config_data_and_versions_and_on_nothing_else(monkeypatch):
    base = Run(run_functions.rows, CONFIG, "abc", "one")
    same = Run(run_functions.rows, dict(reversed(CONFIG.items())), "abc", "two", arm="x", priority=3, wide=True)
    assert base.key == same.key
    other = [
        Run(run_functions.fails, CONFIG, "abc"),
        Run(run_functions.rows, {**CONFIG, "value": 2}, "abc"),
        Run(run_functions.rows, CONFIG, "abd"),
    ]
    before = [one.key for one in (base, *other)]
    monkeypatch.setattr(run_functions.rows, "version", 2)
    assert len({base.key, *before}) == 5


def test_version_of_the_engine_counts_where_it_trains_and_only_there(monkeypatch):
    trained, counted = Run(run_functions.trains, {"interrupt_at": 0}), Run(run_functions.rows, CONFIG)
    before = trained.key, counted.key
    monkeypatch.setattr(runs, "RESULTS_VERSION", runs.RESULTS_VERSION + 1)
    assert (trained.key != before[0], counted.key == before[1]) == (True, True)
    assert (trained.identity()["engine"], counted.identity()["engine"]) == (runs.RESULTS_VERSION, None)


def test_what_is_at_its_default_is_no_part_of_it():
    plain = Run(run_functions.trains, {"interrupt_at": 3})
    given = Run(run_functions.trains, {"interrupt_at": 3, "mutation_rate": 0.01, "betas": (0.9, 0.999), "shards": None})
    assert given.key == plain.key
    assert plain.identity()["config"] == given.identity()["config"] == {"interrupt_at": 3}
    assert Run(run_functions.trains, {"interrupt_at": 3, "mutation_rate": 0.02}).key != plain.key
    assert Run(run_functions.rows, {"folder": "x", "value": 0}).key == Run(run_functions.rows, {"folder": "x"}).key


def test_runs_of_other_settings_or_another_dataset_are_no_kin():
    def seeded(seed, data="", **more):
        return Run(run_functions.seeded, {"folder": "x", "seed": seed, **more}, data).kin()

    assert seeded(0) == seeded(1)
    assert len({seeded(0), seeded(0, "abc"), seeded(0, steps=3)}) == 3


def test_a_name_is_declared_once_and_a_function_travels_as_its_name():
    with pytest.raises(TypeError, match="'test/rows' is declared twice, by run_functions and test_runs"):
        run_function("test/rows")(test_runs_of_other_settings_or_another_dataset_are_no_kin)
    assert pickle.loads(pickle.dumps(run_functions.rows)) is run_functions.rows
    assert runs.RUN_FUNCTIONS["test/rows"] is run_functions.rows


KEYS = """
import json
from gadam.paper import SECTIONS
from gadam.paper.report.plan import all_runs
print(json.dumps({name: [run.key for run in all_runs(name, "smoke", "real")] for name in SECTIONS}))
"""


def test_moved_modules_and_edited_words_change_no_key(tmp_path):
    """A scratch copy of the package in which genetics.py and the module of the LeNet runs have other names."""
    package = tmp_path / "gadam"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(gadam.__file__).parent, package, ignore=ignored)
    (package / "genetics.py").rename(package / "inheritance.py")
    (package / "experiments" / "mnist.py").rename(package / "experiments" / "lenets.py")
    moves = {
        r"from gadam import genetics": "from gadam import inheritance as genetics",
        r"gadam\.genetics\b": "gadam.inheritance",
        r"from gadam\.experiments import mnist\b": "from gadam.paper import lenets as mnist",
        r"gadam\.experiments\.mnist\b": "gadam.paper.lenets",
        r'"""(?=[A-Z])': '"""Edited: ',
    }
    for path in package.rglob("*.py"):
        text = path.read_text("utf-8")
        for before, after in moves.items():
            text = re.sub(before, after, text)
        path.write_text(text + "\n# edited\n", "utf-8")
    # In its first line, so that a package that is installed in development mode does not come first.
    command = f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\nimport gadam.paper.lenets\n{KEYS}"
    done = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, env=os.environ | {"GADAM_OFFLINE": "1"}
    )
    assert done.returncode == 0, done.stderr
    expected = {name: [run.key for run in all_runs(name, "smoke", "real")] for name in SECTIONS}
    assert json.loads(done.stdout.splitlines()[-1]) == expected
    assert sum(map(len, expected.values())) > 20
