"""HTML and images for notebooks, and who is looking at them."""

from __future__ import annotations

import base64
import io
import sys
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def front_end() -> Literal["terminal", "batch", "notebook"]:
    """Tell a person's notebook from one that a program executes ("batch"), and both from a terminal or a script.

    A program that executes a notebook for nobody (papermill, nbconvert, nbval) allows no input from stdin.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    kernel = getattr(shell, "kernel", None)
    if kernel is None:
        return "terminal"
    message = kernel.get_parent("shell").get("content", {})
    return "notebook" if message.get("allow_stdin", True) else "batch"  # the messages of widgets do not say


def html_table(rows: Mapping[str, str], caption: str) -> str:
    """Return an HTML table of two columns, names and values, all escaped."""
    lines = "".join(
        f'<tr><th scope="row" style="text-align:left">{escape(name)}</th>'
        f'<td style="text-align:left">{escape(value)}</td></tr>'
        for name, value in rows.items()
    )
    return f'<table><caption style="text-align:left">{escape(caption)}</caption><tbody>{lines}</tbody></table>'


def html_image(png: bytes, alt: str, style: str = "") -> str:
    """Return an HTML image that holds the PNG itself."""
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return f'<img alt="{escape(alt)}" style="{style}" src="{source}"/>'


def side_by_side(pictures: Mapping[str, bytes]) -> str:
    """Return HTML of PNGs by their alternative texts: two in a row where letters stay legible, else one."""
    style = "flex:1 1 400px; min-width:0; max-width:min(100%, 600px); height:auto"
    images = "".join(html_image(png, alt, style) for alt, png in pictures.items())
    return f'<div style="display:flex; flex-wrap:wrap; align-items:flex-start; max-width:1190px">{images}</div>'


def to_png(figure: Figure, dpi: int) -> bytes:
    """Return the figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()
