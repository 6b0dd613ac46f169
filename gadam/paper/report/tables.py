"""Write a frame as CSV for machines, as Markdown and LaTeX for papers, and as cells of text for the page."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
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
    """A table as a reader sees it: text only.

    Attributes:
        numeric: which columns hold numbers.
        everywhere: what all rows have in common, in words instead of columns.
    """

    columns: list[str]
    numeric: list[bool]
    rows: list[list[str]]
    everywhere: str = ""


def cells(frame: pd.DataFrame, decimals: Decimals = None, shown: Sequence[str] | None = None) -> Cells:
    """Return a frame as text, a value and its bounds in one cell: "59.1 [58.2, 60.0]".

    Bounds are two columns with "low" and "high" in their names, after the value's. A column that says the same words
    or whole number in all of three rows or more is said once. `decimals` are of every column with fractions, or of
    those named; others show four digits of their largest value. `shown` are the columns for readers, beside `data`;
    default: all.
    """
    chosen = decimals if isinstance(decimals, Mapping) else dict.fromkeys(frame.columns, decimals)
    columns = _with_bounds([str(name) for name in frame])
    texts: dict[str, list[str]] = {}
    numeric, everywhere = [], []
    for name in columns if shown is None else dict.fromkeys((*shown, *columns.keys() & {"data"})):
        values, *bounds = (_values(frame[one]) for one in (name, *columns[name]))
        text = _cell_texts(values, bounds, chosen.get(name))
        said = set(text) - ({MISSING} if name == "data" else set())  # what was not computed has no data yet
        if texts and len(text) > 2 and len(said) == 1 and said != {MISSING} and not _has_fractions(values):
            everywhere.append(f"{name}: {said.pop()}")
        elif said:
            texts[name] = text
            numeric.append(_is_numeric(values))
    rows = [list(row) for row in zip(*texts.values(), strict=True)]
    return Cells(list(texts), numeric, rows, f"In all rows: {'; '.join(everywhere)}." if everywhere else "")


def _with_bounds(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Map each column to the two that hold its bounds, or to nothing."""
    bounds = {
        value: (low, high)
        for value, low, high in zip(names, names[1:], names[2:], strict=False)
        if high != low and high == re.sub(r"\blow\b", "high", low)
    }
    taken = {one for pair in bounds.values() for one in pair}
    return {name: bounds.get(name, ()) for name in names if name not in taken}


def _cell_texts(values: list[Any], bounds: Sequence[list[Any]], decimals: int | None) -> list[str]:
    """The text of each cell of a column, with bounds in brackets where there are any."""
    everything = [one for column in (values, *bounds) for one in column]
    texts = _column_text(everything, decimals)
    if not bounds:
        return texts
    centres, lows, highs = (texts[start : start + len(values)] for start in range(0, len(texts), len(values)))
    return [
        centre if MISSING in (low, high) else f"{centre} [{low}, {high}]"
        for centre, low, high in zip(centres, lows, highs, strict=True)
    ]


def to_csv(frame: pd.DataFrame) -> str:
    """Return a frame as CSV, floats to eight significant digits whatever the type of their column."""

    def plain(value: Any) -> Any:
        if pd.isna(value):
            return ""
        return f"{value:.{CSV_DIGITS}g}" if isinstance(value, float) else value

    return str(frame.astype(object).map(plain).to_csv(index=False, lineterminator="\n"))


def to_markdown(table: Cells, caption: str, note: str = "") -> str:
    """Return cells as a Markdown table under its caption."""
    rows = [[_markdown(text) for text in row] for row in table.rows]
    body = pd.DataFrame(rows, columns=[_markdown(name) for name in table.columns]).to_markdown(
        index=False, disable_numparse=True, colalign=["right" if number else "left" for number in table.numeric]
    )
    below = [_markdown(text) for text in (table.everywhere, note) if text]
    return "\n\n".join([f"**{_markdown(caption)}**", body, *below]) + "\n"


def _markdown(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def to_latex(table: Cells, caption: str, note: str = "", label: str = "") -> str:
    """Return cells as a LaTeX table with the rules of booktabs."""
    rows = [[_latex(text) for text in row] for row in table.rows]
    above = " ".join(text for text in (caption, table.everywhere, note) if text)
    styler = pd.DataFrame(rows, columns=[_latex(name) for name in table.columns]).style.hide(axis="index")
    return styler.to_latex(
        hrules=True, caption=_latex(above), label=f"tab:{label}", position_float="centering",
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
    folder: Path, name: str, frame: pd.DataFrame, caption: str, note: str = "", decimals: Decimals = None,
    shown: Sequence[str] | None = None,
) -> Cells:  # fmt: skip
    """Write a frame as `<name>.csv`, whole, and as `.md` and `.tex` for readers; return the cells."""
    table = cells(frame, decimals, shown)
    write_atomic(folder / f"{name}.csv", to_csv(frame))
    write_atomic(folder / f"{name}.md", to_markdown(table, caption, note))
    write_atomic(folder / f"{name}.tex", to_latex(table, caption, note, label=name))
    return table


def number(value: float, decimals: int) -> str:
    """Format a number with so many decimals, a comma between thousands, and no minus before a zero."""
    text = f"{value:,.{decimals}f}"
    return text if text.strip("-0.") else text.removeprefix("-")


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
    places = decimals if decimals is not None and _has_fractions(values) else decimals_for(floats)

    def text(value: Any) -> str:
        if pd.isna(value):
            return MISSING
        if isinstance(value, float):
            return number(value, places) if math.isfinite(value) else "∞" if value > 0 else "-∞"
        if isinstance(value, bool):
            return "yes" if value else "no"
        return f"{value:,}" if isinstance(value, int) else str(value)

    return [text(value) for value in values]


def _has_fractions(values: list[Any]) -> bool:
    return any(isinstance(one, float) and math.isfinite(one) and one != int(one) for one in values)


def _is_numeric(values: list[Any]) -> bool:
    """Whether all values that are there are numbers, whatever the type of the column."""
    present = [value for value in values if not pd.isna(value)]
    return bool(present) and all(isinstance(one, int | float) and not isinstance(one, bool) for one in present)
