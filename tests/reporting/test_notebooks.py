"""Notebooks run to their end or fail in one line; a failure or a signal leaves no process and costs nothing."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import nbformat
import psutil
import pytest
import run_functions
from report_scene import files, write_notebook
from run_functions import wait_for

from gadam import InputError, cli
from gadam.paper import SECTIONS
from gadam.paper.report import notebooks, paths, reproduction
from gadam.paper.report.paths import ReportError, SampleError
from gadam.paper.report.reproduction import reproduce
from gadam.paper.report.workers import compute
from gadam.paper.runs import Run

PARAMETERS = {"profile": "quick", "data": "auto"}


@pytest.fixture
def execute(tmp_path, monkeypatch):
    """Execute a notebook of these cells, in a folder of its own, where another python3 is installed for Jupyter."""
    spec = tmp_path / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps({"argv": ["/usr/bin/false"], "display_name": "Python 3", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))

    def run(*cells, limit=600.0, **more):
        notebook = write_notebook(tmp_path / "{notebooks}" / "tiny.ipynb", *cells)
        return notebooks.execute(notebook, tmp_path / "{out}" / "tiny.ipynb", PARAMETERS, limit=limit, **more)

    return run


def test_it_gets_its_parameters_streams_its_lines_and_must_write_what_it_promises(execute, tmp_path, capsys):
    new, stale = tmp_path / "new.csv", tmp_path / "stale.csv"
    stale.touch()
    cells = [
        "import os, pathlib, sys",
        f"pathlib.Path({str(new)!r}).touch()",
        "print(f'[1/2] {profile} {data} {pathlib.Path.cwd().name} {os.environ[\"TQDM_DISABLE\"]}', flush=True)",
        "print(sys.executable, file=sys.stderr)",
        "",
    ]
    with pytest.raises(ReportError, match=r"^tiny\.ipynb: it did not write stale\.csv \(exec"):
        execute(*cells, promised=[new, stale])
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["  [1/2] quick auto {notebooks} 1", f"  {sys.executable}"], "this interpreter, not Jupyter's"
    executed = nbformat.read(tmp_path / "{out}" / "tiny.failed.ipynb", as_version=4)
    assert sys.executable in str(executed.cells[-2].outputs)
    assert not executed.metadata.papermill.input_path, "no second copy of the notebook"


@pytest.mark.parametrize(
    ("cell", "complaint"),
    [
        ("import sys; sys.exit(0)", r"cell \[3\] failed: SystemExit: 0"),
        ("import os; os._exit(0)", r"its kernel died .*; cell \[3\] was not executed to its end"),
    ],
)
def test_a_cell_that_exits_is_named(execute, tmp_path, cell, complaint):
    with pytest.raises(ReportError, match=rf"^tiny\.ipynb: {complaint} \(executed so far: "):
        execute(cell, "done = True")
    assert list(files(tmp_path / "{out}")) == ["tiny.failed.ipynb"]


@pytest.mark.parametrize("by", ["limit", "stop"])
def test_a_hanging_one_is_stopped_with_all_that_it_started(execute, tmp_path, monkeypatch, by):
    pids, stop = tmp_path / "pids", threading.Event()
    hang = f"""
