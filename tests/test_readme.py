"""The numbers in the README are those of the committed report and of its archive."""

import json
import re
from pathlib import Path

import pandas as pd

from gadam.paper import answer
from gadam.paper.report import archive, scoreboard

ROOT = Path(__file__).parents[1]
REPORT = ROOT / "reports" / "standard"
README = " ".join((ROOT / "README.md").read_text().split())


def test_the_answer_is_that_of_the_report():
    claims = pd.read_csv(REPORT / "scoreboard.csv", dtype=str, keep_default_na=False)
    missing = scoreboard.reasons(claims).get("not computed", 0)
    said = answer.sentences(scoreboard.headlines(claims), scoreboard.counts(claims), missing)
    assert len(said) == 3
    for question, reply in said:
        assert f"- **{question}** {reply}" in README


def test_the_table_has_every_dataset_that_is_computed_with_its_numbers():
    accuracies = pd.read_csv(REPORT / "tables" / "answer.csv").set_index(["dataset", "method"])
    expected = []
    for name, rows in accuracies.groupby("dataset", sort=False):
        if rows["ours"].notna().all():
            rows = rows.loc[name].loc[list(answer.METHODS)]
            ours = [f"{row.ours:.1f} [{row.low:.1f}, {row.high:.1f}]" for row in rows.itertuples()]
            expected.append((name.upper(), rows["seeds"].iloc[0], f"{rows['paper'].iloc[0]:.2f}", *ours))
    cells = " ".join([r"\| (\w+)[^|]*\((\d+) \w+\) \|", *[r"([^|]*) \|"] * 4])
    assert re.findall(cells, README) == expected


def test_the_archive_has_as_many_runs_as_are_counted():
    held = len(archive.read(REPORT / "runs.jsonl.xz").lines)
    assert f"the archive holds {held:,} so far" in README


def test_every_table_of_the_committed_report_fits_a_page():
    shown = [json.loads(path.read_text()) for path in (REPORT / "exhibits").glob("*.json")]
    widths = {one["id"]: len(one["columns"]) for one in shown if one["kind"] == "table"}
    assert widths
    assert {name: width for name, width in widths.items() if width > 8} == {}
