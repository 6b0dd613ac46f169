"""The report of profile standard in a browser, on a desk and on a phone."""

import json
import shutil
from pathlib import Path

import pytest

from gadam.paper.report import reference, site

REPORTS = Path(__file__).parents[2] / "reports"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The page of the committed report, which git ignores, made anew; without guide and API reference."""
    root = tmp_path_factory.mktemp("reports")
    kept = ("claims", "exhibits", "figures", "tables")
    for name in kept:
        shutil.copytree(REPORTS / "standard" / name, root / "standard" / name)
    run = {"section": "section41", "label": "a run", "outcome": "equal", "detail": "loss, row 1: 0.5, now 0.50001"}
    (root / "standard" / "sample.json").write_text(json.dumps([run] * 13))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "write", lambda folder: None)
        patch.setattr(site, "GUIDE", ())
        return site.write_page("standard", root).as_uri()


@pytest.mark.parametrize("width", [1280, 420])
def test_the_page_is_short_while_folded_and_nothing_is_wider_than_it(page, address, width):
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(address)
    size = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
    assert size[0] == width
    assert size[1] < 15_000


def test_a_verdict_that_is_chosen_shows_its_claims_and_a_link_opens_what_it_leads_to(page, address):
    page.goto(address)
    rows = page.locator("#scoreboard tbody tr")
    assert rows.count() > 100
    assert not any(row.is_visible() for row in rows.all())
    page.locator("label[for=show-reproduced]").click()
    shown = {row.get_attribute("class") for row in rows.all() if row.is_visible()}
    assert shown == {"is-reproduced"}
    page.goto(f"{address}#table4")
    assert page.locator("#table4").is_visible()
