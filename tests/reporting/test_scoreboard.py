import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gadam import InputError
from gadam.experiments import SECTIONS
from gadam.reporting import scoreboard

VALUE = {
    "claim": "accuracy 92.5", "section": "5.4", "exhibit": "table4", "kind": "value", "paper": 92.5, "ours": 92.0,
    "low": 91.0, "high": 93.0, "interval": "95 %, Student's t", "seeds": 10, "data": "real",
}  # fmt: skip
GREATER = {
    **VALUE,
    "claim": "better than Adam",
    "kind": "greater",
    "paper": "> 0",
    "ours": 0.5,
    "low": 0.1,
    "high": 0.9,
}
WITHIN = {**VALUE, "claim": "remains stable", "kind": "within", "paper": 1.0, "ours": 0.1, "low": -0.2, "high": 0.4}
WIDE, REDUCED = "undecidable (interval too wide)", "undecidable (reduced budget)"
BOTH = "undecidable (limit in interval)"


@pytest.mark.parametrize(
    ("base", "change", "expected"),
    [
        (VALUE, {}, "reproduced"),
        (VALUE, {"low": 92.5}, "reproduced"),
        (VALUE, {"high": 92.5}, "reproduced"),
        (VALUE, {"low": 92.50001}, "not reproduced"),
        (VALUE, {"high": 92.4}, "not reproduced"),
        (VALUE, {"paper": "92.5"}, "reproduced"),
        (VALUE, {"low": 82.0, "high": 103.0}, WIDE),  # wider than 10 % of the paper's value to either side
        (VALUE, {"low": 83.3, "high": 101.7}, "reproduced"),
        (VALUE, {"low": 10.0, "high": 80.0}, "not reproduced"),
        (GREATER, {}, "reproduced"),
        (GREATER, {"low": 0.0}, BOTH),
        (GREATER, {"low": -0.1}, BOTH),
        (GREATER, {"low": -2.0, "high": -1.0}, "not reproduced"),
        (GREATER, {"low": -2.0, "high": 0.0}, BOTH),
        (WITHIN, {}, "reproduced"),
        (WITHIN, {"low": -1.0, "high": 1.0}, "reproduced"),
        (WITHIN, {"low": -1.01}, BOTH),
        (WITHIN, {"high": 1.01}, BOTH),
        (WITHIN, {"low": -3.0, "high": 3.0}, BOTH),
        (GREATER, {"kind": "open", "paper": "minor", "low": None}, "undecidable (as stated)"),
        (WITHIN, {"low": 1.0, "high": 3.0}, BOTH),
        (WITHIN, {"low": 1.01, "high": 3.0}, "not reproduced"),
        (WITHIN, {"low": -3.0, "high": -1.01}, "not reproduced"),
        *((base, {"ours": none}, "undecidable (no result)") for base in (VALUE, GREATER) for none in (None, np.nan)),
        *(
            (base, {name: none}, "undecidable (no interval)")
            for base in (VALUE, GREATER, WITHIN)
            for name in ("low", "high")
            for none in (None, np.nan)
        ),
        *((VALUE, {"seeds": few}, "undecidable (fewer than 2 seeds)") for few in (None, np.nan, 1)),
        (GREATER, {"seeds": 2}, "reproduced"),
        *((base, {"budget": 0.999}, REDUCED) for base in (VALUE, GREATER, WITHIN)),
        (VALUE, {"budget": 0.013, "low": 95.0, "high": 96.0}, REDUCED),  # whatever our number is
        (VALUE, {"budget": 0.5, "ours": None}, "undecidable (no result)"),
        *((VALUE, {"budget": all_of_it}, "reproduced") for all_of_it in (None, np.nan, "", 1, 1.0, 2.5)),
        (VALUE, {"data": "stand-in"}, "undecidable (stand-in data)"),
        (VALUE, {"data": "stand-in", "budget": 0.1}, "undecidable (stand-in data)"),
        (GREATER, {"data": "stand-in", "low": None}, "undecidable (stand-in data)"),
    ],
)
def test_verdict_follows_the_rules(base, change, expected):
    assert scoreboard.verdict({**base, **change}) == expected
    assert scoreboard.judged(pd.DataFrame([{**base, **change}]))["verdict"].tolist() == [expected]


numbers = st.floats(-1e6, 1e6)


@st.composite
def rows(draw):
    low, high = sorted((draw(numbers), draw(numbers)))
    kind = draw(st.sampled_from(scoreboard.KINDS))
    theirs = draw(st.floats(1e-6, 1e6)) if kind == "within" else draw(numbers)
    return {
        **VALUE, "kind": kind, "paper": theirs, "ours": (low + high) / 2, "low": low, "high": high,
        "budget": draw(st.none() | st.floats(0, 2)), "seeds": draw(st.integers(1, 20)),
    }  # fmt: skip


