"""Figures of a history against a hand-made one, and LivePlot wherever it may be looked at."""

import io
import math
import re
import subprocess
import sys
import threading
import types

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
import zoo
from matplotlib import pyplot as plt

from gadam import Callback, GadamConfig, InputError, evolve
from gadam import live_plot as live
from gadam import plotting as history
from gadam.live_plot import LivePlot
from gadam.plotting import plot_adoption, plot_family, plot_losses
from gadam.population import Population

DATA = (zoo.FEATURES, zoo.LABELS)
PLOTS = [plot_losses, plot_family, plot_adoption]


@pytest.fixture(autouse=True)
def nothing_is_left():
    mpl.use("agg")
    yield
    plt.close("all")


def hand_made(**changed):
    """Two generations of two: child 1 of generation 1 becomes parent 0, parent 1 stays so; two are equally fit."""
    rows = [
        (1, "parent", 0, None, None, 5.0, False),
        (1, "parent", 1, None, None, 2.0, True),
        (1, "child", 0, 0, 1, 9.0, False),
        (1, "child", 1, 1, 0, 1.0, True),
        (2, "parent", 0, None, None, 0.5, True),
        (2, "parent", 1, None, None, 0.9, False),
        (2, "child", 0, 1, 1, 0.8, False),
        (2, "child", 1, 0, 1, 0.5, True),
    ]
    columns = ["generation", "role", "unit", "parent_a", "parent_b", "loss_survival", "survived"]
    frame = pd.DataFrame(rows, columns=columns).astype({"parent_a": "Int64", "parent_b": "Int64"})
    return frame.assign(**changed)


def dots(ax, colour=None, filled=None):
    """Centres of the scattered points, of an edge colour and filled or hollow if asked for."""
    found = []
    for each in ax.collections:
        if not isinstance(each, mpl.collections.PathCollection) or not len(each.get_offsets()):
            continue
        faces, edges = each.get_facecolor(), each.get_edgecolor()
        if filled is not None and bool(len(faces)) != filled:
            continue
        if colour is None or (len(edges) and mpl.colors.same_color(edges[0][:3], colour)):
            found += [tuple(point) for point in np.asarray(each.get_offsets()).round(6).tolist()]
    return sorted(found)


def curve(ax, label):
    return next(each for each in ax.lines if each.get_label() == label).get_xydata().tolist()


# --- losses ---


def test_losses_of_parents_are_beside_those_of_children_and_survivors_are_filled():
    ax = plot_losses(hand_made())
    blue, orange = history.COLOURS["parent"], history.COLOURS["child"]
    assert dots(ax, blue, filled=True) == [(0.84, 2.0), (1.84, 0.5)]
    assert dots(ax, blue, filled=False) == [(0.84, 5.0), (1.84, 0.9)]
    assert dots(ax, orange, filled=True) == [(1.16, 1.0), (2.16, 0.5)]
    assert dots(ax, orange, filled=False) == [(1.16, 9.0), (2.16, 0.8)]
    assert ax.lines[0].get_xydata().tolist() == [[1.16, 1.0], [1.84, 0.5]], (
        "through the dots; of equal ones the parent's"
    )
    assert ax.get_xlabel() == "generation"
    assert "loss" in ax.get_ylabel()
    assert [text.get_text() for text in ax.get_legend().get_texts()][-1] == "fittest"


@pytest.mark.parametrize(
    ("losses", "scale"),
    [
        ([1, 2, 3, 4, 5, 6, 7, 9.9], "linear"),
        ([1, 2, 3, 4, 5, 6, 7, 11], "log"),
        ([-1, 2, 3, 4, 5, 6, 7, 99], "linear"),
    ],
)
def test_axis_is_logarithmic_where_positive_losses_span_more_than_a_decade(losses, scale):
    assert plot_losses(hand_made(loss_survival=losses)).get_yscale() == scale


def test_units_without_a_finite_loss_are_counted_and_stand_at_the_top():
    ax = plot_losses(hand_made(loss_survival=[5.0, 2.0, math.nan, 1.0, 0.5, 0.9, math.inf, 0.5]))
    assert dots(ax, "#b00020") == [(1.16, 0.99), (2.16, 0.99)]
    assert "no finite loss (2)" in [text.get_text() for text in ax.get_legend().get_texts()]
    assert len(dots(ax)) == 8
    ax.figure.canvas.draw()


def test_figures_of_nothing_but_diverged_units_can_be_drawn():
    for plot in PLOTS:
        plot(hand_made(loss_survival=math.nan)).figure.canvas.draw()


