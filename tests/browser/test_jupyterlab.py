"""The notebooks as people use them: JupyterLab in a browser. Skipped where there is none."""

import re
import time

import nbformat
import pytest

# Of one type with what is written to stderr, such as a warning, in some versions.
ERRORS = '[data-mime-type="application/vnd.jupyter.error"], [data-mime-type="application/vnd.jupyter.stderr"]'
FIGURE = 'img[alt^="Loss of every unit"]'
SECONDS = 600_000  # of a busy machine, in milliseconds
IDLE = '.jp-NotebookPanel .jp-Notebook-ExecutionIndicator[data-status="idle"]:visible'


def open_and_run_all(page, address):
    """Open a notebook, and restart its kernel and run all cells from the toolbar, as a person would."""
    page.goto(address)
    page.locator(".jp-NotebookPanel .jp-CodeCell:visible").first.wait_for()
    # JupyterLab forgets to run the cells after a restart that is asked for before it has met its kernel.
    until_idle(page, address)
    page.wait_for_timeout(1_000)
    page.locator('[data-command="notebook:restart-run-all"]').first.click()
    page.locator(".jp-Dialog .jp-mod-accept").click()
    prompts = ".jp-NotebookPanel .jp-CodeCell .jp-InputArea:not(.lm-mod-hidden) > .jp-InputPrompt"
    page.wait_for_function(
        f"() => [...document.querySelectorAll('{prompts}')].every(p => /\\[\\d+\\]/.test(p.textContent))",
        timeout=SECONDS,
    )
    until_idle(page, address)  # that comes to the page after all that the last cell said
    page.wait_for_timeout(500)  # which is now on its way to the screen
    errors = page.locator(ERRORS, has_text="Traceback (most recent call last)")
    assert errors.count() == 0, errors.first.inner_text()


def until_idle(page, address):
    """Wait until the server and the page say that the notebook's kernel is connected and has nothing to do."""
    name = address.partition("?")[0].rpartition("/")[2]
    server, token = address.partition("/lab/")[0], address.partition("?")[2]

    def idle():
        kernels = [
            session["kernel"]
            for session in page.request.get(f"{server}/api/sessions?{token}").json()
            if session["path"] == name
        ]
        return any(kernel["execution_state"] == "idle" and kernel["connections"] for kernel in kernels)

    assert eventually(page, idle), f"{name}: waiting was in vain"
    page.locator(IDLE).wait_for()


def eventually(page, holds):
    """Whether something holds after a while at the latest."""
    end = time.monotonic() + SECONDS / 1_000
    while not (found := holds()) and time.monotonic() < end:
        page.wait_for_timeout(100)
    return found


def button(page, name):
    return page.locator(".jp-OutputArea button.jupyter-button", has_text=name)


def fill(page, name, value):
    box = (
        page.locator(".widget-inline-hbox").filter(has=page.locator(f'label:text-is("{name}")')).locator("input").first
    )
    box.fill(str(value))
    box.press("Enter")


def large(page):
    """Whether each of the pictures in the notebook is one."""
    return page.locator(".jp-OutputArea img").evaluate_all("all => all.map(image => image.naturalWidth > 300)")


LIVE = """
import torch
import gadam
from gadam.models import mlp

inputs = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
data = inputs, (inputs[:, 0] > 0).long()
config = gadam.GadamConfig(population_size=4, generations=4, steps=20)
result = gadam.evolve(lambda: mlp(4, 2, [8]), data, config, callbacks=[gadam.LivePlot(test=data)])
"""


def test_a_notebook_of_the_paper_shows_its_figure(lab, page):
    open_and_run_all(page, lab("section41_landscape.ipynb"))
    assert eventually(page, lambda: any(large(page)))


def test_a_live_plot_beside_the_progress_bar_is_one_figure_and_an_error_is_seen(lab, page, notebooks):
    cells = [nbformat.v4.new_code_cell(code) for code in (LIVE, "assert 1 == 2")]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), notebooks / "live.ipynb")
    with pytest.raises(AssertionError, match="AssertionError"):
        open_and_run_all(page, lab("live.ipynb"))
    page.get_by_text("generation 4/4: 100%").wait_for()  # the bar
    assert eventually(page, lambda: large(page) == [True] * 4)


def test_the_playground_runs_and_stops_and_plays(lab, page):
    open_and_run_all(page, lab("playground.ipynb"))
    assert button(page, "Stop").is_disabled()
    fill(page, "generations K", 1_000)
    button(page, "Run").click()
    page.locator(FIGURE).wait_for(timeout=SECONDS)
    first = page.locator(FIGURE).get_attribute("src")
    assert eventually(page, lambda: page.locator(FIGURE).get_attribute("src") != first), "drawn again"
    button(page, "Stop").click()
    page.get_by_text("Stopped after").wait_for()

    before = page.locator('img[alt^="Contours"]').get_attribute("src")
    page.locator(".widget-play button").first.click()
    # A busy machine leaves out some frames: what is seen is one of these or a later one.
    page.locator("p", has_text=re.compile("Generation (1 of 3: (children|the fittest)|[23] of 3)")).first.wait_for()
    assert page.locator('img[alt^="Contours"]').get_attribute("src") != before
