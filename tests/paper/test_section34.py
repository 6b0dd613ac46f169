"""Sections 3 and 4: their runs in every profile; tables, figures and claims for no runs, some and all of them."""

import json
from concurrent.futures import Executor
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt

from gadam import GadamConfig, evolve
from gadam.models import mlp
from gadam.paper import PROFILES, SECTIONS, section3, section41, section42, section43
from gadam.paper.claims import Arms, judge
from gadam.paper.report import archive, scoreboard
from gadam.paper.report.paths import archive_path
from gadam.paper.report.plan import all_runs
from gadam.paper.verdicts import NOT_REPRODUCED, OPEN, REPRODUCED, UNDECIDED

MODULES = {"section3": section3, "section41": section41, "section42": section42, "section43": section43}
NOTHING = pd.DataFrame()
TINY = {"population_size": 3, "generations": 3, "steps": 4}


def listed(module, profile="standard", data="real"):
    return [run for function in module.RUNS for run in function(profile, data)]


def verdicts(claims, arms, profile="standard"):
    """Mark and reason of each claim, and that the scoreboard takes all of them."""
    assert len(scoreboard.plain(scoreboard.judged(claims, arms, profile))) == len(claims)
    return [(one.mark, one.reason) for one in (judge(claim, arms, profile) for claim in claims)]


def missing(figure):
    """Draw a figure, and count the panels that say that they are empty."""
    figure.canvas.draw()
    plt.close(figure)
    return sum("not computed yet" in [text.get_text() for text in axis.texts] for axis in figure.axes)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", MODULES)
def test_every_profile_lists_its_runs_and_what_is_archived_is_among_them(name, profile):
    runs = listed(MODULES[name], profile)
    keys = [run.key for run in runs]
    assert len(set(keys)) == len(keys) > 0
    assert [run.key for run in all_runs(name, profile, "real")] == keys
    assert all(run.label and run.arm.startswith(name) and run.priority == 2 for run in runs)
    if profile == "standard":
        assert section42.PROFILES[profile]["seeds"] >= 59, "or nothing that always holds is reproduced"
        kept = archive.read(archive_path(profile)).lines
        assert {key for key in kept if kept[key]["identity"]["run"].startswith(f"{name}/")} <= set(keys)


