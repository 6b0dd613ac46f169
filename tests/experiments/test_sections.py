"""The sections' runs, tables, claims and figures, on made-up rows or tiny budgets; here those on tables first."""

import pandas as pd
import pytest
from matplotlib import pyplot as plt

from gadam.paper import (
    PROFILES,
    SECTIONS,
    beyond,
    section54,
    section54_results,
)
from gadam.paper import (
    published as paper,
)
from gadam.paper.claims import Arms, judge
from gadam.paper.report import exhibits, scoreboard
from gadam.paper.runs import RUN_FUNCTIONS
from gadam.paper.section54 import ADAM, ADAM_BEST, DATASETS, GADAM, GCFOREST, KNN, METHODS, SVM, TEST_ROWS, arm
from gadam.paper.statistics import accuracy_interval, mean_interval
from gadam.paper.units import KEPT

NAMES = {"tables/gadam": (GADAM, KEPT), "tables/adam": (ADAM, ADAM_BEST), "tables/gcforest": (GCFOREST,),
         "tables/forest": (section54.FOREST,), "tables/svm": (SVM,), "tables/neighbours": (KNN,)}  # fmt: skip


def table4_rows(runs, shift=0.0):
    """Rows as the runs give them: the paper's numbers up to two test rows, the best of g as GADAM, whatever the seed.

    GADAM is `shift` points better.
    """
    rows = []
    for run in runs:
        name, seed = run.config["dataset"], run.config["seed"]
        for method in NAMES[run.function.name]:
            about = {"dataset": name, "data": "real", "method": method, "seed": seed, "test_rows": TEST_ROWS[name]}
            if method == KEPT:
                rows.append(about | dict.fromkeys(beyond.WAYS, 1))
                continue
            accuracy = paper.TABLE4[GADAM if method == ADAM_BEST else method][name] + shift * (method == GADAM)
            correct = round(accuracy / 100 * TEST_ROWS[name]) + seed % 3 - 1
            rows.append(
                about | {"correct": correct, "accuracy": 100 * correct / TEST_ROWS[name], "gradient_steps": 100}
            )
    return pd.DataFrame(rows)


def there(rows):
    """Which run has a row."""
    known = set(zip(rows["dataset"], rows["method"], rows["seed"], strict=True))
    return lambda run: (run.config["dataset"], NAMES[run.function.name][0], run.config["seed"]) in known


@pytest.fixture(scope="module")
def runs():
    return section54.runs("standard", "real")


def verdicts(claims, arms, profile="standard"):
    """(mark, reason) of each claim, by its text."""
    found = {claim.text: judge(claim, arms, profile) for claim in claims}
    return {text: (one.mark, one.reason) for text, one in found.items()}


@pytest.mark.parametrize("profile", PROFILES)
def test_budgets_are_equal_and_what_draws_nothing_runs_once_on_a_fixed_split(profile):
    runs, budget = section54.runs(profile, "real"), section54.PROFILES[profile]
    gadam, adam = (
        {run.config["dataset"]: run.config for run in runs if run.function is function}
        for function in (section54.mlp_by_gadam, section54.mlps_by_adam)
    )
    for name, config in gadam.items():
        spent = 2 * config["population_size"] * config["generations"] * config["steps"]
        assert adam[name]["population_size"] * adam[name]["steps"] == spent
    arms = Arms.of(runs)
    for name in DATASETS:
        once = name != "yeast" and budget["train_rows"] is None
        assert arms[arm(name, SVM)] == arms[arm(name, KNN)] == (((1,) * 2) if once else (budget["seeds"],) * 2)
        assert arms[arm(name, ADAM_BEST)] == arms[arm(name, GADAM)] == (budget["seeds"],) * 2
        assert arms[arm(name, GCFOREST)] == (budget["gcforest_seeds"][name],) * 2


