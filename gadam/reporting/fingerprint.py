"""The code that the rows of a run depend on, as one hash.

Two parts. The engine: every source file of the package but those of `NOT_ENGINE`, which show or keep results, say which
runs there are, time them, or call the engine for somebody else. And of the run's own module, the definitions that its
function reaches by name, followed into modules of the same package. So a new table or another section's change does not
cost a stored run, and a change in anything that could alter its rows does.

Hashed is the syntax tree without docstrings, so comments, layout and prose do not count, nor does the Python version.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gadam
from gadam.config import InputError

NOT_ENGINE = (
    "reporting", "plotting", "playground", "experiments", "bench", "estimators.py", "weighting.py", "saving.py",
    "cli.py",
)  # fmt: skip

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def engine_fingerprint(package: Path | None = None) -> str:
    """The hash of the engine's source files."""
    folder = package or Path(gadam.__file__).parent
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.py")}
    shapes = {name: shape(_parse(path)) for name, path in files.items() if name.split("/")[0] not in NOT_ENGINE}
    return _digest(shapes)


def function_fingerprint(function: str) -> str:
    """The hash of what "module:name" reaches in its own module and package."""
    module, _, name = function.partition(":")
    found: dict[str, Any] = {}
    _collect(module, name, module.rpartition(".")[0], found)
    return _digest(found)


def shape(node: Any) -> Any:
    """A syntax tree as nested lists: no positions, no docstrings, no empty fields (which differ between Pythons)."""
    if isinstance(node, list):
        return [shape(child) for child in node if not _is_docstring(child)]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = ((name, value) for name, value in ast.iter_fields(node) if value is not None and value != [])
    return [type(node).__name__, *([name, shape(value)] for name, value in fields)]


def _digest(shapes: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(shapes, sort_keys=True).encode()).hexdigest()


def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes(), filename=str(path))


def _is_docstring(node: Any) -> bool:
    """A string that stands alone: a docstring, or prose after an attribute."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _collect(module: str, name: str | None, package: str, found: dict[str, Any]) -> None:
    """Add to `found` the top-level statements of `module` that `name` needs; None: all of them."""
    key = f"{module}:{name or '*'}"
    if key in found:
        return
    found[key] = None  # met, so that circular imports end here
    origin = _origin(module)
    statements = [part for statement in _parse(origin).body for part in _one_by_one(statement)]
    if not any(name in _bound(statement) for statement in statements):
        name = None
    # A statement that binds no name acts when the module is imported, so it counts whatever the function.
    pending = [node for node in statements if name is None or not _bound(node) or name in _bound(node)]
    needed: set[int] = set()
    while pending:
        node = pending.pop()
        if id(node) in needed or _is_docstring(node):
            continue
        needed.add(id(node))
        used = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
        pending += [other for other in statements if used & _bound(other)]
        parent = module if origin.name == "__init__.py" else module.rpartition(".")[0]
        for target, part in _imports(node, parent, package):
            _collect(target, part, package, found)
    found[key] = [shape(node) for node in statements if id(node) in needed]


def _origin(module: str) -> Path:
    """The source file of a module."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None or not (spec.origin or "").endswith(".py"):
        raise InputError(f"Run: function is in module {module!r}, which has no source file; it must be importable")
    return Path(str(spec.origin))


def _one_by_one(node: ast.stmt) -> list[ast.stmt]:
    """An import of several names as several imports, since not all of them may be needed."""
    if isinstance(node, ast.Import):
        return [ast.Import([alias]) for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [ast.ImportFrom(node.module, [alias], node.level) for alias in node.names]
    return [node]


def _bound(node: ast.stmt) -> set[str]:
    """The names that a statement defines, where defining names is all that it does."""
    if isinstance(node, Definition):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name.partition(".")[0] for alias in node.names} - {"*"}
    if isinstance(node, ast.Assign | ast.AnnAssign):
        return {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}
    return set()


def _imports(node: ast.AST, parent: str, package: str) -> Iterator[tuple[str, str | None]]:
    """(module, name) of what a statement imports from `package`; the name is None for a whole module."""
    for part in ast.walk(node):
        if isinstance(part, ast.Import):
            yield from ((alias.name, None) for alias in part.names if _is_inside(alias.name, package))
        elif isinstance(part, ast.ImportFrom):
            base = importlib.util.resolve_name("." * part.level + (part.module or ""), parent)
            for alias in part.names:
                submodule = f"{base}.{alias.name}"
                if _is_inside(submodule, package) and _is_module(submodule):
                    yield submodule, None
                elif _is_inside(base, package):
                    yield base, None if alias.name == "*" else alias.name


def _is_inside(module: str, package: str) -> bool:
    return bool(package) and f"{module}.".startswith(f"{package}.")


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # its parent is a module, not a package
        return False
