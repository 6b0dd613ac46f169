"""Sections 5.1 and 5.2: their runs, tables, claims and figures, on made-up rows or tiny budgets."""

from functools import cache
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt

from gadam.config import GadamConfig
from gadam.models import lenet5
from gadam.paper import PROFILES, mnist, section51, section51_results, section52, seeds_of
from gadam.paper import published as paper
from gadam.paper.claims import HEADLINES, Arms
from gadam.paper.report import exhibits, scoreboard
from gadam.paper.section51 import BEST_OF_G, EVIDENT, FOREST, GADAM, GCFOREST, GD, RATES
from gadam.paper.statistics import accuracy_interval

TINY = {"train_rows": 300, "test_rows": 80, "held": 40, "batch_size": 8}
CORRECT = {method: round(100 * accuracy) for method, (_, accuracy) in paper.TABLE1.items()}
CORRECT |= {BEST_OF_G: 9_920, "SGDM": 9_800}
"""Test images of 10,000 that a method gets right."""
EARLY = {GADAM: 0.05, "Adam": 0.1, BEST_OF_G: 0.1}
"""Training loss after 1,000 steps; 0.5 for the others."""


def jitter(seed, unit=0):
    return (3 * seed + 7 * unit) % 5 - 2


def lenet_rows(run):
    """What a run of LeNet-5 could have given: the numbers of `CORRECT` and `EARLY`, a little different by seed."""
    config = run.config
    seed, rate, method = config["seed"], config["learning_rate"], config.get("method", GADAM)
    about = {"method": method, "seed": seed, "learning_rate": rate, "run_steps": config["steps"], "data": "real"}
    if method == GADAM:
        about["g"] = config["population_size"]
        depth = mnist.depth(run.arm.split("/")[1])
        looks = [2 * config["steps"] * generation for generation in range(1, config["generations"] + 1)]
        rows, units = [about | row for row in unit_rows(config)], [None]
    else:
        depth, looks = config["steps"], config["looks"]
        rows, units = [], range(config["population_size"])
    # AdaGrad is the one whose best rate lies at the edge of the grid.
    best = {"SGD": 0.01, "SGDM": 0.01, GD: 0.01, "AdaGrad": 1.0}.get(method, EVIDENT)
    penalty = abs(np.log10(rate / best))
    for unit in units:
        whose = "Adam" if method == BEST_OF_G and unit == 0 else method
        steps = sorted({1, 1_000, 3_000, depth} & set(range(depth + 1)) | {look for look in looks if method == GADAM})
        for step in steps:
            loss = 2.3 if step == 1 else EARLY.get(method, 0.5) if step < 5_000 else 0.04
            rows.append(about | {"kind": "curve", "step": step, "unit": unit, "loss": loss + 1e-4 * jitter(seed)})
        for look in looks:
            share = look / depth
            rows.append(about | {
                "kind": "checkpoint", "step": look, "unit": unit or 0, "generation": 5 * share,
                "held_loss": 1 / share + penalty + (0.1 if whose == "Adam" else 0) + 1e-3 * jitter(seed),
                "test_loss": (paper.TABLE1.get(whose, (None,))[0] or 0.1) * (1.2 - 0.2 * share + 1e-3 * jitter(seed)),
                "test_correct": int(CORRECT[whose] - 10 * (1 - share) + jitter(seed) * (1 if method == GADAM else 2)),
                "test_rows": 10_000, "images": 55_000,
            })  # fmt: skip
    return rows


def unit_rows(config):
    """A history: losses fall and then stay, ever fewer children survive, and units differ by their place."""
    size = config["population_size"]
    for generation in range(1, config["generations"] + 1):
        children = round(size * max(0.0, 1.1 - 0.2 * generation))
        for role in ("parent", "child"):
            for unit in range(size):
                survived = unit < children if role == "child" else unit < size - children
                loss = (0.1 + 0.5**generation) * (1 + 0.02 * (unit - size / 2) + 1e-3 * jitter(config["seed"]))
                start = 2.3 if role == "parent" else 1.5
                yield {
                    "kind": "unit", "generation": generation, "role": role, "unit": unit, "survived": survived,
                    "loss_start": start + 0.01 * jitter(config["seed"]), "loss_trained": loss, "loss_survival": loss,
                }  # fmt: skip


