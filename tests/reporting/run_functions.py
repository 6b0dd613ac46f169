"""Run functions for the tests of the run store. A module of its own, since worker processes import it by name."""

import errno
import os
import signal
import time
import uuid
from pathlib import Path

VALUES = [0.1, 1 / 3, 5e-324, -0.0, 1e308, float("nan"), float("inf"), float("-inf"), 7, True, None, "ä|<b>", [1.5, 2]]


def rows(folder, value=0, seconds=0.0):
    count(folder)
    time.sleep(seconds)
    return [{"value": value, "part": part} for part in range(2)]


def seeded(folder, seed):
    return seeded_all(folder, [seed])[0]


def seeded_all(folder, seeds):
    count(folder)
    return [[{"seed": seed, "square": seed**2}] for seed in seeds]


def all_values():
    return [{"value": value} for value in VALUES]


def fails(folder):
    count(folder)
    raise AwkwardError("first line", "no such thing as 3")


def dies():
    os._exit(9)


def dies_once(folder):
    count(folder)
    if len(list(Path(folder).iterdir())) == 1:
        os._exit(9)
    return [{"value": 1}]


def full_disk():
    os.fsync = lambda descriptor: raise_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    return [{"value": 1}]


def threads():
    import torch

    return [{"torch": torch.get_num_threads(), "environment": os.environ["OMP_NUM_THREADS"]}]


def standin():
    return [{"seed": 0, "loss": 0.25, "data": "stand-in"}]


def raise_error(error):
    raise error


class AwkwardError(Exception):
    """Pickles, but does not unpickle."""

    def __init__(self, one, two):
        super().__init__(f"{one}\n{two}")


def count(folder):
    (Path(folder) / uuid.uuid4().hex).touch()


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


def trains(interrupt_at):
    import torch

    import gadam

    rows = torch.arange(12.0).view(6, 2), torch.tensor([0, 1] * 3)
    config = gadam.GadamConfig(population_size=2, generations=2, steps=50, batch_size=2, mode="loop")
    result = gadam.evolve(
        lambda: torch.nn.Linear(2, 2), rows, config, executor=1, record=Interrupting(interrupt_at), progress=False
    )
    return [{"loss": loss} for loss in result.history["loss_survival"]]
