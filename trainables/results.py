"""What a training comes to, as a worker sends it to the driver. Plain data: importing this imports no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class FoldResult:
    """One fold of one trial: `fold` counts from 1, `val_top1` is in [0, 1].

    `loss_terms` holds the curve of each loss term, its mean over the steps up to each of `loss_steps`. `taken_up_at` is
    the step of the checkpoint from which a training that was cut off went on; 0 where there was none.
    """

    fold: int
    val_top1: float
    duration_s: float
    loss_steps: list[int] = field(default_factory=list)
    loss_terms: dict[str, list[float]] = field(default_factory=dict)
    taken_up_at: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class RetrainResult:
    """One retraining: its seed's number, and its accuracy on the test split in [0, 1]."""

    seed: int
    test_top1: float
    duration_s: float
    loss_steps: list[int]
    loss_terms: dict[str, list[float]]


@dataclass(frozen=True)
class RetrainFailed:
    """A retraining that diverged; with this seed it always will."""

    seed: int
    reason: str
