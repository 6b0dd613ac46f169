"""The three text tables of Section 5.4: YEAST, ADULT and LETTER, each a `Format`, all read by one function."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gadam.config import InputError


@dataclass(frozen=True)
class Format:
    """How a table is written.

    Attributes:
        columns: names in the order of the file; the label's is `class`.
        separator: between fields; `None` is any run of white space.
        numeric: columns that are numbers. Neither these nor `categorical` nor `class`: an identifier, dropped.
        categorical: columns that are categories.
    """

    columns: tuple[str, ...]
    separator: str | None
    numeric: tuple[str, ...]
    categorical: tuple[str, ...] = ()


_YEAST = ("mcg", "gvh", "alm", "mit", "erl", "pox", "vac", "nuc")
_ADULT = {  # is the column numeric?
    "age": True,
    "workclass": False,
    "fnlwgt": True,
    "education": False,
    "education-num": True,
    "marital-status": False,
    "occupation": False,
    "relationship": False,
    "race": False,
    "sex": False,
    "capital-gain": True,
    "capital-loss": True,
    "hours-per-week": True,
    "native-country": False,
}
# fmt: off
_LETTER = (
    "x-box", "y-box", "width", "high", "onpix", "x-bar", "y-bar", "x2bar", "y2bar", "xybar", "x2ybr", "xy2br",
    "x-ege", "xegvy", "y-ege", "yegvx",
)
# fmt: on

FORMATS = {
    "yeast": Format(("sequence", *_YEAST, "class"), None, _YEAST),
    "adult": Format(
        (*_ADULT, "class"),
        ",",
        tuple(column for column, numeric in _ADULT.items() if numeric),
        tuple(column for column, numeric in _ADULT.items() if not numeric),
    ),
    "letter": Format(("class", *_LETTER), ",", _LETTER),
}


def read_table(
    data: bytes, form: Format, classes: tuple[str, ...], where: str = "table"
) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """Features and targets of a table.

    Empty lines and those that begin with `|` (the first of adult.test) are passed over, the full stop that ends the
    labels of adult.test is dropped, and `?` stays: a category of its own, as in the gcForest paper's protocol.

    Args:
        data: the file.
        form: how it is written.
        classes: the labels there may be.
        where: name of the file for the error.

    Returns:
        A frame of n rows, numeric columns float64 and before the categorical ones, str; and int64 [n], indices into
        `classes`.

    Raises:
        InputError: a line is not such a row, naming its number; or there is no row.
    """
    try:
        lines = data.decode("ascii").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{where} is not a text table: byte {error.start} is {data[error.start]:#x}") from None
    numbers, rows = [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("|"):
            continue
        row = [field.strip() for field in line.split(form.separator)]
        if len(row) != len(form.columns):
            raise InputError(f"{where}, line {number}: {len(row)} fields, expected {len(form.columns)}; {line[:40]!r}")
        numbers.append(number)
        rows.append(row)
    if not rows:
        raise InputError(f"{where} has no rows")

    frame = pd.DataFrame(rows, columns=list(form.columns), dtype=object)
    features = {}
    for column in form.numeric:
        features[column] = pd.to_numeric(frame[column], errors="coerce").astype(np.float64)
        if not (usable := np.isfinite(features[column])).all():
            first = int(usable.argmin())
            value = frame[column].iloc[first]
            raise InputError(f"{where}, line {numbers[first]}: {column} is {value[:40]!r}, must be a finite number")
    features |= {column: frame[column] for column in form.categorical}

    index = {label: target for target, label in enumerate(classes)}
    targets = frame["class"].str.removesuffix(".").map(index)
    if targets.isna().any():
        first = int(targets.isna().argmax())
        label = frame["class"].iloc[first]
        raise InputError(f"{where}, line {numbers[first]}: class {label[:40]!r} is not one of {', '.join(classes)}")
    return pd.DataFrame(features), np.array(targets, np.int64)
