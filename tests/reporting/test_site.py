"""The site as a whole: the index, the pages of the guide and the API reference, and that every link leads somewhere."""

import posixpath
import re
import sys
from html.parser import HTMLParser
from urllib.parse import unquote

import nbformat
import pandas as pd
import pytest

from gadam.paper.report import Report, paths, reference, site, write_page

GUIDE, write_reference = site.GUIDE, reference.write  # as they are before conftest.py takes them away

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries below nbconvert


class Page(HTMLParser):
    """The links of a page, and the places in it that links may lead to."""

    def __init__(self, text):
        super().__init__()
        self.links, self.places = set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.places |= {given[name] for name in ("id", "name") if given.get(name)}
        self.links |= {given[name] for name in ("href", "src") if given.get(name)}


def dead_links(folder, names):
    """The local links of some pages that lead to no file, or to no place in it."""
    pages, dead = {}, []
    for name in names:
        for link in Page((folder / name).read_text("utf-8")).links:
            if re.match(r"[a-z]+:", link):  # data: and other sites
                continue
            address, _, place = link.partition("#")
            target = posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(address))) if address else name
            if place and (folder / target).is_file():
                pages.setdefault(target, Page((folder / target).read_text("utf-8")))
            if not (folder / target).is_file() or (place and unquote(place) not in pages[target].places):
                dead.append((name, link))
    return dead


def test_every_local_link_of_the_index_and_of_the_guide_leads_somewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(site, "GUIDE", GUIDE)
    monkeypatch.setattr(reference, "write", write_reference)
    report = Report.open("smoke", folder=tmp_path)
    report.table("table4", pd.DataFrame({"ours": [96.5]}), caption="Accuracy")
    report.claims("section54", [])
    index = write_page("smoke", tmp_path)
    guide = [f"guide/{name}.html" for name in GUIDE]
    found = Page(index.read_text()).links
    assert {*guide, site.REFERENCE, "tables/table4.csv"} <= found
    assert dead_links(index.parent, ["index.html", *guide]) == []
    engine = Page((index.parent / "guide" / "engine.html").read_text())
    assert {"checkpoints.html", "../api/gadam/result.html#Result", "../api/gadam.html#teach"} <= engine.links
    for path in index.parent.glob("guide/*.html"):
        text = path.read_text()
        assert "<script" not in text, path
        assert not re.search(r"""<(?:link|img)[^>]+(?:src|href)=["']?(?:https?:)?//""", text), path
    assert sorted(path.stem for path in (paths.notebooks_folder() / "guide").glob("*.ipynb")) == sorted(GUIDE)


def test_without_the_api_reference_links_of_the_guide_to_it_are_words(tmp_path, monkeypatch):
    monkeypatch.setattr(site, "GUIDE", GUIDE)
    folder = write_page("smoke", tmp_path).parent
    assert dead_links(folder, ["index.html", *(f"guide/{name}.html" for name in GUIDE)]) == []
    assert "<code>gadam.Result</code>" in (folder / "guide" / "engine.html").read_text()


def test_without_nbconvert_or_without_a_guide_there_is_none_in_the_index(tmp_path, monkeypatch):
    monkeypatch.setattr(site, "GUIDE", ("speed",))
    source = tmp_path / "notebooks"
    monkeypatch.setattr(site, "notebooks_folder", lambda: source)
    assert "Guide:" not in write_page("smoke", tmp_path).read_text()
    (source / "guide").mkdir(parents=True)
    page = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Speed")])
    nbformat.write(page, source / "guide" / "speed.ipynb")
    assert 'Guide: <a href="guide/speed.html">speed</a>' in write_page("smoke", tmp_path).read_text()
    monkeypatch.setitem(sys.modules, "nbconvert", None)
    assert "Guide:" not in write_page("smoke", tmp_path).read_text()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[data](data.ipynb) and [it](data.ipynb#terms)", "[data](data.html) and [it](data.html#terms)"),
        ("[`gadam.x`](../../gadam/config.py#x)", "[`gadam.x`](../api/gadam/config.html#x)"),
        ("[`gadam.x`](../../gadam/__init__.py#x)", "[`gadam.x`](../api/gadam.html#x)"),
        ("[quickstart](../quickstart.ipynb), [here](../../data/README.md)", "quickstart, here"),
        ("[paper](https://arxiv.org/abs/1805.07500)", "[paper](https://arxiv.org/abs/1805.07500)"),
    ],
)
def test_links_of_the_guide_lead_to_the_pages_of_the_site(text, expected):
    assert site._within_site(text, has_reference=True) == expected
