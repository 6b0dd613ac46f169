"""How faithful this is to the paper: its equations in our code, what it leaves open, what its numbers cannot be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from gadam.paper import published as paper


@dataclass(frozen=True)
class Equation:
    """A formula or rule of the paper: the function that is it ("module:name"), a test ("file::name"), a remark."""

    where: str
    what: str
    function: str
    test: str
    reading: str = ""


EQUATIONS = (
    Equation("Eq. 1", "minimise a loss over the variables", "gadam.evolution.loop:evolve",
             "test_evolution.py::test_losses_are_those_of_the_units_before_and_after_training",
             "any loss that is a mean over rows; cross-entropy by default"),
    Equation("Eq. 2", "Adam", "gadam.training.optimizers:make_optimizer",
             "training/test_trainer.py::test_adam_is_equation_2_with_epsilon_outside_the_bias_correction",
             "torch's Adam; the gradient of a step enters that same step"),
    Equation("Eq. 3", "stochastic gradient descent", "gadam.training.optimizers:make_optimizer",
             "training/test_trainer.py::test_a_unit_alone_equals_a_plain_loop_over_the_same_batches_bit_by_bit"),
    Equation("Eq. 4", "gradient descent with momentum", "gadam.training.optimizers:make_optimizer",
             "training/test_trainer.py::test_a_unit_alone_equals_a_plain_loop_over_the_same_batches_bit_by_bit"),
    Equation("Eq. 5", "AdaGrad and RMSProp", "gadam.training.optimizers:make_optimizer",
             "training/test_trainer.py::test_a_unit_alone_equals_a_plain_loop_over_the_same_batches_bit_by_bit",
             "the text as we have it announces the equation and does not show it: torch's"),
    Equation("Section 3.1", "g unit models, initialised at random", "gadam.population:Population",
             "test_population.py::test_every_unit_is_initialised_by_itself",
             "the module's own initialisation"),
    Equation("Section 3.2", "a batch of its own for each unit and step", "gadam.training.trainer:Trainer",
             "training/test_trainer.py::test_every_unit_of_every_role_and_generation_has_batches_of_its_own",
             "rows drawn uniformly with replacement"),
    Equation("Eq. 6", "each unit is trained by Adam", "gadam.training.trainer:Trainer",
             "training/test_trainer.py::test_a_shard_in_traced_steps_equals_its_units_one_by_one",
             "an \"epoch\" is a step"),
    Equation("Eq. 7", "fitness is the loss on a validation batch from T", "gadam.training.trainer:Trainer",
             "training/test_trainer.py::test_losses_are_means_in_evaluation_mode_before_and_after_training",
             "a mean where the paper has a sum: the normalisation makes them equal; dropout is off"),
    Equation("Section 3.3.1", "losses normalised into [0, 1]", "gadam.genetics:normalize_losses",
             "test_genetics.py::test_normalized_losses_by_hand", "min-max over the population"),
    Equation("Eq. 8", "probability of selection", "gadam.genetics:selection_probabilities",
             "test_genetics.py::test_selection_probabilities_are_eq_8"),
    Equation("Section 3.3.1", "g pairs with replacement", "gadam.genetics:select_parents",
             "test_genetics.py::test_parents_are_drawn_with_the_probabilities_given_and_with_replacement",
             "a unit may be paired with itself"),
    Equation("Eq. 9", "crossover, entry by entry", "gadam.genetics:crossover",
             "test_genetics.py::test_a_child_entry_is_the_same_entry_of_one_of_its_parents"),
    Equation("Eq. 10", "probability of the first parent's entry", "gadam.genetics:inheritance_probabilities",
             "test_genetics.py::test_inheritance_probabilities_are_eq_10"),
    Equation("Eq. 11", "mutation", "gadam.genetics:mutate",
             "test_genetics.py::test_each_child_mutates_at_its_own_rate_and_keeps_the_rest",
             "p_q in both indicator functions; a value from U[0, 1)"),
    Equation("Eq. 12", "mutation rate", "gadam.genetics:mutation_rates",
             "test_genetics.py::test_mutation_rates_are_eq_12_and_never_negative",
             "0 where it would be negative"),
    Equation("Section 3.3.3", "children are trained too", "gadam.evolution.loop:evolve",
             "test_evolution.py::test_children_are_trained_as_long_as_parents", "as many steps as their parents"),
    Equation("Section 3.4", "the best g of 2 g on a shared new batch", "gadam.genetics:survivors",
             "test_evolution.py::test_parents_are_selected_on_one_batch_and_survivors_on_the_other"),
    Equation("Eq. 13", "stop criterion", "gadam.genetics:has_converged",
             "test_genetics.py::test_convergence_is_eq_13", "as written; its losses are of different batches"),
    Equation("Eq. 14 and 15", "the sum of losses never rises (Theorem 1)", "gadam.genetics:survivors",
             "test_genetics.py::test_survivors_never_worsen_the_sum_on_the_same_batch",
             "holds on one batch; Section 3.4 draws a new one"),
    Equation("Section 4.3", "units on threads, processes, servers", "gadam.parallel.executors:train_shards",
             "test_evolution.py::test_the_same_seed_gives_the_same_bits_with_processes",
             "the result does not depend on how many work"),
    Equation("Section 3", "the best unit of the last generation is the result", "gadam.result:Result",
             "test_evolution.py::test_the_best_is_the_first_of_a_population_that_is_sorted",
             "best on the last validation batch, never on test rows"),
    Equation("Sections 5.1 and 5.4", "LeNet-5, the CNN for ORL", "gadam.models:lenet5",
             "test_models.py::test_the_sizes_are_those_of_the_paper"),
)  # fmt: skip
"""Tests are below `tests/`."""


@dataclass(frozen=True)
class Ambiguity:
    """What the paper leaves open.

    Attributes:
        where: in the paper.
        question: what is open.
        default: our reading.
        switch: what changes it, "" where nothing does.
        reading: the one of `section6.READINGS` that measures another reading, "" where none does.
        elsewhere: where else its effect is shown, "" where nowhere.
        unmeasured: else, why it was not measured.
    """

    where: str
    question: str
    default: str
    switch: str = ""
    reading: str = ""
    elsewhere: str = ""
    unmeasured: str = ""


AMBIGUITIES = (
    Ambiguity("“epoch”", "a pass over the rows, or a minibatch step", "a step", "steps",
              unmeasured="80,000 × 128 / 60,000 is the paper's own “170 rounds”: no other reading fits"),
    Ambiguity("Eq. 2", "ε is added to √v before its bias correction", "torch's Adam: after it", "epsilon",
              unmeasured="a factor between 1 and 32 in an ε of 1e-8"),
    Ambiguity("Section 3.1", "“e.g., the standard normal distribution” for initial values", "the module's own",
              "initialisation", reading="standard_normal"),
    Ambiguity("Section 3.2", "Adam's moments in the next generation, and of children", "start at zero", "moments",
              reading="carry"),
    Ambiguity("Section 3.3.1", "how losses are normalised into [0, 1]", "min-max over the population; equals give 0",
              unmeasured="no switch; whatever the map, the best is at most e times as likely as the worst"),
    Ambiguity("Section 3.3.1", "may a unit be paired with itself", "yes (“with replacement”)",
              unmeasured="no switch; with g = 10 about one pair in ten, and its child a mutated copy"),
    Ambiguity("Eq. 11", "p_q in one indicator function, p in the other", "p_q in both",
              unmeasured="read literally, entries with p_q < rand ≤ p would become 0"),
    Ambiguity("Eq. 11", "“rand(0, 1)” as a value: U[0, 1), or normal as in a later paper of the group",
              "U[0, 1)", "mutation", reading="normal"),
    Ambiguity("Section 3.3.3", "how long children are trained (“until convergence”)", "as long as parents",
              unmeasured="no switch"),
    Ambiguity("Sections 3.3.1 and 3.4", "validation batches come from the training rows (V ⊂ T)", "as written",
              "evolve(validation=…)", reading="held_out"),
    Ambiguity("Section 3.4", "the stop test compares sums on different batches", "as written", "threshold",
              unmeasured="θ = 0 throughout, as the paper gives none: every run has its K generations"),
    Ambiguity("Section 3.3.2", "crossover of buffers (BatchNorm)", "whole, from the parent that gives most",
              unmeasured="no model of the paper has any"),
    Ambiguity("Theorem 1", "its proof keeps one batch, Section 3.4 draws a new one", "a new one",
              elsewhere="both: Section 4.2"),
    Ambiguity("Table 1", "“best evaluation results on record … on the testing set”", "chosen on validation rows",
              elsewhere="both: Section 5.1"),
    Ambiguity("Tables 1, 3 and 4", "g, K and steps are not given", "g = 10 (Section 5.3), K = 5",
              "population_size, generations, steps", elsewhere="over g and K: Section 5.2"),
    Ambiguity("“Figure 2”, “Table 2”", "two plots share names", "figure2a (Section 4.1), figure2b (Section 5.1)",
              unmeasured="a name"),
)  # fmt: skip

TEST_ROWS: dict[str, dict[Any, int]] = {
    "table1": {"accuracy": 10_000},
    "table3": {5: 200, 7: 120, 9: 40},
    "table4": {"yeast": 446, "adult": 16_281, "letter": 4_000},
}
"""Test rows of each column: MNIST's; 40 persons with 10 images each; the splits of the gcForest paper."""

