"""Plans say what is there and how long the rest takes; `compute_runs` computes it; the sample is compared."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import run_functions
from report_scene import archived, write_notebook
from run_functions import executions, learned_runs
from typer.testing import CliRunner

from gadam import InputError, cli
from gadam.datasets import SOURCES
from gadam.paper import SECTIONS, import_sections, sections_of
from gadam.paper.report import RunError, SampleError, compute_runs, paths, plan, reproduce, reproduction, sample, store
from gadam.paper.report.plan import Planned, Source
from gadam.paper.report.store import Stored
from gadam.paper.runs import RUN_FUNCTIONS, Run, run_function


@pytest.fixture
def section(only_section, folders, monkeypatch):
    """A section of three runs, one of them stored, and one that must wait for the others; runs compute in here."""

    def run(value):
        return Run(run_functions.rows, {"folder": str(folders / "counts"), "value": value}, label=f"value {value}")

    def later_runs(profile, data, rows):
        return [run(int(rows["value"].sum()))]

    only_section(lambda profile, data: [run(1), run(2)], lambda profile, data: [run(2), run(3)], later_runs=later_runs)
    store.execute_and_write(folders / "runs", run(1))
    compute_in_here(monkeypatch)
    return folders


def compute_in_here(monkeypatch):
    """Compute without worker processes, which have tests of their own."""

    def compute(runs, workers=None, root=None, *, failures=None, **_):
        folder, failed = root or paths.runs_root(), []
        for run in (run for run in runs if not store.read(folder, run)):
            try:
                store.execute_and_write(folder, run)
            except Exception as error:
                failed.append(RunError(f"run {run.title!r} failed: {error}"))
        if failures is None and failed:
            raise failed[0]
        if failures is not None:
            failures += failed
        return [found for run in runs if (found := store.read(folder, run))]

    monkeypatch.setattr(reproduction, "compute", compute)
    monkeypatch.setattr(sample, "compute", compute)


def test_a_plan_says_what_is_there_and_how_long_the_rest_takes_and_executes_nothing(section, monkeypatch):
    monkeypatch.setattr(plan, "expected", lambda run: 9.0 if run.config["value"] == 2 else None)
    lines = plan.planned("quick", "table0", "standin")
    assert [(line.run.label, line.where) for line in lines] == [
        ("value 1", "stored"), ("value 2", ""), ("value 3", ""),
    ]  # fmt: skip
    took = store.read(section / "runs", lines[0].run).metadata["cpu_seconds"]
    assert [line.seconds for line in lines] == [took, None, None]
    assert plan.estimate([line.run for line in lines], [], "standard") == [None, 9.0, None]
    done = CliRunner().invoke(cli.app, ["reproduce", "--profile", "smoke", "--plan", "--only", "section0"])
    text = done.stdout.splitlines()
    assert text[0] == "profile smoke, data auto: section0"
    assert text[2].split()[:4] == ["section0", "3", "1", "2"]
    assert text[3].split()[:2] == ["stored", "took"]
    assert "once these are computed, further runs may be known of: section0" in text
    assert executions(section / "counts") == 1
    assert not (section / "reports").exists()


def test_a_run_that_differs_by_its_seed_alone_takes_as_long(only_section, folders):
    seeds = [Run(run_functions.seeded, {"folder": str(folders / "counts"), "seed": seed}) for seed in range(2)]
    only_section(lambda profile, data: seeds)
    store.execute_and_write(folders / "runs", seeds[1])
    one, other = plan.planned("quick", "section0", "standin")
    assert (one.where, other.where) == ("", "stored")
    assert one.seconds == other.seconds is not None


def line(seconds, where="", section="section3", **more):
    return Planned(section, Run(run_functions.rows, {"folder": "x"}, **more), where, seconds)


def test_times_are_summed_and_wall_time_is_that_of_the_longest_run_at_least():
    assert plan.to_do([line(3.0), line(2.0), line(1.0)], 2) == (6.0, 3.0)
    assert plan.to_do([line(1.0), line(4.0)], 2) == (5.0, 4.0)
    assert plan.to_do([line(4.0, wide=True)] * 2, 2) == (8.0, 4.0), "each on both cores"
    assert plan.to_do([line(9.0, "stored"), line(None)], 2) == (0.0, 0.0)
    lines = [line(5.0, "archived"), *[line(60.0, section="section54")] * 3, line(None, section="section6")]
    text = plan.describe(lines).splitlines()
    assert text[2].split() == ["section54", "3", "0", "3", "–", "3", "min", "90", "s"]
    assert text[4].split() == ["all", "5", "1", "4", "1", ">", "3", "min", ">", "90", "s"]


@pytest.mark.parametrize("name", [*plan.PACES, "test/rows"])
def test_a_pace_is_of_a_kind_of_run_that_there_is(name):
    import_sections()
    steps = {"generations": 5, "population_size": 10, "steps": 100, "trees": 3}
    seconds = plan.expected(Run(RUN_FUNCTIONS[name], steps))
    assert seconds is None if name == "test/rows" else seconds > 0


# --- runs only ---


def test_runs_only_computes_and_stores_the_runs_without_a_report_and_without_jupyter(section, monkeypatch):
    for name in ("papermill", "nbclient", "nbformat", "nbconvert", "ipykernel"):
        monkeypatch.setitem(sys.modules, name, None)  # whoever imports it gets an ImportError
    assert compute_runs("smoke", "section0") == 4
    assert executions(section / "counts") == 4
    assert not (section / "reports").exists()
    done = CliRunner().invoke(cli.app, ["reproduce", "--profile", "smoke", "--runs-only", "--only", "section0"])
    assert done.exit_code == 0, done.output
    assert executions(section / "counts") == 4
    lines = plan.planned("smoke", "section0")
    assert [line.run.label for line in lines] == ["value 1", "value 2", "value 3", "value 12"]
    assert all(line.where for line in lines)


def test_where_runs_take_hours_it_goes_on_after_one_that_fails_and_leaves_times_alone(section, monkeypatch):
    runs = {"section0": learned_runs(2), "section53": learned_runs(1)}
    SECTIONS["section53"] = replace(SECTIONS["section0"], alone=True)  # the fixture gives all of them back
    monkeypatch.setattr(reproduction, "all_runs", lambda name, *_: runs[name])
    monkeypatch.setattr(reproduction, "later_runs", lambda name: None)
    asked = []

    def compute(runs, workers, *, failures, **_):
        asked.append((len(runs), workers, failures is not None))
        if failures is None:
            raise RunError("run 'bad' failed")
        failures += [RunError("run 'bad' failed")] * (len(runs) == 2)

    monkeypatch.setattr(reproduction, "compute", compute)
    for profile, only, expected in (
        ("standard", None, [(2, None, True)]),
        ("standard", "section53", [(0, None, True), (1, 1, True)]),
        ("smoke", None, [(2, None, False)]),
    ):
        if only is None:
            with pytest.raises(RunError, match="bad"):
                compute_runs(profile)
        else:
            compute_runs(profile, only)
        assert asked == expected
        asked.clear()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: reproduce("big"), "profile='big' .* smoke, quick, standard, paper"),
        (lambda: reproduce("quick", data="fake"), "data='fake' .* auto, real, standin"),
        (lambda: reproduce(data="standin"), "data='standin' .* auto, real$"),
        (lambda: reproduce(only="tabel4"), "only='tabel4' .* section3, .*did you mean table4"),
        (lambda: compute_runs("paper", data="standin"), "data='standin' .* auto, real$"),
        (
            lambda: cli.reproduce(plan=True, runs_only=True),
            "--plan computes nothing and --runs-only computes; give one",
        ),
        (lambda: cli.reproduce(plan=True, scheduler="tcp://h:1"), "--scheduler computes; give one"),
    ],
)
def test_wrong_arguments_are_refused_in_a_line(call, message):
    with pytest.raises(InputError, match=message) as refused:
        call()
    assert "\n" not in str(refused.value)
    assert sections_of("section41") == sections_of("figure2a") == ["section41"]


# --- the sample: how runs compare ---

RUN = learned_runs(1)[0]
ROWS = run_functions.learned(0)
LOSS = ROWS[1]["loss"]
ELSEWHERE = {"cpu": "another", "packages": {}}
SEEDS = [[row | {"loss": row["loss"] + 0.01 * seed, "correct": 80 + seed} for row in ROWS] for seed in range(1, 5)]


def compared(*changes, there=ELSEWHERE, here=ELSEWHERE, kin=SEEDS):
    """How rows compare with the same rows, changed: (row, column, value)."""
    rows = [dict(row) for row in ROWS]
    for row, column, value in changes:
        rows[row][column] = value
    return sample.compare(Stored(RUN, ROWS, there), Stored(RUN, rows, here), kin)


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ((1, "loss", LOSS), "identical"),
        ((1, "loss", LOSS * (1 + 0.9e-5)), "equal"),
        ((1, "loss", LOSS * (1 + 1.1e-5)), "different"),
        ((1, "loss", float("nan")), "different"),
        ((1, "loss", None), "different"),
        ((1, "correct", 92), "equal"),
        ((1, "correct", 93), "different"),
        ((1, "step", 2), "different"),
        ((1, "more", 1), "different"),
        ((1, "seed", "0"), "different"),
    ],
)
def test_numbers_within_the_tolerance_and_counts_within_two_rows_are_equal(change, outcome):
    found, detail = compared(change)
    assert found == outcome
    assert (change[1] in detail) == (outcome != "identical")


def test_the_largest_difference_is_named():
    found = compared((0, "loss", ROWS[0]["loss"] + 1e-3), (2, "correct", 80))
    assert found == ("different", "correct of row 3: 80, archived is 90")
    assert sample.compare(Stored(RUN, ROWS, {}), Stored(RUN, ROWS[:2], {}))[0] == "different"
    old, new = ([{"accuracy": one, "correct": int(one)}] for one in (90.0, 91.0))
    assert sample.compare(Stored(RUN, old, {}), Stored(RUN, new, {}))[0] == "equal"


@pytest.mark.parametrize(
    ("there", "kin", "value", "outcome"),
    [
        ({"cpu": "one"}, SEEDS, LOSS + 0.03, "alike"),
        ({"cpu": "another", "packages": {"torch": "2.6"}}, SEEDS, LOSS + 0.03, "alike"),
        (ELSEWHERE, SEEDS, LOSS + 0.03, "different"),  # on the same processor, by the same libraries
        ({"cpu": "one"}, SEEDS, LOSS + 0.3, "different"),  # beyond four standard deviations
        ({"cpu": "one"}, SEEDS, float("nan"), "different"),
        ({"cpu": "one"}, SEEDS, None, "different"),
        ({"cpu": "one"}, SEEDS[:3], LOSS + 0.03, "different"),  # four seeds
        ({"cpu": "one"}, [*SEEDS[:3], SEEDS[3][:2]], LOSS + 0.03, "different"),  # one of other rows
    ],
)
def test_alike_only_on_another_machine_and_within_four_standard_deviations_of_five_seeds(there, kin, value, outcome):
    found, detail = compared((1, "loss", value), there=there, kin=kin)
    assert found == outcome
    assert (detail.count("archived by") == 1) == (outcome == "alike")


# --- the sample: which ---


def planned(name, seconds, section="section54", engine=True, where="archived"):
    function = run_function(f"test/{section}/{name}", engine=engine, settings=None)(lambda: [])
    return Planned(section, Run(function, {}, label=name), where, seconds)


@pytest.mark.parametrize(
    ("budget", "labels"),
    [
        (1_000.0, ["gadam", "gadam", "optimizer", "adam", "forest"]),
        (0.0, []),
        (55.0, ["gadam", "forest"]),
        (180.0, ["gadam", "gadam", "optimizer"]),
    ],
)
def test_from_every_section_one_of_each_kind_the_cheapest_gadams_first_as_far_as_the_budget_reaches(budget, labels):
    known = set(RUN_FUNCTIONS)
    lines = [
        planned("forest", 1.0, engine=False), planned("adam", 10.0), planned("gadam", 60.0), planned("gadam", 50.0),
        planned("gcforest", 900.0, engine=False), planned("missing", 1.0, where=""),
        planned("gadam", 100.0, "section51"), planned("optimizer", 30.0, "section51"),
        planned("threads", 1.0, "section53"),
    ]  # fmt: skip
    chosen = sample.choose(lines, budget)
    assert [one.run.label for one in chosen] == labels
    assert 60.0 not in [one.seconds for one in chosen]
    for name in RUN_FUNCTIONS.keys() - known:
        del RUN_FUNCTIONS[name]


# --- the sample: recomputed ---


@pytest.fixture
def rendered(only_section, folders, monkeypatch):
    """A section of six runs, five of them archived, and an empty store; the sections rendered, without notebooks."""
    only_section(lambda profile, data: learned_runs(6))
    found = []
    monkeypatch.setattr(reproduction, "render", lambda *given, **_: found.append(given[1]))
    monkeypatch.setattr(reproduction.notebooks, "check", lambda notebooks: None)
    compute_in_here(monkeypatch)
    archived(folders, learned_runs())
    return found


def test_agreement_is_said_in_a_line_and_kept_for_the_page(rendered, capsys):
    page = reproduce(only="table0")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("6 runs: 5 archived, 1 to recompute as a sample, about ")
    assert lines[1].startswith("1 runs are missing: ")
    assert lines[-2:] == [f"report: {page}", "1 of 1 recomputed runs agree with the archive"]
    assert rendered == [["section0"]]
    assert [one["outcome"] for one in paths.read_json(page.parent / "sample.json")] == ["identical"]
    assert "1 of 1 recomputed runs agree with the archive" in page.read_text()
    assert not paths.runs_root().exists(), "what was recomputed is thrown away"
    assert not list(page.parent.glob(".*"))


def test_a_changed_value_is_found_and_named_and_the_command_exits_with_1(rendered, folders, monkeypatch, capsys):
    def forged(content):
        content["rows"][1]["loss"] += 1e-3
        content["identity"]["engine"] += content["label"] == "seed 1"
        return content

    path = archived(folders, learned_runs(), forged)
    before = path.read_bytes()
    monkeypatch.setattr(sys, "argv", ["gadam", "reproduce", "--only", "table0"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    said, complaint = capsys.readouterr()
    assert stopped.value.code == 1
    assert complaint.startswith("gadam: 0 of 1 recomputed runs agree with the archive; see the page: ")
    assert re.search(r"different: section0, seed \d: loss of row 2: [\d.]+, archived is [\d.]+", said)
    assert "refused lines of the archive, which count as missing: 1 another version\n" in said
    assert "loss of row 2" in (folders / "reports" / "standard" / "index.html").read_text()
    assert path.read_bytes() == before
    # One that fails is different, too.
    archived(folders, learned_runs())
    monkeypatch.setattr(run_functions.learned, "_compute", lambda **_: 1 / 0)
    with pytest.raises(SampleError, match=r"^0 of 1 recomputed runs agree"):
        reproduce(only="table0")
    assert re.search(r"different: section0, .*: run 'seed \d' failed: division by zero", capsys.readouterr().out)


def test_without_the_data_the_sample_says_why_not(rendered, only_section, folders, monkeypatch, capsys):
    run = Run(run_functions.learned, {"seed": 0, "dataset": "yeast", "data": "real"}, SOURCES["yeast"].hash, "yeast")
    only_section(lambda profile, data: [run])
    archived(folders, [run])
    monkeypatch.setenv("GADAM_DATA", str(folders / "nothing"))
    page = reproduce(only="table0")
    said = capsys.readouterr().out
    assert re.search(r"^not recomputed: section0, yeast: yeast: data='real', but it is not in .*nothing", said, re.M)
    summary = "0 of 0 recomputed runs agree with the archive; 1 could not be recomputed here"
    assert said.splitlines()[-1] == summary
    assert summary in page.read_text()


def test_told_to_recompute_nothing_is_taken_from_the_archive(rendered, monkeypatch):
    asked = []
    monkeypatch.setattr(reproduction, "compute", lambda runs, *_, **__: asked.append(len(runs)))
    compute_runs("standard", "table0")
    compute_runs("standard", "table0", recompute=True)
    assert asked == [1, 6]
    assert Source("standard", recompute=True).find(learned_runs(1)[0]) == (None, "")


# --- the real thing, once: a notebook in a kernel ---

NOTEBOOK = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import matplotlib.pyplot as plt
from run_functions import learned_runs, standin
from gadam.paper import SECTIONS
from gadam.paper.claims import Claim
from gadam.paper.report import Report
from gadam.paper.runs import Run
from gadam.paper.verdicts import Evidence
report = Report.open(profile, data=data)
rows = report.rows([Run(standin, {{}}, data_hash="abc", label="tiny")] if profile == "smoke" else learned_runs(6))
for name in SECTIONS["section54"].tables:
    report.table(name, rows, caption="losses")
for name in SECTIONS["section54"].figures:
    report.figure(name, plt.figure(figsize=(2, 1)), caption="nothing", alt="nothing")
claim = Claim(text="c", section="section54", exhibit="table4", kind="greater", evidence=lambda: Evidence((1.0, 2.0)),
              arms=["test/standin"], paper="> 0", margin=1.0, data="stand-in" if profile == "smoke" else "real")
report.claims("section54", [claim])
"""


