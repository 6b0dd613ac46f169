"""The files around the code say the same thing: requirements, versions, commands, hooks, notebooks, the README."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from gadam.paper import answer
from gadam.paper.claims import OURS
from gadam.paper.report import archive, scoreboard

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA_NAMES = {"torch": "pytorch"}  # where conda-forge has another name for a package
DATASET_FILE = re.compile(r"(ubyte(\.gz)?|\.pgm|adult\.(data|test)|yeast\.data|letter-recognition\.data)$")
NOTEBOOKS = sorted((ROOT / "notebooks").glob("**/*.ipynb"))
GUIDE = sorted((ROOT / "notebooks" / "guide").glob("*.ipynb"))  # to read, and never executed with parameters

in_checkout = pytest.mark.skipif(
    not (ROOT / ".git").exists() or shutil.which("git") is None, reason="not a git checkout"
)


def run(*command):
    """What a command prints, run in the project's folder and not as a part of a make that is running."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout


def direct(*extras):
    """Name and version range of each dependency in pyproject.toml, of the engine and of the extras."""
    texts = [*PROJECT["dependencies"], *(text for extra in extras for text in PROJECT["optional-dependencies"][extra])]
    requirements = [Requirement(text) for text in texts]
    return {canonicalize_name(each.name): each.specifier for each in requirements if each.name != PROJECT["name"]}


