"""Plans say what is there and how long the rest takes; `compute_runs` computes it; the sample is compared."""

import json
import math
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import run_functions
from report_scene import archived, files, write_notebook
from run_functions import executions, learned_runs

from gadam.config import InputError
from gadam.datasets import SOURCES
from gadam.paper import SECTIONS, import_sections, runs, sections_of
from gadam.paper.report import paths, plan, reproduction, sample, store, workers
from gadam.paper.report.paths import ReportError, SampleError
from gadam.paper.report.plan import Planned
from gadam.paper.report.reproduction import compute_runs, reproduce
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
    """Compute in threads instead of processes, which have tests of their own."""

    def work(run, folder, threads, key):
        try:
            return workers._Computed(store.execute_and_write(folder, run))
        except Exception as error:
            return workers._Computed(failure=str(error))

    monkeypatch.setattr(workers, "ProcessPoolExecutor", lambda *_: ThreadPoolExecutor(1))
    monkeypatch.setattr(workers, "_work", work)


def test_a_plan_says_what_is_there_and_how_long_the_rest_takes_and_executes_nothing(gadam, section, monkeypatch):
    monkeypatch.setattr(plan, "expected", lambda run: 9.0 if run.config["value"] == 2 else None)
    lines = plan.planned("quick", "table0", "standin")
    assert [(line.run.label, line.where) for line in lines] == [
        ("value 1", "stored"), ("value 2", ""), ("value 3", ""),
    ]  # fmt: skip
    took = store.read(section / "runs", lines[0].run).metadata["cpu_seconds"]
    assert [line.seconds for line in lines] == [took, None, None]
    _, said, _ = gadam("reproduce", "--profile", "smoke", "--plan", "--only", "section0")
    assert said.splitlines()[2].split()[:4] == ["section0", "3", "1", "2"]
    assert executions(section / "counts") == 1
    assert not (section / "reports").exists()


def test_a_run_that_differs_by_its_seed_alone_takes_as_long_and_others_go_by_the_pace_of_their_kind(folders):
    seeds = learned_runs(2)
    store.execute_and_write(folders, seeds[1])
    stored = store.read(folders, seeds[1])
    assert plan.estimate(seeds[:1], [stored], "quick") == {seeds[0].key: stored.metadata["cpu_seconds"]}
    import_sections()
    steps = {"generations": 5, "population_size": 10, "steps": 100, "trees": 3}
    assert all(plan.expected(Run(RUN_FUNCTIONS[name], steps)) > 0 for name in plan.PACES)
    paced = Run(RUN_FUNCTIONS["teach/mlp"], {"total_steps": 10_000})
    assert plan.estimate([paced, seeds[0]], [], "standard") == {paced.key: pytest.approx(2.8)}
    assert plan.estimate([paced], [], "quick") == {}


def line(seconds, where="", **more):
    return Planned("section3", Run(run_functions.rows, {"folder": "x"}, **more), where, seconds)


def test_times_are_summed_and_wall_time_is_that_of_the_longest_run_at_least():
    assert plan.to_do([line(3.0), line(2.0), line(1.0)], 2) == (6.0, 3.0)
    assert plan.to_do([line(1.0), line(4.0)], 2) == (5.0, 4.0)
    assert plan.to_do([line(4.0, wide=True)], 2) == (4.0, 2.0), "on both cores"
    assert plan.to_do([line(9.0, "stored"), line(None)], 2) == (0.0, 0.0)


# --- runs only ---


def test_runs_only_computes_and_stores_the_runs_without_a_report_and_without_jupyter(section, monkeypatch):
    for name in ("papermill", "nbclient", "nbformat", "nbconvert", "ipykernel"):
        monkeypatch.setitem(sys.modules, name, None)  # whoever imports it gets an ImportError
    assert compute_runs("smoke", "section0") == 4
    assert executions(section / "counts") == 4
    assert not (section / "reports").exists()
    assert compute_runs("smoke", "section0") == 4
    assert executions(section / "counts") == 4, "and not again"
    assert [line.run.label for line in plan.planned("smoke", "section0") if line.where][-1] == "value 12"


