"""An interrupt without a checkpoint loses nothing, and no loop runs on after it."""

import signal
import sys
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import pytest
import torch
import zoo
from evolving import DATA, Watch, run, settings

from gadam import Callback, GADAMClassifier, Population, evolve, train
from gadam.evolution import interrupts
from gadam.parallel import executors
from gadam.training import trainer


class Interrupting:
    """A record that raises SIGINT at a step."""

    def __init__(self, at, times=1):
        self.at, self.times, self.seen = at, times, 0

    def __call__(self, step):
        self.seen += 1
        for _ in range(self.times if self.seen == self.at else 0):
            signal.raise_signal(signal.SIGINT)


@pytest.fixture
def notebook(monkeypatch):
    """A notebook, of which cell 7 runs."""
    monkeypatch.setattr(interrupts, "front_end", lambda: "notebook")
    monkeypatch.setattr(interrupts, "_cell", None)
    monkeypatch.setattr(interrupts, "_present_cell", lambda: 7)


@pytest.mark.parametrize(("call", "at"), [(evolve, 5), (evolve, 30), (evolve, 60), (train, 5)])
def test_in_a_script_an_interrupt_has_what_there_is(call, at):
    record = Interrupting(at)
    with pytest.raises(KeyboardInterrupt, match=r"^interrupted in generation \d, .*; the result has ") as caught:
        run(call=call, record=record)
    result = caught.value.result
    whole = at == 60  # a generation
    assert (result.stopped, record.seen <= at + 1) == ("interrupt", True)
    assert result.gradient_steps == (result.history["steps"].sum() if whole else at)
    assert result.history["generation"].nunique() == whole
    assert not zoo.same_population(result.population, Population.make(zoo.dropout_mlp, 4, seed=1))
    if at == 30:  # while the children are trained
        run(callbacks=[watch := Watch()])
        parents, losses = watch.generations[0].parents, watch.generations[0].history["loss_trained"][:4]
        assert zoo.same_population(result.population, parents.take(torch.tensor(losses.argsort().to_numpy())))


def test_an_interrupt_keeps_the_steps_that_workers_have_reported(monkeypatch):
    """Each here after every step."""
    monkeypatch.setattr(executors, "ROUND_SECONDS", 0.0)
    monkeypatch.setattr(trainer, "REPORT_SECONDS", 0)

    class Interrupting(Executor):
        tasks = 0

        def submit(self, function, /, *given):
            self.tasks += 1
            if self.tasks == 9:
                signal.raise_signal(signal.SIGINT)
            future = Future()
            future.set_result(function(*given))
            return future

    with pytest.raises(KeyboardInterrupt, match="the result has the units as they are") as caught:
        run(settings(shards=4), executor=(executor := Interrupting()))
    assert caught.value.result.gradient_steps == executor.tasks == 12


def test_two_interrupts_end_it_at_once_and_an_interactive_session_gets_what_there_is(monkeypatch):
    with pytest.raises(KeyboardInterrupt) as caught:
        run(record=Interrupting(5, times=2))
    assert not hasattr(caught.value, "result")
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "a file that IPython executes", raising=False)
    with pytest.raises(KeyboardInterrupt):
        run(record=Interrupting(5))
    monkeypatch.delattr(sys.modules["__main__"], "__file__")
    assert run(record=Interrupting(5)).stopped == "interrupt"


@pytest.mark.parametrize(("call", "executor"), [(evolve, 1), (evolve, 2), (train, 2)])
def test_in_a_notebook_it_is_returned_and_the_cell_trains_no_more(call, executor, notebook, monkeypatch, capsys):
    # Long enough that it is not over before the main thread has heard of a signal that a worker raises.
    result = run(settings(steps=5_000), call=call, record=Interrupting(60), executor=executor)
    assert result.stopped == "interrupt"
    assert capsys.readouterr().out.startswith("gadam: interrupted in generation ")
    with pytest.raises(KeyboardInterrupt, match="this cell was interrupted"):
        run()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(run).result().stopped == "generations", "a thread is no part of a cell"
    monkeypatch.setattr(interrupts, "_present_cell", lambda: 8)
    run()


def test_a_handler_of_the_users_own_hears_the_signal_itself_and_who_ignores_it_is_left_in_peace(tmp_path):
    heard, before = [], signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, lambda *_: heard.append("SIGINT"))
    try:
        done = run(record=lambda step: len(heard) or signal.raise_signal(signal.SIGINT))
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        assert run(record=Interrupting(5), checkpoint=tmp_path / "state").stopped == "generations"
    finally:
        signal.signal(signal.SIGINT, before)
    assert (heard, done.stopped) == (["SIGINT"], "generations")


def test_a_search_over_settings_stops_at_an_interrupt(notebook):
    class Interrupts(Callback):
        def on_generation(self, generation):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        GADAMClassifier(steps=5, callbacks=[Interrupts()]).fit(DATA[0].numpy(), DATA[1].numpy())
