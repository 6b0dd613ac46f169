"""Figures of a history: losses, the family of a unit, adoption of children."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gadam.config import InputError
from gadam.validation import check_kind

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_adoption", "plot_family", "plot_losses", "plot_rates"]

COLOURS = {"parent": "#0173b2", "child": "#de8f05"}
BEST, GREY, RED = "#029e73", "#949494", "#b00020"
BESIDE = {"parent": -0.16, "child": 0.16}  # of the generation's place on the axis
LEGEND: dict[str, Any] = {"fontsize": 8, "framealpha": 0.8}

Unit = tuple[int, str, int]
"""Generation, role, unit."""


def plot_losses(history: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw the loss of every unit by generation: children beside parents, survivors filled, a line through the fittest.

    The loss is that on the fixed validation rows, where there were such: generations are then comparable. Otherwise it
    is that on the validation batch of each generation, by which survivors are selected. The axis is logarithmic where
    the losses span more than a decade. Units without a finite loss are crosses at the top.

    Args:
        history: `Result.history`, or the first generations of it.
        ax: where to draw; None makes a figure by pyplot.

    Raises:
        InputError: the frame lacks a column or has no rows.
    """
    fixed = "loss_validation" in history
    loss = "loss_validation" if fixed else "loss_survival"
    history = _checked(history, "survived", loss)
    ax = _axes(ax)
    history["place"] = history["generation"] + history["role"].map(BESIDE)
    is_finite = np.isfinite(history[loss].to_numpy(float))
    finite, lost = history[is_finite], history[~is_finite]
    for (role, survived), rows in finite.groupby(["role", "survived"]):
        ax.scatter(
            rows["place"], rows[loss], s=42, zorder=3, linewidth=1.4, alpha=0.85,
            facecolor=COLOURS[role] if survived else "none", edgecolor=COLOURS[role],
            label=f"{'parents' if role == 'parent' else 'children'} who {'survive' if survived else 'do not'}",
        )  # fmt: skip
    lowest_of = finite.loc[finite.groupby("generation")[loss].idxmin()]
    ax.plot(lowest_of["place"], lowest_of[loss], color=BEST, linewidth=1.8, zorder=2, label="lowest")
    lowest = lowest_of[loss].min()
    if lowest > 0 and finite[loss].max() > 10 * lowest:
        ax.set_yscale("log")
    if len(lost):
        ax.scatter(
            lost["place"], [0.99] * len(lost), marker="x", color=RED, zorder=3, clip_on=False,
            transform=ax.get_xaxis_transform(), label=f"no finite loss ({len(lost)})",
        )  # fmt: skip
    ax.legend(**LEGEND)
    rows_of_loss = "fixed validation rows" if fixed else "validation batch of each generation"
    return by_generation(ax, history, f"loss on the {rows_of_loss}", "Loss of every unit")


def plot_family(history: pd.DataFrame, ax: Axes | None = None, unit: int = 0) -> Axes:
    """Draw the family tree of a unit of the last generation: its ancestors, back to the initial units.

    The height of a unit is its rank among the parents and children of its generation. A full line leads from a child to
    each of its parents, a dotted one from a parent to itself in the generation before.

    Args:
        history: see `plot_losses`.
        ax: see `plot_losses`.
        unit: which of the last generation's survivors, 0 the fittest.

    Raises:
        InputError: see `plot_losses`; or there is no such unit.
    """
    from matplotlib.collections import LineCollection

    history = _checked(history, "unit", "parent_a", "parent_b", "survived", "loss_survival")
    tree = ancestors(history, unit)
    ax = _axes(ax)
    place = {
        (row.generation, row.role, row.unit): (row.generation + BESIDE[row.role], row.rank) for row in _ranked(history)
    }

    def dots(units: list[Unit], **style: Any) -> None:
        ax.scatter(*np.array([place[one] for one in units]).reshape(-1, 2).T, **style)

    name = "fittest unit" if unit == 0 else f"unit {unit}"
    dots([next(iter(tree))], s=170, facecolor="none", edgecolor=BEST, linewidth=2.2, zorder=4, label=f"{name} now")
    edges = (("parent", GREY, ":", "the same unit before"), ("child", COLOURS["child"], "-", "child of"))
    for role, colour, style, label in edges:
        members = [one for one in tree if one[1] == role]
        lines = [(place[origin], place[one]) for one in members for origin in tree[one]]
        line = LineCollection(lines, colors=colour, linestyles=style, linewidths=1.6, zorder=2, label=label)
        ax.add_collection(line)
        dots(members, s=48, color=COLOURS[role], edgecolor="white", zorder=3, label=f"{role} in its family")
    others = [one for one in place if one not in tree]
    dots(others, s=18, color=GREY, alpha=0.45, linewidth=0, zorder=1, label="other units")
    last = max(rank for _, rank in place.values())
    # Above the first there is room for the ring, below the last for the legend.
    ax.set_ylim(1.45 * last + 0.5, 0.6 - 0.1 * last)
    ax.set_yticks([1, *range(5, last + 1, 5)] if last > 8 else range(1, last + 1))
    ax.legend(loc="lower center", ncols=2, **LEGEND)
    return by_generation(ax, history, "rank by loss (1 is the fittest)", f"Family of the {name}")