def test_the_papers_numbers_in_all_runs_reproduce_all_but_what_is_no_difference(runs):
    rows, arms = table4_rows(runs), Arms.of(runs)
    claims = section54_results.claims(rows, "standard")
    assert {kind: sum(claim.kind == kind for claim in claims) for kind in ("reaches", "value", "greater")} == {
        "reaches": 3, "value": 15, "greater": 18,
    }  # fmt: skip
    found = verdicts(claims, arms)
    best_of_g = [text for text in found if ADAM_BEST in text]
    assert {found.pop(text) for text in best_of_g} == {("not reproduced", "no difference")}
    assert {mark for mark, _ in found.values()} == {"reproduced"}
    assert len(best_of_g) == 3
    judged = scoreboard.judged(claims, arms)
    assert not [item for item in scoreboard.without_claim(judged) if item.startswith("table4/")]
    assert scoreboard.headlines(judged)["headline"].tolist() == [
        *DATASETS, *(f"{name}, equal compute" for name in DATASETS)
    ]  # fmt: skip

    found = verdicts(section54_results.claims(table4_rows(runs, -3), "standard"), arms)
    assert found["MLP (GADAM) reaches 87.05 % on ADULT"] == ("not reproduced", "lower")
    assert found["MLP (GADAM) is more accurate than MLP (Adam, best of g) on LETTER at equal compute"] == (
        "not reproduced", "opposite",
    )  # fmt: skip
    # Here Table 4 itself has the other one ahead; SVM's one run stands for every seed.
    assert found["SVM (rbf) is more accurate than MLP (GADAM) on LETTER"] == ("reproduced", "")
    assert found["gcForest is more accurate than MLP (GADAM) on LETTER"] == ("reproduced", "")


def test_less_than_the_budget_decides_only_what_is_reached_and_quoted_numbers_are_counted_apart():
    runs = section54.runs("quick", "real")
    found = verdicts(section54_results.claims(table4_rows(runs, 1), "quick"), Arms.of(runs), "quick")
    assert section54_results.budget_share(GADAM, "yeast", "quick") == 1
    assert section54_results.budget_share(GADAM, "letter", "quick") == pytest.approx(200 / 8_000 / 4)
    assert found["MLP (GADAM) reaches 96.90 % on LETTER"] == ("reproduced", "reached")
    assert found["MLP (Adam) reaches 96.70 % on LETTER"] == ("undecided", "budget")
    assert found["kNN (k=3) reaches 95.23 % on LETTER"] == found["gcForest reaches 63.45 % on YEAST"] == ("quoted", "")
    assert found["kNN (k=3) reaches 48.80 % on YEAST"][0] == "reproduced"


def test_tables_pair_over_the_seeds_of_both_and_show_intervals_within_0_to_100(runs):
    rows, arms = table4_rows(runs), Arms.of(runs)
    table = section54_results.table4(rows, arms).set_index(["dataset", "method"])
    assert len(table) == 21
    assert table.loc["ADULT", "seeds"].to_dict() == dict.fromkeys(METHODS, "20") | {GCFOREST: "3", SVM: "1", KNN: "1"}
    line = table.loc["YEAST", GADAM]
    values = rows.query("dataset == 'yeast' and method == @GADAM")["accuracy"].tolist()
    assert (line["ours"], line["low"], line["high"]) == pytest.approx(accuracy_interval(values, 446))
    assert (line["paper"], line["gradient steps"]) == (63.70, 100)
    assert pd.isna(table.loc[("YEAST", ADAM_BEST), "paper"])
    assert table.loc[("ADULT", SVM), "interval"] == "over test rows (exact)"
    frame = section54_results.differences(rows, "standard", arms).set_index(["dataset", "method"])
    by_seed = rows.query("dataset == 'letter'").pivot_table(index="seed", columns="method", values="accuracy")
    line = frame.loc["LETTER", GCFOREST]
    paired = (by_seed[GADAM] - by_seed[GCFOREST]).dropna()
    assert line["seeds"] == "3"
    assert line["difference"] == pytest.approx(paired.mean())
    line = frame.loc["LETTER", SVM]
    single = (by_seed[GADAM] - by_seed[SVM].dropna().iloc[0]).dropna().tolist()
    assert (line["difference"], line["low"], line["high"]) == pytest.approx(mean_interval(single), abs=0.01)


