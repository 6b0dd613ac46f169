"""The benchmark: gadam's training beside PyTorch's own ways, joblib and JAX, and beside what the machine allows.

`gadam bench`, or `python -m gadam.bench` where there is no typer.
"""

from gadam.bench.command import bench

__all__ = ["bench"]
