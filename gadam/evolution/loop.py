"""evolve(): the generation loop of Section 3."""

from __future__ import annotations

import logging
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from gadam.config import GadamConfig, InputError
from gadam.display import front_end
from gadam.evolution.breeding import Bred, no_history, trained
from gadam.evolution.checkpoint import Keeper, ending, identify
from gadam.evolution.seeds import batches, breed_each, of_seed, over, record_each, survive_each
from gadam.evolution.state import Course, Standing
from gadam.parallel.executors import as_executor, check_several, steps_taken, train_shards, unless
from gadam.parallel.workers import cluster_size
from gadam.population import Population
from gadam.result import Callback, Generation, Result, Targets, targets_of  # noqa: F401  (Generation was here once, and is found here)
from gadam.tracing.programs import Batch, Loss
from gadam.training.inputs import check_batch, check_fit, check_rows
from gadam.training.plan import Device, Layout, cut, lay_out, resolve_devices
from gadam.training.shards import Data, Part, Record, TrainingError
from gadam.validation import check_callable, check_evolve, check_path, check_seeds

logger = logging.getLogger("gadam")


def evolve(
    make_model: Callable[[], nn.Module],
    data: tuple[Tensor | tuple[Tensor, ...], Tensor],
    config: GadamConfig | None = None,
    *,
    loss: Loss = nn.functional.cross_entropy,
    validation: tuple[Tensor | tuple[Tensor, ...], Tensor] | None = None,
    executor: Executor | int | None = None,
    device: Device = "auto",
    callbacks: Iterable[Callback] = (),
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_seconds: float = 60.0,
    record: Record | None = None,
    progress: bool | None = None,
    stop: threading.Event | None = None,
) -> Result:
    """Train a population of unit models and evolve it, generation by generation (Section 3).

    Minimises the loss over the variables of every unit (Eq. 1): steps of Adam (Eq. 6) alternate with selection,
    crossover, mutation and survival (Eq. 7 to 12).

    Args:
        make_model: returns a fresh unit model, any `nn.Module` whose architecture is the same at each call. Dropout,
            BatchNorm, tied and frozen parameters are fine. Python attributes that `forward` changes are not seen.
        data: inputs [n, *features] (or a tuple of such, given to the module as its arguments) and targets [n, ...].
        config: the settings; the defaults of `GadamConfig` if None.
        loss: (output, targets) -> scalar, a mean over rows; lower is fitter.
        validation: rows from which validation batches are drawn; None draws from `data`, as the paper does (V in T).
        executor: a `concurrent.futures.Executor`, a number of threads, or None for what suits the machine.
        device: "auto" (the GPU of CUDA, where there is one), a torch device, or several GPUs, among which shards are
            shared out: `["cuda:0", "cuda:1"]`.
        callbacks: told of the start, of each generation and of the end.
        checkpoint: a file. The training keeps there where it stands, also in the middle of a generation; the same call
            goes on from it as if it had never stopped: the result is the same bit by bit. SIGINT and SIGTERM end the
            training within a step, once that is written. A finished training is not done again, and more
            `generations` than before may be asked for, while mode "auto", which goes by the length, chooses the same.
        checkpoint_seconds: between writes; more where writing would take over 1 % of the time.
        record: told of each step of each shard (`gadam.training.shards.Step`); only with threads of this process. Of a
            shard that is halved because memory ran out, it is told again what was done since the last pause. With a
            checkpoint, its `state_dict` and `load_state_dict` are called, if it has them, as those of callbacks are.
        progress: a bar over generations and steps; None shows it where somebody looks (a terminal, JupyterLab).
        stop: set by another thread, it ends the training at once; the result is then the last complete generation, or
            before the first is complete the initial one with an empty history.

    Returns:
        The result; its `history` has the columns generation (from 1), role ("parent" or "child"), unit (from 0 within
        its role), parent_a, parent_b (units of the same generation; missing for parents), loss_start, loss_trained
        (mean loss on the generation's validation batch before and after training), loss_survival (on the shared new
        batch), survived, steps, seconds (a unit's share of its shard's time).

        A unit whose loss is NaN or infinite is no parent while there is a finite one, and does not survive: where fewer
        than g units are finite, the fittest of them are there more than once in the next generation, in their order.
        The history then has that loss in its row, and fewer than g rows of the generation that survived.

    Raises:
        InputError: an argument cannot be used; one line says which and why, before any training.
        TrainingError: no unit of a generation has a finite loss, or the training cannot go on for another reason. A
            checkpoint then holds the generation before, which `gadam.load_result` reads.
        KeyboardInterrupt: with `checkpoint`, after SIGINT; the message says how to go on.
    """
    config = GadamConfig() if config is None else config
    (result,) = _evolve(
        make_model, data, config, None, [callbacks], [record],
        loss=loss, validation=validation, executor=executor, device=device, checkpoint=checkpoint,
        checkpoint_seconds=checkpoint_seconds, progress=progress, stop=stop,
    )  # fmt: skip
    return result


