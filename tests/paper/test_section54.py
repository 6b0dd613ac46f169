"""Tables 3 and 4 and their runs, on made-up rows or tiny budgets."""

import pandas as pd
import pytest
import torch

from gadam.paper import PROFILES, beyond, comparison, published, section54, section54_orl
from gadam.paper.claims import Arms, judge
from gadam.paper.comparison import ALONE, FOREST, GCFOREST, KEPT, KNN, SVM
from gadam.paper.drawing import GREEN, RED
from gadam.paper.report import scoreboard
from gadam.paper.section54 import DATASETS, TEST_ROWS
from gadam.paper.section54_orl import TEST_FACES
from gadam.paper.statistics import accuracy_interval
from gadam.paper.units import where

BOTH = pytest.mark.parametrize("section", [section54, section54_orl], ids=["tables", "orl"])
EXHIBITS = {section54: "table4", section54_orl: "table3"}
NAMES = {"gcforest": (GCFOREST,), "forest": (FOREST,), "svm": (SVM,), "neighbours": (KNN,)}
MLP, ADAM, BEST = section54.METHODS[:3]
CNN = section54_orl.GADAM


def methods_of(run):
    """The methods of its rows."""
    section = section54_orl if run.config["dataset"] == "orl" else section54
    kind = run.function.name.split("/")[1]
    return {"gadam": (section.GADAM, KEPT), "adam": (section.ADAM, section.ADAM_BEST, ALONE)}.get(kind) or NAMES[kind]


def made_up(runs, shift=None):
    """Rows as the runs give them: the paper's numbers up to a test row or two, the best of g as good as GADAM.

    By `shift`, of a size of images (None for tables), GADAM is so many points better.
    """
    rows = []
    for run in runs:
        dataset, images, shrink, seed = (run.config.get(name) for name in ("dataset", "images", "shrink", "seed"))
        tested = TEST_FACES[images] if images else TEST_ROWS[dataset]
        table = published.TABLE3 if images else published.TABLE4
        gadam = next(iter(table))
        for method in methods_of(run):
            line = {"arm": run.arm, "dataset": dataset, "images": images, "data": "real", "seed": seed}
            line |= {"method": method, "test_rows": tested}
            if method in (KEPT, ALONE):
                rows.append(line | dict.fromkeys(beyond.WAYS, 1))
                continue
            accuracy = table[gadam if "best of g" in method else method][images or dataset]
            accuracy += (shift or {}).get(shrink, 0) * (method == gadam)
            correct = min(tested, round(accuracy / 100 * tested) + seed % 3 - 1)
            rows.append(line | {"accuracy": 100 * correct / tested, "gradient_steps": 100})
    return pd.DataFrame(rows)


def claims_of(section, rows, profile="standard"):
    return comparison.claims(EXHIBITS[section], section.cells(rows, profile))


def verdicts(section, rows, runs, profile="standard", there=lambda run: True):
    """(mark, reason) of each claim, by its text."""
    found = {claim.text: judge(claim, Arms.of(runs, there), profile) for claim in claims_of(section, rows, profile)}
    return {text: (one.mark, one.reason) for text, one in found.items()}


@BOTH
@pytest.mark.parametrize("profile", PROFILES)
def test_compute_is_equal(section, profile):
    spent = {}
    for run in section.runs(profile, "real"):
        kind, size = run.function.name.split("/")[1], run.config
        if kind in ("gadam", "adam"):
            steps = size["population_size"] * size["steps"] * 2 * size.get("generations", 0.5)
            spent.setdefault((size["dataset"], size.get("images"), size.get("shrink")), []).append((kind, steps))
    assert all(len({steps for _, steps in one}) == 1 and len(set(one)) == 2 for one in spent.values())


