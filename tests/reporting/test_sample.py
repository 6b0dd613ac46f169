"""Some archived runs are computed again: what is different is found, named, and never taken for the same."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import run_functions
from run_functions import learned_runs
from test_notebooks import write

from gadam import cli
from gadam.datasets import SOURCES
from gadam.paper import SECTIONS
from gadam.paper.report import ReportError, archive, plan, reproduce, reproduction, sample, store
from gadam.paper.report.plan import Planned, Source
from gadam.paper.report.store import Stored
from gadam.paper.runs import RUN_FUNCTIONS, Run, run_function

RUN = learned_runs(1)[0]
ROWS = run_functions.learned(0)
ELSEWHERE = {"cpu": "another", "packages": {}}
SEEDS = [[row | {"loss": row["loss"] + 0.01 * seed, "correct": 80 + seed} for row in ROWS] for seed in range(1, 5)]


def compared(*changes, there=ELSEWHERE, here=ELSEWHERE, kin=SEEDS):
    """How rows compare with the same rows, changed: (row, column, value)."""
    rows = [dict(row) for row in ROWS]
    for row, column, value in changes:
        rows[row][column] = value
    return sample.compare(Stored(RUN, ROWS, there), Stored(RUN, rows, here), kin)


LOSS = ROWS[1]["loss"]


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


def test_the_largest_difference_is_named_and_so_are_rows_that_are_missing():
    assert compared((0, "loss", ROWS[0]["loss"] + 1e-3), (2, "correct", 80)) == (
        "different", "correct of row 3: 80, archived is 90",
    )  # fmt: skip
    fewer = sample.compare(Stored(RUN, ROWS, {}), Stored(RUN, ROWS[:2], {}))
    assert fewer == ("different", "2 rows, archived are 3")
    assert sample.compare(Stored(RUN, [{"accuracy": 90.0, "correct": 90}], {}),
                          Stored(RUN, [{"accuracy": 91.0, "correct": 91}], {}))[0] == "equal"  # fmt: skip


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
    assert compared((1, "loss", value), there=there, kin=kin)[0] == outcome


def test_a_machine_that_rounds_otherwise_is_named():
    assert compared((1, "loss", LOSS + 0.03), there={"cpu": "one"})[1].endswith("; archived by one, this is another")


# --- which ---


def planned(name, seconds, section="section54", engine=True, where="archived"):
    function = run_function(f"test/{section}/{name}", engine=engine, settings=None)(lambda: [])
    return Planned(section, Run(function, {}, label=name), where, seconds)


@pytest.fixture
def lines():
    known = set(RUN_FUNCTIONS)
    yield [
        planned("forest", 1.0, engine=False), planned("adam", 10.0), planned("gadam", 60.0), planned("gadam", 50.0),
        planned("gcforest", 900.0, engine=False), planned("missing", 1.0, where=""), planned("unknown", None),
        planned("gadam", 100.0, "section51"), planned("optimizer", 30.0, "section51"),
        planned("threads", 1.0, "section53"),
    ]  # fmt: skip
    for name in RUN_FUNCTIONS.keys() - known:
        del RUN_FUNCTIONS[name]


def test_from_every_section_one_of_each_kind_the_cheapest_gadams_first(lines):
    chosen = [(line.section, line.run.label, line.seconds) for line in sample.choose(lines)]
    assert chosen == [
        ("section51", "gadam", 100.0), ("section54", "gadam", 50.0), ("section51", "optimizer", 30.0),
        ("section54", "adam", 10.0), ("section54", "forest", 1.0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("budget", "labels"),
    [(0.0, []), (55.0, ["gadam", "forest"]), (100.0, ["gadam"]), (180.0, ["gadam", "gadam", "optimizer"])],
)
def test_what_does_not_fit_is_left_out_and_what_is_cheaper_may_follow(lines, budget, labels):
    assert [line.run.label for line in sample.choose(lines, budget)] == labels


# --- recomputed ---


NOTEBOOK = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import matplotlib.pyplot as plt
from run_functions import learned_runs
from gadam.paper import SECTIONS
from gadam.paper.report import Report
report = Report.open(profile, data=data)
rows = report.rows(learned_runs(6))
for name in SECTIONS["section54"].tables:
    report.table(name, rows, caption="losses")
for name in SECTIONS["section54"].figures:
    report.figure(name, plt.figure(figsize=(2, 1)), caption="nothing", alt="nothing")
report.claims("section54", [])
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose Section 5.4 has six small runs, five of them archived, and an empty store; its archive."""
    archive._read.cache_clear()
    monkeypatch.setattr(reproduction, "project_root", lambda: tmp_path)
    monkeypatch.setattr(reproduction.reference, "write", lambda folder: None)
    monkeypatch.setattr(plan, "all_runs", lambda name, *_: learned_runs(6))
    monkeypatch.setattr(plan, "later_runs", lambda name: None)
    for variable in ("archive", "runs", "reports"):
        monkeypatch.setenv(f"GADAM_{variable.upper()}", str(tmp_path / variable))
    write(tmp_path / "notebooks" / SECTIONS["section54"].notebook, NOTEBOOK)
    return archived(tmp_path, learned_runs())


