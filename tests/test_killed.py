"""A training that is killed at a random moment, and goes on: the result is that of a training nobody killed.

One kill each in the ordinary test run, `GADAM_KILLS=50` makes it as many; `make campaign` does, and notes the outcome.
"""

import contextlib
import importlib
import multiprocessing
import os
import random
import re
import signal
import sys
import time
from multiprocessing import forkserver

import pytest
from loopback import loopback

from gadam import storage

KILLS = int(os.environ.get("GADAM_KILLS", 1))
ENOUGH = 0.8  # share of the kills that must leave some training to go on from


@pytest.fixture(scope="module")
def killed():
    """Imported here and not by whoever collects tests, for it takes seconds."""
    pytest.importorskip("distributed")
    return importlib.import_module("killed")


@pytest.fixture(scope="module")
def processes():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "killed"])
    with pytest.MonkeyPatch.context() as patch:  # the server does not know pytest's sys.path, and would say nothing
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        forkserver.ensure_running()
    return context


@pytest.fixture(scope="module")
def start(processes, killed):
    """Start a training: the process, and how many steps of units it has taken."""

    def begun(*given):
        steps = processes.RawValue("q", 0)
        process = processes.Process(target=killed.train, args=(*given, steps))
        process.start()
        return process, steps

    return begun


@pytest.fixture(scope="module")
def scheduler():
    """Of three worker processes on this machine."""
    with loopback(3) as here:
        yield here.client.scheduler.address


@pytest.fixture(scope="module")
def expected(start, tmp_path_factory):
    """What comes out on threads when nobody kills it and no checkpoint is kept, and after how many steps of units."""
    found = {}

    def of(name):
        if name not in found:
            answer = tmp_path_factory.mktemp("expected") / name
            process, steps = start(name, "threads", None, None, answer)
            process.join()
            assert process.exitcode == 0
            found[name] = answer.read_text(), steps.value
        return found[name]

    return of


def steps_kept(path, config):
    """Steps of units that a checkpoint holds: of complete generations, trained parts, and parts that are begun."""
    facts, tensors = storage.read(path, "checkpoint")
    units = 2 * config.population_size * (facts["generation"] - 1)
    units += sum(size for state, size, _ in (*facts["parents"], *facts["parts"]) if state == "trained")
    begun = sum(int(steps.sum()) for name, steps in tensors.items() if re.fullmatch(r"parts/\d+/steps", name))
    return units * config.steps + begun


def killed_at(process, reached, seconds):
    """Kill a training, and its processes, so many seconds after it has reached something; whether it was in time."""
    while process.is_alive() and not reached():
        time.sleep(0.005)
    time.sleep(seconds)
    with contextlib.suppress(ProcessLookupError):  # it is over
        os.killpg(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("where", ["threads", "loky", "dask"])
@pytest.mark.parametrize("name", ["mlp", "lenet"])
def test_killed_at_a_random_moment_it_goes_on_bit_by_bit(
    name, where, killed, start, expected, request, tmp_path, record_property
):
    address = request.getfixturevalue("scheduler") if where == "dask" else None
    outcome, whole = expected(name)
    chance = random.Random(f"{name} {where}")
    kills = went_on = 0
    for attempt in range(2 * KILLS + 15):  # some come too late
        path, answer = tmp_path / f"state {attempt}", tmp_path / f"answer {attempt}"
        process, steps = start(name, where, address, path, answer)
        # At any step, and later by up to a pause, for steps that are taken elsewhere are told of at pauses.
        moment, later = chance.randrange(whole), chance.uniform(0, killed.INTERVAL)
        if not killed_at(process, lambda steps=steps, moment=moment: steps.value > moment, later) or answer.exists():
            continue
        kept = steps_kept(path, killed.RUNS[name][-1])
        process, steps = start(name, where, address, path, answer)
        process.join()
        assert process.exitcode == 0
        assert answer.read_text() == outcome, f"kill {kills}"
        assert steps.value == whole - kept, f"kill {kills}: steps that were kept are not taken again"
        kills += 1
        went_on += kept > 0
        # Of a few kills all may come before the first checkpoint; then there are some more.
        if kills >= KILLS and (went_on >= round(ENOUGH * KILLS) or kills == KILLS + 5):
            break
    assert kills >= KILLS
    assert went_on >= round(ENOUGH * KILLS)
    for fact, value in {"kills": kills, "from_checkpoint": went_on, "identical": kills}.items():
        record_property(fact, value)
