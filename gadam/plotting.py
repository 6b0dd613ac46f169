"""Figures of a history: losses, the family of a unit, adoption of children."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gadam.config import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_adoption", "plot_family", "plot_losses"]

COLOURS = {"parent": "#0173b2", "child": "#de8f05"}
BEST, GREY, RED = "#029e73", "#949494", "#b00020"
BESIDE = {"parent": -0.16, "child": 0.16}  # of the generation's place on the axis
LEGEND: dict[str, Any] = {"fontsize": 8, "framealpha": 0.8}

Unit = tuple[int, str, int]
"""Generation, role, unit."""


def plot_losses(history: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw the loss of every unit by generation: children beside parents, survivors filled, a line through the fittest.

    The axis is logarithmic where the losses span more than a decade. Units without a finite loss are crosses at the
    top.

    Args:
        history: `Result.history`, or the first generations of it.
        ax: where to draw; None makes a figure by pyplot.

    Raises:
        InputError: the frame lacks a column or has no rows, or is no history.
    """
    history = _checked(history, "survived", "loss_survival")
    ax = _axes(ax)
    history["place"] = history["generation"] + history["role"].map(BESIDE)
    finite = np.isfinite(history["loss_survival"].to_numpy(float))
    for (role, survived), rows in history[finite].groupby(["role", "survived"]):
        ax.scatter(
            rows["place"], rows["loss_survival"], s=42, zorder=3, linewidth=1.4, alpha=0.85,
            facecolor=COLOURS[role] if survived else "none", edgecolor=COLOURS[role],
        )  # fmt: skip
    fittest = history.loc[history[finite].groupby("generation")["loss_survival"].idxmin()]
    ax.plot(fittest["place"], fittest["loss_survival"], color=BEST, linewidth=1.8, zorder=2)
    lowest = fittest["loss_survival"].min()
    if lowest > 0 and history.loc[finite, "loss_survival"].max() > 10 * lowest:
        ax.set_yscale("log")
    handles = [
        _mark(COLOURS[role], f"{plural} who {does}", hollow=does == "do not")
        for role, plural in (("parent", "parents"), ("child", "children"))
        for does in ("survive", "do not")
    ]
    handles.append(_mark(BEST, "fittest", marker="", linestyle="-"))
    if diverged := int((~finite).sum()):
        ax.scatter(
            history.loc[~finite, "place"], [0.99] * diverged, marker="x", color=RED, zorder=3, clip_on=False,
            transform=ax.get_xaxis_transform(),
        )  # fmt: skip
        handles.append(_mark(RED, f"no finite loss ({diverged})", marker="x"))
    ax.legend(handles=handles, **LEGEND)
    return by_generation(ax, history, "loss on the new validation batch", "Loss of every unit")


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

    dots([one for one in place if one not in tree], s=18, color=GREY, alpha=0.45, linewidth=0, zorder=1)
    for role, colour, style in (("parent", GREY, ":"), ("child", COLOURS["child"], "-")):
        members = [one for one in tree if one[1] == role]
        lines = [(place[origin], place[one]) for one in members for origin in tree[one]]
        ax.add_collection(LineCollection(lines, colors=colour, linestyles=style, linewidths=1.6, zorder=2))
        dots(members, s=48, color=COLOURS[role], edgecolor="white", zorder=3)
    dots([next(iter(tree))], s=170, facecolor="none", edgecolor=BEST, linewidth=2.2, zorder=4)
    last = max(rank for _, rank in place.values())
    # Above the first there is room for the ring, below the last for the legend.
    ax.set_ylim(1.45 * last + 0.5, 0.6 - 0.1 * last)
    ax.set_yticks([1, *range(5, last + 1, 5)] if last > 8 else range(1, last + 1))
    handles = [
        _mark(BEST, "the fittest now" if unit == 0 else f"unit {unit} now", hollow=True, markersize=11),
        *(_mark(colour, f"{role} in its family") for role, colour in COLOURS.items()),
        _mark(GREY, "other units"),
        _mark(COLOURS["child"], "child of", marker="", linestyle="-"),
        _mark(GREY, "the same unit before", marker="", linestyle=":"),
    ]
    ax.legend(handles=handles, loc="lower center", ncols=2, **LEGEND)
    name = "fittest unit" if unit == 0 else f"unit {unit}"
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


