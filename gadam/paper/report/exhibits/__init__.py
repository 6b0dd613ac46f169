"""The figures of the sections, a module each: tidy rows in, a matplotlib figure out."""

from gadam.paper.report.exhibits import beyond, section6, section54, section54_orl

__all__ = ["beyond", "section6", "section54", "section54_orl"]