# --- family ---


def test_family_of_the_fittest_goes_back_through_the_survivors():
    assert history.ancestors(hand_made()) == {
        (2, "parent", 0): [(1, "child", 1)],  # as fit as child 1, and before it
        (1, "child", 1): [(1, "parent", 1), (1, "parent", 0)],
        (1, "parent", 1): [],
        (1, "parent", 0): [],
    }
    assert history.ancestors(hand_made(), unit=1) == {
        (2, "child", 1): [(2, "parent", 0), (2, "parent", 1)],
        (2, "parent", 0): [(1, "child", 1)],
        (2, "parent", 1): [(1, "parent", 1)],
        (1, "child", 1): [(1, "parent", 1), (1, "parent", 0)],
        (1, "parent", 1): [],
        (1, "parent", 0): [],
    }


def test_order_of_the_rows_does_not_matter():
    shuffled = hand_made().sample(frac=1, random_state=1)
    ax, expected = plot_family(shuffled, unit=1), plot_family(hand_made(), unit=1)
    assert dots(ax) == dots(expected)
    assert len(dots(ax)) == 9


def test_legend_of_the_family_tells_its_lines_apart():
    handles = plot_family(hand_made(), unit=1).get_legend().legend_handles
    lines = {each.get_label(): (each.get_linestyle(), each.get_color()) for each in handles}
    assert lines["child of"] == ("-", history.COLOURS["child"])
    assert lines["the same unit before"] == (":", history.GREY)


def test_family_tree_has_an_edge_for_each_origin():
    ax = plot_family(hand_made(), unit=1)
    same, born = (each for each in ax.collections if isinstance(each, mpl.collections.LineCollection))
    # Ranks: child 1, parent 1, parent 0, child 0; then parent 0, child 1, child 0, parent 1.
    assert sorted(np.asarray(each).tolist() for each in same.get_segments()) == [
        [[0.84, 2], [1.84, 4]], [[1.16, 1], [1.84, 1]],
    ]  # fmt: skip
    assert sorted(np.asarray(each).tolist() for each in born.get_segments()) == [
        [[0.84, 2], [1.16, 1]], [[0.84, 3], [1.16, 1]], [[1.84, 1], [2.16, 2]], [[1.84, 4], [2.16, 2]],
    ]  # fmt: skip
    assert dots(ax, history.BEST) == [(2.16, 2)]
    top, bottom = ax.get_ylim()[::-1]
    assert top < 1 < 4 < bottom, "the fittest above"


@pytest.mark.parametrize("units", [2, 10, 100])
def test_the_ring_around_the_first_is_whole(units):
    frame = pd.concat([hand_made().query("generation == 1")] * (units // 2), ignore_index=True)
    frame["unit"] = frame.groupby("role").cumcount()
    ax = plot_family(frame.sort_values(["role", "unit"]))
    ax.figure.canvas.draw()
    ((x, y),) = dots(ax, history.BEST)
    assert y == 1
    top = ax.bbox.y1 - ax.transData.transform((x, y))[1]
    assert top > np.sqrt(170 / np.pi) * ax.figure.dpi / 72, "170 points squared"


def test_a_child_of_one_parent_alone_has_one_edge():
    frame = hand_made(loss_survival=[5.0, 2.0, 9.0, 1.0, 0.5, 0.9, 0.1, 0.5])
    frame["survived"] = [False, True, False, True, True, False, True, False]
    assert history.ancestors(frame)[2, "child", 0] == [(2, "parent", 1)]


def test_family_of_the_engine_is_that_of_its_parameters():
    """Without training or mutation every entry of the fittest is one of an initial ancestor's."""
    seen = []

    class Watch(live.Callback):
        def on_start(self, config, population):
            seen.append(population)

    config = GadamConfig(
        population_size=5, generations=3, steps=1, batch_size=8, learning_rate=1e-30, mutation_rate=0.0,
        validation_size=16, mode="loop",
    )  # fmt: skip
    result = evolve(zoo.mlp, DATA, config, callbacks=[Watch()], progress=False)
    family = history.ancestors(result.history)
    initial = [unit for number, role, unit in family if (number, role) == (1, "parent")]
    entries = torch.cat([each[:1].flatten(1) for each in result.population.parameters.values()], 1)
    origins = torch.cat([each.flatten(1) for each in seen[0].parameters.values()], 1)[initial]
    assert (entries == origins).any(0).all()
    for chosen in range(len(initial)):
        assert not (entries == origins[[one for one in range(len(initial)) if one != chosen]]).any(0).all()


# --- adoption ---


def test_adoption_is_the_share_of_children_among_survivors():
    ax = plot_adoption(hand_made(survived=[True, False, False, True, False, False, True, True]))
    assert curve(ax, "adoption rate") == [[1, 0.5], [2, 1.0]]
    assert ax.get_ylim() == (0, 1)


# --- what they refuse ---


@pytest.mark.parametrize("plot", PLOTS)
@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ([1, 2], "history: is a list, must be a DataFrame"),
        (hand_made().iloc[:0], "history: has no rows"),
        (hand_made().drop(columns=["role", "survived"]), "history: has no column role, survived;"),
    ],
)
def test_a_wrong_frame_is_refused_in_one_line(plot, frame, message):
    with pytest.raises(InputError, match=f"^{message}.*$"):
        plot(frame)
    assert not plt.get_fignums()


