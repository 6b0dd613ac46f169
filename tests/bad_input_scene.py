"""The names, the folder and the programs that the rows of bad_input_table.py are written in."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import shlex
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
FOLDERS = ("GADAM_DATA", "GADAM_REPORTS", "GADAM_RUNS", "GADAM_ARCHIVE")
EVERYWHERE = {"GADAM_OFFLINE": "1", "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb", "TQDM_DISABLE": "1"}


@contextlib.contextmanager
def scene() -> Iterator[dict[str, Any]]:
    """The names; inside, the current folder is a new one with everything in it that can be wrong about a folder."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), environment(EVERYWHERE):
        here = Path(folder).resolve()
        here.chmod(0o755)  # for who is not root, see `forbidden`
        os.environ |= {name: str(here / "own" / name.lower()) for name in FOLDERS}
        _folders()
        names = _names()
        names["result"].save("saved")
        names["result"].save("cut_result")
        names["checkpointed"]("cut_checkpoint")
        names["checkpointed"]("state")
        for path in (Path("cut_result"), Path("cut_checkpoint")):
            path.write_bytes(path.read_bytes()[:-9])
        yield names | {"here": here}


def said(call: str, names: Mapping[str, Any]) -> str:
    """What is said of a call: the message of an `InputError`, or the last words of a command line.

    An estimator's may be a `ValueError` too: of what it is given to learn scikit-learn speaks in its own words.

    Raises:
        AssertionError: nothing is said.
        Exception: anything else that comes out.
    """
    from gadam import InputError
    from gadam.paper.report import ReportError

    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if call.startswith("$ "):
            message = _command(call.removeprefix("$ "))
        else:
            try:
                eval(call, dict(names))
            except (InputError, ReportError) as error:
                message = str(error)
            except ValueError as error:
                if not call.startswith(("GADAM", "fitted")):
                    raise
                message = " ".join(str(error).split())
            else:
                raise AssertionError(f"{call} was accepted")
    return message.replace(str(names["here"]), "<here>")


