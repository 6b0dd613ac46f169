"""The figures of the sections, a module each: tidy rows in, a matplotlib figure out."""

from gadam.paper.report.exhibits import (
    beyond,
    pipeline,
    section3,
    section6,
    section41,
    section42,
    section43,
    section54,
    section54_orl,
)

__all__ = [
    "beyond",
    "pipeline",
    "section3",
    "section6",
    "section41",
    "section42",
    "section43",
    "section54",
    "section54_orl",
]
