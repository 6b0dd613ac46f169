"""Every claim of the paper beside what came out, with a verdict by rule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from gadam.config import InputError
from gadam.experiments import SECTIONS
from gadam.reporting import tables
from gadam.reporting.paths import write_atomic

COLUMNS = (
    "claim", "section", "exhibit", "kind", "paper", "ours", "low", "high", "interval", "seeds", "data",
)  # fmt: skip
KINDS = ("value", "greater")
SOURCES = ("real", "stand-in", "none")

REPRODUCED = "reproduced"
NOT_REPRODUCED = "not reproduced"
UNDECIDABLE = "undecidable"
STANDIN = "undecidable (stand-in data)"
SMOKE = "undecidable (profile smoke)"
VERDICTS = (REPRODUCED, NOT_REPRODUCED, UNDECIDABLE, STANDIN, SMOKE)

# An interval that reaches further than this share of the paper's value to either side could agree with anything.
DECISIVE = 0.1

RULES = (
    'A value is "reproduced" when the paper\'s number lies in our interval, ends included, else "not reproduced". '
    f'An interval that holds it but is wider than ± {DECISIVE:.0%} of it would hold much else: "undecidable".',
    'A difference that the paper says is greater than 0 is "reproduced" when our whole interval lies above 0, '
    '"not reproduced" when it lies below 0, else "undecidable".',
    'Without a result, an interval, or at least two seeds a claim is "undecidable".',
    "Profile smoke decides nothing: its budgets only show that everything runs.",
    'On stand-in data every claim is "undecidable (stand-in data)", and our number is not shown beside the paper\'s.',
)


def verdict(row: Mapping[str, Any], profile: str = "quick") -> str:
    """What the rules say about a claim."""
    if row["data"] == "stand-in":
        return STANDIN
    if profile == "smoke":
        return SMOKE
    ours, low, high, seeds = (_number(row[name]) for name in ("ours", "low", "high", "seeds"))
    if any(math.isnan(value) for value in (ours, low, high, seeds)) or seeds < 2:
        return UNDECIDABLE
    if row["kind"] == "value":
        paper = _number(row["paper"])
        if not low <= paper <= high:
            return NOT_REPRODUCED
        return REPRODUCED if high - low <= 2 * DECISIVE * abs(paper) else UNDECIDABLE
    return REPRODUCED if low > 0 else NOT_REPRODUCED if high < 0 else UNDECIDABLE


def judged(claims: pd.DataFrame, profile: str = "quick") -> pd.DataFrame:
    """The claims in their fixed columns, with verdicts, and without our numbers where they come from a stand-in."""
    _validate(claims)
    frame = claims[list(COLUMNS)].reset_index(drop=True).astype(object)
    frame["verdict"] = [
        verdict({str(name): value for name, value in row.items()}, profile) for row in frame.to_dict("records")
    ]
    frame.loc[frame["data"] == "stand-in", ["ours", "low", "high", "interval"]] = None
    return frame


def write_claims(folder: Path, section: str, claims: pd.DataFrame, profile: str = "quick") -> pd.DataFrame:
    """Write the judged claims of a section to `<folder>/<section>.csv`."""
    frame = judged(claims, profile)
    write_atomic(folder / f"{section}.csv", tables.to_csv(frame))
    return frame


def merge(folder: Path) -> pd.DataFrame:
    """The claims of every section that has any, as text, in the order of the sections."""
    files = [path for section in SECTIONS if (path := folder / f"{section}.csv").is_file()]
    frames = [pd.read_csv(StringIO(path.read_text()), dtype=str, keep_default_na=False) for path in files]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=[*COLUMNS, "verdict"], dtype=str)


def readable(claims: pd.DataFrame) -> list[dict[str, str]]:
    """Judged claims for the page, numbers to four digits; from `judged` or `merge`."""
    rows = []
    for row in claims.to_dict("records"):
        shown = {str(name): _text(value) for name, value in row.items()}
        numbers = [_number(row[name]) for name in ("ours", "low", "high")]
        if not any(map(math.isnan, numbers)):
            ours, low, high = (tables.number(number, tables.decimals_for(numbers)) for number in numbers)
            shown["ours"] = f"{ours} [{low}, {high}]"
        rows.append({**shown, "mark": shown["verdict"].split(" (")[0]})
    return rows


def counts(claims: pd.DataFrame) -> dict[str, int]:
    """How many claims there are of each verdict."""
    return {one: int((claims["verdict"] == one).sum()) for one in VERDICTS}


def _text(value: Any) -> str:
    """Text for a reader; "" for what is missing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _validate(claims: pd.DataFrame) -> None:
    absent = [name for name in COLUMNS if name not in claims]
    if absent:
        raise InputError(f"claims: columns {absent} are missing; there must be {', '.join(COLUMNS)}")
    for name, allowed in (("kind", KINDS), ("data", SOURCES)):
        wrong = set(claims[name]) - set(allowed)
        if wrong:
            raise InputError(
                f"claims: {name}={min(wrong, key=str)!r} is not allowed; it must be one of {', '.join(allowed)}"
            )
    for row in claims.to_dict("records"):
        if row["kind"] == "value" and math.isnan(_number(row["paper"])):
            raise InputError(
                f"claims: paper={row['paper']!r} of {row['claim']!r} must be a number, as its kind is 'value'"
            )
        if _number(row["low"]) > _number(row["high"]):
            raise InputError(f"claims: low={row['low']!r} of {row['claim']!r} must not be above high={row['high']!r}")


def _number(value: Any) -> float:
    """A number, or NaN for what is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