def test_real_data_that_is_not_there_is_said_before_anything_is_computed(folders, monkeypatch):
    monkeypatch.setenv("GADAM_DATA", str(folders / "nowhere"))
    monkeypatch.setattr(reproduction, "compute", Mock(side_effect=AssertionError("it computes")))
    with pytest.raises(InputError, match=r"^yeast: data=.real."):  # and not a later one, or whichever
        compute_runs("smoke", "section54", "real")


def test_where_runs_take_hours_it_goes_on_after_one_that_fails_and_leaves_times_alone(section, monkeypatch):
    runs = {"section0": learned_runs(2), "section53": learned_runs(1)}
    SECTIONS["section53"] = replace(SECTIONS["section0"], alone=True)  # the fixture gives all of them back
    monkeypatch.setattr(plan, "all_runs", lambda name, *_: runs[name])
    monkeypatch.setattr(plan, "later_runs", lambda name: None)
    asked = []

    def compute(runs, workers, *, failures, **_):
        asked.append((len(runs), workers, failures is not None))
        if failures is None:
            raise ReportError("run 'bad' failed")
        failures += [ReportError("run 'bad' failed")] * (len(runs) == 2)

    monkeypatch.setattr(reproduction, "compute", compute)
    with pytest.raises(ReportError, match="bad"):
        compute_runs("standard")
    compute_runs("standard", "section53")
    with pytest.raises(ReportError, match="bad"):
        compute_runs("smoke")
    assert asked == [(2, None, True), (1, 1, True), (2, None, False)]


def test_a_section_is_asked_for_by_its_name_its_notebook_or_an_exhibit():
    for name in ("section41", "figure2a", "section41_landscape", "notebooks/section41_landscape.ipynb"):
        assert sections_of(name) == ["section41"]


# --- the sample: how runs compare ---

RUN = learned_runs(1)[0]
ROWS = run_functions.learned(0)
LOSS = ROWS[1]["loss"]
NEAR = sample.SPREAD * np.std([row["loss"] for row in ROWS])
ELSEWHERE = {"cpu": "another", "packages": {}}
SEEDS = [[row | {"loss": row["loss"] + 0.01 * seed, "correct": 80 + seed} for row in ROWS] for seed in range(1, 5)]


def compared(*changes, there=ELSEWHERE, kin=SEEDS):
    """How rows compare with the same rows, changed: (row, column, value)."""
    rows = [dict(row) for row in ROWS]
    for row, column, value in changes:
        rows[row][column] = value
    return sample.compare(Stored(RUN, ROWS, there), Stored(RUN, rows, ELSEWHERE), kin)


@pytest.mark.parametrize(
    ("column", "value", "outcome"),
    [
        ("loss", LOSS, "identical"),
        ("loss", LOSS * (1 + 0.9e-5), "equal"),
        ("loss", LOSS * (1 + 1.1e-5), "different"),
        ("loss", float("nan"), "different"),
        ("correct", 92, "equal"),  # within two test rows
        ("correct", 93, "different"),
        ("step", 2, "different"),
        ("more", 1, "different"),
        ("seed", "0", "different"),
        ("seconds", 7.0, "identical"),  # of a machine
    ],
)
def test_numbers_within_the_tolerance_and_counts_within_two_rows_are_equal(column, value, outcome):
    found, detail = compared((1, column, value))
    assert found == outcome
    assert (column in detail) == (outcome != "identical")
    largest = compared((0, "loss", ROWS[0]["loss"] + 1e-3), (2, "correct", 80))
    assert largest == ("different", "correct of row 3: 80, archived is 90")


ONE = {"cpu": "one"}


