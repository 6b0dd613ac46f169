import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import run_functions

from gadam import InputError
from gadam.paper.report import store
from gadam.paper.report.machine import THREAD_VARIABLES
from gadam.paper.report.workers import Bar, Done, Failure, RunError, compute
from gadam.paper.runs import Run


@pytest.fixture
def root(tmp_path):
    (tmp_path / "counts").mkdir()
    return tmp_path


def run(root, label="", function=run_functions.rows, more=None, **config):
    return Run(function, {"folder": str(root / "counts"), **config}, label=label, **more or {})


def executions(root):
    return len(list((root / "counts").iterdir()))


def stored(root):
    return [path for path in (root / "runs").glob("*") if not path.name.startswith(".")]


def values(found):
    return [item.rows[0]["value"] for item in found]


def test_each_run_is_computed_once_and_in_order(root, capsys):
    runs = [run(root, label=f"letter · seed {value}", value=value) for value in (2, 1, 2, 0)]
    store.execute_and_write(root / "runs", runs[1])
    assert values(compute(runs, workers=1, root=root / "runs")) == [2, 1, 2, 0]
    assert executions(root) == 3
    lines = capsys.readouterr().out.splitlines()
    assert said(lines[:2]) == (["[2/3]", "[3/3]"], {"letter · seed 2", "letter · seed 0"})
    assert lines[2].startswith("3 runs: 1 read, 2 computed in ")

    assert values(compute(runs, root=root / "runs")) == [2, 1, 2, 0]
    assert executions(root) == 3
    assert capsys.readouterr().out == "3 runs: all read\n"


def test_by_priority_on_one_thread_and_those_that_are_wide_on_all_one_at_a_time(root):
    left = [root / "runs" / f".{name}.json.1.tmp" for name in "ab"]  # by writers that were killed
    left[0].parent.mkdir()
    for path, days in zip(left, (2, 0), strict=True):
        path.touch()
        os.utime(path, (time.time() - days * 86_400,) * 2)
    runs = [
        run(root, "", run_functions.threads, {"priority": priority, "wide": wide}, value=value)
        for value, (priority, wide) in enumerate([(1, False), (0, True), (0, False)])
    ]
    before = os.environ.copy()
    found = compute(runs, workers=3, root=root / "runs")
    began = [path.name.split("-")[1] for path in sorted((root / "counts").iterdir())]
    assert began == ["2", "1", "0"]
    rows = [one.rows[0] for one in found]
    assert [row["GADAM_THREADS"] for row in rows] == ["1", "3", "1"]
    assert [(row["torch"], row["OMP_NUM_THREADS"]) for row in rows] == [(1, "1")] * 3
    assert os.environ == before
    assert found[0].metadata["torch"]["threads"] == 1
    assert found[0].metadata["packages"]["gadam"]
    assert {"cpu_seconds", "seconds", "stored", "python", "platform", "cpu", "gpu", "git"} <= found[0].metadata.keys()
    assert [path.exists() for path in left] == [False, True]


def test_of_a_failing_run_what_is_under_way_is_kept_and_no_other_is_begun(root):
    """It fails when the other has begun, which ends when the failure is known here."""
    known = root / "known"
    fails = run(root, "adult · seed 7", run_functions.fails, others=1)
    slow, never = run(root, until=str(known)), [run(root, value=value) for value in range(2, 12)]

    def progress(done):
        if isinstance(done, Failure):
            known.touch()

    with pytest.raises(RunError) as info:
        compute([fails, slow, *never], workers=2, root=root / "runs", progress=progress)
    assert str(info.value) == "run 'adult · seed 7' (test/fails) failed: no such thing as 3"
    assert "run_functions.py" in info.value.__notes__[0]
    assert [path.stem for path in stored(root)] == [slow.key]
    assert executions(root) == 2, "those that had begun"


def test_told_to_keep_going_it_computes_the_others_and_names_what_failed_and_what_killed_its_process(root, capsys):
    """One dies while another is computed, in which nothing is wrong."""
    fails, dies = run(root, "adult", run_functions.fails), run(root, "orl", run_functions.dies, after=2)
    good = [run(root, value=value) for value in range(2)]
    with pytest.raises(RunError) as info:
        compute([fails, dies, *good], workers=2, root=root / "runs", keep_going=True)
    assert str(info.value) == (
        "2 runs failed: run 'adult' (test/fails) failed: no such thing as 3; run 'orl' (test/dies) failed: "
        "its process died (out of memory?); fewer at once need less memory: set $GADAM_WORKERS"
    )
    assert sorted(path.stem for path in stored(root)) == sorted(one.key for one in good)
    lines = capsys.readouterr().out.splitlines()
    assert sum("failed: run '" in line for line in lines) == 2
    assert lines[-1].startswith("4 runs: 0 read, 2 computed in ")


