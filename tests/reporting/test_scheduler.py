import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import run_functions

from gadam import InputError
from gadam.paper.report import ReportError, RunError, cluster, compute
from gadam.paper.report.workers import Failure
from gadam.paper.runs import Run

pytest.importorskip("distributed")

# The client's own threads and sockets end a moment after it is closed.
pytestmark = pytest.mark.filterwarnings(
    "ignore:unclosed:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Start a scheduler, and so many workers with an empty data folder, each a process of its own."""
    processes = []
    folder = tmp_path_factory.mktemp("cluster")
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
        "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1",
        "DASK_DISTRIBUTED__SCHEDULER__IDLE_TIMEOUT": "1 hour",
        "GADAM_DATA": str(folder),
        "GADAM_OFFLINE": "1",
    }

    def run(module, *arguments):
        command = [sys.executable, "-m", f"distributed.cli.dask_{module}", *arguments, "--no-dashboard"]
        processes.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )
        return processes[-1]

    def start(workers, *options):
        file = folder / f"scheduler{len(processes)}.json"
        process = run("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file))
        wait_for(lambda: file.exists() and file.read_text())
        address = json.loads(file.read_text())["address"]
        if workers:
            run("worker", address, "--nworkers", str(workers), "--host", "127.0.0.1", *options)
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
def scheduler(two_workers):
    """One with two workers: what an earlier test killed is there again."""
    from distributed import Client

    with Client(two_workers, timeout=120, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=300)
    return two_workers


@pytest.fixture(autouse=True)
def patient():
    """A machine that does something else for a while is no scheduler that is not there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "CONNECT_SECONDS", 120.0)
        patch.setattr(cluster, "WORKERLESS_SECONDS", 300.0)
        yield


@pytest.fixture
def counts(tmp_path):
    (tmp_path / "counts").mkdir()
    return tmp_path / "counts"


def run(counts, label="", function=run_functions.rows, **config):
    return Run(function, {"folder": str(counts), **config}, label=label)


def stored(root):
    contents = {path.name: json.loads(path.read_text()) for path in root.iterdir()}
    measured = ("metadata", "sha256")  # seconds, and what is computed from them
    return {name: {key: value for key, value in one.items() if key not in measured} for name, one in contents.items()}


def test_rows_and_files_are_those_of_local_workers(scheduler, counts, tmp_path, capsys):
    runs = [run(counts, f"seed {value}", value=value) for value in (2, 0, 1)]
    runs += [Run(run_functions.threads, {}), Run(run_functions.all_values, {})]
    there = compute(runs, root=tmp_path / "there", scheduler=scheduler)
    assert [one.rows[0] for one in there[:3]] == [{"value": value, "part": 0} for value in (2, 0, 1)]
    assert (there[3].rows[0]["torch"], there[3].rows[0]["OMP_NUM_THREADS"]) == (1, "1")
    assert there[3].metadata["torch"]["threads"] == 1
    lines = capsys.readouterr().out.splitlines()
    assert {re.sub(r"\[./5\] |: .*", "", line) for line in lines[:3]} <= {
        run.label or run.function.name for run in runs
    }
    assert lines[-1].startswith("5 runs: 0 read, 5 computed in ")

    compute(runs, workers=1, root=tmp_path / "here")
    for key, one in stored(tmp_path / "here").items():
        if one["identity"]["run"] != "test/threads":  # whose environment is another
            assert stored(tmp_path / "there")[key] == one
    assert len(list(counts.iterdir())) == 6
    compute(runs, root=tmp_path / "there", scheduler="tcp://127.0.0.1:1")  # all is read, so nobody is asked
    assert capsys.readouterr().out.endswith("5 runs: all read\n")


def test_dying_worker_costs_only_its_run(scheduler, counts, tmp_path):
    once = run(counts, function=run_functions.dies_once)
    others = tmp_path / "others"
    others.mkdir()
    runs = [once, *(run(others, value=value) for value in range(3))]
    rows = [one.rows[0]["value"] for one in compute(runs, root=tmp_path / "runs", scheduler=scheduler)]
    assert rows == [1, 0, 1, 2]
    assert len(list(counts.iterdir())) == 2


def test_run_that_kills_its_workers_is_named_and_the_others_are_computed(scheduler, counts, tmp_path):
    dies = Run(run_functions.dies, {}, label="orl", priority=-1)
    with pytest.raises(RunError, match=r"^run 'orl' \(test/dies\) failed: 2 workers died of it, one after "):
        compute([run(counts), dies, run(counts, value=1)], root=tmp_path / "runs", scheduler=scheduler, keep_going=True)
    assert len(stored(tmp_path / "runs")) == 2


def test_failing_run_names_its_worker_and_what_is_under_way_is_kept(scheduler, counts, tmp_path):
    """It fails when the other has begun, which ends when the failure is known here."""
    known = tmp_path / "known"
    fails = run(counts, "adult", run_functions.fails, others=1)
    slow, never = run(counts, until=str(known)), [run(counts, value=value) for value in range(2, 12)]

    def progress(done):
        if isinstance(done, Failure):
            known.touch()

    with pytest.raises(RunError) as info:
        compute([fails, slow, *never], root=tmp_path / "runs", scheduler=scheduler, progress=progress)
    worker = r"\(worker tcp://127\.0\.0\.1:\d+\)"
    assert re.fullmatch(rf"run 'adult' \(test/fails\) failed: no such thing as 3 {worker}", str(info.value))
    assert list(stored(tmp_path / "runs")) == [f"{slow.key}.json"]
    assert len(list(counts.iterdir())) == 2, "those that had begun"


def test_worker_with_other_code_or_data_is_named(scheduler, counts, tmp_path, monkeypatch):
    worker = r"\(worker tcp://127\.0\.0\.1:\d+\)"
    for data, digest, said in (
        ("real", "abc", "yeast: data='real', but it is not in "),
        ("standin", "abc", "its worker has other data of yeast than is here "),
    ):
        wanted = Run(run_functions.learned, {"seed": 0, "dataset": "yeast", "data": data}, digest)
        with pytest.raises(RunError, match=f"failed: {said}.*{worker}"):
            compute([wanted], root=tmp_path / "runs", scheduler=scheduler)
    monkeypatch.setattr(run_functions.rows, "version", 2)
    with pytest.raises(RunError, match=f"failed: its worker has another version of gadam; install there .*{worker}"):
        compute([run(counts)], root=tmp_path / "runs", scheduler=scheduler)
    assert list(counts.iterdir()) == []


def test_scheduler_that_goes_away_leaves_what_is_finished(start, counts, tmp_path):
    address, process = start(1, "--nthreads", "1")
    runs = [run(counts), run(counts, until=str(tmp_path / "never"))]
    thread = threading.Thread(target=lambda: (wait_for(lambda: len(list(counts.iterdir())) == 2), process.kill()))
    thread.start()
    with pytest.raises(ReportError, match=f"^the scheduler {address} has gone; start it again, and its workers: dask "):
        compute(runs, root=tmp_path / "runs", scheduler=address)
    thread.join()
    assert list(stored(tmp_path / "runs")) == [f"{runs[0].key}.json"]


def test_scheduler_without_workers_or_with_those_that_compute_several_at_once(start, counts, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "WORKERLESS_SECONDS", 0.5)
    address, _ = start(0)
    with pytest.raises(
        ReportError, match=rf"^{address} has had no workers for 0\.5 s; start some: dask worker {address}"
    ):
        compute([run(counts)], root=tmp_path / "runs", scheduler=address)
    monkeypatch.undo()
    address, _ = start(1, "--nthreads", "2")
    with pytest.raises(RunError, match="its worker has several threads; start it with --nworkers auto --nthreads 1"):
        compute([run(counts)], root=tmp_path / "runs", scheduler=address)


def test_scheduler_that_cannot_be_reached(counts, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.5)
    level = logging.getLogger("distributed.client").level
    with pytest.raises(ReportError, match=r"^no scheduler answers at tcp://127\.0\.0\.1:1 within 0\.5 s; start one"):
        compute([run(counts)], root=tmp_path / "runs", scheduler="tcp://127.0.0.1:1")
    assert logging.getLogger("distributed.client").level == level


def test_scheduler_must_be_an_address_and_distributed_installed(counts, tmp_path, monkeypatch):
    for wrong in ("", "localhost", "tcp://host", "tcp://:8786/", "host:8786"):
        with pytest.raises(InputError, match=f"^scheduler='{wrong}' is not an address; give what the scheduler prints"):
            compute([run(counts)], root=tmp_path / "runs", scheduler=wrong)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"not installed; pip install 'gadam\[distributed\]'$"):
        compute([run(counts)], root=tmp_path / "runs", scheduler="tcp://host:8786")


def wait_for(condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
