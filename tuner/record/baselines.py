"""Baselines of a search: their state after the events so far. Like trials, they hold no test scores."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from trainables.results import FoldResult
from tuner.experiment.objective import TOP1, Objective
from tuner.experiment.settings import Baseline
from tuner.record.events import BaselineFailed, BaselineFoldFinished, BaselineStarted
from tuner.record.scored_folds import ScoredFolds

BaselineState = Literal["running", "complete", "failed"]

LABELS: dict[Baseline, str] = {"linear_probe": "linear probe", "fine_tuning": "fine-tuning"}
"""Names of the baselines in messages."""

SEEDLESS: tuple[Baseline, ...] = ("linear_probe",)
"""Baselines whose training is the same for every seed: one retraining stands for all."""


@dataclass
class BaselineRecord(ScoredFolds):
    """State of one baseline.

    `config` is every leaf of its TrialConfig by dotted path, empty if it could not be built. `results` are those of its
    folds by number, in the order in which they ended. `reason` says why it failed. Scores are those of the search's
    `objective`.
    """

    name: Baseline
    config: dict[str, Any] = field(default_factory=dict)
    num_folds: int = 0
    started_s: float = 0.0
    ended_s: float | None = None
    reason: str = ""
    results: dict[int, FoldResult] = field(default_factory=dict)
    objective: Objective = TOP1

    @property
    def key(self) -> Baseline:
        """Its name: what `SearchHistory.retrainings` and `model_uri` are asked by."""
        return self.name

    @property
    def label(self) -> str:
        """Name in messages: `linear probe`."""
        return LABELS[self.name]

    @property
    def state(self) -> BaselineState:
        """Whether every fold is scored, some are missing, or none will follow."""
        if self.reason:
            return "failed"
        return "complete" if self.results and len(self.results) >= self.num_folds else "running"

    @property
    def folds(self) -> list[FoldResult]:
        """Results of the folds so far, in the order of their numbers."""
        return [result for _, result in sorted(self.results.items())]

    @property
    def missing_folds(self) -> list[int]:
        """Numbers of the folds that are still to be trained."""
        return [] if self.reason else [k for k in range(1, self.num_folds + 1) if k not in self.results]


def apply_to_baseline(
    baselines: dict[Baseline, BaselineRecord],
    event: BaselineStarted | BaselineFoldFinished | BaselineFailed,
    objective: Objective = TOP1,
) -> None:
    """Updates the record of the event's baseline in `baselines`, which is made with `objective` if there is none."""
    new = BaselineRecord(event.baseline, started_s=event.time_s, objective=objective)
    record = baselines.setdefault(event.baseline, new)
    match event:
        case BaselineStarted():
            record.config, record.num_folds, record.started_s = event.config, event.num_folds, event.time_s
        case BaselineFoldFinished():
            record.results[event.result.fold] = event.result
            record.ended_s = event.time_s
        case BaselineFailed():
            record.reason, record.ended_s = event.reason, event.time_s
