"""Tables as CSV, Markdown, LaTeX and cells; and two reports held against each other."""

import numpy as np
import pandas as pd
import pytest

from gadam import InputError
from gadam.paper.report import tables
from gadam.paper.report.compare import compare

FRAME = pd.DataFrame(
    {
        "method": ["MLP | GADAM", "k_NN & 50 %", None],
        "accuracy": [98.234567, 100.0, np.nan],
        "loss": [0.01234567, 0.5, -1e-9],
        "seeds": [10.0, np.nan, 3.0],
        "steps": [80_000, 1, 2],
    }
)


def test_csv_has_eight_digits_and_unix_lines_whatever_the_type_of_a_column():
    assert tables.to_csv(FRAME) == (
        "method,accuracy,loss,seeds,steps\n"
        "MLP | GADAM,98.234567,0.01234567,10,80000\n"
        "k_NN & 50 %,100,0.5,,1\n"
        ",,-1e-09,3,2\n"
    )
    one, other = pd.DataFrame({"a": [0.1 + 0.2], "b": ["x"]}), pd.DataFrame({"a": [0.3], "b": ["x"]})
    assert tables.to_csv(one) == tables.to_csv(other) == tables.to_csv(one.astype(object))


def test_cells_have_fixed_decimals_per_column():
    cells = tables.cells(FRAME)
    assert cells.columns == list(FRAME)
    assert cells.numeric == [False, True, True, True, True]
    assert cells.rows == [
        ["MLP | GADAM", "98.23", "0.0123", "10", "80,000"],
        ["k_NN & 50 %", "100.00", "0.5000", "–", "1"],
        ["–", "–", "0.0000", "3", "2"],
    ]
    assert [row[1:3] for row in tables.cells(FRAME, 1).rows] == [["98.2", "0.0"], ["100.0", "0.5"], ["–", "0.0"]]
    strange = tables.cells(pd.DataFrame({"a": [np.inf, -np.inf, 0.5], "b": [True, False, True]}))
    assert strange.rows == [["∞", "yes"], ["-∞", "no"], ["0.5000", "yes"]]
    assert strange.numeric == [True, False]
    large = tables.cells(pd.DataFrame({"a": [-1234567.8, -0.001], "b": [12345.0, np.nan]}), 1)
    assert large.rows == [["-1,234,567.8", "12,345"], ["0.0", "–"]]


def test_a_value_and_its_bounds_are_one_cell_and_what_all_rows_share_is_said_once():
    frame = pd.DataFrame({
        "method": ["GADAM", "Adam", "SVM"], "ours": [59.114, 59.294, np.nan], "low": [58.18, 58.42, np.nan],
        "high": [60.04, 60.17, np.nan], "lowest": [1, 2, 3], "loss · low": [1, 1, 2], "loss · high": [2, 2, 3],
        "share": [0.5, 0.5, 0.5], "seeds": [20, 20, 20], "data": ["real", None, "real"], "nothing": [None] * 3,
    })  # fmt: skip
    table = tables.cells(frame, decimals=1)
    assert table.columns == ["method", "ours", "lowest", "share", "nothing"]
    assert [row[:3] for row in table.rows] == [
        ["GADAM", "59.1 [58.2, 60.0]", "1 [1, 2]"], ["Adam", "59.3 [58.4, 60.2]", "2 [1, 2]"], ["SVM", "–", "3 [2, 3]"],
    ]  # fmt: skip
    assert table.everywhere == "In all rows: seeds: 20; data: real."
    assert table.everywhere in tables.to_markdown(table, "caption", "note")
    assert tables.cells(frame[:2]).everywhere == ""  # two rows are short enough


def test_readers_see_the_columns_shown_and_the_data_and_the_csv_has_all(tmp_path):
    frame = pd.DataFrame({"a": ["x", "y"], "b": [1.5, 2.5], "low": [1.0, 2.0], "high": [2.0, 3.0], "c": [1, 2]})
    table = tables.write(tmp_path, "table4", frame.assign(data=["real", "stand-in"]), "caption", shown=["b", "a"])
    assert table.columns == ["b", "a", "data"]
    assert table.rows[0] == ["1.500 [1.000, 2.000]", "x", "real"]
    assert (tmp_path / "table4.csv").read_text().startswith("a,b,low,high,c,data\nx,1.5,1,2,1,real\n")


def test_markdown_and_latex_escape_text_and_align_numbers():
    lines = tables.to_markdown(tables.cells(FRAME), "Table 4:\nall", "a | note").splitlines()
    assert (lines[0], lines[-1]) == ("**Table 4: all**", "a \\| note")
    assert "MLP \\| GADAM" in lines[4]
    text = tables.to_latex(tables.cells(FRAME), r"100 % of $x_1$ \ done", "note #1", "table4")
    assert r"k\_NN \& 50 \%" in text
    assert r"\caption{100 \% of \$x\_1\$ \textbackslash{} done note \#1}" in text
    assert r"\begin{tabular}{lrrrr}" in text