def test_what_is_not_computed_is_empty_and_decides_nothing(runs):
    nothing, none = pd.DataFrame(), Arms.of(runs, lambda run: False)
    found = verdicts(section54_results.claims(nothing, "standard"), none)
    assert set(found.values()) == {("undecided", "not computed")}
    table = section54_results.table4(nothing, none)
    assert table["ours"].isna().all()
    assert table["seeds"].iloc[0] == "0 of 20"

    rows = table4_rows(runs)
    rows = rows[(rows["dataset"] != "letter") & ~((rows["method"] == GCFOREST) & (rows["seed"] > 200))]
    rows = rows[(rows["method"] != GADAM) | (rows["dataset"] == "adult") | (rows["seed"] < 207)]
    some = Arms.of(runs, there(rows))
    found = verdicts(section54_results.claims(rows, "standard"), some)
    decided = {text for text, (mark, _) in found.items() if mark != "undecided"}
    # 5 values each but gcForest's; of the differences those of ADULT: GADAM on YEAST has 7 of 20 runs.
    assert len(decided) == 4 + 5 + 5
    assert not [text for text in decided if "LETTER" in text or "gcForest" in text]
    table = section54_results.table4(rows, some).set_index(["dataset", "method"])
    assert table.loc[[("YEAST", GADAM), ("ADULT", GCFOREST), ("LETTER", SVM)], "seeds"].tolist() == [
        "7 of 20", "1 of 3", "0 of 1",
    ]  # fmt: skip
    frame = section54_results.differences(rows, "standard", some).set_index(["dataset", "method"])
    assert frame.loc["YEAST", ADAM][["seeds", "complete"]].tolist() == ["7 of 20", False]
    assert frame.loc["ADULT", GCFOREST][["low", "high"]].isna().all()
    cases = {1: frame.reset_index(), 3: section54_results.differences(nothing, "standard", none)}
    for empty, drawn in cases.items():
        figure = exhibits.section54.differences(drawn)
        texts = [text.get_text() for axis in figure.axes for text in axis.texts]
        assert texts.count("not computed yet") == empty
        assert ("7 of 20 runs" in texts) == (empty == 1)
        plt.close(figure)


def test_the_papers_table4_is_as_printed():
    printed = """
        63.70 87.05 96.90 62.05 85.03 96.70 63.45 86.40 97.40 60.44 85.63 96.28 40.76 76.41 97.06 48.80 76.00 95.23
    """
    values = [paper.TABLE4[method][name] for method in paper.TABLE4 for name in section54.DATASETS]
    assert values == [float(word) for word in printed.split()]


@pytest.mark.parametrize("name", NAMES)
def test_methods_learn_on_a_stand_in(name):
    settings = {
        "tables/gadam": {"population_size": 2, "generations": 1, "steps": 60},
        "tables/adam": {"population_size": 2, "steps": 120},
        "tables/gcforest": {"forests": 1, "trees": 5, "max_levels": 1},
        "tables/forest": {"trees": 10},
    }.get(name, {})
    rows = RUN_FUNCTIONS[name]("letter", "standin", 1, 800, **settings)
    assert [row["method"] for row in rows] == list(NAMES[name])
    for row in rows:
        assert (row["data"], row["test_rows"]) == ("stand-in", 4_000)
        right = [row[way] for way in beyond.WAYS] if row["method"] == KEPT else [row["correct"]]
        assert min(right) > 2 * 4_000 / 26  # twice chance


def test_every_figure_draws():
    curve = [
        {"dataset": name, "step": step, "unit": unit, "accuracy": 50.0 + step + unit}
        for name in section54.DATASETS[:2]
        for step in (1, 2)
        for unit in (0, 1)
    ]
    runs = section54.runs("smoke", "standin")
    differences = section54_results.differences(table4_rows(runs), "smoke", Arms.of(runs))
    figures = [
        exhibits.section54.differences(differences),
        exhibits.section54.budget(pd.DataFrame(curve), section54.depths("smoke")),
        exhibits.section54.budget(pd.DataFrame(), section54.depths("smoke")),
    ]
    for figure in figures:
        figure.canvas.draw()
        labels = [axis.get_xlabel() for axis in figure.axes], [axis.get_ylabel() for axis in figure.axes]
        assert any(labels[0]) or figure.get_supxlabel()
        assert any(labels[1]) or figure.axes[0].get_yticklabels()[0].get_text()
        plt.close(figure)


def test_every_section_has_its_notebook_and_exhibits_have_one_owner():
    exhibits_of = [one for section in SECTIONS.values() for one in (*section.tables, *section.figures)]
    assert len(exhibits_of) == len(set(exhibits_of))
    assert {section.notebook for section in SECTIONS.values()} == {
        "section3_method.ipynb",
        "section41_landscape.ipynb",
        "section42_convergence.ipynb",
        "section43_communication.ipynb",
        "section51_lenet.ipynb",
        "section52_settings.ipynb",
        "section53_threads.ipynb",
        "section54_orl.ipynb",
        "section54_tables.ipynb",
        "section6_fidelity.ipynb",
        "beyond_population.ipynb",
    }
