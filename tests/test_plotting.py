"""Figures of a history against a hand-made one, and LivePlot wherever it may be looked at."""

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

from gadam import Callback, GadamConfig, InputError, LivePlot, display, evolve
from gadam.paper import drawing
from gadam.plotting import BEST, COLOURS, ancestors, plot_adoption, plot_family, plot_losses

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


def lines_of(collection):
    return sorted(np.asarray(each).tolist() for each in collection.get_segments())


# --- three figures ---


def test_losses_of_parents_are_beside_those_of_children_and_survivors_are_filled():
    ax = plot_losses(hand_made())
    assert dots(ax, COLOURS["parent"], filled=True) == [(0.84, 2.0), (1.84, 0.5)]
    assert dots(ax, COLOURS["parent"], filled=False) == [(0.84, 5.0), (1.84, 0.9)]
    assert dots(ax, COLOURS["child"], filled=True) == [(1.16, 1.0), (2.16, 0.5)]
    assert dots(ax, COLOURS["child"], filled=False) == [(1.16, 9.0), (2.16, 0.8)]
    assert ax.lines[0].get_xydata().tolist() == [[1.16, 1.0], [1.84, 0.5]], "of equal ones the parent"
    lost = plot_losses(hand_made(loss_survival=[5.0, 2.0, math.nan, 1.0, 0.5, 0.9, math.inf, 0.5]))
    assert len(dots(lost, "#b00020")) == 2, "and those without a finite loss are marked"


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
    assert lines_of(same) == [[[0.84, 2], [1.84, 4]], [[1.16, 1], [1.84, 1]]]
    assert lines_of(born) == [
        [[0.84, 2], [1.16, 1]], [[0.84, 3], [1.16, 1]], [[1.84, 1], [2.16, 2]], [[1.84, 4], [2.16, 2]],
    ]  # fmt: skip
    assert dots(ax, BEST) == [(2.16, 2)]
    top, bottom = ax.get_ylim()[::-1]
    assert top < 1 < 4 < bottom, "the fittest above"


class Watch(Callback):
    def on_start(self, config, population):
        self.initial = population


def test_family_of_the_engine_is_that_of_its_parameters():
    """Without training or mutation every entry of the fittest is one of an initial ancestor's."""
    watch = Watch()
    result = run(watch, population_size=5, generations=3, learning_rate=1e-30, mutation_rate=0.0)
    family = [unit for number, role, unit in ancestors(result.history) if (number, role) == (1, "parent")]
    entries = torch.cat([each[:1].flatten(1) for each in result.population.parameters.values()], 1)
    origins = torch.cat([each.flatten(1) for each in watch.initial.parameters.values()], 1)[family]
    assert (entries == origins).any(0).all()
    for chosen in range(len(family)):
        assert not (entries == origins[[one for one in range(len(family)) if one != chosen]]).any(0).all()


def test_adoption_is_the_share_of_children_among_survivors():
    ax = plot_adoption(hand_made(survived=[True, False, False, True, False, False, True, True]))
    assert ax.lines[1].get_xydata().tolist() == [[1, 0.5], [2, 1.0]]
    assert ax.get_ylim() == (0, 1)


@PLOTS
def test_figures_use_the_axes_given_and_the_colours_of_the_reports_and_refuse_what_lacks_columns(plot):
    ax = mpl.figure.Figure().subplots()
    assert plot(hand_made(), ax=ax) is ax
    with pytest.raises(InputError, match=r"^history: has no column role, survived; must be .*$"):
        plot(hand_made().drop(columns=["role", "survived"]))
    assert not plt.get_fignums(), "pyplot knows of none of them"
    plot(hand_made(loss_survival=math.nan)).figure.canvas.draw()
    assert len(plt.get_fignums()) == 1
    colours = [mpl.colors.to_rgb(each) for each in (*COLOURS.values(), BEST)]
    assert colours == [drawing.BLUE, drawing.ORANGE, drawing.GREEN]


