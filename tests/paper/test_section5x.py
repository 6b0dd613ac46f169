"""Sections 5.1 to 5.3: their runs, tables, claims and figures, on made-up rows and on tiny budgets."""

from functools import cache
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch

from gadam.models import lenet5
from gadam.paper import PROFILES, mnist, section51, section52, section53, seeds_of
from gadam.paper import published as paper
from gadam.paper.claims import HEADLINES, Arms, Reduced, judge
from gadam.paper.mnist import EVIDENT, GADAM
from gadam.paper.report import scoreboard
from gadam.paper.section51 import BEST_OF_G, FOREST, GCFOREST, GD, RATES
from gadam.paper.statistics import accuracy_interval
from gadam.paper.units import CHUNK, scorer
from gadam.paper.verdicts import Evidence
from gadam.population import Population

CORRECT = {method: round(100 * printed["accuracy"]) for method, printed in paper.TABLE1.items()}
CORRECT |= {BEST_OF_G: 9_920, "SGDM": 9_800, section51.DECAYED: 9_930}
"""Test images of 10,000 that a method gets right."""
EARLY = {GADAM: 0.05, "Adam": 0.1, BEST_OF_G: 0.1}
"""Training loss after 1,000 steps; 0.5 for the others."""
BEST_RATE = {"SGD": 0.01, "SGDM": 0.01, GD: 0.01, "AdaGrad": 1.0}
"""AdaGrad's lies at the edge of the grid; 0.001 for the others."""


def jitter(seed):
    return (3 * seed) % 5 - 2


def rows_of(run):
    """What a run could have given: the numbers of `CORRECT` and `EARLY`, a little different by seed."""
    config, seed = run.config, run.config["seed"]
    if "learning_rate" not in config:
        method = run.arm.removeprefix("mnist/")
        return [{"arm": run.arm, "method": method, "seed": seed, "data": "real", "images": config["rows"] or 60_000,
                 "test_rows": 10_000, "test_correct": CORRECT[method] + jitter(seed)}]  # fmt: skip
    method, rate = config.get("method", GADAM), config["learning_rate"]
    about = {"arm": run.arm, "method": method, "seed": seed, "learning_rate": rate, "data": "real"}
    rows, units, depth, looks = [], range(config["population_size"]), config["steps"], config.get("looks")
    if method == GADAM:
        about["g"], units, depth = len(units), [0], mnist.depth(run.arm.split("/")[1])
        looks = [2 * config["steps"] * generation for generation in range(1, config["generations"] + 1)]
        rows = [about | row for row in history(config)]
    for unit in units:
        whose = "Adam" if method == BEST_OF_G and unit == 0 else method
        ends = {1, 1_000, 3_000, depth, *(looks if method == GADAM else [])}
        for step in sorted(end for end in ends if end <= max(depth, *looks)):
            loss = 2.3 if step == 1 else EARLY.get(method, 0.5) if step < 5_000 else 0.04
            rows.append(about | {"kind": "curve", "step": step, "unit": unit, "loss": loss + 1e-4 * jitter(seed)})
        for look in looks:
            share, away = look / depth, abs(np.log10(rate / BEST_RATE.get(method, EVIDENT)))
            rows.append(about | {
                "kind": "checkpoint", "step": look, "unit": unit, "generation": look / (2 * config["steps"]),
                "validation_loss": 1 - unit / 100,
                "held_loss": 1 / share + away + (0.1 if whose == "Adam" else 0) + 1e-3 * jitter(seed),
                "test_loss": paper.TABLE1.get(whose, {}).get("loss", 0.1) * (1.2 - 0.2 * share + 1e-3 * jitter(seed)),
                "test_correct": int(CORRECT[whose] - 10 * (1 - share) + jitter(seed) * (1 if method == GADAM else 2)),
                "test_rows": 10_000, "images": 55_000,
            })  # fmt: skip
    return rows


