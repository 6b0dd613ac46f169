import numpy as np
import pandas as pd
import pytest

from gadam import InputError
from gadam.paper.report import tables

FRAME = pd.DataFrame(
    {
        "method": ["MLP | GADAM", "k_NN & 50 %", None],
        "accuracy": [98.234567, 100.0, np.nan],
        "loss": [0.01234567, 0.5, -1e-9],
        "seeds": [10.0, np.nan, 3.0],
        "steps": [80_000, 1, 2],
    }
)


def test_csv_has_eight_digits_and_unix_lines():
    assert tables.to_csv(FRAME) == (
        "method,accuracy,loss,seeds,steps\n"
        "MLP | GADAM,98.234567,0.01234567,10,80000\n"
        "k_NN & 50 %,100,0.5,,1\n"
        ",,-1e-09,3,2\n"
    )


def test_last_bits_of_a_sum_do_not_show_whatever_the_type_of_the_column():
    one, other = pd.DataFrame({"a": [0.1 + 0.2], "b": ["x"]}), pd.DataFrame({"a": [0.3], "b": ["x"]})
    assert tables.to_csv(one) == tables.to_csv(other) == tables.to_csv(one.astype(object))


def test_cells_have_fixed_decimals_per_column():
    cells = tables.cells(FRAME)
    assert cells.columns == list(FRAME)
    assert cells.numeric == [False, True, True, True, True]
    assert cells.rows == [
        ["MLP | GADAM", "98.23", "0.0123", "10", "80000"],
        ["k_NN & 50 %", "100.00", "0.5000", "–", "1"],
        ["–", "–", "0.0000", "3", "2"],
    ]
    assert [row[1:3] for row in tables.cells(FRAME, decimals=1).rows] == [
        ["98.2", "0.0"],
        ["100.0", "0.5"],
        ["–", "0.0"],
    ]


def test_decimals_that_are_asked_for_are_there_beside_a_large_value_too():
    frame = pd.DataFrame({"megabytes": [0.4152, 1886.4], "whole": [1.0, 2000.0]})
    assert tables.cells(frame, decimals=2).rows == [["0.42", "1"], ["1886.40", "2000"]]


@pytest.mark.parametrize(
    ("values", "decimals"),
    [
        ([], 0),
        ([1.0, 20.0], 0),
        ([99.4], 2),
        ([100.0, 99.5], 2),
        ([0.5], 4),
        ([1234.5], 0),
        ([1e-12], 6),
        ([1.5, np.inf], 3),
    ],
)
def test_decimals_follow_the_largest_value(values, decimals):
    assert tables.decimals_for(values) == decimals


def test_infinities_and_truth_values_are_text():
    cells = tables.cells(pd.DataFrame({"a": [np.inf, -np.inf, 0.5], "b": [True, False, True]}))
    assert cells.rows == [["∞", "True"], ["-∞", "False"], ["0.5000", "True"]]
    assert cells.numeric == [True, False]


def test_markdown_escapes_pipes_and_aligns_numbers():
    text = tables.to_markdown(tables.cells(FRAME), "Table 4:\nall", "a | note")
    lines = text.splitlines()
    assert lines[0] == "**Table 4: all**"
    assert "MLP \\| GADAM" in lines[4]
    assert lines[3].replace("-", "") == "|:|:|:|:|:|"
    assert lines[-1] == "a \\| note"


def test_latex_escapes_text_and_has_rules_caption_and_label():
    text = tables.to_latex(tables.cells(FRAME), r"100 % of $x_1$ \ done", "note #1", "table4")
    assert r"k\_NN \& 50 \%" in text
    assert r"\caption{100 \% of \$x\_1\$ \textbackslash{} done note \#1}" in text
    assert r"\label{tab:table4}" in text
    assert r"\begin{tabular}{lrrrr}" in text
    assert all(rule in text for rule in (r"\toprule", r"\midrule", r"\bottomrule"))


def test_index_with_a_name_and_columns_of_several_levels_become_plain():
    columns = pd.MultiIndex.from_tuples([("YEAST", "ours"), ("YEAST", "paper")])
    frame = pd.DataFrame([[1.0, 2.0]], columns=columns, index=pd.Index(["MLP"], name="method"))
    plain = tables.flat(frame)
    assert list(plain) == ["method", "YEAST · ours", "YEAST · paper"]
    assert tables.to_csv(plain).splitlines()[1] == "MLP,1,2"


def test_frame_is_left_alone(tmp_path):
    before = FRAME.copy()
    tables.write(tmp_path, "table4", FRAME, "caption")
    pd.testing.assert_frame_equal(FRAME, before)


def test_files_are_the_same_bytes_twice(tmp_path):
    for folder in ("one", "two"):
        tables.write(tmp_path / folder, "table4", FRAME.sample(frac=1, random_state=0), "caption", "note")
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == ["table4.csv", "table4.md", "table4.tex"]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_empty_and_ambiguous_tables_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"frame of 'table4' has shape \(0, 2\)"):
        tables.write(tmp_path, "table4", pd.DataFrame(columns=["a", "b"]), "caption")
    with pytest.raises(InputError, match=r"columns=\['a', 'a'\] must be unique"):
        tables.write(tmp_path, "table4", pd.DataFrame([[1, 2]], columns=["a", "a"]), "caption")
    assert list(tmp_path.iterdir()) == []
