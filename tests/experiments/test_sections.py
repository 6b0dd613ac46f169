"""Sections 3 and 4.1 on tiny budgets."""

import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt

from gadam.paper import section3, section41
from gadam.paper.claims import Arms
from gadam.paper.report import exhibits


def test_landscape_has_the_minima_that_it_says():
    axis = torch.linspace(-2, 2, 4_001, dtype=torch.float64)
    heights = section41.landscape(axis, torch.zeros(()))
    inner = (heights[1:-1] < heights[:-2]) & (heights[1:-1] < heights[2:])
    minima = axis[1:-1][inner].tolist()
    assert minima == pytest.approx([section41.LOCAL, section41.GLOBAL], abs=1e-3)
    assert section41.landscape(section41.GLOBAL, 0.0) < section41.landscape(section41.LOCAL, 0.0)
    assert section41.landscape(-section41.GLOBAL, 0.3, mirrored=True) == section41.landscape(section41.GLOBAL, -0.3)


def test_methods_share_their_starting_points_in_a_trial_and_more_starts_never_lose():
    rows = pd.DataFrame(section41.success(False, [0, 1, 2, 3]))
    found = rows.pivot_table(index="trial", columns="method", values="found")
    assert (found["Adam, g starts"] >= found["Adam, 1 start"]).all()
    assert (found["Adam, 2gK starts"] >= found["Adam, g starts"]).all()
    # Nothing that was found is lost: with no mutation, the best of GADAM comes from these very starts.
    assert (found["GADAM, p = 0"] >= found["Adam, g starts"]).all()
    assert len(section41.table(pd.concat([rows, rows.assign(landscape="mirrored")]), Arms())) == 10


def test_pictured_children_come_from_their_parents_and_end_in_the_global_minimum():
    rows = pd.DataFrame(section41.trajectories())
    for panel in ("crossover", "mutation"):
        path = rows[(rows["panel"] == panel) & (rows["role"] == "child")].sort_values("step")
        born, end = path.iloc[0], path.iloc[-1]
        assert (end["w1"], end["w2"]) == pytest.approx((section41.GLOBAL,) * 2, abs=0.05)
        ends = rows[(rows["panel"] == panel) & (rows["role"] == "parent") & (rows["step"] == section41.STEPS)]
        ends = ends.set_index("unit")
        parents = ends.loc[[born["parent_a"], born["parent_b"]]]
        inherited = [born[name] in parents[name].to_numpy() for name in ("w1", "w2")]
        assert all(inherited) if panel == "crossover" else not all(inherited)
        assert ((parents[["w1", "w2"]] - section41.GLOBAL).abs().max(axis=1) > 1).all()  # none was there before


@pytest.fixture(scope="module")
def generation():
    settings = section3.PROFILES["smoke"]
    return pd.DataFrame(section3.units(section3.DATASET, "standin", **settings)), pd.DataFrame(
        section3.entries(section3.DATASET, "standin", **settings)
    )


def test_one_generation_is_consistent_with_its_equations(generation):
    units, entries = generation
    parents, children = (units[units["role"] == role] for role in ("parent", "child"))
    assert parents["probability"].sum() == pytest.approx(1)
    assert parents["times_drawn"].sum() == 2 * section3.G
    probability = parents.set_index("unit")["probability"]
    for child in children.to_dict("records"):
        expected = section3.MUTATION_RATE * (1 - probability[child["parent_a"]] - probability[child["parent_b"]])
        assert child["mutation_rate"] == pytest.approx(max(0, expected), abs=1e-6)
    assert set(entries["origin"]) <= {0, 1, 2}
    assert {0, 1} <= set(entries["origin"])
    mutated = entries[entries["origin"] == 2]["value"]
    assert mutated.between(0, 1).all()


def test_every_figure_draws(generation):
    figures = [
        exhibits.section3.selection(generation[0]),
        exhibits.section3.inheritance(*generation),
        exhibits.section3.survival(generation[0]),
        exhibits.section41.landscape(pd.DataFrame(section41.trajectories())),
    ]
    for figure in figures:
        figure.canvas.draw()
        labels = [axis.get_xlabel() for axis in figure.axes], [axis.get_ylabel() for axis in figure.axes]
        assert any(labels[0]) or figure.get_supxlabel()
        assert any(labels[1]) or figure.axes[0].get_yticklabels()[0].get_text()
        plt.close(figure)
