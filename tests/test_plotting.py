"""Figures of a history against a hand-made one, and LivePlot wherever it may be looked at."""

import math
import threading
import types
from unittest.mock import ANY, Mock

import matplotlib as mpl
import pandas as pd
import pytest
import torch
import zoo

from gadam import InputError, LivePlot, Population, display
from gadam.plotting import ancestors, plot_adoption, plot_family, plot_losses, plot_rates

mpl.use("agg")


def hand_made(**changed):
    """Two generations of two: child 1 of generation 1 becomes parent 0, parent 1 stays so; two are equally fit."""
    rows = [
        (1, "parent", 0, None, None, 5.0, False), (1, "parent", 1, None, None, 2.0, True),
        (1, "child", 0, 0, 1, 9.0, False), (1, "child", 1, 1, 0, 1.0, True),
        (2, "parent", 0, None, None, 0.5, True), (2, "parent", 1, None, None, 0.9, False),
        (2, "child", 0, 1, 1, 0.8, False), (2, "child", 1, 0, 1, 0.5, True),
    ]  # fmt: skip
    columns = ["generation", "role", "unit", "parent_a", "parent_b", "loss_survival", "survived"]
    frame = pd.DataFrame(rows, columns=columns).astype({"parent_a": "Int64", "parent_b": "Int64"})
    return frame.assign(**changed)


# --- figures ---


def test_losses_and_adoption_are_those_of_the_history():
    losses = plot_losses(hand_made())
    assert losses.lines[0].get_xydata().tolist() == [[1.16, 1.0], [1.84, 0.5]], "the fittest; of equal ones the parent"
    filled = [each.get_offsets().tolist() for each in losses.collections if len(each.get_facecolor())]
    assert sorted(point for part in filled for point in part) == [[0.84, 2], [1.16, 1], [1.84, 0.5], [2.16, 0.5]]
    assert losses.get_yscale() == "log", "they span more than a decade"
    assert plot_losses(hand_made(loss_survival=[-1, 2, 3, 4, 5, 6, 7, 99])).get_yscale() == "linear"
    fixed = plot_losses(hand_made(loss_validation=[4.0, 3.0, 2.0, 1.5, 5.0, 6.0, 7.0, 8.0]))
    assert fixed.lines[0].get_xydata().tolist() == [[1.16, 1.5], [1.84, 5.0]], "those on the fixed rows"
    fixed = plot_losses(hand_made(loss_validation=[4.0, math.nan, 2.0, 1.5, 5.0, 6.0, 7.0, 8.0]))
    assert fixed.lines[0].get_xydata().tolist() == [[1.16, 1.5], [1.84, 5.0]], "although a unit has none there"
    adoption = plot_adoption(hand_made(survived=[True, False, False, True, False, False, True, True]))
    assert adoption.lines[1].get_xydata().tolist() == [[1, 0.5], [2, 1.0]]


def test_units_without_a_finite_loss_are_crosses_and_nothing_else():
    ax = plot_losses(hand_made(loss_survival=[math.inf, 2.0, 9.0, 1.0, math.nan, 0.9, 0.8, -math.inf]))
    *others, crosses = ax.collections
    assert sum(len(each.get_offsets()) for each in others) == 5
    assert sorted(crosses.get_offsets()[:, 0]) == [0.84, 1.84, 2.16]
    assert ax.lines[0].get_xydata().tolist() == [[1.16, 1.0], [2.16, 0.8]]


def test_rates_are_those_of_the_last_generation_with_a_finite_loss():
    losses = [0.1, 2.0, 9.0, 1.0, 0.5, math.inf, 0.8, math.nan]
    drawn, marked = plot_rates(hand_made(learning_rate=[8, 7, 6, 5, 4, 3, 2, 1], loss_survival=losses)).collections
    assert drawn.get_offsets().tolist() == [[2, 0.8], [4, 0.5]]
    assert marked.get_offsets().tolist() == [[4, 0.5]]
    assert not plot_rates(hand_made(learning_rate=1.0, loss_survival=math.nan)).collections[1].get_offsets().size


def test_family_of_a_unit_goes_back_through_the_survivors():
    best = {
        (2, "parent", 0): [(1, "child", 1)],  # as fit as child 1, and before it
        (1, "child", 1): [(1, "parent", 1), (1, "parent", 0)],
        (1, "parent", 1): [],
        (1, "parent", 0): [],
    }
    other = {(2, "child", 1): [(2, "parent", 0), (2, "parent", 1)], (2, "parent", 1): [(1, "parent", 1)]}
    assert ancestors(hand_made()) == best
    assert ancestors(hand_made(), unit=1) == best | other
    alone = hand_made(loss_survival=[5.0, 2.0, 9.0, 1.0, 0.5, 0.9, 0.1, 0.5], survived=[False, True] * 2 + [True] * 4)
    assert ancestors(alone)[2, "child", 0] == [(2, "parent", 1)], "a child of one parent alone"
    copy = pd.concat([hand_made(), hand_made()[4:5].assign(unit=2, loss_survival=0.1)])
    assert ancestors(copy)[2, "parent", 2] == [(1, "child", 1)], "of two survivors the third unit is the first again"
    with pytest.raises(InputError, match=r"^history: parent 1 of generation 1 comes from nobody; rows are missing$"):
        ancestors(hand_made().drop(index=1), unit=1)


