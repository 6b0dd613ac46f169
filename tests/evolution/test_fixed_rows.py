"""Fixed validation rows: losses that generations can be compared by, the best unit ever, early stopping."""

import math
import sys
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import Mock, call

import numpy as np
import pandas as pd
import pytest
import torch
import zoo
from evolving import DATA, DOUBLE, MODES, Stop, double_mlp, run, settings
from torch import nn
from torch.nn.functional import mse_loss, nll_loss

from gadam import EarlyStopping, InputError, Population, TensorBoard, evolve_seeds, load_result, train
from gadam.evolution.breeding import find_best
from gadam.evolution.state import SeedState
from gadam.training import batches, trainer
from gadam.training.shards import Shard

ROWS = DATA[0][:25], DATA[1][:25]
RESTLESS = {"learning_rate": 0.3, "mutation_rate": 0.5}  # its last generation is hardly the best


@MODES
def test_the_best_unit_ever_is_kept_in_checkpoints_and_files(mode, tmp_path):
    config = settings(generations=6, mode=mode, **RESTLESS)
    given = {"config": config, "make": zoo.mlp, "validation": ROWS, "restore_best": True}
    whole = run(**given)
    lowest = whole.history.groupby("generation")["loss_validation"].min()
    assert lowest.iloc[-1] > lowest.min(), "the last generation has not the best unit"
    assert zoo.loss_of(whole.best, ROWS) == pytest.approx(lowest.min(), rel=1e-5)
    run(**given, stop=Stop(150), checkpoint=tmp_path / "state")
    resumed = run(**given, checkpoint=tmp_path / "state")
    zoo.assert_same(resumed, whole)
    whole.save(tmp_path / "result")
    for file in ("result", "state"):
        loaded = load_result(tmp_path / file, zoo.mlp)
        assert (loaded.restored, loaded.stopped, loaded.config) == (True, "generations", config)
        assert all(torch.equal(a, b) for a, b in zip(loaded.best.parameters(), whole.best.parameters(), strict=True))
    last = run(**given | {"restore_best": False})
    assert zoo.same_population(last.population, whole.population)
    assert zoo.loss_of(last.best, ROWS) > zoo.loss_of(whole.best, ROWS)


def test_it_may_be_a_parent_or_a_child_and_in_train_any_unit():
    roles, config = set(), settings(generations=3, learning_rate=0.1, mutation_rate=0.0)
    for result in run(config, zoo.mlp, call=evolve_seeds, seeds=np.arange(6), validation=ROWS, restore_best=True):
        best = result.history.loc[result.history["loss_validation"].idxmin()]
        assert zoo.loss_of(result.best, ROWS) == pytest.approx(best["loss_validation"], rel=1e-5)
        roles.add(best["role"])
    assert roles == {"parent", "child"}
    alone = run(config, zoo.mlp, call=train, validation=ROWS)
    assert zoo.loss_of(alone.best, ROWS) == pytest.approx(alone.history["loss_validation"].min(), rel=1e-5)


def test_a_unit_that_diverged_hides_no_better_one_and_is_never_the_best():
    shard = Shard(Population.make(zoo.mlp, 3), range(3), "child", 1)

    def found(*losses):
        return find_best(SeedState(pd.DataFrame()), [replace(shard, loss_validation=torch.tensor(losses))])

    for first in (2.0, -math.inf):
        best, lowest = found(first, math.nan, 1.0)
        assert lowest == 1.0
        assert zoo.same_population(best, shard.population.take(torch.tensor([2])))
    assert found(math.nan, math.inf, math.nan) == (None, math.inf)


def test_early_stopping_goes_by_the_fixed_rows_also_after_a_resume(tmp_path):
    def stopping(**given):
        config = settings(generations=9, **RESTLESS)
        return run(config, zoo.mlp, validation=ROWS, callbacks=[EarlyStopping(2)], **given)

    result = stopping()
    lowest = result.history.groupby("generation")["loss_validation"].min()
    assert result.stopped == "callback"
    assert lowest.idxmin() == len(lowest) - 2
    stopping(stop=Stop(60), checkpoint=tmp_path / "state")
    zoo.assert_same(stopping(checkpoint=tmp_path / "state"), result)


def test_early_stopping_wants_a_fall_by_more_than_min_delta_and_begins_anew_with_each_training():
    stopping = EarlyStopping(patience=2, min_delta=0.1)

    def stops(*lowest):
        stopping.on_start(settings(), None)
        told = [SimpleNamespace(history=pd.DataFrame({"loss_validation": [loss + 1, loss]})) for loss in lowest]
        return [stopping.on_generation(generation) for generation in told]

    assert stops(3.0, 2.5, 2.45, 2.35, 2.3, 2.3) == [False] * 5 + [True]
    assert stops(math.nan, 4.0, -math.inf, 3.0, 2.0) == [False] * 5


