"""Section 6: the fidelity page, on made-up rows or tiny budgets."""

import ast
import importlib
import inspect
import math
import re
from pathlib import Path

import pandas as pd
import pytest

from gadam.config import GadamConfig
from gadam.evolution.loop import evolve
from gadam.paper import PROFILES, published, section6
from gadam.paper.claims import Arms
from gadam.paper.report import scoreboard
from gadam.paper.statistics import mean_interval

TESTS = Path(__file__).parents[1]


def test_every_equation_is_there_with_its_function_and_its_test():
    for equation in section6.EQUATIONS:
        module, _, name = equation.function.partition(":")
        assert callable(getattr(importlib.import_module(module), name))
        file, _, test = equation.test.partition("::")
        tree = ast.parse((TESTS / file).read_text())
        assert test in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)], equation
    where = " ".join(section6.equations()["paper"])
    assert not [number for number in range(1, 16) if not re.search(rf"\b{number}\b", where)]


def test_every_ambiguity_names_a_switch_that_exists_and_is_measured_or_says_why_not():
    known = {*GadamConfig.names(), *(f"evolve({name}=…)" for name in inspect.signature(evolve).parameters)}
    switched = {name: set(one.settings) for name, one in section6.READINGS.items() if one.settings}
    for one in section6.AMBIGUITIES:
        assert set(filter(None, one.switch.split(", "))) <= known, one
        assert sum(map(bool, (one.reading, one.elsewhere, one.unmeasured))) == 1, one
        assert one.reading not in switched or switched[one.reading] == {one.switch}, one
    readings = {name for name, one in section6.READINGS.items() if one.kind == "reading"} - {section6.DEFAULT}
    assert readings == {one.reading for one in section6.AMBIGUITIES if one.reading}


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
    assert section6.attainable(percent, rows) == possible
    assert section6.fewest_runs(percent, rows) == runs
    correct = [count for count in range(rows + 1) if abs(100 * count / rows - percent) <= 0.005 + 1e-9]
    assert bool(correct) == possible  # by trying all of them


def test_the_papers_values_as_numbers():
    """No test set of YEAST gives all of its values; one pair of runs on MNIST tells nothing between GADAM and Adam."""
    yeast = [cells["yeast"] for cells in published.TABLE4.values()]
    orl = [cells[5] for cells in published.TABLE3.values()]
    assert section6.common_test_sizes(yeast, section6.YEAST_ROWS) == []
    assert 200 in section6.common_test_sizes(orl, 400)
    assert section6.difference_test(99.37, 99.18, 10_000) == pytest.approx(1.58, abs=0.01)
    assert section6.difference_test(99.18, 99.37, 10_000) == -section6.difference_test(99.37, 99.18, 10_000)


def test_values_hold_every_accuracy_of_the_paper():
    frame = section6.values()
    items = {f"{line['table']}/{line['method']}/{line['column']}" for line in frame.to_dict("records")}
    assert items == {item for item in scoreboard.paper_numbers() if not item.endswith("/loss")}
    odd = frame[frame["one run"] == "impossible"]
    assert ("table3", "CNN (Adam)", "9") in set(zip(odd["table"], odd["method"], odd["column"], strict=True))
    own = frame[frame["source"] == "own"]["method"].unique().tolist()
    assert own[:2] == ["GADAM", "Adam"]
    assert "gcForest" not in own


@pytest.mark.parametrize("profile", PROFILES)
def test_every_reading_has_the_seeds_and_the_budget_of_the_default_but_for_its_population(profile):
    rest = {}
    for run in section6.runs(profile, "real"):
        config, key = dict(run.config), run.config["reading"]
        del config["reading"]
        usual = section6.PROFILES[profile]["g"]
        assert config.pop("population_size") == section6.READINGS[key].settings.get("population_size", usual)
        rest.setdefault(key, []).append(config)
    assert rest.keys() == section6.READINGS.keys()
    assert all(one == rest[section6.DEFAULT] for one in rest.values())


