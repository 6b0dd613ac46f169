"""Run functions for the tests of reports. A module of its own, since worker processes import it by name."""

import errno
import os
import signal
import time
import uuid
from pathlib import Path
from unittest.mock import Mock

from gadam.paper.runs import THREADS_VARIABLE, Run, run_function

INF = float("inf")
VALUES = [0.1, 1 / 3, 5e-324, -0.0, 1e308, float("nan"), INF, -INF, 7, True, None, "ä|<b>", [1.5, 2, [-INF]]]
LIMIT = 300.0  # seconds; who waits for longer fails


def wait_for(condition):
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, f"in vain for {LIMIT:g} s"
        time.sleep(0.02)


def count(folder, what=""):
    """Leave a file for each execution."""
    (Path(folder) / f"{time.time_ns()}-{what}-{uuid.uuid4().hex}").touch()


def executions(folder):
    return len(list(Path(folder).iterdir()))


@run_function("test/rows", engine=False, settings=None)
def rows(folder, value=0, until=None):
    """Ends not before a file is there."""
    count(folder, value)
    if until is not None:
        wait_for(Path(until).exists)
    return [{"value": value, "part": part} for part in range(2)]


@run_function("test/all_values", engine=False, settings=None)
def all_values():
    return [{"value": value} for value in VALUES]


@run_function("test/fails", engine=False, settings=None)
def fails(folder, others=0):
    """Fails when so many others have begun."""
    count(folder)
    wait_for(lambda: executions(folder) > others)
    raise AwkwardError("first line", "no such thing as 3")


class AwkwardError(Exception):
    """Pickles, but does not unpickle."""

    def __init__(self, one, two):
        super().__init__(f"{one}\n{two}")


@run_function("test/dies", engine=False, settings=None)
def dies(folder=None, times=99):
    """Ends its process, so many times."""
    if folder is not None:
        count(folder)
    if folder is None or executions(folder) <= times:
        os._exit(9)
    return [{"value": 1}]


@run_function("test/full_disk", engine=False, settings=None)
def full_disk():
    os.fsync = Mock(side_effect=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    return [{"value": 1}]


@run_function("test/threads", engine=False, settings=None)
def threads(folder=None, value=0):
    import torch

    if folder is not None:
        count(folder, value)
    environment = {name: os.environ[name] for name in ("OMP_NUM_THREADS", THREADS_VARIABLE) if name in os.environ}
    return [{"value": value, "torch": torch.get_num_threads(), **environment}]


@run_function("test/standin", engine=False, settings=None)
def standin():
    return [{"seed": 0, "loss": 0.25, "data": "stand-in"}]


@run_function("test/learned", settings=None)
def learned(seed, dataset=None, data=None, size=3):
    """Rows as of a training, of the engine's version."""
    return [{"seed": seed, "step": step, "loss": 1 / (step + seed + 1), "correct": 90 + seed} for step in range(size)]


def learned_runs(seeds=5):
    return [Run(learned, {"seed": seed}, label=f"seed {seed}", arm="test/learned") for seed in range(seeds)]


STEPS_SEEN = []


class Interrupting:
    """Interrupts the process at one of the steps that it sees."""

    def __init__(self, at):
        self.at = at

    def __call__(self, step):
        STEPS_SEEN.append(step.number)
        if len(STEPS_SEEN) == self.at:
            signal.raise_signal(signal.SIGINT)

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


@run_function("test/trains")
def trains(interrupt_at, **settings):
    import torch

    import gadam

    data = torch.arange(12.0).view(6, 2), torch.tensor([0, 1] * 3)
    small = {"population_size": 2, "generations": 2, "steps": 50, "batch_size": 2, "mode": "loop"}
    result = gadam.evolve(
        lambda: torch.nn.Linear(2, 2), data, gadam.GadamConfig(**small | settings), executor=1,
        record=Interrupting(interrupt_at), progress=False,
    )  # fmt: skip
    return [{"loss": loss} for loss in result.history["loss_survival"]]
