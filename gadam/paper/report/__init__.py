"""Reports: stored runs in; tables, figures, a scoreboard and a page with their provenance out."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gadam.paper.report.notebooks import NotebookError
    from gadam.paper.report.paths import ReportError
    from gadam.paper.report.report import Report
    from gadam.paper.report.reproduction import SampleError, archive_runs, compute_runs, reproduce, write_page
    from gadam.paper.report.workers import RunError, compute

__all__ = [
    "NotebookError", "Report", "ReportError", "RunError", "SampleError", "archive_runs", "compute", "compute_runs",
    "reproduce", "write_page",
]  # fmt: skip

_PLACES = {"NotebookError": "notebooks", "Report": "report", "ReportError": "paths", "RunError": "workers",
           "compute": "workers"}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES.get(name, 'reproduction')}"), name)
