"""Values in words for messages; HTML and images for notebooks, and who is looking at them."""

from __future__ import annotations

import base64
import io
import sys
import warnings
from collections.abc import Mapping
from html import escape
from textwrap import shorten
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor


def shown(value: Any) -> str:
    """Return the repr of a value in at most 60 characters and one line."""
    return shorten(repr(value), 60, placeholder="...")


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its name if it says nothing."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def describe_error(error: BaseException) -> str:
    """Return an error's name and the first line of what it says."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def describe_type(value: Any) -> str:
    """Return the name of a value's type, with its module unless it is built in."""
    return f"{type(value).__module__}.{type(value).__name__}".removeprefix("builtins.")


def describe_tensor(tensor: Tensor | None, first: int = 0) -> str:
    """Return the shape of a tensor, from a dimension on, and its dtype: "[3, 4] float32"."""
    return "missing" if tensor is None else f"{list(tensor.shape[first:])} {str(tensor.dtype).removeprefix('torch.')}"


def duration(seconds: float) -> str:
    """Return seconds as a reader says them: "0 s", "45 s", "3 min", "2.5 h", "4.1 d"."""
    if seconds < 100:
        return f"{-int(-seconds // 1)} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3_600:.1f} h" if seconds < 48 * 3_600 else f"{seconds / 86_400:,.1f} d"


def warn(message: str) -> None:
    """Warn in the name of the code that called this package."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith("gadam."):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)


def shell() -> Any:
    """Return the IPython shell that this runs in; None where it is none."""
    return sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None


def front_end() -> Literal["terminal", "batch", "notebook"]:
    """Tell a person's notebook from one that a program executes ("batch"), and both from a terminal or a script.

    A program that executes a notebook for nobody (papermill, nbconvert, nbval) allows no input from stdin.
    """
    kernel = getattr(shell(), "kernel", None)
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
