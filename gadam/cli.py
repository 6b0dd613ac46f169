"""The command line: `gadam reproduce`, `list`, `report`, `archive`, `compare` and `data`."""

from __future__ import annotations

import contextlib
import signal
import sys
import warnings
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


def _option(metavar: str, text: str) -> Any:
    return typer.Option(metavar=metavar, help=text)


Names = Annotated[
    list[str] | None, typer.Argument(metavar="NAME", help="mnist, orl, yeast, adult, letter; all if none is given.")
]
Folder = Annotated[Path | None, typer.Option(help="Where the data is; $GADAM_DATA, else data/, if not given.")]
PROFILE_HELP = "smoke, quick: minutes, does everything run? standard: the report; paper: the paper's budgets."
Profile = Annotated[str, _option("NAME", PROFILE_HELP)]
HINT = "; finished runs are stored, the same command goes on from there"


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
    profile: Profile = "standard",
    only: Annotated[
        str | None, _option("NAME", "A section (section54), its notebook or an exhibit (table4); all if not given.")
    ] = None,
    data: Annotated[str, _option("CHOICE", "real, standin, or auto: real where it can be had.")] = "auto",
    plan: Annotated[bool, _flag("--plan", "Say what there is to compute and how long; do nothing.")] = False,
    runs_only: Annotated[bool, _flag("--runs-only", "Compute the runs, without notebooks or a report.")] = False,
    recompute: Annotated[bool, _flag("--recompute", "Take nothing from the archive: compute every run.")] = False,
    scheduler: Annotated[
        str | None, _option("ADDRESS", "Compute on the workers of a dask scheduler: tcp://host:8786.")
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
    from gadam.paper import data_of, import_sections, sections_of

    if plan and (runs_only or scheduler):
        other = "--runs-only" if runs_only else "--scheduler"
        raise InputError(f"reproduce: --plan computes nothing and {other} computes; give one of them")
    typer.echo(f"profile {profile}, data {data_of(profile, data)}: {', '.join(sections_of(only))}")
    import_sections()  # which takes seconds
    if plan:
        from gadam.paper.report.plan import Source, describe, planned

        lines = planned(profile, only, data, Source(profile, recompute))
        typer.echo(describe(lines, verbose=only is not None))
        return
    from gadam.paper.report.reproduction import compute_runs
    from gadam.paper.report.reproduction import reproduce as write_report

    with _stoppable():
        (compute_runs if runs_only else write_report)(profile, only, data, scheduler, recompute=recompute)


@contextlib.contextmanager
def _stoppable(hint: str = HINT) -> Iterator[None]:
    """Let SIGINT and SIGTERM exit by an exception, which puts processes and files in order; add a hint to failures."""
    from gadam.paper.report.paths import ReportError, SampleError

    stopped: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)  # the second ends this process at once; the others end with it
        stopped.append(number)
        raise SystemExit  # not an `Exception`, so that nothing goes on after it

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, stop) for number in numbers if signal.getsignal(number) != signal.SIG_IGN}
    try:
        yield
    except BaseException as error:
        if stopped:  # whatever became of the exception on its way
            told = f"stopped by {signal.Signals(stopped[0]).name}{hint}"
            raise SystemExit(_complain(told, 128 + stopped[0])) from None
        if isinstance(error, SampleError | BrokenPipeError) or not isinstance(error, ReportError | OSError):
            raise  # all is there; or nobody reads, and typer knows what to do; or it is ours
        raise ReportError(f"{_told(error)}{hint}") from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@app.command()
def report(profile: Profile = "standard") -> None:
    """Write scoreboard, provenance and report page again from what is there; nothing is executed."""
    from gadam.paper import PROFILES
    from gadam.paper.report.paths import reports_root
    from gadam.paper.report.site import write_page
    from gadam.validation import check_choice

    check_choice("profile", profile, PROFILES)
    if not (folder := reports_root() / profile).is_dir():
        raise InputError(f"report: there is none in {folder}; make one: gadam reproduce --profile {profile}")
    typer.echo(f"report: {write_page(profile)}")


@app.command("list")
def list_sections() -> None:
    """Show the sections with their notebooks and exhibits, and how many runs of profile standard are archived."""
    from gadam.paper import PROFILES, SECTIONS
    from gadam.paper.report.plan import planned

    lines = planned("standard")
    for name, section in SECTIONS.items():
        own = [line for line in lines if line.section == name]
        there = f"{sum(bool(line.where) for line in own)} of {len(own)} runs of standard are there"
        typer.echo(f"{name:<14}{section.title}\n{'':<14}{section.notebook}; {there}")
        typer.echo(f"{'':<14}{', '.join((*section.tables, *section.figures))}")
    typer.echo(f"\nprofiles: {', '.join(PROFILES)}; --only takes a section, its notebook or an exhibit")


