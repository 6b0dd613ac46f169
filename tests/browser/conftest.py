"""JupyterLab on a copy of the notebooks, and a browser to look at it."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest

from gadam.paper.report.paths import reports_root

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
SETTINGS = {  # no questions at the start, and every cell is in the page, also one that is out of sight
    "apputils-extension/notification.jupyterlab-settings": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker.jupyterlab-settings": {"windowingMode": "none"},
}
SECONDS = 600_000  # of a busy machine, in milliseconds


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium: Debian's, or the one that Playwright installed."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with playwright.sync_playwright() as driver:
        if path is None and not Path(driver.chromium.executable_path).exists():
            pytest.skip("there is no Chromium; try: apt-get install chromium, or: playwright install chromium")
        launched = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def lab_root(tmp_path_factory):
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="session")
def lab(browser, lab_root):  # without a browser there is no need for it
    """The address of a notebook in JupyterLab, by its file name; the copies and Jupyter's own files are temporary."""
    if shutil.which("jupyter-lab", path=str(Path(sys.executable).parent)) is None:
        pytest.skip("JupyterLab is not installed")
    root = lab_root
    shutil.copytree(NOTEBOOKS, root / "notebooks", ignore=shutil.ignore_patterns(".*"))
    if (computed := reports_root() / "runs").is_dir():  # what a reproduction or nbval has stored is not computed again
        # But for what somebody is writing now, such as a notebook that is tested beside this.
        shutil.copytree(computed, root / "reports" / "runs", ignore=shutil.ignore_patterns(".*"))
    settings = root / "JUPYTER_CONFIG_DIR" / "lab" / "user-settings" / "@jupyterlab"
    for name, content in SETTINGS.items():
        (settings / name).parent.mkdir(parents=True, exist_ok=True)
        (settings / name).write_text(json.dumps(content))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    own = {name: str(root / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")}
    own["GADAM_REPORTS"] = str(root / "reports")
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}", "--ServerApp.allow_root=True",
        f"--ServerApp.root_dir={root / 'notebooks'}",
    ]  # fmt: skip
    with (root / "log").open("wb") as log:
        # Of whoever runs the tests it may say that nothing is shown.
        environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"} | own
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    try:
        address, end = f"http://127.0.0.1:{port}", time.monotonic() + SECONDS / 1_000
        while True:
            if server.poll() is not None or time.monotonic() > end:
                pytest.fail(f"JupyterLab did not start: {(root / 'log').read_text()[-2_000:]}")
            try:
                urllib.request.urlopen(f"{address}/api/status?token={token}", timeout=60).close()
                break
            except OSError:
                time.sleep(0.1)
        yield lambda notebook: f"{address}/lab/workspaces/{secrets.token_hex(4)}/tree/{notebook}?token={token}"
    finally:
        server.terminate()  # it ends its kernels too
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@pytest.fixture(scope="session")
def context(browser):
    """What all pages share: JupyterLab's own files, which are then loaded once."""
    with browser.new_context(viewport={"width": 1280, "height": 1000}) as context:
        context.set_default_timeout(SECONDS)
        yield context


@pytest.fixture
def page(context):
    with context.new_page() as opened:
        yield opened


@pytest.fixture
def write(lab, lab_root):
    """Writes a notebook of one cell to where JupyterLab finds it."""

    def write(name, code):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code.strip())])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, lab_root / "notebooks" / name)

    return write
