"""`python -m gadam.bench`: the benchmark with nothing but the standard library for its command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from gadam.bench.entry import run
from gadam.config import InputError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it; a mistake of the user is one line and exit status 2."""
    parser = argparse.ArgumentParser(prog="python -m gadam.bench", description=__doc__)
    parser.add_argument("--workload", action="append", metavar="NAME", help="mlp, lenet or orl; may be repeated")
    parser.add_argument("--units", metavar="SIZES", help="population sizes, such as 1,10,100")
    parser.add_argument("--repeats", type=int, help="measurements of each; 5, with --scale 3")
    parser.add_argument("--seconds", type=float, help="about what one takes; 1.5, with --scale or --predict 0.5")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--only", action="append", metavar="TEXT", help="part of a contestant's name; may be repeated")
    parser.add_argument("--by-hand", action="store_true", help="also gadam with settings chosen by hand")
    parser.add_argument("--minutes", type=float, help="nothing is begun after so many; 8 on a GPU, else no limit")
    parser.add_argument("--scale", action="store_true", help="instead: how time and memory grow")
    parser.add_argument("--predict", action="store_true", help="instead: how long a population takes to predict")
    parser.add_argument("--checkpoint", action="store_true", help="instead: what checkpoints cost")
    parser.add_argument("--cluster", action="store_true", help="instead: what a generation costs on a dask cluster")
    parser.add_argument("--folder", type=Path, help="where tables and figure go; reports/bench if not given")
    given = parser.parse_args(arguments)
    try:
        run(**vars(given))
    except InputError as error:
        print(f"gadam: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
