"""Hold two reports of one profile against each other: are their numbers the same, and their verdicts?"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from gadam.config import InputError

TIMES = re.compile(r"seconds|\bs$|speed-up|efficiency|\btime\b")
"""In names of columns that are times of a machine: left out."""
TOLERANCE = 1e-6


@dataclass
class Comparison:
    """How many numbers are identical or inside the other's interval, and a line for each other difference.

    `missing` has the files, rows and claims that one of the two reports lacks.
    """

    identical: int = 0
    inside: int = 0
    outside: list[str] = field(default_factory=list)
    verdicts: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def agree(self) -> bool:
        """Whether no number lies outside the other's interval, and no verdict has changed."""
        return not (self.outside or self.verdicts)

    def describe(self) -> str:
        """Return the comparison as text for a terminal."""
        lines: list[str] = []
        for title, several in (
            ("numbers outside the other's interval", self.outside),
            ("verdicts that are others", self.verdicts),
            ("only in one of them", self.missing),
        ):
            lines += [f"{title}:", *(f"    {one}" for one in several)] if several else []
        lines.append(
            f"{self.identical} numbers identical, {self.inside} inside the other's interval, {len(self.outside)} "
            f"outside; {len(self.verdicts)} verdicts changed"
        )
        return "\n".join(lines)


def compare(first: Path, second: Path) -> Comparison:
    """Compare the tables and the claims of two report folders; an InputError if one of them holds no report."""
    for folder in (first, second):
        if not (folder / "scoreboard.csv").is_file():
            raise InputError(f"compare: {folder} holds no report (no scoreboard.csv); give the folder of a report")
    found = Comparison()
    a, b = ({path.name: path for path in (folder / "tables").glob("*.csv")} for folder in (first, second))
    found.missing += [f"{name}: only in one of them" for name in sorted(a.keys() ^ b.keys())]
    for name in sorted(a.keys() & b.keys()):
        if "threads" not in name and "scoreboard" not in name:
            _compare_tables(found, name, pd.read_csv(a[name]), pd.read_csv(b[name]))
    before, after = _claims(first), _claims(second)
    found.missing += [f"claim {text!r}: only in one of them" for text in before.keys() ^ after.keys()]
    found.verdicts += [f"{one}: {was}, now {after[one]}" for one, was in before.items() if after.get(one, was) != was]
    return found


def _compare_tables(found: Comparison, name: str, a: pd.DataFrame, b: pd.DataFrame) -> None:
    """Add the numbers of two tables to a comparison."""
    if list(a.columns) != list(b.columns) or len(a) != len(b):
        found.missing.append(f"{name}: other rows or columns ({len(a)} and {len(b)} rows)")
        return
    numeric = [str(column) for column in a.select_dtypes("number") if column in b.select_dtypes("number")]
    for column in (one for one in numeric if not TIMES.search(one)):
        same = np.isclose(a[column], b[column], rtol=TOLERANCE, atol=1e-12, equal_nan=True)
        found.identical += int((same & a[column].notna()).sum())  # an empty cell is no number
        for row in np.flatnonzero(~same):
            if _inside(a.iloc[row], b.iloc[row], column):
                found.inside += 1
            else:
                label = " · ".join(str(value) for value in a.iloc[row] if isinstance(value, str))[:80]
                found.outside.append(f"{name}, {column}, {label}: {a[column][row]:g}, now {b[column][row]:g}")


def _inside(a: pd.Series, b: pd.Series, column: str) -> bool:
    """Whether each number lies in the interval that stands beside the other; bounds move with what they bound."""
    if column.endswith(("low", "high")) or column.rpartition(" · ")[0]:
        return True
    for low, high in ((f"{column} · low", f"{column} · high"), (f"{column} low", f"{column} high"), ("low", "high")):
        if low in a and high in a:
            return bool(b[low] <= a[column] <= b[high] and a[low] <= b[column] <= a[high])
    return False


def _claims(folder: Path) -> dict[str, str]:
    """The verdict on each claim."""
    frame = pd.read_csv(folder / "scoreboard.csv", dtype=str, keep_default_na=False)
    names = frame["claim"] + frame["headline"].map(lambda key: f" [headline: {key}]" if key else "")
    verdicts = frame["verdict"] + frame["reason"].map(lambda reason: f" ({reason})" if reason else "")
    return dict(zip(names, verdicts, strict=True))
