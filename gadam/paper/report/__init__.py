"""Reports: stored runs in; tables, figures, a scoreboard and a page with their provenance out."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gadam.paper.report.report import Report

__all__ = ["Report"]


def __getattr__(name: str) -> Any:
    """Import `Report` when it is first asked for: workers do not need what it brings."""
    if name != "Report":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.report").Report
