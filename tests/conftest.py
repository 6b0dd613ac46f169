"""What the tests share: their small modules (zoo.py), also in other processes, and one pool of such processes."""

import multiprocessing
import os
import signal
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import forkserver
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# multiprocessing hands sys.path to the processes that it starts.
sys.path.insert(0, str(Path(__file__).parent))

# Read when torch is imported. Workers of pytest share the cores: a thread of OpenMP that spins keeps another from them.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


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
def draws_do_not_depend_on_tests_before():
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture(autouse=True)
def figures_are_closed():
    """pyplot keeps what a section draws, as a notebook wants it; the next test must not find it there."""
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")


@pytest.fixture
def gadam(monkeypatch, capsys):
    """Exit status, output and complaints of the console command."""
    monkeypatch.setenv("GADAM_OFFLINE", "1")

    def run(*arguments):
        from gadam import cli

        monkeypatch.setattr(sys, "argv", ["gadam", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return stopped.value.code or 0, *capsys.readouterr()

    return run


@pytest.fixture(scope="session")
def context():
    """Starts processes that share nothing with this one, by a server that has imported torch once for all of them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["zoo", "gadam.evolution.loop", "torch._dynamo", "killed"])
    with pytest.MonkeyPatch.context() as patch:  # the server does not know pytest's sys.path, and would say nothing
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        forkserver.ensure_running()
    return context


@pytest.fixture(scope="session")
def processes(context):
    """A pool of two processes, which all tests of a worker share."""
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        yield pool