@pytest.mark.parametrize(
    ("there", "kin", "column", "value", "outcome"),
    [
        (ONE, SEEDS, "loss", LOSS + 0.03, "alike"),
        (ELSEWHERE | {"packages": {"torch": "2.6"}}, SEEDS, "loss", LOSS + 0.03, "alike"),
        (ELSEWHERE | {"packages": {"scikit-learn": "1.2"}}, SEEDS, "loss", LOSS + 0.03, "alike"),
        (ELSEWHERE | {"gpu": "one"}, SEEDS, "loss", LOSS + 0.03, "alike"),
        (ELSEWHERE | {"rounding": 0}, SEEDS, "loss", LOSS + 0.03, "alike"),
        (ELSEWHERE, SEEDS, "loss", LOSS + 0.03, "different"),  # on the same processor, by the same libraries
        (ONE, SEEDS, "loss", LOSS + 0.3, "different"),  # beyond four standard deviations
        (ONE, SEEDS, "loss", float("nan"), "different"),
        (ONE, SEEDS, "step", 7, "alike"),  # how a run went may differ
        (ONE, SEEDS[:3], "loss", LOSS + 0.03, "different"),  # four seeds
        (ONE, [*SEEDS[:3], SEEDS[3][:2]], "loss", LOSS + 0.03, "different"),  # one of other rows
        (ONE, [], "loss", LOSS + 0.9 * NEAR, "alike"),  # without seeds, within a share of the column's spread
        (ONE, [], "loss", LOSS + 1.1 * NEAR, "different"),
        (ONE, [], "loss", float("nan"), "different"),
        (ONE, [], "step", ROWS[1]["step"] + 1, "different"),
        (ELSEWHERE, [], "loss", LOSS + 0.9 * NEAR, "different"),
    ],
)
def test_alike_only_on_another_machine_and_within_four_standard_deviations_of_five_seeds(
    there, kin, column, value, outcome
):
    assert compared((1, column, value), there=there, kin=kin)[0] == outcome


def test_pickles_may_be_a_little_longer_an_accuracy_goes_by_its_count_and_other_numbers_of_rows_differ():
    def outcome(there, *here):
        return sample.compare(Stored(RUN, [there], ELSEWHERE), Stored(RUN, [*here], ELSEWHERE))[0]

    for name, size, expected in (
        ("population", 432_784, sample.EQUAL), ("population", 434_352 + 4_000, sample.EQUAL),
        ("population", 430_000, sample.DIFFERENT), ("floor_bytes", 432_784, sample.DIFFERENT),
    ):  # fmt: skip
        assert outcome({name: 434_352, "floor": 100_000}, {name: size, "floor": 100_000}) == expected
    one = {"correct": 90, "accuracy": 22.5}
    assert outcome(one, {"correct": 92, "accuracy": 23.0}) == "equal"
    for rows in ([{"correct": 93, "accuracy": 23.25}], [{"correct": 90}], [{"correct": 90, "accuracy": math.nan}], []):
        assert outcome(one, *rows) == "different"


# --- the sample: which ---


def planned(name, seconds, section="section54", engine=True, where="archived"):
    function = run_function(f"test/{section}/{name}", engine=engine, settings=None)(lambda: [])
    return Planned(section, Run(function, {}, label=name), where, seconds)


def test_from_every_section_one_of_each_kind_the_cheapest_gadams_first_as_far_as_the_budget_reaches(monkeypatch):
    monkeypatch.setattr(runs, "RUN_FUNCTIONS", {})
    lines = [
        planned("forest", 1.0, engine=False), planned("adam", 10.0), planned("gadam", 60.0), planned("gadam", 50.0),
        planned("gcforest", 900.0, engine=False), planned("missing", 1.0, where=""),
        planned("gadam", 100.0, "section51"), planned("optimizer", 30.0, "section51"),
        planned("threads", 1.0, "section53"),
    ]  # fmt: skip

    def labels(budget):
        return [(one.run.label, one.seconds) for one in sample.choose(lines, budget)]

    everything = [("gadam", 100.0), ("gadam", 50.0), ("optimizer", 30.0), ("adam", 10.0), ("forest", 1.0)]
    assert labels(10_000.0) == everything, "and none that takes too long"
    assert labels(180.0) == everything[:3]
    assert labels(55.0) == [("gadam", 50.0), ("forest", 1.0)]
    assert labels(0.0) == []


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
    assert lines[-2:] == [f"report: {page}", "1 of 1 recomputed runs agree with the archive"]
    assert rendered == [["section0"]]
    assert [one["outcome"] for one in paths.read_json(page.parent / "sample.json")] == ["identical"]
    assert "1 of 1 recomputed runs agree with the archive" in page.read_text()
    assert not paths.runs_root().exists(), "what was recomputed is thrown away"