def test_a_notebook_at_smoke_size_leaves_behind_what_its_section_promises(tmp_path, monkeypatch):
    monkeypatch.setenv("GADAM_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("GADAM_REPORTS", str(tmp_path))
    monkeypatch.setenv("GADAM_WORKERS", "1")
    section, names = SECTIONS["section3"], {}
    notebook = Path(__file__).parents[2] / "notebooks" / section.notebook
    for cell in json.loads(notebook.read_text("utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert names["profile"] == "smoke"
    for kind, ids in {"tables": section.tables, "figures": section.figures}.items():
        assert set(ids) <= {path.stem for path in (tmp_path / "smoke" / kind).iterdir()}


def test_without_any_run_all_is_there_but_empty():
    assert section3.table(NOTHING)["unit"].tolist() == [*range(section3.G)] * 2
    assert section3.table(NOTHING).drop(columns=["role", "unit"]).isna().all(axis=None)
    assert section41.table(NOTHING, Arms())["trials"].eq(0).all()
    assert section42.table(NOTHING, Arms())["holds, %"].isna().all()
    assert section43.table(NOTHING, "standard")["problem"].tolist() == ["YEAST", "LETTER", "MNIST"]
    assert section43.table(NOTHING, "standard")["population, MB"].isna().all()
    for module, claims in {
        section41: section41.claims(NOTHING),
        section42: section42.claims(NOTHING, "standard"),
        section43: section43.claims(NOTHING, NOTHING, "standard"),
    }.items():
        wanted = {arm for claim in claims for arm in claim.arms}
        aside = ("trajectories", section42.HELD_OUT)  # what is only shown
        assert wanted == {run.arm for run in listed(module) if not run.arm.endswith(aside)}
        assert set(verdicts(claims, Arms())) == {(UNDECIDED, "not computed")}
    assert [claim.headline for claim in section42.claims(NOTHING, "standard")] == [*[""] * 5, "theorem", ""]
    panels = {
        section3.figure_selection(NOTHING): 2, section3.figure_inheritance(NOTHING, NOTHING): 3,
        section3.figure_survival(NOTHING): 1, section41.figure2a(NOTHING): 4,
        section42.figure_losses(NOTHING): 9, section43.figure_growth(NOTHING): 3,
    }  # fmt: skip
    assert [missing(figure) for figure in panels] == [*panels.values()]


def test_one_generation_is_consistent_with_its_equations():
    settings = {"steps": 20, "validation_size": 64}
    units = pd.DataFrame(section3.units("yeast", "standin", **settings))
    entries = pd.DataFrame(section3.entries("yeast", "standin", **settings))
    parents, children = (units[units["role"] == role] for role in ("parent", "child"))
    probability = parents.set_index("unit")["probability"]
    assert probability.sum() == pytest.approx(1)
    assert parents["times_drawn"].sum() == 2 * section3.G
    assert section3.table(units)["times drawn"].sum() == 2 * section3.G
    expected = 1 - children["parent_a"].map(probability) - children["parent_b"].map(probability)
    assert children["mutation_rate"].tolist() == pytest.approx(section3.MUTATION_RATE * expected, abs=1e-6)
    child = children.set_index("unit").loc[entries["child"].iloc[0]]
    assert len(entries) == 8 * 50
    assert entries["origin"].eq(2).mean() == pytest.approx(child["mutation_rate"], abs=0.05)
    mixed = entries[entries["origin"] < 2]
    assert mixed["origin"].eq(0).mean() == pytest.approx(child["inheritance"], abs=0.12)
    assert entries.loc[entries["origin"] == 2, "value"].between(0, 1).all()
    figures = section3.figure_selection(units), section3.figure_survival(units)
    assert [missing(figure) for figure in (*figures, section3.figure_inheritance(units, entries))] == [0, 0, 0]


def test_figure_1_names_every_equation_of_section_3():
    figure = section3.figure1()
    assert missing(figure) == 0
    text = " ".join(one.get_text() for one in figure.axes[0].texts)
    assert all(f"Eq. {equation}" in text for equation in ("2, 6", "7", "8", "9, 10", "11, 12", "13"))
    symbols = (r"\mathcal{G}^{(k)}", r"\bar{\mathcal{G}}^{(k)}", r"\tilde{\mathcal{G}}^{(k)}", r"\mathcal{P}")
    assert all(symbol in text for symbol in symbols)


def test_landscape_has_the_minima_that_it_says():
    axis = torch.linspace(-2, 2, 4_001, dtype=torch.float64)
    heights = section41.landscape(axis, torch.zeros(()))
    inner = (heights[1:-1] < heights[:-2]) & (heights[1:-1] < heights[2:])
    assert axis[1:-1][inner].tolist() == pytest.approx([section41.LOCAL, section41.GLOBAL], abs=1e-3)
    assert section41.landscape(section41.GLOBAL, 0.0) < section41.landscape(section41.LOCAL, 0.0)
    assert section41.landscape(-section41.GLOBAL, 0.3, mirrored=True) == section41.landscape(section41.GLOBAL, -0.3)


def test_methods_share_their_starting_points_in_a_trial_and_more_starts_never_lose():
    rows = pd.DataFrame(section41.success(False, [0, 1]))
    found = rows.pivot_table(index="trial", columns="method", values="found")
    assert (found["Adam, g starts"] >= found["Adam, 1 start"]).all()
    assert (found["Adam, 2gK starts"] >= found["Adam, g starts"]).all()
    # Nothing that was found is lost: with no mutation, the best of GADAM comes from these very starts.
    assert (found["GADAM, p = 0"] >= found["Adam, g starts"]).all()
    assert len(section41.table(rows, Arms())) == 10


def test_pictured_children_come_from_their_parents_and_end_in_the_global_minimum():
    rows = pd.DataFrame(section41.trajectories())
    for panel in ("crossover", "mutation"):
        own = rows[rows["panel"] == panel].sort_values("step")
        child = own[own["role"] == "child"]
        born, end = child.iloc[0], child.iloc[-1]
        assert (end["w1"], end["w2"]) == pytest.approx((section41.GLOBAL,) * 2, abs=0.05)
        ends = own[(own["role"] == "parent") & (own["step"] == section41.STEPS)].set_index("unit")
        parents = ends.loc[[born["parent_a"], born["parent_b"]]]
        inherited = [born[name] in parents[name].to_numpy() for name in ("w1", "w2")]
        assert all(inherited) == (panel == "crossover")
        assert ((parents[["w1", "w2"]] - section41.GLOBAL).abs().max(axis=1) > 1).all()  # none was there before
    assert missing(section41.figure2a(rows)) == 0


def test_success_on_a_landscape_is_paired_by_trial():
    def successes(trials, **shares):
        return pd.DataFrame([
            {"landscape": "as drawn", "method": method, "trial": trial,
             "found": int(trial < shares.get(method, 0.5) * trials)}
            for method in section41.BUDGETS for trial in range(trials)
        ])  # fmt: skip

    rows = successes(200, **{"Adam, 1 start": 0.2, "GADAM, p = 0.3": 0.48})
    arms = Arms({section41.arm("as drawn"): (4, 4), section41.arm("mirrored"): (3, 4)})
    claims = section41.claims(rows)
    assert judge(claims[0], arms, "standard").ours == pytest.approx(30, abs=1)
    same = (NOT_REPRODUCED, "no difference")  # all trials agree
    assert verdicts(claims, arms) == [(REPRODUCED, ""), same, same, *[(UNDECIDED, "not computed")] * 3]
    # That 24 agree is not enough.
    assert verdicts(section41.claims(successes(24)), arms)[1] == (UNDECIDED, "power")
    table = section41.table(rows, arms).set_index(["landscape", "method"])
    assert table.loc[("as drawn", "Adam, 1 start"), ["found, %", "trials", "portions"]].tolist() == [20, 200, "4"]
    assert table.loc[("mirrored", "GADAM, p = 0"), ["trials", "portions"]].tolist() == [0, "3 of 4"]


def test_on_a_fixed_batch_selection_never_raises_the_loss_and_a_generation_starts_from_what_was_selected():
    rows = pd.DataFrame([
        row for regime in section42.REGIMES for row in section42.losses("yeast", "standin", "YEAST", regime, 0, **TINY)
    ])  # fmt: skip
    fixed, new = rows[rows["regime"] != section42.NEW], rows[rows["regime"] == section42.NEW]
    assert fixed["batches_differ"].max() < section42.TOLERANCE
    assert new["batches_differ"].min() > 1e-3
    assert section42.inequalities(fixed)["selection"].all()
    for regime, run in rows.groupby("regime"):
        if regime != section42.NEW:
            assert run["before"].tolist()[1:] == pytest.approx(run["selected"].tolist()[:-1], rel=section42.TOLERANCE)
        assert run["test_before"].tolist()[1:] == run["test_selected"].tolist()[:-1]
    figure = section42.figure_losses(rows)
    assert missing(figure) == 6
    assert len(figure.legends) == 1


def falling(values, seeds=60):
    """Rows of each problem, regime and seed with these losses before, after learning and after selection."""
    return pd.DataFrame([
        {"setting": problem, "regime": regime, "seed": seed, "steps": 1, "data": "real", "generation": number,
         "before": before, "learned": learned, "selected": selected,
         "test_before": 1.0, "test_learned": 2.0, "test_selected": 2.0}
        for problem in section42.PROBLEMS for regime in section42.REGIMES for seed in range(seeds)
        for number, (before, learned, selected) in enumerate(values, 1)
    ])  # fmt: skip


def test_inequalities_are_counted_as_they_are_written():
    rows = falling([(1.0, 0.8, 0.9), (0.7, 0.75, 0.75 * (1 + 1e-8)), (0.7, 0.6, 0.76)], seeds=1)
    frame = section42.cell(section42.inequalities(rows), "LETTER", section42.NEW)
    assert frame["learning"].tolist() == [True, False, True]
    assert frame["selection"].tolist() == [False, True, False]
    assert frame["decrease"].tolist() == [True, True, False]
    assert not frame["test_learning"].any()


def test_one_run_in_which_theorem_1_does_not_hold_refutes_it():
    rows, arms = falling([(1.0, 0.8, 0.7), (0.7, 0.6, 0.5)]), Arms.of(listed(section42))
    assert verdicts(section42.claims(rows, "standard"), arms) == [(REPRODUCED, "")] * 6 + [(OPEN, "")]
    few = section42.claims(rows[rows["seed"] > 50], "standard")
    assert verdicts(few, arms) == [(UNDECIDED, "power")] * 6 + [(OPEN, "")]
    broken = (rows["generation"] == 2) & (rows["seed"] == 7) & (rows["setting"] == "LETTER")
    rows.loc[broken & (rows["regime"] == section42.NEW), "selected"] = 0.75
    rows.loc[broken & (rows["regime"] == section42.FIXED), "learned"] = 0.7 * (1 + 1e-8)  # rounding
    claims = section42.claims(rows, "standard")
    refuted = (NOT_REPRODUCED, "a violation")
    assert verdicts(claims, arms) == [*[(REPRODUCED, "")] * 4, refuted, refuted, (OPEN, "")]
    assert [judge(claim, arms, "standard").ours for claim in claims[5:]] == pytest.approx([1 / 180, 0])
    same = rows.assign(selected=rows["selected"].where(rows["seed"] >= 9, 0.7))  # Eq. 13 with θ = 0
    assert judge(section42.claims(same, "standard")[6], arms, "standard").ours == pytest.approx(0.15)
    arms[section42.arm("LETTER", section42.NEW)] = 59, 60
    assert verdicts(claims, arms)[2:] == [(REPRODUCED, ""), *[(UNDECIDED, "not computed")] * 4]
    table = section42.table(rows, arms).set_index(["problem", "regime", "inequality"])
    assert len(table) == 27
    line = table.loc[("LETTER", section42.NEW, section42.INEQUALITIES["selection"])]
    assert line[["of", section42.HELD, "seeds"]].tolist() == [120, 59, "59 of 60"]


def test_counting_changes_no_result_and_counts_every_message():
    data = torch.randn(60, 4), torch.randint(3, (60,))
    config = GadamConfig(population_size=4, generations=1, steps=3, batch_size=8, shards=2, mode="loop")
    counting = section43.Counting()
    assert isinstance(counting, Executor)
    counted = evolve(partial(mlp, 4, 3, (5,)), data, config, executor=counting, progress=False)
    plain = evolve(partial(mlp, 4, 3, (5,)), data, config, executor=1, progress=False)
    for name, tensor in plain.population.parameters.items():
        assert torch.equal(tensor, counted.population.parameters[name])
    assert counting.messages == 2 * 2 * 2
    rows, units = 60 * (4 * 4 + 8), 2 * 2 * 4 * 43 * 4
    assert rows < counting.common < rows + 20_000, "rows are no part of messages, nor is the model"
    assert units < counting.population < units + 8 * 4_000


@pytest.fixture(scope="module")
def growing():
    points = [(4, 64, 1), (2, 64, 1), (8, 64, 1), (4, 16, 1), (4, 32, 1), (4, 64, 2), (4, 64, 5)]
    return pd.DataFrame([row for g, width, steps in points for row in section43.growing(g, width, steps, 0)])


def test_bytes_do_not_depend_on_steps_nor_on_the_seed(growing):
    powers = {factor: section43.slopes(growing, factor) for factor in section43.FACTORS}
    assert powers["steps"] == [0, 0]
    assert 0.5 < powers["entries"][0] < powers["entries"][1] < 1  # small units: what a message itself costs shows
    assert (growing["population"] > growing["floor"]).all()
    assert section43.growing(2, 64, 1, 1)[0] | {"seed": 0} == growing[growing["g"] == 2].to_dict("records")[0]
    for rows, panel, title in (
        (growing, 2, "units: exponent 0.00 [0.00, 0.00]"),
        (growing[growing["g"] == 4], 0, "units"),  # one point has no exponent
    ):
        figure = section43.figure_growth(rows)
        assert missing(figure) == 0
        assert figure.axes[panel].get_title() == title


def test_a_power_law_has_its_exponent_and_its_verdict(growing):
    problems = pd.DataFrame([{"dataset": "mnist", "g": 10, "entries": 100, "population": 64_000, "data": "real"}])
    arms = Arms.of(listed(section43))

    def judged(bytes_):
        claims = section43.claims(growing.assign(population=bytes_), problems, "standard")
        return [judge(claim, arms, "standard").ours for claim in claims], verdicts(claims, arms)

    ours, marks = judged(growing["floor"])
    assert ours == pytest.approx([0, 0, 0, 0.1], abs=1e-9)  # 64 kB of 8,000 x 20 x 400 B
    assert marks == [*[(REPRODUCED, "")] * 3, (OPEN, "")]
    ours, marks = judged(growing["floor"] * growing["steps"] * growing["g"])
    outside = (NOT_REPRODUCED, "outside the margin")
    assert ours[:3] == pytest.approx([1, 0, 1], abs=1e-9)
    assert marks == [outside, (REPRODUCED, ""), outside, (OPEN, "")]
    arms[section43.arm(section43.BASE | {"g": 32})] = 1, 2
    assert judged(growing["floor"])[1] == [(UNDECIDED, "not computed"), *[(REPRODUCED, "")] * 2, (OPEN, "")]


def test_the_table_of_problems_is_near_the_formula_and_has_the_rows_apart():
    table = section43.table(pd.DataFrame(section43.problem("yeast", "standin")), "quick").set_index("problem")
    line = table.loc["YEAST"]
    assert 1 <= line["population / (16 g |w|)"] < 1.5
    assert line["training rows, once, MB"] > line["rest, once, MB"] > 0
    assert (line["|w|"], line["data"]) == (2_290, "stand-in")
    assert table.loc["MNIST"].drop("threads, MB").isna().all()
