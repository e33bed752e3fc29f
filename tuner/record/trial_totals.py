"""Running totals over the trials of a search, so that no event takes a look at all of them."""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import fmean

from trainables.results import FoldResult
from tuner.record.events import TrialState
from tuner.record.scores import RungScore
from tuner.record.trial_record import TrialRecord


class TrialTotals:
    """Counts, sums and sorted scores over the trials of a search; an event updates them in O(log n) comparisons.

    `running` holds the running trials by number, `ranked` the complete ones, that with the highest mean score first, of
    equals the earliest. `num_folds` folds took `folds_s` seconds together. `num_trained` is the number of fold
    trainings that the ended trials took; `lengths` counts those of them that are complete or pruned by it.

        totals = TrialTotals(history.trials.values())
        totals.counts["pruned"], totals.best
    """

    def __init__(self, trials: Iterable[TrialRecord] = ()) -> None:
        self.counts: Counter[TrialState] = Counter()
        self.running: dict[int, TrialRecord] = {}
        self.ranked: list[TrialRecord] = []
        self.num_folds = 0
        self.folds_s = 0.0
        self.num_trained = 0.0
        self.lengths: Counter[float] = Counter()
        self._means: dict[int, list[float]] = {}
        self._at_rungs: dict[float, list[float]] = {}
        for trial in trials:
            self._add(trial)

    @property
    def best(self) -> TrialRecord | None:
        """Complete trial with the highest mean score, of equals the earliest; None if no trial is complete."""
        return self.ranked[0] if self.ranked else None

    @property
    def mean_fold_s(self) -> float | None:
        """Mean duration of the folds of all trials, in seconds; None if there are none."""
        return self.folds_s / self.num_folds if self.num_folds else None

    def means_over(self, num_folds: int) -> Sequence[float]:
        """Mean scores of the complete trials over their first `num_folds` folds, in ascending order."""
        return self._means.get(num_folds, ())

    def scores_at_rung(self, share: float) -> Sequence[float]:
        """Scores of the trials at the rung after `share` of a fold, in ascending order."""
        return self._at_rungs.get(share, ())

    def start(self, trial: TrialRecord) -> None:
        """Counts a trial that has just started."""
        self.running[trial.number] = trial
        self.counts["running"] = len(self.running)

    def reach_rung(self, trial: TrialRecord, rung: RungScore) -> None:
        """Counts a score in the middle of a fold, which the trial has."""
        insort(self._at_rungs.setdefault(rung.share, []), trial.objective.score(rung))

    def finish_fold(self, result: FoldResult) -> None:
        """Counts the next fold of a running trial."""
        self.num_folds += 1
        self.folds_s += result.duration_s

    def end(self, trial: TrialRecord) -> None:
        """Counts the end of a trial, once, whose record has its state already."""
        if self.running.pop(trial.number, None) is None:
            return
        self.counts["running"] = len(self.running)
        self.counts[trial.state] += 1
        self.num_trained += trial.num_trained
        if trial.state in ("complete", "pruned"):
            self.lengths[trial.num_trained] += 1
        if trial.state == "complete" and trial.folds:
            insort(self.ranked, trial, key=lambda each: (-(each.score or 0.0), each.number))
            scores = trial.fold_scores
            for count in range(1, len(scores) + 1):
                insort(self._means.setdefault(count, []), fmean(scores[:count]))

    def _add(self, trial: TrialRecord) -> None:
        """Counts a trial of any state, event by event."""
        self.start(trial)
        for rung in trial.rungs:
            self.reach_rung(trial, rung)
        for result in trial.folds:
            self.finish_fold(result)
        if trial.state != "running":
            self.end(trial)
