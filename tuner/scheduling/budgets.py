"""Budgets of a search: pure functions over its history. Where one is spent, no new trial starts."""

from __future__ import annotations

from collections.abc import Iterable

from tuner.experiment.settings import Plateau, SearchSettings
from tuner.record.history import SearchHistory, TrialRecord


def why_enough(settings: SearchSettings, num_trials: int, history: SearchHistory, elapsed_s: float) -> str | None:
    """Why no new trial starts now, of several reasons the first; None where one may.

    `elapsed_s` counts from the start of this command's trials: a search that goes on with `--resume` has the whole
    `timeout_s` again.
    """
    if len(history.trials) >= num_trials:
        return f"all {num_trials} trials have ended" if num_trials > 1 else "the only trial has ended"
    ended = (history.trials[number] for number in history.ended_trials)
    return why_no_time(settings, elapsed_s) or why_no_folds(settings, history) or why_plateau(settings.plateau, ended)


def why_no_time(settings: SearchSettings, elapsed_s: float) -> str | None:
    """Running trials, too, stop then, after the fold that they are at."""
    if settings.timeout_s is None or elapsed_s < settings.timeout_s:
        return None
    return f"search.timeout_s = {settings.timeout_s:g} is spent"


def why_no_folds(settings: SearchSettings, history: SearchHistory) -> str | None:
    """A trial starts only where the budget of fold trainings pays for all of its folds, those still owed to running
    trials set aside: so it is never exceeded, and no trial is left half done. What is stopped early makes room."""
    budget, folds = settings.max_fold_trainings, settings.folds
    if budget is None:
        return None
    taken = sum(folds if t.state == "running" else t.num_trained for t in history.trials.values())
    if taken + folds <= budget:
        return None
    return f"search.max_fold_trainings = {budget} is spent: {taken:g} are trained, and a trial takes up to {folds}"


def why_plateau(plateau: Plateau | None, ended: Iterable[TrialRecord]) -> str | None:
    """Trials that failed say nothing of the search, and are not counted; nor are those before the first complete one,
    where there is nothing to rise from. `ended` are in the order in which they ended."""
    if plateau is None:
        return None
    best, without_gain = None, 0
    for trial in ended:
        score = trial.val_top1
        if score is not None and (best is None or score > best + plateau.min_gain):
            best, without_gain = score, 0
        elif trial.state != "failed" and best is not None:
            without_gain += 1
    if without_gain < plateau.trials:
        return None
    return f"no gain above {plateau.min_gain:g} in {without_gain} trials (search.plateau)"
