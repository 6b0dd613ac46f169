"""Every claim of the paper beside what came out, with a verdict by rule."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from gadam.config import InputError
from gadam.experiments import SECTIONS, paper
from gadam.reporting import tables
from gadam.reporting.paths import write_atomic

COLUMNS = (
    "claim", "section", "exhibit", "kind", "paper", "ours", "low", "high", "interval", "budget", "seeds", "data",
    "item",
)  # fmt: skip
OPTIONAL = {"budget": None, "item": ""}  # and what stands for them where a section says nothing
KINDS = ("value", "greater", "within", "open")
SOURCES = ("real", "stand-in", "none")

REPRODUCED = "reproduced"
NOT_REPRODUCED = "not reproduced"
UNDECIDABLE = "undecidable"
NO_RESULT = f"{UNDECIDABLE} (no result)"
NO_INTERVAL = f"{UNDECIDABLE} (no interval)"
ONE_SEED = f"{UNDECIDABLE} (fewer than 2 seeds)"
WIDE = f"{UNDECIDABLE} (interval too wide)"
BOTH_SIDES = f"{UNDECIDABLE} (limit in interval)"
AS_STATED = f"{UNDECIDABLE} (as stated)"
REDUCED = f"{UNDECIDABLE} (reduced budget)"
STANDIN = f"{UNDECIDABLE} (stand-in data)"
SMOKE = f"{UNDECIDABLE} (profile smoke)"
VERDICTS = (
    REPRODUCED,
    NOT_REPRODUCED,
    WIDE,
    BOTH_SIDES,
    AS_STATED,
    REDUCED,
    NO_RESULT,
    NO_INTERVAL,
    ONE_SEED,
    STANDIN,
    SMOKE,
)

# An interval that reaches further than this share of the paper's value to either side could agree with anything.
DECISIVE = 0.1
# For accuracies in percent, most of which lie between 90 and 100, it is so many points: what methods differ by.
DECISIVE_POINTS = 2.0

RULES = (
    'A value is "reproduced" when the paper\'s number lies in our interval, ends included, else "not reproduced". '
    f"An interval that holds it but is wider than ± {DECISIVE_POINTS:g} points, for a loss ± {DECISIVE:.0%} of it, "
    'would hold much else: "undecidable (interval too wide)".',
    'A difference that the paper says is greater than 0 is "reproduced" when our whole interval lies above 0, '
    '"not reproduced" when it lies below 0, else "undecidable (limit in interval)".',
    'A difference that the paper says is no difference, within a margin m that is given in its place, is "reproduced" '
    'when our whole interval lies in [-m, m], ends included, "not reproduced" when all of it lies outside, else '
    '"undecidable (limit in interval)".',
    'A claim with nothing in it that an experiment could contradict (a "finite" number, "minor" beside what is not '
    'said) is "undecidable (as stated)"; what we saw of it stands beside it.',
    "Where we spent less than the paper's stated budget (training steps, images, trees), or, where it states none, "
    'less than profile paper does, the claim is "undecidable (reduced budget)", whatever our number is; "budget" is '
    'the share spent, "–" where it was all, or where a budget is nothing that the claim depends on.',
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
    if row["kind"] == "open":
        return AS_STATED
    ours, low, high, seeds = (_number(row[name]) for name in ("ours", "low", "high", "seeds"))
    if math.isnan(ours):
        return NO_RESULT
    if _number(row.get("budget")) < 1:
        return REDUCED
    if math.isnan(seeds) or seeds < 2:
        return ONE_SEED
    if math.isnan(low) or math.isnan(high):
        return NO_INTERVAL
    theirs = _number(row["paper"])
    if row["kind"] == "value":
        differs = not low <= theirs <= high
        agrees = not differs and high - low <= 2 * _decisive(str(row.get("item") or ""), theirs)
    elif row["kind"] == "within":
        agrees, differs = -theirs <= low and high <= theirs, low > theirs or high < -theirs
    else:
        agrees, differs = low > 0, high < 0
    open_verdict = WIDE if row["kind"] == "value" else BOTH_SIDES
    return REPRODUCED if agrees else NOT_REPRODUCED if differs else open_verdict


def _decisive(item: str, theirs: float) -> float:
    """The half width up to which an interval around the paper's number says something."""
    is_accuracy = bool(item) and not item.endswith("/loss")
    return DECISIVE_POINTS if is_accuracy else DECISIVE * abs(theirs)


