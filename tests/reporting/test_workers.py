"""Runs are computed once, in order, here or by a cluster; failures, deaths and interrupts cost no other run."""

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import run_functions
from report_scene import files
from run_functions import executions, wait_for

from gadam import InputError
from gadam.paper.report import ReportError, RunError, compute, store, workers
from gadam.paper.report.workers import Outcome, Progress
from gadam.paper.runs import Run

HERE = str(Path(__file__).parent)


@pytest.fixture
def counts(folders):
    return folders / "counts"


@pytest.fixture
def root(folders):
    """The run store of a test."""
    return folders / "runs"


@pytest.fixture
def run(counts):
    def made(label="", function=run_functions.rows, more=None, **config):
        return Run(function, {"folder": str(counts), **config}, label=label, **more or {})

    return made


def values(found):
    return [item.rows[0]["value"] for item in found]


def stored(root):
    return sorted(path.stem for path in root.glob("[!.]*"))


def test_each_run_is_computed_once_and_returned_in_order(run, root, counts, capsys):
    runs = [run(f"letter · seed {value}", value=value) for value in (2, 1, 2, 0)]
    store.execute_and_write(root, runs[1])
    assert values(compute(runs, workers=1)) == [2, 1, 2, 0]
    assert executions(counts) == 3
    lines = capsys.readouterr().out.splitlines()
    assert re.match(r"\[2/3\] letter · seed 2: [\d.]+ s$", lines[0])
    assert re.match(r"\[3/3\] letter · seed 0: [\d.]+ s$", lines[1])
    assert lines[2].startswith("3 runs: 1 read, 2 computed in ")
    assert values(compute(runs)) == [2, 1, 2, 0]
    assert executions(counts) == 3
    assert capsys.readouterr().out == "3 runs: all read\n"


def test_by_priority_on_one_thread_and_wide_ones_alone_on_all(run, root, counts):
    runs = [
        run("", run_functions.threads, {"priority": priority, "wide": wide}, value=value)
        for value, (priority, wide) in enumerate([(1, False), (0, True), (0, False)])
    ]
    before = os.environ.copy()
    found = compute(runs, workers=3)
    assert [path.name.split("-")[1] for path in sorted(counts.iterdir())] == ["2", "1", "0"]
    rows = [one.rows[0] for one in found]
    assert [(row["GADAM_THREADS"], row["torch"], row["OMP_NUM_THREADS"]) for row in rows] == [
        ("1", 1, "1"), ("3", 1, "1"), ("1", 1, "1"),
    ]  # fmt: skip
    assert os.environ == before
    assert {"cpu_seconds", "seconds", "stored", "python", "platform", "cpu", "gpu", "git"} <= found[0].metadata.keys()


def failing(run, folder, **given):
    """Of two under way one fails once the other has begun, which ends once the failure is known here."""
    known = folder / "known"
    fails = run("adult · seed 7", run_functions.fails, others=1)
    slow, never = run(until=str(known)), [run(value=value) for value in range(2, 12)]

    def progress(outcome):
        if outcome.error:
            known.touch()

    with pytest.raises(RunError) as info:
        compute([fails, slow, *never], progress=progress, **given)
    return info.value, slow


def test_after_a_failure_runs_under_way_are_kept_and_no_other_is_begun(run, root, counts, folders):
    error, slow = failing(run, folders, workers=2)
    assert str(error) == "run 'adult · seed 7' (test/fails) failed: no such thing as 3"
    assert "run_functions.py" in error.__notes__[0]
    assert stored(root) == [slow.key]
    assert executions(counts) == 2


def test_told_to_keep_going_it_names_every_failure_and_every_death(run, root, folders, capsys):
    fails, dies = run("adult", run_functions.fails), Run(run_functions.dies, {}, label="orl")
    once = Run(run_functions.dies, {"folder": str(folders / "counts"), "times": 0}, label="innocent")
    good = [run(value=value) for value in range(2)]
    with pytest.raises(RunError, match=r"^2 runs failed: .*\(out of memory\?\).* \$GADAM_WORKERS") as info:
        compute([fails, dies, *good, once], workers=2, keep_going=True)
    assert "run 'adult' (test/fails) failed: no such thing as 3" in str(info.value)
    assert "run 'orl' (test/dies) failed: its process died" in str(info.value)
    assert stored(root) == sorted(one.key for one in (*good, once))
    assert capsys.readouterr().out.splitlines()[-1].startswith("5 runs: 0 read, 3 computed in ")


def test_a_run_whose_process_died_once_is_computed_again(folders):
    once = Run(run_functions.dies, {"folder": str(folders / "counts"), "times": 1})
    assert values(compute([once], workers=1)) == [1]


def test_full_disk_in_a_worker_is_a_line_that_says_where(root):
    with pytest.raises(
        RunError, match=rf"^run 'orl' \(test/full_disk\) failed: cannot write {root}/.*; free some spac"
    ):
        compute([Run(run_functions.full_disk, {}, label="orl")], workers=1)
    assert files(root) == {}


