"""State of one trial of a search."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from trainables.results import FoldResult
from tuner.experiment.objective import TOP1, Objective, mean_kept_share, mean_metrics
from tuner.record.events import Params, TrialState, trial_id
from tuner.record.scores import RungScore


@dataclass
class TrialRecord:
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
    def fold_scores(self) -> list[float]:
        """Scores of the folds finished so far: the larger, the better."""
        return self.objective.scores(self.folds)

    @property
    def fold_values(self) -> list[float]:
        """Values of the objective in the folds finished so far, as they are displayed."""
        return self.objective.values(self.folds)

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
    def kept_share(self) -> float:
        """Mean share of their steps after which the folds so far were scored: 1 where the last weights were."""
        return mean_kept_share(self.folds)

    @property
    def score(self) -> float | None:
        """Mean score of a complete trial; None for any other, as its mean is not comparable."""
        if self.state != "complete":
            return None
        if self._score is None:  # read for every trial after every trial, to find the best
            self._score = fmean(self.fold_scores)
        return self._score

    @property
    def value(self) -> float | None:
        """Mean value of the objective of a complete trial, as it is displayed; None for any other."""
        return None if self.score is None else self.objective.value_of(self.score)

    @property
    def metrics(self) -> dict[str, float]:
        """Mean of each metric over the folds of a complete trial; {} for any other."""
        return mean_metrics(self.folds) if self.state == "complete" else {}

    @property
    def val_top1(self) -> float | None:
        """Mean validation top-1 in [0, 1] of a complete trial; None for any other."""
        return self.metrics.get("top1")