def test_reproduce_executes_a_section_and_writes_the_report(folders, monkeypatch, capsys):
    section = SECTIONS["section54"]
    write_notebook(folders / "notebooks" / section.notebook, NOTEBOOK)
    monkeypatch.setattr(reproduction.paths, "notebooks_folder", lambda: folders / "notebooks")
    monkeypatch.setattr(reproduction, "all_runs", lambda *_: [Run(run_functions.standin, {}, "abc", label="tiny")])
    compute_in_here(monkeypatch)
    page = reproduce("smoke", only="table4", data="standin")
    lines = capsys.readouterr().out.splitlines()
    assert "  section54: 1 run: all read" in lines
    assert lines[-2].startswith(f"{section.title} … ")
    folder = folders / "reports" / "smoke"
    assert (lines[-1], page) == (f"report: {page}", folder / "index.html")
    assert len((folder / "scoreboard.csv").read_text().splitlines()) == 2
    provenance = json.loads((folder / "provenance.json").read_text())
    (run,) = provenance["runs"].values()
    assert run["label"] == "tiny"
    assert provenance["sections"]["section54"]["data"] == "standin"
    assert "STAND-IN DATA" in page.read_text()
    # The same from an archive: nothing is computed, and missing runs are said.
    monkeypatch.setattr(plan, "all_runs", lambda *_: learned_runs(6))
    monkeypatch.setattr(sample, "choose", lambda lines: [])
    archived(folders, learned_runs())
    page = reproduce("standard", only="table4")
    assert "1 of 6 runs are missing, " in capsys.readouterr().out
    assert len((page.parent / "tables" / "table4.csv").read_text().splitlines()) == 1 + 5 * 3
