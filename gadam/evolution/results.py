"""Make the result of a training from its state; read it from a file, whether that is a result or a checkpoint."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from torch import Tensor, nn

from gadam import storage
from gadam.config import GadamConfig, InputError
from gadam.display import describe_error
from gadam.evolution.breeding import stop_reasons, units_of_seed
from gadam.evolution.state import EvolutionState, from_file
from gadam.evolution.teaching import teaching_steps
from gadam.genetics import survivors
from gadam.population import Population, from_entries, outline
from gadam.result import CHECKPOINT, FACTS, KIND, Result
from gadam.types import Targets
from gadam.validation import read_path


def result_of(
    state: EvolutionState, place: int, configs: Sequence[GadamConfig], *, stopped: str, targets: Targets, rows: int,
    restore_best: bool, as_they_are: bool,
) -> Result:  # fmt: skip
    """Return the result of one of the seeds: its last complete generation, or the units under way as they are.

    `rows` are those of the training.
    """
    config, seed = configs[place], state.seeds[place]
    population = units_of_seed(state.units_as_they_are() if as_they_are else state.population, place, len(configs))
    if as_they_are and state.parents is not None:  # trained and judged: the fittest first, as in any result
        losses = state.parents.of_seeds(len(configs))[place].tensors
        population = population.take(survivors(losses.get("loss_validation", losses["loss_trained"]), len(population)))
    best = seed.best if restore_best else None
    steps = int(seed.history["steps"].sum()) + (state.steps_taken() // len(configs) if as_they_are else 0)
    taught = teaching_steps(seed.history, config, rows) if state.generation else 0
    return Result(
        best=(best or population.take(slice(0, 1))).to("cpu").unit(0), population=population, history=seed.history,
        config=config, stopped=stopped, gradient_steps=steps + taught, seconds=state.seconds, targets=targets,
        restored=best is not None, teachers=seed.teachers,
    )  # fmt: skip


def load_result(path: str | os.PathLike[str], make_model: Callable[[], nn.Module]) -> Result:
    """Read the file of `Result.save`; or a checkpoint, as the result of the training that kept it.

    Args:
        path: the file.
        make_model: as for `evolve`: a result holds tensors and no code. Its values are not used.

    Returns:
        The result as it was: the population bit by bit (on the CPU), the history with its types, the settings. Of a
        checkpoint it is the last complete generation; where none is complete, the units as they are.

    Raises:
        InputError: there is no result, it is damaged or of a newer version, or `make_model` gives another model.
    """
    facts, tensors = storage.read(read_path("path", path), KIND, CHECKPOINT)
    order = Population.make(make_model, 1)
    other = Population.make(make_model, 1, seed=1).template  # parts that differ between them show values
    if isinstance(courses := facts.get("courses"), list) and len(courses) > 1:
        raise InputError(f"path={str(path)!r} holds a training of {len(courses)} seeds, must be of one")
    is_checkpoint = facts["kind"] == CHECKPOINT
    try:
        about = facts["identity"] if is_checkpoint else facts
        saved = f"the saved {about['model']['class'] if is_checkpoint else about['model']}"
        parts = list(zip_longest(about["outline"], outline(order.template), outline(other), fillvalue="nothing"))
        result = (_of_checkpoint if is_checkpoint else _of_result)(facts, tensors, order, saved)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        if isinstance(error, InputError) and str(error).startswith("make_model"):
            raise
        raise InputError(f"path={str(path)!r} is damaged ({describe_error(error)})") from None
    for there, here, again in parts:
        if there != here == again:
            raise InputError(f"make_model: a part is {here} but {there} in {saved}; must be the model that was trained")
    return result


def _of_result(facts: Mapping[str, Any], tensors: Mapping[str, Tensor], order: Population, saved: str) -> Result:
    config, history = GadamConfig(**facts["config"]), storage.to_frame(facts["history"])
    others = {name: facts[name] for name in FACTS if name != "restored" or name in facts}
    population = from_entries(tensors, order, saved)
    best = from_entries(tensors, order, saved, "best/") if others.get("restored") else population
    taught = any(name.startswith("teachers/") for name in tensors)
    teachers = from_entries(tensors, order, saved, "teachers/") if taught else None
    return Result(
        best=best.unit(0), population=population, history=history, config=config, teachers=teachers, **others
    )  # fmt: skip


def _of_checkpoint(facts: Mapping[str, Any], tensors: Mapping[str, Tensor], order: Population, saved: str) -> Result:
    about, state = facts["identity"], from_file(facts, tensors, order, saved)
    asked = about.get("generations", max(1, state.generation - 1))  # what older checkpoints do not say
    config, begins = GadamConfig(**about["config"], generations=asked), state.seeds[0].history.empty
    stopped = stop_reasons(state, config)[0] if state.generation else "" if begins else "generations"
    return result_of(
        state, 0, [config], stopped=stopped or "stop", targets=about["targets"], rows=about.get("rows", 0),
        restore_best=about.get("restore_best", False), as_they_are=begins,
    )  # fmt: skip