def test_a_unit_without_a_family_is_refused():
    for wrong in (-1, 2, 0.5, True):
        with pytest.raises(InputError, match=r"^unit=.* there are 0 to 1$"):
            plot_family(hand_made(), unit=wrong)
    with pytest.raises(InputError, match=r"^history: parent 1 of generation 1 comes from nobody; rows are missing$"):
        plot_family(hand_made().drop(index=1), unit=1)


# --- LivePlot ---


def run(callback, given=None, **changed):
    return evolve(
        zoo.mlp, zoo.DATA, GadamConfig(**SMALL | changed), callbacks=[callback], progress=False, **given or {}
    )


def test_a_terminal_gets_one_line_for_each_generation(capsys):
    result = run(LivePlot(test=zoo.DATA))
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
    [({"comm_id": "a widget's"}, "notebook", 1), ({"allow_stdin": False}, "batch", 0)],
)
def test_a_notebook_has_pictures_that_are_drawn_again_where_somebody_looks(message, who, updates, monkeypatch, capsys):
    shown = Display(monkeypatch, message)
    assert display.front_end() == who
    plot = LivePlot()
    run(plot)
    assert (len(shown.shown), shown.updates) == (1, updates)
    html = shown.shown[0].data
    assert len(re.findall('alt="([^"]+)"', html)) == html.count('src="data:image/png;base64,iVBORw0KGgo') == 3
    assert "<p>generation 2/2: best loss" in html
    run(plot, generations=1)
    assert len(shown.shown) == 2, "another run has a figure of its own"
    assert plot.history["generation"].tolist() == [1] * 6
    assert capsys.readouterr().out == ""
    assert not plt.get_fignums(), "pyplot knows of none of them"


def test_after_a_checkpoint_the_generations_before_are_there_too(monkeypatch, tmp_path):
    stop = threading.Event()

    class StopAfterOne(Callback):
        def on_generation(self, generation):
            stop.set()

    given = {"checkpoint": tmp_path / "state"}
    assert run(StopAfterOne(), given | {"stop": stop}).stopped == "stop"
    for scored in ([2], []):  # it goes on; it is over
        shown = Display(monkeypatch, {"allow_stdin": True})
        plot = LivePlot(test=zoo.DATA)
        pd.testing.assert_frame_equal(run(plot, given).history, plot.history)
        assert plot.scores["generation"].tolist() == scored
        assert (len(shown.shown), shown.updates) == (1, 0)


class Says(torch.nn.Module):
    """Gives for each row the classes' numbers that it was made with."""

    def __init__(self, numbers):
        super().__init__()
        self.numbers = torch.nn.Parameter(torch.tensor(numbers))

    def forward(self, rows):
        return self.numbers[rows]


def test_scores_are_those_of_the_fittest_and_of_the_mean_softmax(capsys):
    """The vote may know better than the fittest: three units, and a test of more rows than are computed at once."""
    units = iter([[[0.0, 1], [0, 1], [0, 1]], [[9.0, 0], [9, 0], [0, 0]], [[0.0, 0], [0, 0], [0, 0]]] * 99)
    targets = torch.tensor([0, 0, 1])
    test = torch.arange(3).repeat(2_000), targets.repeat(2_000)
    pngs = []
    plot = LivePlot(test=test, show=pngs.append)
    config = GadamConfig(**SMALL | {"generations": 1, "learning_rate": 1e-30, "mutation_rate": 0.0, "steps": 1})
    result = evolve(lambda: Says(next(units)), (torch.arange(3), targets), config, callbacks=[plot], progress=False)
    assert [png[:4] for png in pngs] == [b"\x89PNG"]
    assert capsys.readouterr().out == ""
    with torch.no_grad():
        outputs = torch.stack([unit(torch.arange(3)).softmax(1) for unit in result.population.units()])
    expected = [float((each.argmax(1) == targets).float().mean()) for each in (outputs[0], outputs.mean(0))]
    assert plot.scores.iloc[-1].tolist() == pytest.approx([1, *expected])
    axes = {ax.get_title(): ax for ax in plot.figure().axes}
    assert axes["Right on the test rows"].lines[0].get_ydata()[-1] == pytest.approx(100 * expected[0])
    assert {ax.get_xlim() for ax in axes.values()} == {(0.5, 1.5)}
    assert list(plot.pictures())[2] == "Right on the test rows"
