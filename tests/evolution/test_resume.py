"""A training that goes on from its checkpoint is the training that was never stopped, bit by bit."""

import errno
import os
import signal
from itertools import count

import numpy as np
import pytest
import torch
import zoo
from evolving import DATA, STEPS, Stop, Watch, assert_same, run, settings, timeless

from gadam import Callback, InputError, evolve, evolve_seeds, load_result, storage, train
from gadam.config import RESULTS_VERSION
from gadam.evolution import checkpoint, setup
from gadam.evolution.checkpoint import Checkpointer, checkpoints_in
from gadam.training import trainer

HINT = "give another path, or remove it to start anew"


@pytest.fixture(autouse=True)
def asked_after_each_step(monkeypatch):
    monkeypatch.setattr(trainer, "REPORT_SECONDS", 0)


VECTORISED, CARRY = {"mode": "vectorised"}, {"moments": "carry"}
CASES = {
    "evolve, one by one": (evolve, {}, zoo.dropout_mlp, 1),
    "evolve, shards of several": (evolve, {"shards": 2}, zoo.dropout_mlp, 3),
    "evolve, moments carried": (evolve, {"shards": 2} | CARRY, zoo.batchnorm_mlp, 1),
    "evolve, vectorised": (evolve, {"shards": 2} | VECTORISED, zoo.dropout_mlp, 1),
    "evolve, vectorised, moments carried": (evolve, VECTORISED | CARRY, zoo.batchnorm_mlp, 3),
    "evolve, own draws": (evolve, VECTORISED, zoo.Noisy, 1),
    "sgdm": (evolve, {"optimizer": "sgdm", "shards": 1}, zoo.mlp, 1),
    "rmsprop": (evolve, {"optimizer": "rmsprop"} | VECTORISED, zoo.mlp, 1),
    "seeds": (evolve_seeds, {"shards": 5}, zoo.dropout_mlp, 1),
    "seeds, vectorised": (evolve_seeds, {"shards": 2} | VECTORISED, zoo.dropout_mlp, 3),
    "train": (train, {}, zoo.dropout_mlp, 1),
    "train, one shard": (train, {"shards": 1} | CARRY, zoo.batchnorm_mlp, 1),
    "train, vectorised": (train, {"shards": 3} | VECTORISED, zoo.dropout_mlp, 3),
}


def observed(call, config, make, **given):
    """A list of results, and of what saw them; of several seeds one is stopped by its callback."""
    if call is not evolve_seeds:
        watch = Watch()
        return [run(config, make, call=call, callbacks=[watch], record=watch, **given)], [watch]
    watches = {seed: Watch(last=1 if seed == 0 else None) for seed in (3, 0)}
    results = run(
        config, make, call=call, seeds=list(watches), callbacks=lambda seed: [watches[seed]], record=watches.get,
        **given,
    )  # fmt: skip
    return results, list(watches.values())


@pytest.mark.parametrize("name", CASES)
def test_stopped_anywhere_it_goes_on_as_if_it_had_not(name, tmp_path):
    call, changed, make, executor = CASES[name]
    config, path, places = settings(**changed), tmp_path / "state", set()
    expected, complete = observed(call, config, make)
    more = 3 if config.mode == "loop" else 8
    for attempt in count():
        stop = Stop(more + 3 * (attempt % 4))
        results, watches = observed(call, config, make, executor=executor, checkpoint=path, stop=stop)
        if all(result.stopped != "stop" for result in results):
            break
        facts, _ = storage.read(path, "checkpoint")
        places |= {("child" if facts["parents"] else "parent", word) for word, _ in facts["parts"]}
    assert attempt > 1, "else it was hardly stopped"
    assert ("parent", "begun") in places
    assert ("child" in str(places)) == (call is not train)
    for result, whole, watch, all_seen in zip(results, expected, watches, complete, strict=True):
        assert_same(result, whole)
        assert watch.told == all_seen.told
        assert torch.equal(watch.losses, all_seen.losses)