def made_up(runs):
    return pd.DataFrame([row for run in runs for row in lenet_rows(run)])


def other_rows(runs):
    return pd.DataFrame([
        {"method": run.arm.removeprefix("mnist/"), "seed": run.config["seed"], "test_rows": 10_000, "data": "real",
         "test_correct": CORRECT[run.arm.removeprefix("mnist/")] + jitter(run.config["seed"]),
         "images": run.config["rows"] or 60_000}
        for run in runs
    ])  # fmt: skip


@cache
def everything(profile="standard"):
    """All runs of both sections, and the rows of LeNet-5 and of the other methods."""
    first = section51.lenet_runs(profile, "real")
    later = section51.later_runs(profile, "real", made_up(section51.rate_runs(profile, "real")))
    lenets = list({run.key: run for run in (*first, *later, *section52.runs(profile, "real"))}.values())
    others = section51.other_runs(profile, "real")
    return [*lenets, *others], made_up(lenets), other_rows(others)


def all_claims(rows, others, profile, arms):
    return [*section51_results.claims(rows, others, profile, arms), *section52.claims(rows, profile, arms)]


def verdicts(claims, arms, profile="standard"):
    """The verdict, with its reason, of each claim that is no second line of a headline, by its text."""
    judged = scoreboard.plain(scoreboard.judged(claims, arms, profile))
    return dict(zip(judged["claim"], judged[["verdict", "reason"]].agg(" ".join, axis=1).str.strip(), strict=True))


def one(found, *words):
    (said,) = {verdict for text, verdict in found.items() if all(word in text for word in words)}
    return said


@pytest.mark.parametrize("profile", PROFILES)
def test_every_method_trains_as_deep_and_best_of_g_costs_what_gadam_costs(profile):
    runs = section51.lenet_runs(profile, "real")
    for scale in mnist.scales(profile):
        alone = [run.config for run in runs if run.config["steps"] == mnist.depth(scale) and "looks" in run.config]
        control = next(config for config in alone if config["method"] == BEST_OF_G)
        looks = mnist.checkpoints(scale)
        assert {tuple(config["looks"]) for config in alone} == {tuple(looks)}
        assert looks[-1] == mnist.depth(scale)
        steps = section51_results.gradient_steps(GADAM, "evident", profile, scale)
        assert control["population_size"] * control["steps"] == steps
    grid = [run.config for run in runs if run.arm == RATES]
    chosen = section51.PROFILES[profile]
    tried = sorted((config["method"], config["learning_rate"], config["seed"]) for config in grid)
    assert tried == sorted(product(section51.SINGLE, chosen["rates"], chosen["rate_seeds"]))
    assert not {config["seed"] for config in grid} & {run.config["seed"] for run in runs if run.arm != RATES}


def test_the_budgets_are_the_papers_or_a_tenth_of_it_with_a_look_before():
    assert mnist.depth("paper") == mnist.PAPER_STEPS == 80_000
    assert [section51.share_of(scale) for scale in mnist.scales("standard")] == [1, 0.1]
    assert mnist.PROFILES["paper"]["seeds"] >= 10
    assert set(mnist.PROFILES["paper"]["sizes"]) == set(range(2, 21, 2))
    assert mnist.PROFILES["paper"]["longest"] == 10
    reduced = section51.evidence_at("tenth", lambda until: until)
    assert (reduced.now, reduced.before, reduced.share_before) == (8_000, 3_200, 0.04)
    assert section51.evidence_at("standard", lambda until: until) == 80_000
    assert section51.evidence_at("quick", lambda until: until).before is None