SLOW = """
import sys
import run_functions
from gadam.paper.runs import Run
from gadam.paper.report import compute
compute([Run(run_functions.rows, {"folder": sys.argv[1], "value": value}) for value in range(2)]
        + [Run(run_functions.rows, {"folder": sys.argv[1], "value": 2, "until": sys.argv[2]})], workers=1)
"""


def test_killed_in_the_middle_it_goes_on_from_there(run, root, counts, folders):
    import psutil

    gate = folders / "gate"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([HERE, os.environ.get("PYTHONPATH", "")])}
    process = subprocess.Popen([sys.executable, "-c", SLOW, str(counts), str(gate)], env=environment)
    wait_for(lambda: executions(counts) == 3 or process.poll() is not None)
    others = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    wait_for(lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in others))
    before = files(root)
    assert len(before) == 2
    gate.touch()
    runs = [*(run(value=value) for value in range(2)), run(value=2, until=str(gate))]
    assert values(compute(runs, workers=1)) == [0, 1, 2]
    assert executions(counts) == 4
    assert before.items() <= files(root).items()


def test_interrupted_it_stops_at_once_and_leaves_no_half_file(run, root, counts, folders):
    before = set(multiprocessing.active_children())
    thread = threading.Thread(
        target=lambda: (wait_for(lambda: executions(counts) == 2), os.kill(os.getpid(), signal.SIGINT))
    )
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        compute([run(), run(until=str(folders / "never"))], workers=1)
    thread.join()
    assert set(multiprocessing.active_children()) == before
    assert list(files(root)) == [f"{run().key}.json"]


@pytest.mark.parametrize("count", [0, -1, 1.5, "two"])
def test_workers_must_be_a_number_of_workers(run, monkeypatch, count):
    with pytest.raises(InputError, match=f"workers={count!r} .* at least 1"):
        compute([run()], workers=count)
    monkeypatch.setenv("GADAM_WORKERS", str(count))
    with pytest.raises(InputError, match=f"workers='{count}' .* at least 1"):
        compute([run()])


def test_on_a_gpu_the_seeds_of_an_experiment_are_computed_in_one_call(run, counts, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    runs = [run(f"seed {seed}", run_functions.seeded, seed=seed) for seed in (3, 1, 4, 0)]
    found = compute([*runs, run("alone", value=1)], workers=1)
    assert [one.rows for one in found[:-1]] == [[{"seed": seed, "square": seed**2}] for seed in (3, 1, 4, 0)]
    assert executions(counts) == 2
    assert [one.metadata["together"] for one in found] == [4, 4, 4, 4, 1]


def test_progress_says_what_is_left_by_the_expected_seconds(run, capsys):
    one, other, unknown = (run(name, value=value) for value, name in enumerate(("one", "two", "three")))
    progress = Progress(4, 1, {one.key: 5.0, other.key: 15.0}, workers=2)
    progress(Outcome(one, 2.5))
    progress(Outcome(other, error=RunError("it is broken")))
    progress(Outcome(unknown, 1.0))
    assert capsys.readouterr().out.splitlines() == [
        "[2/4] one: 2.5 s, about 8 s left", "[3/4] two: failed: it is broken", "[4/4] three: 1.0 s",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.2, "1 s"), (99, "99 s"), (180, "3 min"), (5_990, "100 min"), (7_200, "2.0 h"), (400_000, "4.6 d")],
)
def test_durations_as_a_reader_says_them(seconds, text):
    assert workers.duration(seconds) == text


# --- a cluster ---

