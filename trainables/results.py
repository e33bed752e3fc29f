"""Results of trainings, as a worker sends them to the driver. Plain data: importing this does not import torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal


@dataclass(frozen=True)
class TrainingFacts:
    """What a training ran on, and how: the model of its GPU or processor, its precision, and the mean number of
    examples a second over the steps of its last process; 0 if there were none.

    `skipped_steps` is the number of steps whose gradients overflowed in fp16. `folded_norms` is the number of
    BatchNorms that are folded in the teacher, of `num_norms`; both are 0 where there is no teacher.
    """

    device: str
    precision: str
    examples_per_s: float = field(compare=False)
    skipped_steps: int = 0
    folded_norms: int = 0
    num_norms: int = 0


@dataclass(frozen=True)
class FoldResult:
    """Result of one fold of one trial: `fold` counts from 1, `val_top1` is in [0, 1].

    `loss_terms` holds the curve of each loss term: its mean over the interval that ends at each of `loss_steps`.
    `taken_up_at` is the step of the checkpoint from which an interrupted training resumed; 0 if there was none.
    """

    fold: int
    val_top1: float
    duration_s: float
    loss_steps: list[int] = field(default_factory=list)
    loss_terms: dict[str, list[float]] = field(default_factory=dict)
    taken_up_at: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    """Value of every metric of `trainables.metrics` on the validation part; empty in records of earlier versions."""
    curve_steps: list[int] = field(default_factory=list)
    curve_metrics: dict[str, list[float]] = field(default_factory=dict)
    """Learning curve: the metrics after each of `curve_steps`, the last of which is the end; empty of a short fold."""
    kept_share: float = 1.0
    """Share of the steps after which the weights were as they were scored: below 1 where the best were kept."""
    facts: TrainingFacts | None = field(default=None, compare=False)
    """What it ran on, which makes no other result of it; None in records of earlier versions."""

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    def without_curves(self) -> FoldResult:
        """Returns the result without its curves, which take most of its memory."""
        return replace(self, loss_steps=[], loss_terms={}, curve_steps=[], curve_metrics={})


@dataclass(frozen=True)
class RetrainResult:
    """Result of one retraining: the number of its seed, and its accuracy on the test split in [0, 1]."""

    seed: int
    test_top1: float
    duration_s: float
    loss_steps: list[int]
    loss_terms: dict[str, list[float]]
    metrics: dict[str, float] = field(default_factory=dict)
    """Value of every metric on the test split; empty in records of earlier versions."""
    facts: TrainingFacts | None = field(default=None, compare=False)
    """What it ran on, which makes no other result of it; None in records of earlier versions."""


@dataclass(frozen=True)
class EnsembleResult:
    """Result of the ensemble of the retrainings with `seeds`: the mean of their weights, or of their probabilities, and
    its accuracy on the test split in [0, 1]."""

    mean_of: Literal["weights", "probabilities"]
    seeds: list[int]
    test_top1: float
    duration_s: float
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RetrainFailed:
    """A retraining that diverged or collapsed, which is reproducible for its seed."""

    seed: int
    reason: str
