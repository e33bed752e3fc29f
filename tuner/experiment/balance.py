"""Advice where the numbers of training examples of the classes are very unequal."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from tuner.experiment.checks import Plan
from tuner.experiment.search_experiment import SearchExperiment

UNEQUAL = 5
"""Ratio of the largest class to the smallest above which their sizes are said to be very unequal."""


def are_unequal(counts: Collection[int]) -> bool:
    """Whether the numbers of training examples of the classes are very unequal."""
    return bool(counts) and max(counts) > UNEQUAL * max(1, min(counts))


def balance_notes(plan: Plan) -> Iterator[str]:
    """Yields a line where classes are very unequal and top-1 is what counts: which settings treat all of them alike."""
    if are_unequal(plan.data.train_per_class) and (advice := balance_advice(plan.space)):
        yield f"the classes are very unequal: {advice}"


def balance_advice(space: SearchExperiment) -> str:
    """Says which settings treat all classes alike; "" where the experiment has them."""
    advice = ["search.objective: balanced_accuracy"] if space.search.objective == "top1" else []
    weights = next(space.boundary_configs()).training.class_weights
    searched = {space.branches.path_of(key) for key in space.dimensions}
    if weights == "none" and "training.class_weights" not in searched:
        advice.append("training.class_weights: balanced")
    return f"{' and '.join(advice)} count all of them alike" if advice else ""
