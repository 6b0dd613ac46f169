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
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from gadam import genetics
from gadam.arguments import check_evolve, check_path
from gadam.checkpoint import Keeper, identify
from gadam.checks import check_batch, check_fit, check_rows
from gadam.config import GadamConfig, InputError
from gadam.executors import as_executor, steps_taken, train_shards, unless
from gadam.generations import Bred, breed_trained, initial_losses, no_history, survive
from gadam.layout import cut, lay_out, resolve_device
from gadam.plotting.live import front_end
from gadam.population import Population
from gadam.randomness import VALIDATION, stream
from gadam.remote import WorkersError, cluster_threads
from gadam.result import Callback, Generation, Result  # noqa: F401  (Generation was here once, and is found here)
from gadam.shards import Data, Part, Record, Trained
from gadam.standing import Standing
from gadam.vectorised import Batch, Loss

logger = logging.getLogger("gadam")


def evolve(
    make_model: Callable[[], nn.Module],
    data: tuple[Tensor | tuple[Tensor, ...], Tensor],
    config: GadamConfig | None = None,
    *,
    loss: Loss = nn.functional.cross_entropy,
    validation: tuple[Tensor | tuple[Tensor, ...], Tensor] | None = None,
    executor: Executor | int | None = None,
    device: torch.device | str = "auto",
    callbacks: Iterable[Callback] = (),
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_seconds: float = 60.0,
    record: Record | None = None,
    progress: bool | None = None,
    stop: threading.Event | None = None,
) -> Result:
    """Train a population of unit models and evolve it, generation by generation (Section 3).

    Args:
        make_model: returns a fresh unit model, any `nn.Module` whose architecture is the same at each call. Dropout,
            BatchNorm, tied and frozen parameters are fine. Python attributes that `forward` changes are not seen.
        data: inputs [n, *features] (or a tuple of such, given to the module as its arguments) and targets [n, ...].
        config: the settings; the defaults of `GadamConfig` if None.
        loss: (output, targets) -> scalar, a mean over rows; lower is fitter.
        validation: rows from which validation batches are drawn; None draws from `data`, as the paper does (V in T).
        executor: a `concurrent.futures.Executor`, a number of threads, or None for what suits the machine.
        device: "auto" (CUDA where there is a GPU) or a torch device.
        callbacks: told of the start, of each generation and of the end.
        checkpoint: a file. The training keeps there where it stands, also in the middle of a generation; the same call
            goes on from it as if it had never stopped: the result is the same bit by bit. SIGINT and SIGTERM end the
            training within a step, once that is written. A finished training is not done again, and more
            `generations` than before may be asked for, while mode "auto", which goes by the length, chooses the same.
        checkpoint_seconds: between writes; more where writing would take over 1 % of the time.
        record: told of each step of each shard, see `gadam.shards.Step`; only with threads of this process. Of a shard
            that is halved because memory ran out, it is told again what was done since the last pause. With a
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

    Raises:
        InputError: an argument cannot be used; one line says which and why, before any training.
        TrainingError: no unit of a generation has a finite loss, or the training cannot go on for another reason.
        KeyboardInterrupt: with `checkpoint`, after SIGINT; the message says how to go on.
    """
    config = GadamConfig() if config is None else config
    callbacks = list(callbacks) if isinstance(callbacks, Iterable) else callbacks
    check_evolve(make_model, config, loss, callbacks, record, progress, stop)
    if checkpoint is not None:
        check_path("checkpoint", checkpoint)
    device = resolve_device(device)
    train = check_batch("data", data, device)
    held_out = train if validation is None else check_batch("validation", validation, device)
    began = time.perf_counter()
    population = Population.make(
        make_model, config.population_size, seed=config.seed, initialisation=config.initialisation, device=device
    )
    fresh_loss = check_fit(population, train, loss, config.batch_size)
    if validation is not None:
        try:
            check_rows(population, held_out, loss)
        except InputError as error:
            raise InputError(f"validation: {error}") from error.__cause__
    total = 2 * config.generations * config.steps * config.population_size
    for callback in callbacks:
        callback.on_start(config, population)
    threads = cluster_threads(executor)
    layout = unless(stop if checkpoint is None else None, lay_out, population, train, loss, config, total, threads)
    if layout is None:
        return _result(Standing(1, population, [], no_history(), 1), config, "stop", began, callbacks)
    trainer, shards, warning = layout
    if warning:
        warnings.warn(warning, stacklevel=2)
    useful = min(torch.get_num_threads(), shards) if device.type == "cpu" else 1
    both = [train] if validation is None else [train, held_out]

    def identity() -> dict[str, Any]:
        return identify(config, population, both, trainer.way, fresh_loss)

    # An executor of one's own may watch too, and can be told nothing of what was before.
    watching = [*callbacks, record, None if isinstance(executor, int) else executor]
    keeper = Keeper(checkpoint, identity, population, [one for one in watching if one is not None], checkpoint_seconds)
    counting = threading.Lock()

    def progressed(steps: int) -> bool:
        with counting:  # the bar's own count is not safe between threads
            bar.update(steps)
        return bool(keeper.signal) or (stop is not None and stop.is_set())

    # None: unless it is a terminal. In a notebook tqdm would show it to nobody too, who then keeps a bar that stands.
    hidden = (None if front_end() != "batch" else True) if progress is None else not progress
    kept = keeper.read()
    standing = kept or Standing(1, population, cut(population, shards, "parent", 1), no_history(), shards)
    if standing.generation - 1 > config.generations:
        raise InputError(
            f"checkpoint: {str(checkpoint)!r} holds {standing.generation - 1} generations, config asks for "
            f"generations={config.generations}; give at least as many, or another path"
        )
    if not kept and checkpoint is not None:  # where nothing can be written is said before the training
        keeper.keep(standing, now=True)
    began -= standing.seconds
    if len(standing.history):
        for callback in callbacks:
            callback.on_resume(standing.history)
    bred: Bred | None = None  # computed again where the training goes on among children
    with (
        keeper,
        as_executor(executor, useful) as pool,
        tqdm(total=total, initial=_steps(standing, config), unit="step", unit_scale=True, disable=hidden) as bar,
    ):
        while not (stopped := standing.stopped or _over(standing, config)):
            number = standing.generation
            bar.set_description(f"generation {number}/{config.generations}")
            rows = _data(train, held_out, number, config)

            def keep(parts: Sequence[Part]) -> None:
                nonlocal standing
                standing = replace(standing, parts=parts, seconds=time.perf_counter() - began)
                keeper.keep(standing)

            try:
                train_shards(pool, trainer, standing.parts, rows, progressed, record, keep=keep, seconds=keeper.seconds)
            except WorkersError as error:
                keeper.keep(standing, now=True)
                hint = "" if checkpoint is None else f"; the same call goes on from checkpoint={str(checkpoint)!r}"
                raise WorkersError(f"{error}{hint}") from error
            if standing.paused:
                stopped = "stop"
                break
            if not standing.parents:
                bred = breed_trained(_trained(standing.parts), config, number)
                children = cut(bred.newborn, standing.shards, "child", number)
                standing = replace(standing, parents=_trained(standing.parts), parts=children)
                continue
            generation, selected = survive(
                number,
                standing.parents,
                _trained(standing.parts),
                bred or breed_trained(standing.parents, config, number),
                config,
            )
            bar.set_postfix(best=f"{selected[0]:.4g}", refresh=False)
            logger.info("generation %d/%d: best loss %.4g", number, config.generations, selected[0])
            wants_stop = [callback.on_generation(generation) for callback in callbacks]
            standing = replace(
                standing,
                generation=number + 1,
                population=generation.next,
                parents=(),
                parts=cut(generation.next, standing.shards, "parent", number + 1),
                history=pd.concat([standing.history, generation.history][number == 1 :], ignore_index=True),
                losses=[*(standing.losses or [initial_losses(generation)]), selected][-2:],
                stopped="callback" if any(wants_stop) else "",
                seconds=time.perf_counter() - began,
            )
        keeper.end(standing, over=stopped != "stop")

    return _result(standing, config, stopped, began, callbacks)


