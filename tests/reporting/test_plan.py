import sys
from types import ModuleType

import pytest
import run_functions
from typer.testing import CliRunner

from gadam import InputError
from gadam.cli import app
from gadam.paper import PROFILES, SECTIONS, Section
from gadam.paper.report import RunError, compute_runs, plan, reproduction, store
from gadam.paper.report.plan import Planned
from gadam.paper.runs import Run


@pytest.fixture
def section(tmp_path, monkeypatch):
    """A section of three runs, one of them stored, and one that must wait for the others."""
    module = ModuleType("gadam.paper.section0")
    (tmp_path / "counts").mkdir()

    def run(value):
        return Run(run_functions.rows, {"folder": str(tmp_path / "counts"), "value": value}, label=f"value {value}")

    def runs(profile, data):
        return [run(1), run(2)]

    def extra_runs(profile):
        return [run(2), run(3)]

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
    monkeypatch.setenv("GADAM_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("GADAM_REPORTS", str(tmp_path / "reports"))
    monkeypatch.setenv("GADAM_WORKERS", "2")
    store.execute_and_write(tmp_path / "runs", run(1))
    return tmp_path


def computed(section):
    return len(list((section / "counts").iterdir()))


def test_every_run_list_of_a_section_is_found_once(section):
    assert [run.label for run in plan.all_runs("section0", "quick", "auto")] == ["value 1", "value 2", "value 3"]


def test_a_plan_says_what_is_there_and_how_long_what_is_known_takes_and_executes_nothing(section, monkeypatch):
    monkeypatch.setattr(plan, "expected", lambda run: 9.0 if run.config["value"] == 2 else None)
    lines = plan.planned("quick", "table0", "standin")
    assert [(line.section, line.where) for line in lines] == [
        ("section0", "stored"), ("section0", ""), ("section0", ""),
    ]  # fmt: skip
    took = store.read(section / "runs", lines[0].run).metadata["cpu_seconds"]
    assert [line.seconds for line in lines] == [took, 9.0, None]
    assert computed(section) == 1
    assert not (section / "reports").exists()


def test_a_run_that_differs_by_its_seed_alone_takes_as_long(section, monkeypatch):
    seeds = [Run(run_functions.seeded, {"folder": str(section / "counts"), "seed": seed}) for seed in range(2)]
    monkeypatch.setattr(plan, "all_runs", lambda *_: seeds)
    monkeypatch.setattr(plan, "later_runs", lambda name: None)
    store.execute_and_write(section / "runs", seeds[1])
    one, other = plan.planned("quick", "section0", "standin")
    assert (one.where, other.where) == ("", "stored")
    assert one.seconds == other.seconds is not None


def test_the_command_prints_the_plan(section):
    result = CliRunner().invoke(app, ["reproduce", "--profile", "smoke", "--plan", "--only", "section0"])
    assert result.exit_code == 0, result.output
    text = result.stdout.splitlines()
    assert text[0].split() == ["section", "runs", "there", "to", "do", "unknown", "core", "time", "wall", "time"]
    assert text[1].split()[:4] == ["section0", "3", "1", "2"]
    assert text[2].split()[:2] == ["stored", "took"]
    assert text[3].split()[:2] == ["to", "do"]
    assert any(line.startswith("wall time with 2 workers") for line in text)
    assert "once these are computed, further runs may be known of: section0" in text
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
    assert all(line.where for line in lines)
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
    for profile in ("standard", "paper"):
        with pytest.raises(InputError, match="data='standin' is not allowed; it must be one of auto, real"):
            plan.planned(profile, None, "standin")
    result = CliRunner().invoke(app, ["reproduce", "--plan", "--runs-only"])
    assert isinstance(result.exception, InputError)
    assert "give one of them" in str(result.exception)


def line(seconds, where="", section="section3", **more):
    return Planned(section, Run(run_functions.rows, {"folder": "x"}, **more), where, seconds)


def test_wall_time_is_that_of_workers_who_take_the_next_run_in_turn_by_priority():
    def wall(workers, *seconds, **more):
        return plan.to_do([line(one, **more) for one in seconds], workers)[1]

    assert wall(2, 3.0, 1.0, 1.0, 1.0) == 3.0
    assert wall(2, 1.0, 1.0, 4.0) == 5.0
    assert wall(1, 1.0, 2.0) == 3.0
    assert wall(4) == wall(10**15) == 0.0
    assert wall(10**15, 3.0, 1.0) == 3.0, "there may be billions who have nothing to do"
    assert wall(2, 4.0, 4.0, wide=True) == 4.0, "each on both cores"
    lines = [line(4.0, wide=True), line(3.0), line(1.0, priority=-1), line(9.0, "stored"), line(None)]
    assert plan.to_do(lines, 2) == (8.0, 3.0 + 2.0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.2, "1 s"), (99, "99 s"), (180, "3 min"), (5_990, "100 min"), (7_200, "2.0 h"), (400_000, "4.6 d")],
)
def test_durations_as_a_reader_says_them(seconds, text):
    assert plan.duration(seconds) == text


def test_sections_are_summed():
    lines = [line(5.0, "archived"), *[line(60.0, section="section54")] * 3, line(None, section="section6")]
    text = plan.describe(lines, workers=2).splitlines()
    assert text[1].split() == ["section3", "1", "1", "0", "–", "0", "s", "0", "s"]
    assert text[2].split() == ["section54", "3", "0", "3", "–", "3", "min", "2", "min"]
    assert text[3].split() == ["section6", "1", "0", "1", "1", ">", "0", "s", ">", "0", "s"]
    assert text[4].split() == ["all", "5", "1", "4", "1", ">", "3", "min", ">", "2", "min"]
    assert [each for each in text if each.endswith("1 of test/rows")]


def test_where_runs_take_hours_it_goes_on_after_one_that_fails_and_leaves_times_alone(section, monkeypatch):
    bad = Run(run_functions.fails, {"folder": str(section / "counts")}, label="bad")
    good = [Run(run_functions.rows, {"folder": str(section / "counts"), "value": value}) for value in (1, 5)]
    runs = {"section0": [bad, *good], "section53": [good[0]]}
    monkeypatch.setattr(reproduction, "all_runs", lambda name, *_: runs[name])
    monkeypatch.setattr(reproduction, "later_runs", lambda name: None)
    monkeypatch.setattr(reproduction, "sections_of", lambda only: ["section53"] if only else list(runs))
    monkeypatch.setenv("GADAM_ARCHIVE", str(section / "archive"))
    failed = r"^run 'bad' \(test/fails\) failed: no such thing as 3"
    with pytest.raises(RunError, match=failed):
        compute_runs("standard")
    assert computed(section) == 3, "what was stored, what failed, and the other"
    with pytest.raises(RunError, match=failed):
        compute_runs("smoke")
    asked = []
    monkeypatch.setattr(reproduction, "compute", lambda runs, workers, **_: asked.append((len(runs), workers)))
    compute_runs("standard", "section53")
    compute_runs("smoke")
    assert asked == [(0, None), (1, 1), (3, None), (0, 1)]


@pytest.mark.parametrize("name", [name for name in SECTIONS if name != "section0"])
@pytest.mark.parametrize("profile", PROFILES)
def test_every_section_tells_its_runs(name, profile):
    runs = plan.all_runs(name, profile, "real")
    assert len({run.key for run in runs}) == len(runs)
    assert all(run.label for run in runs)