# The client's own threads and sockets end a moment after it is closed.
on_a_cluster = pytest.mark.filterwarnings(
    "ignore:unclosed:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Start a scheduler, and so many workers with an empty data folder, each a process of its own."""
    processes, folder = [], tmp_path_factory.mktemp("cluster")
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([HERE, os.environ.get("PYTHONPATH", "")]),
        "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1",
        "GADAM_DATA": str(folder),
        "GADAM_OFFLINE": "1",
    }

    def begin(module, *arguments):
        command = [sys.executable, "-m", f"distributed.cli.dask_{module}", *arguments, "--no-dashboard"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        processes.append(subprocess.Popen(command, env=environment, **quiet))
        return processes[-1]

    def start(count, *options):
        file = folder / f"scheduler{len(processes)}.json"
        process = begin("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file))
        wait_for(lambda: file.exists() and file.read_text())
        address = json.loads(file.read_text())["address"]
        if count:
            begin("worker", address, "--nworkers", str(count), "--host", "127.0.0.1", *options)
        return address, process

    yield start
    for process in reversed(processes):
        process.terminate()
    for process in processes:
        process.wait(120)


@pytest.fixture(scope="module")
def two_workers(start):
    return start(2, "--nthreads", "1")[0]


@pytest.fixture
def patient(monkeypatch):
    """A machine that does something else for a while is no scheduler that is not there."""
    monkeypatch.setattr(workers, "CONNECT_SECONDS", 120.0)
    monkeypatch.setattr(workers, "WORKERLESS_SECONDS", 300.0)


@pytest.fixture
def scheduler(two_workers, patient):
    """One with two workers: one that an earlier test killed is there again."""
    from distributed import Client

    with Client(two_workers, timeout=120, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=300)
    return two_workers


def content(path):
    """A stored run without what is measured."""
    return {name: value for name, value in json.loads(path.read_text()).items() if name not in ("metadata", "sha256")}


@on_a_cluster
def test_rows_and_files_of_a_cluster_are_those_of_local_workers(scheduler, run, folders):
    runs = [run(f"seed {value}", value=value) for value in (2, 0, 1)]
    runs += [Run(run_functions.threads, {}), Run(run_functions.all_values, {})]
    there = compute(runs, root=folders / "there", scheduler=scheduler)
    assert values(there[:3]) == [2, 0, 1]
    assert (there[3].rows[0]["torch"], there[3].rows[0]["GADAM_THREADS"]) == (1, "1")
    compute([*runs[:3], runs[4]], workers=1, root=folders / "here")
    for path in (folders / "here").iterdir():
        assert content(path) == content(folders / "there" / path.name)
    assert len(compute(runs, root=folders / "there", scheduler="tcp://127.0.0.1:1")) == 5, "all is read"


@on_a_cluster
@pytest.mark.parametrize("times", [1, 99])
def test_a_worker_that_dies_costs_only_its_run_and_a_run_that_kills_them_is_named(scheduler, run, root, folders, times):
    (folders / "deaths").mkdir()
    dies = Run(run_functions.dies, {"folder": str(folders / "deaths"), "times": times}, label="orl", priority=-1)
    others = [run(value=value) for value in range(3)]
    if times == 1:
        compute([dies, *others], scheduler=scheduler)
        assert stored(root) == sorted(one.key for one in (dies, *others))
    else:
        with pytest.raises(RunError, match=r"^run 'orl' \(test/dies\) failed: 2 workers died of it"):
            compute([dies, *others], scheduler=scheduler, keep_going=True)
        assert stored(root) == sorted(one.key for one in others)


@on_a_cluster
def test_a_failing_run_names_its_worker_and_what_is_under_way_is_kept(scheduler, run, root, folders):
    error, slow = failing(run, folders, scheduler=scheduler)
    assert re.search(r"failed: no such thing as 3 \(worker tcp://127\.0\.0\.1:\d+\)$", str(error))
    assert stored(root) == [slow.key]


@on_a_cluster
def test_a_worker_with_other_code_or_data_is_named(scheduler, run, counts, monkeypatch):
    for data, digest, said in (
        ("real", "abc", "yeast: data='real', but it is not in "),
        ("standin", "abc", "its worker has other data of yeast than is here "),
    ):
        wanted = Run(run_functions.learned, {"seed": 0, "dataset": "yeast", "data": data}, digest)
        with pytest.raises(RunError, match=rf"failed: {said}.*\(worker tcp://"):
            compute([wanted], scheduler=scheduler)
    monkeypatch.setattr(run_functions.rows, "version", 2)
    with pytest.raises(RunError, match="its worker has another version of gadam; install there"):
        compute([run()], scheduler=scheduler)
    assert executions(counts) == 0


@on_a_cluster
@pytest.mark.usefixtures("patient")
def test_a_scheduler_that_goes_away_leaves_what_is_finished(start, run, root, counts, folders):
    address, process = start(1, "--nthreads", "1")
    runs = [run(), run(until=str(folders / "never"))]
    thread = threading.Thread(target=lambda: (wait_for(lambda: executions(counts) == 2), process.kill()))
    thread.start()
    with pytest.raises(ReportError, match=f"^the scheduler {address} has gone; start it again, and its workers: dask "):
        compute(runs, scheduler=address)
    thread.join()
    assert stored(root) == [runs[0].key]


@on_a_cluster
def test_a_scheduler_without_workers_or_with_busy_ones_or_none_at_all(start, run, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(workers, "WORKERLESS_SECONDS", 0.5)
        address, _ = start(0)
        with pytest.raises(ReportError, match=rf"^{address} has had no workers for .*; start some: dask worker"):
            compute([run()], scheduler=address)
        patch.setattr(workers, "CONNECT_SECONDS", 0.5)
        with pytest.raises(ReportError, match=r"^no scheduler answers at tcp://127\.0\.0\.1:1 within .*; start one"):
            compute([run()], scheduler="tcp://127.0.0.1:1")
    address, _ = start(1, "--nthreads", "2")
    with pytest.raises(RunError, match="its worker has several threads; start it with --nworkers auto --nthreads 1"):
        compute([run()], scheduler=address)


@pytest.mark.parametrize("wrong", ["", "localhost", "tcp://host", "tcp://:8786/", "host:8786"])
def test_scheduler_must_be_an_address_and_distributed_installed(run, monkeypatch, wrong):
    with pytest.raises(InputError, match=f"^scheduler='{wrong}' is not an address; give what the scheduler prints"):
        compute([run()], scheduler=wrong)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"not installed; pip install 'gadam\[distributed\]'$"):
        compute([run()], scheduler="tcp://host:8786")
