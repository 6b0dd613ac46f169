"""The child process that executes one notebook: `python -P kernel.py JSON`. Only `notebooks` starts it.

A process of its own because papermill changes the working directory, and so that a time limit can end all of it. What
the cells print goes to stdout as it comes; what Jupyter and its libraries have to say about themselves goes to stderr.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
import warnings


def main() -> None:
    """Execute; the exit status says nothing that the executed notebook does not say better."""
    task = json.loads(sys.argv[1])
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    warnings.simplefilter("ignore")  # here, not in the environment: the notebook's own warnings must be seen
    import papermill

    try:
        papermill.execute_notebook(
            task["notebook"],
            task["output"],
            parameters=task["parameters"],
            kernel_name="python3",
            cwd=task["cwd"],
            progress_bar=False,
            log_output=False,
            stdout_file=sys.stdout,
            stderr_file=sys.stdout,
            iopub_timeout=60,  # seconds; the default of 4 is fatal on a busy machine
            request_save_on_cell_execute=True,
        )
    except OSError as error:
        advice = "; free some space" if error.errno == errno.ENOSPC else ""
        sys.exit(f"it could not be executed to its end: {error.strerror or error}{advice}")


def _exit_with_parent() -> None:
    """The parent holds the other end of stdin and never writes: the end of the file is the end of the parent."""
    os.read(0, 1)  # not sys.stdin: Python could not exit while a thread holds it
    os._exit(1)


if __name__ == "__main__":
    main()
