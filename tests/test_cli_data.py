import subprocess
import sys
from importlib.metadata import version

import pytest
from typer.testing import CliRunner

from gadam import InputError, cli
from gadam.datasets import SOURCES
from gadam.datasets.standins import standin

runner = CliRunner()


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    monkeypatch.setenv("GADAM_OFFLINE", "1")


def gadam(monkeypatch, capsys, *arguments):
    """Exit status, output and complaints of the console command."""
    monkeypatch.setattr(sys, "argv", ["gadam", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return stopped.value.code or 0, *capsys.readouterr()


def put(folder, name, content):
    (folder / SOURCES[name].folder).mkdir(parents=True)
    (folder / SOURCES[name].folder / SOURCES[name].files[0]).write_bytes(content)


def test_help_reads_well():
    for command in ([], ["data"], ["data", "list"], ["data", "fetch"], ["data", "verify"]):
        answer = runner.invoke(cli.app, [*command, "--help"])
        assert answer.exit_code == 0
        assert "Usage" in answer.output
    assert "SHA-256" in runner.invoke(cli.app, ["data", "verify", "--help"]).output


def test_version(monkeypatch, capsys):
    assert gadam(monkeypatch, capsys, "--version") == (0, f"gadam {version('gadam')}\n", "")


def test_list_shows_what_is_missing_and_what_is_damaged(monkeypatch, capsys, tmp_path):
    put(tmp_path, "yeast", b"<html>")
    status, output, _ = gadam(monkeypatch, capsys, "data", "list", "--folder", tmp_path)
    lines = {line.split()[0]: line for line in output.splitlines()}
    assert status == 0
    assert list(lines) == ["name", *SOURCES]
    assert "70,000  28 x 28   10       missing" in lines["mnist"]
    assert "damaged" in lines["yeast"]
    assert lines["letter"].endswith(str(tmp_path / "letter"))


def test_list_shows_what_is_verified(monkeypatch, capsys, real_data):
    status, output, _ = gadam(monkeypatch, capsys, "data", "list", "--folder", real_data)
    assert status == 0
    assert output.count("verified") == 5
    assert "2e4844a9f4fa" in output


def test_verify_real_data(monkeypatch, capsys, real_data):
    status, output, _ = gadam(monkeypatch, capsys, "data", "verify", "orl", "yeast", "--folder", real_data)
    assert status == 0
    assert output.splitlines()[0] == f"orl: verified, SHA-256 2e4844a9f4fa, {real_data}/orl"


@pytest.fixture
def real_data():
    import os

    if not (folder := os.environ.get("GADAM_DATA")):
        pytest.skip("the real data is not here: set GADAM_DATA to a folder that has it")
    return folder


def test_verify_goes_on_after_a_failure_and_exits_with_1(monkeypatch, capsys, tmp_path):
    put(tmp_path, "yeast", standin("yeast")[0]["yeast.data"])
    status, output, complaints = gadam(monkeypatch, capsys, "data", "verify", "--folder", tmp_path)
    assert status == 1
    assert output == ""
    lines = complaints.splitlines()
    assert len(lines) == 5
    assert all(line.startswith("gadam: ") for line in lines)
    assert "yeast.data has wrong contents" in complaints
    assert f"gadam: letter: not in {tmp_path / 'letter'}; run 'gadam data fetch letter'" in lines


def test_fetch_without_a_network_exits_with_1(monkeypatch, capsys, tmp_path):
    status, _, complaints = gadam(monkeypatch, capsys, "data", "fetch", "orl", "--folder", tmp_path)
    assert status == 1
    assert complaints.startswith("gadam: orl: downloads are switched off by GADAM_OFFLINE; get its files by hand")


def test_a_misspelled_name_is_one_line_and_exit_status_2(monkeypatch, capsys):
    status, _, complaints = gadam(monkeypatch, capsys, "data", "verify", "minst")
    assert status == 2
    assert complaints == "gadam: name='minst' is not a dataset; there are mnist, orl, yeast, adult, letter\n"


def test_a_missing_extra_is_named(monkeypatch, capsys):
    def app():
        raise ModuleNotFoundError("No module named 'pooch'", name="pooch")

    monkeypatch.setattr(cli, "app", app)
    status, _, complaints = gadam(monkeypatch, capsys)
    assert status == 2
    assert complaints == "gadam: this command needs pooch, which is not installed: pip install 'gadam[paper]'\n"


def test_a_mistake_of_ours_keeps_its_traceback(monkeypatch):
    def app():
        raise ModuleNotFoundError("No module named 'gadam.nothing'", name="gadam.nothing")

    monkeypatch.setattr(cli, "app", app)
    with pytest.raises(ModuleNotFoundError):
        cli.main()


def test_any_command_may_refuse_its_input(monkeypatch, capsys):
    def app():
        raise InputError("seed=-1 must be at least 0")

    monkeypatch.setattr(cli, "app", app)
    assert gadam(monkeypatch, capsys) == (2, "", "gadam: seed=-1 must be at least 0\n")


def test_help_does_not_wait_for_the_datasets():
    code = "import sys, gadam.cli; print([name for name in ('sklearn', 'torchvision', 'pooch') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
