"""What came of `gadam bench --scale`: the models, tables to read and a figure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from gadam.bench.results import between, short
from gadam.paper.report import figures
from gadam.paper.report.tables import MISSING

STEPS = 8_000  # of a unit in a generation of the paper, for parents and again for children
STEP, WIDER, WORKERS, LENET = "step by g", "step by |w|", "step by threads", "step, LeNet-5"
BREEDING = {"mlp": "genetics, MLP", "lenet": "genetics, LeNet-5"}
MEMORY = ("memory", "memory, model", "memory, model with temporaries")
UNITS = {STEP: ("ms", "ms per unit"), WIDER: ("ms", "ms per entry"), MEMORY[0]: ("MB", "MB per unit")}  # of a and b


@dataclass(frozen=True)
class Line:
    """y = a + b·x, and by which share of what was measured it is off at most; NaN without two different x."""

    a: float
    b: float
    deviation: float


def fit(x: Sequence[float], y: Sequence[float]) -> Line:
    """Least squares on relative errors, so that small populations count as much as large ones; y > 0, NaN left out."""
    xs, ys = np.array([pair for pair in zip(x, y, strict=True) if math.isfinite(pair[1])], float).reshape(-1, 2).T
    if len(set(xs)) < 2:
        return Line(math.nan, math.nan, math.nan)
    (a, b), *_ = np.linalg.lstsq(np.stack([1 / ys, xs / ys], 1), np.ones_like(ys), rcond=None)
    return Line(float(a), float(b), float(np.abs((a + b * xs) / ys - 1).max()))


def share(genetics_ms: float, step_ms: float) -> float:
    """Percent of a generation of the paper, 2 x 8,000 steps of a population, that is genetics."""
    return 100 * genetics_ms / (genetics_ms + 2 * STEPS * step_ms)


def shares(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of genetics' share of a generation, from rows of times; LeNet-5's step is taken as in proportion to g."""
    times: dict[tuple[str, int], list[float]] = {}
    for row in rows:
        times.setdefault((row["what"], row["g"]), []).append(row["value"])
    middle = {key: statistics.median(values) for key, values in times.items()}
    alone = [value / g for (what, g), value in middle.items() if what == LENET]
    sizes = {(row["what"], row["g"]): row["entries"] for row in rows}
    found = []
    for name, what in BREEDING.items():
        for g in sorted(g for key, g in middle if key == what):
            step = middle.get((STEP, g), math.nan) if name == "mlp" else g * alone[0] if alone else math.nan
            columns = {"what": f"share of {what}", "g": g, "entries": sizes[what, g]}
            if math.isfinite(step):
                found.append(columns | {"value": share(middle[what, g], step), "unit": "%"})
    return found


def medians(frame: pd.DataFrame) -> pd.DataFrame:
    """Of the repeats of each point: median, low and high."""
    groups = frame.groupby(["what", "g", "entries", "threads"], dropna=False, sort=False)["value"]
    return groups.agg(["median", "min", "max"]).set_axis(["value", "low", "high"], axis=1).reset_index()


def models(middle: pd.DataFrame) -> dict[str, Line]:
    """A line for each of `UNITS` of which there are points."""
    parts = {what: middle[middle["what"] == what] for what in UNITS}
    return {what: fit(list(p["entries" if what == WIDER else "g"]), list(p["value"])) for what, p in parts.items()
            if len(p)}  # fmt: skip


def tables(middle: pd.DataFrame, lines: Mapping[str, Line], title: str) -> Iterator[str]:
    """The text, a table at a time, each within 120 columns.

    Args:
        middle: of `medians`.
        lines: of `models`.
        title: the model, the batch and the device.
    """
    cells: list[tuple[str, ...]]
    for what, column, name in ((STEP, "g", "g"), (WIDER, "entries", "|w|")):
        if what in lines:
            line = lines[what]
            cells = [("g", "|w|", "ms a step", "lowest-highest", "model", "off, %")]
            for row in _records(middle, what):
                model = line.a + line.b * row[column]
                off = f"{100 * (model / row['value'] - 1):+.0f}" if math.isfinite(model) else MISSING
                cells.append(
                    (
                        f"{row['g']:,}",
                        f"{row['entries']:,}",
                        *_time(row),
                        f"{model:.3g}" if model <= 0 else short(model),
                        off,
                    )
                )
            yield _grid(f"Time of a {what}: {title}{_words(line, 'ms', 'µs', name)}", cells)
    alone = {row["g"]: row["value"] for row in _records(middle, WORKERS) if row["threads"] == 1}
    cells = [("g", "threads", "ms a step", "lowest-highest", "speed-up")]
    cells += [
        (f"{row['g']:,}", str(row["threads"]), *_time(row), short(alone.get(row["g"], math.nan) / row["value"]))
        for row in _records(middle, WORKERS)
    ]
    if len(cells) > 1:
        yield _grid(f"Time of a {WORKERS}, the same shards: {title}", cells)
    peak, plain, full = ({row["g"]: row["value"] for row in _records(middle, what)} for what in MEMORY)
    cells = [("g", "MB", "model, MB", "x model", "with temporaries, MB", "x that")]
    cells += [
        (f"{g:,}", short(mb), short(plain[g]), short(mb / plain[g]), short(full[g]), short(mb / full[g]))
        for g, mb in peak.items()
    ]
    if peak:
        yield _grid(f"Memory at the peak of training: {title}{_words(lines[MEMORY[0]], 'MB', 'kB', 'g')}", cells)
    columns = [what for name in BREEDING.values() for what in (name, f"share of {name}")]
    values = {what: {row["g"]: row["value"] for row in _records(middle, what)} for what in columns}
    cells = [("g", *(f"{what}, {'%' if what.startswith('share') else 'ms'}" for what in columns))]
    for g in sorted({g for each in values.values() for g in each}):
        cells.append((f"{g:,}", *(short(values[what].get(g, math.nan)) for what in columns)))
    yield _grid(f"Genetics in a generation of 2 x {STEPS:,} steps", cells)


