"""Every claim of the paper beside our number, with a verdict by rule."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from gadam.config import InputError
from gadam.paper import SECTIONS
from gadam.paper import published as paper
from gadam.paper.claims import HEADLINES, Arms, Claim, judge, judge_headline
from gadam.paper.report import tables
from gadam.paper.report.paths import write_atomic
from gadam.paper.verdicts import COMPATIBLE, NOT_REPRODUCED, OPEN, QUOTED, REPRODUCED, RULES, UNDECIDED

__all__ = ["COLUMNS", "MARKS", "RULES", "by_section", "judged", "merge", "readable", "write_claims"]

COLUMNS = (
    "claim", "section", "exhibit", "kind", "paper", "margin", "size", "ours", "low", "high", "interval", "budget",
    "seeds", "data", "item", "headline", "verdict", "reason", "decides",
)  # fmt: skip
KINDS = ("value", "reaches", "greater", "within", "always", "varies", "weakest", "open")
SOURCES = ("real", "stand-in", "none")
MARKS = (REPRODUCED, NOT_REPRODUCED, COMPATIBLE, QUOTED, OPEN, UNDECIDED)
NUMBERS = ("ours", "low", "high")
STATED = (
    "Rules, margins, sizes, seeds and headlines were stated in commit be2fd08 of 28 November 2026, before the first "
    "run of profile standard was computed. Since then: a claim that is compatible at one image size and reproduced at "
    "the other is compatible; what a run that collapsed comes down to is the share of the most frequent class."
)
"""Which commit stated the rules, margins, seeds and headlines, before the runs of standard; and what changed since."""


def judged(claims: Sequence[Claim], arms: Arms, profile: str = "standard") -> pd.DataFrame:
    """Judge claims, in fixed columns, without our numbers where they come from a stand-in.

    A claim that is a headline has a second line, with an interval that holds together with those of all headlines.
    """
    lines = [_line(claim, arms, profile, as_headline=False) for claim in claims]
    lines += [_line(claim, arms, profile, as_headline=True) for claim in claims if claim.headline]
    return pd.DataFrame(lines, columns=list(COLUMNS)).astype(object)


def _line(claim: Claim, arms: Arms, profile: str, as_headline: bool) -> dict[str, Any]:
    _validate(claim)
    verdict = (judge_headline if as_headline else judge)(claim, arms, profile)
    numbers = {name: getattr(verdict, name) for name in NUMBERS}
    return {
        "claim": claim.text, "section": claim.section, "exhibit": claim.exhibit, "kind": claim.kind,
        "paper": claim.paper, "margin": claim.margin, "size": claim.size,
        **{name: None if math.isnan(value) else value for name, value in numbers.items()},
        "interval": verdict.interval, "budget": claim.budget if claim.budget < 1 else None,
        "seeds": claim.repetitions or arms.count(*claim.arms), "data": claim.data,
        "item": "" if as_headline else claim.item, "headline": claim.headline if as_headline else "",
        "verdict": verdict.mark, "reason": verdict.reason, "decides": verdict.decides,
    }  # fmt: skip


def _validate(claim: Claim) -> None:
    """Refuse a claim that contradicts itself or the paper's tables."""
    printed = paper_numbers()
    faults = {
        f"kind={claim.kind!r}": claim.kind not in KINDS and f"must be one of {', '.join(KINDS)}",
        f"data={claim.data!r}": claim.data not in SOURCES and f"must be one of {', '.join(SOURCES)}",
        f"section={claim.section!r}": claim.section not in SECTIONS and "must be a section",
        f"budget={claim.budget!r}": not 0 <= claim.budget < math.inf and "must be a share, 1 for all of it",
        f"headline={claim.headline!r}": claim.headline not in ("", *HEADLINES) and "must be one of HEADLINES",
        f"item={claim.item!r}": claim.item not in ("", *printed) and "must be one of paper_numbers()",
        f"paper={claim.paper!r}": claim.item in printed
        and claim.paper != printed[claim.item]
        and f"must be {printed[claim.item]}, as {claim.item} is",
    }
    for what, wanted in faults.items():
        if wanted:
            raise InputError(f"claims: {what} of {claim.text!r} {wanted}")


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
    """Return the paper's numbers that no claim about a value links to; from `judged` or `merge`.

    A table counts once the section that promises it has claims: a report may hold some sections only.
    """
    there = set(claims["section"])
    owners = {table: name for name, section in SECTIONS.items() for table in section.tables}
    linked = set(claims.loc[claims["kind"].isin(("value", "reaches")), "item"])
    return [item for item in paper_numbers() if owners.get(item.split("/")[0]) in there and item not in linked]


