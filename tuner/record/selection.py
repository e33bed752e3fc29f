"""Selection of the best trial and of the winner: pure functions over records of the search, which hold no test
scores."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean, stdev

from tuner.record.baselines import BaselineRecord
from tuner.record.history import TrialRecord


def best_trial(trials: Iterable[TrialRecord]) -> TrialRecord | None:
    """Returns the complete trial with the highest mean score, of equals the earliest.

    Returns None if no trial is complete.
    """
    return next(iter(ranked(trials)), None)


def ranked(trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Lists the complete trials, that with the highest mean score first, of equals the earliest."""
    complete = [trial for trial in trials if trial.state == "complete"]
    return sorted(complete, key=lambda trial: (-(trial.score or 0.0), trial.number))  # complete: the score is known


def winner_of(
    trials: Iterable[TrialRecord], baselines: Iterable[BaselineRecord]
) -> TrialRecord | BaselineRecord | None:
    """Returns the best trial or the complete baseline with the highest mean score; of equals the trial.

    Its configuration is that of the registered model. Returns None if nothing is complete.
    """
    best = best_trial(trials)
    candidates: list[TrialRecord | BaselineRecord] = [] if best is None else [best]
    candidates += [baseline for baseline in baselines if baseline.state == "complete"]
    return max(candidates, key=lambda record: record.score or 0.0, default=None)  # of equals the first


def mean_and_sd(scores: Iterable[float]) -> tuple[float, float | None]:
    """Returns mean and sample standard deviation; the latter is None for a single score.

    >>> mean_and_sd([0.5])
    (0.5, None)
    """
    scores = list(scores)
    return fmean(scores), stdev(scores) if len(scores) > 1 else None