def plot_adoption(history: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw the child adoption rate by generation: the share of children among the survivors; see `plot_losses`."""
    history = _checked(history, "survived")
    ax = _axes(ax)
    survivors = history[history["survived"]]
    rates = (survivors["role"] == "child").groupby(survivors["generation"]).mean()
    ax.axhline(0.5, color="black", linestyle=":", linewidth=1.2, label="as many children as parents")
    ax.plot(rates.index, rates, color=COLOURS["child"], marker="o", clip_on=False, zorder=3, label="adoption rate")
    ax.set_ylim(0, 1)
    ax.legend(**LEGEND)
    return by_generation(ax, history, "share of children among survivors", "Adoption of children")


def plot_rates(history: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw the loss of each unit of the last generation against its own learning rate; see `plot_losses`.

    Raises:
        InputError: see `plot_losses`; or units have no rates of their own, for `learning_rate` was no range.
    """
    if isinstance(history, pd.DataFrame) and len(history) and "learning_rate" not in history:
        raise InputError("history: has no column learning_rate; must be of a training whose learning_rate is a range")
    loss = "loss_validation" if "loss_validation" in history else "loss_survival"
    history = _checked(history, "learning_rate", loss)
    last = history[history["generation"] == history["generation"].max()]
    last = last[np.isfinite(last[loss].to_numpy(float))].sort_values("learning_rate")
    ax = _axes(ax)
    ax.scatter(last["learning_rate"], last[loss], s=42, color=COLOURS["parent"], zorder=3)
    best = last.nsmallest(1, loss)  # none where no loss is finite
    label = f"lowest: learning rate {best['learning_rate'].max():.2g}"
    ax.scatter(best["learning_rate"], best[loss], s=150, facecolor="none", edgecolor=BEST, linewidth=2, label=label)
    ax.set(xscale="log", xlabel="learning rate", title="Loss by learning rate")
    ax.set_ylabel(f"loss on the {'fixed validation rows' if loss == 'loss_validation' else 'validation batch'}")
    ax.legend(**LEGEND)
    return _quiet(ax)


def ancestors(history: pd.DataFrame, unit: int = 0) -> dict[Unit, list[Unit]]:
    """Return the family of a unit of the last generation, the unit first: each member with those it comes from.

    A child comes from its parents, of its own generation; a parent is a survivor of the generation before, numbered by
    fitness (or, where too few were finite, a copy of one). Members of the first generation come from nobody.

    `unit` is one of the last generation's survivors, 0 the fittest.

    Raises:
        InputError: there is no such unit, or a unit comes from one that is not there.
    """
    survivors: dict[int, list[Unit]] = {}
    origins: dict[Unit, list[Unit]] = {}
    for row in _ranked(history):
        one = (row.generation, row.role, row.unit)
        taught = row.role == "parent" or pd.isna(row.parent_a)  # of several, who are no ancestors entry by entry
        pair = [] if taught else dict.fromkeys((int(row.parent_a), int(row.parent_b)))
        origins[one] = [(row.generation, "parent", parent) for parent in pair]
        if row.survived:
            survivors.setdefault(row.generation, []).append(one)
    for one in origins:
        generation, role, number = one
        if role == "parent" and (before := survivors.get(generation - 1)):
            origins[one] = [before[number % len(before)]]
    final = survivors[max(survivors)]
    if isinstance(unit, bool) or not isinstance(unit, int) or not 0 <= unit < len(final):
        raise InputError(f"unit={unit!r} is not a survivor of the last generation; there are 0 to {len(final) - 1}")
    family: dict[Unit, list[Unit]] = {}
    waiting = [final[unit]]
    for one in waiting:  # which grows
        if one not in origins:
            generation, role, number = one
            raise InputError(f"history: {role} {number} of generation {generation} comes from nobody; rows are missing")
        if one not in family:
            family[one] = origins[one]
            waiting += origins[one]
    return family


def by_generation(ax: Axes, history: pd.DataFrame, ylabel: str, title: str) -> Axes:
    """Set labels, whole generations on the axis, and a quiet grid."""
    from matplotlib.ticker import MaxNLocator

    ax.set(xlabel="generation", ylabel=ylabel, title=title)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlim(history["generation"].min() - 0.5, history["generation"].max() + 0.5)
    return _quiet(ax)


def _quiet(ax: Axes) -> Axes:
    ax.grid(color="#e0e0e0", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _checked(history: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Return the history in the order of `Result.history`, parents first."""
    check_kind("history", history, pd.DataFrame, "a DataFrame such as Result.history")
    if absent := [name for name in ("generation", "role", *columns) if name not in history]:
        raise InputError(f"history: has no column {', '.join(absent)}; must be a DataFrame such as Result.history")
    if history.empty:
        raise InputError("history: has no rows, must have a complete generation")
    order = [name for name in ("generation", "role", "unit") if name in history]
    return history.sort_values(
        order, key=lambda each: each == "child" if each.name == "role" else each, kind="stable", ignore_index=True
    )


def _ranked(history: pd.DataFrame) -> list[Any]:
    """Return the rows, the fittest of each generation first and those without a finite loss last; `rank` is from 1."""
    loss = history["loss_survival"].astype(float)
    rows = history.assign(loss=loss.where(np.isfinite(loss), np.inf)).sort_values(["generation", "loss"], kind="stable")
    return list(rows.assign(rank=rows.groupby("generation").cumcount() + 1).itertuples())


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        if not hasattr(ax, "scatter"):
            raise InputError(f"ax={ax!r} must be a matplotlib Axes, or None for a figure of its own")
        return ax
    from matplotlib import pyplot as plt

    # So small that its letters are legible where a notebook shrinks it to a narrow page.
    made: Axes = plt.subplots(figsize=(5.2, 3.9), layout="constrained")[1]
    return made
