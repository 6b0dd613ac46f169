"""What the machine does to a reproduction: each ends in one line, leaves no process, and costs nothing of before."""

import errno
import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import run_functions
from run_functions import raise_error
from test_notebooks import runs_still, write

from gadam import cli
from gadam.paper import SECTIONS, section54
from gadam.paper.report import NotebookError, ReportError, RunError, compute, notebooks, paths, reproduce, reproduction
from gadam.paper.runs import Run

HINT = "; finished runs are stored, the same command goes on from there"


def run(folder, label="", function=run_functions.rows, **config):
    return Run(function, {"folder": str(folder), **config}, label=label)


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("number", "advice"),
    [(errno.ENOSPC, "free some space"), (errno.EROFS, "make the folder writable"), (errno.EIO, "see that it can be")],
)
def test_file_that_cannot_be_written_is_named_and_the_old_one_is_kept(tmp_path, monkeypatch, number, advice):
    path = tmp_path / "table4.csv"
    paths.write_atomic(path, "old")
    monkeypatch.setattr(paths.os, "fsync", lambda descriptor: raise_error(OSError(number, os.strerror(number))))
    with pytest.raises(ReportError, match=f"^cannot write {path}: {os.strerror(number)}; {advice}"):
        paths.write_atomic(path, "new")
    assert files(tmp_path) == {"table4.csv": b"old"}


