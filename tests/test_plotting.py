"""Figures of a history against a hand-made one, and LivePlot wherever it may be looked at."""

import io
import math
import re
import threading
import types

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
import zoo
from matplotlib import pyplot as plt

from gadam import Callback, GadamConfig, InputError, display, evolve, live_plot
from gadam.live_plot import LivePlot
from gadam.paper import palette
from gadam.plotting import BEST, COLOURS, ancestors, plot_adoption, plot_family, plot_losses
from gadam.population import Population

DATA = (zoo.FEATURES, zoo.LABELS)
PLOTS = pytest.mark.parametrize("plot", [plot_losses, plot_family, plot_adoption])
SMALL = {"population_size": 3, "generations": 2, "steps": 2, "batch_size": 8, "validation_size": 16, "mode": "loop"}


@pytest.fixture(autouse=True)
def nothing_is_left():
    mpl.use("agg")
    yield
    plt.close("all")


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


def dots(ax, colour, filled=None):
    """Centres of the scattered points of an edge colour, filled or hollow if asked for."""
    found = []
    for each in ax.collections:
        if not isinstance(each, mpl.collections.PathCollection) or not len(each.get_offsets()):
            continue
        same = len(each.get_edgecolor()) and mpl.colors.same_color(each.get_edgecolor()[0][:3], colour)
        if same and (filled is None or bool(len(each.get_facecolor())) == filled):
            found += [tuple(point) for point in np.asarray(each.get_offsets()).round(6).tolist()]
    return sorted(found)


# --- three figures ---


def test_losses_of_parents_are_beside_those_of_children_and_survivors_are_filled():
    ax = plot_losses(hand_made())
    assert dots(ax, COLOURS["parent"], filled=True) == [(0.84, 2.0), (1.84, 0.5)]
    assert dots(ax, COLOURS["parent"], filled=False) == [(0.84, 5.0), (1.84, 0.9)]
    assert dots(ax, COLOURS["child"], filled=True) == [(1.16, 1.0), (2.16, 0.5)]
    assert dots(ax, COLOURS["child"], filled=False) == [(1.16, 9.0), (2.16, 0.8)]
    assert ax.lines[0].get_xydata().tolist() == [[1.16, 1.0], [1.84, 0.5]], "of equal ones the parent"
    lost = plot_losses(hand_made(loss_survival=[5.0, 2.0, math.nan, 1.0, 0.5, 0.9, math.inf, 0.5]))
    assert dots(lost, "#b00020") == [(1.16, 0.99), (2.16, 0.99)]
    assert "no finite loss (2)" in [text.get_text() for text in lost.get_legend().get_texts()]


@pytest.mark.parametrize(("last", "first", "scale"), [(9.9, 1, "linear"), (11, 1, "log"), (99, -1, "linear")])
def test_axis_is_logarithmic_where_positive_losses_span_more_than_a_decade(last, first, scale):
    assert plot_losses(hand_made(loss_survival=[first, 2, 3, 4, 5, 6, 7, last])).get_yscale() == scale


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


def test_family_tree_has_an_edge_for_each_origin_whatever_the_order_of_the_rows():
    ax = plot_family(hand_made().sample(frac=1, random_state=1), unit=1)
    same, born = (each for each in ax.collections if isinstance(each, mpl.collections.LineCollection))
    # Ranks: child 1, parent 1, parent 0, child 0; then parent 0, child 1, child 0, parent 1.
    assert sorted(np.asarray(each).tolist() for each in same.get_segments()) == [
        [[0.84, 2], [1.84, 4]], [[1.16, 1], [1.84, 1]],
    ]  # fmt: skip
    assert sorted(np.asarray(each).tolist() for each in born.get_segments()) == [
        [[0.84, 2], [1.16, 1]], [[0.84, 3], [1.16, 1]], [[1.84, 1], [2.16, 2]], [[1.84, 4], [2.16, 2]],
    ]  # fmt: skip
    assert dots(ax, BEST) == [(2.16, 2)]
    top, bottom = ax.get_ylim()[::-1]
    assert top < 1 < 4 < bottom, "the fittest above"


