import numpy as np
import pandas as pd
import pytest

from gadam import InputError
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


@pytest.mark.parametrize(
    ("base", "change", "expected"),
    [
        (VALUE, {}, "reproduced"),
        (VALUE, {"low": 92.5}, "reproduced"),
        (VALUE, {"high": 92.5}, "reproduced"),
        (VALUE, {"low": 92.50001}, "not reproduced"),
        (VALUE, {"high": 92.4}, "not reproduced"),
        (VALUE, {"paper": "92.5"}, "reproduced"),
        (VALUE, {"low": 82.0, "high": 103.0}, "undecidable"),  # wider than 10 % of the paper's value to either side
        (VALUE, {"low": 83.3, "high": 101.7}, "reproduced"),
        (VALUE, {"low": 10.0, "high": 80.0}, "not reproduced"),
        (GREATER, {}, "reproduced"),
        (GREATER, {"low": 0.0}, "undecidable"),
        (GREATER, {"low": -0.1}, "undecidable"),
        (GREATER, {"low": -2.0, "high": -1.0}, "not reproduced"),
        (GREATER, {"low": -2.0, "high": 0.0}, "undecidable"),
        *(
            (base, {name: None}, "undecidable")
            for base in (VALUE, GREATER)
            for name in ("ours", "low", "high", "seeds")
        ),
        *((VALUE, {name: np.nan}, "undecidable") for name in ("ours", "low", "high", "seeds")),
        (VALUE, {"seeds": 1}, "undecidable"),
        (GREATER, {"seeds": 2}, "reproduced"),
        (VALUE, {"data": "stand-in"}, "undecidable (stand-in data)"),
        (GREATER, {"data": "stand-in", "low": None}, "undecidable (stand-in data)"),
    ],
)
def test_verdict_follows_the_rules(base, change, expected):
    assert scoreboard.verdict({**base, **change}) == expected
    assert scoreboard.judged(pd.DataFrame([{**base, **change}]))["verdict"].tolist() == [expected]


def test_our_number_on_a_stand_in_does_not_meet_the_papers():
    judged = scoreboard.judged(pd.DataFrame([VALUE, {**VALUE, "data": "stand-in"}]))
    assert judged["ours"].tolist() == [92.0, None]
    assert judged[["low", "high", "interval"]].iloc[1].tolist() == [None] * 3
    assert list(judged.columns) == [*scoreboard.COLUMNS, "verdict"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "less"}, "kind='less' is not allowed; it must be one of value, greater"),
        ({"data": "fake"}, "data='fake' is not allowed; it must be one of real, stand-in"),
        ({"data": None}, "data=None is not allowed"),
        ({"paper": "about 92"}, "paper='about 92' of 'accuracy 92.5' must be a number"),
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


def test_no_claims_yet(tmp_path):
    merged = scoreboard.merge(tmp_path)
    assert merged.empty
    assert list(merged) == [*scoreboard.COLUMNS, "verdict"]
    assert sum(scoreboard.counts(merged).values()) == 0


def test_smoke_decides_nothing():
    assert scoreboard.verdict(VALUE, "smoke") == scoreboard.verdict(GREATER, "smoke") == "undecidable (profile smoke)"
