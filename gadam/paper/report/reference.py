"""The API reference as pages beside the report, from the docstrings by pdoc: no network, with a search."""

from __future__ import annotations

import warnings
from importlib.metadata import version
from pathlib import Path

from gadam.paper.report.paths import scratch_folder
from gadam.paper.section6 import EQUATIONS

TEMPLATES = Path(__file__).with_name("templates") / "reference"
"""An index of our own, with the equations, and a link to it on each page: pdoc links submodules of a package that names
what is public to nothing."""

MODULES = (
    "gadam", "gadam.evolution.loop", "gadam.config", "gadam.genetics", "gadam.evolution.breeding", "gadam.result",
    "gadam.population", "gadam.training.trainer", "gadam.training.optimizers", "gadam.training.shards",
    "gadam.parallel.executors", "gadam.parallel.workers", "gadam.evolution.checkpoint", "gadam.ensembles",
    "gadam.plotting", "gadam.estimators", "gadam.playground", "gadam.models", "gadam.datasets",
)  # fmt: skip
"""Modules that a user may call, in the order of the index."""


def write(folder: Path) -> None:
    """Write the pages into `<folder>/api`, the first of them `gadam.html`; nothing where pdoc is not installed.

    `index.html` has every module, and every equation of the paper with its function. A page is the old one until the
    new one is whole; pages that are younger than the package's files stay.
    """
    first, package = folder / "api" / "gadam.html", Path(__file__).parents[2]
    if first.is_file() and first.stat().st_mtime > max(path.stat().st_mtime for path in package.rglob("*.py")):
        return
    try:
        import pdoc
    except ImportError:
        return
    pdoc.render.configure(docformat="google", footer_text=f"gadam {version('gadam')}", template_directory=TEMPLATES)
    pdoc.render.env.globals["equations"] = EQUATIONS
    with warnings.catch_warnings(), scratch_folder(folder) as scratch:
        warnings.simplefilter("ignore")  # of annotations that have a meaning for type checkers only
        pdoc.pdoc(*MODULES, output_directory=scratch)
        for page in sorted(path for path in scratch.rglob("*") if path.is_file()):
            place = folder / "api" / page.relative_to(scratch)
            place.parent.mkdir(parents=True, exist_ok=True)
            page.replace(place)