def history(config):
    """Losses fall and then stay, ever fewer children survive, and units differ by their place."""
    size, seed = config["population_size"], config["seed"]
    for generation, role in product(range(1, config["generations"] + 1), ("parent", "child")):
        children = round(size * max(0.0, 1.1 - 0.2 * generation))
        for unit in range(size):
            loss = (0.1 + 0.5 ** (2 * generation - 1)) * (1 + 0.02 * (unit - size / 2) + 1e-3 * jitter(seed))
            yield {
                "kind": "unit", "generation": generation, "role": role, "unit": unit,
                "survived": unit < (children if role == "child" else size - children),
                "loss_start": (2.3 if role == "parent" else 1.5) + 0.01 * jitter(seed), "loss_survival": loss,
            }  # fmt: skip


def made_up(runs):
    return pd.DataFrame([row for run in runs for row in rows_of(run)])


@cache
def everything(profile="standard"):
    """All runs of Sections 5.1 and 5.2, and their rows."""
    first = [*section51.runs(profile, "real"), *section52.runs(profile, "real")]
    later = section51.later_runs(profile, "real", made_up(first))
    runs = list({run.key: run for run in (*first, *later)}.values())
    return runs, made_up(runs)


def verdicts(rows, arms, profile="standard"):
    """The verdict, with its reason, of each claim of Sections 5.1 and 5.2."""
    claims = [*section51.claims(rows, profile, arms), *section52.claims(rows, profile, arms)]
    judged = scoreboard.plain(scoreboard.judged(claims, arms, profile))
    found = zip(judged["claim"], judged["verdict"], judged["reason"], strict=True)
    return {text: f"{verdict} {reason}".strip() for text, verdict, reason in found}


def check_verdicts(found, expected):
    """Each key of `expected` is part of one claim alone, or of several with the same verdict."""
    for words, verdict in expected.items():
        assert {words: {said for text, said in found.items() if words in text}} == {words: {verdict}}


@pytest.mark.parametrize("profile", PROFILES)
def test_every_method_trains_as_deep_and_best_of_g_costs_what_gadam_costs(profile):
    lenets = [run for run in section51.runs(profile, "real") if "learning_rate" in run.config]
    for scale in mnist.scales(profile):
        depth, budget = mnist.depth(scale), mnist.PROFILES[scale]
        alone = [run.config for run in lenets if run.config["steps"] == depth and "looks" in run.config]
        assert all(config["looks"] == mnist.checkpoints(scale) for config in alone)
        assert mnist.checkpoints(scale)[-1] == depth == 2 * budget["K"] * budget["steps"]
        control = next(config for config in alone if config["method"] == BEST_OF_G)
        assert control["population_size"] == budget["g"]
    grid, chosen = [run.config for run in lenets if run.arm == RATES], section51.PROFILES[profile]
    tried = sorted((config["method"], config["learning_rate"], config["seed"]) for config in grid)
    assert tried == sorted(product(section51.SINGLE, chosen["rates"], chosen["rate_seeds"]))
    assert not set(chosen["rate_seeds"]) & {run.config["seed"] for run in lenets if run.arm != RATES}


def test_budgets_are_the_papers_or_a_tenth_of_it_with_a_look_before():
    assert mnist.depth("paper") == mnist.PAPER_STEPS == 80_000
    assert [mnist.budget_share(scale) for scale in mnist.scales("standard")] == [1, 0.1]

    def evidence(scale, **about):
        about |= {"exhibit": "table1", "kind": "greater", "arms": ["a"]}
        return mnist.claim(scale, "better", lambda until: Evidence((until,)), **about).evidence()

    assert evidence("tenth") == Reduced(Evidence((8_000,)), Evidence((3_200,)), 0.04)
    assert evidence("tenth", looks=False) == Evidence((8_000,))
    assert evidence("standard") == Evidence((80_000,))
    assert evidence("quick") == Evidence((80,))


def test_a_checkpoint_is_chosen_by_images_held_out_and_the_record_by_the_test_set():
    looks, nan = mnist.checkpoints("paper"), float("nan")
    names, arm = ("step", "held_loss", "test_loss", "test_correct", "arm"), section51.arm("paper", "SGD")
    lines = [
        (looks[0], 0.5, 0.7, 80, arm), (looks[1], 0.4, 0.8, 70, arm), (looks[2], nan, 0.1, 90, arm),
        (looks[-1] + 1, 0.1, 0.0, 100, arm), (looks[0], 0.0, 0.0, 100, RATES),  # what others do not have
    ]  # fmt: skip
    about = {"kind": "checkpoint", "method": "SGD", "learning_rate": EVIDENT, "seed": 0, "data": "real"}
    rows = pd.DataFrame(lines, columns=names).assign(test_rows=100, **about)
    line = section51.results(rows, "paper", "SGD").iloc[0]
    assert line[["loss", "accuracy", "record", "record_loss", "looks"]].tolist() == [0.8, 70, 90, 0.1, 3]
    assert section51.results(rows, "paper", "SGD", until=looks[0])["record"].tolist() == [80]


