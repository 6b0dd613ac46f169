"""A training that goes on from its checkpoint is the training that was never stopped, bit by bit."""

import errno
import math
import os
import signal
import threading

import numpy as np
import pandas as pd
import pytest
import torch
import zoo

from gadam import Callback, GadamConfig, InputError, evolve, evolve_seeds, load_result, storage
from gadam.config import RESULTS_VERSION
from gadam.evolution import checkpoint
from gadam.evolution import loop as evolution
from gadam.evolution.checkpoint import checkpoints_in
from gadam.paper.units import independent
from gadam.training import trainer as training
from gadam.training.shards import TrainingError

STEPS = 9


def settings(**changed):
    default = {"population_size": 4, "generations": 3, "steps": STEPS, "batch_size": 8, "validation_size": 16}
    return GadamConfig(**default | {"mode": "loop", "seed": 1} | changed)


def run(config=None, case=None, executor=1, **given):
    case = case or zoo.Case(zoo.dropout_mlp)
    inputs, targets = case.inputs, case.targets
    return evolve(
        case.make, (inputs, targets), config or settings(), loss=case.loss, executor=executor, progress=False, **given
    )


class Stop(threading.Event):
    """Asks for a stop once it was asked so many times whether to."""

    def __init__(self, after):
        super().__init__()
        self._left = after

    def is_set(self):
        self._left -= 1
        return self._left < 0


@pytest.fixture(autouse=True)
def told_after_each_step(monkeypatch):
    monkeypatch.setattr(training, "PATIENCE", 0)


def assert_same(result, expected):
    assert zoo.same_population(result.population, expected.population)
    assert zoo.identical(result.best.state_dict(), expected.best.state_dict())
    pd.testing.assert_frame_equal(
        result.history.drop(columns="seconds"), expected.history.drop(columns="seconds"), check_exact=True
    )
    assert (result.stopped, result.gradient_steps, result.config) == (
        expected.stopped, expected.gradient_steps, expected.config,
    )  # fmt: skip


CASES = {
    "adam, one by one": ({}, zoo.Case(zoo.dropout_mlp)),
    "two shards of several, one by one": ({"shards": 2}, zoo.Case(zoo.dropout_mlp)),
    "moments carried": ({"shards": 2, "moments": "carry"}, zoo.Case(zoo.batchnorm_mlp)),
    "vectorised": ({"mode": "vectorised", "shards": 2}, zoo.Case(zoo.dropout_mlp)),
    "vectorised, moments carried": ({"mode": "vectorised", "moments": "carry"}, zoo.Case(zoo.batchnorm_mlp)),
    "sgdm": ({"optimizer": "sgdm", "shards": 1}, zoo.Case(zoo.mlp)),
    "rmsprop": ({"optimizer": "rmsprop", "mode": "vectorised"}, zoo.Case(zoo.mlp)),
    "adagrad": ({"optimizer": "adagrad", "shards": 1}, zoo.Case(zoo.mlp)),
    "adadelta": ({"optimizer": "adadelta", "mode": "vectorised"}, zoo.Case(zoo.mlp)),
    "own draws": ({"mode": "vectorised"}, zoo.ZOO["own draws"]),
}  # fmt: skip


