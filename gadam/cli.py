"""The command line: `gadam reproduce`, `gadam report`, `gadam archive`, `gadam compare` and `gadam data`."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gadam.config import InputError

if TYPE_CHECKING:
    from gadam.datasets import Located

# Modules that need PyTorch or scikit-learn are imported by the command that needs them: `gadam --help` should be quick.

app = typer.Typer(
    name="gadam",
    help="Train a population of PyTorch modules with GADAM, and reproduce the paper.",
    no_args_is_help=True,
    rich_markup_mode="markdown",  # the others take the brackets of gadam[paper] for theirs, or keep line breaks
    pretty_exceptions_show_locals=False,
)
data = typer.Typer(help="The five datasets of the paper: see what is here, download, verify.", no_args_is_help=True)
app.add_typer(data, name="data")


def _flag(name: str, text: str, **more: Any) -> Any:
    return typer.Option(name, metavar="", help=text, **more)


Names = Annotated[
    list[str] | None, typer.Argument(metavar="NAME", help="mnist, orl, yeast, adult, letter; all if none is given.")
]
FolderOption = Annotated[Path | None, typer.Option(help="Where the data is; $GADAM_DATA, else data/, if not given.")]
PROFILE_HELP = "smoke, quick: minutes, does everything run? standard: the report; paper: the paper's budgets."
ProfileOption = Annotated[str, typer.Option(help=PROFILE_HELP, metavar="NAME")]


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"gadam {version('gadam')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, _flag("--version", "Show the version and exit.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    """Options of all commands."""


@app.command()
def reproduce(
    profile: ProfileOption = "standard",
    only: Annotated[
        str | None, typer.Option(help="A section (section54) or an exhibit (table4); all if not given.", metavar="NAME")
    ] = None,
    data: Annotated[
        str, typer.Option(help="real, standin, or auto: real where it can be had.", metavar="CHOICE")
    ] = "auto",
    plan: Annotated[bool, _flag("--plan", "Say what there is to compute and how long; do nothing.")] = False,
    verbose: Annotated[bool, _flag("--verbose", "With --plan: a line for each run.")] = False,
    runs_only: Annotated[bool, _flag("--runs-only", "Compute the runs, without notebooks or a report.")] = False,
    recompute: Annotated[bool, _flag("--recompute", "Take nothing from the archive: compute every run.")] = False,
    scheduler: Annotated[
        str | None, typer.Option(help="Compute on the workers of a dask scheduler: tcp://host:8786.", metavar="ADDRESS")
    ] = None,
) -> None:
    """Execute the notebooks and write every table and figure, the scoreboard and the report page, into reports/out.

    Profile standard is rendered from the archive of runs that comes with the project, and a sample of them is computed
    again and compared, which takes minutes; the exit status is 1 if they differ. --runs-only computes the runs that are
    missing, --recompute all of them. Profiles smoke and quick compute everything.

    Finished runs are stored and never computed twice, so an interrupted command goes on where it stopped. With
    --runs-only a machine without Jupyter computes what another one then renders from a copy of the run store
    ($GADAM_RUNS). $GADAM_WORKERS says how many runs are computed side by side; by default one on each core.

    With --scheduler (pip install 'gadam[distributed]') each worker of the cluster computes a run at a time. They need
    the same version of gadam, and the data in their own $GADAM_DATA; the runs are stored here.
    """
    if plan and (runs_only or scheduler):
        other = "--runs-only" if runs_only else "--scheduler"
        raise InputError(f"reproduce: --plan computes nothing and {other} computes; give one of them")
    if plan:
        from gadam.paper.report.plan import describe, planned

        typer.echo(describe(planned(profile, only, data, recompute=recompute), verbose=verbose or only is not None))
        return
    from gadam.paper import report as reporting

    with _saying_that_it_goes_on():
        if runs_only:
            reporting.compute_runs(profile, only, data, scheduler, recompute=recompute)
        else:
            reporting.reproduce(profile, only, data, scheduler=scheduler, recompute=recompute)


@contextlib.contextmanager
def _saying_that_it_goes_on() -> Iterator[None]:
    """Say with every error that ends a reproduction that nothing is lost."""
    from gadam.paper.report import ReportError, SampleError

    hint = "; finished runs are stored, the same command goes on from there"
    try:
        yield
    except Stopped as stopped:
        stopped.hint = hint
        raise
    except (SampleError, BrokenPipeError):  # all is there; or nobody reads the output, and typer knows what to do
        raise
    except ReportError as error:
        raise ReportError(f"{error}{hint}") from error
    except OSError as error:
        raise ReportError(f"{_of_the_system(error)}{hint}") from error


@app.command()
def report(profile: ProfileOption = "standard") -> None:
    """Write scoreboard, provenance and report page again from what is there; nothing is executed."""
    from gadam.paper.report import write_page

    typer.echo(f"report: {write_page(profile)}")


@app.command("archive")
def archive_profile(
    profile: Annotated[str, typer.Argument(metavar="PROFILE", help="standard or paper.")] = "standard",
    runs_only: Annotated[bool, _flag("--runs-only", "Write the archive; do not render the report.")] = False,
) -> None:
    """Add the runs in the store to the archive of a profile, and render its committed report. For maintainers.

    The archive is reports/PROFILE/runs.jsonl.xz. No valid run in it is lost.
    """
    from gadam.paper.report import archive_runs

    archive_runs(profile, rendering=not runs_only)


@app.command("compare")
def compare_reports(
    first: Annotated[
        Path | None, typer.Argument(metavar="A", help="A report's folder; the committed one if not given.")
    ] = None,
    second: Annotated[Path | None, typer.Argument(metavar="B", help="Another; the one made here if not given.")] = None,
    profile: ProfileOption = "standard",
) -> None:
    """Compare two reports of a profile: numbers that are identical or inside the other's interval, verdicts changed.

    The exit status is 1 if a number lies outside, or a verdict is another.
    """
    from gadam.paper.report.compare import compare, describe
    from gadam.paper.report.paths import committed_root, reports_root

    a, b = first or committed_root() / profile, second or reports_root() / profile
    found = compare(a, b)
    typer.echo(describe(found, a, b))
    if not found.agree:
        raise typer.Exit(1)


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


class Stopped(SystemExit):
    """SIGINT or SIGTERM came; not an `Exception`, so that nothing goes on after it."""

    hint = ""


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Let the signals raise `Stopped`; not one that is ignored, as a process in the background of a shell does."""

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)  # the second ends this process at once; the others end with it
        raise Stopped(128 + number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, stop) for number in numbers if signal.getsignal(number) != signal.SIG_IGN}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main() -> None:
    """Run the command line; an error is one line, not a traceback.

    The exit status is 2 for a mistake of the user, 1 for a failure, 130 after SIGINT and 143 after SIGTERM.
    """
    try:
        with _stoppable():
            app()
    except Stopped as stopped:
        number = signal.Signals(int(stopped.code or 0) - 128)
        sys.exit(_complain(f"stopped by {number.name}{stopped.hint}", status=128 + number))
    except InputError as error:
        sys.exit(_complain(str(error)))
    except OSError as error:
        sys.exit(_complain(_of_the_system(error), status=1))
    except RuntimeError as error:
        from gadam.paper.report import ReportError

        if not isinstance(error, ReportError):
            raise
        sys.exit(_complain(str(error), status=1))
    except ModuleNotFoundError as error:
        if (error.name or "gadam").partition(".")[0] == "gadam":
            raise
        sys.exit(_complain(f"this command needs {error.name}, which is not installed: pip install 'gadam[paper]'"))


def _of_the_system(error: OSError) -> str:
    """The words of an error of the system, with its file."""
    told = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {told}" if error.filename else told


def _complain(message: str, status: int = 2) -> int:
    typer.echo(f"gadam: {' '.join(message.splitlines())}", err=True)
    return status
