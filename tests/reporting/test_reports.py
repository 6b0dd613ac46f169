"""What a notebook leaves in a report: tables, figures and claims, marked where stand-ins took part; and the page."""

import base64
import json
import sys
from dataclasses import replace

import matplotlib as mpl
import nbformat
import numpy as np
import pandas as pd
import pytest
import run_functions
from matplotlib.figure import Figure
from report_scene import write_notebook

from gadam import InputError, cli
from gadam.paper import SECTIONS
from gadam.paper.claims import Claim
from gadam.paper.report import Report, figures, provenance, report
from gadam.paper.report.reproduction import compute_runs, reproduce
from gadam.paper.report.site import write_page
from gadam.paper.report.store import Stored
from gadam.paper.runs import Run
from gadam.paper.verdicts import Evidence

ROWS = pd.DataFrame({"method": ["MLP <b>", "Adam"], "paper": [97.2, None], "ours": [96.5, 97.0]})
EVIL = "<script>alert(1)</script>"


def claim(text, *values, **changed):
    """A claim that a number is 92.5, on runs that gave others."""
    given = {"kind": "value", "paper": 92.5, "margin": 0.5, "exhibit": "table4", "arms": []}
    return Claim(text=text, evidence=lambda: Evidence(values or (92.4, 92.5, 92.6)), **given | changed)


