"""Nothing in the package executes what it loads; downloads go over https; JupyterLab keeps its own protections."""

import ast
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import gadam
from gadam.datasets import SOURCES

PACKAGE = Path(gadam.__file__).parent
SOURCE = {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text("utf-8")) for path in PACKAGE.rglob("*.py")}
EXECUTES = re.compile(
    r"^(eval|exec|compile|__import__)$|^(builtins|marshal|shelve|dill|joblib\.(load|dump))\b|^c?pickle\b"
    r"|\.?(load_pickle|read_pickle|unsafe_load|yaml\.load|loads_pickle)$|^torch\.(load|save|jit\.load|hub\b)|^os\.system$"
)
BETWEEN_PROCESSES = {"parallel/workers.py", "paper/section43.py"}
"""Workers are sent their work as every executor of Python sends it, what is large in a folder of the user's alone,
and Section 4.3 measures how much that is. What is between processes of one run is kept by nobody."""
PICKLED = re.compile(r"^(cloud)?pickle(\.(dumps|loads|HIGHEST_PROTOCOL|Pickler|Unpickler))?$")


def names(tree):
    """Every name that is imported, called or looked up, with what it is looked up in: `torch.load`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{each.name}" for each in node.names)
        elif isinstance(node, ast.Attribute):
            yield ast.unparse(node)
        elif isinstance(node, ast.Name):
            yield node.id


def test_nothing_in_the_package_executes_what_it_loads():
    for name, tree in SOURCE.items():
        found = [each for each in names(tree) if EXECUTES.search(each)]
        assert [each for each in found if name not in BETWEEN_PROCESSES or not PICKLED.match(each)] == [], name
        for node in (node for node in ast.walk(tree) if isinstance(node, ast.keyword)):
            assert not (node.arg in ("allow_pickle", "shell") and getattr(node.value, "value", None) is not False), name
            assert node.arg != "verify", name  # of a request: whether its certificate is looked at


@pytest.mark.parametrize(
    "code", ["import pickle", "from torch import load", "torch.load(x)", "eval(x)", "os.system(x)", "pd.read_pickle(x)"]
)
def test_the_scan_sees_what_it_should(code):
    assert [each for each in names(ast.parse(code)) if EXECUTES.search(each)]


def test_downloads_go_over_https_where_there_is_any_and_are_verified():
    plain = {
        (name, urlsplit(mirror).hostname)
        for name, source in SOURCES.items()
        for mirror in source.mirrors
        if urlsplit(mirror).scheme != "https"
    }
    assert plain == {("orl", "www.idiap.ch"), ("orl", "datasets.openimaj.org")}  # after one that has https
    assert all(urlsplit(source.mirrors[0]).scheme == "https" for source in SOURCES.values())
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for source in SOURCES.values() for digest in source.checks.values())


def test_tables_of_a_population_are_escaped():
    from gadam.population import html_table

    evil = "<script>alert(1)</script>"
    assert evil not in html_table({evil: evil}, evil)


MAKEFILE = PACKAGE.parent / "Makefile"


@pytest.mark.skipif(not MAKEFILE.is_file(), reason="the package is installed without its Makefile")
def test_jupyterlab_is_started_as_its_own_defaults_have_it():
    text = MAKEFILE.read_text("utf-8")
    recipe = re.search(r"^lab:.*\n((?:\t.*\n)+)", text, re.MULTILINE)[1]
    assert "jupyter lab" in recipe
    assert re.findall(r"--[\w.-]+", recipe) == ["--notebook-dir"]  # neither address, nor token, nor password, nor root
    assert not re.search(r"token|password|0\.0\.0\.0|allow[-_]|ServerApp|NotebookApp", text)