@pytest.mark.parametrize("unit", [-1, 2, 0.5, True])
def test_a_unit_that_did_not_survive_has_no_family(unit):
    with pytest.raises(InputError, match=r"^unit=.* is not a survivor of the last generation; there are 0 to 1$"):
        plot_family(hand_made(), unit=unit)


def test_rows_that_are_missing_are_noticed():
    with pytest.raises(InputError, match=r"^history: parent 1 of generation 2 comes from nobody; rows are missing$"):
        plot_family(hand_made().drop(index=1), unit=1)


@pytest.mark.parametrize("plot", PLOTS)
def test_axes_that_are_given_are_used_and_returned(plot):
    figure = mpl.figure.Figure()
    ax = figure.subplots()
    assert plot(hand_made(), ax=ax) is ax
    assert not plt.get_fignums()
    assert plot(hand_made()).figure.number in plt.get_fignums()


def test_colours_are_those_of_the_reports():
    from gadam.paper.report.exhibits import palette

    expected = {"parent": palette.BLUE, "child": palette.ORANGE}
    assert {role: mpl.colors.to_rgb(colour) for role, colour in history.COLOURS.items()} == expected
    assert mpl.colors.to_rgb(history.BEST) == palette.GREEN


# --- LivePlot ---


SMALL = {"population_size": 3, "generations": 2, "steps": 2, "batch_size": 8, "validation_size": 16, "mode": "loop"}


def run(plot, **changed):
    return evolve(zoo.mlp, DATA, GadamConfig(**SMALL | changed), callbacks=[plot], progress=False)


def test_a_terminal_gets_one_line_for_each_generation(capsys):
    result = run(LivePlot(test=DATA))
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("generation 1/2: best loss ")
    assert second.startswith(f"generation 2/2: best loss {result.history['loss_survival'][6:].min():.4g}, ")
    assert "of 3 survivors are children, test accuracy " in second
    assert "(vote " in second


class Display:
    """IPython's display, which keeps what is displayed."""

    def __init__(self, monkeypatch, asked, content=None):
        import IPython

        self.shown, self.updates = [], 0
        parent = {"content": content or {"allow_stdin": asked}}
        kernel = types.SimpleNamespace(get_parent=lambda channel: parent if channel == "shell" else {})
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
    ("message", "who"),
    [({"allow_stdin": True}, "notebook"), ({"allow_stdin": False}, "batch"), ({"comm_id": "a widget's"}, "notebook")],
)
def test_whoever_cannot_be_asked_is_nobody(monkeypatch, message, who):
    Display(monkeypatch, asked=True, content=message)
    assert live.front_end() == who


def test_a_notebook_has_one_figure_that_is_drawn_again(monkeypatch, capsys):
    display = Display(monkeypatch, asked=True)
    plot = LivePlot()
    run(plot, generations=3)
    assert (len(display.shown), display.updates) == (1, 2)
    html = display.shown[0].data
    titles = ["Loss of every unit", "Family of the fittest unit", "Adoption of children"]
    assert re.findall('alt="([^"]*)"', html) == titles
    assert html.count('src="data:image/png;base64,iVBORw0KGgo') == 3
    assert "<p>generation 3/3: best loss" in html
    run(plot)
    assert (len(display.shown), display.updates) == (2, 3), "another run has a figure of its own"
    assert plot.history["generation"].tolist() == [1] * 6 + [2] * 6
    assert capsys.readouterr().out == ""
    assert not plt.get_fignums(), "pyplot knows of none of them"


