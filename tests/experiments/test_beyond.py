"""What the last generation is good for: the runs that are shared with the other sections, the table, the figure."""

import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt

from gadam import GadamConfig, evolve
from gadam.experiments import PROFILES, beyond, mnist, section51, section54, section54_orl
from gadam.experiments.units import KEPT, held_out, kept
from gadam.models import mlp
from gadam.reporting import exhibits, tables

GOOD = {"best": 90, "ensemble": 93, "soup": 91, "best_units": 1, "ensemble_units": 10, "soup_units": 3}


def rows(seeds=3):
    """As the runs give them; the ensemble is 3 points above the best unit and the soup 1, in every seed."""
    about = {"test_rows": 100, "data": "real"}
    made = []
    for seed in range(seeds):
        right = {name: value + (seed if name in beyond.WAYS else 0) for name, value in GOOD.items()}
        made += [
            {"kind": "kept", "method": "GADAM", "seed": seed, **right, **about},
            {"kind": "unit", "method": "GADAM", "seed": seed},
            {"dataset": "yeast", "method": KEPT, "seed": seed, **right, **about},
            {"dataset": "yeast", "method": section54.GADAM, "seed": seed, "accuracy": 1.0, **about},
            {"dataset": "orl", "images": 5, "method": KEPT, "seed": seed, **right, **about},
        ]
    return pd.DataFrame(made)


@pytest.mark.parametrize("profile", PROFILES)
def test_nothing_is_trained_for_it(profile):
    others = [
        *section51.runs(profile, "standin"), *section54.runs(profile, "standin"),
        *section54_orl.runs(profile, "standin"),
    ]  # fmt: skip
    planned = beyond.runs(profile, "standin")
    assert {run.identity() for run in planned} <= {run.identity() for run in others}
    assert {run.config["dataset"] for run in planned} == {"mnist", "orl", "yeast", "adult", "letter"}
    assert len(planned) >= 2 * 5


def test_table_compares_with_the_best_unit_by_seed():
    table = beyond.table(rows()).set_index(["dataset", "prediction by"])
    assert list(dict.fromkeys(table.index.get_level_values(0))) == ["MNIST", "YEAST", "ORL, 5 images"]
    line = table.loc["YEAST", "ensemble of g"]
    assert line[["accuracy", "above best", "from", "to", "units", "seeds"]].tolist() == [94, 3, 3, 3, 10, 3]
    assert line["low"] < 94 < line["high"]
    assert table.loc["MNIST", "greedy soup"][["above best", "units"]].tolist() == [1, 3]
    assert pd.isna(table.loc["MNIST", "best unit"]["above best"])


def test_figure_has_an_interval_for_each_dataset_and_way():
    figure = exhibits.beyond.above_best(beyond.table(rows()))
    others, faces = figure.axes
    assert [label.get_text() for label in others.get_yticklabels()] == ["MNIST", "YEAST"]
    assert [label.get_text() for label in faces.get_yticklabels()] == ["ORL, 5 images"]
    assert [len(lines.get_segments()) for axis in (others, faces) for lines in axis.collections[::2]] == [2, 2, 1, 1]
    plt.close(figure)


def test_a_soup_that_took_the_best_unit_alone_is_not_compared_with_it():
    alone = rows()
    alone.loc[alone["dataset"] == "yeast", "soup_units"] = 1
    alone.loc[(alone["dataset"] == "orl") & (alone["seed"] > 0), "soup_units"] = 1
    table = beyond.table(alone).set_index(["dataset", "prediction by"])
    soup = table.xs("greedy soup", level=1)
    assert soup["above best"].notna().to_dict() == {"MNIST": True, "YEAST": False, "ORL, 5 images": True}
    assert soup["units"].tolist() == [3, 1, 5 / 3]
    assert tables.cells(table.reset_index()).rows[1][8] == "10"
    alone["soup_units"] = 1
    figure = exhibits.beyond.above_best(beyond.table(alone))
    assert [len(lines.get_segments()) for axis in figure.axes for lines in axis.collections[::2]] == [2, 0, 1, 0]
    plt.close(figure)


def test_what_is_kept_is_scored_on_the_test_rows():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(1_200, 4, generator=generator)
    part = inputs, (inputs[:, 0] > 0).long()
    train, test = held_out(part, 600, seed=0)  # more than are evaluated at once
    config = GadamConfig(population_size=3, generations=1, steps=60, batch_size=32, learning_rate=0.01)
    result = evolve(lambda: mlp(4, 2, (8,)), train, config, progress=False)
    found = kept(result, train, test)
    with torch.no_grad():
        outputs = torch.stack([unit(test[0]) for unit in result.population.units()])
    assert found["best"] == (outputs[0].argmax(1) == test[1]).sum()
    assert found["ensemble"] == (outputs.softmax(-1).mean(0).argmax(1) == test[1]).sum()
    assert 1 <= found["soup_units"] <= found["ensemble_units"] == 3
    assert found["soup"] > 500


def test_lenets_are_kept_once_a_run():
    run = mnist.gadam_run("smoke", "standin", seed=0, size=2, generations=1, learning_rate=1e-3)
    found = [row for row in run.execute() if row["kind"] == "kept"]
    assert len(found) == 1
    assert 0 <= found[0]["ensemble"] <= found[0]["test_rows"]
