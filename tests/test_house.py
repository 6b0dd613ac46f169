"""The house (CONTRIBUTING.md): a file imports from its own row or from rows below, and no circle is anywhere."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOUSE = [
    "cli __main__", "playground", "paper", "estimators", "evolution", "callbacks live_plot result ensembles plotting",
    "parallel", "training", "tracing", "population genetics models datasets",
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


IMPORTS = {name: sorted(set(imported(ast.parse(path.read_text())))) for name, path in FILES.items()}


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