YEAST_ROWS = 1_484
QUOTED = ("LeNet-5 (GD)", "gcForest", "Deep Belief Net", "Random Forest", "SVM (rbf)", "kNN (k=3)")
"""Methods whose numbers equal those that the gcForest paper (arXiv 1702.08835) prints."""

REMARKS = {
    ("table3", "CNN (Adam)", "9"): "40 faces give multiples of 2.5 %",
    ("table4", "SVM (rbf)", "adult"): "as much as always saying “≤ 50K” (76.38): features not scaled?",
    ("table4", "kNN (k=3)", "adult"): "less than always saying “≤ 50K” (76.38): features not scaled?",
    ("table4", "SVM (rbf)", "letter"): "above MLP (GADAM), although the text excepts gcForest alone",
    ("table1", "AdaDelta", "accuracy"): "a learning rate that was not tuned? See Section 5.1",
    ("table1", "SGD", "accuracy"): "a learning rate that was not tuned? See Section 5.1",
}


def equations() -> pd.DataFrame:
    """Each equation or rule of the paper, the function that is it, a test of it, and how we read it."""
    columns = {"where": "paper", "what": "what", "function": "function", "test": "test", "reading": "our reading"}
    frame = pd.DataFrame([vars(one) for one in EQUATIONS])[list(columns)]
    frame["function"] = frame["function"].str.replace(":", ".")
    frame["reading"] = [reading or None for reading in frame["reading"]]
    return frame.rename(columns=columns)