@given(rows())
def test_verdict_is_always_one_of_the_known_and_a_shrunk_budget_never_decides(row):
    assert scoreboard.verdict(row) in scoreboard.VERDICTS
    reduced = scoreboard.verdict({**row, "budget": 0.5})
    assert reduced == (scoreboard.AS_STATED if row["kind"] == "open" else REDUCED)
    assert scoreboard.verdict(row, "smoke") == scoreboard.SMOKE


@given(rows(), st.floats(0, 1), st.floats(0, 1))
def test_a_narrower_interval_never_undoes_what_was_decided(row, first, second):
    """Of the rules on differences: whatever holds of all of an interval holds of every part of it."""
    width = row["high"] - row["low"]
    low, high = sorted((row["low"] + first * width, row["low"] + second * width))
    low, high = max(low, row["low"]), min(high, row["high"])
    decided = scoreboard.verdict(row)
    narrower = {**row, "low": low, "high": high}
    if decided == scoreboard.NOT_REPRODUCED or (decided == scoreboard.REPRODUCED and row["kind"] != "value"):
        assert scoreboard.verdict(narrower) == decided


@given(rows())
def test_mirrored_difference_within_a_margin_has_the_same_verdict(row):
    row |= {"kind": "within", "paper": abs(row["paper"]) + 1}
    assert scoreboard.verdict(row) == scoreboard.verdict({**row, "low": -row["high"], "high": -row["low"]})


def test_rules_speak_of_every_reason():
    text = " ".join(scoreboard.RULES)
    for word in ("value", "greater than 0", "within a margin", "reduced budget", "two seeds", "smoke", "stand-in"):
        assert word in text


def test_budget_is_shown_as_the_share_that_was_spent():
    shares = [None, 0.0128, 0.5, 0.9999, 1.0, 2.5, 0.000456]
    judged = scoreboard.judged(pd.DataFrame([{**VALUE, "budget": share} for share in shares]))
    shown = [row["budget"] for row in scoreboard.readable(judged)]
    assert shown == ["", "1.3 %", "50 %", "99 %", "100 %", "250 %", "0.046 %"]
    assert judged["ours"].tolist() == [92.0] * len(shares)  # our number stays


def test_every_number_of_the_papers_tables_can_be_linked_to_a_claim(monkeypatch):
    printed = scoreboard.paper_numbers()
    assert len(printed) == 6 * 2 + 5 + 6 * 3 + 6 * 3
    assert printed["table1/GADAM/loss"] == 0.0396
    assert printed["table3/gcForest/5"] == 91.0
    assert printed["table4/MLP (GADAM)/yeast"] == 63.7
    assert "table1/gcForest/loss" not in printed
    rows = [
        {**VALUE, "section": "section54", "paper": value, "low": 0.0, "high": 100.0, "item": item}
        for item, value in printed.items()
        if item.startswith("table4/")
    ]
    assert scoreboard.without_claim(scoreboard.judged(pd.DataFrame(rows))) == []
    rows[0]["item"] = ""
    rows[1]["kind"] = "greater"  # says nothing about the number itself
    expected = ["table4/MLP (GADAM)/yeast", "table4/MLP (GADAM)/adult"]
    assert scoreboard.without_claim(scoreboard.judged(pd.DataFrame(rows))) == expected
    elsewhere = [{**row, "section": "section3"} for row in rows]
    assert scoreboard.without_claim(scoreboard.judged(pd.DataFrame(elsewhere))) == []


def test_claims_are_counted_by_section():
    rows = [{**VALUE, "section": "section54"}, {**VALUE, "section": "section54", "low": 92.9}] + [
        {**VALUE, "section": "section41", **change} for change in ({"budget": 0.1}, {"budget": 0.2}, {"seeds": 1})
    ]
    frame = scoreboard.by_section(scoreboard.judged(pd.DataFrame(rows))).set_index("section")
    assert len(frame) == len(SECTIONS)
    numbers = ["claims", "reproduced", "not reproduced", "undecidable"]
    assert frame.loc[SECTIONS["section54"].title, numbers].tolist() == [2, 1, 1, 0]
    line = frame.loc[SECTIONS["section41"].title]
    assert line[numbers].tolist() == [3, 0, 0, 3]
    assert line["undecidable because of"] == "reduced budget 2, fewer than 2 seeds 1"
    assert frame.loc[SECTIONS["section3"].title, "undecidable because of"] == "no claims in this report"


