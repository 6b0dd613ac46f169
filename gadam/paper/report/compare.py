"""Hold two reports of one profile against each other: are their numbers the same, and their verdicts?"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from gadam.config import InputError

TIMES = re.compile(r"seconds|\bs$|speed-up|efficiency|\btime\b")
"""In names of columns that are times of a machine: left out."""
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Comparison:
    """What two reports have in common.

    Attributes:
        identical: numbers that are equal.
        inside: those that lie inside the other's interval.
        outside: a line for each that does not.
        verdicts: a line for each claim whose verdict is another.
        missing: files, rows and claims that one of them lacks.
    """

    identical: int
    inside: int
    outside: list[str]
    verdicts: list[str]
    missing: list[str]

    @property
    def agree(self) -> bool:
        """Whether no number lies outside the other's interval, and no verdict has changed."""
        return not (self.outside or self.verdicts)


def compare(first: Path, second: Path) -> Comparison:
    """Compare the tables and the claims of two report folders.

    Raises:
        InputError: one of them holds no report, or they are of different profiles.
    """
    for folder in (first, second):
        if not (folder / "scoreboard.csv").is_file():
            raise InputError(f"compare: {folder} holds no report (no scoreboard.csv); give the folder of a report")
    identical, inside = 0, 0
    outside: list[str] = []
    missing: list[str] = []
    names = {folder: {path.name for path in (folder / "tables").glob("*.csv")} for folder in (first, second)}
    missing += [f"{name}: only in one of them" for name in sorted(names[first] ^ names[second])]
    for name in sorted(names[first] & names[second]):
        if any(part in name for part in ("threads", "scoreboard")):
            continue
        a, b = (pd.read_csv(folder / "tables" / name) for folder in (first, second))
        if list(a.columns) != list(b.columns) or len(a) != len(b):
            missing.append(f"{name}: other rows or columns ({len(a)} and {len(b)} rows)")
            continue
        same, near, far = _numbers(name, a, b)
        identical, inside = identical + same, inside + near
        outside += far
    claims = [_claims(folder) for folder in (first, second)]
    missing += [
        f"claim {text!r}: only in one of them" for text in claims[0].index.symmetric_difference(claims[1].index)
    ]
    verdicts = []
    for text in claims[0].index.intersection(claims[1].index):
        before, after = (_said(one.loc[text]) for one in claims)
        if before != after:
            verdicts.append(f"{text}: {before}, now {after}")
    return Comparison(identical, inside, outside, verdicts, missing)


def describe(found: Comparison, first: Path, second: Path) -> str:
    """A comparison as text for a terminal."""
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


def _numbers(name: str, a: pd.DataFrame, b: pd.DataFrame) -> tuple[int, int, list[str]]:
    """Of two tables alike: numbers that are equal, those inside the other's interval, and the others in words."""
    identical, inside, outside = 0, 0, []
    for column in a.columns:
        if TIMES.search(column) or not all(pd.api.types.is_numeric_dtype(one[column]) for one in (a, b)):
            continue
        for row in range(len(a)):
            x, y = float(a[column].iloc[row]), float(b[column].iloc[row])
            if (math.isnan(x) and math.isnan(y)) or math.isclose(x, y, rel_tol=TOLERANCE, abs_tol=1e-12):
                identical += 1
            elif _inside(a.iloc[row], b.iloc[row], column):
                inside += 1
            else:
                label = " · ".join(str(value) for value in a.iloc[row] if isinstance(value, str))[:80]
                outside.append(f"{name}, {column}, {label}: {x:g}, now {y:g}")
    return identical, inside, outside


def _inside(a: pd.Series, b: pd.Series, column: str) -> bool:
    """Whether each number lies in the interval that stands beside the other; bounds move with what they bound."""
    prefix = column.rpartition(" · ")[0]
    pairs = ([f"{column}{between}{end}" for end in ("low", "high")] for between in (" · ", " "))
    bounds = next((pair for pair in (*pairs, ["low", "high"]) if all(name in a for name in pair)), [])
    if column in bounds or column.endswith(("low", "high", "from", "to")) or prefix:
        return True
    if len(bounds) < 2:
        return False
    return bool(b[bounds[0]] <= a[column] <= b[bounds[1]] and a[bounds[0]] <= b[column] <= a[bounds[1]])


def _claims(folder: Path) -> pd.DataFrame:
    frame = pd.read_csv(folder / "scoreboard.csv", dtype=str, keep_default_na=False)
    frame["claim"] += frame["headline"].map(lambda key: f" [headline: {key}]" if key else "")
    return frame.set_index("claim")


def _said(row: pd.Series) -> str:
    return f"{row['verdict']} ({row['reason']})" if row["reason"] else str(row["verdict"])
