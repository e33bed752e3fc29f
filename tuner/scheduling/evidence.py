"""Trials as evidence for a sampler: those of earlier searches, and those that are not complete."""

from __future__ import annotations

from statistics import fmean

from trainables.results import FoldResult
from tuner.experiment.objective import TOP1, Objective
from tuner.record.events import EarlierTrial
from tuner.record.history import TrialRecord

STEPS = 1000
"""Length of a trial in Optuna's steps, a common scale of rungs and folds: one fold of three is 333 steps."""


def intermediate_values(record: TrialRecord, num_folds: int) -> dict[int, float]:
    """Scores of an incomplete trial for Optuna, by step (see `STEPS`); the larger, the better.

    At a rung it is the score there, after a fold the mean of the folds so far.
    """
    scores = record.fold_scores
    at_rungs = {(rung.fold - 1 + rung.share) / num_folds: record.objective.score(rung) for rung in record.rungs}
    means = {count / num_folds: fmean(scores[:count]) for count in range(1, len(scores) + 1)}
    return {round(STEPS * share): score for share, score in sorted((at_rungs | means).items())}


def earlier_record(trial: EarlierTrial, objective: Objective = TOP1) -> TrialRecord:
    """Converts a trial of an earlier search to a record, with -1 as its number, scored by `objective`."""
    folds = [FoldResult(fold.fold, fold.val_top1, 0.0, metrics=fold.metrics) for fold in trial.folds]
    rungs = list(trial.rungs)
    return TrialRecord(-1, trial.params, 0.0, state=trial.state, folds=folds, rungs=rungs, objective=objective)