def test_tuning_takes_the_lowest_held_out_loss_of_seeds_that_are_not_reported():
    grid = [run for run in section51.runs("standard", "real") if run.arm == RATES]
    rows = made_up(grid)
    tuned = section51.tuned_rates(rows, "standard")
    assert tuned == {method: BEST_RATE.get(method, EVIDENT) for method in section51.SINGLE}
    later = section51.later_runs("standard", "real", rows)
    assert {run.config["method"]: run.config["learning_rate"] for run in later} == BEST_RATE
    assert {run.config["seed"] for run in later} == set(seeds_of("standard", 5))  # of ten
    assert section51.tuned_rates(made_up(grid[1:]), "standard") == {}


def test_table1_has_both_scales_counts_the_grid_and_the_papers_values_once():
    runs, rows = everything()
    lacking = [run for run in runs if run.arm == "mnist/standard/SGD/0.001"][3:]
    arms = Arms.of(runs, lambda run: run not in lacking)
    table = section51.table1(rows, "standard", arms)
    assert len(table) == 5 + 5 * 2 + 1 + 3 + 4
    line = table.set_index(["method", "setting", "steps"]).sort_index().loc
    assert line["SGD", "tuned", 80_000]["gradient steps"] == 80_000 + 5 * 3 * 8_000
    assert line[GADAM, "evident", 8_000]["gradient steps"] == 10 * 8_000
    assert line["SGD", "evident", 80_000]["seeds"] == "3 of 10"
    stated = table.dropna(subset="paper accuracy")[["method", "paper accuracy"]].to_numpy().tolist()
    assert sorted(stated) == sorted([method, printed["accuracy"]] for method, printed in paper.TABLE1.items())
    accuracies = section51.results(rows, "standard", "Adam")["accuracy"].tolist()
    assert accuracies == pytest.approx([CORRECT["Adam"] / 100] * 10, abs=0.1), "of the first unit of its control"
    found = line["Adam", "evident", 80_000][["accuracy", "low", "high"]].tolist()
    assert found == pytest.approx(list(accuracy_interval(accuracies, 10_000)))


def test_complete_runs_decide_by_the_rules():
    runs, rows = everything()
    arms = Arms.of(runs)
    claims = [*section51.claims(rows, "standard", arms), *section52.claims(rows, "standard", arms)]
    assert len(claims) == 45 + 11
    keys = ["convergence", "generations", "mnist", "mnist, equal compute", "population", "variation"]
    assert sorted(claim.headline for claim in claims if claim.headline) == keys
    assert HEADLINES.keys() >= set(keys)
    items = {item for item in scoreboard.paper_numbers() if item.startswith("table1/")}
    assert {claim.item for claim in claims if claim.item} == items
    found = verdicts(rows, arms)
    for method in paper.TABLE1:
        said = {found[text] for text in found if text.startswith(f"{method} reaches") or f"than {method} on" in text}
        expected = "quoted" if method in (GCFOREST, FOREST) else "reproduced"
        assert {verdict.removesuffix(" reached") for verdict in said} == {expected}, method
    check_verdicts(found, {
        "GADAM reaches 99.37 %": "reproduced reached", "at equal compute": "reproduced",
        "Adam converges in 1,000": "reproduced", "RMSProp converges in 1,000": "not reproduced opposite",
        "GADAM converges in 1,000": "reproduced", "children start lower": "reproduced", "faster than": "reproduced",
        "first improve": "reproduced", "then remain": "reproduced", "In the first generation": "reproduced",
        "In the last generations (3 to 5)": "reproduced", "spread of the units": "reproduced",
        "lowest loss falls": "reproduced",
        "mean loss of the units changes only slightly": "undecided budget",  # a tenth, whose trend is open
    })  # fmt: skip
    budgets = {claim.text: claim.budget for claim in claims}
    check_verdicts(budgets, {"Adam varies more": 1, "In the first generation": 1, "lowest loss falls": 0.1})


