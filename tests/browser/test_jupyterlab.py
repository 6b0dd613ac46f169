"""The notebooks as people use them: JupyterLab in a browser. Skipped where there is none."""

import re
import time
from pathlib import Path

import pytest

from gadam.training.batches import BLOCK

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
# Of one type with what is written to stderr, such as a warning, in some versions.
ERRORS = '[data-mime-type="application/vnd.jupyter.error"], [data-mime-type="application/vnd.jupyter.stderr"]'
TITLES = ("Loss of every unit", "Family of the fittest", "Right on the test rows", "Adoption of children")
FIGURE = f'img[alt^="{TITLES[0]}"]'
SECONDS = 600_000  # of a busy machine, in milliseconds
IDLE = '.jp-NotebookPanel .jp-Notebook-ExecutionIndicator[data-status="idle"]:visible'


def open_and_run_all(page, address):
    """Open a notebook, and restart its kernel and run all cells from the toolbar, as a person would."""
    page.goto(address)
    page.locator(".jp-NotebookPanel .jp-CodeCell:visible").first.wait_for()
    until_connected(page, address)
    page.locator('[data-command="notebook:restart-run-all"]').first.click()
    page.locator(".jp-Dialog .jp-mod-accept").click()
    prompts = ".jp-NotebookPanel .jp-CodeCell .jp-InputPrompt"
    page.wait_for_function(
        f"() => [...document.querySelectorAll('{prompts}')].every(p => /\\[\\d+\\]/.test(p.textContent))",
        timeout=SECONDS,
    )
    until(page, address, lambda session: session["kernel"]["execution_state"] == "idle")
    page.locator(IDLE).wait_for()  # that comes to the page after all that the last cell said
    page.wait_for_timeout(500)  # which is now on its way to the screen
    errors = page.locator(ERRORS, has_text="Traceback (most recent call last)")
    assert errors.count() == 0, errors.first.inner_text()


def until_connected(page, address):
    """JupyterLab forgets to run the cells after a restart that is asked for before it has met its kernel."""
    until(
        page,
        address,
        lambda session: session["kernel"]["execution_state"] == "idle" and session["kernel"]["connections"],
    )
    page.locator(IDLE).wait_for()
    page.wait_for_timeout(1_000)


def until(page, address, holds, seconds=SECONDS / 1_000):
    """Wait until something holds of what the server says of a notebook's session."""
    name = address.partition("?")[0].rpartition("/")[2]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if any(session["path"] == name and holds(session) for session in sessions(page, address)):
            return
        page.wait_for_timeout(100)
    pytest.fail(f"{name}: {seconds:g} s of waiting were in vain; the server says {sessions(page, address)}")


def eventually(page, holds):
    """Whether something holds of what the page shows, after a while at the latest."""
    end = time.monotonic() + SECONDS / 1_000
    while not (found := holds()) and time.monotonic() < end:
        page.wait_for_timeout(100)
    return found


def sessions(page, address):
    """What the server says of the notebooks that have a kernel."""
    return page.request.get(f"{address.partition('/lab/')[0]}/api/sessions?{address.partition('?')[2]}").json()


def button(page, name):
    return page.locator(".jp-OutputArea button.jupyter-button", has_text=name)


def fill(page, name, value):
    box = (
        page.locator(".widget-inline-hbox").filter(has=page.locator(f'label:text-is("{name}")')).locator("input").first
    )
    box.fill(str(value))
    box.press("Enter")


def widths(page, where=".jp-OutputArea img"):
    """Of the pictures in the notebook: pixels that they have, and that they are shown with."""
    return page.locator(where).evaluate_all("all => all.map(image => [image.naturalWidth, image.clientWidth])")


def cut(page):
    """How many pictures go beyond the right edge of where they are."""
    return page.locator(".jp-OutputArea img").evaluate_all(
        """all => all.filter(image => image.getBoundingClientRect().right
            > image.closest('.jp-OutputArea-output').getBoundingClientRect().right + 1).length"""
    )


def columns(page):
    """How many of the live pictures are side by side."""
    tops = page.locator("img:is(" + ", ".join(f'[alt^="{title}"]' for title in TITLES) + ")").evaluate_all(
        "all => all.map(image => Math.round(image.getBoundingClientRect().top))"
    )
    return max(map(tops.count, tops)) if len(tops) == len(TITLES) else 0


def source(page):
    found = page.locator(FIGURE)
    return found.get_attribute("src") if found.count() else None


@pytest.mark.parametrize("name", sorted(path.name for path in NOTEBOOKS.glob("*.ipynb")))
def test_restart_and_run_all_goes_through(lab, page, shoot, name):
    address = lab(name)
    open_and_run_all(page, address)
    if name != "playground.ipynb":  # which waits for a button
        shown = eventually(page, lambda: any(natural > 300 for natural, _ in widths(page)))
        assert shown, "each notebook shows a figure"
    shoot(name.removesuffix(".ipynb"))
    for session in sessions(page, address):  # a kernel of each notebook would be much memory
        page.request.delete(f"{address.partition('/lab/')[0]}/api/sessions/{session['id']}?{address.partition('?')[2]}")


def test_an_error_is_seen(lab, page, write):
    write("wrong.ipynb", "assert 1 == 2")
    with pytest.raises(AssertionError, match="AssertionError"):
        open_and_run_all(page, lab("wrong.ipynb"))


