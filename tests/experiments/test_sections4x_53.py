"""Section 5.3: runs on tiny budgets, tables, claims and figures, whatever is there."""

import pandas as pd
import pytest
from matplotlib import pyplot as plt

from gadam.paper import PROFILES, section53
from gadam.paper.claims import Arms, judge
from gadam.paper.report import exhibits, scoreboard
from gadam.paper.verdicts import NOT_REPRODUCED, REPRODUCED, UNDECIDED

NOTHING = pd.DataFrame()


def drawn(figure):
    figure.canvas.draw()
    plt.close(figure)
    return figure


def said(figure):
    """How many panels say that they are empty."""
    return sum("not computed yet" in [text.get_text() for text in axis.texts] for axis in figure.axes)


def verdicts(claims, arms, profile="standard"):
    """Mark and reason of each claim, and that the scoreboard takes all of them."""
    assert len(scoreboard.plain(scoreboard.judged(claims, arms, profile))) == len(claims)
    return [(one.mark, one.reason) for one in (judge(claim, arms, profile) for claim in claims)]


def all_of(module, profile="standard"):
    return Arms.of(module.runs(profile, "real"))


def test_without_any_run_all_is_there_but_empty():
    times = section53.table(NOTHING, "standard")
    assert times["threads"].tolist() == list(section53.THREADS)
    assert times["repeats, as seeds"].unique().tolist() == ["0 of 10"]
    assert section53.describe(NOTHING) == "nothing yet"
    claims = section53.claims(NOTHING)
    assert {arm for claim in claims for arm in claim.arms} == set(all_of(section53))
    assert set(verdicts(claims, Arms())) == {(UNDECIDED, "not computed")}
    assert said(drawn(exhibits.section53.threads(NOTHING))) == 3


def test_one_claim_answers_whether_threads_help():
    found = {claim.headline: claim.text for claim in section53.claims(NOTHING) if claim.headline}
    assert list(found) == ["threads"]
    assert "up to the number of cores" in found["threads"]


def times(cores, seconds, counts=range(1, 11), repeats=4):
    """Rows as the run gives them: seconds(threads) and a little noise."""
    return pd.DataFrame([
        {"threads": count, "repeat": repeat, "seconds": seconds(count) * (1 + 0.01 * ((3 * count + repeat) % 4)),
         "steps": 6, "digest": "a", "generation": count, "cpu": "some processor", "cores": cores, "data": "real"}
        for repeat in range(repeats) for count in counts
    ])  # fmt: skip


def test_speed_ups_are_paired_by_repeat():
    rows = times(10, lambda count: 10 / count)
    line = section53.table(rows, "quick").set_index("threads").loc[5]
    paired = [
        float(own.loc[own["threads"] == 1, "seconds"].iloc[0] / own.loc[own["threads"] == 5, "seconds"].iloc[0])
        for _, own in rows.groupby("repeat")
    ]
    assert line["speed-up"] == pytest.approx(sum(paired) / len(paired))
    assert line["efficiency"] == pytest.approx(line["speed-up"] / 5)
    assert line["repeats, as seeds"] == 4


@pytest.mark.parametrize(
    ("cores", "seconds", "expected"),
    [
        (40, lambda count: 10 / count, [(REPRODUCED, "")] * 3),
        (2, lambda count: 10 / min(count, 2), [*[(REPRODUCED, "")] * 2, (UNDECIDED, "budget")]),
        (1, lambda count: 10.0, [(UNDECIDED, "power")] * 3),
        (40, lambda count: 10.0, [(NOT_REPRODUCED, "no difference"), *[(UNDECIDED, "power")] * 2]),
        (40, lambda count: 10.0 * count, [(NOT_REPRODUCED, "opposite")] * 3),
    ],
)
def test_ten_threads_are_judged_where_there_are_ten_cores(cores, seconds, expected):
    claims = section53.claims(times(cores, seconds))
    assert verdicts(claims, all_of(section53)) == expected
    assert claims[2].budget == min(1, cores / 10)


def test_threads_change_no_bit_and_every_repeat_has_its_own_order(monkeypatch):
    monkeypatch.setattr(section53, "G", 3)
    rows = pd.DataFrame(
        section53.generation_times("mnist", "standin", [1, 2, 3], repeats=2, steps=1, warm_up=1, validation_size=16)
    )
    assert rows.groupby("repeat")["threads"].apply(sorted).tolist() == [[1, 2, 3]] * 2
    assert rows.loc[rows["repeat"] == 0, "threads"].tolist() != rows.loc[rows["repeat"] == 1, "threads"].tolist()
    assert rows.groupby("generation")["digest"].nunique().eq(1).all()
    assert rows["digest"].nunique() == 3


@pytest.mark.parametrize("profile", PROFILES)
def test_figure_6_is_one_run_that_starts_at_one_thread_and_no_point_is_measured_twice(profile):
    runs = section53.runs(profile, "standin")
    assert [run.arm for run in runs] == [section53.ARM]
    assert runs[0].config["threads"][0] == 1
    assert runs[0].config["repeats"] >= 2


def test_the_figure_has_labels_and_one_legend():
    figure = drawn(exhibits.section53.threads(times(2, lambda count: 10 / min(count, 2))))
    assert all(axis.get_xlabel() for axis in figure.axes[-3:])
    assert figure.axes[0].get_ylabel()
    assert len(figure.legends) == 1
    assert said(figure) == 0
