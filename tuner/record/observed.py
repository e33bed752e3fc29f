"""Trials of another search, from its record or from MLflow: the input of a warm start."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import Any

from tuner.record.events import FoldScore, RungScore, TrialState, trial_id


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

    @property
    def val_top1(self) -> float | None:
        """Mean validation top-1 of a complete trial; None for any other."""
        return fmean(fold.val_top1 for fold in self.folds) if self.state == "complete" else None


@dataclass(frozen=True)
class EarlierSearch:
    """Another search, as input of a warm start. `num_folds` are those of a whole trial, `folds_per_deal` those into
    which the examples were dealt each time, and `data` is the fingerprint of these; None if it is not recorded."""

    label: str
    num_folds: int | None
    trials: tuple[ObservedTrial, ...]
    folds_per_deal: int | None = None
    data: str | None = None
