"""Budgets of a search: pure functions over its history. Once one is spent, no new trial starts."""

from __future__ import annotations

from dataclasses import dataclass

from tuner.experiment.settings import Plateau, SearchSettings
from tuner.record.history import SearchHistory


@dataclass
class PlateauProgress:
    """Number of trials without a gain since the best score, over the ended trials in the order of their ends.

    Failed trials, and those before the first complete one, are not counted. Each trial is looked at once.
    """

    plateau: Plateau
    num_without_gain: int = 0
    _best: float | None = None
    _num_seen: int = 0

    def update(self, history: SearchHistory) -> None:
        """Counts the trials that have ended since the last update."""
        for number in history.ended_trials[self._num_seen :]:
            self._num_seen += 1
            trial = history.trials[number]
            score = trial.score
            if score is not None and (self._best is None or score > self._best + self.plateau.min_gain):
                self._best, self.num_without_gain = score, 0
            elif trial.state != "failed" and self._best is not None:
                self.num_without_gain += 1

    @property
    def reached(self) -> str | None:
        """Reason if the best score has not improved in the last `plateau.trials` trials."""
        if self.num_without_gain < self.plateau.trials:
            return None
        return f"no gain above {self.plateau.min_gain:g} in {self.num_without_gain} trials (search.plateau)"


def spent_budget(
    settings: SearchSettings,
    num_trials: int | None,
    history: SearchHistory,
    elapsed_s: float,
    plateau: PlateauProgress | None = None,
) -> str | None:
    """Returns the reason why no new trial starts, of several the first; None if one may start.

    `plateau` is the progress towards `search.plateau`, up to date, None without one. `elapsed_s` counts from the start
    of this command's trials: a resumed search has the whole `timeout_s` again.
    """
    if num_trials is not None and len(history.trials) >= num_trials:
        return f"all {num_trials} trials have ended" if num_trials > 1 else "the only trial has ended"
    return (
        spent_time(settings, elapsed_s)
        or spent_fold_trainings(settings, history)
        or (None if plateau is None else plateau.reached)
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
    taken = folds * history.count("running") + history.totals.num_trained + history.num_baseline_folds
    if taken + folds <= budget:
        return None
    return f"search.max_fold_trainings = {budget} is spent: {taken:g} are trained, and a trial takes up to {folds}"
