"""A training that is killed at a random moment, and goes on: the result is that of a training nobody killed.

One kill each in the ordinary test run; `GADAM_KILLS=50 pytest tests/test_killed.py -s` is the whole campaign.
"""

import multiprocessing
import os
import random
import sys
import time
from multiprocessing import forkserver

import pytest

from gadam.bench.loopback import loopback

KILLS = int(os.environ.get("GADAM_KILLS", 1))
pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def processes():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["killed"])
    with pytest.MonkeyPatch.context() as patch:  # the server does not know pytest's sys.path, and would say nothing
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        forkserver.ensure_running()
    return context


@pytest.fixture(scope="module")
def scheduler():
    """Of three worker processes on this machine."""
    with loopback(3) as here:
        yield here.client.scheduler.address


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("where", ["threads", "dask"])
@pytest.mark.parametrize("name", ["mlp", "lenet"])
def test_killed_at_a_random_moment_it_goes_on_bit_by_bit(name, where, processes, request, tmp_path):
    address = request.getfixturevalue("scheduler") if where == "dask" else None
    chance = random.Random(f"{name} {where}")

    def run(path, answer, seconds=None):
        """Until its end, or until it is killed."""
        import killed

        process = processes.Process(target=killed.train, args=(name, address, path, str(answer)))
        process.start()
        process.join(seconds)
        if process.is_alive():
            process.kill()
        process.join()
        assert seconds is not None or process.exitcode == 0

    run(None, tmp_path / "first")  # the server has imported everything after that
    began = time.perf_counter()
    run(None, tmp_path / "expected")
    length = time.perf_counter() - began
    expected = (tmp_path / "expected").read_text()
    went_on = 0
    for kill in range(KILLS):
        path, answer = tmp_path / f"state {kill}", tmp_path / f"answer {kill}"
        run(str(path), answer, chance.uniform(0.1, 1.1) * length)
        went_on += path.exists() and not answer.exists()
        run(str(path), answer)
        assert answer.read_text() == expected, f"kill {kill}"
    print(f"{name} on {where}: {KILLS} of {KILLS} as if never killed, {went_on} of them from a checkpoint", end=" ")
