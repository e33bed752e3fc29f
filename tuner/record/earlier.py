"""Trials of another search, as a warm start reads them from its record or from MLflow."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from tuner.experiment.objective import TOP1, Objective
from tuner.record.events import TrialState, trial_id
from tuner.record.scores import FoldScore, RungScore


@dataclass(frozen=True)
class ObservedTrial:
    """Trial of another search, from its record or from MLflow. `config` is its whole TrialConfig by dotted path."""

    number: int
    config: dict[str, Any]
    state: TrialState
    reason: str = ""
    folds: tuple[FoldScore, ...] = ()
    rungs: tuple[RungScore, ...] = ()

    @property
    def trial_id(self) -> str:
        """Name of the trial in its search."""
        return trial_id(self.number)

    def knows(self, objective: Objective) -> bool:
        """Whether every score of the trial is recorded in the metric of `objective`."""
        return all(map(objective.is_known, (*self.folds, *self.rungs)))

    def score(self, objective: Objective) -> float | None:
        """Mean score of a complete trial, by top-1 if `objective` is not recorded; None for any other."""
        if self.state != "complete":
            return None
        return fmean((objective if self.knows(objective) else TOP1).scores(self.folds))


@dataclass(frozen=True)
class EarlierSearch:
    """Another search, as input of a warm start. `num_folds` are those of a whole trial, `folds_per_deal` those into
    which the examples were dealt each time, `keep` says which weights were scored, and `data` is the fingerprint of the
    examples; None if it is not recorded."""

    label: str
    num_folds: int | None
    trials: tuple[ObservedTrial, ...]
    folds_per_deal: int | None = None
    keep: Literal["last", "best"] | None = None
    data: str | None = None
