"""Execute a notebook by papermill in a kernel of its own, and believe nothing but the files that it leaves."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import subprocess
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gadam.config import InputError
from gadam.display import describe_error
from gadam.paper.report.paths import ReportError, write_atomic

if TYPE_CHECKING:
    from nbformat import NotebookNode

_POLL_SECONDS = 0.2
QUIET = {  # a progress bar is nothing in a log, nor is the warning that there are no widgets to draw it with
    "TQDM_DISABLE": "1",
    "PYTHONWARNINGS": ",".join(filter(None, [os.environ.get("PYTHONWARNINGS"), "ignore:IProgress not found"])),
}


def execute(
    notebook: Path, output: Path, parameters: Mapping[str, Any], *, limit: float, promised: Sequence[Path] = (),
    environment: Mapping[str, str] | None = None, prefix: str = "", stop: threading.Event | None = None,
) -> float:  # fmt: skip
    """Execute a notebook in its own folder, write it, executed, to `output`, and return the seconds that it took.

    One that fails leaves `output` as it was, and lies beside it with the ending `.failed.ipynb`. After `limit` seconds,
    or once another thread sets `stop`, it is stopped, with every process that it started. It must write the `promised`
    files. `environment` is set for it beside what this process has; `prefix` stands before each line that it prints.

    Raises:
        ReportError: it failed, did not finish, or did not write what it promised; one line.
    """
    import nbformat

    content = read(notebook)
    before = {path: path.stat().st_mtime_ns for path in promised if path.is_file()}
    started = time.monotonic()
    execution = _Execution(notebook.resolve().parent, os.environ | QUIET | dict(environment or {}), prefix)
    complaint = execution.run(content, parameters, limit, stop or threading.Event())
    seconds = time.monotonic() - started
    stale = [path.name for path in promised if not path.is_file() or path.stat().st_mtime_ns == before.get(path)]
    if stale and not complaint:
        complaint = f"it did not write {', '.join(stale)}"
    failed = output.with_suffix(".failed.ipynb")
    write_atomic(failed if complaint else output, nbformat.writes(execution.content))
    if complaint:
        raise ReportError(f"{notebook.name}: {complaint} (executed so far: {failed})")
    failed.unlink(missing_ok=True)
    return seconds


def read(path: Path) -> NotebookNode:
    """Read a notebook; one that is none, cut off or in the middle of a merge is a `ReportError` that names it."""
    import nbformat

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what another program has left out
            return nbformat.read(path, as_version=4)
    except FileNotFoundError:
        raise ReportError(f"{path} is not there; get it back (git checkout, or install gadam again)") from None
    except Exception as error:  # of many kinds
        raise ReportError(f"{path} is no notebook ({describe_error(error):.80}); get it back") from None


def check(notebooks: Sequence[Path]) -> None:
    """Check before anything is computed that notebooks can be executed later: what executes them, and they themselves.

    Raises:
        InputError: a library is not installed.
        ReportError: one cannot be read, or has no cell of parameters.
    """
    for library in ("papermill", "ipykernel", "nbformat"):
        try:
            importlib.import_module(library)
        except ImportError:
            told = f"reproduce: {library} is not installed, by which notebooks are executed"
            raise InputError(f"{told}; pip install 'gadam[notebooks]', or give --runs-only") from None
    for path in notebooks:
        cells = read(path).cells
        if not any("parameters" in cell.metadata.get("tags", []) for cell in cells):
            raise ReportError(f"{path} has no cell that is tagged parameters; get it back")


class _Execution:
    """The execution of one notebook, in its own folder: papermill itself would change that of the whole process."""

    def __init__(self, folder: Path, environment: dict[str, str], prefix: str) -> None:
        self.folder, self.environment, self.prefix = folder, environment, prefix
        self.content: NotebookNode
        self.client: Any = None  # papermill's, once there is one
        self.begun = 0  # cells of code

    def run(self, content: NotebookNode, parameters: Mapping[str, Any], limit: float, stop: threading.Event) -> str:
        """Execute all cells. Returns what went wrong, "" if nothing."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Jupyter's libraries about themselves
            import papermill
            from nbclient.exceptions import CellExecutionError, DeadKernelError
            from papermill.engines import papermill_engines

        self.content = content
        engine = f"own folder of {id(self)}"
        papermill_engines.register(engine, self._engine())
        done, stopped = threading.Event(), threading.Event()
        end = time.monotonic() + limit

        def watch() -> None:
            while not done.wait(_POLL_SECONDS):
                manager = self.client and self.client.km
                pid = getattr(manager and manager.provisioner, "pid", None)
                if pid and (stop.is_set() or time.monotonic() > end):
                    stopped.set()
                    _kill_tree(pid)
                    return

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            papermill.execute_notebook(
                content, None, dict(parameters), engine_name=engine, kernel_name="python3", progress_bar=False
            )
        except CellExecutionError as error:
            last = (error.evalue.strip().splitlines() or [""])[-1]
            return f"cell [{self.begun}] failed: {error.ename}: {last}"
        except DeadKernelError:
            why = "its kernel died (out of memory?)"
            if stopped.is_set():
                why = "stopped" if stop.is_set() else f"stopped after its limit of {limit:g} s"
            return f"{why}; cell [{self.begun}] was not executed to its end"
        except (OSError, RuntimeError) as error:
            return f"it could not be executed to its end: {' '.join(str(error).split())}"
        finally:
            done.set()
            watcher.join()
        return ""

    def _engine(self) -> type:
        from jupyter_client.kernelspec import KernelSpecManager
        from jupyter_client.manager import AsyncKernelManager
        from papermill.clientwrap import PapermillNotebookClient
        from papermill.engines import Engine

        execution = self

        class Client(PapermillNotebookClient):
            """Prints the output of cells as it comes, and counts the cells that have begun."""

            def create_kernel_manager(self) -> Any:
                # Without folders of kernels it is the one of this interpreter, whatever else is called python3 here.
                self.km = AsyncKernelManager(kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
                return self.km

            async def async_execute_cell(self, cell: NotebookNode, *place: Any, **options: Any) -> NotebookNode:
                execution.begun += cell.cell_type == "code" and bool(cell.source.strip())
                return await super().async_execute_cell(cell, *place, **options)

            def process_message(self, message: dict[str, Any], *place: Any) -> Any:
                if message["msg_type"] == "stream":
                    for line in message["content"]["text"].splitlines():
                        print(f"  {execution.prefix}{line}", flush=True)
                return super().process_message(message, *place)

        class OwnFolder(Engine):
            @classmethod
            def execute_managed_notebook(cls, manager: Any, kernel: str, **_: Any) -> None:
                # A busy machine answers late: the defaults of 60 and of 4 seconds are fatal there.
                client = Client(manager, timeout=None, startup_timeout=600, iopub_timeout=60, kernel_name=kernel)
                client.resources = {"metadata": {"path": str(execution.folder)}}
                execution.client, execution.content = client, client.nb
                client.nb.metadata.papermill["input_path"] = ""  # it has the whole notebook there once more
                asyncio.run(client.async_execute(env=execution.environment, stderr=subprocess.DEVNULL))

        return OwnFolder


def _kill_tree(pid: int) -> None:
    """End a process and all that it started; no process group holds them, for kernels have sessions of their own."""
    import psutil  # type: ignore[import-untyped]  # ipykernel needs it too

    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for one in [*process.children(recursive=True), process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
