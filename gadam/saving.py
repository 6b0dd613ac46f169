"""A result on disk: one file with the units' tensors and all else, see `gadam.storage`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from gadam import storage
from gadam.config import GadamConfig, InputError
from gadam.population import Population, outline
from gadam.result import Result
from gadam.validation import check_callable, check_path

KIND, CHECKPOINT = "result", "checkpoint"
_KINDS = ("parameters", "buffers", "moments")


def save(result: Result, path: str | os.PathLike[str]) -> None:
    """Write a result to a file; see `load_result`.

    An error or an interruption leaves the old file as it was.

    Args:
        result: what to keep. Of `best` nothing is written: it is the first unit of the population.
        path: the file, by custom `.safetensors`. Its folder is made; a file that is there is replaced.

    Raises:
        InputError: something that is no saved result is at `path`, or it cannot be written.
    """
    check_path("path", path)
    target = Path(path).resolve()
    if target.exists():
        try:
            storage.read(target, KIND)
        except InputError as error:
            raise InputError(f"{error}; give another path") from None
    tensors = {f"{kind}/{name}": tensor for kind in _KINDS for name, tensor in getattr(result.population, kind).items()}
    facts = {
        "model": type(result.population.template).__name__,
        "outline": outline(result.population.template),
        "config": result.config.as_json(),
        "stopped": result.stopped,
        "gradient_steps": result.gradient_steps,
        "seconds": result.seconds,
        "targets": result.targets,
        "history": storage.from_frame(result.history),
    }
    storage.write(target, KIND, facts, tensors)


def load_result(path: str | os.PathLike[str], make_model: Callable[[], nn.Module]) -> Result:
    """Read what `Result.save` wrote; or of a checkpoint the last complete generation, as a training that was stopped.

    Args:
        path: the file.
        make_model: as for `evolve`: a result holds tensors and no code. Called once, and its values are not used.

    Returns:
        The result as it was: the population bit by bit (on the CPU), the history with its types, the settings.

    Raises:
        InputError: there is no result, it is damaged or of a newer version, or `make_model` gives another model.
    """
    check_path("path", path)
    facts, tensors = storage.read(Path(path), KIND, CHECKPOINT)
    check_callable("make_model", make_model)
    order = Population.make(make_model, 1)
    kinds: dict[str, dict[str, Tensor]] = {kind: {} for kind in _KINDS}
    if facts["kind"] == CHECKPOINT and isinstance(courses := facts.get("courses"), list) and len(courses) > 1:
        raise InputError(f"path={str(path)!r} holds a training of {len(courses)} seeds, must be of one")
    try:
        if facts["kind"] == CHECKPOINT:
            facts, tensors = _of_checkpoint(facts, tensors)
        for key, tensor in tensors.items():
            kind, _, name = key.partition("/")
            kinds[kind][name] = tensor
        saved = f"the saved {facts['model']}"
        config, history = GadamConfig(**facts["config"]), storage.to_frame(facts["history"])
        told = {name: facts[name] for name in ("stopped", "gradient_steps", "seconds", "targets")}
        parts = list(zip_longest(facts["outline"], outline(order.template), fillvalue="nothing"))
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # an InputError is a ValueError
        raise InputError(f"path={str(path)!r} is damaged ({type(error).__name__}: {error})") from None
    population = as_population(kinds, order, saved)
    if others := [(there, here) for there, here in parts if there != here]:
        there, here = others[0]
        raise InputError(
            f"make_model: a part is {here} here, but {there} in {saved}; must be the model that was trained"
        )
    return Result(best=population.unit(0), population=population, history=history, config=config, **told)


def _of_checkpoint(facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a result would have kept of the population that the generation under way began with."""
    identity, course = facts["identity"], facts["courses"][0]
    steps = sum(course["history"]["steps"]["values"])
    result = {
        "model": identity["model"]["class"],
        "outline": identity["outline"],
        "config": identity["config"] | {"generations": max(1, facts["generation"] - 1)},
        "stopped": course["stopped"] or "stop",
        "gradient_steps": steps,
        "seconds": facts["seconds"],
        "targets": identity["targets"],
        "history": course["history"],
    }
    own = {name.removeprefix("population/"): entry for name, entry in tensors.items() if name.startswith("population/")}
    return result, own


def as_population(kinds: Mapping[str, Mapping[str, Tensor]], order: Population, saved: str) -> Population:
    """The population of tensors that were saved, in the order of another of the same model.

    Args:
        kinds: of "parameters", "buffers" and "moments", name -> [g, ...].
        order: any units of the model.
        saved: what the error calls the tensors.

    Raises:
        InputError: it is another model; the message names the first tensor that differs.
    """
    model, template = type(order.template).__name__, order.template
    own = [name for name, _ in (*template.named_parameters(), *template.named_buffers())]
    # In the module's order, and then what it has not; the file has no order.
    for name in dict.fromkeys([*own, *sorted([*kinds["parameters"], *kinds["buffers"]])]):
        for kind in ("parameters", "buffers"):
            a, b = (_describe(tensors.get(name)) for tensors in (getattr(order, kind), kinds[kind]))
            if a != b:
                raise InputError(
                    f"make_model: {name} is {a} among the {kind} of {model}, but {b} in {saved}; must be the model "
                    "that was trained"
                )
    return Population(
        order.template,
        {name: kinds["parameters"][name] for name in order.parameters},
        {name: kinds["buffers"][name] for name in order.buffers},
        dict(sorted(kinds["moments"].items())),
    )


def _describe(tensor: Tensor | None) -> str:
    return "missing" if tensor is None else f"{list(tensor.shape[1:])} {str(tensor.dtype).removeprefix('torch.')}"
