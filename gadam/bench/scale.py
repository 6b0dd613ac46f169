"""How time and memory of training grow with g, |w| and threads, beside models that explain it: `gadam bench --scale`.

Steps are those of `gadam.bench.measure`, all interleaved, of the MLP for LETTER and once of LeNet-5. Fitted is
t = a + b·x with x either g or |w|: a is what a step costs whatever is trained, b what each unit or entry adds.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import json
import math
import re
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from torch import Tensor, nn

from gadam import genetics
from gadam.bench.command import BUSY, _check, load
from gadam.bench.contestants import Contestant, Ready, full_precision, gadam
from gadam.bench.limits import Limits
from gadam.bench.measure import Say, measure, reason
from gadam.bench.results import between, short
from gadam.bench.workloads import BATCH, SEED, Work, make_work, workloads
from gadam.config import GadamConfig, InputError
from gadam.evolution import breed
from gadam.layout import resolve_device
from gadam.models import mlp
from gadam.population import Population
from gadam.randomness import GENETICS, stream
from gadam.reporting import figures
from gadam.reporting.machine import describe, usable_cores
from gadam.reporting.paths import reports_root, write_atomic
from gadam.reporting.tables import MISSING, to_csv
from gadam.training import BLOCK

SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)  # g
WIDTHS = (16, 32, 64, 128, 256, 512)  # of both hidden layers
FEW, MANY = 10, 100  # g where something else varies; MANY is also the most units of LeNet-5
STEPS = 8_000  # of a unit in a generation of the paper, for parents and again for children
WATCHED = 20  # steps while memory is watched
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


def entries(population: Population) -> int:
    """|w|, the learned entries of a unit."""
    return sum(tensor[0].numel() for tensor in population.parameters.values())


def memory_model(work: Work) -> dict[str, int]:
    """Bytes that training a population takes, in parts, the two of the plain model first.

    "copies" are five float32 numbers for each learned entry of each unit: the parameter, its gradient, Adam's two
    moments, and the copy to start from. "activations" are the outputs of all layers for g batches. The temporaries are
    "gradients" of the activations, as if all lived at once, and "batches", the int64 row numbers of the steps to come,
    which are drawn 64 steps ahead and are there twice while they are stacked.
    """
    found = 0

    def count(module: nn.Module, given: Any, output: Tensor) -> None:
        nonlocal found
        found += output.nbytes

    module = work.population.unit(0).to("meta").train()  # shapes are enough to count
    for layer in module.modules():
        if not list(layer.children()):
            layer.register_forward_hook(count)
    module(torch.empty(work.batch_size, *work.inputs.shape[1:], device="meta"))
    each = {"copies": 4 * 5 * entries(work.population), "activations": found, "gradients": found}
    each["batches"] = 2 * 8 * BLOCK * work.batch_size
    return {part: len(work.population) * size for part, size in each.items()}


def watch(g: int, device: str) -> int | None:
    """Bytes at the peak of training, above what there was before the population; None if the system does not tell.

    For a fresh process: memory that an earlier population left with the allocator would be used again unseen.
    """
    on = torch.device(device)
    with full_precision(), suppress(OSError):
        with gadam(make_work(workloads(on)["mlp"], FEW, on)) as ready:
            ready.train(1)  # so that libraries, threads and the tracer are there
        del ready
        before = _memory(on)
        with gadam(make_work(workloads(on)["mlp"], g, on)) as ready:
            _memory(on)  # gives back what tracing left, which has run a step
            if on.type == "cuda":
                torch.cuda.reset_peak_memory_stats(on)
            else:
                Path("/proc/self/clear_refs").write_text("5")  # the peak is from now on, see proc(5)
            ready.train(WATCHED)
            return _memory(on, peak=True) - before
    return None


def _memory(on: torch.device, peak: bool = False) -> int:
    """Bytes at the peak, or now, when what is free is given back; OSError where they are not known."""
    if not peak:
        gc.collect()
        with suppress(AttributeError, OSError, TypeError):  # of other C libraries than glibc
            ctypes.CDLL(None).malloc_trim(0)
    if on.type == "cuda":
        return torch.cuda.max_memory_allocated(on) if peak else torch.cuda.memory_allocated(on)
    found = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1_024 * int(found["VmHWM" if peak else "VmRSS"].split()[0])


def share(genetics_ms: float, step_ms: float) -> float:
    """Percent of a generation of the paper, 2 x 8,000 steps of a population, that is genetics."""
    return 100 * genetics_ms / (genetics_ms + 2 * STEPS * step_ms)


@contextmanager
def breeding(work: Work) -> Iterator[Ready]:
    """All that `evolve` does between trainings; a step is a generation."""
    parents, g, device = work.population, len(work.population), work.device
    config = GadamConfig(population_size=g, seed=SEED)
    draw = stream(device, SEED, GENETICS, 1)
    losses = torch.rand(2 * g, generator=draw, device=device, dtype=torch.float64)

    def train(generations: int) -> Any:
        for _ in range(generations):
            newborn = breed(parents, losses[:g], config, draw).newborn
            Population.choose([parents, newborn], genetics.survivors(losses, g).tolist())
        return dict

    yield Ready(train)


def _steps(on: torch.device, largest: int) -> dict[str, tuple[dict[str, Any], Contestant]]:
    """What is timed: name -> the columns that say what it is, and who does it."""
    known, few = workloads(on), min(FEW, largest)
    work = functools.cache(lambda name, g: make_work(known[name], g, on))
    wider = [replace(known["mlp"], make_model=partial(mlp, 16, 26, (width, width))) for width in WIDTHS]
    cores = usable_cores()
    threads = sorted({2**n for n in range(cores.bit_length()) if 2**n <= cores} | {cores}) if on.type == "cpu" else []
    sizes = [g for g in SIZES if g <= largest]
    every: list[tuple[str, Work, int | None, Callable[[Work], AbstractContextManager[Ready]]]]
    every = [(STEP, work("mlp", g), None, gadam) for g in sizes]
    every += [(WIDER, make_work(each, few, on), None, gadam) for each in wider]
    every += [
        (WORKERS, work("mlp", g), count, partial(gadam, threads=count, shards=max(2, cores)))
        for g in sorted({few, min(MANY, largest)}) for count in threads
    ]  # fmt: skip
    every.append((LENET, work("lenet", few), None, gadam))
    every += [(what, work(n, g), None, breeding) for n, what in BREEDING.items() for g in sizes
              if 2 <= g <= (largest if n == "mlp" else MANY)]  # fmt: skip
    found = {}
    for what, own, count, start in every:
        columns = {"what": what, "g": len(own.population), "entries": entries(own.population), "threads": count}
        name = ", ".join([what, *(f"{key}={value}" for key, value in list(columns.items())[1:] if value is not None)])
        found[name] = columns, Contestant(name, partial(_on, start, own))
    return found


def _on(
    start: Callable[[Work], AbstractContextManager[Ready]], own: Work, given: Work
) -> AbstractContextManager[Ready]:
    """Contestants of `measure` share their work; these bring their own."""
    return start(own)


def _watched(populations: Sequence[int], on: torch.device, say: Say) -> list[dict[str, Any]]:
    """Rows of the memory that training took and of the models; none where the system does not tell."""
    rows: list[dict[str, Any]] = []
    for g in populations:
        say(f"{MEMORY[0]}, g={g} is watched")
        try:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                peak = pool.submit(watch, g, str(on)).result()
        except Exception as error:
            say(f"{MEMORY[0]}, g={g}: {reason(error)}")
            continue
        if peak is None:
            say("Memory is left out: this system does not tell the peak of a process (/proc/self/clear_refs).")
            return []
        work = make_work(workloads(on)["mlp"], g, on)
        parts = memory_model(work)
        sizes = peak, parts["copies"] + parts["activations"], sum(parts.values())
        for what, repeat, size in zip(MEMORY, (1, None, None), sizes, strict=True):
            columns = {"what": what, "g": g, "entries": entries(work.population), "repeat": repeat}
            rows.append(columns | {"value": size / 1e6, "unit": "MB"})
    return rows


def scale(
    folder: Path | None = None, device: str = "auto", *, repeats: int = 3, seconds: float = 0.5, largest: int = 1_000,
    say: Say = print,
) -> pd.DataFrame:  # fmt: skip
    """Measure, print, and write scale.csv, scale.json, scale.png and scale.svg.

    Args:
        folder: for the files; None is `bench` of the reports.
        device: "auto", "cpu" or "cuda".
        repeats: measurements of each time.
        seconds: about what one takes.
        largest: g up to this, at least 2.
        say: told of what is going on, and given the tables.

    Returns:
        Tidy rows: what, g, entries (|w|), threads (missing: as `evolve` chooses), repeat (missing for what is
        computed), value, unit ("ms", "MB" of 10^6 bytes, "%").

    Raises:
        InputError: an argument cannot be used.
    """
    _check(None, repeats, seconds)
    if largest < 2:
        raise InputError(f"largest={largest} must be at least 2")
    on = resolve_device(device)
    folder = reports_root() / "bench" if folder is None else folder
    limits, busy = Limits(on), load()
    if busy > BUSY:
        say(f"This machine is busy with something else (load {busy:.1f}): times are too long, and vary.")
    with full_precision():
        points, any_work = _steps(on, largest), make_work(workloads(on)["mlp"], 1, on)
        # Everything in one round, so that what else the machine does falls on all of it; the words without that work.
        found = measure(
            any_work, [contestant for _, contestant in points.values()], limits, repeats=repeats, seconds=seconds,
            say=lambda text: say(text.partition(": ")[2]),
        )  # fmt: skip
    rows: list[dict[str, Any]] = []
    for each in found.to_dict("records"):
        if math.isfinite(each["ms_per_step"]):
            columns = points[str(each["contestant"])][0]
            rows.append(columns | {"repeat": each["repeat"], "value": each["ms_per_step"], "unit": "ms"})
        else:
            say(f"{each['contestant']}: {each['note']}")
    rows += _watched([g for g in SIZES if g <= largest], on, say)
    rows += shares(rows)
    frame = pd.DataFrame(rows, columns=["what", "g", "entries", "threads", "repeat", "value", "unit"])
    frame = frame.astype({"threads": "Int64", "repeat": "Int64"})
    middle = medians(frame)
    lines = models(middle)
    about = {
        "machine": describe(), "device": str(on), "load": busy, "batch_size": BATCH, "repeats": repeats,
        "seconds": seconds, "largest": largest, "flops_per_second_seen": limits.seen,
        "models": {what: asdict(line) | dict(zip(("unit_of_a", "unit_of_b"), UNITS[what], strict=True))
                   for what, line in lines.items()},
        "memory_of_a_unit_bytes": memory_model(any_work),
    }  # fmt: skip
    for text in tables(middle, lines, f"{any_work.workload.title}, batch {BATCH}, {on}"):
        say(text)
    write_atomic(folder / "scale.csv", to_csv(frame))
    # JSON has no NaN.
    write_atomic(folder / "scale.json", re.sub(r"\bNaN\b", "null", json.dumps(about, indent=2)) + "\n")
    figure = draw(middle, lines)
    figures.save(figure, folder / "scale")
    plt.close(figure)
    say(f"\nscale: {folder}")
    return frame


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


def alone(**others: Any) -> None:
    """Refuse what chooses among contestants.

    Raises:
        InputError: one of them was given.
    """
    for name, value in others.items():
        if value:
            raise InputError(f"{name}={value!r} cannot be given with --scale, which has its own")