def values() -> pd.DataFrame:
    """Each accuracy of Tables 1, 3 and 4: can one run give it, and is GADAM's significantly above it."""
    tables: dict[str, Any] = {
        "table1": {method: {"accuracy": pair[1]} for method, pair in paper.TABLE1.items()},
        "table3": paper.TABLE3,
        "table4": paper.TABLE4,
    }
    lines = []
    for table, methods in tables.items():
        best = next(iter(methods.values()))
        for method, cells in methods.items():
            for column, value in cells.items():
                rows = TEST_ROWS[table][column]
                z = difference_test(best[column], value, rows) if cells is not best else None
                lines.append({
                    "table": table, "method": method, "column": str(column), "printed": value, "test rows": rows,
                    "nearest of one run": 100 * round(value / 100 * rows) / rows,
                    "one run": "possible" if attainable(value, rows) else "impossible",
                    "fewest runs": fewest_runs(value, rows),
                    "z below GADAM": z, "source": "quoted" if method in QUOTED else "own",
                    "remark": REMARKS.get((table, method, str(column))),
                })  # fmt: skip
    return pd.DataFrame(lines).astype({"z below GADAM": float})


def attainable(percent: float, rows: int) -> bool:
    """Whether some number of right answers among so many rows rounds to an accuracy printed with two decimals."""
    nearest = 100 * round(percent / 100 * rows) / rows
    return abs(nearest - percent) <= 0.005 + 1e-9


def fewest_runs(percent: float, rows: int) -> int:
    """The fewest runs whose mean accuracy can round to an accuracy."""
    return next(runs for runs in range(1, 10_001) if attainable(percent, runs * rows))


def common_test_sizes(percents: list[float], largest: int) -> list[int]:
    """The numbers of test rows with which one run each can give all of these accuracies."""
    return [rows for rows in range(1, largest + 1) if all(attainable(percent, rows) for percent in percents)]


def difference_test(first: float, second: float, rows: int) -> float:
    """The z of two accuracies in percent on so many test rows each, as if independent; 1.96 is the 5 % level."""
    pooled = (first + second) / 200
    error = math.sqrt(2 * pooled * (1 - pooled) / rows)
    return (first - second) / 100 / error
