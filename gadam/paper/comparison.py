"""GADAM beside other methods, for Tables 3 and 4 and the study of teach: rows of runs, lines of tables, claims."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import pandas as pd
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from torch import Tensor, nn

from gadam.config import GadamConfig
from gadam.datasets import Dataset
from gadam.evolution.loop import evolve
from gadam.paper import statistics, units
from gadam.paper.baselines.gcforest import GcForestSettings, gcforest
from gadam.paper.claims import OURS, Arms, Claim, Smaller, own, paired, unpaired
from gadam.paper.runs import Row
from gadam.paper.statistics import Interval, accuracy_interval, mean_interval
from gadam.paper.units import by_seed, first, held_out, independent, scorer, source_of, validation_size
from gadam.paper.verdicts import Evidence, margin_of
from gadam.population import Population
from gadam.training.shards import Step

GCFOREST, FOREST, SVM, KNN = QUOTED = ("gcForest", "Random Forest", "SVM (rbf)", "kNN (k=3)")
"""Methods whose numbers the paper has from others."""
KEPT, ALONE = "GADAM, the population kept", "Adam, g units kept"
"""The methods of the rows that `units.kept` fills in, of a last generation and of as many units at equal compute."""
MakeModel = Callable[[], nn.Module]


def run_method(
    rows: Dataset, make_model: MakeModel, method: str, methods: Sequence[str], seed: int, **settings: Any
) -> list[Row]:
    """Run a method on a dataset and score it on the test rows; `methods` begins with GADAM, Adam and its best of g.

    Settings are those of `GadamConfig` for the first two, else as for `predict`.
    """
    gadam, adam, best_of_g, *_ = methods
    if method == gadam:
        return run_gadam(rows, make_model, method, GadamConfig(seed=seed, **settings))
    if method == adam:
        return run_adam(rows, make_model, (adam, best_of_g), GadamConfig(seed=seed, **settings))
    return [answers(rows, method, seed, predict(rows, method, seed, **settings))]


def run_gadam(rows: Dataset, make_model: MakeModel, method: str, config: GadamConfig) -> list[Row]:
    """Train by GADAM, and score the best unit of the last generation, chosen on the last validation batch.

    A second row, of method `KEPT`, says what else the generation is good for, see `gadam.paper.beyond`; further rows
    are the history, of a method of their own.
    """
    size = validation_size(rows)
    result = units.whole(evolve(make_model, rows.train, replace(config, validation_size=size), progress=False))
    _, correct = scorer(result.population.template)(result.population.take(slice(0, 1)), rows.test)
    row = answers(rows, method, config.seed, int(correct[0]), result.gradient_steps)
    about = {name: row[name] for name in ("dataset", "data", "seed", "test_rows")}
    together = units.kept(result.population, held_out(rows.train, size, config.seed)[1], rows.test)
    last = about | {"method": KEPT} | together
    return [row, last, *(about | {"method": f"{method}: a unit"} | one for one in units.history_rows(result))]


def run_adam(rows: Dataset, make_model: MakeModel, methods: Sequence[str], config: GadamConfig) -> list[Row]:
    """Train g units by Adam alone, and score the first, and the best on a validation batch: equal compute.

    Further rows, of methods of their own, say what all of them are good for, as of GADAM's, and how good each is.
    """
    population = independent(make_model, rows.train, config)
    scores, validation = scorer(population.template), held_out(rows.train, validation_size(rows), config.seed)[1]
    losses, _ = scores(population, validation)
    test_losses, correct = scores(population, rows.test)
    adam, best_of_g = methods
    together = units.kept(population.take(losses.argsort()), validation, rows.test)
    steps = config.steps * config.population_size
    found = [
        answers(rows, adam, config.seed, int(correct[0]), config.steps),
        answers(rows, best_of_g, config.seed, int(correct[losses.argmin()]), steps),
    ]
    about = {name: found[0][name] for name in ("dataset", "data", "seed", "test_rows")}
    found.append(about | {"method": ALONE} | together)
    for unit, (loss, test_loss) in enumerate(zip(losses.tolist(), test_losses.tolist(), strict=True)):
        row = answers(rows, f"{adam}: a unit", config.seed, int(correct[unit]), config.steps)
        found.append(row | {"unit": unit, "loss_validation": loss, "test_loss": test_loss})
    return found


def predict(rows: Dataset, method: str, seed: int, **settings: Any) -> Tensor:
    """Predict the classes of the test rows by a method of `QUOTED`; but for gcForest they are scikit-learn's.

    Settings are `trees` of a forest, `gamma` of the SVM, or those of `GcForestSettings` as JSON has them. Images are
    one row of pixels each to the others, and features are taken as they come.
    """
    if method == GCFOREST:
        windows = tuple((height, width) for height, width in settings.pop("windows", ()))
        size = GcForestSettings(windows=windows, **settings)
        return gcforest(*rows.train, rows.test[0], settings=size, seed=seed).argmax(1)
    if method == FOREST:
        model = RandomForestClassifier(settings["trees"], random_state=seed)
    else:
        svm = SVC(kernel="rbf", gamma=settings.get("gamma", "scale"), cache_size=1_000)
        model = svm if method == SVM else KNeighborsClassifier(3)
    model.fit(rows.train[0].flatten(1).numpy(), rows.train[1].numpy())
    return torch.from_numpy(model.predict(rows.test[0].flatten(1).numpy()))


def answers(rows: Dataset, method: str, seed: int, answer: Tensor | int, gradient_steps: int = 0) -> Row:
    """Make the row of a method from the classes it gives the test rows, or from how many of those are right."""
    correct = answer if isinstance(answer, int) else int((answer == rows.test[1]).sum())
    total = len(rows.test[1])
    return {
        "dataset": rows.name, "data": rows.source, "method": method, "seed": seed, "correct": correct,
        "test_rows": total, "accuracy": 100 * correct / total, "gradient_steps": gradient_steps,
    }  # fmt: skip


def follow_adam(
    rows: Dataset, make_model: MakeModel, config: GadamConfig, points: int, loss: bool = False
) -> list[Row]:
    """Train by Adam, and score each unit on a fifth of the training rows, held out, at so many points on the way.

    With `loss`, also by its loss on the rows that are trained on.
    """
    trained, held = held_out(rows.train, len(rows.train[1]) // 5, 0)
    template = make_model()
    scores = scorer(template)
    found: list[Row] = []

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
    """A dataset, or images a person of ORL: its key where published, its name in a claim, and whose margin holds."""

    key: Any
    name: str
    dataset: str
    test_rows: int
    is_headline: bool = True


@dataclass(frozen=True, eq=False)
class Cell:
    """A method in a column, on images of one size, of which tables and claims are made.

    Attributes:
        paper: the paper's accuracy in percent; None for our own control.
        rows: of its runs; perhaps none.
        share: of profile paper's budget that its runs have.
        labels: what the table says of it beside its method and numbers.
        repeats: for how many seeds its one run stands; 1 where each seed has its own.
        shrink: pixels a side of the images that became one.
        is_claimed: whether the paper's number is claimed of it; else it stands beside.
    """

    column: Column
    method: str
    arm: str
    paper: float | None
    rows: pd.DataFrame
    share: float
    labels: Mapping[str, Any]
    repeats: int = 1
    shrink: int = 1
    is_claimed: bool = True


def rows_of(rows: pd.DataFrame, arm: str, method: str) -> pd.DataFrame:
    """Select the rows of a cell: those of a method in the runs of an arm."""
    names = ["arm", "method", "seed", "accuracy", "test_rows", "gradient_steps", "data"]
    return units.where(rows.reindex(columns=names), arm=arm, method=method)


def above(ours: Cell, theirs: Cell) -> Evidence:
    """Subtract their accuracies by seed; where one run of theirs stands for every seed, it is beside all of ours."""
    mine, other, column = by_seed(ours.rows, "accuracy"), by_seed(theirs.rows, "accuracy"), ours.column
    if theirs.repeats > 1 and other:
        return unpaired(mine.values(), other.values(), column.test_rows, column.dataset)
    return paired(mine, other, column.test_rows, column.dataset)


def difference(ours: Cell, theirs: Cell) -> Interval:
    """Return by how many points ours is more accurate, and the 95 % interval, over the seeds that both have."""
    found = above(ours, theirs)
    return mean_interval([one - (found.others or (0.0,))[0] for one in found.values], found.rows)


def table(cells: Sequence[Cell], arms: Arms, columns: Sequence[str]) -> pd.DataFrame:
    """Set the paper's values beside ours, a row per cell: mean, its 95 % interval, and what that is over; percent."""
    lines = []
    for cell in cells:
        values = cell.rows["accuracy"].tolist()
        over = "over test rows (exact)" if len(set(values)) == 1 else "over seeds (t, logit scale)" if values else None
        lines.append({
            **cell.labels, "method": cell.method, "paper": cell.paper,
            **statistics.named(accuracy_interval(values, cell.column.test_rows), "ours"),
            "interval": over, "seeds": arms.count(cell.arm), "gradient steps": first(cell.rows, "gradient_steps"),
            "data": first(cell.rows, "data"),
        })  # fmt: skip
    numbers = dict.fromkeys(("paper", "ours", "low", "high"), float)
    return pd.DataFrame(lines).astype({**numbers, "gradient steps": "Int64"})[list(columns)]


