"""The house (CONTRIBUTING.md): who imports whom; and nothing executes what it loads, or takes it from anywhere."""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gadam.datasets import SOURCES

ROOT = Path(__file__).parents[1]
HOUSE = [
    "cli __main__", "playground", "paper", "estimators", "evolution", "callbacks live_plot result ensembles plotting",
    "parallel", "training", "tracing", "population made genetics models datasets",
    "config types randomness runtime storage validation display",
]  # fmt: skip
ROWS = {name: row for row, names in enumerate(HOUSE) for name in names.split()}
ENGINE = ROWS["evolution"]  # from here down `import gadam` itself, which brings everything, is an offence
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in (ROOT / "gadam").rglob("*.py")
}


def imported(node):
    """Modules of the package that a file imports, in functions too, but not where only a type checker looks."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        names = []
        if isinstance(child, ast.Import):
            names = [alias.name for alias in child.names]
        elif isinstance(child, ast.ImportFrom) and child.module:
            members = [f"{child.module}.{alias.name}" for alias in child.names]
            names = [member if member in FILES else child.module for member in members]
        yield from (name for name in names if name.split(".")[0] == "gadam")
        yield from imported(child)


def row(module):
    """Its place from above; the package itself is above all."""
    return ROWS[module.split(".")[1]] if "." in module else -1


TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in FILES.items()}
IMPORTS = {name: sorted(set(imported(tree))) for name, tree in TREES.items()}


def test_every_file_has_a_row_and_none_imports_from_a_row_above():
    assert {name.split(".")[1] for name in FILES if "." in name} <= set(ROWS)
    offences = [
        f"{name} imports {other}"
        for name, others in IMPORTS.items()
        for other in others
        if name != "gadam" and other in FILES and row(other) < row(name) and (other != "gadam" or row(name) >= ENGINE)
    ]
    assert not offences


def test_there_is_no_circle():
    try:
        TopologicalSorter({name: [o for o in others if o != "gadam"] for name, others in IMPORTS.items()}).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


# --- safety ---

EXECUTES = re.compile(
    r"^(eval|exec|compile|__import__)$|^(builtins|marshal|shelve|dill|joblib\.(load|dump))\b|^c?pickle\b"
    r"|\.?(load_pickle|read_pickle|unsafe_load|yaml\.load|loads_pickle)$|^torch\.(load|save|jit\.load|hub\b)|^os\.system$"
)
BETWEEN_PROCESSES = {"gadam.parallel.workers", "gadam.paper.section43"}
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
    for name, tree in TREES.items():
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


def test_jupyterlab_is_started_as_its_own_defaults_have_it():
    text = (ROOT / "Makefile").read_text("utf-8")
    recipe = re.search(r"^lab:.*\n((?:\t.*\n)+)", text, re.MULTILINE)[1]
    assert "jupyter lab" in recipe
    assert re.findall(r"--[\w.-]+", recipe) == ["--notebook-dir"]  # neither address, nor token, nor password, nor root
    assert not re.search(r"token|password|0\.0\.0\.0|allow[-_]|ServerApp|NotebookApp", text)
