"""A reproduction in other surroundings: damaged notebooks, missing libraries, LaTeX, terminals, and no source tree."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from gadam import InputError, cli
from gadam.paper import SECTIONS
from gadam.paper.report import ReportError, paths, reproduce, reproduction, tables

ROOT = Path(__file__).parents[2]
IN_CHECKOUT = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")


@pytest.mark.parametrize("content", ["", '{"cells": 3}', "<<<<<<< HEAD\n{}\n=======\n{}\n>>>>>>> main\n"])
def test_a_notebook_that_is_none_is_named_before_anything_is_computed(folders, monkeypatch, content):
    path = folders / "notebooks" / SECTIONS["section3"].notebook
    path.parent.mkdir()
    monkeypatch.setattr(paths, "notebooks_folder", lambda: path.parent)
    monkeypatch.setattr(reproduction, "compute_runs", lambda *_, **__: pytest.fail("it computes"))
    with pytest.raises(ReportError, match=f"^{path} is not there; get it back"):
        reproduce("smoke", "section3", "standin")
    path.write_text(content)
    with pytest.raises(ReportError, match=f"^{path} is no notebook .*; get it back$") as refused:
        reproduce("smoke", "section3", "standin")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("missing", ["papermill", "ipykernel", "nbformat"])
def test_an_extra_that_is_missing_is_named_before_anything_is_computed(monkeypatch, missing):
    monkeypatch.setattr(reproduction, "compute_runs", lambda *_, **__: pytest.fail("it computes"))
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(InputError, match=rf"{missing} is not installed, .*pip install 'gadam\[notebooks\]'"):
        reproduce("smoke", "section3", "standin")


def test_latex_has_no_sign_that_pdflatex_does_not_know():
    frame = pd.DataFrame({"K · |w|": ["16 g ≤ θ ≥ ∞", "η × σ² → 50 %"], "naïve – x̂": ["ﬁne ☃", "α"]})
    text = tables.to_latex(tables.cells(frame), "Δ and −1")
    assert all(ord(sign) <= 0x17F or sign in "–—‘’“”…" for sign in text)
    for command in (r"$\leq$", r"$\theta$", r"$\infty$", r"$\to$", r"$\alpha$", "$-$1", "fine snowman"):
        assert command in text


# --- the command line ---


def test_a_report_of_nothing_is_an_error_and_writes_nothing(folders):
    with pytest.raises(InputError, match=r"^report: there is none in .*; make one: gadam reproduce --profile quick$"):
        cli.report("quick")
    assert not (folders / "reports").exists()


def test_list_names_every_section_with_its_notebook_and_exhibits():
    text = CliRunner().invoke(cli.app, ["list"]).stdout
    for name, section in SECTIONS.items():
        assert all(one in text for one in (name, section.title, section.notebook, *section.tables, *section.figures))


def test_output_survives_an_encoding_that_lacks_its_signs():
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    code = "import sys; from gadam import __main__, cli; cli.main = lambda: print('a · b'); __main__.main()"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "a ? b\n"


# --- the wheel ---


@IN_CHECKOUT
def test_wheel_and_sdist_have_all_that_a_reproduction_needs_and_work_in_an_empty_folder(tmp_path):
    def build(folder, kind):
        command = [sys.executable, "-m", "hatchling", "build", "-t", kind]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        (built,) = (folder / "dist").iterdir()
        return built

    subprocess.run(["git", "clone", "-q", str(ROOT), str(tmp_path / "clone")], check=True)
    sdist = build(tmp_path / "clone", "sdist")
    subprocess.run(["tar", "-xzf", str(sdist), "-C", str(tmp_path)], check=True)
    wheel = build(tmp_path / sdist.name.removesuffix(".tar.gz"), "wheel")  # the wheel is that of the sdist
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    with zipfile.ZipFile(wheel) as file:
        file.extractall(site)
    assert (site / "gadam" / "py.typed").is_file()
    assert (site / "gadam" / "paper" / "notebooks" / "guide" / "engine.ipynb").is_file()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GADAM_")}
    environment |= {"PYTHONPATH": str(site), "HOME": str(empty), "XDG_CACHE_HOME": str(empty / "cache")}

    def said(*command):
        done = subprocess.run([sys.executable, *command], cwd=empty, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert str(site) in said("-c", "import gadam; print(gadam.__file__)")
    plan = said("-m", "gadam", "reproduce", "--plan", "--only", "section3_method").splitlines()
    assert plan[2].split()[:3] == ["section3", "2", "2"], "its runs are archived"
    assert str(empty / "cache" / "gadam") in said("-m", "gadam", "data", "list")
    assert not {"data", "reports"} & {path.name for path in empty.iterdir()}
