"""Events of a comparison."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from trainables.results import RetrainResult
from tuner.experiment.objective import ObjectiveName
from tuner.record.timed import Outcome, Params, Timed


class ComparisonStarted(Timed):
    """Start of a command's work on the comparison; `space` is all of it as plain data, as in `space.yaml`."""

    event: Literal["comparison_started"] = "comparison_started"
    name: str
    run: str
    space: dict[str, Any]


class ComparisonEnded(Timed):
    """End of a command's work on the comparison. `why` is the reason."""

    event: Literal["comparison_ended"] = "comparison_ended"
    outcome: Outcome
    why: str
    duration_s: float | None = None


class RowSearched(Timed):
    """Choice of a row's own search, by validation: `trial`, or None if no trial was complete.

    `objective` is the metric by which it was chosen, `val_objective` its mean over the trial's folds.
    """

    event: Literal["row_searched"] = "row_searched"
    row: str
    column: str
    trial: int | None = None
    params: Params = Field(default_factory=dict)
    val_top1: float | None = None
    objective: ObjectiveName = "top1"
    val_objective: float | None = None


class CellFinished(Timed):
    """Training of a row in a column with a seed. `measures` are `<name>_train` and `<name>_test`."""

    event: Literal["cell_finished"] = "cell_finished"
    row: str
    column: str
    seed: int
    config: dict[str, Any]
    """Every leaf of its TrialConfig, by dotted path."""
    result: RetrainResult
    measures: dict[str, float] = Field(default_factory=dict)


class CellFailed(Timed):
    """Training of a comparison that has no score. It is repeated on `--resume`, unless it diverged."""

    event: Literal["cell_failed"] = "cell_failed"
    row: str
    column: str
    seed: int
    config: dict[str, Any]
    reason: str
    diverged: bool