def share_of_trees(method: str, size: Mapping[str, Any], full: Mapping[str, Any]) -> float:
    """Return the share of the trees of profile paper that a profile grows; 1 for a method without trees.

    Of gcForest it is a share of the published one's (`GcForestSettings()`): per level, and per window where it scans.
    """
    if method == FOREST:
        return float(size["trees"] / full["trees"])
    if method != GCFOREST:
        return 1.0
    grown, published = size["gcforest"], GcForestSettings()
    share = grown["forests"] * grown["trees"] / (published.forests * published.trees)
    return float(share * (grown["scan_trees"] / published.scan_trees if "windows" in grown else 1))


FEWER_STEPS, EQUAL_COMPUTE = " (which had 1/g of its gradient steps)", " at equal compute"
CONTROLS = ((FEWER_STEPS, "{}"), (EQUAL_COMPUTE, "{}, equal compute"))
"""What a claim adds to the name of Adam, and of the best of g by Adam; the headline that it answers."""


def claims(exhibit: str, cells: Sequence[Cell]) -> list[Claim]:
    """State each value of a table, and each "outperforms" that it shows; of images of two sizes, at both.

    The first methods of the cells are GADAM, Adam, and the best of g by Adam.
    """
    groups: dict[Column, dict[str, list[Cell]]] = {}
    for cell in (one for one in cells if one.is_claimed):
        groups.setdefault(cell.column, {}).setdefault(cell.method, []).append(cell)
    values, greater = [], []
    for column, group in groups.items():
        source = max(source_of(cell.rows) for several in group.values() for cell in several)  # "stand-in" if one is
        about = {"exhibit": exhibit, "margin": margin_of(column.dataset, column.test_rows), "data": source}
        gadam, *others = group.values()
        values += [_value(own, own is gadam, about) for own in group.values() if own[0].paper is not None]
        controls = (*CONTROLS, *[("", "")] * len(others))
        greater += [_greater(gadam, own, *control, about) for own, control in zip(others, controls, strict=False)]
    return [*values, *greater]