def test_a_tenth_decides_where_the_whole_budget_is_not_complete():
    runs, _ = everything()
    deep = [section51.arm("standard", method) for method in (GADAM, BEST_OF_G)]
    there = [run for run in runs if run.arm not in deep or run.config["seed"] == 200]
    rows, arms = made_up(there), Arms.of(runs, lambda run: run in there)
    used = {claim.text: claim.arms for claim in section51.claims(rows, "standard", arms)}
    tenth = [section51.arm("tenth", method) for method in (GADAM, BEST_OF_G)]
    assert next(used[text] for text in used if "more accurate than Adam on" in text) == tenth
    check_verdicts(verdicts(rows, arms), {
        "GADAM reaches 99.37 %": "reproduced reached",
        "GADAM reaches an average loss": "reproduced reached", "Adam reaches an average loss": "undecided budget",
        "more accurate than Adam on": "undecided budget", "more accurate than Deep Belief Net": "reproduced",
        "more accurate than gcForest": "quoted", "more accurate than SGD": "undecided not computed",
        "SGD reaches 94.51": "reproduced", "children start lower": "reproduced", "parents first improve": "reproduced",
        "In the last generations": "reproduced",
        "In the first generation": "undecided budget",  # nobody looks inside a generation
    })  # fmt: skip
    table = section51.table1(rows, "standard", arms).iloc[:2]
    assert table["seeds"].tolist() == ["1 of 10", "1 of 10"]
    assert table[["loss low", "loss high"]].isna().all(axis=None), "of one run"


def test_a_small_profile_decides_nothing_but_what_is_reached_or_quoted():
    runs, rows = everything("quick")
    found = verdicts(rows, Arms.of(runs), "quick")
    check_verdicts(found, {"GADAM converges in 1,000": "undecided not computed"})  # no run is so long
    assert section51.results(rows, "quick", "SGD")["seed"].tolist() == [0, 1], "and not that of the grid"
    assert "undecided budget" in found.values()
    assert {said for said in found.values() if not said.startswith("undecided")} == {"quoted", "reproduced reached"}


def test_units_without_evolution_are_looked_at_after_the_steps_asked_for():
    rows = pd.DataFrame(mnist.lenets_by_optimizer(
        "mnist", "standin", "Adam", 3, [2, 4], 0.0, early=[1], train_rows=300, test_rows=80, held=5_000,
        population_size=2, steps=4, batch_size=8, optimizer="adam", learning_rate=0.01,
    ))  # fmt: skip
    curve, looks = rows[rows["kind"] == "curve"], rows[rows["kind"] == "checkpoint"]
    assert curve.loc[curve["step"] == 1, "loss"].between(2, 2.7).all()  # ten classes, untrained: about ln 10
    assert rows.loc[rows["kind"] == "early", ["unit", "step"]].to_numpy().tolist() == [[0, 1], [1, 1]]
    (kept,) = rows[rows["kind"] == "kept"].to_dict("records")
    last = looks[looks["step"] == 4]
    assert kept["best"] == last.loc[last["validation_loss"].idxmin(), "test_correct"]
    assert looks[["unit", "step"]].to_numpy().tolist() == [[0, 2], [0, 4], [1, 2], [1, 4]]
    rows_of_parts = looks[["images", "held_rows", "test_rows"]].drop_duplicates().to_numpy().tolist()
    assert rows_of_parts == [[240, 60, 80]]  # a small dataset still leaves rows to train on


@pytest.mark.parametrize("singly", [True, False])  # False is how a GPU does it
def test_units_in_evaluation_score_like_their_modules(singly):
    population = Population.make(lenet5, 2, seed=1)
    inputs, targets = torch.randn(CHUNK + 30, 1, 28, 28), torch.randint(10, (CHUNK + 30,))
    losses, correct = scorer(lenet5(), singly)(population, (inputs, targets))
    for unit, module in enumerate(population.units()):
        with torch.no_grad():
            output = module(inputs)
        assert float(losses[unit]) == pytest.approx(float(torch.nn.functional.cross_entropy(output, targets)), rel=1e-5)
        assert int(correct[unit]) == int((output.argmax(1) == targets).sum())


