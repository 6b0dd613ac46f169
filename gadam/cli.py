"""The command line: `gadam data`, and what later modules add to `app`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gadam.config import InputError

if TYPE_CHECKING:
    from gadam.datasets import Located

# Whatever needs PyTorch or scikit-learn is imported by the command that needs it: `gadam --help` should be quick.

app = typer.Typer(
    name="gadam",
    help="Train a population of PyTorch modules with GADAM, and reproduce the paper.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
data = typer.Typer(help="The five datasets of the paper: see what is here, download, verify.", no_args_is_help=True)
app.add_typer(data, name="data")

Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="NAME", help="mnist, orl, yeast, adult, letter; all if none is given."),
]
FolderOption = Annotated[Path | None, typer.Option(help="Where the data is; $GADAM_DATA, else data/, if not given.")]


@app.callback()
def _gadam() -> None:
    """Keep `gadam data` a subcommand whatever other commands there are."""


@data.command("list")
def list_data(folder: FolderOption = None) -> None:
    """Show every dataset: its size, where its files are, and whether they are the published ones."""
    from gadam.datasets import NAMES, SOURCES, verify
    from gadam.datasets.files import data_folder, find

    rows = [("name", "rows", "features", "classes", "state", "SHA-256", "where")]
    for name in NAMES:
        state, digest, where = "missing", "", str(data_folder(folder) / SOURCES[name].folder)
        try:
            if find(name, data_folder(folder)):
                located = verify(name, folder)
                state, digest, where = "verified", located.hash[:12], str(located.path)
        except InputError:
            state = "damaged"
        source = SOURCES[name]
        rows.append((name, f"{source.rows:,}", source.features, str(len(source.classes)), state, digest, where))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@data.command("fetch")
def fetch_data(names: Names = None, folder: FolderOption = None) -> None:
    """Download what is not here yet, from the first mirror that serves the published files.

    Nothing is kept unless its SHA-256 is right. The exit status is 1 if a dataset could not be had.
    """
    from gadam.datasets import fetch

    _each(names, lambda name: fetch(name, folder, progress=sys.stderr.isatty()))


@data.command("verify")
def verify_data(names: Names = None, folder: FolderOption = None) -> None:
    """Compare the files with the SHA-256 of the published ones.

    The exit status is 1 if a dataset is missing or damaged.
    """
    from gadam.datasets import verify

    _each(names, lambda name: verify(name, folder))


def _each(names: list[str] | None, command: Callable[[str], Located]) -> None:
    """Run a command for each dataset, go on after a failure, and exit with 1 if there was one."""
    from gadam.datasets import NAMES
    from gadam.datasets.registry import source

    for name in names or ():
        source(name)  # a misspelled name stops everything before it begins
    failed = False
    for name in names or NAMES:
        try:
            located = command(name)
        except InputError as error:
            failed = True
            typer.echo(f"gadam: {error}", err=True)
        else:
            typer.echo(f"{name}: verified, SHA-256 {located.hash[:12]}, {located.path}")
    if failed:
        raise typer.Exit(1)


def main() -> None:
    """Run the command line; a mistake of the user is one line and exit status 2, not a traceback."""
    try:
        app()
    except InputError as error:
        sys.exit(_complain(str(error)))
    except ModuleNotFoundError as error:
        if (error.name or "gadam").partition(".")[0] == "gadam":
            raise
        sys.exit(_complain(f"this command needs {error.name}, which is not installed: pip install 'gadam[paper]'"))


def _complain(message: str) -> int:
    typer.echo(f"gadam: {message}", err=True)
    return 2
