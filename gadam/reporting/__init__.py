"""Reports: stored runs in; tables, figures, a scoreboard and a page with their provenance out."""

from gadam.reporting.notebooks import NotebookError
from gadam.reporting.paths import ReportError
from gadam.reporting.report import Report
from gadam.reporting.reproduction import SampleError, archive_runs, compute_runs, reproduce, write_page
from gadam.reporting.workers import RunError, compute

__all__ = [
    "NotebookError", "Report", "ReportError", "RunError", "SampleError", "archive_runs", "compute", "compute_runs",
    "reproduce", "write_page",
]  # fmt: skip