def test_a_checkpoint_is_chosen_by_images_held_out_and_the_record_by_the_test_set():
    looks = mnist.checkpoints("paper")
    cell = {"kind": "checkpoint", "method": "Adam", "learning_rate": 1e-3, "seed": 0, "unit": 0, "data": "real",
            "test_rows": 100, "images": 55_000, "run_steps": mnist.depth("paper")}  # fmt: skip
    rows = pd.DataFrame([
        {**cell, "step": looks[0], "held_loss": 0.5, "test_loss": 0.7, "test_correct": 80},
        {**cell, "step": looks[1], "held_loss": 0.4, "test_loss": 0.8, "test_correct": 70},
        {**cell, "step": looks[2], "held_loss": float("nan"), "test_loss": 0.1, "test_correct": 90},
        {**cell, "step": looks[-1] + 1, "held_loss": 0.1, "test_loss": 0.0, "test_correct": 100},
        {**cell, "step": looks[0], "held_loss": 0.0, "test_loss": 0.0, "test_correct": 100, "run_steps": 9},
    ])  # fmt: skip
    line = section51.results(rows, "paper").iloc[0]  # without the looks that others do not have
    assert (line["held_loss"], line["loss"], line["accuracy"]) == (0.4, 0.8, 70)
    assert (line["record"], line["record_loss"], line["looks"]) == (90, 0.1, 3)
    assert section51.results(rows, "paper", until=looks[0])["record"].tolist() == [80]


def test_results_are_of_k_generations_and_of_the_seeds_that_are_reported():
    _, rows, _ = everything()
    for scale, seeds in (("standard", 5), ("tenth", 10)):
        assert rows.loc[rows["run_steps"] == mnist.PROFILES[scale]["steps"], "step"].max() == 2 * mnist.depth(scale)
        found = section51.reported(rows, scale)
        assert set(found["seed"]) == set(seeds_of("standard", seeds))
        last = rows.query("kind == 'checkpoint' and step == @mnist.depth(@scale) and seed == 200 and unit == 0")
        losses = last[last["learning_rate"] == EVIDENT].groupby("method")["test_loss"].apply(set)
        ours = found.query("seed == 200 and learning_rate == @EVIDENT").set_index("method")["loss"]
        assert ours[GADAM] in losses[GADAM]
        assert ours["Adam"] in losses[BEST_OF_G]


def test_tuning_takes_the_lowest_held_out_loss_of_seeds_that_are_not_reported():
    grid = section51.rate_runs("standard", "real")
    rows = made_up(grid)
    tuned = section51.tuned_rates(rows, "standard")
    assert tuned["SGD"] == tuned["SGDM"] == tuned[GD] == 0.01
    assert tuned["Adam"] == tuned["RMSProp"] == EVIDENT
    later = section51.later_runs("standard", "real", rows)
    assert {(run.config["method"], run.config["learning_rate"]) for run in later} == {
        ("SGD", 0.01), ("SGDM", 0.01), (GD, 0.01), ("AdaGrad", 1.0),
    }  # fmt: skip
    assert {run.config["seed"] for run in later} == set(seeds_of("standard", 5))
    assert section51.tuned_rates(made_up(grid[1:]), "standard") == {}


