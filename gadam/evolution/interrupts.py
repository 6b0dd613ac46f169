"""Return or raise the result of a training that SIGINT has ended: Ctrl-C, or the stop button of a kernel."""

from __future__ import annotations

import sys
import threading
from typing import Any, TypeVar

from gadam.display import front_end, shell

T = TypeVar("T")

_cell: Any = None  # the request to the notebook's kernel in which a training was interrupted last


def deliver(results: T, message: str) -> T:
    """Return the results of a training, or after an interrupt raise them in a script.

    `message` tells of the interrupt; "" if there was none. In a notebook or an interactive session it is printed, and
    the results are returned. In a script a `KeyboardInterrupt` carries them as `result`: nobody loses what there is,
    and no loop of the script runs on.
    """
    global _cell
    if not message:
        return results
    executes_file = hasattr(sys.modules["__main__"], "__file__")  # IPython sets it for a file, too
    if front_end() == "notebook" or (front_end() == "terminal" and hasattr(sys, "ps1") and not executes_file):
        _cell = _present_cell()
        print(f"gadam: {message}", flush=True)
        return results
    error = KeyboardInterrupt(message)
    error.result = results  # type: ignore[attr-defined]
    raise error


def stop_interrupted_cell() -> None:
    """Stop a further training of a notebook's cell that was interrupted, such as the next one of a loop over seeds."""
    if _cell is not None and _cell == _present_cell() and threading.current_thread() is threading.main_thread():
        raise KeyboardInterrupt("this cell was interrupted in the training before")


def _present_cell() -> Any:
    """Return an id of the request that the kernel serves now: of a cell, or of a click on a widget."""
    parent: Any = getattr(shell(), "get_parent", dict)() or {}
    return parent.get("header", {}).get("msg_id") or getattr(shell(), "execution_count", None)
