"""The site as a whole: the index, the pages of the guide and the API reference, and that every link leads somewhere."""

import posixpath
import re
import sys
from html.parser import HTMLParser
from urllib.parse import unquote

import pandas as pd
import pytest

from gadam.paper import section6
from gadam.paper.report import Report, page, paths, reference, site
from gadam.paper.report.site import write_page

GUIDE, write_reference = site.GUIDE, reference.write  # as they are before conftest.py takes them away

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries below nbconvert


class Page(HTMLParser):
    """The links of a page, and the places in it that links may lead to."""

    def __init__(self, path):
        super().__init__()
        self.links, self.places = set(), set()
        self.text = path.read_text("utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.places |= {given[name] for name in ("id", "name") if given.get(name)}
        self.links |= {given[name] for name in ("href", "src") if given.get(name)}


def targets(name, page):
    """The local links of a page: each with the page and the place that it leads to."""
    for link in page.links:
        if not re.match(r"[a-z]+:", link):  # data: and other sites
            address, _, place = link.partition("#")
            whole = posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(address)))
            yield link, whole if address else name, unquote(place)


def dead_links(folder):
    """Links to no file, or, but within the API reference, which is pdoc's, to no place in it."""
    pages = {path.relative_to(folder).as_posix(): Page(path) for path in folder.rglob("*.html")}
    return [
        (name, link)
        for name, page in pages.items()
        for link, target, place in targets(name, page)
        if not (folder / target).is_file()
        or (place and not name.startswith("api/") and place not in pages[target].places)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The report of a table, with the guide and the API reference."""
    root = tmp_path_factory.mktemp("site")
    report = Report("smoke", folder=root)
    report.table("table4", pd.DataFrame({"ours": [96.5]}), caption="Accuracy")
    report.claims("section54", [])
    return write_page("smoke", root).parent


def test_every_local_link_leads_somewhere_and_no_page_needs_a_network(folder):
    guide = [f"guide/{name}.html" for name in GUIDE]
    assert sorted(path.stem for path in (paths.notebooks_folder() / "guide").glob("*.ipynb")) == sorted(GUIDE)
    assert {*guide, site.REFERENCE, "tables/table4.csv"} <= Page(folder / "index.html").links
    assert dead_links(folder) == []
    engine = Page(folder / "guide" / "engine.html")
    assert {"checkpoints.html", "../api/gadam/result.html#Result", "../api/gadam.html#teach"} <= engine.links
    for path in folder.rglob("*.html"):
        text = path.read_text()
        assert not re.search(r"""<(?:script|link|img)[^>]+(?:src|href)=["']?(?:https?:)?//""", text), path
        assert path.parts[-2] != "guide" or "<script" not in text, path


def test_the_reference_has_every_public_module_and_every_equation_with_its_function(folder):
    index, numbers = Page(folder / "api" / "index.html"), set()
    assert {f"{name.removeprefix('gadam.').replace('.', '/')}.html" for name in reference.MODULES[1:]} <= {
        link.removeprefix("gadam/").partition("#")[0] for link in index.links
    }
    for one in section6.EQUATIONS:
        module, _, name = one.function.partition(":")
        assert f"<td>{one.where}</td>" in index.text
        assert (f"api/{module.replace('.', '/')}.html", name) in {
            (page, place) for _, page, place in targets("api/index.html", index)
        }
        numbers |= {int(each) for pair in re.findall(r"Eq\. (\d+)(?: and (\d+))?", one.where) for each in pair if each}
    assert numbers == set(range(1, 16))


def test_without_the_api_reference_links_of_the_guide_to_it_are_words(tmp_path, monkeypatch):
    monkeypatch.setattr(site, "GUIDE", GUIDE)
    monkeypatch.setitem(sys.modules, "pdoc", None)
    monkeypatch.setattr(reference, "write", write_reference)
    folder = write_page("smoke", tmp_path).parent
    assert not (folder / "api").exists()
    assert dead_links(folder) == []
    assert "<code>gadam.Result</code>" in (folder / "guide" / "engine.html").read_text()


def test_without_nbconvert_there_is_no_guide_in_the_index(tmp_path, monkeypatch):
    monkeypatch.setattr(site, "GUIDE", GUIDE)
    monkeypatch.setitem(sys.modules, "nbconvert", None)
    assert "Guide:" not in write_page("smoke", tmp_path).read_text()


def test_numbers_in_a_row_are_written_as_a_range():
    assert page.ranges([0, 100, 101, 102, 200, 201, 205]) == "0, 100–102, 200–201, 205"
    assert page.ranges([]) == ""
