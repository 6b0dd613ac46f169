import sys
from types import ModuleType, SimpleNamespace

import pytest
from typer.testing import CliRunner

from gadam import InputError
from gadam.cli import app
from gadam.experiments import SECTIONS, Section
from gadam.experiments.runs import Run
from gadam.reporting import compute_runs, machine, plan, store
from gadam.reporting.plan import Planned, Timed


def adam(steps, seed=0, work=None, **more):
    config = {"dataset": "yeast", "data": "real", "steps": steps, "population_size": 10, "seed": seed, **more}
    return Run("m:adam", config, label=f"adam {steps} {seed}", work=work)


def timed(run, seconds, work=None):
    return Timed(run.function, run.config, work, seconds)


def test_runs_that_differ_by_their_seed_alone_take_as_long():
    known = [timed(adam(50, seed=1), 2.0), timed(adam(50, seed=2, data="standin"), 4.0), timed(adam(5), 1.0)]
    assert plan.estimate(adam(50, seed=9), known) == 3.0


def test_a_longer_run_is_scaled_from_the_largest_of_its_kind():
    known = [timed(adam(10), 5.0), timed(adam(100), 8.0), timed(adam(100, seed=1), 12.0)]
    assert plan.estimate(adam(1_000), known) == pytest.approx(100.0)
    assert plan.estimate(adam(1_000, population_size=20), known) == pytest.approx(200.0)


@pytest.mark.parametrize("change", [{"dataset": "adult"}, {"rows": 100}, {"model": "mlp"}, {"steps": None}])
def test_nothing_is_said_of_a_run_that_cannot_be_compared(change):
    assert plan.estimate(adam(**{"steps": 1_000, **change}), [timed(adam(10), 5.0)]) is None


def test_nothing_is_known_of_another_function():
    assert plan.estimate(Run("m:other", adam(10).config), [timed(adam(10), 5.0)]) is None


def test_work_that_a_run_states_is_what_counts():
    known = [timed(adam(10, rows=100), 6.0, work=3.0), timed(adam(20, rows=50), 7.0), timed(adam(1, rows=9), 50.0, 1.0)]
    assert plan.estimate(adam(99, rows=None, work=30.0), known) == pytest.approx(60.0)
    assert plan.estimate(adam(99, rows=None), known) is None


def test_seeds_in_one_run_count_as_so_many():
    def trials(seeds):
        return Run("m:success", {"seeds": list(seeds)})

    known = [timed(trials(range(4)), 2.0)]
    assert plan.estimate(trials(range(4, 8)), known) == 2.0
    assert plan.estimate(trials(range(400)), known) == pytest.approx(200.0)


def test_work_is_no_part_of_what_a_run_is():
    assert adam(1).identity() == adam(1, work=5.0).identity()