def evolve_seeds(
    make_model: Callable[[], nn.Module],
    data: tuple[Tensor | tuple[Tensor, ...], Tensor],
    config: GadamConfig | None = None,
    *,
    seeds: Sequence[int],
    loss: Loss = nn.functional.cross_entropy,
    validation: tuple[Tensor | tuple[Tensor, ...], Tensor] | None = None,
    executor: Executor | int | None = None,
    device: Device = "auto",
    callbacks: Callable[[int], Iterable[Callback]] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_seconds: float = 60.0,
    record: Callable[[int], Record | None] | None = None,
    progress: bool | None = None,
    stop: threading.Event | None = None,
) -> list[Result]:
    """`evolve` for each of several seeds, with all their units trained together as one population.

    Where the hardware has room, as a GPU has, ten seeds take little longer than one. Populations of different seeds
    never meet: each is selected, mixed and judged by itself, on validation batches of its own. Where units train one by
    one, each result is bit by bit that of `evolve`; where they train in one call, up to rounding. A seed that is over
    before the others, by Eq. 13 or a callback, keeps its population as it is then.

    Args:
        make_model: see `evolve`, as for all that is not named here.
        data: see `evolve`.
        config: its `seed` does not count, and `shards` are those of all units together.
        seeds: distinct, of the kind of `GadamConfig.seed`.
        loss: see `evolve`.
        validation: see `evolve`.
        executor: see `evolve`.
        device: see `evolve`.
        callbacks: gives those of a seed.
        checkpoint: one file for all of them.
        checkpoint_seconds: see `evolve`.
        record: gives that of a seed.
        progress: see `evolve`.
        stop: see `evolve`.

    Returns:
        A result for each seed, in their order; `seconds` are those of all of them.

    Raises:
        InputError: see `evolve`.
        TrainingError: see `evolve`; that one seed cannot go on ends all.
        KeyboardInterrupt: see `evolve`.
    """
    config = GadamConfig() if config is None else config
    check_seeds(seeds)
    for name, function in (("callbacks", callbacks), ("record", record)):
        if function is not None:
            check_callable(name, function, "seed")
    return _evolve(
        make_model, data, config, list(seeds),
        [callbacks(seed) if callbacks else () for seed in seeds], [record(seed) if record else None for seed in seeds],
        loss=loss, validation=validation, executor=executor, device=device, checkpoint=checkpoint,
        checkpoint_seconds=checkpoint_seconds, progress=progress, stop=stop,
    )  # fmt: skip