def _result(
    standing: Standing, config: GadamConfig, stopped: str, began: float, callbacks: Iterable[Callback]
) -> Result:
    result = Result(
        best=standing.population.take(slice(0, 1)).to("cpu").unit(0),
        population=standing.population,
        history=standing.history,
        config=config,
        stopped=stopped,
        gradient_steps=int(standing.history["steps"].sum()),
        seconds=time.perf_counter() - began,
    )
    for callback in callbacks:
        callback.on_end(result)
    return result


def _over(standing: Standing, config: GadamConfig) -> str:
    """Why an evolution is over, or "" if it is not."""
    if standing.generation > config.generations:
        return "generations"
    if len(standing.losses) < 2:
        return ""
    previous, selected = standing.losses
    return "converged" if genetics.has_converged(previous, selected, config.threshold) else ""


def _steps(standing: Standing, config: GadamConfig) -> int:
    """Steps of units that have been done."""
    done = 2 * (standing.generation - 1) * config.population_size + sum(
        len(part.population) for part in standing.parents
    )
    return done * config.steps + sum(steps_taken(part, config) for part in standing.parts)


def _data(train: Batch, held_out: Batch, number: int, config: GadamConfig) -> Data:
    """The rows, and the validation batches of a generation: distinct rows, at most all there are."""
    device = train[1].device
    draw = stream(device, config.seed, VALIDATION, number)
    fitness, survival = (
        torch.randperm(len(held_out[1]), generator=draw, device=device)[: config.validation_size] for _ in range(2)
    )
    return Data(train, held_out, fitness, survival)


def _trained(parts: Sequence[Part]) -> list[Trained]:
    return [part for part in parts if isinstance(part, Trained)]
