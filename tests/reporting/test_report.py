import base64
import json
import sys

import matplotlib as mpl
import pandas as pd
import pytest
import run_functions
from matplotlib.figure import Figure

from gadam import InputError
from gadam.paper import SECTIONS
from gadam.paper.claims import Claim
from gadam.paper.report import Report, figures, provenance, reference, report, site, write_page
from gadam.paper.report.store import Stored
from gadam.paper.runs import Run
from gadam.paper.verdicts import Evidence

ROWS = pd.DataFrame({"method": ["MLP <b>", "Adam"], "paper": [97.2, None], "ours": [96.5, 97.0]})


def claim(text, *values, **changed):
    """A claim that a number is 92.5, on runs that gave others."""
    given = {"kind": "value", "paper": 92.5, "margin": 0.5, "section": "section54", "exhibit": "table4", "arms": []}
    return Claim(text=text, evidence=lambda: Evidence(values or (92.4, 92.5, 92.6)), **given | changed)


def standin(text, **changed):
    return claim(text, 12.3, 12.4, data="stand-in", **changed)


@pytest.fixture(autouse=True)
def no_reference(monkeypatch):
    monkeypatch.setattr(reference, "write", lambda folder: None)  # it takes seconds, and has tests of its own


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Reports that read rows of a given source, without computing."""

    def compute(runs, workers=None):
        metadata = {"cpu_seconds": 1.0, "seconds": 2.0, "together": 1, "stored": "2026", "cpu": "x"}
        return [Stored(run, [{"loss": 0.5, "data": run.label}], metadata) for run in runs]

    monkeypatch.setattr(report, "compute", compute)
    monkeypatch.delenv(report.SECTION_VARIABLE, raising=False)
    with mpl.rc_context():
        mpl.use("agg")

        def opened(*sources, data="auto"):
            one = Report.open("smoke", data=data, folder=tmp_path)
            one.rows([run(source) for source in sources])
            return one

        yield opened


def run(source, **config):
    """One whose rows are of a source."""
    return Run(run_functions.standin, {"dataset": "orl", "seed": 3, **config}, source, label=source)


def files(one, name):
    return {path.suffix: path.read_text() for path in (one.folder / "tables").glob(f"{name}.*")}


@pytest.mark.parametrize(("argument", "value"), [("profile", "big"), ("data", "fake")])
def test_unknown_profile_or_data_is_refused(argument, value):
    with pytest.raises(InputError, match=f"^{argument}='{value}' is not allowed; it must be one of "):
        Report.open(**{"profile": "smoke", argument: value})


def test_rows_are_those_of_all_runs(make):
    one = make("real")
    frame = one.rows([run("real"), run("stand-in")])
    assert frame["data"].tolist() == ["real", "stand-in"]
    assert one.seen == {"real", "stand-in"}
    assert one.rows([]).empty
    assert one.arms == {"test/standin": (2, 2)}, "each once"


def test_real_table_is_as_given(make):
    one = make("real")
    shown = one.table("table4", ROWS, caption="Accuracy", note="a note")
    text = files(one, "table4")
    assert text[".csv"] == "method,paper,ours\nMLP <b>,97.2,96.5\nAdam,,97\n"
    assert "STAND-IN" not in "".join(text.values())
    html = shown._repr_mimebundle_()[0]["text/html"]
    assert "MLP &lt;b&gt;" in html
    assert "<b>" not in html
    assert "a note" in html


def test_table_of_nobody_knows_what_is_not_marked(make):
    one = make()
    one.table("section41_success", ROWS, caption="Success on a landscape")
    assert "STAND-IN" not in "".join(files(one, "section41_success").values())


def check_marked(one, shown):
    text = files(one, "table4")
    assert text[".csv"] == "method,paper,ours,data\nMLP <b>,,96.5,stand-in\nAdam,,97,stand-in\n"
    assert text[".md"].startswith("**STAND-IN DATA. Accuracy**")
    assert r"\caption{STAND-IN DATA. Accuracy}" in text[".tex"]
    assert "STAND-IN DATA. Accuracy" in shown._repr_mimebundle_()[0]["text/html"]
    assert json.loads((one.folder / "exhibits" / "table4.json").read_text())["source"] == "stand-in"


def test_stand_in_rows_mark_what_follows(make):
    one = make("stand-in")
    check_marked(one, one.table("table4", ROWS, caption="Accuracy"))


def test_stand_in_column_marks_whatever_rows_were_read(make):
    one = make("real")
    check_marked(one, one.table("table4", ROWS.assign(data="stand-in"), caption="Accuracy"))
    with pytest.raises(InputError, match="source='real' is not what the column data says: stand-in"):
        one.table("table4", ROWS.assign(data="stand-in"), caption="Accuracy", source="real")


def test_stand_in_source_marks(make):
    one = make()
    check_marked(one, one.table("table4", ROWS, caption="Accuracy", source="stand-in"))


def test_rows_that_are_real_keep_the_papers_number_beside_a_stand_in(make):
    one = make("stand-in", "real")
    one.table("table4", ROWS.assign(data=["real", "stand-in"]).replace({"paper": {None: 1.0}}), caption="Accuracy")
    text = files(one, "table4")
    assert text[".csv"].splitlines()[1:] == ["MLP <b>,97.2,96.5,real", "Adam,,97,stand-in"]
    assert text[".md"].startswith("**STAND-IN DATA, in part. Accuracy**")


def test_report_of_real_data_takes_no_stand_in(make):
    one = make(data="real")
    for frame, source in ((ROWS, "stand-in"), (ROWS.assign(data="stand-in"), None)):
        with pytest.raises(InputError, match="stand-in data, but the report was opened with data='real'"):
            one.table("table4", frame, caption="Accuracy", source=source)
    with pytest.raises(InputError, match="stand-in data"):
        one.claims("section54", [standin("is 92.5")])


@pytest.mark.parametrize("source", ["fake", ""])
def test_unknown_source_is_refused(make, source):
    with pytest.raises(InputError, match=f"source={source!r} is not allowed; it must be one of real, stand-in"):
        make().table("table4", ROWS, caption="Accuracy", source=source)


def test_unpromised_names_are_refused(make):
    with pytest.raises(InputError, match="table: 'tabel4' is promised by no section; there are "):
        make().table("tabel4", ROWS, caption="Accuracy")
    with pytest.raises(InputError, match="figure: 'table4' is promised by no section; there are "):
        make().figure("table4", Figure(), caption="Accuracy", alt="bars")
    with pytest.raises(InputError, match=r"section='5\.4' is not allowed"):
        make().claims("5.4", [claim("is 92.5")])


def test_figure_shows_itself_and_says_when_it_is_of_a_stand_in(make, monkeypatch):
    marks = []
    save = figures.save
    monkeypatch.setattr(figures, "save", lambda *given, mark: (marks.append(mark), save(*given, mark=mark))[1])
    for source in ("real", "stand-in"):
        one = make(source)
        shown = one.figure("figure2a", Figure(figsize=(2, 1)), caption="The landscape", alt="hills")
        data, metadata = shown._repr_mimebundle_()
        assert base64.b64decode(data["image/png"]) == (one.folder / "figures" / "figure2a.png").read_bytes()
        assert metadata == {"image/png": {"alt": "hills"}}
        caption = json.loads((one.folder / "exhibits" / "figure2a.json").read_text())["caption"]
        assert caption.startswith("STAND-IN DATA. ") == (source == "stand-in")
    assert marks == ["", figures.MARK]


def test_runs_that_a_section_uses_are_noted_for_its_provenance(make, monkeypatch):
    make("real")
    assert not (make().folder / "used").exists()
    monkeypatch.setenv(report.SECTION_VARIABLE, "section54")
    make("real")
    one = make("stand-in")
    used = json.loads((one.folder / "used" / "section54.json").read_text())
    assert {one["label"] for one in used["runs"].values()} == {"real", "stand-in"}
    assert used["runs"][run("real").key]["cpu_seconds"] == 1.0
    content = provenance.collect(one.folder, "smoke")
    assert content["seeds"] == [3]
    assert [(data["name"], data["source"], bool(data["mirrors"])) for data in content["datasets"]] == [
        ("orl", "real", True),
        ("orl", "stand-in", False),
    ]
    assert content["sections"]["section54"]["runs"] == 2
    assert set(content["runs"]) == {run(source).key for source in ("real", "stand-in")}
    assert list(content["machines"].values()) == [{"cpu": "x"}]
    assert {one["machine"] for one in content["runs"].values()} == set(content["machines"])


def test_page_escapes_embeds_and_needs_nothing_else(make, tmp_path):
    one = make("real")
    one.table("table4", ROWS, caption="<i>Accuracy</i>", note="</p><script>note</script>")
    one.figure("figure2a", Figure(figsize=(2, 1)), caption="The landscape", alt='"><script>alt')
    one.claims("section54", [claim("<script>alert(1)</script> is 92.5")])
    path = write_page("smoke", tmp_path)
    text = path.read_text()
    assert path == tmp_path / "smoke" / "index.html"
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; is 92.5" in text
    assert "&lt;i&gt;Accuracy" in text
    assert 'src="data:image/png;base64,' in text
    assert 'alt="&#34;&gt;&lt;script&gt;alt"' in text
    assert "http" not in text.replace("http-equiv", "")
    assert "STAND-IN DATA" not in text
    for rule in site.scoreboard.RULES[1:2]:
        assert rule.split('"')[0] in text
    content = json.loads((one.folder / "provenance.json").read_text())
    assert set(content["files"]) == {
        "scoreboard.csv",
        "claims/section54.csv",
        *(f"tables/table4.{suffix}" for suffix in ("csv", "md", "tex")),
        *(f"figures/figure2a.{suffix}" for suffix in ("png", "svg")),
    }
    assert content["requirements.lock"] is None or len(content["requirements.lock"]) == 64
    assert {"python", "platform", "cpu", "cores", "packages", "torch", "environment", "git"} <= content.keys()
    for link in ("tables/table4.csv", "figures/figure2a.svg", "scoreboard.csv", "provenance.json"):
        assert f'href="{link}"' in text
        assert (one.folder / link).is_file()
    assert "--only section3" in text  # what is not there yet, and how to get it


def test_scoreboard_of_the_page_is_grouped_by_section_and_can_be_filtered_by_verdict_without_scripts(make, tmp_path):
    one = make("real")
    one.profile = "quick"  # smoke decides nothing
    one.claims("section54", [claim("whole budget"), claim("a part of it", budget=0.0128)])
    no_difference = {"kind": "within", "paper": "as good", "margin": 2.0, "section": "section41"}
    one.claims("section41", [claim("no difference", -0.1, 0.0, 0.1, **no_difference)])
    text = write_page("smoke", tmp_path).read_text()
    assert "<script" not in text
    first, second = (text.index(f'<details open id="claims-{name}">') for name in ("section41", "section54"))
    assert first < text.index("no difference") < second < text.index("whole budget") < text.index("a part of it")
    assert text.index('id="scoreboard"') < first < text.index('<section id="section3">')
    for verdict, count in (("reproduced", 2), ("undecided", 1)):
        assert f'id="show-{verdict}"' in text
        assert text.count(f'<tr class="is-{verdict}">') == count
        assert f"#show-{verdict}:checked" in text
    assert 'id="show-not-reproduced"' not in text  # there is none
    assert "1.3 %" in text
    assert "Undecided because of: budget 1." in " ".join(text.split())
    merged, shown = one.scoreboard()
    assert merged["verdict"].tolist() == ["reproduced", "reproduced", "undecided"]
    assert "a part of it" in shown.html


def notebook(folder):
    import nbformat

    cells = [nbformat.v4.new_markdown_cell("# A *title*"), nbformat.v4.new_code_cell("print(1 < 2)")]
    lines = [nbformat.v4.new_output("stream", name="stdout", text=f"line {number}\n") for number in (1, 2)]
    cells[1]["outputs"] = lines
    path = folder / "notebooks" / SECTIONS["section54"].notebook
    path.parent.mkdir(parents=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


@pytest.mark.filterwarnings("ignore")  # of the libraries below nbconvert
def test_an_executed_notebook_has_a_page_of_its_own(tmp_path):
    path = notebook(tmp_path / "smoke")
    text = write_page("smoke", tmp_path).read_text()
    readable = path.with_suffix(".html")
    for one in (path, readable):
        assert f'href="notebooks/{one.name}"' in text
    html = readable.read_text()
    assert "<h1" in html
    assert "<em>title</em>" in html
    assert "line 1\nline 2" in html
    assert f'href="{path.name}"' in html
    assert 'href="../index.html"' in html
    assert "<script" not in html
    assert "http" not in html.replace("http-equiv", "")


def test_without_nbconvert_the_notebook_itself_is_linked(tmp_path, monkeypatch):
    path = notebook(tmp_path / "smoke")
    monkeypatch.setitem(sys.modules, "nbconvert", None)
    text = write_page("smoke", tmp_path).read_text()
    assert f'href="notebooks/{path.name}"' in text
    assert not path.with_suffix(".html").exists()


def test_navigation_tells_sections_of_one_number_apart():
    names = [site._short(section.title) for section in SECTIONS.values()]
    assert len(names) == len(set(names))
    assert names[0] == "§ 3"


def test_page_with_a_stand_in_is_loud(make, tmp_path):
    one = make("stand-in")
    one.claims("section54", [standin("is 92.5")])
    text = write_page("smoke", tmp_path).read_text()
    assert '<div class="banner" role="alert"><strong>STAND-IN DATA</strong>' in text
    assert "12.3" not in text  # ours, beside the paper's number
    assert "12.3" not in (one.folder / "scoreboard.csv").read_text()


def test_page_links_the_reference_where_there_is_one(tmp_path):
    assert "API reference" not in write_page("smoke", tmp_path).read_text()
    (tmp_path / "smoke" / "api").mkdir()
    (tmp_path / "smoke" / site.REFERENCE).write_text("")
    assert f'<a href="{site.REFERENCE}">API reference</a>' in write_page("smoke", tmp_path).read_text()


def test_page_on_which_every_claim_is_decided(tmp_path):
    one = Report.open("quick", folder=tmp_path)
    one.claims("section54", [claim("is 92.5")])
    text = write_page("quick", tmp_path).read_text()
    assert 'id="show-reproduced"' in text
    assert "Undecided because of" not in text


def test_a_claim_waits_for_all_runs_of_its_arms(make):
    one = make("real")
    one.arms["more"] = 2, 3
    judged = [claim(name, arms=[name]) for name in ("test/standin", "more", "not planned")]
    one.profile = "standard"
    one.claims("section54", judged)
    claims, _ = one.scoreboard()
    assert claims["verdict"].tolist() == ["reproduced", "undecided", "undecided"]
    assert claims["reason"].tolist() == ["", "not computed", "not computed"]
    assert claims["seeds"].tolist() == ["1", "2 of 3", "0"]


def test_page_of_an_empty_report(tmp_path):
    text = write_page("quick", tmp_path).read_text()
    assert "No section has left claims behind yet." in text
    with pytest.raises(InputError, match="profile='big' is not allowed"):
        write_page("big", tmp_path)
