"""What came of the runs of Section 5.4 on ORL: Table 3 and the claims."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd

from gadam.paper import published as paper
from gadam.paper.claims import Arms, Claim, Reduced, Smaller, own
from gadam.paper.section54_orl import (
    ADAM,
    ADAM_BEST,
    CNNS,
    DATASET,
    FOREST,
    GADAM,
    GCFOREST,
    IMAGES,
    METHODS,
    PROFILES,
    TEST_FACES,
    arm,
    depth,
    pixels,
    shrinks,
)
from gadam.paper.section54_results import QUOTED, accuracies, difference, first, summary
from gadam.paper.units import gcforest_share
from gadam.paper.verdicts import Evidence, margin_of

COLUMNS = ("images", "method", "pixels", "seed", "accuracy", "test_rows", "gradient_steps", "data")
COMPUTE = {ADAM: " (which had 1/g of its gradient steps)", ADAM_BEST: " at equal compute"}
HEADLINE = 7
"""Training images of each person in the headlines."""


def splits(rows: pd.DataFrame, profile: str) -> pd.DataFrame:
    """A row per run and method: `COLUMNS`; `pixels` is the size of the images that the method saw."""
    found = rows.reindex(columns=[*COLUMNS, "shrink"])
    found = found[found["method"].isin(METHODS)]
    seen = [_pixels(method, profile, shrink) for method, shrink in zip(found["method"], found["shrink"], strict=True)]
    return found.assign(pixels=seen)[list(COLUMNS)].reset_index(drop=True)


def table3(rows: pd.DataFrame, profile: str, arms: Arms) -> pd.DataFrame:
    """Table 3 with the paper's value beside ours; accuracies in percent.

    A row per number of images, method and, for the CNNs, size of the images.
    """
    lines = []
    for (images, method, shrink), cell in _cells(rows, profile).items():
        found = summary(cell)
        lines.append({
            "images": images, "method": method, "pixels": _pixels(method, profile, shrink),
            "paper": paper.TABLE3.get(method, {}).get(images), "ours": found["ours"], "low": found["low"],
            "high": found["high"], "seeds": arms.count(arm(images, method, shrink)), "test faces": TEST_FACES[images],
            "gradient steps": first(cell, "gradient_steps"), "data": first(cell, "data"),
        })  # fmt: skip
    numbers = dict.fromkeys(("paper", "ours", "low", "high"), float)
    return pd.DataFrame(lines).astype({**numbers, "gradient steps": "Int64"})


def note(profile: str) -> str:
    """What a reader of Table 3 must know."""
    size = PROFILES[profile]
    forest = size["gcforest"]
    levels = f"{forest['max_levels']} level{'s' * (forest['max_levels'] > 1)}"
    windows = ", ".join(f"{down} x {across}" for down, across in forest["windows"])
    return (
        "images: training images of each person, drawn by the seed. ours, low, high: mean and 95 % interval over the "
        "seeds (logit scale; over the test faces where all seeds agree). One run can only give multiples of 0.5, 0.83 "
        "and 2.5 %, as 200, 120 and 40 faces are left for test: the paper's 98.50 with 9 images is no single run. "
        f"GADAM: g = {size['g']}, K = {size['K']}, {size['steps']} steps per generation, batches of "
        f"{size['batch_size']}; gradient steps: of all units together; 'best of g' is as many independent Adam runs as "
        "GADAM has units, at GADAM's full budget. "
        + _reductions(profile)
        + f"gcForest: windows of {windows} pixels, {forest['stride']} apart, {forest['scan_trees']} trees "
        f"grown from at most {forest['scan_pieces']:,} of them, then at most {levels} of "
        f"{2 * forest['forests']} forests of {forest['trees']} trees. Random Forest: {size['trees']:,} trees. All rows "
        "but the CNNs' are the numbers of the gcForest paper; here everything is run."
    )


def _reductions(profile: str) -> str:
    size, parts = PROFILES[profile], []
    if size["shrink"] > 1:
        seen = " and at ".join(pixels(shrink) for shrink in shrinks(profile))
        others = "" if len(shrinks(profile)) == 1 else f", gcForest at {pixels(size['shrink'])}"
        who = "the CNNs" if others else "the CNNs and gcForest"
        parts.append(f"{who} saw the images at {seen} pixels{others}, averaged over squares of the 112 x 92")
    if size["hidden"] < 1_024:
        parts.append(f"the CNNs' hidden layer had {size['hidden']:,} units of 1,024")
    return f"Reduced: {', and '.join(parts)}. " if parts else ""


def claims(rows: pd.DataFrame, profile: str) -> list[Claim]:
    """Each value of Table 3, and each "outperforms" that it shows."""
    cells = _cells(rows, profile)
    values = [_value(cells, profile, images, method) for images in IMAGES for method in paper.TABLE3]
    differences = [_greater(cells, profile, images, method) for images in IMAGES for method in METHODS[1:]]
    data = next((str(one) for one in rows.get("data", ())), "real")
    return [replace(claim, data=data) for claim in values + differences]


Cells = dict[tuple[int, str, int | None], pd.DataFrame]


def _value(cells: Cells, profile: str, images: int, method: str) -> Claim:
    theirs, share = paper.TABLE3[method][images], budget_share(method, profile)

    def at(shrink: int) -> Evidence:
        cell = _cell(cells, images, method, shrink)
        return own(accuracies(cell).values(), TEST_FACES[images], DATASET)

    return Claim(
        text=f"{method} reaches {theirs:.2f} % on ORL with {images} images", section="section54_orl", exhibit="table3",
        kind="reaches" if method == GADAM else "value", evidence=_by_size(profile, share, at, method), paper=theirs,
        arms=_arms(profile, images, method), margin=margin_of(DATASET, TEST_FACES[images]), budget=share,
        item=f"table3/{method}/{images}", quoted=method in QUOTED,
    )  # fmt: skip


def _greater(cells: Cells, profile: str, images: int, method: str) -> Claim:
    theirs, share = paper.TABLE3.get(method, {}).get(images), budget_share(method, profile)
    size = None if theirs is None else round(paper.TABLE3[GADAM][images] - theirs, 2)
    budget = min(share, budget_share(GADAM, profile))

    def at(shrink: int) -> Evidence:
        ours, other = (accuracies(_cell(cells, images, one, shrink)) for one in (GADAM, method))
        return difference(ours, other, TEST_FACES[images], DATASET)

    key = {ADAM: DATASET, ADAM_BEST: f"{DATASET}, equal compute"}.get(method, "") if images == HEADLINE else ""
    return Claim(
        text=f"{GADAM} is more accurate than {method} on ORL with {images} images" + COMPUTE.get(method, ""),
        section="section54_orl", exhibit="table3", kind="greater", evidence=_by_size(profile, budget, at, GADAM),
        arms=_arms(profile, images, GADAM, method), paper="no claim: our control" if size is None else f"{size:+.2f}",
        margin=margin_of(DATASET, TEST_FACES[images]), size=size, budget=budget, headline=key,
        quoted=method in QUOTED and share < 1,
    )  # fmt: skip


def budget_share(method: str, profile: str) -> float:
    """The share of pixels times that of hidden units, images trained on and trees of profile paper.

    The trees are those of arXiv 1702.08835, whose numbers the paper has. Where the CNNs see images of two sizes, fewer
    pixels are no part of it: see `claims.Smaller`.
    """
    size, full = PROFILES[profile], PROFILES["paper"]
    share = 1.0
    if method == GCFOREST or (method in CNNS and len(shrinks(profile)) == 1):
        share *= min(1, (full["shrink"] / size["shrink"]) ** 2)
    if method in CNNS:
        share *= min(1, size["hidden"] / full["hidden"]) * min(1, size["g"] / full["g"])
        share *= min(1, depth(profile) * size["batch_size"] / (depth("paper") * full["batch_size"]))
    if method == GCFOREST:
        share *= min(1, gcforest_share(size["gcforest"]))
    if method == FOREST:
        share *= min(1, size["trees"] / full["trees"])
    return share


def _by_size(
    profile: str, share: float, at: Callable[[int], Evidence], method: str
) -> Callable[[], Evidence | Reduced | Smaller]:
    """What gives the numbers of a claim: at both sizes of the images, if it is about CNNs that see two."""

    def evidence() -> Evidence | Reduced | Smaller:
        sizes = shrinks(profile)
        if method in CNNS and len(sizes) > 1:
            return Smaller(now=at(sizes[0]), half=at(sizes[1]))
        return at(sizes[0]) if share >= 1 else Reduced(at(sizes[0]))  # nobody looked at half of it

    return evidence


def _arms(profile: str, images: int, *methods: str) -> list[str]:
    found = [arm(images, method, shrink) for shrink in shrinks(profile) for method in methods]
    return list(dict.fromkeys(found))


def _pixels(method: str, profile: str, shrink: Any) -> str:
    """The size of the images that a method saw, for a reader."""
    if method in CNNS:
        return pixels(int(shrink))
    return pixels(PROFILES[profile]["shrink"] if method == GCFOREST else 1)


def _cell(cells: Cells, images: int, method: str, shrink: int) -> pd.DataFrame:
    return cells[images, method, shrink if method in CNNS else None]


def _cells(rows: pd.DataFrame, profile: str) -> Cells:
    """The runs of each number of images, method and size of the CNNs' images, in the order of the table."""
    found = splits(rows, profile)
    return {
        (images, method, shrink): found[
            (found["images"] == images)
            & (found["method"] == method)
            & (found["pixels"] == _pixels(method, profile, shrink))
        ]
        for images in IMAGES
        for method in METHODS
        for shrink in (shrinks(profile) if method in CNNS else (None,))
    }
