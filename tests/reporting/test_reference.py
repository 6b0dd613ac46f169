import re
import sys

import pytest

from gadam.reporting import reference, site


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    reference.write(folder)
    return {path.relative_to(folder).as_posix(): path.read_text("utf-8") for path in folder.rglob("*.*")}


def test_every_module_that_a_user_may_call_has_a_page(pages):
    expected = {f"api/{name.replace('.', '/')}.html" for name in (*reference.MODULES, "gadam.genetics")}
    assert set(pages) == expected | {"api/index.html", "api/search.js"}
    assert site.REFERENCE in pages


def test_equations_are_named_where_they_live(pages):
    found = re.findall(r"Eq\. (\d+)(?: and (\d+))?", pages["api/gadam/genetics.html"])
    assert {int(number) for pair in found for number in pair if number} >= set(range(8, 16))
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