def test_our_number_on_a_stand_in_does_not_meet_the_papers():
    judged = scoreboard.judged(pd.DataFrame([VALUE, {**VALUE, "data": "stand-in"}]))
    assert judged["ours"].tolist() == [92.0, None]
    assert judged[["low", "high", "interval"]].iloc[1].tolist() == [None] * 3
    assert list(judged.columns) == [*scoreboard.COLUMNS, "verdict"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "less"}, "kind='less' is not allowed; it must be one of value, greater, within"),
        ({"data": "fake"}, "data='fake' is not allowed; it must be one of real, stand-in"),
        ({"data": None}, "data=None is not allowed"),
        ({"paper": "about 92"}, "paper='about 92' of 'accuracy 92.5' must be a number"),
        ({"kind": "within", "paper": "stable"}, "must be a number, as its kind is 'within'"),
        ({"kind": "within", "paper": 0.0}, r"paper=0\.0 of 'accuracy 92\.5' must be a margin above 0"),
        ({"budget": -0.1}, r"budget=-0\.1 of 'accuracy 92\.5' must be a share"),
        ({"budget": math.inf}, "budget=inf of"),
        ({"budget": "half"}, "budget='half' of"),
        ({"item": "table4/MLP/yeast"}, "item='table4/MLP/yeast' of 'accuracy 92.5' is none of"),
        ({"item": "table4/MLP (GADAM)/yeast"}, r"paper=92\.5 of 'accuracy 92\.5', but table4/.* is 63\.7"),
        ({"low": 94.0}, "low=94.0 of 'accuracy 92.5' must not be above high=93.0"),
    ],
)
def test_wrong_claims_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        scoreboard.judged(pd.DataFrame([{**VALUE, **change}]))


def test_missing_columns_are_named():
    with pytest.raises(InputError, match=r"columns \['low', 'data'\] are missing; there must be claim, section"):
        scoreboard.judged(pd.DataFrame([VALUE]).drop(columns=["low", "data"]))


def test_claims_are_merged_in_the_order_of_sections_without_a_change(tmp_path):
    scoreboard.write_claims(tmp_path, "section54", pd.DataFrame([VALUE, GREATER]))
    scoreboard.write_claims(tmp_path, "section3", pd.DataFrame([{**VALUE, "claim": "first"}]))
    scoreboard.write_claims(tmp_path, "elsewhere", pd.DataFrame([VALUE]))
    merged = scoreboard.merge(tmp_path)
    assert merged["claim"].tolist() == ["first", "accuracy 92.5", "better than Adam"]
    assert merged["paper"].tolist() == ["92.5", "92.5", "> 0"]
    assert scoreboard.counts(merged)["reproduced"] == 3
    assert scoreboard.readable(merged)[1]["ours"] == "92 [91, 93]"
    assert scoreboard.readable(merged)[2]["ours"] == "0.5000 [0.1000, 0.9000]"
    assert scoreboard.readable(merged)[1:] == scoreboard.readable(scoreboard.judged(pd.DataFrame([VALUE, GREATER])))


def test_claims_written_before_a_column_was_there_can_still_be_read(tmp_path):
    judged = scoreboard.write_claims(tmp_path, "section54", pd.DataFrame([VALUE]))
    (tmp_path / "section3.csv").write_text(judged.drop(columns=["budget", "item"]).to_csv(index=False))
    merged = scoreboard.merge(tmp_path)
    assert merged[["budget", "item"]].to_numpy().tolist() == [["", ""], ["", ""]]
    assert [row["budget"] for row in scoreboard.readable(merged)] == ["", ""]


def test_no_claims_yet(tmp_path):
    merged = scoreboard.merge(tmp_path)
    assert merged.empty
    assert list(merged) == [*scoreboard.COLUMNS, "verdict"]
    assert sum(scoreboard.counts(merged).values()) == 0


def test_smoke_decides_nothing():
    assert scoreboard.verdict(VALUE, "smoke") == scoreboard.verdict(GREATER, "smoke") == "undecidable (profile smoke)"


@pytest.mark.parametrize(
    ("item", "paper", "low", "high", "expected"),
    [
        ("table4/MLP (GADAM)/yeast", 63.7, 62.0, 65.9, "reproduced"),
        ("table4/MLP (GADAM)/yeast", 63.7, 61.0, 66.0, "undecidable (interval too wide)"),
        ("table1/GADAM/loss", 0.0396, 0.037, 0.042, "reproduced"),
        ("table1/GADAM/loss", 0.0396, 0.03, 0.05, "undecidable (interval too wide)"),
        ("table1/GADAM/accuracy", 99.37, 95.0, 100.0, "undecidable (interval too wide)"),
    ],
)
def test_how_wide_an_interval_may_be_depends_on_what_it_is_of(item, paper, low, high, expected):
    row = {"kind": "value", "paper": paper, "ours": paper, "low": low, "high": high, "seeds": 5, "data": "real"}
    assert scoreboard.verdict({**row, "item": item}) == expected
