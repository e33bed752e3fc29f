"""Budget `search.minutes`: what fits into the wall clock of a command. Pure functions over a search's history.

The end of a search is estimated as the time that has passed, the folds that are still to be trained, and then the
retraining and the registration. A trial starts, or goes on to its next fold, only where that end is within the budget.
Before the first fold the estimate is from timed steps; from then on it is from the folds of this search.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Self

from trainables.errors import BadInput, Problem
from trainables.training.curve import MAX_POINTS
from tuner.experiment.checks import Plan
from tuner.experiment.timing import StepTimes
from tuner.messages.wording import clock, counted
from tuner.record.history import SearchHistory, TrialRecord

CLOSING_S = 10.0
"""Estimate of what follows the retraining: registration, report, and the synchronisation with MLflow."""

MIN_TRIALS_SHARE = 0.4
"""Share of the minutes below which baselines and retrainings give way to the trials."""


@dataclass(frozen=True)
class TimeBudget:
    """Budget of a command, and what it has to do in it.

    `started_s` is the reading of the clock when the command began, `limit_s` the budget in seconds from then on. A
    whole trial has `num_folds` folds; `num_retrainings` follow the trials, and `num_baseline_folds` fold trainings
    precede them. `places` trainings run at once. `fold_s` and `retraining_s` are seconds of one training of either
    kind, as timed steps say.
    """

    started_s: float
    limit_s: float
    num_folds: int
    num_retrainings: int
    places: int
    fold_s: float
    retraining_s: float
    num_baseline_folds: int = 0
    max_trials: int | None = None
    """Number of trials after which the search ends anyway."""
    startup_s: float = 0.0
    """Seconds until new worker processes train, before the trials and before the retraining."""
    features_s: float = 0.0
    """Seconds in which the features of all examples are computed, for the linear probe, before the trials."""
    has_trials: bool = True
    """Whether there are trials at all: without them the linear probe is the result."""

    @classmethod
    def of(cls, plan: Plan, times: StepTimes, places: int, started_s: float, startup_s: float = 0.0) -> Self:
        """Makes the budget of a plan by its timed steps; without `search.minutes` it has no limit."""
        search, retrain = plan.space.search, plan.space.retrain
        has_fine_tuning = "fine_tuning" in search.baselines
        num_scored = plan.num_validated * (MAX_POINTS if search.keep == "best" else 1)
        num_probed = plan.data.num_train if "linear_probe" in search.baselines else 0
        return cls(
            started_s=started_s,
            limit_s=math.inf if search.minutes is None else 60 * search.minutes,
            num_folds=plan.num_trial_folds,
            num_retrainings=retrain.seeds * (2 if has_fine_tuning and retrain.baselines else 1),
            places=places,
            fold_s=times.training_s(plan.num_steps, num_scored),
            retraining_s=times.training_s(plan.num_retrain_steps, plan.data.num_test),
            num_baseline_folds=plan.num_trial_folds if has_fine_tuning else 0,
            max_trials=plan.num_trials,
            startup_s=startup_s,
            features_s=num_probed * times.example_s,
        )

    def forecast(self, passed_s: float) -> Forecast:
        """Forecasts the search after `passed_s` of the budget, by the timed steps alone.

        At least one trial is forecast, whose folds may be trained beside each other. Racing may let more of them fit.
        """
        before_s = self._before_s(passed_s)
        after_s = self.closing_s(self.retraining_s)
        if not self.has_trials:
            return Forecast(self, 0, before_s + after_s, 0.0)
        left_s = self.limit_s - before_s - after_s
        fitting = max(1, self.places * math.floor(left_s / (self.num_folds * self.fold_s)))
        needed_s = before_s + self.rounds_s(self.num_folds, self.fold_s) + after_s
        return Forecast(self, min(fitting, self.max_trials or fitting), needed_s, left_s)

    def whole_s(self, num_trials: int, passed_s: float = 0.0) -> float:
        """Seconds of a command with so many trials, each of which trains every fold, after `passed_s`."""
        before_s = self._before_s(passed_s)
        if self.places > num_trials:  # then folds of a trial are trained beside each other
            trials_s = self.rounds_s(num_trials * self.num_folds, self.fold_s)
        else:
            trials_s = self.rounds_s(num_trials, self.num_folds * self.fold_s)
        return before_s + trials_s + self.closing_s(self.retraining_s)

    def _before_s(self, passed_s: float) -> float:
        """Seconds from the beginning to the first trial, of which `passed_s` have passed."""
        return passed_s + self.startup_s + self.features_s + self.rounds_s(self.num_baseline_folds, self.fold_s)

    def closing_s(self, retraining_s: float) -> float:
        """Seconds from the last fold to the end of the command, if each retraining takes `retraining_s`."""
        retraining = self.startup_s + self.rounds_s(self.num_retrainings, retraining_s) if self.num_retrainings else 0.0
        return retraining + CLOSING_S

    def rounds_s(self, num_trainings: int, each_s: float) -> float:
        """Seconds of so many trainings, `places` at once; one after the other while all nodes of a cluster are lost."""
        return math.ceil(num_trainings / max(1, self.places)) * each_s


@dataclass(frozen=True)
class Forecast:
    """Forecast of a search within a budget: how many whole trials fit, the seconds that the baselines, one trial and
    the retraining need, and those that are left for the trials. Its text is a line of the plan."""

    budget: TimeBudget
    num_trials: int
    needed_s: float
    left_s: float

    @property
    def fits(self) -> bool:
        """Whether the budget suffices for the baselines, one trial and the retraining."""
        return self.needed_s <= self.budget.limit_s

    @property
    def has_time_for_trials(self) -> bool:
        """Whether it fits, and leaves the trials their share of the minutes."""
        return self.fits and self.left_s >= MIN_TRIALS_SHARE * self.budget.limit_s

    def check(self) -> None:
        """Raises BadInput if the budget does not suffice for the baselines, one trial and the retraining."""
        if not self.fits:
            minutes = math.ceil(self.needed_s / 6) / 10
            baselines = "the baselines, " if self.budget.num_baseline_folds else ""
            expected = f"at least {minutes:g} minutes for {baselines}{self.work}"
            raise BadInput(Problem("search.minutes", expected, f"{self.budget.limit_s / 60:g}"))

    @property
    def work(self) -> str:
        """The trials and the retraining, with the seconds of each training."""
        if not self.budget.has_trials:
            return "the linear probe alone, as there is no time for a trial"
        trials = counted(self.num_trials, "trial")
        work = f"{trials} of {self.budget.num_folds} folds ({_short(self.budget.fold_s)} a fold)"
        if self.budget.num_retrainings:
            each = _short(self.budget.retraining_s)
            work += f" and {counted(self.budget.num_retrainings, 'retraining')} ({each} each)"
        return work

    def __str__(self) -> str:
        return f"{self.budget.limit_s / 60:g} minutes: about {self.work}"


def too_late_for_trial(budget: TimeBudget, history: SearchHistory, now_s: float) -> str | None:
    """Returns the reason if a new trial would not leave the time for the retraining; None if it may start.

    A trial is expected to take as many folds as the ended ones did, on average: where racing stops many, one more fits
    sooner. As long as no trial is complete and none is running, one starts at any time within the budget, as the search
    would have no result without.
    """
    if not budget.has_trials:
        return f"search.minutes = {budget.limit_s / 60:g} is too short for a trial"
    if not history.count("complete") and not history.count("running"):
        ends_s = now_s
    else:
        ends_s = now_s + expected_folds(0, history.totals.lengths, budget.num_folds) * _fold_s(budget, history)
        ends_s += closing_s(budget, history)
    return None if ends_s <= budget.started_s + budget.limit_s else spent_reason(budget, history)


def fits_rest_of(trial: TrialRecord, budget: TimeBudget, history: SearchHistory, now_s: float) -> bool:
    """Whether the folds that a running trial is expected to take leave the time for the retraining.

    The running trial with most folds always fits as long as none is complete.
    """
    if not history.count("complete"):
        running = history.totals.running.values()
        if trial is max(running, key=lambda other: (len(other.folds), -other.number)):
            return True
    folds = expected_folds(len(trial.folds), history.totals.lengths, budget.num_folds)
    rest_s = folds * (mean_fold_s(budget, trial) if trial.folds else _fold_s(budget, history))
    return now_s + rest_s + closing_s(budget, history) <= budget.started_s + budget.limit_s


def expected_folds(trained: int, lengths: Mapping[float, int], num_folds: int) -> float:
    """Number of folds that a trial with `trained` folds is expected to take yet, of `num_folds`.

    `lengths` has the number of ended trials of each length, in folds: the mean rest of those that went as far.

    >>> lengths = {6: 1, 1: 2, 4: 1}
    >>> expected_folds(0, lengths, num_folds=6), expected_folds(1, lengths, num_folds=6)
    (3.0, 4.0)
    """
    longer = {length: count for length, count in lengths.items() if length > trained}
    if not longer:
        return num_folds - trained
    return sum((length - trained) * count for length, count in longer.items()) / sum(longer.values())


def mean_fold_s(budget: TimeBudget, trial: TrialRecord) -> float:
    """Mean duration of the folds of a trial, in seconds; that of the timed steps if it has none."""
    return fmean(fold.duration_s for fold in trial.folds) if trial.folds else budget.fold_s


def _fold_s(budget: TimeBudget, history: SearchHistory) -> float:
    """Mean duration of the folds of all trials, in seconds; that of the timed steps if there are none."""
    mean_s = history.totals.mean_fold_s
    return budget.fold_s if mean_s is None else mean_s


def closing_s(budget: TimeBudget, history: SearchHistory) -> float:
    """Seconds from the last fold to the end of the command: the retraining of the best trial so far, and the rest.

    A retraining takes longer than a fold of the same configuration by as much as the timed steps say.
    """
    return budget.closing_s(_retraining_s(budget, history))


def seeds_in_time(budget: TimeBudget, history: SearchHistory, planned: int, asked: int, now_s: float) -> int:
    """Number of retrainings of the best for which there is time when the trials have ended: at most those that were
    asked for, at least those that were planned.

    No trial starts that would not fit, so that up to a trial's time is left.
    """
    left_s = budget.started_s + budget.limit_s - now_s - budget.closing_s(0.0)
    num_rounds = max(0, math.floor(left_s / _retraining_s(budget, history)))
    return max(planned, min(asked, num_rounds * budget.places))


def _retraining_s(budget: TimeBudget, history: SearchHistory) -> float:
    """Seconds of one retraining of the best trial so far."""
    best = history.totals.best
    fold_s = _fold_s(budget, history) if best is None else mean_fold_s(budget, best)
    return fold_s * budget.retraining_s / budget.fold_s


def spent_reason(budget: TimeBudget, history: SearchHistory) -> str:
    """Reason of a search that starts no more trials for the sake of its end."""
    what = "retraining and report" if budget.num_retrainings else "report"
    kept = f"about {clock(closing_s(budget, history))} of it is for {what}"
    return f"search.minutes = {budget.limit_s / 60:g} is spent: {kept}"


def _short(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
