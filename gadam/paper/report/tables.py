"""Write a frame as CSV for machines, as Markdown and LaTeX for papers, and as cells of text for the page."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gadam.paper.report.paths import write_atomic

MISSING = "–"
CSV_DIGITS = 8  # significant: what a float32 carries, and the last bits of a sum stay out
SUFFIXES = ("csv", "md", "tex")
LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}  # fmt: skip
SIGNS = {
    "≤": r"$\leq$", "≥": r"$\geq$", "≠": r"$\neq$", "≈": r"$\approx$", "∞": r"$\infty$", "−": "$-$", "→": r"$\to$",
    "√": r"$\surd$", "∈": r"$\in$", "∂": r"$\partial$", "∑": r"$\sum$", "∇": r"$\nabla$",
}  # fmt: skip
"""Signs that pdflatex knows as commands only."""
Decimals = int | Mapping[str, int] | None


@dataclass(frozen=True)
class Cells:
    """A table as a reader sees it: text only, and which columns hold numbers."""

    columns: list[str]
    numeric: list[bool]
    rows: list[list[str]]


def flat(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame with a plain index and plain column names; an index with a name becomes a column."""
    plain = frame.reset_index(drop=all(name is None for name in frame.index.names))
    names = [name if isinstance(name, tuple) else (name,) for name in plain.columns]
    plain.columns = pd.Index([" · ".join(str(part) for part in parts if str(part)) for parts in names])
    return plain


def cells(frame: pd.DataFrame, decimals: Decimals = None) -> Cells:
    """Return a flat frame as text.

    `decimals` are of every column with fractions, or of those named; others show four digits of their largest value.
    """
    chosen = decimals if isinstance(decimals, Mapping) else dict.fromkeys(frame.columns, decimals)
    columns = {str(name): _values(frame[name]) for name in frame}
    texts = [_column_text(values, chosen.get(name)) for name, values in columns.items()]
    numeric = [_is_numeric(values) for values in columns.values()]
    return Cells(list(columns), numeric, [list(row) for row in zip(*texts, strict=True)])


def to_csv(frame: pd.DataFrame) -> str:
    """Return a flat frame as CSV, floats to eight significant digits whatever the type of their column."""

    def plain(value: Any) -> Any:
        if pd.isna(value):
            return ""
        return f"{value:.{CSV_DIGITS}g}" if isinstance(value, float) else value

    text = pd.DataFrame({name: [plain(value) for value in _values(frame[name])] for name in frame}, dtype=object)
    return str(text.to_csv(index=False, lineterminator="\n"))


def to_markdown(table: Cells, caption: str, note: str = "") -> str:
    """Return cells as a Markdown table under its caption."""
    rows = [[_markdown(text) for text in row] for row in table.rows]
    body = pd.DataFrame(rows, columns=[_markdown(name) for name in table.columns]).to_markdown(
        index=False, disable_numparse=True, colalign=["right" if number else "left" for number in table.numeric]
    )
    return "\n\n".join([f"**{_markdown(caption)}**", body, *([_markdown(note)] if note else [])]) + "\n"


def _markdown(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def to_latex(table: Cells, caption: str, note: str = "", label: str = "") -> str:
    """Return cells as a LaTeX table with the rules of booktabs."""
    rows = [[_latex(text) for text in row] for row in table.rows]
    styler = pd.DataFrame(rows, columns=[_latex(name) for name in table.columns]).style.hide(axis="index")
    return styler.to_latex(
        hrules=True, caption=_latex(f"{caption} {note}".strip()), label=f"tab:{label}", position_float="centering",
        column_format="".join("r" if number else "l" for number in table.numeric),
    )  # fmt: skip


def _latex(text: str) -> str:
    return "".join(LATEX.get(sign) or _known(sign) for sign in " ".join(text.split()))


def _known(sign: str) -> str:
    """Return a sign as pdflatex has it: without its accents, or as what it is called, where there is no other way."""
    if ord(sign) <= 0x17F or sign in "–—‘’“”…":
        return sign
    kind, _, name = unicodedata.name(sign, "a sign").partition(" SMALL LETTER ")
    if kind == "GREEK":
        return f"$\\{name.split()[-1].lower()}$"
    plain = unicodedata.normalize("NFKD", sign).encode("ascii", "ignore").decode()
    return SIGNS.get(sign) or plain or kind.lower()


def write(
    folder: Path, name: str, frame: pd.DataFrame, caption: str, note: str = "", decimals: Decimals = None
) -> Cells:
    """Write a flat frame as `<name>.csv`, `.md` and `.tex` into a folder; the cells, for the page."""
    table = cells(frame, decimals)
    write_atomic(folder / f"{name}.csv", to_csv(frame))
    write_atomic(folder / f"{name}.md", to_markdown(table, caption, note))
    write_atomic(folder / f"{name}.tex", to_latex(table, caption, note, label=name))
    return table


def number(value: float, decimals: int) -> str:
    """Format a number with so many decimals, and no minus before a zero."""
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def decimals_for(values: Iterable[float]) -> int:
    """Return the decimals that show four digits of the largest value; 100 counts as two, for accuracies in percent."""
    finite = [abs(value) for value in values if math.isfinite(value)]
    if all(value == int(value) for value in finite):
        return 0
    return min(6, max(0, 3 - math.floor(math.log10(max(finite) / 1.000001))))


def _values(column: pd.Series[Any]) -> list[Any]:
    """A column as Python's own values."""
    return [value.item() if isinstance(value, np.generic) else value for value in column.tolist()]


def _column_text(values: list[Any], decimals: int | None) -> list[str]:
    floats = [value for value in values if isinstance(value, float)]
    fractions = any(math.isfinite(value) and value != int(value) for value in floats)
    places = decimals if decimals is not None and fractions else decimals_for(floats)

    def text(value: Any) -> str:
        if pd.isna(value):
            return MISSING
        if isinstance(value, float):
            return number(value, places) if math.isfinite(value) else "∞" if value > 0 else "-∞"
        return str(value)

    return [text(value) for value in values]


def _is_numeric(values: list[Any]) -> bool:
    """Whether all values that are there are numbers, whatever the type of the column."""
    present = [value for value in values if not pd.isna(value)]
    return bool(present) and all(isinstance(one, int | float) and not isinstance(one, bool) for one in present)