@pytest.mark.parametrize("executor", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_stopped_anywhere_it_goes_on_as_if_it_had_not(name, executor, tmp_path):
    changed, case = CASES[name]
    config = settings(**changed)
    expected = run(config, case)
    for attempt in range(20):
        result = run(config, case, executor, checkpoint=tmp_path / "state", stop=Stop(after=13 + 2 * attempt))
        if result.stopped != "stop":
            break
    assert attempt > 1, "else it was hardly stopped"
    assert_same(result, expected)


# --- what is in a checkpoint, and when it is written ---


def stopped(tmp_path, config=None, after=40, **given):
    """A checkpoint in the middle of a training."""
    path = tmp_path / "state"
    assert run(config, checkpoint=path, stop=Stop(after), **given).stopped == "stop"
    return path


def test_a_stopped_training_gives_its_last_complete_generation(tmp_path):
    path = tmp_path / "state"
    parts = [run(checkpoint=path, stop=Stop(after)) for after in (3, 100, 80)]
    assert [part.stopped for part in parts] == ["stop"] * 3
    assert parts[0].history.empty
    generations = [int(part.history["generation"].max()) for part in parts[1:]]
    assert generations[0] < generations[1] < 3
    for number, part in zip(generations, parts[1:], strict=True):
        assert zoo.same_population(part.population, run(settings(generations=number)).population)


def test_a_finished_training_is_not_done_again(tmp_path, monkeypatch):
    steps = []
    expected = run(checkpoint=tmp_path / "state", record=steps.append)
    assert len(steps) == 3 * 8 * STEPS
    again = run(checkpoint=tmp_path / "state", record=steps.append)
    assert len(steps) == 3 * 8 * STEPS
    assert_same(again, expected)
    pd.testing.assert_frame_equal(again.history, expected.history)
    with monkeypatch.context() as patch:
        patch.setattr(storage, "write", None)  # a disk that is full or read-only by now does no harm
        assert_same(run(checkpoint=tmp_path / "state"), expected)


def test_more_generations_may_follow(tmp_path):
    run(settings(generations=1), checkpoint=tmp_path / "state")
    assert_same(run(settings(generations=3), checkpoint=tmp_path / "state"), run())


def test_a_converged_training_stays_so(tmp_path):
    config = settings(threshold=1e9)
    results = [run(config, checkpoint=tmp_path / "state") for _ in range(2)]
    assert [result.stopped for result in results] == ["converged"] * 2
    assert_same(*results)


def test_a_training_that_a_callback_stopped_stays_so(tmp_path):
    class Enough(Callback):
        def on_generation(self, generation):
            return True

    results = [run(checkpoint=tmp_path / "state", callbacks=[Enough()]) for _ in range(2)]
    assert [result.stopped for result in results] == ["callback"] * 2
    assert_same(*results)


def test_it_is_written_as_often_as_asked_and_changes_nothing(tmp_path, monkeypatch):
    written = []
    real = storage.write
    monkeypatch.setattr(storage, "write", lambda *given: written.append(1) or real(*given))
    monkeypatch.setattr(checkpoint, "SHARE", 1e9)
    assert_same(run(checkpoint=tmp_path / "often", checkpoint_seconds=1e-9), run())
    assert len(written) > 3 * 8 * STEPS / 2
    written.clear()
    run(checkpoint=tmp_path / "seldom", checkpoint_seconds=1e9)
    assert len(written) == 2, "to see whether it can be, and at the end"


def test_writing_takes_a_small_share_of_the_time(tmp_path):
    keeper = checkpoint.Keeper(tmp_path / "state", dict, None, seconds=2)
    assert keeper.seconds == 2
    keeper._cost = 0.5
    assert keeper.seconds == 50


class Watch(Callback):
    """Sees every generation and every step, whatever comes between."""

    def __init__(self):
        self.numbers, self.losses = [], torch.zeros(3, 2, STEPS, 4)

    def on_generation(self, generation):
        self.numbers.append(generation.number)

    def __call__(self, step):
        place = self.losses[step.generation - 1, int(step.role == "child"), step.number - 1]
        place[step.units.start : step.units.stop] = step.losses

    def state_dict(self):
        return {"numbers": self.numbers, "losses": self.losses}

    def load_state_dict(self, state):
        self.numbers, self.losses = state["numbers"], state["losses"]


def test_callbacks_and_records_go_on_too(tmp_path):
    expected = Watch()
    run(callbacks=[expected], record=expected)
    for _ in range(20):
        watch = Watch()
        if run(callbacks=[watch], record=watch, checkpoint=tmp_path / "state", stop=Stop(25)).stopped != "stop":
            break
    assert watch.numbers == [1, 2, 3]
    assert torch.equal(watch.losses, expected.losses)
    assert watch.losses.all()


# --- what is refused ---


def complaint(path, config=None, case=None, **given):
    with pytest.raises(InputError) as caught:
        run(config, case, checkpoint=path, **given)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def drops_more():
    module = zoo.dropout_mlp()
    module[2].p = 0.5
    return module


def clipped():
    """Of the same shapes, and on small numbers with the same outputs."""
    first, _, drop, last = zoo.dropout_mlp()
    return torch.nn.Sequential(first, torch.nn.ReLU6(), drop, last)


class SilentlyOther(torch.nn.Sequential):
    """The same in words, and nearly in numbers."""

    def forward(self, inputs):
        return super().forward(inputs) * 1.0001


SilentlyOther.__name__ = "Sequential"


def silently_other():
    return SilentlyOther(*zoo.dropout_mlp())


def slightly_more(output, targets):
    return 1.0005 * torch.nn.functional.cross_entropy(output, targets)


def other_rows():
    case = zoo.Case(zoo.dropout_mlp)
    return zoo.Case(case.make, inputs=case.inputs + 1e-6)


@pytest.mark.parametrize(
    ("config", "case", "words"),
    [
        (settings(seed=2), None, ["another config", "seed: 1 there, 2 here"]),
        (settings(steps=STEPS + 1), None, ["another config", "steps: 9 there, 10 here"]),
        (settings(mode="vectorised"), None, ["another config", "mode"]),
        (None, zoo.Case(zoo.batchnorm_mlp), ["another model", "there"]),
        (None, zoo.Case(drops_more), ["another model", "Dropout(p=0.3, inplace=False) there", "Dropout(p=0.5, "]),
        (None, zoo.Case(clipped), ["another model", "ReLU() there, (1): ReLU6() here"]),
        (None, zoo.Case(zoo.dropout_mlp, loss=slightly_more), ["another model or loss", "a fresh unit loses"]),
        (None, zoo.Case(silently_other), ["another model or loss", "a fresh unit loses"]),
        (None, other_rows(), ["other data"]),
    ],
    ids=["seed", "steps", "mode", "model", "dropout", "activation", "loss", "forward", "data"],
)
def test_a_checkpoint_of_something_else_is_refused(config, case, words, tmp_path):
    path = stopped(tmp_path)
    before = path.read_bytes()
    message = complaint(path, config, case)
    assert all(word in message for word in [*words, "give another path, or remove it to start anew"]), message
    assert path.read_bytes() == before


def test_another_results_version_and_other_callbacks_are_refused(tmp_path, monkeypatch):
    path = stopped(tmp_path)
    assert "other callbacks" in complaint(path, callbacks=[Watch()])
    monkeypatch.setattr(checkpoint, "RESULTS_VERSION", 0)
    assert f"of another results version of gadam ({RESULTS_VERSION} there, 0 here)" in complaint(path)


def test_a_checkpoint_of_before_there_were_results_versions_is_refused_in_a_line_that_says_what_to_do(tmp_path):
    path = stopped(tmp_path)
    facts, tensors = storage.read(path, "checkpoint")
    facts["identity"] = {
        "code" if name == "results" else name: "3f" * 32 if name == "results" else value
        for name, value in facts["identity"].items()
    }
    storage.write(path, "checkpoint", facts, tensors)
    assert complaint(path) == (
        f"checkpoint: '{path}' is of another results version of gadam (none there, {RESULTS_VERSION} here); "
        "give another path, or remove it to start anew"
    )
    assert load_result(path, zoo.dropout_mlp).stopped == "stop", "what it holds can be had all the same"


def test_a_saved_result_is_of_no_version_of_the_engine(tmp_path, monkeypatch):
    """So whatever `Result.save` has written still loads."""
    expected = run(settings(generations=1))
    expected.save(tmp_path / "saved")
    facts, _ = storage.read(tmp_path / "saved", "result")
    assert not {"results", "code", "identity", "version"} & facts.keys()
    monkeypatch.setattr("gadam.config.RESULTS_VERSION", 99)
    monkeypatch.setattr(checkpoint, "RESULTS_VERSION", 99)
    assert_same(load_result(tmp_path / "saved", zoo.dropout_mlp), expected)


def test_another_kind_of_device_is_refused(tmp_path, monkeypatch):
    path = stopped(tmp_path)
    monkeypatch.setattr(evolution, "identify", lambda *given: checkpoint.identify(*given) | {"device": "cuda"})
    assert "of another kind of device (cpu there, cuda here)" in complaint(path)


def test_fewer_generations_than_it_holds_are_refused(tmp_path):
    run(checkpoint=tmp_path / "state")
    message = complaint(tmp_path / "state", settings(generations=2))
    assert message == (
        f"checkpoint: '{tmp_path / 'state'}' holds 3 generations, config asks for generations=2; give at least as "
        "many, or another path"
    )


class Remembers(Callback):
    def __init__(self, best):
        self.best = best

    def state_dict(self):
        return {"best": self.best}

    def load_state_dict(self, state):
        self.best = state["best"]


def test_what_a_callback_remembers_may_be_infinite_and_must_be_json(tmp_path):
    path = stopped(tmp_path, callbacks=[Remembers(math.inf)])
    again = Remembers(0.0)
    run(checkpoint=path, callbacks=[again])
    assert again.best == math.inf
    with pytest.raises(InputError, match=r"the state_dict of Remembers must hold tensors and JSON values: .*float32"):
        run(checkpoint=tmp_path / "other", callbacks=[Remembers(np.float32(1))])
    assert not (tmp_path / "other").exists()


def test_another_processor_or_pytorch_goes_on_with_a_warning(tmp_path, monkeypatch):
    path = stopped(tmp_path)
    monkeypatch.setattr(checkpoint, "_processor", lambda device: "another")
    with pytest.warns(UserWarning, match="the last bits may differ") as warned:
        assert_same(run(checkpoint=path), run())
    assert warned[0].filename == __file__  # where evolve() was called


@pytest.mark.parametrize("what", ["a text", "a result", "a folder", "nothing"])
def test_a_file_that_is_no_checkpoint_is_refused_and_stays(what, tmp_path):
    path = tmp_path / "state"
    if what == "a folder":
        path.mkdir()
    elif what == "a result":
        run().save(path)
    else:
        path.write_text("text" * (what == "a text"))
    message = complaint(path)
    assert (
        "holds a result" if what == "a result" else "cannot be read" if what == "a folder" else "damaged"
    ) in message
    assert path.exists()


def test_a_damaged_checkpoint_is_refused(tmp_path):
    path = stopped(tmp_path)
    content = path.read_bytes()
    for place in [0, 5, 9, 300, len(content) // 2, len(content) - 1]:
        path.write_bytes(content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :])
        assert "damaged" in complaint(path)
    path.write_bytes(content[:-1])
    assert "damaged" in complaint(path)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), "60", True])