def test_family_tree_has_an_edge_for_each_origin_whatever_the_order_of_the_rows():
    ax = plot_family(hand_made().sample(frac=1, random_state=1), unit=1)
    assert ax.collections[0].get_offsets().tolist() == [[2.16, 2]], "the ring is around the unit"
    same, born = (each for each in ax.collections if isinstance(each, mpl.collections.LineCollection))
    # Ranks: child 1, parent 1, parent 0, child 0; then parent 0, child 1, child 0, parent 1.
    assert sorted(each.tolist() for each in same.get_segments()) == [[[0.84, 2], [1.84, 4]], [[1.16, 1], [1.84, 1]]]
    assert sorted(each.tolist() for each in born.get_segments()) == [
        [[0.84, 2], [1.16, 1]], [[0.84, 3], [1.16, 1]], [[1.84, 1], [2.16, 2]], [[1.84, 4], [2.16, 2]],
    ]  # fmt: skip


def test_family_of_the_engine_is_that_of_its_parameters():
    """Without training or mutation every entry of the fittest is one of an initial ancestor's."""
    result = zoo.evolved(population_size=5, generations=3, learning_rate=1e-30, mutation_rate=0.0)
    family = [unit for number, role, unit in ancestors(result.history) if (number, role) == (1, "parent")]
    entries = torch.cat([each[:1].flatten(1) for each in result.population.parameters.values()], 1)
    origins = torch.cat([each.flatten(1) for each in Population.make(zoo.mlp, 5).parameters.values()], 1)[family]
    assert (entries == origins).any(0).all()
    for chosen in range(len(family)):
        assert not (entries == origins[[one for one in range(len(family)) if one != chosen]]).any(0).all()


@pytest.mark.parametrize("plot", [plot_losses, plot_family, plot_adoption])
def test_figures_use_the_axes_given_and_refuse_what_lacks_columns_and_draw_what_was_lost(plot):
    ax = mpl.figure.Figure().subplots()
    assert plot(hand_made(), ax=ax) is ax
    with pytest.raises(InputError, match=r"^history: has no column role, survived; must be .*$"):
        plot(hand_made().drop(columns=["role", "survived"]))
    assert not mpl.pyplot.get_fignums(), "pyplot knows of none of them"
    plot(hand_made(loss_survival=math.nan)).figure.canvas.draw()
    assert len(mpl.pyplot.get_fignums()) == 1


# --- LivePlot ---


def displaying(monkeypatch, message):
    """IPython's display, which has its calls."""
    import IPython

    shown = Mock()
    kernel = types.SimpleNamespace(get_parent=lambda channel: {"content": message} if channel == "shell" else {})
    monkeypatch.setattr(IPython, "get_ipython", lambda: types.SimpleNamespace(kernel=kernel))
    monkeypatch.setattr("IPython.display.display", shown)
    return shown, shown.return_value.update


def test_a_terminal_gets_one_line_for_each_generation(capsys):
    result = zoo.evolved(callbacks=[LivePlot(test=zoo.DATA)])
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("generation 1/2: best loss ")
    assert second.startswith(f"generation 2/2: best loss {result.history['loss_survival'][6:].min():.4g}, ")
    assert "test accuracy " in second


@pytest.mark.parametrize(
    ("message", "who", "updates"), [({"comm_id": "a widget's"}, "notebook", 1), ({"allow_stdin": False}, "batch", 0)]
)
def test_a_notebook_has_pictures_that_are_drawn_again_where_somebody_looks(message, who, updates, monkeypatch, capsys):
    shown, update = displaying(monkeypatch, message)
    assert display.front_end() == who
    plot = LivePlot()
    zoo.evolved(callbacks=[plot])
    shown.assert_called_once_with(ANY, display_id=True)
    assert update.call_count == updates
    ((picture,), _) = update.call_args or shown.call_args
    assert picture.data.count('src="data:image/png;base64,') == 3
    assert "<p>generation 2/2: best loss" in picture.data
    zoo.evolved(callbacks=[plot], generations=1)
    assert shown.call_count == 2, "another run has a figure of its own"
    assert plot.history["generation"].tolist() == [1] * 6
    assert capsys.readouterr().out == ""
    assert not mpl.pyplot.get_fignums(), "pyplot knows of none of them"


def test_after_a_checkpoint_the_generations_before_are_there_too(monkeypatch, tmp_path):
    stop = threading.Event()

    def record(step):
        if step.generation == 2:
            stop.set()

    given = {"checkpoint": tmp_path / "state"}
    assert zoo.evolved(record=record, stop=stop, **given).stopped == "stop"
    for scored in ([2], []):  # it goes on; it is over
        shown, update = displaying(monkeypatch, {"allow_stdin": True})
        plot = LivePlot(test=zoo.DATA)
        pd.testing.assert_frame_equal(zoo.evolved(callbacks=[plot], **given).history, plot.history)
        assert plot.scores["generation"].tolist() == scored
        assert (shown.call_count, update.call_count) == (1, 0)


def test_scores_are_those_of_the_fittest_and_of_the_mean_softmax():
    """Of more rows than are computed at once; the vote of units that did not learn is not that of the fittest."""
    rows = zoo.FEATURES.repeat(100, 1), zoo.LABELS.repeat(100)
    plot = LivePlot(test=rows)
    result = zoo.evolved(callbacks=[plot], generations=1, seed=2)
    assert {png[:4] for png in plot.pictures().values()} == {b"\x89PNG"}
    with torch.no_grad():
        outputs = torch.stack([unit(rows[0]).softmax(1) for unit in result.population.units()])
    best, vote = (float((each.argmax(1) == rows[1]).float().mean()) for each in (outputs[0], outputs.mean(0)))
    assert best != vote
    assert plot.scores.iloc[-1].tolist() == pytest.approx([1, best, vote])