def _value(cells: Sequence[Cell], is_gadam: bool, about: Mapping[str, Any]) -> Claim:
    column, method, paper = cells[0].column, cells[0].method, cells[0].paper
    return Claim(
        text=f"{method} reaches {paper:.2f} % on {column.name}", kind="reaches" if is_gadam else "value", paper=paper,
        evidence=lambda: _at_sizes(
            own(tuple(cell.rows["accuracy"]) * cell.repeats, column.test_rows, column.dataset) for cell in cells
        ),
        arms=[cell.arm for cell in cells], budget=cells[0].share, item=f"{about['exhibit']}/{method}/{column.key}",
        quoted=method in QUOTED, **about,
    )  # fmt: skip


def _greater(gadam: Sequence[Cell], others: Sequence[Cell], beside: str, headline: str, about: dict[str, Any]) -> Claim:
    pairs = [(one, next((other for other in others if other.shrink == one.shrink), others[0])) for one in gadam]
    ours, theirs = pairs[0]
    size = None if ours.paper is None or theirs.paper is None else round(ours.paper - theirs.paper, 2)
    behind = size is not None and size < 0  # as the paper itself has it in two cases
    better, worse = (theirs, ours) if behind else (ours, theirs)
    return Claim(
        text=f"{better.method} is more accurate than {worse.method} on {ours.column.name}{beside}", kind="greater",
        evidence=lambda: _at_sizes(one.turned() if behind else one for one in (above(*pair) for pair in pairs)),
        arms=list(dict.fromkeys(cell.arm for pair in pairs for cell in pair)),
        paper=OURS if size is None else f"{abs(size):+.2f}",
        size=None if size is None else abs(size), budget=min(ours.share, theirs.share),
        headline=headline.format(ours.column.dataset) if ours.column.is_headline else "",
        quoted=theirs.method in QUOTED and theirs.share < 1, **about,
    )  # fmt: skip


def _at_sizes(evidence: Iterable[Evidence]) -> Evidence | Smaller:
    found = list(evidence)
    return found[0] if len(found) == 1 else Smaller(*found)
