"""Two reports of one profile beside each other."""

import pandas as pd
import pytest
from typer.testing import CliRunner

from gadam import InputError
from gadam.cli import app
from gadam.paper.report.compare import compare, describe

TABLE = pd.DataFrame(
    {
        "method": ["GADAM", "Adam"], "loss": [0.10, 0.20], "loss low": [0.05, 0.15], "loss high": [0.15, 0.25],
        "ours": [97.0, 96.0], "low": [96.5, 95.0], "high": [97.5, 97.0], "mean loss": [1.0, 2.0],
        "mean loss · low": [0.9, 1.9], "mean loss · high": [1.1, 2.1], "gradient steps": [100, 200],
        "median s": [3.0, 4.0], "paper": [97.2, None],
    }
)  # fmt: skip
CLAIMS = pd.DataFrame(
    {
        "claim": ["A is better", "A is better", "B is fast"], "headline": ["", "mnist", ""],
        "verdict": ["reproduced", "undecided", "undecided"], "reason": ["", "power", "power"],
    }
)  # fmt: skip


@pytest.fixture
def made(tmp_path):
    """The folder of a report with one table and these claims; what is given is changed in its first row."""

    def make(name, table=TABLE, claims=CLAIMS, **changed):
        folder = tmp_path / name
        (folder / "tables").mkdir(parents=True)
        cells = table.astype(dict.fromkeys(changed.keys() & {"gradient steps"}, float)).copy()
        for column, value in changed.items():
            cells.loc[0, column] = value
        cells.to_csv(folder / "tables" / "table4.csv", index=False)
        claims.to_csv(folder / "scoreboard.csv", index=False)
        return folder

    return make


def test_a_report_agrees_with_itself(made):
    found = compare(made("a"), made("b"))
    numbers = TABLE.shape[0] * (TABLE.shape[1] - 2)  # neither words nor times
    assert (found.identical, found.inside, found.agree) == (numbers, 0, True)
    assert (found.outside, found.verdicts, found.missing) == ([], [], [])


@pytest.mark.parametrize(
    ("column", "value", "where"),
    [
        ("ours", 97.0 * (1 + 1e-7), "identical"),
        ("ours", 96.6, "inside"),
        ("ours", 95.0, "outside"),
        ("low", 96.0, "inside"),
        ("loss", 0.12, "inside"),  # by its own interval, not that of accuracies
        ("loss", 0.30, "outside"),
        ("mean loss", 1.05, "inside"),
        ("mean loss", 1.5, "outside"),
        ("mean loss · low", 0.8, "inside"),
        ("gradient steps", 110, "outside"),
        ("median s", 300.0, "left out"),
        ("paper", None, "outside"),
    ],
)
def test_where_a_number_lies(made, column, value, where):
    found = compare(made("a"), made("b", **{column: value}))
    numbers = TABLE.shape[0] * (TABLE.shape[1] - 2)
    assert found.identical == numbers - (where in ("inside", "outside"))
    assert found.inside == (where == "inside")
    assert len(found.outside) == (where == "outside")
    assert found.agree == (where != "outside")
    if where == "outside":
        assert found.outside[0].startswith(f"table4.csv, {column}, GADAM: ")


def test_an_interval_must_hold_both(made):
    """A wide one beside a number far away says nothing for the narrow one."""
    found = compare(made("a"), made("b", **{"ours": 95.0, "low": 90.0, "high": 100.0}))
    assert found.outside == ["table4.csv, ours, GADAM: 97, now 95"]


def test_verdicts_that_changed_and_what_is_missing_are_named(made):
    other = CLAIMS.assign(verdict=["reproduced", "reproduced", "undecided"], reason=["", "", "power"])
    a, b = made("a"), made("b", TABLE.iloc[:1], pd.concat([other, CLAIMS.iloc[:1].assign(claim="C is new")]))
    (b / "tables" / "table3.csv").write_text("a\n1\n")
    found = compare(a, b)
    assert found.verdicts == ["A is better [headline: mnist]: undecided (power), now reproduced"]
    assert found.missing == [
        "table3.csv: only in one of them",
        "table4.csv: other rows or columns (2 and 1 rows)",
        "claim 'C is new': only in one of them",
    ]
    assert not found.agree
    text = describe(found, a, b).splitlines()
    assert text[0] == f"{a}  beside  {b}"
    assert text[1:3] == ["verdicts that are others:", f"    {found.verdicts[0]}"]
    assert text[-1] == "0 numbers identical, 0 inside the other's interval, 0 outside; 1 verdicts changed"


def test_the_command_exits_with_1_where_they_differ(made, tmp_path, monkeypatch):
    one, same, other = made("a"), made("b"), made("c", ours=90.0)
    for pair, status in (((one, same), 0), ((one, other), 1)):
        done = CliRunner().invoke(app, ["compare", *map(str, pair)])
        assert (done.exit_code, done.exception is None or status == 1) == (status, True), done.output
        assert "numbers identical" in done.stdout
    # Without folders: what is committed beside what was made here, of a profile.
    monkeypatch.setattr("gadam.paper.report.paths.project_root", lambda: tmp_path)
    monkeypatch.setenv("GADAM_REPORTS", str(tmp_path / "out"))
    made("reports/quick")
    made("out/quick")
    done = CliRunner().invoke(app, ["compare", "--profile", "quick"])
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(f"{tmp_path / 'reports' / 'quick'}  beside  {tmp_path / 'out' / 'quick'}\n")


def test_a_folder_without_a_report_is_refused(made, tmp_path):
    with pytest.raises(InputError, match=r"^compare: .*nowhere holds no report \(no scoreboard\.csv\); give"):
        compare(made("a"), tmp_path / "nowhere")
