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

import pytest

from gadam.paper.report.paths import reports_root

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
SETTINGS = {  # no questions at the start, and every cell is in the page, also one that is out of sight
    "apputils-extension/notification.jupyterlab-settings": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker.jupyterlab-settings": {"windowingMode": "none"},
}
SECONDS = 600  # of a busy machine


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium, Debian's or the one that Playwright installed; its pages share what they have loaded."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with playwright.sync_playwright() as driver:
        if path is None and not Path(driver.chromium.executable_path).exists():
            pytest.skip("there is no Chromium; try: apt-get install chromium, or: playwright install chromium")
        launched = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        context = launched.new_context(viewport={"width": 1280, "height": 1000})
        context.set_default_timeout(1_000 * SECONDS)
        yield context
        launched.close()


@pytest.fixture(scope="session")
def notebooks(tmp_path_factory):
    """A copy of the notebooks, with what a reproduction or nbval has stored, which is not computed again."""
    root = tmp_path_factory.mktemp("lab")
    copied = {"notebooks": NOTEBOOKS, "reports/runs": reports_root() / "runs"}
    for name, folder in copied.items():
        if folder.is_dir():  # but for what somebody is writing now, such as a notebook that is tested beside this
            shutil.copytree(folder, root / name, ignore=shutil.ignore_patterns(".*"))
    return root / "notebooks"


@pytest.fixture(scope="session")
def lab(browser, notebooks):  # without a browser there is no need for it
    """The address of a notebook in JupyterLab, by its file name; Jupyter's own files are temporary too."""
    root = notebooks.parent
    for name, content in SETTINGS.items():
        path = root / "JUPYTER_CONFIG_DIR" / "lab" / "user-settings" / "@jupyterlab" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token, address = secrets.token_hex(16), f"http://127.0.0.1:{port}"
    own = {name: str(root / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")}
    # Of whoever runs the tests MPLBACKEND may say that nothing is shown.
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"} | own
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}", "--ServerApp.allow_root=True",
        f"--ServerApp.root_dir={notebooks}",
    ]  # fmt: skip
    with (root / "log").open("wb") as log:
        environment["GADAM_REPORTS"] = str(root / "reports")
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    try:
        end = time.monotonic() + SECONDS
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


@pytest.fixture
def page(browser):
    with browser.new_page() as opened:
        yield opened
