"""The answer to the paper's question, in three sentences and one picture; from the tables and verdicts of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gadam.paper.drawing import BLUE, GREY, ORANGE, RED, add_legend, draw_intervals, say_missing
from gadam.paper.verdicts import NOT_REPRODUCED, REPRODUCED, UNDECIDED

METHODS = {"GADAM": RED, "Adam": BLUE, "best of g by Adam": ORANGE}
"""Rows of the picture and their colours; `g` is the size of GADAM's population."""
_NAMES = {"GADAM": "GADAM", "Adam": "Adam", "Adam, best of g": "best of g by Adam"}
"""The row for a method of a table, "Adam, best of g" or "MLP (Adam, best of g)"."""
DATASETS = {"mnist": "MNIST", "yeast": "YEAST", "adult": "ADULT", "letter": "LETTER", "orl": "ORL (7 images)"}
COLUMNS = ("dataset", "method", "paper", "ours", "low", "high", "seeds")
CAPTION = (
    "Test accuracy of one network in percent, over seeds, beside the paper's. GADAM has g times the steps of Adam; the "
    "best of g runs of Adam has as many as GADAM."
)
ALT = (
    "Five panels, one for each dataset, with the accuracies of GADAM, Adam and the best of g runs of Adam as dots with "
    "intervals, and the paper's as diamonds"
)
_OPEN = {UNDECIDED: "undecided on", "not computed": "not computed yet on"}
_PUBLISHED = {
    REPRODUCED: "as the paper claims on",
    "opposite": "the other way round on",
    "smaller than claimed": "by less than half of what the paper claims, or not at all, on",
} | _OPEN
_EQUAL = {
    REPRODUCED: "yes on", "opposite": "less accurate on", "no difference": "no difference that matters on",
} | _OPEN  # fmt: skip


def collect(tables: Path) -> pd.DataFrame:
    """Gather test accuracies in percent, the paper's and ours, from the files of Tables 1, 3 and 4 that are there."""
    found = []
    if (path := tables / "table1.csv").is_file():
        table = pd.read_csv(path).query("setting == 'evident'")
        full = table[table["steps"] == table["steps"].max()].drop(columns="paper loss")
        found.append(full.rename(columns={"paper accuracy": "paper", "accuracy": "ours"}).assign(dataset="mnist"))
    if (path := tables / "table4.csv").is_file():
        table = pd.read_csv(path)
        found.append(table.assign(dataset=table["dataset"].str.lower()))
    if (path := tables / "table3.csv").is_file():
        table = pd.read_csv(path)
        found.append(table[table["images"] == 7].drop_duplicates("method").assign(dataset="orl"))
    if not found:
        return pd.DataFrame(columns=list(COLUMNS))
    together = pd.concat([frame.reindex(columns=list(COLUMNS)) for frame in found])
    together["method"] = together["method"].str.rstrip(")").str.split("(").str[-1].map(_NAMES)
    return together.dropna(subset="method").reset_index(drop=True)


def picture(accuracies: pd.DataFrame) -> Figure:
    """Draw `collect`'s accuracies, a panel for each dataset: ours as dots with intervals, the paper's as diamonds."""
    figure, axes = plt.subplots(1, len(DATASETS), figsize=(12, 2.6), sharey=True, layout="constrained")
    lines = accuracies.rename(columns={"method": "label", "ours": "centre"})
    lines["colour"] = lines["label"].map(METHODS)
    for axis, (dataset, title) in zip(axes, DATASETS.items(), strict=True):
        own = lines[lines["dataset"] == dataset]
        draw_intervals(axis, own, list(METHODS))
        if own["centre"].notna().any():
            places = own["label"].map(list(METHODS).index)
            axis.scatter(own["paper"], places, marker="D", facecolors="none", edgecolors=own["colour"], s=45)
        axis.grid(visible=False, axis="y")
        axis.locator_params(axis="x", nbins=4)
        axis.set_title(title)
    axes[len(axes) // 2].set_xlabel("test accuracy, %")
    handles = {
        "ours: mean and 95 % interval": Line2D([], [], color=GREY, marker="o", linewidth=3),
        "the paper's number": Line2D([], [], color=GREY, marker="D", markerfacecolor="none", linestyle=""),
    }
    add_legend(figure, handles, 2, below=True)
    say_missing(figure)
    return figure


def sentences(headlines: pd.DataFrame, counts: Mapping[str, int], missing: int) -> list[tuple[str, str]]:
    """Say whether GADAM beats Adam, at what compute and how sure that is: question and answer of each sentence.

    `headlines` as of `gadam.paper.report.scoreboard`; `counts` are the paper's claims of each verdict, and `missing`
    those whose runs are not computed.
    """
    if headlines.empty:
        return []
    outcomes = dict(zip(headlines["headline"], headlines[["verdict", "reason"]].to_numpy().tolist(), strict=True))
    reproduced, refuted = counts.get(REPRODUCED, 0), counts.get(NOT_REPRODUCED, 0)
    total = sum(counts.values())
    waiting = f", {missing} of them because their runs are not computed yet" if missing else ""
    return [
        ("Does GADAM beat Adam, as published, with g times Adam's steps?", _answer(outcomes, "{}", _PUBLISHED)),
        ("Does it beat the best of g runs of Adam, at equal compute?", _answer(outcomes, "{}, equal compute", _EQUAL)),
        ("How sure is that?",
         "The intervals behind both answers hold together with 95 % probability. Of the paper's "
         f"{total} claims {reproduced} are reproduced and {refuted} are not; "
         f"{total - reproduced - refuted} are neither{waiting}."),
    ]  # fmt: skip


def _answer(outcomes: Mapping[str, tuple[str, str]], key: str, words: Mapping[str, str]) -> str:
    """Say how it came out, with the datasets of each outcome; the decided ones first."""
    groups: dict[str, list[str]] = {}
    for dataset, name in DATASETS.items():
        verdict, reason = outcomes.get(key.format(dataset), ("", "not computed"))
        said = words.get(REPRODUCED if verdict == REPRODUCED else reason, words[UNDECIDED])
        groups.setdefault(said, []).append(name)
    answer = "; ".join(f"{said} {listed(groups[said])}" for said in words.values() if said in groups)
    return f"{answer[0].upper()}{answer[1:]}."


def listed(names: Sequence[str]) -> str:
    """Join names as in a sentence: "YEAST, ADULT and LETTER"."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