def test_a_changed_value_is_found_and_named_and_the_command_exits_with_1(gadam, rendered, folders, monkeypatch, capsys):
    def forged(content):
        content["rows"][1]["loss"] += 1e-3
        content["identity"]["engine"] += content["label"] == "seed 1"
        return content

    path = archived(folders, learned_runs(), forged)
    before = path.read_bytes()
    status, said, complaint = gadam("reproduce", "--only", "table0")
    assert status == 1
    assert complaint.startswith("gadam: 0 of 1 recomputed runs agree with the archive; see the page: ")
    assert re.search(r"different: section0, seed \d: loss of row 2: [\d.]+, archived is [\d.]+", said)
    assert "refused lines of the archive, which count as missing: 1 another version\n" in said
    assert path.read_bytes() == before
    # One that fails is different, too.
    archived(folders, learned_runs())
    monkeypatch.setattr(run_functions.learned, "_compute", lambda **_: 1 / 0)
    with pytest.raises(SampleError, match=r"^0 of 1 recomputed runs agree"):
        reproduce(only="table0")
    assert re.search(r"different: section0, .*: run 'seed \d' .* failed: division by zero", capsys.readouterr().out)


def test_a_run_is_held_against_the_other_seeds_and_not_against_itself(rendered, monkeypatch):
    monkeypatch.setattr(sample, "compare", compare := Mock(return_value=(sample.EQUAL, "a little")))
    reproduce(only="table0")
    compare.assert_called_once()
    _, here, kin = compare.call_args.args
    assert sorted(rows[0]["seed"] for rows in (here.rows, *kin)) == list(range(5))


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
    reproduce(only="table0")
    page = reproduce(only="table0", recompute=True)
    assert not (page.parent / "sample.json").exists(), "nothing was held against the archive"


# --- the real thing: a notebook in a kernel ---

NOTEBOOK = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import matplotlib.pyplot as plt
from run_functions import standin
from gadam.paper import SECTIONS
from gadam.paper.report import Report
from gadam.paper.runs import Run
report = Report(profile, data=data)
rows = report.rows([Run(standin, {{}}, data_hash="abc", label="tiny")])
for name in SECTIONS["section54"].tables:
    report.table(name, rows, caption="losses")
for name in SECTIONS["section54"].figures:
    report.figure(name, plt.figure(figsize=(2, 1)), caption="nothing", alt="nothing")
report.claims("section54", [])
"""


def test_reproduce_writes_the_report_of_a_section_and_one_that_fails_leaves_it_as_it_was(folders, monkeypatch, capsys):
    notebook = write_notebook(folders / "notebooks" / SECTIONS["section54"].notebook, NOTEBOOK)
    monkeypatch.setattr(reproduction.paths, "notebooks_folder", lambda: folders / "notebooks")
    monkeypatch.setattr(plan, "all_runs", lambda *_: [Run(run_functions.standin, {}, "abc", label="tiny")])
    compute_in_here(monkeypatch)
    page = reproduce("smoke", only="table4", data="standin")
    lines = capsys.readouterr().out.splitlines()
    assert "  section54: 1 run: all read" in lines
    folder = folders / "reports" / "smoke"
    assert (lines[-1], page) == (f"report: {page}", folder / "index.html")
    provenance = json.loads((folder / "provenance.json").read_text())
    assert [run["label"] for run in provenance["runs"].values()] == ["tiny"]
    assert provenance["sections"]["section54"]["data"] == "standin"
    assert (folder / "tables" / "table4.csv").read_text().startswith("seed,loss,data,arm\n")
    assert "STAND-IN DATA" in page.read_text()

    before = files(folder)
    full = 'raise OSError(28, "No space left on device")'
    write_notebook(notebook, NOTEBOOK.replace("losses", "new").replace('report.claims("section54", [])', full))
    with pytest.raises(ReportError, match=r"cell \[3\] failed: OSError: \[Errno 28\] No space left on device \(exec"):
        reproduce("smoke", only="table4", data="standin")
    after = files(folder)
    assert b"No space left" in after.pop("notebooks/section54_tables.failed.ipynb")
    assert after == before
    assert not list(folder.glob(".*"))