def _evolve(
    make_model: Callable[[], nn.Module],
    data: Any,
    config: GadamConfig,
    seeds: Sequence[int] | None,
    callbacks: Sequence[Any],
    records: Sequence[Record | None],
    *,
    loss: Loss,
    validation: Any,
    executor: Executor | int | None,
    device: Device,
    checkpoint: str | os.PathLike[str] | None,
    checkpoint_seconds: float,
    progress: bool | None,
    stop: threading.Event | None,
) -> list[Result]:
    """Both of the above: `callbacks` and `records` have an entry for each seed; None is that of the config alone."""
    callbacks = [list(own) if isinstance(own, Iterable) else own for own in callbacks]
    for own, record in zip(callbacks, records, strict=True):
        check_evolve(make_model, config, loss, own, record, progress, stop)
    if checkpoint is not None:
        check_path("checkpoint", checkpoint)
    devices = resolve_devices(device)
    check_several(devices, executor)
    train = check_batch("data", data, devices[0])
    held_out = train if validation is None else check_batch("validation", validation, devices[0])
    targets = targets_of(train[1])
    began = time.perf_counter()
    configs = [config] if seeds is None else [replace(config, seed=seed) for seed in seeds]
    seeds = None if seeds is None else [own.seed for own in configs]
    g = config.population_size
    population = Population.join(
        [
            Population.make(make_model, g, seed=own.seed, initialisation=own.initialisation, device=devices[0])
            for own in configs
        ]
    )
    fresh_loss = check_fit(population, train, loss, config.batch_size)
    if validation is not None:
        try:
            check_rows(population, held_out, loss)
        except InputError as error:
            raise InputError(f"validation: {error}") from error.__cause__
    for number, own in enumerate(configs):
        for callback in callbacks[number]:
            callback.on_start(own, of_seed(population, number, g))
    total = 2 * config.generations * config.steps * len(population)

    def laid_out() -> Layout:
        return lay_out(
            population, train, loss, config, total, cluster_size(executor), seeds=seeds, devices=len(devices)
        )

    layout = unless(stop if checkpoint is None else None, laid_out)
    if layout is None:
        standing = Standing(1, population, [], [Course(no_history()) for _ in configs], 1)
        return _results(standing, configs, ["stop"] * len(configs), began, callbacks, targets)
    trainer, shards, warning = layout
    if warning:
        warnings.warn(warning, stacklevel=3)

    def identity() -> dict[str, Any]:
        both = [train] if validation is None else [train, held_out]
        found = identify(config, population, both, trainer.way, fresh_loss)
        return found if seeds is None else found | {"config": found["config"] | {"seed": seeds}}

    # An executor of one's own may watch too, and can be told nothing of what was before.
    watching = [*chain.from_iterable(callbacks), *records, None if isinstance(executor, int) else executor]
    keeper = Keeper(checkpoint, identity, population, [one for one in watching if one is not None], checkpoint_seconds)
    kept = keeper.read()
    standing = kept or Standing(
        1, population, cut(population, shards, "parent", 1), [Course(no_history()) for _ in configs], shards
    )
    if standing.generation - 1 > config.generations:
        raise InputError(
            f"checkpoint: {str(checkpoint)!r} holds {standing.generation - 1} generations, config asks for "
            f"generations={config.generations}; give at least as many, or another path"
        )
    if not kept and checkpoint is not None:  # where nothing can be written is said before the training
        keeper.keep(standing, now=True)
    began -= standing.seconds
    for own, course in zip(callbacks, standing.courses, strict=True):
        for callback in own if len(course.history) else ():
            callback.on_resume(course.history)
    places = [Data(_on(device, train), _on(device, held_out), *[torch.empty(0)] * 2) for device in devices]
    record = record_each(records, trainer)
    # None: unless it is a terminal. In a notebook tqdm would show it to nobody too, who then keeps a bar that stands.
    hidden = (None if front_end() != "batch" else True) if progress is None else not progress
    useful = min(torch.get_num_threads() if devices[0].type == "cpu" else len(devices), shards)
    counting = threading.Lock()
    bred: Sequence[Bred] = ()  # computed again where the training goes on among children

    def progressed(steps: int) -> bool:
        with counting:  # the bar's own count is not safe between threads
            bar.update(steps)
        return bool(keeper.signal) or (stop is not None and stop.is_set())

    def keep(parts: Sequence[Part]) -> None:
        nonlocal standing
        standing = replace(standing, parts=parts, seconds=time.perf_counter() - began)
        keeper.keep(standing)

    with (
        keeper,
        ending(lambda: keeper.end(standing, over=all(stopped))),  # when workers have nothing more to do
        as_executor(executor, useful) as pool,
        tqdm(
            total=total,
            initial=_steps(standing, config),
            unit="step",
            unit_scale=True,
            disable=hidden,
            dynamic_ncols=True,
        ) as bar,
    ):
        while not all(stopped := over(standing, config)):
            number = standing.generation
            bar.set_description(f"generation {number}/{config.generations}")
            drawn = batches(len(held_out[1]), number, configs, devices[0])
            here, *elsewhere = (place.of_generation(*drawn) for place in places)
            try:
                train_shards(
                    pool, trainer, standing.parts, here, progressed, record,
                    keep=keep, seconds=keeper.seconds, elsewhere=elsewhere,
                )  # fmt: skip
                if standing.paused:
                    break
                if not standing.parents:
                    bred = breed_each(standing.parts, configs, number)
                    children = cut(Population.join([own.newborn for own in bred]), standing.shards, "child", number)
                    standing = replace(standing, parents=trained(standing.parts), parts=children)
                    continue
                bred = bred or breed_each(standing.parents, configs, number)
                standing = survive_each(standing, bred, configs, stopped, callbacks)
            except TrainingError as error:
                raise keeper.failed(error, standing) from error
            standing = replace(standing, seconds=time.perf_counter() - began)
            lowest = [float(course.losses[-1][0]) for course in standing.courses]
            bar.set_postfix(best=f"{min(lowest):.4g}", refresh=False)
            best = ", ".join(f"{loss:.4g}" for loss in lowest)
            logger.info("generation %d/%d: best loss %s", number, config.generations, best)

    return _results(standing, configs, [why or "stop" for why in stopped], began, callbacks, targets)


def _results(
    standing: Standing,
    configs: Sequence[GadamConfig],
    stopped: Sequence[str],
    began: float,
    callbacks: Sequence[Iterable[Callback]],
    targets: Targets,
) -> list[Result]:
    results = []
    for place, (own, course) in enumerate(zip(configs, standing.courses, strict=True)):
        population = of_seed(standing.population, place, own.population_size)
        results.append(
            Result(
                best=population.take(slice(0, 1)).to("cpu").unit(0),
                population=population,
                history=course.history,
                config=own,
                stopped=stopped[place],
                gradient_steps=int(course.history["steps"].sum()),
                seconds=time.perf_counter() - began,
                targets=targets,
            )
        )
        for callback in callbacks[place]:
            callback.on_end(results[-1])
    return results


def _steps(standing: Standing, config: GadamConfig) -> int:
    """Steps of units that have been done."""
    done = 2 * (standing.generation - 1) * config.population_size + sum(
        len(part.population) for part in standing.parents
    )
    return done * config.steps + sum(steps_taken(part, config) for part in standing.parts)


def _on(device: torch.device, rows: Batch) -> Batch:
    return tuple(tensor.to(device) for tensor in rows[0]), rows[1].to(device)
