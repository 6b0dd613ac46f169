"""HTML from templates, everything escaped; and objects that show themselves in a notebook."""

from __future__ import annotations

import base64
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment


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
    return _environment().get_template(template).render(**values)


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(Path(__file__).parent / "templates")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
