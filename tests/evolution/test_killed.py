"""A training that is killed at a random moment goes on, and the result is that of a training nobody killed.

One kill of each executor; `make campaign` has GADAM_KILLS=50.
"""

import importlib
import json
import os
import random
import re
import signal

import pytest

from gadam import storage

KILLS = int(os.environ.get("GADAM_KILLS", 1))


@pytest.fixture(scope="module")
def killed():
    """Imported here and not by whoever collects tests, for it takes seconds."""
    pytest.importorskip("distributed")
    return importlib.import_module("killed")


@pytest.fixture(scope="module")
def start(killed, context, tmp_path_factory):
    """Train in a process of its own: its exit code, and what it answers."""

    def train(where, scheduler, path, *moment):
        answer = tmp_path_factory.mktemp("answer") / "answer"
        process = context.Process(target=killed.train, args=(where, scheduler, path, answer, *moment))
        process.start()
        process.join()
        return process.exitcode, json.loads(answer.read_text()) if answer.exists() else None

    return train


@pytest.fixture(scope="module")
def expected(start, killed):
    code, (digest, steps) = start("threads", None, None)
    assert (code, steps) == (0, killed.WHOLE)
    return digest


@pytest.fixture(scope="module")
def scheduler():
    from distributed import LocalCluster

    # Its workers are threads here: nobody kills them, and processes would import torch for seconds.
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, protocol="tcp://", dashboard_address=":0"
    ) as cluster:
        yield cluster.scheduler_address


def steps_kept(path, config):
    """Steps of units that a checkpoint holds: of complete generations, of trained shards, and of those begun."""
    facts, tensors = storage.read(path, "checkpoint")
    begun = sum(int(steps.sum()) for name, steps in tensors.items() if re.fullmatch(r"(parents|parts)/\d+/steps", name))
    return 2 * config.population_size * (facts["generation"] - 1) * config.steps + begun


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("where", ["threads", "loky", "dask"])
def test_killed_at_a_random_moment_it_goes_on_bit_by_bit(where, start, killed, expected, request, tmp_path):
    address = request.getfixturevalue("scheduler") if where == "dask" else None
    chance = random.Random(where)
    for kill in range(KILLS):
        path, moment, later = tmp_path / f"state {kill}", chance.randrange(killed.WHOLE), chance.uniform(0, 0.1)
        assert start(where, address, path, moment, later) == (-signal.SIGKILL, None)
        kept = steps_kept(path, killed.CONFIG)
        assert kept > 0
        assert start(where, address, path) == (0, [expected, killed.WHOLE - kept]), f"kill {kill}, after {moment} steps"