def test_generations_show_the_units_losses_and_the_share_of_children_among_survivors():
    runs, rows = everything()
    frame = section52.generations(rows, "tenth")
    at = frame.set_index(["g", "generation", "seed"]).sort_index().loc
    losses = [(0.1 + 0.125) * (1 + 0.02 * (unit - 5) + 1e-3 * jitter(200)) for unit in range(10)]
    expected = [np.mean(losses), np.std(losses, ddof=1), min(losses)]
    for role in ("parent", "child"):
        found = at[10, 2, 200][[f"{role} mean", f"{role} spread", f"{role} best"]].tolist()
        assert found == pytest.approx(expected)
    adopted = [at[place]["adopted"] for place in ((10, 1, 200), (10, 10, 209), (2, 2, 202))]
    assert adopted == pytest.approx([0.9, 0, 0.5])
    by_size = section52.adoption(frame, 5).set_index(["g", "seed"])["adopted"]
    assert by_size[10, 200] == pytest.approx(0.5)
    table = section52.summary(rows, "standard", Arms.of(runs))
    assert table[["steps", "g"]].to_numpy().tolist() == [[80_000, 10], [8_000, 2], [8_000, 5], [8_000, 10], [8_000, 20]]
    assert (table["gradient steps"] == table["steps"] * table["g"]).all()
    assert table["seeds"].tolist() == ["10"] * 5


def test_the_change_with_the_population_is_by_the_seeds_that_every_size_has():
    frame = pd.DataFrame({"g": [2, 11, 20, 2, 11, 20, 2], "seed": [0, 0, 0, 1, 1, 1, 2], "x": [1, 2, 3, 4, 4, 4, 9.0]})
    assert section52.change(frame, "x").to_dict() == pytest.approx({0: 2, 1: 0})
    assert section52.change(frame, "x", relative=True).to_dict() == pytest.approx({0: 1, 1: 0})


def times(cores, seconds):
    """Rows as the run of Section 5.3 gives them: seconds(threads) and a little noise."""
    return pd.DataFrame([
        {"threads": count, "repeat": repeat, "seconds": seconds(count) * (1 + 0.01 * ((3 * count + repeat) % 4)),
         "steps": 6, "digest": "a", "generation": count, "cpu": "some processor", "cores": cores, "data": "real"}
        for repeat in range(4) for count in range(1, 11)
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("cores", "seconds", "expected"),
    [
        (40, lambda count: 10 / count, ["reproduced"] * 3),
        (2, lambda count: 10 / min(count, 2), ["reproduced", "reproduced", "undecided budget"]),
        (1, lambda count: 10.0, ["undecided power"] * 3),
        (40, lambda count: 10.0, ["not reproduced no difference", "undecided power", "undecided power"]),
        (40, lambda count: 10.0 * count, ["not reproduced opposite"] * 3),
    ],
)
def test_ten_threads_are_judged_where_there_are_ten_cores(cores, seconds, expected):
    claims = section53.claims(times(cores, seconds))
    found = [judge(claim, Arms.of(section53.runs("standard", "real")), "standard") for claim in claims]
    assert [f"{one.mark} {one.reason}".strip() for one in found] == expected
    assert [claim.headline for claim in claims] == ["", "threads", ""]
    assert claims[2].budget == min(1, cores / 10)


def test_threads_change_no_bit_and_every_repeat_has_its_own_order(monkeypatch):
    monkeypatch.setattr(section53, "G", 3)
    rows = pd.DataFrame(section53.generation_times(
        "mnist", "standin", [1, 2, 3], repeats=2, steps=1, warm_up=1, validation_size=16
    ))  # fmt: skip
    orders = rows.groupby("repeat")["threads"].apply(list)
    assert sorted(orders[0]) == sorted(orders[1]) == [1, 2, 3]
    assert orders[0] != orders[1]
    assert rows.groupby("generation")["digest"].nunique().eq(1).all()
    assert rows["digest"].nunique() == 3
