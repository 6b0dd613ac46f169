"""A claim of the paper: what it says, which runs decide it, and the rule that is applied to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, NamedTuple

from gadam.paper import verdicts
from gadam.paper.runs import Run
from gadam.paper.statistics import LEVEL, bonferroni
from gadam.paper.verdicts import OPEN, QUOTED, UNDECIDED, Evidence, Verdict

Kind = Literal["greater", "value", "reaches", "falls_to", "within", "always", "varies", "weakest", "open"]


class Reduced(NamedTuple):
    """Numbers at a reduced budget, and those of the same runs at no more than half of it, which give the trend."""

    now: Evidence
    before: Evidence
    share_before: float


class Smaller(NamedTuple):
    """Numbers of a reduced problem (fewer pixels), and those of one half as large."""

    now: Evidence
    half: Evidence


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim of the paper.

    Attributes:
        text: what is claimed, with the numbers in it.
        exhibit: the table or figure that shows it, whose section makes the claim.
        kind: the rule of `gadam.paper.verdicts` that judges it.
        evidence: gives the numbers: `Evidence`, `Reduced` or `Smaller`; (violations, trials) for "always"; (ours, the
            other's) for "varies"; several `Evidence` for "weakest"; (ours, low, high, what the interval is) for "open".
            Called only once all runs of `arms` are there.
        arms: of runs, see `gadam.paper.runs.Run.arm`.
        paper: its number; or what it says, in a word.
        margin: m, the difference that matters least.
        size: d, the paper's own difference, where it states one.
        budget: b, the share of the paper's training, trees or images that was spent; at 1 all of it.
        item: the number of Tables 1, 3 and 4 that it is about: "table4/MLP (GADAM)/yeast".
        headline: a key of `HEADLINES`, if it is the one contrast that answers that question.
        quoted: the paper quotes the number from others, and we run the method reduced.
        data: where the numbers come from: "real", "stand-in" or "none".
        repetitions: what is shown as seeds, where they are no runs: "10 repeats"; else the runs of `arms` are counted.
    """

    text: str
    exhibit: str
    kind: Kind
    evidence: Callable[[], Any]
    arms: Sequence[str]
    paper: float | str | None = None
    margin: float | None = None
    size: float | None = None
    budget: float = 1.0
    item: str = ""
    headline: str = ""
    quoted: bool = False
    data: str = "real"
    repetitions: str = ""


OURS = "no claim: our control"
"""What stands as the paper's number in a claim that the paper does not make."""
HEADLINES = {
    "mnist": "Is LeNet-5 by GADAM more accurate than by Adam, as published?",
    "yeast": "Is the MLP for YEAST by GADAM more accurate than by Adam, as published?",
    "adult": "Is the MLP for ADULT by GADAM more accurate than by Adam, as published?",
    "letter": "Is the MLP for LETTER by GADAM more accurate than by Adam, as published?",
    "orl": "Is the CNN for ORL (7 images) by GADAM more accurate than by Adam, as published?",
    "mnist, equal compute": "Is it more accurate than the best of ten Adam runs at equal compute, on MNIST?",
    "yeast, equal compute": "… on YEAST?",
    "adult, equal compute": "… on ADULT?",
    "letter, equal compute": "… on LETTER?",
    "orl, equal compute": "… on ORL (7 images)?",
    "convergence": "Do GADAM's units converge faster than the same ten units by Adam alone?",
    "variation": "Does Adam vary more from one initialisation to the next than GADAM?",
    "generations": "Do the generations improve the children?",
    "population": "Does a larger population bring a better unit?",
    "threads": "Does every thread up to the number of cores make a generation faster?",
    "theorem": "Does the loss of a generation keep falling, each on a new batch (on a fixed one it does; Theorem 1)?",
}
"""The questions that the report opens with, one primary contrast each. Their intervals hold together."""


