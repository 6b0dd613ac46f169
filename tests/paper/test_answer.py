"""The page's first sentences and picture."""

import pandas as pd
import pytest
from matplotlib import pyplot

from gadam.paper import answer
from gadam.paper.claims import HEADLINES


@pytest.fixture
def folder(tmp_path):
    tables = {
        "table1": {
            "method": ["GADAM", "Adam", "Adam", "GADAM"], "setting": ["evident", "evident", "tuned", "evident"],
            "steps": [800, 800, 800, 80], "paper loss": 0.1, "paper accuracy": [99.37, 99.18, None, None],
            "accuracy": [99.1, 99.0, 99.3, 98.0], "low": 98.5, "high": 99.4, "seeds": "5",
        },
        "table3": {
            "images": [5, 7, 7, 7], "method": ["CNN (GADAM)", "CNN (GADAM)", "CNN (GADAM)", "kNN (k=3)"],
            "pixels": ["56 x 46", "56 x 46", "28 x 23", "112 x 92"], "paper": [97.0, 99.17, 99.17, 83.33],
            "ours": [96.0, 98.0, 97.0, 84.0], "low": 95.0, "high": 99.0, "seeds": "10",
        },
        "table4": {
            "dataset": ["YEAST", "YEAST", "LETTER"], "method": ["MLP (GADAM)", "MLP (Adam, best of g)", "MLP (Adam)"],
            "paper": [63.7, None, 96.7], "ours": [59.1, 59.5, None], "low": [58.2, 58.6, None],
            "high": [60.0, 60.5, None], "seeds": ["20", "20", "0 of 20"],
        },
    }  # fmt: skip
    for name, columns in tables.items():
        pd.DataFrame(columns).to_csv(tmp_path / f"{name}.csv", index=False)
    return tmp_path


def test_the_picture_has_the_whole_budget_the_larger_faces_and_ours_beside_the_papers(folder):
    found = answer.collect(folder).set_index(["dataset", "method"])
    assert found["ours"].dropna().to_dict() == {
        ("mnist", "GADAM"): 99.1, ("mnist", "Adam"): 99.0, ("orl", "GADAM"): 98.0, ("yeast", "GADAM"): 59.1,
        ("yeast", "best of g by Adam"): 59.5,
    }  # fmt: skip
    assert found.loc[("mnist", "GADAM"), "paper"] == 99.37
    figure = answer.picture(found.reset_index())
    panels = {axis.get_title(): [text.get_text() for text in axis.texts] for axis in figure.axes}
    assert {title for title, texts in panels.items() if texts == ["not computed yet"]} == {"ADULT", "LETTER"}
    mnist = figure.axes[0]
    assert mnist.lines[0].get_xdata() == pytest.approx([98.5, 99.4])
    assert mnist.collections[0].get_offsets()[0][0] == pytest.approx(99.1)


def test_a_report_without_tables_has_an_empty_picture(tmp_path):
    assert answer.collect(tmp_path).empty
    pyplot.close(answer.picture(answer.collect(tmp_path)))


def test_sentences_say_every_outcome_with_its_datasets():
    outcomes = {
        "mnist": ("reproduced", ""), "yeast": ("undecided", "power"),
        "adult": ("not reproduced", "smaller than claimed"),
        "letter": ("not reproduced", "opposite"), "orl": ("undecided", "not computed"),
        "mnist, equal compute": ("not reproduced", "no difference"), "yeast, equal compute": ("reproduced", ""),
        "adult, equal compute": ("reproduced", ""), "letter, equal compute": ("reproduced", ""),
        "orl, equal compute": ("undecided", "budget"),
    }  # fmt: skip
    assert set(outcomes) <= set(HEADLINES)
    headlines = pd.DataFrame([(key, *outcome) for key, outcome in outcomes.items()])
    headlines.columns = pd.Index(["headline", "verdict", "reason"])
    (_, published), (_, equal), (_, sure) = answer.sentences(headlines, {"reproduced": 5, "undecided": 3}, 2)
    assert published == (
        "As the paper claims on MNIST; the other way round on LETTER; by less than half of what the paper claims, or "
        "not at all, on ADULT; undecided on YEAST; not computed yet on ORL (7 images)."
    )
    assert equal == "Yes on YEAST, ADULT and LETTER; no difference that matters on MNIST; undecided on ORL (7 images)."
    assert "5 are reproduced and 0 are not; 3 are neither, 2 of them because" in sure
    assert answer.sentences(headlines[:0], {}, 0) == []