def archived(folder, runs, change=lambda content: content):
    """An archive of runs, each changed, with its checksum made anew."""
    path = folder / "archive" / "standard" / archive.NAME
    contents = []
    for run in runs:
        store.execute_and_write(folder / "elsewhere", run)
        content = change(json.loads(store.path_of(folder / "elsewhere", run.key).read_bytes()))
        rest = {name: value for name, value in content.items() if name != "sha256"}
        contents.append({**rest, "sha256": store.digest_of(rest)})
    archive.write(path, contents)
    archive._read.cache_clear()
    return path


def test_a_changed_value_is_found_and_named_and_the_command_exits_with_1(project, tmp_path, monkeypatch, capsys):
    def forged(content):
        content["rows"][1]["loss"] += 1e-3
        return content

    archived(tmp_path, learned_runs(), forged)
    before = project.read_bytes()
    monkeypatch.setattr(sys, "argv", ["gadam", "reproduce", "--only", "table4"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    said, complaint = capsys.readouterr()
    assert stopped.value.code == 1
    page = tmp_path / "reports" / "standard" / "index.html"
    assert f"0 of 1 recomputed runs agree with the archive; see the page: {page}" in complaint
    named = re.compile(r"different: section54, seed \d: loss of row 2: [\d.]+, archived is [\d.]+")
    assert named.search(said)
    assert "6 runs: 5 archived, 1 to recompute as a sample, about " in said
    assert "1 runs are missing: " in said
    assert "1 of 6 runs are missing, about " in said, "by the notebook"
    text = page.read_text()
    assert "0 of 1 recomputed runs agree with the archive" in text
    assert "loss of row 2" in text
    # What is rendered is the archive's; what was recomputed is nowhere.
    table = (page.parent / "tables" / "table4.csv").read_text()
    assert len(table.splitlines()) == 1 + 5 * 3
    assert "0.501" in table
    assert not (tmp_path / "runs").exists()
    assert project.read_bytes() == before
    assert not list(page.parent.glob(".*"))


@pytest.fixture
def rendered(project, monkeypatch):
    """Of the same, what is rendered, without a notebook; runs are computed in this process."""
    found = []
    monkeypatch.setattr(reproduction, "render", lambda *given, **_: found.append(given[1]))

    def compute(runs, root, progress=None, **_):
        for run in runs:
            store.execute_and_write(root, run)

    monkeypatch.setattr(sample, "compute", compute)
    return found


def test_what_agrees_is_said_in_a_line(rendered, tmp_path, capsys):
    page = reproduce(only="table4")
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == [f"report: {page}", "1 of 1 recomputed runs agree with the archive"]
    assert rendered == [["section54"]]
    assert [one.outcome for one in sample.read(page.parent)] == ["identical"]
    assert "1 of 1 recomputed runs agree with the archive" in page.read_text()


def test_without_the_data_the_archive_is_rendered_and_the_sample_says_why_not(rendered, tmp_path, monkeypatch, capsys):
    config = {"seed": 0, "dataset": "yeast", "data": "real"}
    run = Run(run_functions.learned, config, SOURCES["yeast"].hash, label="yeast")
    archived(tmp_path, [run])
    monkeypatch.setattr(plan, "all_runs", lambda name, *_: [run])
    monkeypatch.setenv("GADAM_DATA", str(tmp_path / "nothing"))
    monkeypatch.setenv("GADAM_OFFLINE", "1")
    page = reproduce(only="table4")
    said = capsys.readouterr().out
    assert rendered == [["section54"]]
    assert re.search(r"^not recomputed: section54, yeast: yeast: data='real', but it is not in .*nothing", said, re.M)
    summary = "0 of 0 recomputed runs agree with the archive; 1 could not be recomputed here"
    assert said.splitlines()[-1] == summary
    assert summary in page.read_text()


def test_a_run_that_fails_here_is_different_and_a_refused_line_is_said(rendered, tmp_path, monkeypatch, capsys):
    def forged(content):
        content["identity"]["engine"] += content["label"] == "seed 1"
        return content

    archived(tmp_path, learned_runs(), forged)

    def fails(runs, **_):
        raise reproduction.RunError("run 'seed 0' failed: out of order")

    monkeypatch.setattr(sample, "compute", fails)
    with pytest.raises(ReportError, match=r"^0 of 1 recomputed runs agree"):
        reproduce(only="table4")
    said = capsys.readouterr().out
    assert re.search(r"different: section54, seed \d: run 'seed 0' failed: out of order", said)
    assert "refused lines of the archive, which count as missing: 1 another version\n" in said
    assert "2 runs are missing: " in said


def test_told_to_recompute_nothing_is_taken_from_the_archive(project, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(reproduction, "all_runs", lambda *_: learned_runs(6))
    monkeypatch.setattr(reproduction, "later_runs", lambda name: None)
    monkeypatch.setattr(reproduction, "compute", lambda runs, *_, **__: asked.append(len(runs)))
    reproduction.compute_runs("standard", "table4")
    reproduction.compute_runs("standard", "table4", recompute=True)
    assert asked == [1, 6]
    assert Source("standard", recompute=True).find(learned_runs(1)[0]) == (None, "")


def test_a_damaged_sample_is_told_in_a_line(tmp_path):
    one = sample.Compared("section54", "seed 0", "equal", "loss of row 1")
    sample.write(tmp_path, [one, replace(one, outcome="identical", detail="")])
    assert sample.read(tmp_path)[0] == one
    assert sample.read(tmp_path / "nowhere") == []
    (tmp_path / "sample.json").write_text('[{"section": 1}]')
    with pytest.raises(ValueError, match=r"sample\.json is damaged \(.*\); remove it, and reproduce again"):
        sample.read(tmp_path)
