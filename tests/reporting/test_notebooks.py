import json
import os
import re
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pandas as pd
import psutil
import pytest
import run_functions

from gadam import InputError
from gadam.paper import SECTIONS
from gadam.paper.report import NotebookError, notebooks, reproduce, reproduction
from gadam.paper.report.scoreboard import COLUMNS
from gadam.paper.runs import Run

PARAMETERS = {"profile": "quick", "data": "auto"}


@pytest.fixture
def execute(tmp_path):
    """Execute a notebook of these cells, in a folder of its own."""

    def run(*cells, limit=600.0, promised=(), parameters=PARAMETERS):
        notebook = write(tmp_path / "notebooks" / "tiny.ipynb", *cells)
        return notebooks.execute(notebook, tmp_path / "out" / "tiny.ipynb", parameters, limit=limit, promised=promised)

    return run


def write(path, *cells):
    parameters = nbformat.v4.new_code_cell('profile = "smoke"\ndata = "auto"', metadata={"tags": ["parameters"]})
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    everything = [nbformat.v4.new_markdown_cell("# tiny"), parameters, *map(nbformat.v4.new_code_cell, cells)]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=everything, metadata={"kernelspec": kernel}), path)
    return path


def test_notebook_gets_its_parameters_streams_its_lines_and_must_write_what_it_promises(execute, tmp_path, capsys):
    new, stale = tmp_path / "new.csv", tmp_path / "stale.csv"
    stale.touch()
    os.utime(stale, (time.time() - 60,) * 2)
    cells = [
        "import os, pathlib, sys",
        f"pathlib.Path({str(new)!r}).touch()",
        "print(f'[1/2] {profile} {data} {pathlib.Path.cwd().name} {os.environ[\"TQDM_DISABLE\"]}', flush=True)",
        "print('careful', file=sys.stderr)",
        "",
    ]
    with pytest.raises(NotebookError, match=r"^tiny\.ipynb: it did not write stale\.csv \(exec"):
        execute(*cells, promised=[new, stale])
    assert capsys.readouterr().out.splitlines() == ["  [1/2] quick auto notebooks 1", "  careful"]
    executed = nbformat.read(tmp_path / "out" / "tiny.failed.ipynb", as_version=4)
    assert "careful" in str(executed.cells[-2].outputs)


def test_failing_cell_is_named_with_its_exception(execute, tmp_path):
    with pytest.raises(
        NotebookError, match=r"^tiny\.ipynb: cell \[3\] failed: ValueError: second \(executed so far: "
    ) as info:
        execute("raise ValueError('first\\nsecond')", "1 / 0")
    assert "\n" not in str(info.value)
    assert "second" in (tmp_path / "out" / "tiny.failed.ipynb").read_text()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["tiny.failed.ipynb"]


def test_exit_in_a_cell_is_a_failure(execute):
    with pytest.raises(NotebookError, match=r"cell \[3\] failed: SystemExit: 0"):
        execute("import sys; sys.exit(0)", "done = True")


def test_dying_kernel_is_a_failure(execute):
    with pytest.raises(NotebookError, match=r"tiny\.ipynb: .*Kernel died"):
        execute("import os; os._exit(0)")


def test_hanging_notebook_is_stopped_with_all_that_it_started(execute, tmp_path, monkeypatch):
    """Its limit is over by a clock that jumps as soon as it hangs, however long its kernel takes to start."""
    pids = tmp_path / "pids"
    hang = f"""
import os, pathlib, subprocess, time
child = subprocess.Popen(["sleep", "3600"], start_new_session=True)
new = pathlib.Path({str(pids)!r} + ".new")
new.write_text(f"{{os.getpid()}} {{child.pid}}")
new.rename({str(pids)!r})
time.sleep(3600)
"""
    started, limit = time.monotonic(), 1_800
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + limit * pids.exists())
    monkeypatch.setattr(notebooks, "time", clock)
    with pytest.raises(NotebookError, match=f"after its limit of {limit} s; ") as stopped:
        execute(hang, limit=limit)
    assert time.monotonic() - started < limit / 3
    assert re.search(r"cell \[\d\] was not executed to its end", str(stopped.value))
    end = time.monotonic() + 60  # both are killed; the system may take a moment over it
    while any(alive := [runs_still(pid) for pid in map(int, pids.read_text().split())]) and time.monotonic() < end:
        time.sleep(0.05)
    assert alive == [False, False]