def test_family_of_the_engine_is_that_of_its_parameters():
    """Without training or mutation every entry of the fittest is one of an initial ancestor's."""
    seen = []

    class Watch(Callback):
        def on_start(self, config, population):
            seen.append(population)

    still = SMALL | {"population_size": 5, "generations": 3, "learning_rate": 1e-30, "mutation_rate": 0.0}
    result = evolve(zoo.mlp, DATA, GadamConfig(**still), callbacks=[Watch()], progress=False)
    initial = [unit for number, role, unit in ancestors(result.history) if (number, role) == (1, "parent")]
    entries = torch.cat([each[:1].flatten(1) for each in result.population.parameters.values()], 1)
    origins = torch.cat([each.flatten(1) for each in seen[0].parameters.values()], 1)[initial]
    assert (entries == origins).any(0).all()
    for chosen in range(len(initial)):
        assert not (entries == origins[[one for one in range(len(initial)) if one != chosen]]).any(0).all()


def test_adoption_is_the_share_of_children_among_survivors():
    ax = plot_adoption(hand_made(survived=[True, False, False, True, False, False, True, True]))
    assert ax.lines[1].get_xydata().tolist() == [[1, 0.5], [2, 1.0]]
    assert ax.get_ylim() == (0, 1)


@PLOTS
def test_figures_use_the_axes_given_and_the_colours_of_the_reports_and_can_be_drawn(plot):
    ax = mpl.figure.Figure().subplots()
    assert plot(hand_made(), ax=ax) is ax
    assert not plt.get_fignums()
    assert plot(hand_made()).figure.number in plt.get_fignums()
    plot(hand_made(loss_survival=math.nan)).figure.canvas.draw()
    assert [mpl.colors.to_rgb(each) for each in (*COLOURS.values(), BEST)] == [
        palette.BLUE, palette.ORANGE, palette.GREEN
    ]  # fmt: skip


@PLOTS
def test_a_frame_that_lacks_columns_is_refused_in_one_line_before_a_figure_is_made(plot):
    with pytest.raises(InputError, match=r"^history: has no column role, survived; must be .*$"):
        plot(hand_made().drop(columns=["role", "survived"]))
    assert not plt.get_fignums()


def test_a_unit_without_a_family_is_refused():
    for wrong in (-1, 2, 0.5, True):
        with pytest.raises(InputError, match=r"^unit=.* there are 0 to 1$"):
            plot_family(hand_made(), unit=wrong)
    with pytest.raises(InputError, match=r"^history: parent 1 of generation 2 comes from nobody; rows are missing$"):
        plot_family(hand_made().drop(index=1), unit=1)


# --- LivePlot ---


def run(plot, **changed):
    return evolve(zoo.mlp, DATA, GadamConfig(**SMALL | changed), callbacks=[plot], progress=False)


def test_a_terminal_gets_one_line_for_each_generation(capsys):
    result = run(LivePlot(test=DATA))
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("generation 1/2: best loss ")
    assert second.startswith(f"generation 2/2: best loss {result.history['loss_survival'][6:].min():.4g}, ")
    assert re.search(r"of 3 survivors are children, test accuracy .* \(vote ", second)


class Display:
    """IPython's display, which keeps what is displayed."""

    def __init__(self, monkeypatch, message):
        import IPython

        self.shown, self.updates = [], 0
        kernel = types.SimpleNamespace(get_parent=lambda channel: {"content": message} if channel == "shell" else {})
        monkeypatch.setattr(IPython, "get_ipython", lambda: types.SimpleNamespace(kernel=kernel))
        monkeypatch.setattr("IPython.display.display", self)

    def __call__(self, image, display_id):
        assert display_id is True
        self.shown.append(image)
        return self

    def update(self, image):
        self.updates += 1
        self.shown[-1] = image


