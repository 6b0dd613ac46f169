"""Figures of a history: losses, the family of a unit, adoption of children."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gadam.config import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"parent": "#0173b2", "child": "#de8f05"}
BEST = "#029e73"
GREY = "#949494"
PLURAL = {"parent": "parents", "child": "children"}
BESIDE = {"parent": -0.16, "child": 0.16}  # of the generation's place on the axis

Unit = tuple[int, str, int]
"""Generation, role, unit."""


def plot_losses(history: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Loss of every unit by generation: children beside parents, survivors filled, and a line through the fittest.

    The axis is logarithmic where they span more than a decade. Units without a finite loss are crosses at the top.

    Args:
        history: `Result.history`, or the first generations of it.
        ax: where to draw; None makes a figure by pyplot.

    Raises:
        InputError: the frame lacks a column or has no rows, or holds something else than a history does.
    """
    history = _checked(history, "survived", "loss_survival")
    ax = _axes(ax)
    diverged = ~np.isfinite(history["loss_survival"].to_numpy(float))
    for (role, survived), rows in history[~diverged].groupby(["role", "survived"]):
        colour = COLOURS[role]
        ax.scatter(
            rows["generation"] + BESIDE[role], rows["loss_survival"], s=42, zorder=3, linewidth=1.4,
            facecolor=colour if survived else "none", edgecolor=colour, alpha=0.85,
        )  # fmt: skip
    if diverged.any():
        rows = history[diverged]
        ax.scatter(
            rows["generation"] + rows["role"].map(BESIDE), np.full(len(rows), 0.99), marker="x", color="#b00020",
            transform=ax.get_xaxis_transform(), zorder=3, clip_on=False,
        )  # fmt: skip
    fittest = history[~diverged].groupby("generation")["loss_survival"].idxmin()
    best = history.loc[fittest, "loss_survival"]
    places = history.loc[fittest, "generation"] + history.loc[fittest, "role"].map(BESIDE)
    ax.plot(places, best, color=BEST, linewidth=1.8, zorder=2)
    if len(best) and best.min() > 0 and history.loc[~diverged, "loss_survival"].max() > 10 * best.min():
        ax.set_yscale("log")
    from matplotlib.lines import Line2D

    handles = [_dot(COLOURS[role], filled, PLURAL[role], filled) for role in COLOURS for filled in (True, False)]
    handles.append(Line2D([], [], color=BEST, label="fittest"))
    if diverged.any():
        cross = Line2D([], [], marker="x", linestyle="", color="#b00020", label=f"no finite loss ({diverged.sum()})")
        handles.append(cross)
    ax.legend(handles=handles, fontsize=8, framealpha=0.8)
    return by_generation(ax, history, "loss on the new validation batch", "Loss of every unit")


def plot_family(history: pd.DataFrame, ax: Axes | None = None, unit: int = 0) -> Axes:
    """The family tree of a unit of the last generation: its ancestors, back to the initial units.

    A unit's height is its rank among the parents and children of its generation. A full line leads from a child to each
    of its parents, a dotted one from a parent to itself in the generation before.

    Args:
        history: `Result.history`, or the first generations of it.
        ax: where to draw; None makes a figure by pyplot.
        unit: which of the last generation's survivors, 0 the fittest.

    Raises:
        InputError: the frame lacks a column or has no rows, or there is no such unit.
    """
    from matplotlib.collections import LineCollection
    from matplotlib.lines import Line2D

    history = _checked(history, "unit", "parent_a", "parent_b", "survived", "loss_survival")
    tree = ancestors(history, unit)
    ax = _axes(ax)
    place = {_unit(row): (row["generation"] + BESIDE[row["role"]], rank) for rank, row in _ranked(history)}
    for role, colour, style in (("parent", GREY, ":"), ("child", COLOURS["child"], "-")):
        lines = [(place[origin], place[one]) for one in tree if one[1] == role for origin in tree[one]]
        ax.add_collection(LineCollection(lines, colors=colour, linestyles=style, linewidths=1.6, zorder=2))
        members = np.array([place[one] for one in tree if one[1] == role]).reshape(-1, 2)
        ax.scatter(members[:, 0], members[:, 1], s=48, color=COLOURS[role], edgecolor="white", zorder=3)
    others = np.array([place[one] for one in place if one not in tree]).reshape(-1, 2)
    ax.scatter(others[:, 0], others[:, 1], s=18, color=GREY, alpha=0.45, linewidth=0, zorder=1)
    x, y = place[next(iter(tree))]
    ax.scatter(x, y, s=170, facecolor="none", edgecolor=BEST, linewidth=2.2, zorder=4)
    lowest = max(rank for _, rank in place.values())
    # Above the first there is room for the ring, below the last for the legend.
    ax.set_ylim(1.45 * lowest + 0.5, 0.6 - 0.1 * lowest)
    ax.set_yticks([1, *range(5, lowest + 1, 5)] if lowest > 8 else range(1, lowest + 1))
    handles = [
        Line2D([], [], marker="o", linestyle="", markersize=11, markerfacecolor="none", color=BEST, markeredgewidth=2,
               label="the fittest now" if unit == 0 else f"unit {unit} now"),
        *(_dot(colour, True, f"{role} in its family") for role, colour in COLOURS.items()),
        _dot(GREY, True, "other units"),
        Line2D([], [], color=COLOURS["child"], linewidth=1.6, label="child of"),
        Line2D([], [], color=GREY, linestyle=":", linewidth=1.6, label="the same unit before"),
    ]  # fmt: skip
    ax.legend(handles=handles, fontsize=8, framealpha=0.8, loc="lower center", ncols=2)
    name = "fittest unit" if unit == 0 else f"unit {unit}"
    return by_generation(ax, history, "rank by loss (1 is the fittest)", f"Family of the {name}")