def test_an_interval_is_a_positive_number(seconds, tmp_path):
    with pytest.raises(InputError, match="checkpoint_seconds"):
        run(checkpoint=tmp_path / "state", checkpoint_seconds=seconds)


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    path = stopped(tmp_path)
    before = path.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage.os, "fsync", full)
    assert "No space left on device" in complaint(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["state"]
    monkeypatch.undo()
    assert_same(run(checkpoint=path), run())


# --- signals ---


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_training_after_a_step_with_a_checkpoint(number, tmp_path, capfd):
    path, steps, others = tmp_path / "state", [], []
    before = signal.signal(signal.SIGTERM, lambda *_: others.append("the handler there was"))

    def record(step):
        steps.append(step.number)
        if len(steps) == 100:
            signal.raise_signal(number)

    try:
        if number == signal.SIGINT:
            with pytest.raises(KeyboardInterrupt, match=r"stopped in generation 2, .* goes on from checkpoint="):
                run(checkpoint=path, record=record)
        else:
            run(checkpoint=path, record=record)
            assert others == ["the handler there was"]
            assert "stopped in generation 2" in capfd.readouterr().err
        assert len(steps) <= 101
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)
    assert_same(run(checkpoint=path), run())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_comes_when_the_training_is_over_is_not_lost(number, tmp_path, monkeypatch):
    others, end = [], checkpoint.Keeper.end

    def then_signal(*given, **named):
        end(*given, **named)
        signal.raise_signal(number)

    monkeypatch.setattr(checkpoint.Keeper, "end", then_signal)
    before = signal.signal(signal.SIGTERM, lambda *_: others.append("the handler there was"))
    try:
        if number == signal.SIGINT:
            with pytest.raises(KeyboardInterrupt):
                run(executor=2, checkpoint=tmp_path / "state")
        else:
            run(executor=2, checkpoint=tmp_path / "state")
            assert others == ["the handler there was"]
    finally:
        signal.signal(signal.SIGTERM, before)
    monkeypatch.undo()
    assert_same(run(checkpoint=tmp_path / "state"), run())


