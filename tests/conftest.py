"""What the tests share: their small modules (zoo.py), also in spawned processes, and one pool of such processes."""

import multiprocessing
import signal
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# multiprocessing hands sys.path to the processes that it spawns.
sys.path.insert(0, str(Path(__file__).parent))


# How long an example takes says something of the machine, and of whatever else it does.
settings.register_profile("unhurried", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.fixture(autouse=True, scope="session")
def interrupts_are_heard():
    """A process that a shell put into the background ignores SIGINT from its start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def figures_are_closed():
    """pyplot keeps what a section draws, as a notebook wants it; the next test must not find it there."""
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")


@pytest.fixture(scope="session")
def processes():
    """A pool of two spawned processes, which all tests of a worker share."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool
