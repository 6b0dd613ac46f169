"""A training that goes on from its checkpoint is the training that was never stopped, bit by bit."""

import functools
import os
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import torch
import zoo
from evolving import DATA, STEPS, WAYS, Stop, Watch, reference, run, run_way, settings

from gadam import Callback, InputError, evolve, evolve_seeds, load_result, storage, train
from gadam.config import RESULTS_VERSION
from gadam.evolution import checkpoint
from gadam.evolution.checkpoint import checkpoints_in
from gadam.evolution.state import EvolutionState, SeedState, from_file, to_file
from gadam.population import Population
from gadam.training.shards import Shard, TrainingError

HINT = "give another path, or remove it to start anew"


RESUMED = [
    *((evolve, way) for way in WAYS),
    *((evolve_seeds, way) for way in ("own rates", "traced", "taught by half")),
    *((train, way) for way in ("one by one", "traced, own rates")),
]


def observed(call, way, **given):
    """A list of results, and of what saw them; of several seeds one is stopped by its callback."""
    if call is not evolve_seeds:
        watch = Watch()
        return [run_way(way, call=call, callbacks=[watch], record=watch, **given)], [watch]
    watches = {seed: Watch(last=1 if seed == 0 else None) for seed in (3, 0)}
    given |= {"callbacks": lambda seed: [watches[seed]], "record": watches.get}
    return run_way(way, call=call, seeds=list(watches), **given), list(watches.values())


@pytest.mark.parametrize(("call", "way"), RESUMED)
def test_stopped_anywhere_it_goes_on_as_if_it_had_not(call, way, tmp_path):
    path, places = tmp_path / "state", set()
    expected, complete = zip(reference(way), strict=True) if call is evolve else observed(call, way)
    for attempt in count():
        stop = Stop(4 + 3 * (attempt % 4))  # the first in the calling thread, after three steps of the first shard
        results, watches = observed(call, way, executor=(1, 3)[attempt % 2], checkpoint=path, stop=stop)
        if all(result.stopped != "stop" for result in results):
            break
        facts, _ = storage.read(path, "checkpoint")
        places |= {("child" if facts["parents"] else "parent", word) for word, _ in facts["parts"]}
    assert attempt > 1, "else it was hardly stopped"
    assert ("parent", "begun") in places
    assert ("child" in str(places)) == (call is not train)
    for result, whole, watch, all_seen in zip(results, expected, watches, complete, strict=True):
        zoo.assert_same(result, whole)
        assert watch.told == all_seen.told
        assert torch.equal(watch.losses, all_seen.losses)
        assert sum(watch.taken) == sum(all_seen.taken) == whole.history["steps"].sum(), "each step is told, and once"


def test_a_record_alone_is_kept_with_the_checkpoint_too(tmp_path):
    whole, resumed = Watch(), Watch()
    run(record=whole)
    run(record=Watch(), checkpoint=tmp_path / "state", stop=Stop(30))
    run(record=resumed, checkpoint=tmp_path / "state")
    assert torch.equal(resumed.losses, whole.losses)


# --- after the end ---


@pytest.mark.parametrize("call", [evolve, train])
def test_a_finished_training_is_not_done_again(call, tmp_path, monkeypatch):
    steps = []
    expected = run(call=call, checkpoint=tmp_path / "state", record=steps.append)
    monkeypatch.setattr(storage, "write", None)  # a disk that is full or read-only by now does no harm
    again = run(call=call, checkpoint=tmp_path / "state", record=steps.append)
    assert len(steps) == 16 * STEPS
    for kept in (again, load_result(tmp_path / "state", zoo.dropout_mlp)):
        assert zoo.same_population(kept.population, expected.population)
        assert kept.history.equals(expected.history)


def test_a_disk_that_is_full_later_costs_nothing_but_what_is_kept(tmp_path, monkeypatch):
    path, write = tmp_path / "state", storage.write

    def fills(target, *given):
        if target.exists() or target != path:
            raise InputError("path='state' cannot be written: No space left on device")
        write(target, *given)

    monkeypatch.setattr(storage, "write", fills)
    with pytest.warns(UserWarning, match=r"^checkpoint: .* No space left on device; the training goes on"):
        zoo.assert_same(run(checkpoint=path, checkpoint_seconds=1e-4), run())
    with pytest.raises(InputError, match=r"^checkpoint: .* No space left on device$"):
        run(checkpoint=tmp_path / "another")
    monkeypatch.undo()
    zoo.assert_same(run(checkpoint=path), run())


def test_where_nobody_hears_there_is_no_bar(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    for progress in (None, True):
        run(progress=progress)


def test_more_generations_may_follow_and_what_converged_or_was_ended_stays_so(tmp_path):
    run(settings(generations=1), checkpoint=tmp_path / "more")
    zoo.assert_same(run(checkpoint=tmp_path / "more"), run())
    for why, config, callbacks in (("converged", settings(threshold=1e9), []), ("callback", settings(), [Watch(1)])):
        first, second = (run(config, checkpoint=tmp_path / why, callbacks=callbacks) for _ in range(2))
        assert first.stopped == why
        zoo.assert_same(first, second)


# --- when it is written ---


def test_it_is_written_as_often_as_asked_where_that_costs_little_and_changes_nothing(tmp_path, monkeypatch):
    write, config = storage.write, settings(child_steps=STEPS + 1)
    for way, pause, seconds, few in (("often", 0, 1e-9, False), ("seldom", 0, 1e9, True), ("slowly", 0.3, 1e-9, True)):
        written = Mock(side_effect=lambda *given, pause=pause: time.sleep(pause) or write(*given))
        monkeypatch.setattr(storage, "write", written)
        monkeypatch.setattr(checkpoint, "SHARE", 0.01 if few else 1e9)
        zoo.assert_same(run(config, checkpoint=tmp_path / way, checkpoint_seconds=seconds), run(config))
        # To see whether it can be, and at the end; a hundredth of 30 seconds is a write in between, if it is slow.
        assert 2 <= written.call_count <= 3 if few else written.call_count > 15 * STEPS


# --- what is refused ---


@functools.cache
def content_of_stopped(validated):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state"
        assert run(checkpoint=path, stop=Stop(40), validation=DATA if validated else None).stopped == "stop"
        return path.read_bytes()


def stopped(folder, *, validated=False):
    """A checkpoint in the middle of a training."""
    (folder / "state").write_bytes(content_of_stopped(validated))
    return folder / "state"


def refusal(path, **given):
    before = path.read_bytes()
    message = zoo.complaint(run, checkpoint=path, **given)
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
    "model": ({"make": zoo.batchnorm_mlp}, ["another model"]),
    "dropout": ({"make": drops_more}, ["another model", "p=0.3", "p=0.5"]),
    "forward": ({"make": lambda: SilentlyOther(*zoo.dropout_mlp())}, ["another model or loss"]),
    "data": ({"data": (zoo.FEATURES + 1e-6, zoo.LABELS)}, ["other data"]),
    "no validation": ({}, ["other data"]),
    "other validation": ({"validation": (zoo.FEATURES.flip(0), zoo.LABELS.flip(0))}, ["other data"]),
    "callbacks": ({"callbacks": [Watch()]}, ["other callbacks"]),
    "seeds": ({"call": evolve_seeds, "seeds": [1, 2]}, ["another config", "seed"]),
    "no evolution": ({"call": train}, ["another way of training", "without evolution"]),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_checkpoint_of_something_else_is_refused(what, tmp_path):
    now, words = REFUSED[what]
    message = refusal(stopped(tmp_path, validated=what in ("no validation", "other validation")), **now)
    assert all(word in message for word in [*words, HINT]), message


def test_a_checkpoint_of_other_seeds_or_of_another_length_is_refused(tmp_path):
    seeds, alone = tmp_path / "seeds", tmp_path / "alone"
    run(settings(generations=1), call=evolve_seeds, seeds=[3, 0], checkpoint=seeds)
    for others in ([3, 7], [3], [0, 3]):
        assert "another config" in refusal(seeds, call=evolve_seeds, seeds=others)
    assert "2 seeds, must be of one" in zoo.complaint(load_result, seeds, zoo.dropout_mlp)
    run(call=train, checkpoint=alone)
    assert "another way of training" in refusal(alone, config=settings(generations=3), call=train)
    run(checkpoint=tmp_path / "long")
    assert "generations=1; give at least as many" in refusal(tmp_path / "long", config=settings(generations=1))


def test_every_number_of_the_rows_counts_and_their_shapes(monkeypatch):
    monkeypatch.setattr(checkpoint, "PIECE", 64)
    first, second, targets = torch.zeros(40, 2), torch.zeros(40, 3), torch.zeros(40, dtype=torch.int64)
    batches, digests = [((first, second), targets)] * 2, set()
    for place in range(7):  # the last entry of one of them; the last time none
        tensors = [tensor.clone() for tensor in (first, second, targets) * 2]
        for tensor in tensors[place : place + 1]:
            tensor.flatten()[-1] = 1
        digests.add(checkpoint._sha256([(tensors[:2], tensors[2]), (tensors[3:5], tensors[5])]))
    digests.add(checkpoint._sha256([((first.view(80, 1), second), targets), batches[1]]))
    assert len(digests) == 8


def rewritten(path, change):
    """The same file with other facts."""
    facts, tensors = storage.read(path, "checkpoint")
    change(facts)
    storage.write(path, "checkpoint", facts, tensors)
    return path


def of(**changed):
    """Change the identity of a checkpoint."""
    return lambda facts: facts["identity"].update(changed)


def test_what_another_gadam_or_device_wrote_is_refused_and_another_processor_warned_of(tmp_path):
    for change, words in (
        (of(results=0), f"another results version of gadam (0 there, {RESULTS_VERSION} here)"),
        (of(device="cuda"), "another kind of device (cuda there, cpu here)"),
        (lambda facts: facts["identity"].pop("results"), f"(none there, {RESULTS_VERSION} here)"),
        (lambda facts: facts["identity"]["config"].update(later=None), "later: None there, nothing here"),
        (lambda facts: facts.pop("identity"), "is damaged"),  # a file that no training wrote
    ):
        assert words in refusal(rewritten(stopped(tmp_path), change))
    loss = float(storage.read(stopped(tmp_path), "checkpoint")[0]["identity"]["fresh_loss"])
    path = rewritten(stopped(tmp_path), of(computed_by="another", fresh_loss=repr(1.1 * loss)))
    assert "another model or loss" in refusal(path)
    for rounded in (loss, loss * (1 + 1e-6)):
        path = rewritten(stopped(tmp_path), of(computed_by="another", fresh_loss=repr(rounded)))
        with pytest.warns(UserWarning, match="the last bits may differ") as warned:
            result = evolve(zoo.dropout_mlp, DATA, settings(), checkpoint=path, progress=False)
        assert warned[0].filename == __file__
        zoo.assert_same(result, run())


def test_a_setting_that_is_younger_than_the_checkpoint_has_its_default(tmp_path):
    path = rewritten(stopped(tmp_path), lambda facts: facts["identity"]["config"].pop("epsilon"))
    assert "epsilon: 1e-08 there, 0.5 here" in refusal(path, config=settings(epsilon=0.5))
    zoo.assert_same(run(checkpoint=path), run())


def test_too_little_memory_in_mid_training_costs_nothing_that_was_kept(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint"
    monkeypatch.setattr(checkpoint, "SHARE", 1.0)

    def full(step):
        if step.number == 2 * STEPS and step.units[0] == 3:
            raise TrainingError("too little memory")

    given = {"call": train, "checkpoint": path, "checkpoint_seconds": 1e-9, "record": full}
    with pytest.raises(TrainingError, match=r"^too little memory; the same call goes on from checkpoint="):
        run(**given)
    first = []
    result = run(**given | {"record": lambda step: first.append(step.number)})
    assert len(first) < 4 * 4 * STEPS, "it does not begin anew"
    zoo.assert_same(result, run(call=train))


def test_after_too_little_memory_a_record_is_told_again_what_was_not_kept(tmp_path):
    class Fails(Watch):
        def __call__(self, step):
            super().__call__(step)
            if step.number == STEPS // 2 and step.units[0] == 3:
                raise TrainingError("too little memory")

    failing, resumed = Fails(), Watch()
    with pytest.raises(TrainingError, match=r"the same call goes on from checkpoint="):
        run(checkpoint=tmp_path / "state", record=failing)
    assert failing.taken
    result = run(checkpoint=tmp_path / "state", record=resumed)
    assert sum(resumed.taken) == result.history["steps"].sum(), "each step is told, and once"


def test_units_are_read_onto_the_device_of_the_training_whatever_their_tensors_are_called():
    module = zoo.dropout_mlp()
    module.register_buffer("steps", torch.zeros(1))  # as a shard calls what stays on the CPU
    population = Population.stack([module, module])
    shard = Shard(population, range(2), "child", 1, steps=torch.zeros(2), loss_start=torch.zeros(2))
    seeds = [SeedState(pd.DataFrame(), losses=[torch.zeros(2)])]
    facts, tensors = to_file(EvolutionState(1, population, [shard], seeds, 1))
    order = replace(population, parameters={name: t.to("meta") for name, t in population.parameters.items()})
    state = from_file(facts, tensors, order)
    (read,), (seed,) = state.shards, state.seeds
    moved = [*state.population.buffers.values(), *read.population.buffers.values(), read.loss_start, *seed.losses]
    assert {str(tensor.device) for tensor in moved} == {"meta"}
    assert str(read.steps.device) == "cpu"


class Keeps(Callback):
    def __init__(self, value):
        self.value = value

    def state_dict(self):
        return {"value": self.value}

    def load_state_dict(self, state):
        self.value = state["value"]


@pytest.mark.parametrize("value", [object(), {"best": torch.ones(1)}, {1: 2}, [{"of": {2.0: "units"}}]])
def test_a_state_that_is_no_json_is_refused(value, tmp_path):
    message = zoo.complaint(run, checkpoint=tmp_path / "state", callbacks=[Keeps(value)])
    assert "the state_dict of Keeps must hold tensors and JSON values: has " in message
    assert not os.listdir(tmp_path)


def test_a_state_of_numbers_of_numpy_is_kept_and_one_that_is_no_json_later_costs_nothing(tmp_path):
    run(checkpoint=tmp_path / "state", callbacks=[Keeps([np.float32(0.5), np.int64(3)])])
    again = Keeps(None)
    run(checkpoint=tmp_path / "state", callbacks=[again])
    assert again.value == [0.5, 3]
    later = Keeps(0)
    with pytest.warns(UserWarning, match=r"^checkpoint: the state_dict of Keeps .* the training goes on"):
        run(checkpoint=tmp_path / "another", callbacks=[later], record=lambda _: setattr(later, "value", object()))


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


@pytest.mark.parametrize(
    ("number", "call"), [(signal.SIGINT, evolve), (signal.SIGINT, train), (signal.SIGTERM, evolve)]
)
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
    zoo.assert_same(run(call=call, checkpoint=path), run(call=call))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_comes_while_the_end_is_written_is_not_lost(number, tmp_path, monkeypatch, terminated):
    def write(path, kind, facts, tensors, write=storage.write):
        write(path, kind, facts, tensors)
        if facts["generation"] > 2:
            signal.raise_signal(number)

    with monkeypatch.context() as patch:
        patch.setattr(storage, "write", write)
        interrupted(number, terminated, executor=2, checkpoint=tmp_path / "state")
    zoo.assert_same(run(checkpoint=tmp_path / "state"), run())


def test_an_interrupt_beside_an_error_is_not_lost(tmp_path, monkeypatch):
    def complain(*_):
        signal.raise_signal(signal.SIGINT)
        raise ZeroDivisionError

    monkeypatch.setattr(Watch, "on_generation", complain)
    with pytest.raises(KeyboardInterrupt) as caught:
        run(checkpoint=tmp_path / "state", callbacks=[Watch()])
    assert isinstance(caught.value.__context__, ZeroDivisionError)


# --- checkpoints of code that knows of none ---


def test_trainings_inside_checkpoints_in_keep_one_each(tmp_path):
    def both(after=1_000_000):
        return [run(call=call, stop=Stop(after)) for call in (evolve, train)]

    with checkpoints_in(tmp_path):
        assert [result.stopped for result in both(after=50)] == ["stop", "stop"]
    assert sorted(os.listdir(tmp_path)) == ["1.safetensors", "2.safetensors"]
    with checkpoints_in(tmp_path):
        for result, expected in zip(both(), both(), strict=True):
            zoo.assert_same(result, expected)


def test_inside_checkpoints_in_what_is_short_or_cannot_be_kept_is_done_without(tmp_path):
    with ThreadPoolExecutor(2) as pool, checkpoints_in(tmp_path):
        run()
        for watching in ({"callbacks": [Callback()]}, {"record": lambda step: None}, {"executor": pool}):
            run(**watching, stop=Stop(50))  # that could not be told of what was before
    with pytest.raises(ZeroDivisionError), checkpoints_in(tmp_path):
        run(settings(steps=1 // 0))
    run(stop=Stop(50))
    assert not os.listdir(tmp_path)
    (tmp_path / "1.safetensors").write_text("damaged")
    with checkpoints_in(tmp_path), pytest.warns(UserWarning, match="damaged.*starts anew"):
        zoo.assert_same(run(), run())
    with checkpoints_in(tmp_path / "1.safetensors"), pytest.warns(UserWarning, match="the training goes on"):
        assert run(stop=Stop(50)).stopped == "stop"
