"""Fixtures of the datasets' tests: no network unless a test serves one itself, real files where there are some."""

import dataclasses
import hashlib
import http.server
import os
import threading
from pathlib import Path

import pytest

from gadam.datasets import SOURCES
from gadam.datasets.standins import standin


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    monkeypatch.setenv("GADAM_OFFLINE", "1")


@pytest.fixture
def real_folder():
    if not (folder := os.environ.get("GADAM_DATA")):
        pytest.skip("the real data is not here: set GADAM_DATA to a folder that has it")
    return Path(folder)


@pytest.fixture
def server(monkeypatch):
    """A mirror on this machine: fill `.pages` (path -> bytes); `.asked` lists the paths that were asked for."""
    monkeypatch.setenv("GADAM_OFFLINE", "0")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    pages, asked = {}, []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            body = pages.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.pages, running.asked = pages, asked
        running.address = f"http://127.0.0.1:{running.server_port}"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def publish(monkeypatch):
    """Let the stand-in of a dataset, but for some files, count as what was published: gives its contents."""

    def published(name, mirrors=(), changed=None):
        contents = dict(standin(name)[0]) | (changed or {})
        pixels = 112 * 92 if name == "orl" else 0  # of an image the header does not count

        def digest(files):
            return hashlib.sha256(b"".join(contents[file][-pixels:] for file in files)).hexdigest()

        source = SOURCES[name]
        checks = {files: digest(files) for files in source.checks}
        new = dataclasses.replace(source, checks=checks, hash=digest(source.files), mirrors=tuple(mirrors))
        monkeypatch.setitem(SOURCES, name, new)
        return contents

    return published


@pytest.fixture
def put(tmp_path):
    """Write the files of a dataset below `tmp_path`: `put(name, contents)` gives the folder that they lie in."""

    def written(name, contents):
        folder = tmp_path / SOURCES[name].folder
        for file, content in contents.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(content)
        return folder

    return written