@app.command("archive")
def archive_profile(
    profile: Annotated[str, typer.Argument(metavar="PROFILE", help="standard or paper.")] = "standard",
    runs_only: Annotated[bool, _flag("--runs-only", "Write the archive; do not render the report.")] = False,
) -> None:
    """Add the runs in the store to the archive of a profile, and render its committed report. For maintainers.

    The archive is reports/PROFILE/runs.jsonl.xz. No valid run in it is lost.
    """
    from gadam.paper.report.reproduction import archive_runs

    with _stoppable():
        archive_runs(profile, rendering=not runs_only)


@app.command("compare")
def compare_reports(
    first: Annotated[
        Path | None, typer.Argument(metavar="A", help="A report's folder; the committed one if not given.")
    ] = None,
    second: Annotated[Path | None, typer.Argument(metavar="B", help="Another; the one made here if not given.")] = None,
    profile: Profile = "standard",
) -> None:
    """Compare two reports of a profile: numbers that are identical or inside the other's interval, verdicts changed.

    The exit status is 1 if a number lies outside, or a verdict is another.
    """
    from gadam.paper.report.compare import compare
    from gadam.paper.report.paths import committed_root, reports_root

    a, b = first or committed_root() / profile, second or reports_root() / profile
    found = compare(a, b)
    typer.echo(f"{a}  beside  {b}\n{found.describe()}")
    if not found.agree:
        raise typer.Exit(1)


@data.command("list")
def list_data(folder: Folder = None) -> None:
    """Show every dataset: its size, where its files are, and whether they are the published ones."""
    from gadam.datasets import NAMES, SOURCES, verify
    from gadam.datasets.files import data_folder, find

    line = "{:<8}{:>8}{:>10}{:>9}  {:<10}{:<14}{!s}"
    typer.echo(line.format("name", "rows", "features", "classes", "state", "SHA-256", "where"))
    for name in NAMES:
        source, state, digest = SOURCES[name], "missing", ""
        try:
            if find(name, data_folder(folder)):
                state, digest = "verified", verify(name, folder).hash[:12]
        except InputError:
            state = "damaged"
        cells = name, f"{source.rows:,}", source.features, len(source.classes), state, digest
        typer.echo(line.format(*map(str, cells), data_folder(folder) / source.folder))


@data.command("fetch")
def fetch_data(names: Names = None, folder: Folder = None) -> None:
    """Download what is not here yet, from the first mirror that serves the published files.

    Nothing is kept unless its SHA-256 is right. The exit status is 1 if a dataset could not be had.
    """
    from gadam.datasets import fetch

    with _stoppable(hint=""):
        _each(names, lambda name: fetch(name, folder, progress=sys.stderr.isatty()))


@data.command("verify")
def verify_data(names: Names = None, folder: Folder = None) -> None:
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
    status = 0
    for name in names or NAMES:
        try:
            located = command(name)
            typer.echo(f"{name}: verified, SHA-256 {located.hash[:12]}, {located.path}")
        except InputError as error:
            status = _complain(str(error), 1)
    raise typer.Exit(status)


def main() -> None:
    """Run the command line; an error is one line, not a traceback.

    The exit status is 2 for a mistake of the user, 1 for a failure, 130 after SIGINT and 143 after SIGTERM.
    """
    warnings.formatwarning = lambda message, *_, **__: f"gadam: {message}\n"
    try:
        app()
    except InputError as error:
        sys.exit(_complain(str(error)))
    except ValueError as error:
        if not str(error).startswith("Key backend"):
            raise
        sys.exit(_complain(f"MPLBACKEND: {str(error).removeprefix('Key backend: ')}"))
    except ModuleNotFoundError as error:
        if (error.name or "gadam").partition(".")[0] == "gadam":
            raise
        sys.exit(_complain(f"this command needs {error.name}, which is not installed: pip install 'gadam[paper]'"))
    except (OSError, RuntimeError) as error:
        from gadam.paper.report.paths import ReportError

        if not isinstance(error, OSError | ReportError):
            raise
        sys.exit(_complain(_told(error), status=1))


def _told(error: Exception) -> str:
    """The words of an error; of one of the system with its file."""
    if not isinstance(error, OSError):
        return str(error)
    told = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {told}" if error.filename else told


def _complain(message: str, status: int = 2) -> int:
    typer.echo(f"gadam: {' '.join(message.splitlines())}", err=True)
    return status
