"""Section 6: the fidelity page, on made-up rows or tiny budgets."""

import ast
import importlib
import inspect
from pathlib import Path

import pandas as pd
import pytest
from matplotlib import pyplot as plt

from gadam.config import GadamConfig
from gadam.evolution import evolve
from gadam.experiments import PROFILES, SECTIONS, fidelity, paper, section6
from gadam.experiments.statistics import mean_interval
from gadam.reporting import exhibits, scoreboard

TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("equation", fidelity.EQUATIONS, ids=lambda one: f"{one.where}, {one.what}")
def test_every_equation_has_its_function_and_its_test(equation):
    module, _, name = equation.function.partition(":")
    assert callable(getattr(importlib.import_module(module), name))
    file, _, test = equation.test.partition("::")
    functions = [node.name for node in ast.parse((TESTS / file).read_text()).body if isinstance(node, ast.FunctionDef)]
    assert test in functions


def test_equations_6_to_13_are_all_there():
    where = {one.where for one in fidelity.EQUATIONS}
    assert {f"Eq. {number}" for number in range(1, 14)} <= where
    assert len(fidelity.equations()) == len(fidelity.EQUATIONS)


@pytest.mark.parametrize("one", fidelity.AMBIGUITIES, ids=lambda one: f"{one.where}, {one.question}")
def test_every_ambiguity_names_a_switch_that_exists_and_is_measured_or_says_why_not(one):
    known = {*GadamConfig.names(), *(f"evolve({name}=…)" for name in inspect.signature(evolve).parameters)}
    assert set(filter(None, one.switch.split(", "))) <= known
    assert sum(map(bool, (one.reading, one.elsewhere, one.unmeasured))) == 1
    assert not one.reading or section6.READINGS[one.reading].kind == "reading"


def test_every_reading_is_of_an_ambiguity():
    readings = {name for name, one in section6.READINGS.items() if one.kind == "reading"} - {section6.DEFAULT}
    assert readings == {one.reading for one in fidelity.AMBIGUITIES if one.reading}
    switched = {name: set(one.settings) for name, one in section6.READINGS.items() if one.settings}
    for one in fidelity.AMBIGUITIES:
        assert one.reading not in switched or switched[one.reading] == {one.switch}


@pytest.mark.parametrize(
    ("percent", "rows", "possible", "runs"),
    [
        (98.5, 40, False, 5),  # 40 faces: 97.5 or 100
        (97.5, 40, True, 1),
        (99.17, 120, True, 1),
        (63.70, 446, False, 9),
        (63.45, 446, True, 1),
        (97.06, 4_000, False, 2),
        (96.28, 4_000, True, 1),  # 96.275, rounded up
        (100.0, 40, True, 1),
        (0.0, 7, True, 1),
    ],
)
def test_an_accuracy_is_a_multiple_of_one_in_n_or_a_mean_of_several_runs(percent, rows, possible, runs):
    assert fidelity.attainable(percent, rows) == possible
    assert fidelity.fewest_runs(percent, rows) == runs
    correct = [count for count in range(rows + 1) if abs(100 * count / rows - percent) <= 0.005 + 1e-9]
    assert bool(correct) == possible  # by trying all of them


def test_no_test_set_of_yeast_gives_all_of_its_values():
    yeast = [cells["yeast"] for cells in paper.TABLE4.values()]
    assert fidelity.common_test_sizes(yeast, fidelity.YEAST_ROWS) == []
    assert 200 in fidelity.common_test_sizes([cells[5] for cells in paper.TABLE3.values()], 400)


def test_gadam_and_adam_on_mnist_do_not_differ_significantly_in_one_pair_of_runs():
    assert fidelity.difference_test(99.37, 99.18, 10_000) == pytest.approx(1.58, abs=0.01)
    assert fidelity.difference_test(99.18, 99.37, 10_000) == -fidelity.difference_test(99.37, 99.18, 10_000)