def locked():
    """Each requirement of requirements.lock and the text of its hashes."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "requirements.lock").read_text(), flags=re.MULTILINE)
    for line in text.replace("\\\n", " ").splitlines():
        requirement, *hashes = re.split(r"\s+--hash=", line.strip())
        yield Requirement(requirement), hashes


# --- environment.yml ---


def test_environment_has_the_dependencies_and_ranges_of_pyproject():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, *others = environment["dependencies"]  # a single version, or Binder takes its own, which is too old
    assert python.removeprefix("python=") in SpecifierSet(PROJECT["requires-python"])
    conda = [Requirement(text) for text in others if isinstance(text, str)]
    conda += [Requirement(text) for text in environment["dependencies"][-1]["pip"] if not text.startswith("-")]
    expected = {
        CONDA_NAMES.get(name, name): ranges
        for name, ranges in direct("paper", "distributed", "notebooks", "test").items()
    }
    expected |= {"pip": ""}
    assert {each.name: str(each.specifier) for each in conda} == {name: str(each) for name, each in expected.items()}
    assert len(conda) == len(expected)
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    assert environment["dependencies"][-1] == {"pip": ["playwright>=1.49", "-e ."]}


# --- requirements.lock ---


def test_lock_pins_and_hashes_every_requirement_and_names_no_host():
    for requirement, hashes in locked():
        assert re.fullmatch(r"==[\w.!+]+", str(requirement.specifier)), requirement
        assert hashes, requirement
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes), requirement
        assert not requirement.url
    text = (ROOT / "requirements.lock").read_text()
    assert re.findall(r"\S*://\S*|\S+\.(?:org|com|io|net|dev)\b\S*|--(?!hash)\S+", text) == []


def test_lock_has_each_direct_dependency_within_its_range():
    ranges = direct(*PROJECT["optional-dependencies"])
    pins = [(requirement.name, str(requirement.specifier).removeprefix("==")) for requirement, _ in locked()]
    assert ranges.keys() <= {name for name, _ in pins}
    assert [(name, pin) for name, pin in pins if name in ranges and not ranges[name].contains(pin)] == []


# --- commands and hooks ---


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_make_help_lists_every_target():
    targets = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)[1].split()
    listed = [line.split(maxsplit=1) for line in run("make", "--no-print-directory", "help").splitlines()]
    assert {"reproduce", "test", "lint", "lab"} <= set(targets)
    assert sorted(target for target, _ in listed) == sorted(targets)


def test_versions_agree_and_ci_script_is_executable_and_hooks_use_the_locked_tools():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    assert version("gadam") == PROJECT["version"], "installed from another state: remove .venv/installed and make again"
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    repositories = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [each["repo"] for each in repositories] == ["local"]
    hooks = {(hook["language"], hook["entry"].split()[0]) for hook in repositories[0]["hooks"]}
    assert hooks == {("system", f".venv/bin/{tool}") for tool in ("ruff", "mypy", "nbstripout")}


# --- what git keeps ---


@in_checkout
def test_git_ignores_what_is_downloaded_or_computed_and_nothing_else_and_no_dataset_is_tracked():
    ignored = {"data/MNIST/raw/any", "data/yeast.zip", "reports/runs/any.json", "reports/out/quick/scoreboard.csv"}
    kept = {"data/README.md", "requirements.lock", "reports/standard/runs.jsonl.xz", "reports/paper/tables/table1.csv"}
    assert set(run("git", "check-ignore", "--no-index", *ignored, *kept).splitlines()) == ignored
    paths = run("git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    assert "pyproject.toml" in paths
    assert [path for path in paths if DATASET_FILE.search(path)] == []


# --- the wheel ---


@in_checkout
def test_wheel_and_sdist_have_all_that_a_reproduction_needs_and_work_in_an_empty_folder(tmp_path):
    def build(folder, kind):
        command = [sys.executable, "-m", "hatchling", "build", "-t", kind]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        (built,) = (folder / "dist").iterdir()
        return built

    subprocess.run(["git", "clone", "-q", str(ROOT), str(tmp_path / "clone")], check=True)
    sdist = build(tmp_path / "clone", "sdist")
    subprocess.run(["tar", "-xzf", str(sdist), "-C", str(tmp_path)], check=True)
    wheel = build(tmp_path / sdist.name.removesuffix(".tar.gz"), "wheel")  # the wheel is that of the sdist
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    with zipfile.ZipFile(wheel) as file:
        file.extractall(site)
    assert (site / "gadam" / "py.typed").is_file()
    assert (site / "gadam" / "paper" / "notebooks" / "guide" / "engine.ipynb").is_file()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GADAM_")}
    environment |= {"PYTHONPATH": str(site), "HOME": str(empty), "XDG_CACHE_HOME": str(empty / "cache")}

    def said(*command):
        done = subprocess.run([sys.executable, *command], cwd=empty, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert str(site) in said("-c", "import gadam; gadam.datasets.load; print(gadam.__file__)")
    plan = said("-m", "gadam", "reproduce", "--plan", "--only", "section3_method").splitlines()
    assert plan[2].split()[:3] == ["section3", "2", "2"], "its runs are archived"
    assert str(empty / "cache" / "gadam") in said("-m", "gadam", "data", "list")
    assert not {"data", "reports"} & {path.name for path in empty.iterdir()}


# --- notebooks ---


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_stripped_for_the_kernel_that_everybody_has_with_one_cell_of_literal_parameters(path):
    notebook = json.loads(path.read_text())
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all((cell["outputs"], cell["execution_count"]) == ([], None) for cell in code)
    tagged = [cell for cell in code if "parameters" in cell["metadata"].get("tags", [])]
    assert len(tagged) == (path not in GUIDE)
    for statement in ast.parse("".join(tagged[0]["source"]) if tagged else "").body:
        assert isinstance(statement, ast.Assign | ast.AnnAssign), ast.unparse(statement)
        ast.literal_eval(statement.value)  # fails on whatever is not a literal


# --- the words ---


def words(path):
    """The markdown of a file or of a notebook, without code."""
    text = path.read_text()
    if path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("path", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *GUIDE], ids=lambda path: path.name)
def test_relative_links_lead_to_files_and_the_readme_is_short(path):
    text = words(path)
    assert path.name != "README.md" or len(path.read_text().splitlines()) <= 120
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    places = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        target, _, place = link.partition("#")
        if not target:
            assert place in places, link
        elif "://" not in target and "reports/out" not in target:
            assert (path.parent / target).exists(), link


# --- the numbers of the README are those of the committed report and of its archive ---

REPORT = ROOT / "reports" / "standard"
README = " ".join((ROOT / "README.md").read_text().split())


def test_the_answer_is_that_of_the_report():
    claims = pd.read_csv(REPORT / "scoreboard.csv", dtype=str, keep_default_na=False)
    theirs = claims[claims["paper"] != OURS]
    missing = scoreboard.reasons(theirs).get("not computed", 0)
    said = answer.sentences(scoreboard.headlines(claims), scoreboard.counts(theirs), missing)
    assert len(said) == 3
    for question, reply in said:
        assert f"- **{question}** {reply}" in README


def test_the_table_has_every_dataset_that_is_computed_with_its_numbers():
    accuracies = pd.read_csv(REPORT / "tables" / "answer.csv").set_index(["dataset", "method"])
    expected = []
    for name, rows in accuracies.groupby("dataset", sort=False):
        if rows["ours"].notna().all():
            rows = rows.loc[name].loc[list(answer.METHODS)]
            ours = [f"{row.ours:.1f} [{row.low:.1f}, {row.high:.1f}]" for row in rows.itertuples()]
            expected.append((name.upper(), rows["seeds"].iloc[0], f"{rows['paper'].iloc[0]:.2f}", *ours))
    cells = " ".join([r"\| (\w+)[^|]*\((\d+) \w+\) \|", *[r"([^|]*) \|"] * 4])
    assert re.findall(cells, README) == expected


def table_of(name, *index):
    return pd.read_csv(REPORT / "tables" / f"{name}.csv").set_index([*index])


def said(row, sign=1, places=2, column="difference"):
    """A number with its interval, as the README has it; with a minus before it, of -1."""
    ends = ("low", "high") if sign > 0 else ("high", "low")
    return "{} [{}, {}]".format(*(f"{sign * row[one]:.{places}f}" for one in (column, *ends)))


def test_what_is_said_of_teaching_is_what_its_tables_say():
    accuracies = table_of("teach_accuracy", "method", "dataset")
    table = README.split("## One network")[1].split("## Reproduce")[0]
    lines = re.findall(r"\| \**([a-zA-Z ,]+\w)\** (?:\([^)]*\) )?\|((?: [\d., \[\]]+ \|){3})", table)
    assert [name for name, _ in lines] == [
        "teach", "long run, drawn rate", "best of ten, drawn rates", "long run, tuned",
        "best of ten, constant rate, tuned", "GADAM, tuned",
    ]  # fmt: skip
    for name, cells in lines:
        for dataset, cell in zip(["YEAST", "ADULT", "LETTER"], cells.split("|"), strict=False):
            ours = accuracies.loc[(name, dataset)]
            shown = said(ours, places=1 if dataset == "YEAST" else 2, column="accuracy")
            assert (cell.strip(), ours["seeds"]) == (shown, "20")
    on_letter = accuracies.xs("LETTER", level="dataset")["accuracy"]
    long, tuned = (f"{on_letter[name]:.2f}" for name in ("long run, tuned, on all rows", "teach, tuned"))
    assert f"(LETTER: {long}; teach, tuned too, {tuned})" in table
    assert on_letter["teach, tuned"] == on_letter[~on_letter.index.str.startswith("vote")].max()
    assert f"vote of ten gets {on_letter['vote of ten']:.2f} there" in table
    effects = table_of("section6_effects", "dataset", "reading")
    assert f"its defaults give {effects.loc[('YEAST', 'default readings'), 'accuracy']:.1f}" in table
    letter, yeast = (effects.loc[(one, "no crossover: copies of the fitter parent")] for one in ("LETTER", "YEAST"))
    assert f"{said(letter)} better *without* crossover" in README
    assert yeast["low"] < 0 < yeast["high"]
    claims = pd.read_csv(REPORT / "scoreboard.csv").query("section == 'section54' and interval.str.startswith('95 %')")
    above = claims[claims["claim"].str.endswith("more accurate than MLP (Adam, best of g) on ADULT at equal compute")]
    assert f"{said(above.iloc[0], column='ours')} points above the best of ten on ADULT" in README
    totals = table_of("teach_totals", "dataset", "steps", "teach minus")
    drawn, tuned = (totals.loc["LETTER", 40_000, f"long run, {kind}"] for kind in ("drawn rate", "tuned"))
    assert (drawn["verdict"], tuned["verdict"]) == ("worse", "worse")
    assert f"of 40,000 on LETTER even the drawn one wins by {said(drawn, -1)} points" in table
    differences = table_of("teach_differences", "dataset", "teach minus")
    assert f"and the best of ten, tuned, wins by {said(differences.loc['ORL', 'best of ten, tuned'], -1)}" in table
    verdicts = differences["verdict"]
    assert verdicts["ORL", "long run, drawn rate"] == verdicts["ORL", "long run, tuned"] == "undecided"
    assert verdicts["ORL", "best of ten, tuned"] == verdicts["ORL", "vote of ten"] == "worse"
    assert "on MNIST (100,000) it is not worse than either" in table
    assert verdicts["MNIST", "long run, drawn rate"] == verdicts["MNIST", "long run, tuned"] == "not worse"
    for dataset in ("YEAST", "ADULT", "LETTER"):
        assert verdicts[dataset, "long run, drawn rate"] == "better"
        assert verdicts[dataset, "long run, tuned"] == verdicts[dataset, "long run, tuned, on all rows"] == "not worse"
        assert verdicts[dataset, "vote of ten"] == ("worse" if dataset == "LETTER" else "not worse")


def test_the_speeds_are_those_of_the_committed_benchmark():
    kinds = "^gadam$", "PyTorch, (?:one|worker)|joblib", "stack_module_state|compile", "JAX"
    measured = pd.read_csv(ROOT / "reports" / "bench" / "bench_summary.csv")
    table = README.split("## How fast")[1].split("## Limits")[0]
    found = re.findall(r"\*\*([\d.,]+)\*\*|([\d.,]+) \(([\d.]+) ×\)", table)
    shown = iter([(float((bold or ms).replace(",", "")), float(ratio or 1)) for bold, ms, ratio in found])
    for kind in kinds:
        of_kind = measured[measured["contestant"].str.contains(kind)].groupby(["workload", "g"])["ms_per_step"].min()
        for work in [("mlp", 10), ("mlp", 100), ("lenet", 10), ("lenet", 100), ("orl", 10)]:
            ours = measured.set_index(["contestant", "workload", "g"]).loc[("gadam", *work), "ms_per_step"]
            assert next(shown) == pytest.approx((of_kind[work], of_kind[work] / ours), rel=0.05)
    assert not list(shown)


def test_the_archive_has_as_many_runs_as_are_counted():
    held = len(archive.read(REPORT / "runs.jsonl.xz").lines)
    assert f"the archive holds {held:,} so far" in README


def test_every_table_of_the_committed_report_fits_a_page():
    shown = [json.loads(path.read_text()) for path in (REPORT / "exhibits").glob("*.json")]
    widths = {one["id"]: len(one["columns"]) for one in shown if one["kind"] == "table"}
    assert widths
    assert {name: width for name, width in widths.items() if width > 8} == {}