@pytest.mark.parametrize(
    ("message", "who", "updates"),
    [
        ({"allow_stdin": True}, "notebook", 2), ({"comm_id": "a widget's"}, "notebook", 2),
        ({"allow_stdin": False}, "batch", 0),
    ],
)  # fmt: skip
def test_a_notebook_has_pictures_that_are_drawn_again_where_somebody_looks(message, who, updates, monkeypatch, capsys):
    shown = Display(monkeypatch, message)
    assert display.front_end() == who
    plot = LivePlot()
    run(plot, generations=3)
    assert (len(shown.shown), shown.updates) == (1, updates)
    html = shown.shown[0].data
    titles = ["Loss of every unit", "Family of the fittest unit", "Adoption of children"]
    assert re.findall('alt="([^"]*)"', html) == titles
    assert html.count('src="data:image/png;base64,iVBORw0KGgo') == 3
    assert "<p>generation 3/3: best loss" in html
    run(plot)
    assert len(shown.shown) == 2, "another run has a figure of its own"
    assert plot.history["generation"].tolist() == [1] * 6 + [2] * 6
    assert capsys.readouterr().out == ""
    assert not plt.get_fignums(), "pyplot knows of none of them"


def test_after_a_checkpoint_the_generations_before_are_there_too(monkeypatch, tmp_path):
    class StopAfterOne(Callback):
        def on_generation(self, generation):
            stop.set()

    def go_on(plot, **given):
        given |= {"callbacks": [plot], "progress": False, "checkpoint": tmp_path / "state"}
        return evolve(zoo.mlp, DATA, GadamConfig(**SMALL), **given)

    stop = threading.Event()
    assert go_on(StopAfterOne(), stop=stop).stopped == "stop"
    for scored in ([2], []):  # it goes on; it is over
        shown = Display(monkeypatch, {"allow_stdin": True})
        plot = LivePlot(test=DATA)
        pd.testing.assert_frame_equal(go_on(plot).history, plot.history)
        assert plot.scores["generation"].tolist() == scored
        assert (len(shown.shown), shown.updates) == (1, 0)


def test_scores_are_those_of_the_fittest_and_of_the_mean_softmax(capsys, monkeypatch):
    monkeypatch.setattr(live_plot, "ROWS", 7)
    pngs = []
    plot = LivePlot(test=DATA, show=pngs.append)
    result = run(plot)
    assert [png[:4] for png in pngs] == [b"\x89PNG"] * 2
    assert capsys.readouterr().out == ""
    with torch.no_grad():
        outputs = torch.stack([unit(zoo.FEATURES).softmax(1) for unit in result.population.units()])
    expected = [float((each.argmax(1) == zoo.LABELS).float().mean()) for each in (outputs[0], outputs.mean(0))]
    assert plot.scores.iloc[-1].tolist() == pytest.approx([2, *expected])
    axes = {ax.get_title(): ax for ax in plot.figure().axes}
    assert axes["Right on the test rows"].lines[0].get_ydata()[-1] == pytest.approx(100 * expected[0])
    assert {ax.get_xlim() for ax in axes.values()} == {(0.5, 2.5)}
    assert list(plot.pictures())[2] == "Right on the test rows"
    for png in plot.pictures().values():
        assert plt.imread(io.BytesIO(png)).shape[1] / 130 * 72 < 340, "letters of 8 points stay legible in 370 pixels"


def test_the_vote_may_know_better_than_the_fittest():
    outputs = torch.tensor([[[0.0, 1], [0, 1], [0, 1]], [[9, 0], [9, 0], [0, 0]], [[0, 0], [0, 0], [0, 0]]])

    class Says(torch.nn.Module):
        def __init__(self, logits):
            super().__init__()
            self.logits = torch.nn.Parameter(logits)

        def forward(self, rows):
            return self.logits[rows]

    population = Population.stack([Says(each) for each in outputs])
    found = live_plot.accuracies(population, (torch.arange(3),), torch.tensor([0, 0, 1]))
    assert found == (pytest.approx(1 / 3), 1.0)


@pytest.mark.parametrize(("shift", "found"), [(-1, "-1 to 1"), (1, "1 to 3")])
def test_a_class_that_the_model_does_not_have_is_refused_before_training(shift, found):
    with pytest.raises(InputError, match=f"^test: targets: range from {found}, must lie in 0 to 2.*$"):
        run(LivePlot(test=(zoo.FEATURES, zoo.LABELS + shift)))