def test_a_notebook_that_nobody_looks_at_gets_the_last_figure_alone(monkeypatch, capsys):
    display = Display(monkeypatch, asked=False)
    run(LivePlot(), generations=3)
    assert (len(display.shown), display.updates) == (1, 0)
    assert "generation 3/3" in display.shown[0].data
    assert capsys.readouterr().out == ""


def test_after_a_checkpoint_the_generations_before_are_there_too(monkeypatch, tmp_path):
    class StopAfterOne(Callback):
        def on_generation(self, generation):
            stop.set()

    def go_on(plot, **given):
        config = GadamConfig(**SMALL)
        return evolve(zoo.mlp, DATA, config, callbacks=[plot], progress=False, checkpoint=tmp_path / "state", **given)

    stop = threading.Event()
    assert go_on(StopAfterOne(), stop=stop).stopped == "stop"
    for scored in ([2], []):  # it goes on; it is over
        display = Display(monkeypatch, asked=True)
        plot = LivePlot(test=DATA)
        result = go_on(plot)
        pd.testing.assert_frame_equal(plot.history, result.history)
        assert plot.scores["generation"].tolist() == scored
        assert (len(display.shown), display.updates) == (1, 0)


def test_scores_are_those_of_the_fittest_and_of_the_mean_softmax(capsys):
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
    assert curve(axes["Right on the test rows"], "the fittest")[-1] == pytest.approx([2, 100 * expected[0]])
    assert {ax.get_xlim() for ax in axes.values()} == {(0.5, 2.5)}


def test_letters_of_the_pictures_are_legible_where_two_are_in_a_row_or_one_on_a_narrow_page():
    plot = LivePlot(test=DATA, show=lambda png: None)
    run(plot)
    pictures = plot.pictures()
    assert list(pictures)[2] == "Right on the test rows"
    html = live.side_by_side(pictures)
    assert html.count("flex:1 1 400px") == 4
    assert html.count("max-width:min(100%, 600px)") == 4
    narrowest = 370  # what JupyterLab leaves of 800 pixels
    for png in pictures.values():
        width = plt.imread(io.BytesIO(png)).shape[1]
        inches = width / 130
        assert width > 370, "shown no larger than it is"
        assert 8 / 72 * narrowest / inches > 8.9, "letters of 8 points"


@pytest.mark.parametrize("label", [-1, 3])
def test_a_class_that_the_model_does_not_have_is_refused_before_training(label):
    targets = zoo.LABELS.clone()
    targets[0] = label
    low, high = min(0, label), max(2, label)
    message = f"^test: targets range from {low} to {high}, must lie in 0 to 2 for a model with 3 outputs$"
    with pytest.raises(InputError, match=message):
        run(LivePlot(test=(zoo.FEATURES, targets)))


def test_a_long_run_is_not_squeezed_into_a_corner():
    plot = LivePlot()
    plot.history, plot._generations = hand_made(), 1_000
    assert {ax.get_xlim() for ax in plot.figure().axes} == {(0.5, 10.5)}


def test_the_vote_may_know_better_than_the_fittest_and_is_counted_by_portions(monkeypatch):
    monkeypatch.setattr(live, "ROWS", 2)
    outputs = torch.tensor([[[0.0, 1], [0, 1], [0, 1]], [[9, 0], [9, 0], [0, 0]], [[0, 0], [0, 0], [0, 0]]])

    class Says(torch.nn.Module):
        def __init__(self, logits):
            super().__init__()
            self.logits = torch.nn.Parameter(logits)

        def forward(self, rows):
            return self.logits[rows]

    population = Population.stack([Says(each) for each in outputs])
    best, vote = live.accuracies(population, (torch.arange(3),), torch.tensor([0, 0, 1]))
    assert (best, vote) == (pytest.approx(1 / 3), 1.0)


def test_accuracy_of_what_is_no_classifier_is_refused_before_training():
    targets = zoo.FEATURES[:, :2]
    with pytest.raises(InputError, match=r"^test: scored by accuracy.*$"):
        evolve(
            zoo.mlp, (zoo.FEATURES, zoo.LABELS), GadamConfig(**SMALL), progress=False,
            callbacks=[LivePlot(test=(zoo.FEATURES, targets))],
        )  # fmt: skip


def test_importing_the_plots_imports_no_matplotlib():
    code = "import sys, gadam.plotting; print([m for m in ('matplotlib', 'IPython', 'seaborn') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
