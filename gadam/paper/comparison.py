"""GADAM beside other methods, for Tables 3 and 4: the rows of a run, the lines of a table, the claims, the figures.

A table has columns (a dataset, or a number of training images), methods, and for some methods images of several sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor, nn

from gadam.config import GadamConfig
from gadam.datasets import Dataset
from gadam.evolution.loop import evolve
from gadam.paper import published
from gadam.paper.claims import Claim, Smaller, own, paired
from gadam.paper.palette import BLUE, ORANGE, RED, say_missing
from gadam.paper.runs import Row, Rows
from gadam.paper.statistics import accuracy_interval
from gadam.paper.units import KEPT, gcforest_share, held_out, independent, kept, scorer, validation_size, whole
from gadam.paper.verdicts import Evidence, margin_of
from gadam.population import Population
from gadam.training.shards import Step

GCFOREST, FOREST, SVM, KNN = QUOTED = ("gcForest", "Random Forest", "SVM (rbf)", "kNN (k=3)")
"""Methods whose numbers the paper has from others."""
MakeModel = Callable[[], nn.Module]


def run_gadam(rows: Dataset, make_model: MakeModel, method: str, config: GadamConfig) -> Rows:
    """Train by GADAM, and score the best unit of the last generation, chosen on the last validation batch.

    A second row, of method `KEPT`, says what else the generation is good for, see `gadam.paper.beyond`.
    """
    size = validation_size(rows)
    result = whole(evolve(make_model, rows.train, replace(config, validation_size=size), progress=False))
    _, correct = scorer(result.population.template)(result.population.take(slice(0, 1)), rows.test)
    row = answers(rows, method, config.seed, int(correct[0]), result.gradient_steps)
    about = {name: row[name] for name in ("dataset", "data", "seed", "test_rows")} | {"method": KEPT}
    return [row, about | kept(result, held_out(rows.train, size, config.seed)[1], rows.test)]


def run_adam(rows: Dataset, make_model: MakeModel, methods: Sequence[str], config: GadamConfig) -> Rows:
    """Train g units by Adam alone, and score the first, and the best on a validation batch: equal compute."""
    population = independent(make_model, rows.train, config)
    scores = scorer(population.template)
    losses, _ = scores(population, held_out(rows.train, validation_size(rows), config.seed)[1])
    _, correct = scores(population, rows.test)
    return [
        answers(rows, methods[0], config.seed, int(correct[0]), config.steps),
        answers(rows, methods[1], config.seed, int(correct[losses.argmin()]), config.steps * config.population_size),
    ]


def answers(rows: Dataset, method: str, seed: int, answer: Tensor | int, gradient_steps: int = 0) -> Row:
    """Make the row of a method from the classes it gives the test rows, or from how many of those are right."""
    correct = answer if isinstance(answer, int) else int((answer == rows.test[1]).sum())
    total = len(rows.test[1])
    return {
        "dataset": rows.name, "data": rows.source, "method": method, "seed": seed, "correct": correct,
        "test_rows": total, "accuracy": 100 * correct / total, "gradient_steps": gradient_steps,
    }  # fmt: skip


def follow_adam(rows: Dataset, make_model: MakeModel, config: GadamConfig, points: int, loss: bool = False) -> Rows:
    """Train by Adam, and score each unit on a fifth of the training rows, held out, at so many points on the way.

    With `loss`, also by its loss on the rows that are trained on.
    """
    trained, held = held_out(rows.train, len(rows.train[1]) // 5, 0)
    template = make_model()
    scores = scorer(template)
    found: Rows = []

    def record(step: Step) -> None:
        if step.number % max(1, config.steps // points) == 0:
            population = Population(template, step.parameters, {})
            right = scores(population, held)[1].tolist()
            losses = scores(population, trained)[0].tolist() if loss else []
            for place, unit in enumerate(step.units):
                row = {"step": step.number, "unit": unit, "accuracy": 100 * right[place] / len(held[1])}
                found.append(row | ({"loss": losses[place]} if loss else {}))

    independent(make_model, trained, config, record=record)
    return found


class Column(NamedTuple):
    """A column of Table 3 or 4: its key in the published table, its name in a claim, and whose margin holds."""

    key: Any
    name: str
    dataset: str
    test_rows: int
    is_headline: bool = True


Cells = Mapping[tuple[Any, str, int], pd.DataFrame]
"""The rows of each column, method and size of the images ("shrink": pixels a side that become one)."""


def cells_of(rows: pd.DataFrame, column: str, keys: Sequence[tuple[Any, str, int]]) -> Cells:
    """Sort rows into cells, in the order of the keys; some may be empty."""
    names = [column, "method", "shrink", "seed", "accuracy", "test_rows", "gradient_steps", "data"]
    rows = rows.reindex(columns=names)
    groups = dict(list(rows.groupby(names[:3])))
    return {key: groups.get(key, rows.iloc[:0]) for key in keys}


def first(cell: pd.DataFrame, column: str) -> Any:
    """Return the entry of a column that is the same in all rows; None where there are none."""
    return None if cell.empty else cell[column].iloc[0]


def line_of(cell: pd.DataFrame, table: published.Table, method: str, key: Any) -> dict[str, Any]:
    """Make a line of a table: the paper's value, our mean and its 95 % interval, and what that is over."""
    ours = low = high = over = None
    if values := cell["accuracy"].tolist():
        ours, low, high = accuracy_interval(values, int(cell["test_rows"].iloc[0]))
        over = "over test rows (exact)" if len(set(values)) == 1 else "over seeds (t, logit scale)"
    return {
        "paper": table.get(method, {}).get(key), "ours": ours, "low": low, "high": high, "interval": over,
        "gradient steps": first(cell, "gradient_steps"), "data": first(cell, "data"),
    }  # fmt: skip


