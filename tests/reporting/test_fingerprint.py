import sys

import pytest

from gadam import InputError
from gadam.reporting.fingerprint import engine_fingerprint, function_fingerprint

CODE = '''"""Prose."""
RATE = 0.5


class Adam:
    """More prose."""

    rate = RATE  # why


def step(x):
    """Even more."""
    return x - RATE
'''


@pytest.fixture
def package(tmp_path):
    for name in (
        "config.py",
        "datasets/door.py",
        "plotting/live.py",
        "estimators.py",
        "cli.py",
        "reporting/page.py",
        "experiments/section1.py",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(CODE)
    return tmp_path


@pytest.mark.parametrize(
    "edit",
    [
        ("  # why", ""),
        ("Prose", "Another"),
        ('    """Even more."""\n', ""),
        ("0.5\n\n\n", "0.5\n\n\n# a comment\n"),
        ("x - RATE", "(x\n        - RATE)"),
    ],
)
def test_engine_ignores_comments_docstrings_and_layout(package, edit):
    before = engine_fingerprint(package)
    (package / "config.py").write_text(CODE.replace(*edit))
    assert (package / "config.py").read_text() != CODE
    assert engine_fingerprint(package) == before


@pytest.mark.parametrize(
    "edit", [("0.5", "0.25"), ("x - RATE", "x + RATE"), ("Adam", "Sgd"), ("0.5", "'0.5'"), ("0.5", "None")]
)
@pytest.mark.parametrize("name", ["config.py", "datasets/door.py"])
def test_engine_sees_code(package, name, edit):
    before = engine_fingerprint(package)
    (package / name).write_text(CODE.replace(*edit))
    assert engine_fingerprint(package) != before


def test_engine_sees_new_and_moved_files(package):
    before = engine_fingerprint(package)
    (package / "config.py").rename(package / "settings.py")
    moved = engine_fingerprint(package)
    (package / "config.py").touch()
    assert len({before, moved, engine_fingerprint(package)}) == 3


@pytest.mark.parametrize(
    "name", ["plotting/live.py", "estimators.py", "cli.py", "reporting/page.py", "experiments/section1.py"]
)
def test_engine_leaves_out_what_only_shows_or_lists(package, name):
    before = engine_fingerprint(package)
    (package / name).write_text("changed = 1\n")
    assert engine_fingerprint(package) == before


SECTION = '''"""A section."""
import math
from papers.common import train, unused
from papers import budgets

LIMIT = 3
TITLE = "Table 4"


def helper(x):
    return math.sqrt(x)


def run(seed):
    return [{"value": train(helper(seed), LIMIT), "steps": budgets.STEPS}]


def table(rows):
    return TITLE
'''
COMMON = """
from . import constants

def train(x, limit):
    from .lazy import noise
    return x + limit + constants.C + noise()

def unused():
    return 0
"""


@pytest.fixture
def papers(tmp_path, monkeypatch):
    folder = tmp_path / "papers"
    folder.mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    files = {
        "__init__": "SECTIONS = {}",
        "section": SECTION,
        "common": COMMON,
        "budgets": "STEPS = 10",
        "constants": "C = 1\nD = 2",
        "lazy": "def noise():\n    return 0.1",
    }
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "papers"]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("section", ("Table 4", "Table 5")),
        ("section", ("return TITLE", "return TITLE + TITLE")),
        ("section", ('"""A section."""', "# a section")),
        ("common", ("return 0\n", "return 1\n")),
        ("__init__", ("{}", "{1: 2}")),
    ],
)
def test_run_does_not_depend_on_what_its_function_does_not_reach(papers, name, edit):
    assert fingerprints(papers, name, edit, "papers.section:run") == 1


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("section", ("LIMIT = 3", "LIMIT = 4")),
        ("section", ("math.sqrt", "math.exp")),
        ("section", ("import math", "import cmath as math")),
        ("section", ("TITLE =", "math.tau = 6\nTITLE =")),
        ("common", ("x + limit", "x - limit")),
        ("budgets", ("10", "20")),
        ("constants", ("C = 1", "C = 2")),
        ("lazy", ("0.1", "0.2")),
    ],
)
def test_run_depends_on_what_its_function_reaches(papers, name, edit):
    assert fingerprints(papers, name, edit, "papers.section:run") == 2


def test_modules_that_import_each_other_end(papers):
    (papers / "lazy.py").write_text("from papers import common\n\ndef noise():\n    return common")
    assert function_fingerprint("papers.section:run") == function_fingerprint("papers.section:run")


def test_name_that_is_bound_in_no_plain_way_brings_the_whole_module(papers):
    (papers / "section.py").write_text("from papers.common import *\nOTHER = 1\n")
    assert fingerprints(papers, "section", ("OTHER = 1", "OTHER = 2"), "papers.section:train") == 2


@pytest.mark.parametrize("module", ["nowhere", "papers.nowhere", "nowhere.at_all", "sys", "__main__x"])
def test_module_without_source_is_refused(papers, module):
    with pytest.raises(InputError, match=f"function is in module '{module}', which has no source file"):
        function_fingerprint(f"{module}:run")


def fingerprints(folder, name, edit, function):
    before = function_fingerprint(function)
    path = folder / f"{name}.py"
    changed = path.read_text().replace(*edit)
    assert changed != path.read_text()
    path.write_text(changed)
    return len({before, function_fingerprint(function)})
