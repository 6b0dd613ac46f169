"""The report of profile standard in a browser, on a desk and on a phone."""

from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "reports" / "standard" / "index.html"

pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="git ignores the page: make it by gadam archive standard")


@pytest.mark.parametrize("width", [1280, 420])
def test_the_page_is_short_while_folded_and_nothing_is_wider_than_it(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(PAGE.as_uri())
    size = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
    assert size[0] == width
    assert size[1] < 15_000


def test_a_verdict_that_is_chosen_shows_its_claims_and_a_link_opens_what_it_leads_to(page):
    page.goto(PAGE.as_uri())
    rows = page.locator("#scoreboard tbody tr")
    assert rows.count() > 100
    assert not any(row.is_visible() for row in rows.all())
    page.locator("label[for=show-reproduced]").click()
    shown = {row.get_attribute("class") for row in rows.all() if row.is_visible()}
    assert shown == {"is-reproduced"}
    page.goto(f"{PAGE.as_uri()}#table4")
    assert page.locator("#table4").is_visible()