import os, pathlib, subprocess, time
child = subprocess.Popen(["sleep", "3600"], start_new_session=True)
new = pathlib.Path({str(pids)!r} + ".new")
new.write_text(f"{{os.getpid()}} {{child.pid}}")
new.rename({str(pids)!r})
time.sleep(3600)
"""
    clock = time.monotonic

    def monotonic():
        """Over the limit as soon as the notebook hangs, however long its kernel takes to start."""
        if by == "stop" and pids.exists():
            stop.set()
        return clock() + (1e6 if by == "limit" and pids.exists() else 0)

    monkeypatch.setattr(notebooks, "time", SimpleNamespace(monotonic=monotonic))
    with pytest.raises(ReportError, match="stopped") as stopped:
        execute(hang, limit=1_800, stop=stop)
    assert re.search(r"cell \[3\] was not executed to its end", str(stopped.value))
    assert ("after its limit of 1800 s" in str(stopped.value)) == (by == "limit")
    wait_for(lambda: not any(runs_still(int(pid)) for pid in pids.read_text().split()))


def runs_still(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# --- before anything is computed ---


@pytest.mark.parametrize("content", ["", '{"cells": 3}', "<<<<<<< HEAD\n{}\n=======\n{}\n>>>>>>> main\n"])
def test_a_notebook_that_is_none_is_named_before_anything_is_computed(folders, monkeypatch, content):
    path = folders / "notebooks" / SECTIONS["section3"].notebook
    path.parent.mkdir()
    monkeypatch.setattr(paths, "notebooks_folder", lambda: path.parent)
    monkeypatch.setattr(reproduction, "compute_runs", lambda *_, **__: pytest.fail("it computes"))
    with pytest.raises(ReportError, match=f"^{path} is not there; get it back"):
        reproduce("smoke", "section3", "standin")
    path.write_text(content)
    with pytest.raises(ReportError, match=f"^{path} is no notebook .*; get it back$") as refused:
        reproduce("smoke", "section3", "standin")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("missing", ["papermill", "ipykernel", "nbformat"])
def test_an_extra_that_is_missing_is_named_before_anything_is_computed(monkeypatch, missing):
    monkeypatch.setattr(reproduction, "compute_runs", lambda *_, **__: pytest.fail("it computes"))
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(InputError, match=rf"{missing} is not installed, .*pip install 'gadam\[notebooks\]'"):
        reproduce("smoke", "section3", "standin")


# --- files and folders ---


def test_a_section_replaces_its_own_files_and_no_claims_of_others(tmp_path):
    new, report = tmp_path / "new", tmp_path / "report"
    for folder, name in ((report, "section41"), (report, "section54"), (new, "section41")):
        paths.write_atomic(folder / "claims" / f"{name}.csv", folder.name)
    paths.write_atomic(new / "tables" / "table4.csv", "new")
    paths.write_atomic(report / "tables" / "table3.csv", "report")
    reproduction._publish(new, report, "section54")
    left = {"claims/section41.csv": b"report", "tables/table3.csv": b"report", "tables/table4.csv": b"new"}
    assert files(report) == left


def test_a_store_or_report_that_cannot_be_written_is_refused_before_anything_is_computed(folders, monkeypatch):
    (folders / "file").touch()
    run = Run(run_functions.rows, {"folder": str(folders / "counts")})
    with pytest.raises(ReportError, match=r"file/runs: Not a directory; .*, or set \$GADAM_RUNS to another folder$"):
        compute([run], root=folders / "file" / "runs")
    monkeypatch.setenv("GADAM_REPORTS", str(folders / "file"))
    with pytest.raises(ReportError, match=r"or set \$GADAM_REPORTS to another folder$"):
        reproduce("smoke", "table4", "standin")
    assert files(folders) == {"file": b""}


def test_leavings_of_killed_writers_go_after_a_day_and_checkpoints_after_a_month(tmp_path):
    run, written = "d" * 64, f".{'0' * 32}.tmp"
    ages = {
        f"tables/.a.csv{written}": 2, f".{run}.json{written}": 2, ".gadam-1.tmp": 2, f".e{run[1:]}.checkpoints": 31,
        f".b{written}": 0, f".{run}.checkpoints": 2, ".thesis.tmp": 2, ".my.checkpoints": 31, f"a/b/.c{written}": 2,
    }  # fmt: skip
    for name, days in ages.items():
        (tmp_path / name).mkdir(parents=True)
        os.utime(tmp_path / name, (time.time() - days * paths.DAY,) * 2)
    paths.prepare_folder(tmp_path, "GADAM_RUNS")
    left = [name for name in ages if (tmp_path / name).exists()]
    assert left == [*ages][4:], "what is young, and what is not ours"


# --- signals and exit statuses ---

COMMAND = """
import sys
import run_functions
from gadam import __main__
from gadam.paper.runs import Run
from gadam.paper.report import plan
counts = sys.argv[1]
runs = [Run(run_functions.rows, {"folder": counts, "until": until}) for until in (None, f"{counts}/never")]
plan.all_runs = lambda *_: runs
plan.later_runs = lambda name: None
if __name__ == "__main__":
    sys.argv = ["gadam", "reproduce", "--profile", "smoke", "--only", "table4", "--data", "standin", "--runs-only"]
    __main__.main()
"""


@pytest.fixture
def start(folders):
    """Start a process that a signal can be sent to, as a terminal does, to its whole group."""

    def started(*command):
        here = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        environment = os.environ | {"PYTHONPATH": here, "GADAM_WORKERS": "1"}
        return subprocess.Popen([sys.executable, *command], env=environment, start_new_session=True, **pipes)

    return started


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGKILL", -9)])
def test_a_signal_ends_a_reproduction_in_one_line_and_costs_no_finished_run(folders, start, name, status):
    (folders / "command.py").write_text(COMMAND)
    process = start(str(folders / "command.py"), str(folders / "counts"))
    assert process.stdout.readline().startswith("profile smoke, data standin: section54")
    assert process.stdout.readline().startswith("[1/2] test/rows: ")
    others = [one.pid for one in psutil.Process(process.pid).children(recursive=True)]
    os.killpg(process.pid, signal.SIGINT) if name == "SIGINT" else process.kill()
    _, complaint = process.communicate(timeout=300)
    assert process.returncode == status
    assert complaint == f"gadam: stopped by {name}{cli.HINT}\n" or name == "SIGKILL"
    wait_for(lambda: not any(map(runs_still, others)))
    assert len(files(folders / "runs")) == 1
    assert not list((folders / "runs").glob(".*"))


@pytest.mark.parametrize(("name", "status", "seconds"), [("SIGINT", 130, 0.0), ("SIGTERM", 143, 1.0)])
def test_a_signal_amid_the_imports_ends_in_one_line(start, name, status, seconds):
    process = start("-um", "gadam", "reproduce", "--profile", "smoke", "--plan")
    assert process.stdout.readline().startswith("profile smoke, data auto: section3, section41, ")
    time.sleep(seconds)  # wherever that is: nothing depends on it
    process.send_signal(getattr(signal, name))
    _, complaint = process.communicate(timeout=300)
    ended = (0, ""), (-getattr(signal, name), "")  # or is about to, when Python has put its handlers away
    assert (process.returncode, complaint) in ((status, f"gadam: stopped by {name}\n"), *ended)


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ReportError("run 'x' failed: y"), 1, f"run 'x' failed: y{cli.HINT}"),
        (PermissionError(errno.EACCES, "Permission denied", "/a.json"), 1, f"/a.json: Permission denied{cli.HINT}"),
        (SampleError("1 of 2 agree"), 1, "1 of 2 agree"),
        (InputError("profile='big'"), 2, "profile='big'"),
    ],
)
def test_a_command_ends_in_one_line(gadam, monkeypatch, error, status, line):
    fail = Mock(side_effect=error)
    monkeypatch.setattr("gadam.paper.report.reproduction.compute_runs", fail)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    found, _, complaint = gadam("reproduce", "--runs-only", "--scheduler", "tcp://host:8786")
    assert (found, complaint) == (status, f"gadam: {line}\n")
    fail.assert_called_once_with("standard", None, "auto", "tcp://host:8786", recompute=False)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
