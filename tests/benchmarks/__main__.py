"""Time gadam's training beside PyTorch's own ways, joblib and JAX, and beside what the machine allows.

Prints a table for each workload and population size, and writes bench.csv, bench_summary.csv and bench.json after each,
so that an interrupted run leaves what it has.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
from contestants import CONTESTANTS, CORES, OURS
from measure import flops, measure, reason, summarise
from workloads import make_work, workloads

from gadam.config import InputError
from gadam.paper.report.machine import describe
from gadam.paper.report.paths import reports_root
from gadam.runtime import float32_as_asked, resolve_device
from gadam.validation import check_choice

BUSY = 0.3  # load of a core, at the start, above which times say little


def bench(arguments: argparse.Namespace) -> None:
    """Time every contestant on every workload and population size."""
    device = resolve_device(arguments.device)
    known = workloads(device)
    only = [part.lower() for part in arguments.only or [""]]
    for name in arguments.workload or ():
        check_choice("workload", name, known)
    for part in only:
        if not any(part in name.lower() for name in CONTESTANTS):
            raise InputError(f"only={part!r} is not known; there are: {'; '.join(CONTESTANTS)}")
    chosen = {name: each for name, each in CONTESTANTS.items() if name == OURS or any(p in name.lower() for p in only)}
    busy = os.getloadavg()[0] / CORES if hasattr(os, "getloadavg") else math.nan
    if busy > BUSY:
        print(f"This machine is busy with something else (load {busy:.1f}): several threads wait for the slowest.")
    peers = {name: version(name) if find_spec(name) else None for name in ("jax", "jaxlib", "optax", "joblib")}
    about = {"machine": describe(), "packages": peers, "device": str(device), "load": busy}
    about |= {name: getattr(arguments, name) for name in ("repeats", "seconds")}
    rows, summaries = [], []
    for name in arguments.workload or ("mlp", "lenet"):
        for g in arguments.units or known[name].units:
            print(f"\n{name}, g = {g}")
            try:
                work = make_work(known[name], g, device)
            except RuntimeError as error:  # out of memory, before anybody began
                print(f"  {reason(error)}")
                continue
            with float32_as_asked(device):  # for everyone, not for ours alone
                found, speed = measure(work, chosen, repeats=arguments.repeats, seconds=arguments.seconds)
            limit = 1e3 * g * flops(work) / speed
            summary = summarise(found, limit, g)
            title = f"{known[name].title}, g = {g}, batch {work.batch_size}, {device}: limit {limit:.3g} ms a step"
            print(f"{title} ({speed / 1e9:,.0f} GFLOP/s seen)")
            print(summary.to_string(index=False, na_rep="–", float_format="{:,.3g}".format, max_colwidth=60))
            where = {"workload": name, "title": known[name].title, "g": g}
            rows.append(found.assign(**where))
            summaries.append(summary.assign(**where, limit_ms=limit))
            _write(arguments.folder, pd.concat(rows), pd.concat(summaries), about)
    print(f"\nbench: {arguments.folder}")


def _write(folder: Path, rows: pd.DataFrame, summary: pd.DataFrame, about: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows.to_csv(folder / "bench.csv", index=False)
    summary.to_csv(folder / "bench_summary.csv", index=False)
    (folder / "bench.json").write_text(json.dumps(about, indent=2) + "\n")


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; a mistake in it ends the program with one line and exit status 2."""

    def above_0(kind: type) -> object:
        def convert(text: str) -> float:
            value = kind(text)
            if not 0 < value < math.inf:
                raise argparse.ArgumentTypeError(f"{text} must be above 0")
            return value

        return convert

    count = above_0(int)
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--workload", action="append", metavar="NAME", help="mlp, lenet or orl; may be repeated")
    parser.add_argument("--units", type=lambda text: [count(part) for part in text.split(",")], help="such as 1,10,100")
    parser.add_argument("--repeats", type=count, default=5, help="measurements of each contestant")
    parser.add_argument("--seconds", type=above_0(float), default=1.5, help="about what one measurement takes")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--only", action="append", metavar="TEXT", help="part of a contestant's name; may be repeated")
    parser.add_argument("--folder", type=Path, default=reports_root() / "bench", help="for the tables")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    try:
        bench(parsed())
    except InputError as error:
        print(f"gadam: {error}", file=sys.stderr)
        sys.exit(2)