def test_table1_has_both_scales_counts_the_grid_and_the_papers_values_once():
    runs, rows, others = everything()
    lacking = [run for run in runs if run.arm == "mnist/standard/SGD/0.001"][3:]
    arms = Arms.of(runs, lambda run: run not in lacking)
    table = section51_results.table1(rows, others, "standard", arms)
    assert len(table) == 4 + 5 * 2 + 1 + 3 + 4
    line = table.set_index(["method", "setting", "steps"]).sort_index().loc
    assert line["SGD", "tuned", 80_000]["gradient steps"] == 80_000 + 5 * 3 * 8_000
    assert line[GADAM, "evident", 8_000]["gradient steps"] == 10 * 8_000
    assert line["SGD", "evident", 80_000]["seeds"] == "3 of 5"
    assert line[GADAM, "evident", 80_000]["seeds"] == "5"
    stated = table.dropna(subset="paper accuracy").set_index("method")["paper accuracy"].to_dict()
    assert table["paper accuracy"].notna().sum() == len(stated)
    assert stated == {method: accuracy for method, (_, accuracy) in paper.TABLE1.items()}
    group = section51.reported(rows, "standard").query("method == 'Adam'")["accuracy"].tolist()
    found = line["Adam", "evident", 80_000]
    assert (found["accuracy"], found["low"], found["high"]) == pytest.approx(accuracy_interval(group, 10_000))
    assert "At the edge of the grid: AdaGrad." in section51_results.note(rows, "standard", arms)


def test_complete_runs_decide_by_the_rules():
    runs, rows, others = everything()
    arms = Arms.of(runs)
    claims = all_claims(rows, others, "standard", arms)
    assert len(claims) == 39 + 11
    keys = {"mnist", "mnist, equal compute", "convergence", "variation", "generations", "population"}
    assert sorted(claim.headline for claim in claims if claim.headline) == sorted(keys)
    assert keys <= HEADLINES.keys()
    items = {claim.item for claim in claims if claim.item}
    assert items == {item for item in scoreboard.paper_numbers() if item.startswith("table1/")}
    found = verdicts(claims, arms)
    for method in paper.TABLE1:
        expected = "quoted" if method in (GCFOREST, FOREST) else "reproduced"
        said = {text: verdict for text, verdict in found.items() if text.startswith(f"{method} reaches")}
        said |= {
            text: verdict for text, verdict in found.items() if f"by GADAM is more accurate than {method} on" in text
        }
        assert len(said) == 1 + (method != GADAM) + (paper.TABLE1[method][0] is not None)
        assert {verdict.removesuffix(" reached") for verdict in said.values()} == {expected}, method
    assert one(found, "GADAM reaches 99.37 %") == "reproduced reached"
    assert one(found, "best of g", "equal compute") == "reproduced"
    assert one(found, "SGD varies more") == "undecided power"  # five seeds
    assert one(found, "GADAM converges in 1,000") == one(found, "Adam converges in 1,000") == "reproduced"
    assert one(found, "RMSProp converges in 1,000") == "not reproduced opposite"
    assert one(found, "children start lower") == "reproduced"
    assert one(found, "GADAM converges faster than Adam") == one(found, "faster than RMSProp") == "reproduced"
    for words in ("parents first improve", "children first improve", "parents then remain", "children then remain"):
        assert one(found, words) == "reproduced"
    assert one(found, "In the first generation") == one(found, "In the last generations (8 to 10)") == "reproduced"
    assert one(found, "spread of the units") == one(found, "lowest loss falls") == "reproduced"
    assert (
        one(found, "mean loss of the units changes only slightly") == "undecided budget"
    )  # a tenth, whose trend is open
    by_text = {claim.text: claim for claim in claims}
    assert one({text: claim.budget for text, claim in by_text.items()}, "Adam varies more") == 0.1  # for ten seeds
    assert one({text: claim.budget for text, claim in by_text.items()}, "In the first generation") == 1


