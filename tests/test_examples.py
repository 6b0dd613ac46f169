"""The examples in docstrings run. What they show is compared only where they show something."""

import doctest
import importlib
import sys
from types import ModuleType
from unittest.mock import MagicMock

import pytest
import torch

import gadam

MODULES = sorted({getattr(gadam, name).__module__ for name in gadam.__all__ if callable(getattr(gadam, name))})
EXAMPLES = {
    test.name: test
    for module in MODULES
    for test in doctest.DocTestFinder().find(importlib.import_module(module))
    if test.examples
}


class Checker(doctest.OutputChecker):
    """An example without output may give anything."""

    def check_output(self, want, got, flags):
        return not want or super().check_output(want, got, flags)


def make_model():
    return torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))


@pytest.fixture(scope="module")
def assumed():
    """What examples take for granted: a model, rows, small settings and a result."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(300, 2, generator=generator) * 4 - 2
    data = inputs, (inputs.norm(dim=1) > 1.2).long()
    config = gadam.GadamConfig(population_size=3, generations=2, steps=5)
    return {
        "gadam": gadam, "make_model": make_model, "config": config, "data": data, "train": data, "held_out": data,
        "inputs": inputs, "targets": data[1], "new_inputs": inputs, "X": inputs.numpy(), "y": data[1].numpy(),
        "result": gadam.evolve(make_model, data, config),
    }  # fmt: skip


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_runs(name, assumed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # they write files
    board = ModuleType("torch.utils.tensorboard")
    board.SummaryWriter = MagicMock()  # TensorBoard is not among the requirements
    monkeypatch.setitem(sys.modules, board.__name__, board)
    told = []
    test = EXAMPLES[name]
    test.globs = dict(assumed)
    doctest.DocTestRunner(Checker()).run(test, out=told.append)
    assert told == []
