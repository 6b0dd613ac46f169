"""HTML from templates, everything escaped; and objects that show themselves in a notebook."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


@dataclass(frozen=True)
class Shown:
    """The last value of a cell: it shows itself in a notebook."""

    html: str = ""
    png: bytes = b""
    alt: str = ""

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Any]]:
        if self.png:
            image = base64.b64encode(self.png).decode()
            return {"image/png": image, "text/plain": self.alt}, {"image/png": {"alt": self.alt}}
        return {"text/html": self.html, "text/plain": self.alt}, {}


def render(template: str, **values: Any) -> str:
    """Fill in a template of this package."""
    return _TEMPLATES.get_template(template).render(**values)


def ranges(numbers: Iterable[int]) -> str:
    """Write ascending whole numbers, those in a row by the first and the last: "0, 100–102"."""
    rows = itertools.groupby(enumerate(numbers), lambda one: one[1] - one[0])
    found = [[number for _, number in row] for _, row in rows]
    return ", ".join(f"{row[0]}–{row[-1]}" if len(row) > 1 else str(row[0]) for row in found)


_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")), autoescape=True, undefined=StrictUndefined,
    trim_blocks=True, lstrip_blocks=True,
)  # fmt: skip
_TEMPLATES.filters["ranges"] = ranges
