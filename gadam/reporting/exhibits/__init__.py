"""The figures of the sections, a module each: tidy rows in, a matplotlib figure out."""

from gadam.reporting.exhibits import section3, section41, section54

__all__ = ["section3", "section41", "section54"]
