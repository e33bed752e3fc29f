"""Scores of what is validated fold by fold, a trial or a baseline, in the objective of its search."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Protocol

from trainables.results import FoldResult
from tuner.experiment.objective import Objective, mean_kept_share, mean_metrics


class Validated(Protocol):
    """Record of a trial or a baseline: the results of its folds so far, in order, and its state."""

    @property
    def folds(self) -> Sequence[FoldResult]: ...
    @property
    def objective(self) -> Objective: ...
    @property
    def state(self) -> str: ...
    @property
    def score(self) -> float | None: ...
    @property
    def fold_scores(self) -> list[float]: ...
    @property
    def metrics(self) -> dict[str, float]: ...


class ScoredFolds:
    """Scores of a record. Means are of a complete one alone: those of others are over other folds."""

    @property
    def fold_scores(self: Validated) -> list[float]:
        """Scores of the folds so far, in the order of their numbers: the larger, the better."""
        return self.objective.scores(self.folds)

    @property
    def fold_values(self: Validated) -> list[float]:
        """Values of the objective in the folds so far, as they are displayed, in the order of their numbers."""
        return self.objective.values(self.folds)

    @property
    def kept_share(self: Validated) -> float:
        """Mean share of their steps after which the folds so far were scored: 1 where the last weights were."""
        return mean_kept_share(self.folds)

    @property
    def score(self: Validated) -> float | None:
        """Mean score of a complete record; None for any other."""
        return fmean(self.fold_scores) if self.state == "complete" else None

    @property
    def value(self: Validated) -> float | None:
        """Mean value of the objective of a complete record, as it is displayed; None for any other."""
        return None if self.score is None else self.objective.value_of(self.score)

    @property
    def metrics(self: Validated) -> dict[str, float]:
        """Mean of each metric over the folds of a complete record; {} for any other."""
        return mean_metrics(self.folds) if self.state == "complete" else {}

    @property
    def val_top1(self: Validated) -> float | None:
        """Mean validation top-1 in [0, 1] of a complete record; None for any other."""
        return self.metrics.get("top1")