def test_values_hold_every_accuracy_of_the_paper():
    frame = fidelity.values()
    items = {f"{line['table']}/{line['method']}/{line['column']}" for line in frame.to_dict("records")}
    assert items == {item for item in scoreboard.paper_numbers() if not item.endswith("/loss")}
    odd = frame[frame["one run"] == "impossible"]
    assert ("table3", "CNN (Adam)", "9") in set(zip(odd["table"], odd["method"], odd["column"], strict=True))
    assert {(table, method, column) for table, method, column in fidelity.REMARKS} <= set(
        zip(frame["table"], frame["method"], frame["column"], strict=True)
    )
    own = frame[frame["source"] == "own"]["method"].unique().tolist()
    assert own[:2] == ["GADAM", "Adam"]
    assert "gcForest" not in own


@pytest.mark.parametrize("profile", PROFILES)
def test_every_reading_has_the_seeds_and_the_budget_of_the_default(profile):
    runs = section6.runs(profile, "standin")
    assert len({run.identity() for run in runs}) == len(runs)
    settings = {}
    for run in runs:
        rest = {name: value for name, value in run.config.items() if name != "reading"}
        settings.setdefault(run.config["reading"], []).append(rest)
    assert settings.keys() == section6.READINGS.keys()
    assert all(one == settings[section6.DEFAULT] for one in settings.values())
    assert {run.work for run in runs} == {
        2 * run.config["population_size"] * run.config["generations"] * run.config["steps"] for run in runs
    }


def test_paper_has_ten_seeds():
    assert min(section6.PROFILES["paper"]["seeds"].values()) >= 10


@pytest.fixture(scope="module")
def rows():
    """A row of each reading with two seeds, as trained."""
    settings = {"population_size": 3, "generations": 1, "steps": 5, "mode": "loop"}
    return pd.DataFrame(
        row
        for dataset in section6.DATASETS
        for reading in section6.READINGS
        for seed in (0, 1)
        for row in section6.trained(dataset, "standin", reading, seed, **settings)
    )


def test_every_reading_trains_with_equal_steps_and_most_give_another_network(rows):
    assert (rows["gradient_steps"] == 2 * 3 * 5).all()
    assert rows["accuracy"].between(0, 100).all()
    assert (rows["data"] == "stand-in").all()
    losses = rows[rows["dataset"] == "letter"].pivot_table(index="reading", columns="seed", values="loss")
    assert losses[0].nunique() >= len(section6.READINGS) - 3  # without children among the best, some agree
    again = section6.trained("yeast", "standin", "one_start", 1, population_size=3, generations=1, steps=5, mode="loop")
    same = rows[(rows["dataset"] == "yeast") & (rows["reading"] == "one_start") & (rows["seed"] == 1)]
    assert again == same.to_dict("records")


def test_effects_are_paired_by_seed(rows):
    frame = section6.effects(rows).set_index(["dataset", "reading"])
    accuracy = rows[rows["dataset"] == "letter"].pivot_table(index="seed", columns="reading", values="accuracy")
    expected = mean_interval((accuracy["carry"] - accuracy["default"]).tolist())
    line = frame.loc[("LETTER", section6.READINGS["carry"].label)]
    assert (line["difference"], line["low"], line["high"]) == pytest.approx(expected)
    assert frame["difference"].isna().sum() == len(section6.DATASETS)  # the default's own


def test_ambiguities_say_what_was_measured(rows):
    frame = section6.ambiguities(rows)
    assert len(frame) == len(fidelity.AMBIGUITIES)
    found = frame["effect of the other reading"]
    assert found.str.match(r"YEAST [+-].* \[.*\]; LETTER [+-]").sum() == 4
    assert found.str.startswith("not measured: ").sum() + found.str.contains("Section").sum() >= len(frame) - 4
    assert frame["data"].notna().sum() == 4


def test_the_figure_draws(rows):
    figure = exhibits.section6.readings(section6.effects(rows))
    figure.canvas.draw()
    assert [axis.get_title() for axis in figure.axes] == ["YEAST, 2 seeds", "LETTER, 2 seeds"]
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == [one.label for name, one in section6.READINGS.items() if name != section6.DEFAULT]
    plt.close(figure)


def test_the_section_is_the_last_so_that_its_scoreboard_is_whole():
    assert list(SECTIONS)[-1] == "section6"
