import posixpath
import re
import sys

import pytest

from gadam.paper import section6
from gadam.paper.report import reference, site


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    reference.write(folder)
    return {path.relative_to(folder).as_posix(): path.read_text("utf-8") for path in folder.rglob("*.*")}


def test_every_module_that_a_user_may_call_has_a_page(pages):
    expected = {f"api/{name.replace('.', '/')}.html" for name in reference.MODULES}
    assert set(pages) == expected | {"api/index.html", "api/search.js"}
    assert site.REFERENCE in pages


def links(pages, name):
    """The pages and places that a page links to, as paths from the folder of the report."""
    found = set()
    for address in re.findall(r"""<a[^>]+href="([^"#:$]*(?:#[^"]*)?)\"""", pages[name]):
        path, _, place = address.partition("#")
        found.add((posixpath.normpath(posixpath.join(posixpath.dirname(name), path)) if path else name, place))
    return found


def test_every_page_is_reached_by_links_from_the_first(pages):
    reached, waiting = set(), [site.REFERENCE]
    while waiting:
        name = waiting.pop()
        reached.add(name)
        linked = {page for page, _ in links(pages, name)}
        assert linked <= set(pages), name
        waiting += linked - reached - set(waiting)
    assert reached == set(pages) - {"api/search.js"}


def test_the_index_names_every_module_in_a_line_and_every_equation_with_the_function_that_is_it(pages):
    index = pages["api/index.html"]
    assert "evolve(): the generation loop of Section 3." in index
    for one in section6.EQUATIONS:
        module, _, name = one.function.partition(":")
        page = f"api/{module.replace('.', '/')}.html"
        assert f"<td>{one.where}</td>" in index
        assert (page, name) in links(pages, "api/index.html")
        assert f'id="{name}"' in pages[page]
    assert {number for one in section6.EQUATIONS for number in numbers(one.where)} == set(range(1, 16))


def numbers(text):
    return {int(number) for pair in re.findall(r"Eq\. (\d+)(?: and (\d+))?", text) for number in pair if number}


def test_equations_are_named_where_they_live(pages):
    assert numbers(pages["api/gadam/evolution.html"]) >= {1, 6}
    assert numbers(pages["api/gadam/optimizers.html"]) >= {2, 3, 4, 5}
    assert numbers(pages["api/gadam/genetics.html"]) >= set(range(8, 16))
    assert "Eq. 6" in pages["api/gadam/training.html"]
    assert "Eq. 7" in pages["api/gadam/training.html"]


def test_a_page_of_a_module_begins_with_no_constant_that_is_not_told(pages):
    for name in ("CHUNK", "REPEATED", "PREDICT_WITH"):
        assert f'id="{name}"' not in pages["api/gadam/estimators.html"]
    assert 'id="TrainingPanel"' in pages["api/gadam/playground.html"]


def test_pages_need_no_network(pages):
    for name, text in pages.items():
        assert not re.search(r"""<(?:script|link|img)[^>]+(?:src|href)=["']?(?:https?:)?//""", text), name


def test_without_pdoc_there_are_no_pages(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pdoc", None)
    reference.write(tmp_path)
    assert list(tmp_path.iterdir()) == []