def as_table(lines: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """Put lines that `line_of` made into a frame with these columns."""
    numbers = dict.fromkeys(("paper", "ours", "low", "high"), float)
    return pd.DataFrame(lines)[list(columns)].astype({**numbers, "gradient steps": "Int64"})


def share_of_trees(method: str, size: Mapping[str, Any], full: Mapping[str, Any]) -> float:
    """Return the share of the trees of profile paper, or of the published gcForest's, that a profile grows."""
    if method == FOREST:
        return float(size["trees"] / full["trees"])
    return gcforest_share(size["gcforest"]) if method == GCFOREST else 1.0


def above(ours: pd.DataFrame, theirs: pd.DataFrame, rows: int, dataset: str, drawn: bool = True) -> Evidence:
    """Subtract their accuracies by seed; where theirs is not drawn, its one run stands beside each of ours."""
    other = accuracies(theirs)
    mine = {seed: one for seed, one in accuracies(ours).items() if not drawn or seed in other}
    return paired(mine, other, rows, dataset)


def accuracies(cell: pd.DataFrame) -> dict[int, float]:
    """Return accuracies in percent by seed."""
    return dict(zip(cell["seed"].astype(int), cell["accuracy"].astype(float), strict=True))


def claims_of(
    section: str,
    table: str,
    cells: Cells,
    columns: Sequence[Column],
    share: Callable[[str, Any], float],
    arm: Callable[[Any, str, int], str],
    repeats: Callable[[str, Any], int] = lambda method, key: 1,
) -> list[Claim]:
    """State each value of a table, and each "outperforms" that it shows; of images of two sizes, at both.

    The first methods of the cells are GADAM, Adam, and the best of g by Adam. `share` gives the share of profile
    paper's budget, by method and column; `repeats`, for how many seeds the one run of a method stands.
    """
    printed = published.TABLE3 if table == "table3" else published.TABLE4
    methods = list(dict.fromkeys(method for _, method, _ in cells))
    gadam, adam, best_of_g = methods[:3]
    beside = {adam: " (which had 1/g of its gradient steps)", best_of_g: " at equal compute"}

    def sizes(column: Column, method: str) -> list[int]:
        return [size for key, name, size in cells if (key, name) == (column.key, method)]

    def at_sizes(column: Column, method: str, at: Callable[[int], Evidence]) -> Evidence | Smaller:
        found = [at(size) for size in sizes(column, method)]
        return found[0] if len(found) == 1 else Smaller(*found)

    def claim(column: Column, names: Sequence[str], **also: Any) -> Claim:
        arms = dict.fromkeys(arm(column.key, name, size) for size in sizes(column, names[0]) for name in names)
        data = [source for (key, _, _), cell in cells.items() if key == column.key and (source := first(cell, "data"))]
        return Claim(
            section=section, exhibit=table, margin=margin_of(column.dataset, column.test_rows), arms=list(arms),
            data=data[0] if data else "real", **also,
        )  # fmt: skip

    def value(column: Column, method: str) -> Claim:
        def at(shrink: int) -> Evidence:
            found = tuple(accuracies(cells[column.key, method, shrink]).values())
            return own(found * repeats(method, column.key), column.test_rows, column.dataset)

        number = printed[method][column.key]
        return claim(
            column, [method], text=f"{method} reaches {number:.2f} % on {column.name}", paper=number,
            kind="reaches" if method == gadam else "value", evidence=lambda: at_sizes(column, method, at),
            budget=share(method, column.key), item=f"{table}/{method}/{column.key}", quoted=method in QUOTED,
        )  # fmt: skip

    def greater(column: Column, method: str) -> Claim:
        ours, theirs = printed[gadam][column.key], printed.get(method, {}).get(column.key)
        size = None if theirs is None else round(abs(ours - theirs), 2)
        behind = theirs is not None and theirs > ours  # as the paper itself has it in two cases
        better, other = (method, gadam) if behind else (gadam, method)

        def at(shrink: int) -> Evidence:
            cell = cells.get((column.key, method, shrink), cells[column.key, method, sizes(column, method)[0]])
            drawn = repeats(method, column.key) == 1
            found = above(cells[column.key, gadam, shrink], cell, column.test_rows, column.dataset, drawn)
            return found.turned() if behind else found

        headline = {adam: column.dataset, best_of_g: f"{column.dataset}, equal compute"}.get(method, "")
        return claim(
            column, [gadam, method], kind="greater", evidence=lambda: at_sizes(column, gadam, at), size=size,
            text=f"{better} is more accurate than {other} on {column.name}{beside.get(method, '')}",
            paper="no claim: our control" if size is None else f"{size:+.2f}",
            budget=min(share(method, column.key), share(gadam, column.key)),
            headline=headline if column.is_headline else "", quoted=method in QUOTED and share(method, column.key) < 1,
        )  # fmt: skip

    return [value(column, method) for column in columns for method in printed] + [
        greater(column, method) for column in columns for method in methods[1:]
    ]


def draw_intervals(axis: Axes, lines: pd.DataFrame, labels: Sequence[str]) -> None:
    """Draw differences, a dot and an interval at the height of each label, and a line at 0.

    Args:
        axis: a panel; it says so where nothing is there.
        lines: columns label, colour, centre, low, high, and perhaps shift, downwards; NaN where nothing is there.
        labels: from top to bottom.
    """
    places = lines["label"].map(labels.index) + lines.get("shift", 0)
    for line in lines.assign(place=places).dropna(subset="centre").to_dict("records"):
        axis.plot([line["low"], line["high"]], [line["place"]] * 2, color=line["colour"], linewidth=3)
        axis.scatter(line["centre"], line["place"], color=line["colour"], s=60, zorder=3)
    if lines["centre"].isna().all():
        say_missing(axis)
    else:
        axis.axvline(0, color="black", linewidth=1)
    axis.margins(x=0.15)
    axis.set(yticks=range(len(labels)), yticklabels=labels, ylim=(len(labels) - 0.5, -0.5))


def add_legend(figure: Figure, colours: Mapping[str, Any]) -> None:
    """Say above a figure what the colours of its intervals mean."""
    handles = [Line2D([], [], color=colour, marker="o", linewidth=3) for colour in colours.values()]
    figure.legend(handles, list(colours), loc="outside upper center", ncols=3, frameon=False)


def budget_figure(rows: pd.DataFrame, column: str, panels: Mapping[Any, tuple[str, int]], ylabel: str) -> Figure:
    """Draw Adam on held-out training rows against steps, and a dashed line at the steps that the table uses.

    Args:
        rows: of `follow_adam`; may be empty. Where they have a loss it is drawn too, on an axis of its own.
        column: that tells the panels apart.
        panels: title and steps of each.
        ylabel: of the accuracies.
    """
    rows = rows.reindex(columns=[column, "unit", "step", "accuracy", *rows.columns.intersection(["loss"])])
    figure, axes = plt.subplots(1, len(panels), figsize=(11, 3.8), layout="constrained")
    handles = {
        f"accuracy, mean and range of {rows['unit'].nunique()} units": Line2D([], [], color=BLUE),
        "steps used": Line2D([], [], color=RED, linestyle="--"),
    }
    for axis, (key, (title, steps)) in zip(axes, panels.items(), strict=True):
        axis.set(title=title, xlabel="Adam steps")
        found = rows[rows[column] == key].groupby("step")
        if not len(found):
            axis.set_yticks([])
            say_missing(axis)
            continue
        curve = found["accuracy"].agg(["mean", "min", "max"])
        axis.fill_between(curve.index, curve["min"], curve["max"], color=BLUE, alpha=0.2, linewidth=0)
        axis.plot(curve.index, curve["mean"], color=BLUE)
        axis.axvline(steps, color=RED, linestyle="--")
        if "loss" in rows:
            losses = axis.twinx()
            (handles["training loss, mean"],) = losses.plot(found["loss"].mean(), color=ORANGE)
            losses.set(yscale="log", ylim=(1e-4, 6), ylabel="training loss")
            losses.grid(visible=False)
    axes[0].set_ylabel(ylabel)
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=3, frameon=False)
    return figure
