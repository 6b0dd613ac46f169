"""The figures of the sections, a module each: tidy rows in, a matplotlib figure out."""

from gadam.paper.report.exhibits import (
    pipeline,
    section3,
    section41,
    section42,
    section43,
    section51,
    section52,
    section53,
)

__all__ = [
    "pipeline",
    "section3",
    "section41",
    "section42",
    "section43",
    "section51",
    "section52",
    "section53",
]