class Complaining(Callback):
    def on_generation(self, generation):
        signal.raise_signal(signal.SIGINT)
        raise ZeroDivisionError


def test_an_interrupt_beside_an_error_is_not_lost(tmp_path):
    with pytest.raises(KeyboardInterrupt) as caught:
        run(checkpoint=tmp_path / "state", callbacks=[Complaining()])
    assert isinstance(caught.value.__context__, ZeroDivisionError)


# --- trainings that cannot go on ---


class Sick(torch.nn.Module):
    """Fine until `bad`."""

    bad = False

    def __init__(self):
        super().__init__()
        self.layers = zoo.dropout_mlp()

    def forward(self, inputs):
        return self.layers(inputs) * (float("nan") if Sick.bad and self.training else 1.0)


class FallIll(Callback):
    def __init__(self, number):
        self.number = number

    def on_generation(self, generation):
        Sick.bad = generation.number >= self.number


@pytest.mark.parametrize("seconds", [1e-4, 60.0])
def test_of_a_population_gone_bad_the_checkpoint_holds_the_last_good_generation(seconds, tmp_path, monkeypatch):
    monkeypatch.setattr(Sick, "bad", False)
    path, case = tmp_path / "state", zoo.Case(Sick)
    with pytest.raises(TrainingError, match=r"generation 2: every unit .*; checkpoint=.* holds the population before"):
        run(case=case, checkpoint=path, checkpoint_seconds=seconds, callbacks=[FallIll(1)])
    Sick.bad = False
    whole = run(case=case)
    kept = load_result(path, Sick)
    first = run(settings(generations=1), case)
    assert zoo.same_population(kept.population, first.population)
    assert (kept.stopped, kept.config, kept.targets) == ("stop", first.config, "classes")
    pd.testing.assert_frame_equal(kept.history.drop(columns="seconds"), first.history.drop(columns="seconds"))
    assert_same(run(case=case, checkpoint=path, callbacks=[FallIll(9)]), whole)


