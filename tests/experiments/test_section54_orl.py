"""Table 3 and its runs, on made-up rows or tiny budgets."""

import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt

from gadam.experiments import PROFILES, beyond, paper, section54_orl, section54_orl_results
from gadam.experiments.statistics import mean_interval, prediction_interval
from gadam.experiments.units import KEPT
from gadam.reporting import exhibits, scoreboard

METHODS = {
    "cnn_by_gadam": [section54_orl.GADAM, KEPT],
    "cnns_by_adam": [section54_orl.ADAM, section54_orl.ADAM_BEST],
    "deep_forest": [section54_orl.GCFOREST],
    "random_forest": [section54_orl.FOREST],
    "svm": [section54_orl.SVM],
    "nearest_neighbours": [section54_orl.KNN],
}
TINY = {
    "cnn_by_gadam": {
        "shrink": 5, "hidden": 256, "batch_size": 16, "population_size": 2, "generations": 1, "steps": 60,
    },
    "cnns_by_adam": {"shrink": 5, "hidden": 256, "batch_size": 16, "population_size": 2, "steps": 120},
    "deep_forest": section54_orl.PROFILES["smoke"]["gcforest"] | {"shrink": 4},
    "random_forest": {"trees": 20},
    "svm": {},
    "nearest_neighbours": {},
}  # fmt: skip


def made_up(profile="quick", source="real"):
    """Rows as the runs give them, with accuracies that differ by seed, images and method."""
    rows = []
    for run in section54_orl.runs(profile, "standin"):
        images, seed = run.config["images"], run.config["seed"]
        for place, method in enumerate(METHODS[run.function.partition(":")[2]]):
            faces = 40 * (10 - images)
            correct = faces - len(method) // 4 - (7 * seed) % 5 - place
            rows.append(
                {"dataset": "orl", "data": source, "images": images, "method": method, "seed": seed,
                 "correct": correct, "test_rows": faces, "accuracy": 100 * correct / faces, "gradient_steps": 100}
            )  # fmt: skip
    return pd.DataFrame(rows)


def accuracies(rows, images, method):
    return rows[(rows["images"] == images) & (rows["method"] == method)]["accuracy"].tolist()


@pytest.mark.parametrize("profile", PROFILES)
def test_gadam_and_the_best_of_g_adam_runs_cost_the_same(profile):
    runs = section54_orl.runs(profile, "standin")
    (gadam,) = {run.config["population_size"] * 2 * run.config["generations"] * run.config["steps"]
                for run in runs if run.function.endswith("cnn_by_gadam")}  # fmt: skip
    (adam,) = {run.config["population_size"] * run.config["steps"]
               for run in runs if run.function.endswith("cnns_by_adam")}  # fmt: skip
    assert gadam == adam


@pytest.mark.parametrize("profile", PROFILES)
def test_each_method_runs_on_each_split_of_each_size(profile):
    runs = section54_orl.runs(profile, "standin")
    seeds = section54_orl.PROFILES[profile]["seeds"]
    assert len({run.identity() for run in runs}) == len(runs) == len(METHODS) * len(section54_orl.IMAGES) * seeds
    assert {run.config["data"] for run in runs} == {"standin"}
    assert len({run.data_hash for run in [*runs, *section54_orl.curve_runs(profile, "standin")]}) == 1


def test_quick_has_several_seeds_and_paper_ten_and_the_network_of_the_paper():
    assert section54_orl.PROFILES["quick"]["seeds"] >= 3
    size = section54_orl.PROFILES["paper"]
    assert size["seeds"] >= 10
    assert (size["shrink"], size["hidden"], size["trees"], size["gcforest"]["trees"]) == (1, 1_024, 2_000, 500)


def test_the_share_of_the_budget_is_of_pixels_hidden_units_training_and_trees(monkeypatch):
    for method in section54_orl.METHODS:
        assert section54_orl_results.budget_share(method, "paper") is None
    paper = section54_orl.PROFILES["paper"]
    forest = paper["gcforest"] | {"trees": 50, "scan_trees": 250}
    small = paper | {"shrink": 2, "hidden": 512, "trees": 200, "gcforest": forest, "g": 5, "steps": 30}
    monkeypatch.setitem(section54_orl.PROFILES, "small", small)
    shares = {method: section54_orl_results.budget_share(method, "small") for method in section54_orl.METHODS}
    assert shares == pytest.approx({
        **dict.fromkeys((section54_orl.GADAM, section54_orl.ADAM, section54_orl.ADAM_BEST), 1 / 32),
        section54_orl.GCFOREST: 1 / 80, section54_orl.FOREST: 1 / 10, section54_orl.SVM: None, section54_orl.KNN: None,
    })  # fmt: skip


def test_table3_shows_mean_interval_and_the_papers_value():
    rows = made_up()
    table = section54_orl_results.table3(rows, "quick").set_index(["images", "method"])
    assert len(table) == 21
    line = table.loc[(7, section54_orl.GADAM)]
    mean, low, high = mean_interval(accuracies(rows, 7, section54_orl.GADAM))
    assert (line["ours"], line["low"], line["high"]) == pytest.approx((mean, low, min(high, 100)))
    assert (line["paper"], line["seeds"], line["test faces"]) == (99.17, section54_orl.PROFILES["quick"]["seeds"], 120)
    assert pd.isna(table.loc[(9, section54_orl.ADAM_BEST), "paper"])
    assert (table["high"] <= 100).all()


