"""Fixed validation rows: losses that generations can be compared by, the best unit ever, early stopping."""

import sys
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch
import zoo
from evolving import DATA, Stop, assert_same, run, settings

from gadam import EarlyStopping, InputError, TensorBoard, load_result, train
from gadam.training import batches, trainer


@pytest.fixture(autouse=True)
def asked_after_each_step(monkeypatch):
    monkeypatch.setattr(trainer, "REPORT_SECONDS", 0)


@pytest.mark.parametrize("mode", ["loop", "vectorised"])
def test_the_best_unit_ever_is_kept_in_checkpoints_and_files(mode, tmp_path):
    rows = DATA[0][:25], DATA[1][:25]
    given = {
        "validation": rows, "restore_best": True, "make": zoo.mlp,
        "config": settings(generations=6, learning_rate=0.3, mutation_rate=0.5, mode=mode),
    }  # fmt: skip

    def loss(model):
        with torch.no_grad():
            return float(torch.nn.functional.cross_entropy(model(rows[0]), rows[1]))

    whole = run(**given)
    losses = whole.history.groupby("generation")["loss_validation"].min()
    assert losses.iloc[-1] > losses.min(), "the last generation has not the best unit"
    assert whole.restored
    assert loss(whole.best) == pytest.approx(losses.min(), rel=1e-5)
    for _, row in whole.history.head(4).iterrows():
        assert row["loss_validation"] > 0
    run(**given | {"stop": Stop(150)}, checkpoint=tmp_path / "state")
    resumed = run(**given, checkpoint=tmp_path / "state")
    assert_same(resumed, whole)
    whole.save(tmp_path / "result")
    loaded = load_result(tmp_path / "result", zoo.mlp)
    for again in (resumed, loaded):
        assert all(torch.equal(a, b) for a, b in zip(again.best.parameters(), whole.best.parameters(), strict=True))
    last = run(**given | {"restore_best": False})
    assert zoo.same_population(last.population, whole.population)
    assert loss(last.best) > loss(whole.best)
    alone = run(call=train, **{name: given[name] for name in ("validation", "make", "config")})
    assert loss(alone.best) == pytest.approx(alone.history["loss_validation"].min(), rel=1e-5)


def test_early_stopping_goes_by_the_fixed_rows_also_after_a_resume(tmp_path):
    rows = DATA[0][:25], DATA[1][:25]
    config = settings(generations=9, learning_rate=0.3, mutation_rate=0.5)

    def stopping(**given):
        return run(config, zoo.mlp, validation=rows, callbacks=[EarlyStopping(2)], **given)

    result = stopping()
    lowest = result.history.groupby("generation")["loss_validation"].min()
    assert result.stopped == "callback"
    assert lowest.idxmin() == len(lowest) - 2
    stopping(stop=Stop(60), checkpoint=tmp_path / "state")
    assert_same(stopping(checkpoint=tmp_path / "state"), result)


def test_the_fixed_rows_are_all_or_always_the_same_and_their_loss_is_over_all_of_them(monkeypatch):
    rows = (DATA[0],), DATA[1]
    assert batches.fixed_rows(rows) is rows
    monkeypatch.setattr(batches, "FIXED", 30)
    few = batches.fixed_rows(rows)
    assert len(few[1]) == 30
    assert torch.equal(few[0][0], batches.fixed_rows(rows)[0][0])
    monkeypatch.setattr(batches, "FIXED", 10_000)
    monkeypatch.setattr(trainer, "VALIDATED_AT_ONCE", 7)
    labels = DATA[1].clone()
    labels[:14] = -100  # of which two parts have nothing else
    result = run(settings(generations=1), zoo.mlp, validation=(DATA[0], labels), restore_best=True)
    with torch.no_grad():
        expected = float(torch.nn.functional.cross_entropy(result.best(DATA[0]), labels))
    assert result.history["loss_validation"].min() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("given", [{"restore_best": True}, {"callbacks": [EarlyStopping()]}])
def test_what_goes_by_fixed_rows_wants_some(given):
    with pytest.raises(InputError, match=r"must have validation=\(inputs, targets\)$"):
        run(**given)
    assert "loss_validation" not in run().history


def test_predict_gives_probabilities_of_classes_and_outputs_else_of_whatever_is_given():
    result = run(make=zoo.mlp)
    probabilities = result.predict(DATA[0])
    assert torch.allclose(probabilities, result.best(DATA[0]).softmax(1), atol=1e-6)
    for inputs in (DATA[0].numpy(), pd.DataFrame(DATA[0].numpy()), DATA[0].double(), (DATA[0],)):
        assert torch.allclose(result.predict(inputs, chunk=7), probabilities, atol=1e-6)
    values = run(make=zoo.regression, data=(DATA[0], zoo.VALUES), loss=torch.nn.functional.mse_loss)
    assert torch.equal(values.predict(DATA[0]), values.best(DATA[0]).detach())
    for wrong, said in (
        (DATA[0][0, 0], "row"),
        (DATA[0][:, :3], "could not take shapes"),
        ("x", "must be a torch.Tensor"),
    ):
        with pytest.raises(InputError, match=said):
            result.predict(wrong)


def test_tensorboard_gets_a_scalar_a_generation_where_it_is_installed(monkeypatch, tmp_path):
    written = []

    class Writer:
        def __init__(self, folder):
            assert folder == str(tmp_path / "runs")

        def add_scalar(self, name, value, step):
            written.append((name, step, bool(np.isfinite(value))))

        def close(self):
            written.append("closed")

    there = ModuleType("torch.utils.tensorboard")
    there.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, there.__name__, there)
    run(callbacks=[TensorBoard(tmp_path / "runs")], validation=DATA)
    names = [
        "adoption",
        *(f"loss_{rows}/{which}" for rows in ("survival", "validation") for which in ("lowest", "mean")),
    ]
    assert written == [*((name, step, True) for step in (1, 2) for name in names), "closed"]
    monkeypatch.setitem(sys.modules, there.__name__, None)
    with pytest.raises(InputError, match="pip install tensorboard"):
        TensorBoard(tmp_path)
