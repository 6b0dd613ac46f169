"""The command line: version, help, datasets, and errors in one line with their exit status."""

import os
import subprocess
import sys
from importlib.metadata import version
from unittest.mock import Mock

import pytest

from gadam import cli
from gadam.datasets import SOURCES
from gadam.datasets.standins import standin
from gadam.paper import SECTIONS


def put(folder, name, content):
    (folder / SOURCES[name].folder).mkdir(parents=True)
    (folder / SOURCES[name].folder / SOURCES[name].files[0]).write_bytes(content)


def test_list_shows_missing_and_damaged_data(gadam, tmp_path):
    put(tmp_path, "yeast", b"<html>")
    status, output, _ = gadam("data", "list", "--folder", tmp_path)
    lines = {line.split()[0]: line for line in output.splitlines()}
    assert status == 0
    assert list(lines) == ["name", *SOURCES]
    assert lines["mnist"].split()[1:7] == ["70,000", "28", "x", "28", "10", "missing"]
    assert "damaged" in lines["yeast"]
    assert lines["letter"].endswith(str(tmp_path / "letter"))


def test_real_data_is_listed_and_verified(gadam):
    if not (folder := os.environ.get("GADAM_DATA")):
        pytest.skip("the real data is not here: set GADAM_DATA to a folder that has it")
    status, output, _ = gadam("data", "list")
    assert (status, output.count("verified")) == (0, 5)
    status, output, _ = gadam("data", "verify", "orl", "yeast")
    assert status == 0
    assert output.splitlines()[0] == f"orl: verified, SHA-256 2e4844a9f4fa, {folder}/orl"


def test_verify_goes_on_after_a_failure_and_exits_with_1_and_version_with_0(gadam, tmp_path):
    put(tmp_path, "yeast", standin("yeast")[0]["yeast.data"])
    status, output, complaints = gadam("data", "verify", "--folder", tmp_path)
    assert (status, output) == (1, "")
    assert [line.split(":")[0] for line in complaints.splitlines()] == ["gadam"] * 5
    assert "yeast.data has wrong contents" in complaints
    assert "run 'gadam data fetch letter'" in complaints
    assert gadam("--version") == (0, f"gadam {version('gadam')}\n", "")


@pytest.mark.parametrize("error", [ModuleNotFoundError("no", name="gadam.nothing"), RuntimeError("ours")])
def test_a_mistake_of_ours_keeps_its_traceback_and_a_library_that_is_missing_is_named(gadam, monkeypatch, error):
    monkeypatch.setattr(cli, "app", Mock(side_effect=error))
    with pytest.raises(type(error)):
        cli.main()
    monkeypatch.setattr(cli, "app", Mock(side_effect=ModuleNotFoundError("no", name="pooch")))
    said = "gadam: this command needs pooch, which is not installed: pip install 'gadam[paper]'\n"
    assert gadam() == (2, "", said)


def test_the_command_line_alone_imports_no_heavy_library():
    """`import gadam` aside, whose own imports have a test of their own."""
    heavy = ("sklearn", "torchvision", "pooch", "scipy", "distributed", "gadam.paper")
    code = f"import sys, gadam.cli; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def test_list_names_every_section_with_its_notebook_and_exhibits(gadam):
    _, text, _ = gadam("list")
    for name, section in SECTIONS.items():
        assert all(one in text for one in (name, section.title, section.notebook, *section.tables, *section.figures))


def test_output_survives_an_encoding_that_lacks_its_signs():
    code = "import sys; from gadam import __main__, cli; cli.main = lambda: print('a · b'); __main__.main()"
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    assert subprocess.check_output([sys.executable, "-c", code], env=environment, text=True) == "a ? b\n"