def test_a_tenth_decides_where_the_whole_budget_is_not_complete():
    runs, _, others = everything()
    deep = ("mnist/standard/GADAM, g = 10/0.001", "mnist/standard/Adam, best of g/0.001")
    lacking = {run.key for run in runs if run.arm in deep and run.config["seed"] > 200}
    runs_there = [run for run in runs if run.key not in lacking]
    rows = made_up([run for run in runs_there if "learning_rate" in run.config])
    arms = Arms.of(runs, lambda run: run.key not in lacking)
    claims = all_claims(rows, others, "standard", arms)
    found = verdicts(claims, arms)
    used = {claim.text: claim.arms for claim in claims}
    assert next(used[text] for text in used if "more accurate than Adam on" in text) == [
        "mnist/tenth/GADAM, g = 10/0.001", "mnist/tenth/Adam, best of g/0.001",
    ]  # fmt: skip
    assert one(found, "GADAM reaches 99.37 %") == "reproduced reached"
    assert one(found, "GADAM reaches an average loss") == "undecided budget"  # it falls on
    assert one(found, "more accurate than Adam on") == "undecided budget"
    assert one(found, "more accurate than Deep Belief Net") == "reproduced"
    assert one(found, "more accurate than gcForest") == "quoted"
    assert one(found, "more accurate than SGD") == "undecided not computed"
    assert one(found, "SGD reaches 94.51") == "reproduced"
    assert one(found, "children start lower") == "reproduced"
    assert one(found, "parents first improve") == one(found, "In the last generations") == "reproduced"
    assert one(found, "In the first generation") == "undecided budget"  # nobody looks inside a generation
    table = section51_results.table1(rows, others, "standard", arms)
    assert table["seeds"].tolist()[:2] == ["1 of 5", "1 of 5"]
    assert section52.scale_of_generations("standard", arms) == "standard"
    assert "seeds: 1 of 5." in section52.captions("standard", arms)["figure3"]


def test_a_small_profile_decides_nothing_but_what_is_reached_or_quoted():
    runs, rows, others = everything("quick")
    arms = Arms.of(runs)
    found = verdicts(all_claims(rows, others, "quick", arms), arms, "quick")
    assert one(found, "GADAM converges in 1,000") == "undecided not computed"  # no run is so long
    assert {"undecided budget", "quoted"} <= set(found.values())
    assert {said for said in found.values() if not said.startswith("undecided")} == {"quoted", "reproduced reached"}
    assert section51_results.note(rows, "quick", arms).endswith("the last four methods on 3,000 training images.")


@pytest.mark.parametrize("profile", PROFILES)
def test_without_any_runs_tables_are_empty_and_nothing_is_decided(profile):
    nothing, none = pd.DataFrame(), lambda run: False
    runs = [*section51.runs(profile, "real"), *section52.runs(profile, "real")]
    arms = Arms.of(runs, none)
    table = section51_results.table1(nothing, nothing, profile, arms)
    assert table["accuracy"].isna().all()
    assert table["seeds"].str.match("0( of|$)").all()
    table = section52.summary(nothing, profile, arms)
    assert table["mean loss"].isna().all()
    assert table["seeds"].str.startswith("0 of").all()
    claims = all_claims(nothing, nothing, profile, arms)
    assert set(verdicts(claims, arms, profile).values()) == {"undecided not computed"}
    planned = {name for claim in claims for name in claim.arms if "more than 1,000 steps" not in name}
    assert planned <= set(arms)
    assert section51.later_runs(profile, "real", nothing) == []
    assert section51_results.note(nothing, profile, arms)
    assert section52.note(profile)
    assert section52.captions(profile, arms)["figure4"].endswith(".")


def figures(rows, profile, arms):
    aged, sized = section52.scale_of_generations(profile, arms), section52.scale_of_populations(profile)
    size, last = mnist.PROFILES[aged]["g"], mnist.PROFILES[sized]["K"]
    fittest = section52.accuracies(rows, aged).query("g == @size")
    last_fittest = section52.accuracies(rows, sized).query("generation == @last")
    by_size = section52.adoption_by_size(section52.adoption(rows, sized), last)
    return [
        exhibits.section51.training_loss(section51_results.curves(rows, profile, arms)),
        exhibits.section52.generations(section52.generations(rows, aged), fittest, size),
        exhibits.section52.populations(section52.populations(rows, sized), last_fittest),
        exhibits.section52.adoption(section52.adoption(rows, aged).query("g == @size"), by_size, size, last),
    ]


