"""Nothing executes what it loads, nothing is fetched that is not verified, and no page needs or runs anything else."""

import ast
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
import pandas as pd
import pytest
from matplotlib.figure import Figure

import gadam
from gadam.datasets import SOURCES, download
from gadam.paper import SECTIONS
from gadam.paper.claims import Claim
from gadam.paper.report import Report, reference, write_page
from gadam.paper.report.page import Shown

PACKAGE = Path(gadam.__file__).parent
SOURCE = {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text("utf-8")) for path in PACKAGE.rglob("*.py")}
EVIL = "<script>alert(1)</script>"
FETCHING = {"src", "href", "srcset", "data", "poster", "action", "formaction", "background", "xlink:href"}


def names(tree):
    """Every name that is imported, called or looked up, with what it is looked up in: `torch.load`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{each.name}" for each in node.names)
        elif isinstance(node, ast.Attribute):
            yield ast.unparse(node)
        elif isinstance(node, ast.Name):
            yield node.id


EXECUTES = re.compile(
    r"^(eval|exec|compile|__import__)$|^(builtins|marshal|shelve|dill|joblib\.(load|dump))\b|^c?pickle\b"
    r"|\.?(load_pickle|read_pickle|unsafe_load|yaml\.load|loads_pickle)$|^torch\.(load|save|jit\.load|hub\b)|^os\.system$"
)


BETWEEN_PROCESSES = {"parallel/workers.py", "paper/section43.py"}
"""Workers are sent their work as every executor of Python sends it, what is large in a folder of the user's alone,
and Section 4.3 measures how much that is. What is between processes of one run is kept by nobody."""
PICKLED = re.compile(r"^(cloud)?pickle(\.(dumps|loads|HIGHEST_PROTOCOL|Pickler|Unpickler))?$")


@pytest.mark.parametrize("name", sorted(SOURCE))
def test_nothing_in_the_package_executes_what_it_loads(name):
    found = [each for each in names(SOURCE[name]) if EXECUTES.search(each)]
    assert [each for each in found if name not in BETWEEN_PROCESSES or not PICKLED.match(each)] == []
    for node in ast.walk(SOURCE[name]):
        if isinstance(node, ast.keyword):
            assert not (node.arg == "allow_pickle" and getattr(node.value, "value", None) is not False)
            assert not (node.arg == "shell" and getattr(node.value, "value", None) is not False)
            assert node.arg != "verify"  # of a request: whether its certificate is looked at


@pytest.mark.parametrize(
    "code", ["import pickle", "from torch import load", "torch.load(x)", "eval(x)", "os.system(x)", "pd.read_pickle(x)"]
)
def test_the_scan_sees_what_it_should(code):
    assert [each for each in names(ast.parse(code)) if EXECUTES.search(each)]


PLAIN = {"www.idiap.ch", "datasets.openimaj.org"}
"""Mirrors of the ORL faces that have no https, after one that has; what they serve is verified like all else."""


def test_downloads_go_over_https_where_there_is_any():
    plain = {
        (name, urlsplit(mirror).hostname)
        for name, source in SOURCES.items()
        for mirror in source.mirrors
        if urlsplit(mirror).scheme != "https"
    }
    assert plain == {("orl", host) for host in PLAIN}
    assert all(urlsplit(source.mirrors[0]).scheme == "https" for source in SOURCES.values())


def test_nothing_is_placed_in_the_data_folder_before_it_is_verified():
    order = [
        node.func.id
        for node in ast.walk(
            next(each for each in SOURCE["datasets/download.py"].body if getattr(each, "name", "") == "download")
        )
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("check", "_place")
    ]
    assert sorted(order) == ["_place", "check"]
    assert download.check.__module__ == "gadam.datasets.files"
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for source in SOURCES.values() for digest in source.checks.values())


class Page(HTMLParser):
    """What a page asks a browser to fetch or to run."""

    def __init__(self, text):
        super().__init__()
        self.fetched, self.scripts, self.handlers = [], 0, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.scripts += tag in ("script", "iframe", "object", "embed")
        for name, value in attrs:
            self.handlers += [name] if name.startswith("on") or (value or "").strip().startswith("javascript:") else []
            if name in FETCHING and tag != "a":
                self.fetched.append(value or "")


def outside(text):
    """Addresses beyond the page's own folder that a browser would fetch when it opens it."""
    fetched = Page(text).fetched + re.findall(r"(?:url\(|@import)\s*['\"]?([^'\")\s;]+)", text)
    return [each for each in fetched if re.match(r"(?:[a-z]+:)?//", each)]


