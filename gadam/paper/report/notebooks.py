"""Execute a notebook from start to end, and believe nothing but what it leaves behind.

papermill succeeds after `sys.exit(0)` in a cell, and runs the defaults after a misspelled parameter: so both are looked
at here.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from gadam.config import InputError
from gadam.paper.report.paths import ReportError, scratch_folder

_POLL_SECONDS = 0.2
KERNEL = Path(__file__).with_name("kernel.py")
QUIET = {  # a progress bar is nothing in a log, nor is the warning that there are no widgets to draw it with
    "TQDM_DISABLE": "1",
    "PYTHONWARNINGS": ",".join(filter(None, [os.environ.get("PYTHONWARNINGS"), "ignore:IProgress not found"])),
}


class NotebookError(ReportError):
    """A notebook did not do all that it promised."""


def execute(
    notebook: Path,
    output: Path,
    parameters: Mapping[str, Any],
    *,
    limit: float,
    promised: Sequence[Path] = (),
    environment: Mapping[str, str] | None = None,
    prefix: str = "",
    stop: threading.Event | None = None,
) -> float:
    """Execute a notebook in its own folder and write it, executed, to `output`.

    What has failed leaves `output` as it was, and lies beside it with the ending `.failed.ipynb`.

    Args:
        notebook: what to execute.
        output: where it goes with its outputs.
        parameters: values for the cell tagged `parameters`; each name must be assigned there.
        limit: seconds, above 0, after which it is stopped, with every process that it started.
        promised: files that it must write.
        environment: set for it, beside what this process has.
        prefix: before each line that it prints.
        stop: another thread sets it to end the execution.

    Returns:
        Seconds.

    Raises:
        InputError: there is no such notebook, it does not declare a parameter, or `limit` is not allowed.
        NotebookError: it failed, did not finish, or did not write what it promised; one line.
    """
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not limit > 0:  # not NaN either
        raise InputError(f"limit={limit!r} must be a number of seconds, above 0")
    _check_parameters(notebook, parameters)
    failed = output.with_suffix(".failed.ipynb")
    with scratch_folder(output.parent) as scratch, tempfile.TemporaryFile() as log:
        attempt = scratch / output.name
        task = {"notebook": str(notebook.resolve()), "output": str(attempt), "cwd": str(notebook.resolve().parent)}
        before = scratch.stat().st_mtime_ns  # the folder's own clock, for comparing with the times of the files there
        started = time.monotonic()
        process = subprocess.Popen(
            # By its path, and without its folder among the imports: it needs nothing of this package.
            [sys.executable, "-P", str(KERNEL), json.dumps({**task, "parameters": dict(parameters)})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            encoding="utf-8",
            errors="replace",
            env=os.environ | QUIET | dict(environment or {}),
            start_new_session=True,  # Ctrl-C reaches this process alone, which then ends the others
        )
        finished = _follow(process, limit, prefix, stop or threading.Event())
        seconds = time.monotonic() - started
        complaint = _complaint(attempt, log, process.returncode if finished else 0)
        if not finished:
            why = "" if stop and stop.is_set() else f" after its limit of {limit:g} s"
            complaint = f"stopped{why}; {complaint or 'all was executed'}"
        elif absent := [path for path in promised if not path.is_file() or path.stat().st_mtime_ns < before]:
            complaint = complaint or f"it did not write {', '.join(path.name for path in absent)}"
        if not complaint:
            attempt.replace(output)
            failed.unlink(missing_ok=True)
            return seconds
        kept = _is_notebook(attempt) and attempt.replace(failed)
    raise NotebookError(f"{notebook.name}: {complaint}" + (f" (executed so far: {failed})" if kept else ""))


def _check_parameters(notebook: Path, parameters: Mapping[str, Any]) -> None:
    if not notebook.is_file():
        raise InputError(f"notebook={str(notebook)!r} is not a file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import papermill

        try:
            declared = papermill.inspect_notebook(str(notebook))
        except Exception as error:  # nbformat's and papermill's own, of many kinds
            reason = str(error).strip().partition("\n")[0]
            raise InputError(f"notebook={str(notebook)!r} is not a notebook: {reason:.80}") from None
    for name in parameters:
        if name not in declared:
            raise InputError(f"{notebook.name}: {name!r} is not a parameter; there are {', '.join(declared) or 'none'}")


def _follow(process: subprocess.Popen[str], limit: float, prefix: str, stop: threading.Event) -> bool:
    """Show what the process prints until it ends; False if it had to be stopped. Leaves no process behind."""
    reader = threading.Thread(target=_show, args=(process.stdout, prefix), daemon=True)
    reader.start()
    end = time.monotonic() + limit
    try:
        while process.poll() is None:
            if stop.is_set() or time.monotonic() > end:
                return False
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(min(_POLL_SECONDS, max(0, end - time.monotonic())))
        return True
    finally:
        _kill_tree(process)
        reader.join(30)  # a process that escaped may still hold the other end
        for pipe in (process.stdin, process.stdout):
            if pipe and not reader.is_alive():
                pipe.close()


def _show(lines: IO[str], prefix: str) -> None:
    for line in lines:
        print(f"  {prefix}{line.rstrip()}", flush=True)


def _kill_tree(process: subprocess.Popen[str]) -> None:
    """End a process and all that it started; no process group holds them, for the kernel has a session of its own."""
    import psutil  # type: ignore[import-untyped]  # ipykernel needs it too

    try:
        everyone = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    except psutil.NoSuchProcess:
        everyone = []
    process.kill()
    for child in everyone:
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()


def _complaint(output: Path, log: IO[bytes], status: int) -> str:
    """What is wrong with an execution, "" if nothing: a failed cell, else why the process ended, else what is open."""
    if not _is_notebook(output):
        return _last_line(log, status) if status else "nothing was executed"
    failed, unfinished = _failures(output)
    return failed or (_last_line(log, status) if status else "") or unfinished


def _is_notebook(output: Path) -> bool:
    """Whether there is one; on a full disk the end of it is missing."""
    try:
        return bool(json.loads(output.read_bytes())["cells"])
    except (OSError, ValueError):
        return False


def _failures(output: Path) -> tuple[str, str]:
    """Of an executed notebook: the first cell with an error, and the first that was not executed to its end."""
    failed = unfinished = ""
    cells = [cell for cell in json.loads(output.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]
    for position, cell in enumerate((cell for cell in cells if "".join(cell["source"]).strip()), start=1):
        number = cell["execution_count"] or position
        for error in (part for part in cell["outputs"] if part["output_type"] == "error"):
            last = (error["evalue"].strip().splitlines() or [""])[-1]
            failed = failed or f"cell [{number}] failed: {error['ename']}: {last}"
        if cell["execution_count"] is None or cell["metadata"]["papermill"]["status"] != "completed":
            unfinished = unfinished or f"cell [{number}] was not executed to its end"
    return failed, unfinished


def _last_line(log: IO[bytes], status: int) -> str:
    log.seek(0)
    lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    if status < 0:
        return f"its process was ended by {signal.Signals(-status).name} (out of memory?)"
    return lines[-1] if lines else "its process failed without a word"
