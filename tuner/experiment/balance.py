"""Number of training examples of each class, and what to do where they are very unequal."""

from __future__ import annotations

from collections.abc import Iterator

from trainables.data.loading import DataSummary
from tuner.experiment.checks import Plan

UNEQUAL = 5
"""Ratio of the largest class to the smallest above which their sizes are said to be very unequal."""


def class_counts_in_words(data: DataSummary) -> str:
    """Says how many training examples a class has.

    >>> class_counts_in_words(DataSummary(("ape", "bee"), (30, 30), (10, 10)))
    '30 training examples in each class'
    >>> class_counts_in_words(DataSummary(("ape", "bee"), (30, 5), (10, 10)))
    'from 5 (bee) to 30 (ape) training examples in a class'
    """
    by_count = sorted(zip(data.train_per_class, data.class_names, strict=True))
    (least, smallest), (most, largest) = by_count[0], by_count[-1]
    if least == most:
        return f"{most} training examples in each class"
    return f"from {least} ({smallest}) to {most} ({largest}) training examples in a class"


def balance_notes(plan: Plan) -> Iterator[str]:
    """Yields a line where classes are very unequal and top-1 is what counts: which settings treat all of them alike."""
    counts, space = plan.data.train_per_class, plan.space
    if max(counts) <= UNEQUAL * max(1, min(counts)):
        return
    advice = ["search.objective: balanced_accuracy"] if space.search.objective == "top1" else []
    weights = next(space.boundary_configs()).training.class_weights
    searched = {space.branches.path_of(key) for key in space.dimensions}
    if weights == "none" and "training.class_weights" not in searched:
        advice.append("training.class_weights: balanced")
    if advice:
        sizes = class_counts_in_words(plan.data)
        yield f"classes are very unequal ({sizes}): {' and '.join(advice)} count all of them alike"
