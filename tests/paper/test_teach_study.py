"""One network for the same steps: what is trained, searched for and compared, and by which rule it is judged."""

import math
from collections import Counter
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

import gadam
from gadam.datasets import load
from gadam.paper import PROFILES, section54, teach
from gadam.paper.claims import Arms
from gadam.paper.statistics import p_values
from gadam.paper.units import cross_entropy, held_out

SEARCH = teach.PROFILES["standard"]["search_seeds"]


def trials(better=None, profile="standard"):
    """Rows of every trial; of each method on LETTER `better` gets one more row right, of 1,000."""
    made = []
    for run in teach.runs(profile, "real"):
        config = run.config
        if config["seed"] in SEARCH:
            ahead = config["dataset"] == "letter" and better is not None and better.items() <= config.items()
            kept = ("dataset", "method", "seed", "total_steps", "learning_rate", "weight_decay", "generations")
            made.append({name: config.get(name) for name in kept} | {
                "held_correct": 900 + ahead, "held_rows": 1_000, "held_loss": config["learning_rate"], "data": "real",
            })  # fmt: skip
    return pd.DataFrame(made)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_method_has_the_same_steps_and_trials_and_no_reported_seed_is_searched_on(profile):
    first = teach.runs(profile, "real")
    later = teach.later_runs(profile, "real", trials(profile=profile))
    assert len({run.key for run in (*first, *later)}) == len(first) + len(later), "no run twice"
    searched = [run for run in first if run.config["seed"] in teach.PROFILES[profile]["search_seeds"]]
    for dataset in teach.PROFILES[profile]["datasets"]:
        counts = Counter(run.config["method"] for run in searched if run.arm == f"teach/{dataset}/search")
        assert set(counts) == set(teach.TUNED) & set(teach.methods_of(dataset))
        assert len(set(counts.values())) == 1
    planned = Arms.of(run for run in (*first, *later) if run not in searched)
    for dataset, size in teach.PROFILES[profile]["datasets"].items():
        for method in teach.methods_of(dataset):
            assert planned[teach.arm(dataset, method, size["primary"])] == (size["seeds"], size["seeds"])
    for config in (run.config for run in (*first, *later)):
        assert config["total_steps"] in teach.PROFILES[profile]["datasets"][config["dataset"]]["totals"]
        fixed = teach.METHODS[config["method"]].keys() - {"learning_rate", "weight_decay"}
        assert all(config[name] == teach.METHODS[config["method"]][name] for name in fixed)


def test_the_trial_with_most_held_out_rows_right_is_chosen_and_of_equals_that_of_lower_loss():
    rows = trials(better={"learning_rate": 1e-2})
    assert {one["learning_rate"] for one in teach.chosen(rows, "standard", "letter").values()} == {1e-2}
    assert teach.chosen(rows, "standard", "mnist")[teach.LONG] == {"learning_rate": 1e-3, "weight_decay": 0.1}
    found = teach.chosen(rows, "standard", "yeast")
    assert found.keys() == set(teach.TUNED)
    assert {one["learning_rate"] for one in found.values()} == {3e-4}
    assert found[teach.LONG].keys() == {"learning_rate", "weight_decay"}
    assert isinstance(found[teach.GADAM]["generations"], int)
    missing = rows[~((rows["dataset"] == "yeast") & (rows["method"] == teach.LONG) & (rows["seed"] == SEARCH[-1]))]
    assert teach.LONG not in teach.chosen(missing, "standard", "yeast"), "not before all trials are there"
    assert teach.chosen(pd.DataFrame(), "standard", "yeast") == {}
    table = teach.search_table(rows, "standard").set_index(["dataset", "method"])
    line = table.loc[("LETTER", teach.LONG), ["trials", "learning rate", "best", "worst"]].tolist()
    assert line == pytest.approx([25, 1e-2, 90.1, 90])


@pytest.mark.parametrize("method", [teach.TAUGHT, teach.ALONE, teach.LONG, teach.BEST, teach.GADAM])
def test_a_method_spends_its_steps_and_is_scored_on_rows_it_has_not_seen(method):
    rows = load("yeast", data="standin", seed=1)
    settings = teach.METHODS[method] | ({"generations": 5} if method == teach.GADAM else {})
    found, *votes = teach.rows_of_method(
        rows, section54.maker(rows), seed=1, method=method, total_steps=400, **settings
    )
    assert 360 <= found["gradient_steps"] <= 400 == found["total_steps"]
    assert 0 <= found["test_correct"] <= found["test_rows"] == len(rows.test[1])
    assert (found["method"], found["data"]) == (method, "stand-in")
    assert [vote["method"] for vote in votes] == [name for name, (own, _) in teach.VOTES.items() if own == method]
    assert len({one["test_loss"] for one in (found, *votes)}) == 1 + len(votes)
    assert {vote["gradient_steps"] for vote in votes} <= {found["gradient_steps"]}