def test_latex_has_no_sign_that_pdflatex_does_not_know():
    frame = pd.DataFrame({"K · |w|": ["16 g ≤ θ ≥ ∞", "η × σ² → 50 %"], "naïve – x̂": ["ﬁne ☃", "α"]})
    text = tables.to_latex(tables.cells(frame), "Δ and −1")
    assert all(ord(sign) <= 0x17F or sign in "–—‘’“”…" for sign in text)
    for command in (r"$\leq$", r"$\theta$", r"$\infty$", r"$\to$", r"$\alpha$", "$-$1", "fine snowman"):
        assert command in text


# --- two reports ---

TABLE = pd.DataFrame({
    "method": ["GADAM", "Adam"], "paper": [97.2, 96.0], "ours": [97.0, 96.5], "low": [96.0, 95.5], "high": [98.0, 97.5],
    "YEAST · ours": [60.0, 59.0], "seconds": [1.0, 2.0], "steps low": [1.0, 1.0],
})  # fmt: skip
CLAIMS = pd.DataFrame({
    "claim": ["A is better", "A is better", "B is 92.5"], "headline": ["", "mnist", ""],
    "verdict": ["reproduced", "undecided", "undecided"], "reason": ["", "power", "power"],
})  # fmt: skip


@pytest.fixture
def made(tmp_path):
    """A report with these tables and claims; of the first row of the table some columns are others."""

    def make(name, table=TABLE, claims=CLAIMS, **changed):
        table = table.copy()
        for column, value in changed.items():
            table.loc[0, column] = value
        (tmp_path / name / "tables").mkdir(parents=True)
        table.to_csv(tmp_path / name / "tables" / "table4.csv", index=False)
        claims.to_csv(tmp_path / name / "scoreboard.csv", index=False)
        return tmp_path / name

    return make


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"ours": 97.0 * (1 + 1e-8)}, "identical"),
        ({"ours": 97.5}, "inside"),
        ({"ours": 99.0}, "outside"),
        ({"ours": None}, "outside"),
        ({"ours": 95.0, "low": 90.0, "high": 100.0}, "outside"),  # a wide interval says nothing for the narrow one
        ({"paper": 99.9}, "outside"),
        ({"steps low": 7.0}, "inside"),  # bounds move with what they bound
        ({"YEAST · ours": 70.0}, "inside"),
        ({"seconds": 99.0}, "identical"),  # of the machine
    ],
)
def test_where_a_number_lies(made, changes, where):
    found = compare(made("a"), made("b", **changes))
    assert len(found.outside) == (where == "outside")
    assert (found.inside > 0) == (where == "inside" or len(changes) > 1)
    assert found.identical + found.inside + len(found.outside) == TABLE.shape[0] * (TABLE.shape[1] - 2)
    assert found.agree == (where != "outside")
    assert all(line.startswith(f"table4.csv, {next(iter(changes))}, GADAM: ") for line in found.outside)


def test_verdicts_that_changed_and_missing_parts_are_named(made):
    other = CLAIMS.assign(verdict=["reproduced", "reproduced", "undecided"], reason=["", "", "power"])
    a, b = made("a"), made("b", TABLE.iloc[:1], pd.concat([other, CLAIMS.iloc[:1].assign(claim="C is new")]))
    (b / "tables" / "table3.csv").write_text("a\n1\n")
    found = compare(a, b)
    assert not found.agree
    assert found.verdicts == ["A is better [headline: mnist]: undecided (power), now reproduced"]
    assert [line.partition(":")[0] for line in found.missing] == ["table3.csv", "table4.csv", "claim 'C is new'"]
    text = found.describe().splitlines()
    assert text[:2] == ["verdicts that are others:", f"    {found.verdicts[0]}"]
    assert text[-1].endswith("1 verdicts changed")


def test_the_command_exits_with_1_where_they_differ_and_refuses_other_folders(gadam, made, tmp_path, monkeypatch):
    one, same, other = made("a"), made("b"), made("c", ours=90.0)
    for pair, status in (((one, same), 0), ((one, other), 1)):
        found, said, _ = gadam("compare", *pair)
        assert found == status
        assert "numbers identical" in said
    # Without folders: the committed report of a profile beside the one made here.
    monkeypatch.setattr("gadam.paper.report.paths.project_root", lambda: tmp_path)
    a, b = made("reports/quick"), made("reports/out/quick")
    monkeypatch.delenv("GADAM_REPORTS", raising=False)
    assert gadam("compare", "--profile", "quick")[1].startswith(f"{a}  beside  {b}\n")
    with pytest.raises(InputError, match=r"^compare: .*nowhere holds no report \(no scoreboard\.csv\); give"):
        compare(one, tmp_path / "nowhere")