@pytest.fixture
def section(tmp_path, monkeypatch):
    """A section of three runs, one of them stored, and one that must wait for the others."""
    module = ModuleType("gadam.experiments.section0")
    (tmp_path / "counts").mkdir()

    def run(value, **more):
        config = {"folder": str(tmp_path / "counts"), "value": value}
        return Run("run_functions:rows", config, label=f"value {value}", **more)

    def runs(profile, data):
        return [run(1, work=10.0), run(2, work=20.0)]

    def extra_runs(profile):
        return [run(2, work=20.0), run(3)]

    def later_runs(profile, data, rows):
        return [run(int(rows["value"].sum()))]

    def _hidden_runs():
        raise AssertionError("private")

    for function in (extra_runs, runs, later_runs, _hidden_runs):
        function.__module__ = module.__name__
        setattr(module, function.__name__, function)
    module.no_runs = lambda: 1 / 0  # of another module
    module.no_runs.__module__ = "elsewhere"
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(SECTIONS, "section0", Section("Section 0: nothing", "none.ipynb", ("table0",), ()))
    monkeypatch.setattr(store, "engine_fingerprint", lambda: "engine")
    monkeypatch.setenv("GADAM_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("GADAM_REPORTS", str(tmp_path / "reports"))
    monkeypatch.setenv("GADAM_WORKERS", "2")
    stored = run(1, work=10.0)
    (key,) = store.keys([stored])
    with monkeypatch.context() as patch:
        patch.setattr(store, "time", SimpleNamespace(perf_counter=iter([0.0, 0.5]).__next__))
        store.execute_and_write(tmp_path / "runs", key, stored)
    return tmp_path


def computed(section):
    return len(list((section / "counts").iterdir()))


def test_every_run_list_of_a_section_is_found_once(section):
    assert [run.label for run in plan.all_runs("section0", "quick", "auto")] == ["value 1", "value 2", "value 3"]


def test_a_plan_says_what_is_stored_and_executes_nothing(section):
    lines = plan.planned("quick", "table0", "standin")
    assert [(line.section, line.stored) for line in lines] == [
        ("section0", True),
        ("section0", False),
        ("section0", False),
    ]
    assert lines[0].seconds == 0.5
    assert lines[1].seconds == pytest.approx(2 * lines[0].seconds)
    assert lines[2].seconds is None  # no work stated, and no sizes in its config
    assert computed(section) == 1
    assert not (section / "reports").exists()


def test_times_of_another_machine_are_none_of_this_one(section, monkeypatch):
    assert len(plan.timed(section / "runs")) == 1
    (section / "runs" / "damaged.json").write_text("{")
    assert len(plan.timed(section / "runs")) == 1
    monkeypatch.setattr(machine, "describe", lambda: {"cpu": "another", "gpu": None})
    assert plan.timed(section / "runs") == []


def test_the_command_prints_the_plan(section):
    result = CliRunner().invoke(app, ["reproduce", "--profile", "smoke", "--plan", "--only", "section0"])
    assert result.exit_code == 0, result.output
    text = result.stdout.splitlines()
    assert text[0].split() == ["section", "runs", "stored", "to", "do", "unknown", "core", "time", "wall", "time"]
    assert text[1].split()[:5] == ["section0", "3", "1", "2", "1"]
    assert text[2].split()[:2] == ["stored", "took"]
    assert text[3].split()[:5] == ["to", "do", "about", "1", "s"]
    assert text[4].split() == ["to", "do", "unknown", "value", "3"]
    assert text[5].split()[0] == "all"
    assert "with 2 workers" in text[6]
    assert text[7] == "once these are computed, further runs are known of: section0"
    assert text[8].startswith("unknown, not in the times (no stored run ")
    assert text[9].split() == ["1", "of", "run_functions:rows"]
    assert computed(section) == 1


def test_runs_only_computes_and_stores_the_runs_without_a_report(section, capsys):
    assert compute_runs("smoke", "section0") == 4
    assert computed(section) == 4
    said = capsys.readouterr().out
    assert "3 runs: 1 read, 2 computed" in said
    assert "1 run: 0 read, 1 computed" in said
    assert not (section / "reports").exists()
    result = CliRunner().invoke(app, ["reproduce", "--profile", "smoke", "--runs-only", "--only", "section0"])
    assert result.exit_code == 0, result.output
    assert "3 runs: all read" in result.stdout
    lines = plan.planned("smoke", "section0")
    assert [line.run.label for line in lines] == ["value 1", "value 2", "value 3", "value 12"]
    assert all(line.stored for line in lines)
    assert "further runs" not in plan.describe(lines)


def test_runs_only_needs_no_jupyter(section, monkeypatch):
    for name in ("papermill", "nbval", "nbclient", "nbformat", "nbconvert", "ipykernel"):
        monkeypatch.setitem(sys.modules, name, None)  # whoever imports it gets an ImportError
    assert compute_runs("smoke", "section0") == 4


def test_wrong_arguments_are_refused(section):
    with pytest.raises(InputError, match="profile='big' is not allowed"):
        compute_runs("big")
    with pytest.raises(InputError, match="data='fake' is not allowed"):
        plan.planned("smoke", None, "fake")
    result = CliRunner().invoke(app, ["reproduce", "--plan", "--runs-only"])
    assert isinstance(result.exception, InputError)
    assert "give one of them" in str(result.exception)


def test_wall_time_is_that_of_workers_who_take_the_next_run_in_turn():
    assert plan._wall([3.0, 1.0, 1.0, 1.0], 2) == 3.0
    assert plan._wall([1.0, 1.0, 4.0], 2) == 5.0
    assert plan._wall([1.0, 2.0], 1) == 3.0
    assert plan._wall([], 4) == 0.0


def test_workers_without_work_cost_nothing():
    assert plan._wall([3.0, 1.0], 10**15) == 3.0
    assert plan._wall([], 10**15) == 0.0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.2, "1 s"), (99, "99 s"), (180, "3 min"), (5_990, "100 min"), (7_200, "2.0 h"), (400_000, "4.6 d")],
)
def test_durations_as_a_reader_says_them(seconds, text):
    assert plan.duration(seconds) == text


def test_sections_are_summed():
    lines = [Planned("section3", adam(1), True, 5.0), *[Planned("section54", adam(2), False, 60.0)] * 3]
    text = plan.describe(lines, workers=2).splitlines()
    assert text[1].split() == ["section3", "1", "1", "0", "–", "0", "s", "0", "s"]
    assert text[2].split() == ["section54", "3", "0", "3", "–", "3", "min", "2", "min"]
    assert text[3].split() == ["all", "4", "1", "3", "–", "3", "min", "2", "min"]
    assert len(text) == 5


@pytest.mark.parametrize("name", [name for name in SECTIONS if name != "section0"])
@pytest.mark.parametrize("profile", ["smoke", "paper"])
def test_every_section_tells_its_runs(name, profile):
    runs = plan.all_runs(name, profile, "standin")
    assert len({run.identity() for run in runs}) == len(runs)
    assert all(run.label for run in runs)
