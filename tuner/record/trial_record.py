"""State of a trial after the events of its journal so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from trainables.results import FoldResult
from tuner.experiment.objective import TOP1, Objective
from tuner.record.events import Params, TrialState, trial_id
from tuner.record.scored_folds import ScoredFolds
from tuner.record.scores import RungScore


@dataclass
class TrialRecord(ScoredFolds):
    """State of one trial.

    `params` are the searched dimensions by dotted path; `folds` the results in order; `rungs` the scores in the middle
    of a fold. `ahead` are results, by fold, of folds trained before an earlier one had ended; no stopping rule may use
    them yet. `discarded` are the numbers of the folds that were ahead or in training when the trial ended. Scores are
    those of the search's `objective`.
    """

    number: int
    params: Params
    started_s: float
    attrs: dict[str, Any] = field(default_factory=dict)
    state: TrialState = "running"
    reason: str = ""
    folds: list[FoldResult] = field(default_factory=list)
    ended_s: float | None = None
    source: str = ""
    rungs: list[RungScore] = field(default_factory=list)
    ahead: dict[int, FoldResult] = field(default_factory=dict)
    discarded: tuple[int, ...] = ()
    objective: Objective = TOP1
    _score: float | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def key(self) -> int:
        """Its number: what `SearchHistory.retrainings` and `model_uri` are asked by."""
        return self.number

    @property
    def trial_id(self) -> str:
        """Name of the trial in MLflow and on the screen."""
        return trial_id(self.number)

    @property
    def num_trained(self) -> float:
        """Number of fold trainings that the trial took, discarded ones included.

        A fold that was stopped at a rung counts as the share up to that rung.
        """
        shares = [rung.share for rung in self.rungs if rung.fold > len(self.folds)]
        return len(self.folds) + len(self.ahead) + len(self.discarded) + max(shares, default=0.0)

    @property
    def training_duration_s(self) -> float:
        """Training time of the folds finished so far, in seconds."""
        return sum(fold.duration_s for fold in self.folds)

    @property
    def score(self) -> float | None:
        """Mean score of a complete trial; None for any other, as its mean is not comparable."""
        if self.state != "complete":
            return None
        if self._score is None:  # read for every trial after every trial, to find the best
            self._score = fmean(self.fold_scores)
        return self._score
