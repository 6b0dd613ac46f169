"""The API reference: every module has a page, every equation its function, and no page needs a network."""

import posixpath
import re
import sys

import pytest

from gadam.paper import section6
from gadam.paper.report import reference, site

write = reference.write  # as it is before conftest.py takes it away


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write(folder)
    return {path.relative_to(folder).as_posix(): path.read_text("utf-8") for path in folder.rglob("*.*")}


def links(pages, name):
    """The pages and places that a page links to, as paths from the folder of the report."""
    found = set()
    for address in re.findall(r"""<a[^>]+href="([^"#:$]*(?:#[^"]*)?)\"""", pages[name]):
        path, _, place = address.partition("#")
        found.add((posixpath.normpath(posixpath.join(posixpath.dirname(name), path)) if path else name, place))
    return found


def test_every_module_that_a_user_may_call_has_a_page_that_links_lead_to(pages):
    expected = {f"api/{name.replace('.', '/')}.html" for name in reference.MODULES}
    assert expected | {site.REFERENCE, "api/index.html", "api/search.js"} <= set(pages)
    reached, waiting = set(), [site.REFERENCE]
    while waiting:
        name = waiting.pop()
        reached.add(name)
        linked = {page for page, _ in links(pages, name)}
        assert linked <= set(pages), name
        waiting += linked - reached - set(waiting)
    assert expected <= reached
    for name, text in pages.items():
        assert not re.search(r"""<(?:script|link|img)[^>]+(?:src|href)=["']?(?:https?:)?//""", text), name


def test_the_index_has_every_equation_with_its_function(pages):
    numbers = set()
    for one in section6.EQUATIONS:
        module, _, name = one.function.partition(":")
        page = f"api/{module.replace('.', '/')}.html"
        assert f"<td>{one.where}</td>" in pages["api/index.html"]
        assert (page, name) in links(pages, "api/index.html")
        assert f'id="{name}"' in pages[page]
        numbers |= {int(each) for pair in re.findall(r"Eq\. (\d+)(?: and (\d+))?", one.where) for each in pair if each}
    assert numbers == set(range(1, 16))


def test_without_pdoc_there_are_no_pages(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pdoc", None)
    write(tmp_path / "report")
    assert not (tmp_path / "report").exists()