def test_the_rows_of_a_reported_run_tell_of_each_unit_of_the_half_that_taught_and_of_one_temperature():
    rows = load("yeast", data="standin", seed=1)
    settings = {"seed": 1, "method": teach.TAUGHT, "total_steps": 800, **teach.METHODS[teach.TAUGHT]}
    plain = teach.rows_of_method(rows, section54.maker(rows), **settings)
    found, eight, half, *units = teach.rows_of_method(rows, section54.maker(rows), **settings, details=True)
    assert [one["test_loss"] for one in plain] == [one["test_loss"] for one in (found, eight, half)]
    assert [one["unit"] for one in units] == list(range(8))
    assert len({one["learning_rate"] for one in units}) == 8
    train, held = held_out(rows.train, len(rows.train[1]) // 10, 1)
    own = {name: one for name, one in teach.METHODS[teach.TAUGHT].items() if name not in ("by", "teacher_share")}
    result = gadam.teach(section54.maker(rows), train, total_steps=800, seed=1, validation=held, progress=False, **own)
    losses = result.history.query("role == 'parent'")["loss_survival"]
    assert [one["held_loss"] for one in units] == pytest.approx(losses.tolist(), rel=1e-5)
    taught = [result.teachers.unit(unit).eval() for unit in losses.argsort()[:4]]
    with torch.no_grad():
        vote = torch.stack([unit(rows.test[0]).softmax(1) for unit in taught]).mean(0).log()
        logits = result.best(rows.test[0])
    assert half["test_loss"] == pytest.approx(float(cross_entropy(vote, rows.test[1])), rel=1e-5)
    scaled = float(cross_entropy(logits / found["temperature"], rows.test[1]))
    assert found["test_loss_scaled"] == pytest.approx(scaled, rel=1e-5)
    with torch.no_grad():
        logits, targets = result.best(held[0]), held[1]
    at = [float(cross_entropy(logits / (factor * found["temperature"]), targets)) for factor in (0.95, 1, 1.05)]
    assert at[1] == min(at)


def test_a_long_run_on_all_rows_holds_nothing_out():
    rows = load("yeast", data="standin", seed=0)
    settings = teach.METHODS[teach.LONG_ALL] | {"learning_rate": 1e-2, "total_steps": 100, "details": True}
    (found,) = teach.rows_of_method(rows, section54.maker(rows), seed=0, method=teach.LONG_ALL, **settings)
    config = gadam.GadamConfig(
        population_size=1, generations=1, steps=50, learning_rate=1e-2, schedule="cosine", average=0.01
    )
    best = gadam.train(section54.maker(rows), rows.train, config, progress=False).best
    with torch.no_grad():
        assert found["test_loss"] == pytest.approx(float(cross_entropy(best(rows.test[0]), rows.test[1])), rel=1e-5)
    assert not found.keys() & {"held_loss", "held_correct", "temperature"}


def test_a_long_run_at_a_constant_rate_counts_with_its_best_look(monkeypatch):
    rows = load("yeast", data="standin", seed=0)
    held = held_out(rows.train, len(rows.train[1]) // 10, 0)[1]
    losses, look = [], teach._Looks.__call__

    def watch(self, step):
        if step.number % self._every == 0:
            unit = section54.maker(rows)()
            unit.load_state_dict({name: one[0] for name, one in step.parameters.items()})
            with torch.no_grad():
                losses.append([float(cross_entropy(unit(inputs), targets)) for inputs, targets in (held, rows.test)])
        look(self, step)

    monkeypatch.setattr(teach._Looks, "__call__", watch)
    settings = {"learning_rate": 3e-2, "by": "looks", "population_size": 1, "total_steps": 1_000}
    (found,) = teach.rows_of_method(rows, section54.maker(rows), seed=0, method=teach.LONG_CONSTANT, **settings)
    assert len(losses) == teach.LOOKS
    best = min(losses)
    assert best != losses[-1], "it got worse again"
    assert [found["held_loss"], found["test_loss"]] == pytest.approx(best, rel=1e-4)


# --- what the runs say ---


def reported(accuracy, seeds=20, total=200_000):
    """Rows of all methods on LETTER: `accuracy(method, seed)` in percent of 4,000 test rows."""
    return pd.DataFrame([
        {
            "dataset": "letter", "method": method, "seed": seed, "total_steps": total, "test_rows": 4_000,
            "test_correct": round(40 * accuracy(method, seed)), "test_loss": 0.1, "test_loss_scaled": 0.09,
            "seconds": 10.0, "data": "real",
        }
        for method in (*teach.METHODS, *teach.VOTES) for seed in range(200, 200 + seeds)
    ])  # fmt: skip


@cache
def all_there():
    first = teach.runs("standard", "real")
    return Arms.of([*first, *teach.later_runs("standard", "real", trials())])


@pytest.mark.parametrize(
    ("ahead", "verdict"),
    [(1.0, "better"), (-2.0, "worse"), (0.0, "not worse"), ("noise", "undecided")],
)
def test_teach_is_compared_seed_by_seed(ahead, verdict):
    noise = np.random.default_rng(0).normal(size=20)

    def accuracy(method, seed):
        own = noise[seed - 200]  # the seed's, which all methods have
        if method != teach.TAUGHT:
            return 90 + own
        return 90 + own + (0.05 * (-1) ** seed + ahead if ahead != "noise" else 5 * noise[219 - seed] + 1.5)

    table = teach.differences(reported(accuracy), "standard", all_there())
    line = table.set_index(["dataset", "teach minus"]).loc["LETTER", teach.LONG]
    assert line["verdict"] == verdict
    assert set(table.set_index("dataset").loc["YEAST", "verdict"]) == {"undecided"}, "no rows"


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_p_values_are_those_of_the_t_test_and_of_every_flip_of_signs(shift):
    differences = [0.4, -0.1, 0.3, 0.25, -0.3, 0.6]
    p, flips = p_values(differences, -shift)
    shifted = np.array(differences) + shift
    signs = np.array(np.meshgrid(*[[-1, 1]] * 6)).reshape(6, -1).T
    assert flips == pytest.approx(((signs * shifted).mean(1) >= shifted.mean() - 1e-12).mean())
    assert p == pytest.approx(stats.ttest_1samp(shifted, 0, alternative="greater").pvalue)
    assert [p_values([one] * 6)[0] for one in (0.5, -0.5)] == [0, 1]
    assert math.isnan(p_values([0.5])[0])


@pytest.mark.parametrize(
    ("values", "holds", "p_of_one_more"),
    [
        ([0.004, 0.016, 0.009, 0.012, 0.2], 4, 0.2),
        ([0.011, 0.001, 0.001, 0.001, 0.03], 5, math.nan),
        ([0.03] * 5, 0, 0.15),  # none of them alone is sure enough, though all of them together would be
        ([0.001, 0.01, 0.01, math.nan, math.nan], 3, math.nan),
    ],
)
def test_a_claim_holds_on_as_many_datasets_as_the_p_values_allow(values, holds, p_of_one_more):
    """(6 - k) p(k) <= 0.05 for five datasets: 0.01 on 1, 0.0125 on 2, 0.0167 on 3, 0.025 on 4 and 0.05 on all five."""
    line = teach.claims_table(pd.DataFrame({"teach minus": [teach.LONG_DRAWN] * 5, "p": values})).iloc[0]
    assert (line["holds on at least"], line["of"], line["not computed"]) == (holds, 5, sum(map(math.isnan, values)))
    assert line["p of one more"] == pytest.approx(p_of_one_more, nan_ok=True)


@pytest.mark.parametrize(
    ("ahead", "at", "said"),
    [
        ((-1, -1, 1, 1), 141_421, "ahead at 200,000 and 400,000 steps, behind at 40,000 and 100,000 steps, the means"),
        ((1, 1, 1, 1), 0, "ahead at 40,000 and 100,000 and 200,000 and 400,000 steps"),
        ((-1, 1, -3, 1), 336_359, "ahead at 100,000 and 400,000 steps, behind at 40,000 and 200,000 steps, the means"),
        ((0.01, 0.01, 0.01, -0.01), math.nan, "no difference shown"),
    ],
)
def test_the_crossing_is_where_teach_comes_to_be_ahead_for_good(ahead, at, said):
    """A difference counts that is surely not 0: by 0.01 points of 4,000 test rows none is."""
    totals = teach.PROFILES["standard"]["datasets"]["letter"]["totals"]
    rows = pd.concat([
        reported(lambda method, seed, up=up: 90 + up * (method == teach.TAUGHT), seeds=2, total=total)
        for total, up in zip(totals, ahead, strict=True)
    ])  # fmt: skip
    assert teach.crossing(teach.ahead(rows, "standard", "letter")) == pytest.approx(at, rel=1e-4, nan_ok=True)
    assert math.isnan(teach.crossing(teach.ahead(rows, "standard", "yeast")))
    arms = Arms({name: count for name, count in all_there().items() if "/letter/" in name})
    found = teach.crossings(teach.budget_table(rows, "standard", arms), rows, "standard")
    assert found.startswith(f"YEAST: not computed yet; ADULT: not computed yet; LETTER: {said}")
    assert found.endswith(("for good at about 140,000", "for good at about 340,000")) == (at > 0)


def test_the_figure_draws_a_curve_of_each_method_where_there_are_rows():
    upper = teach.budget_figure(reported(lambda method, seed: 90 + seed % 3), "standard").axes[:3]
    drawn = [[line for line in axis.lines if line.get_marker() == "o"] for axis in upper]  # and bars, of single points
    assert [len(lines) for lines in drawn] == [0, 0, len(teach.CURVES)]