def plot_adoption(history: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """The child adoption rate by generation: the share of children among the survivors.

    Args:
        history: `Result.history`, or the first generations of it.
        ax: where to draw; None makes a figure by pyplot.

    Raises:
        InputError: the frame lacks a column or has no rows.
    """
    history = _checked(history, "survived")
    ax = _axes(ax)
    survivors = history[history["survived"]]
    rates = (survivors["role"] == "child").groupby(survivors["generation"]).mean()
    ax.axhline(0.5, color="black", linestyle=":", linewidth=1.2, label="as many children as parents")
    ax.plot(rates.index, rates, color=COLOURS["child"], marker="o", clip_on=False, zorder=3, label="adoption rate")
    ax.set_ylim(0, 1)
    ax.legend(fontsize=8, framealpha=0.8)
    return by_generation(ax, history, "share of children among survivors", "Adoption of children")


def ancestors(history: pd.DataFrame, unit: int = 0) -> dict[Unit, list[Unit]]:
    """The family of a unit of the last generation, the unit first: each member with those it comes from.

    A child comes from its parents, of its own generation; a parent is a survivor of the generation before, numbered by
    fitness (or, where too few were finite, a copy of one). Members of the first generation come from nobody.

    Args:
        history: `Result.history`.
        unit: which of the last generation's survivors, 0 the fittest.

    Raises:
        InputError: there is no such unit, or a unit comes from one that is not there.
    """
    survivors: dict[int, list[Unit]] = {}
    parents: dict[Unit, list[Unit]] = {}
    for _, row in _ranked(history):
        one = _unit(row)
        survivors.setdefault(one[0], [])
        if row["survived"]:
            survivors[one[0]].append(one)
        pair = [] if one[1] == "parent" else dict.fromkeys((int(row["parent_a"]), int(row["parent_b"])))
        parents[one] = [(one[0], "parent", parent) for parent in pair]
    diverged = set(history.loc[~np.isfinite(history["loss_survival"].to_numpy(float)), "generation"])
    final = survivors[max(survivors)]
    if isinstance(unit, bool) or not isinstance(unit, int) or not 0 <= unit < len(final):
        raise InputError(f"unit={unit!r} is not a survivor of the last generation; there are 0 to {len(final) - 1}")
    family: dict[Unit, list[Unit]] = {}
    waiting = [final[unit]]
    while waiting:
        one = waiting.pop(0)
        if one in family:
            continue
        before = survivors.get(one[0] - 1)
        # Where units diverged, those who survived may be there more than once.
        known = one[1] == "child" or before is None or one[2] < len(before) or (before and one[0] - 1 in diverged)
        if one not in parents or not known:
            raise InputError(f"history: {one[1]} {one[2]} of generation {one[0]} comes from nobody; rows are missing")
        family[one] = [before[one[2] % len(before)]] if one[1] == "parent" and before is not None else parents[one]
        waiting += family[one]
    return family


def _checked(history: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """The history in the order of `Result.history`."""
    if not isinstance(history, pd.DataFrame):
        raise InputError(f"history: is a {type(history).__name__}, must be a DataFrame such as Result.history")
    if absent := [name for name in ("generation", "role", *columns) if name not in history]:
        raise InputError(f"history: has no column {', '.join(absent)}; must be a DataFrame such as Result.history")
    if history.empty:
        raise InputError("history: has no rows, must have a complete generation")
    if strange := sorted(set(map(str, history["role"])) - {"parent", "child"}):
        raise InputError(f"history: has a role {strange[0]!r}, must be parent or child")
    if "loss_survival" in columns and not pd.api.types.is_numeric_dtype(history["loss_survival"]):
        raise InputError(f"history: loss_survival is of {history['loss_survival'].dtype}, must be numbers")
    order = ["generation", "role", "unit"] if "unit" in history else ["generation", "role"]
    return history.sort_values(
        order, key=lambda values: values.replace({"parent": "0", "child": "1"}), kind="stable", ignore_index=True
    )


def _ranked(history: pd.DataFrame) -> list[tuple[int, dict[Hashable, Any]]]:
    """The rows of each generation, fittest first as survival orders them, with their rank from 1."""
    losses = history["loss_survival"].astype(float)
    ordered = history.assign(_key=losses.where(np.isfinite(losses), np.inf)).sort_values("_key", kind="stable")
    return [
        (place, row)
        for _, rows in ordered.groupby("generation")
        for place, row in enumerate(rows.to_dict("records"), start=1)
    ]


def _unit(row: dict[Hashable, Any]) -> Unit:
    return int(row["generation"]), str(row["role"]), int(row["unit"])


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        if not hasattr(ax, "scatter"):
            raise InputError(f"ax={ax!r} must be a matplotlib Axes, or None for a figure of its own")
        return ax
    from matplotlib import pyplot as plt

    # So small that its letters are legible where a notebook shrinks it to a narrow page.
    made: Axes = plt.subplots(figsize=(5.2, 3.9), layout="constrained")[1]
    return made


def by_generation(ax: Axes, history: pd.DataFrame, ylabel: str, title: str) -> Axes:
    """Labels, whole generations on the axis, and a quiet grid."""
    from matplotlib.ticker import MaxNLocator

    ax.set(xlabel="generation", ylabel=ylabel, title=title)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlim(history["generation"].min() - 0.5, history["generation"].max() + 0.5)
    ax.grid(color="#e0e0e0", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _dot(colour: str, filled: bool, name: str, survived: bool | None = None) -> Any:
    from matplotlib.lines import Line2D

    if survived is not None:
        name += " who survive" if survived else " who do not"
    return Line2D(
        [], [], marker="o", linestyle="", color=colour, markerfacecolor=colour if filled else "none", label=name
    )