@pytest.mark.parametrize("there", ["all", "some", "none"])
def test_every_figure_draws_what_is_there(there):
    runs, _, _ = everything()
    some = ("mnist/tenth/GADAM, g = 10/0.001", "mnist/standard/SGD/0.001", "mnist/tenth/GADAM, g = 2/0.001")
    chosen = [
        run for run in runs if there == "all" or (there == "some" and run.arm in some and run.config["seed"] < 202)
    ]
    lenets = [run for run in chosen if "learning_rate" in run.config]
    arms = Arms.of(runs, lambda run: run in chosen)
    curves = section51_results.curves(made_up(lenets), "standard", arms)
    caption = section51_results.curves_caption(curves, "standard")
    assert "over 80,000 steps, the paper's budget" in caption
    assert ("(GADAM over 8,000)" in caption) == (there == "some")
    assert ("SGD (evident) 2 of 5" in caption) == (there == "some")
    drawn = figures(made_up(lenets), "standard", arms)
    for figure in drawn:
        figure.draw_without_rendering()
        assert all(axis.get_xlabel() for axis in figure.axes)
        assert figure.axes[0].get_ylabel()
        said = [text.get_text() for axis in figure.axes for text in axis.texts]
        assert said.count("not computed yet") == (
            len(figure.axes) if there == "none" else there == "some" and figure is drawn[0]
        )
        plt.close(figure)


@pytest.mark.parametrize("mode", ["vectorised", "loop"])
def test_the_first_generation_of_seeds_computed_together_is_a_shorter_run_of_each_alone(mode):
    settings = {"population_size": 2, "steps": 2, "validation_size": 32, "learning_rate": 0.01, "mode": mode, **TINY}
    long = pd.DataFrame(mnist.lenets_by_gadam("mnist", "standin", [4, 1], generations=2, **settings)[1])
    short = pd.DataFrame(mnist.lenet_by_gadam("mnist", "standin", 1, generations=1, **settings))
    for kind in ("unit", "checkpoint"):
        first = long[(long["kind"] == kind) & (long["generation"] == 1)].reset_index(drop=True)
        pd.testing.assert_frame_equal(first, short[short["kind"] == kind].reset_index(drop=True))
    curve = long[long["kind"] == "curve"]
    assert curve["step"].max() == 2 * 2 * 2
    assert curve["loss"].notna().all()
    runs = [mnist.gadam_run("smoke", "standin", seed, size=2, generations=2, learning_rate=1e-3) for seed in (4, 1)]
    assert len({run.kin() for run in runs}) == 1


def test_curves_are_the_losses_of_the_training_batches():
    rows = pd.DataFrame(
        mnist.lenets_by_optimizer(
            "mnist", "standin", "Adam", 3, 300, 80, 40, [2, 4], 0.0, population_size=2, steps=4, batch_size=8,
            optimizer="adam", learning_rate=0.01,
        )
    )  # fmt: skip
    curve = rows[(rows["kind"] == "curve") & (rows["step"] == 1)]
    assert len(curve) == 2
    assert curve["loss"].between(2, 2.7).all()  # ten classes, untrained: about ln 10
    points = rows[rows["kind"] == "checkpoint"]
    assert points.groupby("unit")["step"].apply(list).tolist() == [[2, 4], [2, 4]]
    assert (points["test_rows"] == 80).all()
    assert (points["held_rows"] == 40).all()
    assert (points["images"] == 260).all()


def test_a_small_dataset_still_leaves_rows_to_train_on():
    parts = mnist._parts("mnist", "standin", None, None, 5_000)
    assert len(parts.train[1]) > 4 * len(parts.held[1]) - 5


