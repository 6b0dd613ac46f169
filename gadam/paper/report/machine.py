"""Describe what computed a result: code, machine, libraries."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

import torch

from gadam.config import ROUNDING_VERSION
from gadam.paper.report.paths import checkout

PACKAGES = (
    "gadam", "torch", "torchvision", "numpy", "scipy", "pandas", "scikit-learn", "matplotlib", "seaborn",
    "pooch", "jinja2", "tabulate", "papermill", "nbclient", "ipykernel",
)  # fmt: skip
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@functools.cache
def describe() -> dict[str, Any]:
    """The machine and its software, in JSON values; read once a process."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_model(),
        "cores": usable_cores(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "git": git_state(),
        "rounding": ROUNDING_VERSION,
        "packages": {name: version(name) for name in PACKAGES if any(distributions(name=name))},
        "torch": {
            "version": torch.__version__,
            "cuda": torch.version.cuda,
            "git": torch.version.git_version,
            "threads": torch.get_num_threads(),
            "interop_threads": torch.get_num_interop_threads(),
        },
        "environment": {name: os.environ.get(name) for name in THREAD_VARIABLES},
    }


def usable_cores() -> int:
    """The cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_model() -> str:
    """The processor's own name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def git_state() -> dict[str, Any] | None:
    """The commit, and whether the tree differs from it (reports aside: they are being made); None outside git."""
    folder = checkout()
    if folder is None or not (folder / ".git").exists():
        return None
    # Variables such as GIT_DIR, which hooks of another repository set, would name that one.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    run = functools.partial(subprocess.run, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    try:
        commit = run(["git", "rev-parse", "HEAD"]).stdout.strip()
        changes = run(["git", "status", "--porcelain", "--", ".", ":(exclude)reports"]).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "dirty": bool(changes)}
