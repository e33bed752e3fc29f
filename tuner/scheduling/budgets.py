"""Budgets of a search: pure functions over its history. Once one is spent, no new trial starts."""

from __future__ import annotations

from collections.abc import Iterable

from tuner.experiment.settings import Plateau, SearchSettings
from tuner.record.history import SearchHistory, TrialRecord


def spent_budget(
    settings: SearchSettings, num_trials: int | None, history: SearchHistory, elapsed_s: float
) -> str | None:
    """Returns the reason why no new trial starts, of several the first; None if one may start.

    `elapsed_s` counts from the start of this command's trials: a resumed search has the whole `timeout_s` again.
    """
    if num_trials is not None and len(history.trials) >= num_trials:
        return f"all {num_trials} trials have ended" if num_trials > 1 else "the only trial has ended"
    ended = (history.trials[number] for number in history.ended_trials)
    return (
        spent_time(settings, elapsed_s)
        or spent_fold_trainings(settings, history)
        or reached_plateau(settings.plateau, ended)
    )


def spent_time(settings: SearchSettings, elapsed_s: float) -> str | None:
    """Returns the reason if `search.timeout_s` has elapsed. Running trials then stop after their current fold."""
    if settings.timeout_s is None or elapsed_s < settings.timeout_s:
        return None
    return f"search.timeout_s = {settings.timeout_s:g} is spent"


def spent_fold_trainings(settings: SearchSettings, history: SearchHistory) -> str | None:
    """Returns the reason if `search.max_fold_trainings` does not suffice for all folds of one more trial.

    Running trials count with all of their folds, so that the budget is never exceeded and no trial remains incomplete;
    a trial that was stopped early, and a baseline, counts with the folds that it trained.
    """
    budget = settings.max_fold_trainings
    if budget is None:
        return None
    folds = settings.num_trial_folds
    taken = sum(folds if t.state == "running" else t.num_trained for t in history.trials.values())
    taken += history.num_baseline_folds
    if taken + folds <= budget:
        return None
    return f"search.max_fold_trainings = {budget} is spent: {taken:g} are trained, and a trial takes up to {folds}"


def reached_plateau(plateau: Plateau | None, ended: Iterable[TrialRecord]) -> str | None:
    """Returns the reason if the best score has not improved in the last `plateau.trials` trials.

    Failed trials, and those before the first complete one, are not counted. `ended` are in the order of their ends.
    """
    if plateau is None:
        return None
    best, without_gain = None, 0
    for trial in ended:
        score = trial.score
        if score is not None and (best is None or score > best + plateau.min_gain):
            best, without_gain = score, 0
        elif trial.state != "failed" and best is not None:
            without_gain += 1
    if without_gain < plateau.trials:
        return None
    return f"no gain above {plateau.min_gain:g} in {without_gain} trials (search.plateau)"