def test_the_fixed_rows_are_always_the_same():
    """Weights that do not move have the same loss in the next generation."""
    rows = (DATA[0],), DATA[1]
    assert batches.fixed_rows(rows) is rows
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "FIXED", 25)
        few = batches.fixed_rows(rows)
        assert len(few[1]) == len(few[0][0].unique(dim=0)) == 25
        history = run(settings(learning_rate=1e-300), zoo.mlp, validation=DATA).history
    losses = [set(of_one["loss_validation"]) for _, of_one in history.groupby("generation")]
    parents = history.query("generation == 2 and role == 'parent'")
    assert set(parents["loss_validation"]) <= losses[0]


@pytest.mark.parametrize("trained", ["some ignored", "none ignored"])
def test_their_loss_is_the_mean_over_all_of_them_that_count(trained, monkeypatch):
    """Labels that are ignored count neither here nor on validation batches nor in training, whichever way."""
    monkeypatch.setattr(trainer, "VALIDATED_AT_ONCE", 7)
    labels = DATA[1].clone()
    labels[:16] = -100  # two parts have nothing else, and one has both
    rows, results = (DOUBLE[0], labels), []
    data = rows if trained == "some ignored" else DOUBLE
    for mode in ("loop", "vectorised"):
        config = settings(generations=1, mode=mode, validation_size=zoo.ROWS)
        result = run(config, double_mlp, data, validation=rows, restore_best=True)
        losses = result.history["loss_validation"]
        assert losses.min() == pytest.approx(zoo.loss_of(result.best, rows), rel=1e-9)
        assert result.history["loss_survival"].tolist() == pytest.approx(losses.tolist(), rel=1e-9)
        results.append(result.population.parameters)
    assert zoo.difference(*results) <= 1e-8


def test_predict_gives_probabilities_of_classes_and_outputs_else_of_whatever_is_given():
    result = run(make=zoo.mlp)
    probabilities = result.predict(DATA[0])
    assert torch.allclose(probabilities, result.best(DATA[0]).softmax(1), atol=1e-6)
    for inputs in (DATA[0].numpy(), pd.DataFrame(DATA[0].numpy()), DATA[0].double(), (DATA[0],)):
        assert torch.allclose(result.predict(inputs, chunk=7), probabilities, atol=1e-6)
    sure = run(make=lambda: nn.Sequential(zoo.mlp(), nn.Softmax(1)), loss=lambda output, y: nll_loss(output.log(), y))
    assert torch.equal(sure.predict(DATA[0]), sure.best(DATA[0]))
    torch.testing.assert_close(sure.ensemble()(DATA[0]), sum(unit(DATA[0]) for unit in sure.population.units()) / 4)
    values = run(make=zoo.regression, data=(DATA[0], zoo.VALUES), loss=mse_loss)
    assert torch.equal(values.predict(DATA[0]), values.best(DATA[0]).detach())
    for case in (zoo.ZOO["two inputs"], zoo.ZOO["targets of two dimensions"]):
        data = case.inputs, case.targets
        several = run(make=case.make, data=data)
        expected = several.best(*case.arguments).softmax(1)
        assert torch.allclose(several.predict(case.inputs), expected, atol=1e-6)
        assert several.soup(data)(*case.arguments).shape == expected.shape
    wrong = {"row": DATA[0][0, 0], "could not take shapes": DATA[0][:, :3], "must be a torch.Tensor": "x"}
    for said, inputs in wrong.items():
        with pytest.raises(InputError, match=said):
            result.predict(inputs)


def test_tensorboard_gets_a_scalar_a_generation_where_it_is_installed(monkeypatch, tmp_path):
    writer, name = Mock(), "torch.utils.tensorboard"
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(SummaryWriter=writer))
    history, expected = run(callbacks=[TensorBoard(tmp_path / "runs")], validation=DATA).history, []
    for step, rows in history[history["survived"]].groupby("generation"):
        expected.append(("adoption", (rows["role"] == "child").sum() / 4, step))
        for loss in ("loss_survival", "loss_validation"):
            expected += [(f"{loss}/lowest", min(rows[loss]), step), (f"{loss}/mean", rows[loss].sum() / 4, step)]
    told = [call().add_scalar(what, pytest.approx(value), step) for what, value, step in expected]
    assert writer.mock_calls == [call(str(tmp_path / "runs")), *told, call().close()]
    with pytest.raises(InputError, match="TensorBoard goes by generations"):
        train(zoo.mlp, DATA, callbacks=[TensorBoard(tmp_path)])
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match="pip install tensorboard"):
        TensorBoard(tmp_path)
