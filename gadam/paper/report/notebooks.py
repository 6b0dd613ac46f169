"""Execute a notebook by papermill in a kernel of its own, and believe nothing but the files that it leaves."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import os
import subprocess
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gadam.config import InputError
from gadam.paper.report.paths import ReportError, write_atomic

if TYPE_CHECKING:
    from nbformat import NotebookNode

_POLL_SECONDS = 0.2
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

    One that fails leaves `output` as it was, and lies beside it with the ending `.failed.ipynb`.

    Args:
        notebook: to execute.
        output: file for it with its outputs.
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
    import nbformat

    if isinstance(limit, bool) or not isinstance(limit, int | float) or not limit > 0:  # not NaN either
        raise InputError(f"limit={limit!r} must be a number of seconds, above 0")
    content = _read(notebook, parameters)
    before = {path: path.stat().st_mtime_ns for path in promised if path.is_file()}
    started = time.monotonic()
    variables = os.environ | QUIET | dict(environment or {})
    content, complaint = _execute(
        content, parameters, notebook.resolve().parent, variables, limit, prefix, stop or threading.Event()
    )
    seconds = time.monotonic() - started
    stale = [path.name for path in promised if not path.is_file() or path.stat().st_mtime_ns == before.get(path)]
    if stale and not complaint:
        complaint = f"it did not write {', '.join(stale)}"
    failed = output.with_suffix(".failed.ipynb")
    write_atomic(failed if complaint else output, nbformat.writes(content))
    if complaint:
        raise NotebookError(f"{notebook.name}: {complaint} (executed so far: {failed})")
    failed.unlink(missing_ok=True)
    return seconds


def _read(notebook: Path, parameters: Mapping[str, Any]) -> NotebookNode:
    """Read a notebook that declares these parameters; papermill would only warn of one that it does not."""
    import nbformat

    if not notebook.is_file():
        raise InputError(f"notebook={str(notebook)!r} is not a file")
    try:
        content = nbformat.read(notebook, as_version=4)
    except Exception as error:  # nbformat's own, of many kinds
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"notebook={str(notebook)!r} is not a notebook: {reason:.80}") from None
    places = [place for place, cell in enumerate(content.cells) if "parameters" in cell.metadata.get("tags", [])]
    tree = ast.parse(content.cells[places[0]].source if places else "")
    declared = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    for name in parameters:
        if name not in declared:
            raise InputError(f"{notebook.name}: {name!r} is not a parameter; there are {', '.join(declared) or 'none'}")
    return content


def _execute(
    content: NotebookNode,
    parameters: Mapping[str, Any],
    folder: Path,
    environment: dict[str, str],
    limit: float,
    prefix: str,
    stop: threading.Event,
) -> tuple[NotebookNode, str]:
    """Execute all cells. Returns the notebook with its outputs, and what went wrong, "" if nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Jupyter's libraries about themselves
        import papermill
        from nbclient.exceptions import CellExecutionError, DeadKernelError
        from papermill.clientwrap import PapermillNotebookClient
        from papermill.engines import Engine, papermill_engines

    class Client(PapermillNotebookClient):
        """Prints the output of cells as it comes, and counts the cells that have begun."""

        begun = 0

        async def async_execute_cell(self, cell: NotebookNode, *place: Any, **options: Any) -> NotebookNode:
            self.begun += cell.cell_type == "code" and bool(cell.source.strip())
            return await super().async_execute_cell(cell, *place, **options)

        def process_message(self, message: dict[str, Any], *place: Any) -> Any:
            if message["msg_type"] == "stream":
                for line in message["content"]["text"].splitlines():
                    print(f"  {prefix}{line}", flush=True)
            return super().process_message(message, *place)

    class OwnFolder(Engine):
        """Executes in the notebook's folder: papermill itself would change that of the whole process."""

        @classmethod
        def execute_managed_notebook(cls, manager: Any, kernel: str, **_: Any) -> None:
            # A busy machine answers late: the defaults of 60 and of 4 seconds are fatal there.
            client = Client(manager, timeout=None, startup_timeout=600, iopub_timeout=60, kernel_name=kernel)
            client.resources = {"metadata": {"path": str(folder)}}
            clients.append(client)
            asyncio.run(client.async_execute(env=environment, stderr=subprocess.DEVNULL))

    clients: list[Client] = []
    engine = f"own folder of {threading.get_ident()}"
    papermill_engines.register(engine, OwnFolder)
    done, stopped = threading.Event(), threading.Event()

    def watch() -> None:
        end = time.monotonic() + limit
        while not done.wait(_POLL_SECONDS):
            manager = clients[0].km if clients else None
            pid = getattr(manager and manager.provisioner, "pid", None)
            if pid and (stop.is_set() or time.monotonic() > end):
                stopped.set()
                _kill_tree(pid)
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    complaint = ""
    try:
        papermill.execute_notebook(
            content, None, dict(parameters), engine_name=engine, kernel_name="python3", progress_bar=False
        )
    except CellExecutionError as error:
        last = (error.evalue.strip().splitlines() or [""])[-1]
        complaint = f"cell [{clients[0].begun}] failed: {error.ename}: {last}"
    except DeadKernelError:
        why = "its kernel died (out of memory?)"
        if stopped.is_set():
            why = "stopped" if stop.is_set() else f"stopped after its limit of {limit:g} s"
        complaint = f"{why}; cell [{clients[0].begun}] was not executed to its end"
    except (OSError, RuntimeError) as error:
        complaint = f"it could not be executed to its end: {' '.join(str(error).split())}"
    finally:
        done.set()
        watcher.join()
    return clients[0].nb if clients else content, complaint


def _kill_tree(pid: int) -> None:
    """End a process and all that it started; no process group holds them, for kernels have sessions of their own."""
    import psutil  # type: ignore[import-untyped]  # ipykernel needs it too

    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for one in [*process.children(recursive=True), process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