def test_curves_of_any_length_have_the_same_points_and_every_step_counts_once():
    config = GadamConfig(population_size=2, steps=25)
    curves = [mnist._Curve(config, generations=generations) for generations in (2, 4)]
    for curve in curves:
        curve._losses[:] = torch.arange(1.0, len(curve._losses) + 1)[:, None]
    short, long = (pd.DataFrame(curve.rows()).set_index("step")["loss"] for curve in curves)
    pd.testing.assert_series_equal(short, long.loc[:100])
    steps = np.diff(long.index, prepend=0)
    assert (long * steps).sum() == pytest.approx(sum(range(1, 201)))


@pytest.mark.parametrize("method", section51.OTHERS)
def test_other_methods_beat_chance_on_a_stand_in(method):
    run = next(run for run in section51.other_runs("smoke", "standin") if run.arm == section51.arm("", method))
    deep = {"hidden": [64], "pretraining_epochs": 2, "epochs": 40} if method == section51.DBN else {}
    row = run.function(**run.config | {"rows": 300, "test_rows": 100} | deep)[0]
    assert row["images"] == 300
    assert row["test_correct"] > 25  # of 100; chance is 10


@pytest.mark.parametrize("singly", [True, False])  # False is how a GPU does it
def test_units_in_evaluation_score_like_their_modules(singly):
    from gadam.paper.units import CHUNK, scorer
    from gadam.population import Population

    population = Population.make(lenet5, 2, seed=1)
    inputs, targets = torch.randn(CHUNK + 30, 1, 28, 28), torch.randint(10, (CHUNK + 30,))
    losses, correct = scorer(lenet5(), singly)(population, (inputs, targets))
    for unit, module in enumerate(population.units()):
        with torch.no_grad():
            output = module(inputs)
        assert float(losses[unit]) == pytest.approx(float(torch.nn.functional.cross_entropy(output, targets)), rel=1e-5)
        assert int(correct[unit]) == int((output.argmax(1) == targets).sum())


def test_adoption_is_the_share_of_children_among_survivors():
    _, rows, _ = everything()
    adopted = section52.adoption(rows, "tenth").set_index(["g", "generation", "seed"])["adopted"]
    assert adopted[10, 1, 200] == pytest.approx(0.9)
    assert adopted[10, 10, 209] == 0
    assert adopted[2, 2, 202] == 0.5
    by_size = section52.adoption_by_size(section52.adoption(rows, "tenth"), 5).set_index(["g", "seed"])["adopted"]
    assert by_size[10, 200] == pytest.approx(0.5)


def test_figures_3_and_4_show_the_units_losses():
    _, rows, _ = everything()
    frame = section52.generations(rows, "standard").set_index(["generation", "role", "seed"])
    losses = [(0.1 + 0.25) * (1 + 0.02 * (unit - 5) + 1e-3 * jitter(200)) for unit in range(10)]
    expected = [np.mean(losses), np.std(losses, ddof=1), min(losses)]
    assert frame.loc[(2, "parent", 200)].tolist() == pytest.approx(expected)
    assert set(section52.populations(rows, "tenth")["g"]) == {2, 5, 10, 20}
    table = section52.summary(rows, "standard", Arms.of(everything()[0]))
    assert table[["steps", "g"]].to_numpy().tolist() == [[80_000, 10], [8_000, 2], [8_000, 5], [8_000, 10], [8_000, 20]]
    assert (table["gradient steps"] == table["steps"] * table["g"]).all()
    assert table["seeds"].tolist() == ["5", "3", "3", "10", "3"]


def test_the_change_with_the_population_is_by_the_seeds_that_every_size_has():
    frame = pd.DataFrame({"g": [2, 11, 20, 2, 11, 20, 2], "seed": [0, 0, 0, 1, 1, 1, 2], "x": [1, 2, 3, 4, 4, 4, 9.0]})
    assert section52.change(frame, "x").to_dict() == pytest.approx({0: 2, 1: 0})
    assert section52.change(frame, "x", relative=True).to_dict() == pytest.approx({0: 1, 1: 0})