def test_it_may_stop_between_any_two_steps_between_the_roles_and_at_the_end(tmp_path):
    """One unit at a time: this many questions come in a training whose units take one step each."""
    config = settings(population_size=2, steps=1)
    expected, places = run(config), set()
    for after in range(40):
        path = tmp_path / str(after)
        part = run(config, checkpoint=path, stop=Stop(after))
        facts, _ = storage.read(path, "checkpoint")
        places.add((facts["generation"], len(facts["parents"]), *(word for word, _ in facts["parts"])))
        assert zoo.same_population(load_result(path, zoo.dropout_mlp).population, part.population)
        assert timeless(part).equals(timeless(expected)[expected.history["generation"] < facts["generation"]])
        assert_same(run(config, checkpoint=path), expected)
        if part.stopped != "stop":
            break
    parents = [(0, "initial", "initial"), (0, "trained", "initial")]
    children = [(1, "fresh", "fresh"), (1, "trained", "fresh")]
    assert places >= {(number, *place) for number in (1, 2) for place in [*parents, *children]} | {(3, *parents[0])}


# --- after the end ---


@pytest.mark.parametrize("call", [evolve, train])
def test_a_finished_training_is_not_done_again(call, tmp_path, monkeypatch):
    steps = []
    expected = run(call=call, checkpoint=tmp_path / "state", record=steps.append)
    assert len(steps) == 16 * STEPS
    monkeypatch.setattr(storage, "write", None)  # a disk that is full or read-only by now does no harm
    again = run(call=call, checkpoint=tmp_path / "state", record=steps.append)
    assert len(steps) == 16 * STEPS
    assert_same(again, expected)
    assert again.history.equals(expected.history)
    kept = load_result(tmp_path / "state", zoo.dropout_mlp)
    assert zoo.same_population(kept.population, expected.population)
    assert kept.history.equals(expected.history)


def test_more_generations_may_follow_and_what_converged_or_was_ended_stays_so(tmp_path):
    run(settings(generations=1), checkpoint=tmp_path / "more")
    assert_same(run(checkpoint=tmp_path / "more"), run())
    for why, config, callbacks in (("converged", settings(threshold=1e9), []), ("callback", settings(), [Watch(1)])):
        first, second = (run(config, checkpoint=tmp_path / why, callbacks=callbacks) for _ in range(2))
        assert first.stopped == why
        assert_same(first, second)


# --- when it is written ---


