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

from gadam import InputError
from gadam.experiments.runs import Run
from gadam.reporting import store
from gadam.reporting.machine import THREAD_VARIABLES
from gadam.reporting.workers import RunError, compute


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "engine_fingerprint", lambda: "engine")  # whatever is edited while these tests run
    (tmp_path / "counts").mkdir()
    return tmp_path


def run(root, label="", function="rows", **config):
    return Run(f"run_functions:{function}", {"folder": str(root / "counts"), **config}, label=label)


def executions(root):
    return len(list((root / "counts").iterdir()))


def stored(root):
    return [path for path in (root / "runs").glob("*") if not path.name.startswith(".")]


def test_each_run_is_computed_once_and_in_order(root, capsys):
    runs = [run(root, label=f"letter · seed {value}", value=value) for value in (2, 1, 2, 0)]
    store.execute_and_write(root / "runs", store.keys(runs)[1], runs[1])
    assert [item.rows[0]["value"] for item in compute(runs, workers=1, root=root / "runs")] == [2, 1, 2, 0]
    assert executions(root) == 3
    lines = capsys.readouterr().out.splitlines()
    assert [line[: line.rindex(":")] for line in lines[:2]] == ["[2/3] letter · seed 2", "[3/3] letter · seed 0"]
    assert lines[2].startswith("3 runs: 1 read, 2 computed in ")

    assert [item.rows[0]["value"] for item in compute(runs, root=root / "runs")] == [2, 1, 2, 0]
    assert executions(root) == 3
    assert capsys.readouterr().out == "3 runs: all read\n"


def test_worker_computes_on_one_thread_says_on_what_and_old_rubbish_goes(root):
    left = [root / "runs" / f".{name}.json.1.tmp" for name in "ab"]  # by writers that were killed
    left[0].parent.mkdir()
    for path, days in zip(left, (2, 0), strict=True):
        path.touch()
        os.utime(path, (time.time() - days * 86_400,) * 2)
    before = os.environ.get("OMP_NUM_THREADS")
    (one,) = compute([Run("run_functions:threads", {})], root=root / "runs")
    assert one.rows == [{"torch": 1, "environment": "1"}]
    assert os.environ.get("OMP_NUM_THREADS") == before
    assert one.metadata["torch"]["threads"] == 1
    assert one.metadata["packages"]["gadam"]
    assert {"seconds", "stored", "python", "platform", "cpu", "gpu", "cores", "git"} <= one.metadata.keys()
    assert [path.exists() for path in left] == [False, True]


def test_failing_run_is_named_and_the_others_are_kept(root):
    runs = [run(root, value=1), run(root, label="adult · seed 7", function="fails")]
    with pytest.raises(RunError) as info:
        compute(runs, workers=1, root=root / "runs")
    assert str(info.value) == "run 'adult · seed 7' (run_functions:fails) failed: no such thing as 3"
    assert "run_functions.py" in info.value.__notes__[0]
    assert len(stored(root)) == 1
    assert store.read(root / "runs", store.keys(runs)[0], runs[0]).rows[0]["value"] == 1


def test_dying_worker_is_an_error_that_says_so(root):
    with pytest.raises(RunError, match=r"^a worker process died \(out of memory\?\); not finished: orl, "):
        compute([Run("run_functions:dies", {}, label="orl"), run(root)], workers=1, root=root / "runs")
    assert stored(root) == []


SLOW = """
import sys
from gadam.experiments.runs import Run
from gadam.reporting import store, workers
from pathlib import Path
store.engine_fingerprint = lambda: "engine"
counts, runs = sys.argv[1:]
todo = [Run("run_functions:rows", {"folder": counts, "value": value, "seconds": value / 2}) for value in range(4)]
workers.compute(todo, workers=1, root=Path(runs))
"""


def test_killed_in_the_middle_it_goes_on_from_there(root, monkeypatch):
    command = [sys.executable, "-c", SLOW, str(root / "counts"), str(root / "runs")]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    wait_for(lambda: executions(root) == 3)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    wait_for(lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in workers))
    before = {path: path.stat().st_mtime_ns for path in stored(root)}
    assert len(before) == 2
    for path in before:
        json.loads(path.read_text())

    for name in THREAD_VARIABLES:
        monkeypatch.setenv(name, "1")  # two threads must not restore it for each other
    runs = [run(root, value=value, seconds=value / 2) for value in range(4)]
    with ThreadPoolExecutor(2) as pool:  # two that compute into one folder at once
        both = [pool.submit(compute, runs, workers=1, root=root / "runs") for _ in range(2)]
    for future in both:
        assert [item.rows[0]["value"] for item in future.result()] == [0, 1, 2, 3]
    assert 5 <= executions(root) <= 7
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
        compute([run(root), run(root, seconds=60)], workers=1, root=root / "runs")
    thread.join()
    assert set(multiprocessing.active_children()) == before
    assert list((root / "runs").iterdir()) == stored(root)
    assert len(stored(root)) == 1


@pytest.mark.parametrize("workers", [0, -1, 1.5, "two"])
def test_workers_must_be_a_number_of_workers(root, workers):
    with pytest.raises(InputError, match=f"workers={workers!r} is not allowed; it must be a whole number, at least 1"):
        compute([run(root)], workers=workers, root=root / "runs")


def test_workers_from_the_environment(root, monkeypatch):
    monkeypatch.setenv("GADAM_WORKERS", "many")
    with pytest.raises(InputError, match="workers='many' is not allowed"):
        compute([run(root)], root=root / "runs")


def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def seeded(root, *seeds, **config):
    return [
        Run("run_functions:seeded", {"folder": str(root / "counts"), "seed": seed, **config}, label=f"seed {seed}",
            together="run_functions:seeded_all")
        for seed in seeds
    ]  # fmt: skip


@pytest.mark.parametrize(("gpu", "calls"), [(False, 5), (True, 2)])
def test_on_a_gpu_the_seeds_of_an_experiment_are_computed_in_one_call(gpu, calls, root, monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    alone = run(root, label="alone", value=1)  # which cannot be computed with others
    runs = [*seeded(root, 3, 1, 4, 0), alone]
    found = compute(runs, workers=1, root=root / "runs")
    assert [item.rows for item in found[:-1]] == [[{"seed": seed, "square": seed**2}] for seed in (3, 1, 4, 0)]
    assert executions(root) == calls
    assert [item.metadata["together"] for item in found] == [*[4 if gpu else 1] * 4, 1]
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines[:4]] == [
        f"[{n}/5] seed {s}" for n, s in enumerate((3, 1, 4, 0), 1)
    ]
    assert len(stored(root)) == 5


def test_runs_of_other_settings_or_another_dataset_are_computed_apart(root, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    runs = [*seeded(root, 0, 1), *seeded(root, 0, 1)]
    kin = {each.kin() for each in runs}
    other = Run(**{**vars(runs[0]), "data_hash": "abc"})
    apart = Run(**{**vars(runs[0]), "config": {**runs[0].config, "steps": 3}})
    assert len(kin) == 1
    assert len({*kin, other.kin(), apart.kin()}) == 3
