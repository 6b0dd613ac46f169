"""The scoreboard: judged claims as lines, kept by section, merged, counted and shown."""

import pandas as pd
import pytest

from gadam import InputError
from gadam.paper import SECTIONS
from gadam.paper.claims import HEADLINES, Arms, Claim
from gadam.paper.report import scoreboard
from gadam.paper.verdicts import COMPATIBLE, NOT_REPRODUCED, OPEN, QUOTED, REPRODUCED, UNDECIDED, Evidence

ARMS = Arms(a=(7, 7), b=(3, 7))
NUMBERS = Evidence(tuple(92.5 + 0.1 * step for step in range(-3, 4)))
DIFFERENCES = Evidence(tuple(0.5 + 0.1 * step for step in range(-3, 4)))
ITEM = "table4/MLP (GADAM)/yeast"


def value(**changes):
    base = {"text": "accuracy 92.5", "exhibit": "table4", "kind": "value", "paper": 92.5}
    return Claim(**{**base, "margin": 0.5, "arms": ["a"], "evidence": lambda: NUMBERS, **changes})


def greater(**changes):
    given = {"text": "better than Adam", "kind": "greater", "paper": "greater", "evidence": lambda: DIFFERENCES}
    return value(**{**given, **changes})


def lines(*claims, profile="standard"):
    return scoreboard.judged(claims, ARMS, profile)


def test_a_line_has_claim_number_and_verdict_and_no_number_of_a_stand_in():
    reduced = greater(size=4.0, budget=0.25, evidence=lambda: DIFFERENCES)
    frame = lines(value(), reduced, greater(arms=["b"]), value(data="stand-in"))
    assert tuple(frame) == scoreboard.COLUMNS
    whole, part, missing, standin = frame.to_dict("records")
    assert (whole["claim"], whole["paper"], whole["margin"], whole["seeds"]) == ("accuracy 92.5", 92.5, 0.5, "7")
    assert (whole["low"], whole["ours"], whole["high"]) == pytest.approx((92.3, 92.5, 92.7), abs=0.01)
    assert pd.isna([whole["size"], whole["budget"]]).all()
    assert (part["budget"], missing["seeds"]) == (0.25, "3 of 7")
    verdicts = [(one["verdict"], one["reason"]) for one in (whole, part, missing, standin)]
    reasons = ("budget", "not computed", "stand-in data")
    assert verdicts == [(REPRODUCED, ""), *((UNDECIDED, reason) for reason in reasons)]
    assert part["decides"].startswith("0.25 of the budget says: not reproduced")
    assert all(pd.isna([one[name] for name in scoreboard.NUMBERS]).all() for one in (missing, standin))


def test_a_headline_has_a_second_line_with_a_wider_interval_and_counts_once():
    wanted = ["letter", "mnist"]
    frame = lines(*(greater(headline=key, item="", text=key) for key in wanted), value(paper=63.7, item=ITEM))
    assert frame["headline"].tolist() == ["", "", "", *wanted]
    assert frame["item"].tolist() == ["", "", ITEM, "", ""]
    assert frame["low"][3] < frame["low"][0] < frame["high"][0] < frame["high"][3]
    questions = scoreboard.headlines(frame)
    assert questions["headline"].tolist() == ["mnist", "letter"]  # the order of HEADLINES
    assert [row["question"] for row in scoreboard.readable(questions)] == [HEADLINES["mnist"], HEADLINES["letter"]]
    assert scoreboard.counts(frame) == {REPRODUCED: 2, NOT_REPRODUCED: 1}