def _command(line: str) -> str:
    """What a command line complains of, in one line: of a box the words inside."""
    words = shlex.split(line)
    variables = {}
    while "=" in words[0]:
        name, value = words.pop(0).split("=", 1)
        variables[name] = str(Path(value).absolute()) if name in FOLDERS else value
    main = import_module("gadam.cli").main
    complaints, argv = io.StringIO(), sys.argv
    with environment(variables), contextlib.redirect_stderr(complaints):
        sys.argv = words
        try:
            main()
            raise AssertionError(f"{line} was accepted")
        except SystemExit as stopped:
            if stopped.code not in (1, 2):
                raise AssertionError(f"{line} ended with status {stopped.code}") from None
        finally:
            sys.argv = argv
    lines = [each.strip(" │") for each in complaints.getvalue().splitlines()]
    if ours := [each for each in lines if each.startswith("gadam: ")]:
        assert len(ours) == 1, ours
        return ours[0]
    return " ".join(each for each in lines if each and each[0] not in "╭╰")


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Environment variables set inside, and as they were outside."""
    before = dict(os.environ)
    os.environ |= variables
    try:
        yield
    finally:
        os.environ.clear()
        os.environ |= before


def _names() -> dict[str, Any]:
    import numpy as np
    import torch
    from torch import nn

    import gadam
    from gadam import datasets, genetics, models, plotting
    from gadam.ensembles import soup
    from gadam.paper import quickstart
    from gadam.paper import report as reporting
    from gadam.paper.claims import Claim
    from gadam.paper.report import Report, report
    from gadam.paper.report.notebooks import execute
    from gadam.paper.runs import Run, run_function
    from gadam.playground import landscape_panel, training_panel

    def mlp(hidden: int = 5) -> nn.Module:
        return nn.Sequential(nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, 3))

    sizes = iter(range(3, 100))
    x, y = torch.rand(40, 4, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 3
    small = gadam.GadamConfig(population_size=3, generations=2, steps=2, batch_size=8, validation_size=16, mode="loop")
    result = gadam.evolve(mlp, (x, y), small, executor=1, progress=False)
    X, labels = x.numpy(), np.array(list("abc"))[y.numpy()]

    def checkpointed(path: str, **changed: Any) -> None:
        config = replace(small, **changed)
        gadam.evolve(mlp, (x, y), config, executor=1, progress=False, checkpoint=path)

    closed = ThreadPoolExecutor(2)
    closed.shutdown()
    fitted = gadam.GADAMClassifier(population_size=2, generations=1, steps=2).fit(X, labels)
    return {
        **{name: getattr(gadam, name) for name in gadam.__all__}, **{n: getattr(plotting, n) for n in plotting.__all__},
        "Path": Path, "Report": Report, "X": X, "datasets": datasets,
        "batchnorm": lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)),
        "checkpointed": checkpointed, "closed": closed,
        "claim": Claim(text="better", section="section54", exhibit="table4", kind="value", evidence=_nothing, arms=[]),
        "entries": {"weight": torch.rand(4, 2)}, "execute": execute, "fitted": fitted, "forbidden": forbidden,
        "genetics": genetics,
        "growing": lambda: nn.Linear(4, next(sizes)),
        "halves": torch.full((2,), 0.5), "history": result.history, "labels": labels,
        "landscape_panel": landscape_panel, "lenet5": models.lenet5, "losses": torch.tensor([0.4, 0.3, 0.2, 0.1]),
        "mlp": mlp, "models": models, "nn": nn, "notebook": notebook, "notebooks": NOTEBOOKS, "np": np,
        "orl_cnn": models.orl_cnn, "pairs": torch.tensor([[0, 1], [2, 3]]), "population": result.population,
        "quickstart": quickstart, "random": torch.Generator().manual_seed(0), "report": report,
        "replace": replace, "reporting": reporting, "result": result, "rows": (x, y),
        "run": Run(run_function("test/nothing", settings=None)(_nothing), {}),
        "small": small, "soup": soup, "torch": torch, "training_panel": training_panel, "x": x, "y": y,
    }  # fmt: skip


def _nothing() -> list[dict[str, Any]]:
    return []


def notebook(name: str, **parameters: str) -> None:
    """Execute the first cells of a notebook with parameters, as papermill would, without a process of its own."""
    cells = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text("utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    names: dict[str, Any] = {}
    exec(code[0], names)
    names |= parameters
    exec(code[1], names)


def forbidden(folder: str, call: Callable[[], Any]) -> None:
    """Call with a folder that nobody may look into; root may look everywhere, so not as root."""
    root = os.geteuid() == 0
    os.chmod(folder, 0)
    try:
        if root:
            os.seteuid(65_534)
        call()
    finally:
        if root:
            os.seteuid(0)
        os.chmod(folder, 0o755)


def _folders() -> None:
    from gadam.datasets.standins import standin

    def put(path: str, content: bytes) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(content)

    yeast = standin("yeast")[0]["yeast.data"]
    put("a_file", b"words")
    put("a_folder/notes.txt", b"mine")
    Path("empty").mkdir()
    put("half/adult/adult.data", b"39, Private")
    put("a_page/yeast/yeast.data", b"<!DOCTYPE html><html>Moved</html>")
    put("cut/yeast/yeast.data", yeast[:-9])
    letter = bytearray(standin("letter")[0]["letter-recognition.data"])
    letter[99] ^= 1
    put("flipped/letter/letter-recognition.data", bytes(letter))
    Path("folder_for_file/yeast/yeast.data").mkdir(parents=True)
    Path("unreadable/yeast").mkdir(parents=True)
    Path("unreadable/yeast/yeast.data").symlink_to("/proc/self/mem")  # root may read whatever has no permissions
    put("file_for_folder/yeast", b"")
    put("a_giant/letter/letter-recognition.data", b"")
    os.truncate("a_giant/letter/letter-recognition.data", 2**40)  # takes no room: nothing is written
    Path("a_link_to_nothing/yeast").mkdir(parents=True)
    Path("a_link_to_nothing/yeast/yeast.data").symlink_to("nothing")
    mnist = standin("mnist")[0]
    bomb = gzip.compress(bytes(2**28), 1)
    for file, content in mnist.items():
        put(f"a_bomb/MNIST/raw/{file}.gz", bomb if file.startswith("t10k-images") else gzip.compress(content, 1))
    for file, content in standin("orl")[0].items():
        put(f"header_gone/orl/{file}", content[3:] if file == "s7/3.pgm" else content)
        put(f"header_swapped/orl/{file}", content.replace(b"92 112", b"112 92", 1))
        put(f"header_dark/orl/{file}", content.replace(b"255", b"1", 1))


def print_table(table: Mapping[str, list[tuple[str, str]]]) -> None:
    """Every row with the message as seen, as Markdown."""
    with scene() as names:
        for title, rows in table.items():
            print(f"\n## {title}\n\n| call | message |\n|---|---|")
            for call, _ in rows:
                try:
                    seen = said(call, names)
                except Exception as error:
                    seen = f"**{type(error).__name__}**: {error}".replace("\n", " // ")
                print(f"| `{call.replace('|', chr(92) + '|')}` | {seen.replace('|', chr(92) + '|')} |", flush=True)
