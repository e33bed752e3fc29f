"""Reports of a worker to the driver, one after each step."""

from __future__ import annotations

from dataclasses import dataclass, field

from trainables.predictions import Predictions
from trainables.results import FoldResult


@dataclass(frozen=True)
class FoldDone:
    """Report that a fold has been trained and scored, with the predictions of its validation part."""

    result: FoldResult
    predictions: Predictions | None = None

    @property
    def fold(self) -> int:
        """Number of the fold, from 1."""
        return self.result.fold


@dataclass(frozen=True)
class RungScored:
    """Report of a score after `step` optimiser steps of a fold, which waits for a decision; `val_top1` is in [0, 1]."""

    fold: int
    step: int
    val_top1: float
    metrics: dict[str, float] = field(default_factory=dict)
    """As of a FoldResult."""


@dataclass(frozen=True)
class FoldFailed:
    """Report that a fold diverged or raised an error. `reason` is one line, `trace` the traceback of the error."""

    fold: int
    reason: str
    trace: str = ""


Report = FoldDone | RungScored | FoldFailed
