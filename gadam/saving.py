"""A result on disk: a folder with the units' tensors (`population.safetensors`) and all else (`result.json`).

Nothing in it is code and nothing is pickled, so a result from a stranger is safe to load. Tensors are kept bit by bit,
and numbers of the history as text that reads back as the same number.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from gadam.config import GadamConfig, InputError
from gadam.population import Population
from gadam.result import Result

FORMAT = 1
TENSORS, FACTS = "population.safetensors", "result.json"
_KINDS = ("parameters", "buffers", "moments")


def save(result: Result, path: str | os.PathLike[str]) -> None:
    """Write a result to a folder; see `load_result`.

    All of it is written beside `path` first and takes its place when it is whole, so an error or an interruption leaves
    the old result. (Should the machine die between the two renames, the old one is whole in a hidden folder beside.)

    Args:
        result: what to keep. Of `best` nothing is written: it is the first unit of the population.
        path: the folder. It is made; a result that is there is replaced.

    Raises:
        InputError: something that is no saved result is at `path`.
    """
    from safetensors.torch import save_file

    target = Path(path).resolve()
    if target.exists() and not (_is_result(target) and len(os.listdir(target)) == 2):
        raise InputError(f"path={str(path)!r} is there and is no saved result alone; give a new folder or a result's")
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        new = folder / "new"
        new.mkdir()  # with the permissions that a folder has here, unlike the temporary one
        # A copy of each, contiguous and alone in its memory, which the format asks for.
        tensors = {
            f"{kind}/{name}": tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for kind in _KINDS
            for name, tensor in getattr(result.population, kind).items()
        }
        save_file(tensors, new / TENSORS)
        facts = {
            "format": FORMAT,
            "model": type(result.population.template).__name__,
            "sha256": _sha256(new / TENSORS),
            "config": result.config.model_dump(mode="json"),
            "stopped": result.stopped,
            "gradient_steps": result.gradient_steps,
            "seconds": result.seconds,
            "history": {name: _column(result.history[name]) for name in result.history},
        }
        (new / FACTS).write_text(json.dumps(facts, indent=1, allow_nan=False), encoding="utf-8")
        for each in (new / TENSORS, new / FACTS, new):
            _flush(each)
        # A folder cannot replace one that is not empty: the old one steps aside, and back if the new one fails.
        if target.exists():
            os.rename(target, folder / "old")
        try:
            os.rename(new, target)
        except BaseException:
            if (folder / "old").exists():
                os.rename(folder / "old", target)
            raise
        _flush(target.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def load_result(path: str | os.PathLike[str], make_model: Callable[[], nn.Module]) -> Result:
    """Read what `Result.save` wrote.

    Args:
        path: the folder.
        make_model: as for `evolve`: a result holds tensors and no code. Called once, and its values are not used.

    Returns:
        The result as it was: the population bit by bit (on the CPU), the history with its types, the settings.

    Raises:
        InputError: there is no result, it is damaged or of a newer version, or `make_model` gives another model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    source = Path(path)
    if not source.exists():
        raise InputError(f"path={str(source)!r} does not exist; give the folder that Result.save wrote")
    if not _is_result(source):
        raise InputError(f"path={str(source)!r} is no saved result; there should be {FACTS} and {TENSORS} in it")
    facts = _facts(source)
    damaged = f"path={str(source)!r} is damaged"
    content = (source / TENSORS).read_bytes()
    if hashlib.sha256(content).hexdigest() != facts["sha256"]:
        raise InputError(f"{damaged}: {TENSORS} is not the file that was written")
    kinds: dict[str, dict[str, Tensor]] = {kind: {} for kind in _KINDS}
    try:
        for key, tensor in load(content).items():
            kind, _, name = key.partition("/")
            kinds[kind][name] = tensor
    except (KeyError, SafetensorError) as error:
        raise InputError(f"{damaged}: {TENSORS} does not hold a population ({error})") from None
    order = Population.make(make_model, 1)
    _check_fit(kinds, order, str(facts["model"]))
    population = Population(
        order.template,
        {name: kinds["parameters"][name] for name in order.parameters},
        {name: kinds["buffers"][name] for name in order.buffers},
        dict(sorted(kinds["moments"].items())),
    )
    try:
        return Result(
            best=population.unit(0),
            population=population,
            history=pd.DataFrame({name: _series(column) for name, column in facts["history"].items()}),
            config=GadamConfig(**facts["config"]),
            stopped=str(facts["stopped"]),
            gradient_steps=int(facts["gradient_steps"]),
            seconds=float(facts["seconds"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{damaged}: {FACTS} does not hold a result ({type(error).__name__}: {error})") from None


def _is_result(path: Path) -> bool:
    return (path / TENSORS).is_file() and (path / FACTS).is_file()


def _facts(source: Path) -> dict[str, Any]:
    """What `result.json` says."""
    try:
        facts = json.loads((source / FACTS).read_text(encoding="utf-8"))
        version, _ = int(facts["format"]), (facts["sha256"], facts["model"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"path={str(source)!r} is damaged: {FACTS} does not hold a result ({type(error).__name__}: {error})"
        ) from None
    if version > FORMAT:
        raise InputError(
            f"path={str(source)!r} has format {version}, this gadam reads up to {FORMAT}; install a newer gadam"
        )
    return dict(facts)


def _check_fit(kinds: Mapping[str, Mapping[str, Tensor]], order: Population, saved: str) -> None:
    """That the module has the tensors that were saved.

    Raises:
        InputError: it has not; the message names the first that differs.
    """
    model, template = type(order.template).__name__, order.template
    own = [name for name, _ in (*template.named_parameters(), *template.named_buffers())]
    # In the module's order, and then what it has not; the file has no order.
    for name in dict.fromkeys([*own, *sorted([*kinds["parameters"], *kinds["buffers"]])]):
        for kind in ("parameters", "buffers"):
            a, b = (_describe(tensors.get(name)) for tensors in (getattr(order, kind), kinds[kind]))
            if a != b:
                raise InputError(
                    f"make_model: {name} is {a} among the {kind} of {model}, but {b} in the saved {saved}; must be "
                    "the model that was trained"
                )


def _describe(tensor: Tensor | None) -> str:
    return "missing" if tensor is None else f"{list(tensor.shape[1:])} {str(tensor.dtype).removeprefix('torch.')}"


def _column(series: pd.Series) -> dict[str, Any]:
    """A column of the history. A finite float is written so that it reads back as the same; JSON has no others."""

    def plain(value: Any) -> Any:
        if value is pd.NA:
            return None
        value = value.item() if isinstance(value, np.generic) else value
        return repr(value) if isinstance(value, float) and not np.isfinite(value) else value

    return {"dtype": str(series.dtype), "values": [plain(value) for value in series]}


def _series(column: Mapping[str, Any]) -> pd.Series:
    dtype, values = column["dtype"], column["values"]
    if dtype.startswith("float"):
        values = [float(value) for value in values]
    return pd.Series(pd.array(values, dtype="Int64") if dtype == "Int64" else values, dtype=dtype)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    """What the system still holds of a file or folder is on the disk after this."""
    if os.name == "nt" and path.is_dir():
        return  # Windows opens no folder
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
