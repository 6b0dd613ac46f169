"""The API reference as pages beside the report, from the docstrings by pdoc: no network, with a search."""

from __future__ import annotations

import warnings
from pathlib import Path

from gadam.reporting.paths import scratch_folder

MODULES = (
    "gadam", "gadam.config", "gadam.evolution", "gadam.generations", "gadam.result", "gadam.population", "gadam.shards",
    "gadam.training", "gadam.executors", "gadam.ensembles", "gadam.saving", "gadam.plotting", "gadam.estimators",
    "gadam.playground", "gadam.models", "gadam.datasets", "gadam.baselines.classical", "gadam.baselines.dbn",
    "gadam.baselines.gcforest",
)  # fmt: skip
"""What a user may call; `gadam` has `gadam.genetics`, the paper's equations, with it."""


def write(folder: Path) -> None:
    """Write the pages into `<folder>/api`, the first of them `gadam.html`; nothing where pdoc is not installed.

    A page is the old one until the new one is whole.
    """
    try:
        import pdoc
    except ImportError:
        return
    from gadam import __version__

    pdoc.render.configure(docformat="google", footer_text=f"gadam {__version__}")
    with warnings.catch_warnings(), scratch_folder(folder) as scratch:
        warnings.simplefilter("ignore")  # of annotations that have a meaning for type checkers only
        pdoc.pdoc(*MODULES, output_directory=scratch)
        for page in sorted(path for path in scratch.rglob("*") if path.is_file()):
            place = folder / "api" / page.relative_to(scratch)
            place.parent.mkdir(parents=True, exist_ok=True)
            page.replace(place)