# --- kept by section, merged ---


def write_claims(folder: Path, section: str, claims: Sequence[Claim], arms: Arms, profile: str) -> pd.DataFrame:
    """Write the judged claims of a section to `<folder>/<section>.csv`."""
    frame = judged(claims, arms, profile)
    write_atomic(folder / f"{section}.csv", tables.to_csv(frame))
    return frame


def merge(folder: Path) -> pd.DataFrame:
    """Return the claims of every section that has any, as text, in the order of the sections; headlines twice.

    Raises:
        InputError: a file is damaged; one line that says which.
    """
    frames = [_kept(folder, section) for section in SECTIONS if (folder / f"{section}.csv").is_file()]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(COLUMNS), dtype=str)


def _kept(folder: Path, section: str) -> pd.DataFrame:
    """The claims that a section has left behind."""
    path = folder / f"{section}.csv"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # of rows that are longer than the header
            text = StringIO(path.read_text("utf-8"))
            frame = pd.read_csv(text, dtype=str, keep_default_na=False, index_col=False)
        if list(frame.columns) != list(COLUMNS):
            raise ValueError("its columns are others")
        for column, allowed in (("kind", KINDS), ("data", SOURCES), ("verdict", MARKS)):
            if strange := sorted(set(frame[column]) - set(allowed)):
                raise ValueError(f"{column} is {strange[0]!r}")
    except (ValueError, KeyError, pd.errors.ParserWarning) as error:
        reason = " ".join(str(error).split())[:100]
        advice = f"remove it and execute its section again: gadam reproduce --only {section}"
        raise InputError(f"{path} is damaged ({reason}); {advice}") from None
    return frame


# --- counted and shown; claims are from `judged` or `merge` ---


def headlines(claims: pd.DataFrame) -> pd.DataFrame:
    """Return the lines of the headlines in their order."""
    found = claims[claims["headline"] != ""]
    order = {key: place for place, key in enumerate(HEADLINES)}
    return found.sort_values("headline", key=lambda keys: keys.map(order), kind="stable").reset_index(drop=True)


def plain(claims: pd.DataFrame) -> pd.DataFrame:
    """Return the claims without the second lines of the headlines."""
    return claims[claims["headline"] == ""].reset_index(drop=True)


def counts(claims: pd.DataFrame) -> dict[str, int]:
    """Count the claims of each mark that there is, the headlines' second lines aside."""
    marks = plain(claims)["verdict"].tolist()
    return {one: marks.count(one) for one in MARKS if one in marks}


def reasons(claims: pd.DataFrame) -> dict[str, int]:
    """Count why claims are undecided, the most frequent reason first."""
    undecided = plain(claims).query("verdict == @UNDECIDED")["reason"]
    return {str(reason): int(count) for reason, count in undecided.value_counts().items()}


def by_section(claims: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each section: its claims, how many there are of each mark, and why the undecided ones are."""
    lines = []
    for name, section in SECTIONS.items():
        own = plain(claims[claims["section"] == name])
        why = ", ".join(f"{reason} {count}" for reason, count in reasons(own).items())
        lines.append({
            "section": section.title, "claims": len(own), **dict.fromkeys(MARKS, 0), **counts(own),
            "undecided because of": why if len(own) else "no claims in this report",
        })  # fmt: skip
    return pd.DataFrame(lines)


def readable(claims: pd.DataFrame) -> list[dict[str, str]]:
    """Return claims as text for the page, numbers to four digits."""
    rows = []
    for row in claims.to_dict("records"):
        shown = {str(name): _text(value) for name, value in row.items()}
        numbers = [_number(row[name]) for name in NUMBERS]
        if not any(map(math.isnan, numbers)):
            ours, low, high = (tables.number(number, tables.decimals_for(numbers)) for number in numbers)
            shown["ours"] = f"{ours} [{low}, {high}]"
        budget = _number(row["budget"])
        shown["budget"] = "" if math.isnan(budget) else f"{_percent(budget)} %"
        rows.append({**shown, "question": HEADLINES.get(shown["headline"], ""), "mark": shown["verdict"]})
    return rows


def _percent(share: float) -> str:
    """A share in percent: "1.3", "0.045", "100"; less than all is never rounded to all."""
    return f"{math.floor(100 * share + 1e-9)}" if share >= 0.995 else f"{100 * share:.2g}"


def _text(value: Any) -> str:
    if tables.is_missing(value):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _number(value: Any) -> float:
    """A number, or NaN for what is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
