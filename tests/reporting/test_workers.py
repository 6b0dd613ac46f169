"""Runs are computed once, in order, here or by a cluster; failures, deaths and interrupts cost no other run."""

import json
import os
import re
import sys
import threading
from types import SimpleNamespace

import pytest
import run_functions
from loopback import loopback
from run_functions import executions, wait_for

from gadam import InputError
from gadam.display import duration
from gadam.paper.report import store, workers
from gadam.paper.report.paths import ReportError
from gadam.paper.report.workers import compute
from gadam.paper.runs import Run


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
    assert values(compute(runs, workers=1, seconds={runs[3].key: 120.0})) == [2, 1, 2, 0]
    assert executions(counts) == 3
    lines = capsys.readouterr().out.splitlines()
    assert re.match(r"\[2/3\] letter · seed 2: [\d.]+ s, about 2 min left$", lines[0])
    assert re.match(r"\[3/3\] letter · seed 0: [\d.]+ s$", lines[1])
    assert lines[2].startswith("3 runs: 1 read, 2 computed in ")
    assert values(compute(runs)) == [2, 1, 2, 0]
    assert executions(counts) == 3
    assert capsys.readouterr().out == "3 runs: all read\n"


def test_the_time_left_goes_by_the_workers_that_a_cluster_has(run, monkeypatch, capsys):
    monkeypatch.setattr(workers, "_Cluster", lambda scheduler, limit: workers._Processes(1))
    runs = [run(value=value) for value in (0, 1)]
    compute(runs, scheduler="tcp://host:8786", seconds={runs[1].key: 180.0})
    assert ", about 3 min left" in capsys.readouterr().out


def test_by_priority_on_one_thread_and_wide_ones_alone_on_all(run, root, counts):
    runs = [
        run("", run_functions.threads, {"priority": priority, "wide": wide}, value=value)
        for value, (priority, wide) in enumerate([(1, False), (0, True), (0, False)])
    ]
    before = os.environ.copy()
    found = compute(runs, workers=2)
    assert [path.name.split("-")[1] for path in sorted(counts.iterdir())] == ["2", "1", "0"]
    rows = [one.rows[0] for one in found]
    assert [(row["GADAM_THREADS"], row["torch"], row["OMP_NUM_THREADS"]) for row in rows] == [
        ("1", 1, "1"), ("2", 1, "1"), ("1", 1, "1"),
    ]  # fmt: skip
    assert os.environ == before
    assert {"cpu_seconds", "seconds", "stored", "python", "platform", "cpu", "gpu", "git"} <= found[0].metadata.keys()


def test_after_a_failure_runs_under_way_are_kept_and_no_other_is_begun(run, root, counts, folders, monkeypatch):
    """Of two under way one fails once the other has begun, which ends once the failure is known here."""
    known, told = folders / "known", workers._run_error
    monkeypatch.setattr(workers, "_run_error", lambda *failure: (known.touch(), told(*failure))[1])
    fails, slow = run("adult · seed 7", run_functions.fails, others=1), run(until=str(known))
    with pytest.raises(ReportError) as info:
        compute([fails, slow, *(run(value=value) for value in range(2, 12))], workers=2)
    assert str(info.value) == "run 'adult · seed 7' (test/fails) failed: AwkwardError: first line"
    assert "run_functions.py" in info.value.__notes__[0]
    assert stored(root) == [slow.key]
    assert executions(counts) == 2


def test_told_to_go_on_every_failure_and_every_death_is_named_and_costs_no_other_run(run, root, capsys):
    full = Run(run_functions.full_disk, {}, label="orl", priority=1)  # its process writes nothing any more
    bad = [run("adult", run_functions.fails), Run(run_functions.dies, {}, label="letter"), full]
    good, failures = [run(value=value) for value in (0, 1)], []
    assert values(compute([*bad, *good], workers=2, failures=failures)) == [0, 1]
    adult, letter, orl = sorted(map(str, failures))
    assert adult == "run 'adult' (test/fails) failed: AwkwardError: first line"
    assert letter.startswith("run 'letter' (test/dies) failed: its process died (out of memory?)")
    assert orl.startswith(f"run 'orl' (test/full_disk) failed: cannot write {store.path_of(root, full.key)}: No space")
    assert stored(root) == sorted(one.key for one in good)
    assert capsys.readouterr().out.splitlines()[-1].startswith("5 runs: 0 read, 2 computed in ")


@pytest.mark.parametrize("count", [0, 1.5, "two"])
def test_workers_must_be_a_number_of_workers(run, monkeypatch, count):
    with pytest.raises(InputError, match=f"workers={count!r} .* at least 1"):
        compute([run()], workers=count)
    monkeypatch.setenv("GADAM_WORKERS", str(count))
    with pytest.raises(InputError, match=f"GADAM_WORKERS='{count}' .* at least 1"):
        compute([run()])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.2, "1 s"), (99, "99 s"), (180, "3 min"), (5_990, "100 min"), (7_200, "2.0 h"), (400_000, "4.6 d")],
)
def test_durations_as_a_reader_says_them(seconds, text):
    assert duration(seconds) == text


# --- a cluster ---