def test_of_several_seeds_a_checkpoint_is_no_result(tmp_path):
    evolve_seeds(
        zoo.mlp, (zoo.FEATURES, zoo.LABELS), settings(), seeds=[1, 2], checkpoint=tmp_path / "state", progress=False
    )
    with pytest.raises(InputError, match="holds a training of 2 seeds, must be of one"):
        load_result(tmp_path / "state", zoo.mlp)


STRANGE = {
    "no identity": lambda facts: facts.pop("identity"),
    "no data": lambda facts: facts["identity"].pop("data"),
    "no history": lambda facts: facts["courses"][0].pop("history"),
    "no courses": lambda facts: facts.update(courses=[]),
    "no states": lambda facts: facts.pop("states"),
    "parts of a text": lambda facts: facts.update(parts="x"),
    "before the first": lambda facts: facts.update(generation=-1),
    "a word for a number": lambda facts: facts.update(generation="two"),
    "another end": lambda facts: facts["courses"][0].update(stopped="x"),
    "another size": lambda facts: facts["parts"][0].__setitem__(1, 3),
}


@pytest.mark.parametrize("what", STRANGE)
def test_a_whole_checkpoint_that_no_training_wrote_is_refused(what, tmp_path):
    path = stopped(tmp_path)
    facts, tensors = storage.read(path, "checkpoint")
    STRANGE[what](facts)
    storage.write(path, "checkpoint", facts, tensors)
    assert "is damaged" in complaint(path)


