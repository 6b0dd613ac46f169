"""An interrupt without a checkpoint loses nothing, and no loop runs on after it."""

import signal

import pytest
import zoo
from evolving import DATA, Stop, run, settings

from gadam import Callback, GADAMClassifier, evolve, train
from gadam.evolution import interrupts
from gadam.training import trainer


@pytest.fixture(autouse=True)
def asked_after_each_step(monkeypatch):
    monkeypatch.setattr(trainer, "REPORT_SECONDS", 0)


@pytest.mark.parametrize("call", [evolve, train])
@pytest.mark.parametrize("at", [5, 60])
@pytest.mark.parametrize("executor", [1, 2])
def test_without_a_checkpoint_an_interrupt_has_what_there_is_and_in_a_notebook_returns_it(
    call, at, executor, monkeypatch, capsys
):
    seen = []

    def heard(step):
        seen.append(step.number)
        if len(seen) == at:
            signal.raise_signal(signal.SIGINT)

    def training():
        seen.clear()
        # Long enough that it is not over before the main thread has heard of a signal that a worker raises.
        return run(settings(steps=500), call=call, record=heard, executor=executor)

    with pytest.raises(KeyboardInterrupt, match=r"^interrupted in generation \d, .*; the result has ") as caught:
        run(call=call, record=heard)
    result = caught.value.result
    assert result.stopped == "interrupt"
    assert len(seen) <= at + 1
    whole = call is evolve and at == 60
    assert result.gradient_steps == (result.history["steps"].sum() if whole else at)
    assert result.history["generation"].nunique() == whole
    initial = run(stop=Stop(0))
    assert not zoo.same_population(result.population, initial.population)
    # In a notebook it is returned; a further training of the same cell does not begin.
    monkeypatch.setattr(interrupts, "front_end", lambda: "notebook")
    monkeypatch.setattr(interrupts, "_cell", None)
    monkeypatch.setattr(interrupts, "_present_cell", lambda: 7)
    assert training().stopped == "interrupt"
    assert capsys.readouterr().out.startswith("gadam: interrupted in generation ")
    with pytest.raises(KeyboardInterrupt, match="this cell was interrupted"):
        run()
    monkeypatch.setattr(interrupts, "_present_cell", lambda: 8)
    run()


def test_a_handler_of_the_users_own_hears_the_signal_itself():
    heard, before = [], signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, lambda *_: heard.append("SIGINT"))
    try:
        done = run(record=lambda step: len(heard) or signal.raise_signal(signal.SIGINT))
    finally:
        signal.signal(signal.SIGINT, before)
    assert (heard, done.stopped) == (["SIGINT"], "generations")


def test_a_search_over_settings_stops_at_an_interrupt(monkeypatch):
    monkeypatch.setattr(interrupts, "front_end", lambda: "notebook")
    monkeypatch.setattr(interrupts, "_cell", None)

    class Interrupts(Callback):
        def on_generation(self, generation):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        GADAMClassifier(steps=5, callbacks=[Interrupts()]).fit(DATA[0].numpy(), DATA[1].numpy())