class Arms(dict[str, tuple[int, int]]):
    """How many runs of each arm are there, and how many are planned."""

    @classmethod
    def of(cls, runs: Iterable[Run], there: Callable[[Run], bool] = lambda run: True) -> Arms:
        """Count available and planned runs of each arm, each once; `there` tells whether a run is available."""
        arms = cls()
        for run in {run.key: run for run in runs}.values():
            found, planned = arms.get(run.arm, (0, 0))
            arms[run.arm] = found + there(run), planned + 1
        return arms

    def complete(self, *names: str) -> bool:
        """Tell whether all planned runs of these arms are there, and any are planned."""
        return all(self.get(name, (0, 0))[0] == self.get(name, (0, 1))[1] for name in names)

    def count(self, *names: str) -> str:
        """Say the runs of the arm that has the fewest: "20", or "3 of 20" where some are missing.

        An arm of a single run stands for every seed of the others.
        """
        counts = [self.get(name, (0, 0)) for name in names] or [(0, 0)]
        counts = [one for one in counts if one != (1, 1)] or counts
        found, planned = min(counts, key=lambda one: (one[0] == one[1], one[0]))
        return str(found) if found == planned else f"{found} of {planned}"


def judge(claim: Claim, arms: Arms, profile: str, level: float = LEVEL) -> Verdict:
    """Apply the rules to a claim, for the runs that are there."""
    if claim.data == "stand-in":
        return Verdict(UNDECIDED, "stand-in data")
    for name in claim.arms:
        if not arms.complete(name):
            return Verdict(UNDECIDED, "not computed", decides=f"{arms.count(name)} runs of {name} are there")
    found = _verdict(claim, level)
    if claim.quoted and claim.budget < 1:
        return found.marked(QUOTED)
    return found.marked(UNDECIDED, "profile smoke") if profile == "smoke" else found


def judge_headline(claim: Claim, arms: Arms, profile: str) -> Verdict:
    """Judge a claim with an interval that holds together with those of the other headlines."""
    return judge(claim, arms, profile, bonferroni(LEVEL, len(HEADLINES)))


def _verdict(claim: Claim, level: float) -> Verdict:
    found = claim.evidence()
    if claim.kind == "open":
        return Verdict(OPEN, "", *found)
    if claim.kind == "always":
        return verdicts.always(*found, level=level)
    if claim.kind == "varies":
        return verdicts.at_budget(lambda both: verdicts.varies_more(*both, level=level), found, share=claim.budget)
    if claim.kind == "weakest":
        return verdicts.at_budget(partial(verdicts.weakest, level=level), found, share=claim.budget)
    stated: dict[str, Any] = {"margin": claim.margin}
    if claim.kind == "greater":
        stated |= {"size": claim.size, "level": level}
    elif claim.kind != "within":
        stated["paper"] = claim.paper
    rule = partial(getattr(verdicts, claim.kind), **stated)
    now: Evidence = found if isinstance(found, Evidence) else found.now
    if isinstance(found, Smaller):
        verdict = verdicts.at_half(rule, now.apart(), found.half.apart())
    elif isinstance(found, Reduced):
        looks = {"share": claim.budget, "share_before": found.share_before, "margin": claim.margin or 0}
        verdict = verdicts.at_budget(rule, now.apart(), found.before.apart(now), **looks)
    else:
        verdict = verdicts.at_budget(rule, now.apart(), share=claim.budget)
    if count := len(now.collapsed) + len(now.others_collapsed):
        told = f"without {count} run{'s' * (count > 1)} that collapsed"
        return replace(verdict, decides=f"{verdict.decides}; {told}" if verdict.decides else told)
    return verdict


def own(values: Iterable[float], rows: int, dataset: str) -> Evidence:
    """Gather accuracies of a method in percent, over so many test rows of a dataset."""
    values = tuple(values)
    return Evidence(values, None, rows, verdicts.collapsed(values, dataset))


def unpaired(ours: Iterable[float], theirs: Iterable[float], rows: int, dataset: str) -> Evidence:
    """Gather accuracies of two methods whose runs share nothing."""
    first, second = own(ours, rows, dataset), own(theirs, rows, dataset)
    return Evidence(first.values, second.values, rows, first.collapsed, second.collapsed)


def paired(
    ours: Mapping[Any, float], theirs: Mapping[Any, float], rows: int | None = None, dataset: str = ""
) -> Evidence:
    """Subtract by seed, for the seeds that both have, in the order of ours.

    With `rows` and `dataset`, of accuracies in percent: where one of the two collapsed the difference counts apart.
    """
    seeds = [seed for seed in ours if seed in theirs]
    first, second = [ours[seed] for seed in seeds], [theirs[seed] for seed in seeds]
    apart = verdicts.collapsed(first, dataset) | verdicts.collapsed(second, dataset) if dataset else frozenset()
    return Evidence(tuple(one - other for one, other in zip(first, second, strict=True)), None, rows, apart)