@BOTH
def test_the_papers_numbers_in_all_runs_reproduce_all_but_what_is_no_difference(section):
    runs = section.runs("standard", "real")
    rows, arms = made_up(runs), Arms.of(runs)
    claims = claims_of(section, rows)
    assert [sum(claim.kind == kind for claim in claims) for kind in ("reaches", "value", "greater")] == [3, 15, 18]
    judged = scoreboard.judged(claims, arms)
    assert not scoreboard.without_claim(judged)
    keys = [key for name in (DATASETS if section is section54 else ["orl"]) for key in (name, f"{name}, equal compute")]
    assert sorted(scoreboard.headlines(judged)["headline"]) == sorted(keys)
    found = verdicts(section, rows, runs)
    alike = {verdict for text, verdict in found.items() if "best of g" in text and "9 images" not in text}
    assert alike == {("not reproduced", "no difference")}
    quoted = {mark for text, (mark, _) in found.items() if GCFOREST in text}
    assert quoted == ({"reproduced"} if section is section54 else {"quoted"})
    others = [text for text in found if not any(part in text for part in ("best of g", GCFOREST, "9 images"))]
    assert {found[text][0] for text in others if section is section54 or "reaches" in text} == {"reproduced"}


TABLES, FACES = (section54, {None: -3}), (section54_orl, {2: -8, 4: -8})
LOWER, UPSIDE = ("not reproduced", "lower"), ("not reproduced", "opposite")


@pytest.mark.parametrize(
    ("section", "shift", "profile", "text", "expected"),
    [
        (*TABLES, "standard", f"{MLP} reaches 87.05 % on ADULT", LOWER),
        (*TABLES, "standard", f"{MLP} is more accurate than {BEST} on LETTER at equal compute", UPSIDE),
        # Here Table 4 itself has the other one ahead; SVM's one run stands for every seed.
        (*TABLES, "standard", f"{SVM} is more accurate than {MLP} on LETTER", ("reproduced", "")),
        (section54, {None: 1}, "quick", f"{MLP} reaches 96.90 % on LETTER", ("reproduced", "reached")),
        (section54, {None: 1}, "quick", f"{ADAM} reaches 96.70 % on LETTER", ("undecided", "budget")),
        (section54, {None: 1}, "quick", f"{KNN} reaches 95.23 % on LETTER", ("quoted", "")),
        (*FACES, "standard", f"{CNN} reaches 97.00 % on ORL with 5 images", LOWER),
        # Worse at one size than at the other.
        (section54_orl, {4: -8}, "standard", f"{CNN} reaches 97.00 % on ORL with 5 images", ("undecided", "budget")),
        # Fewer pixels of one size are a reduced budget.
        (section54_orl, {}, "quick", f"{CNN} is more accurate than CNN (Adam) on ORL with 5 images"
         " (which had 1/g of its gradient steps)", ("undecided", "budget")),
    ],
)  # fmt: skip
def test_claims_are_decided_by_budget_size_and_direction(section, shift, profile, text, expected):
    runs = section.runs(profile, "real")
    assert verdicts(section, made_up(runs, shift), runs, profile)[text] == expected


def test_a_run_that_collapsed_is_apart_beside_one_run_that_stands_for_every_seed_too():
    runs = section54.runs("standard", "real")
    rows = made_up(runs)
    rows.loc[where(rows, dataset="letter", method=MLP).index[0], "accuracy"] = 4.1
    claims = {claim.text: claim for claim in claims_of(section54, rows)}
    verdict = judge(claims[f"{SVM} is more accurate than {MLP} on LETTER"], Arms.of(runs), "standard")
    assert verdict.decides == "without 1 run that collapsed"


def test_svm_and_knn_are_judged_on_the_numbers_of_the_files_and_shown_on_standardised_ones_too():
    runs = [
        run for run in section54.runs("standard", "real") if run.function.name in ("tables/svm", "tables/neighbours")
    ]
    assert {(run.arm.endswith(", standardised"), run.config.get("standardise", True)) for run in runs} == {
        (True, True), (False, False)
    }  # fmt: skip
    cells = {cell.arm: cell for cell in section54.cells(made_up(runs), "standard")}
    for method in (SVM, KNN):
        own, other = cells[f"adult/{method}"], cells[f"adult/{method}, standardised"]
        assert (own.paper, other.paper) == (published.TABLE4[method]["adult"], None)
        assert len(own.rows) == len(other.rows) == 1
    assert not [
        claim.text for claim in comparison.claims("table4", list(cells.values())) if "standardised" in claim.text
    ]