def _records(middle: pd.DataFrame, what: str) -> list[dict[str, Any]]:
    return [{str(k): v for k, v in row.items()} for row in middle[middle["what"] == what].to_dict("records")]


def _time(row: Mapping[str, Any]) -> tuple[str, str]:
    return short(row["value"]), between(row["low"], row["high"])


def _words(line: Line, unit: str, thousandth: str, name: str) -> str:
    """The model on a line of its own, b in a thousandth of the unit of a; nothing where there is none."""
    if not math.isfinite(line.a):
        return ""
    off = f"at most {100 * line.deviation:.0f} % off what was measured"
    return f"\n{line.a:.3g} {unit} + {1e3 * line.b:.3g} {thousandth} · {name}, {off}"


def _grid(title: str, cells: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(["", title, *("  ".join(map(str.rjust, line, widths)) for line in cells)])


def draw(middle: pd.DataFrame, lines: Mapping[str, Line]) -> Figure:
    """Time by g and by |w|, memory by g, genetics' share by g, all logarithmic, with the models as lines.

    Args:
        middle: of `medians`.
        lines: of `models`.
    """
    figures.use_style()
    import seaborn as sns

    blue, orange, green, *_ = sns.color_palette("colorblind")
    figure, ((by_g, by_w), (memory, part)) = plt.subplots(2, 2, figsize=(11.0, 8.0), layout="constrained")

    def points(axis: Any, what: str, column: str, **look: Any) -> None:
        own = middle[middle["what"] == what]
        axis.vlines(own[column], own["low"], own["high"], color=look["color"], linewidth=2)
        axis.plot(own[column], own["value"], "o", markersize=6, **look)

    of_unit = "|w|, learned entries of a unit"
    for axis, what, column, label in ((by_g, STEP, "g", "g, units"), (by_w, WIDER, "entries", of_unit)):
        points(axis, what, column, color=blue, label="measured, lowest to highest")
        own, line = middle[middle["what"] == what], lines.get(what)
        if line is not None and math.isfinite(line.a):
            x = np.geomspace(own[column].min(), own[column].max(), 200)
            text = f"{line.a:.3g} ms + {1e3 * line.b:.3g} µs · {'g' if column == 'g' else '|w|'}"
            axis.plot(x, line.a + line.b * x, color=orange, zorder=1, label=text)
        axis.set(title=f"Time of a {what}", xlabel=label, ylabel="time of a step of the population, ms")
    if MEMORY[0] in lines:
        points(memory, MEMORY[0], "g", color=blue, label="measured")
        looks = (MEMORY[1], orange, "5 copies and activations"), (MEMORY[2], green, "and temporaries")
        for what, colour, label in looks:
            own = middle[middle["what"] == what]
            memory.plot(own["g"], own["value"], color=colour, zorder=1, label=label)
        memory.set(title="Memory of training", xlabel="g, units", ylabel="peak above what was there before, MB")
    else:
        memory.remove()
    for (name, what), colour in zip(BREEDING.items(), (blue, orange), strict=True):
        own = middle[middle["what"] == f"share of {what}"]
        part.plot(own["g"], own["value"], "o-", color=colour, label={"mlp": "MLP", "lenet": "LeNet-5"}[name])
    part.axhline(1, color="0.35", linewidth=1.2, linestyle="--", label="1 %")
    part.set(title="Genetics", xlabel="g, units", ylabel="share of a generation's time, %")
    for axis in figure.axes:
        axis.set(xscale="log", yscale="log")
        axis.legend(frameon=False)
        for each in (axis.xaxis, axis.yaxis):
            low, high = each.get_view_interval()
            each.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 300 * low else (1.0,)))
            each.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
            each.set_minor_formatter(NullFormatter())
    return figure