def test_it_is_written_as_often_as_asked_at_little_cost_and_changes_nothing(tmp_path, monkeypatch):
    keeper = Checkpointer(tmp_path / "none", dict, None, seconds=2)
    assert keeper.seconds == 2
    keeper._cost = 0.5
    assert keeper.seconds == 50, "a hundredth of the time at most"
    written, write = [], storage.write
    monkeypatch.setattr(storage, "write", lambda *given: written.append(1) or write(*given))
    monkeypatch.setattr(checkpoint, "SHARE", 1e9)
    assert_same(run(checkpoint=tmp_path / "often", checkpoint_seconds=1e-9), run())
    assert len(written) > 8 * STEPS
    written.clear()
    run(checkpoint=tmp_path / "seldom", checkpoint_seconds=1e9)
    assert len(written) == 2, "to see whether it can be, and at the end"


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    path = stopped(tmp_path)
    before = path.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(storage.os, "fsync", full)
        assert "No space left on device" in complaint(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["state"]
    assert_same(run(checkpoint=path), run())


# --- what is refused ---


def stopped(tmp_path, **given):
    """A checkpoint in the middle of a training."""
    assert run(checkpoint=tmp_path / "state", stop=Stop(40), **given).stopped == "stop"
    return tmp_path / "state"


def complaint(path, *given, **named):
    before = path.read_bytes()
    with pytest.raises(InputError) as caught:
        run(*given, checkpoint=path, **named)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    assert path.read_bytes() == before
    return message


def drops_more():
    module = zoo.dropout_mlp()
    module[2].p = 0.5
    return module


class SilentlyOther(torch.nn.Sequential):
    """The same in words, and nearly in numbers."""

    def forward(self, inputs):
        return super().forward(inputs) * 1.0001


SilentlyOther.__name__ = "Sequential"


REFUSED = {
    "seed": ({"config": settings(seed=2)}, ["another config", "seed: 1 there, 2 here"]),
    "steps": ({"config": settings(steps=STEPS + 1)}, ["another config", "steps"]),
    "mode": ({"config": settings(mode="vectorised")}, ["another config", "mode"]),
    "model": ({"make": zoo.batchnorm_mlp}, ["another model"]),
    "dropout": ({"make": drops_more}, ["another model", "p=0.3", "p=0.5"]),
    "forward": ({"make": lambda: SilentlyOther(*zoo.dropout_mlp())}, ["another model or loss"]),
    "data": ({"data": (zoo.FEATURES + 1e-6, zoo.LABELS)}, ["other data"]),
    "validation": ({"validation": DATA}, ["other data"]),
    "callbacks": ({"callbacks": [Watch()]}, ["other callbacks"]),
    "seeds": ({"call": evolve_seeds, "seeds": [1, 2]}, ["another config", "seed"]),
    "no evolution": ({"call": train}, ["another way of training", "without evolution"]),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_checkpoint_of_something_else_is_refused(what, tmp_path):
    given, words = REFUSED[what]
    message = complaint(stopped(tmp_path), **given)
    assert all(word in message for word in [*words, HINT]), message


def test_a_checkpoint_of_other_seeds_or_of_another_length_of_train_is_refused(tmp_path):
    seeds, alone = tmp_path / "seeds", tmp_path / "alone"
    run(call=evolve_seeds, seeds=[3, 0], checkpoint=seeds)
    for others in ([3, 7], [3], [0, 3]):
        assert "another config" in complaint(seeds, call=evolve_seeds, seeds=others)
    assert "another config" in complaint(seeds, settings(seed=3))
    with pytest.raises(InputError, match="2 seeds, must be of one"):
        load_result(seeds, zoo.dropout_mlp)
    run(call=train, checkpoint=alone)
    assert "another way of training" in complaint(alone, settings(generations=3), call=train)
    assert "another way of training" in complaint(alone)
    run(settings(generations=3), checkpoint=tmp_path / "long")
    assert "generations=2; give at least as many" in complaint(tmp_path / "long")


def test_another_results_version_or_device_is_refused_and_another_processor_warned_of(tmp_path, monkeypatch):
    path = stopped(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "RESULTS_VERSION", 0)
        assert f"another results version of gadam ({RESULTS_VERSION} there, 0 here)" in complaint(path)
    facts, tensors = storage.read(path, "checkpoint")
    before = facts["identity"] | {"code": facts["identity"]["results"]}  # as it was called before there were versions
    del before["results"]
    storage.write(tmp_path / "before", "checkpoint", facts | {"identity": before}, tensors)
    assert f"(none there, {RESULTS_VERSION} here)" in complaint(tmp_path / "before")
    with monkeypatch.context() as patch:
        patch.setattr(setup, "identify", lambda *given: checkpoint.identify(*given) | {"device": "cuda"})
        assert "another kind of device (cpu there, cuda here)" in complaint(path)
    monkeypatch.setattr(checkpoint, "_processor", lambda device: "another")
    with pytest.warns(UserWarning, match="the last bits may differ") as warned:
        result = evolve(zoo.dropout_mlp, DATA, settings(), checkpoint=path, progress=False)
    assert warned[0].filename == __file__
    assert_same(result, run())


STRANGE = {
    "no identity": lambda facts: facts.pop("identity"),
    "no history": lambda facts: facts["courses"][0].pop("history"),
    "no seeds": lambda facts: facts.update(courses=[]),
    "before the first": lambda facts: facts.update(generation=-1),
    "another end": lambda facts: facts["courses"][0].update(stopped="x"),
    "another size": lambda facts: facts["parts"][0].__setitem__(1, 3),
    "another state": lambda facts: facts["parts"][-1].__setitem__(0, "begun"),
    "fewer units": lambda facts: None,
}


@pytest.mark.parametrize("what", STRANGE)
def test_a_whole_file_that_no_training_wrote_is_refused(what, tmp_path):
    path = stopped(tmp_path)
    facts, tensors = storage.read(path, "checkpoint")
    STRANGE[what](facts)
    if what == "fewer units":
        tensors = {name: entry[:3] if name.startswith("population/") else entry for name, entry in tensors.items()}
    storage.write(path, "checkpoint", facts, tensors)
    assert "is damaged" in complaint(path)


class Forgetful(Callback):
    def state_dict(self):
        return {"best": np.float32(1)}


def test_a_state_that_is_no_json_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"the state_dict of Forgetful must hold tensors and JSON values: .*float32"):
        run(checkpoint=tmp_path / "state", callbacks=[Forgetful()])
    assert not os.listdir(tmp_path)


# --- interrupts ---


@pytest.fixture
def terminated():
    """What another handler of SIGTERM, there before, hears."""
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append("SIGTERM"))
    yield heard
    signal.signal(signal.SIGTERM, before)