def test_the_note_says_what_was_reduced_and_nothing_where_nothing_was():
    assert "averaged over 4 x 4 pixels, 28 x 23 for 112 x 92" in section54_orl_results.note("quick")
    assert "Reduced" not in section54_orl_results.note("paper")


def test_every_number_of_table3_is_a_claim():
    rows = made_up()
    claims = section54_orl_results.claims(rows, "quick")
    judged = scoreboard.judged(claims)
    assert not [item for item in scoreboard.without_claim(judged) if item.startswith("table3/")]
    assert claims["kind"].value_counts().to_dict() == {"value": 18, "greater": 18}
    line = claims.set_index("claim").loc["kNN (k=3) reaches 92.50 % on ORL with 9 images"]
    low, high = prediction_interval(accuracies(rows, 9, section54_orl.KNN))
    assert (line["low"], line["high"]) == pytest.approx((low, high))
    verdicts = judged.set_index("claim")["verdict"]
    reduced = verdicts == scoreboard.REDUCED
    assert not reduced["SVM (rbf) reaches 80.50 % on ORL with 5 images"]
    assert reduced["CNN (GADAM) reaches 97.00 % on ORL with 5 images"]
    assert not (
        scoreboard.judged(section54_orl_results.claims(rows, "paper"), "paper")["verdict"] == scoreboard.REDUCED
    ).any()


def test_gadam_is_compared_split_by_split():
    rows = made_up()
    by_seed = rows[rows["images"] == 5].pivot_table(index="seed", columns="method", values="accuracy")
    expected = mean_interval((by_seed[section54_orl.GADAM] - by_seed[section54_orl.KNN]).tolist())
    line = section54_orl_results.differences(rows).set_index(["images", "method"]).loc[(5, section54_orl.KNN)]
    assert (line["difference"], line["low"], line["high"]) == pytest.approx(expected)
    claims = section54_orl_results.claims(rows, "quick").set_index("claim")
    line = claims.loc["CNN (GADAM) is more accurate than kNN (k=3) on ORL with 5 images"]
    assert (line["ours"], line["low"], line["high"]) == pytest.approx(expected)
    assert line["paper"] == "+21.00"
    assert line["budget"] == section54_orl_results.budget_share(section54_orl.GADAM, "quick")


def test_the_papers_table3_is_as_printed():
    printed = """
        97.00 99.17 100.00 96.50 97.50 98.50 91.00 96.67 97.50 91.00 93.33 95.00 80.50 82.50 85.00 76.00 83.33 92.50
    """
    values = [paper.TABLE3[method][images] for method in paper.TABLE3 for images in section54_orl.IMAGES]
    assert values == [float(word) for word in printed.split()]


@pytest.mark.parametrize("function", METHODS)
def test_methods_learn_on_a_stand_in_and_repeat_themselves(function):
    call = getattr(section54_orl, function)
    rows = call("orl", "standin", 9, 1, **TINY[function])
    assert rows == call("orl", "standin", 9, 1, **TINY[function])
    assert [row["method"] for row in rows] == METHODS[function]
    for row in rows:
        assert (row["data"], row["images"], row["test_rows"]) == ("stand-in", 9, 40)
        right = [row[way] for way in beyond.WAYS] if row["method"] == KEPT else [row["correct"]]
        assert min(right) > 4 * 40 / 40  # four times chance


def test_images_shrink_to_the_mean_of_their_squares():
    whole, small = (section54_orl._load("orl", "standin", 5, 0, shrink) for shrink in (1, 3))
    assert small.feature_shape == (1, 37, 30)
    torch.testing.assert_close(small.test[0][7, 0, 4, 5], whole.test[0][7, 0, 12:15, 15:18].mean())
    assert small.test[1].equal(whole.test[1])


def test_the_held_out_curve_sees_training_faces_only_and_falls():
    settings = {"shrink": 5, "hidden": 64, "batch_size": 16, "units": 2, "steps": 60, "points": 4}
    rows = pd.DataFrame(section54_orl.held_out_curve("orl", "standin", 9, **settings))
    assert rows.groupby("unit")["step"].apply(list).tolist() == [[15, 30, 45, 60]] * 2
    losses = rows.pivot_table(index="step", columns="unit", values="loss")
    assert (losses.loc[60] < losses.loc[15]).all()
    assert rows["accuracy"].between(0, 100).all()


@pytest.mark.parametrize("source", ["real", "stand-in"])
def test_figures_draw_and_show_the_papers_values_on_real_data_only(source):
    rows = made_up(source=source)
    figure = exhibits.section54_orl.accuracies(rows, section54_orl_results.table3(rows, "quick"))
    figure.canvas.draw()
    table = section54_orl_results.table3(rows, "quick")
    left, right = figure.axes[0].get_xlim()
    assert left < table["low"].min()
    assert right > 100
    assert ("paper" in [text.get_text() for text in figure.legends[0].get_texts()]) == (source == "real")
    plt.close(figure)
    points = [
        {"images": images, "unit": unit, "step": step, "loss": 1 / step, "accuracy": 10.0 * step}
        for images in section54_orl.IMAGES
        for unit in (0, 1)
        for step in (1, 2)
    ]
    figure = exhibits.section54_orl.budget(pd.DataFrame(points), section54_orl.depth("quick"))
    figure.canvas.draw()
    assert figure.axes[0].get_xlabel()
    assert figure.axes[0].get_ylabel()
    plt.close(figure)
