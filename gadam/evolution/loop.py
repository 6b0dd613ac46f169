"""Evolve a population, generation by generation (Section 3); or train the same units without genetics.

After Zhang and Gouza, "GADAM: Genetic-Evolutionary ADAM for Deep Neural Network Optimization", arXiv 1805.07500.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import replace

import numpy as np
from torch import nn

from gadam import genetics
from gadam.config import GadamConfig
from gadam.display import warn
from gadam.evolution.breeding import breed_seeds, draw_validation_batches, history_rows, stop_reasons, survive_seeds
from gadam.evolution.interrupts import deliver
from gadam.evolution.setup import Training
from gadam.evolution.state import SeedState
from gadam.population import Population
from gadam.result import Callback, Result
from gadam.training.shards import Record, Shard, split_into_shards
from gadam.types import Device, Loss, Rows
from gadam.validation import check_callable, check_kind, read_seeds


def _evolve(training: Training) -> list[str]:
    """Evolve until every seed's population is over (Section 3). Returns for each seed why; "" if it was stopped."""
    config, configs = training.config, training.configs
    with training.running() as bar:
        while not all(stopped := stop_reasons(training.state, config)):  # the generations asked for, or Eq. 13
            number, training.stopped = training.state.generation, stopped
            bar.set_description(f"generation {number}/{config.generations}")
            training.data = draw_validation_batches(training.data, number, configs)
            if training.state.parents is None:
                if not training.train_shards():  # the parents (Section 3.2)
                    break
                training.advance(replace(training.state, parents=Shard.join(training.state.shards), shards=()))
            # Select, cross, mutate (Section 3.3); after a resume this draws the same children again.
            offspring = breed_seeds(training.state, configs, stopped, training.make_model)
            if not training.state.shards:  # else it goes on from a checkpoint, among the children
                newborn = Population.join([own.newborn for own in offspring])
                children = split_into_shards(newborn, training.state.shard_count, "child", number)
                training.advance(replace(training.state, shards=children))
            taught = training.teach(offspring) if config.crossover == "teach" else None
            if not training.train_shards(taught):  # the children
                break
            # Survive (Section 3.4), and tell the callbacks.
            training.advance(survive_seeds(training.state, offspring, configs, stopped, training.callbacks))
            training.report_losses()
        training.is_over = all(stopped)
    return stopped