def interrupted(number, heard, **given):
    """Run a training that a signal ends, as that signal asks."""
    if number == signal.SIGTERM:
        run(**given)
        assert heard == ["SIGTERM"]
        return ""
    with pytest.raises(KeyboardInterrupt) as caught:
        run(**given)
    return str(caught.value)


@pytest.mark.parametrize("call", [evolve, train])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_training_after_a_step_with_a_checkpoint(number, call, tmp_path, capfd, terminated):
    path, steps = tmp_path / "state", []

    def record(step):
        steps.append(step.number)
        if len(steps) == 60:
            signal.raise_signal(number)

    said = interrupted(number, terminated, call=call, checkpoint=path, record=record) or capfd.readouterr().err
    assert f"stopped in generation {2 if call is evolve else 0}" in said
    assert str(path) in said
    assert len(steps) <= 61
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert_same(run(call=call, checkpoint=path), run(call=call))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_comes_when_the_training_is_over_is_not_lost(number, tmp_path, monkeypatch, terminated):
    end = Checkpointer.end
    with monkeypatch.context() as patch:
        patch.setattr(Checkpointer, "end", lambda *given, **named: (end(*given, **named), signal.raise_signal(number)))
        interrupted(number, terminated, executor=2, checkpoint=tmp_path / "state")
    assert_same(run(checkpoint=tmp_path / "state"), run())


class Complaining(Callback):
    def on_generation(self, generation):
        signal.raise_signal(signal.SIGINT)
        raise ZeroDivisionError


def test_an_interrupt_beside_an_error_or_without_a_checkpoint_is_not_lost(tmp_path):
    with pytest.raises(KeyboardInterrupt) as caught:
        run(checkpoint=tmp_path / "state", callbacks=[Complaining()])
    assert isinstance(caught.value.__context__, ZeroDivisionError)
    with pytest.raises(KeyboardInterrupt):
        run(record=lambda step: signal.raise_signal(signal.SIGINT))


# --- checkpoints of code that knows of none ---


def test_trainings_inside_checkpoints_in_keep_one_each(tmp_path):
    def both(after=1_000_000):
        return [run(call=call, stop=Stop(after)) for call in (evolve, train)]

    with checkpoints_in(tmp_path):
        assert [result.stopped for result in both(after=50)] == ["stop", "stop"]
    assert sorted(os.listdir(tmp_path)) == ["1.safetensors", "2.safetensors"]
    with checkpoints_in(tmp_path):
        for result, expected in zip(both(), both(), strict=True):
            assert_same(result, expected)


def test_inside_checkpoints_in_what_is_short_or_cannot_be_kept_is_done_without(tmp_path):
    with checkpoints_in(tmp_path):
        run()
        run(callbacks=[Callback()], stop=Stop(50))  # that could not be told of what was before
    assert not os.listdir(tmp_path)
    (tmp_path / "1.safetensors").write_text("damaged")
    with checkpoints_in(tmp_path), pytest.warns(UserWarning, match="damaged.*starts anew"):
        assert_same(run(), run())
    with checkpoints_in(tmp_path / "1.safetensors"), pytest.warns(UserWarning, match="without a checkpoint"):
        assert run(stop=Stop(50)).stopped == "stop"