def test_every_mark_is_counted_and_every_reason():
    every = {
        REPRODUCED: value(),
        NOT_REPRODUCED: value(paper=99.0),
        COMPATIBLE: value(margin=0.001, evidence=lambda: Evidence(tuple(92.45 + 0.1 * step for step in range(-5, 6)))),
        QUOTED: value(quoted=True, budget=0.1),
        OPEN: value(kind="open", paper="finite", evidence=lambda: (0.0, 0.0, 0.5, "share")),
        UNDECIDED: value(arms=["b"]),
    }
    frame = lines(
        *every.values(), value(arms=["b"]), greater(budget=0.1), value(exhibit="section41_success", arms=["b"])
    )
    assert frame["verdict"].tolist()[: len(every)] == list(every)
    assert scoreboard.counts(frame) == {**dict.fromkeys(every, 1), UNDECIDED: 4}
    assert list(scoreboard.reasons(frame).items()) == [("not computed", 3), ("budget", 1)]
    table = scoreboard.by_section(frame).set_index("section")
    own = table.loc[SECTIONS["section54"].title]
    assert own[["claims", *scoreboard.MARKS]].tolist() == [8, 1, 1, 1, 1, 1, "2 not computed, 1 budget"]
    assert table.loc[SECTIONS["section3"].title, UNDECIDED] == "no claims in this report"


def test_numbers_are_shown_for_a_reader_and_a_part_of_the_budget_never_as_all_of_it():
    shares = [1.0, 0.0128, 0.5, 0.9999, 0.000456]
    rows = scoreboard.readable(lines(*(value(budget=share) for share in shares), value(arms=["b"])))
    assert [row["budget"] for row in rows] == ["", "1.3 %", "50 %", "99 %", "0.046 %", ""]
    assert (rows[0]["ours"], rows[-1]["ours"]) == ("92.50 [92.30, 92.70]", "")


def test_every_number_of_the_papers_tables_can_be_linked_to_a_claim():
    printed = scoreboard.paper_numbers()
    assert len(printed) == 6 * 2 + 5 + 6 * 3 + 6 * 3
    assert (printed["table1/GADAM/loss"], printed["table3/gcForest/5"], printed[ITEM]) == (0.0396, 91.0, 63.7)
    claims = {item: value(paper=number, item=item) for item, number in printed.items() if item.startswith("table4/")}
    assert scoreboard.without_claim(lines(*claims.values())) == []
    claims[ITEM] = value(paper=63.7)
    adult = "table4/MLP (GADAM)/adult"
    claims[adult] = greater(paper=printed[adult], item=adult)  # says nothing about the number itself
    assert scoreboard.without_claim(lines(*claims.values())) == [ITEM, adult]
    assert scoreboard.without_claim(lines(value(exhibit="section3_units"))) == []


def test_claims_are_merged_in_the_order_of_sections_without_a_change(tmp_path):
    assert scoreboard.merge(tmp_path).empty
    judged = scoreboard.write_claims(tmp_path, "section54", [value(), greater(headline="letter")], ARMS, "standard")
    scoreboard.write_claims(
        tmp_path, "beyond", [value(text="last", exhibit="beyond_kept", arms=["b"])], ARMS, "standard"
    )
    (tmp_path / "elsewhere.csv").write_text("nobody reads this")
    merged = scoreboard.merge(tmp_path)
    assert merged["claim"].tolist() == ["accuracy 92.5", "better than Adam", "better than Adam", "last"]
    assert scoreboard.counts(merged) == {REPRODUCED: 2, UNDECIDED: 1}
    assert scoreboard.headlines(merged)["headline"].tolist() == ["letter"]
    shown = [[{**row, "low": "", "high": ""} for row in scoreboard.readable(one)] for one in (merged, judged)]
    assert shown[0][:-1] == shown[1]  # but for digits that no reader sees


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda text: "", "No columns"),
        (lambda text: text[: len(text) // 3], "its columns or verdicts are others"),
        (lambda text: text.replace(",reproduced,", ",proven,"), "its columns or verdicts are others"),
        (lambda text: b"\xff\xfe" + text.encode(), "codec can't decode"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line_that_says_which(tmp_path, damage, reason):
    scoreboard.write_claims(tmp_path, "section54", [value()], ARMS, "standard")
    path = tmp_path / "section54.csv"
    content = damage(path.read_text())
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=f"{path} is damaged .*{reason}.*gadam reproduce --only section54"):
        scoreboard.merge(tmp_path)
