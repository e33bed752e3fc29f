"""Which trial wins: pure functions over records of the search. They have no way to a test score, and must have none."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean, stdev

from tuner.record.history import TrialRecord


def best_trial(trials: Iterable[TrialRecord]) -> TrialRecord | None:
    """The fully evaluated trial of the highest mean validation top-1; of equals, the earliest. None where there is
    none."""
    complete = [trial for trial in trials if trial.state == "complete"]
    return max(complete, key=lambda trial: (trial.val_top1 or 0.0, -trial.number), default=None)


def mean_and_sd(scores: Iterable[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation; None for the latter of a single score."""
    scores = list(scores)
    return fmean(scores), stdev(scores) if len(scores) > 1 else None
