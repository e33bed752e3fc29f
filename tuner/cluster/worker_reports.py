"""What a worker reports to the driver after each step, as Ray carries it."""

from __future__ import annotations

from dataclasses import dataclass

from trainables.results import FoldResult


@dataclass(frozen=True)
class FoldDone:
    """A fold has been trained and scored."""

    result: FoldResult

    @property
    def fold(self) -> int:
        """Number of the fold, from 1."""
        return self.result.fold


@dataclass(frozen=True)
class RungScored:
    """A fold has been scored after `step` optimiser steps, and waits for a decision."""

    fold: int
    step: int
    val_top1: float


@dataclass(frozen=True)
class FoldBroke:
    """The training of a fold diverged or raised. `reason` is one line, `trace` the traceback of what it raised."""

    fold: int
    reason: str
    trace: str = ""


Report = FoldDone | RungScored | FoldBroke