def judged(claims: pd.DataFrame, profile: str = "quick") -> pd.DataFrame:
    """The claims in their fixed columns, with verdicts, and without our numbers where they come from a stand-in."""
    complete = claims.assign(**{name: value for name, value in OPTIONAL.items() if name not in claims})
    complete["item"] = complete["item"].fillna("")
    _validate(complete)
    frame = complete[list(COLUMNS)].reset_index(drop=True).astype(object)
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
    """The claims of every section that has any, as text, in the order of the sections.

    Raises:
        InputError: a file is damaged; one line that says which.
    """
    columns = [*COLUMNS, "verdict"]
    frames = [_kept(folder, section, columns) for section in SECTIONS if (folder / f"{section}.csv").is_file()]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns, dtype=str)


def _kept(folder: Path, section: str, columns: list[str]) -> pd.DataFrame:
    """The claims that a section has left behind."""
    path = folder / f"{section}.csv"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # of rows that are longer than the header
            text = StringIO(path.read_text("utf-8"))
            frame = pd.read_csv(text, dtype=str, keep_default_na=False, index_col=False)
        for column, allowed in (("kind", KINDS), ("data", SOURCES), ("verdict", VERDICTS)):
            if strange := sorted(set(frame[column]) - set(allowed)):
                raise ValueError(f"{column} is {strange[0]!r}")
    except (ValueError, KeyError, pd.errors.ParserWarning) as error:
        reason = " ".join(str(error).split())[:100]
        advice = f"remove it and execute its section again: gadam reproduce --only {section}"
        raise InputError(f"{path} is damaged ({reason}); {advice}") from None
    # What was written before a column was there reads as empty.
    return frame.reindex(columns=columns, fill_value="")


def readable(claims: pd.DataFrame) -> list[dict[str, str]]:
    """Judged claims for the page, numbers to four digits; from `judged` or `merge`."""
    rows = []
    for row in claims.to_dict("records"):
        shown = {str(name): _text(value) for name, value in row.items()}
        numbers = [_number(row[name]) for name in ("ours", "low", "high")]
        if not any(map(math.isnan, numbers)):
            ours, low, high = (tables.number(number, tables.decimals_for(numbers)) for number in numbers)
            shown["ours"] = f"{ours} [{low}, {high}]"
        if row["kind"] == "within":
            shown["paper"] = f"± {shown['paper']}"
        budget = _number(row["budget"])
        shown["budget"] = "" if math.isnan(budget) else f"{_percent(budget)} %"
        rows.append({**shown, "mark": shown["verdict"].split(" (")[0], "reason": reason_of(shown["verdict"])})
    return rows


def paper_numbers() -> dict[str, float]:
    """Every number of Tables 1, 3 and 4 under the `item` that links a claim to it: "table4/MLP (GADAM)/yeast"."""
    numbers: dict[str, float] = {}
    for method, pair in paper.TABLE1.items():
        printed = dict(zip(("loss", "accuracy"), pair, strict=True))
        numbers |= {f"table1/{method}/{name}": value for name, value in printed.items() if value is not None}
    for table, content in (("table3", paper.TABLE3), ("table4", paper.TABLE4)):
        for method, cells in content.items():
            numbers |= {f"{table}/{method}/{column}": value for column, value in cells.items()}
    return numbers


def without_claim(claims: pd.DataFrame) -> list[str]:
    """The paper's numbers that no claim of kind "value" links to; from `judged` or `merge`.

    A table counts once the section that promises it has claims: a report may hold some sections only.
    """
    there = set(claims["section"])
    owners = {table: name for name, section in SECTIONS.items() for table in section.tables}
    linked = set(claims.loc[claims["kind"] == "value", "item"])
    return [item for item in paper_numbers() if owners.get(item.split("/")[0]) in there and item not in linked]