def test_store_that_cannot_be_written_is_refused_before_anything_is_computed(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(
        ReportError, match=r"file/runs: Not a directory; see .*, or set \$GADAM_RUNS to another folder$"
    ):
        compute([run(tmp_path)], root=tmp_path / "file" / "runs")
    read_only = OSError(errno.EROFS, os.strerror(errno.EROFS))
    monkeypatch.setattr(paths.tempfile, "TemporaryFile", lambda **_: raise_error(read_only))
    with pytest.raises(ReportError, match="runs: Read-only file system; make the folder writable, or set "):
        compute([run(tmp_path)], root=tmp_path / "runs")
    with pytest.raises(ReportError, match=r"or set \$GADAM_REPORTS to another folder$"):
        reproduce("smoke", "table4", "standin", tmp_path / "reports")
    assert files(tmp_path) == {"file": b""}


def test_full_disk_in_a_worker_and_data_that_is_gone_are_lines_of_their_own(tmp_path, monkeypatch):
    with pytest.raises(RunError) as full:
        compute([Run(run_functions.full_disk, {}, label="orl")], workers=1, root=tmp_path / "runs")
    assert str(full.value).startswith(f"run 'orl' (test/full_disk) failed: cannot write {tmp_path / 'runs'}/")
    assert str(full.value).endswith(".json: No space left on device; free some space")
    assert files(tmp_path) == {}

    monkeypatch.setenv("GADAM_DATA", str(tmp_path))
    monkeypatch.setenv("GADAM_OFFLINE", "1")
    config = {"dataset": "yeast", "data": "real", "seed": 0, "train_rows": None}
    with pytest.raises(RunError, match=r"tables/svm\) failed: yeast: data='real', but it is not in "):
        compute([Run(section54.svm, config, "abc")], workers=1, root=tmp_path / "runs")


def test_rubbish_of_killed_writers_goes_after_a_day(tmp_path):
    for age, name in ((2, "old"), (0, "new")):
        for path in (tmp_path / "tables" / f".{name}.csv.1.tmp", tmp_path / f".{name}.tmp" / "smoke" / "a.csv"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        for path in (tmp_path / "tables" / f".{name}.csv.1.tmp", tmp_path / f".{name}.tmp"):
            os.utime(path, (time.time() - age * paths.DAY,) * 2)
    paths.remove_stale(tmp_path)
    assert set(files(tmp_path)) == {"tables/.new.csv.1.tmp", ".new.tmp/smoke/a.csv"}


def test_second_one_in_a_folder_says_so_and_waits(tmp_path, monkeypatch):
    order, said = [], io.StringIO()
    monkeypatch.setattr(sys, "stdout", said)

    def second():
        with paths.alone_in(tmp_path):
            order.append("second")

    with paths.alone_in(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        end = time.monotonic() + 60
        while not (said.getvalue().endswith("\n") or order) and time.monotonic() < end:
            time.sleep(0.02)
        thread.join(0.2)  # in which it does not go on
        order.append("first")
    thread.join(60)
    assert order == ["first", "second"]
    assert said.getvalue() == f"another reproduction is writing {tmp_path}; waiting until it is done\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose notebook of Section 5.4 has these cells."""
    monkeypatch.setattr(reproduction, "project_root", lambda: tmp_path)
    monkeypatch.setattr(reproduction, "all_runs", lambda *_: [])
    monkeypatch.setenv("GADAM_RUNS", str(tmp_path / "runs"))

    def reproduced(*cells):
        write(tmp_path / "notebooks" / SECTIONS["section54"].notebook, *cells)
        return reproduce("smoke", "table4", "standin", tmp_path / "reports")

    return reproduced


def test_failing_notebook_leaves_what_was_there_before(project, tmp_path):
    report = tmp_path / "reports" / "smoke"
    before = ["claims/section54.csv", "used/section54.json", "tables/table4.csv", "notebooks/section54_tables.ipynb"]
    for name in before:
        paths.write_atomic(report / name, f"earlier {name}")
    half = """
import os, pathlib
folder = pathlib.Path(os.environ["GADAM_REPORTS"], profile, "tables")
folder.mkdir(parents=True)
(folder / "table4.csv").write_text("new")
raise OSError(28, "No space left on device")
"""
    with pytest.raises(NotebookError, match=r"cell \[3\] failed: OSError: \[Errno 28\] No space left on device \(exec"):
        project(half)
    failed = "notebooks/section54_tables.failed.ipynb"
    after = files(report)
    assert b"No space left" in after.pop(failed)
    assert after == {name: f"earlier {name}".encode() for name in before}
    assert not list(report.glob(".*"))


def test_section_replaces_its_own_files_and_no_claims_of_others(tmp_path):
    new, report = tmp_path / "new", tmp_path / "report"
    for folder, name in ((report, "section41"), (report, "section54"), (new, "section41")):
        paths.write_atomic(folder / "claims" / f"{name}.csv", folder.name)
    paths.write_atomic(new / "tables" / "table4.csv", "new")
    paths.write_atomic(report / "tables" / "table3.csv", "report")
    reproduction._publish(new, report, "section54")
    left = {"claims/section41.csv": b"report", "tables/table3.csv": b"report", "tables/table4.csv": b"new"}
    assert files(report) == left


def test_folder_that_vanishes_and_a_process_that_is_killed(tmp_path):
    output, pid = tmp_path / "out" / "tiny.ipynb", tmp_path / "pid"
    for cells, complaint in (
        (
            ["import pathlib, shutil", f"shutil.rmtree(next(pathlib.Path({str(output.parent)!r}).glob('.*.tmp')))"],
            "it could not be executed to its end: output folder .* doesn't exist",
        ),
        (
            [
                "import os, pathlib, signal, time",
                f"pathlib.Path({str(pid)!r}).write_text(str(os.getpid()))",
                "os.kill(os.getppid(), signal.SIGKILL)",
                "time.sleep(600)",
            ],
            r"its process was ended by SIGKILL \(out of memory\?\)",
        ),
    ):
        notebook = write(tmp_path / "tiny.ipynb", *cells)
        with pytest.raises(NotebookError, match=rf"^tiny\.ipynb: {complaint}"):
            notebooks.execute(notebook, output, {}, limit=600)
        assert not output.exists()
    wait_until_gone([int(pid.read_text())])


def test_half_an_executed_notebook_is_none(tmp_path):
    half = tmp_path / "half.ipynb"
    half.write_text('{"cells": [{"cell_type": "co')
    with open(tmp_path / "log", "w+b") as log:
        log.write(b"Traceback\nno space\n")
        assert notebooks._complaint(half, log, 1) == "no space"
        assert notebooks._complaint(half, log, 0) == "nothing was executed"


COMMAND = """
import signal
import sys
import run_functions
from gadam import cli
from gadam.paper.runs import Run
from gadam.paper.report import reproduction
counts = sys.argv[1]
runs = [Run(run_functions.rows, {"folder": counts, "until": until}) for until in (None, f"{counts}/never")]
reproduction.all_runs = lambda *_: runs
reproduction.later_runs = lambda name: None
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored where the tests run in the background
    sys.argv = ["gadam", "reproduce", "--profile", "smoke", "--only", "table4", "--data", "standin", "--runs-only"]
    cli.main()
"""


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_signal_ends_a_reproduction_in_one_line(tmp_path, name, status):
    (tmp_path / "counts").mkdir()
    (tmp_path / "command.py").write_text(COMMAND)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "command.py"), str(tmp_path / "counts")],
        env=os.environ | {
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
            "GADAM_RUNS": str(tmp_path / "runs"),
            "GADAM_WORKERS": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a terminal's Ctrl-C goes to the whole group, which is not to be ours
    )  # fmt: skip
    assert process.stdout.readline().startswith("[1/2] test/rows: ")
    others = [one.pid for one in psutil.Process(process.pid).children(recursive=True)]
    os.killpg(process.pid, signal.SIGINT) if name == "SIGINT" else process.terminate()
    _, complaint = process.communicate(timeout=300)
    assert (process.returncode, complaint) == (status, f"gadam: stopped by {name}{HINT}\n")
    wait_until_gone(others)
    assert len(files(tmp_path / "runs")) == 1


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ReportError("cannot write x: No space left on device"), 1, f"cannot write x: No space left on device{HINT}"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, f"No space left on device{HINT}"),
        (
            PermissionError(errno.EACCES, "Permission denied", "/runs/a.json"),
            1,
            f"/runs/a.json: Permission denied{HINT}",
        ),
        (cli.InputError("profile='big'"), 2, "profile='big'"),
    ],
)
def test_command_ends_in_one_line(monkeypatch, capsys, error, status, line):
    monkeypatch.setattr("gadam.paper.report.compute_runs", lambda *_, **__: raise_error(error))
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert command(monkeypatch, "--runs-only") == status
    assert capsys.readouterr().err == f"gadam: {line}\n"
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_scheduler_is_passed_on_and_is_nothing_for_a_plan(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr("gadam.paper.report.compute_runs", lambda *given, **named: asked.append((given, named)))
    assert command(monkeypatch, "--runs-only", "--scheduler", "tcp://host:8786") == 0
    assert asked == [(("standard", None, "auto", "tcp://host:8786"), {"recompute": False})]
    assert command(monkeypatch, "--plan", "--scheduler", "tcp://host:8786") == 2
    assert "--plan computes nothing and --scheduler computes; give one of them" in capsys.readouterr().err


def command(monkeypatch, *arguments):
    """Exit status of `gadam reproduce`."""
    monkeypatch.setattr(sys, "argv", ["gadam", "reproduce", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return stopped.value.code or 0


def wait_until_gone(pids, seconds=120):
    end = time.monotonic() + seconds
    while any(map(runs_still, pids)):
        assert time.monotonic() < end
        time.sleep(0.05)
