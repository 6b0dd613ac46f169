"""Archives, notebooks and folders that the tests of reports make."""

import json

import nbformat

from gadam.paper.report import archive, store


def contents_of(runs, folder, change=lambda content: content):
    """The stored contents of some runs, each changed, with its checksum made anew."""
    for run in runs:
        store.execute_and_write(folder, run)
    return [signed(change(json.loads(store.path_of(folder, run.key).read_bytes()))) for run in runs]


def signed(content, **changed):
    rest = {name: value for name, value in {**content, **changed}.items() if name != "sha256"}
    return {**rest, "sha256": store.digest_of(rest)}


def archived(folder, runs, change=lambda content: content):
    """The path of an archive of runs, each changed, of profile standard."""
    path = folder / "archive" / "standard" / archive.NAME
    archive.write(path, contents_of(runs, folder / "elsewhere", change))
    archive._read.cache_clear()
    return path


def write_notebook(path, *cells):
    parameters = nbformat.v4.new_code_cell('profile = "smoke"\ndata = "auto"', metadata={"tags": ["parameters"]})
    everything = [nbformat.v4.new_markdown_cell("# A *title*"), parameters, *map(nbformat.v4.new_code_cell, cells)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=everything, metadata={"kernelspec": kernel}), path)
    return path


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
