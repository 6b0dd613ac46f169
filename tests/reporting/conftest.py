"""A section of its own for the tests of reports, and folders that are theirs."""

import sys
from types import ModuleType
from unittest import mock

import pytest
from run_functions import learned_runs

from gadam.paper import SECTIONS, Section
from gadam.paper.report import reference, site


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """Runs, reports and archives of a test; nothing is downloaded; API reference and guide have tests of their own."""
    for name in ("runs", "reports", "archive"):
        monkeypatch.setenv(f"GADAM_{name.upper()}", str(tmp_path / name))
    monkeypatch.setenv("GADAM_OFFLINE", "1")
    monkeypatch.setenv("GADAM_WORKERS", "2")
    monkeypatch.setattr(reference, "write", lambda folder: None)
    monkeypatch.setattr(site, "GUIDE", ())
    (tmp_path / "counts").mkdir()
    return tmp_path


@pytest.fixture
def only_section(monkeypatch):
    """Have these run lists be those of the one section that there is."""
    module = ModuleType("gadam.paper.section0")
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def made(*lists, **more):
        vars(module).update(RUNS=lists, **more)

    module.RUNS = (lambda profile, data: learned_runs(),)
    only = {"section0": Section("Section 0: nothing", "section0.ipynb", ("table0",), ("figure0",))}
    with mock.patch.dict(SECTIONS, only, clear=True):  # unlike monkeypatch, this gives their order back too
        yield made