SLOW = """
import sys
from pathlib import Path
import run_functions
from gadam.paper.runs import Run
from gadam.paper.report import workers
counts, gate, runs = sys.argv[1:]
todo = [Run(run_functions.rows, {"folder": counts, "value": value}) for value in range(4)]
todo[2].config["until"] = gate
workers.compute(todo, workers=1, root=Path(runs))
"""


def test_killed_in_the_middle_it_goes_on_from_there(root, monkeypatch):
    """The third run, which ends when a file is there, is under way when all is killed, and then twice at once."""
    gate = root / "gate"
    command = [sys.executable, "-c", SLOW, str(root / "counts"), str(gate), str(root / "runs")]
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    wait_for(lambda: executions(root) == 3 or process.poll() is not None)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    wait_for(lambda: not any(map(runs_still, workers)))
    before = {path: path.stat().st_mtime_ns for path in stored(root)}
    assert len(before) == 2
    for path in before:
        json.loads(path.read_text())

    for name in (*THREAD_VARIABLES, "GADAM_THREADS"):
        monkeypatch.setenv(name, "1")  # two threads must not restore it for each other
    runs = [run(root, value=value) for value in range(4)]
    runs[2].config["until"] = str(gate)
    with ThreadPoolExecutor(2) as pool:  # two that compute into one folder at once
        both = [pool.submit(compute, runs, workers=1, root=root / "runs") for _ in range(2)]
        wait_for(lambda: executions(root) == 5)
        gate.touch()
    for future in both:
        assert values(future.result()) == [0, 1, 2, 3]
    assert 6 <= executions(root) <= 7
    assert before.items() <= {path: path.stat().st_mtime_ns for path in stored(root)}.items()
    assert len(list((root / "runs").iterdir())) == 4


@pytest.fixture
def interruptible():
    """A process that a shell put into the background ignores SIGINT from its start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_interrupted_it_stops_at_once_and_leaves_no_half_file(root):
    def interrupt():
        wait_for(lambda: executions(root) == 2)
        os.kill(os.getpid(), signal.SIGINT)

    before = set(multiprocessing.active_children())
    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        compute([run(root), run(root, until=str(root / "never"))], workers=1, root=root / "runs")
    thread.join()
    assert set(multiprocessing.active_children()) == before
    assert list((root / "runs").iterdir()) == stored(root)
    assert len(stored(root)) == 1


def test_workers_must_be_a_number_of_workers(root, monkeypatch):
    for workers in (0, -1, 1.5, "two"):
        with pytest.raises(InputError, match=f"workers={workers!r} is not allowed; it must be a whole number, at le"):
            compute([run(root)], workers=workers, root=root / "runs")
    monkeypatch.setenv("GADAM_WORKERS", "many")
    with pytest.raises(InputError, match="workers='many' is not allowed"):
        compute([run(root)], root=root / "runs")


def wait_for(condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def runs_still(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def said(lines):
    """Of lines such as "[2/3] seed 2: 0.1 s" the numbers, and the names of the runs, which come as they are done."""
    numbers, names = zip(*(line[: line.rindex(":")].split(" ", 1) for line in lines), strict=True)
    return list(numbers), set(names)


def test_on_a_gpu_the_seeds_of_an_experiment_are_computed_in_one_call(root, monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    alone = run(root, label="alone", value=1)  # which cannot be computed with others
    runs = [*(run(root, f"seed {seed}", run_functions.seeded, seed=seed) for seed in (3, 1, 4, 0)), alone]
    found = compute(runs, workers=1, root=root / "runs")
    assert [item.rows for item in found[:-1]] == [[{"seed": seed, "square": seed**2}] for seed in (3, 1, 4, 0)]
    assert executions(root) == 2
    assert [item.metadata["together"] for item in found] == [4, 4, 4, 4, 1]
    lines = capsys.readouterr().out.splitlines()
    assert said(lines[:5]) == ([f"[{n}/5]" for n in range(1, 6)], {"seed 3", "seed 1", "seed 4", "seed 0", "alone"})
    assert len(stored(root)) == 5


class Line:
    def __init__(self, run, seconds):
        self.run, self.seconds = run, seconds


def test_a_bar_is_lines_where_there_is_no_terminal(root, capsys):
    lines = [Line(run(root, "one"), 3.0), Line(run(root, "two", value=1), None)]
    with Bar(lines, "sample") as bar:
        bar(Done(lines[0].run, 2.5))
        bar(Failure(lines[1].run, RunError("it is broken")))
    assert capsys.readouterr().out.splitlines() == ["[1/2] one: 2.5 s", "[2/2] two: failed: it is broken"]