def run(source, **config):
    """One whose rows are of a source."""
    return Run(run_functions.standin, {"dataset": "orl", "seed": 3, **config}, source, label=source)


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Reports that read rows of given sources, without computing."""

    def compute(runs, workers=None):
        metadata = {"cpu_seconds": 1.0, "seconds": 2.0, "stored": "2026", "cpu": "x"}
        return [Stored(run, [{"loss": 0.5, "data": run.label}], metadata) for run in runs]

    monkeypatch.setattr(report, "compute", compute)
    monkeypatch.delenv(report.SECTION_VARIABLE, raising=False)
    with mpl.rc_context():
        mpl.use("agg")

        def opened(*sources, profile="smoke", **given):
            one = Report(profile, folder=tmp_path, **given)
            if sources:
                one.rows([run(source) for source in sources])
            return one

        yield opened


def test_rows_are_those_of_all_runs_and_each_counts_once(make):
    one = make("real")
    assert one.rows([run("real"), run("stand-in")])["data"].tolist() == ["real", "stand-in"]
    assert one.seen == {"real", "stand-in"}
    assert one.rows([]).empty
    assert one.arms == {"test/standin": (2, 2)}


@pytest.mark.parametrize(
    ("rows", "column", "given", "papers", "caption"),
    [
        (["real"], None, None, ["97.2", ""], ""),
        ([], None, None, ["97.2", ""], ""),  # of unknown source
        (["stand-in"], None, None, ["", ""], "STAND-IN DATA. "),
        (["real"], "stand-in", None, ["", ""], "STAND-IN DATA. "),
        ([], None, "stand-in", ["", ""], "STAND-IN DATA. "),
        (["stand-in", "real"], ["real", "stand-in"], None, ["97.2", ""], "STAND-IN DATA, in part. "),
    ],
)
def test_a_table_of_a_stand_in_is_marked_and_has_no_number_of_the_papers(make, rows, column, given, papers, caption):
    one = make(*rows)
    frame = ROWS if column is None else ROWS.assign(data=column)
    shown = one.table("table4", frame, caption="Accuracy", note="a note", source=given)
    text = {path.suffix: path.read_text() for path in (one.folder / "tables").iterdir()}
    header, *lines = text[".csv"].splitlines()
    assert ("data" in header) == bool(caption)
    assert [line.split(",")[:3] for line in lines] == [["MLP <b>", papers[0], "96.5"], ["Adam", papers[1], "97"]]
    assert text[".md"].startswith(f"**{caption}Accuracy**")
    assert rf"\caption{{{caption}Accuracy a note}}" in text[".tex"]
    html = shown._repr_mimebundle_()[0]["text/html"]
    assert all(part in html for part in (f"{caption}Accuracy", "MLP &lt;b&gt;", "a note"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda make: make(profile="big"), "profile='big' "),
        (lambda make: make(data="fake"), "data='fake' "),
        (lambda make: make().table("tabel4", ROWS, caption="c"), "table='tabel4' .* did you mean table4"),
        (lambda make: make().figure("table4", Figure(), caption="c", alt="a"), "figure='table4' "),
        (lambda make: make().table("table4", ROWS, caption="c", source="fake"), "source='fake' .* real, stand-in"),
        (lambda make: make().claims("5.4", []), r"section='5\.4' "),
        (lambda make: make("stand-in", data="real"), "data='real', but there are runs on stand-in data"),
        (lambda make: write_page("big"), "profile='big' "),
        (lambda make: reproduce("big"), "profile='big' .* smoke, quick, standard, paper"),
        (lambda make: reproduce("quick", data="fake"), "data='fake' .* auto, real, standin"),
        (lambda make: reproduce(data="standin"), "data='standin' .* auto, real$"),
        (lambda make: reproduce(only="tabel4"), "only='tabel4' .* section3, .*did you mean table4"),
        (lambda make: compute_runs("paper", data="standin"), "data='standin' .* auto, real$"),
        (lambda make: cli.reproduce(plan=True, runs_only=True), "--plan .* nothing and --runs-only computes; give one"),
        (lambda make: cli.reproduce(plan=True, scheduler="tcp://h:1"), "--scheduler computes; give one"),
        (lambda make: cli.reproduce("paper", scheduler="tcp://h:1"), "computes nothing there; must have --runs-only"),
    ],
)
def test_wrong_arguments_are_refused_in_a_line(make, call, message):
    with pytest.raises(InputError, match=message) as refused:
        call(make)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("source", "mark"), [("real", ""), ("stand-in", figures.MARK)])
def test_a_figure_shows_itself_and_says_when_it_is_of_a_stand_in(make, monkeypatch, source, mark):
    marks, save = [], figures.save
    monkeypatch.setattr(figures, "save", lambda *given, mark: (marks.append(mark), save(*given, mark=mark))[1])
    one = make(source)
    data, metadata = one.figure("figure2a", Figure((2, 1)), caption="c", alt="hills")._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]) == (one.folder / "figures" / "figure2a.png").read_bytes()
    assert metadata == {"image/png": {"alt": "hills"}}
    caption = json.loads((one.folder / "exhibits" / "figure2a.json").read_text())["caption"]
    assert (caption, marks) == ("STAND-IN DATA. c" if mark else "c", [mark])


def test_runs_that_a_section_uses_are_noted_for_its_provenance(make, monkeypatch):
    assert not (make("real").folder / "used").exists()
    monkeypatch.setenv(report.SECTION_VARIABLE, "section54")
    make("real"), make("stand-in")
    content = provenance.collect(make().folder, "smoke")
    assert content["seeds"] == [3]
    datasets = [(data["name"], data["source"], bool(data["mirrors"])) for data in content["datasets"]]
    assert datasets == [("orl", "real", True), ("orl", "stand-in", False)]
    assert content["sections"]["section54"]["runs"] == 2
    assert set(content["runs"]) == {run(source).key for source in ("real", "stand-in")}
    assert {one["machine"] for one in content["runs"].values()} == set(content["machines"])


# --- figures ---


def drawing():
    figure = Figure((2, 1))
    figure.subplots().plot(np.linspace(0, 1, 5))
    return figure


def test_figures_are_the_same_bytes_whatever_a_matplotlibrc_says_and_say_not_when_they_were_made(tmp_path):
    def drawn(name, **given):
        figures.use_style()
        figures.save(drawing(), tmp_path / name, **given)
        return [(tmp_path / f"{name}.{suffix}").read_bytes() for suffix in figures.SUFFIXES]

    with mpl.rc_context():
        made = drawn("a")
    with mpl.rc_context({"lines.marker": "o", "savefig.transparent": True, "font.size": 30}):
        assert drawn("b") == made
        marked = drawn("c", mark="marked")
    assert int.from_bytes(marked[0][20:24]) > int.from_bytes(made[0][20:24]), "the mark is above the figure"
    assert not any(said in content for content in made for said in (b"Matplotlib", b"<dc:date>"))


# --- the page ---


def test_the_page_escapes_embeds_links_and_needs_nothing_else(make, tmp_path):
    one = make("real")
    one.table("table4", ROWS, caption=EVIL, note=EVIL)
    one.figure("figure2a", Figure((2, 1)), caption=EVIL, alt=f'">{EVIL}')
    one.claims("section54", [claim(f"{EVIL} is 92.5")])
    path = write_page("smoke", tmp_path)
    text = path.read_text()
    assert path == tmp_path / "smoke" / "index.html"
    assert "<script" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 5
    assert 'src="data:image/png;base64,' in text
    assert "http" not in text.replace("http-equiv", "")
    assert "STAND-IN DATA" not in text
    content = json.loads((one.folder / "provenance.json").read_text())
    names = {"scoreboard.csv", "claims/section54.csv", "figures/figure2a.png", "figures/figure2a.svg"}
    assert set(content["files"]) == names | {f"tables/table4.{suffix}" for suffix in ("csv", "md", "tex")}
    for link in ("tables/table4.csv", "figures/figure2a.svg", "scoreboard.csv", "provenance.json"):
        assert f'href="{link}"' in text
        assert (one.folder / link).is_file()


def test_the_scoreboard_is_grouped_by_section_and_filtered_by_verdict_without_scripts(make, tmp_path):
    one = make("real", profile="quick")  # smoke decides nothing
    one.claims("section54", [claim("whole budget"), claim("a part of it", budget=0.0128)])
    no_difference = {"kind": "within", "paper": "as good", "margin": 2.0, "exhibit": "section41_success"}
    one.claims("section41", [claim("no difference", -0.1, 0.0, 0.1, **no_difference)])
    text = write_page("quick", tmp_path).read_text()
    first, second = (text.index(f'<details id="claims-{name}">') for name in ("section41", "section54"))
    assert first < text.index("no difference") < second < text.index("whole budget") < text.index("a part of it")
    for verdict, count in (("reproduced", 2), ("undecided", 1)):
        assert f'id="show-{verdict}"' in text
        assert text.count(f'<tr class="is-{verdict}">') == count
    assert 'id="show-not-reproduced"' not in text  # there is none


def test_a_page_with_a_stand_in_is_loud(make, tmp_path):
    one = make("stand-in")
    one.claims("section54", [claim("is 92.5", 12.3, 12.4, data="stand-in")])
    text = write_page("smoke", tmp_path).read_text()
    assert '<div class="banner" role="alert"><strong>STAND-IN DATA</strong>' in text
    assert "12.3" not in text  # ours, beside the paper's number
    assert "12.3" not in (one.folder / "scoreboard.csv").read_text()


@pytest.mark.filterwarnings("ignore")  # of the libraries below nbconvert
@pytest.mark.parametrize("installed", [True, False])
def test_an_executed_notebook_has_a_page_of_its_own_where_nbconvert_is_installed(tmp_path, monkeypatch, installed):
    path = write_notebook(tmp_path / "smoke" / "notebooks" / SECTIONS["section54"].notebook, f"print('{EVIL}')")
    content = nbformat.read(path, as_version=4)  # as another program saves it
    content.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"0a": {"model_name": "HTMLModel"}}}
    nbformat.write(content, path)
    if not installed:
        monkeypatch.setitem(sys.modules, "nbconvert", None)
    text = write_page("smoke", tmp_path).read_text()
    readable = path.with_suffix(".html")
    assert f'href="notebooks/{path.name}"' in text
    assert readable.exists() == (f'href="notebooks/{readable.name}"' in text) == installed
    if installed:
        html = readable.read_text()
        assert "<em>title</em>" in html
        assert "<script" not in html
        assert "http" not in html.replace("http-equiv", "")


def test_a_claim_names_its_arms_and_the_runs_of_each_arm_are_listed(make, tmp_path, monkeypatch):
    one = make(profile="quick")
    monkeypatch.setenv(report.SECTION_VARIABLE, "section54")
    runs = [replace(run("real", seed=seed), arm=f"arm {seed}") for seed in range(3)]
    one.rows(runs)
    one.claims("section54", [claim("two arms", arms=("arm 0", "arm 1"))])
    write_page("quick", tmp_path)
    listed = pd.read_csv(one.folder / "runs.csv")
    assert pd.read_csv(one.folder / "scoreboard.csv")["arms"].tolist() == ["arm 0; arm 1"]
    assert listed.set_index("arm")["key"].to_dict() == {one.arm: one.key for one in runs}
    assert set(listed["section"]) == {"section54"}


@pytest.mark.parametrize("damage", [b"{", b"\xff"])
def test_a_damaged_exhibit_is_told_in_a_line(make, tmp_path, damage):
    one = make("real")
    one.table("table4", ROWS, caption="Accuracy")
    (one.folder / "exhibits" / "table4.json").write_bytes(damage)
    with pytest.raises(InputError, match=r"table4\.json is damaged .*; remove it"):
        write_page("smoke", tmp_path)


def test_a_report_of_nothing_is_an_error_and_writes_nothing(folders):
    with pytest.raises(InputError, match=r"^report: there is none in .*; make one: gadam reproduce --profile quick$"):
        cli.report("quick")
    assert not (folders / "reports").exists()
