"""Figure 1: the architecture of GADAM."""

from __future__ import annotations

from typing import Any

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, Patch

from gadam.paper.palette import BLUE, GREEN, ORANGE, PURPLE

WIDTH, HEIGHT = 2.0, 1.5
COLUMN, ROW = 2.75, 3.0  # from the middle of one box to the next
KINDS: dict[str, Any] = {"units": BLUE, "learning": ORANGE, "evaluation": PURPLE, "genetics": GREEN}

# Name -> column, row, kind, title, what it says below, where to read it.
BOXES = {
    "initial": (0, 1, "units", r"$\mathcal{G}^{(0)}$", "g initial models", "3.1"),
    "now": (1, 1, "units", r"$\mathcal{G}^{(k)}$", "g unit models", "3.1"),
    "learn": (2, 1, "learning", "Adam", "each unit alone, on\nbatches of its own", "3.2, Eq. 2, 6"),
    "parents": (3, 1, "units", r"$\bar{\mathcal{G}}^{(k)}$", "learned parents", "3.2"),
    "fitness": (4, 1, "evaluation", "fitness", "loss on a validation\nbatch " + r"$\mathcal{V}$", "3.3.1, Eq. 7"),
    "selection": (
        5, 1, "genetics", "selection", "g pairs " + r"$\mathcal{P}$" + ": the\nfitter the likelier", "3.3.1, Eq. 8",
    ),
    "crossover": (5, 0, "genetics", "crossover", "each weight from one\nof two parents", "3.3.2, Eq. 9, 10"),
    "mutation": (4, 0, "genetics", "mutation", "few weights replaced\nat random", "3.3.3, Eq. 11, 12"),
    "again": (3, 0, "learning", "Adam", "each child alone", "3.3.3"),
    "children": (2, 0, "units", r"$\tilde{\mathcal{G}}^{(k)}$", "g learned children", "3.3.3"),
    "survival": (1, 0, "evaluation", "survival", "best g of 2g on\na shared new batch", "3.4"),
    "best": (0, 0, "units", "best unit", "of the last\ngeneration", "3.4"),
}  # fmt: skip
ARROWS = (
    ("initial", "now"), ("now", "learn"), ("learn", "parents"), ("parents", "fitness"), ("fitness", "selection"),
    ("selection", "crossover"), ("crossover", "mutation"), ("mutation", "again"), ("again", "children"),
    ("children", "survival"), ("survival", "now"), ("survival", "best"),
)  # fmt: skip


def diagram() -> Figure:
    """Figure 1: one generation of GADAM as a cycle, with the paper's symbols, equations and sections."""
    figure, axis = plt.subplots(figsize=(13, 4.9), layout="constrained")
    for name in BOXES:
        _box(axis, name)
    for start, end in ARROWS:
        _arrow(axis, start, end)
    _arrow(axis, "parents", "survival", linestyle="--")
    _note(axis, 2.45, 0.5, "parents compete\nwith their children", ha="left")
    _note(axis, 0.94, 0.5, r"$\mathcal{G}^{(k+1)}$: next generation," + "\nunless k = K or Eq. 13", ha="right")
    axis.set(
        xlim=(-0.6 * COLUMN, 5.5 * COLUMN), ylim=(-HEIGHT / 2 - 0.1, ROW + HEIGHT / 2 + 0.5), aspect="equal",
        title="One generation of GADAM: learn, mate, learn, survive",
    )  # fmt: skip
    axis.axis("off")
    handles = [Patch(facecolor=_tint(colour), edgecolor=colour, linewidth=1.5) for colour in KINDS.values()]
    figure.legend(handles, KINDS, loc="outside lower center", ncols=len(KINDS), frameon=False)
    return figure


def _middle(name: str) -> tuple[float, float]:
    column, row = BOXES[name][:2]
    return column * COLUMN, row * ROW


def _box(axis: Axes, name: str) -> None:
    x, y = _middle(name)
    kind, title, text, where = BOXES[name][2:]
    colour = KINDS[kind]
    axis.add_patch(
        FancyBboxPatch(
            (x - WIDTH / 2, y - HEIGHT / 2), WIDTH, HEIGHT, boxstyle="round,pad=0,rounding_size=0.18",
            facecolor=_tint(colour), edgecolor=colour, linewidth=1.5,
        )
    )  # fmt: skip
    symbol = title.startswith("$")
    axis.text(x, y + 0.36, title, ha="center", va="center", weight="bold", fontsize=15 if symbol else 11.5)
    axis.text(x, y - 0.08, text, ha="center", va="center", fontsize=9)
    axis.text(x, y - 0.57, where, ha="center", va="center", fontsize=8.5, color="#444444", style="italic")
    if kind == "units":
        for place in range(1 if name == "best" else 4):
            shift = 0.0 if name == "best" else (place - 1.5) * 0.36
            filled = name not in ("initial", "now")
            axis.add_patch(
                Circle(
                    (x + shift, y + HEIGHT / 2 + 0.24), 0.13, edgecolor=colour, linewidth=1.5,
                    facecolor=colour if filled else "white",
                )
            )  # fmt: skip


def _arrow(axis: Axes, start: str, end: str, linestyle: str = "-") -> None:
    """From edge to edge; a dashed one from corner to corner."""
    (x, y), (to_x, to_y) = _middle(start), _middle(end)
    right, up = (to_x > x) - (to_x < x), (to_y > y) - (to_y < y)
    style = {"arrowstyle": "-|>", "color": "#333333", "linewidth": 1.6, "linestyle": linestyle, "mutation_scale": 16}
    axis.annotate(
        "", (to_x - right * WIDTH / 2, to_y - up * HEIGHT / 2), (x + right * WIDTH / 2, y + up * HEIGHT / 2),
        arrowprops=style | {"shrinkA": 2, "shrinkB": 2},
    )  # fmt: skip


def _note(axis: Axes, column: float, row: float, text: str, ha: str) -> None:
    axis.text(column * COLUMN, row * ROW, text, ha=ha, va="center", fontsize=9.5)


def _tint(colour: Any) -> tuple[float, float, float, float]:
    """The colour as a background for black text."""
    return to_rgba(colour, 0.16)