def ancestors(history: pd.DataFrame, unit: int = 0) -> dict[Unit, list[Unit]]:
    """Return the family of a unit of the last generation, the unit first: each member with those it comes from.

    A child comes from its parents, of its own generation; a parent is a survivor of the generation before, numbered by
    fitness (or, where too few were finite, a copy of one). Members of the first generation come from nobody.

    Args:
        history: `Result.history`.
        unit: which of the last generation's survivors, 0 the fittest.

    Raises:
        InputError: there is no such unit, or a unit comes from one that is not there.
    """
    survivors: dict[int, list[Unit]] = {}
    origins: dict[Unit, list[Unit]] = {}
    diverged = set()
    for row in _ranked(history):
        one = (row.generation, row.role, row.unit)
        pair = [] if row.role == "parent" else dict.fromkeys((int(row.parent_a), int(row.parent_b)))
        origins[one] = [(row.generation, "parent", parent) for parent in pair]
        survivors.setdefault(row.generation, []).extend([one] if row.survived else [])
        if not np.isfinite(row.loss):
            diverged.add(row.generation)
    final = survivors[max(survivors)]
    if isinstance(unit, bool) or not isinstance(unit, int) or not 0 <= unit < len(final):
        raise InputError(f"unit={unit!r} is not a survivor of the last generation; there are 0 to {len(final) - 1}")
    family: dict[Unit, list[Unit]] = {}
    waiting = [final[unit]]
    while waiting:
        one = generation, role, number = waiting.pop(0)
        if one in family:
            continue
        before = survivors.get(generation - 1) if role == "parent" else None
        # Where units diverged, those who survived may be there more than once.
        known = before is None or number < len(before) or (before and generation - 1 in diverged)
        if one not in origins or not known:
            raise InputError(f"history: {role} {number} of generation {generation} comes from nobody; rows are missing")
        family[one] = [before[number % len(before)]] if before else origins[one]
        waiting += family[one]
    return family


def by_generation(ax: Axes, history: pd.DataFrame, ylabel: str, title: str) -> Axes:
    """Set labels, whole generations on the axis, and a quiet grid."""
    from matplotlib.ticker import MaxNLocator

    ax.set(xlabel="generation", ylabel=ylabel, title=title)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlim(history["generation"].min() - 0.5, history["generation"].max() + 0.5)
    ax.grid(color="#e0e0e0", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _checked(history: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Return the history in the order of `Result.history`, parents first."""
    if not isinstance(history, pd.DataFrame):
        raise InputError(f"history: is a {type(history).__name__}, must be a DataFrame such as Result.history")
    if absent := [name for name in ("generation", "role", *columns) if name not in history]:
        raise InputError(f"history: has no column {', '.join(absent)}; must be a DataFrame such as Result.history")
    if history.empty:
        raise InputError("history: has no rows, must have a complete generation")
    if strange := sorted(set(map(str, history["role"])) - set(COLOURS)):
        raise InputError(f"history: has a role {strange[0]!r}, must be parent or child")
    if "loss_survival" in columns and not pd.api.types.is_numeric_dtype(history["loss_survival"]):
        raise InputError(f"history: loss_survival is of {history['loss_survival'].dtype}, must be numbers")
    order = [name for name in ("generation", "role", "unit") if name in history]
    return history.sort_values(
        order, key=lambda each: each == "child" if each.name == "role" else each, kind="stable", ignore_index=True
    )


def _ranked(history: pd.DataFrame) -> list[Any]:
    """Return the rows, the fittest of each generation first, with `rank` from 1 and a `loss` that is never NaN."""
    loss = history["loss_survival"].astype(float)
    ranked = history.assign(loss=loss.where(np.isfinite(loss), np.inf)).sort_values(
        ["generation", "loss"], kind="stable"
    )
    return list(ranked.assign(rank=ranked.groupby("generation").cumcount() + 1).itertuples())


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        if not hasattr(ax, "scatter"):
            raise InputError(f"ax={ax!r} must be a matplotlib Axes, or None for a figure of its own")
        return ax
    from matplotlib import pyplot as plt

    # So small that its letters are legible where a notebook shrinks it to a narrow page.
    made: Axes = plt.subplots(figsize=(5.2, 3.9), layout="constrained")[1]
    return made


def _mark(colour: str, label: str, *, hollow: bool = False, **style: Any) -> Any:
    """Return an entry of a legend: a dot, unless the style says otherwise."""
    from matplotlib.lines import Line2D

    face = "none" if hollow else colour
    return Line2D([], [], color=colour, markerfacecolor=face, label=label, **{"marker": "o", "linestyle": ""} | style)
