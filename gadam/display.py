"""Values in words for messages, and small tables for Jupyter."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from html import escape
from textwrap import shorten
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
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


def html_table(rows: Mapping[str, str], caption: str) -> str:
    """Return an HTML table of two columns, names and values, everything escaped."""
    lines = "".join(
        f'<tr><th scope="row" style="text-align:left">{escape(name)}</th>'
        f'<td style="text-align:left">{escape(value)}</td></tr>'
        for name, value in rows.items()
    )
    return f'<table><caption style="text-align:left">{escape(caption)}</caption><tbody>{lines}</tbody></table>'


def front_end() -> Literal["terminal", "batch", "notebook"]:
    """Tell who looks at what is displayed: a terminal or script, a notebook that a program executes, or a person's.

    What executes a notebook for nobody (papermill, nbconvert, nbval) says that nobody there can be asked for input.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    kernel = getattr(shell, "kernel", None)
    if kernel is None:
        return "terminal"
    message = kernel.get_parent("shell").get("content", {})
    return "notebook" if message.get("allow_stdin", True) else "batch"  # what a widget sends does not say
