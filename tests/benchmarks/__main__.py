"""Time gadam's training beside PyTorch's own ways, joblib and JAX, and beside what the machine allows.

Prints a table for each workload and population size, and writes bench.csv, bench_summary.csv, bench.json, bench.png and
bench.svg after each, so that an interrupted run leaves what it has.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pandas as pd
from contestants import CONTESTANTS, CORES, OURS, full_precision
from matplotlib import pyplot as plt
from measure import flops, measure, reason, summarise
from results import draw, short, table
from workloads import make_work, workloads

from gadam.config import InputError
from gadam.paper.report.machine import describe
from gadam.paper.report.paths import reports_root
from gadam.training.inputs import resolve_device

BUSY = 0.3  # load of a core, at the start, above which times say little


def bench(arguments: argparse.Namespace) -> None:
    """Time every contestant on every workload and population size.

    Raises:
        InputError: an argument cannot be used.
    """
    device = resolve_device(arguments.device)
    known = workloads(device)
    only = [part.lower() for part in arguments.only or [""]]
    chosen = {name: each for name, each in CONTESTANTS.items() if name == OURS or any(p in name.lower() for p in only)}
    for part in only:
        if not any(part in name.lower() for name in CONTESTANTS):
            raise InputError(f"only={part!r} is part of no contestant's name; there are: {'; '.join(CONTESTANTS)}")
    for name in arguments.workload or ():
        if name not in known:
            raise InputError(f"workload={name!r} is not known; there are {', '.join(known)}")
    busy = os.getloadavg()[0] / CORES if hasattr(os, "getloadavg") else math.nan
    if busy > BUSY:
        print(f"This machine is busy with something else (load {busy:.1f}): several threads wait for the slowest.")
    about = {"machine": describe(), "packages": _versions(), "device": str(device), "load": busy}
    about |= {name: getattr(arguments, name) for name in ("repeats", "seconds")}
    rows, summaries = [], []
    with full_precision():
        for name in arguments.workload or ("mlp", "lenet"):
            for g in arguments.units or known[name].units:
                where = {"workload": name, "title": known[name].title, "g": g}
                print(f"\n{name}, g = {g}")
                try:
                    work = make_work(known[name], g, device)
                except RuntimeError as error:  # out of memory, before anybody began
                    print(f"  {reason(error)}")
                    continue
                found, speed = measure(work, chosen, repeats=arguments.repeats, seconds=arguments.seconds)
                limit = 1e3 * g * flops(work) / speed
                summary = summarise(found, limit, g)
                title = (
                    f"{known[name].title}, g = {g}, batch {work.batch_size}, {device}: limit {short(limit)} ms a step"
                )
                print(table(summary, f"{title} ({speed / 1e9:,.0f} GFLOP/s seen)"))
                rows.append(pd.DataFrame([where] * len(found)).join(found))
                summaries.append(pd.DataFrame([where] * len(summary)).join(summary).assign(limit_ms=limit))
                _write(arguments.folder, pd.concat(rows), pd.concat(summaries), about)
    print(f"\nbench: {arguments.folder}")


def _write(folder: Path, rows: pd.DataFrame, summary: pd.DataFrame, about: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows.to_csv(folder / "bench.csv", index=False)
    summary.to_csv(folder / "bench_summary.csv", index=False)
    (folder / "bench.json").write_text(json.dumps(about, indent=2) + "\n")
    if summary["ratio"].notna().any():
        figure = draw(summary)
        for ending in ("png", "svg"):
            figure.savefig(folder / f"bench.{ending}", dpi=160)
        plt.close(figure)


def _versions() -> dict[str, str | None]:
    """Of those that are compared with; None where one is not installed."""
    found: dict[str, str | None] = dict.fromkeys(("jax", "jaxlib", "optax", "joblib"))
    for name in found:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; a mistake in it ends the program with one line and exit status 2."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)

    def at_least(low: float, kind: type) -> object:
        def convert(text: str) -> float:
            value = kind(text)
            if not low <= value < math.inf or value == 0:
                raise argparse.ArgumentTypeError(f"{text} must be above 0")
            return value

        return convert

    count = at_least(1, int)
    parser.add_argument("--workload", action="append", metavar="NAME", help="mlp, lenet or orl; may be repeated")
    parser.add_argument("--units", type=lambda text: [count(part) for part in text.split(",")], help="such as 1,10,100")
    parser.add_argument("--repeats", type=count, default=5, help="measurements of each contestant")
    parser.add_argument("--seconds", type=at_least(0, float), default=1.5, help="about what one measurement takes")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--only", action="append", metavar="TEXT", help="part of a contestant's name; may be repeated")
    parser.add_argument("--folder", type=Path, default=reports_root() / "bench", help="for tables and figure")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    try:
        bench(parsed())
    except InputError as error:
        print(f"gadam: {error}", file=sys.stderr)
        sys.exit(2)