def test_the_share_of_the_budget_is_of_rows_pixels_hidden_units_training_and_trees(monkeypatch):
    assert section54.budget_share(MLP, "yeast", "quick") == 1
    assert section54.budget_share(MLP, "letter", "quick") == pytest.approx(100 / 8_000 / 4)
    share = section54_orl.budget_share
    assert {share(method, "paper") for method in section54_orl.METHODS} == {1}
    # Where the CNNs see two sizes, fewer pixels are no part of it.
    assert {share(method, "standard") for method in section54_orl.METHODS if method != GCFOREST} == {1}
    assert share(GCFOREST, "standard") < 1 / 16
    whole = section54_orl.PROFILES["paper"]
    forest = whole["gcforest"] | {"trees": 50, "scan_trees": 250}
    small = whole | {"seeds": {2: 1}, "hidden": 512, "trees": 200, "gcforest": forest, "g": 5, "steps": 30}
    monkeypatch.setitem(section54_orl.PROFILES, "small", small)
    assert {method: share(method, "small") for method in section54_orl.METHODS} == pytest.approx(
        {**dict.fromkeys(section54_orl.CNNS, 1 / 32), GCFOREST: 1 / 80, FOREST: 1 / 10, SVM: 1, KNN: 1}
    )


def test_a_difference_is_grey_until_all_runs_of_both_are_there():
    runs = section54.runs("standard", "real")
    cells = section54.cells(made_up(runs), "standard")

    def colours(arms):
        figure = section54.differences_figure(cells, arms)
        return {line.get_color() for axis in figure.axes for line in axis.lines if len(line.get_xdata()) == 2}

    assert GREEN in colours(Arms.of(runs))
    assert not {GREEN, RED} & colours(Arms.of(runs, lambda run: False))


def test_table3_shows_both_sizes():
    runs = section54_orl.runs("standard", "real")
    rows = made_up(runs)
    table = section54_orl.table3(section54_orl.cells(rows, "standard"), Arms.of(runs))
    table = table.set_index(["images", "method", "pixels"])
    assert len(table) == 3 * (2 * 3 + 4)
    line = table.loc[(7, CNN, "56 x 46")]
    own = where(rows, arm=section54_orl.arm(7, CNN, 2), method=CNN)["accuracy"].tolist()
    assert (line["ours"], line["low"], line["high"]) == pytest.approx(accuracy_interval(own, 120))
    assert line[["paper", "seeds", "test faces", "gradient steps"]].tolist() == [99.17, "10", 120, 100]
    assert [table.loc[key, "seeds"] for key in ((7, CNN, "28 x 23"), (9, GCFOREST, "28 x 23"))] == ["30", "3"]


def test_images_shrink_to_the_mean_of_their_squares():
    whole, small = (section54_orl.load_faces("orl", "standin", 5, 0, shrink) for shrink in (1, 3))
    assert small.feature_shape == (1, 37, 30)
    torch.testing.assert_close(small.test[0][7, 0, 4, 5], whole.test[0][7, 0, 12:15, 15:18].mean())
    assert small.test[1].equal(whole.test[1])


def test_the_best_of_g_is_that_of_the_lowest_loss_on_rows_held_out(monkeypatch):
    scores = torch.tensor([3.0, 1.0, 2.0]), torch.tensor([5, 6, 7])
    monkeypatch.setattr(comparison, "scorer", lambda template: lambda population, rows: scores)
    rows = section54.FUNCTIONS[ADAM]("yeast", "standin", 0, 100, population_size=3, steps=2)
    assert [(row["correct"], row["gradient_steps"]) for row in rows[:2]] == [(5, 2), (6, 6)]
    units = [(row["unit"], row["correct"], row["gradient_steps"], row["test_loss"]) for row in rows[3:]]
    assert units == [(0, 5, 2, 3.0), (1, 6, 2, 1.0), (2, 7, 2, 2.0)]
