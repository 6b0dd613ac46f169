"""What becomes of a training that SIGINT has ended: Ctrl-C, or the stop button of a kernel."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from typing import Any

from gadam.display import front_end
from gadam.result import Result

_cell: Any = None  # the number of the notebook's cell in which a training was interrupted last


def deliver(results: Sequence[Result], message: str) -> None:
    """Let the results of an interrupted training be returned to a person at work; in a script raise them.

    So nobody loses what there is, and no loop of a script runs on.
    """
    global _cell
    if front_end() == "notebook" or (front_end() == "terminal" and hasattr(sys, "ps1")):
        _cell = _present_cell()
        print(f"gadam: {message}", flush=True)
        return
    error = KeyboardInterrupt(message)
    error.result = list(results)  # type: ignore[attr-defined]
    raise error


def stop_interrupted_cell() -> None:
    """Stop a further training of a notebook's cell that was interrupted, such as the next one of a loop over seeds."""
    if _cell is not None and _cell == _present_cell() and threading.current_thread() is threading.main_thread():
        raise KeyboardInterrupt("this cell was interrupted in the training before")


def _present_cell() -> Any:
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return None if shell is None else shell.execution_count