def runs_still(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_undeclared_parameter_is_refused_before_anything_is_executed(execute, tmp_path):
    with pytest.raises(InputError, match=r"tiny\.ipynb: 'profil' is not a parameter; there are profile, data"):
        execute(parameters={"profil": "quick"})
    assert not (tmp_path / "out").exists()


def test_absent_notebook_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.ipynb' is not a file"):
        notebooks.execute(tmp_path / "nowhere.ipynb", tmp_path / "out.ipynb", {}, limit=5)


SECTION = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import matplotlib.pyplot as plt
import pandas as pd
import run_functions
from gadam.paper import SECTIONS
from gadam.paper.claims import Claim
from gadam.paper.runs import Run
from gadam.paper.verdicts import Evidence
from gadam.paper.report import Report
report = Report.open(profile, data=data)
rows = report.rows([Run(run_functions.standin, {{}}, data_hash="abc", label="tiny")])
for name in SECTIONS["section54"].tables:
    report.table(name, rows, caption="losses")
for name in SECTIONS["section54"].figures:
    report.figure(name, plt.figure(figsize=(2, 1)), caption="nothing", alt="nothing")
claim = Claim(text="c", section="section54", exhibit="table4", kind="greater", evidence=lambda: Evidence((1.0, 2.0)),
              arms=["test/standin"], paper="> 0", margin=1.0, data="stand-in")
report.claims("section54", [claim])
"""


def test_reproduce_executes_a_section_and_writes_the_report(tmp_path, monkeypatch, capsys):
    section = SECTIONS["section54"]
    write(tmp_path / "notebooks" / section.notebook, SECTION)
    monkeypatch.setattr(reproduction, "project_root", lambda: tmp_path)
    tiny = Run(run_functions.standin, {}, data_hash="abc", label="tiny")
    monkeypatch.setattr(reproduction, "all_runs", lambda *_: [tiny])
    monkeypatch.setattr(reproduction.reference, "write", lambda folder: None)
    monkeypatch.setenv("GADAM_RUNS", str(tmp_path / "runs"))
    other = tmp_path / "reports" / "smoke" / "claims" / "section41.csv"
    other.parent.mkdir(parents=True)
    line = dict.fromkeys(COLUMNS, "") | {
        "claim": "earlier", "section": "section41", "kind": "value", "data": "real", "verdict": "reproduced"
    }  # fmt: skip
    pd.DataFrame([line]).to_csv(other, index=False)

    page = reproduce("smoke", only="table4", data="standin", folder=tmp_path / "reports")

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("[1/1] tiny: "), "first the runs are computed"
    assert "  section54: 1 run: all read" in lines
    assert lines[-2].startswith(f"{section.title} … ")
    assert lines[-1] == f"report: {page}"
    folder = tmp_path / "reports" / "smoke"
    assert page == folder / "index.html"
    assert len((folder / "scoreboard.csv").read_text().splitlines()) == 3
    provenance = json.loads((folder / "provenance.json").read_text())
    (run,) = provenance["runs"].values()
    assert run["label"] == "tiny"
    assert provenance["machines"][run["machine"]]["torch"]["threads"] == 1
    assert provenance["sections"]["section54"]["seconds"] > 0
    assert provenance["sections"]["section54"]["data"] == "standin"
    text = page.read_text()
    assert "earlier" in text
    assert "STAND-IN DATA" in text
    assert f'href="notebooks/{section.notebook}"' in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"profile": "big"}, "profile='big' is not allowed; it must be one of smoke, quick, standard, paper"),
        ({"profile": "quick", "data": "fake"}, "data='fake' is not allowed; it must be one of auto, real, standin"),
        ({"data": "standin"}, "data='standin' is not allowed; it must be one of auto, real"),
        ({"only": "tabel4"}, "only='tabel4' is not allowed; it must be one of section3, "),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(InputError, match=f"^{message}"):
        reproduce(**arguments)


def test_only_takes_a_section_or_an_exhibit():
    assert reproduction.sections_of(None) == list(SECTIONS)
    assert reproduction.sections_of("section41") == reproduction.sections_of("figure2a") == ["section41"]


def test_limit_from_the_environment(monkeypatch):
    monkeypatch.setenv("GADAM_NOTEBOOK_SECONDS", "7")
    assert reproduction._limit("smoke") == 7
    for wrong in ("soon", "nan", "-1", "0", "-inf"):
        monkeypatch.setenv("GADAM_NOTEBOOK_SECONDS", wrong)
        with pytest.raises(InputError, match=f"^GADAM_NOTEBOOK_SECONDS='{wrong}' is not allowed; .* above 0$"):
            reproduction._limit("smoke")


@pytest.mark.parametrize("limit", [float("nan"), -1, 0, "60", None, True])
def test_a_limit_that_is_none_is_refused_before_anything_is_executed(limit, execute, tmp_path):
    with pytest.raises(InputError, match=rf"^limit={limit!r} must be a number of seconds, above 0$"):
        execute("1", limit=limit)
    assert not (tmp_path / "out").exists()
