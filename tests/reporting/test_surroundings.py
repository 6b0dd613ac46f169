"""A reproduction in someone's surroundings: other kernels, repositories, disks, configurations, programs."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import matplotlib as mpl
import nbformat
import pandas as pd
import pytest
from matplotlib.figure import Figure
from report_scene import write_notebook
from typer.testing import CliRunner

from gadam import InputError, cli
from gadam.paper import SECTIONS, sections_of
from gadam.paper.report import (
    ReportError,
    figures,
    machine,
    notebooks,
    paths,
    reproduce,
    reproduction,
    tables,
    write_page,
)

ROOT = Path(__file__).parents[2]
IN_CHECKOUT = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")


@IN_CHECKOUT
def test_the_commit_is_of_this_checkout_whatever_git_is_told_elsewhere(tmp_path, monkeypatch):
    here = machine.git_state()["commit"]
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / ".git"))
    assert machine.git_state()["commit"] == here


def test_figures_are_the_same_whatever_a_matplotlibrc_says(tmp_path):
    def drawn(name):
        figures.use_style()
        figure = Figure(figsize=(2, 1))
        figure.subplots().plot([1, 2])
        return figures.save(figure, tmp_path / name)

    with mpl.rc_context():
        expected = drawn("a")
    with mpl.rc_context({"lines.marker": "o", "savefig.transparent": True, "font.size": 30}):
        assert drawn("b") == expected


def test_notebooks_run_on_the_interpreter_that_runs_gadam(tmp_path, monkeypatch):
    spec = tmp_path / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps({"argv": ["/usr/bin/false"], "display_name": "Python 3", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    notebook = write_notebook(tmp_path / "{braces}" / "tiny.ipynb", "import sys; print(sys.executable)")
    notebooks.execute(notebook, tmp_path / "{out}" / "tiny.ipynb", {"profile": "smoke"}, limit=600)
    executed = nbformat.read(tmp_path / "{out}" / "tiny.ipynb", as_version=4)
    assert executed.cells[-1].outputs[0].text.strip() == sys.executable


def test_a_section_is_published_onto_another_disk(tmp_path):
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second disk")
    elsewhere = shared / f"gadam-test-{os.getpid()}"
    elsewhere.mkdir()
    try:
        (tmp_path / "report").mkdir()
        (tmp_path / "report" / "figures").symlink_to(elsewhere)
        paths.write_atomic(tmp_path / "new" / "figures" / "figure1.png", "picture")
        reproduction._publish(tmp_path / "new", tmp_path / "report", "section3")
        assert (elsewhere / "figure1.png").read_text() == "picture"
    finally:
        for path in elsewhere.iterdir():
            path.unlink()
        elsewhere.rmdir()


@pytest.mark.filterwarnings("ignore")  # of the libraries below nbconvert
def test_a_notebook_that_another_program_saved_has_its_page(tmp_path):
    path = write_notebook(tmp_path / "smoke" / "notebooks" / SECTIONS["section3"].notebook, "1")
    content = nbformat.read(path, as_version=4)
    content.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"0a": {"model_name": "HTMLModel"}}}
    nbformat.write(content, path)
    write_page("smoke", tmp_path)
    assert path.with_suffix(".html").is_file()


@pytest.mark.parametrize("content", ["", "{", '{"cells": 3}', "<<<<<<< HEAD\n{}\n=======\n{}\n>>>>>>> main\n"])
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


def test_a_section_goes_by_its_notebook_too_and_a_near_miss_suggests():
    for name in ("section3_method", "section3_method.ipynb", "notebooks/section3_method.ipynb", "figure1"):
        assert sections_of(name) == ["section3"]
    with pytest.raises(InputError, match=r"did you mean .*section3_method"):
        sections_of("section3_metod")


def test_a_report_of_nothing_is_an_error_and_writes_nothing(folders):
    with pytest.raises(InputError, match=r"^report: there is none in .*; make one: gadam reproduce --profile quick$"):
        cli.report("quick")
    assert not (folders / "reports").exists()


def test_list_names_every_section_with_its_notebook_and_exhibits():
    done = CliRunner().invoke(cli.app, ["list"])
    assert done.exit_code == 0, done.output
    for name, section in SECTIONS.items():
        assert name in done.stdout
        assert all(one in done.stdout for one in (section.title, section.notebook, *section.tables, *section.figures))


def test_output_survives_an_encoding_that_lacks_its_signs():
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    code = "import sys; from gadam import __main__, cli; cli.main = lambda: print('a · b'); __main__.main()"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "a ? b\n"


# --- the wheel ---


@IN_CHECKOUT
def test_wheel_and_sdist_have_all_that_a_reproduction_needs_and_work_in_an_empty_folder(tmp_path):
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    subprocess.run([sys.executable, "-m", "hatchling", "build"], cwd=clone, check=True, capture_output=True)
    (sdist,) = (clone / "dist").glob("*.tar.gz")
    subprocess.run(["tar", "-xzf", str(sdist), "-C", str(tmp_path)], check=True)
    source = tmp_path / sdist.name.removesuffix(".tar.gz")  # the wheel is that of the sdist
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel"], cwd=source, check=True, capture_output=True
    )
    (wheel,) = (source / "dist").glob("*.whl")
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
