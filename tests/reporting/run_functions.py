"""Run functions for the tests of the run store. A module of its own, since worker processes import it by name."""

import os
import time
import uuid
from pathlib import Path

VALUES = [0.1, 1 / 3, 5e-324, -0.0, 1e308, float("nan"), float("inf"), float("-inf"), 7, True, None, "ä|<b>", [1.5, 2]]


def rows(folder, value=0, seconds=0.0):
    count(folder)
    time.sleep(seconds)
    return [{"value": value, "part": part} for part in range(2)]


def all_values():
    return [{"value": value} for value in VALUES]


def fails(folder):
    count(folder)
    raise AwkwardError("first line", "no such thing as 3")


def dies():
    os._exit(9)


def threads():
    import torch

    return [{"torch": torch.get_num_threads(), "environment": os.environ["OMP_NUM_THREADS"]}]


def standin():
    return [{"seed": 0, "loss": 0.25, "data": "stand-in"}]


class AwkwardError(Exception):
    """Pickles, but does not unpickle."""

    def __init__(self, one, two):
        super().__init__(f"{one}\n{two}")


def count(folder):
    (Path(folder) / uuid.uuid4().hex).touch()