def counts(claims: pd.DataFrame) -> dict[str, int]:
    """How many claims there are of each verdict."""
    return {one: int((claims["verdict"] == one).sum()) for one in VERDICTS}


def by_section(claims: pd.DataFrame) -> pd.DataFrame:
    """A row for each section: its claims, how many are reproduced, not reproduced and undecidable, and why those."""
    lines = []
    for name, section in SECTIONS.items():
        verdicts = claims.loc[claims["section"] == name, "verdict"]
        open_ones = [one for one in VERDICTS if one.startswith(UNDECIDABLE) and (verdicts == one).any()]
        reasons = [f"{reason_of(one)} {int((verdicts == one).sum())}" for one in open_ones]
        lines.append({
            "section": section.title,
            "claims": len(verdicts),
            REPRODUCED: int((verdicts == REPRODUCED).sum()),
            NOT_REPRODUCED: int((verdicts == NOT_REPRODUCED).sum()),
            UNDECIDABLE: int(verdicts.str.startswith(UNDECIDABLE).sum()),
            "undecidable because of": ", ".join(reasons) if len(verdicts) else "no claims in this report",
        })  # fmt: skip
    return pd.DataFrame(lines)


def reason_of(verdict: str) -> str:
    """What stands in the brackets of a verdict: "reduced budget"; "" where nothing does."""
    return verdict.partition(" (")[2].removesuffix(")")


def _percent(share: float) -> str:
    """A share in percent: "1.3", "0.045", "100"; what is less than all is never rounded to all."""
    if share >= 0.995:
        return f"{math.floor(100 * share + 1e-9)}"
    return f"{100 * share:.2g}"


def _text(value: Any) -> str:
    """Text for a reader; "" for what is missing."""
    if _is_missing(value):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _validate(claims: pd.DataFrame) -> None:
    absent = [name for name in COLUMNS if name not in claims]
    if absent:
        raise InputError(f"claims: columns {absent} are missing; there must be {', '.join(COLUMNS)}")
    numbers = paper_numbers()
    for name, allowed in (("kind", KINDS), ("data", SOURCES)):
        wrong = set(claims[name]) - set(allowed)
        if wrong:
            raise InputError(
                f"claims: {name}={min(wrong, key=str)!r} is not allowed; it must be one of {', '.join(allowed)}"
            )
    for row in claims.to_dict("records"):
        claim, theirs = row["claim"], _number(row["paper"])
        if row["kind"] in ("value", "within") and math.isnan(theirs):
            raise InputError(
                f"claims: paper={row['paper']!r} of {claim!r} must be a number, as its kind is {row['kind']!r}"
            )
        if row["kind"] == "within" and theirs <= 0:
            raise InputError(f"claims: paper={row['paper']!r} of {claim!r} must be a margin above 0")
        if _number(row["low"]) > _number(row["high"]):
            raise InputError(f"claims: low={row['low']!r} of {claim!r} must not be above high={row['high']!r}")
        if not _is_missing(row["budget"]) and not 0 <= _number(row["budget"]) < math.inf:
            raise InputError(f"claims: budget={row['budget']!r} of {claim!r} must be a share, 1 for all of it, or None")
        if row["item"] and row["item"] not in numbers:
            raise InputError(
                f"claims: item={row['item']!r} of {claim!r} is none of paper_numbers(), {next(iter(numbers))!r} …"
            )
        if row["item"] and row["kind"] == "value" and theirs != numbers[row["item"]]:
            raise InputError(
                f"claims: paper={row['paper']!r} of {claim!r}, but {row['item']} is {numbers[row['item']]}"
            )


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or value == "" or (isinstance(value, float) and math.isnan(value))


def _number(value: Any) -> float:
    """A number, or NaN for what is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
