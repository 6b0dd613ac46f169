"""Every section in every profile: its runs are listed once, and its notebook goes through before any run is there."""

import nbformat
import pandas as pd
import pytest

from gadam.paper import PROFILES, SECTIONS, import_sections
from gadam.paper.claims import HEADLINES
from gadam.paper.report import archive, figures, paths, plan, report, scoreboard

NUMBERS = ["accuracy", "ours", "low", "high", "difference", "loss", "p", "found, %", "holds, %", "speed-up", "adopted"]
every_section = pytest.mark.parametrize("name", SECTIONS)
every_profile = pytest.mark.parametrize("profile", PROFILES)


@every_section
@every_profile
def test_every_run_is_listed_once_with_a_label_and_an_arm(name, profile):
    listed = [run for runs in import_sections()[name].RUNS for run in runs(profile, "real")]
    assert [run.key for run in plan.all_runs(name, profile, "real")] == [run.key for run in listed]
    assert listed
    assert all(run.label and "/" in run.arm for run in listed)


@pytest.fixture(scope="module")
def archived():
    return archive.read(paths.archive_path("standard"))


def test_what_is_archived_is_planned(archived, monkeypatch):
    monkeypatch.setattr(archive, "read", lambda path: archived)
    assert archived.refused == {}
    assert archived.lines.keys() <= {line.run.key for line in plan.planned("standard")}


def test_every_section_has_a_notebook_and_exhibits_have_one_owner_and_the_scoreboard_is_last():
    exhibits = [one for section in SECTIONS.values() for one in (*section.tables, *section.figures)]
    assert len(exhibits) == len(set(exhibits))
    assert [name for name, section in SECTIONS.items() if section.last] == [list(SECTIONS)[-1]] == ["section6"]


@pytest.fixture
def execute(tmp_path, monkeypatch, archived):
    """Execute a section's notebook in here. Returns its report's folder, and for each figure whether it is empty."""
    for variable in ("GADAM_RUNS", "GADAM_REPORTS"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.setattr(report, "compute", lambda runs, workers: [])

    def run(name, profile, there):
        monkeypatch.setattr(archive, "read", lambda path: there)
        drawn = {}

        def draw(figure, path, mark):
            if profile == "standard":  # the layout of one is that of all
                figure.draw_without_rendering()
            drawn[path.name] = all("not computed yet" in [one.get_text() for one in axis.texts] for axis in figure.axes)
            return b""

        monkeypatch.setattr(figures, "save", draw)
        namespace = {}
        for cell in nbformat.read(paths.notebooks_folder() / SECTIONS[name].notebook, as_version=4).cells:
            if cell.cell_type == "code":
                exec(cell.source, namespace)
                if "parameters" in cell.metadata.get("tags", []):
                    namespace |= {"profile": profile, "data": "real"}
        return tmp_path / "GADAM_REPORTS" / profile, drawn

    return run


@every_section
@every_profile
def test_a_notebook_goes_through_before_any_run_is_there(execute, name, profile):
    """All that it promises is there and empty, and each claim waits for runs that are planned."""
    folder, drawn = execute(name, profile, archive.Archive())
    assert drawn == {figure: figure != "figure1" for figure in SECTIONS[name].figures}
    for table in set(SECTIONS[name].tables) - {"section6_values"}:
        written = pd.read_csv(folder / "tables" / f"{table}.csv")
        assert written[written.columns.intersection(NUMBERS)].isna().all(axis=None), table
    if (claims := folder / "claims" / f"{name}.csv").is_file():
        judged = pd.read_csv(claims)
        assert set(judged["reason"]) == {"not computed"}
        waits = judged["decides"].str.match(r"0 of \d+ runs of .+ are there")
        assert (waits | judged["claim"].str.contains("converges in 1,000")).all()


def test_claims_name_the_papers_numbers_as_they_are_printed():
    claims, printed = scoreboard.merge(paths.committed_root() / "standard" / "claims"), scoreboard.paper_numbers()
    linked = claims[claims["item"] != ""]
    assert linked["paper"].astype(float).tolist() == [printed[item] for item in linked["item"]]
    assert set(claims["headline"]) == {"", *HEADLINES}
    assert set(claims["data"]) <= set(scoreboard.SOURCES)


@every_section
def test_a_notebook_goes_through_with_the_runs_that_are_archived(execute, name, archived):
    folder, drawn = execute(name, "standard", archived)
    assert drawn.keys() == set(SECTIONS[name].figures)
    assert {path.stem for path in folder.glob("tables/*.csv")} == set(SECTIONS[name].tables)
    # The committed report is what this code makes of the archive.
    for made in [*folder.glob("tables/*.csv"), *folder.glob("claims/*.csv")]:
        if not made.name.startswith("section6_"):  # of the claims of all sections
            kept = paths.committed_root() / "standard" / made.relative_to(folder)
            pd.testing.assert_frame_equal(pd.read_csv(made), pd.read_csv(kept), rtol=1e-6)