def test_a_checkpoint_of_fewer_units_is_refused(tmp_path):
    path = stopped(tmp_path)
    facts, tensors = storage.read(path, "checkpoint")
    fewer = {name: entry[:3] if name.startswith("population/") else entry for name, entry in tensors.items()}
    storage.write(path, "checkpoint", facts, fewer)
    assert "3 units, must be 4" in complaint(path)


def test_without_a_checkpoint_an_interrupt_is_what_it_always_was():
    def record(step):
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as caught:
        run(record=record)
    assert not str(caught.value)


# --- checkpoints of code that knows of none ---


def test_trainings_inside_checkpoints_in_keep_one_each(tmp_path):
    expected = [run(settings(seed=seed)) for seed in (1, 2)]
    with checkpoints_in(tmp_path):
        assert run(settings(seed=1), stop=Stop(90)).stopped == "stop"
        assert run(settings(seed=2), stop=Stop(30)).stopped == "stop"
    assert sorted(os.listdir(tmp_path)) == ["1.safetensors", "2.safetensors"]
    with checkpoints_in(tmp_path):
        again = [run(settings(seed=seed)) for seed in (1, 2)]
    for result, other in zip(again, expected, strict=True):
        assert_same(result, other)


def test_a_short_training_inside_checkpoints_in_writes_nothing(tmp_path):
    with checkpoints_in(tmp_path):
        run()
    assert not os.listdir(tmp_path)


def test_inside_checkpoints_in_who_watches_and_cannot_be_told_of_before_sees_all(tmp_path):
    with checkpoints_in(tmp_path):
        run(callbacks=[Callback()])
        run(record=lambda step: None)
    assert not os.listdir(tmp_path)


def test_inside_checkpoints_in_what_cannot_be_used_is_replaced_with_a_warning(tmp_path):
    (tmp_path / "1.safetensors").write_text("damaged")
    with checkpoints_in(tmp_path), pytest.warns(UserWarning, match="damaged.*starts anew"):
        assert_same(run(), run())


def test_inside_checkpoints_in_what_cannot_be_written_is_done_without(tmp_path):
    (tmp_path / "file").write_text("")
    with checkpoints_in(tmp_path / "file"), pytest.warns(UserWarning, match="cannot be written.*without a checkpoint"):
        assert run(stop=Stop(90)).stopped == "stop"


def test_units_without_evolution_go_on_too(tmp_path):
    rows, config = (zoo.FEATURES, zoo.LABELS), settings(steps=300)
    expected = independent(zoo.dropout_mlp, rows, config)
    script = Interrupt(after=500)
    with checkpoints_in(tmp_path):
        with pytest.raises(KeyboardInterrupt, match="goes on from"):
            independent(zoo.dropout_mlp, rows, config, record=script)
        assert os.listdir(tmp_path) == ["1.safetensors"]
    with checkpoints_in(tmp_path):
        went_on = Interrupt(after=10_000)
        assert zoo.same_population(independent(zoo.dropout_mlp, rows, config, record=went_on), expected)
    assert 500 < went_on.seen == 4 * 300


class Interrupt:
    def __init__(self, after):
        self.seen, self.after = 0, after

    def __call__(self, step):
        self.seen += 1
        if self.seen == self.after:
            signal.raise_signal(signal.SIGINT)

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.seen = state["seen"]