def evolve(
    make_model: Callable[[], nn.Module],
    data: Rows,
    config: GadamConfig | None = None,
    *,
    loss: Loss = nn.functional.cross_entropy,
    validation: Rows | None = None,
    restore_best: bool = False,
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

    Example:
        >>> config = gadam.GadamConfig(population_size=8, generations=3, steps=200)
        >>> result = gadam.evolve(make_model, (inputs, targets), config)
        >>> result.predict(new_inputs)

    Args:
        make_model: returns a fresh unit model, any `nn.Module` whose architecture is the same at each call. Dropout,
            BatchNorm, tied and frozen parameters are fine. Units are trained in training mode, all of their parts.
            Python attributes that `forward` changes are not seen.
        data: inputs [n, *features] (or a tuple of such, given to the module as its arguments) and targets [n, ...]:
            tensors, arrays or frames; or a map-style dataset, which is read once (so what it draws at random is drawn
            once). Floats become those of the model, with a warning. With cross-entropy labels may be whole numbers of
            any type, one-hot rows or probabilities.
        config: the settings; None takes the defaults of `GadamConfig`.
        loss: (output, targets) -> scalar, a mean over rows; lower is fitter.
        validation: rows from which validation batches are drawn; None draws from `data`, as the paper does (V in T).
            Where they are given, all of them (at most 10,000) are also the fixed rows: see `loss_validation`.
        restore_best: whether `best` is the best unit ever by the fixed rows, instead of the fittest of the last
            generation; it is kept in checkpoints and files.
        executor: a `concurrent.futures.Executor`, a number of threads, or None for what suits the machine.
        device: "auto" (the GPU of CUDA, where there is one) or a torch device.
        callbacks: told of the start, of each generation and of the end.
        checkpoint: a file that keeps the state of the training, also in the middle of a generation. The same call goes
            on from it, and its result is bit by bit that of a training without a stop; a finished training is not done
            again. An evolution goes on further if more `generations` are asked for, unless Eq. 13 or a callback ended
            it, or mode "auto" chooses another way for the longer one. SIGTERM ends the training within a step, after a
            last write. A first write that fails is an error, a later one a warning.
        checkpoint_seconds: least time between writes; longer where writing would take over 1 % of the time.
        record: told of each step of each shard (`gadam.training.shards.Step`), by threads of this process only. Of a
            shard that is halved because memory ran out, it is told again what was done since the last pause. With a
            checkpoint, its `state_dict` and `load_state_dict` are called, if it has them, as those of callbacks are.
        progress: a bar over generations and steps; None shows it where somebody looks (a terminal, JupyterLab).
        stop: set by another thread, it ends the training at once; the result is then the last complete generation, or
            before the first is complete the initial one with an empty history.

    Returns:
        The result; its `history` has the columns generation (from 1), role ("parent" or "child"), unit (from 0 within
        its role), parent_a, parent_b (units of the same generation; missing for parents, and where more than two
        teach), loss_start, loss_trained (mean loss on the generation's validation batch before and after training),
        loss_survival (on the shared new batch), survived, steps, seconds (a unit's share of its shard's time); with
        `validation` also loss_validation, on the fixed rows, which is comparable between generations; and with ranges
        each unit's learning_rate and weight_decay.

        A unit whose loss is NaN or infinite is no parent while there is a finite one, and does not survive: where fewer
        than g units are finite, the fittest of them are there more than once in the next generation, in their order.
        The history then has that loss in its row, and fewer than g rows of the generation that survived.

    Raises:
        InputError: an argument cannot be used; one line says which and why, before any training.
        TrainingError: no unit of a generation has a finite loss, or the training cannot go on for another reason. A
            checkpoint then holds the generation before, which `gadam.load_result` reads.
        KeyboardInterrupt: in a script, after SIGINT (Ctrl-C), within a step; its `result` has what there is: the last
            complete generation, or in the first one the units as they are. In a notebook or an interactive session that
            is returned, with `stopped == "interrupt"`. Two SIGINT end the training at once.
    """
    config = _checked(config)
    training = Training(
        make_model, data, [config], [callbacks], [record], evolves=True, loss=loss, validation=validation,
        restore_best=restore_best, executor=executor, device=device, checkpoint=checkpoint,
        checkpoint_seconds=checkpoint_seconds, progress=progress, stop=stop,
    )  # fmt: skip
    return deliver(training.results(_evolve(training))[0], training.interrupted)


def evolve_seeds(
    make_model: Callable[[], nn.Module],
    data: Rows,
    config: GadamConfig | None = None,
    *,
    seeds: Sequence[int] | np.ndarray,
    loss: Loss = nn.functional.cross_entropy,
    validation: Rows | None = None,
    restore_best: bool = False,
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

    Example:
        >>> results = gadam.evolve_seeds(make_model, (inputs, targets), config, seeds=range(3))

    Arguments and errors are those of `evolve`, but for these: `seeds` are distinct whole numbers, of which those of
    `config` do not count; `callbacks` and `record` are functions that return those of a seed; `checkpoint` is one file,
    and `config.shards` the shards, of all units together. That one seed cannot go on ends all.

    Returns:
        A result for each seed, in their order; `seconds` are those of all of them.
    """
    config, seeds = _checked(config), read_seeds(seeds)
    for name, function in (("callbacks", callbacks), ("record", record)):
        if function is not None:
            check_callable(name, function, "seed")
    training = Training(
        make_model, data, [replace(config, seed=seed) for seed in seeds],
        [callbacks(seed) if callbacks else () for seed in seeds], [record(seed) if record else None for seed in seeds],
        evolves=True, loss=loss, validation=validation, restore_best=restore_best, executor=executor, device=device,
        checkpoint=checkpoint, checkpoint_seconds=checkpoint_seconds, progress=progress, stop=stop,
    )  # fmt: skip
    return deliver(training.results(_evolve(training)), training.interrupted)


def train(
    make_model: Callable[[], nn.Module],
    data: Rows,
    config: GadamConfig | None = None,
    *,
    loss: Loss = nn.functional.cross_entropy,
    validation: Rows | None = None,
    executor: Executor | int | None = None,
    device: Device = "auto",
    callbacks: Iterable[Callback] = (),
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_seconds: float = 60.0,
    record: Record | None = None,
    progress: bool | None = None,
    stop: threading.Event | None = None,
) -> Result:
    """Train the units that `evolve` would start from, each alone, for as many steps and without genetics.

    Each unit takes `generations * (steps + child_steps)` optimizer steps, as many as a line of descent has in `evolve`.
    The initial units are those of `evolve`; their batches are drawn from streams of their own. It is what an evolution
    has to beat at equal compute, and a deep ensemble in one call.

    Arguments are those of `evolve`, but: there is no `restore_best`; `population_size` may be 1; the best unit is
    chosen by the fixed rows of `validation`, or on a validation batch; callbacks are told of the start and of the end;
    `record` of steps of generation 0, role "parent". Stopped, it returns the units as they are, with an empty history.

    Example:
        >>> config = gadam.GadamConfig(population_size=5, generations=1, steps=500)
        >>> ensemble = gadam.train(make_model, (inputs, targets), config).ensemble()

    Returns:
        The result: the population by the loss that the best is chosen by, lowest first; and a row of history for each
        unit, by its number (generation 0, role "parent", survived if that loss is finite).
    """
    config = _checked(config)
    training = Training(
        make_model, data, [config], [callbacks], [record], evolves=False, loss=loss, validation=validation,
        restore_best=False, executor=executor, device=device, checkpoint=checkpoint,
        checkpoint_seconds=checkpoint_seconds, progress=progress, stop=stop,
    )  # fmt: skip
    with training.running():
        training.data = draw_validation_batches(training.data, 0, training.configs)
        training.is_over = training.train_shards()
        if training.is_over and training.state.seeds[0].history.empty:  # else it was over before this call
            trained = Shard.join(training.state.shards)
            losses = trained.tensors.get("loss_validation", trained.tensors["loss_survival"])
            history = history_rows(trained, config.steps_of_a_line)
            history = history.assign(survived=losses.isfinite().tolist())
            units = trained.population.take(genetics.survivors(losses.double(), config.population_size))
            training.advance(replace(training.state, population=units, seeds=[SeedState(history)]))
            if diverged := int((~history["survived"]).sum()):
                warn(
                    f"train: {diverged} of {len(history)} units have a loss that is NaN or infinite, and come last in "
                    "the population; a lower learning rate may help"
                )
    return deliver(training.results(["generations" if training.is_over else ""])[0], training.interrupted)


def _checked(config: GadamConfig | None) -> GadamConfig:
    config = GadamConfig() if config is None else config
    check_kind("config", config, GadamConfig, "a gadam.GadamConfig or None")
    return config