# The client's own threads and sockets end a moment after it is closed.
on_a_cluster = pytest.mark.filterwarnings(
    "ignore:unclosed:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(scope="module")
def cluster(context, tmp_path_factory):
    """A scheduler, and two workers with an empty data folder."""
    given = {"GADAM_DATA": str(tmp_path_factory.mktemp("data")), "GADAM_OFFLINE": "1"}
    with loopback(context, 2, DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="1", **given) as here:
        yield here


@pytest.fixture
def scheduler(cluster, monkeypatch):
    """The address of one with two workers: for one that an earlier test killed there is another."""
    # A machine that does something else for a while is no scheduler that is not there.
    monkeypatch.setattr(workers, "CONNECT_SECONDS", 120.0)
    monkeypatch.setattr(workers, "WORKERLESS_SECONDS", 300.0)
    for _ in range(2 - sum(worker.is_alive() for worker in cluster.workers)):
        cluster.add_worker()
    cluster.client.wait_for_workers(2, timeout=300)
    return cluster.client.scheduler.address


def content(path):
    """A stored run without what is measured."""
    return {name: value for name, value in json.loads(path.read_text()).items() if name not in ("metadata", "sha256")}


@on_a_cluster
def test_rows_and_files_of_a_cluster_are_those_of_this_process(scheduler, run, folders):
    runs = [run(f"seed {value}", value=value) for value in (2, 0, 1)]
    runs += [Run(run_functions.threads, {}), Run(run_functions.all_values, {})]
    there = compute(runs, root=folders / "there", scheduler=scheduler)
    assert values(there[:3]) == [2, 0, 1]
    assert (there[3].rows[0]["torch"], there[3].rows[0]["GADAM_THREADS"]) == (1, "1")
    for one in (*runs[:3], runs[4]):
        store.execute_and_write(folders / "here", one)
        paths = (store.path_of(folders / place, one.key) for place in ("here", "there"))
        assert len({json.dumps(content(path)) for path in paths}) == 1
    assert len(compute(runs, root=folders / "there", scheduler="tcp://127.0.0.1:1")) == 5, "all is read"


@on_a_cluster
def test_a_worker_that_dies_costs_only_its_run_and_what_fails_or_kills_them_is_named(
    cluster, scheduler, run, root, folders
):
    once, always = (
        Run(run_functions.dies, {"folder": str(folders / name), "times": times}, label=name, priority=-1)
        for name, times in (("once", 1), ("always", 99))
    )
    for name in ("once", "always"):
        (folders / name).mkdir()
    others, failures = [run(value=value) for value in range(3)], []
    assert len(compute([once, *others], scheduler=scheduler)) == 4
    cluster.add_worker()
    cluster.client.wait_for_workers(2, timeout=300)
    # Each alone: a run that waits at a worker that dies of another one counts as suspicious, too.
    for bad in (run("adult", run_functions.fails), always):
        assert compute([bad], scheduler=scheduler, failures=failures) == []
    assert stored(root) == sorted(one.key for one in (once, *others))
    adult, killer = map(str, failures)
    assert re.search(r"^run 'adult' .* failed: AwkwardError: first line \(worker tcp://127\.0\.0\.1:\d+\)$", adult)
    assert killer.startswith("run 'always' (test/dies) failed: 2 workers died of it")


@on_a_cluster
def test_a_worker_with_other_code_or_data_is_named(scheduler, run, counts, monkeypatch):
    for data, said in (("real", "yeast: data='real', but it is not in "), ("standin", "its worker has other data of")):
        wanted = Run(run_functions.learned, {"seed": 0, "dataset": "yeast", "data": data}, "abc")
        with pytest.raises(ReportError, match=rf"failed: {said}.*\(worker tcp://"):
            compute([wanted], scheduler=scheduler)
    monkeypatch.setattr(run_functions.rows, "version", 2)
    with pytest.raises(ReportError, match="its worker has another version of gadam; install there"):
        compute([run()], scheduler=scheduler)
    assert executions(counts) == 0


def test_a_worker_of_several_threads_is_refused(run, monkeypatch):
    threads = SimpleNamespace(address="tcp://host:1", state=SimpleNamespace(nthreads=2))
    monkeypatch.setattr(workers, "_worker", lambda: threads)
    with pytest.raises(ReportError, match="its worker has several threads; start it with --nworkers auto --nthreads 1"):
        workers._check_worker(run(), run().key)


@on_a_cluster
def test_a_scheduler_that_goes_away_leaves_what_is_finished(cluster, scheduler, run, root, counts, folders):
    """The last test of the cluster, which is not there afterwards."""
    runs = [run(), run(until=str(folders / "never"))]
    thread = threading.Thread(target=lambda: (wait_for(lambda: executions(counts) == 2), cluster.scheduler.kill()))
    thread.start()
    with pytest.raises(ReportError, match=f"^the scheduler {scheduler} has gone; start it again, and its workers"):
        compute(runs, workers=1, scheduler=scheduler)  # one after the other
    thread.join()
    assert stored(root) == [runs[0].key]


@on_a_cluster
def test_a_scheduler_without_workers_or_none_at_all(context, run, monkeypatch):
    monkeypatch.setattr(workers, "CONNECT_SECONDS", 120.0)
    monkeypatch.setattr(workers, "WORKERLESS_SECONDS", 0.5)
    with loopback(context, 0) as here:
        address = here.client.scheduler.address
        with pytest.raises(ReportError, match=rf"^{address} has had no workers for .*; start some: dask worker"):
            compute([run()], scheduler=address)
    monkeypatch.setattr(workers, "CONNECT_SECONDS", 0.5)
    for unknown in ("tcp://127.0.0.1:1", "carrier-pigeon://host:1"):
        with pytest.raises(ReportError, match=f"^no scheduler answers at {unknown} .*; start one: dask") as info:
            compute([run()], scheduler=unknown)
        assert "\n" not in str(info.value)


def test_scheduler_must_be_an_address_and_distributed_installed(run, monkeypatch):
    with pytest.raises(InputError, match=r"^scheduler=.localhost. is not an address; give what it prints"):
        compute([run()], scheduler="localhost")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"not installed; pip install 'gadam\[distributed\]'$"):
        compute([run()], scheduler="tcp://host:8786")
