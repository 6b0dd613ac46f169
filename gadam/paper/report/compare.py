"""Hold two reports of one profile against each other: are their numbers the same, and their verdicts?"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from gadam.config import InputError

TIMES = re.compile(r"seconds|\bs$|speed-up|efficiency|\btime\b")
"""In names of columns that are times of a machine: left out."""
TOLERANCE = 1e-6


@dataclass
class Comparison:
    """The differences between two reports.

    Attributes:
        identical: numbers that are equal.
        inside: those that lie inside the other's interval.
        outside: a line for each that does not.
        verdicts: a line for each claim whose verdict is another.
        missing: files, rows and claims that one of them lacks.
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


def compare(first: Path, second: Path) -> Comparison:
    """Compare the tables and the claims of two report folders.

    Raises:
        InputError: one of them holds no report.
    """
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
    found.verdicts += [
        f"{text}: {said}, now {after[text]}" for text, said in before.items() if after.get(text, said) != said
    ]
    return found


def _compare_tables(found: Comparison, name: str, a: pd.DataFrame, b: pd.DataFrame) -> None:
    """Add the numbers of two tables to a comparison."""
    if list(a.columns) != list(b.columns) or len(a) != len(b):
        found.missing.append(f"{name}: other rows or columns ({len(a)} and {len(b)} rows)")
        return
    numeric = set(a.select_dtypes("number")) & set(b.select_dtypes("number"))
    for column in (one for one in a.columns if one in numeric and not TIMES.search(one)):
        for row in range(len(a)):
            x, y = float(a[column].iloc[row]), float(b[column].iloc[row])
            if (math.isnan(x) and math.isnan(y)) or math.isclose(x, y, rel_tol=TOLERANCE, abs_tol=1e-12):
                found.identical += 1
            elif _inside(a.iloc[row], b.iloc[row], column):
                found.inside += 1
            else:
                label = " · ".join(str(value) for value in a.iloc[row] if isinstance(value, str))[:80]
                found.outside.append(f"{name}, {column}, {label}: {x:g}, now {y:g}")


def _inside(a: pd.Series, b: pd.Series, column: str) -> bool:
    """Whether each number lies in the interval that stands beside the other; bounds move with what they bound."""
    if column.endswith(("low", "high", "from", "to")) or column.rpartition(" · ")[0]:
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


def describe(found: Comparison, first: Path, second: Path) -> str:
    """Return a comparison as text for a terminal."""
    lines = [f"{first}  beside  {second}"]
    for title, several in (
        ("numbers outside the other's interval", found.outside),
        ("verdicts that are others", found.verdicts),
        ("only in one of them", found.missing),
    ):
        lines += [f"{title}:", *(f"    {one}" for one in several)] if several else []
    lines.append(
        f"{found.identical} numbers identical, {found.inside} inside the other's interval, {len(found.outside)} "
        f"outside; {len(found.verdicts)} verdicts changed"
    )
    return "\n".join(lines)