def test_every_reading_trains_with_its_steps_and_most_give_another_network():
    settings = {"population_size": 3, "generations": 1, "steps": 5, "mode": "loop"}
    trained = [section6.trained("yeast", "standin", key, 0, **settings) for key in section6.READINGS]
    rows = pd.DataFrame([row for one in trained for row in one]).set_index("reading")
    steps = {key: 2 * 5 * one.settings.get("population_size", 3) for key, one in section6.READINGS.items()}
    assert rows["gradient_steps"].to_dict() == steps
    assert rows["accuracy"].between(0, 100).all()
    assert rows["loss"].nunique() >= len(rows) - 3  # without children among the best, some agree
    assert section6.trained("yeast", "standin", "one_start", 0, **settings) in trained


def made_up(seeds=5):
    """Rows of each reading: they differ from the default by their place, once or three times by turns."""
    return pd.DataFrame([
        {"dataset": dataset, "reading": key, "seed": 200 + seed, "accuracy": 50 + seed + place * (1 + 2 * (seed % 2)),
         "test_rows": 446, "gradient_steps": 100, "data": "real"}
        for dataset in section6.DATASETS for place, key in enumerate(section6.READINGS) for seed in range(seeds)
    ])  # fmt: skip


def counted(rows, planned=5):
    counts = rows.groupby(["dataset", "reading"]).size().to_dict() if len(rows) else {}
    return Arms({
        section6.arm(name, key): (counts.get((name, key), 0), planned)
        for name in section6.DATASETS for key in section6.READINGS
    })  # fmt: skip


def effects(rows):
    keys = {one.label: key for key, one in section6.READINGS.items()}
    frame = section6.effects(rows, counted(rows))
    return frame.assign(reading=frame["reading"].map(keys)).set_index(["dataset", "reading"])


def test_effects_are_paired_by_seed():
    line = effects(made_up().sample(frac=1, random_state=0)).loc[("YEAST", "carry")]
    expected = mean_interval([2.0, 6.0, 2.0, 6.0, 2.0], 446)
    assert line[["difference", "low", "high"]].tolist() == pytest.approx(expected)
    assert line[["seeds", "gradient steps", "data"]].tolist() == ["5", 100, "real"]
    rows = made_up()
    one = effects(rows[(rows["reading"] != section6.DEFAULT) | (rows["seed"] == 201)]).loc[("YEAST", "carry")]
    assert one["difference"] == 6.0, "of the one seed that the default has"
    line = effects(made_up().assign(accuracy=50.0)).loc[("YEAST", "carry")]
    assert line["high"] == -line["low"] == pytest.approx(100 / 446 / math.sqrt(5))  # never narrower than a test row


def test_ambiguities_say_what_was_measured_and_what_is_not_there_is_empty():
    rows = made_up()
    found = section6.ambiguities(rows, counted(rows))
    assert len(found) == len(section6.AMBIGUITIES)
    assert found["effect of the other reading"].str.match(r"YEAST [+-].* \[.*\]; LETTER [+-]").sum() == 4
    assert found["data"].notna().sum() == 4

    missing = (rows["dataset"] == "letter") | (rows["reading"] == "carry") & (rows["seed"] > 202)
    frame = effects(rows[~missing])
    assert frame.loc["LETTER", ["accuracy", "difference", "gradient steps", "data"]].isna().all(axis=None)
    assert frame.loc[("YEAST", "carry"), ["seeds", "difference"]].tolist() == ["3 of 5", pytest.approx(10 / 3)]
    found = section6.ambiguities(rows[~missing], counted(rows[~missing]))["effect of the other reading"]
    assert found.str.match(r"YEAST [+-].* \[.*\]; LETTER not computed yet").sum() == 3
    assert found.str.fullmatch("YEAST not computed yet; LETTER not computed yet").sum() == 1  # of 3 of 5 seeds