def evil_notebook(path):
    cells = [
        nbformat.v4.new_markdown_cell("# A title"),
        nbformat.v4.new_code_cell(
            f"print('{EVIL}')",
            outputs=[
                nbformat.v4.new_output("stream", name="stdout", text=EVIL),
                nbformat.v4.new_output("error", ename=EVIL, evalue=EVIL, traceback=[EVIL]),
                nbformat.v4.new_output("display_data", data={"text/plain": EVIL}),
            ],
        ),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A report in which all that comes from data tries to run something."""
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "write", lambda folder: None)
        one = Report.open("smoke", folder=folder)
        frame = pd.DataFrame({"method": [EVIL, "Adam"], f"ours {EVIL}": [1.0, 2.0]})
        shown = [one.table("table4", frame, caption=EVIL, note=EVIL, source="real")]
        shown.append(one.figure("figure2a", Figure(figsize=(2, 1)), caption=EVIL, alt=f'">{EVIL}', source="real"))
        claim = Claim(
            text=EVIL, section="section54", exhibit=EVIL, kind="open", evidence=lambda: (1.0, 0.0, 2.0, EVIL),
            arms=[EVIL], paper=EVIL,
        )  # fmt: skip
        one.arms[EVIL] = 3, 3
        shown.append(one.claims("section54", [claim]))
        evil_notebook(folder / "smoke" / "notebooks" / SECTIONS["section54"].notebook)
        write_page("smoke", folder)
    made = {path.relative_to(folder).as_posix(): path.read_text("utf-8") for path in folder.rglob("*.html")}
    return made | {f"cell {number}": each.html for number, each in enumerate(shown) if isinstance(each, Shown)}


def test_what_comes_from_data_is_text_on_every_page(pages):
    assert {"smoke/index.html", f"smoke/notebooks/{Path(SECTIONS['section54'].notebook).stem}.html"} <= pages.keys()
    for name, text in pages.items():
        assert EVIL not in text, name
        assert Page(text).scripts == 0, name
        assert Page(text).handlers == [], name
    assert pages["smoke/index.html"].count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 5


def test_no_page_fetches_anything(pages):
    for name, text in pages.items():
        assert outside(text) == [], name
        assert all(each.startswith(("data:image/", "#")) for each in Page(text).fetched), name


@pytest.mark.parametrize(
    "text", ['<img src="//x/y.png">', '<link href="http://x">', "<style>@import 'https://x'</style>"]
)
def test_the_search_for_addresses_finds_them(text):
    assert outside(text)


def test_provenance_is_escaped_too(tmp_path, monkeypatch):
    from gadam.paper.report import provenance

    monkeypatch.setattr(reference, "write", lambda folder: None)
    collect = provenance.collect

    def evil(folder, profile):
        content = json.loads(json.dumps(collect(folder, profile)))
        return content | {
            "cpu": EVIL,
            "gpu": EVIL,
            "platform": EVIL,
            "python": EVIL,
            "git": {"commit": EVIL, "dirty": True},
        }

    monkeypatch.setattr(provenance, "collect", evil)
    text = write_page("smoke", tmp_path).read_text("utf-8")
    assert EVIL not in text
    assert Page(text).scripts == 0


def test_what_jupyter_shows_of_a_population_is_escaped():
    from gadam.population import html_table

    assert EVIL not in html_table({EVIL: EVIL}, EVIL)


MAKEFILE = PACKAGE.parent / "Makefile"


@pytest.mark.skipif(not MAKEFILE.is_file(), reason="the package is installed without its Makefile")
def test_jupyterlab_is_started_as_its_own_defaults_have_it():
    text = MAKEFILE.read_text("utf-8")
    recipe = re.search(r"^lab:.*\n((?:\t.*\n)+)", text, re.MULTILINE)[1]
    options = re.findall(r"--[\w.-]+", recipe)
    assert "jupyter lab" in recipe
    assert options == ["--notebook-dir"]  # neither address, nor token, nor password, nor root
    assert not re.search(r"token|password|0\.0\.0\.0|allow[-_]|ServerApp|NotebookApp", text)


def test_a_damaged_exhibit_is_told_in_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr(reference, "write", lambda folder: None)
    one = Report.open("smoke", folder=tmp_path)
    one.table("table4", pd.DataFrame({"method": ["Adam"], "ours": [1.0]}), caption="Accuracy", source="real")
    for damage in (b"{", b"\xff", b"[]", b'{"id": "table4"}'):
        (one.folder / "exhibits" / "table4.json").write_bytes(damage)
        with pytest.raises(gadam.InputError, match=r"table4\.json is damaged .*; execute its section again") as refused:
            write_page("smoke", tmp_path)
        assert "\n" not in str(refused.value)