def test_run_draws_again_and_again_and_stop_stops(lab, page, shoot):
    open_and_run_all(page, lab("playground.ipynb"))
    assert button(page, "Stop").is_disabled()
    fill(page, "generations K", 1_000)
    button(page, "Run").scroll_into_view_if_needed()
    button(page, "Run").click()
    page.locator(FIGURE).wait_for(timeout=SECONDS)
    figures = {source(page)}
    end = time.monotonic() + SECONDS / 1_000
    while len(figures) < 3 and time.monotonic() < end:
        page.wait_for_timeout(100)
        figures.add(source(page))
    assert len(figures) == 3, "the pictures are drawn again after each generation"
    for width, expected in ((1280, 2), (800, 1)):
        page.set_viewport_size({"width": width, "height": 1_000})
        page.wait_for_timeout(500)
        assert eventually(page, lambda expected=expected: columns(page) == expected)
        assert eventually(page, lambda: cut(page) == 0)
        # Of 4.6 inches: letters of 8 points are then at least 8.7 pixels high.
        assert eventually(page, lambda: min((shown for _, shown in widths(page, FIGURE)), default=0) > 360)
    shoot("running")
    button(page, "Stop").click()
    page.get_by_text("Stopped after").wait_for()

    fill(page, "population g", 1)
    button(page, "Run").click()
    page.get_by_text("population_size=1 leaves nothing to select from").wait_for()
    assert page.locator(FIGURE).count() == 1, "of the result that is kept"
    shoot("error")


STOPPED = """
import os
from pathlib import Path

from gadam.playground import training, training_panel

evolve, late = training.evolve, []


def watched(*given, record, **others):
    def each(step):
        record(step)
        if panel._stop.is_set():
            late.append(step.number)

    return evolve(*given, record=each, **others)


training.evolve = watched
panel = training_panel()
run = panel._run


def counted(*settings):
    late.clear()
    run(*settings)
    Path("new").write_text(str(len(late) / panel.controls["population_size"].value))
    os.replace("new", "ended")


panel._run = counted
panel
"""


def test_stop_ends_the_thread_at_once(lab, lab_root, page, write):
    write("stopped.ipynb", STOPPED)
    open_and_run_all(page, lab("stopped.ipynb"))
    ended = lab_root / "notebooks" / "ended"
    fill(page, "generations K", 1_000)
    # Among short generations, each with its pictures; in the middle of a generation that would take an hour.
    for steps, words in ((40, "Stopped after"), (1_000_000, "Stopped before the first generation was complete")):
        fill(page, "steps", steps)
        button(page, "Run").click()
        (page.locator(FIGURE) if steps == 40 else page.get_by_text("Generation 1 of 1000")).wait_for(timeout=SECONDS)
        page.wait_for_timeout(2_000)
        button(page, "Stop").click()
        page.get_by_text(words).wait_for()
        assert eventually(page, ended.exists)
        assert float(ended.read_text()) <= BLOCK, "steps after the stop was heard, by shards of a unit or more"
        ended.unlink()
        assert eventually(page, button(page, "Run").is_enabled)

    # The cell again makes another panel, from which nothing stops what the first one trains.
    button(page, "Run").click()
    page.get_by_text("Generation 1 of 1000").wait_for()
    page.locator(".jp-CodeCell .cm-content").first.click()
    page.keyboard.press("Control+Enter")
    page.get_by_text("Press Run.").wait_for()
    assert eventually(page, ended.exists)


def test_the_landscape_plays(lab, page, shoot):
    open_and_run_all(page, lab("playground.ipynb"))
    picture = page.locator('img[alt^="Contours"]')
    picture.scroll_into_view_if_needed()
    said = page.locator("p", has_text="Generation 1 of 3: parents train, step 0 of 60.")
    said.wait_for()
    before = picture.get_attribute("src")
    page.locator(".widget-play button").first.click()
    # Frames of 0.1 s, of which a busy machine leaves out some: what is seen is one of these or a later one.
    page.locator("p", has_text=re.compile("Generation (1 of 3: (children|the fittest)|[23] of 3)")).first.wait_for()
    assert picture.get_attribute("src") != before
    shoot("landscape")
    page.locator("p", has_text=re.compile("Generation [23] of 3")).first.wait_for()
    # Pause, unless it has come to its end.
    page.locator(".widget-play button:has(.fa-pause)").evaluate_all("all => all.forEach(each => each.click())")
    page.locator('label:text-is("starts g") + input').fill("7")
    page.keyboard.press("Enter")
    said.wait_for()  # other starts are looked at from their first frame


LIVE = """
import torch
import gadam
from gadam.models import mlp
from gadam.live_plot import LivePlot

inputs = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
data = inputs, (inputs[:, 0] > 0).long()
config = gadam.GadamConfig(population_size=4, generations=4, steps=20)
result = gadam.evolve(lambda: mlp(4, 2, [8]), data, config, callbacks=[LivePlot(test=data)])
"""


def test_a_live_plot_beside_the_progress_bar_is_one_figure(lab, page, shoot, write):
    write("live.ipynb", LIVE)
    open_and_run_all(page, lab("live.ipynb"))
    page.get_by_text("generation 4/4: 100%").wait_for()  # the bar
    assert eventually(page, lambda: [natural > 300 for natural, _ in widths(page)] == [True] * 4)
    shoot("live")
